//! A list whose entries keep their numbers.

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;
use core::marker::PhantomData;

/// The number of an entry. It is used again once the entry is gone.
pub(super) struct Id<T>(usize, PhantomData<fn() -> T>);

/// Entries, each with its number.
#[derive(Debug)]
pub(super) struct Slab<T> {
    entries: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len().saturating_sub(self.free.len())
    }

    pub(super) fn insert(&mut self, value: T) -> Id<T> {
        let free = self.free.pop();
        let at = free.unwrap_or(self.entries.len());
        match self.entries.get_mut(at) {
            Some(entry) => *entry = Some(value),
            None => self.entries.push(Some(value)),
        }
        Id(at, PhantomData)
    }

    /// Takes an entry out. The last that goes gives all memory back.
    pub(super) fn remove(&mut self, id: Id<T>) -> Option<T> {
        let removed = self.entries.get_mut(id.0)?.take()?;
        self.free.push(id.0);
        if self.free.len() == self.entries.len() {
            *self = Self::new();
        }
        Some(removed)
    }

    #[inline]
    pub(super) fn get(&self, id: Id<T>) -> Option<&T> {
        self.entries.get(id.0)?.as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: Id<T>) -> Option<&mut T> {
        self.entries.get_mut(id.0)?.as_mut()
    }
}

// Derived, these would ask for the same of `T`.
impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Id<T> {}

impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Id<T> {}

impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}
