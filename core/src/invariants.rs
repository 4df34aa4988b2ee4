//! What must be true at any time, a predicate each, under its name. Tests check them after every step, debug builds at the
//! end of every turn.

use alloc::vec::Vec;

use crate::admission::Crowd;
use crate::hold::Hold;
use crate::holds::MOST_CHECKED;
use crate::lock::{Lock, Verdict};
use crate::queue::{Queues, Waiter};
use crate::time::{LONGEST_LEASE_MS, Moment};
use crate::token::Token;

/// Fences rise in the order in which the holds stand; so no two are the same.
pub fn fences_ascend(lock: &Lock) -> bool {
    lock.holds().iter().is_sorted_by(|a, b| a.fence() < b.fence())
}

/// There are never more holds than any of them tolerates.
pub fn holds_are_within_limits(lock: &Lock) -> bool {
    are_within_limits(lock.holds().iter())
}

fn are_within_limits<'a>(holds: impl Iterator<Item = &'a Hold>) -> bool {
    holds.map(Hold::limit).collect::<Crowd>().is_tolerated()
}

/// Of the holds whose leases run, there are never more than any of them tolerates.
pub fn live_holds_are_within_limits(lock: &Lock, now: Moment) -> bool {
    are_within_limits(lock.holds().iter().filter(|hold| hold.is_live(now)))
}

/// Nobody waits at the head of a queue who could be granted. True whenever a turn at the key has ended, and when no
/// place is marked and no lease is due; but not of a key that is not this server's, nor of one that may be held by somebody
/// who is not known.
pub fn head_has_to_wait(lock: &Lock, head: Option<&Waiter>, now: Moment) -> bool {
    head.is_none_or(|head| lock.judge(Some(&head.token), head.limit, now) == Verdict::Wait)
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

/// A level is at least one: a hold that is given back altogether is gone.
pub fn levels_are_positive(lock: &Lock) -> bool {
    lock.holds().iter().all(|hold| hold.level() >= 1)
}

/// No lease is longer than what can be asked for, and none ended before its hold was granted.
pub fn deadlines_follow_leases(lock: &Lock) -> bool {
    lock.holds().iter().all(|hold| hold.granted_at() <= hold.deadline() && lease_is_in_range(hold))
}

fn lease_is_in_range(hold: &Hold) -> bool {
    (1..=LONGEST_LEASE_MS).contains(&hold.lease_ms())
}

/// Whatever holds are found by leads to the same holds, and the sums that are kept of them are right.
pub fn index_is_consistent(lock: &Lock) -> bool {
    lock.holds().is_consistent()
}

/// In debug builds: what must be true of a lock whatever is asked of it, unless it is crowded. What holds are found by is
/// checked where it changes.
pub(crate) fn check_lock(lock: &Lock) {
    if lock.holds().len() > MOST_CHECKED {
        return;
    }
    debug_assert!(fences_ascend(lock), "fences ascend: {lock:?}");
    debug_assert!(levels_are_positive(lock), "levels are positive: {lock:?}");
    debug_assert!(deadlines_follow_leases(lock), "deadlines follow leases: {lock:?}");
}
