//! All that is known besides the keys: who waits, what is due, which connections keep what alive, the fences, the grace;
//! with a method for each thing that can happen to it.
//!
//! What is asked of a lock is a [`crate::turn::Turn`], which takes the table and the lock under the key. What happens to
//! keys and connections without a turn is told to the table here. None of these methods writes to a lock: they mark keys,
//! and a mark is settled by the next turn at the key.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::deadlines::{DeadlineId, Deadlines};
use crate::fence::{Fence, FenceSequence};
use crate::grace::Grace;
use crate::hold::Hold;
use crate::key::{Database, DbKey, OwnedDbKey};
use crate::lock::Lock;
use crate::queue::{Joining, Queues, Waiter};
use crate::session::{ClientId, SessionIndex};
use crate::time::Moment;
use crate::undo::{Undo, Undos, What};

/// The most holds of closed connections that are marked when another closes. Nearly every connection has fewer.
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
}

/// A lock at which something is due.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DueLock {
    /// Where it was noted.
    pub key: OwnedDbKey,
    /// Its entry among the deadlines. A lock that has another one is another lock.
    pub id: DeadlineId,
}

/// What a server that becomes a replica has to see to.
#[derive(Debug)]
pub struct Demotion {
    /// Who waits no longer, to be answered with [`crate::Refusal::Demoted`].
    pub dismissed: Vec<ClientId>,
    /// Where connections may keep holds alive, which are now to end with their leases: [`Table::disown`].
    pub disowned: BTreeSet<OwnedDbKey>,
}

impl Table {
    /// A table of which nothing is known.
    pub const fn new() -> Self {
        Self {
            queues: Queues::new(),
            undos: Undos::new(),
            deadlines: Deadlines::new(),
            sessions: SessionIndex::new(),
            fences: FenceSequence::new(),
            grace: Grace::new(),
        }
    }

    /// Who waits.
    pub fn queues(&self) -> &Queues {
        &self.queues
    }

    /// What is due.
    pub fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    /// What the open connections keep alive.
    pub fn sessions(&self) -> &SessionIndex {
        &self.sessions
    }

    /// The highest fence so far.
    pub fn last_fence(&self) -> Option<Fence> {
        self.fences.last()
    }

    /// Takes note of a fence that was granted elsewhere or earlier.
    pub fn raise_fence(&mut self, fence: Fence) {
        self.fences.raise_to(fence);
    }
}

/// What happens to locks.
impl Table {
    /// A lock was read: from a snapshot in which it stands under `key`, or by a command that may still fail, and then its
    /// arrival will be told.
    pub fn loaded(&mut self, key: Option<DbKey<'_>>, lock: &mut Lock) {
        lock.holds().iter().for_each(|hold| self.fences.raise_to(hold.fence()));
        if let Some(key) = key {
            self.note(key, lock);
        }
    }

    /// A lock has come to stand under a key, by RENAME, MOVE or RESTORE. Its leases run on here, and what had to be undone
    /// about it still has to be.
    pub fn arrived(&mut self, key: DbKey<'_>, lock: &mut Lock) {
        self.note(key, lock);
        self.sessions.arrived(key, lock);
        self.undos.arrived(key, lock);
        for hold in lock.holds() {
            if let Some(client) = hold.session().filter(|client| !self.sessions.is_open(*client)) {
                self.undos.add(key, Undo { fence: hold.fence(), what: What::Session(client) });
            }
        }
        self.touched(key);
    }

    /// A lock has left its key: for good, or to arrive under another.
    pub fn departed(&mut self, key: DbKey<'_>, lock: &mut Lock) {
        if let Some(id) = lock.deadline_id.take() {
            self.deadlines.remove(key.database, id);
        }
        self.sessions.departed(key, lock);
        self.undos.departed(key);
        self.touched(key);
    }

    /// Something has happened to a key: whoever waits for it may have to be served. Without effect when nobody waits.
    pub fn touched(&mut self, key: DbKey<'_>) {
        if self.queues.is_waited_for(key) {
            self.undos.mark(key);
        }
    }

    /// A database has been emptied, or all.
    pub fn flushed(&mut self, database: Option<Database>) {
        self.deadlines.clear(database);
        self.sessions.flushed(database);
        self.touched_all(database);
    }

    /// Two databases have changed places. What is known of locks goes with them; who waits for a name in a database goes on
    /// doing so, whatever stands there now.
    pub fn swapped(&mut self, one: Database, other: Database) {
        self.deadlines.swap(one, other);
        self.sessions.swapped(one, other);
        self.undos.swapped(one, other);
        self.touched_all(Some(one));
        self.touched_all(Some(other));
    }

    fn touched_all(&mut self, database: Option<Database>) {
        for key in self.queues.keys() {
            if database.is_none_or(|database| database == key.database) {
                self.undos.mark(key);
            }
        }
    }

    /// Notes when a lock is due next, and says it. `None` for a lock that nobody holds, which is left to its key.
    pub(crate) fn note(&mut self, key: DbKey<'_>, lock: &mut Lock) -> Option<Moment> {
        let due = lock.next_due()?;
        match lock.deadline_id {
            Some(id) => self.deadlines.reschedule(key.database, id, due),
            None => lock.deadline_id = Some(self.deadlines.insert(key, due)),
        }
        Some(due)
    }
}

/// What happens to connections, and to those who wait.
impl Table {
    /// A connection has been opened.
    pub fn opened(&mut self, client: ClientId) {
        self.sessions.opened(client);
    }

    /// A connection is being closed: it waits no longer, what it was not told of is undone, and what it kept alive ends.
    /// Returns what is to be undone of its own grant.
    pub fn closed(&mut self, client: ClientId) -> Option<Undo> {
        let undo = self.abandoned(client);
        self.sessions.closed(client);
        self.mark_left(MARKED_AT_ONCE);
        undo
    }

    /// Marks the keys of holds that closed connections kept alive, at most `at_most` holds. A connection can keep very many
    /// alive, and nobody is to wait until all of them are marked.
    pub fn mark_left(&mut self, at_most: usize) {
        if self.sessions.has_left() {
            for (client, (key, fence)) in self.sessions.take_left(at_most) {
                self.undos.add(key.as_key(), Undo { fence, what: What::Session(client) });
            }
        }
    }

    /// Whether a hold is to end, since the connection that kept it alive has closed, and that may not have been marked yet.
    pub(crate) fn has_lost_session(&self, hold: &Hold) -> bool {
        self.sessions.has_left() && hold.session().is_some_and(|client| !self.sessions.is_open(client))
    }

    /// A client is not there to be answered any more: it leaves its queue, and what it was granted and not told is undone.
    pub fn abandoned(&mut self, client: ClientId) -> Option<Undo> {
        self.left(client);
        self.undos.lost(client)
    }

    /// A client stops waiting, for whatever reason. It may have stood in somebody's way.
    pub fn left(&mut self, client: ClientId) {
        let keys = self.queues.keys_of(client);
        self.queues.remove(client);
        keys.iter().for_each(|key| self.touched(key.as_key()));
    }

    /// A request waits from now on. An older one of its token gives its place up, and is returned, to be answered with
    /// null.
    pub fn join(&mut self, key: DbKey<'_>, joining: Joining) -> Option<Waiter> {
        let superseded = self.queues.join(key, joining);
        if superseded.is_some() {
            // The newer request may ask for less, and be served at the end of the turn of the server's loop.
            self.undos.mark(key);
        }
        superseded
    }

    /// A client is told what it was granted.
    pub fn told(&mut self, client: ClientId) {
        self.undos.told(client);
    }

    /// What would undo the grant of a client that is still to be told.
    pub fn undo_for(&self, client: ClientId) -> Option<Undo> {
        self.undos.undo_for(client)
    }

    /// Takes one waiter whose time is up out of its queue, to be answered with null.
    pub fn time_out(&mut self, now: Moment) -> Option<ClientId> {
        let client = self.queues.late(now)?;
        self.left(client);
        Some(client)
    }

    /// Everybody who waits for a key stops waiting, to be told where to go.
    pub fn dismiss(&mut self, key: DbKey<'_>) -> Vec<ClientId> {
        self.queues.dismiss(key)
    }
}

/// What happens to the server.
impl Table {
    /// The data were loaded.
    pub fn data_loaded(&mut self, now: Moment) {
        self.grace.begin(now);
    }

    /// This server decides from now on.
    pub fn promoted(&mut self, now: Moment) {
        self.grace.begin(now);
    }

    /// Another server decides from now on: nobody waits here, nothing is undone here, and connections here keep nothing
    /// alive.
    pub fn demoted(&mut self) -> Demotion {
        let dismissed = self.queues.dissolve();
        let mut disowned = self.sessions.end_all();
        // What a connection kept alive that has closed is not noted any more, but may not have been ended yet.
        disowned.extend(self.undos.forget());
        Demotion { dismissed, disowned }
    }

    /// No connection here keeps the holds of this lock alive any more: each ends with its lease.
    pub fn disown(&mut self, key: DbKey<'_>, lock: &mut Lock) {
        lock.disown();
        self.note(key, lock);
    }

    /// Ends the grace if its time is over. True if it has come to its end now: those who had to wait for that are marked.
    pub fn end_grace(&mut self, grace_ms: u64, now: Moment) -> bool {
        let has_ended = self.grace.end(grace_ms, now);
        if has_ended {
            self.touched_all(None);
        }
        has_ended
    }

    /// Whether grants may have been lost ([`crate::grace`]).
    pub fn is_in_grace(&self, grace_ms: u64, now: Moment) -> bool {
        self.grace.is_on(grace_ms, now)
    }

    /// A turn of the server's loop ends: what has left its key and not arrived by now has gone for good.
    pub fn before_sleep(&mut self) {
        self.undos.before_sleep();
    }
}

/// What is left to do.
impl Table {
    /// Whether there is anything that a turn at this key would see to besides what it is asked: somebody waits for it, or it
    /// is marked. Else nothing has to be known of what this server may do.
    pub fn has_business_at(&self, key: DbKey<'_>) -> bool {
        self.queues.is_waited_for(key)
            || !self.is_unmarked() && (self.undos.is_marked(key) || self.sessions.has_left())
    }

    /// Whether nobody waits, everybody was told, and no key is marked or is to be.
    pub fn is_quiet(&self) -> bool {
        self.queues.is_empty() && self.undos.is_quiet() && !self.sessions.has_left()
    }

    /// Whether no key is marked or is to be.
    pub fn is_unmarked(&self) -> bool {
        self.undos.is_unmarked() && !self.sessions.has_left()
    }

    /// Whether this key is marked.
    pub fn is_marked(&self, key: DbKey<'_>) -> bool {
        self.undos.is_marked(key)
    }

    /// A key that is marked, each in its turn.
    pub fn marked(&mut self) -> Option<OwnedDbKey> {
        self.undos.marked()
    }

    /// Leaves a marked key alone: what stands there is no lock, or is not this server's. When that changes, it is touched.
    /// Returns what was to be undone there.
    pub fn pass_over(&mut self, key: DbKey<'_>) -> Vec<Undo> {
        self.undos.take_mark(key)
    }

    /// When something is due next: a lease, a wait, the end of the grace.
    pub fn next_due(&self, grace_ms: u64) -> Option<Moment> {
        let lease = self.deadlines.first().map(|due| due.deadline);
        [lease, self.queues.next_timeout(), self.grace.until(grace_ms)].into_iter().flatten().min()
    }

    /// The lock that is due first among those due by `now`.
    pub fn due_lock(&self, now: Moment) -> Option<DueLock> {
        let due = self.deadlines.first_due(now)?;
        Some(DueLock { key: due.key.into(), id: due.id })
    }

    /// Leaves what is due at a lock alone until then.
    pub fn put_off(&mut self, due: &DueLock, until: Moment) {
        self.deadlines.reschedule(due.key.as_key().database, due.id, until);
    }

    /// Forgets an entry that has outlived its lock.
    pub fn forget_due(&mut self, due: &DueLock) {
        self.deadlines.remove(due.key.as_key().database, due.id);
    }
}
