//! A turn at one key: a request, and all that follows from it for the lock and its waiters.
//!
//! A turn that frees a lock also hands it over. docs/design.md has the rules under these numbers:
//!
//! - G2. First what is marked at the key is undone ([`crate::undo`]). So nobody comes between an event and its
//!   consequences.
//! - G3, G4. Then the request is judged. A token that does not hold the lock yet is admitted only if nobody waits.
//! - G6. Then the queue is served: the first waiter is granted the lock if the rule of admission allows it, then the next,
//!   until one has to wait. A waiter whose time is over gets null instead.
//! - G7. During the restart grace ([`crate::grace`]) nobody is granted more than it is known to hold: neither a new hold
//!   nor a smaller limit.
//! - G8. A waiter is granted the lock only by a server that has the [`Authority`].
//! - G10. A waiter whose user may not take the lock any more is refused, and the next is served.
//! - G11. A waiter of an inner level gets null if the outer hold is gone.
//! - G12. Before a grant so many ended holds are removed that all holds together are within the limits.
//! - L6. What promises a lease removes a time to live that somebody has set on the key. A release, a break and the end of
//!   a lease leave it.
//!
//! A turn changes the lock and the [`Table`], and calls nobody. What is left to do comes out as an [`Outcome`]: the
//! changes in the order in which they were made. A server that applies them in that order has the same lock.

use alloc::boxed::Box;
use alloc::vec::Vec;

use smallvec::SmallVec;

use crate::codec::Decoded;
use crate::fence::Fence;
use crate::hold::{Hold, Limit, Terms};
use crate::invariants;
use crate::key::DbKey;
use crate::lock::{Lock, Released, Renewal, Verdict};
use crate::queue::{Joining, Waiter, WaiterLimits};
use crate::refusal::Refusal;
use crate::request::{Acquire, BreakTarget, is_inner};
use crate::session::ClientId;
use crate::table::Table;
use crate::time::Moment;
use crate::token::Token;
use crate::undo::{Undo, What};

/// How many ended holds are removed at a time before a grant.
const ENDED_AT_ONCE: usize = 64;

/// What this server may do at a key on its own account. A client's own request needs none of it, because the server has
/// checked the command before it called the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Authority {
    /// Whether this server may decide now: it is a master, its clients are not paused, and it takes writes from them.
    pub may_grant: bool,
    /// Whether the key is this server's, and not another node's of its cluster.
    pub serves_key: bool,
}

impl Authority {
    /// None. Enough where there is nothing to decide but what a command asks for, see [`Table::has_business_at`].
    pub const NONE: Self = Self { may_grant: false, serves_key: false };
    /// All of it.
    pub const FULL: Self = Self { may_grant: true, serves_key: true };
}

/// What a turn needs to know of the moment and of the server.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// When it is.
    pub now: Moment,
    /// The wall clock then, in microseconds since 1970, for fences.
    pub wall_micros: u64,
    /// How long the restart grace lasts, in milliseconds.
    pub grace_ms: u64,
    /// What this server may do on its own account.
    pub authority: Authority,
    /// How much may follow from what is asked, see [`Outcome::work`]. Where there is more to do, the key is marked, and the
    /// rest is done when the mark is settled.
    pub at_most: usize,
}

/// Why a hold is as it is, or is no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// It was granted; to a request that waited, or at once.
    Granted {
        /// Whether the request had waited.
        has_waited: bool,
    },
    /// It was granted again to its own token.
    Renewed,
    /// Its lease was set anew by its holder.
    Extended,
    /// The server extended its lease, since its connection is open.
    Kept,
    /// It was given back, or a level of it.
    Released,
    /// Its lease ran out.
    Lapsed,
    /// An operator ended it.
    Broken,
    /// Its connection closed.
    SessionClosed,
    /// Its client could not be told.
    Undone,
    /// Another server decided so.
    Applied,
}

/// What happened to the holds of a lock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// The lock has this hold and no other.
    First(Hold, Cause),
    /// Very many holds have ended, and the lock has these and no others.
    Whole(Vec<Hold>, Cause),
    /// A hold is now as it is, besides the others.
    Set(Hold, Cause),
    /// The hold with this fence has ended.
    Ended(Fence, Cause),
    /// What was asked has been done, and says all there is to say.
    AsAsked(Cause),
}

/// What a client that waited is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The lock is its own.
    Granted(Grant),
    /// Not within its time, or another request of its token took its place, or its token gave up.
    NotAvailable,
    /// It cannot be served any more.
    Refused(Refusal),
}

/// What a client that waited was granted. If it cannot be told, [`Table::abandoned`] has that undone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// The client.
    pub client: ClientId,
    /// The token that holds.
    pub token: Token,
    /// The fence of the hold.
    pub fence: Fence,
}

/// What a turn came to, besides what was asked.
#[derive(Clone, Default, Debug)]
pub struct Outcome {
    /// What has changed, to be passed on in this order.
    pub changes: SmallVec<[Change; 1]>,
    /// Whether a lease was promised: a time to live that the key has is to be taken off.
    pub has_promised: bool,
    /// Clients that waited, and what each is told.
    pub answers: Vec<(ClientId, Answer)>,
    /// See [`Turn::candidate`].
    pub candidate: Option<ClientId>,
}

impl Outcome {
    /// How much was done besides one change that was asked for: holds that were changed, and clients that were answered.
    pub fn work(&self) -> usize {
        self.changes.len().saturating_add(self.answers.len()).saturating_sub(1)
    }
}

/// How a request may wait.
#[derive(Clone, Copy, Debug)]
pub struct WaitOptions {
    /// The client that waits.
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
    /// joins the queue ([`Table::join`]).
    Waits(Box<Joining>),
}

/// What a LOCK.CHECK of a token that holds comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checked {
    /// The fence of its hold.
    pub fence: Fence,
    /// When its lease ends.
    pub deadline: Moment,
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
    if table.has_lost_session(hold) {
        return None;
    }
    table.undos.learned(key, hold.fence());
    let waiting = table.queues.len_at(key);
    Some(Checked { fence: hold.fence(), deadline: hold.deadline(), waiting })
}

/// A turn at one key.
pub struct Turn<'a> {
    /// The lock under the key, empty if there is none. If it is empty after the turn, there is to be none.
    lock: &'a mut Lock,
    table: &'a mut Table,
    key: DbKey<'a>,
    now: Moment,
    circumstances: Circumstances,
    outcome: &'a mut Outcome,
}

/// What is to be looked after once a turn has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// When the lock is due next, if it has changed and somebody holds it.
    pub due: Option<Moment>,
    /// See [`Table::is_quiet`].
    pub is_quiet: bool,
    /// Whether the key is marked: there is more to do.
    pub is_marked: bool,
}

/// Beginning, end, and what is in between.
///
/// A turn settles first, then it gets the request. When it comes to a candidate, it is dropped, the server is asked
/// whether the candidate still has the right to take the lock, and the turn is resumed. Lock and table are not borrowed
/// meanwhile.
impl<'a> Turn<'a> {
    /// A turn at the lock under a key, an empty one if there is none; or one that goes on, with what it has come to so far in
    /// `outcome`.
    pub fn resume(
        lock: &'a mut Lock,
        table: &'a mut Table,
        key: DbKey<'a>,
        circumstances: Circumstances,
        outcome: &'a mut Outcome,
    ) -> Self {
        Self { lock, table, key, now: circumstances.now, circumstances, outcome }
    }

    /// When it takes place.
    pub fn now(&self) -> Moment {
        self.now
    }

    /// The waiter that is granted the lock next, if its user still has the right to take it.
    pub fn candidate(&self) -> Option<ClientId> {
        self.outcome.candidate
    }

    /// Goes on once it is known whether the candidate has the right to take the lock.
    pub fn judge_candidate(&mut self, has_right: bool) {
        let candidate = self.outcome.candidate.take();
        if let Some(waiter) = candidate.and_then(|client| self.table.queues.remove(client)) {
            let answer = if has_right { self.admit(&waiter) } else { Answer::Refused(Refusal::NoPermission) };
            self.answer(waiter.client, answer);
        }
        self.serve();
    }

    /// Ends the turn. If the lock is empty now, its key is to go.
    pub fn end(self) -> End {
        debug_assert!(self.candidate().is_none(), "a candidate is left without an answer");
        let has_changed = !self.outcome.changes.is_empty();
        let due = if has_changed { self.table.note(self.key, self.lock) } else { None };
        self.check_invariants();
        let is_quiet = self.table.is_quiet();
        End { due, is_quiet, is_marked: !is_quiet && self.table.is_marked(self.key) }
    }

    /// In debug builds: what must be true at the end of every turn.
    fn check_invariants(&self) {
        if cfg!(debug_assertions) {
            invariants::check_lock(self.lock);
            let head = self.table.queues.head(self.key);
            let is_left = self.table.is_marked(self.key);
            let may_serve =
                self.circumstances.authority == Authority::FULL && !self.is_in_grace() && !is_left;
            debug_assert!(
                !may_serve || invariants::head_has_to_wait(self.lock, head, self.now),
                "the head of a queue has to wait: {:?}",
                self.lock
            );
        }
    }
}

/// What is asked of a lock.
impl Turn<'_> {
    /// Takes the lock for `request`, or lets it wait if it may. `connection` is what a session is tied to;
    /// `make_token` is called for a request that brings no token and needs one.
    ///
    /// # Errors
    /// [`Refusal::FencesExhausted`], [`Refusal::QueueFull`], or [`Refusal::Deadlock`]. Nothing has changed then.
    pub fn acquire(
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
        match (self.lock.judge(request.token.as_ref(), request.limit, self.now), &request.token) {
            (verdict @ (Verdict::Renew | Verdict::Upgrade), Some(token))
                if !verdict.gives_more() || !self.is_in_grace() =>
            {
                let renewal = Renewal {
                    lease_ms: request.lease_ms,
                    limit: request.limit,
                    owner: request.owner,
                    session: request.session.then(connection),
                    level: request.level,
                };
                let undo = self.renew(token, renewal).ok_or(Refusal::Internal)?;
                self.table.undos.learned(self.key, undo.fence);
                self.serve();
                Ok(Acquired::Granted(token.clone(), undo.fence))
            }
            (Verdict::Grant, _) if !self.table.queues.is_waited_for(self.key) && !self.is_in_grace() => {
                let fence = self.draw_fence().ok_or(Refusal::FencesExhausted)?;
                let token = request.token.clone().unwrap_or_else(make_token);
                let terms = Terms {
                    token: token.clone(),
                    limit: request.limit.unwrap_or(Limit::EXCLUSIVE),
                    lease_ms: request.lease_ms,
                    owner: request.owner,
                    session: request.session.then(connection),
                };
                self.grant(Hold::grant(terms, fence, self.now), false);
                Ok(Acquired::Granted(token, fence))
            }
            _ => match wait {
                None => Ok(Acquired::NotAvailable),
                Some(wait) => self.wait(request, wait, make_token),
            },
        }
    }

    fn wait(
        &self,
        request: &Acquire<'_>,
        wait: WaitOptions,
        make_token: impl FnOnce() -> Token,
    ) -> Result<Acquired, Refusal> {
        let ahead = self.holds(request.token.as_ref());
        if ahead && self.upgrade_waits(request.token.as_ref()) {
            // Each of the two waits for the other's hold to end.
            return Err(Refusal::Deadlock);
        }
        let waiter = Waiter {
            client: wait.client,
            token: request.token.clone().unwrap_or_else(make_token),
            limit: request.limit,
            lease_ms: request.lease_ms,
            owner: request.owner.map(Box::from),
            session: request.session,
            level: request.level,
            since: self.now,
            until: wait.until,
        };
        self.table.queues.room_for(self.key, &waiter.token, wait.limits)?;
        Ok(Acquired::Waits(Box::new(Joining { waiter, ahead })))
    }

    fn holds(&self, token: Option<&Token>) -> bool {
        token.is_some_and(|token| self.lock.hold_of(token, self.now).is_some())
    }

    /// Whether another holder than the one of `token` waits to change its limit.
    fn upgrade_waits(&self, token: Option<&Token>) -> bool {
        let mut ahead = self.table.queues.ahead(self.key).map(|waiter| &waiter.token);
        ahead.any(|other| token != Some(other) && self.holds(Some(other)))
    }

    /// Gives back `level` of the token's hold and what is above it; false if it holds nothing, or is not so deep. A token
    /// that is left without a hold waits for this lock no longer either, if it is its client who says so and not a master or
    /// a file (`from_master`): what those say was said of another time, or to another server.
    pub fn release(&mut self, token: &Token, level: u16, from_master: impl Fn() -> bool) -> bool {
        self.end_lost_session(Some(token));
        let hold = if self.table.sessions.is_empty() { None } else { self.lock.hold_of(token, self.now) };
        let hold = hold.map(|hold| (hold.session(), hold.fence()));
        let released = self.lock.release(token, level, self.now, &from_master);
        if let (Released::Ended, Some((Some(client), fence))) = (released, hold) {
            self.table.sessions.lets_go(client, self.key, fence);
        }
        let is_released = released != Released::NotHeld;
        if is_released {
            self.outcome.changes.push(Change::AsAsked(Cause::Released));
        }
        let mut withdrawn = None;
        let leaves_wait = cfg!(feature = "broken-release");
        let is_waited_for = self.table.queues.is_waited_for(self.key) && !leaves_wait;
        if is_waited_for && !self.holds(Some(token)) && !from_master() {
            withdrawn = self.table.queues.withdraw(self.key, token);
        }
        if let Some(waiter) = &withdrawn {
            self.answer(waiter.client, Answer::NotAvailable);
        }
        if is_released || withdrawn.is_some() {
            self.serve();
        }
        is_released
    }

    /// Sets the lease of the token's hold anew; false if it holds nothing. For `from_master` see [`Lock::extend`].
    pub fn extend(
        &mut self,
        token: &Token,
        lease_ms: Option<u64>,
        from_master: impl FnOnce() -> bool,
    ) -> bool {
        self.end_lost_session(Some(token));
        let Some(fence) = self.lock.extend(token, lease_ms, self.now, from_master) else { return false };
        self.table.undos.learned(self.key, fence);
        self.outcome.has_promised = true;
        // A session's lease may count as longer than it was asked for, which only this server knows.
        let is_as_asked = |hold: &&Hold| lease_ms.is_none_or(|lease_ms| lease_ms == hold.lease_ms());
        let otherwise = self.lock.hold(fence).filter(|hold| !is_as_asked(hold));
        let change = match otherwise {
            Some(hold) => Change::Set(hold.clone(), Cause::Extended),
            None => Change::AsAsked(Cause::Extended),
        };
        self.outcome.changes.push(change);
        true
    }

    /// Ends holds, whoever owns them. Returns the fences of those that were still held.
    pub fn break_holds(&mut self, target: BreakTarget) -> Vec<Fence> {
        let now = self.now;
        let (held, has_ended) = match target {
            BreakTarget::All => {
                let held = self.lock.live_holds(now).map(Hold::fence).collect();
                self.table.sessions.departed(self.key, self.lock.kept());
                (held, !self.lock.end_where(|_| true).is_empty())
            }
            BreakTarget::One(fence) => {
                let hold = self.lock.hold(fence);
                if let Some(client) = hold.and_then(Hold::session) {
                    self.table.sessions.lets_go(client, self.key, fence);
                }
                let held = hold.filter(|hold| hold.is_live(now)).map(Hold::fence);
                (held.into_iter().collect(), self.lock.end(fence))
            }
            BreakTarget::Nobody => (Vec::new(), false),
        };
        if has_ended {
            self.outcome.changes.push(Change::AsAsked(Cause::Broken));
            self.serve();
        }
        held
    }

    /// Does what is due at this lock: keeps alive the holds whose connections are open, and ends the leases that have
    /// run out. At most `at_most` of them; returns how many.
    ///
    /// Only where the leases of this lock are this server's to end, and not to be left to the node that the key comes from.
    pub fn expire(&mut self, at_most: usize) -> usize {
        let mut done = 0_usize;
        for fence in self.lock.sessions_due(self.now, at_most) {
            let Some(hold) = self.lock.hold(fence) else { continue };
            let is_open = hold.session().is_some_and(|client| self.table.sessions.is_open(client));
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
        self.outcome.changes.push(Change::AsAsked(Cause::Applied));
        Ok(())
    }

    /// Undoes what is marked at this key, and serves the queue.
    pub fn settle(&mut self) {
        if !self.circumstances.authority.may_grant || !self.table.has_business_at(self.key) {
            return;
        }
        for undo in self.table.undos.take_mark(self.key) {
            self.undo(undo);
        }
        self.serve();
    }
}

/// What follows from it.
impl Turn<'_> {
    fn is_in_grace(&self) -> bool {
        self.table.is_in_grace(self.circumstances.grace_ms, self.now)
    }

    fn draw_fence(&mut self) -> Option<Fence> {
        self.table.fences.draw(self.circumstances.wall_micros)
    }

    fn answer(&mut self, client: ClientId, answer: Answer) {
        self.outcome.answers.push((client, answer));
    }

    fn undo(&mut self, undo: Undo) {
        match undo.what {
            What::Grant => self.end_hold(undo.fence, Cause::Undone),
            What::Session(client) => {
                if self.lock.hold(undo.fence).is_some_and(|hold| hold.session() == Some(client)) {
                    self.end_hold(undo.fence, Cause::SessionClosed);
                }
            }
            What::Renewal { limit, level } => {
                if let Some(hold) = self.lock.undo_renewal(undo.fence, limit, level, self.now).cloned() {
                    self.outcome.has_promised = true;
                    self.outcome.changes.push(Change::Set(hold, Cause::Undone));
                }
            }
        }
    }

    fn end_hold(&mut self, fence: Fence, cause: Cause) {
        let session = self.lock.hold(fence).and_then(Hold::session);
        if self.lock.end(fence) {
            if let Some(client) = session {
                self.table.sessions.lets_go(client, self.key, fence);
            }
            self.outcome.changes.push(Change::Ended(fence, cause));
        }
    }

    /// Ends the hold of a token whose connection has closed, should that not have been marked yet.
    #[inline]
    fn end_lost_session(&mut self, token: Option<&Token>) {
        if self.table.sessions.has_left() && self.circumstances.authority.may_grant {
            self.end_hold_of_lost_session(token);
        }
    }

    #[cold]
    fn end_hold_of_lost_session(&mut self, token: Option<&Token>) {
        let hold = token.and_then(|token| self.lock.hold_of(token, self.now));
        if let Some(hold) = hold.filter(|hold| self.table.has_lost_session(hold)) {
            self.end_hold(hold.fence(), Cause::SessionClosed);
            self.table.undos.mark(self.key);
        }
    }

    /// Takes ended leases off the lock, as many as must go before a hold with this limit can be put in, in place of the one
    /// with the fence `instead_of`: what is passed on is never more than the limits allow, ended leases included.
    fn make_room(&mut self, limit: Limit, instead_of: Option<Fence>) {
        if self.lock.is_empty()
            || self.end_lapsed(ENDED_AT_ONCE) == 0
            || self.lock.has_room_for(limit, instead_of)
        {
            return;
        }
        // Very many have ended: it is less work to pass on those that are left. If none is, what follows is the only hold.
        self.lock.end_where(|hold| !hold.is_live(self.now));
        if !self.lock.is_empty() {
            let left = self.lock.holds().iter().cloned().collect();
            self.outcome.changes.push(Change::Whole(left, Cause::Lapsed));
        }
    }

    /// Ends leases that have run out. A hold that a connection keeps alive is none of them.
    fn end_lapsed(&mut self, at_most: usize) -> usize {
        let fences = self.lock.end_lapsed(self.now, at_most);
        let changes = fences.iter().map(|fence| Change::Ended(*fence, Cause::Lapsed));
        self.outcome.changes.extend(changes);
        fences.len()
    }

    /// Serves the queue until its first has to wait, or comes to a candidate whose right is to be looked at.
    fn serve(&mut self) {
        if self.outcome.candidate.is_some() || !self.table.queues.is_waited_for(self.key) {
            return;
        }
        if self.circumstances.authority != Authority::FULL {
            // Somebody will, and is not to forget.
            self.table.undos.mark(self.key);
            return;
        }
        self.dismiss_orphans();
        while let Some(head) = self.table.queues.head(self.key) {
            let client = head.client;
            let is_over = head.until.is_some_and(|until| until <= self.now) || self.is_orphan(head);
            let verdict = self.lock.judge(Some(&head.token), head.limit, self.now);
            let has_to_wait = verdict == Verdict::Wait || verdict.gives_more() && self.is_in_grace();
            if has_to_wait && !is_over {
                return;
            }
            if self.outcome.work() >= self.circumstances.at_most {
                self.table.undos.mark(self.key);
                return;
            }
            if !is_over {
                self.outcome.candidate = Some(client);
                return;
            }
            self.table.queues.remove(client);
            self.answer(client, Answer::NotAvailable);
        }
    }

    /// Answers requests of inner levels whose outer hold is gone: they could only be granted what they did not ask for.
    fn dismiss_orphans(&mut self) {
        let ahead = self.table.queues.ahead(self.key);
        let orphans: Vec<ClientId> =
            ahead.filter(|waiter| self.is_orphan(waiter)).map(|waiter| waiter.client).collect();
        for client in orphans {
            self.table.queues.remove(client);
            self.answer(client, Answer::NotAvailable);
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
            self.draw_fence().map(|fence| {
                let terms = Terms {
                    token: waiter.token.clone(),
                    limit: waiter.limit.unwrap_or(Limit::EXCLUSIVE),
                    lease_ms: waiter.lease_ms,
                    owner: waiter.owner.as_deref(),
                    session,
                };
                self.grant(Hold::grant(terms, fence, self.now), true);
                Undo { fence, what: What::Grant }
            })
        };
        match granted {
            Some(undo) => {
                self.table.undos.granted(waiter.client, self.key, undo);
                let token = waiter.token.clone();
                Answer::Granted(Grant { client: waiter.client, token, fence: undo.fence })
            }
            None => Answer::Refused(Refusal::FencesExhausted),
        }
    }

    fn grant(&mut self, hold: Hold, has_waited: bool) {
        self.make_room(hold.limit(), None);
        if let Some(client) = hold.session() {
            self.table.sessions.keeps(client, self.key, hold.fence());
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

    /// Grants a hold again. Returns what undoes that.
    fn renew(&mut self, token: &Token, renewal: Renewal<'_>) -> Option<Undo> {
        let before = self.lock.hold_of(token, self.now)?;
        let (fence, limit, level) = (before.fence(), before.limit(), before.level());
        let session_before = before.session();
        self.make_room(renewal.limit.unwrap_or(limit), Some(fence));
        let hold = self.lock.renew(token, renewal, self.now)?.clone();
        if hold.session() != session_before {
            if let Some(client) = session_before {
                self.table.sessions.lets_go(client, self.key, fence);
            }
            if let Some(client) = hold.session() {
                self.table.sessions.keeps(client, self.key, fence);
            }
        }
        self.outcome.has_promised = true;
        self.outcome.changes.push(Change::Set(hold, Cause::Renewed));
        Some(Undo { fence, what: What::Renewal { limit, level } })
    }
}
