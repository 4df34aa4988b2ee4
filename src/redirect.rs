//! Redirects the waiters of a key that this node no longer serves.
//!
//! The server does not redirect clients that a module has blocked. So the module does, when something happens at the
//! key, and by a check of all waiters about once a second. A waiter of a key whose slot is arriving was redirected
//! here. It keeps waiting until the slot has arrived.

use std::collections::BTreeSet;

use lock_core::answer::Answer;
use lock_core::{DbKey, Moment, OwnedDbKey};

use crate::cluster::{self, Served};
use crate::server::clock;
use crate::server::ffi::{Context, MainThread};
use crate::state::TABLE;
use crate::waiting;

/// How often all waiters are checked, in milliseconds.
const LOOK_MS: u64 = 1000;

/// The most keys checked in one tick of the server: about a millisecond of work.
const KEYS_PER_TICK: usize = 512;

/// Keys whose waiters wait for the arrival of the slot.
static ARRIVING: MainThread<BTreeSet<OwnedDbKey>> = MainThread::new(BTreeSet::new());

/// The latest check of all waiters.
static LOOK: MainThread<Option<Look>> = MainThread::new(None);

struct Look {
    began: Moment,
    /// The last key that was checked.
    last: Option<OwnedDbKey>,
    is_over: bool,
}

/// Redirects the waiters of a key if this node no longer serves it.
pub(crate) fn turn_away(context: &Context, key: DbKey<'_>) {
    if !cluster::is_node() || !TABLE.with(|table| table.queues().is_waited_for(key)) {
        return;
    }
    match cluster::served(context, key.key) {
        Served::Here => {
            if ARRIVING.with(|arriving| arriving.remove(&key.into())) {
                TABLE.with(|table| table.touched(key));
            }
        }
        Served::NotYet => {
            ARRIVING.with(|arriving| arriving.insert(key.into()));
        }
        Served::Elsewhere(refusal) => {
            ARRIVING.with(|arriving| arriving.remove(&key.into()));
            for client in TABLE.with(|table| table.dismiss(key)) {
                waiting::answer(client, Answer::Refused(refusal.clone()));
            }
        }
    }
}

/// The server's tick: checks waiters, as many as fit one tick.
pub(crate) fn tick(context: &Context) {
    if !cluster::is_node() || !context.is_master() {
        return;
    }
    if TABLE.with(|table| table.queues().is_empty()) {
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
        let Some(key) = next_to_look_at() else { return };
        turn_away(context, key.as_key());
    }
}

fn forget_who_left() {
    ARRIVING.with(|arriving| {
        TABLE.with(|table| arriving.retain(|key| table.queues().is_waited_for(key.as_key())));
    });
}

fn next_to_look_at() -> Option<OwnedDbKey> {
    LOOK.with(|look| {
        let look = look.as_mut().filter(|look| !look.is_over)?;
        look.last = TABLE.with(|table| table.queues().waited_for_after(look.last.as_ref()));
        look.is_over = look.last.is_none();
        look.last.clone()
    })
}
