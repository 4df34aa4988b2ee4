//! What must be true at any time, a predicate each, under its name. Tests check them after every step, debug builds
//! wherever a lock was changed.

use alloc::vec::Vec;

use crate::hold::Hold;
use crate::lock::{Lock, Verdict};
use crate::queue::{Queues, Waiter};
use crate::time::Moment;
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

/// Of the holds whose leases run, there are never more than any of them tolerates.
pub fn live_holds_are_within_limits(lock: &Lock, now: Moment) -> bool {
    let smallest = lock.live_holds(now).map(|hold| hold.limit().most()).min();
    smallest.is_none_or(|smallest| lock.live_holds(now).count() <= smallest)
}

/// Nobody waits at the head of a queue who could be granted. True whenever a turn at the key has ended, and when no
/// place is marked and no lease is due; but not of a key that is not this server's, nor of one that may be held by somebody
/// who is not known.
pub fn head_has_to_wait(lock: &Lock, head: Option<&Waiter>, now: Moment) -> bool {
    head.is_none_or(|head| lock.judge(Some(&head.token), head.limit, now) == Verdict::Refuse)
}

/// Nobody waits longer than it asked to. True once the waits that are due were ended.
pub fn nobody_waits_past_its_time(queues: &Queues, now: Moment) -> bool {
    queues.next_timeout().is_none_or(|until| now < until)
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

/// No lease is longer than what can be asked for, and none ended before its hold was granted.
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
