//! What becomes of holds that stand: given back, extended, broken, and ended with their leases.

use alloc::vec::Vec;

use smallvec::SmallVec;

use super::Turn;
use crate::answer::Answer;
use crate::fence::Fence;
use crate::hold::Hold;
use crate::lock::Released;
use crate::outcome::{Cause, Change, Denied, Ended, Ending};
use crate::request::BreakTarget;
use crate::token::Token;

impl Turn<'_> {
    /// Gives back `level` of the token's hold and what is above it; false if it holds nothing, or is not so deep. A token
    /// that is left without a hold waits for this lock no longer either, if it is its client who says so and not a master or
    /// a file (`from_master`): what those say was said of another time, or to another server.
    pub fn release(&mut self, token: &Token, level: u16, from_master: impl Fn() -> bool) -> bool {
        let released = if self.is_at_string() {
            self.release_string(token, level)
        } else {
            self.release_hold(token, level, &from_master)
        };
        let is_released = released.is_some();
        match released {
            Some(released) => self.outcome.changes.push(released),
            None => self.outcome.denied = Some(Denied::NotReleased),
        }
        let mut withdrawn = None;
        let leaves_wait = cfg!(feature = "broken-release");
        let is_waited_for = self.table.queues.is_waited_for(self.key) && !leaves_wait;
        if is_waited_for && !self.holds(Some(token)) && !from_master() {
            withdrawn = self.table.queues.ticket_of(self.key, token).and_then(|ticket| self.leave(ticket));
        }
        if let Some(waiter) = &withdrawn {
            self.tell(waiter.client, Answer::NotAvailable);
        }
        if is_released || withdrawn.is_some() {
            self.serve();
        }
        is_released
    }

    /// What has changed by it; `None` if the token did not hold the lock at this level.
    #[inline]
    fn release_hold(&mut self, token: &Token, level: u16, from_master: impl Fn() -> bool) -> Option<Change> {
        self.end_lost_session(Some(token));
        let hold = if self.table.sessions.is_empty() { None } else { self.lock.hold_of(token, self.now) };
        let session = hold.and_then(|hold| Some((hold.session()?.client, hold.fence())));
        match self.lock.release(token, level, self.now, from_master) {
            Released::NotHeld => None,
            Released::LessDeep => Some(Change::AsAsked(Cause::Released, SmallVec::new())),
            Released::Ended { held_since } => {
                if let Some((client, fence)) = session {
                    self.table.sessions.lets_go(client, self.key, fence);
                }
                let ended = Ended { why: Ending::Released, held_since };
                Some(Change::AsAsked(Cause::Released, SmallVec::from_buf([ended])))
            }
        }
    }

    /// Sets the lease of the token's hold anew; false if it holds nothing. For `from_master` see [`Lock::extend`].
    pub fn extend(
        &mut self,
        token: &Token,
        lease_ms: Option<u64>,
        from_master: impl FnOnce() -> bool,
    ) -> bool {
        if self.is_at_string() {
            return self.extend_string(token, lease_ms, Cause::Extended);
        }
        self.end_lost_session(Some(token));
        let Some(fence) = self.lock.extend(token, lease_ms, self.now, from_master) else {
            self.outcome.denied = Some(Denied::NotExtended);
            return false;
        };
        self.table.undos.learned(self.key, fence);
        self.outcome.has_promised = true;
        // A session's lease may count as longer than it was asked for, which only this server knows.
        let is_as_asked = |hold: &&Hold| lease_ms.is_none_or(|lease_ms| lease_ms == hold.lease_ms());
        let otherwise = self.lock.hold(fence).filter(|hold| !is_as_asked(hold));
        let change = match otherwise {
            Some(hold) => Change::Set(hold.clone(), Cause::Extended),
            None => Change::AsAsked(Cause::Extended, SmallVec::new()),
        };
        self.outcome.changes.push(change);
        true
    }

    /// Ends holds, whoever owns them. Returns the fences of those that were still held; that of a string is [`Fence::NONE`].
    pub fn break_holds(&mut self, target: BreakTarget) -> Vec<Fence> {
        let now = self.now;
        let ended = match target {
            BreakTarget::All if self.string.take().is_some() => {
                self.outcome.changes.push(Change::StringEnded(Cause::Broken));
                self.serve();
                return Vec::from([Fence::NONE]);
            }
            BreakTarget::All => {
                self.table.sessions.departed(self.key, self.lock.kept());
                self.lock.end_where(|_| true)
            }
            BreakTarget::One(fence) => {
                if let Some(session) = self.lock.hold(fence).and_then(Hold::session) {
                    self.table.sessions.lets_go(session.client, self.key, fence);
                }
                self.lock.take(fence).into_iter().collect()
            }
            BreakTarget::Nobody => Vec::new(),
        };
        if !ended.is_empty() {
            let how = |hold: &Hold| {
                if hold.is_live(now) { Ended::new(hold, Ending::Broken) } else { Ended::lapsed(hold) }
            };
            self.outcome.changes.push(Change::AsAsked(Cause::Broken, ended.iter().map(how).collect()));
            self.serve();
        }
        ended.iter().filter(|hold| hold.is_live(now)).map(Hold::fence).collect()
    }

    /// Does what is due at this lock: keeps alive the holds whose connections are open, and ends the leases that have
    /// run out. At most `at_most` of them; returns how many.
    ///
    /// Only where the leases of this lock are this server's to end, and not to be left to the node that the key comes from.
    pub fn expire(&mut self, at_most: usize) -> usize {
        let mut done = 0_usize;
        for fence in self.lock.sessions_due(self.now, at_most) {
            let Some(hold) = self.lock.hold(fence) else { continue };
            let is_open = hold.session().is_some_and(|session| self.table.sessions.is_open(session.client));
            // A connection that has closed was reported, but this hold was not where it was looked for.
            let hold =
                if is_open { self.lock.keep_alive(fence, self.now) } else { self.lock.end_session(fence) };
            let hold = hold.cloned();
            self.outcome.has_promised = true;
            self.outcome.changes.extend(hold.map(|hold| Change::Set(hold, Cause::Kept)));
            done = done.saturating_add(1);
        }
        done = done.saturating_add(self.end_lapsed(at_most.saturating_sub(done)));
        self.serve();
        done
    }
}
