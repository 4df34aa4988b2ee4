//! Waiting for a state. Nothing here waits for a time to pass and hopes.

use std::thread;
use std::time::{Duration, Instant};

/// How long a state may take that should come at once: a bound on hangs, far above what a loaded machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until `condition` holds; panics with `what` when it does not within `deadline`.
#[track_caller]
pub(crate) fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
