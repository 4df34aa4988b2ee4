//! Which node of a cluster serves a key.
//!
//! The server redirects the command of a client to the node that serves its keys. It does not do that for what the
//! module does on its own account. So before the module grants a lock to a waiter, or ends a lease, it asks whether
//! this node serves the key. It does not when another node has the slot, when the slot is moving to another node and
//! the key has already left, when the slot has not arrived yet, or when the cluster is down.

use std::ffi::CStr;

use lock_core::Refusal;

use crate::server::ffi::{
    Context, MainThread, OwnContext, OwnedRedisString, Ownership, RedisString, SlotRange,
};

/// The server takes this command for a write to a key. It does nothing.
const OWNED: &CStr = c"LOCK.OWNED";

/// The context to ask through, if the server is a node of a cluster. It must not be the context of a running command:
/// within the command of a client that ASK has redirected here, the server would answer that the key is ours.
static ASKER: MainThread<Option<OwnContext>> = MainThread::new(None);

/// The slots as this node sees them, if they were read in this iteration of the server's loop.
static VIEW: MainThread<Option<View>> = MainThread::new(None);

struct View {
    served: Vec<SlotRange>,
    arriving: Vec<i64>,
}

/// Where the waiters of a key are served.
pub(crate) enum Served {
    Here,
    /// On this node, once the slot has arrived.
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

/// Whether this server may grant the lock under this key.
pub(crate) fn serves(key: RedisString<'_>) -> bool {
    ownership(key) == Ownership::Ours
}

/// Whether this server may end the leases of the lock under this key. It may when the key has arrived before its slot, and
/// while the cluster is down. It must not while the slot arrives as a whole: the other node still extends the leases then.
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

/// Where the waiters of a key are served.
pub(crate) fn served(context: &Context, key: &[u8]) -> Served {
    let Some(name) = OwnedRedisString::new(context, key) else { return Served::NotYet };
    match ownership(name.name()) {
        Ownership::Ours => Served::Here,
        Ownership::Down => Served::Elsewhere(Refusal::ClusterDown),
        Ownership::NotOurs => elsewhere(context, name.name()),
    }
}

/// Whether another node has this key, or is about to have it.
pub(crate) fn is_elsewhere(context: &Context, key: &[u8]) -> bool {
    matches!(served(context, key), Served::Elsewhere(Refusal::Moved(_) | Refusal::InTransit))
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

/// An iteration of the server's loop has ended: slots may move now.
pub(crate) fn before_sleep() {
    VIEW.with(Option::take);
}
