//! What other commands do to the keys of the server: DEL, SET, RENAME, MOVE, FLUSHDB, FLUSHALL, SWAPDB.
//!
//! This is the least that any server has to do when a lock goes elsewhere: its entry among the deadlines, the ties of its
//! sessions and what has to be put right about it go where it goes.

use lock_core::Hold;
use lock_core::turn::{Answer, Grant};

use super::server::{Server, Value, known};
use super::steps::{SPOTS, Spot, Step};

impl Server {
    /// What other commands do to keys.
    pub(super) fn take_foreign(&mut self, step: Step) {
        match step {
            Step::Delete(spot) => self.remove(spot),
            Step::Flush(database) => self.flush(database),
            Step::Rename(from, to) => self.rename(from, to),
            Step::Swap => self.swap(),
            Step::Overwrite(spot) => {
                self.remove(spot);
                self.values.insert(spot, Value::Foreign);
            }
            _ => panic!("no command of another kind: {step:?}"),
        }
    }

    fn remove(&mut self, spot: Spot) {
        if let Some(Value::Lock(mut lock)) = self.values.remove(&spot) {
            self.unlinked(spot, &mut lock);
        }
        self.replica.remove(&spot);
        self.queues.mark(spot);
    }

    fn flush(&mut self, database: Option<i32>) {
        let stays = |spot: &Spot| database.is_some_and(|database| database != spot.database);
        self.values.retain(|spot, _| stays(spot));
        self.replica.retain(|spot, _| stays(spot));
        self.deadlines.clear(database);
        self.queues.mark_all(database);
    }

    fn rename(&mut self, from: Spot, to: Spot) {
        let Some(value) = self.values.remove(&from) else { return };
        let remedies = self.queues.take_mark(from);
        self.remove(to);
        self.queues.take_mark(to);
        match value {
            Value::Lock(mut lock) => {
                self.unlinked(from, &mut lock);
                self.note(to, &mut lock);
                self.values.insert(to, Value::Lock(lock));
            }
            Value::Foreign => drop(self.values.insert(to, Value::Foreign)),
        }
        if let Some(lock) = self.replica.remove(&from) {
            self.replica.insert(to, lock);
        }
        remedies.into_iter().for_each(|remedy| self.queues.remedy(to, remedy));
        self.redirect_grants(|spot| if spot == from { to } else { spot });
        self.queues.mark(from);
        self.queues.mark(to);
    }

    fn swap(&mut self) {
        let other = |spot: Spot| Spot { database: 1 - spot.database, ..spot };
        let remedies = SPOTS.map(|spot| (other(spot), self.queues.take_mark(spot)));
        self.values = std::mem::take(&mut self.values).into_iter().map(|(k, v)| (other(k), v)).collect();
        self.replica = std::mem::take(&mut self.replica).into_iter().map(|(k, v)| (other(k), v)).collect();
        self.deadlines.swap(0, 1);
        for spot in SPOTS {
            let holds = self.lock(spot).into_iter().flat_map(|lock| lock.holds());
            let sessions: Vec<_> = holds.filter_map(Hold::session).collect();
            self.ties.set(spot, sessions);
        }
        for (spot, remedies) in remedies {
            remedies.into_iter().for_each(|remedy| self.queues.remedy(spot, remedy));
        }
        self.redirect_grants(other);
        self.queues.mark_all(Some(0));
        self.queues.mark_all(Some(1));
    }

    /// Grants that nobody was told of yet went with their locks.
    fn redirect_grants(&mut self, to: impl Fn(Spot) -> Spot) {
        for pending in self.blocked.values_mut().flatten() {
            if let Answer::Granted(grant) = &mut pending.answer {
                let place = to(known(grant.place.as_place())).into();
                *grant = Grant { place, ..grant.clone() };
            }
        }
    }
}
