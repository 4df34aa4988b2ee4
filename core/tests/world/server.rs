//! The core, driven the way the module drives it: the keyspace, the timer, the replies at the end of a turn of the
//! server's loop. And beside it a replica, which knows only what was passed on.
//!
//! What other commands do to its keys is in [`super::elsewhere`].

use std::collections::{BTreeMap, BTreeSet};

use lock_core::queue::{Remedy, WaiterLimits};
use lock_core::request::{Acquire, Broken};
use lock_core::turn::{Acquired, Answer, Grant, Patience};
use lock_core::{
    ClientId, Deadlines, Fence, FenceSequence, Hold, Limit, Lock, Moment, Queues, Refusal, Standing, Terms,
    Ties, Token, Turn,
};

use super::recorder::{Asked, Recorder};
use super::steps::{Reply, Request, SPOTS, Spot, Step, token};

/// What stands under a key.
pub(crate) enum Value {
    Lock(Lock),
    Foreign,
}

/// An answer on its way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pending {
    answer: Answer,
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
}

/// A queue before and after a turn, and who of it was granted meanwhile.
pub(crate) struct Served {
    pub(crate) spot: Spot,
    pub(crate) before: Vec<ClientId>,
    pub(crate) granted: Vec<ClientId>,
    pub(crate) after: Vec<ClientId>,
    pub(crate) newcomer_was_granted: bool,
}

pub(crate) struct Server {
    pub(crate) now: Moment,
    pub(crate) values: BTreeMap<Spot, Value>,
    pub(crate) replica: BTreeMap<Spot, Lock>,
    pub(crate) queues: Queues,
    pub(crate) deadlines: Deadlines,
    pub(crate) ties: Ties,
    pub(crate) fences: FenceSequence,
    pub(crate) limits: WaiterLimits,
    pub(crate) is_master: bool,
    pub(crate) is_paused: bool,
    pub(crate) open: BTreeSet<ClientId>,
    pub(crate) next_client: ClientId,
    /// Clients that wait for an answer, and the answer once there is one.
    pub(crate) blocked: BTreeMap<ClientId, Option<Pending>>,
    ready: Vec<ClientId>,
    replies: Vec<(ClientId, Reply)>,
    /// New fences in the order of their grants, in this step.
    pub(crate) grants: Vec<Granted>,
    /// The turns of this step.
    pub(crate) served: Vec<Served>,
    /// Fences that were granted to clients which left before they learned of them.
    pub(crate) lost: BTreeSet<Fence>,
    /// Fences that somebody was told of.
    pub(crate) told: BTreeSet<Fence>,
}

impl Server {
    pub(crate) fn new(clients: u64, limits: WaiterLimits) -> Self {
        Self {
            now: Moment::from_micros(0),
            values: BTreeMap::new(),
            replica: BTreeMap::new(),
            queues: Queues::new(),
            deadlines: Deadlines::new(),
            ties: Ties::new(),
            fences: FenceSequence::new(),
            limits,
            is_master: true,
            is_paused: false,
            open: (1..=clients).collect(),
            next_client: clients + 1,
            blocked: BTreeMap::new(),
            ready: Vec::new(),
            replies: Vec::new(),
            grants: Vec::new(),
            served: Vec::new(),
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
            Value::Foreign => None,
        }
    }

    pub(crate) fn is_foreign(&self, spot: Spot) -> bool {
        matches!(self.values.get(&spot), Some(Value::Foreign))
    }

    /// Takes a step, and returns what clients were told. A token that the server has to make is `made`.
    pub(crate) fn take(&mut self, step: Step, made: &Token) -> Vec<(ClientId, Reply)> {
        self.grants.clear();
        self.served.clear();
        match step {
            Step::Acquire(client, spot, request) => self.acquire(client, spot, request, made),
            Step::Release(client, spot, number) => self.release(client, spot, &token(number)),
            Step::Extend(client, spot, number, lease_ms) => {
                self.extend(client, spot, &token(number), lease_ms);
            }
            Step::Break(client, spot, which) => self.break_holds(client, spot, which),
            Step::Pass(ms) => self.now = self.now.plus_ms(ms),
            Step::Expire(spot, at_most) => drop(self.expire(spot, at_most)),
            Step::TimeOut(at_most) => self.time_out(at_most),
            Step::EndTurn => self.end_turn(),
            Step::Connect => {
                self.open.insert(self.next_client);
                self.next_client += 1;
            }
            Step::Disconnect(client) => self.disconnect(client),
            Step::Unblock(client, with_error) => self.unblock(client, with_error),
            Step::Pause(paused) => self.is_paused = paused,
            Step::Demote => self.demote(),
            Step::Promote => self.is_master = true,
            Step::Arrive(spot, number, lease_ms) => self.arrive(spot, number, lease_ms),
            _ => self.take_foreign(step),
        }
        std::mem::take(&mut self.replies)
    }

    fn reply(&mut self, client: ClientId, reply: Reply) {
        if let Reply::Granted(_, fence) = reply {
            self.told.insert(fence);
        }
        self.replies.push((client, reply));
    }

    fn waiting(&self, spot: Spot) -> Vec<ClientId> {
        self.queues
            .queue(spot)
            .map(|queue| queue.iter().map(|waiter| waiter.client).collect())
            .unwrap_or_default()
    }

    fn turn<R>(
        &mut self,
        spot: Spot,
        asked: Asked,
        body: impl FnOnce(&mut Turn<'_, Recorder<'_>>) -> R,
    ) -> R {
        let before = self.waiting(spot);
        let (mut lock, existed) = match self.values.remove(&spot) {
            Some(Value::Lock(lock)) => (lock, true),
            Some(Value::Foreign) => panic!("a turn at a key of another type"),
            None => (Lock::new(), false),
        };
        let decides = self.decides();
        let mut recorder = Recorder {
            decides,
            owns: true,
            may_have_lost_grants: false,
            now: self.now,
            open: &self.open,
            fences: &mut self.fences,
            replica: self.replica.entry(spot).or_default(),
            asked,
            answers: Vec::new(),
            drawn: Vec::new(),
            has_changed: false,
        };
        let (queues, now) = (&mut self.queues, self.now);
        let result = body(&mut Turn { lock: &mut lock, queues, place: spot, now, perform: &mut recorder });
        let Recorder { answers, drawn, has_changed, .. } = recorder;
        self.note_turn(spot, before, &answers, &drawn);
        answers.into_iter().for_each(|(client, answer)| self.answer(client, answer));
        if has_changed && !lock.is_empty() {
            self.note(spot, &mut lock);
        }
        match (lock.is_empty(), existed) {
            (false, _) => drop(self.values.insert(spot, Value::Lock(lock))),
            (true, true) => self.unlinked(spot, &mut lock),
            (true, false) => {}
        }
        result
    }

    fn note_turn(
        &mut self,
        spot: Spot,
        before: Vec<ClientId>,
        answers: &[(ClientId, Answer)],
        drawn: &[Fence],
    ) {
        let grants = answers.iter().filter_map(|(client, answer)| match answer {
            Answer::Granted(grant) => Some((*client, grant)),
            _ => None,
        });
        let new = |fence: &Fence| !grants.clone().any(|(_, grant)| grant.fence == *fence);
        self.served.push(Served {
            spot,
            before,
            granted: grants.clone().map(|(client, _)| client).collect(),
            after: self.waiting(spot),
            newcomer_was_granted: drawn.iter().any(new),
        });
        self.grants.extend(drawn.iter().map(|fence| Granted { spot, fence: *fence }));
    }

    pub(super) fn note(&mut self, spot: Spot, lock: &mut Lock) {
        if let Some(due) = lock.next_due() {
            match lock.slot {
                Some(slot) => self.deadlines.reschedule(spot.database, slot, due),
                None => lock.slot = Some(self.deadlines.insert(spot, due)),
            }
        }
        self.ties.set(spot, lock.holds().iter().filter_map(Hold::session));
    }

    pub(super) fn unlinked(&mut self, spot: Spot, lock: &mut Lock) {
        if let Some(slot) = lock.slot.take() {
            self.deadlines.remove(spot.database, slot);
        }
        self.ties.set(spot, []);
        self.queues.departed(spot);
    }
}

/// Commands of clients, and of a master.
impl Server {
    fn acquire(&mut self, client: ClientId, spot: Spot, request: Request, made: &Token) {
        if self.is_foreign(spot) {
            return self.reply(client, Reply::WrongType);
        }
        let acquire = Acquire {
            token: request.token.map(token),
            lease_ms: request.lease_ms,
            limit: request.limit.map(Limit::from_number),
            block_ms: request.block_ms,
            owner: request.owner,
            session: request.session,
            reentrant: request.reentrant,
        };
        let (now, limits) = (self.now, self.limits);
        let patience = request.block_ms.map(|ms| {
            let until = (ms > 0).then(|| now.plus_ms(ms));
            Patience { client, until, limits }
        });
        let acquired = self
            .turn(spot, Asked::Nothing, |turn| turn.acquire(&acquire, || client, patience, || made.clone()));
        match acquired {
            Ok(Acquired::Granted(token, fence)) => self.reply(client, Reply::Granted(token, fence)),
            Ok(Acquired::NotAvailable) => self.reply(client, Reply::Null),
            Ok(Acquired::Waits) => drop(self.blocked.insert(client, None)),
            Err(refusal) => self.reply(client, Reply::Error(refusal)),
        }
    }

    fn release(&mut self, client: ClientId, spot: Spot, token: &Token) {
        if self.is_foreign(spot) {
            return self.reply(client, Reply::WrongType);
        }
        let obeys = !self.is_master;
        let released = self.turn(spot, Asked::Release(token.clone()), |turn| turn.release(token, || obeys));
        self.reply(client, Reply::Number(released.into()));
    }

    fn extend(&mut self, client: ClientId, spot: Spot, token: &Token, lease_ms: Option<u64>) {
        if self.is_foreign(spot) {
            return self.reply(client, Reply::WrongType);
        }
        let obeys = !self.is_master;
        let asked = Asked::Extend(token.clone(), lease_ms);
        let extended = self.turn(spot, asked, |turn| turn.extend(token, lease_ms, || obeys));
        let hold = self.lock(spot).and_then(|lock| lock.hold_of(token, self.now));
        if let Some(fence) = hold.filter(|_| extended).map(Hold::fence) {
            self.told.insert(fence);
        }
        self.reply(client, Reply::Number(extended.into()));
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
            (None, _) => Broken::All,
            (_, Some(fence)) => Broken::One(fence),
            (_, None) => Broken::Nobody,
        };
        let ended = self.turn(spot, Asked::Break(broken), |turn| turn.break_holds(broken));
        self.reply(client, Reply::Number(ended));
    }

    fn arrive(&mut self, spot: Spot, number: u8, lease_ms: u64) {
        let fence = Fence::new(self.fences.last().map_or(1, |fence| fence.get() + 1)).unwrap();
        self.fences.raise_to(fence);
        let terms =
            Terms { token: token(number), limit: Limit::EXCLUSIVE, lease_ms, owner: None, session: None };
        let standing =
            Standing { fence, granted_at: self.now, deadline: self.now.plus_ms(lease_ms), count: 1 };
        let hold = Hold::restore(terms, standing);
        self.turn(spot, Asked::Apply(vec![hold.clone()]), |turn| turn.apply([hold]));
    }
}

/// What goes on without commands.
impl Server {
    fn answer(&mut self, client: ClientId, answer: Answer) {
        let pending = self.blocked.get_mut(&client).expect("who is answered waits");
        assert_eq!(*pending, None, "nobody is answered twice");
        *pending = Some(Pending { answer });
        self.ready.push(client);
    }

    fn expire(&mut self, spot: Spot, at_most: usize) -> Option<usize> {
        self.turn(spot, Asked::Nothing, |turn| turn.expire(at_most))
    }

    fn time_out(&mut self, at_most: usize) {
        for _ in 0..at_most {
            let Some(client) = self.queues.time_out(self.now) else { return };
            self.answer(client, Answer::NotAvailable);
        }
    }

    fn end_turn(&mut self) {
        self.queues.end_turn();
        self.time_out(usize::MAX);
        if self.decides() {
            self.end_leases();
            self.settle_marked();
        }
        for client in std::mem::take(&mut self.ready) {
            if let Some(Some(pending)) = self.blocked.remove(&client) {
                self.deliver(client, pending.answer);
            }
        }
    }

    fn end_leases(&mut self) {
        while let Some(due) = self.deadlines.first_due(self.now) {
            let (spot, slot) = (known(due.place), Some(due.slot));
            let lock = self.lock(spot).expect("no entry outlives its lock");
            assert_eq!(lock.slot, slot, "a lock has one entry");
            let before = lock.holds().to_vec();
            self.expire(spot, 2);
            assert_ne!(self.lock(spot).map(Lock::holds), Some(&before[..]), "what is due is done");
        }
    }

    fn settle_marked(&mut self) {
        while let Some(place) = self.queues.marked() {
            let spot = known(place.as_place());
            if !self.is_foreign(spot) {
                self.turn(spot, Asked::Nothing, |turn| turn.settle());
            }
            self.queues.take_mark(spot);
        }
    }

    fn deliver(&mut self, client: ClientId, answer: Answer) {
        self.queues.delivered(client);
        let reply = match answer {
            Answer::Granted(grant) => Reply::Granted(grant.token, grant.fence),
            Answer::NotAvailable => Reply::Null,
            Answer::Refused(refusal) => Reply::Error(refusal),
        };
        self.reply(client, reply);
    }

    fn disconnect(&mut self, client: ClientId) {
        self.abandon(client);
        for place in self.ties.cut(client) {
            self.queues.remedy(place.as_place(), Remedy::EndSession(client));
        }
        self.open.remove(&client);
    }

    /// A client that waits is not there to be answered any more.
    fn abandon(&mut self, client: ClientId) {
        self.queues.leave(client);
        if let Some(Remedy::EndHold(fence)) = self.queues.lost(client) {
            self.lost.insert(fence);
        }
        self.blocked.remove(&client);
        self.ready.retain(|other| *other != client);
    }

    fn unblock(&mut self, client: ClientId, with_error: bool) {
        if with_error {
            self.abandon(client);
            return self.reply(client, Reply::Unblocked);
        }
        self.queues.leave(client);
        // A grant that was on its way came before the unblocking, and is what the client gets.
        let pending = self.blocked.remove(&client).flatten();
        self.ready.retain(|other| *other != client);
        self.deliver(client, pending.map_or(Answer::NotAvailable, |pending| pending.answer));
    }

    fn demote(&mut self) {
        self.is_master = false;
        self.lost.clear();
        for spot in SPOTS {
            let Some(Value::Lock(lock)) = self.values.get_mut(&spot) else { continue };
            let mut lock = std::mem::take(lock);
            lock.disown();
            self.note(spot, &mut lock);
            self.values.insert(spot, Value::Lock(lock));
        }
        for client in self.queues.dissolve() {
            self.answer(client, Answer::Refused(Refusal::Demoted));
        }
    }
}

/// The same key among those there are.
pub(super) fn known(place: lock_core::Place<'_>) -> Spot {
    SPOTS.into_iter().find(|spot| *spot == place).unwrap()
}
