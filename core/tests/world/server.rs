//! The core, driven the way the module drives it. And beside it a replica, which knows only what was passed on.
//!
//! What goes on without commands is in [`super::between`], what other commands do to its keys in [`super::elsewhere`].

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use lock_core::answer::{Answer, Grant};
use lock_core::codec::Decoded;
use lock_core::outcome::{Acquired, Authority, Cause, Change, Circumstances, WaitOptions};
use lock_core::queue::{Keep, WaiterLimits};
use lock_core::request::{Acquire, BreakTarget};
use lock_core::token::LONGEST_SPELLED;
use lock_core::turn::together::{self, Turns};
use lock_core::{
    AskedShare, ClientId, Fence, GrantState, Hold, Limit, Lock, Moment, Outcome, OwnedDbKey, Refusal, Share,
    StringHold, Table, Terms, Ticket, Token, Turn, codec,
};

use super::steps::{
    CLAIM_MS, DEFAULT_LEASE_MS, Reply, Request, SPOTS, Spot, Spots, Step, Whose, subscriber, token,
};

/// What stands under a key.
pub(crate) enum Value {
    Lock(Lock),
    /// A string whose value is this token, and which counts as a lock.
    String(u8),
    Foreign,
}

/// An answer on its way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pending {
    pub(super) answer: Answer,
}

impl Pending {
    pub(crate) fn grant(&self) -> Option<&Grant> {
        match &self.answer {
            Answer::Granted(grant) => Some(grant),
            _ => None,
        }
    }
}

/// A grant that was made in a turn.
pub(crate) struct Granted {
    pub(crate) spot: Spot,
    pub(crate) fence: Fence,
    /// Whether it was made in a turn at another key, with a grant of that.
    pub(crate) is_with_another: bool,
}

/// What a request for several keys came to when it was granted or refused.
pub(crate) struct TookSeveral {
    /// For each of its keys the hold of its token, before and after.
    pub(crate) holds: Vec<[Option<Fence>; 2]>,
    /// Whether it was to be granted.
    pub(crate) is_granted: bool,
}

/// A queue before and after a turn, and who of it was granted meanwhile.
pub(crate) struct Served {
    pub(crate) spot: Spot,
    pub(crate) before: Vec<Ticket>,
    /// Those with a connection, and those without one.
    pub(crate) granted: [Vec<Ticket>; 2],
    pub(crate) after: Vec<Ticket>,
    pub(crate) newcomer_was_granted: bool,
    pub(crate) whose: Whose,
    /// Whether grants may have been lost.
    pub(crate) in_grace: bool,
    /// Whether there was a new hold.
    pub(crate) one_was_granted_anew: bool,
}

/// What the server did of itself in a step, where the contract leaves it to the server when and in which order.
#[derive(Default)]
pub(crate) struct WorkDone {
    /// The keys at which it took a turn.
    pub(crate) turns: Vec<Spot>,
    /// The requests for several keys that had waited and came to their turn: at which of these turns, and their numbers.
    pub(crate) several: Vec<(usize, usize)>,
    /// Those at which it did what was due.
    pub(crate) expired: Vec<Spot>,
    /// Those at which it asked whether it can serve who waits, each after how many turns.
    pub(crate) looked_at: Vec<(usize, Spot)>,
    /// Whether it has looked at the last of them.
    pub(crate) look_is_over: bool,
    /// Whether a request was refused because it would have closed a circle of owners.
    pub(crate) circle_was_found: bool,
}

pub(crate) struct Server {
    pub(crate) now: Moment,
    pub(crate) values: BTreeMap<Spot, Value>,
    pub(crate) replica: BTreeMap<Spot, Lock>,
    pub(crate) replica_strings: BTreeMap<Spot, u8>,
    /// When keys end, where somebody has set that: here, and on the replica.
    pub(crate) ttls: BTreeMap<Spot, Moment>,
    pub(crate) replica_ttls: BTreeMap<Spot, Moment>,
    /// Clients who may not take locks.
    pub(crate) forbidden: BTreeSet<ClientId>,
    pub(crate) table: Table,
    pub(crate) limits: WaiterLimits,
    /// How many turns were taken. Some have little room for what follows, and the rest follows in others.
    turns: usize,
    pub(crate) is_master: bool,
    pub(crate) is_paused: bool,
    /// Whose the slots of names are, where not this server's.
    pub(crate) slots: BTreeMap<&'static [u8], Whose>,
    /// Where somebody was left waiting for the arrival of a slot.
    pub(crate) arriving: BTreeSet<Spot>,
    /// Locks with something due that was put off, and until when.
    pub(crate) put_off: BTreeMap<Spot, Moment>,
    pub(crate) grace_ms: u64,
    /// Where the look at who waits has come to; `None` where none is under way.
    pub(crate) last_looked_at: Option<OwnedDbKey>,
    pub(crate) open: BTreeSet<ClientId>,
    pub(crate) next_client: ClientId,
    /// Clients that wait for an answer, and the answer once there is one.
    pub(crate) blocked: BTreeMap<ClientId, Option<Pending>>,
    pub(super) ready: Vec<ClientId>,
    pub(super) replies: Vec<(ClientId, Reply)>,
    /// The numbers of the tickets, in the order in which places were taken.
    tickets: Vec<u64>,
    /// New fences in the order of their grants, in this step.
    pub(crate) grants: Vec<Granted>,
    /// The turns of this step.
    pub(crate) served: Vec<Served>,
    /// The requests for several keys that were granted or refused in this step.
    pub(crate) took_several: Vec<TookSeveral>,
    pub(crate) work_done: WorkDone,
    /// Fences that were granted to clients which left before they learned of them.
    pub(crate) lost: BTreeSet<Fence>,
    /// Fences that somebody was told of.
    pub(crate) told: BTreeSet<Fence>,
}

impl Server {
    pub(crate) fn new(clients: u64, limits: WaiterLimits) -> Self {
        let mut table = Table::new();
        table.decides(true);
        (1..=clients).for_each(|client| table.opened(client));
        Self {
            now: Moment::from_micros(0),
            values: BTreeMap::new(),
            replica: BTreeMap::new(),
            replica_strings: BTreeMap::new(),
            ttls: BTreeMap::new(),
            replica_ttls: BTreeMap::new(),
            forbidden: BTreeSet::new(),
            table,
            limits,
            turns: 0,
            is_master: true,
            is_paused: false,
            slots: BTreeMap::new(),
            arriving: BTreeSet::new(),
            put_off: BTreeMap::new(),
            grace_ms: 0,
            last_looked_at: None,
            open: (1..=clients).collect(),
            next_client: clients + 1,
            blocked: BTreeMap::new(),
            ready: Vec::new(),
            replies: Vec::new(),
            tickets: Vec::new(),
            grants: Vec::new(),
            served: Vec::new(),
            took_several: Vec::new(),
            work_done: WorkDone::default(),
            lost: BTreeSet::new(),
            told: BTreeSet::new(),
        }
    }

    pub(crate) fn decides(&self) -> bool {
        self.is_master && !self.is_paused
    }

    pub(crate) fn lock(&self, spot: Spot) -> Option<&Lock> {
        match self.values.get(&spot)? {
            Value::Lock(lock) => Some(lock),
            Value::String(_) | Value::Foreign => None,
        }
    }

    pub(crate) fn is_foreign(&self, spot: Spot) -> bool {
        matches!(self.values.get(&spot), Some(Value::Foreign))
    }

    /// The token that is the value of a string, unless its time is over, which the server need not have noticed.
    pub(crate) fn string(&self, spot: Spot) -> Option<u8> {
        match self.values.get(&spot) {
            Some(Value::String(number)) if !self.is_over(spot) => Some(*number),
            _ => None,
        }
    }

    /// Whether a string is to go: its time is over once a millisecond more has passed.
    pub(super) fn is_over(&self, spot: Spot) -> bool {
        let is_string = matches!(self.values.get(&spot), Some(Value::String(_)));
        is_string && self.ttls.get(&spot).is_some_and(|end| *end < self.now)
    }

    /// Whether something stands there.
    pub(crate) fn exists(&self, spot: Spot) -> bool {
        self.values.contains_key(&spot) && !self.is_over(spot)
    }

    pub(crate) fn whose(&self, spot: Spot) -> Whose {
        self.slots.get(spot.key).copied().unwrap_or(Whose::Ours)
    }

    /// Whether grants may have been lost.
    pub(crate) fn in_grace(&self) -> bool {
        self.table.is_in_grace(self.grace_ms, self.now)
    }

    /// Takes a step, and returns what clients were told. A token that the server has to make is `made`.
    pub(crate) fn take(&mut self, step: Step, made: &Token) -> Vec<(ClientId, Reply)> {
        self.grants.clear();
        self.served.clear();
        self.took_several.clear();
        self.work_done = WorkDone::default();
        if step.is_command() {
            self.end_strings();
        }
        match step {
            Step::Acquire(client, spot, request) => self.acquire(client, spot, request, made),
            Step::Release(client, spot, number, level) => self.release(client, spot, &token(number), level),
            Step::Forbid(client, true) => drop(self.forbidden.insert(client)),
            Step::Forbid(client, false) => drop(self.forbidden.remove(&client)),
            Step::Extend(client, spot, number, lease_ms) => {
                self.extend(client, spot, &token(number), lease_ms);
            }
            Step::AcquireAll(client, spots, request) => self.acquire_all(client, spots, request, made),
            Step::ReleaseAll(client, spots, number) => self.release_all(client, spots, &token(number)),
            Step::ExtendAll(client, spots, number, lease_ms) => {
                self.extend_all(client, spots, &token(number), lease_ms);
            }
            Step::Break(client, spot, which) => self.break_holds(client, spot, which),
            Step::Pass(ms) => {
                self.now = self.now.plus_ms(ms);
                self.end_keys();
            }
            Step::Expire(spot, at_most) => drop(self.expire(spot, at_most)),
            Step::TimeOut(at_most) => self.time_out(at_most),
            Step::EndTurn => self.end_turn(),
            Step::Connect => {
                self.open.insert(self.next_client);
                self.table.opened(self.next_client);
                self.next_client += 1;
            }
            Step::Disconnect(client) => self.disconnect(client),
            Step::Unblock(client, with_error) => self.unblock(client, with_error),
            Step::Pause(paused) => self.is_paused = paused,
            Step::Demote => self.demote(),
            Step::Promote => {
                self.is_master = true;
                self.table.promoted(self.now);
            }
            Step::Arrive(spot, number, lease_ms) => self.arrive(spot, number, lease_ms),
            Step::Slot(spot, whose) => drop(self.slots.insert(spot.key, whose)),
            Step::Look(at_most) => self.look(at_most),
            Step::SetGrace(ms) => self.grace_ms = ms,
            Step::Reload => self.reload(),
            _ => self.take_foreign(step),
        }
        std::mem::take(&mut self.replies)
    }

    pub(super) fn reply(&mut self, client: ClientId, reply: Reply) {
        if let Reply::Granted(_, fence) = reply {
            self.told.insert(fence);
        }
        self.replies.push((client, reply));
    }

    fn waiting(&self, spot: Spot) -> Vec<(Ticket, Option<ClientId>)> {
        self.table.queues().places(spot).map(|(ticket, waiter)| (ticket, waiter.client)).collect()
    }

    /// The number of a place in the order in which places were taken.
    pub(crate) fn number_of(&self, ticket: Ticket) -> usize {
        self.tickets.iter().position(|number| *number == ticket.number()).unwrap()
    }

    /// A place is taken, or asked for again.
    fn note_ticket(&mut self, ticket: Ticket) {
        let number = ticket.number();
        if !self.tickets.contains(&number) {
            assert!(self.tickets.last().is_none_or(|last| *last < number), "tickets rise");
            self.tickets.push(number);
        }
    }

    /// Takes a turn at a key, as the module does: it settles first, then it is asked, and whenever it has come to a candidate
    /// the rights of that are looked at.
    pub(super) fn turn<R>(&mut self, spot: Spot, asked: Asked, ask: impl FnOnce(&mut Turn<'_>) -> R) -> R {
        let opened = self.open(spot);
        self.turns += 1;
        let room = [usize::MAX, 0, 1, 2][self.turns % 4];
        let mut steps = Steps { server: self, opened };
        steps.take(room, |turn| turn.settle());
        steps.settle_the_rest();
        let result = steps.take(room, ask);
        steps.settle_the_rest();
        let opened = steps.opened;
        self.close(opened, &asked, true);
        result
    }

    /// Opens a key for a turn.
    fn open(&mut self, spot: Spot) -> Opened {
        let before = self.waiting(spot);
        if self.is_over(spot) {
            // Whoever opens such a key has the server delete it.
            self.remove(spot);
        }
        let (lock, stood) = match self.values.remove(&spot) {
            Some(Value::Lock(lock)) => (lock, Stood::Lock),
            Some(Value::String(number)) => (Lock::new(), Stood::String(number)),
            Some(Value::Foreign) => panic!("a turn at a key of another type"),
            None => (Lock::new(), Stood::Nothing),
        };
        let string = stood.as_hold(self.ttls.get(&spot).copied(), self.now);
        let authority = if self.table.has_business_at(spot) {
            Authority { may_grant: self.decides(), serves_key: self.whose(spot).serves() }
        } else {
            Authority::NONE
        };
        let circumstances = Circumstances {
            now: self.now,
            wall_micros: 0,
            grace_ms: self.grace_ms,
            claim_ms: CLAIM_MS,
            authority,
            at_most: usize::MAX,
        };
        Opened { spot, lock, stood, string, circumstances, outcome: Outcome::default(), before }
    }

    /// Ends a turn, and does what it has come to. It is one of its own, or one with another.
    fn close(&mut self, mut opened: Opened, asked: &Asked, is_of_its_own: bool) {
        opened.resume(&mut self.table).end();
        let Opened { spot, mut lock, stood, string, outcome, before, .. } = opened;
        self.pass_on(spot, asked, &outcome);
        self.note_turn(spot, &before, &outcome, is_of_its_own);
        for ticket in &outcome.calls {
            self.replies.push((subscriber(spot), Reply::Called(self.number_of(*ticket))));
        }
        for (client, answer) in outcome.answers {
            self.answer(client, answer);
        }
        if outcome.has_promised {
            assert!(!outcome.changes.is_empty(), "what promises a lease is passed on");
            self.ttls.remove(&spot);
        }
        if !outcome.changes.is_empty() {
            self.put_off.remove(&spot);
        }
        match (lock.is_empty(), stood) {
            (true, Stood::String(number)) if string.is_some() => {
                self.values.insert(spot, Value::String(number));
                for change in &outcome.changes {
                    if let Change::Lease(_, lease_ms, _) = change {
                        self.ttls.insert(spot, self.now.plus_ms(*lease_ms));
                    }
                }
            }
            (true, Stood::String(_)) => drop(self.ttls.remove(&spot)),
            (false, _) => drop(self.values.insert(spot, Value::Lock(lock))),
            (true, Stood::Lock) => {
                self.ttls.remove(&spot);
                self.unlinked(spot, &mut lock);
            }
            (true, Stood::Nothing) => {}
        }
    }

    /// What a replica makes of the changes of a turn.
    fn pass_on(&mut self, spot: Spot, asked: &Asked, outcome: &Outcome) {
        let now = self.now;
        let replica = self.replica.entry(spot).or_default();
        for change in &outcome.changes {
            match change {
                Change::Lease(token, lease_ms, _) => {
                    let number = self.replica_strings.get(&spot);
                    assert_eq!(number.map(|number| super::steps::token(*number)).as_ref(), Some(token));
                    self.replica_ttls.insert(spot, now.plus_ms(*lease_ms));
                }
                Change::First(hold, _) => {
                    self.replica_strings.remove(&spot);
                    let bytes = codec::encode_one(hold, true, now);
                    replica.replace(codec::decode(&bytes, now).unwrap().holds).unwrap();
                    self.replica_ttls.remove(&spot);
                }
                Change::Whole(holds, _) => {
                    for bytes in codec::encode_in_pieces(holds, now) {
                        let decoded = codec::decode(&bytes, now).unwrap();
                        if decoded.is_whole {
                            replica.replace(decoded.holds).unwrap();
                        } else {
                            replica.adopt(decoded.holds).unwrap();
                        }
                    }
                    self.replica_ttls.remove(&spot);
                }
                Change::Set(hold, _) => {
                    let bytes = codec::encode([hold], now);
                    replica.adopt(codec::decode(&bytes, now).unwrap().holds).unwrap();
                    self.replica_ttls.remove(&spot);
                }
                Change::Ended(fence, _) => {
                    assert!(replica.end(*fence), "a hold ends once, and the replica has it: {fence:?}");
                }
                Change::AsAsked(..) | Change::StringEnded(_) => match asked {
                    Asked::Nothing => panic!("nothing was asked"),
                    Asked::Release(token, level) => {
                        replica.release(token, *level, now, || true);
                        let number = self.replica_strings.get(&spot);
                        if *level == 1 && number.is_some_and(|number| super::steps::token(*number) == *token)
                        {
                            self.replica_strings.remove(&spot);
                        }
                    }
                    Asked::Extend(token, lease_ms) => {
                        let extended = replica.extend(token, *lease_ms, now, || true);
                        assert!(extended.is_some(), "the replica has the hold");
                        self.replica_ttls.remove(&spot);
                    }
                    Asked::Break(target) => {
                        replica.end_where(|hold| target.names(hold.fence()));
                        if *target == BreakTarget::All {
                            self.replica_strings.remove(&spot);
                        }
                    }
                    Asked::Apply(holds) => {
                        replica.replace(holds.clone()).unwrap();
                        self.replica_ttls.remove(&spot);
                    }
                },
            }
            if replica.is_empty() && !self.replica_strings.contains_key(&spot) {
                self.replica_ttls.remove(&spot);
            }
        }
    }

    fn note_turn(
        &mut self,
        spot: Spot,
        before: &[(Ticket, Option<ClientId>)],
        outcome: &Outcome,
        is_of_its_own: bool,
    ) {
        let tickets = |waiting: &[(Ticket, _)]| waiting.iter().map(|(ticket, _)| *ticket).collect();
        let place_of = |client| before.iter().find(|(_, other)| *other == Some(client)).unwrap().0;
        let answered = outcome.answers.iter().filter(|(_, answer)| matches!(answer, Answer::Granted(_)));
        // Other places are called again, of whom nobody was told.
        let waited = |ticket: &&Ticket| before.iter().any(|(other, _)| other == *ticket);
        let called = outcome.calls.iter().filter(waited).copied().collect();
        let drawn = outcome.changes.iter().filter_map(|change| match change {
            Change::First(hold, Cause::Granted { has_waited })
            | Change::Set(hold, Cause::Granted { has_waited }) => Some((hold.fence(), *has_waited)),
            _ => None,
        });
        if is_of_its_own {
            self.work_done.turns.push(spot);
        }
        self.served.push(Served {
            spot,
            before: tickets(before),
            granted: [answered.map(|(client, _)| place_of(*client)).collect(), called],
            after: tickets(&self.waiting(spot)),
            newcomer_was_granted: drawn.clone().any(|(_, has_waited)| !has_waited),
            whose: self.whose(spot),
            in_grace: self.in_grace(),
            one_was_granted_anew: drawn.clone().next().is_some(),
        });
        let is_with_another = !is_of_its_own;
        self.grants.extend(drawn.map(|(fence, _)| Granted { spot, fence, is_with_another }));
    }

    pub(super) fn unlinked(&mut self, spot: Spot, lock: &mut Lock) {
        self.put_off.remove(&spot);
        self.table.departed(spot, lock);
    }
}

/// What a replica is told when a command is passed on as it came.
pub(super) enum Asked {
    Nothing,
    Release(Token, u16),
    Extend(Token, Option<u64>),
    Break(BreakTarget),
    Apply(Vec<Hold>),
}

/// What stood under a key before a turn.
#[derive(Clone, Copy)]
enum Stood {
    Nothing,
    Lock,
    String(u8),
}

impl Stood {
    fn as_hold(self, end: Option<Moment>, now: Moment) -> Option<StringHold> {
        let Self::String(number) = self else { return None };
        let token = token(number);
        let value = token.text(&mut [0; LONGEST_SPELLED]).to_vec();
        Some(StringHold::new(&value, end.map(|end| now.ms_until(end)), DEFAULT_LEASE_MS, now))
    }
}

/// A key that is open for a turn.
struct Opened {
    spot: Spot,
    lock: Lock,
    stood: Stood,
    string: Option<StringHold>,
    circumstances: Circumstances,
    outcome: Outcome,
    /// Who waited for it.
    before: Vec<(Ticket, Option<ClientId>)>,
}

impl Opened {
    fn resume<'a>(&'a mut self, table: &'a mut Table) -> Turn<'a> {
        let Self { spot, lock, string, circumstances, outcome, .. } = self;
        Turn::resume(lock, string, table, *spot, circumstances, outcome)
    }
}

impl Opened {
    /// What stands in for a key that is lent.
    fn nothing(spot: Spot) -> Self {
        let circumstances = Circumstances {
            now: Moment::from_micros(0),
            wall_micros: 0,
            grace_ms: 0,
            claim_ms: 0,
            authority: Authority::NONE,
            at_most: 0,
        };
        let (lock, outcome) = (Lock::new(), Outcome::default());
        Self { spot, lock, stood: Stood::Nothing, string: None, circumstances, outcome, before: Vec::new() }
    }
}

/// Several keys that are open at once.
struct Several<'w> {
    server: &'w mut Server,
    opened: Vec<Opened>,
}

impl Turns for Several<'_> {
    fn count(&self) -> usize {
        self.opened.len()
    }

    fn at<R>(&mut self, place: usize, step: impl FnOnce(&mut Turn<'_>) -> R) -> R {
        step(&mut self.opened[place].resume(&mut self.server.table))
    }
}

impl Several<'_> {
    /// The holds of a token.
    fn holds_of(&self, token: &Token) -> Vec<Option<Fence>> {
        let now = self.server.now;
        let fence = |opened: &Opened| opened.lock.hold_of(token, now).map(Hold::fence);
        let of_string = |opened: &Opened| {
            opened.string.as_ref().filter(|string| string.is_owned_by(token)).map(|_| Fence::NONE)
        };
        self.opened.iter().map(|opened| fence(opened).or_else(|| of_string(opened))).collect()
    }

    fn note(&mut self, before: Vec<Option<Fence>>, token: &Token, is_granted: bool) {
        let holds =
            before.into_iter().zip(self.holds_of(token)).map(|(before, after)| [before, after]).collect();
        self.server.took_several.push(TookSeveral { holds, is_granted });
    }
}

/// The steps of a turn.
struct Steps<'w> {
    server: &'w mut Server,
    opened: Opened,
}

impl Steps<'_> {
    /// Takes a step of which so much may follow, and asks for the rights of those it comes to.
    fn take<R>(&mut self, room: usize, step: impl FnOnce(&mut Turn<'_>) -> R) -> R {
        self.opened.circumstances.at_most = self.opened.outcome.work().saturating_add(room);
        let result = step(&mut self.resume());
        while let Some(ticket) = self.opened.outcome.candidate {
            let has_right = self.server.has_right(ticket);
            if self.server.table.queues().keys_of(ticket).len() == 1 {
                self.resume().judge_candidate(has_right);
            } else if self.serve_several(ticket, has_right) {
                self.resume().candidate_is_served();
            } else {
                self.resume().pass_by_candidate();
            }
        }
        result
    }

    /// Serves a request for several keys if it can be served at each. The others are opened as they are.
    fn serve_several(&mut self, ticket: Ticket, has_right: bool) -> bool {
        let here = self.opened.spot;
        let keys = self.server.table.queues().keys_of(ticket);
        let spots: Vec<Spot> = keys.iter().map(|key| known(key.as_key())).collect();
        let turn = self.server.work_done.turns.len();
        if spots.iter().any(|spot| self.server.is_foreign(*spot)) {
            return false;
        }
        let own = std::mem::replace(&mut self.opened, Opened::nothing(here));
        let mut own = Some(own);
        let opened = spots
            .iter()
            .map(|spot| if *spot == here { own.take().unwrap() } else { self.server.open(*spot) });
        let opened = opened.collect();
        let mut several = Several { server: self.server, opened };
        let is_ready = together::is_ready(&mut several, ticket);
        if is_ready {
            let token = several.server.table.queues().waiter(ticket).unwrap().token.clone();
            let before = several.holds_of(&token);
            together::serve(&mut several, ticket, has_right);
            several.note(before, &token, has_right);
            let number = several.server.number_of(ticket);
            several.server.work_done.several.push((turn, number));
        }
        for opened in several.opened {
            if opened.spot == here {
                self.opened = opened;
            } else {
                self.server.close(opened, &Asked::Nothing, false);
            }
        }
        is_ready
    }

    fn resume(&mut self) -> Turn<'_> {
        self.opened.resume(&mut self.server.table)
    }

    /// As the next iterations of the server's loop do, if nothing else happens before.
    fn settle_the_rest(&mut self) {
        while self.opened.outcome.work() >= self.opened.circumstances.at_most
            && self.server.table.is_marked(self.opened.spot)
        {
            self.take(1, |turn| turn.settle());
        }
    }
}

/// Commands of clients, and of a master.
impl Server {
    /// Whether the user of the request with this ticket may take locks.
    fn has_right(&self, ticket: Ticket) -> bool {
        let waiter = self.table.queues().waiter(ticket).unwrap();
        let user = waiter.client.or_else(|| Some(user_named(waiter.keep.as_ref()?.user.as_ref()?))).unwrap();
        !self.forbidden.contains(&user)
    }

    fn acquire(&mut self, client: ClientId, spot: Spot, request: Request, made: &Token) {
        if self.is_foreign(spot) {
            return self.reply(client, Reply::WrongType);
        }
        let (acquire, wait) = self.asked_for(client, &request);
        let acquired =
            self.turn(spot, Asked::Nothing, |turn| turn.acquire(&acquire, || client, wait, || made.clone()));
        self.answer_acquire(client, &[spot], request.owner, acquired);
    }

    fn acquire_all(&mut self, client: ClientId, spots: Spots, request: Request, made: &Token) {
        if spots.iter().any(|spot| self.is_foreign(*spot)) {
            return self.reply(client, Reply::WrongType);
        }
        // What is marked is settled first, as often as one turn marks the key of another. Where this server may not serve,
        // marks stay.
        let serves = |this: &Self, spot: Spot| this.whose(spot).serves();
        for round in 0.. {
            assert!(round < 20, "settling comes to an end");
            for spot in spots {
                self.turn(*spot, Asked::Nothing, |_| ());
            }
            if !spots.iter().any(|spot| self.table.is_marked(*spot) && serves(self, *spot)) {
                break;
            }
        }
        let (acquire, wait) = self.asked_for(client, &request);
        let opened = spots.iter().map(|spot| self.open(*spot)).collect();
        let mut several = Several { server: self, opened };
        let own = acquire.token.clone().unwrap_or_else(|| made.clone());
        let before = several.holds_of(&own);
        let acquired = together::acquire(&mut several, &acquire, || client, wait, || made.clone());
        several.note(before, &own, matches!(acquired, Ok(Acquired::Granted(..))));
        for opened in several.opened {
            self.close(opened, &Asked::Nothing, false);
        }
        if let Ok(Acquired::Granted(..)) = acquired {
            // It is told the highest fence, and learns of all holds by that.
            let holds = spots.iter().filter_map(|spot| self.lock(*spot)?.hold_of(&own, self.now));
            self.told.extend(holds.map(Hold::fence).collect::<Vec<_>>());
        }
        self.answer_acquire(client, spots, request.owner, acquired);
    }

    fn asked_for(&self, client: ClientId, request: &Request) -> (Acquire<'static>, Option<WaitOptions>) {
        let acquire = Acquire {
            token: request.token.map(token),
            lease_ms: request.lease_ms,
            asked: AskedShare { limit: request.limit.map(Limit::from_number), weight: request.weight },
            block_ms: request.block_ms,
            queue_ms: request.queue_ms.and_then(NonZeroU64::new),
            owner: request.owner,
            session_delay_ms: request.session_delay_ms,
            level: request.level,
        };
        let keep = acquire.queue_ms.map(|for_ms| Keep { for_ms, user: Some(client.to_le_bytes().into()) });
        let blocked = request.block_ms.map(|_| client);
        let may_wait = blocked.is_some() || keep.is_some();
        let wait = may_wait.then_some(WaitOptions { client: blocked, keep, limits: self.limits });
        (acquire, wait)
    }

    fn answer_acquire(
        &mut self,
        client: ClientId,
        spots: &[Spot],
        owner: Option<&[u8]>,
        acquired: Result<Acquired, Refusal>,
    ) {
        match acquired {
            Ok(Acquired::Granted(token, fence)) => self.reply(client, Reply::Granted(token, fence)),
            Ok(Acquired::NotAvailable) => self.reply(client, Reply::Null),
            Ok(Acquired::Waits(joining)) => {
                let is_blocked = joining.waiter.client.is_some();
                let joined = self.table.join(spots, *joining);
                self.note_ticket(joined.ticket);
                if is_blocked {
                    self.blocked.insert(client, None);
                } else {
                    self.reply(client, Reply::Queued(self.number_of(joined.ticket)));
                }
                for (older, answer) in joined.superseded {
                    self.answer(older, answer);
                }
            }
            Err(Refusal::Circle) => {
                let circle = self.table.take_circle().unwrap();
                self.work_done.circle_was_found = true;
                let first = circle.named.first().map(|label| &**label);
                assert_eq!(first, owner, "the circle begins with who asks");
                let named: BTreeSet<&[u8]> = circle.named.iter().map(|label| &**label).collect();
                assert!(circle.len >= 2 && circle.len == named.len(), "everybody is named once: {circle:?}");
                self.reply(client, Reply::Error(Refusal::Circle));
            }
            Err(refusal) => self.reply(client, Reply::Error(refusal)),
        }
    }

    fn release(&mut self, client: ClientId, spot: Spot, token: &Token, level: u16) {
        if self.is_foreign(spot) {
            return self.reply(client, Reply::WrongType);
        }
        let released = self.release_at(spot, token, level);
        self.reply(client, Reply::Number(released.into()));
    }

    fn release_at(&mut self, spot: Spot, token: &Token, level: u16) -> bool {
        let obeys = !self.is_master;
        let asked = Asked::Release(token.clone(), level);
        self.turn(spot, asked, |turn| turn.release(token, level, || obeys))
    }

    fn release_all(&mut self, client: ClientId, spots: Spots, token: &Token) {
        if spots.iter().any(|spot| self.is_foreign(*spot)) {
            return self.reply(client, Reply::WrongType);
        }
        let released = spots.iter().filter(|spot| self.release_at(**spot, token, 1)).count();
        self.reply(client, Reply::Number(released));
    }

    fn extend(&mut self, client: ClientId, spot: Spot, token: &Token, lease_ms: Option<u64>) {
        if self.is_foreign(spot) {
            return self.reply(client, Reply::WrongType);
        }
        let extended = self.extend_at(spot, token, lease_ms);
        self.reply(client, Reply::Number(extended.into()));
    }

    fn extend_at(&mut self, spot: Spot, token: &Token, lease_ms: Option<u64>) -> bool {
        let obeys = !self.is_master;
        let asked = Asked::Extend(token.clone(), lease_ms);
        let extended = self.turn(spot, asked, |turn| turn.extend(token, lease_ms, || obeys));
        let hold = self.lock(spot).and_then(|lock| lock.hold_of(token, self.now));
        if let Some(fence) = hold.filter(|_| extended).map(Hold::fence) {
            self.told.insert(fence);
        }
        extended
    }

    fn extend_all(&mut self, client: ClientId, spots: Spots, token: &Token, lease_ms: Option<u64>) {
        if spots.iter().any(|spot| self.is_foreign(*spot)) {
            return self.reply(client, Reply::WrongType);
        }
        let extended = spots.iter().filter(|spot| self.extend_at(**spot, token, lease_ms)).count();
        self.reply(client, Reply::Number(extended));
    }

    fn break_holds(&mut self, client: ClientId, spot: Spot, which: Option<usize>) {
        if self.is_foreign(spot) {
            return self.reply(client, Reply::WrongType);
        }
        let now = self.now;
        let seen = which.and_then(|which| {
            self.lock(spot).and_then(|lock| lock.live_holds(now).nth(which)).map(Hold::fence)
        });
        let broken = match (which, seen) {
            (None, _) => BreakTarget::All,
            (_, Some(fence)) => BreakTarget::One(fence),
            (_, None) => BreakTarget::Nobody,
        };
        let ended = self.turn(spot, Asked::Break(broken), |turn| turn.break_holds(broken));
        self.reply(client, Reply::Number(ended.len()));
    }

    fn arrive(&mut self, spot: Spot, number: u8, lease_ms: u64) {
        let hold = self.granted_elsewhere(number, Limit::EXCLUSIVE, lease_ms);
        if self.is_foreign(spot) || self.string(spot).is_some() {
            // What the master says is made so, whatever stands there.
            self.values.remove(&spot);
            self.replica_strings.remove(&spot);
            self.ttls.remove(&spot);
        }
        self.turn(spot, Asked::Apply(vec![hold.clone()]), |turn| {
            turn.apply(Decoded { holds: vec![hold], is_whole: true })
        })
        .unwrap();
    }

    /// A hold that another server has granted just now.
    pub(super) fn granted_elsewhere(&mut self, number: u8, limit: Limit, lease_ms: u64) -> Hold {
        let fence = Fence::new(self.table.last_fence().map_or(1, |fence| fence.get() + 1)).unwrap();
        self.table.raise_fence(fence);
        let terms =
            Terms { token: &token(number), share: Share::of(limit), lease_ms, owner: None, session: None };
        let state =
            GrantState { fence, granted_at: self.now, deadline: self.now.plus_ms(lease_ms), level: 1 };
        Hold::restore(terms, state)
    }
}

/// The client whose name this is.
fn user_named(name: &[u8]) -> ClientId {
    ClientId::from_le_bytes(name.try_into().unwrap())
}

/// The same key among those there are.
pub(super) fn known(key: lock_core::DbKey<'_>) -> Spot {
    SPOTS.into_iter().find(|spot| *spot == key).unwrap()
}
