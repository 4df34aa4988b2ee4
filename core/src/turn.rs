//! A turn at one key: what is asked of its lock, what follows for those who wait, and what has to be done about it.
//!
//! Whatever frees a lock hands it over in the same turn. The rules, for every turn:
//!
//! 1. First what is marked at the key is put right ([`Queues`], rule 4), so that nobody comes between an event and
//!    what follows from it.
//! 2. Then the request is judged. Who does not hold the lock yet is admitted only when nobody waits.
//! 3. Then the queue is served: the first is granted if the rule of admission has room for it, and so on, until the
//!    first has to wait. A request whose time is up is answered with null instead; so is one of an inner level whose
//!    outer hold is gone. A user who may not take the lock any more is refused, and the next is served.
//! 4. While grants may have been lost ([`crate::grace`]), nobody is granted more than it holds: neither a new hold nor a
//!    smaller limit, since either may be at the cost of a holder that is not known.
//! 5. Whoever waits is granted only a key that is this server's: what no command asks for, no cluster has sent here.
//! 6. Whatever promises a lease takes a time to live off the key that somebody has set on it before. What promises none,
//!    a release, a break, the end of a lease, leaves it.
//!
//! Every change is told to [`Perform`] in the order in which it was made, so that whoever repeats the changes in that
//! order has the same lock.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::fence::Fence;
use crate::hold::{Hold, Limit, Terms};
use crate::lock::{Lock, Released, Renewal, Verdict};
use crate::place::Place;
use crate::queue::{ClientId, Joining, Queues, Remedy, Waiter, WaiterLimits};
use crate::refusal::Refusal;
use crate::request::{Acquire, Broken, is_inner};
use crate::time::Moment;
use crate::token::Token;

/// Carries out what a turn comes to.
pub trait Perform {
    /// Whether this server may decide now: it is a master, and its clients are not paused. Asked only where there is
    /// something to decide that no client's command has asked for.
    fn decides(&mut self) -> bool;
    /// Whether the key is this server's, and not another one's of its cluster. Asked only where no client's command was
    /// sent here for that key.
    fn owns(&mut self) -> bool;
    /// Whether a lease of this lock is this server's to end, and not to be left to the server that the key comes from.
    fn keeps(&mut self) -> bool;
    /// Whether a hold on the key may have been granted that this server does not know of ([`crate::grace`]).
    fn may_have_lost_grants(&mut self) -> bool;
    /// Whether this connection is still open.
    fn is_open(&mut self, connection: ClientId) -> bool;
    /// Whether this client, which waits, still has the right to take the lock. Asked when its turn has come.
    fn may_acquire(&mut self, client: ClientId) -> bool;
    /// Draws the fence of a new grant; `None` when the sequence has come to its end.
    fn draw_fence(&mut self) -> Option<Fence>;
    /// A lease was promised: a time to live that somebody has set on the key goes, or the lease would end early.
    fn take_off_ttl(&mut self);
    /// A hold is now as it is: pass it on.
    fn hold_is(&mut self, hold: &Hold);
    /// The hold with this fence has ended: pass it on.
    fn hold_ended(&mut self, fence: Fence);
    /// What was asked has been done, and says all there is to say: pass it on as it came.
    fn as_asked(&mut self);
    /// A client that waited is to be answered.
    fn answer(&mut self, client: ClientId, answer: Answer);
}

/// What a client that waited is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The lock is its own.
    Granted(Grant),
    /// Not within its time, or another request of its token took its place.
    NotAvailable,
    /// It cannot be served any more.
    Refused(Refusal),
}

/// What a client that waited was granted. If it cannot be told, [`Queues::lost`] has that undone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// The client.
    pub client: ClientId,
    /// The token that holds.
    pub token: Token,
    /// The fence of the hold.
    pub fence: Fence,
}

/// A client that can wait, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// The client.
    pub client: ClientId,
    /// When it stops waiting; `None` for never.
    pub until: Option<Moment>,
    /// The most that may wait.
    pub limits: WaiterLimits,
}

/// What an ACQUIRE comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Acquired {
    /// The token holds the lock under this fence.
    Granted(Token, Fence),
    /// Others hold it.
    NotAvailable,
    /// The client is to wait. Nothing has changed yet: where the server cannot let it wait, it is not available; else it
    /// joins the queue ([`Queues::join`]).
    Waits(Box<Joining>),
}

/// A turn at one key.
pub struct Turn<'a, P> {
    /// The lock under the key, empty if there is none. If it is empty after the turn, there is to be none.
    pub lock: &'a mut Lock,
    /// All queues.
    pub queues: &'a mut Queues,
    /// The key.
    pub place: Place<'a>,
    /// When the turn is.
    pub now: Moment,
    /// Who carries out what it comes to.
    pub perform: &'a mut P,
}

impl<P: Perform> Turn<'_, P> {
    /// Takes the lock for `request`, or lets it wait if it has patience. `connection` is what a session is tied to;
    /// `make_token` is called for a request that brings no token and needs one.
    ///
    /// # Errors
    /// [`Refusal::FencesExhausted`], [`Refusal::QueueFull`], or [`Refusal::Deadlock`]. Nothing has changed then.
    pub fn acquire(
        &mut self,
        request: &Acquire<'_>,
        connection: impl FnOnce() -> ClientId,
        patience: Option<Patience>,
        make_token: impl FnOnce() -> Token,
    ) -> Result<Acquired, Refusal> {
        self.settle();
        if request.is_inner() && !self.holds(request.token.as_ref()) {
            // The outer hold is gone, and what works under it is to learn that.
            return Ok(Acquired::NotAvailable);
        }
        let session = request.session.then(connection);
        match (self.lock.judge(request.token.as_ref(), request.limit, self.now), &request.token) {
            (verdict @ (Verdict::Renew | Verdict::Upgrade), Some(token))
                if !verdict.gives_more() || !self.perform.may_have_lost_grants() =>
            {
                let renewal = Renewal {
                    lease_ms: request.lease_ms,
                    limit: request.limit,
                    owner: request.owner,
                    session,
                    level: request.level,
                };
                let (fence, _) = self.renew(token, renewal).ok_or(Refusal::Internal)?;
                self.queues.learned(self.place, fence);
                self.serve();
                Ok(Acquired::Granted(token.clone(), fence))
            }
            (Verdict::Grant, _)
                if self.queues.queue(self.place).is_none() && !self.perform.may_have_lost_grants() =>
            {
                let fence = self.perform.draw_fence().ok_or(Refusal::FencesExhausted)?;
                let token = request.token.clone().unwrap_or_else(make_token);
                let limit = request.limit.unwrap_or(Limit::EXCLUSIVE);
                let terms = Terms {
                    token: token.clone(),
                    limit,
                    lease_ms: request.lease_ms,
                    owner: request.owner,
                    session,
                };
                self.grant(Hold::grant(terms, fence, self.now));
                Ok(Acquired::Granted(token, fence))
            }
            _ => match patience {
                None => Ok(Acquired::NotAvailable),
                Some(patience) => self.wait(request, patience, make_token),
            },
        }
    }

    fn wait(
        &self,
        request: &Acquire<'_>,
        patience: Patience,
        make_token: impl FnOnce() -> Token,
    ) -> Result<Acquired, Refusal> {
        let ahead = self.holds(request.token.as_ref());
        if ahead && self.upgrade_waits(request.token.as_ref()) {
            // Each of the two waits for the other's hold to end.
            return Err(Refusal::Deadlock);
        }
        let waiter = Waiter {
            client: patience.client,
            token: request.token.clone().unwrap_or_else(make_token),
            limit: request.limit,
            lease_ms: request.lease_ms,
            owner: request.owner.map(Box::from),
            session: request.session,
            level: request.level,
            since: self.now,
            until: patience.until,
        };
        self.queues.room_for(self.place, &waiter.token, patience.limits)?;
        Ok(Acquired::Waits(Box::new(Joining { waiter, ahead })))
    }

    fn holds(&self, token: Option<&Token>) -> bool {
        token.is_some_and(|token| self.lock.hold_of(token, self.now).is_some())
    }

    /// Whether another holder than the one of `token` waits to change its limit.
    fn upgrade_waits(&self, token: Option<&Token>) -> bool {
        let queue = self.queues.queue(self.place);
        let mut ahead = queue.into_iter().flat_map(|queue| queue.ahead()).map(|waiter| &waiter.token);
        ahead.any(|other| token != Some(other) && self.holds(Some(other)))
    }

    /// Gives back `level` of the token's hold and what is above it; false if it holds nothing, or is not so deep. A token
    /// that is left without a hold waits for this lock no longer either, if it is its client who says so: what is read from
    /// a file or from a master was said of another time, or to another server. For `obey` see [`Lock::release`].
    pub fn release(&mut self, token: &Token, level: u16, obey: impl Fn() -> bool) -> bool {
        self.settle();
        let released = self.lock.release(token, level, self.now, &obey) != Released::NotHeld;
        if released {
            self.perform.as_asked();
        }
        let mut withdrawn = None;
        if self.queues.queue(self.place).is_some() && !self.holds(Some(token)) && !obey() {
            withdrawn = self.queues.withdraw(self.place, token);
        }
        if let Some(waiter) = &withdrawn {
            self.perform.answer(waiter.client, Answer::NotAvailable);
        }
        if released || withdrawn.is_some() {
            self.serve();
        }
        released
    }

    /// Sets the lease of the token's hold anew; false if it holds nothing. For `obey` see [`Lock::extend`].
    pub fn extend(&mut self, token: &Token, lease_ms: Option<u64>, obey: impl FnOnce() -> bool) -> bool {
        self.settle();
        let extended = self.lock.extend(token, lease_ms, self.now, obey);
        if let (true, Some(hold)) = (extended, self.lock.hold_of(token, self.now)) {
            self.queues.learned(self.place, hold.fence());
        }
        if extended {
            self.perform.take_off_ttl();
            self.perform.as_asked();
        }
        extended
    }

    /// Ends holds, whoever owns them. Returns the fences of those that were still held.
    pub fn break_holds(&mut self, broken: Broken) -> Vec<Fence> {
        self.settle();
        let now = self.now;
        let (held, has_ended) = match broken {
            Broken::All => {
                let held = self.lock.live_holds(now).map(Hold::fence).collect();
                (held, !self.lock.end_where(|_| true).is_empty())
            }
            Broken::One(fence) => {
                let held = self.lock.hold(fence).filter(|hold| hold.is_live(now)).map(Hold::fence);
                (held.into_iter().collect(), self.lock.end(fence))
            }
            Broken::Nobody => (Vec::new(), false),
        };
        if has_ended {
            self.perform.as_asked();
            self.serve();
        }
        held
    }

    /// Does what is due at this lock: keeps alive the holds whose connections are open, and ends the leases that have
    /// run out. At most `at_most` of them; returns how many, or `None` where the lock is not this server's to keep at
    /// present.
    pub fn expire(&mut self, at_most: usize) -> Option<usize> {
        if !self.perform.keeps() {
            return None;
        }
        self.settle();
        let mut done = 0_usize;
        for fence in self.lock.sessions_due(self.now, at_most) {
            let session = self.lock.hold(fence).and_then(Hold::session);
            let hold = if session.is_some_and(|connection| self.perform.is_open(connection)) {
                self.lock.keep_alive(fence, self.now)
            } else {
                // A connection that closed has been reported, but this hold was not where it was looked for.
                self.lock.end_session(fence)
            };
            let Some(hold) = hold else { continue };
            self.perform.take_off_ttl();
            self.perform.hold_is(hold);
            done = done.saturating_add(1);
        }
        done = done.saturating_add(self.end_lapsed(at_most.saturating_sub(done)));
        self.serve();
        Some(done)
    }

    /// Sets holds to what another server decided, all of them or none.
    ///
    /// # Errors
    /// The rule that the lock would break, see [`Lock::adopt`].
    pub fn apply(&mut self, holds: Vec<Hold>) -> Result<(), &'static str> {
        self.lock.adopt(holds)?;
        self.perform.take_off_ttl();
        self.perform.as_asked();
        Ok(())
    }

    /// Puts right what is marked at this key, and serves the queue.
    pub fn settle(&mut self) {
        if self.queues.is_quiet() || !self.perform.decides() {
            return;
        }
        for remedy in self.queues.take_mark(self.place) {
            self.put_right(remedy);
        }
        self.serve();
    }

    fn put_right(&mut self, remedy: Remedy) {
        match remedy {
            Remedy::EndHold(fence) => {
                if self.lock.end(fence) {
                    self.perform.hold_ended(fence);
                }
            }
            Remedy::EndSession(client) => self.end_holds(|hold| hold.session() == Some(client)),
            Remedy::UndoRenewal { fence, limit, level } => {
                let Some(hold) = self.lock.undo_renewal(fence, limit, level, self.now) else { return };
                self.perform.take_off_ttl();
                self.perform.hold_is(hold);
            }
        }
    }

    fn end_holds(&mut self, ends: impl Fn(&Hold) -> bool) {
        let fences = self.lock.end_where(ends);
        self.pass_on_ends(&fences);
    }

    fn end_lapsed(&mut self, at_most: usize) -> usize {
        let fences = self.lock.end_lapsed(self.now, at_most);
        self.pass_on_ends(&fences);
        fences.len()
    }

    fn pass_on_ends(&mut self, fences: &[Fence]) {
        fences.iter().for_each(|fence| self.perform.hold_ended(*fence));
    }

    /// Serves the queue until its first has to wait.
    fn serve(&mut self) {
        if self.queues.queue(self.place).is_none() {
            return;
        }
        if !self.perform.decides() || !self.perform.owns() {
            // Somebody will, and is not to forget.
            self.queues.mark(self.place);
            return;
        }
        self.dismiss_orphans();
        while let Some(head) = self.queues.head(self.place) {
            let client = head.client;
            let is_late = head.until.is_some_and(|until| until <= self.now) || self.is_orphan(head);
            let verdict = self.lock.judge(Some(&head.token), head.limit, self.now);
            let has_to_wait =
                verdict == Verdict::Refuse || verdict.gives_more() && self.perform.may_have_lost_grants();
            if has_to_wait && !is_late {
                break;
            }
            let Some(waiter) = self.queues.remove(client) else { break };
            let answer = if is_late {
                Answer::NotAvailable
            } else if self.perform.may_acquire(client) {
                self.admit(&waiter)
            } else {
                Answer::Refused(Refusal::NoPermission)
            };
            self.perform.answer(client, answer);
        }
    }

    /// Answers requests of inner levels whose outer hold is gone: they could only be granted what they did not ask for.
    fn dismiss_orphans(&mut self) {
        let queue = self.queues.queue(self.place);
        let ahead = queue.into_iter().flat_map(|queue| queue.ahead());
        let orphans: Vec<ClientId> =
            ahead.filter(|waiter| self.is_orphan(waiter)).map(|waiter| waiter.client).collect();
        for client in orphans {
            self.queues.remove(client);
            self.perform.answer(client, Answer::NotAvailable);
        }
    }

    fn is_orphan(&self, waiter: &Waiter) -> bool {
        is_inner(waiter.level) && !self.holds(Some(&waiter.token))
    }

    /// Grants a request that waited and has come to the head of the queue.
    fn admit(&mut self, waiter: &Waiter) -> Answer {
        let session = waiter.session.then_some(waiter.client);
        let granted = if self.holds(Some(&waiter.token)) {
            let renewal = Renewal {
                lease_ms: waiter.lease_ms,
                limit: waiter.limit,
                owner: waiter.owner.as_deref(),
                session,
                level: waiter.level,
            };
            self.renew(&waiter.token, renewal)
        } else {
            let fence = self.perform.draw_fence();
            let terms = Terms {
                token: waiter.token.clone(),
                limit: waiter.limit.unwrap_or(Limit::EXCLUSIVE),
                lease_ms: waiter.lease_ms,
                owner: waiter.owner.as_deref(),
                session,
            };
            fence.map(|fence| {
                self.grant(Hold::grant(terms, fence, self.now));
                (fence, Remedy::EndHold(fence))
            })
        };
        match granted {
            Some((fence, remedy)) => {
                self.queues.granted(waiter.client, self.place, fence, remedy);
                Answer::Granted(Grant { client: waiter.client, token: waiter.token.clone(), fence })
            }
            None => Answer::Refused(Refusal::FencesExhausted),
        }
    }

    fn grant(&mut self, hold: Hold) {
        self.end_lapsed(usize::MAX);
        self.perform.take_off_ttl();
        self.perform.hold_is(&hold);
        self.lock.put(hold);
    }

    /// Grants a hold again. Returns its fence, and what undoes that.
    fn renew(&mut self, token: &Token, renewal: Renewal<'_>) -> Option<(Fence, Remedy)> {
        let before = self.lock.hold_of(token, self.now)?;
        let (fence, limit, level) = (before.fence(), before.limit(), before.level());
        self.end_lapsed(usize::MAX);
        let hold = self.lock.renew(token, renewal, self.now)?;
        self.perform.take_off_ttl();
        self.perform.hold_is(hold);
        Some((fence, Remedy::UndoRenewal { fence, limit, level }))
    }
}
