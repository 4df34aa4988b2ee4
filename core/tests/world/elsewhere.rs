//! What other commands do to the keys of the server: DEL, SET, RENAME, MOVE, FLUSHDB, FLUSHALL, SWAPDB, MIGRATE, RESTORE.
//!
//! This is the least that any server has to do when a lock goes elsewhere: its entry among the deadlines, the ties of its
//! sessions and what has to be undone about it go where it goes.

use lock_core::{Limit, Lock, Moment};

use super::model::Model;
use super::server::{Server, Value};
use super::steps::{Request, SPOTS, Spot, Step, Whose, token};

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
            Step::SetString(spot, number, ms) => self.set_string(spot, number, ms),
            Step::Migrate(spot) => {
                self.slots.insert(spot.key, Whose::Elsewhere);
                self.remove(spot);
            }
            Step::Restore(spot, number, limit, lease_ms) => self.restore(spot, number, limit, lease_ms),
            Step::TimeToLive(spot, ms) => {
                let end = ms.map(|ms| self.now.plus_ms(ms));
                for ttls in [&mut self.ttls, &mut self.replica_ttls] {
                    ttls.remove(&spot);
                    ttls.extend(end.map(|end| (spot, end)));
                }
                if self.string(spot).is_some() {
                    self.table.touched(spot);
                }
            }
            _ => panic!("no command of another kind: {step:?}"),
        }
    }

    pub(super) fn remove(&mut self, spot: Spot) {
        self.replace(spot);
        self.table.touched(spot);
    }

    /// Something else comes to stand in place of what there is.
    fn replace(&mut self, spot: Spot) {
        if let Some(Value::Lock(mut lock)) = self.values.remove(&spot) {
            self.unlinked(spot, &mut lock);
        }
        self.replica.remove(&spot);
        self.replica_strings.remove(&spot);
        self.ttls.remove(&spot);
        self.replica_ttls.remove(&spot);
    }

    /// The module hears of a time to live that is set, not of a string.
    fn set_string(&mut self, spot: Spot, number: u8, ms: Option<u64>) {
        self.replace(spot);
        self.values.insert(spot, Value::String(number));
        self.replica_strings.insert(spot, number);
        if let Some(ms) = ms {
            for ttls in [&mut self.ttls, &mut self.replica_ttls] {
                ttls.insert(spot, self.now.plus_ms(ms));
            }
            self.table.touched(spot);
        }
    }

    /// Strings go whose time is over. The server comes to them when it gets round to it, and when somebody opens the key.
    pub(super) fn end_strings(&mut self) {
        SPOTS.into_iter().filter(|spot| self.is_over(*spot)).collect::<Vec<_>>().into_iter().for_each(
            |spot| {
                self.remove(spot);
            },
        );
    }

    /// Keys go whose time to live is over.
    pub(super) fn end_keys(&mut self) {
        let is_string = |spot: &Spot| matches!(self.values.get(spot), Some(Value::String(_)));
        let over: Vec<Spot> = self
            .ttls
            .iter()
            .filter(|(spot, end)| **end <= self.now && !is_string(spot))
            .map(|(spot, _)| *spot)
            .collect();
        over.into_iter().for_each(|spot| self.remove(spot));
    }

    fn flush(&mut self, database: Option<i32>) {
        let stays = |spot: &Spot| database.is_some_and(|database| database != spot.database);
        self.values.retain(|spot, _| stays(spot));
        self.replica.retain(|spot, _| stays(spot));
        self.replica_strings.retain(|spot, _| stays(spot));
        self.put_off.retain(|spot, _| stays(spot));
        self.ttls.retain(|spot, _| stays(spot));
        self.replica_ttls.retain(|spot, _| stays(spot));
        self.table.flushed(database);
    }

    fn restore(&mut self, spot: Spot, number: u8, limit: u16, lease_ms: u64) {
        let hold = self.granted_elsewhere(number, Limit::from_number(limit), lease_ms);
        self.replica.insert(spot, Lock::from_holds(vec![hold.clone()]));
        let mut lock = Lock::from_holds(vec![hold]);
        self.table.arrived(spot, &mut lock);
        self.values.insert(spot, Value::Lock(lock));
    }

    fn rename(&mut self, from: Spot, to: Spot) {
        let Some(value) = self.values.remove(&from) else { return };
        self.remove(to);
        for ttls in [&mut self.ttls, &mut self.replica_ttls] {
            let end = ttls.remove(&from);
            ttls.extend(end.map(|end| (to, end)));
        }
        match value {
            Value::Lock(mut lock) => {
                self.unlinked(from, &mut lock);
                self.table.arrived(to, &mut lock);
                self.values.insert(to, Value::Lock(lock));
            }
            other => drop(self.values.insert(to, other)),
        }
        if let Some(number) = self.replica_strings.remove(&from) {
            self.replica_strings.insert(to, number);
        }
        if let Some(lock) = self.replica.remove(&from) {
            self.replica.insert(to, lock);
        }
        self.table.touched(from);
        self.table.touched(to);
    }

    fn swap(&mut self) {
        let other = |spot: Spot| Spot { database: 1 - spot.database, ..spot };
        self.values = std::mem::take(&mut self.values).into_iter().map(|(k, v)| (other(k), v)).collect();
        self.replica = std::mem::take(&mut self.replica).into_iter().map(|(k, v)| (other(k), v)).collect();
        let strings = std::mem::take(&mut self.replica_strings);
        self.replica_strings = strings.into_iter().map(|(k, v)| (other(k), v)).collect();
        for moments in [&mut self.put_off, &mut self.ttls, &mut self.replica_ttls] {
            *moments = std::mem::take(moments).into_iter().map(|(k, v)| (other(k), v)).collect();
        }
        self.table.swapped(0, 1);
    }
}

/// The same, as the contract has it.
impl Model {
    pub(super) fn take_foreign(&mut self, step: Step) {
        match step {
            Step::Delete(spot) => self.remove(spot),
            Step::Flush(database) => SPOTS
                .into_iter()
                .filter(|spot| database.is_none_or(|database| database == spot.database))
                .for_each(|spot| self.remove(spot)),
            Step::Rename(from, to) => self.rename(from, to),
            Step::Swap => self.swap(),
            Step::Overwrite(spot) => {
                self.remove(spot);
                self.foreign.insert(spot);
            }
            Step::SetString(spot, number, ms) => {
                let is_over_another = self.strings.contains_key(&spot) || self.foreign.contains(&spot);
                self.remove(spot);
                if is_over_another && ms.is_none() {
                    self.unheard.insert(spot);
                }
                self.strings.insert(spot, number);
                self.ttls.extend(ms.map(|ms| (spot, self.now.plus_ms(ms))));
            }
            Step::Migrate(spot) => {
                if self.queue(spot).next().is_some() {
                    self.saw("migrated under waiters");
                }
                self.remove(spot);
                self.slot(spot, Whose::Elsewhere);
            }
            Step::Restore(spot, number, limit, lease_ms) => {
                if self.queue(spot).next().is_some() {
                    self.saw("restored under waiters");
                }
                self.unseen.remove(&spot);
                self.grant(spot, token(number), &Request::of(number, lease_ms).limit(limit), 0);
            }
            Step::TimeToLive(spot, ms) => {
                self.ttls.remove(&spot);
                self.ttls.extend(ms.map(|ms| (spot, self.now.plus_ms(ms))));
            }
            _ => panic!("no command of another kind: {step:?}"),
        }
    }

    fn remove(&mut self, spot: Spot) {
        self.holders.retain(|(place, _)| *place != spot);
        self.foreign.remove(&spot);
        self.strings.remove(&spot);
        self.ttls.remove(&spot);
    }

    /// Keys go whose time to live is over.
    pub(super) fn end_keys(&mut self) {
        for spot in SPOTS {
            let is_string = self.strings.contains_key(&spot);
            // A string is there to the last millisecond, that one included.
            let is_over = |end: &Moment| if is_string { *end < self.now } else { *end <= self.now };
            if self.ttls.get(&spot).is_some_and(is_over) {
                if self.queue(spot).next().is_some() {
                    self.saw(if is_string {
                        "string over under waiters"
                    } else {
                        "time to live over under waiters"
                    });
                }
                self.remove(spot);
            }
        }
    }

    fn rename(&mut self, from: Spot, to: Spot) {
        let is_foreign = self.foreign.contains(&from);
        if self.holders.iter().any(|(place, _)| *place == to) {
            self.saw("lock replaced by a rename");
        }
        self.remove(to);
        self.unseen.remove(&to);
        self.holders.iter_mut().filter(|(place, _)| *place == from).for_each(|(place, _)| *place = to);
        let end = self.ttls.remove(&from);
        self.ttls.extend(end.map(|end| (to, end)));
        if is_foreign {
            self.foreign.remove(&from);
            self.foreign.insert(to);
        }
        if let Some(number) = self.strings.remove(&from) {
            self.strings.insert(to, number);
        }
    }

    fn swap(&mut self) {
        let other = |spot: Spot| Spot { database: 1 - spot.database, ..spot };
        self.holders.iter_mut().for_each(|(place, _)| *place = other(*place));
        self.foreign = self.foreign.iter().map(|spot| other(*spot)).collect();
        self.strings = self.strings.iter().map(|(spot, number)| (other(*spot), *number)).collect();
        self.ttls = self.ttls.iter().map(|(spot, end)| (other(*spot), *end)).collect();
        self.unseen = SPOTS.into();
    }
}
