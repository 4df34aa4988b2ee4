//! Carries out what the core decided. This is the one place that changes a lock in the keyspace, and it leaves
//! nothing half done: value, stream, deadline and ties go together.

use lock_core::queue::Remedy;
use lock_core::turn::{Answer, Perform, Turn};
use lock_core::{ClientId, Fence, Hold, Lock, Moment, Place, Ties};

use crate::cluster;
use crate::expiry;
use crate::grace;
use crate::moves;
use crate::replication;
use crate::server::clock;
use crate::server::ffi::{Context, Key, Name, Occupied, OwnedName};
use crate::state::{DEADLINES, FENCES, QUEUES, TIES};
use crate::waiting;
use crate::writes;

/// The key of a lock, opened to change it: a lock, or nothing yet.
pub(crate) struct OpenLock<'c> {
    key: Key<'c, Lock>,
}

impl<'c> OpenLock<'c> {
    /// Opens the key, whether there is a lock or nothing.
    pub(crate) fn open(context: &'c Context, name: Name<'c>) -> Result<Option<Self>, Occupied> {
        Ok(Key::open_to_write(context, name)?.map(|key| Self { key }))
    }

    /// Opens the key for what another server has decided: a value of another type counts as none, and goes when there is a
    /// lock to be put in its place.
    pub(crate) fn open_to_replace(context: &'c Context, name: Name<'c>) -> Option<Self> {
        Key::open_to_replace(context, name).map(|key| Self { key })
    }

    /// Opens the key at a place for `body`, outside of a command on that key. `None` if a value of another type stands
    /// there, or there is no such database.
    pub(crate) fn at<R>(
        context: &Context,
        place: Place<'_>,
        body: impl FnOnce(OpenLock<'_>) -> R,
    ) -> Option<R> {
        if !context.select_database(place.database) {
            return None;
        }
        let name = OwnedName::new(context, place.key)?;
        OpenLock::open(context, name.name()).ok().flatten().map(body)
    }

    /// The lock, if there is one.
    pub(crate) fn lock(&self) -> Option<&Lock> {
        self.key.value()
    }

    /// Takes a turn at the lock, and leaves the key as the turn leaves the lock: gone when nobody holds it any more.
    pub(crate) fn turn<R>(mut self, now: Moment, body: impl FnOnce(&mut Turn<'_, Performer<'c>>) -> R) -> R {
        let (context, name) = (self.key.context(), self.key.name());
        let place = Place { database: context.database(), key: name.bytes() };
        let mut performer = Performer { context, name, now, has_changed: false, has_promised: false };
        let mut made = Lock::new();
        let result = QUEUES.with(|queues| {
            let lock = self.key.value_mut().unwrap_or(&mut made);
            body(&mut Turn { lock, queues, place, now, perform: &mut performer })
        });
        if performer.has_changed {
            self.settle(made, place, performer.has_promised);
        }
        if !QUEUES.with(|queues| queues.is_quiet()) {
            expiry::arm(context);
        }
        result
    }

    /// A lock that nobody holds goes, one that was made comes; when it is due is noted; who watches the key is told.
    fn settle(&mut self, made: Lock, place: Place<'_>, has_promised: bool) {
        if !made.is_empty() {
            self.key.set(made);
        } else if has_promised {
            self.key.take_off_ttl();
        }
        match self.key.value_mut() {
            Some(lock) if lock.is_empty() => self.key.delete(),
            Some(lock) => {
                if let Some(due) = note(lock, place) {
                    expiry::arm_for(self.key.context(), due);
                }
            }
            None => {}
        }
        self.key.signal_modified();
    }
}

/// Carries out what a turn at a key comes to, as it goes along.
pub(crate) struct Performer<'c> {
    context: &'c Context,
    name: Name<'c>,
    now: Moment,
    has_changed: bool,
    /// Whether a lease was promised, so that a time to live that the key has is to go.
    has_promised: bool,
}

impl Perform for Performer<'_> {
    fn decides(&mut self) -> bool {
        may_decide(self.context)
    }

    fn owns(&mut self) -> bool {
        cluster::owns(self.name)
    }

    fn keeps(&mut self) -> bool {
        cluster::keeps(self.context, self.name)
    }

    fn may_have_lost_grants(&mut self) -> bool {
        grace::is_on(self.now)
    }

    fn is_open(&mut self, connection: ClientId) -> bool {
        waiting::is_open(connection)
    }

    fn may_acquire(&mut self, client: ClientId) -> bool {
        self.context.may_run(client, replication::ACQUIRE, self.name)
    }

    fn draw_fence(&mut self) -> Option<Fence> {
        let wall_micros = clock::wall_micros(self.now);
        FENCES.with(|fences| fences.draw(wall_micros))
    }

    fn take_off_ttl(&mut self) {
        self.has_promised = true;
    }

    fn hold_is(&mut self, hold: &Hold) {
        self.has_changed = true;
        replication::hold_is(self.context, self.name, hold, self.now);
    }

    fn hold_ended(&mut self, fence: Fence) {
        self.has_changed = true;
        replication::hold_ended(self.context, self.name, fence);
    }

    fn as_asked(&mut self) {
        self.has_changed = true;
        self.context.replicate_verbatim();
    }

    fn answer(&mut self, client: ClientId, answer: Answer) {
        waiting::answer(client, answer);
    }
}

/// Whether this server may decide on its own account, and pass on what it decided. Where it refuses writes to its clients,
/// since too few replicas keep up or its disk fails, it grants them nothing either; what a command decides was let pass
/// already.
pub(crate) fn may_decide(context: &Context) -> bool {
    context.is_master()
        && !context.must_not_write()
        && (context.is_of_command() || writes::are_taken(context))
}

/// Notes what has to be known of a lock without looking at it: when it is due, and whose connections keep it alive.
/// Returns when it is due.
fn note(lock: &mut Lock, place: Place<'_>) -> Option<Moment> {
    let due = lock.next_due();
    if let Some(due) = due {
        DEADLINES.with(|deadlines| match lock.slot {
            Some(slot) => deadlines.reschedule(place.database, slot, due),
            None => lock.slot = Some(deadlines.insert(place, due)),
        });
    }
    let sessions = || lock.holds().iter().filter_map(Hold::session);
    TIES.with(|ties| {
        if !ties.is_empty() || sessions().next().is_some() {
            ties.set(place, sessions());
        }
    });
    due
}

/// Takes note of a fence that was granted elsewhere or earlier.
pub(crate) fn raise_fence(fence: Fence) {
    FENCES.with(|fences| fences.raise_to(fence));
}

/// A lock was read, from a snapshot in which it stands at `place`, or by a command that may still fail.
pub(crate) fn loaded(lock: &mut Lock, place: Option<Place<'_>>) {
    lock.holds().iter().for_each(|hold| raise_fence(hold.fence()));
    if let Some(place) = place {
        note(lock, place);
    }
}

/// A value has arrived under this name from elsewhere. If it is a lock, its leases run on here, and what had to be put
/// right about it still has to be.
pub(crate) fn arrived(context: &Context, name: Name<'_>) {
    let Ok(Some(mut key)) = Key::<Lock>::open_to_write(context, name) else { return };
    let Some(lock) = key.value_mut() else { return };
    let place = Place { database: context.database(), key: name.bytes() };
    note(lock, place);
    QUEUES.with(|queues| {
        queues.arrived(place, lock);
        let sessions = lock.holds().iter().filter_map(Hold::session);
        for client in sessions.filter(|client| !waiting::is_open(*client)) {
            queues.remedy(place, Remedy::EndSession(client));
        }
    });
    expiry::arm(context);
}

/// The server is a replica now: its connections keep nothing alive any more.
pub(crate) fn demoted(context: &Context) {
    let mut tied = TIES.with(Ties::clear);
    // The ties of a connection that has closed are cut, but what it held may not have been ended yet.
    while let Some(place) = QUEUES.with(|queues| queues.marked()) {
        QUEUES.with(|queues| queues.take_mark(place.as_place()));
        tied.insert(place);
    }
    for place in tied {
        let place = place.as_place();
        OpenLock::at(context, place, |mut open| {
            if let Some(lock) = open.key.value_mut() {
                lock.disown();
                note(lock, place);
            }
        });
    }
}

/// A lock has left its key: for good, or to arrive under another. Whoever waits there may have to be served.
pub(crate) fn unlinked(lock: &mut Lock, place: Place<'_>) {
    if let Some(slot) = lock.slot.take() {
        DEADLINES.with(|deadlines| deadlines.remove(place.database, slot));
    }
    TIES.with(|ties| {
        if !ties.is_empty() {
            ties.set(place, []);
        }
    });
    QUEUES.with(|queues| queues.departed(place));
    waiting::keep_awake();
    moves::lock_left(place.key);
}
