//! LOCK.CHECK must not tell of more than the key has to live: see [`crate::expiries`] for times to live.
//!
//! How much that is, is certain of an exclusive hold that was promised nothing since the PEXPIRE, for nobody else can have
//! been promised anything.

use crate::expiries::{Expiries, sets_clocks};
use crate::history::{Answer, Ask, History, Limit, Micros, Op};
use crate::holds::Hold;
use crate::{Rule, Violation};

/// By how much what is left may seem longer than it is: milliseconds are whole, and servers look at the clock once in a
/// while only.
const ROUNDING: Micros = 5_000;

/// Where LOCK.CHECK tells of more than is left of a time to live.
pub fn check(history: &History, holds: &[Hold]) -> Vec<Violation> {
    if sets_clocks(history) {
        return Vec::new();
    }
    let (expiries, tokens) = (Expiries::of(history), history.by_token());
    let mut violations = Vec::new();
    for hold in holds.iter().filter(|hold| Limit::Most(hold.share.most) == Limit::EXCLUSIVE) {
        let places = tokens.get(&(hold.key.as_str(), hold.token.as_str())).map_or(&[][..], Vec::as_slice);
        let ops: Vec<(usize, &Op)> =
            places.iter().filter_map(|place| Some((*place, history.op(*place)?))).collect();
        // A connection that keeps a hold has its lease promised again and again.
        if ops.iter().any(|(_, op)| matches!(op.ask, Ask::Acquire { session: true, .. })) {
            continue;
        }
        for (place, op) in &ops {
            let (Ask::Check { .. }, Answer::Held(fence, left_ms)) = (&op.ask, &op.answer) else { continue };
            let Some(expiry) = expiries.last_before(&hold.key, op).filter(|_| *fence == hold.fence) else {
                continue;
            };
            let is_promised = |other: &Op| {
                other.ask.promises()
                    && !other.answer.is_in_vain()
                    && other.may_fall_into(expiry.sent, op.answered)
            };
            if expiry.sent < hold.from
                || ops.iter().any(|(_, other)| is_promised(other))
                || history.has_fault(expiry.sent, op.answered, |fault| fault.kind.unties())
            {
                continue;
            }
            let Some(Ask::Expire { ttl_ms, .. }) = history.op(expiry.place).map(|op| &op.ask) else {
                continue;
            };
            let end = expiry.done.saturating_add(ttl_ms.saturating_mul(1000)).saturating_add(ROUNDING);
            if op.sent.saturating_add(left_ms.saturating_mul(1000)) > end {
                let what = format!(
                    "{} is told of {left_ms} ms at {}, which had no more than {ttl_ms} to live before",
                    hold.token, hold.key
                );
                let ops = vec![hold.granted, expiry.place, *place];
                violations.push(Violation { rule: Rule::TimeToLive, what, ops });
            }
        }
    }
    violations
}
