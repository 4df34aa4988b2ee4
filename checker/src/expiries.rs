//! Times to live: PEXPIRE ends a lock early, and whatever promises a lease afterwards takes that back.
//!
//! From the moment at which a PEXPIRE is sent, every hold on the key may end so many milliseconds later, until a lease that
//! was asked for after the PEXPIRE had been answered is promised to that hold. A promise to another holder of the same lock
//! takes the time off as well, but from times alone it cannot be told whether it came before the end.
//!
//! The server counts such a time on its wall clock. Where a history sets clocks, it may be over as soon as it is set.

use std::collections::BTreeMap;

use crate::history::{Answer, Ask, FaultKind, History, Micros, NEVER, Op, certain_part};

/// A PEXPIRE that has come to something, or may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expiry {
    /// When it was sent.
    pub(crate) sent: Micros,
    /// When it was certainly done; [`NEVER`] if it may be done at any time.
    pub(crate) done: Micros,
    ttl: Micros,
    /// Whether it is known to have been done.
    is_known: bool,
    /// The request, as a place in [`History::ops`].
    pub(crate) place: usize,
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
    pub(crate) fn last_before(&self, key: &str, op: &Op) -> Option<Expiry> {
        let of_key = self.of_key(key);
        let known = of_key.iter().filter(|expiry| expiry.is_known && expiry.done <= op.sent);
        let last = known.max_by_key(|expiry| expiry.sent)?;
        let is_before = |other: &Expiry| other.place == last.place || other.done <= last.sent;
        of_key.iter().all(|other| is_before(other) || other.sent >= op.answered).then_some(*last)
    }
}

/// Whether a wall clock is set in this history.
pub(crate) fn sets_clocks(history: &History) -> bool {
    history.faults().iter().any(|fault| fault.kind == FaultKind::Clock)
}
