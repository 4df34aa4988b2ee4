//! The index of deadlines against the plainest one there is: a list a database, searched from end to end. It is led
//! through random histories with few distinct deadlines, names of entries that are gone, and enough entries at times
//! to fill several of its chunks.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::{BTreeMap, BTreeSet};

use lock_core::deadlines::Due;
use lock_core::key::{Database, DbKey};
use lock_core::{DeadlineId, Deadlines, Moment};
use proptest::prelude::*;
use proptest::sample::Index;

const DATABASES: std::ops::Range<Database> = 0..4;

#[derive(Clone, Debug)]
enum Step {
    Insert {
        database: Database,
        deadline: i64,
    },
    InsertMany {
        database: Database,
        count: usize,
        deadline: i64,
    },
    /// Of any entry ever made, gone ones among them.
    Reschedule {
        which: Index,
        deadline: i64,
    },
    Remove {
        which: Index,
    },
    /// Takes the first entries out, as a sweep does.
    Sweep {
        now: i64,
        at_most: usize,
    },
    Clear(Option<Database>),
    Swap(Database, Database),
}

fn steps(crowd: usize, length: usize) -> impl Strategy<Value = Vec<Step>> {
    let (database, deadline) = (|| DATABASES, || -10_i64..40);
    let step = prop_oneof![
        12 => (database(), deadline()).prop_map(|(database, deadline)| Step::Insert { database, deadline }),
        2 => (database(), 1..=crowd, deadline())
            .prop_map(|(database, count, deadline)| Step::InsertMany { database, count, deadline }),
        6 => (any::<Index>(), deadline()).prop_map(|(which, deadline)| Step::Reschedule { which, deadline }),
        6 => any::<Index>().prop_map(|which| Step::Remove { which }),
        2 => (deadline(), 0..=crowd).prop_map(|(now, at_most)| Step::Sweep { now, at_most }),
        1 => proptest::option::weighted(0.8, database()).prop_map(Step::Clear),
        2 => (database(), database()).prop_map(|(one, other)| Step::Swap(one, other)),
    ];
    proptest::collection::vec(step, 1..length)
}

/// An entry as the list keeps it.
#[derive(Clone, PartialEq, Debug)]
struct Entry {
    id: DeadlineId,
    key: Vec<u8>,
    deadline: i64,
}

#[derive(Default)]
struct World {
    deadlines: Deadlines,
    oracle: BTreeMap<Database, Vec<Entry>>,
    /// Every entry ever named, under the database its lock was in when that was written down.
    named: Vec<(Database, DeadlineId)>,
    keys: u64,
}

impl World {
    fn take(&mut self, step: Step) {
        match step {
            Step::Insert { database, deadline } => self.insert(database, deadline),
            Step::InsertMany { database, count, deadline } => {
                let count = i64::try_from(count).unwrap();
                // Some of them behind each other, some at once.
                (0..count).for_each(|place| self.insert(database, deadline + place % 7));
            }
            Step::Reschedule { which, deadline } => {
                let Some((database, id)) = self.pick(which) else { return };
                self.deadlines.reschedule(database, id, Moment::from_micros(deadline));
                let entries = self.oracle.entry(database).or_default().iter_mut();
                entries.filter(|entry| entry.id == id).for_each(|entry| entry.deadline = deadline);
            }
            Step::Remove { which } => {
                let Some((database, id)) = self.pick(which) else { return };
                self.remove(database, id);
            }
            Step::Sweep { now, at_most } => self.sweep(now, at_most),
            Step::Clear(database) => {
                self.deadlines.clear(database);
                self.oracle.retain(|held, _| database.is_some_and(|database| database != *held));
            }
            Step::Swap(one, other) => {
                self.deadlines.swap(one, other);
                let (was_one, was_other) = (self.oracle.remove(&one), self.oracle.remove(&other));
                self.oracle.insert(one, was_other.unwrap_or_default());
                if one != other {
                    self.oracle.insert(other, was_one.unwrap_or_default());
                } else {
                    self.oracle.insert(one, was_one.unwrap_or_default());
                }
            }
        }
    }

    fn insert(&mut self, database: Database, deadline: i64) {
        self.keys += 1;
        let key = self.keys.to_string().into_bytes();
        let id = self.deadlines.insert(DbKey { database, key: &key }, Moment::from_micros(deadline));
        let entries = self.oracle.entry(database).or_default();
        assert!(entries.iter().all(|entry| entry.id != id), "a name in use was given again");
        entries.push(Entry { id, key, deadline });
        self.named.push((database, id));
    }

    fn remove(&mut self, database: Database, id: DeadlineId) {
        self.deadlines.remove(database, id, 1);
        self.oracle.entry(database).or_default().retain(|entry| entry.id != id);
    }

    fn sweep(&mut self, now: i64, at_most: usize) {
        for _ in 0..at_most {
            let Some(due) = self.deadlines.first_due(Moment::from_micros(now)) else {
                let left = self.entries().filter(|(_, entry)| entry.deadline <= now).count();
                assert_eq!(left, 0, "an entry is due");
                return;
            };
            assert!(due.deadline.as_micros() <= now);
            let (database, id) = (due.key.database, due.id);
            self.check_first();
            self.remove(database, id);
        }
    }

    fn pick(&self, which: Index) -> Option<(Database, DeadlineId)> {
        if self.named.is_empty() { None } else { Some(*which.get(&self.named)) }
    }

    fn entries(&self) -> impl Iterator<Item = (Database, &Entry)> {
        self.oracle.iter().flat_map(|(database, entries)| entries.iter().map(|entry| (*database, entry)))
    }

    /// The first is one of those with the earliest deadline: which one, nothing promises.
    fn check_first(&self) {
        let earliest = self.entries().map(|(_, entry)| entry.deadline).min();
        let first = self.deadlines.first();
        assert_eq!(first.map(|due| due.deadline.as_micros()), earliest);
        if let Some(due) = first {
            let Due { key: DbKey { database, key }, id, deadline } = due;
            let entry = Entry { id, key: key.to_vec(), deadline: deadline.as_micros() };
            assert!(self.entries().any(|known| known == (database, &entry)), "{due:?} was never noted");
        }
        for now in [earliest.map(|earliest| earliest - 1), earliest].into_iter().flatten() {
            let due = self.deadlines.first_due(Moment::from_micros(now));
            assert_eq!(due, first.filter(|first| first.deadline.as_micros() <= now));
        }
    }

    fn check(&self) {
        assert!(self.deadlines.is_consistent());
        assert_eq!(self.deadlines.len(), self.entries().count());
        assert_eq!(self.deadlines.is_empty(), self.entries().next().is_none());
        self.check_first();
    }

    /// Takes all entries out, the first ones first: what comes out is what went in, in the order of its deadlines.
    fn drain(mut self) {
        let mut known: BTreeSet<(i64, Vec<u8>, Database)> =
            self.entries().map(|(database, entry)| (entry.deadline, entry.key.clone(), database)).collect();
        let mut before = i64::MIN;
        while let Some(Due { key: DbKey { database, key }, id, deadline }) = self.deadlines.first() {
            let deadline = deadline.as_micros();
            assert!(before <= deadline, "{before} came before {deadline}");
            before = deadline;
            assert!(known.remove(&(deadline, key.to_vec(), database)));
            self.deadlines.remove(database, id, 1);
        }
        assert!(known.is_empty(), "never came out: {known:?}");
        assert!(self.deadlines.is_empty() && self.deadlines.is_consistent());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_index_is_a_sorted_list_after_every_step(steps in steps(5, 120)) {
        let mut world = World::default();
        for step in steps {
            world.take(step);
            world.check();
        }
        world.drain();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn the_index_is_a_sorted_list_when_it_is_crowded(steps in steps(1_200, 30)) {
        let mut world = World::default();
        for step in steps {
            world.take(step);
            world.check();
        }
        world.drain();
    }
}

/// A server may lose sight of locks that were flushed away and name their entries once more when it comes across
/// them; the entries of other locks must not suffer.
#[test]
fn an_entry_that_is_gone_can_be_named_without_effect() {
    let mut deadlines = Deadlines::new();
    let at = Moment::from_micros;
    let slots: Vec<DeadlineId> =
        (0..700).map(|number| deadlines.insert(DbKey { database: 1, key: b"flushed" }, at(number))).collect();
    deadlines.insert(DbKey { database: 2, key: b"stays" }, at(9));
    deadlines.clear(Some(1));
    for id in slots {
        for database in [1, 3, Database::MAX] {
            deadlines.remove(database, id, 1);
            deadlines.reschedule(database, id, at(0));
            deadlines.remove(database, id, 1);
        }
    }
    assert!(deadlines.is_consistent());
    assert_eq!(deadlines.len(), 1);
    let first = deadlines.first().map(|due| (due.key.database, due.key.key.to_vec(), due.deadline));
    assert_eq!(first, Some((2, b"stays".to_vec(), at(9))));
}

#[test]
fn an_index_that_never_empties_takes_no_more_room_than_its_crowd() {
    let mut deadlines = Deadlines::new();
    deadlines.insert(DbKey { database: 0, key: b"stays" }, Moment::from_micros(i64::MAX));
    let mut named = BTreeSet::new();
    for round in 0..1_000 {
        let slots = [1, 2, 3].map(|place| {
            deadlines
                .insert(DbKey { database: 0, key: b"comes and goes" }, Moment::from_micros(round * place))
        });
        named.extend(slots.map(|id| format!("{id:?}")));
        slots.iter().for_each(|id| deadlines.remove(0, *id, 1));
    }
    assert_eq!(named.len(), 3, "entries are used again");
}
