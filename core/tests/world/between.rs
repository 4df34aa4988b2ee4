//! What the server does between commands: the timer, the end of a turn of its loop, connections that close, a change of
//! roles, the look at who waits. As the module does it.

use lock_core::queue::Remedy;
use lock_core::turn::Answer;
use lock_core::{ClientId, Hold, Refusal, codec};

use super::recorder::Asked;
use super::server::{Pending, Server, Value, known};
use super::steps::{NOT_OURS_MS, Reply, SPOTS, Spot, Whose};

/// The timer, and the end of a turn of the server's loop.
impl Server {
    pub(super) fn answer(&mut self, client: ClientId, answer: Answer) {
        let pending = self.blocked.get_mut(&client).expect("who is answered waits");
        assert_eq!(*pending, None, "nobody is answered twice");
        *pending = Some(Pending { answer });
        self.ready.push(client);
    }

    /// False where the lock is not this server's to keep.
    pub(super) fn expire(&mut self, spot: Spot, at_most: usize) -> bool {
        let is_done = self.turn(spot, Asked::Nothing, |turn| turn.expire(at_most)).is_some();
        assert_eq!(is_done, self.whose(spot).keeps(), "what is due is done by whose it is");
        if is_done {
            self.course.expired.push(spot);
        }
        is_done
    }

    pub(super) fn time_out(&mut self, at_most: usize) {
        for _ in 0..at_most {
            let Some(client) = self.queues.time_out(self.now) else { return };
            self.answer(client, Answer::NotAvailable);
        }
    }

    pub(super) fn end_turn(&mut self) {
        self.queues.end_turn();
        self.time_out(usize::MAX);
        if self.grace.end(self.grace_ms, self.now) {
            self.queues.mark_all(None);
        }
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
            let before: Vec<Hold> = lock.holds().iter().cloned().collect();
            if self.expire(spot, 2) {
                let after = self.lock(spot).map(|lock| lock.holds().iter().cloned().collect());
                assert_ne!(after, Some(before), "what is due is done");
            } else {
                self.put_off(spot);
            }
        }
    }

    fn put_off(&mut self, spot: Spot) {
        let until = self.now.plus_ms(NOT_OURS_MS);
        if let Some(slot) = self.lock(spot).and_then(|lock| lock.slot) {
            self.deadlines.reschedule(spot.database, slot, until);
            self.put_off.insert(spot, until);
        }
    }

    fn settle_marked(&mut self) {
        while let Some(place) = self.queues.marked() {
            let spot = known(place.as_place());
            if !self.is_foreign(spot) {
                self.turn(spot, Asked::Nothing, |turn| turn.settle());
            }
            self.queues.take_mark(spot);
            self.turn_away(spot);
        }
    }

    /// Tells those who wait for a key that this server does not serve any more where to go.
    fn turn_away(&mut self, spot: Spot) {
        self.course.looked_at.push(spot);
        if self.queues.queue(spot).is_none() {
            return;
        }
        let was_arriving = self.arriving.remove(&spot);
        match (self.whose(spot), self.whose(spot).refusal()) {
            (Whose::Arriving, _) => drop(self.arriving.insert(spot)),
            (_, None) if was_arriving => self.queues.mark(spot),
            (_, None) => {}
            (_, Some(refusal)) => {
                for client in self.queues.dismiss(spot) {
                    self.answer(client, Answer::Refused(refusal.clone()));
                }
            }
        }
    }

    pub(super) fn look(&mut self, at_most: usize) {
        if self.last_looked_at.is_none() {
            self.arriving.retain(|spot| self.queues.queue(*spot).is_some());
        }
        for seen in 0..at_most {
            assert!(seen <= SPOTS.len(), "a look comes to each key once");
            self.last_looked_at = self.queues.waited_for_after(self.last_looked_at.as_ref());
            let Some(place) = self.last_looked_at.clone() else {
                self.course.look_is_over = true;
                return;
            };
            self.turn_away(known(place.as_place()));
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
}

/// Connections that close, and a change of roles.
impl Server {
    pub(super) fn disconnect(&mut self, client: ClientId) {
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

    pub(super) fn unblock(&mut self, client: ClientId, with_error: bool) {
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

    pub(super) fn demote(&mut self) {
        self.is_master = false;
        self.lost.clear();
        let mut tied = self.ties.clear();
        // The ties of a connection that has closed are cut already, but its holds may not have been ended yet.
        while let Some(place) = self.queues.marked() {
            self.queues.take_mark(place.as_place());
            tied.insert(place);
        }
        for client in self.queues.dissolve() {
            self.answer(client, Answer::Refused(Refusal::Demoted));
        }
        for place in tied {
            let spot = known(place.as_place());
            let Some(Value::Lock(lock)) = self.values.get_mut(&spot) else { continue };
            let mut lock = std::mem::take(lock);
            lock.disown();
            self.note(spot, &mut lock);
            self.values.insert(spot, Value::Lock(lock));
        }
    }

    /// DEBUG RELOAD, and whatever else empties the server and loads what it held.
    pub(super) fn reload(&mut self) {
        self.deadlines.clear(None);
        self.queues.mark_all(None);
        for spot in SPOTS {
            let Some(lock) = self.lock(spot) else { continue };
            let bytes = codec::encode(lock.holds(), self.now);
            let mut lock = codec::decode_lock(&bytes, self.now).unwrap();
            self.note(spot, &mut lock);
            self.values.insert(spot, Value::Lock(lock));
        }
        self.grace.begin(self.now);
    }
}
