//! Times to live: PEXPIRE ends a lock early, and whatever promises a lease afterwards takes that back.
//!
//! From the moment at which a PEXPIRE is sent, every hold on the key may end so many milliseconds later, until a lease that
//! was asked for after the PEXPIRE had been answered is promised to that hold. A promise to another holder of the same lock
//! takes the time off as well, but from times alone it cannot be told whether it came before the end.
//!
//! The server counts such a time on its wall clock. Where a history sets clocks, it may be over as soon as it is set.
//!
//! In the other direction, LOCK.CHECK must not tell of more than the key has to live. That is certain of an exclusive hold
//! that was promised nothing since the PEXPIRE, for nobody else can have been promised anything.

use std::collections::BTreeMap;

use crate::history::{Answer, Ask, FaultKind, History, Limit, Micros, NEVER, Op};
use crate::holds::{Hold, certain_part};
use crate::{Rule, Violation};

/// By how much what is left may seem longer than it is: milliseconds are whole, and servers look at the clock once in a
/// while only.
const ROUNDING: Micros = 5_000;

/// A PEXPIRE that has come to something, or may have.
#[derive(Clone, Copy, Debug)]
struct Expiry {
    sent: Micros,
    /// When it was certainly done; [`NEVER`] if it may be done at any time.
    done: Micros,
    ttl: Micros,
    /// Whether it is known to have been done.
    is_known: bool,
    /// The request, as a place in [`History::ops`].
    place: usize,
}

impl Expiry {
    fn of(place: usize, op: &Op, ttl_ms: u64, clocks_are_set: bool) -> Option<Self> {
        if op.answer.is_in_vain() {
            return None;
        }
        // A server that closes a connection does nothing of what has come over it any more.
        let is_over = !op.answer.is_unknown() || op.answer == Answer::Lost;
        let ttl = if clocks_are_set { 0 } else { certain_part(ttl_ms) };
        let (done, is_known) = (if is_over { op.answered } else { NEVER }, op.answer == Answer::Yes);
        Some(Self { sent: op.sent, done, ttl, is_known, place })
    }
}

/// The times to live of a history's keys.
pub struct Expiries<'a> {
    keys: BTreeMap<&'a str, Vec<Expiry>>,
    clocks_are_set: bool,
}

impl<'a> Expiries<'a> {
    /// All that were set.
    pub fn of(history: &'a History) -> Self {
        let clocks_are_set = sets_clocks(history);
        let mut keys = BTreeMap::<&str, Vec<Expiry>>::new();
        for (place, op) in history.ops().iter().enumerate() {
            if let Ask::Expire { key, ttl_ms } = &op.ask {
                keys.entry(key).or_default().extend(Expiry::of(place, op, *ttl_ms, clocks_are_set));
            }
        }
        Self { keys, clocks_are_set }
    }

    /// The first moment at which a key may go that is found, by a request sent at that time, to be there for so long still.
    /// No time to live that was set before is to end it earlier, unless a clock is set.
    pub fn first_end_found(&self, key: &str, sent: Micros, left: Micros) -> Micros {
        if self.clocks_are_set {
            return 0;
        }
        self.first_end(key, sent).min(sent.saturating_add(left))
    }

    /// The first moment at which the key may go by a time that was not set before `promised`.
    pub fn first_end(&self, key: &str, promised: Micros) -> Micros {
        let later = self.of_key(key).iter().filter(|expiry| expiry.done > promised);
        later.map(|expiry| expiry.sent.max(promised).saturating_add(expiry.ttl)).min().unwrap_or(NEVER)
    }

    fn of_key(&self, key: &str) -> &[Expiry] {
        self.keys.get(key).map_or(&[], Vec::as_slice)
    }

    /// The one that was certainly the last before this request.
    fn last_before(&self, key: &str, op: &Op) -> Option<Expiry> {
        let of_key = self.of_key(key);
        let known = of_key.iter().filter(|expiry| expiry.is_known && expiry.done <= op.sent);
        let last = known.max_by_key(|expiry| expiry.sent)?;
        let is_before = |other: &Expiry| other.place == last.place || other.done <= last.sent;
        of_key.iter().all(|other| is_before(other) || other.sent >= op.answered).then_some(*last)
    }
}

fn sets_clocks(history: &History) -> bool {
    history.faults().iter().any(|fault| fault.kind == FaultKind::Clock)
}

/// Where LOCK.CHECK tells of more than is left of a time to live.
pub fn check(history: &History, holds: &[Hold]) -> Vec<Violation> {
    if sets_clocks(history) {
        return Vec::new();
    }
    let (expiries, tokens) = (Expiries::of(history), history.by_token());
    let mut violations = Vec::new();
    for hold in holds.iter().filter(|hold| Limit::Most(hold.most) == Limit::EXCLUSIVE) {
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
