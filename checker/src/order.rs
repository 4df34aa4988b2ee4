//! Who came first is served first.
//!
//! From times alone nobody knows who stood in a queue before whom. But where LOCK.INFO has shown a request waiting, whoever
//! asks after that came later.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Answer, Ask, History, Micros};
use crate::holds::Hold;
use crate::{Rule, Violation};

/// A request that was seen waiting.
struct Seen {
    /// When the reply that shows it was there.
    at: Micros,
    /// The request that showed it.
    look: usize,
    /// Until when it certainly waited, unless it was granted before.
    until: Micros,
    /// Its place.
    place: usize,
    /// What it was granted, if it was.
    fence: Option<u64>,
}

/// Grants to those who came later, while one waited that was granted the lock after them or not at all.
pub fn check(history: &History, holds: &[Hold]) -> Vec<Violation> {
    let seen = first_seen(history);
    let mut violations = Vec::new();
    for hold in holds {
        let Some(waiting) = seen.get(hold.key.as_str()) else { continue };
        // The grant was made from `earliest` to `from`; the other was waiting all the time.
        let overtaken = waiting.iter().find(|other| {
            let waits_on = other.fence.map_or(other.until > hold.from, |fence| fence > hold.fence);
            other.at < hold.earliest
                && other.place != hold.granted
                && waits_on
                && same_node(history, other, hold)
        });
        if let Some(other) = overtaken {
            let name = history.ops().get(other.place).and_then(|op| op.ask.token()).unwrap_or_default();
            let what = format!("{} was granted {} before {name}, which waited already", hold.token, hold.key);
            let ops = vec![other.place, other.look, hold.granted];
            violations.push(Violation { rule: Rule::Overtaking, what, ops });
        }
    }
    violations
}

fn same_node(history: &History, other: &Seen, hold: &Hold) -> bool {
    history.ops().get(other.place).is_some_and(|op| op.node == hold.node)
}

/// The requests that were seen waiting and got an answer from the lock, by key, each where it was seen first.
fn first_seen(history: &History) -> BTreeMap<&str, Vec<Seen>> {
    let mut waits: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for (place, op) in history.ops().iter().enumerate() {
        if let Ask::Acquire { key, token, block_ms: Some(_), .. } = &op.ask {
            waits.entry((key, token)).or_default().push(place);
        }
    }
    let mut seen: BTreeMap<&str, Vec<Seen>> = BTreeMap::new();
    let mut known = BTreeSet::new();
    for (look, op) in history.ops().iter().enumerate() {
        let (Ask::Look { key }, Answer::Queue(tokens)) = (&op.ask, &op.answer) else { continue };
        for token in tokens {
            // A token that has asked more than once may have been seen with another request.
            let Some([place]) = waits.get(&(key.as_str(), token.as_str())).map(Vec::as_slice) else {
                continue;
            };
            let Some(wait) = history.ops().get(*place).filter(|_| known.insert(*place)) else { continue };
            let Ask::Acquire { block_ms: Some(block_ms), .. } = wait.ask else { continue };
            let time_up = if block_ms == 0 { wait.answered } else { wait.sent + block_ms * 1000 };
            let (until, fence) = match wait.answer {
                Answer::Granted(fence) => (wait.answered, Some(fence)),
                Answer::Null => (time_up, None),
                _ => continue,
            };
            seen.entry(key).or_default().push(Seen { at: op.answered, look, until, place: *place, fence });
        }
    }
    seen
}
