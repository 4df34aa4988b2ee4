//! The rule of admission: `holds + 1 <= the smallest limit among the holds and the request`.
//!
//! It is looked at in two ways, each of which sees what the other does not:
//!
//! - When a hold is known to stand, those that certainly stand beside it must tolerate each other. This sees two grants
//!   made at the same time.
//! - A grant must have been admissible beside those that certainly stood from the first moment at which it can have been
//!   made to the last. This sees a grant after a long wait, of whose lease nothing is certain.
//!
//! Since any subset of holds that tolerate each other does so too, not knowing of some holds is no excuse.

use std::collections::BTreeMap;

use crate::history::{History, Micros};
use crate::holds::Hold;
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
    /// The grant may have been made from here on.
    Asked(&'a Hold),
    /// The hold stands.
    Stands(&'a Hold),
}

fn of_key(history: &History, holds: &[&Hold]) -> Vec<Violation> {
    let asked = holds.iter().map(|hold| (hold.earliest, Step::Asked(hold)));
    let stands = holds.iter().map(|hold| (hold.from, Step::Stands(hold)));
    let mut steps: Vec<(Micros, Step<'_>)> = asked.chain(stands).collect();
    steps.sort_by_key(|(moment, _)| *moment);

    let (mut standing, mut violations) = (Vec::<&Hold>::new(), BTreeMap::new());
    for (moment, step) in steps {
        standing.retain(|hold| hold.to > moment);
        let (hold, others) = match step {
            Step::Asked(hold) => {
                // Those that stand until the last moment at which it can have been granted.
                let throughout =
                    standing.iter().filter(|other| other.to > hold.from && is_other(hold, other));
                (hold, throughout.copied().collect::<Vec<_>>())
            }
            Step::Stands(hold) => {
                let others: Vec<_> = standing.iter().copied().filter(|other| is_other(hold, other)).collect();
                standing.push(hold);
                if hold.to <= moment {
                    continue;
                }
                (hold, others)
            }
        };
        let most = others.iter().map(|other| other.most).fold(hold.most, usize::min);
        if others.len() + 1 > most {
            violations.entry(hold.granted).or_insert_with(|| violation(history, hold, &others));
        }
    }
    violations.into_values().collect()
}

fn is_other(hold: &Hold, other: &Hold) -> bool {
    hold.granted != other.granted
}

fn violation(history: &History, hold: &Hold, others: &[&Hold]) -> Violation {
    let names: Vec<&str> = others.iter().map(|other| other.token.as_str()).collect();
    let what =
        format!("{} was granted {} while {} certainly held it", hold.token, hold.key, names.join(", "));
    let mut ops: Vec<usize> = others.iter().map(|other| other.granted).collect();
    ops.extend(others.iter().filter_map(|other| last_of(history, other)));
    ops.push(hold.granted);
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
