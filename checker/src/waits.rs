//! Nobody waits longer than asked, but for what was done to the server meanwhile, nor is sent away before.

use crate::history::{Answer, Ask, History, Micros, Op};
use crate::{Rule, Violation};

/// By how much a wait may be shorter than asked: milliseconds are whole.
const ROUNDING: Micros = 2_000;

/// Answers that came too late, or nulls that came too early.
pub fn check(history: &History, patience: Micros) -> Vec<Violation> {
    let found = history.ops().iter().enumerate().filter_map(|(place, op)| {
        let (rule, what) = too_late(history, op, patience).or_else(|| too_early(history, op))?;
        Some(Violation { rule, what, ops: vec![place] })
    });
    found.collect()
}

fn too_late(history: &History, op: &Op, patience: Micros) -> Option<(Rule, String)> {
    let block = match op.ask {
        Ask::Acquire { block_ms: Some(0), .. } | Ask::Open | Ask::Close | Ask::Write { .. } => return None,
        Ask::Acquire { block_ms: Some(block_ms), .. } => block_ms.saturating_mul(1000),
        _ => 0,
    };
    let took = op.answered - op.sent;
    let allowed = block.saturating_add(patience).saturating_add(delays(history, op));
    let what = || format!("it took {} ms, of which {} are accounted for", took / 1000, allowed / 1000);
    (op.answer != Answer::GaveUp && took > allowed).then(|| (Rule::LateAnswer, what()))
}

/// How long faults may have held the answer up.
fn delays(history: &History, op: &Op) -> Micros {
    let faults = history.faults().iter().filter(|fault| fault.kind.delays() && fault.concerns(op.node));
    let overlaps = faults.map(|fault| fault.end.min(op.answered).saturating_sub(fault.begin.max(op.sent)));
    overlaps.sum()
}

fn too_early(history: &History, op: &Op) -> Option<(Rule, String)> {
    let (Ask::Acquire { token, block_ms: Some(block_ms), .. }, Answer::Null) = (&op.ask, &op.answer) else {
        return None;
    };
    let waited = op.answered - op.sent;
    let in_time = *block_ms != 0 && waited + ROUNDING >= block_ms.saturating_mul(1000);
    // A repetition of the request takes its place in the queue.
    let is_repetition = |other: &Op| {
        matches!(other.ask, Ask::Acquire { .. })
            && other.ask.token() == Some(token)
            && (other.client, other.connection) != (op.client, op.connection)
            && other.sent < op.answered
            && other.answered > op.sent
    };
    let early = !in_time && !history.ops().iter().any(is_repetition);
    early.then(|| (Rule::EarlyNull, format!("it waited {} of {block_ms} ms", waited / 1000)))
}
