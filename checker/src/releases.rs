//! What a LOCK.RELEASE has ended goes on no more: neither the hold of its token nor its wait.
//!
//! The client that gave up sends the release over another connection than the one it waits on. So three things have to be
//! told apart from a wait that was not withdrawn, none of which is wrong:
//!
//! - The grant was decided *before* the release, and its reply read after that of the release. The release has ended the
//!   hold then. Replies of two connections can be read in any order, so that a grant is read later proves nothing.
//! - The request came to the server *after* the release, though it was sent before: a server that was stopped finds both
//!   in its sockets, and takes them in any order. It then waits, or is granted the lock, by right.
//! - The outcome of the release is not known. It proves nothing either.
//!
//! The second is excluded where LOCK.INFO has shown the request waiting before the release was sent: a sighting (see
//! [`crate::looks`]). The first is excluded by evidence that the release came before the grant:
//!
//! 1. **The release found nothing**: it was answered 0, and a hold that had been granted between the sighting and the
//!    release could not have ended by then, neither by its lease nor by anything else.
//! 2. **The fence is too high**: it is above one that was granted, on the same server, to a request that was sent only after
//!    the release had been answered.
//! 3. **The token holds the lock**, by the answer to a request that was sent after the release had been answered, and no
//!    request of the token can have been granted it since. Where it is held under a fence that was told before the release
//!    was sent, no other request matters, for nobody is granted the same fence twice.
//!
//! And a request that was seen waiting before its release was sent has its answer soon after that of the release, however
//! long it meant to wait.
//!
//! Nothing is concluded over a fault with which the release, or the queue, may have been lost.

use std::collections::BTreeMap;

use crate::expiries::Expiries;
use crate::history::{Answer, Ask, History, Micros, Op, certain_part};
use crate::holds::Hold;
use crate::looks::{Sighting, sightings};
use crate::{Rule, Violation};

/// Holds and waits that went on after their release. `patience` is as in [`crate::Terms`].
pub fn check(history: &History, holds: &[Hold], patience: Micros) -> Vec<Violation> {
    let expiries = Expiries::of(history);
    let mut all_seen = BTreeMap::<usize, Vec<Sighting>>::new();
    for sighting in sightings(history) {
        all_seen.entry(sighting.wait).or_default().push(sighting);
    }
    let mut violations = Vec::new();
    for ((key, token), places) in history.by_token() {
        let ops: Vec<(usize, &Op)> =
            places.iter().filter_map(|place| Some((*place, history.op(*place)?))).collect();
        let seen: Vec<Sighting> =
            places.iter().filter_map(|place| all_seen.get(place)).flatten().copied().collect();
        let ground =
            Ground { history, holds, expiries: &expiries, patience, key, token, ops: &ops, seen: &seen };
        let releases = ops.iter().filter(|(_, op)| op.ask.releases_all() && op.answer.is_counted());
        for (place, release) in releases {
            violations.extend(ground.waits_on(*place, release));
            violations.extend(ground.holds_on(*place, release));
        }
    }
    violations
}

/// What one token did at one lock.
struct Ground<'a> {
    history: &'a History,
    holds: &'a [Hold],
    expiries: &'a Expiries<'a>,
    patience: Micros,
    key: &'a str,
    token: &'a str,
    ops: &'a [(usize, &'a Op)],
    seen: &'a [Sighting],
}

impl<'a> Ground<'a> {
    /// The last sighting, before the release was sent, of each request that was seen waiting where it was sent to.
    fn seen_before(&self, release: &Op) -> Vec<(Sighting, &'a Op, &'a Op)> {
        let mut last = BTreeMap::new();
        for sighting in self.seen {
            let (Some(wait), Some(look)) = (self.history.op(sighting.wait), self.history.op(sighting.look))
            else {
                continue;
            };
            let may_be_lost = || {
                self.history.has_fault(look.sent, release.answered, |fault| {
                    fault.kind.unties() && fault.concerns(wait.node)
                })
            };
            if look.answered <= release.sent && wait.node == release.node && !may_be_lost() {
                last.insert(sighting.wait, (*sighting, wait, look));
            }
        }
        last.into_values().collect()
    }

    /// Requests that were withdrawn, and granted the lock all the same, or left without an answer.
    fn waits_on(&self, place: usize, release: &Op) -> Vec<Violation> {
        let (key, token) = (self.key, self.token);
        let mut violations = Vec::new();
        for (sighting, wait, look) in self.seen_before(release) {
            if wait.answered <= release.sent {
                continue;
            }
            let mut ops = vec![sighting.wait, sighting.look, place];
            let late = release.answered + self.patience;
            if wait.answer != Answer::GaveUp
                && wait.answered > late + self.history.delays(wait.node, release.answered, wait.answered)
            {
                let took = (wait.answered - release.answered) / 1000;
                let what = format!("{token} was withdrawn from {key}, and had its answer {took} ms later");
                violations.push(Violation { rule: Rule::LateAnswer, what, ops: ops.clone() });
            }
            let Answer::Granted(fence) = wait.answer else { continue };
            if self.found_nothing(release, wait, look) {
                let what = format!("{token} was granted {key} after it had been withdrawn");
                violations.push(Violation { rule: Rule::Release, what, ops });
            } else if let Some(later) = self.is_above(release, fence) {
                let what = format!(
                    "{token} was granted {key} after it had been withdrawn: its fence is above the one of {}",
                    later.token
                );
                ops.push(later.granted);
                violations.push(Violation { rule: Rule::Release, what, ops });
            }
        }
        violations
    }

    /// Whether the release must have ended what this request was granted, had it been granted anything before, and did not.
    fn found_nothing(&self, release: &Op, wait: &Op, look: &Op) -> bool {
        let Ask::Acquire { lease_ms, session, .. } = wait.ask else { return false };
        let end = look.sent.saturating_add(certain_part(lease_ms));
        let end = end.min(self.expiries.first_end(self.key, look.sent));
        let changes_it = |other: &Op| {
            !matches!(other.ask, Ask::Check { .. } | Ask::Guard { .. } | Ask::Write { .. })
                && other != release
                && other != wait
                && other.may_fall_into(look.sent, release.answered)
        };
        release.answer == Answer::No
            && end > release.answered
            && (!session || wait.answered > release.answered)
            && !self.ops.iter().any(|(_, other)| changes_it(other))
    }

    /// A hold with a smaller fence that was granted on the same server after the release.
    fn is_above(&self, release: &Op, fence: u64) -> Option<&'a Hold> {
        self.holds.iter().find(|hold| {
            hold.node == release.node
                && hold.earliest > release.answered
                && hold.has_fence()
                && hold.fence < fence
                && !self.history.has_fault(release.sent, hold.from, |fault| {
                    fault.kind.unties() && fault.concerns(release.node)
                })
        })
    }

    /// Answers that say that the token holds the lock still.
    fn holds_on(&self, place: usize, release: &Op) -> Vec<Violation> {
        let withdrawn: Vec<usize> = self.seen_before(release).iter().map(|(seen, ..)| seen.wait).collect();
        let mut violations = Vec::new();
        for (later, op) in self.ops.iter().filter(|(_, op)| op.sent > release.answered) {
            let fence = match (&op.ask, &op.answer) {
                (_, Answer::Granted(fence) | Answer::Held(fence, _)) => Some(*fence),
                (Ask::Extend { .. } | Ask::Release { .. }, Answer::Yes)
                | (Ask::Guard { .. }, Answer::Done) => None,
                _ => continue,
            };
            let is_old = fence.is_some_and(|fence| self.was_told(fence, release.sent));
            let may_be_new = self
                .ops
                .iter()
                .any(|(other, acquire)| !withdrawn.contains(other) && may_have_made(acquire, release, op));
            let may_be_lost =
                || self.history.has_fault(release.sent, op.answered, |fault| fault.kind.breaks_connections());
            if (is_old || !may_be_new) && !may_be_lost() {
                let what = format!("{} holds {} after its release", self.token, self.key);
                violations.push(Violation { rule: Rule::Release, what, ops: vec![place, *later] });
            }
        }
        violations
    }

    /// Whether the token was told this fence before that.
    fn was_told(&self, fence: u64, before: Micros) -> bool {
        self.ops.iter().any(|(_, op)| {
            op.answered <= before
                && matches!(op.answer, Answer::Granted(told) | Answer::Held(told, _) if told == fence)
        })
    }
}

/// Whether a request may have been granted a hold after the release that `op` has found.
fn may_have_made(acquire: &Op, release: &Op, op: &Op) -> bool {
    matches!(acquire.ask, Ask::Acquire { .. })
        && !acquire.ask.is_inner()
        && !acquire.answer.is_in_vain()
        && acquire.may_fall_into(release.sent, op.answered)
}
