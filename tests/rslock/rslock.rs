//! The crate rslock, which locks with SET NX and scripts, and the commands LOCK.* on the same keys, with
//! `lock.adopt-strings`: never two holders, as `lock-checker` judges it. `make test-rslock`.
//!
//! `REDIS_LOCK_SEED` repeats the choices, `REDIS_LOCK_SECONDS` is how long it goes on (5).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "../support/mod.rs"]
mod support;

use std::env;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lock_checker::notation::Record;
use lock_checker::{check, excerpt};
use rslock::LockManager;

use crate::support::{Client, Random, Reply, Server, cmd};

const THREADS_OF_A_KIND: u64 = 4;
const KEYS: [&str; 3] = ["a", "b", "c"];
const TERMS: &str = "terms fences=one-sequence patience=5000.000 claim=5000.000 writes=kept errors=";

/// What was asked and told, in the notation of the checker.
struct Recorder {
    began: Instant,
    lines: Mutex<String>,
    connections: AtomicU64,
}

impl Recorder {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            lines: Mutex::new(format!("{TERMS}\n")),
            connections: AtomicU64::new(0),
        }
    }

    fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64() * 1000.0
    }

    fn connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    fn write(&self, sent: f64, connection: u64, ask: &str, answer: &str) {
        let answered = self.now();
        let mut lines = self.lines.lock().unwrap();
        writeln!(lines, "{sent:12.3} {answered:12.3}  c{connection}.0  n0    {ask} => {answer}").unwrap();
    }
}

/// One thread that works until the end.
struct Worker<'a> {
    recorder: &'a Recorder,
    server: &'a Server,
    random: Random,
    end: Instant,
    name: u64,
}

impl Worker<'_> {
    fn lease_ms(&mut self) -> u64 {
        100 + self.random.below(500) as u64
    }

    fn work(&mut self) {
        thread::sleep(Duration::from_millis(self.random.below(30) as u64));
    }

    fn key(&mut self) -> &'static str {
        KEYS[self.random.below(KEYS.len())]
    }

    /// A request of LOCK.* and its answer as the checker names it.
    fn ask(&self, client: &mut Client, connection: u64, command: &[Vec<u8>], ask: &str) -> Reply {
        let sent = self.recorder.now();
        let reply = client.call(command);
        let answer = match &reply {
            Reply::Array(grant) if grant.len() == 2 => format!("granted {}", grant[1].int()),
            Reply::Array(seen) => format!("held {} {}", seen[0].int(), seen[1].int()),
            Reply::Int(number) => (if *number == 1 { "yes" } else { "no" }).to_owned(),
            other if other.is_null() => "null".to_owned(),
            other => panic!("{ask}: {other:?}"),
        };
        self.recorder.write(sent, connection, ask, &answer);
        reply
    }

    /// A client of the module. Returns how often it was granted a lock.
    fn run_new(&mut self) -> usize {
        let (mut client, connection) = (self.server.client(), self.recorder.connection());
        let (mut granted, mut turn) = (0, 0);
        while Instant::now() < self.end {
            let (key, lease_ms, token) = (self.key(), self.lease_ms(), format!("new{}-{turn}", self.name));
            turn += 1;
            let block_ms = 1 + self.random.below(200);
            let command =
                cmd!["LOCK.ACQUIRE", key, "TOKEN", token.as_str(), "PX", lease_ms, "BLOCK", block_ms];
            let ask = format!("acquire {key} {token} limit=1 lease={lease_ms} block={block_ms}");
            if !self.ask(&mut client, connection, &command, &ask).is_null() {
                granted += 1;
                self.work();
            }
            if self.random.below(10) > 0 {
                let command = cmd!["LOCK.RELEASE", key, token.as_str()];
                self.ask(&mut client, connection, &command, &format!("release {key} {token}"));
            }
            self.work();
        }
        granted
    }

    /// A client of rslock. Some of its locks are carried over to LOCK.*. Returns how many locks it got.
    async fn run_old(&mut self) -> usize {
        let (mut client, connection) = (self.server.client(), self.recorder.connection());
        let mut manager = LockManager::new(vec![format!("redis://{}/", self.server.address())]);
        manager.set_retry(20, Duration::from_millis(10));
        let mut granted = 0;
        while Instant::now() < self.end {
            let (key, lease_ms) = (self.key(), self.lease_ms());
            let sent = self.recorder.now();
            let Ok(lock) = manager.lock(key.as_bytes(), Duration::from_millis(lease_ms)).await else {
                continue;
            };
            // Twenty bytes of any kind.
            let token = lock.val.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
            let ask = format!("acquire {key} {token} limit=1 lease={lease_ms}");
            self.recorder.write(sent, self.recorder.connection(), &ask, "granted 0");
            granted += 1;
            self.work();
            match self.random.below(10) {
                0 => continue,
                1..4 => {
                    let lease_ms = self.lease_ms();
                    let command = cmd!["LOCK.EXTEND", key, lock.val.as_slice(), "PX", lease_ms];
                    let ask = format!("extend {key} {token} lease={lease_ms}");
                    self.ask(&mut client, connection, &command, &ask);
                    self.work();
                    let command = cmd!["LOCK.RELEASE", key, lock.val.as_slice()];
                    self.ask(&mut client, connection, &command, &format!("release {key} {token}"));
                    continue;
                }
                4..7 => {
                    let lease_ms = self.lease_ms();
                    let sent = self.recorder.now();
                    let extended = manager.extend(&lock, Duration::from_millis(lease_ms)).await;
                    let answer = if extended.is_ok() { "yes" } else { "gave-up" };
                    let ask = format!("extend {key} {token} lease={lease_ms}");
                    self.recorder.write(sent, self.recorder.connection(), &ask, answer);
                    self.work();
                }
                _ => {}
            }
            // It does not say what came of it.
            let sent = self.recorder.now();
            manager.unlock(&lock).await;
            self.recorder.write(
                sent,
                self.recorder.connection(),
                &format!("release {key} {token}"),
                "gave-up",
            );
            self.work();
        }
        granted
    }
}

#[test]
fn clients_of_both_kinds_exclude_each_other() {
    let server = Server::builder().config("lock.adopt-strings yes").start();
    let mut seeds = Random::from_environment();
    let seconds = env::var("REDIS_LOCK_SECONDS").map_or(5, |seconds| seconds.parse().unwrap());
    let recorder = Recorder::new();
    let end = Instant::now() + Duration::from_secs(seconds);
    let counts: Vec<(usize, usize)> = thread::scope(|scope| {
        let work = |name: u64, is_old: bool, random: Random| {
            let mut worker = Worker { recorder: &recorder, server: &server, random, end, name };
            if is_old {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                (runtime.block_on(worker.run_old()), 0)
            } else {
                (0, worker.run_new())
            }
        };
        let started: Vec<_> = (0..2 * THREADS_OF_A_KIND)
            .map(|name| {
                let random = Random::from_seed(seeds.next());
                scope.spawn(move || work(name, name < THREADS_OF_A_KIND, random))
            })
            .collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (old, new) = counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    let text = recorder.lines.into_inner().unwrap();
    let record: Record = text.parse().unwrap();
    let violations = check(&record.history, &record.terms);
    println!("{old} grants to rslock, {new} to LOCK.ACQUIRE, {} violations", violations.len());
    let shown: Vec<String> =
        violations.iter().take(5).map(|violation| excerpt::show(&record.history, violation)).collect();
    assert!(violations.is_empty(), "{}", shown.join("\n"));
    let least = usize::try_from(seconds).unwrap() * 5;
    assert!(old > least && new > least, "it has shown nothing");
}
