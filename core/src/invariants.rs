//! What must be true at any time: one predicate for each invariant, with a name that says it. Tests check all of them
//! after every step. Debug builds check the cheap ones at the end of every turn. The numbers are those of
//! docs/design.md.

use alloc::vec::Vec;

use crate::admission::Crowd;
use crate::hold::Hold;
use crate::holds::MOST_CHECKED;
use crate::key::DbKey;
use crate::lock::{Lock, Verdict};
use crate::queue::{Queues, Waiter};
use crate::time::{LONGEST_LEASE_MS, Moment};
use crate::token::Token;

/// Fences rise in the order of the holds. So no two holds have one fence.
pub fn fences_ascend(lock: &Lock) -> bool {
    lock.holds().iter().is_sorted_by(|a, b| a.fence() < b.fence())
}

/// The weights of the holds together are no more than the smallest limit among them (G1), ended leases included (G12).
pub fn holds_are_within_limits(lock: &Lock) -> bool {
    are_within_limits(lock.holds().iter())
}

fn are_within_limits<'a>(holds: impl Iterator<Item = &'a Hold>) -> bool {
    holds.map(Hold::share).collect::<Crowd>().is_tolerated()
}

/// The weights of the live holds together are no more than the smallest limit among them (G1).
pub fn live_holds_are_within_limits(lock: &Lock, now: Moment) -> bool {
    are_within_limits(lock.holds().iter().filter(|hold| hold.is_live(now)))
}

/// The first waiter of a queue could not be granted the lock (G6). True at the end of every turn, unless the key is
/// marked, another node serves the key, or the restart grace lasts. Later a lease may end, so it is true only until one
/// is due.
pub fn head_has_to_wait(lock: &Lock, head: Option<&Waiter>, now: Moment) -> bool {
    head.is_none_or(|head| lock.judge(Some(&head.token), head.asked, now) == Verdict::Wait)
}

/// No client waits longer than it asked to. True after the waits that are due have ended.
pub fn nobody_waits_past_its_time(queues: &Queues, now: Moment) -> bool {
    queues.next_timeout().is_none_or(|until| now < until)
}

/// What is noted of the holds of a lock, to find owners that wait in a circle (G17), is what the lock has. True at the end of
/// every turn, and whenever a lock has left its key or has arrived.
pub fn noted_holds_are_those_of_the_lock(queues: &Queues, key: DbKey<'_>, lock: &Lock) -> bool {
    queues.waits_for.is_right_of(key, lock)
}

/// No two holds of a lock have one token.
pub fn tokens_are_unique(lock: &Lock) -> bool {
    let mut tokens: Vec<Token> = lock.holds().iter().map(Hold::token).collect();
    tokens.sort_unstable();
    tokens.is_sorted_by(|a, b| a != b)
}

/// Every level is at least 1. A hold whose level 1 is released has ended.
pub fn levels_are_positive(lock: &Lock) -> bool {
    lock.holds().iter().all(|hold| hold.level() >= 1)
}

/// Every lease is in the range that can be asked for, and ends no earlier than its hold was granted.
pub fn deadlines_follow_leases(lock: &Lock) -> bool {
    lock.holds().iter().all(|hold| hold.granted_at() <= hold.deadline() && lease_is_in_range(hold))
}

fn lease_is_in_range(hold: &Hold) -> bool {
    (1..=LONGEST_LEASE_MS).contains(&hold.lease_ms())
}

/// The holds can be found by fence, by token and by when they are due. All three find the same holds, and the sums of
/// limits that are stored with them are right.
pub fn index_is_consistent(lock: &Lock) -> bool {
    lock.holds().is_consistent()
}

/// In debug builds: checks what must be true of a lock at the end of every turn, unless it has very many holds. The
/// index is checked where it changes.
pub(crate) fn check_lock(lock: &Lock) {
    if lock.holds().len() > MOST_CHECKED {
        return;
    }
    debug_assert!(fences_ascend(lock), "fences ascend: {lock:?}");
    debug_assert!(levels_are_positive(lock), "levels are positive: {lock:?}");
    debug_assert!(deadlines_follow_leases(lock), "deadlines follow leases: {lock:?}");
}
