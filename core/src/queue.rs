//! The queues: who waits for which key, in which order, and until when.
//!
//! A queue belongs to the name of a key in a database, not to a lock. If the lock is deleted, renamed or replaced, the
//! waiters of the name keep waiting for the name.
//!
//! 1. A queue is strictly first in, first out, in the order of tickets, which are numbered for the whole server. The
//!    only exception are holders that wait to change their own limit. They go ahead of all others (G5).
//! 2. A client waits for one thing at a time.
//! 3. A token stands in a queue once.
//!
//! Each request that waits has a *seat*, and a seat may stand in several queues.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::mem;

use crate::hold::Limit;
use crate::key::{DbKey, DbKeyMap, OwnedDbKey};
use crate::refusal::Refusal;
use crate::session::ClientId;
use crate::time::Moment;
use crate::token::Token;

/// A request that waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiter {
    /// The connection that waits.
    pub client: ClientId,
    /// The token it is to hold the lock by.
    pub token: Token,
    /// The limit it named, if it did.
    pub limit: Option<Limit>,
    /// How long its lease is to be, in milliseconds from the grant.
    pub lease_ms: u64,
    /// Its label.
    pub owner: Option<Box<[u8]>>,
    /// Whether the connection keeps its hold alive.
    pub session: bool,
    /// How deep it is, if it said so.
    pub level: Option<u16>,
    /// When it began to wait.
    pub since: Moment,
    /// When it stops waiting; `None` for never.
    pub until: Option<Moment>,
}

/// A request that will wait as soon as its client is blocked: see [`crate::Table::join`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joining {
    /// The request.
    pub waiter: Waiter,
    /// Whether it goes ahead of those that hold nothing yet (G5).
    pub ahead: bool,
}

/// The most that may wait.
#[derive(Clone, Copy, Debug)]
pub struct WaiterLimits {
    /// On the whole server.
    pub in_all: usize,
    /// For one key.
    pub per_key: usize,
}

/// A position in the order of the whole server: the lower, the earlier it is served. Negative for those who go ahead, the
/// newest first.
type Ticket = i64;

/// The waiters of one key, in the order in which they are served.
#[derive(Debug, Default)]
struct Queue {
    tickets: BTreeSet<Ticket>,
    by_token: BTreeMap<Token, Ticket>,
}

/// Where a request waits.
#[derive(Clone, Debug)]
struct Seat {
    waiter: Waiter,
    keys: Vec<OwnedDbKey>,
}

/// All queues of a server.
#[derive(Debug)]
pub struct Queues {
    queues: DbKeyMap<Queue>,
    seats: BTreeMap<Ticket, Seat>,
    by_client: BTreeMap<ClientId, Ticket>,
    timeouts: BTreeSet<(Moment, Ticket)>,
    /// How many tickets were given so far.
    given: Ticket,
}

impl Default for Queues {
    fn default() -> Self {
        Self::new()
    }
}

impl Queues {
    /// No queues.
    pub const fn new() -> Self {
        Self {
            queues: DbKeyMap::new(),
            seats: BTreeMap::new(),
            by_client: BTreeMap::new(),
            timeouts: BTreeSet::new(),
            given: 0,
        }
    }

    /// The number of waiters of all keys.
    pub fn len(&self) -> usize {
        self.seats.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// The number of waiters of a key.
    pub fn len_at(&self, key: DbKey<'_>) -> usize {
        self.queues.get(key).map_or(0, |queue| queue.tickets.len())
    }

    /// Whether somebody waits for a key.
    pub fn is_waited_for(&self, key: DbKey<'_>) -> bool {
        !self.is_empty() && self.queues.get(key).is_some()
    }

    /// The waiters of a key, in the order in which they are served.
    pub fn waiters(&self, key: DbKey<'_>) -> impl Iterator<Item = &Waiter> {
        let tickets = self.queues.get(key).into_iter().flat_map(|queue| &queue.tickets);
        tickets.filter_map(|ticket| self.seats.get(ticket)).map(|seat| &seat.waiter)
    }

    /// Who is to be served next.
    pub fn head(&self, key: DbKey<'_>) -> Option<&Waiter> {
        self.waiters(key).next()
    }

    /// Those who go ahead: holders, when they came, who wait to change their limit.
    pub(crate) fn ahead(&self, key: DbKey<'_>) -> impl Iterator<Item = &Waiter> {
        let tickets = self.queues.get(key).into_iter().flat_map(|queue| queue.tickets.range(..0));
        tickets.filter_map(|ticket| self.seats.get(ticket)).map(|seat| &seat.waiter)
    }

    /// Whether `client` waits.
    pub fn waits(&self, client: ClientId) -> bool {
        self.by_client.contains_key(&client)
    }

    fn ticket_of(&self, key: DbKey<'_>, token: &Token) -> Option<Ticket> {
        self.queues.get(key)?.by_token.get(token).copied()
    }

    /// Whether a request of this token may wait for this key. It always may if the token already waits there.
    ///
    /// # Errors
    /// [`Refusal::QueueFull`] if too many wait already.
    pub(crate) fn room_for(
        &self,
        key: DbKey<'_>,
        token: &Token,
        limits: WaiterLimits,
    ) -> Result<(), Refusal> {
        if self.ticket_of(key, token).is_some() {
            Ok(())
        } else if self.len() >= limits.in_all {
            Err(Refusal::QueueFull("lock.max-waiters"))
        } else if self.len_at(key) >= limits.per_key {
            Err(Refusal::QueueFull("lock.max-waiters-per-key"))
        } else {
            Ok(())
        }
    }

    /// Lets a request wait: behind all others, or ahead of them. A token that waits already keeps its ticket, and the
    /// request that had it is returned.
    pub(crate) fn join(&mut self, key: DbKey<'_>, joining: Joining) -> Option<Waiter> {
        let Joining { waiter, ahead } = joining;
        let older = self.ticket_of(key, &waiter.token);
        let superseded = older.and_then(|ticket| self.remove_ticket(ticket));
        let ticket = older.unwrap_or_else(|| self.next_ticket(ahead));
        let queue = self.queues.at(key);
        queue.tickets.insert(ticket);
        queue.by_token.insert(waiter.token.clone(), ticket);
        self.by_client.insert(waiter.client, ticket);
        self.timeouts.extend(waiter.until.map(|until| (until, ticket)));
        self.seats.insert(ticket, Seat { waiter, keys: Vec::from([key.into()]) });
        superseded
    }

    /// The ticket in front of all, or behind all.
    fn next_ticket(&mut self, ahead: bool) -> Ticket {
        self.given = self.given.saturating_add(1);
        if ahead { self.given.saturating_neg() } else { self.given }
    }

    /// Takes the request of a client out of its queue.
    pub(crate) fn remove(&mut self, client: ClientId) -> Option<Waiter> {
        self.remove_ticket(*self.by_client.get(&client)?)
    }

    /// Takes the request of a token out of the queue of a key.
    pub(crate) fn withdraw(&mut self, key: DbKey<'_>, token: &Token) -> Option<Waiter> {
        self.remove_ticket(self.ticket_of(key, token)?)
    }

    fn remove_ticket(&mut self, ticket: Ticket) -> Option<Waiter> {
        let Seat { waiter, keys } = self.seats.remove(&ticket)?;
        self.by_client.remove(&waiter.client);
        if let Some(until) = waiter.until {
            self.timeouts.remove(&(until, ticket));
        }
        for key in keys {
            let Some(queue) = self.queues.get_mut(key.as_key()) else { continue };
            queue.tickets.remove(&ticket);
            queue.by_token.remove(&waiter.token);
            if queue.tickets.is_empty() {
                self.queues.remove(key.as_key());
            }
        }
        Some(waiter)
    }

    /// The keys that a client waits for.
    pub(crate) fn keys_of(&self, client: ClientId) -> Vec<OwnedDbKey> {
        let seat = self.by_client.get(&client).and_then(|ticket| self.seats.get(ticket));
        seat.map(|seat| seat.keys.clone()).unwrap_or_default()
    }

    /// When the next waiter stops waiting.
    pub fn next_timeout(&self) -> Option<Moment> {
        self.timeouts.first().map(|(until, _)| *until)
    }

    /// A waiter whose time is up.
    pub(crate) fn late(&self, now: Moment) -> Option<ClientId> {
        let (until, ticket) = self.timeouts.first()?;
        if *until > now { None } else { self.seats.get(ticket).map(|seat| seat.waiter.client) }
    }

    /// Everybody who waits for this key stops waiting.
    pub(crate) fn dismiss(&mut self, key: DbKey<'_>) -> Vec<ClientId> {
        let clients: Vec<ClientId> = self.waiters(key).map(|waiter| waiter.client).collect();
        clients.iter().for_each(|client| drop(self.remove(*client)));
        clients
    }

    /// Everybody stops waiting.
    pub(crate) fn dissolve(&mut self) -> Vec<ClientId> {
        let given = self.given;
        let Self { by_client, .. } = mem::take(self);
        // No ticket is given twice.
        self.given = given;
        by_client.into_keys().collect()
    }

    /// A key that somebody waits for, the next after this one in an order of the keys that does not change.
    pub fn waited_for_after(&self, key: Option<&OwnedDbKey>) -> Option<OwnedDbKey> {
        self.queues.after(key.map(OwnedDbKey::as_key)).map(OwnedDbKey::from)
    }

    /// The keys that somebody waits for.
    pub(crate) fn keys(&self) -> impl Iterator<Item = DbKey<'_>> {
        self.queues.iter().map(|(key, _)| key)
    }

    /// Whether all parts agree: every ticket in a queue has a seat that stands there, a client, a token and, if it has one, a
    /// timeout, and there are no others; and no queue is empty.
    pub fn is_consistent(&self) -> bool {
        let seats_agree = self.seats.iter().all(|(ticket, seat)| {
            let stands = |key: &OwnedDbKey| {
                self.queues.get(key.as_key()).is_some_and(|queue| {
                    queue.tickets.contains(ticket) && queue.by_token.get(&seat.waiter.token) == Some(ticket)
                })
            };
            let timeout = seat.waiter.until.map(|until| (until, *ticket));
            !seat.keys.is_empty()
                && seat.keys.iter().all(stands)
                && self.by_client.get(&seat.waiter.client) == Some(ticket)
                && timeout.is_none_or(|timeout| self.timeouts.contains(&timeout))
        });
        let places: usize = self.seats.values().map(|seat| seat.keys.len()).sum();
        let tickets: usize = self.queues.iter().map(|(_, queue)| queue.tickets.len()).sum();
        let tokens: usize = self.queues.iter().map(|(_, queue)| queue.by_token.len()).sum();
        let with_timeout = self.seats.values().filter(|seat| seat.waiter.until.is_some()).count();
        seats_agree
            && tickets == places
            && tokens == places
            && self.queues.iter().all(|(_, queue)| !queue.tickets.is_empty())
            && self.by_client.len() == self.seats.len()
            && self.timeouts.len() == with_timeout
    }
}
