//! Connections: which are open, and which holds each keeps alive.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::mem;

use crate::fence::Fence;
use crate::key::{Database, DbKey, OwnedDbKey};
use crate::lock::Lock;

/// Names a connection, as the server numbers them. A number is never used again.
pub type ClientId = u64;

/// A hold, wherever it stands: by its key and its fence. Holds under several keys may have one fence.
pub type HoldId = (OwnedDbKey, Fence);

/// The open connections, and the holds that they keep alive.
///
/// That a hold is noted here says that the connection *may* keep it alive: whoever acts on it looks at the lock first. Every
/// hold that a connection does keep alive is noted.
#[derive(Debug, Default)]
pub struct SessionIndex {
    open: BTreeSet<ClientId>,
    holds: BTreeSet<(ClientId, OwnedDbKey, Fence)>,
}

impl SessionIndex {
    /// No connection.
    pub const fn new() -> Self {
        Self { open: BTreeSet::new(), holds: BTreeSet::new() }
    }

    /// How many holds are noted.
    pub fn len(&self) -> usize {
        self.holds.len()
    }

    /// Whether no hold is noted.
    pub fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }

    /// A connection has been opened.
    pub(crate) fn opened(&mut self, client: ClientId) {
        self.open.insert(client);
    }

    /// Whether a client is a connection that is open, and was not open before the module was loaded. Scripts, functions
    /// and other modules send commands by clients that are none.
    pub fn is_open(&self, client: ClientId) -> bool {
        self.open.contains(&client)
    }

    /// A connection has been closed. Returns the holds that it kept alive.
    pub(crate) fn closed(&mut self, client: ClientId) -> Vec<HoldId> {
        self.open.remove(&client);
        let later = self.holds.split_off(&(client, OwnedDbKey::first(), Fence::LOWEST));
        let (its, others) = later.into_iter().partition(|(other, ..)| *other == client);
        self.holds.extend::<BTreeSet<_>>(others);
        let its: BTreeSet<_> = its;
        its.into_iter().map(|(_, key, fence)| (key, fence)).collect()
    }

    /// A connection keeps a hold alive from now on.
    pub(crate) fn keeps(&mut self, client: ClientId, key: DbKey<'_>, fence: Fence) {
        self.holds.insert((client, key.into(), fence));
    }

    /// A connection does not keep a hold alive any more, since it has ended or another connection does.
    pub(crate) fn lets_go(&mut self, client: ClientId, key: DbKey<'_>, fence: Fence) {
        self.holds.remove(&(client, key.into(), fence));
    }

    /// A lock has come to stand under a key.
    pub(crate) fn arrived(&mut self, key: DbKey<'_>, lock: &Lock) {
        for hold in lock.holds() {
            if let Some(client) = hold.session() {
                self.keeps(client, key, hold.fence());
            }
        }
    }

    /// A lock has left its key.
    pub(crate) fn departed(&mut self, key: DbKey<'_>, lock: &Lock) {
        if self.is_empty() {
            return;
        }
        for hold in lock.holds() {
            if let Some(client) = hold.session() {
                self.lets_go(client, key, hold.fence());
            }
        }
    }

    /// A database has been emptied, or all.
    pub(crate) fn flushed(&mut self, database: Option<Database>) {
        match database {
            Some(database) => self.holds.retain(|(_, key, _)| key.as_key().database != database),
            None => self.holds.clear(),
        }
    }

    /// Two databases have changed places, and what they hold has gone with them.
    pub(crate) fn swapped(&mut self, one: Database, other: Database) {
        let holds = mem::take(&mut self.holds);
        self.holds =
            holds.into_iter().map(|(client, key, fence)| (client, key.swapped(one, other), fence)).collect();
    }

    /// No connection keeps anything alive any more. Returns the keys of the holds that one did.
    pub(crate) fn end_all(&mut self) -> BTreeSet<OwnedDbKey> {
        mem::take(&mut self.holds).into_iter().map(|(_, key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(sessions.closed(8), []);
        assert!(sessions.is_open(7));
        assert_eq!(sessions.closed(7), [(A.into(), fence(1)), (B.into(), fence(3))]);
        assert!(!sessions.is_open(7));
        assert_eq!(sessions.closed(6), [(A.into(), fence(4))]);
        assert!(sessions.is_empty());
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
