//! Those who wait for a key that is not served here any more are told where to go.
//!
//! The server tells none of it to clients that wait by the module's means. So they are told when something happens at the
//! key, and by a look at all of them about once a second. Who waits for a key whose slot is arriving was sent here, and goes
//! on waiting until it has arrived.

use std::collections::BTreeSet;

use lock_core::turn::Answer;
use lock_core::{DbKey, Moment, OwnedDbKey};

use crate::cluster::{self, Served};
use crate::server::clock;
use crate::server::ffi::{Context, MainThread};
use crate::state::TABLE;
use crate::waiting;

/// How often all who wait are looked at, in milliseconds.
const LOOK_MS: u64 = 1000;

/// The most keys looked at in one tick of the server: about a millisecond's work.
const KEYS_PER_TICK: usize = 512;

/// Where somebody was left waiting for the arrival of a slot, to be served then.
static ARRIVING: MainThread<BTreeSet<OwnedDbKey>> = MainThread::new(BTreeSet::new());

/// The look at all who wait that was begun last.
static LOOK: MainThread<Option<Look>> = MainThread::new(None);

struct Look {
    began: Moment,
    /// The last key looked at.
    last: Option<OwnedDbKey>,
    is_over: bool,
}

/// Tells those who wait for a key that is not served here any more where to go.
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

/// The server's tick: looks at those who wait, as many as fit one tick.
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
