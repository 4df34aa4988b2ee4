//! The events of the server, and the method of the table that handles each.
//!
//! When a key is deleted or overwritten, by whatever command, the server reports that to its value
//! ([`crate::datatype`]). The events here cover the rest: a value that arrives under another name, databases that are
//! flushed, and databases that are swapped. No callback here writes. The server replicates the running command after
//! what the callback would write, so a replica would lose the lock. The callbacks mark keys instead, and the marks are
//! settled at the end of the iteration or by the next command on that key.

use lock_core::ClientId;

use crate::cluster;
use crate::config;
use crate::consumers;
use crate::expiry;
use crate::guarded;
use crate::notifications;
use crate::perform;
use crate::redirect;
use crate::relocated;
use crate::replication;
use crate::room;
use crate::server::clock;
use crate::server::ffi::{
    Context, KeyspaceEvents, MainThread, RedisString, ServerEvents, notice_anywhere, wake_server,
};
use crate::slow;
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

    fn evicted(context: &Context, name: RedisString<'_>) {
        TABLE.with(|table| table.evicted(perform::db_key(context, name)));
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

    fn slots_left() {
        // Their waiters are redirected at the end of the iteration, and need not stay until the keys are dropped.
        TABLE.with(|table| table.slots_left());
        waiting::keep_awake();
    }

    fn ticked(context: &Context) {
        expiry::tick(context);
        redirect::tick(context);
        consumers::look(context);
    }

    fn forked(context: &Context) {
        consumers::may_have_come();
        // The event does not say which child process it is.
        if context.appends() && context.info_integer(c"persistence", c"aof_rewrite_in_progress") == Some(1) {
            FENCE_IS_DUE.with(|due| *due = true);
        }
    }

    fn saving() {
        consumers::may_have_come();
    }

    /// The end of an iteration of the server's loop: settles what happened to keys and connections, and answers clients.
    fn before_sleep(context: &Context) {
        relocated::find(context);
        relocated::find_moved_away(context);
        TABLE.with(|table| table.before_sleep());
        let has_more = expiry::settle_marked(context) | waiting::deliver();
        waiting::iteration_has_ended();
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

    /// The beginning of an iteration: settles what happened since the last one ended, before the server runs new
    /// commands. It answers no client yet, because CLIENT UNBLOCK may still come in this iteration.
    fn after_sleep(context: &Context) {
        waiting::iteration_begins();
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

    fn load_begins() {
        TABLE.with(|table| table.decides(false));
    }

    fn load_ended(context: &Context) {
        TABLE.with(|table| table.decides(context.has_master_role()));
    }

    fn modules_changed() {
        guarded::forget();
    }

    fn reconfigured(context: &Context) {
        notifications::look();
        slow::look(context);
        if MAY_EVICT.with(|may| *may) != evicts_locks(context) {
            warn_of_evictions(context);
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
            "restart-grace begins: for {grace_ms} ms no client is granted more than it is known to hold"
        ));
    }
}

/// Whether the server was last seen to be set to evict locks.
static MAY_EVICT: MainThread<bool> = MainThread::new(false);

fn evicts_locks(context: &Context) -> bool {
    context.setting(c"maxmemory-policy").is_some_and(|policy| policy.starts_with("allkeys-"))
}

/// Says so where locks can be evicted while somebody holds them.
fn warn_of_evictions(context: &Context) {
    let evicts = evicts_locks(context);
    MAY_EVICT.with(|may| *may = evicts);
    if evicts {
        context.warn(
            "with a maxmemory-policy of allkeys-* the server can evict locks that are held: use a volatile-* policy or \
             noeviction",
        );
    }
}

/// A new append-only file has been begun and still lacks the highest fence. The fence is written later, not in the
/// event: there the server would take the command that began the file for a write, and replicate it.
static FENCE_IS_DUE: MainThread<bool> = MainThread::new(false);

/// Writes the highest fence behind the locks in the new append-only file. If the file does not begin with a snapshot,
/// it holds no other fences than those of the current locks.
fn note_fence(context: &Context) {
    FENCE_IS_DUE.with(|due| *due = false);
    if !config::saves_fence() {
        return;
    }
    if let Some(fence) = TABLE.with(|table| table.last_fence()) {
        replication::note_fence(context, fence);
    }
}
