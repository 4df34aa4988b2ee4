//! The two clocks, each for its own purpose: leases run on the one that no operator can set, fences start from the
//! one that other servers share.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use lock_core::Moment;

/// Now, on a monotonic clock that starts with the module.
pub(crate) fn now() -> Moment {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(Instant::now);
    // Two hundred thousand years of microseconds fit.
    Moment::from_micros(i64::try_from(start.elapsed().as_micros()).unwrap_or(i64::MAX))
}

/// The wall clock in microseconds since 1970, 0 if it is set before that.
pub(crate) fn wall_micros() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX)
}
