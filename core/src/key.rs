//! Keys in databases, and tables over them.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::ops::Bound;

/// The number of a database.
pub type Database = i32;

/// A key in a database.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DbKey<'a> {
    /// The database.
    pub database: Database,
    /// The key's name.
    pub key: &'a [u8],
}

/// The same, with a name of its own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OwnedDbKey {
    database: Database,
    key: Box<[u8]>,
}

impl OwnedDbKey {
    /// The first key in the order of keys.
    pub(crate) fn first() -> Self {
        Self { database: Database::MIN, key: Box::default() }
    }

    /// The same key name, after SWAPDB of two databases.
    pub(crate) fn swapped(self, one: Database, other: Database) -> Self {
        let database = match self.database {
            database if database == one => other,
            database if database == other => one,
            database => database,
        };
        Self { database, ..self }
    }

    /// The key itself.
    pub fn as_key(&self) -> DbKey<'_> {
        DbKey { database: self.database, key: &self.key }
    }
}

impl From<DbKey<'_>> for OwnedDbKey {
    fn from(at: DbKey<'_>) -> Self {
        Self { database: at.database, key: at.key.into() }
    }
}

/// A map from keys to values.
#[derive(Debug)]
pub(crate) struct DbKeyMap<T> {
    databases: BTreeMap<Database, BTreeMap<Box<[u8]>, T>>,
}

impl<T> DbKeyMap<T> {
    pub(crate) const fn new() -> Self {
        Self { databases: BTreeMap::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.databases.is_empty()
    }

    pub(crate) fn get(&self, at: DbKey<'_>) -> Option<&T> {
        self.databases.get(&at.database)?.get(at.key)
    }

    pub(crate) fn get_mut(&mut self, at: DbKey<'_>) -> Option<&mut T> {
        self.databases.get_mut(&at.database)?.get_mut(at.key)
    }

    /// The value for this key, inserted if there is none.
    pub(crate) fn at(&mut self, at: DbKey<'_>) -> &mut T
    where
        T: Default,
    {
        self.databases.entry(at.database).or_default().entry(at.key.into()).or_default()
    }

    /// Sets the value for this key.
    pub(crate) fn insert(&mut self, at: DbKey<'_>, value: T) {
        self.databases.entry(at.database).or_default().insert(at.key.into(), value);
    }

    pub(crate) fn remove(&mut self, at: DbKey<'_>) -> Option<T> {
        let database = self.databases.get_mut(&at.database)?;
        let removed = database.remove(at.key);
        if database.is_empty() {
            self.databases.remove(&at.database);
        }
        removed
    }

    /// Swaps two databases.
    pub(crate) fn swap(&mut self, one: Database, other: Database) {
        let (was_one, was_other) = (self.databases.remove(&one), self.databases.remove(&other));
        self.databases.extend(was_one.map(|keys| (other, keys)));
        self.databases.extend(was_other.map(|keys| (one, keys)));
    }

    /// The first key, or the first after this one, in the order of keys.
    pub(crate) fn after(&self, after: Option<DbKey<'_>>) -> Option<DbKey<'_>> {
        let (database, key) = after.map_or((Database::MIN, &[][..]), |at| (at.database, at.key));
        let beyond = if after.is_some() { Bound::Excluded(key) } else { Bound::Included(key) };
        self.databases.range(database..).find_map(|(number, keys)| {
            let from = if *number == database { beyond } else { Bound::Unbounded };
            let (key, _) = keys.range::<[u8], _>((from, Bound::Unbounded)).next()?;
            Some(DbKey { database: *number, key })
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (DbKey<'_>, &T)> {
        self.databases.iter().flat_map(|(database, keys)| {
            keys.iter().map(|(key, value)| (DbKey { database: *database, key }, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn keys_follow_one_another_until_there_is_none() {
        let mut keys_seen = DbKeyMap::<u8>::new();
        assert_eq!(keys_seen.after(None), None);
        let there: [(Database, &[u8]); 5] = [(0, b""), (0, b"a"), (0, b"b"), (2, b""), (3, b"a")];
        there.iter().for_each(|(database, key)| *keys_seen.at(DbKey { database: *database, key }) = 1);
        let mut found = Vec::new();
        let mut last: Option<OwnedDbKey> = None;
        while let Some(next) = keys_seen.after(last.as_ref().map(OwnedDbKey::as_key)).map(OwnedDbKey::from) {
            found.push((next.database, next.key.clone()));
            assert!(found.len() <= there.len(), "a walk that comes to a key twice");
            last = Some(next);
        }
        assert_eq!(found, there.map(|(database, key)| (database, Box::from(key))));
        let gone = DbKey { database: 1, key: b"z" };
        assert_eq!(keys_seen.after(Some(gone)), Some(DbKey { database: 2, key: b"" }));
    }
}
