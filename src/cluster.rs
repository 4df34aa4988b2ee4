//! Whose a key is, where the server is a node of a cluster.
//!
//! The server sees to it that a client's command comes to the node that serves its keys. What the module does on its own
//! account nobody sees to: so before it grants a lock to somebody who waited, or ends a lease, it asks whether this node
//! serves the key. It does not where the slot is another node's, where it is on its way there and the key has gone
//! already, where it is still to arrive, or where the cluster is down.
//!
//! The server tells none of this to clients that wait by the module's means. Those who wait for a key that is not served
//! here any more are told where to go: when something happens at the key, and by a look at all of them about once a
//! second.

use std::ffi::CStr;

use lock_core::{Moment, OwnedPlace, Place, Refusal};

use crate::server::clock;
use crate::server::ffi::{Context, MainThread, Name, OwnedName, Ownership, SlotRange};
use crate::state::QUEUES;
use crate::waiting;

/// Writes to a key, in the server's eyes, and does nothing.
pub(crate) const OWNED: &CStr = c"LOCK.OWNED";

/// How often all who wait are looked at, in milliseconds.
const LOOK_MS: u64 = 1000;

/// The most keys looked at in one tick of the server: about a millisecond's work.
const KEYS_PER_TICK: usize = 512;

/// Whether the server is a node of a cluster; it is one, or not, as long as it runs.
static IS_NODE: MainThread<bool> = MainThread::new(false);

/// Which node serves which slots, once somebody had to be told in this turn of the server's loop.
static SLOTS: MainThread<Option<Vec<SlotRange>>> = MainThread::new(None);

/// A look at all who wait.
struct Look {
    began: Moment,
    /// The last key looked at; `None` where it has not begun, or has come to the end.
    last: Option<OwnedPlace>,
    is_over: bool,
}

static LOOK: MainThread<Option<Look>> = MainThread::new(None);

/// Notes whether the server is a node of a cluster.
pub(crate) fn begin(context: &Context) {
    IS_NODE.with(|is_node| *is_node = context.is_in_cluster());
}

/// Whether the server is a node of a cluster.
pub(crate) fn is_node() -> bool {
    IS_NODE.with(|is_node| *is_node)
}

/// Whether the key is this server's to decide about.
pub(crate) fn owns(context: &Context, key: Name<'_>) -> bool {
    !is_node() || context.ask_ownership(OWNED, key) == Ownership::Ours
}

/// Why nobody can be served at this key any more; `None` where somebody can.
pub(crate) fn turns_away(context: &Context, place: Place<'_>) -> Option<Refusal> {
    if !is_node() || !context.select_database(place.database) {
        return None;
    }
    let name = OwnedName::new(context, place.key)?;
    match context.ask_ownership(OWNED, name.name()) {
        Ownership::Ours => None,
        Ownership::Down => Some(Refusal::ClusterDown),
        Ownership::NotOurs => Some(redirection(context, name.name())),
    }
}

fn redirection(context: &Context, key: Name<'_>) -> Refusal {
    let Some(slot) = context.slot_of(key) else { return Refusal::SlotNotServed };
    if SLOTS.with(|slots| slots.is_none()) {
        let ranges = context.slot_ranges();
        SLOTS.with(|slots| *slots = Some(ranges));
    }
    SLOTS.with(|ranges| {
        let range = ranges.iter().flatten().find(|range| range.slots.contains(&slot));
        match range {
            None => Refusal::SlotNotServed,
            Some(range) if range.is_ours => Refusal::InTransit,
            Some(SlotRange { host, port, .. }) => Refusal::Moved(format!("{slot} {host}:{port}").into()),
        }
    })
}

/// A turn of the server's loop has ended: slots may change hands.
pub(crate) fn end_turn() {
    SLOTS.with(Option::take);
}

/// The server's tick: looks at those who wait, as many as fit one tick.
pub(crate) fn tick(context: &Context) {
    if !is_node() || QUEUES.with(|queues| queues.is_empty()) || !context.is_master() {
        return;
    }
    let now = clock::now();
    let is_due =
        LOOK.with(|look| look.as_ref().is_none_or(|look| look.is_over && look.began.plus_ms(LOOK_MS) <= now));
    if is_due {
        LOOK.with(|look| *look = Some(Look { began: now, last: None, is_over: false }));
    }
    for _ in 0..KEYS_PER_TICK {
        let Some(place) = next_to_look_at() else { return };
        waiting::turn_away(context, place.as_place());
    }
}

fn next_to_look_at() -> Option<OwnedPlace> {
    LOOK.with(|look| {
        let look = look.as_mut().filter(|look| !look.is_over)?;
        look.last = QUEUES.with(|queues| queues.waited_for_after(look.last.as_ref()));
        look.is_over = look.last.is_none();
        look.last.clone()
    })
}
