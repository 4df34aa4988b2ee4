//! A turn at one key: a request, and all that follows from it for the lock and its waiters.
//!
//! A turn that frees a lock also hands it over. docs/design.md has the rules under these numbers:
//!
//! - G2. First what is marked at the key is undone ([`crate::undo`]). So nobody comes between an event and its
//!   consequences.
//! - G3, G4. Then the request is judged. A token that does not hold the lock yet is admitted only if nobody waits ahead of
//!   it.
//! - G6. Then the queue is served: the first waiter is granted the lock if the rule of admission allows it, then the next,
//!   until one has to wait. A waiter whose time is over gets null instead, or its ticket if it keeps its place (G13).
//! - G7. During the restart grace ([`crate::grace`]) nobody is granted more than it is known to hold: neither a new hold
//!   nor a smaller limit.
//! - G8. A waiter is granted the lock only by a server that has the [`Authority`].
//! - G10. A waiter whose user may not take the lock any more is refused, and the next is served.
//! - G11. A waiter of an inner level gets null if the outer hold is gone.
//! - G12. Before a grant so many ended holds are removed that all holds together are within the limits.
//! - G13. A place in the queue that is kept without a connection is granted the lock in its turn, with a short lease, and its
//!   ticket is called. Its token claims the hold by any request for the lock, and its own lease begins.
//! - G16. A request for several keys is granted all of them or none ([`together`]).
//! - G14. A string may count as a lock ([`StringHold`]). Then the lock is empty, and nobody is granted it while the string is
//!   there.
//! - G17. A request that would close a circle of owners who wait for each other is refused ([`crate::waits_for`]).
//! - L6. What promises a lease removes a time to live that somebody has set on the key. A release, a break and the end of
//!   a lease leave it.
//!
//! A turn changes the lock and the [`Table`], and calls nobody. What is left to do comes out as an [`Outcome`]: the
//! changes in the order in which they were made. A server that applies them in that order has the same lock.

mod held;
mod serving;
mod strings;
pub mod together;

use alloc::boxed::Box;

use smallvec::SmallVec;

use crate::codec::Decoded;
use crate::fence::Fence;
use crate::hold::{Hold, Terms};
use crate::invariants;
use crate::key::{DbKey, OwnedDbKey};
use crate::lock::{Lock, Renewal, Verdict};
use crate::outcome::{Acquired, Authority, Cause, Change, Circumstances, Denied, End, Outcome, WaitOptions};
use crate::queue::{Joining, Seat, Ticket, Waiter};
use crate::refusal::Refusal;
use crate::request::Acquire;
use crate::session::{ClientId, Session};
use crate::share::AskedShare;
use crate::string_hold::StringHold;
use crate::table::Table;
use crate::time::Moment;
use crate::token::Token;
use crate::waits_for::{self, NotedHolds, View};

/// What a LOCK.CHECK of a token that holds comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checked {
    /// The fence of its hold.
    pub fence: Fence,
    /// When its lease ends; `None` for never, as a string may.
    pub deadline: Option<Moment>,
    /// How many wait for the key.
    pub waiting: usize,
}

/// Looks whether a token holds a lock, which changes nothing; but somebody learns of the hold.
pub fn check(
    lock: Option<&Lock>,
    table: &mut Table,
    key: DbKey<'_>,
    token: &Token,
    now: Moment,
) -> Option<Checked> {
    let hold = lock?.hold_of(token, now)?;
    let deadline = if table.has_lost_session(hold) { hold.end_after_close(now)? } else { hold.deadline() };
    table.undos.learned(key, hold.fence());
    let waiting = table.queues.len_at(key);
    Some(Checked { fence: hold.fence(), deadline: Some(deadline), waiting })
}

/// The same of a string that counts as a lock.
pub fn check_string(string: &StringHold, table: &Table, key: DbKey<'_>, token: &Token) -> Option<Checked> {
    let waiting = table.queues.len_at(key);
    let checked = Checked { fence: Fence::NONE, deadline: string.deadline(), waiting };
    string.is_owned_by(token).then_some(checked)
}

/// A turn at one key.
pub struct Turn<'a> {
    /// The lock under the key, empty if there is none. If it is empty after the turn, there is to be none.
    lock: &'a mut Lock,
    /// The string under the key, if there is one that counts as a lock. Then the lock is empty. If it is gone after the turn,
    /// it is to go.
    string: &'a mut Option<StringHold>,
    table: &'a mut Table,
    key: DbKey<'a>,
    now: Moment,
    circumstances: &'a Circumstances,
    outcome: &'a mut Outcome,
}

/// Beginning, end, and what is in between.
///
/// A turn settles first, then it gets the request. When it comes to a candidate, it is dropped, the server is asked
/// whether the candidate still has the right to take the lock, and the turn is resumed. Lock and table are not borrowed
/// meanwhile.
impl<'a> Turn<'a> {
    /// A turn at the lock under a key, an empty one if there is none, or at the string that counts as a lock; or one that goes
    /// on, with what it has come to so far in `outcome`.
    pub fn resume(
        lock: &'a mut Lock,
        string: &'a mut Option<StringHold>,
        table: &'a mut Table,
        key: DbKey<'a>,
        circumstances: &'a Circumstances,
        outcome: &'a mut Outcome,
    ) -> Self {
        Self { lock, string, table, key, now: circumstances.now, circumstances, outcome }
    }

    /// The waiter that is granted the lock next, if its user still has the right to take it.
    pub fn candidate(&self) -> Option<Ticket> {
        self.outcome.candidate
    }

    /// What has come of the turn so far is passed on, before something at another key that follows from it.
    pub fn take_so_far(&mut self) -> Outcome {
        let so_far = self.outcome.take_so_far();
        self.table.count(&so_far);
        so_far
    }

    /// The candidate waits for several keys, and cannot be granted all of them now. So it stays where it is, and so do all
    /// behind it.
    pub fn pass_by_candidate(&mut self) {
        self.outcome.candidate = None;
    }

    /// The candidate has waited for several keys, and has been granted all of them or none: see [`together::serve`].
    pub fn candidate_is_served(&mut self) {
        self.outcome.candidate = None;
        // This turn goes on with those behind it, who need no mark for that. While there is one, none that waits for several keys
        // is ready.
        self.table.undos.unmark(self.key);
        self.serve();
    }

    /// Goes on once it is known whether the candidate has the right to take the lock.
    pub fn judge_candidate(&mut self, has_right: bool) {
        if let Some(ticket) = self.outcome.candidate.take() {
            self.serve_candidate(ticket, has_right);
        }
        self.serve();
    }

    /// Ends the turn: its last step. If the lock is empty now, its key is to go.
    pub fn end(&mut self) -> End {
        debug_assert!(self.candidate().is_none(), "a candidate is left without an answer");
        self.table.count(self.outcome);
        if let Some(end) = self.string.as_ref().and_then(StringHold::deadline) {
            self.table.stands_until(self.key, end);
        }
        let has_changed = self.outcome.has_changed();
        let is_due = has_changed && !self.lock.is_empty();
        let due = if is_due { self.table.note(self.key, self.lock) } else { None };
        self.check_invariants();
        let is_quiet = self.table.is_quiet();
        if !is_quiet {
            self.table.queues.waits_for.see(self.key, self.lock, has_changed);
        }
        End {
            due,
            is_quiet,
            is_marked: !is_quiet && self.table.is_marked(self.key),
            is_decided_here: self.table.does_decide(),
        }
    }

    /// In debug builds: what must be true at the end of every turn.
    fn check_invariants(&self) {
        if cfg!(debug_assertions) {
            invariants::check_lock(self.lock);
            debug_assert!(
                self.lock.is_empty() || !self.is_at_string(),
                "a lock or a string stands under a key, not both"
            );
            // Who waits for several keys may have to wait for another one.
            let head = self.table.queues.head(self.key).filter(|head| !head.is_for_several);
            let is_left = self.table.is_marked(self.key);
            let may_serve =
                self.circumstances.authority == Authority::FULL && !self.is_in_grace() && !is_left;
            let may_serve = may_serve && !self.is_at_string();
            debug_assert!(
                !may_serve || invariants::head_has_to_wait(self.lock, head, self.now),
                "the head of a queue has to wait: {:?}",
                self.lock
            );
        }
    }
}

/// What is to keep the hold of this request alive.
fn session(request: &Acquire<'_>, connection: impl FnOnce() -> ClientId) -> Option<Session> {
    request.session_delay_ms.map(|delay_ms| Session { client: connection(), delay_ms })
}

/// What is asked of a lock.
impl Turn<'_> {
    /// Takes the lock for `request`, or lets it wait if it may. `connection` is what a session is tied to;
    /// `make_token` is called for a request that brings no token and needs one.
    ///
    /// # Errors
    /// [`Refusal::FencesExhausted`], [`Refusal::QueueFull`], [`Refusal::Deadlock`], [`Refusal::Circle`], or [`Refusal::WeightRange`].
    /// Nothing has changed then.
    pub fn acquire(
        &mut self,
        request: &Acquire<'_>,
        connection: impl FnOnce() -> ClientId,
        wait: Option<WaitOptions>,
        make_token: impl FnOnce() -> Token,
    ) -> Result<Acquired, Refusal> {
        let acquired = if self.is_at_string() {
            self.acquire_string(request, wait, make_token)
        } else {
            self.try_to_acquire(request, connection, wait, make_token)
        };
        if !matches!(acquired, Ok(Acquired::Granted(..))) {
            self.outcome.denied = Denied::of(&acquired);
        }
        acquired
    }

    #[inline]
    fn try_to_acquire(
        &mut self,
        request: &Acquire<'_>,
        connection: impl FnOnce() -> ClientId,
        wait: Option<WaitOptions>,
        make_token: impl FnOnce() -> Token,
    ) -> Result<Acquired, Refusal> {
        self.end_lost_session(request.token.as_ref());
        if request.is_inner() && !self.holds(request.token.as_ref()) {
            // The outer hold is gone, and what works under it is to learn that.
            return Ok(Acquired::NotAvailable);
        }
        self.check_share(request.token.as_ref(), request.asked)?;
        match (self.lock.judge(request.token.as_ref(), request.asked, self.now), &request.token) {
            (verdict @ (Verdict::Renew | Verdict::Upgrade), Some(token))
                if !verdict.gives_more() || !self.is_in_grace() =>
            {
                let renewal = Renewal::of(request, session(request, connection));
                let undo = self.renew(token, renewal).ok_or(Refusal::Internal)?;
                self.table.undos.learned(self.key, undo.fence);
                if wait.is_some() {
                    self.give_up_place(token);
                }
                self.serve();
                Ok(Acquired::Granted(token.clone(), undo.fence))
            }
            (Verdict::Grant, token)
                if self.is_next(token.as_ref(), wait.is_some()) && !self.is_in_grace() =>
            {
                let fence = self.draw_fence().ok_or(Refusal::FencesExhausted)?;
                let token = request.token.clone().unwrap_or_else(make_token);
                let terms = Terms::of(request, &token, session(request, connection));
                let has_waited = self.table.queues.is_waited_for(self.key);
                self.grant(Hold::grant(terms, fence, self.now), has_waited);
                if has_waited {
                    // Who is next although somebody waits is the one who waits.
                    let head = self.table.queues.head(self.key);
                    self.outcome.waited_since.extend(head.map(|head| head.since));
                    self.give_up_place(&token);
                    self.serve();
                }
                Ok(Acquired::Granted(token, fence))
            }
            _ => match wait {
                None => Ok(Acquired::NotAvailable),
                Some(wait) => self.wait(request, wait, make_token),
            },
        }
    }

    /// # Errors
    /// [`Refusal::WeightRange`] if no lock could ever have room for what is asked.
    #[inline]
    fn check_share(&self, token: Option<&Token>, asked: AskedShare) -> Result<(), Refusal> {
        if asked == AskedShare::default() { Ok(()) } else { self.check_named_share(token, asked) }
    }

    /// The same where the request names a part of its share. Most name none.
    fn check_named_share(&self, token: Option<&Token>, asked: AskedShare) -> Result<(), Refusal> {
        let held = token.and_then(|token| self.lock.hold_of(token, self.now));
        asked.check(held.map(Hold::share))
    }

    /// Whether nobody waits ahead of a request (G4). The token may head the queue itself, and ask again for less.
    #[inline]
    fn is_next(&self, token: Option<&Token>, may_wait: bool) -> bool {
        !self.table.queues.is_waited_for(self.key)
            || may_wait && self.table.queues.head(self.key).is_some_and(|head| Some(&head.token) == token)
    }

    /// A token that was granted what it asked for waits no longer for what it asked for before.
    fn give_up_place(&mut self, token: &Token) {
        if let Some(ticket) = self.table.queues.ticket_of(self.key, token) {
            let older = self.leave(ticket);
            older.into_iter().for_each(|older| self.tell(older.client, older.when_superseded(ticket, true)));
        }
    }

    /// Takes a request out of its queues. Where it has waited besides, others may be next now.
    fn leave(&mut self, ticket: Ticket) -> Option<Waiter> {
        let Seat { waiter, keys, .. } = self.table.queues.unseat(ticket)?;
        let elsewhere = keys.iter().map(OwnedDbKey::as_key).filter(|key| *key != self.key);
        elsewhere.for_each(|key| self.table.touched(key));
        Some(waiter)
    }

    fn wait(
        &mut self,
        request: &Acquire<'_>,
        wait: WaitOptions,
        make_token: impl FnOnce() -> Token,
    ) -> Result<Acquired, Refusal> {
        let ahead = self.holds(request.token.as_ref());
        if ahead && self.upgrade_waits(request.token.as_ref()) {
            // Each of the two waits for the other's hold to end.
            return Err(Refusal::Deadlock);
        }
        let token = request.token.clone().unwrap_or_else(make_token);
        let limits = wait.limits;
        let joining = self.joining(request, wait, token, ahead);
        if self.closes_circle(&[self.key], &joining) {
            return Err(Refusal::Circle);
        }
        self.table.queues.room_for(self.key, &joining.waiter.token, limits)?;
        Ok(joining.or_without_connection())
    }

    /// What a request joins a queue with.
    fn joining(&self, request: &Acquire<'_>, wait: WaitOptions, token: Token, ahead: bool) -> Joining {
        let block_ms = request.block_ms.filter(|ms| wait.client.is_some() && *ms > 0);
        let waiter = Waiter {
            client: wait.client,
            token,
            asked: request.asked,
            lease_ms: request.lease_ms,
            owner: request.owner.map(Box::from),
            session_delay_ms: request.session_delay_ms,
            level: request.level,
            since: self.now,
            until: block_ms.map(|ms| self.now.plus_ms(ms)),
            keep: wait.keep,
            is_for_several: false,
        };
        let holds = SmallVec::from_elem(self.note_for(&waiter), 1);
        let last_fence = self.table.fences.last().map_or(0, Fence::get);
        let above = self.circumstances.wall_micros.max(last_fence);
        let stands_until = SmallVec::from_elem(self.string.as_ref().and_then(StringHold::deadline), 1);
        let is_held = SmallVec::from_elem(self.is_held(), 1);
        Joining { waiter, ahead, above, stands_until, is_held, holds }
    }

    /// Whether anybody holds this lock.
    fn is_held(&self) -> bool {
        self.is_at_string() || self.lock.live_count(self.now) > 0
    }

    /// The holds of this lock, if a request may come to wait for it in a circle.
    fn note_for(&self, waiter: &Waiter) -> NotedHolds {
        if waiter.is_noted() { waits_for::note(self.lock) } else { None }
    }

    /// Whether a request for these keys would close a circle of owners if it waited (G17).
    fn closes_circle(&mut self, keys: &[DbKey<'_>], joining: &Joining) -> bool {
        let Table { queues, sessions, undos, .. } = &mut *self.table;
        queues.closes_circle(keys, joining, View { now: self.now, sessions, undos })
    }

    fn holds(&self, token: Option<&Token>) -> bool {
        token.is_some_and(|token| self.lock.hold_of(token, self.now).is_some() || self.owns_string(token))
    }

    /// Whether another holder than the one of `token` waits to change its limit.
    fn upgrade_waits(&self, token: Option<&Token>) -> bool {
        let mut ahead = self.table.queues.ahead(self.key).map(|(_, waiter)| &waiter.token);
        ahead.any(|other| token != Some(other) && self.holds(Some(other)))
    }

    /// Sets holds to what another server decided, all of them or none; in place of what there is, where it says that these
    /// are all.
    ///
    /// # Errors
    /// The rule that the lock would break, see [`Lock::adopt`].
    pub fn apply(&mut self, decided: Decoded) -> Result<(), &'static str> {
        let Decoded { holds, is_whole } = decided;
        let fences: SmallVec<[Fence; 1]> = holds.iter().map(Hold::fence).collect();
        if is_whole {
            let before = self.lock.replace(holds)?;
            self.table.sessions.departed(self.key, before.kept());
        } else {
            self.lock.adopt(holds)?;
        }
        fences.into_iter().for_each(|fence| self.table.raise_fence(fence));
        self.outcome.has_promised = true;
        self.outcome.changes.push(Change::AsAsked(Cause::Applied, SmallVec::new()));
        Ok(())
    }

    /// Undoes what is marked at this key, and serves the queue.
    pub fn settle(&mut self) {
        if !self.circumstances.authority.may_grant || !self.table.has_business_at(self.key) {
            return;
        }
        let mut undos = self.table.undos.take_mark(self.key);
        // First holds end whose connections have closed, so that nobody is called for one of them.
        undos.sort_by_key(|undo| undo.is_about_a_grant());
        undos.into_iter().for_each(|undo| self.undo(undo));
        self.serve();
    }
}
