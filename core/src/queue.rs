//! Who waits for which key, in which order, and until when.
//!
//! A queue belongs to a name in a database, not to a lock: when the lock is deleted, renamed or replaced, those who
//! wait for the name go on waiting for the name.
//!
//! 1. A queue is strictly first in, first out. The one exception are holders who wait to change their own limit: they
//!    go ahead of those who hold nothing yet, whom they would otherwise wait for in vain.
//! 2. A client waits for one thing at a time.
//! 3. A token stands in a queue once.
//! 4. A grant whose client has not been replied to yet can be undone, until somebody has learned of it: its client, or
//!    another connection that brings the same token and is told that it holds.
//! 5. Places where something has happened that this crate was told of too late to act on are marked: a waiter left,
//!    a key went, a holder's connection closed. A mark is settled before anything else is done at that place, so
//!    nobody can come between the event and what follows from it.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::mem;

use crate::fence::Fence;
use crate::hold::Limit;
use crate::lock::Lock;
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
    /// How deep it is, if it said so.
    pub level: Option<u16>,
    /// When it began to wait.
    pub since: Moment,
    /// When it stops waiting; `None` for never.
    pub until: Option<Moment>,
}

/// What has to be put right at a place. It is about a lock: where that goes, the remedy follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remedy {
    /// The hold with this fence was granted to a client that went away before it learned of it: it ends.
    EndHold(Fence),
    /// The hold with this fence was granted again to a client that went away before it learned of it: it has the limit
    /// again that it had, and is no deeper than it was.
    UndoRenewal {
        /// Its fence.
        fence: Fence,
        /// The limit it had.
        limit: Limit,
        /// How deep it was.
        level: u16,
    },
    /// The connection that kept holds alive has closed: they end.
    EndSession(ClientId),
}

impl Remedy {
    /// The fence of the hold that it is about, where it is about a certain one.
    fn fence(self) -> Option<Fence> {
        match self {
            Self::EndHold(fence) | Self::UndoRenewal { fence, .. } => Some(fence),
            Self::EndSession(_) => None,
        }
    }

    /// Whether it is about a hold of this lock.
    fn is_about(self, lock: &Lock) -> bool {
        lock.holds().iter().any(|hold| match self {
            Self::EndSession(client) => hold.session() == Some(client),
            _ => self.fence() == Some(hold.fence()),
        })
    }
}

/// A request that is to wait, once its client can be made to: see [`Queues::join`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joining {
    /// The request.
    pub waiter: Waiter,
    /// Whether it goes ahead of those who hold nothing yet.
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

/// A grant that its client has not been replied to yet.
#[derive(Debug)]
struct Undelivered {
    client: ClientId,
    /// Where the lock stands; `None` when it has left its key and may arrive elsewhere.
    place: Option<OwnedPlace>,
    fence: Fence,
    /// What undoes it; `None` when somebody else has learned of the hold meanwhile, so that it stands.
    remedy: Option<Remedy>,
}

/// All queues of a server.
#[derive(Debug)]
pub struct Queues {
    queues: Places<Queue>,
    seats: BTreeMap<ClientId, Seat>,
    timeouts: BTreeSet<(Moment, ClientId)>,
    marks: Places<Vec<Remedy>>,
    /// Grants that their clients have not been replied to yet, in the order in which they were made.
    undelivered: VecDeque<Undelivered>,
    /// What has to be put right about locks that have left their keys and may arrive under others.
    under_way: Vec<Remedy>,
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
            undelivered: VecDeque::new(),
            under_way: Vec::new(),
        }
    }

    /// Whether nobody waits, nobody is still to be replied to, and no place is marked.
    pub fn is_quiet(&self) -> bool {
        self.queues.is_empty() && self.marks.is_empty() && self.undelivered.is_empty()
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

    fn ticket_of(&self, place: Place<'_>, token: &Token) -> Option<Ticket> {
        self.queue(place)?.tickets.get(token).copied()
    }

    /// Whether there is room for a request of this token to wait for this key. There always is where it waits already.
    ///
    /// # Errors
    /// [`Refusal::QueueFull`] when too many wait already.
    pub(crate) fn room_for(
        &self,
        place: Place<'_>,
        token: &Token,
        limits: WaiterLimits,
    ) -> Result<(), Refusal> {
        if self.ticket_of(place, token).is_some() {
            Ok(())
        } else if self.len() >= limits.in_all {
            Err(Refusal::QueueFull("lock.max-waiters"))
        } else if self.queue(place).map_or(0, Queue::len) >= limits.per_key {
            Err(Refusal::QueueFull("lock.max-waiters-per-key"))
        } else {
            Ok(())
        }
    }

    /// Lets a request wait: behind all others, or ahead of them. A token that waits already keeps its place, and the
    /// request that had it is returned, to be answered with null.
    pub fn join(&mut self, place: Place<'_>, joining: Joining) -> Option<Waiter> {
        let Joining { waiter, ahead } = joining;
        let older = self.ticket_of(place, &waiter.token);
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
        if superseded.is_some() {
            // The newer request may ask for less, and be served at the end of the turn of the server's loop.
            self.mark(place);
        }
        superseded
    }

    /// Takes the request of a token out of the queue of a key. Marks nothing: the caller sees to what follows.
    pub(crate) fn withdraw(&mut self, place: Place<'_>, token: &Token) -> Option<Waiter> {
        let ticket = self.ticket_of(place, token)?;
        let client = self.queue(place)?.waiters.get(&ticket)?.client;
        self.remove(client)
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

    /// Everybody who waits for this key stops waiting.
    pub fn dismiss(&mut self, place: Place<'_>) -> Vec<ClientId> {
        let clients: Vec<ClientId> =
            self.queue(place).into_iter().flat_map(Queue::iter).map(|waiter| waiter.client).collect();
        clients.iter().for_each(|client| drop(self.remove(*client)));
        clients
    }

    /// Another server decides from now on: everybody stops waiting, and nothing is put right here any more.
    pub fn dissolve(&mut self) -> Vec<ClientId> {
        let seats = mem::take(self).seats;
        seats.into_keys().collect()
    }

    /// A key that somebody waits for, the next after this one in an order of the keys that does not change.
    pub fn waited_for_after(&self, place: Option<&OwnedPlace>) -> Option<OwnedPlace> {
        self.queues.after(place.map(OwnedPlace::as_place)).map(OwnedPlace::from)
    }

    /// Something has happened to this key: whoever waits for it may have to be served. Without effect when nobody
    /// waits.
    pub fn mark(&mut self, place: Place<'_>) {
        if self.queues.get(place).is_some() {
            self.marks.at(place);
        }
    }

    /// A client has been granted the hold with this fence, and is still to be replied to.
    pub(crate) fn granted(&mut self, client: ClientId, place: Place<'_>, fence: Fence, remedy: Remedy) {
        let (place, remedy) = (Some(place.into()), Some(remedy));
        self.undelivered.push_back(Undelivered { client, place, fence, remedy });
    }

    /// Somebody is told that its token has the hold with this fence: it stands, even if who waited for it goes away
    /// unreplied.
    pub fn learned(&mut self, place: Place<'_>, fence: Fence) {
        let of_this = self.undelivered.iter_mut().filter(|undelivered| undelivered.fence == fence);
        of_this.for_each(|undelivered| undelivered.remedy = None);
        if let Some(remedies) = self.marks.get_mut(place) {
            // The server may not have decided for a while, and not have put anything right.
            remedies.retain(|remedy| remedy.fence() != Some(fence));
        }
    }

    /// A client that was granted something is being replied to. What was granted to it rests on what was granted before.
    pub fn delivered(&mut self, client: ClientId) {
        if let Some((at, Undelivered { fence, .. })) = self.take_undelivered(client) {
            let before =
                self.undelivered.iter_mut().take(at).filter(|undelivered| undelivered.fence == fence);
            before.for_each(|undelivered| undelivered.remedy = None);
        }
    }

    /// A client has gone away. If it was granted something that it was not replied, that is to be undone; where a later
    /// grant of the same hold is still to be replied, with that one, should it be lost as well. Returns what is to be put
    /// right now.
    pub fn lost(&mut self, client: ClientId) -> Option<Remedy> {
        let (at, Undelivered { place, fence, remedy, .. }) = self.take_undelivered(client)?;
        let remedy = remedy?;
        let later = self.undelivered.iter_mut().skip(at).find(|later| later.fence == fence);
        if let Some(later) = later {
            later.remedy = later.remedy.and(Some(remedy));
            return None;
        }
        match place {
            Some(place) => self.remedy(place.as_place(), remedy),
            None => self.under_way.push(remedy),
        }
        Some(remedy)
    }

    fn take_undelivered(&mut self, client: ClientId) -> Option<(usize, Undelivered)> {
        let at = self.undelivered.iter().position(|undelivered| undelivered.client == client)?;
        self.undelivered.remove(at).map(|undelivered| (at, undelivered))
    }

    /// What would undo the grant of a client that is still to be replied to.
    pub fn remedy_for(&self, client: ClientId) -> Option<Remedy> {
        self.undelivered.iter().find(|undelivered| undelivered.client == client)?.remedy
    }

    /// The lock has left its key, for good or to arrive elsewhere. Whoever waits there may have to be served.
    pub fn departed(&mut self, place: Place<'_>) {
        if !self.is_quiet() {
            let remedies = self.take_mark(place);
            self.under_way.extend(remedies);
            let was_here = |it: &&mut Undelivered| it.place.as_ref().is_some_and(|at| at.as_place() == place);
            self.undelivered.iter_mut().filter(was_here).for_each(|undelivered| undelivered.place = None);
            self.mark(place);
        }
    }

    /// A lock has come to stand here. What has to be put right about it, or may yet have to be, has come with it.
    pub fn arrived(&mut self, place: Place<'_>, lock: &Lock) {
        let (here, elsewhere) =
            mem::take(&mut self.under_way).into_iter().partition(|remedy| remedy.is_about(lock));
        self.under_way = elsewhere;
        let here: Vec<Remedy> = here;
        here.into_iter().for_each(|remedy| self.remedy(place, remedy));
        for undelivered in &mut self.undelivered {
            if lock.holds().iter().any(|hold| hold.fence() == undelivered.fence) {
                undelivered.place = Some(place.into());
            }
        }
        self.mark(place);
    }

    /// The turn of the server's loop has ended: what has not arrived by now has gone for good.
    pub fn end_turn(&mut self) {
        self.under_way.clear();
    }

    /// Two databases have changed places. What has to be put right goes with the locks it is about; who waits for a name
    /// in a database goes on doing so, whatever stands there now.
    pub fn swap(&mut self, one: Database, other: Database) {
        self.marks.swap(one, other);
        for undelivered in &mut self.undelivered {
            undelivered.place = undelivered.place.take().map(|place| place.swapped(one, other));
        }
        self.mark_all(Some(one));
        self.mark_all(Some(other));
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
