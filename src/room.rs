//! How much work may follow from what clients do in one turn of the server's loop: hand-overs, and holds that end with
//! their connections. The rest follows in the next turns, so that one client cannot block the others.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The most work in a turn, see [`lock_core::Outcome::work`]: about five milliseconds of work.
const PER_TURN: usize = 1024;

static LEFT: AtomicUsize = AtomicUsize::new(PER_TURN);

/// How much work may still be done in this turn.
pub(crate) fn left() -> usize {
    LEFT.load(Ordering::Relaxed)
}

/// So much work was done.
pub(crate) fn take(work: usize) {
    if work > 0 {
        LEFT.store(left().saturating_sub(work), Ordering::Relaxed);
    }
}

/// A turn of the loop ends, and the next one begins with all of its room.
pub(crate) fn make() {
    LEFT.store(PER_TURN, Ordering::Relaxed);
}
