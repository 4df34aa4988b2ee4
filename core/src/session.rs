//! Connections: which are open, and which holds each keeps alive.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::mem;

use crate::fence::Fence;
use crate::key::{Database, DbKey, OwnedDbKey};

/// The id of a connection, as the server numbers them. An id is never used again.
pub type ClientId = u64;

/// What keeps a hold alive, and what becomes of the hold once it does so no longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session {
    /// The connection.
    pub client: ClientId,
    /// How long the hold stays at most once the connection has closed, in milliseconds. If it is 0, the hold ends at once.
    pub delay_ms: u64,
}

/// The key and the fence of a hold. Holds under several keys may have one fence.
pub type HoldId = (OwnedDbKey, Fence);

/// The open connections, and the holds that they keep alive.
///
/// An entry says that the connection *may* keep the hold alive. Code that acts on it looks at the lock first. Every
/// hold that a connection does keep alive has an entry. If a connection with very many holds closes, its entries are
/// taken out bit by bit.
#[derive(Debug, Default)]
pub struct SessionIndex {
    open: BTreeSet<ClientId>,
    holds: BTreeSet<(ClientId, OwnedDbKey, Fence)>,
    /// Connections that have closed, and may still have entries.
    closed: BTreeSet<ClientId>,
}

impl SessionIndex {
    /// No connection.
    pub const fn new() -> Self {
        Self { open: BTreeSet::new(), holds: BTreeSet::new(), closed: BTreeSet::new() }
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.holds.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }

    /// A connection has been opened.
    pub(crate) fn opened(&mut self, client: ClientId) {
        self.open.insert(client);
    }

    /// Whether a client is an open connection that was opened after the module was loaded. The clients of scripts,
    /// functions and other modules are no connections.
    pub fn is_open(&self, client: ClientId) -> bool {
        self.open.contains(&client)
    }

    /// A connection was closed. Its entries must be taken out, see [`SessionIndex::take_left`].
    pub(crate) fn closed(&mut self, client: ClientId) {
        self.open.remove(&client);
        if self.holds_of(client).next().is_some() {
            self.closed.insert(client);
        }
    }

    /// Whether there may be holds of connections that have closed.
    pub(crate) fn has_left(&self) -> bool {
        !self.closed.is_empty()
    }

    /// Takes out entries of closed connections, at most `at_most`.
    pub(crate) fn take_left(&mut self, at_most: usize) -> Vec<(ClientId, HoldId)> {
        let mut taken = Vec::new();
        while let Some(client) = self.closed.first().copied() {
            let room = at_most.saturating_sub(taken.len());
            let its: Vec<_> = self.holds_of(client).take(room).cloned().collect();
            if its.len() < room {
                self.closed.remove(&client);
            }
            its.iter().for_each(|hold| {
                self.holds.remove(hold);
            });
            taken.extend(its.into_iter().map(|(client, key, fence)| (client, (key, fence))));
            if taken.len() == at_most {
                break;
            }
        }
        taken
    }

    fn holds_of(&self, client: ClientId) -> impl Iterator<Item = &(ClientId, OwnedDbKey, Fence)> {
        let first = (client, OwnedDbKey::first(), Fence::LOWEST);
        self.holds.range(first..).take_while(move |(other, ..)| *other == client)
    }

    /// A connection keeps a hold alive from now on.
    pub(crate) fn keeps(&mut self, client: ClientId, key: DbKey<'_>, fence: Fence) {
        self.holds.insert((client, key.into(), fence));
    }

    /// A connection does not keep a hold alive any more: the hold has ended, or another connection keeps it.
    pub(crate) fn lets_go(&mut self, client: ClientId, key: DbKey<'_>, fence: Fence) {
        self.holds.remove(&(client, key.into(), fence));
    }

    /// A lock has come to stand under a key. Connections keep these holds of it alive.
    pub(crate) fn arrived(&mut self, key: DbKey<'_>, kept: impl Iterator<Item = (ClientId, Fence)>) {
        kept.for_each(|(client, fence)| self.keeps(client, key, fence));
    }

    /// A lock has left its key. Connections kept these holds of it alive.
    pub(crate) fn departed(&mut self, key: DbKey<'_>, kept: impl Iterator<Item = (ClientId, Fence)>) {
        if self.is_empty() {
            return;
        }
        let mut noted = (0, OwnedDbKey::from(key), Fence::LOWEST);
        for (client, fence) in kept {
            (noted.0, noted.2) = (client, fence);
            self.holds.remove(&noted);
        }
    }

    /// A database has been emptied, or all.
    pub(crate) fn flushed(&mut self, database: Option<Database>) {
        match database {
            Some(database) => self.holds.retain(|(_, key, _)| key.as_key().database != database),
            None => self.holds.clear(),
        }
        if self.holds.is_empty() {
            self.closed.clear();
        }
    }

    /// Two databases were swapped.
    pub(crate) fn swapped(&mut self, one: Database, other: Database) {
        let holds = mem::take(&mut self.holds);
        self.holds =
            holds.into_iter().map(|(client, key, fence)| (client, key.swapped(one, other), fence)).collect();
    }

    /// No connection keeps anything alive any more. Returns the keys of the holds that one did.
    pub(crate) fn end_all(&mut self) -> BTreeSet<OwnedDbKey> {
        self.closed.clear();
        mem::take(&mut self.holds).into_iter().map(|(_, key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    const A: DbKey<'_> = DbKey { database: 0, key: b"a" };
    const B: DbKey<'_> = DbKey { database: 3, key: b"b" };

    fn fence(number: u64) -> Fence {
        let Some(fence) = Fence::new(number) else { panic!("a fence") };
        fence
    }

    #[test]
    fn a_connection_that_closes_leaves_every_hold_that_it_kept_alive() {
        let mut sessions = SessionIndex::new();
        sessions.opened(7);
        sessions.keeps(7, A, fence(1));
        sessions.keeps(8, A, fence(2));
        sessions.keeps(7, B, fence(3));
        sessions.keeps(6, A, fence(4));
        sessions.lets_go(8, A, fence(2));
        sessions.closed(8);
        assert!(!sessions.has_left());
        assert!(sessions.is_open(7));
        sessions.closed(7);
        assert!(!sessions.is_open(7));
        assert_eq!(sessions.take_left(9), [(7, (A.into(), fence(1))), (7, (B.into(), fence(3)))]);
        assert!(!sessions.has_left());
        sessions.closed(6);
        assert_eq!(sessions.take_left(9), [(6, (A.into(), fence(4)))]);
        assert!(sessions.is_empty());
    }

    #[test]
    fn what_closed_connections_leave_is_taken_out_bit_by_bit() {
        let mut sessions = SessionIndex::new();
        for number in 1..=4 {
            sessions.keeps(7 + number % 2, A, fence(number));
        }
        sessions.closed(8);
        sessions.closed(7);
        let taken: Vec<Vec<u64>> = (0..3)
            .map(|_| sessions.take_left(2).into_iter().map(|(_, (_, fence))| fence.get()).collect())
            .collect();
        assert_eq!(taken, [vec![2, 4], vec![1, 3], vec![]]);
        assert!(!sessions.has_left());
        sessions.keeps(9, A, fence(5));
        sessions.closed(9);
        assert!(sessions.take_left(0).is_empty());
        assert!(sessions.has_left());
        sessions.flushed(None);
        assert!(!sessions.has_left());
    }

    #[test]
    fn nothing_is_left_of_a_database_that_is_emptied() {
        let mut sessions = SessionIndex::new();
        sessions.keeps(7, A, fence(1));
        sessions.keeps(7, B, fence(2));
        sessions.flushed(Some(0));
        sessions.swapped(3, 5);
        let moved = DbKey { database: 5, ..B };
        assert_eq!(sessions.end_all(), [moved.into()].into());
        sessions.keeps(7, A, fence(1));
        sessions.flushed(None);
        assert_eq!(sessions.len(), 0);
    }
}
