//! What the model does without commands: what is due, the end of a turn, clients that leave, slots that come and go, a
//! change of roles.

use lock_core::{ClientId, Moment, Refusal};

use super::model::{Model, Promise, Waiting};
use super::server::WorkDone;
use super::steps::{Reply, SPOTS, Spot, Whose};

/// What is due, and the end of a turn.
impl Model {
    pub(super) fn expire(&mut self, spot: Spot, at_most: usize) {
        self.settle(spot);
        let now = self.now;
        let here = self.holders.iter_mut().filter(|(place, _)| *place == spot).map(|(_, holder)| holder);
        let mut due: Vec<_> = here.filter(|holder| holder.session.is_some() && holder.due() <= now).collect();
        due.sort_by_key(|holder| (holder.due(), holder.fence));
        let mut kept = 0;
        for holder in due.into_iter().take(at_most) {
            holder.end = now.plus_ms(holder.lease_ms);
            kept += 1;
        }
        if kept > 0 {
            self.saw("session kept");
            self.promise(spot);
        }
        self.serve(spot);
    }

    fn late(&self) -> Vec<(Moment, usize)> {
        let ends = self.waiting.iter().filter_map(|waiter| Some((waiter.until?, waiter.number)));
        let mut late: Vec<_> = ends.filter(|(until, _)| *until <= self.now).collect();
        // Those whose time is up at one moment leave in the order in which they are served.
        late.sort_by_key(|(until, _)| *until);
        late
    }

    /// What was left to be claimed is lost.
    fn end_claims(&mut self, at_most: usize) {
        let now = self.now;
        let promised = self.holders.iter_mut().flat_map(|(_, holder)| {
            let fence = holder.fence;
            holder.promised.iter_mut().map(move |promise| (fence, promise))
        });
        let mut over: Vec<_> = promised
            .filter(|(_, promise)| !promise.is_lost && promise.until.is_some_and(|until| until <= now))
            .collect();
        over.sort_by_key(|(fence, promise)| (promise.until, *fence));
        over.into_iter().take(at_most).for_each(|(_, promise)| promise.is_lost = true);
    }

    pub(super) fn time_out(&mut self, at_most: usize) {
        self.end_claims(at_most);
        for (_, number) in self.late().into_iter().take(at_most) {
            self.saw("timed out");
            let client = self.waiting.iter().find(|waiter| waiter.number == number).unwrap().client;
            let reply = self.end_wait(number);
            if let Some(client) = client {
                self.answer(client, reply);
            }
        }
    }

    pub(super) fn end_turn(&mut self, work_done: &WorkDone) {
        self.time_out(usize::MAX);
        if self.grace_since.is_some() && !self.in_grace() {
            self.grace_since = None;
        }
        if self.decides() {
            let is_late = |spot: &Spot| self.may_be_late(*spot) || self.arrived.contains(spot);
            let late: Vec<Spot> = SPOTS.into_iter().filter(is_late).collect();
            let had_turns = work_done.turns.iter().copied();
            let others = SPOTS.into_iter().filter(|spot| !self.unheard.contains(spot));
            for spot in had_turns.chain(others).collect::<Vec<_>>() {
                if !self.whose(spot).keeps() {
                    self.settle(spot);
                } else if !late.contains(&spot) || work_done.expired.contains(&spot) {
                    self.expire(spot, usize::MAX);
                    self.drop_lapsed(spot);
                } else if work_done.turns.contains(&spot) {
                    self.settle(spot);
                }
            }
            self.note_leases(work_done, &late);
            work_done
                .looked_at
                .iter()
                .for_each(|spot| self.turn_away(*spot, "turned away at the end of a turn"));
        }
        let waited_for: Vec<Spot> = self.waiting.iter().map(|waiter| waiter.spot).collect();
        self.arrived.retain(|spot| waited_for.contains(spot));
        for (client, reply) in std::mem::take(&mut self.answers) {
            self.deliver(client, reply);
        }
    }

    fn note_leases(&mut self, work_done: &WorkDone, late: &[Spot]) {
        if SPOTS.into_iter().any(|spot| !self.whose(spot).keeps() && self.is_due(spot)) {
            self.saw("put off");
        }
        if late.iter().any(|spot| work_done.expired.contains(spot)) {
            self.saw("done once it came back");
        }
        let done = |whose| work_done.expired.iter().any(|spot| self.whose(*spot) == whose);
        let [arriving, down] = [Whose::Arriving, Whose::Nobodys].map(done);
        if arriving {
            self.saw("lease seen to while the slot arrives");
        }
        if down {
            self.saw("lease seen to while the cluster is down");
        }
    }

    /// Tells those who wait for a key that is not served here where to go.
    fn turn_away(&mut self, spot: Spot, how: &'static str) {
        self.arrived.remove(&spot);
        let Some(refusal) = self.whose(spot).refusal() else { return };
        let (turned_away, others) =
            std::mem::take(&mut self.waiting).into_iter().partition(|waiter| waiter.spot == spot);
        self.waiting = others;
        let turned_away: Vec<Waiting> = turned_away;
        for waiter in turned_away {
            self.saw(how);
            self.answer_waiter(&waiter, Reply::Error(refusal.clone()));
        }
    }

    /// Goes on with the look at who waits: it takes the keys in their order, and begins anew after the last.
    pub(super) fn look(&mut self, at_most: usize) {
        if self.last_looked_at.is_some() {
            self.saw("look taken up again");
        }
        for _ in 0..at_most {
            let mut next =
                SPOTS.into_iter().filter(|spot| self.last_looked_at.is_none_or(|last| last < *spot));
            self.last_looked_at = next.find(|spot| self.queue(*spot).next().is_some());
            let Some(spot) = self.last_looked_at else { return };
            self.turn_away(spot, "turned away by the look");
        }
    }

    fn deliver(&mut self, client: ClientId, reply: Reply) {
        let is_his = |promise: &Promise| promise.client == client && !promise.is_lost;
        for (_, holder) in &mut self.holders {
            if let Some(index) = holder.promised.iter().position(is_his) {
                holder.promised.drain(..=index);
            }
        }
        self.reply(client, reply);
    }
}

/// Clients that leave, slots that come and go, a change of roles.
impl Model {
    /// A client does not wait any more, and what it was not told of yet is lost.
    pub(super) fn leave(&mut self, client: ClientId) {
        self.waiting.retain(|waiter| waiter.client != Some(client));
        self.answers.retain(|(other, _)| *other != client);
        let promised = self.holders.iter_mut().flat_map(|(_, holder)| holder.promised.iter_mut());
        promised.filter(|promise| promise.client == client).for_each(|promise| promise.is_lost = true);
    }

    pub(super) fn unblock(&mut self, client: ClientId, with_error: bool) {
        if with_error {
            self.saw("unblocked with an error");
            self.leave(client);
            return self.reply(client, Reply::Unblocked);
        }
        let told = self.end_wait_of(client);
        let index = self.answers.iter().position(|(other, _)| *other == client);
        let answer = index.map(|index| self.answers.remove(index).1);
        self.saw(if answer.is_some() {
            "unblocked with an answer on its way"
        } else {
            "unblocked with null"
        });
        self.deliver(client, answer.or(told).unwrap_or(Reply::Null));
    }

    pub(super) fn slot(&mut self, spot: Spot, whose: Whose) {
        let was = self.whose(spot);
        self.slots.insert(spot.key, whose);
        if !was.keeps() {
            self.came_back.insert(spot.key, self.now);
        }
        for waiter in self.waiting.iter_mut().filter(|waiter| waiter.spot.key == spot.key) {
            waiter.was.insert(whose);
            if was == Whose::Arriving {
                self.arrived.insert(waiter.spot);
            }
        }
    }

    pub(super) fn demote(&mut self) {
        self.is_master = false;
        let owes = self.holders.iter().any(|(_, holder)| {
            let is_closed = holder.session.is_some_and(|session| !self.open.contains(&session.client));
            is_closed || holder.promised.iter().any(|promise| promise.is_lost)
        });
        if owes {
            self.saw("demoted with something to undo");
        }
        for (_, holder) in &mut self.holders {
            // What was not told yet cannot be undone any more, and no connection keeps anything alive.
            holder.promised.clear();
            holder.session = None;
        }
        for waiter in std::mem::take(&mut self.waiting) {
            self.saw("waited at a demotion");
            self.answer_waiter(&waiter, Reply::Error(Refusal::Demoted));
        }
    }

    pub(super) fn reload(&mut self) {
        if self.holders.iter().any(|(_, holder)| holder.session.is_some()) {
            self.saw("session lost with a load");
        }
        self.holders.iter_mut().for_each(|(_, holder)| holder.session = None);
        self.unseen.clear();
        self.grace_since = Some(self.now);
    }
}
