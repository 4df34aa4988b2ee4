//! Every event of the server, and what it means for the locks: mostly a line that says which method of the table it is.
//!
//! A key that goes, by whatever command, is reported to its value ([`crate::datatype`]); what is left are the ways of the
//! server that do not: a value that arrives under another name, databases that are emptied as a whole, and databases that
//! change places. None of these callbacks writes: what the server passes on for the command that is running comes after
//! what they would write, and a replica would lose the lock. They mark keys, which are settled at the end of the turn or by
//! the next command on that key.

use lock_core::ClientId;

use crate::cluster;
use crate::config;
use crate::consumers;
use crate::expiry;
use crate::perform;
use crate::redirect;
use crate::relocated;
use crate::replication;
use crate::room;
use crate::server::clock;
use crate::server::ffi::{
    Context, KeyspaceEvents, MainThread, RedisString, ServerEvents, notice_anywhere, wake_server,
};
use crate::state::TABLE;
use crate::waiting;
use crate::writes;

pub(crate) struct Events;

impl KeyspaceEvents for Events {
    fn touched(context: &Context, name: RedisString<'_>) {
        if !TABLE.with(|table| table.queues().is_empty()) {
            TABLE.with(|table| table.touched(perform::db_key(context, name)));
            waiting::keep_awake();
        }
    }

    fn arrived(context: &Context, name: RedisString<'_>) {
        relocated::arrived(context, name);
    }

    fn moved(name: RedisString<'_>) {
        relocated::key_moved(name.bytes());
    }
}

impl ServerEvents for Events {
    fn flushed(database: Option<i32>) {
        TABLE.with(|table| table.flushed(database));
        waiting::keep_awake();
    }

    fn swapped(one: i32, other: i32) {
        TABLE.with(|table| table.swapped(one, other));
        waiting::keep_awake();
    }

    fn ticked(context: &Context) {
        expiry::tick(context);
        redirect::tick(context);
        consumers::look(context);
    }

    fn forked(context: &Context) {
        consumers::may_have_come();
        // Which child it is, the event does not say.
        if context.appends() && context.info_integer(c"persistence", c"aof_rewrite_in_progress") == Some(1) {
            FENCE_IS_DUE.with(|due| *due = true);
        }
    }

    fn saving() {
        consumers::may_have_come();
    }

    /// The end of a turn of the server's loop: what happened to keys and connections is followed up, and who is to be
    /// answered is.
    fn before_sleep(context: &Context) {
        relocated::find(context);
        TABLE.with(|table| table.before_sleep());
        let has_more = expiry::settle_marked(context) | waiting::deliver();
        waiting::turn_has_ended();
        room::make();
        if has_more {
            wake_server();
        }
        cluster::before_sleep();
        clock::before_sleep();
        writes::before_sleep();
        if FENCE_IS_DUE.with(|due| *due) && !context.must_not_write() {
            note_fence(context);
        }
    }

    /// The beginning of a turn: what happened since the last one ended is followed up before anything that clients have sent
    /// meanwhile. Nobody is answered yet: CLIENT UNBLOCK may still come in this turn.
    fn after_sleep(context: &Context) {
        waiting::turn_begins();
        expiry::settle_marked(context);
    }

    fn opened(client: ClientId) {
        TABLE.with(|table| table.opened(client));
    }

    fn closed(client: ClientId) {
        waiting::closed(client);
    }

    fn role_changed(context: &Context, is_master: bool) {
        consumers::may_have_come();
        if is_master {
            TABLE.with(|table| table.promoted(clock::now()));
            say_that_grace_begins();
        } else {
            perform::demoted(context);
        }
    }

    fn loaded() {
        TABLE.with(|table| table.data_loaded(clock::now()));
        say_that_grace_begins();
    }
}

fn say_that_grace_begins() {
    let grace_ms = config::restart_grace_ms();
    if grace_ms > 0 {
        notice_anywhere(&format!(
            "restart-grace begins: for {grace_ms} ms nobody is granted more than it is known to hold"
        ));
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
    if let Some(fence) = TABLE.with(|table| table.last_fence()) {
        replication::note_fence(context, fence);
    }
}
