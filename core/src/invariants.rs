//! What must be true at any time, a predicate each, under its name. Tests check them after every step, debug builds
//! wherever a lock was changed.

use alloc::vec::Vec;

use crate::hold::Hold;
use crate::lock::Lock;
use crate::token::Token;

/// Fences rise in the order in which the holds stand; so no two are the same.
pub fn fences_ascend(lock: &Lock) -> bool {
    lock.holds().is_sorted_by(|a, b| a.fence() < b.fence())
}

/// There are never more holds than any of them tolerates.
pub fn holds_are_within_limits(lock: &Lock) -> bool {
    let smallest = lock.holds().iter().map(|hold| hold.limit().most()).min();
    smallest.is_none_or(|smallest| lock.holds().len() <= smallest)
}

/// No two holds of a lock belong to one token.
pub fn tokens_are_unique(lock: &Lock) -> bool {
    let mut tokens: Vec<Token> = lock.holds().iter().map(Hold::token).collect();
    tokens.sort_unstable();
    tokens.is_sorted_by(|a, b| a != b)
}

/// A count is at least one: a hold that is given back altogether is gone.
pub fn counts_are_positive(lock: &Lock) -> bool {
    lock.holds().iter().all(|hold| hold.count() >= 1)
}

/// No lease is longer than what can be asked for: a deadline is never further off than the lease is long.
pub fn deadlines_follow_leases(lock: &Lock) -> bool {
    lock.holds().iter().all(|hold| hold.granted_at() <= hold.deadline() && lease_is_in_range(hold))
}

fn lease_is_in_range(hold: &Hold) -> bool {
    (1..=crate::time::LONGEST_LEASE_MS).contains(&hold.lease_ms())
}

/// In debug builds: all of the above.
pub(crate) fn check_lock(lock: &Lock) {
    debug_assert!(fences_ascend(lock), "fences ascend: {lock:?}");
    debug_assert!(counts_are_positive(lock), "counts are positive: {lock:?}");
    debug_assert!(deadlines_follow_leases(lock), "deadlines follow leases: {lock:?}");
}
