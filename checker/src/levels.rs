//! Levels: an inner level is granted only to who holds the lock, and given back only once.
//!
//! - LOCK.ACQUIRE with a LEVEL above 1 never makes a hold. So the fence that it is told is one that a request of its token
//!   without such a level was granted, or may have been granted.
//! - LOCK.RELEASE with LEVEL n gives something back only if the hold was n deep: some request has asked for so much, and
//!   no release since has taken it away.
//!
//! That a hold is as deep as it was made is looked at where it is known to stand, in [`crate::holds`].

use crate::history::{Answer, Ask, History, Op};
use crate::{Rule, Violation};

/// Inner levels that were granted for nothing, or given back twice.
pub fn check(history: &History) -> Vec<Violation> {
    let mut violations = Vec::new();
    for places in history.by_token().values() {
        let ops: Vec<(usize, &Op)> =
            places.iter().filter_map(|place| Some((*place, history.op(*place)?))).collect();
        for (place, op) in &ops {
            let what = match (&op.ask, &op.answer) {
                (Ask::Acquire { key, token, level: Some(2..), .. }, Answer::Granted(fence))
                    if !ops.iter().any(|(_, other)| may_have_made(other, *fence, op)) =>
                {
                    format!("{token} was granted an inner level of {key}, and held nothing")
                }
                (Ask::Release { key, token, level: level @ 2.. }, Answer::Yes)
                    if !ops.iter().any(|(_, other)| may_have_deepened(history, &ops, other, *level, op)) =>
                {
                    format!("{token} gave level {level} of {key} back, and was not so deep")
                }
                _ => continue,
            };
            violations.push(Violation { rule: Rule::Level, what, ops: vec![*place] });
        }
    }
    violations
}

/// Whether a request may have been granted a new hold with this fence before `op` was answered. One that waits when its
/// server becomes a replica is told an error, and may have been granted the lock all the same. One with a ticket is told
/// when it asks again.
fn may_have_made(other: &Op, fence: u64, op: &Op) -> bool {
    let is_granted = match &other.answer {
        Answer::Granted(own) => *own == fence,
        Answer::Error(_) => true,
        answer => answer.is_open(),
    };
    matches!(other.ask, Ask::Acquire { .. })
        && !other.ask.is_inner()
        && other.sent < op.answered
        && is_granted
}

/// Whether a request may have made the hold as deep as that, with no release since that has certainly undone it.
fn may_have_deepened(history: &History, ops: &[(usize, &Op)], other: &Op, level: u16, op: &Op) -> bool {
    let Ask::Acquire { level: Some(deep), .. } = other.ask else { return false };
    if deep < level || other.answer.is_in_vain() || other.sent >= op.answered {
        return false;
    }
    let has_undone = |release: &Op| {
        matches!(release.ask, Ask::Release { level: given, .. } if given <= level)
            && release.answer.is_counted()
            && !other.answer.is_open()
            && release.sent >= other.answered
            && release.answered <= op.sent
            // Or else it may have been lost.
            && !history.has_fault(release.sent, op.answered, |fault| fault.kind.breaks_connections())
    };
    !ops.iter().any(|(_, release)| has_undone(release))
}
