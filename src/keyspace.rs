//! Follows locks where other commands take their keys, so that a lease runs on wherever its lock went and whoever waits
//! is served when a key is free.
//!
//! A key that goes, by whatever command, is reported to its value ([`crate::perform::unlinked`]); what is left are the
//! ways of the server that do not: a value that arrives under another name, databases that are emptied as a whole, and
//! databases that change places. None of these callbacks writes: what the server passes on for the command that is
//! running comes after what they would write, and a replica would lose the lock. They mark places, which are settled at
//! the end of the turn or by the next command on that key.

use lock_core::{ClientId, Place};

use crate::cluster;
use crate::config;
use crate::expiry;
use crate::grace;
use crate::listeners;
use crate::moves;
use crate::perform;
use crate::replication;
use crate::server::clock;
use crate::server::ffi::{Context, KeyspaceEvents, MainThread, Name, ServerEvents};
use crate::state::{DEADLINES, FENCES, QUEUES, TIES};
use crate::waiting;
use crate::writes;

pub(crate) struct Keyspace;

impl KeyspaceEvents for Keyspace {
    fn touched(context: &Context, name: Name<'_>) {
        if !QUEUES.with(|queues| queues.is_empty()) {
            let place = Place { database: context.database(), key: name.bytes() };
            QUEUES.with(|queues| queues.mark(place));
            waiting::keep_awake();
        }
    }

    fn arrived(context: &Context, name: Name<'_>) {
        perform::arrived(context, name);
    }

    fn moved(name: Name<'_>) {
        moves::key_moved(name.bytes());
    }
}

impl ServerEvents for Keyspace {
    fn flushed(database: Option<i32>) {
        DEADLINES.with(|deadlines| deadlines.clear(database));
        QUEUES.with(|queues| queues.mark_all(database));
        waiting::keep_awake();
    }

    fn swapped(one: i32, other: i32) {
        DEADLINES.with(|deadlines| deadlines.swap(one, other));
        TIES.with(|ties| ties.swap(one, other));
        QUEUES.with(|queues| queues.swap(one, other));
        waiting::keep_awake();
    }

    fn ticked(context: &Context) {
        expiry::tick(context);
        cluster::tick(context);
        listeners::look(context);
    }

    fn forked(context: &Context) {
        listeners::may_have_come();
        // Which child it is, the event does not say.
        if context.appends() && context.info_integer(c"persistence", c"aof_rewrite_in_progress") == Some(1) {
            FENCE_IS_DUE.with(|due| *due = true);
        }
    }

    fn saving() {
        listeners::may_have_come();
    }

    fn turned(context: &Context) {
        moves::find(context);
        waiting::end_turn(context);
        cluster::end_turn();
        clock::end_turn();
        writes::end_turn();
        if FENCE_IS_DUE.with(|due| *due) && !context.must_not_write() {
            note_fence(context);
        }
    }

    fn awoke(context: &Context) {
        waiting::begin_turn(context);
    }

    fn opened(client: ClientId) {
        waiting::opened(client);
    }

    fn closed(client: ClientId) {
        waiting::closed(client);
    }

    fn role_changed(context: &Context, is_master: bool) {
        listeners::may_have_come();
        if is_master {
            grace::begin();
        } else {
            perform::demoted(context);
            waiting::demoted();
        }
    }

    fn loaded() {
        grace::begin();
    }
}

/// A new append-only file has been begun, and still lacks the highest fence. It is not written where this is noticed: the
/// command that began the file would be taken for one that has changed data, and be passed on itself.
static FENCE_IS_DUE: MainThread<bool> = MainThread::new(false);

/// Writes the highest fence behind the locks in the append-only file that is being made anew: without a snapshot at
/// its head that file would begin with no fence but those of the locks that are held.
fn note_fence(context: &Context) {
    FENCE_IS_DUE.with(|due| *due = false);
    if !config::saves_fence() {
        return;
    }
    if let Some(fence) = FENCES.with(|fences| fences.last()) {
        replication::note_fence(context, fence);
    }
}
