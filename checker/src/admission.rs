//! The rule of admission: `the weights of all holds + its own <= the smallest limit among the holds and the request`. It goes
//! for a new hold, and for one that asks for another limit or weight, which is left out of the sum itself.
//!
//! It is looked at in two ways, each of which sees what the other does not:
//!
//! - When a hold is known to stand, those that certainly stand beside it must tolerate each other. This sees two grants
//!   made at the same time.
//! - A grant must have been admissible beside those that certainly stood from the first moment at which it can have been
//!   made to the last. This sees a grant after a long wait, of whose lease nothing is certain.
//!
//! Since any subset of holds that tolerate each other does so too, not knowing of some holds is no excuse, nor is that a hold
//! may have more weight, or a smaller limit, than is certain.

use std::collections::BTreeMap;

use crate::history::{History, Micros};
use crate::holds::{Change, Hold};
use crate::shares::Share;
use crate::{Rule, Violation};

/// Where holds stand beside each other that must not. One for each hold that came too many.
pub fn check(history: &History, holds: &[Hold]) -> Vec<Violation> {
    let mut keys: BTreeMap<&str, Vec<&Hold>> = BTreeMap::new();
    for hold in holds {
        keys.entry(&hold.key).or_default().push(hold);
    }
    let mut violations: Vec<Violation> = keys.values().flat_map(|holds| of_key(history, holds)).collect();
    violations.sort_by_key(|violation| violation.ops.last().copied());
    violations
}

/// What is looked at, in the order of time.
enum Step<'a> {
    /// The hold was granted, or more of the lock, at some moment from here to `until`.
    Asked { hold: &'a Hold, share: Share, until: Micros, by: usize },
    /// The hold stands, with this share.
    Stands(&'a Hold, Share),
}

fn steps_of(hold: &Hold) -> Vec<(Micros, Step<'_>)> {
    let share = hold.share_during(hold.earliest, hold.from);
    let asked = Step::Asked { hold, share, until: hold.from, by: hold.granted };
    let mut steps = vec![(hold.earliest, asked)];
    for change in &hold.changes {
        let Change { granted: by, earliest, from: until, share } = *change;
        steps.push((earliest, Step::Asked { hold, share, until, by }));
    }
    let stands = hold.shares.iter().filter(|span| span.from >= hold.from);
    steps.extend(stands.map(|span| (span.from, Step::Stands(hold, span.share))));
    steps
}

fn of_key(history: &History, holds: &[&Hold]) -> Vec<Violation> {
    let mut steps: Vec<(Micros, Step<'_>)> = holds.iter().flat_map(|hold| steps_of(hold)).collect();
    steps.sort_by_key(|(moment, _)| *moment);

    let (mut standing, mut violations) = (BTreeMap::<usize, &Hold>::new(), BTreeMap::new());
    for (moment, step) in steps {
        standing.retain(|_, hold| hold.to > moment);
        let (hold, share, until, by) = match step {
            Step::Asked { hold, share, until, by } => (hold, share, until, by),
            Step::Stands(hold, share) => {
                standing.insert(hold.granted, hold);
                (hold, share, moment, named_by(history, hold, moment))
            }
        };
        // Those that stand until the last moment at which it can have been granted.
        let others: Vec<&Hold> = standing
            .values()
            .copied()
            .filter(|other| other.to > until && other.granted != hold.granted)
            .collect();
        let shares: Vec<Share> =
            others.iter().map(|other| other.share_during(moment, until.max(moment + 1))).collect();
        let most = shares.iter().map(|share| share.most).fold(share.most, usize::min);
        let weight = shares.iter().map(|share| share.weight).fold(share.weight, usize::saturating_add);
        if weight > most {
            violations.entry(by).or_insert_with(|| violation(history, hold, by, &others));
        }
    }
    violations.into_values().collect()
}

/// The last request of the hold that was granted until then.
fn named_by(history: &History, hold: &Hold, moment: Micros) -> usize {
    let is_known = |change: &&Change| history.op(change.granted).is_some_and(|op| op.answered <= moment);
    hold.changes.iter().filter(is_known).map(|change| change.granted).max().unwrap_or(hold.granted)
}

fn violation(history: &History, hold: &Hold, by: usize, others: &[&Hold]) -> Violation {
    let names: Vec<&str> = others.iter().map(|other| other.token.as_str()).collect();
    let what = if by == hold.granted {
        format!("{} was granted {} while {} certainly held it", hold.token, hold.key, names.join(", "))
    } else {
        format!(
            "{} was granted more of {} while {} certainly held it",
            hold.token,
            hold.key,
            names.join(", ")
        )
    };
    let mut ops: Vec<usize> = others.iter().map(|other| other.granted).collect();
    ops.extend(others.iter().filter_map(|other| last_of(history, other)));
    ops.push(by);
    Violation { rule: Rule::Admission, what, ops }
}

/// The last request by which a hold was known to stand, or was ended.
fn last_of(history: &History, hold: &Hold) -> Option<usize> {
    let own = |place: &usize| {
        history.ops().get(*place).is_some_and(|op| {
            op.ask.token() == Some(&hold.token) && op.ask.key() == Some(&hold.key) && op.sent >= hold.from
        })
    };
    (hold.granted + 1..history.ops().len())
        .take_while(|place| is_before(history, *place, hold.to))
        .filter(own)
        .last()
}

fn is_before(history: &History, place: usize, moment: Micros) -> bool {
    history.ops().get(place).is_some_and(|op| op.sent <= moment)
}
