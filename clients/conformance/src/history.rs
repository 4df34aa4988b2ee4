//! Work that contends behind random faults.
//!
//! What the servers did is judged by checker/. And what the client says of itself is judged: from the moment at which it
//! said that it holds a lock to the last at which it was asked and said so, no other holds it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lock_checker::notation::Record;
use lock_checker::{FenceScope, History, Micros, Terms, check, excerpt};
use serde_json::{Value, json};

use crate::bed::{Bed, Info};
use crate::client::{Client, Outcome, PATIENCE};
use crate::faults::{Fault, Shares, fraction};
use crate::recorder::Recorder;
use crate::support::Random;
use crate::testee::Testee;
use crate::ways::cannot;

const WORKERS: usize = 8;
const LOCKS: [&str; 3] = ["one", "two", "three"];

/// How long they work if REDIS_LOCK_SECONDS does not say.
const SECONDS: u64 = 15;

/// How likely each fault is, for one LOCK.* command.
const FAULTS: Shares = &[
    (Fault::Close, 0.02),
    (Fault::Cut, 0.01),
    (Fault::Delay, 0.02),
    (Fault::Trickle, 0.01),
    (Fault::Swallow, 0.002),
    (Fault::Late, 0.02),
];

/// A server ends a session some moments before its client can see that.
const UNSEEN: Micros = 20_000;

/// Between two questions whether it is still held.
const LOOK: Duration = Duration::from_millis(10);

/// From when to when somebody was sure to hold a lock, on the clock of the history.
struct Span {
    lock: &'static str,
    token: String,
    begin: Micros,
    end: Micros,
    most: usize,
    weight: usize,
}

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lock, token, begin, end, most, weight } = self;
        write!(out, "{lock} {token}, {weight} of {most}, from {begin} to {end} us")
    }
}

#[derive(Default)]
struct Told {
    spans: Vec<Span>,
    counts: BTreeMap<&'static str, usize>,
}

pub(crate) fn contend(testee: &Testee, bed: &Bed, protocol: u8) {
    let client = Client::of(testee, bed, protocol);
    let (told, is_over) = (Mutex::new(Told::default()), AtomicBool::new(false));
    let mut random = Random::from_environment();
    bed.faults.recorder().start();
    bed.faults.draw(Random::from_seed(random.next()), FAULTS);
    thread::scope(|scope| {
        for number in 0..WORKERS {
            let seed = Random::from_seed(random.next());
            let (client, told, is_over) = (&client, &told, &is_over);
            scope.spawn(move || {
                let mut worker = Worker {
                    testee,
                    client,
                    told,
                    recorder: bed.faults.recorder(),
                    random: seed,
                    name: format!("worker {number}"),
                };
                while !is_over.load(Ordering::SeqCst) {
                    worker.turn();
                }
            });
        }
        let end = Instant::now() + Duration::from_secs(seconds());
        while Instant::now() < end {
            thread::sleep(Duration::from_millis(50));
            if fraction(&mut random) < 0.1 {
                bed.cut_one(|count| random.below(count));
            }
        }
        is_over.store(true, Ordering::SeqCst);
    });
    let met = bed.faults.met();
    bed.faults.end();
    for lock in LOCKS {
        bed.wait_info(lock, Duration::from_secs(15), |info| *info == Info::default());
    }
    client.close();
    let told = told.into_inner().unwrap();
    println!("{:?}, faults {met:?}", told.counts);
    let record = Record { terms: terms(), history: History::new(bed.faults.recorder().stop(), Vec::new()) };
    let violations = check(&record.history, &record.terms);
    let overlap = told.overlap();
    if !violations.is_empty() || overlap.is_some() {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("client-history-{}", std::process::id()));
        fs::write(&path, record.to_string()).unwrap();
        let shown = violations.first().map(|first| excerpt::show(&record.history, first)).unwrap_or_default();
        let count = violations.len();
        panic!("all of the history is in {}: {count} violations\n{shown}\n{overlap:#?}", path.display());
    }
    let count = |what: &str| told.counts.get(what).copied().unwrap_or_default();
    assert!(count("released") + count("several released") > 20, "{:?}", told.counts);
    assert!(met.contains_key(&Fault::Close), "{met:?}");
}

fn seconds() -> u64 {
    std::env::var("REDIS_LOCK_SECONDS").map_or(SECONDS, |text| text.parse().unwrap())
}

fn terms() -> Terms {
    Terms {
        fences: FenceScope::OneSequence,
        patience: 5_000_000,
        claim_lease: 5_000_000,
        errors: vec!["DEADLOCK".to_owned()],
        loses_writes: false,
    }
}

struct Worker<'a> {
    testee: &'a Testee,
    client: &'a Client<'a>,
    told: &'a Mutex<Told>,
    recorder: &'a Recorder,
    random: Random,
    name: String,
}

impl Worker<'_> {
    /// Acquires a lock, or several together, has them for some time, and releases them.
    fn turn(&mut self) {
        let (options, most, weight) = self.options();
        let locks = self.locks();
        let is_session = options.get("session").is_some();
        let sent = match locks.as_slice() {
            [lock] => self.client.acquire(&self.name, &self.name, lock, options),
            _ => {
                let locks: Vec<String> = locks.iter().copied().map(str::to_owned).collect();
                self.client.acquire_all(&self.name, &self.name, &locks, options)
            }
        };
        if fraction(&mut self.random) < 0.1 && !cannot(self.testee, "standalone", "cancel") {
            thread::sleep(Duration::from_secs_f64(fraction(&mut self.random)));
            self.client.cancel(&sent);
        }
        let token = match self.client.finish(&sent, PATIENCE) {
            Outcome::Held { token, .. } => token,
            Outcome::NotAvailable => return self.count("not available"),
            Outcome::Cancelled => return self.count("cancelled"),
            Outcome::Error(kind, message) => {
                let may_be = ["CONNECTION", "LOST", "NOTACQUIRED"].contains(&kind.as_str());
                assert!(may_be, "{kind}: {message}");
                return self.count("errors");
            }
        };
        let begin = self.recorder.now();
        let has_done = Instant::now() + Duration::from_secs_f64(fraction(&mut self.random) * 1.2);
        let mut end = begin;
        while Instant::now() < has_done {
            thread::sleep(LOOK);
            let asked = self.recorder.now();
            if self.client.state(&self.name).held {
                end = end.max(asked - if is_session { UNSEEN } else { 0 });
            }
            if fraction(&mut self.random) < 0.02 {
                let lease = *self.random.pick(&[400, 1_000]);
                self.client.extend(&self.name, &self.name, json!({"lease": lease}));
            }
            if fraction(&mut self.random) < 0.02 && !cannot(self.testee, "standalone", "guard") {
                self.write(locks[0]);
            }
        }
        // It may be over before anybody asks: what was granted some time ago is heard of here after a cancellation.
        if end > begin {
            let spans =
                locks.iter().map(|lock| Span { lock, token: token.clone(), begin, end, most, weight });
            self.told.lock().unwrap().spans.extend(spans);
        }
        let released = self.client.release(&self.name, &self.name);
        self.count(match (released["is"] == json!(true), locks.len()) {
            (false, _) => "lost",
            (true, 1) => "released",
            (true, _) => "several released",
        });
    }

    /// One, or several, in any order: those who wait for the same meet in each.
    fn locks(&mut self) -> Vec<&'static str> {
        let is_several = fraction(&mut self.random) < 0.3 && !cannot(self.testee, "standalone", "several");
        let count = if is_several { 2 + self.random.below(2) } else { 1 };
        let (mut left, mut locks) = (LOCKS.to_vec(), Vec::new());
        for _ in 0..count {
            locks.push(left.remove(self.random.below(left.len())));
        }
        locks
    }

    /// Under the guard of the lock; the checker says whether it was held then.
    fn write(&mut self, lock: &str) {
        let value = format!("{:x}", self.random.next());
        let reply = self.client.guard(
            &self.name,
            &self.name,
            None,
            json!(["SET", format!("written under {lock}"), value]),
        );
        let kind = reply["error"].as_str().unwrap_or_default();
        assert!(reply == json!("OK") || ["CONNECTION", "LOST"].contains(&kind), "{reply}");
        self.count(if reply == json!("OK") { "written" } else { "not written" });
    }

    /// How it is asked for, how much holds it together at the most then, and how much of that it is.
    fn options(&mut self) -> (Value, usize, usize) {
        let mut options = json!({
            "lease": self.random.pick(&[400, 800, 1_500]),
            "wait": self.random.pick(&[0, 300, 2_000, 5_000]),
        });
        let kind = fraction(&mut self.random);
        let mut weight = 1;
        let most = if kind < 0.3 {
            options["shared"] = json!(true);
            usize::MAX
        } else if kind < 0.6 {
            options["limit"] = json!(3);
            if fraction(&mut self.random) < 0.5 && !cannot(self.testee, "standalone", "weight") {
                weight = 1 + self.random.below(3);
                options["weight"] = json!(weight);
            }
            3
        } else {
            1
        };
        if fraction(&mut self.random) < 0.2 {
            options["renew"] = json!(false);
        }
        if fraction(&mut self.random) < 0.1 && !cannot(self.testee, "standalone", "session") {
            options["session"] = json!(true);
        }
        (options, most, weight)
    }

    fn count(&self, what: &'static str) {
        *self.told.lock().unwrap().counts.entry(what).or_default() += 1;
    }
}

impl Told {
    /// Those who were sure to hold a lock together, more than one of them tolerates.
    fn overlap(&self) -> Option<Vec<String>> {
        let mut spans: Vec<&Span> = self.spans.iter().collect();
        spans.sort_by_key(|span| span.begin);
        let mut open = BTreeMap::<&str, Vec<&Span>>::new();
        spans.into_iter().find_map(|span| {
            let here = open.entry(span.lock).or_default();
            here.retain(|other| other.end > span.begin);
            here.push(span);
            let most = here.iter().map(|span| span.most).min()?;
            let weight: usize = here.iter().map(|span| span.weight).sum();
            (weight > most).then(|| here.iter().map(|span| span.to_string()).collect())
        })
    }
}
