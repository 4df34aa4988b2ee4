//! The contract once more: plain lists, looked through from end to end whenever something has to be known. No index, no
//! mark, nothing that is prepared in one step to be used in another.
//!
//! Where the contract leaves room, this is how it is read:
//!
//! 1. What follows from an event at a key is done before the next command there, and at the end of the turn at the
//!    latest.
//! 2. A grant is undone unless somebody was told of it: the client that waited, or another that came with the token and
//!    was granted again, or was told that the lease is extended. An upgrade that is undone gives the hold back the limit it
//!    had and the level, if it was less; the lease runs on.
//! 3. Who waits to change a limit, and whose hold ends meanwhile, stands where it would have stood from the start.
//! 4. What a retry does not name stays as it is. Where a weight would then be above its limit, it is an error, also for
//!    who waits, if its hold is another by then.
//! 5. Where a key is not this server's, a command that comes for it all the same is judged as ever, but nobody who waits is
//!    granted it. Who waits is told where to go: when something happens there, and when a look at all who wait comes by;
//!    but where the slot is on its way, who waits is served once it is here, when the look comes by at the latest.
//! 6. Leases are left to another node, and end while the slot is on its way and while the cluster is down. When a key comes
//!    back, what is due there is done within a span, see [`Model::may_be_late`].
//! 7. In the grace after a promotion or a load, nobody is granted more than it holds.
//! 8. With a demotion everything is dropped that was still to be undone, and every session is over; with a load, the
//!    sessions are.
//! 9. A time to live that somebody has set on a key ends the key, but for a lease that is promised after it was set. To undo
//!    an upgrade promises what is left of the lease.
//! 10. A place is kept from the moment at which its connection closes, or its BLOCK is over. Who asks for it again says anew
//!     what it asks for, and on whose behalf. A grant to a place is a lease of what was asked, at most what is left to claim it;
//!     of a hold that the token had already it makes no shorter one. An upgrade that nobody was told of stands in the same way.
//! 11. A string whose value is a token is held by that token alone, for as long as the key lives. It keeps neither limit nor
//!     level nor label, so its token has whatever of these it asks for; a session it cannot have.
//! 12. Where a session closes that has a delay, its hold stays: its lease begins a last time, as long as the delay and no longer
//!     than ever. That promises a lease.
//! 13. That a string is written over what is no lock, without a time to live, no server hears of. What follows from it for those who wait
//!     is done by the next turn at the key. Nobody could be granted anything before that.
//! 14. Who works on an inner level has nothing to wait for once the outer hold is gone, and is told so by the next turn at
//!     the key.
//! 15. Who waits on a connection and names an owner is told at once if that could never end: see [`super::circles`]. Where
//!     databases were swapped, whose lock stands under a key is not known there until the next turn at the key.

use std::collections::{BTreeMap, BTreeSet};

use lock_core::queue::WaiterLimits;
use lock_core::{ClientId, Fence, Moment, Refusal, Session, Token};

use super::grants::counted;
use super::server::WorkDone;
use super::steps::{DEFAULT_LEASE_MS, NOT_OURS_MS, Reply, Request, Spot, Step, Whose, token};

/// A limit, 0 for shared, and a weight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Share {
    pub(crate) limit: u16,
    pub(crate) weight: u16,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Holder {
    pub(crate) token: Token,
    pub(crate) fence: u64,
    pub(crate) share: Share,
    pub(crate) lease_ms: u64,
    pub(crate) end: Moment,
    pub(crate) level: u16,
    pub(crate) owner: Option<&'static [u8]>,
    pub(crate) session: Option<Session>,
    /// Those whose answers are on their way.
    pub(crate) promised: Vec<Promise>,
}

/// What a token knew of its hold before it was granted again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Known {
    pub(crate) end: Moment,
    pub(crate) share: Share,
    pub(crate) level: u16,
}

/// A grant that nobody was told of yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Promise {
    pub(crate) client: ClientId,
    /// What it changed, if the token held already: the limit and weight there were, and the level.
    pub(crate) before: Option<(Share, u16)>,
    /// The place, if it is kept without the client: its number, and what there was, if the token held already. Then the grant
    /// stands, to be claimed.
    pub(crate) kept: Option<(usize, Option<Known>)>,
    /// Until when it can be claimed, if nobody waits to be told. Then it is lost.
    pub(crate) until: Option<Moment>,
    /// Whether the client has gone.
    pub(crate) is_lost: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Waiting {
    /// Its number in the order in which places were taken.
    pub(crate) number: usize,
    pub(crate) spot: Spot,
    /// Who waits there on a connection.
    pub(crate) client: Option<ClientId>,
    /// Who asked last.
    pub(crate) user: ClientId,
    pub(crate) token: Token,
    pub(crate) request: Request,
    pub(crate) until: Option<Moment>,
    pub(crate) is_ahead: bool,
    /// Where its key was meanwhile, besides here.
    pub(crate) was: BTreeSet<Whose>,
    /// Whether nothing but a grace has held it back meanwhile.
    pub(crate) met_grace: bool,
}

pub(crate) struct Model {
    pub(crate) now: Moment,
    pub(crate) holders: Vec<(Spot, Holder)>,
    pub(crate) foreign: BTreeSet<Spot>,
    /// Strings that count as locks: whose token is the value.
    pub(crate) strings: BTreeMap<Spot, u8>,
    /// Keys at which a string was written over what is no lock, until the next turn there.
    pub(crate) unheard: BTreeSet<Spot>,
    /// Keys whose databases were swapped, until the next turn there.
    pub(crate) unseen: BTreeSet<Spot>,
    /// When keys end, where somebody has set that.
    pub(crate) ttls: BTreeMap<Spot, Moment>,
    /// Clients who may not take locks.
    pub(crate) forbidden: BTreeSet<ClientId>,
    /// Everybody who waits; for each key in the order of its queue.
    pub(crate) waiting: Vec<Waiting>,
    /// Answers on their way.
    pub(crate) answers: Vec<(ClientId, Reply)>,
    pub(crate) open: BTreeSet<ClientId>,
    pub(crate) next_client: ClientId,
    pub(crate) last_fence: u64,
    /// How many places were taken.
    pub(crate) places: usize,
    pub(crate) limits: WaiterLimits,
    pub(crate) is_master: bool,
    pub(crate) is_paused: bool,
    /// Whose the slots of names are, where not this server's.
    pub(crate) slots: BTreeMap<&'static [u8], Whose>,
    /// When a slot that was another node's came to be something else.
    pub(crate) came_back: BTreeMap<&'static [u8], Moment>,
    /// Keys that were waited for when their slots ceased to be on their way here, until the look comes by.
    pub(crate) arrived: BTreeSet<Spot>,
    /// Since when grants may have been lost, and for how long that is believed.
    pub(crate) grace_since: Option<Moment>,
    pub(crate) grace_ms: u64,
    /// Where the look at who waits has come to.
    pub(super) last_looked_at: Option<Spot>,
    /// What has come to pass so far, and how often.
    pub(crate) seen: BTreeMap<&'static str, usize>,
    pub(super) replies: Vec<(ClientId, Reply)>,
}

/// Those ahead come first, the newest in front. The others stand as they came.
fn in_order(waiting: &mut [Waiting]) {
    waiting.sort_by_key(|waiter| {
        let number = if waiter.is_ahead { usize::MAX - waiter.number } else { waiter.number };
        (!waiter.is_ahead, number)
    });
}

pub(super) fn most(limit: u16) -> usize {
    if limit == 0 { usize::MAX } else { limit.into() }
}

impl Share {
    /// "The weights of all holds + its own <= the smallest limit among the holds and the request."
    pub(super) fn fits(self, others: &[Self]) -> bool {
        let all = || others.iter().chain([&self]);
        let weights: usize = all().map(|share| usize::from(share.weight)).sum();
        weights <= all().map(|share| most(share.limit)).min().unwrap()
    }

    /// Whether it is more to have: a smaller limit, or a larger weight.
    fn is_more_than(self, other: Self) -> bool {
        most(self.limit) < most(other.limit) || self.weight > other.weight
    }
}

impl Holder {
    pub(super) fn is_live(&self, now: Moment) -> bool {
        now < self.end || self.session.is_some()
    }

    pub(super) fn due(&self) -> Moment {
        self.end.minus_ms(if self.session.is_some() { self.lease_ms / 2 } else { 0 })
    }
}

impl Model {
    pub(crate) fn new(clients: u64, limits: WaiterLimits) -> Self {
        Self {
            now: Moment::from_micros(0),
            holders: Vec::new(),
            foreign: BTreeSet::new(),
            strings: BTreeMap::new(),
            unheard: BTreeSet::new(),
            unseen: BTreeSet::new(),
            ttls: BTreeMap::new(),
            forbidden: BTreeSet::new(),
            waiting: Vec::new(),
            answers: Vec::new(),
            open: (1..=clients).collect(),
            next_client: clients + 1,
            last_fence: 0,
            places: 0,
            limits,
            is_master: true,
            is_paused: false,
            slots: BTreeMap::new(),
            came_back: BTreeMap::new(),
            arrived: BTreeSet::new(),
            grace_since: None,
            grace_ms: 0,
            last_looked_at: None,
            seen: BTreeMap::new(),
            replies: Vec::new(),
        }
    }

    pub(super) fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub(crate) fn decides(&self) -> bool {
        self.is_master && !self.is_paused
    }

    pub(crate) fn whose(&self, spot: Spot) -> Whose {
        self.slots.get(spot.key).copied().unwrap_or(Whose::Ours)
    }

    /// Whether the token would come to have more than it has: a hold, a smaller limit or a larger weight.
    pub(crate) fn would_have_more(&self, spot: Spot, token: Option<&Token>, request: &Request) -> bool {
        let own = token.and_then(|token| self.hold_of(spot, token));
        own.is_none_or(|own| self.wanted(spot, token, request).is_more_than(own.share))
    }

    /// What the token would have: what it does not name is as it is held, or 1.
    fn wanted(&self, spot: Spot, token: Option<&Token>, request: &Request) -> Share {
        let own = token.and_then(|token| self.hold_of(spot, token));
        let own = own.map_or(Share { limit: 1, weight: 1 }, |own| own.share);
        Share { limit: request.limit.unwrap_or(own.limit), weight: request.weight.unwrap_or(own.weight) }
    }

    /// Whether a lock could ever have room for it.
    pub(super) fn is_possible(&self, spot: Spot, token: Option<&Token>, request: &Request) -> bool {
        self.wanted(spot, token, request).fits(&[])
    }

    pub(crate) fn in_grace(&self) -> bool {
        self.grace_since.is_some_and(|since| self.now < since.plus_ms(self.grace_ms))
    }

    /// Whether something is due at this key that the timer need not have come to yet, since it may have put that off while
    /// the key was another node's.
    pub(crate) fn may_be_late(&self, spot: Spot) -> bool {
        let came_back = self.came_back.get(spot.key);
        let is_within_span = came_back.is_some_and(|then| self.now < then.plus_ms(NOT_OURS_MS));
        is_within_span && self.whose(spot).keeps() && self.is_due(spot)
    }

    pub(super) fn is_due(&self, spot: Spot) -> bool {
        self.holders.iter().any(|(place, holder)| *place == spot && holder.due() <= self.now)
    }

    /// Whether the client can send a command.
    pub(crate) fn is_idle(&self, client: ClientId) -> bool {
        self.open.contains(&client) && !self.is_blocked(client)
    }

    pub(crate) fn is_blocked(&self, client: ClientId) -> bool {
        self.waiting.iter().any(|waiter| waiter.client == Some(client))
            || self.answers.iter().any(|(other, _)| *other == client)
    }

    /// The holds whose leases run, in the order of their fences.
    pub(crate) fn live(&self, spot: Spot) -> impl Iterator<Item = &Holder> {
        let here = self.holders.iter().filter(move |(place, _)| *place == spot);
        here.map(|(_, holder)| holder).filter(|holder| holder.is_live(self.now))
    }

    pub(super) fn hold_of(&self, spot: Spot, token: &Token) -> Option<&Holder> {
        self.live(spot).find(|holder| holder.token == *token)
    }

    /// Whether the token holds a lock or a string.
    pub(super) fn holds(&self, spot: Spot, token: &Token) -> bool {
        self.hold_of(spot, token).is_some() || self.owns_string(spot, token)
    }

    pub(super) fn hold_of_mut(&mut self, spot: Spot, token: &Token) -> Option<&mut Holder> {
        let now = self.now;
        let here = self.holders.iter_mut().filter(|(place, _)| *place == spot).map(|(_, holder)| holder);
        here.filter(|holder| holder.is_live(now)).find(|holder| holder.token == *token)
    }

    pub(crate) fn queue(&self, spot: Spot) -> impl Iterator<Item = &Waiting> {
        self.waiting.iter().filter(move |waiter| waiter.spot == spot)
    }

    pub(crate) fn head(&self, spot: Spot) -> Option<Waiting> {
        self.queue(spot).next().cloned()
    }

    /// The rule of admission, and what it means for one who holds already.
    pub(super) fn admits(&self, spot: Spot, token: Option<&Token>, request: &Request) -> bool {
        let own = token.and_then(|token| self.hold_of(spot, token));
        let others = self.live(spot).filter(|holder| Some(&holder.token) != token);
        let others: Vec<Share> = others.map(|holder| holder.share).collect();
        let wanted = self.wanted(spot, token, request);
        own.is_some_and(|own| own.share == wanted) || wanted.fits(&others)
    }

    /// Whether this step can happen: a client that waits sends nothing, a client that is gone neither; who is paused or
    /// no master writes nothing of its own.
    pub(crate) fn can(&self, step: Step) -> bool {
        match step {
            Step::Acquire(client, ..) => self.decides() && self.is_idle(client),
            // A transaction may pause the clients and go on.
            Step::Break(client, ..) => self.is_master && self.is_idle(client),
            Step::Release(client, spot, number, _) | Step::Extend(client, spot, number, _) => {
                let is_said_by_master = !self.is_master && self.hold_of(spot, &token(number)).is_some();
                (self.is_master || is_said_by_master) && self.is_idle(client)
            }
            Step::Disconnect(client) => self.open.contains(&client),
            Step::Unblock(client, _) => self.is_blocked(client),
            Step::Delete(_) | Step::Flush(_) | Step::Swap | Step::Overwrite(_) => self.decides(),
            Step::SetString(..) => self.decides(),
            Step::Migrate(_) | Step::Restore(..) | Step::Reload | Step::TimeToLive(..) => self.decides(),
            Step::Forbid(client, forbidden) => {
                self.open.contains(&client) && self.forbidden.contains(&client) != forbidden
            }
            Step::Slot(spot, whose) => self.whose(spot) != whose,
            Step::Look(_) => self.is_master,
            // RENAME goes to another name, MOVE to another database.
            Step::Rename(from, to) => {
                self.decides() && (from.database == to.database) != (from.key == to.key)
            }
            Step::Expire(spot, _) => self.decides() && !self.foreign.contains(&spot),
            Step::Demote => self.is_master,
            Step::Promote => !self.is_master,
            Step::Arrive(spot, ..) => {
                let is_free = !self.holders.iter().any(|(place, _)| *place == spot);
                !self.is_master && is_free
            }
            Step::Connect | Step::Pass(_) | Step::TimeOut(_) | Step::EndTurn | Step::Pause(_) => true,
            Step::SetGrace(_) => true,
        }
    }

    /// Takes a step, and returns what clients are told. `work_done` says what the server did of itself, where the contract
    /// leaves it to the server when and in which order.
    pub(crate) fn take(&mut self, step: Step, made: &Token, work_done: &WorkDone) -> Vec<(ClientId, Reply)> {
        match step {
            Step::Acquire(client, spot, request) => self.acquire(client, spot, request, made),
            Step::Release(client, spot, number, level) => self.release(client, spot, &token(number), level),
            Step::Forbid(client, true) => drop(self.forbidden.insert(client)),
            Step::Forbid(client, false) => drop(self.forbidden.remove(&client)),
            Step::Extend(client, spot, number, lease_ms) => {
                self.extend(client, spot, &token(number), lease_ms);
            }
            Step::Break(client, spot, which) => self.break_holds(client, spot, which),
            Step::Pass(ms) => {
                self.now = self.now.plus_ms(ms);
                self.end_keys();
            }
            Step::Expire(spot, at_most) if self.whose(spot).keeps() => self.expire(spot, at_most),
            Step::Expire(..) => {}
            Step::TimeOut(at_most) => self.time_out(at_most),
            Step::EndTurn => self.end_turn(work_done),
            Step::Connect => {
                self.open.insert(self.next_client);
                self.next_client += 1;
            }
            Step::Disconnect(client) => {
                self.open.remove(&client);
                self.end_wait_of(client);
                self.leave(client);
            }
            Step::Unblock(client, with_error) => self.unblock(client, with_error),
            Step::Pause(paused) => self.is_paused = paused,
            Step::Demote => self.demote(),
            Step::Promote => {
                self.is_master = true;
                self.grace_since = Some(self.now);
            }
            Step::Arrive(spot, number, lease_ms) => {
                let request = Request::of(number, lease_ms);
                if self.foreign.remove(&spot) || self.strings.remove(&spot).is_some() {
                    self.ttls.remove(&spot);
                    self.saw("foreign value replaced at the master's word");
                }
                self.grant(spot, token(number), &request, 0);
            }
            Step::Slot(spot, whose) => self.slot(spot, whose),
            Step::Look(at_most) => self.look(at_most),
            Step::SetGrace(ms) => self.grace_ms = ms,
            Step::Reload => self.reload(),
            _ => self.take_foreign(step),
        }
        self.unseen.retain(|spot| !work_done.turns.contains(spot));
        std::mem::take(&mut self.replies)
    }

    pub(super) fn reply(&mut self, client: ClientId, reply: Reply) {
        self.replies.push((client, reply));
    }

    pub(super) fn answer(&mut self, client: ClientId, reply: Reply) {
        self.answers.push((client, reply));
    }

    /// Tells a waiter, if it waits on a connection.
    pub(super) fn answer_waiter(&mut self, waiter: &Waiting, reply: Reply) {
        match waiter.client {
            Some(client) => self.answer(client, reply),
            None => self.saw("place ended"),
        }
    }

    /// A wait ends by its time or with its connection: the place is kept, if QUEUE was asked for. Returns what its client is
    /// told.
    pub(super) fn end_wait(&mut self, number: usize) -> Reply {
        let index = self.waiting.iter().position(|waiter| waiter.number == number).unwrap();
        let (now, waiter) = (self.now, &mut self.waiting[index]);
        match (waiter.client.take(), waiter.request.queue_ms) {
            (Some(_), Some(ms)) => {
                waiter.until = Some(now.plus_ms(ms));
                self.saw("place kept");
                Reply::Queued(number)
            }
            (client, _) => {
                self.waiting.remove(index);
                if client.is_none() {
                    self.saw("place over");
                }
                Reply::Null
            }
        }
    }

    pub(super) fn end_wait_of(&mut self, client: ClientId) -> Option<Reply> {
        let waiter = self.waiting.iter().find(|waiter| waiter.client == Some(client))?;
        Some(self.end_wait(waiter.number))
    }
}

/// Commands.
impl Model {
    fn acquire(&mut self, client: ClientId, spot: Spot, request: Request, made: &Token) {
        if self.foreign.contains(&spot) {
            self.saw("wrong type");
            return self.reply(client, Reply::WrongType);
        }
        self.settle(spot);
        if self.strings.contains_key(&spot) {
            return self.acquire_string(client, spot, request, made);
        }
        let own = request.token.map(token);
        let holds = own.as_ref().is_some_and(|own| self.hold_of(spot, own).is_some());
        if !holds && request.level.is_some_and(|level| level > 1) {
            self.saw("inner level without its outer hold");
            return self.reply(client, Reply::Null);
        }
        if !self.is_possible(spot, own.as_ref(), &request) {
            self.saw("impossible weight");
            return self.reply(client, Reply::Error(Refusal::WeightRange));
        }
        let admits = self.admits(spot, own.as_ref(), &request);
        let is_held_back = self.in_grace() && self.would_have_more(spot, own.as_ref(), &request);
        let token = own.unwrap_or_else(|| made.clone());
        if holds && admits && !is_held_back {
            self.note_renewal(spot, &token, &request);
            let (fence, _) = self.renew(spot, &token, &request, client);
            self.tell(spot, fence);
            if request.block_ms.is_some() || request.queue_ms.is_some() {
                self.give_up_place(spot, &token);
            }
            self.serve(spot);
            self.reply(client, Reply::Granted(token, Fence::new(fence).unwrap()));
        } else if !holds && admits && !is_held_back && self.is_next(spot, &token, &request) {
            if self.give_up_place(spot, &token) {
                self.saw("granted at once at the head of the queue");
            }
            self.note_grant(spot);
            let fence = self.grant(spot, token.clone(), &request, client);
            self.tell(spot, fence);
            self.serve(spot);
            self.reply(client, Reply::Granted(token, Fence::new(fence).unwrap()));
        } else if request.block_ms.is_none() && request.queue_ms.is_none() {
            self.saw(if holds { "change of limit not available" } else { "not available" });
            if admits && is_held_back {
                self.saw(if holds { "change of limit refused in the grace" } else { "refused in the grace" });
            }
            self.reply(client, Reply::Null);
        } else {
            match self.wait(client, spot, request, token, holds) {
                Err(refusal) => self.reply(client, Reply::Error(refusal)),
                Ok(number) if request.block_ms.is_none() => self.reply(client, Reply::Queued(number)),
                Ok(_) => {}
            }
        }
    }

    /// Whether the token is the value of the string under this key.
    pub(super) fn owns_string(&self, spot: Spot, token: &Token) -> bool {
        self.strings.get(&spot).is_some_and(|number| super::steps::token(*number) == *token)
    }

    fn acquire_string(&mut self, client: ClientId, spot: Spot, request: Request, made: &Token) {
        if !self.is_possible(spot, None, &request) {
            return self.reply(client, Reply::Error(Refusal::WeightRange));
        }
        let own = request.token.map(token).filter(|own| self.owns_string(spot, own));
        let may_wait = request.block_ms.is_some() || request.queue_ms.is_some();
        let Some(own) = own else {
            if !may_wait || request.level.is_some_and(|level| level > 1) {
                self.saw("not available at a string");
                return self.reply(client, Reply::Null);
            }
            self.saw("waited for a string");
            let token = request.token.map_or_else(|| made.clone(), token);
            match self.wait(client, spot, request, token, false) {
                Err(refusal) => self.reply(client, Reply::Error(refusal)),
                Ok(number) if request.block_ms.is_none() => self.reply(client, Reply::Queued(number)),
                Ok(_) => {}
            }
            return;
        };
        if request.session_delay_ms.is_some() {
            self.saw("session of a string refused");
            return self.reply(client, Reply::Error(Refusal::SessionOfString));
        }
        let end = self.now.plus_ms(request.lease_ms);
        let ends_later = self.ttls.get(&spot).is_none_or(|own| end <= *own);
        if request.level.is_some() && ends_later {
            self.saw("lease of a string not cut short");
        } else {
            self.saw("string granted again");
            self.ttls.insert(spot, end);
        }
        if may_wait {
            self.give_up_place(spot, &own);
        }
        self.serve(spot);
        self.reply(client, Reply::Granted(own, Fence::NONE));
    }

    /// A token that was granted what it asked for waits no longer for what it asked for before. False if it did not.
    fn give_up_place(&mut self, spot: Spot, token: &Token) -> bool {
        let Some(older) = self.queue(spot).find(|waiter| waiter.token == *token).cloned() else {
            return false;
        };
        self.waiting.retain(|waiter| waiter.number != older.number);
        let is_kept = older.request.queue_ms.is_some();
        self.answer_waiter(&older, if is_kept { Reply::Queued(older.number) } else { Reply::Null });
        true
    }

    /// Whether nobody waits ahead of the token. It may head the queue itself, and ask again.
    fn is_next(&self, spot: Spot, token: &Token, request: &Request) -> bool {
        let may_wait = request.block_ms.is_some() || request.queue_ms.is_some();
        self.head(spot).is_none_or(|head| may_wait && head.token == *token)
    }

    fn note_renewal(&mut self, spot: Spot, token: &Token, request: &Request) {
        let (has, wanted) =
            (self.hold_of(spot, token).unwrap().share, self.wanted(spot, Some(token), request));
        self.saw(match () {
            () if wanted == has => "granted again",
            () if wanted.is_more_than(has) => "upgraded at once",
            () => "downgraded",
        });
        if wanted.weight > has.weight {
            self.saw("made heavier at once");
        }
        let holder = self.hold_of(spot, token).unwrap();
        if let Some(level) = request.level {
            let lease_ms =
                counted(request.lease_ms, request.session_delay_ms.is_some() || holder.session.is_some());
            let cuts = self.now.plus_ms(lease_ms) < holder.end;
            let is_deeper = level > holder.level;
            self.saw(if cuts {
                "inner lease shorter than the outer"
            } else {
                "inner lease longer than the outer"
            });
            if is_deeper {
                self.saw("level raised");
            }
        }
        if self.in_grace() {
            self.saw("granted again in the grace");
        }
    }

    fn note_grant(&mut self, spot: Spot) {
        self.saw("granted at once");
        if self.whose(spot) == Whose::Arriving {
            self.saw("granted at once while the slot arrives");
        }
    }

    fn wait(
        &mut self,
        client: ClientId,
        spot: Spot,
        request: Request,
        token: Token,
        is_ahead: bool,
    ) -> Result<usize, Refusal> {
        if is_ahead && self.another_upgrades(spot, &token) {
            self.saw("deadlock");
            return Err(Refusal::Deadlock);
        }
        let lasts_ms = request.block_ms.or(request.queue_ms).filter(|ms| *ms > 0);
        let waiter = Waiting {
            number: self.places,
            spot,
            client: request.block_ms.map(|_| client),
            user: client,
            token,
            request,
            until: lasts_ms.map(|ms| self.now.plus_ms(ms)),
            is_ahead,
            was: BTreeSet::from([self.whose(spot)]),
            met_grace: false,
        };
        let here = |other: &Waiting| other.spot == spot;
        let older = self.waiting.iter().find(|other| here(other) && other.token == waiter.token);
        let replaced = older.map(|older| older.number);
        let mut all = self.waiting.clone();
        all.retain(|other| Some(other.number) != replaced);
        let number = replaced.unwrap_or(self.places);
        all.push(Waiting { number, ..waiter.clone() });
        in_order(&mut all);
        // The lock is looked at now.
        self.unseen.remove(&spot);
        if self.closes_a_circle(&all, number) {
            self.saw(if replaced.is_some() { "circle of a retry" } else { "circle" });
            if request.limit.is_some() || request.weight.is_some() {
                self.saw("circle of shares");
            }
            return Err(Refusal::Circle);
        }
        if let Some(older) = self.waiting.iter_mut().find(|other| here(other) && other.token == waiter.token)
        {
            let (superseded, was_kept, number) =
                (older.client, older.request.queue_ms.is_some(), older.number);
            *older = Waiting { number, ..waiter };
            self.sort();
            match superseded {
                Some(client) if was_kept => {
                    self.saw("superseded at a place");
                    self.answer(client, Reply::Queued(number));
                }
                Some(client) => {
                    self.saw("superseded");
                    self.answer(client, Reply::Null);
                }
                None => self.saw("place asked for again"),
            }
            return Ok(number);
        }
        if self.waiting.len() >= self.limits.in_all {
            self.saw("all queues full");
            return Err(Refusal::QueueFull("lock.max-waiters"));
        }
        if self.queue(spot).count() >= self.limits.per_key {
            self.saw("queue full");
            return Err(Refusal::QueueFull("lock.max-waiters-per-key"));
        }
        let index = if is_ahead { 0 } else { self.waiting.len() };
        if waiter.client.is_none() {
            self.saw(if is_ahead { "place taken ahead" } else { "place taken" });
        }
        self.waiting.insert(index, waiter);
        self.places += 1;
        Ok(self.places - 1)
    }

    pub(super) fn sort(&mut self) {
        in_order(&mut self.waiting);
    }

    fn another_upgrades(&self, spot: Spot, token: &Token) -> bool {
        let mut ahead = self.queue(spot).filter(|waiter| waiter.is_ahead && waiter.token != *token);
        ahead.any(|waiter| self.holds(spot, &waiter.token))
    }

    fn release(&mut self, client: ClientId, spot: Spot, token: &Token, level: u16) {
        if self.foreign.contains(&spot) {
            return self.reply(client, Reply::WrongType);
        }
        self.settle(spot);
        if self.owns_string(spot, token) {
            if level == 1 {
                self.saw("string released");
                self.strings.remove(&spot);
                self.ttls.remove(&spot);
                self.withdraw(spot, token);
            }
            self.serve(spot);
            return self.reply(client, Reply::Number(1));
        }
        let depth = self.hold_of(spot, token).map(|holder| holder.level);
        match depth {
            None => self.saw("nothing to release"),
            Some(depth) if level > depth => self.saw("not so deep"),
            Some(_) if level == 1 => {
                self.saw("released");
                if self.whose(spot) == Whose::Arriving && self.queue(spot).next().is_some() {
                    self.saw("freed under waiters while the slot arrives");
                }
                self.holders.retain(|(place, holder)| *place != spot || holder.token != *token);
            }
            Some(_) => {
                self.saw("level given back");
                self.hold_of_mut(spot, token).unwrap().level = level - 1;
            }
        }
        if self.hold_of(spot, token).is_none() {
            self.withdraw(spot, token);
        }
        self.serve(spot);
        let released = depth.is_some_and(|depth| level <= depth);
        self.reply(client, Reply::Number(released.into()));
    }

    fn withdraw(&mut self, spot: Spot, token: &Token) {
        let Some(waiter) = self.queue(spot).find(|waiter| waiter.token == *token).cloned() else { return };
        self.saw(if waiter.is_ahead { "wait for a change of limit withdrawn" } else { "wait withdrawn" });
        self.waiting.retain(|other| other.number != waiter.number);
        self.answer_waiter(&waiter, Reply::Null);
    }

    fn extend(&mut self, client: ClientId, spot: Spot, token: &Token, lease_ms: Option<u64>) {
        if self.foreign.contains(&spot) {
            return self.reply(client, Reply::WrongType);
        }
        self.settle(spot);
        let now = self.now;
        if self.owns_string(spot, token) {
            self.saw("string extended");
            self.ttls.insert(spot, now.plus_ms(lease_ms.unwrap_or(DEFAULT_LEASE_MS)));
            return self.reply(client, Reply::Number(1));
        }
        let extended = self.hold_of_mut(spot, token).map(|holder| {
            holder.lease_ms = counted(lease_ms.unwrap_or(holder.lease_ms), holder.session.is_some());
            holder.end = now.plus_ms(holder.lease_ms);
            holder.fence
        });
        if let Some(fence) = extended {
            self.tell(spot, fence);
            self.promise(spot);
        }
        self.saw(if extended.is_some() { "extended" } else { "nothing to extend" });
        self.reply(client, Reply::Number(extended.is_some().into()));
    }

    fn break_holds(&mut self, client: ClientId, spot: Spot, which: Option<usize>) {
        if self.foreign.contains(&spot) {
            return self.reply(client, Reply::WrongType);
        }
        // The operator names what was seen before the command came.
        let fences: Vec<u64> = self.live(spot).map(|holder| holder.fence).collect();
        self.settle(spot);
        if which.is_none() && self.strings.remove(&spot).is_some() {
            self.saw("string broken");
            self.ttls.remove(&spot);
            self.serve(spot);
            return self.reply(client, Reply::Number(1));
        }
        let is_named = |fence: u64| which.is_none_or(|which| fences.get(which) == Some(&fence));
        let broken = self.live(spot).filter(|holder| is_named(holder.fence)).count();
        self.holders.retain(|(place, holder)| *place != spot || !is_named(holder.fence));
        match (broken, which) {
            (0, _) => {}
            (_, None) => self.saw("broken altogether"),
            (_, Some(_)) => self.saw("broken by fence"),
        }
        self.serve(spot);
        self.reply(client, Reply::Number(broken));
    }
}
