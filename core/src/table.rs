//! The table: all that the module remembers besides the keys, with a method for each thing that can happen.
//!
//! A request to a lock is a [`crate::turn::Turn`], which takes the table and the lock under the key. The methods here
//! are for what happens to keys and connections without a request. None of them writes to a lock. They mark keys, and
//! the next turn at the key settles the mark (G2, W2).

mod counted;

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::mem;

use smallvec::SmallVec;

use crate::answer::Answer;
use crate::deadlines::{DeadlineId, Deadlines};
use crate::fence::{Fence, FenceSequence};
use crate::figures::{Figures, add};
use crate::grace::Grace;
use crate::hold::Hold;
use crate::key::{Database, DbKey, OwnedDbKey};
use crate::lock::Lock;
use crate::queue::{Joining, Queues, Seat, Ticket, Waiter};
use crate::session::{ClientId, SessionIndex};
use crate::time::Moment;
use crate::undo::{Undo, Undos, What};
use crate::waits_for::Circle;

use self::counted::Leaving;

/// The most holds of closed connections that are marked when a connection closes. Nearly every connection has fewer.
const MARKED_AT_ONCE: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub struct Table {
    pub(crate) queues: Queues,
    pub(crate) undos: Undos,
    pub(crate) deadlines: Deadlines,
    pub(crate) sessions: SessionIndex,
    pub(crate) fences: FenceSequence,
    pub(crate) grace: Grace,
    figures: Figures,
    /// Whether this server decides about its locks: it is a master, and loads nothing. Otherwise nothing is counted.
    decides: bool,
    /// Locks that have left their keys. Those that have not arrived elsewhere by the end of the iteration were removed.
    leaving: Vec<Leaving>,
}

/// A lock that is due.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DueLock {
    /// The key under which the entry was made.
    pub key: OwnedDbKey,
    /// Its entry among the deadlines. A lock with another entry is another lock.
    pub id: DeadlineId,
}

/// A request that has joined a queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joined {
    /// Its ticket.
    pub ticket: Ticket,
    /// The clients of older requests of its token, which have given their places up, and what they are told.
    pub superseded: SmallVec<[(ClientId, Answer); 1]>,
    /// Whether it is a new ticket.
    pub is_new: bool,
}

/// What is left to do when a server becomes a replica.
#[derive(Debug)]
pub struct Demotion {
    /// The clients that stop waiting. They are answered with [`crate::Refusal::Demoted`]. Places without a connection have
    /// ended as well.
    pub dismissed: Vec<ClientId>,
    /// The keys where connections may keep holds alive. These holds now end with their leases: [`Table::disown`].
    pub disowned: BTreeSet<OwnedDbKey>,
}

impl Table {
    /// An empty table.
    pub const fn new() -> Self {
        Self {
            queues: Queues::new(),
            undos: Undos::new(),
            deadlines: Deadlines::new(),
            sessions: SessionIndex::new(),
            fences: FenceSequence::new(),
            grace: Grace::new(),
            figures: Figures::new(),
            decides: false,
            leaving: Vec::new(),
        }
    }

    /// The queues.
    pub fn queues(&self) -> &Queues {
        &self.queues
    }

    /// The deadlines.
    pub fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    /// The open connections and the holds that they keep alive.
    pub fn sessions(&self) -> &SessionIndex {
        &self.sessions
    }

    /// The highest fence so far.
    pub fn last_fence(&self) -> Option<Fence> {
        self.fences.last()
    }

    /// A fence was granted elsewhere or earlier.
    pub fn raise_fence(&mut self, fence: Fence) {
        self.fences.raise_to(fence);
    }
}

/// What happens to locks.
impl Table {
    /// A lock was read: from a snapshot, under `key`, or by RESTORE, without a key. RESTORE may still fail. If it
    /// succeeds, [`Table::arrived`] follows.
    pub fn loaded(&mut self, key: Option<DbKey<'_>>, lock: &mut Lock) {
        lock.holds().iter().for_each(|hold| self.fences.raise_to(hold.fence()));
        if let Some(key) = key {
            self.note(key, lock);
            self.queues.waits_for.see(key, lock, true);
        }
    }

    /// A lock has arrived under a key, by RENAME, MOVE or RESTORE. Its leases run on here, and pending undos follow it.
    pub fn arrived(&mut self, key: DbKey<'_>, lock: &mut Lock) {
        self.note(key, lock);
        self.queues.waits_for.see(key, lock, true);
        let oldest = lock.holds().iter().next().map(Hold::fence);
        if let Some(found) = self.leaving.iter().rposition(|left| Some(left.oldest) == oldest) {
            self.leaving.swap_remove(found);
        }
        self.sessions.arrived(key, lock.kept());
        self.undos.arrived(key, lock);
        for (client, fence) in lock.kept() {
            if !self.sessions.is_open(client) {
                self.undos.add(key, Undo { fence, what: What::Session(client) });
            }
        }
        self.touched(key);
    }

    /// A lock has left its key. It is deleted, or it will arrive under another key.
    pub fn departed(&mut self, key: DbKey<'_>, lock: &mut Lock) {
        if let Some(id) = lock.deadline_id.take() {
            self.deadlines.remove(key.database, id, mem::take(&mut lock.counted));
        }
        // Mostly the turn that deletes the key has ended its holds.
        if !lock.is_empty() {
            self.note_leaving(key, lock);
            self.sessions.departed(key, lock.kept());
        }
        self.undos.departed(key, lock);
        self.queues.waits_for.departed(key);
        self.touched(key);
    }

    /// Something has happened to a key, and its waiters may have to be served. Without effect if nobody waits.
    #[inline]
    pub fn touched(&mut self, key: DbKey<'_>) {
        if self.queues.is_waited_for(key) {
            self.undos.mark(key);
        }
    }

    /// A value that is no lock stands under a key, and its time to live ends at this moment. The server deletes it then, or
    /// later if nobody opens the key. Without effect if nobody waits.
    pub fn stands_until(&mut self, key: DbKey<'_>, end: Moment) {
        self.queues.stands_until(key, end);
    }

    /// A key with such a value, whose time is over. It is marked, and the caller opens it, so that the server deletes it.
    pub fn take_look(&mut self, now: Moment) -> Option<OwnedDbKey> {
        let key = self.queues.take_look(now)?;
        self.touched(key.as_key());
        Some(key)
    }

    /// One database was flushed, or all.
    pub fn flushed(&mut self, database: Option<Database>) {
        if self.decides {
            add(&mut self.figures.removed, self.deadlines.holds(database));
        }
        self.deadlines.clear(database);
        self.sessions.flushed(database);
        self.queues.waits_for.flushed(database);
        self.touched_all(database);
    }

    /// Two databases were swapped. What is stored about locks moves with them. Waiters keep waiting for their name in
    /// their database, whatever is there now.
    pub fn swapped(&mut self, one: Database, other: Database) {
        self.deadlines.swap(one, other);
        self.sessions.swapped(one, other);
        self.undos.swapped(one, other);
        self.queues.waits_for.swapped(one, other);
        self.touched_all(Some(one));
        self.touched_all(Some(other));
    }

    /// Slots have gone to another node of the cluster: waiters may have to be redirected.
    pub fn slots_left(&mut self) {
        self.touched_all(None);
    }

    fn touched_all(&mut self, database: Option<Database>) {
        for key in self.queues.keys() {
            if database.is_none_or(|database| database == key.database) {
                self.undos.mark(key);
            }
        }
    }

    /// Stores when a lock is due, and returns that. `None` for a lock without holds, whose key is deleted.
    pub(crate) fn note(&mut self, key: DbKey<'_>, lock: &mut Lock) -> Option<Moment> {
        let due = lock.next_due()?;
        match lock.deadline_id {
            Some(id) => self.deadlines.reschedule(key.database, id, due),
            None => {
                lock.deadline_id = Some(self.deadlines.insert(key, due));
                lock.counted = 1;
            }
        }
        let holds = u32::try_from(lock.holds().len()).unwrap_or(u32::MAX);
        if holds != lock.counted {
            self.deadlines.recount(key.database, lock.counted, holds);
            lock.counted = holds;
        }
        Some(due)
    }
}

/// What happens to connections and waiters.
impl Table {
    /// A connection was opened.
    pub fn opened(&mut self, client: ClientId) {
        self.sessions.opened(client);
    }

    /// A connection is being closed: it waits no longer, what it was not told of is undone, and what it kept alive ends. Its
    /// place in a queue may be kept (G13). Returns what is to be undone of its own grant.
    pub fn closed(&mut self, client: ClientId, now: Moment) -> SmallVec<[Undo; 1]> {
        self.end_wait_of(client, now);
        let undos = self.undos.lost(client);
        self.sessions.closed(client);
        self.mark_left(MARKED_AT_ONCE);
        undos
    }

    /// Marks the keys of holds that closed connections kept alive, at most `at_most` holds. A connection can have very
    /// many, and other clients must not wait until all of them are marked.
    pub fn mark_left(&mut self, at_most: usize) {
        if self.sessions.has_left() {
            for (client, (key, fence)) in self.sessions.take_left(at_most) {
                self.undos.add(key.as_key(), Undo { fence, what: What::Session(client) });
            }
        }
    }

    /// Whether the connection that kept a hold alive has closed. The hold may not have been marked yet, or its end may be
    /// under way.
    pub(crate) fn has_lost_session(&self, hold: &Hold) -> bool {
        hold.session().is_some_and(|session| !self.sessions.is_open(session.client))
    }

    /// A client cannot be answered any more: it leaves its queue for good, and what it was granted and not told is undone.
    pub fn abandoned(&mut self, client: ClientId) -> SmallVec<[Undo; 1]> {
        if let Some(ticket) = self.queues.ticket_of_client(client) {
            self.take_out(ticket);
        }
        self.undos.lost(client)
    }

    /// A client waits no longer by somebody's command. Returns what it is told; `None` if it did not wait.
    pub fn unblocked(&mut self, client: ClientId, now: Moment) -> Option<Answer> {
        let ticket = self.queues.ticket_of_client(client)?;
        self.time_is_over(ticket, now).map(|(_, answer)| answer)
    }

    /// A request for several keys could not be granted the one at this place among them. That one is looked at first the next
    /// time, see [`Queues::held_up_at`]: so a turn at one of many keys does not look at all the others again.
    pub fn is_held_up(&mut self, ticket: Ticket, place: usize) {
        self.queues.is_held_up(ticket, place);
    }

    /// A request waits for these keys from now on, no two of which are alike.
    pub fn join(&mut self, keys: &[DbKey<'_>], joining: Joining) -> Joined {
        let (ticket, is_new, older) = self.queues.join(keys, joining);
        let mut superseded = SmallVec::new();
        for (of_older, Seat { waiter, keys: left, .. }) in older {
            let is_kept = of_older.number() == ticket.number();
            // It may have stood in somebody's way: elsewhere, and where it stands farther behind now.
            left.iter()
                .map(OwnedDbKey::as_key)
                .filter(|key| !is_kept || !keys.contains(key))
                .for_each(|key| self.touched(key));
            let answer = waiter.when_superseded(ticket, is_kept);
            superseded.extend(waiter.client.map(|client| (client, answer)));
        }
        Joined { ticket, superseded, is_new }
    }

    /// The owners who would wait for each other if the request that was refused last with [`crate::Refusal::Circle`] waited. It is
    /// told once.
    pub fn take_circle(&mut self) -> Option<Circle> {
        self.queues.waits_for.refused.take()
    }

    /// A client was told of its grant.
    pub fn told(&mut self, client: ClientId) {
        self.undos.told(client);
    }

    /// What would undo the grant of a client that is still to be told.
    pub fn undos_for(&self, client: ClientId) -> impl Iterator<Item = Undo> {
        self.undos.undos_for(client)
    }

    /// Ends the waits whose time is up, at most `at_most`, and as many times to claim something. Returns who is told what.
    pub fn time_out(&mut self, now: Moment, at_most: usize) -> Vec<(ClientId, Answer)> {
        self.undos.end_claims(now, at_most);
        let mut answers = Vec::new();
        for _ in 0..at_most {
            let Some(ticket) = self.queues.late(now) else { break };
            answers.extend(self.time_is_over(ticket, now));
        }
        answers
    }

    fn end_wait_of(&mut self, client: ClientId, now: Moment) -> Option<(ClientId, Answer)> {
        self.end_wait(self.queues.ticket_of_client(client)?, now)
    }

    /// Ends a wait, whose place may be kept. Returns who is told what.
    fn end_wait(&mut self, ticket: Ticket, now: Moment) -> Option<(ClientId, Answer)> {
        match self.queues.step_aside(ticket, now) {
            Some(client) => Some((client, Answer::Queued(ticket))),
            None => Some((self.take_out(ticket)?.client?, Answer::NotAvailable)),
        }
    }

    /// The time to wait is over, see [`Table::end_wait`]. If the place is not kept, nobody waits there any more.
    fn time_is_over(&mut self, ticket: Ticket, now: Moment) -> Option<(ClientId, Answer)> {
        let told = self.end_wait(ticket, now);
        if self.queues.waiter(ticket).is_none() {
            self.timed_out();
        }
        told
    }

    /// Takes a request out of its queues. It may have stood in somebody's way.
    pub(crate) fn take_out(&mut self, ticket: Ticket) -> Option<Waiter> {
        let Seat { waiter, keys, .. } = self.queues.unseat(ticket)?;
        keys.iter().for_each(|key| self.touched(key.as_key()));
        Some(waiter)
    }

    /// All waiters of a key stop waiting. Those with a connection are redirected. Some may have stood in somebody's way at other
    /// keys.
    pub fn dismiss(&mut self, key: DbKey<'_>) -> Vec<ClientId> {
        let tickets: Vec<Ticket> = self.queues.places(key).map(|(ticket, _)| ticket).collect();
        let mut dismissed = Vec::new();
        for ticket in tickets {
            let Some(Seat { waiter, keys, .. }) = self.queues.unseat(ticket) else { continue };
            let elsewhere = keys.iter().map(OwnedDbKey::as_key).filter(|other| *other != key);
            elsewhere.for_each(|key| self.touched(key));
            dismissed.extend(waiter.client);
        }
        dismissed
    }
}

/// What happens to the server.
impl Table {
    /// Whether this server decides about its locks from now on: at its start, and while it loads data. While it does not,
    /// nothing that happens is counted.
    pub fn decides(&mut self, decides: bool) {
        self.decides = decides;
    }

    /// Whether it does.
    pub(crate) fn does_decide(&self) -> bool {
        self.decides
    }

    /// The data were loaded.
    pub fn data_loaded(&mut self, now: Moment) {
        self.grace.begin(now);
    }

    /// This server became a master.
    pub fn promoted(&mut self, now: Moment) {
        self.decides = true;
        self.grace.begin(now);
    }

    /// This server became a replica: all waits end, nothing is undone, and connections keep no hold alive (R3).
    pub fn demoted(&mut self) -> Demotion {
        self.decides = false;
        let dismissed = self.queues.dissolve();
        let mut disowned = self.sessions.end_all();
        // The hold of a connection that has closed is no longer in the index, but its session may not have ended yet.
        disowned.extend(self.undos.forget());
        Demotion { dismissed, disowned }
    }

    /// No connection keeps the holds of this lock alive any more. Each ends with its lease.
    pub fn disown(&mut self, key: DbKey<'_>, lock: &mut Lock) {
        lock.disown();
        self.note(key, lock);
    }

    /// Ends the grace if its time is over. True if it ended now: then every key with waiters is marked (W7).
    pub fn end_grace(&mut self, grace_ms: u64, now: Moment) -> bool {
        let has_ended = self.grace.end(grace_ms, now);
        if has_ended {
            self.touched_all(None);
        }
        has_ended
    }

    /// Whether the restart grace lasts.
    pub fn is_in_grace(&self, grace_ms: u64, now: Moment) -> bool {
        self.grace.is_on(grace_ms, now)
    }

    /// An iteration of the server's loop ends: a lock that has left its key and not arrived by now was deleted.
    pub fn before_sleep(&mut self) {
        self.undos.before_sleep();
        self.figures.removed = self.removed();
        self.leaving.clear();
    }
}

/// What is left to do.
impl Table {
    /// Whether a turn at this key has more to do than its request: there are waiters, or the key is or may be marked.
    /// Otherwise the turn needs no authority.
    #[inline]
    pub fn has_business_at(&self, key: DbKey<'_>) -> bool {
        !self.is_unoccupied() && self.has_any_business_at(key)
    }

    /// The same for any of these keys.
    pub fn has_business_at_any<'k>(&self, keys: impl IntoIterator<Item = DbKey<'k>>) -> bool {
        !self.is_unoccupied() && keys.into_iter().any(|key| self.has_any_business_at(key))
    }

    /// Whether nobody waits for any key, and none is marked or must be.
    fn is_unoccupied(&self) -> bool {
        self.queues.is_empty() && self.is_unmarked()
    }

    fn has_any_business_at(&self, key: DbKey<'_>) -> bool {
        self.queues.is_waited_for(key)
            || !self.is_unmarked() && (self.undos.is_marked(key) || self.sessions.has_left())
    }

    /// Whether nobody waits, everybody was told, and no key is marked or must be.
    pub fn is_quiet(&self) -> bool {
        self.is_unoccupied() && self.undos.is_quiet()
    }

    /// Whether no key is marked or must be.
    pub fn is_unmarked(&self) -> bool {
        self.undos.is_unmarked() && !self.sessions.has_left()
    }

    /// Whether this key is marked.
    pub fn is_marked(&self, key: DbKey<'_>) -> bool {
        self.undos.is_marked(key)
    }

    /// The next marked key. Every marked key comes in turn.
    pub fn marked(&mut self) -> Option<OwnedDbKey> {
        self.undos.marked()
    }

    /// Removes the mark of a key where nothing can be settled: its value is no lock, or another node serves it. If that
    /// changes, the key is marked again. Returns the undos of the mark.
    pub fn pass_over(&mut self, key: DbKey<'_>) -> Vec<Undo> {
        self.undos.take_mark(key)
    }

    /// When the next lease, wait, look, claim or grace is due.
    pub fn next_due(&self, grace_ms: u64) -> Option<Moment> {
        let lease = self.deadlines.first().map(|due| due.deadline);
        let waits = [self.queues.next_timeout(), self.queues.next_look(), self.undos.next_claim_end()];
        waits.into_iter().chain([lease, self.grace.until(grace_ms)]).flatten().min()
    }

    /// The first lock that is due by `now`.
    pub fn due_lock(&self, now: Moment) -> Option<DueLock> {
        let due = self.deadlines.first_due(now)?;
        Some(DueLock { key: due.key.into(), id: due.id })
    }

    /// Makes a lock due later.
    pub fn put_off(&mut self, due: &DueLock, until: Moment) {
        self.deadlines.reschedule(due.key.as_key().database, due.id, until);
    }

    /// Removes an entry that has outlived its lock.
    pub fn forget_due(&mut self, due: &DueLock) {
        self.deadlines.remove(due.key.as_key().database, due.id, 0);
    }
}
