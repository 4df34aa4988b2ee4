//! Keyspace notifications: what happens to locks, as events of the module class (`notify-keyspace-events` with `d`).
//!
//! Each event is about a hold or a wait, so there are as many as INFO counts. A server that obeys a master or loads a file
//! sends none. Whoever listens to the keys' own events (`del`, `evicted`, `expired`) learns from those what other commands
//! and the server do to them.

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};

use lock_core::Outcome;
use lock_core::outcome::{Cause, Change, Ending};

use crate::server::ffi::{Context, RedisString, events_of_modules_are_sent};

/// Whether the server is set to send such events. So they cost nothing while it is not.
static ARE_SENT: AtomicBool = AtomicBool::new(false);

/// The settings of the server may have changed.
pub(crate) fn look() {
    ARE_SENT.store(events_of_modules_are_sent(), Ordering::Relaxed);
}

/// Whether anybody can listen.
pub(crate) fn are_sent() -> bool {
    ARE_SENT.load(Ordering::Relaxed)
}

/// Sends what a turn at a key has come to, in the order of its changes.
#[inline(never)] // mostly none are sent
pub(crate) fn send(context: &Context, key: RedisString<'_>, outcome: &Outcome) {
    for change in &outcome.changes {
        for ended in change.ended() {
            context.notify(end_of(ended.why), key);
        }
        let event = match change {
            Change::StringEnded(cause) => end_of_string(*cause),
            _ => change.cause().and_then(event_of),
        };
        if let Some(event) = event {
            context.notify(event, key);
        }
    }
}

/// Somebody has begun to wait for a lock.
pub(crate) fn send_waiting(context: &Context, key: RedisString<'_>) {
    if are_sent() {
        context.notify(c"lock.waiting", key);
    }
}

fn event_of(cause: Cause) -> Option<&'static CStr> {
    match cause {
        Cause::Granted { .. } => Some(c"lock.acquired"),
        Cause::Renewed | Cause::Extended => Some(c"lock.extended"),
        // The server sets the lease of a session unasked, and what is undone was told to nobody. The end of a hold is an
        // event of its own.
        Cause::Kept
        | Cause::Closed
        | Cause::Released
        | Cause::Broken
        | Cause::Undone
        | Cause::LeftToClaim
        | Cause::Applied => None,
    }
}

fn end_of_string(cause: Cause) -> Option<&'static CStr> {
    match cause {
        Cause::Released => Some(c"lock.released"),
        Cause::Broken => Some(c"lock.broken"),
        _ => None,
    }
}

fn end_of(why: Ending) -> &'static CStr {
    match why {
        Ending::Released | Ending::SessionClosed | Ending::Undone => c"lock.released",
        Ending::Lapsed | Ending::Unclaimed => c"lock.expired",
        Ending::Broken => c"lock.broken",
    }
}
