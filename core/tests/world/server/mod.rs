//! The core, driven the way the module drives it. And beside it a replica, which knows only what was passed on.
//!
//! What goes on without commands is in [`super::between`], what other commands do to its keys in [`super::elsewhere`].

mod commands;
mod replica;
mod turns;

use std::collections::{BTreeMap, BTreeSet};

use lock_core::answer::{Answer, Grant};
use lock_core::queue::WaiterLimits;
use lock_core::{ClientId, Fence, Lock, Moment, OwnedDbKey, Table, Ticket, Token};

pub(super) use self::replica::Asked;
use super::steps::{Reply, SPOTS, Spot, Step, Whose, token};

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
}

/// The same key among those there are.
pub(super) fn known(key: lock_core::DbKey<'_>) -> Spot {
    SPOTS.into_iter().find(|spot| *spot == key).unwrap()
}
