//! Who waits for which key, in which order, and until when.
//!
//! A queue belongs to a name in a database, not to a lock: when the lock is deleted, renamed or replaced, those who
//! wait for the name go on waiting for the name.
//!
//! 1. A queue is strictly first in, first out. The one exception are holders who wait to change their own limit: they
//!    go ahead of those who hold nothing yet, whom they would otherwise wait for in vain.
//! 2. A client waits for one thing at a time.
//! 3. A token stands in a queue once.
//! 4. Places where something has happened that this crate was told of too late to act on are marked: a waiter left,
//!    a key went, a holder's connection closed. A mark is settled before anything else is done at that place, so
//!    nobody can come between the event and what follows from it.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::fence::Fence;
use crate::hold::Limit;
use crate::place::{Database, OwnedPlace, Place, Places};
use crate::refusal::Refusal;
use crate::time::Moment;
use crate::token::Token;

/// Names a connection, as the server numbers them.
pub type ClientId = u64;

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
    /// Its label for people.
    pub owner: Option<Box<[u8]>>,
    /// Whether its hold is to be tied to the connection.
    pub session: bool,
    /// When it began to wait.
    pub since: Moment,
    /// When it stops waiting; `None` for never.
    pub until: Option<Moment>,
}

/// What has to be put right at a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remedy {
    /// The hold with this fence was granted to a client that went away before it learned of it: it ends.
    EndHold(Fence),
    /// A limit was changed for a client that went away before it learned of it: the hold takes back what it had.
    RestoreLimit(Fence, Limit),
    /// The connection that kept holds alive has closed: they end.
    EndSession(ClientId),
}

/// The most that may wait.
#[derive(Clone, Copy, Debug)]
pub struct WaiterLimits {
    /// On the whole server.
    pub in_all: usize,
    /// For one key.
    pub per_key: usize,
}

/// Position in a queue: the lower, the earlier it is served. Negative for those who go ahead.
type Ticket = i64;

/// The waiters for one key, in the order in which they are served.
#[derive(Debug, Default)]
pub struct Queue {
    waiters: BTreeMap<Ticket, Waiter>,
    tickets: BTreeMap<Token, Ticket>,
}

impl Queue {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// The waiters in the order in which they are served.
    pub fn iter(&self) -> impl Iterator<Item = &Waiter> {
        self.waiters.values()
    }

    /// Those who go ahead: holders, when they came, who wait to change their limit.
    pub(crate) fn ahead(&self) -> impl Iterator<Item = &Waiter> {
        self.waiters.range(..0).map(|(_, waiter)| waiter)
    }

    /// The ticket in front of all, or behind all.
    fn next_ticket(&self, ahead: bool) -> Ticket {
        let (first, last) = (self.waiters.first_key_value(), self.waiters.last_key_value());
        match (ahead, first, last) {
            (true, Some((first, _)), _) => first.saturating_sub(1).min(-1),
            (true, None, _) => -1,
            (false, _, Some((last, _))) => last.saturating_add(1).max(1),
            (false, _, None) => 1,
        }
    }
}

/// Where a client waits.
#[derive(Clone, Debug)]
struct Seat {
    place: OwnedPlace,
    ticket: Ticket,
    until: Option<Moment>,
}

/// All queues of a server.
#[derive(Debug)]
pub struct Queues {
    queues: Places<Queue>,
    seats: BTreeMap<ClientId, Seat>,
    timeouts: BTreeSet<(Moment, ClientId)>,
    marks: Places<Vec<Remedy>>,
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
            queues: Places::new(),
            seats: BTreeMap::new(),
            timeouts: BTreeSet::new(),
            marks: Places::new(),
        }
    }

    /// Whether nobody waits and no place is marked.
    pub fn is_quiet(&self) -> bool {
        self.queues.is_empty() && self.marks.is_empty()
    }

    /// Whether no place is marked.
    pub fn is_unmarked(&self) -> bool {
        self.marks.is_empty()
    }

    /// How many wait, for all keys together.
    pub fn len(&self) -> usize {
        self.seats.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// The queue for a key, if anybody waits for it.
    pub fn queue(&self, place: Place<'_>) -> Option<&Queue> {
        self.queues.get(place)
    }

    /// Who is to be served next.
    pub fn head(&self, place: Place<'_>) -> Option<&Waiter> {
        self.queue(place)?.waiters.first_key_value().map(|(_, waiter)| waiter)
    }

    /// Whether `client` waits.
    pub fn waits(&self, client: ClientId) -> bool {
        self.seats.contains_key(&client)
    }

    /// Lets a request wait: behind all others, or ahead of them. A token that waits already keeps its place, and the
    /// request that had it is returned.
    ///
    /// # Errors
    /// [`Refusal::QueueFull`] when too many wait already.
    pub fn join(
        &mut self,
        place: Place<'_>,
        waiter: Waiter,
        ahead: bool,
        limits: WaiterLimits,
    ) -> Result<Option<Waiter>, Refusal> {
        let older = self.queue(place).and_then(|queue| queue.tickets.get(&waiter.token)).copied();
        let waiting_here = self.queue(place).map_or(0, Queue::len);
        if older.is_none() && self.len() >= limits.in_all {
            return Err(Refusal::QueueFull("lock.max-waiters"));
        }
        if older.is_none() && waiting_here >= limits.per_key {
            return Err(Refusal::QueueFull("lock.max-waiters-per-key"));
        }
        let queue = self.queues.at(place);
        let ticket = older.unwrap_or_else(|| queue.next_ticket(ahead));
        let (client, until) = (waiter.client, waiter.until);
        queue.tickets.insert(waiter.token.clone(), ticket);
        let superseded = queue.waiters.insert(ticket, waiter);
        if let Some(superseded) = &superseded {
            self.forget_seat(superseded.client);
        }
        self.seats.insert(client, Seat { place: place.into(), ticket, until });
        self.timeouts.extend(until.map(|until| (until, client)));
        Ok(superseded)
    }

    /// Takes a client out of its queue. Marks nothing: the caller sees to what follows.
    pub(crate) fn remove(&mut self, client: ClientId) -> Option<Waiter> {
        let seat = self.forget_seat(client)?;
        let queue = self.queues.get_mut(seat.place.as_place())?;
        let waiter = queue.waiters.remove(&seat.ticket)?;
        queue.tickets.remove(&waiter.token);
        if queue.is_empty() {
            self.queues.remove(seat.place.as_place());
        }
        Some(waiter)
    }

    fn forget_seat(&mut self, client: ClientId) -> Option<Seat> {
        let seat = self.seats.remove(&client)?;
        if let Some(until) = seat.until {
            self.timeouts.remove(&(until, client));
        }
        Some(seat)
    }

    /// A client stops waiting, for whatever reason. True if it did wait. Its place is marked: it may have stood in
    /// somebody's way.
    pub fn leave(&mut self, client: ClientId) -> bool {
        let place = self.seats.get(&client).map(|seat| seat.place.clone());
        self.remove(client);
        if let Some(place) = &place {
            self.mark(place.as_place());
        }
        place.is_some()
    }

    /// When the next waiter stops waiting.
    pub fn next_timeout(&self) -> Option<Moment> {
        self.timeouts.first().map(|(until, _)| *until)
    }

    /// Takes one waiter whose time is up out of its queue.
    pub fn time_out(&mut self, now: Moment) -> Option<ClientId> {
        let (until, client) = *self.timeouts.first()?;
        if until > now {
            return None;
        }
        self.leave(client);
        Some(client)
    }

    /// Everybody stops waiting.
    pub fn dissolve(&mut self) -> Vec<ClientId> {
        self.queues = Places::new();
        self.timeouts.clear();
        core::mem::take(&mut self.seats).into_keys().collect()
    }

    /// Something has happened to this key: whoever waits for it may have to be served. Without effect when nobody
    /// waits.
    pub fn mark(&mut self, place: Place<'_>) {
        if self.queues.get(place).is_some() {
            self.marks.at(place);
        }
    }

    /// Something has happened to every key of a database, or of all.
    pub fn mark_all(&mut self, database: Option<Database>) {
        let queued = self.queues.iter().map(|(place, _)| place);
        for place in queued.filter(|place| database.is_none_or(|database| database == place.database)) {
            self.marks.at(place);
        }
    }

    /// Something has to be put right at this key.
    pub fn remedy(&mut self, place: Place<'_>, remedy: Remedy) {
        self.marks.at(place).push(remedy);
    }

    /// A place that is marked.
    pub fn marked(&self) -> Option<OwnedPlace> {
        self.marks.iter().next().map(|(place, _)| place.into())
    }

    /// Takes the mark off a place, with what has to be put right there.
    pub fn take_mark(&mut self, place: Place<'_>) -> Vec<Remedy> {
        self.marks.remove(place).unwrap_or_default()
    }

    /// Whether all parts agree: a seat for each waiter and none else, at its place and with its ticket; a ticket for
    /// each token; a timeout for each that has one; and no empty queue.
    pub fn is_consistent(&self) -> bool {
        let waiters = || {
            self.queues
                .iter()
                .flat_map(|(place, queue)| queue.waiters.iter().map(move |(t, w)| (place, *t, w)))
        };
        let seated = waiters().all(|(place, ticket, waiter)| {
            self.seats.get(&waiter.client).is_some_and(|seat| {
                seat.place.as_place() == place && seat.ticket == ticket && seat.until == waiter.until
            })
        });
        let timed = waiters()
            .filter_map(|(_, _, waiter)| waiter.until.map(|until| (until, waiter.client)))
            .all(|timeout| self.timeouts.contains(&timeout));
        let with_timeout = waiters().filter(|(_, _, waiter)| waiter.until.is_some()).count();
        let tokens = self.queues.iter().all(|(_, queue)| {
            let ticketed =
                queue.waiters.iter().all(|(t, waiter)| queue.tickets.get(&waiter.token) == Some(t));
            !queue.is_empty() && ticketed && queue.tickets.len() == queue.len()
        });
        seated
            && timed
            && tokens
            && waiters().count() == self.seats.len()
            && with_timeout == self.timeouts.len()
    }
}
