//! The few lines of a history around a violation.

use crate::Violation;
use crate::history::{Ask, History, Micros, Op};
use crate::notation::HEADING;

/// How many lines are shown besides those that show the violation.
const NEIGHBOURS: usize = 12;

/// Says what was broken, and shows how: the requests themselves with a mark, and among them what else was asked of the same
/// lock and done to the servers, as far as it is near. Who only looked is left out.
pub fn show(history: &History, violation: &Violation) -> String {
    let involved: Vec<&Op> = violation.ops.iter().filter_map(|place| history.ops().get(*place)).collect();
    let begin = involved.iter().map(|op| op.sent).min().unwrap_or(0);
    let end = involved.iter().map(|op| op.answered).max().unwrap_or(0);
    // What the parts of a request for several locks have in common is in the sentence.
    let several = involved.iter().filter(|op| !matches!(op.ask, Ask::Several { .. }));
    let key = several.chain(&involved).find_map(|op| op.ask.key());

    let mut lines: Vec<(Micros, String)> = Vec::new();
    let mut neighbours: Vec<(Micros, String)> = Vec::new();
    for (place, op) in history.ops().iter().enumerate() {
        if violation.ops.contains(&place) {
            lines.push((op.sent, format!("> {op}")));
        } else if op.answered >= begin
            && op.sent <= end
            && key.is_some_and(|key| op.ask.is_about(key))
            && !is_look(op)
        {
            neighbours.push((op.sent, format!("  {op}")));
        }
    }
    let passed_over = neighbours.len().saturating_sub(NEIGHBOURS);
    // What is nearest to the end tells most.
    lines.extend(neighbours.into_iter().skip(passed_over));
    let faults = history.faults().iter().filter(|fault| fault.end >= begin && fault.begin <= end);
    lines.extend(faults.map(|fault| (fault.begin, format!("  {fault}"))));
    lines.sort_by_key(|(moment, _)| *moment);

    let mut text = format!("{}: {}\n  {HEADING}\n", violation.rule, violation.what);
    for (_, line) in lines {
        text.push_str(&line);
        text.push('\n');
    }
    if passed_over > 0 {
        text.push_str(&format!("  # {passed_over} more requests for this lock in between\n"));
    }
    text
}

fn is_look(op: &Op) -> bool {
    matches!(op.ask, Ask::Look { .. })
}
