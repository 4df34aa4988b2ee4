//! The one timer of the module. It is armed for the lease or wait that ends first.
//!
//! If that lock is released early, the timer stays, fires without work to do, and is armed again. That is cheaper than
//! moving it with every lock. The server sorts its timers by the wall clock. If that clock is set back, the timer is
//! late, and the tick of the server does its work ([`crate::expiry`]).

use std::sync::OnceLock;

use lock_core::Moment;

use crate::config;
use crate::server::clock;
use crate::server::ffi::{Context, Fire, MainThread, Timer};
use crate::state::TABLE;

/// How long to wait before the next attempt while the server must not be written to, in milliseconds.
const PAUSE_MS: u64 = 10;

/// The timer that was started, and when it fires.
struct Armed {
    timer: Timer,
    at: Moment,
}

static ARMED: MainThread<Option<Armed>> = MainThread::new(None);

/// What the timer does when it fires.
static WORK: OnceLock<fn(&Context)> = OnceLock::new();

/// Sets what the timer does when it fires. Called once, before the timer is armed.
pub(crate) fn begin(work: fn(&Context)) {
    WORK.get_or_init(|| work);
}

/// Makes the timer fire no later than the first deadline.
pub(crate) fn arm(context: &Context) {
    if let Some(first) = TABLE.with(|table| table.next_due(config::restart_grace_ms())) {
        arm_for(context, first);
    }
}

/// Makes the timer fire soon, because work is left: more than fitted into this turn, or work that must not be done yet.
pub(crate) fn arm_for_pause(context: &Context) {
    arm_for(context, clock::now().plus_ms(PAUSE_MS));
}

/// Makes the timer fire no later than at this moment.
pub(crate) fn arm_for(context: &Context, at: Moment) {
    let is_early_enough = ARMED.with(|armed| armed.as_ref().is_some_and(|armed| armed.at <= at));
    if !is_early_enough && context.is_master() {
        disarm(context);
        let timer = Timer::start::<Work>(context, clock::now().ms_until(at));
        ARMED.with(|armed| *armed = Some(Armed { timer, at }));
    }
}

/// Stops the timer, because its work is done now.
pub(crate) fn disarm(context: &Context) {
    if let Some(armed) = ARMED.with(Option::take) {
        armed.timer.stop(context);
    }
}

struct Work;

impl Fire for Work {
    fn fire(context: &Context) {
        // The server frees a timer that has fired, so it must not be stopped any more.
        ARMED.with(Option::take);
        if let Some(work) = WORK.get() {
            work(context);
        }
    }
}
