//! The one timer of the module, armed for what is due first.
//!
//! When that is given back early the timer stays, fires for nothing and is armed anew: that is cheaper than to move it with
//! every lock. The server keys its timers by the wall clock; where that is set back the timer is late, and the server's own
//! tick does its work ([`crate::expiry`]).

use std::sync::OnceLock;

use lock_core::Moment;

use crate::config;
use crate::server::clock;
use crate::server::ffi::{Context, Fire, MainThread, Timer};
use crate::state::TABLE;

/// How long to leave the server alone while it must not be written to, in milliseconds.
const PAUSE_MS: u64 = 10;

/// The timer that was started, and when it is to fire.
struct Armed {
    timer: Timer,
    at: Moment,
}

static ARMED: MainThread<Option<Armed>> = MainThread::new(None);

/// What is done when it fires.
static WORK: OnceLock<fn(&Context)> = OnceLock::new();

/// Says what is to be done when the timer fires. Once, before it is armed.
pub(crate) fn begin(work: fn(&Context)) {
    WORK.get_or_init(|| work);
}

/// Sees to it that the timer fires no later than what is due first.
pub(crate) fn arm(context: &Context) {
    if let Some(first) = TABLE.with(|table| table.next_due(config::restart_grace_ms())) {
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
        let timer = Timer::start::<Work>(context, clock::now().ms_until(at));
        ARMED.with(|armed| *armed = Some(Armed { timer, at }));
    }
}

/// Has the timer not fire, where what it is for is done now.
pub(crate) fn disarm(context: &Context) {
    if let Some(armed) = ARMED.with(Option::take) {
        armed.timer.stop(context);
    }
}

struct Work;

impl Fire for Work {
    fn fire(context: &Context) {
        // The server frees a timer that has fired: it must not be stopped any more.
        ARMED.with(Option::take);
        if let Some(work) = WORK.get() {
            work(context);
        }
    }
}
