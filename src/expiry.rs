//! Work that no command asks for: marked keys, leases and waits that end, the end of the restart grace.
//!
//! Only a master ends leases. A replica keeps counting, in case it is promoted.

use lock_core::table::DueLock;
use lock_core::{DbKey, Moment};

use crate::cluster;
use crate::config;
use crate::perform;
use crate::redirect;
use crate::room;
use crate::server::clock;
use crate::server::ffi::{Context, guard, notice_anywhere};
use crate::state::TABLE;
use crate::timer;
use crate::waiting;

/// The most holds, and the most waits, that end in one iteration of the server's loop: about a millisecond of work each.
/// Then the server runs the commands of clients.
const ENDED_PER_ITERATION: usize = 512;

/// When to check a lease again if this node may not end it, in milliseconds.
const NOT_OURS_MS: u64 = 1000;

/// The server's tick: does the work of the timer if the timer is late. Otherwise it arms the timer, which cannot be armed
/// while data are loaded or another server is master.
pub(crate) fn tick(context: &Context) {
    let now = clock::now();
    end_grace(now);
    if TABLE.with(|table| table.next_due(config::restart_grace_ms())).is_some_and(|due| due <= now) {
        timer::disarm(context);
        sweep(context);
    } else {
        timer::arm(context);
    }
}

/// Ends the waits and the leases that are due, as many as fit one iteration, and arms the timer for the next.
pub(crate) fn sweep(context: &Context) {
    end_grace(clock::now());
    // Waits always end: no client waits longer than it asked to.
    time_out();
    if perform::may_decide(context) {
        open_what_is_over(context, clock::now());
        end_leases(context, clock::now());
        timer::arm(context);
    } else if context.is_master() {
        timer::arm_for_pause(context);
    }
}

fn end_grace(now: Moment) {
    let grace_ms = config::restart_grace_ms();
    if TABLE.with(|table| table.end_grace(grace_ms, now)) && grace_ms > 0 {
        notice_anywhere("restart-grace has ended");
    }
}

fn time_out() {
    let now = clock::now();
    for (client, answer) in TABLE.with(|table| table.time_out(now, ENDED_PER_ITERATION)) {
        waiting::answer(client, answer);
    }
}

/// Opens keys under which something else than a lock stands, and whose time to live is over while somebody waits for them: so
/// the server deletes them. It would do so by itself, but much later. Their waiters are served at the end of the iteration.
fn open_what_is_over(context: &Context, now: Moment) {
    for _ in 0..ENDED_PER_ITERATION {
        let Some(key) = TABLE.with(|table| table.take_look(now)) else { return };
        perform::at(context, key.as_key(), |name| perform::open(context, name));
    }
}

fn end_leases(context: &Context, now: Moment) {
    let mut left = ENDED_PER_ITERATION;
    while left > 0 {
        let Some(due) = TABLE.with(|table| table.due_lock(now)) else { return };
        // Put off first: should a fault of ours cut the turn short, the timer is not to come back to it at once.
        TABLE.with(|table| table.put_off(&due, now.plus_ms(NOT_OURS_MS)));
        let ended = guard(|| end_leases_of(context, &due, left)).unwrap_or(0);
        left = left.saturating_sub(ended.max(1));
    }
}

/// Does what is due at one lock, at most `at_most` of it; returns how much.
fn end_leases_of(context: &Context, due: &DueLock, at_most: usize) -> usize {
    let ended = perform::at(context, due.key.as_key(), |name| {
        if !cluster::may_expire(context, name) {
            // It stays put off.
            return Some(0);
        }
        perform::expire(context, name, due.id, at_most)
    });
    ended.flatten().unwrap_or_else(|| {
        // The entry has outlived its lock.
        TABLE.with(|table| table.forget_due(due));
        0
    })
}

/// Settles the keys that were marked, as many as there is room for in this iteration of the server's loop: what has to be
/// undone there is, and their queues are served. True if more is left that could be done at once.
pub(crate) fn settle_marked(context: &Context) -> bool {
    if TABLE.with(|table| table.is_unmarked()) {
        return false;
    }
    if !perform::may_decide(context) {
        timer::arm_for_pause(context);
        return false;
    }
    TABLE.with(|table| table.mark_left(room::left()));
    while room::left() > 0 {
        let Some(key) = TABLE.with(|table| table.marked()) else { break };
        room::take(1);
        settle(context, key.as_key());
    }
    !TABLE.with(|table| table.is_unmarked())
}

fn settle(context: &Context, key: DbKey<'_>) {
    let has_more = guard(|| perform::at(context, key, |name| perform::settle(context, name))).flatten();
    if has_more != Some(true) {
        // Where a value of another type stands nothing can be served, until it goes and the key is marked again; nor
        // where a fault of ours has cut the turn short.
        TABLE.with(|table| table.pass_over(key));
        redirect::turn_away(context, key);
    }
}
