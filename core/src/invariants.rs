//! What must be true at any time, a predicate each, under its name. Tests check them after every step, debug builds
//! wherever a lock was changed.

use alloc::vec::Vec;

use crate::admission::Crowd;
use crate::fence::Fence;
use crate::hold::Hold;
use crate::lock::{Lock, Verdict};
use crate::queue::{Queues, Waiter};
use crate::time::Moment;
use crate::token::Token;

/// The rule that would not be kept if these holds, in this order, were put on a lock, each in place of the one that its
/// token owns: such a lock is neither loaded from a snapshot nor made at the word of another server. What is on the lock
/// is not walked over.
pub fn broken_rule(lock: &Lock, new: &[Hold]) -> Option<&'static str> {
    let on_it = lock.holds();
    let mut replaced: Vec<Fence> =
        new.iter().filter_map(|hold| on_it.find(&hold.token())).map(Hold::fence).collect();
    replaced.sort_unstable();
    let is_free = |fence| on_it.get(fence).is_none() || replaced.binary_search(&fence).is_ok();
    let crowd = on_it.crowd(None, &replaced).and(new.iter().map(Hold::limit).collect());
    let rules = [
        (!on_it.is_empty() || !new.is_empty(), "a lock is held"),
        (ascend(new) && new.iter().all(|hold| is_free(hold.fence())), "fences ascend"),
        (crowd.is_tolerated(), "holds are within limits"),
        (have_tokens_of_their_own(new), "tokens are unique"),
    ];
    rules.into_iter().find(|(is_kept, _)| !is_kept).map(|(_, rule)| rule)
}

/// Fences rise in the order in which the holds stand; so no two are the same.
pub fn fences_ascend(lock: &Lock) -> bool {
    ascend(lock.holds())
}

fn ascend<'a>(holds: impl IntoIterator<Item = &'a Hold>) -> bool {
    holds.into_iter().is_sorted_by(|a, b| a.fence() < b.fence())
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
    have_tokens_of_their_own(lock.holds())
}

fn have_tokens_of_their_own<'a>(holds: impl IntoIterator<Item = &'a Hold>) -> bool {
    let mut tokens: Vec<Token> = holds.into_iter().map(Hold::token).collect();
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
    (1..=crate::time::LONGEST_LEASE_MS).contains(&hold.lease_ms())
}

/// Whatever holds are found by leads to the same holds, and the sums that are kept of them are right.
pub fn index_is_consistent(lock: &Lock) -> bool {
    lock.holds().is_consistent()
}

/// The most holds that are walked over for a check after every change. What a larger index changes it checks itself.
pub(crate) const MOST_CHECKED: usize = 32;

/// In debug builds: all of the above, unless the lock is crowded.
pub(crate) fn check_lock(lock: &Lock) {
    if lock.holds().len() > MOST_CHECKED {
        return;
    }
    debug_assert!(fences_ascend(lock), "fences ascend: {lock:?}");
    debug_assert!(levels_are_positive(lock), "levels are positive: {lock:?}");
    debug_assert!(deadlines_follow_leases(lock), "deadlines follow leases: {lock:?}");
}
