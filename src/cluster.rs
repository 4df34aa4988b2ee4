//! Whose a key is, where the server is a node of a cluster.
//!
//! The server sees to it that a client's command comes to the node that serves its keys. What the module does on its own
//! account nobody sees to: so before it grants a lock to somebody who waited, or ends a lease, it asks whether this node
//! serves the key. It does not where the slot is another node's, where it is on its way there and the key has gone
//! already, where it is still to arrive, or where the cluster is down.
//!
//! The server tells none of this to clients that wait by the module's means. Those who wait for a key that is not served
//! here any more are told where to go: when something happens at the key, and by a look at all of them about once a
//! second. Who waits for a key whose slot is arriving was sent here, and goes on waiting until it has arrived.

use std::collections::BTreeSet;
use std::ffi::CStr;

use lock_core::{Moment, OwnedPlace, Place, Refusal};

use crate::server::clock;
use crate::server::ffi::{Context, MainThread, Name, OwnContext, OwnedName, Ownership, SlotRange};
use crate::state::QUEUES;
use crate::waiting;

/// Writes to a key, in the server's eyes, and does nothing.
const OWNED: &CStr = c"LOCK.OWNED";

/// How often all who wait are looked at, in milliseconds.
const LOOK_MS: u64 = 1000;

/// The most keys looked at in one tick of the server: about a millisecond's work.
const KEYS_PER_TICK: usize = 512;

/// Through which to ask, where the server is a node of a cluster; it is one, or not, as long as it runs. Within the command
/// of a client that was sent here by ASK, the server would answer as it answers that client: that the key is ours.
static ASKER: MainThread<Option<OwnContext>> = MainThread::new(None);

/// What the cluster looks like from here, once somebody had to know in this turn of the server's loop.
static VIEW: MainThread<Option<View>> = MainThread::new(None);

/// Where somebody was left waiting for the arrival of a slot, to be served then.
static ARRIVING: MainThread<BTreeSet<OwnedPlace>> = MainThread::new(BTreeSet::new());

/// The look at all who wait that was begun last.
static LOOK: MainThread<Option<Look>> = MainThread::new(None);

struct View {
    served: Vec<SlotRange>,
    arriving: Vec<i64>,
}

struct Look {
    began: Moment,
    /// The last key looked at.
    last: Option<OwnedPlace>,
    is_over: bool,
}

/// Where those who wait for a key are served.
enum Served {
    Here,
    /// Here, once the slot has arrived.
    NotYet,
    Elsewhere(Refusal),
}

/// Notes whether the server is a node of a cluster.
pub(crate) fn begin(context: &Context) {
    if context.is_in_cluster() {
        ASKER.with(|asker| *asker = OwnContext::new(context));
    }
}

/// Whether the server is a node of a cluster.
pub(crate) fn is_node() -> bool {
    ASKER.with(|asker| asker.is_some())
}

/// Whether the key is this server's to grant.
pub(crate) fn owns(key: Name<'_>) -> bool {
    ownership(key) == Ownership::Ours
}

/// Whether the leases of a lock under this key are this server's to end. They are where the key has come ahead of its slot,
/// and while the cluster is down; they are not where the whole slot is still to come, and the other node still extends
/// them.
pub(crate) fn keeps(context: &Context, key: Name<'_>) -> bool {
    match ownership(key) {
        Ownership::Ours | Ownership::Down => true,
        Ownership::NotOurs => matches!(elsewhere(context, key), Served::NotYet),
    }
}

fn ownership(key: Name<'_>) -> Ownership {
    ASKER.with(|asker| match asker {
        Some(asker) => asker.as_context().ask_ownership(OWNED, key),
        None => Ownership::Ours,
    })
}

/// Tells those who wait for a key that is not served here any more where to go.
pub(crate) fn turn_away(context: &Context, place: Place<'_>) {
    if !is_node() || QUEUES.with(|queues| queues.queue(place).is_none()) {
        return;
    }
    match served(context, place) {
        Served::Here => {
            if ARRIVING.with(|arriving| arriving.remove(&place.into())) {
                QUEUES.with(|queues| queues.mark(place));
            }
        }
        Served::NotYet => {
            ARRIVING.with(|arriving| arriving.insert(place.into()));
        }
        Served::Elsewhere(refusal) => {
            ARRIVING.with(|arriving| arriving.remove(&place.into()));
            waiting::refuse_all(place, &refusal);
        }
    }
}

fn served(context: &Context, place: Place<'_>) -> Served {
    let Some(name) = OwnedName::new(context, place.key) else { return Served::NotYet };
    match ownership(name.name()) {
        Ownership::Ours => Served::Here,
        Ownership::Down => Served::Elsewhere(Refusal::ClusterDown),
        Ownership::NotOurs => elsewhere(context, name.name()),
    }
}

fn elsewhere(context: &Context, key: Name<'_>) -> Served {
    let Some(slot) = context.slot_of(key) else { return Served::NotYet };
    if VIEW.with(|view| view.is_none()) {
        let view = View { served: context.slot_ranges(), arriving: context.arriving_slots() };
        VIEW.with(|kept| *kept = Some(view));
    }
    VIEW.with(|view| {
        let Some(view) = view else { return Served::NotYet };
        match view.served.iter().find(|range| range.slots.contains(&slot)) {
            _ if view.arriving.contains(&slot) => Served::NotYet,
            None => Served::Elsewhere(Refusal::SlotNotServed),
            Some(range) if range.is_ours => Served::Elsewhere(Refusal::InTransit),
            Some(SlotRange { host, port, .. }) => {
                Served::Elsewhere(Refusal::Moved(format!("{slot} {host}:{port}").into()))
            }
        }
    })
}

/// A turn of the server's loop has ended: slots may change hands.
pub(crate) fn end_turn() {
    VIEW.with(Option::take);
}

/// The server's tick: looks at those who wait, as many as fit one tick.
pub(crate) fn tick(context: &Context) {
    if !is_node() || !context.is_master() {
        return;
    }
    if QUEUES.with(|queues| queues.is_empty()) {
        ARRIVING.with(BTreeSet::clear);
        return;
    }
    let now = clock::now();
    LOOK.with(|look| {
        let is_due = |look: &Look| look.is_over && look.began.plus_ms(LOOK_MS) <= now;
        if look.as_ref().is_none_or(is_due) {
            *look = Some(Look { began: now, last: None, is_over: false });
            forget_who_left();
        }
    });
    for _ in 0..KEYS_PER_TICK {
        let Some(place) = next_to_look_at() else { return };
        turn_away(context, place.as_place());
    }
}

fn forget_who_left() {
    ARRIVING.with(|arriving| {
        QUEUES.with(|queues| arriving.retain(|place| queues.queue(place.as_place()).is_some()));
    });
}

fn next_to_look_at() -> Option<OwnedPlace> {
    LOOK.with(|look| {
        let look = look.as_mut().filter(|look| !look.is_over)?;
        look.last = QUEUES.with(|queues| queues.waited_for_after(look.last.as_ref()));
        look.is_over = look.last.is_none();
        look.last.clone()
    })
}
