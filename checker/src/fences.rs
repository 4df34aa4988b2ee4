//! Fences rise in the order of grants: if the reply to one grant was there before another can have been made, the other
//! has the larger fence. And no two grants have the same, but those of
//! several locks by one request. What SET has granted has no fence.

use std::collections::BTreeMap;

use crate::history::{Answer, Ask, History};
use crate::holds::Hold;
use crate::{FenceScope, Rule, Violation};

/// Where a fence is not above one that was granted before. One for each such grant.
pub fn check(history: &History, holds: &[Hold], scope: FenceScope) -> Vec<Violation> {
    let mut violations = BTreeMap::new();
    for group in groups(holds, scope) {
        for (earlier, later) in falls(&group) {
            if are_one(history, earlier, later) {
                continue;
            }
            violations.entry(later.granted).or_insert_with(|| {
                let what = format!(
                    "{} was granted {} under fence {}, after {} had been granted {} under {}",
                    later.token, later.key, later.fence, earlier.token, earlier.key, earlier.fence
                );
                Violation { rule: Rule::Fence, what, ops: vec![earlier.granted, later.granted] }
            });
        }
    }
    violations.into_values().collect()
}

/// Whether both holds have come of one request for several locks.
fn are_one(history: &History, hold: &Hold, other: &Hold) -> bool {
    if hold.token != other.token || hold.fence != other.fence || hold.key == other.key {
        return false;
    }
    let may_have_made = |place: &usize| {
        history.op(*place).is_some_and(|op| {
            op.ask.token() == Some(&hold.token)
                && op.ask.key() == Some(&hold.key)
                && matches!(op.ask, Ask::Acquire { .. })
                && op.answer != Answer::Null
        })
    };
    let names_other = |place| {
        let mut parts = history.parts(place).filter_map(|part| history.op(part));
        parts.any(|op| op.ask.key() == Some(&other.key))
    };
    (0..history.ops().len()).filter(may_have_made).any(names_other)
}

/// The grants whose fences have to rise together.
fn groups(holds: &[Hold], scope: FenceScope) -> Vec<Vec<&Hold>> {
    let holds = holds.iter().filter(|hold| hold.has_fence());
    if scope == FenceScope::OneSequence {
        return vec![holds.collect()];
    }
    let (mut nodes, mut keys) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
    for hold in holds {
        nodes.entry(hold.node).or_default().push(hold);
        keys.entry(&hold.key).or_default().push(hold);
    }
    nodes.into_values().chain(keys.into_values()).collect()
}

/// Grants with the grant before them over which they should have risen.
fn falls<'a>(group: &[&'a Hold]) -> Vec<(&'a Hold, &'a Hold)> {
    let mut by_answer = group.to_vec();
    by_answer.sort_by_key(|hold| hold.from);
    let mut by_earliest = group.to_vec();
    by_earliest.sort_by_key(|hold| hold.earliest);

    let (mut falls, mut highest, mut known) = (Vec::new(), None::<&Hold>, by_answer.into_iter().peekable());
    let mut seen = BTreeMap::<u64, &Hold>::new();
    for hold in by_earliest {
        while let Some(before) = known.next_if(|before| before.from < hold.earliest) {
            highest = highest.filter(|highest| highest.fence > before.fence).or(Some(before));
        }
        falls.extend(highest.filter(|highest| highest.fence >= hold.fence).map(|highest| (highest, hold)));
        falls.extend(seen.insert(hold.fence, hold).map(|same| (same, hold)));
    }
    falls
}
