//! The time after a restart or a promotion in which nobody is granted anything that another may have been granted: see
//! [`lock_core::grace`]. How long it lasts is `lock.restart-grace`, and a change of that counts at once.

use lock_core::Moment;

use crate::config;
use crate::server::clock;
use crate::server::ffi::notice_anywhere;
use crate::state::{GRACE, QUEUES};

/// The data were loaded, or this server was promoted.
pub(crate) fn begin() {
    GRACE.with(|grace| grace.begin(clock::now()));
    let span_ms = config::restart_grace_ms();
    if span_ms > 0 {
        notice_anywhere(&format!(
            "restart-grace begins: for {span_ms} ms nobody is granted more than it is known to hold"
        ));
    }
}

/// Whether grants may have been lost.
pub(crate) fn is_on(now: Moment) -> bool {
    GRACE.with(|grace| grace.is_on(config::restart_grace_ms(), now))
}

/// When it is over, if there is one.
pub(crate) fn until() -> Option<Moment> {
    GRACE.with(|grace| grace.until(config::restart_grace_ms()))
}

/// Ends it when its time is over, and sees to it that those who waited for that are served.
pub(crate) fn end_if_over(now: Moment) {
    if GRACE.with(|grace| grace.end(config::restart_grace_ms(), now)) {
        QUEUES.with(|queues| queues.mark_all(None));
        if config::restart_grace_ms() > 0 {
            notice_anywhere("restart-grace has ended");
        }
    }
}
