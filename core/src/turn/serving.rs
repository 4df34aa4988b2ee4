//! What follows from a request: undoing, serving the queue, granting. The rules are those of [`super`].

use alloc::vec::Vec;

use super::Turn;
use crate::answer::Answer;
use crate::fence::Fence;
use crate::hold::{Hold, Terms};
use crate::lock::{Renewal, Verdict};
use crate::outcome::{Authority, Cause, Change, Ended, Ending};
use crate::queue::{Ticket, Waiter};
use crate::refusal::Refusal;
use crate::request::is_inner;
use crate::session::{ClientId, Session};
use crate::share::Share;
use crate::table::Table;
use crate::token::Token;
use crate::undo::{Known, Undo, What};

/// How many ended holds are removed at a time before a grant.
const ENDED_AT_ONCE: usize = 64;

/// What is to keep the hold of this waiter alive.
fn session_of(waiter: &Waiter) -> Option<Session> {
    Some(Session { client: waiter.client?, delay_ms: waiter.session_delay_ms? })
}

/// What follows from it.
impl Turn<'_> {
    pub(super) fn is_in_grace(&self) -> bool {
        self.table.is_in_grace(self.circumstances.grace_ms, self.now)
    }

    pub(super) fn draw_fence(&mut self) -> Option<Fence> {
        self.table.fences.draw(self.circumstances.wall_micros)
    }

    /// Tells the connection that waited at a place that has ended. A place without one ends with nobody to tell.
    pub(super) fn tell(&mut self, client: Option<ClientId>, answer: Answer) {
        match client {
            Some(client) => self.outcome.answers.push((client, answer)),
            None => self.outcome.places_ended = self.outcome.places_ended.saturating_add(1),
        }
    }

    pub(super) fn undo(&mut self, undo: Undo) {
        match undo.what {
            What::Grant => self.end_hold(undo.fence, Ending::Undone),
            What::Unclaimed { ticket, known } => {
                let claim_ms = self.circumstances.claim_ms;
                let deadline = known.map(|known| known.deadline);
                let left = self.lock.leave_to_claim(undo.fence, claim_ms, deadline, self.now).cloned();
                if let Some(hold) = left {
                    self.leave_renewal_to_claim(undo.fence, known);
                    self.outcome.has_promised = true;
                    self.outcome.changes.push(Change::Set(hold, Cause::LeftToClaim));
                    self.outcome.calls.extend(ticket);
                }
            }
            What::Session(client) => {
                let session = self.lock.hold(undo.fence).and_then(Hold::session);
                if session.is_some_and(|session| session.client == client) {
                    self.end_session(undo.fence);
                }
            }
            What::Renewal { share, level } => {
                if !self.lock.hold(undo.fence).is_some_and(|hold| hold.is_live(self.now)) {
                    return;
                }
                if self.lock.tolerates(undo.fence, share, self.now) {
                    self.make_room(share, Some(undo.fence));
                }
                if let Some(hold) = self.lock.undo_renewal(undo.fence, share, level, self.now).cloned() {
                    self.outcome.has_promised = true;
                    self.outcome.changes.push(Change::Set(hold, Cause::Undone));
                }
            }
        }
    }

    fn end_hold(&mut self, fence: Fence, why: Ending) {
        if let Some(hold) = self.lock.take(fence) {
            if let Some(session) = hold.session() {
                self.table.sessions.lets_go(session.client, self.key, fence);
            }
            self.outcome.changes.push(Change::Ended(fence, Ended::new(&hold, why)));
        }
    }

    /// The connection that kept a hold alive has closed: the hold ends, or stays for its delay.
    fn end_session(&mut self, fence: Fence) {
        let client = self.lock.hold(fence).and_then(Hold::session).map(|session| session.client);
        let Some(stays) = self.lock.stay_after_close(fence, self.now).cloned() else {
            return self.end_hold(fence, Ending::SessionClosed);
        };
        client.into_iter().for_each(|client| self.table.sessions.lets_go(client, self.key, fence));
        self.outcome.has_promised = true;
        self.outcome.changes.push(Change::Set(stays, Cause::Closed));
    }

    /// Ends the session of a token whose connection has closed, should that not have been marked yet.
    #[inline]
    pub(super) fn end_lost_session(&mut self, token: Option<&Token>) {
        if self.table.sessions.has_left() && self.circumstances.authority.may_grant {
            self.end_hold_of_lost_session(token);
        }
    }

    #[cold]
    fn end_hold_of_lost_session(&mut self, token: Option<&Token>) {
        let hold = token.and_then(|token| self.lock.hold_of(token, self.now));
        if let Some(hold) = hold.filter(|hold| self.table.has_lost_session(hold)) {
            self.end_session(hold.fence());
            self.table.undos.mark(self.key);
        }
    }

    /// Takes ended leases off the lock, as many as must go before a hold with this share can be put in, in place of the one
    /// with the fence `instead_of`: what is passed on is never more than the limits allow, ended leases included.
    fn make_room(&mut self, share: Share, instead_of: Option<Fence>) {
        if self.end_lapsed(ENDED_AT_ONCE) == 0 || self.lock.has_room_for(share, instead_of) {
            return;
        }
        // Very many have ended: it is less work to pass on those that are left. If none is, what follows is the only hold.
        let ended = self.lock.end_where(|hold| !hold.is_live(self.now));
        let left = self.lock.holds().iter().cloned().collect();
        self.outcome.changes.push(Change::Whole(left, ended.iter().map(Ended::lapsed).collect()));
    }

    /// Ends leases that have run out. A hold that a connection keeps alive is none of them.
    pub(super) fn end_lapsed(&mut self, at_most: usize) -> usize {
        let ended = self.lock.end_lapsed(self.now, at_most);
        let changes = ended.iter().map(|hold| Change::Ended(hold.fence(), Ended::lapsed(hold)));
        self.outcome.changes.extend(changes);
        ended.len()
    }

    /// Serves the queue until its first has to wait, or comes to a candidate whose right is to be looked at.
    #[inline]
    pub(super) fn serve(&mut self) {
        if self.outcome.candidate.is_none() && self.table.queues.is_waited_for(self.key) {
            self.serve_waiters();
        }
    }

    /// Apart from the question whether there are any, which most turns answer with no.
    #[inline(never)]
    fn serve_waiters(&mut self) {
        if self.circumstances.authority != Authority::FULL {
            // Somebody will, and is not to forget.
            self.table.undos.mark(self.key);
            return;
        }
        self.put_those_ahead_right();
        loop {
            let Some((ticket, head)) = self.table.queues.places(self.key).next() else { return };
            let is_late = head.until.is_some_and(|until| until <= self.now);
            let is_orphan = self.is_orphan(head);
            // Its hold may have changed since it began to wait.
            let misfit = self.check_share(Some(&head.token), head.asked).err();
            let verdict = self.lock.judge(Some(&head.token), head.asked, self.now);
            let has_to_wait =
                self.is_at_string() || verdict == Verdict::Wait || verdict.gives_more() && self.is_in_grace();
            if has_to_wait && !is_late && !is_orphan && misfit.is_none() {
                return;
            }
            if self.outcome.work() >= self.circumstances.at_most {
                self.table.undos.mark(self.key);
                return;
            }
            if is_orphan {
                self.dismiss(ticket);
            } else if is_late {
                self.end_wait(ticket);
            } else if let Some(refusal) = misfit {
                self.refuse(ticket, refusal);
            } else {
                self.outcome.candidate = Some(ticket);
                return;
            }
        }
    }

    /// Moves waiters that go ahead, and whose holds have ended, to where they would have stood from the start (G5). Requests of
    /// inner levels are answered with null instead: they could only be granted what they did not ask for (G11). So are requests
    /// for several keys, whose token may hold others of these still, and must not wait while it does (G16).
    fn put_those_ahead_right(&mut self) {
        let ahead = self.table.queues.ahead(self.key);
        let gone: Vec<Ticket> =
            ahead.filter(|(_, waiter)| !self.holds(Some(&waiter.token))).map(|(ticket, _)| ticket).collect();
        for ticket in gone {
            let is_inner = self.table.queues.waiter(ticket).is_some_and(|waiter| is_inner(waiter.level));
            if is_inner || self.table.queues.keys_of(ticket).len() > 1 {
                self.dismiss(ticket);
            } else {
                self.table.queues.step_back(ticket);
            }
        }
    }

    fn dismiss(&mut self, ticket: Ticket) {
        if let Some(waiter) = self.leave(ticket) {
            self.tell(waiter.client, Answer::NotAvailable);
        }
    }

    fn refuse(&mut self, ticket: Ticket, refusal: Refusal) {
        if let Some(waiter) = self.leave(ticket) {
            self.tell(waiter.client, Answer::Refused(refusal));
        }
    }

    /// Ends a wait whose time is over. The place may be kept without the connection.
    fn end_wait(&mut self, ticket: Ticket) {
        match self.table.queues.step_aside(ticket, self.now) {
            Some(client) => self.tell(Some(client), Answer::Queued(ticket)),
            None => {
                self.table.timed_out();
                self.dismiss(ticket);
            }
        }
    }

    fn is_orphan(&self, waiter: &Waiter) -> bool {
        is_inner(waiter.level) && !self.holds(Some(&waiter.token))
    }

    /// Grants the lock to a request that waited and has come to the head of the queue, if its user has the right to take it.
    pub(super) fn serve_candidate(&mut self, ticket: Ticket, has_right: bool) {
        let Some(waiter) = self.leave(ticket) else { return };
        if !has_right {
            return self.tell(waiter.client, Answer::Refused(waiter.no_permission()));
        }
        let wall_micros = self.circumstances.wall_micros;
        match self.grant_to_waiter(Some(ticket), &waiter, |table| table.fences.draw(wall_micros)) {
            Some(fence) => self.announce(ticket, waiter, fence),
            None => self.tell(waiter.client, Answer::Refused(Refusal::FencesExhausted)),
        }
    }

    /// Grants the lock to a request that has waited, and returns the fence of its hold. `make_fence` is called for a new hold.
    pub(super) fn grant_to_waiter(
        &mut self,
        call: Option<Ticket>,
        waiter: &Waiter,
        make_fence: impl FnOnce(&mut Table) -> Option<Fence>,
    ) -> Option<Fence> {
        let known = self.lock.hold_of(&waiter.token, self.now).map(|hold| Known {
            deadline: hold.deadline(),
            share: hold.share(),
            level: hold.level(),
        });
        let undo = match known {
            Some(_) => self.renew_waiter(waiter)?,
            None => {
                let fence = make_fence(self.table)?;
                self.grant_waiter(waiter, fence)
            }
        };
        match waiter.client {
            None => self.leave_renewal_to_claim(undo.fence, known),
            Some(client) => {
                let left_to_claim = waiter.keep.is_some().then_some(What::Unclaimed { ticket: call, known });
                let undo = Undo { what: left_to_claim.unwrap_or(undo.what), ..undo };
                self.table.undos.granted(client, self.key, undo);
            }
        }
        Some(undo.fence)
    }

    /// A hold that was renewed without a connection gets back what its token knew of, unless it is claimed in time.
    fn leave_renewal_to_claim(&mut self, fence: Fence, known: Option<Known>) {
        if let Some(known) = known {
            let until = self.now.plus_ms(self.circumstances.claim_ms);
            self.table.undos.left_to_claim(self.key, fence, known, until);
        }
    }

    fn renew_waiter(&mut self, waiter: &Waiter) -> Option<Undo> {
        let renewal = Renewal {
            lease_ms: match waiter.client {
                Some(_) => waiter.lease_ms,
                None => waiter.lease_ms.min(self.circumstances.claim_ms),
            },
            asked: waiter.asked,
            owner: waiter.owner.as_deref(),
            session: session_of(waiter),
            level: waiter.level,
            // Without a connection its token is not asking now, and counts on the lease that it has.
            prolongs: waiter.level.is_some() || waiter.client.is_none(),
        };
        self.renew(&waiter.token, renewal)
    }

    fn grant_waiter(&mut self, waiter: &Waiter, fence: Fence) -> Undo {
        let terms = Terms {
            token: &waiter.token,
            share: waiter.asked.of_newcomer(),
            lease_ms: waiter.lease_ms,
            owner: waiter.owner.as_deref(),
            session: session_of(waiter),
        };
        let hold = Hold::grant(terms, fence, self.now);
        let claim_ms = self.circumstances.claim_ms;
        let hold = if waiter.client.is_some() { hold } else { hold.unclaimed(claim_ms, self.now) };
        self.grant(hold, true);
        Undo { fence, what: What::Grant }
    }

    pub(super) fn grant(&mut self, hold: Hold, has_waited: bool) {
        if !self.lock.is_empty() {
            self.make_room(hold.share(), None);
            self.end_left_over(&hold);
        }
        if let Some(session) = hold.session() {
            self.table.sessions.keeps(session.client, self.key, hold.fence());
        }
        self.outcome.has_promised = true;
        let cause = Cause::Granted { has_waited };
        self.outcome.changes.push(if self.lock.is_empty() {
            Change::First(hold.clone(), cause)
        } else {
            Change::Set(hold.clone(), cause)
        });
        self.lock.put(hold);
    }

    /// An ended hold of the same token may still be there. The new one replaces it.
    fn end_left_over(&mut self, hold: &Hold) {
        if let Some(fence) = self.lock.left_over(&hold.token(), self.now)
            && let Some(ended) = self.lock.take(fence)
        {
            self.outcome.changes.push(Change::Ended(fence, Ended::lapsed(&ended)));
        }
    }

    /// Grants a hold again. Returns what undoes that.
    pub(super) fn renew(&mut self, token: &Token, renewal: Renewal<'_>) -> Option<Undo> {
        let before = self.lock.hold_of(token, self.now)?;
        let (fence, share, level) = (before.fence(), before.share(), before.level());
        let session_before = before.session();
        self.make_room(renewal.asked.beside(share), Some(fence));
        let hold = self.lock.renew(token, renewal, self.now)?.clone();
        if hold.session() != session_before {
            if let Some(session) = session_before {
                self.table.sessions.lets_go(session.client, self.key, fence);
            }
            if let Some(session) = hold.session() {
                self.table.sessions.keeps(session.client, self.key, fence);
            }
        }
        self.outcome.has_promised = true;
        self.outcome.changes.push(Change::Set(hold, Cause::Renewed));
        Some(Undo { fence, what: What::Renewal { share, level } })
    }
}
