//! What was lost where Redis does not promise to keep it, and what a resource that looks at fences would have made of it.

use std::collections::BTreeMap;

use crate::history::{Answer, Ask, History, Op};
use crate::holds::Hold;
use crate::{FenceScope, admission, fences, holds};

/// Counts, for a history of a set-up that may lose acknowledged writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Grants.
    pub grants: usize,
    /// Grants while others certainly held the lock.
    pub overlaps: usize,
    /// Holders who learned that they do not hold the lock any more, before their lease was over.
    pub early_ends: usize,
    /// Grants whose fence is not above one that was granted before.
    pub fallen_fences: usize,
    /// Writes of holders after a write of somebody who was granted the lock later.
    pub overtaken_writes: usize,
    /// How many of those a resource has let through that refuses fences below the highest it has seen.
    pub let_through: usize,
}

/// Counts what was lost, and the fences that do not rise where they have to.
pub fn count(history: &History, scope: FenceScope) -> Losses {
    let found = holds::derive(history);
    let mut losses = Losses {
        grants: found.holds.len(),
        overlaps: admission::check(history, &found.holds).len(),
        early_ends: found.early_ends.len(),
        fallen_fences: fences::check(&found.holds, scope).len(),
        ..Losses::default()
    };
    for (op, overtaken) in writes(history, &found.holds) {
        losses.overtaken_writes += usize::from(overtaken);
        losses.let_through += usize::from(overtaken && op.answer == Answer::Done);
    }
    losses
}

/// Every write, and whether somebody who was granted the lock later had written already.
fn writes<'a>(history: &'a History, holds: &'a [Hold]) -> Vec<(&'a Op, bool)> {
    let by_name: BTreeMap<(&str, &str, u64), &Hold> =
        holds.iter().map(|hold| ((hold.key.as_str(), hold.token.as_str(), hold.fence), hold)).collect();
    // The latest grant of those who have written, by the first moment at which it can have been made.
    let mut latest: BTreeMap<&str, &Hold> = BTreeMap::new();
    let mut writes = Vec::new();
    for op in history.ops() {
        let Ask::Write { key, token, fence } = &op.ask else { continue };
        let Some(hold) = by_name.get(&(key.as_str(), token.as_str(), *fence)) else { continue };
        let last = latest.entry(key).or_insert(hold);
        writes.push((op, last.earliest > hold.from));
        if hold.earliest > last.earliest {
            *last = hold;
        }
    }
    writes
}
