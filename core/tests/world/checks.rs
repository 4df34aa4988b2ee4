//! The server and the model side by side, and what must be true after every step.

use std::collections::BTreeSet;

use lock_core::codec;
use lock_core::invariants;
use lock_core::queue::WaiterLimits;
use lock_core::{ClientId, Hold, Limit, Lock, Share, Ticket, Token};

use super::model::{Holder, Model};
use super::server::{Served, Server, Value};
use super::steps::{Reply, SPOTS, Spot, Step};

pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) model: Model,
    /// Who waited for a key that is served elsewhere when the look at who waits began, and has done so since.
    stranded: BTreeSet<(usize, Spot)>,
    /// What clients were told in the last step.
    pub(crate) told: Vec<(ClientId, Reply)>,
    highest_fence: u64,
    steps: u64,
    /// How many holds are there that this server has not granted itself, less those that have ended where it did not decide.
    from_elsewhere: i64,
}

/// Goes on only if this is true; its name is what the failure says.
macro_rules! holds {
    ($predicate:ident($($argument:expr),*)) => {
        if !$predicate($($argument),*) {
            return Err(format!("{} does not hold", stringify!($predicate)));
        }
    };
    ($module:ident :: $predicate:ident($($argument:expr),*)) => {
        if !$module::$predicate($($argument),*) {
            return Err(format!("{} does not hold", stringify!($predicate)));
        }
    };
}

impl World {
    pub(crate) fn new(clients: u64, limits: WaiterLimits) -> Self {
        let (server, model) = (Server::new(clients, limits), Model::new(clients, limits));
        Self {
            server,
            model,
            stranded: BTreeSet::new(),
            told: Vec::new(),
            highest_fence: 0,
            steps: 0,
            from_elsewhere: 0,
        }
    }

    /// Whether this step can happen.
    pub(crate) fn can(&self, step: Step) -> bool {
        let exists = |spot| self.server.exists(spot);
        let exists = match step {
            // RENAME replaces what is there; MOVE does not.
            Step::Rename(from, to) => exists(from) && (from.database == to.database || !exists(to)),
            Step::Migrate(spot) | Step::TimeToLive(spot, _) => exists(spot),
            // Without REPLACE.
            Step::Restore(spot, ..) => !exists(spot),
            _ => true,
        };
        exists && self.model.can(step)
    }

    /// Takes a step, and checks nothing.
    pub(crate) fn pass(&mut self, step: Step) -> [Vec<(ClientId, Reply)>; 2] {
        self.steps += 1;
        let mut seed = [0xee; 16];
        seed[..8].copy_from_slice(&self.steps.to_le_bytes());
        let made = Token::from_seed(seed);
        let told = self.server.take(step, &made);
        let expected = self.model.take(step, &made, &self.server.work_done);
        self.highest_fence =
            self.server.grants.iter().map(|grant| grant.fence.get()).fold(self.highest_fence, u64::max);
        if self.is_about_holds_from_elsewhere(step) {
            self.from_elsewhere = not_granted_here(&self.server);
        }
        [told, expected]
    }

    /// Takes a step, and checks everything.
    ///
    /// # Errors
    /// The name of what does not hold.
    pub(crate) fn take(&mut self, step: Step) -> Result<(), String> {
        let highest_before = self.highest_fence;
        if matches!(step, Step::Look(_)) && self.server.last_looked_at.is_none() {
            let waiting = self.model.waiting.iter().map(|waiter| (waiter.number, waiter.spot));
            self.stranded = waiting.collect();
        }
        let [told, expected] = self.pass(step);
        holds!(fences_rise_in_the_order_of_grants(&self.server, highest_before));
        if !each_is_told_what_the_contract_says(&told, &expected) {
            return Err(format!("each_is_told_what_the_contract_says: {told:?}\nexpected: {expected:?}"));
        }
        self.told = told;
        holds!(what_was_granted_has_ended_or_is_held(&self.server, self.from_elsewhere));
        self.check()?;
        let is_stranded = |number, spot| {
            self.server.whose(spot).refusal().is_some() && is_queued(&self.server, number, spot)
        };
        self.stranded.retain(|(number, spot)| is_stranded(*number, *spot));
        holds!(nobody_is_stranded_after_the_look(&self.server, &self.stranded));
        if step == Step::EndTurn {
            self.check_end_of_turn()?;
        }
        Ok(())
    }

    /// Whether holds may come or go by it that this server has not decided about.
    fn is_about_holds_from_elsewhere(&self, step: Step) -> bool {
        !self.server.is_master || matches!(step, Step::Arrive(..) | Step::Restore(..) | Step::Reload)
    }

    fn check(&self) -> Result<(), String> {
        let server = &self.server;
        for spot in SPOTS {
            if let Some(lock) = server.lock(spot) {
                holds!(invariants::fences_ascend(lock));
                holds!(invariants::tokens_are_unique(lock));
                holds!(invariants::levels_are_positive(lock));
                holds!(invariants::deadlines_follow_leases(lock));
                holds!(invariants::index_is_consistent(lock));
                holds!(invariants::holds_are_within_limits(lock));
                holds!(invariants::live_holds_are_within_limits(lock, server.now));
            }
            holds!(what_is_noted_of_a_lock_is_right(server, spot));
            self.compare(spot)?;
            holds!(the_replica_has_the_same_lock(server, spot));
            holds!(a_key_ends_when_the_contract_says(server, &self.model, spot));
            holds!(the_replica_knows_when_the_key_ends(server, spot));
            holds!(the_same_strings_stand(server, &self.model, spot));
            holds!(the_replica_has_the_same_string(server, spot));
        }
        for served in &server.served {
            holds!(grants_follow_the_queue(served));
            holds!(the_queue_keeps_its_order(served));
            holds!(no_newcomer_overtakes(served));
            holds!(who_waits_is_granted_only_what_is_ours(served));
            holds!(nothing_is_granted_anew_in_the_grace(served));
        }
        holds!(every_hold_is_counted(server));
        holds!(queues_are_consistent(server));
        holds!(deadlines_are_consistent(server));
        holds!(who_waits_is_queued_or_answered(server));
        holds!(the_same_clients_wait(server, &self.model));
        holds!(a_replica_has_nothing_to_undo(server));
        Ok(())
    }

    fn check_end_of_turn(&self) -> Result<(), String> {
        let server = &self.server;
        holds!(invariants::nobody_waits_past_its_time(server.table.queues(), server.now));
        holds!(nobody_is_left_to_be_answered(server));
        if server.decides() {
            for spot in SPOTS {
                holds!(the_head_has_to_wait_where_it_can_be_served(server, &self.model, spot));
                holds!(nobody_waits_for_a_free_key_of_another_node(server, &self.model, spot));
                holds!(what_is_due_is_done_where_it_is_ours(server, &self.model, spot));
            }
            holds!(nothing_is_held_for_who_left(server));
            holds!(sessions_are_open(server));
            holds!(no_mark_is_left(server));
        }
        Ok(())
    }

    fn compare(&self, spot: Spot) -> Result<(), String> {
        let now = self.server.now;
        let lock = self.server.lock(spot);
        let live: Vec<Hold> = lock.map(|lock| lock.live_holds(now).cloned().collect()).unwrap_or_default();
        let expected: Vec<&Holder> = self.model.live(spot).collect();
        let mut pairs = live.iter().zip(&expected);
        if live.len() != expected.len() || !pairs.all(|(hold, holder)| is_same(hold, holder)) {
            return Err(format!("the_same_tokens_hold: {spot:?}: {live:?}\nexpected: {expected:?}"));
        }
        let waiting = self.server.table.queues().places(spot).map(|(ticket, waiter)| {
            (self.server.number_of(ticket), waiter.client, waiter.token.clone(), waiter.until)
        });
        let waiting: Vec<_> = waiting.collect();
        let expected = self
            .model
            .queue(spot)
            .map(|waiter| (waiter.number, waiter.client, waiter.token.clone(), waiter.until));
        let expected: Vec<_> = expected.collect();
        if waiting != expected {
            return Err(format!("the_same_requests_wait: {spot:?}: {waiting:?}\nexpected: {expected:?}"));
        }
        Ok(())
    }
}

fn not_granted_here(server: &Server) -> i64 {
    let figures = server.table.figures();
    let held = server.table.holds().saturating_add(figures.ended());
    held.cast_signed() - figures.grants.cast_signed()
}

fn what_was_granted_has_ended_or_is_held(server: &Server, from_elsewhere: i64) -> bool {
    not_granted_here(server) == from_elsewhere
}

fn every_hold_is_counted(server: &Server) -> bool {
    let held: usize = SPOTS.iter().filter_map(|spot| server.lock(*spot)).map(|lock| lock.holds().len()).sum();
    u64::try_from(held) == Ok(server.table.holds())
}

fn is_same(hold: &Hold, holder: &Holder) -> bool {
    hold.is_owned_by(&holder.token)
        && hold.fence().get() == holder.fence
        && hold.share()
            == Share { limit: Limit::from_number(holder.share.limit), weight: holder.share.weight }
        && hold.lease_ms() == holder.lease_ms
        && hold.deadline() == holder.end
        && hold.level() == holder.level
        && hold.owner() == holder.owner
        && hold.session() == holder.session
}

/// Each client is told what the contract says, once, and in its order. Whose client has gone before it was told may be
/// called before or after another such.
fn each_is_told_what_the_contract_says(told: &[(ClientId, Reply)], expected: &[(ClientId, Reply)]) -> bool {
    let of = |replies: &[(ClientId, Reply)], client| -> Vec<Reply> {
        let mut replies: Vec<Reply> =
            replies.iter().filter(|(other, _)| *other == client).map(|(_, reply)| reply.clone()).collect();
        replies.sort_by_key(|reply| if let Reply::Called(number) = reply { *number } else { 0 });
        replies
    };
    let mut clients = told.iter().chain(expected).map(|(client, _)| *client);
    clients.all(|client| of(told, client) == of(expected, client))
}

fn fences_rise_in_the_order_of_grants(server: &Server, highest_before: u64) -> bool {
    let fences = server.grants.iter().map(|grant| grant.fence.get());
    [highest_before].into_iter().chain(fences).is_sorted_by(|a, b| a < b)
}

/// Whoever applies what was passed on has the lock as it is, ended leases and all.
fn the_replica_has_the_same_lock(server: &Server, spot: Spot) -> bool {
    let bytes =
        |lock: Option<&Lock>| codec::encode(lock.into_iter().flat_map(|lock| lock.holds()), server.now);
    bytes(server.lock(spot)) == bytes(server.replica.get(&spot))
}

/// Where somebody holds a lock, its key ends when somebody has said so since a lease was promised last, and never else.
fn a_key_ends_when_the_contract_says(server: &Server, model: &Model, spot: Spot) -> bool {
    model.live(spot).next().is_none() || server.ttls.get(&spot) == model.ttls.get(&spot)
}

/// Where a string stands, it does until the contract says, whether or not the server has noticed that it is over.
fn the_same_strings_stand(server: &Server, model: &Model, spot: Spot) -> bool {
    let string = server.string(spot);
    let ends_alike = string.is_none() || server.ttls.get(&spot) == model.ttls.get(&spot);
    string == model.strings.get(&spot).copied() && ends_alike
}

fn the_replica_has_the_same_string(server: &Server, spot: Spot) -> bool {
    let string = match server.values.get(&spot) {
        Some(Value::String(number)) => Some(*number),
        _ => None,
    };
    string == server.replica_strings.get(&spot).copied()
}

fn the_replica_knows_when_the_key_ends(server: &Server, spot: Spot) -> bool {
    server.ttls.get(&spot) == server.replica_ttls.get(&spot)
}

/// Who was granted in a turn stood before all who go on waiting, and was granted in the order of the queue.
fn grants_follow_the_queue(served: &Served) -> bool {
    let position = |ticket: &Ticket| served.before.iter().position(|other| other == ticket);
    let still = served.after.iter().filter_map(position).min().unwrap_or(usize::MAX);
    served.granted.iter().all(|granted| {
        // Who went ahead may have had to step back.
        let granted = granted.iter().filter(|ticket| !ticket.is_ahead());
        let granted: Option<Vec<usize>> = granted.map(position).collect();
        granted.is_some_and(|granted| {
            granted.is_sorted_by(|a, b| a < b) && granted.last().is_none_or(|last| *last < still)
        })
    })
}

/// Who goes on waiting does so in the same order.
fn the_queue_keeps_its_order(served: &Served) -> bool {
    let position = |ticket: &Ticket| served.before.iter().position(|other| other == ticket);
    served.after.iter().filter_map(position).is_sorted_by(|a, b| a < b)
}

/// A request that was granted without waiting left nobody waiting.
fn no_newcomer_overtakes(served: &Served) -> bool {
    !served.newcomer_was_granted || served.after.is_empty()
}

fn what_is_noted_of_a_lock_is_right(server: &Server, spot: Spot) -> bool {
    let free = Lock::new();
    let lock = server.lock(spot).unwrap_or(&free);
    invariants::noted_holds_are_those_of_the_lock(server.table.queues(), spot, lock)
}

fn queues_are_consistent(server: &Server) -> bool {
    server.table.queues().is_consistent()
}

/// The index has one entry for each lock and none else, under the moment at which the lock is due, or to which that was
/// put off.
fn deadlines_are_consistent(server: &Server) -> bool {
    let locks = server.values.values().filter_map(|value| match value {
        Value::Lock(lock) => Some(lock),
        Value::String(_) | Value::Foreign => None,
    });
    let entry = |spot: &Spot| server.put_off.get(spot).copied().or(server.lock(*spot)?.next_due());
    let earliest = server.values.keys().filter_map(entry).min();
    server.table.deadlines().is_consistent()
        && server.table.deadlines().len() == locks.clone().count()
        && locks.clone().all(|lock| lock.deadline_id.is_some() && !lock.is_empty())
        && server.table.deadlines().first().map(|due| due.deadline) == earliest
}

/// A client that waits stands in a queue or has an answer on its way; never both, never neither. Nobody else stands in a
/// queue but places that are kept.
fn who_waits_is_queued_or_answered(server: &Server) -> bool {
    let waits = server
        .blocked
        .iter()
        .all(|(client, answer)| server.table.queues().waits(*client) == answer.is_none());
    let queued = server.blocked.values().filter(|answer| answer.is_none()).count();
    let open = server.blocked.keys().all(|client| server.open.contains(client));
    let waiters = SPOTS.into_iter().flat_map(|spot| server.table.queues().waiters(spot));
    let kept = waiters.filter(|waiter| waiter.client.is_none()).count();
    waits && open && queued + kept == server.table.queues().len()
}

fn the_same_clients_wait(server: &Server, model: &Model) -> bool {
    server.open.iter().all(|client| server.blocked.contains_key(client) == model.is_blocked(*client))
}

fn nobody_is_left_to_be_answered(server: &Server) -> bool {
    server.blocked.values().all(Option::is_none)
}

/// After the grace, a span after a key has come back, and after the first look since a slot has arrived, nobody is left to wait
/// who could be granted.
fn the_head_has_to_wait_where_it_can_be_served(server: &Server, model: &Model, spot: Spot) -> bool {
    let free = Lock::new();
    let lock = server.lock(spot).unwrap_or(&free);
    let is_held_back = server.in_grace()
        && model.head(spot).is_some_and(|head| model.would_have_more(spot, Some(&head.token), &head.request));
    let may_be_late = model.may_be_late(spot) || model.arrived.contains(&spot);
    let can_be_served = !server.is_foreign(spot)
        && server.string(spot).is_none()
        && server.whose(spot).serves()
        && !is_held_back
        && !may_be_late;
    !can_be_served || invariants::head_has_to_wait(lock, server.table.queues().head(spot), server.now)
}

/// Where a key is another node's and nothing stands here any more, those who waited for that were told; where its slot was on
/// its way here before, by the look.
fn nobody_waits_for_a_free_key_of_another_node(server: &Server, model: &Model, spot: Spot) -> bool {
    let is_free = !server.exists(spot) && !server.in_grace();
    let is_elsewhere = server.whose(spot).refusal().is_some() && !model.arrived.contains(&spot);
    !is_free || !is_elsewhere || !server.table.queues().is_waited_for(spot)
}

/// What is due at a lock is done, or is put off for a span at most once the lock is this server's.
fn what_is_due_is_done_where_it_is_ours(server: &Server, model: &Model, spot: Spot) -> bool {
    let due = server.lock(spot).and_then(Lock::next_due);
    due.is_none_or(|due| server.now < due) || !server.whose(spot).keeps() || model.may_be_late(spot)
}

/// Nobody who waited was granted a lock of another node.
fn who_waits_is_granted_only_what_is_ours(served: &Served) -> bool {
    served.whose.serves() || served.granted.iter().all(Vec::is_empty)
}

/// While grants may have been lost, nobody comes to hold what it did not hold.
fn nothing_is_granted_anew_in_the_grace(served: &Served) -> bool {
    !served.in_grace || !served.one_was_granted_anew
}

fn is_queued(server: &Server, number: usize, spot: Spot) -> bool {
    server.table.queues().places(spot).any(|(ticket, _)| server.number_of(ticket) == number)
}

/// Who waited for a key that is served elsewhere before a look at all who wait, and ever since, was told.
fn nobody_is_stranded_after_the_look(server: &Server, stranded: &BTreeSet<(usize, Spot)>) -> bool {
    !server.work_done.look_is_over || stranded.is_empty()
}

/// Once another server decides, nothing from before is kept that a promotion could bring back.
fn a_replica_has_nothing_to_undo(server: &Server) -> bool {
    server.is_master || server.table.is_quiet()
}

/// No hold stands for a client that left before it or anybody was told of the grant.
fn nothing_is_held_for_who_left(server: &Server) -> bool {
    let locks = SPOTS.into_iter().filter_map(|spot| server.lock(spot));
    let mut fences = locks.flat_map(Lock::holds).map(Hold::fence);
    fences.all(|fence| !server.lost.contains(&fence) || server.told.contains(&fence))
}

fn sessions_are_open(server: &Server) -> bool {
    let locks = SPOTS.into_iter().filter_map(|spot| server.lock(spot));
    let mut sessions = locks.flat_map(Lock::holds).filter_map(Hold::session);
    sessions.all(|session| server.open.contains(&session.client))
}

fn no_mark_is_left(server: &Server) -> bool {
    server.table.is_unmarked()
}
