//! Waiting for a state. Nothing here waits for a time to pass and hopes.

use std::thread;
use std::time::{Duration, Instant};

/// How long a state may take that should come at once: a bound on hangs, far above what a loaded machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How long a state may take that servers agree on among themselves, in steps of seconds, or that waits for the disk many
/// times. Not for what the end of a lease would bring about too: a lease may end within that time.
pub(crate) const LONG_PATIENCE: Duration = Duration::from_secs(60);

/// How far the readings of two clocks may be apart for a span of so many milliseconds. Each shows whole milliseconds; and a
/// server that counts the ticks of the processor, as Valkey does from 9 on, knows their rate to a few parts in ten thousand.
pub(crate) fn apart_ms(span_ms: i64) -> i64 {
    1 + span_ms / 1_000
}

/// What is left for the tick of a server that ticks once a second comes later than this, more often than not.
const AT_ONCE: Duration = Duration::from_millis(400);

/// Each `delay` is how long it took until somebody was told, on a server that ticks once a second. Nobody is left for the tick:
/// of three delays two are short. A machine that stalls makes one of them long; the tick comes late for most.
#[track_caller]
pub(crate) fn at_once(what: &str, mut delay: impl FnMut() -> Duration) {
    let mut delays = [delay(), delay(), delay()];
    delays.sort();
    assert!(delays[1] < AT_ONCE, "{what}: told after {delays:?}");
}

/// Polls until `condition` holds; panics with `what` when it does not within `deadline`.
#[track_caller]
pub(crate) fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
