//! What was lost where Redis does not promise to keep it, and what a resource that looks at fences would have made of it.

use std::collections::BTreeMap;

use crate::history::{Answer, Ask, History};
use crate::holds::Hold;
use crate::{Rule, Terms, admission, fences, holds};

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
    /// Writes of holders after somebody who was granted the lock later had come to write.
    pub overtaken_writes: usize,
    /// Writes of holders, after a write of somebody who was granted the lock later, which a resource let through that
    /// refuses fences below the highest it has seen.
    pub let_through: usize,
    /// Writes that it refused to a holder who was granted the lock after all who had written.
    pub turned_away: usize,
}

/// Counts what was lost, and the fences that do not rise where they have to.
pub fn count(history: &History, terms: &Terms) -> Losses {
    let history = &history.by_key();
    let found = holds::derive(history, terms.loses_writes);
    let mut losses = Losses {
        grants: found.holds.len(),
        overlaps: admission::check(history, &found.holds).len(),
        early_ends: found.broken.iter().filter(|found| found.rule == Rule::EarlyEnd).count(),
        fallen_fences: fences::check(history, &found.holds, terms.fences).len(),
        ..Losses::default()
    };
    count_writes(history, &found.holds, &mut losses);
    losses
}

/// Who was granted a lock last of those who came to write, and of those whose writes were taken.
struct Latest<'a> {
    came: &'a Hold,
    written: Option<&'a Hold>,
}

fn count_writes(history: &History, holds: &[Hold], losses: &mut Losses) {
    let by_name: BTreeMap<(&str, &str, u64), &Hold> =
        holds.iter().map(|hold| ((hold.key.as_str(), hold.token.as_str(), hold.fence), hold)).collect();
    // By when their replies came: that is no proof of the order, but this only counts.
    let is_later = |hold: &Hold, other: &Hold| hold.from > other.from;
    let mut latest: BTreeMap<&str, Latest<'_>> = BTreeMap::new();
    for op in history.ops() {
        let Ask::Write { key, token, fence } = &op.ask else { continue };
        let Some(hold) = by_name.get(&(key.as_str(), token.as_str(), *fence)) else { continue };
        let latest = latest.entry(key).or_insert(Latest { came: hold, written: None });
        let is_overtaken = is_later(latest.came, hold);
        losses.overtaken_writes += usize::from(is_overtaken);
        if is_later(hold, latest.came) {
            latest.came = hold;
        }
        if op.answer == Answer::Done {
            losses.let_through += usize::from(latest.written.is_some_and(|written| is_later(written, hold)));
            if latest.written.is_none_or(|written| is_later(hold, written)) {
                latest.written = Some(hold);
            }
        } else {
            let is_certainly_later = latest.written.is_some_and(|written| hold.earliest > written.from);
            losses.turned_away += usize::from(is_certainly_later);
        }
    }
}
