//! A request that waits: what it asks for, and how it waits.

use alloc::boxed::Box;
use core::num::NonZeroU64;

use smallvec::SmallVec;

use crate::key::OwnedDbKey;
use crate::outcome::Acquired;
use crate::refusal::Refusal;
use crate::request::Acquire;
use crate::session::ClientId;
use crate::share::AskedShare;
use crate::time::Moment;
use crate::token::Token;
use crate::waits_for::NotedHolds;

/// A request that waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiter {
    /// The connection that waits at this place, if one does.
    pub client: Option<ClientId>,
    /// The token it is to hold the lock by.
    pub token: Token,
    /// What it named of its share.
    pub asked: AskedShare,
    /// How long its lease is to be, in milliseconds from the grant.
    pub lease_ms: u64,
    /// Its label.
    pub owner: Option<Box<[u8]>>,
    /// If the connection keeps its hold alive, how long the hold stays once that has closed, in milliseconds.
    pub session_delay_ms: Option<u64>,
    /// How deep it is, if it said so.
    pub level: Option<u16>,
    /// When it began to wait.
    pub since: Moment,
    /// When it stops waiting; `None` for never. With a connection it is the end of BLOCK, without one that of the place.
    pub until: Option<Moment>,
    /// What keeps the place without a connection, if QUEUE was asked for.
    pub keep: Option<Keep>,
    /// Whether it came by the command for several keys, whose rights count then.
    pub is_for_several: bool,
}

impl Waiter {
    /// What it is refused with if its user may not take the lock any more.
    pub(crate) fn no_permission(&self) -> Refusal {
        Refusal::NoPermission(if self.is_for_several { Acquire::NAME_FOR_SEVERAL } else { Acquire::NAME })
    }

    /// Whether its place is kept without a connection.
    pub(crate) fn is_queued(&self) -> bool {
        self.client.is_none()
    }

    /// Whether it may wait in a circle of owners: it has a connection and a label.
    pub(crate) fn is_noted(&self) -> bool {
        self.client.is_some() && self.owner.is_some()
    }
}

/// How a place is kept without a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keep {
    /// For how long, in milliseconds, from when no connection waits there any more.
    pub for_ms: NonZeroU64,
    /// The name of the user that asked last, whose rights count when nobody waits on a connection. `None` if no user asked,
    /// but the server itself or a module.
    pub user: Option<Box<[u8]>>,
}

/// A request that will wait as soon as its client is blocked, if it is to be: see [`crate::Table::join`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joining {
    /// The request.
    pub waiter: Waiter,
    /// Whether it goes ahead of those that hold nothing yet (G5).
    pub ahead: bool,
    /// The number of its ticket is above this: above the wall clock in microseconds and the highest fence, so
    /// that no number is given again after a restart.
    pub above: u64,
    /// For each key, when its time to live ends, if something else than a lock stands there: see [`super::Queues::stands_until`].
    pub stands_until: SmallVec<[Option<Moment>; 1]>,
    /// For each key, whether somebody holds it.
    pub is_held: SmallVec<[bool; 1]>,
    /// For each key, the holds of its lock, if the request may come to wait in a circle (G17); `None` if they are of no interest,
    /// or too many.
    pub holds: SmallVec<[NotedHolds; 1]>,
}

/// It goes behind all others, and no more is known of its keys.
impl From<Waiter> for Joining {
    fn from(waiter: Waiter) -> Self {
        let (stands_until, is_held, holds) = Default::default();
        Self { waiter, ahead: false, above: 0, stands_until, is_held, holds }
    }
}

impl Joining {
    /// What a request comes to that may join.
    pub(crate) fn or_without_connection(self) -> Acquired {
        let joining = if self.waiter.client.is_some() { Some(self) } else { self.without_connection() };
        joining.map_or(Acquired::NotAvailable, |joining| Acquired::Waits(Box::new(joining)))
    }

    /// The same without the connection, where that cannot wait. `None` if nothing keeps the place then.
    pub fn without_connection(mut self) -> Option<Self> {
        let waiter = &mut self.waiter;
        let for_ms = waiter.keep.as_ref()?.for_ms;
        waiter.client = None;
        waiter.until = Some(waiter.since.plus_ms(for_ms.get()));
        Some(self)
    }
}

/// A key that is waited for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WaitedFor {
    /// The key.
    pub key: OwnedDbKey,
    /// How many wait for it.
    pub waiting: usize,
    /// How many of those are places without a connection.
    pub queued: usize,
    /// Since when the first of them has waited.
    pub since: Moment,
}

/// The most that may wait.
#[derive(Clone, Copy, Debug)]
pub struct WaiterLimits {
    /// On the whole server.
    pub in_all: usize,
    /// For one key.
    pub per_key: usize,
}
