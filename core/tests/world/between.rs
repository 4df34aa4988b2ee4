//! What the server does between commands: the timer, the end of an iteration of its loop, connections that close, a change of
//! roles, the look at who waits. As the module does it.

use lock_core::answer::Answer;
use lock_core::undo::What;
use lock_core::{ClientId, Hold, Refusal, codec};

use super::server::{Asked, Pending, Server, Value, known};
use super::steps::{NOT_OURS_MS, Reply, SPOTS, Spot, Whose};

/// The timer, and the end of an iteration of the server's loop.
impl Server {
    pub(super) fn answer(&mut self, client: ClientId, answer: Answer) {
        let pending = self.blocked.get_mut(&client).expect("who is answered waits");
        assert_eq!(*pending, None, "nobody is answered twice");
        *pending = Some(Pending { answer });
        self.ready.push(client);
    }

    /// False where the lock is not this server's to keep.
    pub(super) fn expire(&mut self, spot: Spot, at_most: usize) -> bool {
        if !self.whose(spot).keeps() {
            return false;
        }
        self.turn(spot, Asked::Nothing, |turn| turn.expire(at_most));
        self.work_done.expired.push(spot);
        true
    }

    pub(super) fn time_out(&mut self, at_most: usize) {
        for (client, answer) in self.table.time_out(self.now, at_most) {
            self.answer(client, answer);
        }
        for _ in 0..at_most {
            let Some(key) = self.table.take_look(self.now) else { return };
            let spot = known(key.as_key());
            if self.is_over(spot) {
                self.remove(spot);
            }
        }
    }

    pub(super) fn end_turn(&mut self) {
        self.table.before_sleep();
        self.time_out(usize::MAX);
        self.table.end_grace(self.grace_ms, self.now);
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
        while let Some(due) = self.table.due_lock(self.now) {
            let spot = known(due.key.as_key());
            let lock = self.lock(spot).expect("no entry outlives its lock");
            assert_eq!(lock.deadline_id, Some(due.id), "a lock has one entry");
            let before: Vec<Hold> = lock.holds().iter().cloned().collect();
            if self.expire(spot, 2) {
                let after = self.lock(spot).map(|lock| lock.holds().iter().cloned().collect());
                assert_ne!(after, Some(before), "what is due is done");
            } else {
                let until = self.now.plus_ms(NOT_OURS_MS);
                self.table.put_off(&due, until);
                self.put_off.insert(spot, until);
            }
        }
    }

    fn settle_marked(&mut self) {
        while let Some(key) = self.table.marked() {
            let spot = known(key.as_key());
            if !self.is_foreign(spot) {
                self.turn(spot, Asked::Nothing, |_| ());
            }
            self.table.pass_over(spot);
            self.turn_away(spot);
        }
    }

    /// Tells those who wait for a key that this server does not serve any more where to go.
    fn turn_away(&mut self, spot: Spot) {
        self.work_done.looked_at.push((self.work_done.turns.len(), spot));
        if !self.table.queues().is_waited_for(spot) {
            return;
        }
        let was_arriving = self.arriving.remove(&spot);
        match (self.whose(spot), self.whose(spot).refusal()) {
            (Whose::Arriving, _) => drop(self.arriving.insert(spot)),
            (_, None) if was_arriving => self.table.touched(spot),
            (_, None) => {}
            (_, Some(refusal)) => {
                for client in self.table.dismiss(spot) {
                    self.answer(client, Answer::Refused(refusal.clone()));
                }
            }
        }
    }

    pub(super) fn look(&mut self, at_most: usize) {
        if self.last_looked_at.is_none() {
            self.arriving.retain(|spot| self.table.queues().is_waited_for(*spot));
        }
        for seen in 0..at_most {
            assert!(seen <= SPOTS.len(), "a look comes to each key once");
            self.last_looked_at = self.table.queues().waited_for_after(self.last_looked_at.as_ref());
            let Some(key) = self.last_looked_at.clone() else {
                self.work_done.look_is_over = true;
                return;
            };
            self.turn_away(known(key.as_key()));
        }
    }

    fn deliver(&mut self, client: ClientId, answer: Answer) {
        self.table.told(client);
        let reply = match answer {
            Answer::Granted(grant) => Reply::Granted(grant.token, grant.fence),
            Answer::NotAvailable => Reply::Null,
            Answer::Queued(ticket) => Reply::Queued(self.number_of(ticket)),
            Answer::Refused(refusal) => Reply::Error(refusal),
        };
        self.reply(client, reply);
    }
}

/// Connections that close, and a change of roles.
impl Server {
    pub(super) fn disconnect(&mut self, client: ClientId) {
        let undos = self.table.closed(client, self.now);
        self.forget(client, undos);
        self.open.remove(&client);
    }

    /// A client that waits is not there to be answered any more.
    fn forget(&mut self, client: ClientId, undos: impl IntoIterator<Item = lock_core::Undo>) {
        let of_grants = undos.into_iter().filter(|undo| undo.what == What::Grant);
        self.lost.extend(of_grants.map(|undo| undo.fence));
        self.blocked.remove(&client);
        self.ready.retain(|other| *other != client);
    }

    pub(super) fn unblock(&mut self, client: ClientId, with_error: bool) {
        if with_error {
            let undos = self.table.abandoned(client);
            self.forget(client, undos);
            return self.reply(client, Reply::Unblocked);
        }
        let told = self.table.unblocked(client, self.now);
        // A grant that was on its way came before the unblocking, and is what the client gets.
        let pending = self.blocked.remove(&client).flatten();
        self.ready.retain(|other| *other != client);
        let answer = pending.map(|pending| pending.answer).or(told);
        self.deliver(client, answer.unwrap_or(Answer::NotAvailable));
    }

    pub(super) fn demote(&mut self) {
        self.is_master = false;
        self.lost.clear();
        let demotion = self.table.demoted();
        for client in demotion.dismissed {
            self.answer(client, Answer::Refused(Refusal::Demoted));
        }
        for key in demotion.disowned {
            let spot = known(key.as_key());
            if let Some(Value::Lock(lock)) = self.values.get_mut(&spot) {
                self.table.disown(spot, lock);
                self.put_off.remove(&spot);
            }
        }
    }

    /// DEBUG RELOAD, and whatever else empties the server and loads what it held.
    pub(super) fn reload(&mut self) {
        self.table.flushed(None);
        self.put_off.clear();
        for spot in SPOTS {
            let Some(lock) = self.lock(spot) else { continue };
            let bytes = codec::encode(lock.holds(), self.now);
            let mut lock = codec::decode_lock(&bytes, self.now).unwrap();
            self.table.loaded(Some(spot), &mut lock);
            self.values.insert(spot, Value::Lock(lock));
        }
        self.table.data_loaded(self.now);
    }
}
