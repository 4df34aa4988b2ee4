//! What a client does: one piece of work after another, each under a lock and a token of its own.

mod acquiring;
mod drawing;
mod holding;
mod releasing;

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use lock_checker::{Answer, Ask, Limit, Micros};

use crate::history_client::HistoryClient;
use crate::resource::Resource;
use crate::support::{Client, Random, Reply};

/// The leases that are asked for, in milliseconds: some that outlast faults, and some that do not.
pub(crate) const LEASES_MS: &[u64] = &[30, 120, 400, 400, 900];

/// Shorter ones, for set-ups in which nothing is granted for as long as the longest.
pub(crate) const SHORT_LEASES_MS: &[u64] = &[30, 120, 250, 250];

/// How often a request whose outcome is not known is repeated.
const REPETITIONS: usize = 6;

/// What a module can do that not every one can.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Abilities {
    /// It locks several keys at once.
    pub(crate) several: bool,
    /// It guards what is written.
    pub(crate) guard: bool,
}

impl Abilities {
    pub(crate) fn of(address: SocketAddr) -> Self {
        let mut client = Client::connect(address);
        let mut has = |name: &str| match client.run(&format!("COMMAND INFO {name}")) {
            Reply::Array(commands) => matches!(commands.first(), Some(Reply::Array(_))),
            _ => false,
        };
        Self { several: has("lock.macquire"), guard: has("lock.guard") }
    }
}

/// What is written to by who holds this lock, with its guard; it is in the same slot.
pub(crate) fn guarded(key: &str) -> String {
    let tag = tag_of(key).unwrap_or(key);
    format!("{{{tag}}}:guarded:{key}")
}

fn tag_of(key: &str) -> Option<&str> {
    key.split_once('{')?.1.split_once('}').map(|(tag, _)| tag)
}

/// A client at work.
pub(crate) struct Worker<'a> {
    pub(crate) client: HistoryClient<'a>,
    pub(crate) random: Random,
    pub(crate) name: String,
    pub(crate) keys: &'a [String],
    pub(crate) abilities: Abilities,
    pub(crate) leases_ms: &'static [u64],
    pub(crate) resource: &'a Resource,
    pub(crate) done: usize,
    pub(crate) written: usize,
}

/// A piece of work.
#[derive(Clone)]
struct Job {
    key: String,
    /// Other locks that it needs together with this one.
    others: Vec<String>,
    token: String,
    limit: Limit,
    /// How much it counts, if it says so.
    weight: Option<u16>,
    lease_ms: u64,
    /// Whether it says that it is the outermost. Its retries do not make the lease shorter then.
    names_level: bool,
    /// How long it waits on its connection: all of the time, or for a slice of it where it has a place in the queue.
    block_ms: Option<u64>,
    /// How long its place is kept while nobody waits there.
    queue_ms: Option<u64>,
    session: bool,
}

/// What a job holds.
struct Held {
    fence: u64,
    /// Until when its lease certainly runs.
    lease_end: Micros,
}

impl Job {
    /// A request for the lock, or for all of several.
    fn of_all(&self, each: Ask) -> Ask {
        if self.others.is_empty() {
            return each;
        }
        let keys = [&self.key].into_iter().chain(&self.others).cloned().collect();
        Ask::Several { keys, each: Box::new(each) }
    }

    fn acquire(&self) -> Ask {
        self.of_all(Ask::Acquire {
            key: self.key.clone(),
            token: self.token.clone(),
            limit: self.limit,
            lease_ms: self.lease_ms,
            weight: self.weight,
            level: self.names_level.then_some(1),
            block_ms: self.block_ms,
            queue_ms: self.queue_ms,
            session: self.session,
        })
    }

    /// The same, to be answered at once.
    fn ask_again(&self) -> Ask {
        Self { block_ms: None, ..self.clone() }.acquire()
    }

    /// What work that was called by this one asks for: it is not to wait, for its caller holds the lock.
    fn acquire_inner(&self, level: u16, lease_ms: u64) -> Ask {
        self.of_all(Ask::Acquire {
            key: self.key.clone(),
            token: self.token.clone(),
            limit: self.limit,
            lease_ms,
            // What is not named stays.
            weight: None,
            level: Some(level),
            block_ms: Some(0),
            queue_ms: None,
            session: self.session,
        })
    }

    /// What tells that all of its locks were extended.
    fn at_all(&self) -> Answer {
        let mut keys: Vec<&String> = self.others.iter().chain([&self.key]).collect();
        keys.sort_unstable();
        keys.dedup();
        if self.others.is_empty() { Answer::Yes } else { Answer::Count(keys.len()) }
    }

    fn release(&self, level: u16) -> Ask {
        Ask::Release { key: self.key.clone(), token: self.token.clone(), level }
    }

    fn check(&self) -> Ask {
        Ask::Check { key: self.key.clone(), token: self.token.clone() }
    }

    fn extend(&self, lease_ms: u64) -> Ask {
        Ask::Extend { key: self.key.clone(), token: self.token.clone(), lease_ms }
    }
}

impl Worker<'_> {
    /// One piece of work, from the wish for a lock to its end.
    pub(crate) fn work(&mut self) {
        let job = self.next_job();
        let held = if job.queue_ms.is_some() { self.acquire_by_place(&job) } else { self.acquire(&job) };
        if let Some(held) = held {
            self.hold(&job, held);
            self.end(&job);
        } else {
            self.pause(5);
        }
        if self.one_in(4) {
            self.client.request(&Ask::Ping, None);
        }
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.random.below(many) == 0
    }

    fn pause(&mut self, up_to_ms: usize) {
        let micros = self.random.below(up_to_ms * 1000);
        thread::sleep(Duration::from_micros(u64::try_from(micros).unwrap()));
    }

    fn between(&mut self, least: usize, most: usize) -> u64 {
        u64::try_from(least + self.random.below(most - least + 1)).unwrap()
    }

    /// Leaves the lock to the end of its lease. One that is tied to a connection has none while that is open.
    fn forget(&mut self, job: &Job) {
        if job.session {
            self.client.close_all();
        }
    }
}

/// A careful client counts its lease from before it asked for it.
fn lease_end(sent: Micros, lease_ms: u64) -> Micros {
    (sent + lease_ms * 1000).saturating_sub(5_000)
}
