//! Whose a key is, where the server is a node of a cluster.
//!
//! The server sees to it that a client's command comes to the node that serves its keys. What the module does on its own
//! account nobody sees to: so before it grants a lock to somebody who waited, or ends a lease, it asks whether this node
//! serves the key. It does not where the slot is another node's, where it is on its way there and the key has gone
//! already, where it is still to arrive, or where the cluster is down.

use std::ffi::CStr;

use lock_core::Refusal;

use crate::server::ffi::{
    Context, MainThread, OwnContext, OwnedRedisString, Ownership, RedisString, SlotRange,
};

/// Writes to a key, in the server's eyes, and does nothing.
const OWNED: &CStr = c"LOCK.OWNED";

/// Through which to ask, where the server is a node of a cluster; it is one, or not, as long as it runs. Within the command
/// of a client that was sent here by ASK, the server would answer as it answers that client: that the key is ours.
static ASKER: MainThread<Option<OwnContext>> = MainThread::new(None);

/// What the cluster looks like from here, once somebody had to know in this turn of the server's loop.
static VIEW: MainThread<Option<View>> = MainThread::new(None);

struct View {
    served: Vec<SlotRange>,
    arriving: Vec<i64>,
}

/// Where those who wait for a key are served.
pub(crate) enum Served {
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
pub(crate) fn serves(key: RedisString<'_>) -> bool {
    ownership(key) == Ownership::Ours
}

/// Whether the leases of a lock under this key are this server's to end. They are where the key has come ahead of its slot,
/// and while the cluster is down; they are not where the whole slot is still to come, and the other node still extends
/// them.
pub(crate) fn may_expire(context: &Context, key: RedisString<'_>) -> bool {
    match ownership(key) {
        Ownership::Ours | Ownership::Down => true,
        Ownership::NotOurs => matches!(elsewhere(context, key), Served::NotYet),
    }
}

fn ownership(key: RedisString<'_>) -> Ownership {
    ASKER.with(|asker| match asker {
        Some(asker) => asker.as_context().ask_ownership(OWNED, key),
        None => Ownership::Ours,
    })
}

/// Where those who wait for a key are served.
pub(crate) fn served(context: &Context, key: &[u8]) -> Served {
    let Some(name) = OwnedRedisString::new(context, key) else { return Served::NotYet };
    match ownership(name.name()) {
        Ownership::Ours => Served::Here,
        Ownership::Down => Served::Elsewhere(Refusal::ClusterDown),
        Ownership::NotOurs => elsewhere(context, name.name()),
    }
}

fn elsewhere(context: &Context, key: RedisString<'_>) -> Served {
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
pub(crate) fn before_sleep() {
    VIEW.with(Option::take);
}
