//! The two clocks. Leases run on the monotonic clock, which nobody can set. Fences start from the wall clock, which servers
//! share.

use std::time::{SystemTime, UNIX_EPOCH};

use lock_core::Moment;

use super::ffi::{MainThread, monotonic_micros};

/// Now, on the server's monotonic clock.
pub(crate) fn now() -> Moment {
    // Microseconds for three hundred thousand years fit.
    Moment::from_micros(i64::try_from(monotonic_micros()).unwrap_or(i64::MAX))
}

/// How far the wall clock is ahead of the monotonic clock, if it was read in this iteration of the server's loop.
static AHEAD: MainThread<Option<i64>> = MainThread::new(None);

/// The wall clock at `now`, in microseconds since 1970, or 0 if it is set to an earlier time. It is read once in an
/// iteration of the server's loop.
pub(crate) fn wall_micros(now: Moment) -> u64 {
    let ahead =
        AHEAD.with(|ahead| *ahead.get_or_insert_with(|| wall_clock().saturating_sub(now.as_micros())));
    u64::try_from(now.as_micros().saturating_add(ahead)).unwrap_or(0)
}

/// An iteration of the server's loop has ended: the wall clock may have been set.
pub(crate) fn before_sleep() {
    AHEAD.with(Option::take);
}

fn wall_clock() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX)
}
