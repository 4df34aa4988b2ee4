//! Nobody waits longer than asked, but for what was done to the server meanwhile, nor is sent away before. An inner level
//! does not wait at all, unless it asks for another limit or weight. Who holds several locks and waits for another share of
//! all of them is sent away when it loses one.

use crate::history::{Answer, Ask, History, Micros, Op};
use crate::holds::Hold;
use crate::{Rule, Violation};

/// By how much a wait may be shorter than asked: milliseconds are whole.
const ROUNDING: Micros = 2_000;

/// Answers that came too late, or nulls that came too early.
pub fn check(history: &History, holds: &[Hold], patience: Micros) -> Vec<Violation> {
    let (tokens, of_several) = (history.by_token(), history.of_several());
    let found = history.ops().iter().enumerate().filter_map(|(place, op)| {
        let name = op.ask.key().zip(op.ask.token());
        let places = name.and_then(|name| tokens.get(&name)).map_or(&[][..], Vec::as_slice);
        let beside = op.ask.token().and_then(|token| of_several.get(token)).map_or(&[][..], Vec::as_slice);
        let is_another = |other: &&usize| history.origin(**other) != history.origin(place);
        let others = places.iter().chain(beside).filter(is_another);
        let others: Vec<&Op> = others.filter_map(|other| history.op(*other)).collect();
        let late = too_late(history, op, &others, patience);
        let early = || too_early(op, &others).filter(|_| !may_lose_a_hold(history, place, holds));
        let (rule, what) = late.or_else(early)?;
        Some(Violation { rule, what, ops: vec![place] })
    });
    found.collect()
}

/// `others` are the requests of the same token for the same lock.
fn too_late(history: &History, op: &Op, others: &[&Op], patience: Micros) -> Option<(Rule, String)> {
    let block = match op.ask {
        Ask::Acquire { .. } if op.ask.is_inner() && !changes_the_share(op, others) => 0,
        Ask::Acquire { block_ms: Some(0), .. } | Ask::Open | Ask::Close | Ask::Write { .. } => return None,
        Ask::Acquire { block_ms: Some(block_ms), .. } => block_ms.saturating_mul(1000),
        _ => 0,
    };
    let took = op.answered - op.sent;
    let delays = history.delays(op.node, op.sent, op.answered);
    let allowed = block.saturating_add(patience).saturating_add(delays);
    let what = || format!("it took {} ms, of which {} are accounted for", took / 1000, allowed / 1000);
    (op.answer != Answer::GaveUp && took > allowed).then(|| (Rule::LateAnswer, what()))
}

/// Whether this request names another limit or weight than others of its token. Only then does an inner level wait.
fn changes_the_share(op: &Op, others: &[&Op]) -> bool {
    let Ask::Acquire { limit, weight, .. } = op.ask else { return false };
    others.iter().any(|other| match other.ask {
        Ask::Acquire { limit: other, weight: weighed, .. } => {
            other != limit || weight.is_some_and(|weight| weight != weighed.unwrap_or(1))
        }
        _ => false,
    })
}

fn too_early(op: &Op, others: &[&Op]) -> Option<(Rule, String)> {
    let (Ask::Acquire { block_ms: Some(block_ms), .. }, Answer::Null | Answer::Ticket(_)) =
        (&op.ask, &op.answer)
    else {
        return None;
    };
    let waited = op.answered - op.sent;
    let in_time = *block_ms != 0 && waited + ROUNDING >= block_ms.saturating_mul(1000);
    // A repetition of the request takes its place in the queue, and a release withdraws it.
    let ends_it = |other: &Op| {
        matches!(other.ask, Ask::Acquire { .. } | Ask::Release { .. })
            && (other.client, other.connection) != (op.client, op.connection)
            && other.may_fall_into(op.sent, op.answered)
    };
    let early = !in_time && !op.ask.is_inner() && !others.iter().any(|other| ends_it(other));
    early.then(|| (Rule::EarlyNull, format!("it waited {} of {block_ms} ms", waited / 1000)))
}

/// Whether this request is for several locks that its token held, and it may have lost one of them before the answer.
fn may_lose_a_hold(history: &History, place: usize, holds: &[Hold]) -> bool {
    // The first moment at which what it held of each last may have ended, if it held that at all.
    let end_at = |part: usize| {
        let part = history.op(part)?;
        let (key, token) = part.ask.key().zip(part.ask.token())?;
        let own = holds.iter().filter(|hold| hold.key == key && hold.token == token);
        own.filter(|hold| hold.earliest < part.answered).map(|hold| hold.to).max()
    };
    let ends: Option<Vec<Micros>> = history.parts(place).map(end_at).collect();
    let answered = history.op(place).map_or(0, |op| op.answered);
    ends.is_some_and(|ends| ends.len() > 1 && ends.iter().any(|end| *end <= answered))
}
