//! How much work may follow from what clients do in one iteration of the server's loop: hand-overs, and holds that end with
//! their connections. The rest follows in the next iterations, so that one client cannot block the others.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The most work in an iteration, see [`lock_core::Outcome::work`]: about five milliseconds of work.
const PER_ITERATION: usize = 1024;

static LEFT: AtomicUsize = AtomicUsize::new(PER_ITERATION);

/// How much work may still be done in this iteration.
pub(crate) fn left() -> usize {
    LEFT.load(Ordering::Relaxed)
}

/// So much work was done.
pub(crate) fn take(work: usize) {
    if work > 0 {
        LEFT.store(left().saturating_sub(work), Ordering::Relaxed);
    }
}

/// An iteration of the loop ends, and the next one begins with all of its room.
pub(crate) fn make() {
    LEFT.store(PER_ITERATION, Ordering::Relaxed);
}
