//! Who came first is served first.
//!
//! From times alone nobody knows who stood in a queue before whom. But where LOCK.INFO has shown a request waiting, whoever
//! asks after that came later. And so did who asks after a ticket was told: its place is there until the last request is
//! sent that is told the same ticket, and if it was claimed in time, until it was granted.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Answer, Ask, History, Micros, Op};
use crate::holds::Hold;
use crate::looks::{Sighting, sightings};
use crate::tickets::{Place, Places};
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
pub(crate) fn check(history: &History, holds: &[Hold], places: &Places<'_>) -> Vec<Violation> {
    let seen = first_seen(history);
    let mut violations = Vec::new();
    // SET stands in no queue, and takes the lock when it finds it free.
    for hold in holds.iter().filter(|hold| hold.has_fence()) {
        if let Some(place) = places.at(&hold.key, hold.node).find(|place| is_overtaken(history, place, hold))
        {
            let what = format!(
                "{} was granted {} before {}, which had its place",
                hold.token, hold.key, place.token
            );
            let mut ops = vec![place.first, hold.granted];
            ops.push(place.granted.map_or(place.last, |(_, granted)| granted));
            violations.push(Violation { rule: Rule::Overtaking, what, ops });
            continue;
        }
        let Some(waiting) = seen.get(hold.key.as_str()) else { continue };
        // The grant was made from `earliest` to `from`; the other was waiting all the time. If it was granted the lock
        // meanwhile, the fences tell which came first.
        let overtaken = waiting.iter().find(|other| {
            let waits_on = match other.fence {
                Some(fence) => fence > hold.fence && other.until > hold.earliest,
                None => other.until > hold.from,
            };
            other.at < hold.asked
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

/// Whether this hold was granted while the place was kept, to somebody who asked after it was there.
fn is_overtaken(history: &History, place: &Place<'_>, hold: &Hold) -> bool {
    let granted = place.granted.filter(|(fence, _)| *fence > hold.fence);
    let end = granted.and_then(|(_, granted)| history.op(granted)).map_or(place.until, |op| op.answered);
    place.is_for_the_lock
        && place.token != hold.token
        && place.told < hold.asked
        && (granted.is_some() || hold.from < place.until)
        && !history.has_fault(place.told, end.max(hold.from), |fault| {
            fault.kind.unties() && fault.concerns(hold.node)
        })
        && !may_be_in_part(history, place, end)
}

/// Whether who keeps a place for several locks may have been granted them before, and have lost one of them to a time to
/// live: its next request is granted that one anew, and the fence is of that grant.
fn may_be_in_part(history: &History, place: &Place<'_>, end: Micros) -> bool {
    let parts = history.parts(place.first).filter_map(|part| history.op(part));
    let keys: Vec<&str> = parts.filter_map(|part| part.ask.key()).collect();
    keys.len() > 1
        && history.ops().iter().any(|op| {
            let Ask::Expire { key, .. } = &op.ask else { return false };
            keys.contains(&key.as_str()) && op.sent < end && op.answered > place.told
        })
}

fn same_node(history: &History, other: &Seen, hold: &Hold) -> bool {
    history.ops().get(other.place).is_some_and(|op| op.node == hold.node)
}

/// The requests that were seen waiting and got an answer from the lock, by key, each where it was seen first.
fn first_seen(history: &History) -> BTreeMap<&str, Vec<Seen>> {
    let (tokens, of_several) = (history.by_token(), history.of_several());
    let mut seen: BTreeMap<&str, Vec<Seen>> = BTreeMap::new();
    let mut known = BTreeSet::new();
    let sightings = sightings(history);
    // Who was seen waiting for one of several locks waits for all of them.
    let sightings =
        sightings.iter().flat_map(|Sighting { wait, look }| history.parts(*wait).map(|part| (part, *look)));
    for (place, look) in sightings {
        let (Some(wait), Some(at)) = (history.op(place), history.op(look).map(|look| look.answered)) else {
            continue;
        };
        let Ask::Acquire { key, token, block_ms: Some(block_ms), .. } = &wait.ask else { continue };
        let time_up = if *block_ms == 0 { wait.answered } else { wait.sent + block_ms * 1000 };
        let (until, fence) = match wait.answer {
            Answer::Granted(fence) => (wait.answered, Some(fence)),
            Answer::Null => (time_up.min(wait.answered), None),
            _ => continue,
        };
        let of_token = tokens.get(&(key.as_str(), token.as_str())).map_or(&[][..], Vec::as_slice);
        let beside = of_several.get(token.as_str()).map_or(&[][..], Vec::as_slice);
        let others =
            of_token.iter().chain(beside).filter(|other| history.origin(**other) != history.origin(place));
        let others = others.filter_map(|other| history.op(*other));
        let until = others.filter(|other| ends(other, wait)).map(|other| other.sent).fold(until, Micros::min);
        if known.insert(place) {
            seen.entry(key).or_default().push(Seen { at, look, until, place, fence });
        }
    }
    seen
}

/// Whether another request of the same token may end this wait: a release withdraws it, and a repetition takes its place.
fn ends(other: &Op, wait: &Op) -> bool {
    matches!(other.ask, Ask::Acquire { .. } | Ask::Release { .. })
        && other.may_fall_into(wait.sent, wait.answered)
}
