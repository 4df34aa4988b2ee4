//! Keys in databases, and tables over them.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::ops::Bound;

/// The number of a database.
pub type Database = i32;

/// A key in a database.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place<'a> {
    /// The database.
    pub database: Database,
    /// The key's name.
    pub key: &'a [u8],
}

/// The same, kept.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OwnedPlace {
    database: Database,
    key: Box<[u8]>,
}

impl OwnedPlace {
    /// The same place after two databases have changed places.
    pub(crate) fn swapped(self, one: Database, other: Database) -> Self {
        let database = match self.database {
            database if database == one => other,
            database if database == other => one,
            database => database,
        };
        Self { database, ..self }
    }

    /// The place itself.
    pub fn as_place(&self) -> Place<'_> {
        Place { database: self.database, key: &self.key }
    }
}

impl From<Place<'_>> for OwnedPlace {
    fn from(place: Place<'_>) -> Self {
        Self { database: place.database, key: place.key.into() }
    }
}

/// Something for each of some places.
#[derive(Debug)]
pub(crate) struct Places<T> {
    databases: BTreeMap<Database, BTreeMap<Box<[u8]>, T>>,
}

impl<T> Places<T> {
    pub(crate) const fn new() -> Self {
        Self { databases: BTreeMap::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.databases.is_empty()
    }

    pub(crate) fn get(&self, place: Place<'_>) -> Option<&T> {
        self.databases.get(&place.database)?.get(place.key)
    }

    pub(crate) fn get_mut(&mut self, place: Place<'_>) -> Option<&mut T> {
        self.databases.get_mut(&place.database)?.get_mut(place.key)
    }

    /// What there is for this place, made if there is nothing.
    pub(crate) fn at(&mut self, place: Place<'_>) -> &mut T
    where
        T: Default,
    {
        self.databases.entry(place.database).or_default().entry(place.key.into()).or_default()
    }

    pub(crate) fn remove(&mut self, place: Place<'_>) -> Option<T> {
        let database = self.databases.get_mut(&place.database)?;
        let removed = database.remove(place.key);
        if database.is_empty() {
            self.databases.remove(&place.database);
        }
        removed
    }

    /// Exchanges two databases.
    pub(crate) fn swap(&mut self, one: Database, other: Database) {
        let (was_one, was_other) = (self.databases.remove(&one), self.databases.remove(&other));
        self.databases.extend(was_one.map(|keys| (other, keys)));
        self.databases.extend(was_other.map(|keys| (one, keys)));
    }

    /// The first place, or the first after this one, in the order of places.
    pub(crate) fn after(&self, place: Option<Place<'_>>) -> Option<Place<'_>> {
        let (database, key) = place.map_or((Database::MIN, &[][..]), |place| (place.database, place.key));
        let beyond = if place.is_some() { Bound::Excluded(key) } else { Bound::Included(key) };
        self.databases.range(database..).find_map(|(number, keys)| {
            let from = if *number == database { beyond } else { Bound::Unbounded };
            let (key, _) = keys.range::<[u8], _>((from, Bound::Unbounded)).next()?;
            Some(Place { database: *number, key })
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Place<'_>, &T)> {
        self.databases.iter().flat_map(|(database, keys)| {
            keys.iter().map(|(key, value)| (Place { database: *database, key }, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn places_follow_one_another_until_there_is_none() {
        let mut places = Places::<u8>::new();
        assert_eq!(places.after(None), None);
        let there: [(Database, &[u8]); 5] = [(0, b""), (0, b"a"), (0, b"b"), (2, b""), (3, b"a")];
        there.iter().for_each(|(database, key)| *places.at(Place { database: *database, key }) = 1);
        let mut found = Vec::new();
        let mut last: Option<OwnedPlace> = None;
        while let Some(next) = places.after(last.as_ref().map(OwnedPlace::as_place)).map(OwnedPlace::from) {
            found.push((next.database, next.key.clone()));
            assert!(found.len() <= there.len(), "a walk that comes to a place twice");
            last = Some(next);
        }
        assert_eq!(found, there.map(|(database, key)| (database, Box::from(key))));
        let gone = Place { database: 1, key: b"z" };
        assert_eq!(places.after(Some(gone)), Some(Place { database: 2, key: b"" }));
    }
}
