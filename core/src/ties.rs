//! Which connections keep holds alive, and where: what has to be ended when one closes.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::mem;

use crate::place::{Database, OwnedPlace, Place};
use crate::queue::ClientId;

/// The ties between connections and places. A tie says that there *may* be a hold of that connection at that place;
/// whoever acts on it looks at the lock first.
#[derive(Debug, Default)]
pub struct Ties {
    by_client: BTreeSet<(ClientId, OwnedPlace)>,
    by_place: BTreeSet<(OwnedPlace, ClientId)>,
}

impl Ties {
    /// No ties.
    pub const fn new() -> Self {
        Self { by_client: BTreeSet::new(), by_place: BTreeSet::new() }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_client.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_client.len()
    }

    /// Ties exactly these connections to this place.
    pub fn set(&mut self, place: Place<'_>, clients: impl IntoIterator<Item = ClientId>) {
        let place = OwnedPlace::from(place);
        let here = (place.clone(), ClientId::MIN)..=(place.clone(), ClientId::MAX);
        let old: Vec<ClientId> = self.by_place.range(here).map(|(_, client)| *client).collect();
        for client in old {
            self.by_place.remove(&(place.clone(), client));
            self.by_client.remove(&(client, place.clone()));
        }
        for client in clients {
            self.by_place.insert((place.clone(), client));
            self.by_client.insert((client, place.clone()));
        }
    }

    /// Cuts all ties, and returns the places they went to.
    pub fn clear(&mut self) -> BTreeSet<OwnedPlace> {
        mem::take(self).by_place.into_iter().map(|(place, _)| place).collect()
    }

    /// Two databases have changed places, and what they hold has gone with them.
    pub fn swap(&mut self, one: Database, other: Database) {
        let ties = mem::take(&mut self.by_client);
        self.by_client =
            ties.into_iter().map(|(client, place)| (client, place.swapped(one, other))).collect();
        self.by_place = self.by_client.iter().map(|(client, place)| (place.clone(), *client)).collect();
    }

    /// Cuts all ties of a connection, and returns the places they went to.
    pub fn cut(&mut self, client: ClientId) -> Vec<OwnedPlace> {
        let first = OwnedPlace::from(Place { database: i32::MIN, key: &[] });
        let ties = self.by_client.range((client, first)..).take_while(|(other, _)| *other == client);
        let places: Vec<OwnedPlace> = ties.map(|(_, place)| place.clone()).collect();
        for place in &places {
            self.by_client.remove(&(client, place.clone()));
            self.by_place.remove(&(place.clone(), client));
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_closes_leaves_every_place_it_was_tied_to() {
        let (a, b) = (Place { database: 0, key: b"a" }, Place { database: 3, key: b"b" });
        let mut ties = Ties::new();
        ties.set(a, [7, 8]);
        ties.set(b, [7]);
        ties.set(a, [7]);
        assert_eq!(ties.cut(8), []);
        assert_eq!(ties.cut(7), [OwnedPlace::from(a), OwnedPlace::from(b)]);
        assert!(ties.is_empty());
        ties.set(a, [9]);
        ties.set(a, []);
        assert_eq!(ties.cut(9), []);
        ties.set(b, [7]);
        ties.set(a, [7, 8]);
        assert_eq!(ties.clear(), [OwnedPlace::from(a), OwnedPlace::from(b)].into());
        assert!(ties.is_empty());
    }
}
