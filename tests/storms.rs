//! Clients that wait, hold, and leave, while the keys under them are renamed, moved, swapped, overwritten, flushed and
//! restored, many at a time: each request is answered once, nobody is forgotten, and no lock outlives its holders.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod support;

use std::time::Duration;

use support::waiter::{blocked_clients, wait_blocked};
use support::{Builder, Client, PATIENCE, Pair, Random, Reply, Server, cmd, wait_until};

/// Clients that ask for locks.
const CLIENTS: usize = 16;

/// Steps of a storm.
const STEPS: usize = 1_500;

const KEYS: [&str; 3] = ["k0", "k1", "k2"];
const DATABASES: usize = 2;

/// The longest lease: all of them are over soon after the storm.
const LEASE_MS: usize = 60;

#[test]
fn a_storm_leaves_nothing_behind() {
    let mut server = Server::start();
    storm(&server);
    server.assert_alive();
}

#[test]
fn a_storm_over_a_replica_and_an_append_only_file_leaves_them_in_agreement() {
    let mut pair = Pair::start_with(Server::builder().aof(), Builder::default());
    storm(&pair.master);
    pair.wait_caught_up();
    let digest = |server: &Server| server.client().run("DEBUG DIGEST").text();
    wait_until("the digests agree", PATIENCE, || digest(&pair.master) == digest(&pair.replica));
    pair.master.client().ok("DEBUG LOADAOF");
    assert_eq!(digest(&pair.master), digest(&pair.replica));
    pair.master.assert_alive();
    pair.replica.assert_alive();
}

/// A client and whether it has asked for something that is not answered yet.
struct Asker {
    client: Client,
    id: i64,
    asks: bool,
}

impl Asker {
    fn new(server: &Server, random: &mut Random) -> Self {
        let mut client = server.client();
        let id = client.id();
        client.ok(&format!("SELECT {}", random.below(DATABASES)));
        Self { client, id, asks: false }
    }

    fn ask(&mut self, random: &mut Random) {
        let limit = random.pick(&["", "SHARED", "LIMIT 2", "LIMIT 1"]);
        let block = random.pick(&["", "BLOCK 0", "BLOCK 0", "BLOCK 15", "BLOCK 300"]);
        let session = random.pick(&["", "SESSION", "SESSION REENTRANT"]);
        let token = random.below(CLIENTS);
        let lease = 1 + random.below(LEASE_MS);
        let key = random.pick(&KEYS);
        let command = format!("LOCK.ACQUIRE {key} TOKEN t{token} PX {lease} {limit} {block} {session}");
        self.client.send(&command.split_ascii_whitespace().collect::<Vec<_>>());
        self.asks = true;
    }

    /// Takes the reply if it has come; `false` when the connection has ended instead.
    fn look(&mut self, patience: Duration) -> bool {
        if !self.asks {
            return true;
        }
        if !self.client.has_something_within(patience) {
            return true;
        }
        let Some(reply) = self.client.try_read().unwrap() else { return false };
        let sound = match &reply {
            Reply::Error(text) => {
                ["UNBLOCKED ", "DEADLOCK ", "WRONGTYPE "].iter().any(|it| text.starts_with(it))
            }
            Reply::Array(grant) => grant.len() == 2,
            other => other.is_null(),
        };
        assert!(sound, "{reply:?}");
        self.asks = false;
        // One who was killed after its reply is at its end.
        self.client.send(&["PING"]);
        match self.client.try_read().unwrap() {
            Some(next) => {
                assert_eq!(next, Reply::Simple("PONG".into()), "one reply was due, and after {reply:?} came");
                true
            }
            None => false,
        }
    }
}

/// What happens to the keys, and to a client that may be asking.
fn disturbance(random: &mut Random, ids: &[i64], dumped: &mut Vec<u8>) -> Vec<Vec<u8>> {
    let (key, other) = (*random.pick(&KEYS), *random.pick(&KEYS));
    let token = format!("t{}", random.below(CLIENTS));
    let id = random.pick(ids);
    match random.below(19) {
        0..=4 => cmd!["LOCK.RELEASE", key, token].to_vec(),
        5 => cmd!["LOCK.BREAK", key].to_vec(),
        6 => cmd!["DEL", key].to_vec(),
        7 => cmd!["UNLINK", key].to_vec(),
        8 => cmd!["RENAME", key, other].to_vec(),
        9 => cmd!["MOVE", key, random.below(DATABASES)].to_vec(),
        10 => cmd!["SWAPDB", 0, 1].to_vec(),
        11 => cmd!["SET", key, "v", "PX", 1 + random.below(30)].to_vec(),
        12 => cmd![random.pick(&["FLUSHDB", "FLUSHALL"]), random.pick(&["SYNC", "ASYNC"])].to_vec(),
        13 => cmd!["PEXPIRE", key, random.below(20)].to_vec(),
        14 if !dumped.is_empty() => cmd!["RESTORE", key, 0, std::mem::take(dumped), "REPLACE"].to_vec(),
        15 => cmd!["CLIENT", "UNBLOCK", id, random.pick(&["TIMEOUT", "ERROR"])].to_vec(),
        16 => cmd!["CLIENT", "KILL", "ID", id].to_vec(),
        17 => cmd!["LOCK.ACQUIRE", key, "TOKEN", token, "PX", 1 + random.below(LEASE_MS)].to_vec(),
        _ => cmd!["SELECT", random.below(DATABASES)].to_vec(),
    }
}

fn disturb(client: &mut Client, random: &mut Random, askers: &[Asker], dumped: &mut Vec<u8>) {
    let ids: Vec<i64> = askers.iter().map(|asker| asker.id).collect();
    let count = 1 + random.below(5);
    let mut batch: Vec<Vec<Vec<u8>>> = (0..count).map(|_| disturbance(random, &ids, dumped)).collect();
    if random.below(3) == 0 {
        batch.insert(0, cmd!["MULTI"].to_vec());
        batch.push(cmd!["EXEC"].to_vec());
    }
    client.pipeline(&batch);
    if let Reply::Bulk(payload) = client.call(&["DUMP", *random.pick(&KEYS)]) {
        *dumped = payload;
    }
}

#[track_caller]
fn storm(server: &Server) {
    let mut random = Random::from_environment();
    let mut client = server.client();
    let mut dumped = Vec::new();
    let mut askers: Vec<Asker> = (0..CLIENTS).map(|_| Asker::new(server, &mut random)).collect();
    for step in 0..STEPS {
        let at = random.below(CLIENTS);
        let idle = !askers[at].asks;
        match random.below(12) {
            0 => askers[at] = Asker::new(server, &mut random),
            1..=5 => disturb(&mut client, &mut random, &askers, &mut dumped),
            _ if idle => askers[at].ask(&mut random),
            _ => {}
        }
        if step % 8 == 0 {
            for asker in &mut askers {
                if !asker.look(Duration::from_micros(50)) {
                    *asker = Asker::new(server, &mut random);
                }
            }
        }
    }
    calm(server, client, askers);
}

/// After the storm all leases end, all sessions close, and with them all that was waited for.
#[track_caller]
fn calm(server: &Server, mut client: Client, mut askers: Vec<Asker>) {
    client.ok("FLUSHALL");
    // Nobody who still asks ends by leaving: all must be served. Those who hold what others wait for leave.
    wait_until("everybody is answered", PATIENCE, || {
        askers.retain_mut(|asker| asker.look(Duration::from_millis(1)) && asker.asks);
        askers.is_empty()
    });
    wait_blocked(server, 0);
    assert_eq!(blocked_clients(&mut client), 0);
    for database in 0..DATABASES {
        client.ok(&format!("SELECT {database}"));
        wait_until("every lease and session has ended", PATIENCE, || {
            let keys = client.run("KEYS *");
            keys.items().is_empty()
        });
        for key in KEYS {
            let grant = client.run(&format!("LOCK.ACQUIRE {key} TOKEN anybody"));
            support::ok_grant(grant);
            assert_eq!(support::waiter::waiting(&mut client, key), 0);
            assert_eq!(client.run(&format!("LOCK.RELEASE {key} anybody")), Reply::Int(1));
        }
    }
}
