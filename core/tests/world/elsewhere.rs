//! What other commands do to the keys of the server: DEL, SET, RENAME, MOVE, FLUSHDB, FLUSHALL, SWAPDB.
//!
//! This is the least that any server has to do when a lock goes elsewhere: its entry among the deadlines, the ties of its
//! sessions and what has to be put right about it go where it goes.

use super::server::{Server, Value};
use super::steps::{Spot, Step};

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
        self.remove(to);
        match value {
            Value::Lock(mut lock) => {
                self.unlinked(from, &mut lock);
                self.note(to, &mut lock);
                self.queues.arrived(to, &lock);
                self.values.insert(to, Value::Lock(lock));
            }
            Value::Foreign => drop(self.values.insert(to, Value::Foreign)),
        }
        if let Some(lock) = self.replica.remove(&from) {
            self.replica.insert(to, lock);
        }
        self.queues.mark(from);
        self.queues.mark(to);
    }

    fn swap(&mut self) {
        let other = |spot: Spot| Spot { database: 1 - spot.database, ..spot };
        self.values = std::mem::take(&mut self.values).into_iter().map(|(k, v)| (other(k), v)).collect();
        self.replica = std::mem::take(&mut self.replica).into_iter().map(|(k, v)| (other(k), v)).collect();
        self.deadlines.swap(0, 1);
        self.ties.swap(0, 1);
        self.queues.swap(0, 1);
    }
}
