//! Ends leases: one timer of the server over the core's index of deadlines.
//!
//! The timer is armed for the earliest deadline. When that lock is given back early the timer stays, fires for
//! nothing and is armed anew: that is cheaper than to move it with every lock. The server keys its timers by the
//! wall clock; where that is set back the timer is late, and the server's own tick does its work.
//!
//! Only a master ends leases. A replica goes on counting, for the day it is promoted.

use lock_core::Moment;

use crate::perform::OpenLock;
use crate::server::clock;
use crate::server::ffi::{Context, Fire, MainThread, OwnedName, Timer};
use crate::state::STATE;

/// The most holds ended in one turn of the server's loop: about a millisecond's work, after which clients get their
/// turn.
const HOLDS_PER_TURN: usize = 512;

/// How long to leave the server alone while it must not be written to, in milliseconds.
const PAUSE_MS: u64 = 10;

/// The timer that was started, and when it is to fire.
struct Armed {
    timer: Timer,
    at: Moment,
}

static ARMED: MainThread<Option<Armed>> = MainThread::new(None);

/// Sees to it that the timer fires no later than the earliest deadline.
pub(crate) fn arm(context: &Context) {
    if let Some(deadline) = STATE.with(|state| state.deadlines.first().map(|due| due.deadline)) {
        arm_for(context, deadline);
    }
}

fn arm_for(context: &Context, at: Moment) {
    let is_early_enough = ARMED.with(|armed| armed.as_ref().is_some_and(|armed| armed.at <= at));
    if !is_early_enough && context.is_master() {
        disarm(context);
        let timer = Timer::start::<Sweep>(context, clock::now().ms_until(at));
        ARMED.with(|armed| *armed = Some(Armed { timer, at }));
    }
}

fn disarm(context: &Context) {
    if let Some(armed) = ARMED.with(Option::take) {
        armed.timer.stop(context);
    }
}

struct Sweep;

impl Fire for Sweep {
    fn fire(context: &Context) {
        // The server frees a timer that has fired: it must not be stopped any more.
        ARMED.with(Option::take);
        sweep(context);
    }
}

/// The server's tick: does the timer's work where the timer is late, and arms it where it never was because the data
/// were being loaded or another server was master.
pub(crate) fn tick(context: &Context) {
    if STATE.with(|state| state.deadlines.first_due(clock::now()).is_some()) {
        disarm(context);
        sweep(context);
    } else {
        arm(context);
    }
}

/// Ends the leases that are due, as many as fit one turn, and arms the timer for the next.
fn sweep(context: &Context) {
    if !context.is_master() {
        return;
    }
    let now = clock::now();
    if context.must_not_write() {
        arm_for(context, now.plus_ms(PAUSE_MS));
        return;
    }
    let mut ended = 0;
    while ended < HOLDS_PER_TURN
        && end_first_due(context, now, HOLDS_PER_TURN.saturating_sub(ended), &mut ended)
    {}
    arm(context);
}

/// Ends the leases of the lock that is due first; false when none is due.
fn end_first_due(context: &Context, now: Moment, at_most: usize, ended: &mut usize) -> bool {
    let due = STATE
        .with(|state| state.deadlines.first_due(now).map(|due| (due.database, due.key.to_vec(), due.slot)));
    let Some((database, key, slot)) = due else { return false };
    let name = OwnedName::new(context, &key);
    let open = match &name {
        Some(name) if context.select_database(database) => {
            OpenLock::open(context, name.name()).ok().flatten()
        }
        _ => None,
    };
    match open {
        Some(open) if open.lock().is_some_and(|lock| lock.slot == Some(slot)) => {
            *ended = ended.saturating_add(open.expire(now, at_most));
        }
        // The entry has outlived its lock.
        _ => STATE.with(|state| state.deadlines.remove(database, slot)),
    }
    true
}
