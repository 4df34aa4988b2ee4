//! The queues: who waits for which key, in which order, and until when.
//!
//! A queue belongs to the name of a key in a database, not to a lock. If the lock is deleted, renamed or replaced, the
//! waiters of the name keep waiting for the name.
//!
//! 1. A queue is strictly first in, first out, in the order of tickets, which are numbered for the whole server. The
//!    only exception are holders that wait to change their own limit. They go ahead of all others (G5).
//! 2. A client waits for one thing at a time.
//! 3. A token stands in a queue once.
//! 4. A request for several keys stands in the queue of each, with one ticket. So of two such requests the older one is ahead
//!    wherever they meet, and no circle of waiters can close (G16).
//! 5. A waiter is a *place* in a queue, and a connection may stand at it. A place that asked for QUEUE is kept for a while
//!    after the connection has gone, or has none from the start (G13).
//!
//! Each request that waits has a *seat*.

mod circle;
mod consistency;
mod ticket;
mod waiter;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::mem;

use smallvec::SmallVec;

use crate::deadlines::{DeadlineId, Deadlines};
use crate::key::{DbKey, DbKeyMap, OwnedDbKey};
use crate::refusal::Refusal;
use crate::session::ClientId;
use crate::time::Moment;
use crate::token::Token;
use crate::waits_for::WaitsFor;

pub use self::ticket::Ticket;
pub use self::waiter::{Joining, Keep, WaitedFor, Waiter, WaiterLimits};

/// How long after the end of its time to live the server takes a key for gone, in milliseconds.
const UNTIL_GONE_MS: u64 = 1;

/// The waiters of one key, in the order in which they are served. Most keys that are waited for have one waiter, which takes
/// no memory here.
#[derive(Debug)]
enum Queue {
    One(Ticket),
    Many(Box<Many>),
}

#[derive(Debug, Default)]
struct Many {
    tickets: BTreeSet<Ticket>,
    by_token: BTreeMap<Token, Ticket>,
    /// How many of them are places without a connection.
    queued: usize,
}

impl Queue {
    fn tickets(&self) -> impl Iterator<Item = Ticket> {
        let (one, many) = match self {
            Self::One(ticket) => (Some(*ticket), None),
            Self::Many(many) => (None, Some(&many.tickets)),
        };
        one.into_iter().chain(many.into_iter().flatten().copied())
    }

    fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(many) => many.tickets.len(),
        }
    }
}

impl Many {
    fn insert(&mut self, waiter: &Waiter, ticket: Ticket) {
        self.tickets.insert(ticket);
        self.by_token.insert(waiter.token.clone(), ticket);
        self.queued = self.queued.saturating_add(waiter.is_queued().into());
    }

    fn remove(&mut self, waiter: &Waiter, ticket: Ticket) {
        self.tickets.remove(&ticket);
        self.by_token.remove(&waiter.token);
        self.queued = self.queued.saturating_sub(waiter.is_queued().into());
    }
}

/// The seats that a newer request of their token has taken the place of.
pub(crate) type Superseded = SmallVec<[(Ticket, Seat); 1]>;

/// The places of a token in several queues.
struct Places {
    tickets: SmallVec<[Ticket; 1]>,
    /// The one that a new request for these keys keeps: the last of them, if the token stands in each of the queues.
    kept: Option<Ticket>,
}

/// Where a request waits.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) waiter: Waiter,
    pub(crate) keys: SmallVec<[OwnedDbKey; 1]>,
    /// The place among them of the one that the request could not be granted when it was last looked at.
    held_up_at: usize,
}

/// All queues of a server.
#[derive(Debug)]
pub struct Queues {
    queues: DbKeyMap<Queue>,
    /// Boxed, since the nodes of such a map are half empty.
    seats: BTreeMap<Ticket, Box<Seat>>,
    by_client: BTreeMap<ClientId, Ticket>,
    timeouts: BTreeSet<(Moment, Ticket)>,
    /// When to look at keys at which something else than a lock stands, and the entry of each.
    looks: Deadlines,
    look_ids: DbKeyMap<DeadlineId>,
    /// Who waits for whom, by labels.
    pub(crate) waits_for: WaitsFor,
    /// The highest number of a ticket so far.
    given: i64,
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
            looks: Deadlines::new(),
            look_ids: DbKeyMap::new(),
            waits_for: WaitsFor::new(),
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

    /// The number of waiters on connections. The others are places that are kept without one.
    pub fn blocked(&self) -> usize {
        self.by_client.len()
    }

    /// The number of waiters in the longest queue. It looks at every queue.
    pub fn longest(&self) -> usize {
        self.queues.iter().map(|(_, queue)| queue.len()).max().unwrap_or(0)
    }

    /// The number of waiters of a key.
    pub fn len_at(&self, key: DbKey<'_>) -> usize {
        self.queues.get(key).map_or(0, Queue::len)
    }

    /// Whether somebody waits for a key.
    #[inline]
    pub fn is_waited_for(&self, key: DbKey<'_>) -> bool {
        !self.is_empty() && self.has_queue(key)
    }

    /// The search alone. Mostly nobody waits for any key, and there is no need for it.
    #[inline(never)]
    fn has_queue(&self, key: DbKey<'_>) -> bool {
        self.queues.get(key).is_some()
    }

    /// The keys whose first waiter has waited longest, at most `at_most`, the longest first. It looks at every queue.
    pub fn longest_waits(&self, at_most: usize) -> Vec<WaitedFor> {
        // Tickets are numbered in the order in which their requests began to wait.
        let first = |queue: &Queue| queue.tickets().next();
        let mut heads: Vec<(Ticket, DbKey<'_>, &Queue)> =
            self.queues.iter().filter_map(|(key, queue)| Some((first(queue)?, key, queue))).collect();
        if at_most < heads.len() {
            heads.select_nth_unstable_by_key(at_most, |(head, ..)| head.number());
            heads.truncate(at_most);
        }
        heads.sort_unstable_by_key(|(head, ..)| head.number());
        let waited_for = |(head, key, queue): (Ticket, DbKey<'_>, &Queue)| {
            let head = self.waiter(head)?;
            let queued = match queue {
                Queue::One(_) => head.is_queued().into(),
                Queue::Many(many) => many.queued,
            };
            Some(WaitedFor { key: key.into(), waiting: queue.len(), queued, since: head.since })
        };
        heads.into_iter().filter_map(waited_for).collect()
    }

    /// The waiters of a key, in the order in which they are served.
    pub fn waiters(&self, key: DbKey<'_>) -> impl Iterator<Item = &Waiter> {
        self.places(key).map(|(_, waiter)| waiter)
    }

    /// The same with their tickets.
    pub fn places(&self, key: DbKey<'_>) -> impl Iterator<Item = (Ticket, &Waiter)> {
        let tickets = self.queues.get(key).into_iter().flat_map(Queue::tickets);
        tickets.filter_map(|ticket| Some((ticket, self.waiter(ticket)?)))
    }

    /// The waiter with this ticket.
    pub fn waiter(&self, ticket: Ticket) -> Option<&Waiter> {
        self.seats.get(&ticket).map(|seat| &seat.waiter)
    }

    /// Who is to be served next.
    pub fn head(&self, key: DbKey<'_>) -> Option<&Waiter> {
        self.waiters(key).next()
    }

    /// Those who go ahead: holders, when they came, who wait to change their limit.
    pub(crate) fn ahead(&self, key: DbKey<'_>) -> impl Iterator<Item = (Ticket, &Waiter)> {
        self.places(key).take_while(|(ticket, _)| ticket.is_ahead())
    }

    /// Whether `client` waits.
    pub fn waits(&self, client: ClientId) -> bool {
        self.by_client.contains_key(&client)
    }

    /// The ticket of a token that waits for a key.
    pub(crate) fn ticket_of(&self, key: DbKey<'_>, token: &Token) -> Option<Ticket> {
        match self.queues.get(key)? {
            Queue::One(ticket) => {
                self.waiter(*ticket).filter(|waiter| waiter.token == *token).map(|_| *ticket)
            }
            Queue::Many(many) => many.by_token.get(token).copied(),
        }
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

    /// A ticket in front of all, or behind all. Its number is above `above` and was never given before.
    fn next_ticket(&mut self, ahead: bool, above: u64) -> Ticket {
        self.given = self.given.max(i64::try_from(above).unwrap_or(0)).saturating_add(1);
        Ticket::numbered(self.given, ahead)
    }

    /// The places that a token has in the queues of these keys, the oldest first.
    fn places_of(&self, keys: &[DbKey<'_>], token: &Token) -> Places {
        let mut tickets: SmallVec<[Ticket; 1]> =
            keys.iter().filter_map(|key| self.ticket_of(*key, token)).collect();
        let stands_everywhere = tickets.len() == keys.len();
        tickets.sort_unstable_by_key(|ticket| ticket.number());
        tickets.dedup();
        let kept = tickets.last().copied().filter(|_| stands_everywhere && !cfg!(feature = "broken-place"));
        Places { tickets, kept }
    }

    /// Lets a request wait for these keys, no two of them alike: behind all others, or ahead of them. A token that waits for
    /// each of them already keeps its place, the last of them if it has several, and the time since when it has waited there.
    /// Returns the ticket, whether it is a new one, and the seats that its token had before, with their tickets.
    pub(crate) fn join(&mut self, keys: &[DbKey<'_>], joining: Joining) -> (Ticket, bool, Superseded) {
        let Joining { mut waiter, ahead, above, stands_until, holds, .. } = joining;
        let Places { tickets, kept } = self.places_of(keys, &waiter.token);
        let superseded: Superseded =
            tickets.into_iter().filter_map(|ticket| Some((ticket, self.unseat(ticket)?))).collect();
        let ticket = kept.map_or_else(|| self.next_ticket(ahead, above), |ticket| ticket.going(ahead));
        if let Some((_, seat)) = superseded.last().filter(|_| kept.is_some()) {
            waiter.since = seat.waiter.since;
        }
        let is_noted = waiter.is_noted();
        let seat =
            Seat { waiter, keys: keys.iter().map(|key| OwnedDbKey::from(*key)).collect(), held_up_at: 0 };
        self.seat(ticket, seat);
        for (key, holds) in keys.iter().zip(holds).filter(|_| is_noted) {
            self.waits_for.know(*key, holds);
        }
        for (key, end) in keys.iter().zip(stands_until) {
            end.into_iter().for_each(|end| self.stands_until(*key, end));
        }
        (ticket, kept.is_none(), superseded)
    }

    fn seat(&mut self, ticket: Ticket, seat: Seat) {
        let Seat { waiter, keys, .. } = &seat;
        keys.iter().for_each(|key| self.enqueue(key.as_key(), ticket, waiter));
        self.waits_for.enter(ticket, waiter, keys);
        self.by_client.extend(waiter.client.map(|client| (client, ticket)));
        self.timeouts.extend(waiter.until.map(|until| (until, ticket)));
        self.seats.insert(ticket, Box::new(seat));
    }

    /// A waiter that went ahead no longer does, because its hold has ended.
    pub(crate) fn step_back(&mut self, ticket: Ticket) {
        if let Some(seat) = self.unseat(ticket) {
            self.seat(ticket.going(false), seat);
        }
    }

    fn enqueue(&mut self, key: DbKey<'_>, ticket: Ticket, waiter: &Waiter) {
        match self.queues.get_mut(key) {
            None => self.queues.insert(key, Queue::One(ticket)),
            Some(Queue::Many(many)) => many.insert(waiter, ticket),
            Some(queue @ Queue::One(_)) => {
                let mut many = Many::default();
                for ticket in queue.tickets() {
                    let first = self.seats.get(&ticket);
                    first.into_iter().for_each(|seat| many.insert(&seat.waiter, ticket));
                }
                many.insert(waiter, ticket);
                *queue = Queue::Many(Box::new(many));
            }
        }
    }

    fn dequeue(&mut self, key: DbKey<'_>, ticket: Ticket, waiter: &Waiter) {
        let left = match self.queues.get_mut(key) {
            Some(Queue::Many(many)) => {
                many.remove(waiter, ticket);
                (many.tickets.len(), many.tickets.first().copied())
            }
            _ => (0, None),
        };
        match left {
            (1, Some(ticket)) => self.queues.insert(key, Queue::One(ticket)),
            (_, Some(_)) => {}
            (_, None) => {
                self.queues.remove(key);
                self.do_not_look_at(key);
            }
        }
    }

    /// The time to live of a key that is waited for ends at this moment. Somebody looks at the key then, because the server may
    /// take long to delete it.
    pub(crate) fn stands_until(&mut self, key: DbKey<'_>, end: Moment) {
        if !self.is_waited_for(key) {
            return;
        }
        let at = end.plus_ms(UNTIL_GONE_MS);
        match self.look_ids.get(key) {
            Some(id) => self.looks.reschedule(key.database, *id, at),
            None => {
                let id = self.looks.insert(key, at);
                self.look_ids.insert(key, id);
            }
        }
    }

    fn do_not_look_at(&mut self, key: DbKey<'_>) {
        if !self.look_ids.is_empty()
            && let Some(id) = self.look_ids.remove(key)
        {
            self.looks.remove(key.database, id, 1);
        }
    }

    /// When to look at a key next.
    pub(crate) fn next_look(&self) -> Option<Moment> {
        self.looks.first().map(|look| look.deadline)
    }

    /// A key to look at by now.
    pub(crate) fn take_look(&mut self, now: Moment) -> Option<OwnedDbKey> {
        let key = OwnedDbKey::from(self.looks.first_due(now)?.key);
        self.do_not_look_at(key.as_key());
        Some(key)
    }

    /// The ticket of a client that waits.
    pub(crate) fn ticket_of_client(&self, client: ClientId) -> Option<Ticket> {
        self.by_client.get(&client).copied()
    }

    /// The connection at a place goes, and the place is kept without it from now on. Returns the connection. `None`, and
    /// nothing has changed, if none waits there or QUEUE was not asked for.
    pub(crate) fn step_aside(&mut self, ticket: Ticket, now: Moment) -> Option<ClientId> {
        let Seat { waiter, keys, .. } = self.seats.get_mut(&ticket)?.as_mut();
        let until = now.plus_ms(waiter.keep.as_ref()?.for_ms.get());
        let client = waiter.client.take()?;
        self.waits_for.leave(ticket);
        for key in keys {
            if let Some(Queue::Many(many)) = self.queues.get_mut(key.as_key()) {
                many.queued = many.queued.saturating_add(1);
            }
        }
        if let Some(before) = waiter.until.replace(until) {
            self.timeouts.remove(&(before, ticket));
        }
        self.timeouts.insert((until, ticket));
        self.by_client.remove(&client);
        Some(client)
    }

    /// The keys that the request with this ticket waits for.
    pub fn keys_of(&self, ticket: Ticket) -> &[OwnedDbKey] {
        self.seats.get(&ticket).map_or(&[], |seat| &seat.keys)
    }

    /// The one of them that the request could not be granted when it was last looked at: most likely it still cannot.
    pub fn held_up_at(&self, ticket: Ticket) -> Option<&OwnedDbKey> {
        self.seats.get(&ticket).and_then(|seat| seat.keys.get(seat.held_up_at))
    }

    /// The request with this ticket could not be granted the key at this place among its own.
    pub(crate) fn is_held_up(&mut self, ticket: Ticket, place: usize) {
        if let Some(seat) = self.seats.get_mut(&ticket) {
            seat.held_up_at = place;
        }
    }

    /// Takes the request with this ticket out of its queues.
    pub(crate) fn unseat(&mut self, ticket: Ticket) -> Option<Seat> {
        let seat = *self.seats.remove(&ticket)?;
        let Seat { waiter, keys, .. } = &seat;
        self.waits_for.leave(ticket);
        if let Some(client) = waiter.client {
            self.by_client.remove(&client);
        }
        if let Some(until) = waiter.until {
            self.timeouts.remove(&(until, ticket));
        }
        for key in keys {
            self.dequeue(key.as_key(), ticket, waiter);
        }
        Some(seat)
    }

    /// When the next waiter stops waiting.
    pub fn next_timeout(&self) -> Option<Moment> {
        self.timeouts.first().map(|(until, _)| *until)
    }

    /// A waiter whose time is up.
    pub(crate) fn late(&self, now: Moment) -> Option<Ticket> {
        self.timeouts.first().filter(|(until, _)| *until <= now).map(|(_, ticket)| *ticket)
    }

    /// Everybody stops waiting. Returns the connections of those that had one.
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
}
