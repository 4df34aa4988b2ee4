//! The deadlines: an index of when each lock of each database is due next.
//!
//! Each lock has one entry, under the deadline of its hold that is due first. A binary heap is ordered by deadline.
//! Each node of the heap names an entry, and the entry has the key and its place in the heap. So the next deadline is
//! found at once, and an entry is moved or removed in `O(log n)`. Mostly that is far less, because a new lease ends
//! after most others and stays where it was put. Entries are stored in chunks that never move, so growing copies
//! nothing.
//!
//! An entry says that a lock *may* be due. Code that acts on it looks at the lock under that key first. So an entry
//! that has outlived its lock does no harm. It is removed when it is due.
// Only this file makes places in the heap and numbers of entries, and it keeps them in range. See `is_consistent`.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::mem;
use core::num::NonZeroU32;

use smallvec::SmallVec;

use crate::key::{Database, DbKey};
use crate::time::Moment;

/// Names an entry of one database's index, until it is removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeadlineId(NonZeroU32);

impl DeadlineId {
    fn of(number: usize) -> Self {
        // 2^32 entries would take more than a hundred gigabytes. Entries above share the last number. An entry that
        // turns out to belong to another lock is removed like any other that has outlived its lock.
        let number = u32::try_from(number).unwrap_or(u32::MAX - 1);
        Self(NonZeroU32::MIN.saturating_add(number))
    }

    fn number(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// The deadlines of all databases.
#[derive(Debug, Default)]
pub struct Deadlines {
    databases: BTreeMap<Database, Index>,
}

/// A lock that is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due<'a> {
    /// The key under which the entry was made.
    pub key: DbKey<'a>,
    /// Its entry.
    pub id: DeadlineId,
    /// When it is due.
    pub deadline: Moment,
}

impl Deadlines {
    /// An index without entries.
    pub const fn new() -> Self {
        Self { databases: BTreeMap::new() }
    }

    /// Adds an entry: the lock under `key` is due at `deadline`. One hold of it is counted.
    pub fn insert(&mut self, key: DbKey<'_>, deadline: Moment) -> DeadlineId {
        self.databases.entry(key.database).or_default().insert(key.key, deadline)
    }

    /// Changes the deadline of an entry. Without effect if there is no such entry.
    pub fn reschedule(&mut self, database: Database, id: DeadlineId, deadline: Moment) {
        if let Some(index) = self.databases.get_mut(&database) {
            index.reschedule(id, deadline);
        }
    }

    /// Removes an entry, and what was counted for its lock. Without effect if there is no such entry.
    pub fn remove(&mut self, database: Database, id: DeadlineId, counted: u32) {
        if let Some(index) = self.databases.get_mut(&database) {
            index.remove(id);
            index.holds = index.holds.saturating_sub(counted.into());
        }
    }

    /// A lock has so many holds, after so many were counted.
    pub(crate) fn recount(&mut self, database: Database, counted: u32, holds: u32) {
        if let Some(index) = self.databases.get_mut(&database) {
            index.holds = index.holds.saturating_sub(counted.into()).saturating_add(holds.into());
        }
    }

    /// How many holds the locks of a database have, or of all.
    pub(crate) fn holds(&self, database: Option<Database>) -> u64 {
        let counts = |number: &&Database| database.is_none_or(|database| database == **number);
        self.databases.iter().filter(|(number, _)| counts(number)).map(|(_, index)| index.holds).sum()
    }

    /// The entry that is due first among those due by `now`.
    pub fn first_due(&self, now: Moment) -> Option<Due<'_>> {
        self.first().filter(|due| due.deadline <= now)
    }

    /// The entry that is due first.
    pub fn first(&self) -> Option<Due<'_>> {
        let firsts = self.databases.iter().filter_map(|(database, index)| index.first(*database));
        firsts.min_by_key(|due| due.deadline)
    }

    /// Removes every entry of one database, or of all.
    pub fn clear(&mut self, database: Option<Database>) {
        match database {
            Some(database) => drop(self.databases.remove(&database)),
            None => self.databases.clear(),
        }
    }

    /// Swaps two databases.
    pub fn swap(&mut self, one: Database, other: Database) {
        let (was_one, was_other) = (self.databases.remove(&one), self.databases.remove(&other));
        self.databases.extend(was_one.map(|index| (other, index)));
        self.databases.extend(was_other.map(|index| (one, index)));
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.databases.values().map(|index| index.heap.len()).sum()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether heap and entries agree: every entry in use is in the heap once, at the place that it has stored, and no
    /// parent in the heap has a later deadline than its child.
    pub fn is_consistent(&self) -> bool {
        self.databases.values().all(Index::is_consistent)
    }
}

/// Entries per chunk. An entry has 32 bytes, so a chunk is a few pages.
const CHUNK: usize = 512;

#[derive(Debug, Default)]
struct Index {
    chunks: Vec<Vec<Entry>>,
    /// A heap with a node for each entry in use, the earliest deadline first.
    heap: Vec<Node>,
    /// The entry to use next, the head of a list through the unused ones.
    unused: Option<u32>,
    /// How many holds the locks have together.
    holds: u64,
}

/// A key's name: a short one in place.
type Key = SmallVec<[u8; 16]>;

#[derive(Clone, Copy, Debug)]
struct Node {
    deadline: Moment,
    number: u32,
}

#[derive(Debug)]
enum Entry {
    Used { key: Key, place: u32 },
    Unused { next: Option<u32> },
}

impl Index {
    fn insert(&mut self, key: &[u8], deadline: Moment) -> DeadlineId {
        self.holds += 1;
        let place = self.heap.len();
        let entry = Entry::Used { key: Key::from_slice(key), place: narrow(place) };
        let number = match self.unused {
            Some(number) => {
                if let Entry::Unused { next } = mem::replace(self.entry_mut(number), entry) {
                    self.unused = next;
                }
                number
            }
            None => self.append(entry),
        };
        self.heap.push(Node { deadline, number });
        // Mostly it is due after its parent, and stays.
        if self.heap[place.saturating_sub(1) / 2].deadline > deadline {
            self.sift_up(place);
        }
        DeadlineId::of(number as usize)
    }

    fn append(&mut self, entry: Entry) -> u32 {
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let last = self.chunks.len() - 1;
        self.chunks[last].push(entry);
        narrow(before + self.chunks[last].len() - 1)
    }

    fn reschedule(&mut self, id: DeadlineId, deadline: Moment) {
        if let Some(Entry::Used { place, .. }) = self.get_mut(id) {
            let place = *place as usize;
            self.heap[place].deadline = deadline;
            let place = self.sift_up(place);
            self.sift_down(place);
        }
    }

    fn remove(&mut self, id: DeadlineId) {
        let unused = Entry::Unused { next: self.unused };
        let Some(entry @ Entry::Used { .. }) = self.get_mut(id) else { return };
        if let Entry::Used { place, .. } = mem::replace(entry, unused) {
            self.unused = Some(narrow(id.number()));
            self.heap.swap_remove(place as usize);
            if (place as usize) < self.heap.len() {
                let place = self.sift_up(place as usize);
                self.sift_down(place);
            } else if self.heap.is_empty() && self.chunks.len() > 1 {
                self.forget_all();
            }
        }
    }

    /// Frees the memory of very many locks when all are gone. One chunk stays for the locks to come.
    fn forget_all(&mut self) {
        self.chunks.truncate(1);
        self.chunks.iter_mut().for_each(Vec::clear);
        self.heap.shrink_to(CHUNK);
        self.unused = None;
    }

    fn first(&self, database: Database) -> Option<Due<'_>> {
        let Node { deadline, number } = *self.heap.first()?;
        match self.entry(number) {
            Entry::Used { key, .. } => {
                Some(Due { key: DbKey { database, key }, id: DeadlineId::of(number as usize), deadline })
            }
            Entry::Unused { .. } => None,
        }
    }

    fn get_mut(&mut self, id: DeadlineId) -> Option<&mut Entry> {
        self.chunks.get_mut(id.number() / CHUNK)?.get_mut(id.number() % CHUNK)
    }

    fn entry(&self, number: u32) -> &Entry {
        &self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }

    fn entry_mut(&mut self, number: u32) -> &mut Entry {
        &mut self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }

    /// Puts a node at a place in the heap, and stores the place in its entry.
    fn put(&mut self, at: usize, node: Node) {
        self.heap[at] = node;
        if let Entry::Used { place, .. } = self.entry_mut(node.number) {
            *place = narrow(at);
        }
    }

    /// Moves the node at `place` towards the front until its parent is due no later. Returns its new place.
    fn sift_up(&mut self, mut place: usize) -> usize {
        let node = self.heap[place];
        while place > 0 {
            let parent = self.heap[(place - 1) / 2];
            if parent.deadline <= node.deadline {
                break;
            }
            self.put(place, parent);
            place = (place - 1) / 2;
        }
        self.put(place, node);
        place
    }

    /// Moves the node at `place` towards the back until no child of it is due earlier.
    fn sift_down(&mut self, mut place: usize) {
        let node = self.heap[place];
        while let Some(mut child) = self.heap.get(2 * place + 1).copied() {
            let mut at = 2 * place + 1;
            if let Some(right) = self.heap.get(at + 1)
                && right.deadline < child.deadline
            {
                (child, at) = (*right, at + 1);
            }
            if node.deadline <= child.deadline {
                break;
            }
            self.put(place, child);
            place = at;
        }
        self.put(place, node);
    }

    fn is_consistent(&self) -> bool {
        let used = self.chunks.iter().flatten().filter(|entry| matches!(entry, Entry::Used { .. })).count();
        used == self.heap.len()
            && self.heap.iter().enumerate().all(|(at, node)| {
                let knows_its_place =
                    matches!(self.entry(node.number), Entry::Used { place, .. } if *place as usize == at);
                knows_its_place && (at == 0 || self.heap[(at - 1) / 2].deadline <= node.deadline)
            })
    }
}

/// Entry numbers and places fit 32 bits: see [`DeadlineId::of`].
fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Entry>() + size_of::<Node>(), 48);
        assert_eq!(size_of::<Option<DeadlineId>>(), 4);
    }

    #[test]
    fn the_earliest_of_all_databases_comes_first() {
        let mut deadlines = Deadlines::new();
        deadlines.insert(DbKey { database: 3, key: b"c" }, Moment::from_micros(30));
        let id = deadlines.insert(DbKey { database: 9, key: b"a" }, Moment::from_micros(10));
        deadlines.insert(DbKey { database: 3, key: b"b" }, Moment::from_micros(20));
        assert_eq!(deadlines.first().map(|due| (due.key.database, due.key.key)), Some((9, &b"a"[..])));
        assert_eq!(deadlines.first_due(Moment::from_micros(9)), None);
        deadlines.reschedule(9, id, Moment::from_micros(40));
        assert_eq!(deadlines.first().map(|due| (due.key.database, due.key.key)), Some((3, &b"b"[..])));
        deadlines.swap(3, 5);
        assert_eq!(deadlines.first().map(|due| (due.key.database, due.key.key)), Some((5, &b"b"[..])));
        deadlines.clear(Some(5));
        assert_eq!(deadlines.len(), 1);
        deadlines.remove(9, id, 1);
        deadlines.remove(9, id, 1);
        assert!(deadlines.is_empty());
    }
}
