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
//! 15. A request for several keys may be granted in a turn at any of them, or in a later one; at the end of an iteration of the
//!     server's loop nobody is left who can be. What follows at its other keys from its grant or its end is done by the next
//!     turn there. Who waits for several keys, of which a string is one, waits until that is gone, as for a single one.
//! 16. A place of several keys is called at the first of them, also where it is left to be claimed.

mod acquire;
mod release;
mod several;
mod shares;
mod waits;

use std::collections::{BTreeMap, BTreeSet};

use lock_core::queue::WaiterLimits;
use lock_core::{ClientId, Moment, Session, Token};

pub(crate) use self::shares::Share;
use super::server::WorkDone;
use super::steps::{NOT_OURS_MS, Reply, Request, Spot, Step, Whose, token};

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
    /// The place, if it is kept without the client: its number, where it is called at this key, and what there was, if the
    /// token held already. Then the grant stands, to be claimed.
    pub(crate) kept: Option<(Option<usize>, Option<Known>)>,
    /// Its number in the order of all of them.
    pub(crate) order: usize,
    /// Until when it can be claimed, if nobody waits to be told. Then it is lost.
    pub(crate) until: Option<Moment>,
    /// Whether the client has gone.
    pub(crate) is_lost: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Waiting {
    /// Its number in the order in which places were taken.
    pub(crate) number: usize,
    /// All that it waits for.
    pub(crate) spots: Vec<Spot>,
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
    /// The command by which it came.
    pub(crate) command: &'static str,
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
    /// The command for locks that is carried out.
    command: &'static str,
    /// Whether the server has found a circle in this step.
    circle_was_found: bool,
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
    /// How many grants were promised so far.
    pub(super) promises: usize,
    /// Which turn of this step it is.
    pub(super) turn: usize,
    /// At which turn of this step the server came to which requests for several keys.
    pub(super) several: Vec<(usize, usize)>,
}

impl Waiting {
    pub(crate) fn is_for_several(&self) -> bool {
        self.spots.len() > 1
    }

    fn is_kept(&self) -> bool {
        self.request.queue_ms.is_some()
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
            command: "",
            circle_was_found: false,
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
            promises: 0,
            turn: 0,
            several: Vec::new(),
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

    /// Whether the token is the value of the string under this key.
    fn owns_string(&self, spot: Spot, token: &Token) -> bool {
        self.strings.get(&spot).is_some_and(|number| super::steps::token(*number) == *token)
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
        self.waiting.iter().filter(move |waiter| waiter.spots.contains(&spot))
    }

    pub(crate) fn head(&self, spot: Spot) -> Option<Waiting> {
        self.queue(spot).next().cloned()
    }

    /// Whether this step can happen: a client that waits sends nothing, a client that is gone neither; who is paused or
    /// no master writes nothing of its own.
    pub(crate) fn can(&self, step: Step) -> bool {
        match step {
            Step::Acquire(client, ..) | Step::AcquireAll(client, ..) => {
                self.decides() && self.is_idle(client)
            }
            Step::ReleaseAll(client, ..) | Step::ExtendAll(client, ..) => {
                self.is_master && self.is_idle(client)
            }
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
        self.turn = 0;
        self.several.clone_from(&work_done.several);
        self.circle_was_found = work_done.circle_was_found;
        self.command = if matches!(step, Step::AcquireAll(..)) { "lock.macquire" } else { "lock.acquire" };
        match step {
            Step::Acquire(client, spot, request) => self.acquire(client, spot, request, made),
            Step::AcquireAll(client, spots, request) => {
                self.acquire_all(client, spots, request, made, work_done);
            }
            Step::ReleaseAll(client, spots, number) => self.release_all(client, spots, &token(number)),
            Step::ExtendAll(client, spots, number, lease_ms) => {
                self.extend_all(client, spots, &token(number), lease_ms);
            }
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
}
