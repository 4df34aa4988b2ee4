//! A load at random: clients that wait for locks, hold them, give up and leave, while the keys under them are released,
//! broken, renamed, moved, swapped, overwritten, flushed, restored and given a time to live, plainly, in transactions and
//! in scripts.
//!
//! One thread drives all of it, so the seed decides what is done and in which order it is sent.
#![allow(dead_code)] // each test file uses a part of it
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::errors::show;
use crate::support::{Client, PATIENCE, Random, Reply, Server, cmd, wait_until};

/// The keys that the load is about, but for those that scripts name.
pub(crate) const KEYS: [&str; 5] = ["k0", "k1", "k2", "k3", "k4"];

/// The databases they are in.
pub(crate) const DATABASES: usize = 3;

/// Clients that ask for locks.
const ASKERS: usize = 16;

const TOKENS: usize = 8;

/// What may be wrong with a command that meets a key in another state than it asks for.
const SOUND_ERRORS: [&str; 8] = [
    "no such key",
    "WRONGTYPE",
    "source and destination",
    "module key",
    "BUSYKEY",
    "DEADLOCK",
    "NOTOWNER",
    "WEIGHT must be",
];

/// The deepest level that is asked for.
const LEVELS: usize = 3;

/// A client, and whether it has asked for something that is not answered yet.
struct Asker {
    client: Client,
    id: i64,
    asks: bool,
    /// The key and the token it asked with.
    wants: [String; 2],
}

impl Asker {
    fn new(server: &Server, random: &mut Random) -> Self {
        let mut client = server.client();
        let id = client.id();
        client.ok(&format!("SELECT {}", random.below(DATABASES)));
        Self { client, id, asks: false, wants: [KEYS[0].into(), "t0".into()] }
    }

    /// Takes the reply if it has come; `false` when the connection has ended instead.
    fn look(&mut self, patience: Duration) -> bool {
        if !self.asks || !self.client.has_something_within(patience) {
            return true;
        }
        let Some(reply) = self.client.try_read().unwrap() else { return false };
        let sound = match &reply {
            Reply::Error(text) => [
                "UNBLOCKED ",
                "DEADLOCK ",
                "WRONGTYPE ",
                "READONLY ",
                "ERR SESSION cannot",
                "ERR WEIGHT must be",
            ]
            .iter()
            .any(|it| text.starts_with(it)),
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

/// The load on a server.
pub(crate) struct Load<'a> {
    server: &'a Server,
    random: &'a mut Random,
    leases_ms: &'static [usize],
    control: Client,
    askers: Vec<Asker>,
    /// What a DUMP gave, for RESTORE.
    dumped: Option<Vec<u8>>,
    may_be_demoted: bool,
    reloads: bool,
}

impl<'a> Load<'a> {
    /// Connects; nothing is asked yet. Leases are among those given.
    #[track_caller]
    pub(crate) fn new(server: &'a Server, random: &'a mut Random, leases_ms: &'static [usize]) -> Self {
        let control = server.client();
        let askers = (0..ASKERS).map(|_| Asker::new(server, random)).collect();
        Self {
            server,
            random,
            leases_ms,
            control,
            askers,
            dumped: None,
            may_be_demoted: false,
            reloads: false,
        }
    }

    /// From now on the server may become a replica. Nobody is unblocked by hand any more: Redis 7.0.15 panics at that while
    /// it pauses writes, as it does for a failover.
    pub(crate) fn expect_demotion(&mut self) {
        self.may_be_demoted = true;
    }

    /// From now on the server reads its own data anew now and then. It drops keys whose TTL is over, and tells no replica.
    /// There the stale value stands until the key is written again, and what minds a value in its way is lost: RENAMENX and
    /// MOVE, which Redis itself loses like this, are left out. So is what gives a lock a TTL: the stale lock would not go,
    /// as little as a stale list goes under LPUSH, but be joined by what the master grants.
    pub(crate) fn reload(&mut self) {
        self.reloads = true;
    }

    /// Does so many things.
    #[track_caller]
    pub(crate) fn run(&mut self, steps: usize) {
        for step in 0..steps {
            let at = self.random.below(ASKERS);
            match self.random.below(12) {
                0 => self.askers[at] = Asker::new(self.server, self.random),
                1 if step % 16 == 0 => self.evict(),
                1..=5 => self.disturb(),
                _ if !self.askers[at].asks => self.ask(at),
                _ => {}
            }
            if step % 8 == 0 {
                self.look();
            }
        }
    }

    /// Nobody who still asks ends by leaving: all must be answered. Those who hold what others wait for leave.
    #[track_caller]
    pub(crate) fn until_everybody_is_answered(mut self) {
        wait_until("everybody is answered", PATIENCE, || {
            self.askers.retain_mut(|asker| asker.look(Duration::from_millis(1)) && asker.asks);
            self.askers.is_empty()
        });
    }

    /// Takes the replies that have come.
    #[track_caller]
    pub(crate) fn look(&mut self) {
        for asker in &mut self.askers {
            if !asker.look(Duration::from_micros(50)) {
                *asker = Asker::new(self.server, self.random);
            }
        }
    }

    fn token(&mut self) -> String {
        format!("t{}", self.random.below(TOKENS))
    }

    fn level(&mut self) -> usize {
        1 + self.random.below(LEVELS)
    }

    /// Some of the keys and how many they are, of which one may stand there twice.
    fn several(&mut self) -> String {
        let keys: Vec<&str> = (0..2 + self.random.below(3)).map(|_| *self.random.pick(&KEYS)).collect();
        format!("{} {}", keys.len(), keys.join(" "))
    }

    /// A command about several keys, all of it but the keys given.
    fn on_several(&mut self, name: &str, rest: &str) -> Vec<Vec<u8>> {
        let command = format!("{name} {} {rest}", self.several());
        command.split_ascii_whitespace().map(|word| word.as_bytes().to_vec()).collect()
    }

    fn lease_ms(&mut self) -> usize {
        *self.random.pick(self.leases_ms)
    }

    fn ask(&mut self, at: usize) {
        let limit = *self.random.pick(&[
            "",
            "",
            "SHARED",
            "SHARED",
            "LIMIT 2",
            "LIMIT 1",
            "LIMIT 4 OWNER some",
            "LIMIT 4 WEIGHT 3",
            "SHARED WEIGHT 2",
        ]);
        let block = *self.random.pick(&["", "BLOCK 0", "BLOCK 0", "BLOCK 15", "BLOCK 300"]);
        let kept =
            *self.random.pick(&["", "", "SESSION", "LEVEL 1", "LEVEL 2", "LEVEL 3", "SESSION LEVEL 2"]);
        let (key, token) = (*self.random.pick(&KEYS), self.token());
        let lease = self.lease_ms();
        let keys = match self.random.below(3) {
            0 => format!("LOCK.MACQUIRE {}", self.several()),
            _ => format!("LOCK.ACQUIRE {key}"),
        };
        let command = format!("{keys} TOKEN {token} PX {lease} {limit} {block} {kept}");
        let asker = &mut self.askers[at];
        asker.client.send(&command.split_ascii_whitespace().collect::<Vec<_>>());
        (asker.asks, asker.wants) = (true, [key.to_owned(), token]);
    }

    /// A batch as the server gets it in one write, now and then a transaction.
    fn disturb(&mut self) {
        let count = 1 + self.random.below(5);
        let mut batch: Vec<Vec<Vec<u8>>> = (0..count).map(|_| self.disturbance()).collect();
        if self.random.below(3) == 0 {
            batch.insert(self.random.below(count + 1), cmd!["MULTI"].to_vec());
            batch.push(cmd!["EXEC"].to_vec());
        }
        let replies = self.control.pipeline(&batch);
        for (command, reply) in batch.iter().zip(&replies) {
            let is_known = |known: &[&str]| known.iter().any(|known| reply.error().contains(known));
            let sound = !reply.is_error()
                || is_known(&SOUND_ERRORS)
                || (self.may_be_demoted && is_known(&["READONLY", "EXECABORT"]));
            assert!(sound, "{}: {reply:?}", show(command));
        }
        if let Reply::Bulk(payload) = self.control.call(&["DUMP", *self.random.pick(&KEYS)]) {
            self.dumped = Some(payload);
        }
    }

    /// The server has to evict what it can, which is every key.
    fn evict(&mut self) {
        let policy = *self.random.pick(&["allkeys-random", "allkeys-lru", "volatile-ttl"]);
        let policy = format!("CONFIG SET maxmemory-policy {policy}");
        self.control.run_all(&[&policy, "CONFIG SET maxmemory 1", "PING", "CONFIG SET maxmemory 0"]);
    }

    fn disturbance(&mut self) -> Vec<Vec<u8>> {
        match self.random.below(5) {
            0 => self.on_clients(),
            1 | 2 => self.on_keys(),
            _ => self.on_locks(),
        }
    }

    fn on_locks(&mut self) -> Vec<Vec<u8>> {
        let (key, token) = (*self.random.pick(&KEYS), self.token());
        let (lease, level) = (self.lease_ms(), self.level());
        match self.random.below(23) {
            17 | 18 => self.on_several("LOCK.MRELEASE", &token),
            // Who waits for some of them does not any more.
            19 => {
                let [_, token] = self.askers[self.random.below(ASKERS)].wants.clone();
                self.on_several("LOCK.MRELEASE", &token)
            }
            20 => self.on_several("LOCK.MEXTEND", &format!("{token} PX {lease}")),
            21 => self.on_several("LOCK.MACQUIRE", &format!("TOKEN {token} PX {lease}")),
            22 => self.on_several("LOCK.MACQUIRE", &format!("TOKEN {token} PX {lease} SHARED LEVEL {level}")),
            15 => cmd!["LOCK.GUARD", key, token, "LOCK.RELEASE", key, token].to_vec(),
            16 => cmd!["LOCK.GUARD", key, token, "DEL", *self.random.pick(&KEYS)].to_vec(),
            0..=3 => cmd!["LOCK.RELEASE", key, token].to_vec(),
            4 => cmd!["LOCK.RELEASE", key, token, "LEVEL", level].to_vec(),
            // Who asked with this token may wait, and does not any more then.
            5 | 6 => {
                let [key, token] = self.askers[self.random.below(ASKERS)].wants.clone();
                cmd!["LOCK.RELEASE", key, token].to_vec()
            }
            7 => cmd!["LOCK.EXTEND", key, token, "PX", lease].to_vec(),
            8 => cmd!["LOCK.EXTEND", key, token].to_vec(),
            9 => cmd!["LOCK.BREAK", key].to_vec(),
            10 => cmd!["LOCK.ACQUIRE", key, "PX", lease].to_vec(),
            11 => cmd!["LOCK.ACQUIRE", key, "PX", lease, "TOKEN", token, "SHARED"].to_vec(),
            12 => cmd!["LOCK.ACQUIRE", key, "PX", lease, "TOKEN", token, "SHARED", "LEVEL", level].to_vec(),
            13 => cmd!["LOCK.ACQUIRE", key, "PX", lease, "TOKEN", token, "LIMIT", 1 + self.random.below(4)]
                .to_vec(),
            _ => {
                let script = "redis.call('LOCK.ACQUIRE', KEYS[1], 'TOKEN', ARGV[1], 'SHARED', 'PX', ARGV[2]);
                    return redis.call('LOCK.RELEASE', KEYS[1], ARGV[3])";
                cmd!["EVAL", script, 1, key, token, lease, self.token()].to_vec()
            }
        }
    }

    fn on_keys(&mut self) -> Vec<Vec<u8>> {
        let (key, other) = (*self.random.pick(&KEYS), *self.random.pick(&KEYS));
        let (one, two) = (self.random.below(DATABASES), self.random.below(DATABASES));
        match self.random.below(22) {
            0 => cmd!["DEL", key, other].to_vec(),
            1 => cmd!["UNLINK", key].to_vec(),
            2 | 3 => cmd!["RENAME", key, other].to_vec(),
            4 | 5 if self.reloads => cmd!["DEBUG", "RELOAD"].to_vec(),
            6 | 11..=15 if self.reloads => cmd!["SET", key, self.token(), "PX", 1].to_vec(),
            4 => cmd!["RENAMENX", key, other].to_vec(),
            5 | 6 => cmd!["MOVE", key, one].to_vec(),
            7 => cmd!["SWAPDB", one, two].to_vec(),
            8 if one == 0 => cmd!["FLUSHALL", *self.random.pick(&["SYNC", "ASYNC"])].to_vec(),
            8 => cmd!["FLUSHDB", *self.random.pick(&["SYNC", "ASYNC"])].to_vec(),
            9 => cmd!["SET", key, self.token(), "PX", 1 + self.random.below(30)].to_vec(),
            10 => cmd!["SET", key, self.token()].to_vec(),
            11 | 12 => cmd!["PEXPIRE", key, self.random.below(20)].to_vec(),
            // Some such times are over with the round, and some are taken off before.
            13 => cmd!["PEXPIRE", key, 20 + self.random.below(400)].to_vec(),
            14 => cmd!["PEXPIREAT", key, 1].to_vec(),
            15 => cmd!["EXPIREAT", key, now_s() + self.random.below(2)].to_vec(),
            16 => cmd!["PERSIST", key].to_vec(),
            17 => cmd!["COPY", key, other, "REPLACE"].to_vec(),
            // Long enough for leases to end under a server that cannot look.
            18 => cmd!["DEBUG", "SLEEP", "0.004"].to_vec(),
            19 | 20 => match self.dumped.take() {
                Some(payload) => {
                    let ttl_ms = *self.random.pick(if self.reloads { &[0] } else { &[0, 30] });
                    cmd!["RESTORE", key, ttl_ms, payload, "REPLACE"].to_vec()
                }
                None => cmd!["DEL", key].to_vec(),
            },
            _ => cmd!["SELECT", one].to_vec(),
        }
    }

    fn on_clients(&mut self) -> Vec<Vec<u8>> {
        let id = self.askers[self.random.below(ASKERS)].id;
        match self.random.below(3) {
            0 if !self.may_be_demoted => {
                cmd!["CLIENT", "UNBLOCK", id, *self.random.pick(&["TIMEOUT", "ERROR"])].to_vec()
            }
            1 => cmd!["CLIENT", "KILL", "ID", id].to_vec(),
            _ => cmd!["SELECT", self.random.below(DATABASES)].to_vec(),
        }
    }
}

/// Seconds since the epoch: EXPIREAT names a time of day.
fn now_s() -> usize {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    usize::try_from(since.as_secs()).unwrap()
}
