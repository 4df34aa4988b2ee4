//! Follows locks where other commands take their keys, so that a lease runs on wherever its lock went.
//!
//! A key that goes, by whatever command, is reported to its value ([`crate::perform::unlinked`]); what is left are the
//! ways of the server that do not: a value that arrives under another name, databases that are emptied as a whole,
//! and databases that change places.

use lock_core::Lock;

use crate::expiry;
use crate::perform;
use crate::replication;
use crate::server::ffi::{Context, Key, KeyspaceEvents, MainThread, Name, ServerEvents};
use crate::state::STATE;

pub(crate) struct Keyspace;

impl KeyspaceEvents for Keyspace {
    fn arrived(context: &Context, name: Name<'_>) {
        if let Ok(Some(mut key)) = Key::<Lock>::open_to_write(context, name) {
            perform::note_deadline(&mut key);
            expiry::arm(context);
        }
    }
}

impl ServerEvents for Keyspace {
    fn flushed(database: Option<i32>) {
        STATE.with(|state| state.deadlines.clear(database));
    }

    fn swapped(one: i32, other: i32) {
        STATE.with(|state| state.deadlines.swap(one, other));
    }

    fn ticked(context: &Context) {
        expiry::tick(context);
        if FENCE_IS_DUE.with(|due| *due) {
            note_fence(context);
        }
    }

    fn forked(context: &Context) {
        // Which child it is, the event does not say.
        if context.appends() && context.info_integer(c"persistence", c"aof_rewrite_in_progress") == Some(1) {
            note_fence(context);
        }
    }
}

/// A new append-only file has been begun while clients were paused, and still lacks the highest fence.
static FENCE_IS_DUE: MainThread<bool> = MainThread::new(false);

/// Writes the highest fence behind the locks in the append-only file that is being made anew: without a snapshot at
/// its head that file would begin with no fence but those of the locks that are held.
fn note_fence(context: &Context) {
    let postponed = context.must_not_write();
    FENCE_IS_DUE.with(|due| *due = postponed);
    if !postponed && let Some(fence) = STATE.with(|state| state.fences.last()) {
        replication::note_fence(context, fence);
    }
}
