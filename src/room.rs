//! How much may follow from what clients ask for in one turn of the server's loop: hand-overs, holds that end with their
//! connections. The rest follows in the next turns, so that others are not kept waiting meanwhile, whatever a client does.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The most that may follow, see [`lock_core::Outcome::work`]: about five milliseconds of work.
const PER_TURN: usize = 1024;

static LEFT: AtomicUsize = AtomicUsize::new(PER_TURN);

/// How much may still follow in this turn.
pub(crate) fn left() -> usize {
    LEFT.load(Ordering::Relaxed)
}

/// So much has followed.
pub(crate) fn take(work: usize) {
    if work > 0 {
        LEFT.store(left().saturating_sub(work), Ordering::Relaxed);
    }
}

/// A turn of the loop ends: there is room again.
pub(crate) fn make() {
    LEFT.store(PER_TURN, Ordering::Relaxed);
}
