//! Contended rounds without end, with clients that leave in every way: the lock has one holder at a time, and afterwards
//! memory, waiting clients and queues are what they were.
//!
//! `REDIS_LOCK_SOAK_ROUNDS` is how many rounds to run; without it as many as fit [`SPAN`]. `make soak` runs a hundred
//! thousand.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::locks::null;
use support::waiter::wait_blocked;
use support::{Client, PATIENCE, Random, Reply, Server, ok_grant, wait_until};

/// How long the rounds may take when their number is not given.
const SPAN: Duration = Duration::from_secs(6);

/// Rounds before memory is looked at for the first time: pools and tables of the server grow in them.
const WARM_UP: usize = 3_000;

/// Clients at work at a time.
const CLIENTS: usize = 8;

/// Locks they want.
const KEYS: usize = 3;

/// How far memory may be from where it was, once it has settled. What is forgotten grows with the rounds: 100 bytes in
/// each of ten thousand are more than this.
const SLACK_BYTES: i64 = 512 * 1024;

#[test]
fn after_many_contended_rounds_everything_is_back_where_it_was() {
    let mut server = Server::start();
    let mut random = Random::from_environment();
    let rounds: Option<usize> =
        std::env::var("REDIS_LOCK_SOAK_ROUNDS").ok().map(|text| text.parse().expect("a number of rounds"));
    Soak::run(&server, &mut random, WARM_UP, None);
    let before = settled_memory(&server);
    let deadline = rounds.is_none().then(|| Instant::now() + SPAN);
    let done = Soak::run(&server, &mut random, rounds.unwrap_or(usize::MAX), deadline);
    let after = settled_memory(&server);
    println!("{done} rounds, memory from {before} to {after} bytes");
    assert!(after - before < SLACK_BYTES, "{} bytes more after {done} rounds", after - before);
    server.assert_alive();
}

/// Who holds each lock, as its holders see it.
struct Lock {
    /// The last fence a holder saw while it held the lock, or 0 when nobody holds it.
    holder: AtomicI64,
    /// The highest fence a holder saw.
    last: Mutex<i64>,
}

struct Soak<'a> {
    server: &'a Server,
    locks: Vec<Lock>,
    left: AtomicUsize,
    done: AtomicUsize,
}

impl<'a> Soak<'a> {
    /// Runs rounds until there were that many or the time has come, and says how many. Nothing may be left of them.
    fn run(server: &'a Server, random: &mut Random, rounds: usize, deadline: Option<Instant>) -> usize {
        let locks = (0..KEYS).map(|_| Lock { holder: AtomicI64::new(0), last: Mutex::new(0) }).collect();
        let soak = Soak { server, locks, left: AtomicUsize::new(rounds), done: AtomicUsize::new(0) };
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                let (soak, random) = (&soak, Random::from_seed(random.next()));
                scope.spawn(move || soak.work(random, deadline));
            }
        });
        wait_blocked(server, 0);
        let mut client = server.client();
        wait_until("no lock is left", PATIENCE, || client.run("DBSIZE") == Reply::Int(0));
        soak.done.load(Ordering::SeqCst)
    }

    fn work(&self, mut random: Random, deadline: Option<Instant>) {
        let mut client = self.server.client();
        let mut control = self.server.client();
        while self.take_round(deadline) {
            client = self.round(client, &mut control, &mut random);
            self.done.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn take_round(&self, deadline: Option<Instant>) -> bool {
        let is_late = deadline.is_some_and(|deadline| Instant::now() > deadline);
        !is_late
            && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }

    /// One client wants one lock, with one of the ends there are.
    fn round(&self, mut client: Client, control: &mut Client, random: &mut Random) -> Client {
        let at = random.below(KEYS);
        let block = 1 + random.below(60);
        let kind = random.below(20);
        // Those who will leave without a word must not leave their lock behind.
        let session = if kind < 8 { "SESSION" } else { "" };
        let command = format!("LOCK.ACQUIRE soak{at} PX 60000 BLOCK {block} {session}");
        let words: Vec<&str> = command.split_ascii_whitespace().collect();
        match kind {
            0 | 1 => {
                client.send(&words);
                return self.server.client();
            }
            2 | 3 => {
                let id = client.id();
                client.send(&words);
                control.run(&format!("CLIENT KILL ID {id}"));
                return self.server.client();
            }
            4 | 5 => {
                let id = client.id();
                client.send(&words);
                control.run(&format!("CLIENT UNBLOCK {id} {}", random.pick(&["TIMEOUT", "ERROR"])));
            }
            _ => client.send(&words),
        }
        let reply = client.read();
        if reply == null(&client) || reply.is_error() {
            return client;
        }
        let (token, fence) = ok_grant(reply);
        self.enter(at, fence);
        thread::sleep(Duration::from_micros(random.next() % 1_000));
        self.leave(at, fence);
        if kind == 6 || kind == 7 {
            return self.server.client();
        }
        let released = client.call(&[b"LOCK.RELEASE".to_vec(), format!("soak{at}").into_bytes(), token]);
        assert_eq!(released, Reply::Int(1), "it held the lock until now");
        client
    }

    fn enter(&self, at: usize, fence: i64) {
        let before = self.locks[at].holder.swap(fence, Ordering::SeqCst);
        assert_eq!(before, 0, "soak{at} has two holders");
        let mut last = self.locks[at].last.lock().unwrap();
        assert!(fence > *last, "soak{at}: fence {fence} after {last}");
        *last = fence;
    }

    fn leave(&self, at: usize, fence: i64) {
        assert_eq!(self.locks[at].holder.swap(0, Ordering::SeqCst), fence, "soak{at} has two holders");
    }
}

/// The server's memory once it no longer falls, all its clients but one gone.
fn settled_memory(server: &Server) -> i64 {
    let mut client = server.client();
    wait_until("all other clients are gone", PATIENCE, || client.info("clients", "connected_clients") == "1");
    let mut lowest = i64::MAX;
    let mut since = Instant::now();
    wait_until("memory has settled", PATIENCE, || {
        let used: i64 = client.info("memory", "used_memory").parse().unwrap();
        if used < lowest {
            (lowest, since) = (used, Instant::now());
        }
        since.elapsed() > Duration::from_millis(1_500)
    });
    lowest
}
