//! A stock of locks of every kind in several databases, what is seen of it, and whether it is the same elsewhere and
//! later.
#![allow(dead_code)] // each test file uses a part of it
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::time::{Duration, Instant};

use crate::support::locks::{field, standing};
use crate::support::{Client, PATIENCE, Reply, Server, apart_ms, cmd, ok_grant, wait_until};

/// The databases the stock is in.
pub(crate) const DATABASES: [u16; 3] = [0, 3, 15];

/// More holds than fit one command of a rewritten append-only file.
const CROWD: usize = 300;

struct Kept {
    database: u16,
    key: Vec<u8>,
    tokens: Vec<Vec<u8>>,
}

/// Locks that somebody holds, for ten minutes and more.
pub(crate) struct Stock {
    locks: Vec<Kept>,
    /// The highest fence among them.
    pub(crate) highest_fence: i64,
}

/// What a server says of a stock.
pub(crate) struct View {
    began: Instant,
    ended: Instant,
    sizes: Vec<Reply>,
    locks: Vec<LockView>,
}

#[derive(Debug)]
struct LockView {
    name: String,
    standing: Reply,
    fences: Vec<i64>,
    holds: Vec<HoldView>,
}

#[derive(Debug)]
struct HoldView {
    lease: i64,
    remaining: i64,
    check: Vec<i64>,
}

impl Stock {
    /// Takes them all.
    #[track_caller]
    pub(crate) fn lay_in(client: &mut Client) -> Self {
        let mut stock = Self { locks: Vec::new(), highest_fence: 0 };
        for database in DATABASES {
            select(client, database);
            stock.lay_in_here(client, database);
        }
        select(client, 0);
        stock
    }

    #[track_caller]
    fn lay_in_here(&mut self, client: &mut Client, database: u16) {
        let binary: &[u8] = b"\0lock\r\n%s%n\xff";
        let label = [b'o'; 255];
        let long_token = [0xfe; 255];
        let ten_minutes = 600_000;
        let mut take = |key: &[u8], rest: &[&[Vec<u8>]]| {
            let grants = rest.iter().map(|options| {
                let acquire = [&cmd!["LOCK.ACQUIRE", key][..], options].concat();
                ok_grant(client.call(&acquire))
            });
            let (tokens, fences): (Vec<_>, Vec<_>) = grants.unzip();
            self.highest_fence = fences.into_iter().fold(self.highest_fence, i64::max);
            self.locks.push(Kept { database, key: key.to_vec(), tokens });
        };
        take(b"made token", &[&cmd!["PX", ten_minutes]]);
        take(b"a", &[&cmd!["PX", ten_minutes, "TOKEN", "a"]]);
        take(b"", &[&cmd!["EX", 600, "TOKEN", "t", "OWNER", ""]]);
        take(binary, &[&cmd!["EX", 600, "TOKEN", b"\xff\0\r\n", "OWNER", b"\0\r\n%s%n\xff"]]);
        take(b"longest", &[&cmd!["PX", 86_400_000, "TOKEN", long_token, "OWNER", label]]);
        take(
            b"shared",
            &[
                &cmd!["SHARED", "PX", 900_000, "OWNER", "first"],
                &cmd!["SHARED", "PX", 700_000],
                &cmd!["SHARED", "PX", 800_000, "OWNER", label],
            ],
        );
        take(
            b"limited",
            &[
                &cmd!["LIMIT", 3, "PX", ten_minutes, "OWNER", "z"],
                &cmd!["LIMIT", 65_535, "PX", ten_minutes],
                &cmd!["SHARED", "PX", ten_minutes, "OWNER", "a"],
            ],
        );
        take(
            b"weighed",
            &[
                &cmd!["LIMIT", 9, "WEIGHT", 4, "PX", ten_minutes],
                &cmd!["SHARED", "WEIGHT", 5, "PX", 700_000, "OWNER", "heavy"],
            ],
        );
        if database == DATABASES[0] {
            let options = |n| cmd!["SHARED", "PX", 700_000, "TOKEN", format!("{n}")];
            let crowd: Vec<_> = (0..CROWD).map(options).collect();
            let crowd: Vec<&[Vec<u8>]> = crowd.iter().map(<[Vec<u8>; 5]>::as_slice).collect();
            take(b"crowd", &crowd);
        }
        self.lay_in_changed(client, database);
    }

    /// Locks that are no longer what they were when they were granted.
    #[track_caller]
    fn lay_in_changed(&mut self, client: &mut Client, database: u16) {
        let replies = client.run_all(&[
            "LOCK.ACQUIRE upgraded PX 600000 SHARED TOKEN a",
            "LOCK.ACQUIRE upgraded PX 700000 LIMIT 1 TOKEN a OWNER now-a-writer",
            "LOCK.ACQUIRE downgraded PX 600000 TOKEN a",
            "LOCK.ACQUIRE downgraded PX 700000 SHARED TOKEN a",
            "LOCK.ACQUIRE downgraded PX 600000 SHARED TOKEN b",
            "LOCK.ACQUIRE extended PX 60000 TOKEN a",
            "LOCK.EXTEND extended a PX 900000",
            "LOCK.ACQUIRE changed PX 600000 SHARED TOKEN a",
            "LOCK.ACQUIRE changed PX 600000 SHARED TOKEN b",
            "LOCK.RELEASE changed a",
            "LOCK.ACQUIRE changed PX 600000 SHARED TOKEN a",
            "LOCK.ACQUIRE went PX 600000 SHARED TOKEN a",
            "RENAME went came",
        ]);
        assert!(replies.iter().all(|reply| !reply.is_error() && !reply.is_null()), "{replies:?}");
        let keys: [(&str, &[&str]); 5] = [
            ("upgraded", &["a"]),
            ("downgraded", &["a", "b"]),
            ("extended", &["a"]),
            ("changed", &["b", "a"]),
            ("came", &["a"]),
        ];
        for (key, tokens) in keys {
            let tokens = tokens.iter().map(|token| token.as_bytes().to_vec()).collect();
            self.locks.push(Kept { database, key: key.as_bytes().to_vec(), tokens });
        }
        let fences = replies.iter().filter(|reply| matches!(reply, Reply::Array(_)));
        let fences = fences.map(|reply| ok_grant(reply.clone()).1);
        self.highest_fence = fences.fold(self.highest_fence, i64::max);
    }

    /// Asks a server about every lock of the stock and every token.
    #[track_caller]
    pub(crate) fn view(&self, client: &mut Client) -> View {
        let began = Instant::now();
        let sizes = DATABASES.map(|database| {
            select(client, database);
            client.run("DBSIZE")
        });
        let locks = self.locks.iter().map(|kept| kept.view(client)).collect();
        select(client, 0);
        View { began, ended: Instant::now(), sizes: sizes.to_vec(), locks }
    }
}

impl Kept {
    #[track_caller]
    fn view(&self, client: &mut Client) -> LockView {
        select(client, self.database);
        let name = format!("{} in {}", self.key.escape_ascii(), self.database);
        assert_eq!(client.call(&cmd!["LOCK.CHECK", self.key, "stranger"]), Reply::NullArray, "{name}");
        let info = client.call(&cmd!["LOCK.INFO", self.key]);
        assert_eq!(usize::try_from(field(&info, "held").int()), Ok(self.tokens.len()), "{name}");
        let holders = field(&info, "holders");
        // It shows the oldest hundred.
        let fences: Vec<i64> = self
            .tokens
            .iter()
            .map(|token| client.call(&cmd!["LOCK.CHECK", self.key, token]).items()[0].int())
            .collect();
        let holds = self.tokens.iter().zip(holders.items()).map(|(token, holder)| HoldView {
            lease: field(holder, "lease").int(),
            remaining: field(holder, "remaining").int(),
            check: client.call(&cmd!["LOCK.CHECK", self.key, token]).items().iter().map(Reply::int).collect(),
        });
        let holds = holds.collect();
        LockView { name, standing: standing(client, &self.key), fences, holds }
    }
}

impl View {
    /// The same holds with the same fences, limits, leases, counts, labels and order; what is left of a lease is no
    /// less than before, but for the time that passed, and no more than was granted.
    #[track_caller]
    pub(crate) fn assert_is_later_than(&self, before: &Self) {
        assert_eq!(self.sizes, before.sizes);
        let passed = milliseconds(self.ended - before.began);
        assert_eq!(self.locks.len(), before.locks.len());
        for (now, was) in self.locks.iter().zip(&before.locks) {
            assert_eq!((&now.name, &now.standing, &now.fences), (&was.name, &was.standing, &was.fences));
            for (hold, was) in now.holds.iter().zip(&was.holds) {
                let name = &now.name;
                assert_eq!(hold.check[0], was.check[0], "{name}: the fence of a token");
                assert!(hold.remaining <= hold.lease, "{name}: {hold:?}");
                let least = |was: i64| was - passed - apart_ms(passed);
                assert!(hold.remaining >= least(was.remaining), "{name}: {hold:?} {was:?} {passed} ms");
                assert!(hold.check[1] <= hold.remaining, "{name}: {hold:?}");
                assert!(hold.check[1] >= least(was.check[1]), "{name}: {hold:?} {was:?} {passed} ms");
            }
        }
    }
}

/// Waits until two servers hold the same data. Leases that end meanwhile end on both.
#[track_caller]
pub(crate) fn agree(one: &Server, other: &Server) {
    let digest = |server: &Server| server.client().run("DEBUG DIGEST").text();
    wait_until("the digests agree", PATIENCE, || digest(one) == digest(other));
}

/// Turns to a database.
#[track_caller]
pub(crate) fn select(client: &mut Client, database: u16) {
    client.ok(&format!("SELECT {database}"));
}

fn milliseconds(span: Duration) -> i64 {
    i64::try_from(span.as_micros().div_ceil(1_000)).unwrap()
}
