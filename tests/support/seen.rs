//! All that a server shows of its locks, to be compared with what another one shows.
#![allow(dead_code)] // each test file uses a part of it
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;

use crate::support::locks::field;
use crate::support::{PATIENCE, Reply, Server, apart_ms, cmd, wait_until};

/// A key and its database.
pub(crate) type At = (usize, Vec<u8>);

/// The keys of all databases; for a lock, its holds in their order.
#[derive(Debug)]
pub(crate) struct Seen {
    keys: BTreeMap<At, Vec<Hold>>,
    /// Locks whose leases are all over, and which the server has yet to end.
    lapsed: usize,
}

/// A hold as LOCK.INFO shows it.
#[derive(Debug)]
struct Hold {
    /// Owner, fence, limit, lease and level. Not the session: a connection is known to one server only.
    still: Vec<Reply>,
    lease_ms: i64,
    remaining_ms: i64,
    age_ms: i64,
    has_session: bool,
}

impl Hold {
    fn of(holder: &Reply) -> Self {
        let number = |name: &str| field(holder, name).int();
        Self {
            still: ["owner", "fence", "limit", "lease", "level"].map(|name| field(holder, name)).to_vec(),
            lease_ms: number("lease"),
            remaining_ms: number("remaining"),
            age_ms: number("age"),
            has_session: !field(holder, "session").is_null(),
        }
    }
}

impl Seen {
    /// Looks at every key.
    #[track_caller]
    pub(crate) fn on(server: &Server, databases: usize) -> Self {
        let mut client = server.client();
        let (mut keys, mut lapsed) = (BTreeMap::new(), 0);
        for database in 0..databases {
            client.ok(&format!("SELECT {database}"));
            for key in client.run("KEYS *").items().iter().map(Reply::bytes) {
                let info = client.call(&[b"LOCK.INFO".to_vec(), key.clone()]);
                let holds = match &info {
                    Reply::Error(_) => Vec::new(),
                    info if info.is_null() => {
                        lapsed += 1;
                        Vec::new()
                    }
                    info => field(info, "holders").items().iter().map(Hold::of).collect(),
                };
                keys.insert((database, key), holds);
            }
        }
        Self { keys, lapsed }
    }

    /// How many holds there are.
    pub(crate) fn holds(&self) -> usize {
        self.keys.values().map(Vec::len).sum()
    }

    /// The same without the holds whose leases are below `brief_ms`. Where connections keep them they last, but a replica,
    /// which hears of each extension a little later, does not show them all the time.
    pub(crate) fn without_brief(mut self, brief_ms: i64) -> Self {
        self.keys.values_mut().for_each(|holds| holds.retain(|hold| hold.lease_ms >= brief_ms));
        self
    }

    /// Whether a hold will end soon by itself, or has to.
    fn is_to_change(&self, brief_ms: i64) -> bool {
        let is_brief = |hold: &Hold| hold.lease_ms < brief_ms && !hold.has_session;
        self.lapsed > 0 || self.keys.values().flatten().any(is_brief)
    }

    /// Every key has the same holds with the same fences, limits, leases, levels, labels and order.
    #[track_caller]
    pub(crate) fn assert_same_but_for_times(&self, original: &Self, what: &str) {
        let places = |seen: &Self| seen.keys.keys().cloned().collect::<Vec<At>>();
        assert_eq!(places(self), places(original), "{what}: keys");
        for ((at, holds), originals) in self.keys.iter().zip(original.keys.values()) {
            let still = |holds: &[Hold]| holds.iter().map(|hold| hold.still.clone()).collect::<Vec<_>>();
            assert_eq!(still(holds), still(originals), "{what}: {at:?}");
        }
    }

    /// The same, and what is left of a lease is no less on this copy, which was looked at before the original, and no more
    /// than all of it.
    #[track_caller]
    pub(crate) fn assert_copies(&self, original: &Self, what: &str) {
        self.assert_same_but_for_times(original, what);
        let originals = original.keys.values().flatten();
        for (hold, original) in self.keys.values().flatten().zip(originals) {
            let name = format!("{what}: {hold:?}, and the original {original:?}");
            let apart_ms = apart_ms(original.age_ms);
            assert!(hold.remaining_ms <= hold.lease_ms, "{name}");
            // Where a connection keeps the hold its lease may just have begun anew.
            assert!(
                original.has_session || hold.remaining_ms + apart_ms >= original.remaining_ms,
                "the copy would end early: {name}"
            );
            assert!(hold.age_ms <= original.age_ms + apart_ms, "the copy is older: {name}");
        }
    }
}

/// The digests of all keys that a client of this server can see, their TTLs included.
///
/// DEBUG DIGEST would also have keys in it whose TTL is over. A master drops those by DEBUG RELOAD without telling its
/// replicas, which keep them until the key is written again. Nobody sees them there, and they are Redis's own affair.
#[track_caller]
pub(crate) fn digests(server: &Server, databases: usize) -> BTreeMap<At, Reply> {
    let mut client = server.client();
    let mut digests = BTreeMap::new();
    for database in 0..databases {
        client.ok(&format!("SELECT {database}"));
        for key in client.run("KEYS *").items().iter().map(Reply::bytes) {
            let digest = client.call(&cmd!["DEBUG", "DIGEST-VALUE", key]);
            digests.insert((database, key), digest);
        }
    }
    digests
}

/// Waits until nothing on this server ends by itself any more: no lease below `brief_ms`, no key with a time to live of
/// the server's own. Strings count as locks no more from now on, and stay.
#[track_caller]
pub(crate) fn settle(server: &Server, databases: usize, brief_ms: i64) {
    let mut client = server.client();
    client.ok("CONFIG SET lock.adopt-strings no");
    for database in 0..databases {
        client.ok(&format!("SELECT {database}"));
        for key in client.run("KEYS *").items().iter().map(Reply::bytes) {
            if client.call(&cmd!["TYPE", key.as_slice()]) == Reply::Simple("string".into()) {
                client.call(&cmd!["PERSIST", key.as_slice()]);
            }
        }
    }
    wait_until("what is brief has ended", PATIENCE, || {
        let keyspace = client.run("INFO keyspace").text();
        keyspace.matches("expires=").count() == keyspace.matches("expires=0").count()
            && !Seen::on(server, databases).is_to_change(brief_ms)
    });
}
