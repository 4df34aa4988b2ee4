//! What clients that waited are told.

use crate::fence::Fence;
use crate::queue::{Ticket, Waiter};
use crate::refusal::Refusal;
use crate::session::ClientId;
use crate::token::Token;

/// What a client that waited is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The lock is its own.
    Granted(Grant),
    /// Not within its time, or another request of its token took its place, or its token gave up.
    NotAvailable,
    /// The same, but the token keeps its place in the queue without the connection (G13).
    Queued(Ticket),
    /// It cannot be served any more.
    Refused(Refusal),
}

impl Waiter {
    /// What its client is told when a newer request of its token takes its place, which may keep that (`is_kept`).
    pub(crate) fn when_superseded(&self, ticket: Ticket, is_kept: bool) -> Answer {
        if self.keep.is_some() && is_kept { Answer::Queued(ticket) } else { Answer::NotAvailable }
    }
}

/// What a client that waited was granted. If it cannot be told, [`crate::Table::abandoned`] has that undone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// The client.
    pub client: ClientId,
    /// The token that holds.
    pub token: Token,
    /// The fence of the hold.
    pub fence: Fence,
}
