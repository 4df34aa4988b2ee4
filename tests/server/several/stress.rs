//! Requests that overlap in a triangle, `[a b]`, `[b c]`, `[c a]`, under clients that hang up, leases that run out, and
//! operators who break locks. What the clients were told is judged: never two holders of a lock, and all are served.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::assert_free;
use crate::support::waiter::wait_blocked;
use crate::support::{Client, PATIENCE, Random, Reply, Server, wait_until};

const KEYS: [&str; 3] = ["a", "b", "c"];

const CLIENTS: usize = 12;

const WORK: Duration = Duration::from_secs(5);

/// Holds that are worth judging.
const ENOUGH: usize = 200;

/// A hold as its client knows it: from the reply until it gives back, or until the lease may have run out.
#[derive(Clone, Debug)]
struct Held {
    key: &'static str,
    fence: i64,
    from: Instant,
    until: Instant,
}

#[derive(Default)]
struct Account {
    held: Mutex<Vec<Held>>,
    served: Vec<AtomicUsize>,
    is_over: AtomicBool,
}

struct Worker<'a> {
    server: &'a Server,
    client: Client,
    account: &'a Account,
    random: Random,
    number: usize,
    asked: usize,
}

impl Worker<'_> {
    fn work(mut self) {
        while !self.account.is_over.load(Ordering::SeqCst) {
            self.once();
        }
    }

    fn once(&mut self) {
        self.asked += 1;
        let token = format!("w{}:{}", self.number, self.asked);
        let first = self.random.below(3);
        let keys = match self.random.below(8) {
            0 => vec![KEYS[first]],
            1 => KEYS.to_vec(),
            _ => vec![KEYS[first], KEYS[(first + 1) % 3]],
        };
        let rest = format!("{} {}", keys.len(), keys.join(" "));
        let lease = Duration::from_millis(*self.random.pick(&[5, 30, 60_000]));
        let options = *self.random.pick(&["BLOCK 0", "BLOCK 0", "BLOCK 0", "BLOCK 3", "", "BLOCK 0 SESSION"]);
        let command = format!("LOCK.MACQUIRE {rest} TOKEN {token} PX {} {options}", lease.as_millis());
        let words: Vec<&str> = command.split_ascii_whitespace().collect();
        let asked = Instant::now();
        self.client.send(&words);
        if self.random.below(10) == 0 {
            // Hangs up, maybe while it waits, maybe when it has been granted.
            if self.random.below(2) == 0 {
                self.client.has_reply_within(Duration::from_millis(2));
            }
            self.client = self.server.client();
            // Whatever became of it, nothing of it is to stay.
            self.client.run(&format!("LOCK.MRELEASE {rest} {token}"));
            return;
        }
        let fence = match self.client.read() {
            Reply::Array(grant) => grant[1].int(),
            other => {
                assert!(other.is_null() && options != "BLOCK 0", "{command}: {other:?}");
                return;
            }
        };
        let told = Instant::now();
        if self.random.below(3) == 0 {
            thread::sleep(Duration::from_millis(self.random.next() % 5));
        }
        // It has the locks for sure until its lease may be over by its own clock, or it begins to give back.
        let until = Instant::now().min(asked + lease);
        let expires =
            self.random.below(12) == 0 && lease < Duration::from_secs(1) && !options.contains("SESSION");
        if until > told {
            let mut held = self.account.held.lock().unwrap();
            held.extend(keys.iter().map(|key| Held { key, fence, from: told, until }));
        }
        if !expires {
            self.client.run(&format!("LOCK.MRELEASE {rest} {token}"));
        }
        self.account.served[self.number].fetch_add(1, Ordering::SeqCst);
    }
}

/// No two were told that they had a lock at the same time, and whoever came later has the higher fence.
fn judge(mut held: Vec<Held>) {
    held.sort_by_key(|hold| (hold.key, hold.from));
    for pair in held.windows(2).filter(|pair| pair[0].key == pair[1].key) {
        assert!(pair[0].until <= pair[1].from, "two holders: {pair:?}");
        assert!(pair[0].fence < pair[1].fence, "fences fall: {pair:?}");
    }
}

#[test]
fn overlapping_requests_under_trouble_have_one_holder_each_and_are_all_served() {
    let mut random = Random::from_environment();
    let mut server = Server::start();
    let account =
        Account { served: (0..CLIENTS).map(|_| AtomicUsize::new(0)).collect(), ..Account::default() };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..CLIENTS)
            .map(|number| Worker {
                server: &server,
                client: server.client(),
                account: &account,
                random: Random::from_seed(random.next()),
                number,
                asked: 0,
            })
            .collect();
        let workers: Vec<_> = workers.into_iter().map(|it| scope.spawn(move || it.work())).collect();
        let start = Instant::now();
        let mut control = server.client();
        // On a busy machine it takes longer until there is something to judge.
        let is_enough = || start.elapsed() >= WORK && account.held.lock().unwrap().len() > ENOUGH;
        while !is_enough() && start.elapsed() < WORK + PATIENCE * 2 {
            // Unblocks and kills come out as disconnects do, but the readers must know: only ends that clients choose here.
            control.run_all(&["LOCK.INFO a", "LOCK.TOP", "DEBUG SLEEP 0.002"]);
            thread::sleep(Duration::from_millis(20));
            if workers.iter().any(thread::ScopedJoinHandle::is_finished) {
                break;
            }
        }
        let before: Vec<usize> = account.served.iter().map(|it| it.load(Ordering::SeqCst)).collect();
        wait_until("everybody is served once more", PATIENCE, || {
            workers.iter().any(thread::ScopedJoinHandle::is_finished)
                || account
                    .served
                    .iter()
                    .zip(&before)
                    .all(|(now, before)| now.load(Ordering::SeqCst) > *before)
        });
        account.is_over.store(true, Ordering::SeqCst);
        workers.into_iter().for_each(|it| it.join().unwrap());
    });
    let held = std::mem::take(&mut *account.held.lock().unwrap());
    println!("{} holds", held.len());
    assert!(held.len() > ENOUGH, "hardly anything was held: {}", held.len());
    judge(held);
    wait_blocked(&server, 0);
    let mut client = server.client();
    wait_until("short leases have ended", PATIENCE, || client.run("DBSIZE") == Reply::Int(0));
    assert_free(&server, &KEYS);
    for name in ["lock_keys", "lock_holds", "lock_waiters_blocked", "lock_longest_queue"] {
        assert_eq!(client.info("lock", name), "0", "{name}");
    }
    server.assert_alive();
}
