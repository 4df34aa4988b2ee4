//! Several locks are granted together, under one token and one fence, or not at all.
//!
//! Every other rule looks at a request for several locks as one for each of them, see [`History::by_key`]: what was granted
//! stands as a hold on every one, and who waits does so in every queue. What is left:
//!
//! 1. **All or none.** Where nobody was told what came of the request, and its token is found to hold one of the locks, it
//!    holds the others too. Unless something may have ended them: a lease, a release, a time to live, a crash.
//! 2. **None is none.** A token that was answered null for all of them holds none of them.
//! 3. **All are counted.** A release or an extension of several came to something at no fewer of them than the token
//!    certainly held.

use std::collections::BTreeMap;

use crate::expiries::Expiries;
use crate::history::{Answer, Ask, History, Micros, Op, certain_part};
use crate::holds::Found;
use crate::{Rule, Terms, Violation};

/// A request with its place in [`History::ops`].
type Numbered<'a> = (usize, &'a Op);

/// Requests that were granted by halves, and counts that are too small. `history` is `whole` by key.
pub(crate) fn check(
    whole: &History,
    history: &History,
    found: &Found,
    expiries: &Expiries<'_>,
    terms: &Terms,
) -> Vec<Violation> {
    let mut violations = counts(whole, history, found);
    for (token, places) in history.of_several() {
        let ops: Vec<Numbered<'_>> =
            places.iter().filter_map(|place| Some((*place, history.op(*place)?))).collect();
        let story = Story { history, expiries, claim_lease: terms.claim_lease, token, ops };
        violations.extend(story.halves());
        violations.extend(story.nothing());
    }
    violations
}

fn counts(whole: &History, history: &History, found: &Found) -> Vec<Violation> {
    let mut due = BTreeMap::<usize, usize>::new();
    for place in &found.due {
        *due.entry(history.origin(*place)).or_default() += 1;
    }
    let told = due.into_iter().filter_map(|(place, due)| {
        let op = whole.op(place)?;
        let (Answer::Count(count), Some(token)) = (&op.answer, op.ask.token()) else { return None };
        let what = format!("{token} certainly held {due} of these locks, and {count} were counted");
        let part = (0..history.ops().len()).find(|part| history.origin(*part) == place)?;
        (due > *count).then_some(Violation { rule: Rule::EarlyEnd, what, ops: vec![part] })
    });
    told.collect()
}

/// What one token asked for, of whichever lock.
struct Story<'a> {
    history: &'a History,
    expiries: &'a Expiries<'a>,
    claim_lease: Micros,
    token: &'a str,
    ops: Vec<Numbered<'a>>,
}

impl<'a> Story<'a> {
    /// Requests that may have made a hold.
    fn makers(&self) -> impl Iterator<Item = &Numbered<'a>> {
        self.ops.iter().filter(|(_, op)| {
            matches!(op.ask, Ask::Acquire { .. }) && !op.ask.is_inner() && op.answer != Answer::Null
        })
    }

    /// Locks that the token holds without having been granted any.
    fn nothing(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (place, op) in self.ops.iter().filter(|(_, op)| finds_it_held(op)) {
            let is_made =
                |(_, maker): &Numbered<'_>| maker.ask.key() == op.ask.key() && maker.sent < op.answered;
            if !self.makers().any(is_made) {
                let key = op.ask.key().unwrap_or_default();
                let what = format!("{} holds {key}, and was granted nothing", self.token);
                let asked = self.ops.iter().filter(|(_, other)| {
                    matches!(other.ask, Ask::Acquire { .. }) && other.ask.key() == op.ask.key()
                });
                let ops = asked.map(|(asked, _)| *asked).chain([*place]).collect();
                violations.push(Violation { rule: Rule::Several, what, ops });
            }
        }
        violations
    }

    /// A lock that the token was found to hold, and one that it was found not to hold, though it can have been granted them
    /// only together.
    fn halves(&self) -> Vec<Violation> {
        let Some((first, keys)) = self.one_wish() else { return Vec::new() };
        let mut violations = Vec::new();
        for (place, held) in &self.ops {
            let missing = if held.answer == Answer::Either {
                self.missing_part(first, *place)
            } else if finds_it_held(held) {
                self.ops.iter().find(|(other, missed)| {
                    let key = missed.ask.key().unwrap_or_default();
                    finds_it_free(missed)
                        && missed.sent >= held.answered
                        && held.ask.key() != Some(key)
                        && keys.contains(&key)
                        && self.stands(key, first, missed.answered, &[*place, *other])
                })
            } else {
                None
            };
            if let Some((other, missed)) = missing {
                let name = |op: &Op| op.ask.key().unwrap_or_default().to_owned();
                let what = format!(
                    "{} holds {} and not {}, which it has asked for together",
                    self.token,
                    name(held),
                    name(missed)
                );
                let maker = self.makers().map(|(maker, _)| *maker).min();
                let ops = maker.into_iter().chain([*place, *other]).collect();
                violations.push(Violation { rule: Rule::Several, what, ops });
            }
        }
        violations
    }

    /// Another part of a request that came to something at some of the locks, and not at all, if it must have at all.
    fn missing_part(&self, first: Micros, place: usize) -> Option<&Numbered<'a>> {
        let parts: Vec<usize> = self.history.parts(place).collect();
        let mut ops = parts.iter().filter_map(|part| self.history.op(*part));
        let all_stand =
            ops.all(|op| op.ask.key().is_some_and(|key| self.stands(key, first, op.answered, &parts)));
        self.ops.iter().find(|(other, _)| all_stand && *other > place && parts.contains(other))
    }

    /// When the locks that this token wants were asked for first, and which they are, if it wants them only together and was
    /// never told that it was granted them.
    fn one_wish(&self) -> Option<(Micros, Vec<&'a str>)> {
        let keys_of = |place: usize| -> Vec<&'a str> {
            let mut keys: Vec<&str> =
                self.history.parts(place).filter_map(|part| self.history.op(part)?.ask.key()).collect();
            keys.sort_unstable();
            keys
        };
        let first = self.makers().min_by_key(|(_, op)| op.sent)?;
        let keys = keys_of(first.0);
        let is_same = |(place, op): &Numbered<'_>| {
            keys_of(*place) == keys && !matches!(op.answer, Answer::Granted(_) | Answer::Error(_))
        };
        self.makers().all(is_same).then_some((first.1.sent, keys))
    }

    /// Whether a lock that was granted at some moment since `first` must be held still at `end`, if nothing was asked but
    /// what is excepted.
    fn stands(&self, key: &str, first: Micros, end: Micros, but: &[usize]) -> bool {
        let leases = self.ops.iter().filter_map(|(_, op)| match op.ask {
            Ask::Acquire { lease_ms, queue_ms, .. } => {
                let claim = if queue_ms.is_some() { self.claim_lease } else { Micros::MAX };
                Some(certain_part(lease_ms).min(claim))
            }
            Ask::Extend { lease_ms, .. } => Some(certain_part(lease_ms)),
            _ => None,
        });
        let lease = leases.min().unwrap_or(0);
        let may_end = |(place, op): &Numbered<'_>| match op.ask {
            Ask::Release { .. } => op.sent < end && !but.contains(place),
            Ask::Acquire { session, .. } => session,
            _ => false,
        };
        end < first.saturating_add(lease)
            && end < self.expiries.first_end(key, first)
            && !self.ops.iter().any(may_end)
            && !self.history.has_fault(first, end, |fault| fault.kind.unties())
    }
}

/// Whether an answer says that the token holds the lock.
fn finds_it_held(op: &Op) -> bool {
    matches!(
        (&op.ask, &op.answer),
        (Ask::Check { .. }, Answer::Held(..))
            | (Ask::Extend { .. } | Ask::Release { .. }, Answer::Yes)
            | (Ask::Guard { .. }, Answer::Done)
    )
}

/// Whether an answer says that the token does not hold the lock.
fn finds_it_free(op: &Op) -> bool {
    match (&op.ask, &op.answer) {
        (Ask::Check { .. }, answer) => *answer == Answer::Null,
        (Ask::Extend { .. }, answer) => *answer == Answer::No,
        (Ask::Release { .. }, answer) => *answer == Answer::No && op.ask.releases_all(),
        (Ask::Guard { .. }, answer) => *answer == Answer::NotOwner,
        _ => false,
    }
}
