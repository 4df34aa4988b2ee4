//! Master, replica, a replica of that, and the append-only file agree after whatever the master was asked.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "support/stock.rs"]
mod stock;
mod support;

use stock::{agree, select};
use support::locks::{acquire, field, standing};
use support::{Client, PATIENCE, Pair, Random, Reply, Server, cmd, errors, wait_until};

/// Commands of every kind over a few keys, tokens and databases, many leases so short that they end meanwhile.
struct Workload {
    random: Random,
    /// What a DUMP gave, for RESTORE.
    dumped: Option<Vec<u8>>,
}

impl Workload {
    const DATABASES: usize = 3;
    const KEYS: usize = 6;

    fn key(&mut self) -> String {
        format!("k{}", self.random.below(Self::KEYS))
    }

    fn lock_command(&mut self) -> Vec<Vec<u8>> {
        let (key, token) = (self.key(), format!("t{}", self.random.below(4)));
        let lease = *self.random.pick(&[1, 5, 20, 50, 60_000]);
        match self.random.below(12) {
            0 => cmd!["LOCK.ACQUIRE", key, "PX", lease].to_vec(),
            1 | 2 => cmd!["LOCK.ACQUIRE", key, "PX", lease, "TOKEN", token].to_vec(),
            3 | 4 => cmd!["LOCK.ACQUIRE", key, "PX", lease, "TOKEN", token, "SHARED"].to_vec(),
            5 => {
                let limit = 1 + self.random.below(4);
                cmd!["LOCK.ACQUIRE", key, "PX", lease, "TOKEN", token, "LIMIT", limit, "OWNER", key].to_vec()
            }
            6 | 7 => cmd!["LOCK.RELEASE", key, token].to_vec(),
            8 => cmd!["LOCK.EXTEND", key, token, "PX", lease].to_vec(),
            9 => cmd!["LOCK.EXTEND", key, token].to_vec(),
            10 => cmd!["LOCK.BREAK", key].to_vec(),
            _ => {
                let script = "redis.call('LOCK.ACQUIRE', KEYS[1], 'TOKEN', ARGV[1], 'SHARED', 'PX', ARGV[2]);
                    return redis.call('LOCK.RELEASE', KEYS[1], ARGV[3])";
                cmd!["EVAL", script, 1, key, token, lease, "t0"].to_vec()
            }
        }
    }

    fn other_command(&mut self) -> Vec<Vec<u8>> {
        let (key, other) = (self.key(), self.key());
        let (one, two) = (self.random.below(Self::DATABASES), self.random.below(Self::DATABASES));
        match self.random.below(17) {
            0 => cmd!["DEL", key, other].to_vec(),
            1 => cmd!["UNLINK", key].to_vec(),
            2 | 3 => cmd!["RENAME", key, other].to_vec(),
            4 => cmd!["RENAMENX", key, other].to_vec(),
            5 | 6 => cmd!["MOVE", key, one].to_vec(),
            7 | 8 => cmd!["SWAPDB", one, two].to_vec(),
            9 if one == 0 => cmd!["FLUSHALL"].to_vec(),
            9 => cmd!["FLUSHDB", self.random.pick(&["SYNC", "ASYNC"])].to_vec(),
            10 => cmd!["SET", key, "value"].to_vec(),
            11 => cmd!["PEXPIRE", key, 10].to_vec(),
            12 => cmd!["PERSIST", key].to_vec(),
            13 => cmd!["COPY", key, other].to_vec(),
            // Long enough for leases to end under a server that cannot look.
            14 => cmd!["DEBUG", "SLEEP", "0.006"].to_vec(),
            15 => match &self.dumped {
                Some(payload) => cmd!["RESTORE", key, 0, payload, "REPLACE"].to_vec(),
                None => cmd!["DEL", key].to_vec(),
            },
            _ => cmd!["SELECT", one].to_vec(),
        }
    }

    fn command(&mut self) -> Vec<Vec<u8>> {
        if self.random.below(4) == 0 { self.other_command() } else { self.lock_command() }
    }

    /// A batch as the server gets it in one write, now and then a transaction.
    fn run(&mut self, client: &mut Client, count: usize) {
        let mut batch: Vec<Vec<Vec<u8>>> = (0..count).map(|_| self.command()).collect();
        if self.random.below(3) == 0 {
            batch.insert(count / 2, cmd!["MULTI"].to_vec());
            batch.push(cmd!["EXEC"].to_vec());
        }
        let replies = client.pipeline(&batch);
        for (command, reply) in batch.iter().zip(&replies) {
            let sound = !reply.is_error()
                || [
                    "no such key",
                    "WRONGTYPE",
                    "source and destination",
                    "not supported for this module key",
                    "BUSYKEY",
                ]
                .iter()
                .any(|known| reply.error().contains(known));
            assert!(sound, "{}: {reply:?}", errors::show(command));
        }
        let key = self.key();
        if let Reply::Bulk(payload) = client.call(&cmd!["DUMP", key]) {
            self.dumped = Some(payload);
        }
    }
}

#[test]
fn replicas_and_the_append_only_file_agree_with_their_master_whatever_it_is_asked() {
    let master = Server::builder().aof().config("aof-use-rdb-preamble no");
    let mut pair = Pair::start_with(master, Server::builder());
    let second = Server::builder().replica_of(&pair.replica).start();
    let mut workload = Workload { random: Random::from_environment(), dumped: None };
    let mut client = pair.master.client();
    for round in 0..60 {
        workload.run(&mut client, 100);
        agree(&pair.master, &pair.replica);
        agree(&pair.replica, &second);
        if round % 5 == 4 {
            assert_no_lock_outlives_its_leases(&pair.master);
        }
        if round % 20 == 19 {
            // A restart of the link makes no difference, neither does reading everything anew; but for keys with a
            // time to live of the server's own: a reload drops them without a word to the replicas.
            pair.master.client().run("CLIENT KILL TYPE replica");
            wait_until("no key has a time to live", PATIENCE, || {
                let databases = client.run("INFO keyspace").text();
                databases.matches("expires=").count() == databases.matches("expires=0").count()
            });
            client.ok("DEBUG RELOAD");
        }
    }
    // In the end there is something to agree on.
    for database in 0..Workload::DATABASES {
        select(&mut client, u16::try_from(database).unwrap());
        (0..50).for_each(|_| drop(client.call(&workload.lock_command())));
        acquire(&mut client, "last SHARED TOKEN a PX 60000");
    }
    wait_until("the short leases have ended", PATIENCE, || {
        agree(&pair.master, &pair.replica);
        !standings(&pair.master).iter().any(is_brief)
    });
    agree(&pair.master, &second);
    let held = standings(&pair.master);
    assert!(held.iter().filter(|standing| !standing.is_null()).count() >= Workload::DATABASES, "{held:?}");
    for server in [&pair.replica, &second] {
        assert_eq!(standings(server), held);
    }
    client.ok("DEBUG LOADAOF");
    agree(&pair.master, &pair.replica);
    assert_eq!(standings(&pair.master), held);
    pair.master.assert_alive();
    pair.replica.assert_alive();
}

/// LOCK.INFO of every key, but for what moves with time.
#[track_caller]
fn standings(server: &Server) -> Vec<Reply> {
    let keys: Vec<String> = (0..Workload::KEYS).map(|n| format!("k{n}")).chain(["last".to_owned()]).collect();
    let mut client = server.client();
    let mut all = Vec::new();
    for database in 0..Workload::DATABASES {
        select(&mut client, u16::try_from(database).unwrap());
        all.extend(keys.iter().map(|key| standing(&mut client, key)));
    }
    all
}

/// Waits until every key there is holds something: a lock whose leases are over is gone once the server has ended them.
#[track_caller]
fn assert_no_lock_outlives_its_leases(server: &Server) {
    let mut client = server.client();
    wait_until("every lock that nobody holds is gone", PATIENCE, || {
        let mut keys = 0;
        for database in 0..Workload::DATABASES {
            select(&mut client, u16::try_from(database).unwrap());
            keys += client.run("DBSIZE").int();
        }
        let held = standings(server).into_iter().filter(|standing| !standing.is_null()).count();
        keys == i64::try_from(held).unwrap()
    });
}

/// Whether a lease is as short as those that end within the test.
fn is_brief(standing: &Reply) -> bool {
    let holders = if standing.is_null() || standing.is_error() {
        Vec::new()
    } else {
        field(standing, "holders").items().to_vec()
    };
    holders.iter().any(|holder| field(holder, "lease").int() < 1_000)
}
