//! Ends leases and waits: one timer of the server over the core's indexes of what is due.
//!
//! The timer is armed for what is due first. When that lock is given back early the timer stays, fires for nothing and
//! is armed anew: that is cheaper than to move it with every lock. The server keys its timers by the wall clock; where
//! that is set back the timer is late, and the server's own tick does its work.
//!
//! Only a master ends leases. A replica goes on counting, for the day it is promoted.

use lock_core::{Moment, OwnedPlace};

use crate::grace;
use crate::perform::{self, OpenLock};
use crate::server::clock;
use crate::server::ffi::{Context, Fire, MainThread, Timer};
use crate::state::{DEADLINES, QUEUES};
use crate::waiting;

/// The most holds and waits ended in one turn of the server's loop: about a millisecond's work each, after which
/// clients get their turn.
const ENDED_PER_TURN: usize = 512;

/// How long to leave the server alone while it must not be written to, in milliseconds.
const PAUSE_MS: u64 = 10;

/// How long to leave a lease alone whose key is not this node's, in milliseconds.
const NOT_OURS_MS: u64 = 1000;

/// The timer that was started, and when it is to fire.
struct Armed {
    timer: Timer,
    at: Moment,
}

static ARMED: MainThread<Option<Armed>> = MainThread::new(None);

/// Sees to it that the timer fires no later than what is due first.
pub(crate) fn arm(context: &Context) {
    let lease = DEADLINES.with(|deadlines| deadlines.first().map(|due| due.deadline));
    let wait = QUEUES.with(|queues| queues.next_timeout());
    if let Some(first) = lease.into_iter().chain(wait).chain(grace::until()).min() {
        arm_for(context, first);
    }
}

/// Sees to it that there is another turn soon, though no client may ask for one: something is left to do that this turn
/// had no room for, or that must not be done yet.
pub(crate) fn arm_for_pause(context: &Context) {
    arm_for(context, clock::now().plus_ms(PAUSE_MS));
}

/// Sees to it that the timer fires no later than at this moment.
pub(crate) fn arm_for(context: &Context, at: Moment) {
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
    let now = clock::now();
    grace::end_if_over(now);
    let lease_is_due = DEADLINES.with(|deadlines| deadlines.first_due(now).is_some());
    let wait_is_due = QUEUES.with(|queues| queues.next_timeout().is_some_and(|until| until <= now));
    if lease_is_due || wait_is_due {
        disarm(context);
        sweep(context);
    } else {
        arm(context);
    }
}

/// Ends the waits and the leases that are due, as many as fit one turn, and arms the timer for the next.
fn sweep(context: &Context) {
    grace::end_if_over(clock::now());
    // Waits end whatever else may not be done: nobody waits longer than it asked to.
    waiting::time_out(ENDED_PER_TURN);
    if perform::may_decide(context) {
        end_leases(context, clock::now());
        arm(context);
    } else if context.is_master() {
        arm_for_pause(context);
    }
}

fn end_leases(context: &Context, now: Moment) {
    let mut left = ENDED_PER_TURN;
    while left > 0 {
        let due = DEADLINES
            .with(|deadlines| deadlines.first_due(now).map(|due| (OwnedPlace::from(due.place), due.slot)));
        let Some((place, slot)) = due else { return };
        let place = place.as_place();
        let ended = OpenLock::at(context, place, |open| {
            let is_noted_here = open.lock().is_some_and(|lock| lock.slot == Some(slot));
            is_noted_here.then(|| open.turn(now, |turn| turn.expire(left)))
        });
        let ended = ended.flatten();
        DEADLINES.with(|deadlines| match ended {
            Some(Some(_)) => {}
            Some(None) => deadlines.reschedule(place.database, slot, now.plus_ms(NOT_OURS_MS)),
            // The entry has outlived its lock.
            None => deadlines.remove(place.database, slot),
        });
        left = left.saturating_sub(ended.flatten().unwrap_or(1).max(1));
    }
}
