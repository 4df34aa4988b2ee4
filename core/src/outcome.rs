//! What goes into a turn and what comes out of it, as data.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::slice;

use smallvec::SmallVec;

use crate::answer::Answer;
use crate::fence::Fence;
use crate::hold::Hold;
use crate::queue::{Joining, Keep, Ticket, WaiterLimits};
use crate::refusal::Refusal;
use crate::session::ClientId;
use crate::time::Moment;
use crate::token::Token;

/// What this server may do at a key on its own account. A client's own request needs none of it, because the server has
/// checked the command before it called the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Authority {
    /// Whether this server may decide now: it is a master, its clients are not paused, and it takes writes from them.
    pub may_grant: bool,
    /// Whether the key is this server's, and not another node's of its cluster.
    pub serves_key: bool,
}

impl Authority {
    /// None. Enough where there is nothing to decide but what a command asks for, see [`crate::Table::has_business_at`].
    pub const NONE: Self = Self { may_grant: false, serves_key: false };
    /// All of it.
    pub const FULL: Self = Self { may_grant: true, serves_key: true };
}

/// What a turn needs to know of the moment and of the server.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// When it is.
    pub now: Moment,
    /// The wall clock then, in microseconds since 1970, for fences.
    pub wall_micros: u64,
    /// How long the restart grace lasts, in milliseconds.
    pub grace_ms: u64,
    /// How long the lease of a grant to a place without a connection is at most, in milliseconds, until it is claimed (G13).
    pub claim_ms: u64,
    /// What this server may do on its own account.
    pub authority: Authority,
    /// How much may follow from what is asked, see [`Outcome::work`]. Where there is more to do, the key is marked, and the
    /// rest is done when the mark is settled.
    pub at_most: usize,
}

/// Why a hold is as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// It was granted; to a request that waited, or at once.
    Granted {
        /// Whether the request had waited.
        has_waited: bool,
    },
    /// It was granted again to its own token.
    Renewed,
    /// Its lease was set anew by its holder.
    Extended,
    /// The server extended its lease, since its connection is open.
    Kept,
    /// Its connection closed, and it stays for its delay.
    Closed,
    /// It was given back, or a level of it.
    Released,
    /// An operator has broken it.
    Broken,
    /// Its client could not be told that it was granted again.
    Undone,
    /// Its client could not be told, and it is left to its token to claim it.
    LeftToClaim,
    /// Another server decided so.
    Applied,
}

/// Why a hold has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It was given back.
    Released,
    /// Its lease ran out.
    Lapsed,
    /// Its lease ran out before its token had claimed it.
    Unclaimed,
    /// An operator ended it.
    Broken,
    /// Its connection closed.
    SessionClosed,
    /// Its client could not be told.
    Undone,
}

/// A hold that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Why.
    pub why: Ending,
    /// Since when it was held.
    pub held_since: Moment,
}

impl Ended {
    pub(crate) fn new(hold: &Hold, why: Ending) -> Self {
        Self { why, held_since: hold.granted_at() }
    }

    /// A hold whose lease has run out.
    pub(crate) fn lapsed(hold: &Hold) -> Self {
        Self::new(hold, if hold.is_unclaimed() { Ending::Unclaimed } else { Ending::Lapsed })
    }
}

/// What happened to the holds of a lock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// The lock has this hold and no other.
    First(Hold, Cause),
    /// Very many holds have ended, and the lock has these and no others.
    Whole(Vec<Hold>, Vec<Ended>),
    /// A hold is now as it is, besides the others.
    Set(Hold, Cause),
    /// The hold with this fence has ended.
    Ended(Fence, Ended),
    /// The string that counts as a lock of this token lasts so many milliseconds from now.
    Lease(Token, u64, Cause),
    /// What was asked has been done, and says all there is to say. These holds have ended by it.
    AsAsked(Cause, SmallVec<[Ended; 1]>),
    /// What was asked has been done, and the string that counted as a lock has gone by it.
    StringEnded(Cause),
}

impl Change {
    /// Why holds are as they are by it, if they are.
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::First(_, cause)
            | Self::Set(_, cause)
            | Self::Lease(_, _, cause)
            | Self::AsAsked(cause, _)
            | Self::StringEnded(cause) => Some(*cause),
            Self::Whole(..) | Self::Ended(..) => None,
        }
    }

    /// The holds that have ended by it.
    pub fn ended(&self) -> &[Ended] {
        match self {
            Self::First(..) | Self::Set(..) | Self::Lease(..) | Self::StringEnded(_) => &[],
            Self::Ended(_, ended) => slice::from_ref(ended),
            Self::Whole(_, ended) => ended,
            Self::AsAsked(_, ended) => ended,
        }
    }
}

/// Why a request got nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Denied {
    /// The lock is not available, and the request does not wait.
    NotAvailable,
    /// Too many wait.
    QueueFull,
    /// To wait for it could never end.
    Deadlock,
    /// A release: the token held nothing, or was not so deep.
    NotReleased,
    /// An extension: the token held nothing.
    NotExtended,
}

impl Denied {
    pub(crate) fn of(asked: &Result<Acquired, Refusal>) -> Option<Self> {
        match asked {
            Ok(Acquired::Granted(..) | Acquired::Waits(_)) => None,
            Ok(Acquired::NotAvailable) => Some(Self::NotAvailable),
            Err(Refusal::QueueFull(_)) => Some(Self::QueueFull),
            Err(Refusal::Deadlock | Refusal::HeldInPart | Refusal::Circle) => Some(Self::Deadlock),
            Err(_) => None,
        }
    }
}

/// What a turn came to, besides what was asked.
#[derive(Clone, Default, Debug)]
pub struct Outcome {
    /// What has changed, to be passed on in this order.
    pub changes: SmallVec<[Change; 1]>,
    /// Since when those requests had waited that were granted what they waited for: a hold, or another limit.
    pub waited_since: Vec<Moment>,
    /// Why the request got nothing, if it did not.
    pub denied: Option<Denied>,
    /// Whether a lease was promised: a time to live that the key has is to be taken off.
    pub has_promised: bool,
    /// Clients that waited, and what each is told.
    pub answers: Vec<(ClientId, Answer)>,
    /// The tickets of places without a connection whose tokens hold the lock now. Each is published once the changes were
    /// passed on, so that whoever hears of it can claim the hold (G13).
    pub calls: Vec<Ticket>,
    /// How many places without a connection have ended. Nobody is told.
    pub places_ended: usize,
    /// See [`crate::Turn::candidate`].
    pub candidate: Option<Ticket>,
}

/// A call counts as so many steps, for it is published to any number of subscribers.
const STEPS_OF_A_CALL: usize = 16;

impl Outcome {
    /// How much was done besides one change that was asked for: holds that were changed, clients that were answered, places
    /// that were called or have ended.
    pub fn work(&self) -> usize {
        let told = self.answers.len().saturating_add(self.calls.len().saturating_mul(STEPS_OF_A_CALL));
        self.changes.len().saturating_add(told).saturating_add(self.places_ended).saturating_sub(1)
    }
}

/// How a request may wait: with a connection, at a place that is kept without one, or both.
#[derive(Clone, Debug)]
pub struct WaitOptions {
    /// The client that waits for as long as BLOCK says, if it is to and can.
    pub client: Option<ClientId>,
    /// What keeps the place without a connection, if QUEUE is asked for.
    pub keep: Option<Keep>,
    /// The most that may wait.
    pub limits: WaiterLimits,
}

/// What an ACQUIRE comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Acquired {
    /// The token holds the lock under this fence.
    Granted(Token, Fence),
    /// Others hold it.
    NotAvailable,
    /// The request is to wait. Nothing has changed yet. Where the server cannot let the client wait, it waits without a
    /// connection ([`Joining::without_connection`]), or is not available. Else it joins the queue ([`crate::Table::join`]).
    Waits(Box<Joining>),
}

/// What is to be looked after once a turn has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// When the lock is due next, if it has changed and somebody holds it.
    pub due: Option<Moment>,
    /// See [`crate::Table::is_quiet`].
    pub is_quiet: bool,
    /// Whether the key is marked: there is more to do.
    pub is_marked: bool,
    /// Whether this server has decided what was done. Otherwise a master or a file has.
    pub is_decided_here: bool,
}
