//! Carries out what the core decided. This is the one place that changes a lock in the keyspace, and it leaves
//! nothing half done: value, stream and deadline go together.

use lock_core::request::{Acquire, Broken};
use lock_core::{Fence, Hold, Lock, Moment, Released, Token};

use crate::expiry;
use crate::replication;
use crate::server::clock;
use crate::server::ffi::{Context, Key, Name, Occupied, Place};
use crate::state::STATE;

/// The key of a lock, opened to change it: a lock, or nothing yet.
pub(crate) struct OpenLock<'c> {
    key: Key<'c, Lock>,
}

impl<'c> OpenLock<'c> {
    /// Opens the key, whether there is a lock or nothing.
    pub(crate) fn open(context: &'c Context, name: Name<'c>) -> Result<Option<Self>, Occupied> {
        Ok(Key::open_to_write(context, name)?.map(|key| Self { key }))
    }

    /// The lock, if there is one.
    pub(crate) fn lock(&self) -> Option<&Lock> {
        self.key.value()
    }

    /// Grants a hold that was admitted.
    pub(crate) fn grant(mut self, hold: Hold, now: Moment) {
        self.end_lapsed(now, usize::MAX);
        replication::hold_is(self.key.context(), self.key.name(), &hold, now);
        self.put(hold);
        self.settle();
    }

    /// Grants the hold of `token` again, on the terms that `request` names; `None` if it has none.
    pub(crate) fn renew(mut self, token: &Token, request: &Acquire<'_>, now: Moment) -> Option<Fence> {
        self.end_lapsed(now, usize::MAX);
        let (context, name) = (self.key.context(), self.key.name());
        let hold = self.key.value_mut()?.renew(token, request.lease_ms, request.limit, request.owner, now)?;
        replication::hold_is(context, name, hold, now);
        let fence = hold.fence();
        self.settle();
        Some(fence)
    }

    /// Sets holds to what another server decided.
    pub(crate) fn apply(mut self, holds: Vec<Hold>) {
        for hold in holds {
            raise_fence(hold.fence());
            self.put(hold);
        }
        self.key.context().replicate_verbatim();
        self.settle();
    }

    /// Gives one count of the token's hold back; false if it holds nothing.
    pub(crate) fn release(mut self, token: &Token, now: Moment) -> bool {
        let context = self.key.context();
        let released = self.key.value_mut().map(|lock| lock.release(token, now, || context.obeys()));
        let held = !matches!(released, None | Some(Released::NotHeld));
        if held {
            context.replicate_verbatim();
            self.settle();
        }
        held
    }

    /// Sets the lease of the token's hold anew; false if it holds nothing.
    pub(crate) fn extend(mut self, token: &Token, lease_ms: Option<u64>, now: Moment) -> bool {
        let context = self.key.context();
        let lock = self.key.value_mut();
        let extended = lock.is_some_and(|lock| lock.extend(token, lease_ms, now, || context.obeys()));
        if extended {
            context.replicate_verbatim();
            self.settle();
        }
        extended
    }

    /// Ends holds, whoever owns them. Returns how many of them were still held.
    pub(crate) fn break_holds(mut self, broken: Broken, now: Moment) -> usize {
        let Some(lock) = self.key.value_mut() else { return 0 };
        let held = lock.live_holds(now).filter(|hold| broken.names(hold.fence())).count();
        if lock.end_where(|hold| broken.names(hold.fence())) {
            self.key.context().replicate_verbatim();
            self.settle();
        }
        held
    }

    /// Ends up to `at_most` of the leases that have run out. Returns how many.
    pub(crate) fn expire(mut self, now: Moment, at_most: usize) -> usize {
        let ended = self.end_lapsed(now, at_most);
        self.settle();
        ended
    }

    fn end_lapsed(&mut self, now: Moment, at_most: usize) -> usize {
        let ended = self.key.value_mut().map(|lock| lock.end_lapsed(now, at_most)).unwrap_or_default();
        for fence in &ended {
            replication::lease_ended(self.key.context(), self.key.name(), *fence);
        }
        ended.len()
    }

    fn put(&mut self, hold: Hold) {
        match self.key.value_mut() {
            Some(lock) => lock.put(hold),
            None => self.key.set(Lock::from_holds(vec![hold])),
        }
    }

    /// Ends a change: a lock that nobody holds any more goes, the deadline of one that is held is noted, and those
    /// who watch the key are told.
    fn settle(mut self) {
        let context = self.key.context();
        if self.key.value().is_some_and(Lock::is_empty) {
            self.key.delete();
        } else {
            note_deadline(&mut self.key);
        }
        self.key.signal_modified();
        expiry::arm(context);
    }
}

/// Notes when the next lease of the lock under this key ends.
pub(crate) fn note_deadline(key: &mut Key<'_, Lock>) {
    let (database, name) = (key.context().database(), key.name());
    if let Some(lock) = key.value_mut() {
        track(lock, Place { database, key: name.bytes() });
    }
}

fn track(lock: &mut Lock, place: Place<'_>) {
    let Some(deadline) = lock.next_deadline() else { return };
    STATE.with(|state| match lock.slot {
        Some(slot) => state.deadlines.reschedule(place.database, slot, deadline),
        None => lock.slot = Some(state.deadlines.insert(place.database, place.key, deadline)),
    });
}

/// Draws the fence of a new grant.
pub(crate) fn draw_fence() -> Option<Fence> {
    let wall_micros = clock::wall_micros();
    STATE.with(|state| state.fences.draw(wall_micros))
}

/// Takes note of a fence that was granted elsewhere or earlier.
pub(crate) fn raise_fence(fence: Fence) {
    STATE.with(|state| state.fences.raise_to(fence));
}

/// A lock was read from a snapshot or by RESTORE and is about to stand at `place`.
///
/// It may not come to stand there after all, when the command that read it fails later on. Then the entry of its
/// deadline outlives it, and is dropped when it is due.
pub(crate) fn loaded(lock: &mut Lock, place: Option<Place<'_>>) {
    lock.holds().iter().for_each(|hold| raise_fence(hold.fence()));
    if let Some(place) = place {
        track(lock, place);
    }
}

/// A lock has left its key: for good, or to arrive under another.
pub(crate) fn unlinked(lock: &mut Lock, database: i32) {
    if let Some(slot) = lock.slot.take() {
        STATE.with(|state| state.deadlines.remove(database, slot));
    }
}
