//! What a client does: one piece of work after another, each under a lock and a token of its own.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use lock_checker::{Answer, Ask, Limit, Micros};

use crate::history_client::{HistoryClient, Patient, Told};
use crate::resource::Resource;
use crate::support::{Client, Random, Reply};

/// The leases that are asked for, in milliseconds: some that outlast faults, and some that do not.
pub(crate) const LEASES_MS: &[u64] = &[30, 120, 400, 400, 900];

/// Shorter ones, for set-ups in which nothing is granted for as long as the longest.
pub(crate) const SHORT_LEASES_MS: &[u64] = &[30, 120, 250, 250];

/// How often a request whose outcome is not known is repeated.
const REPETITIONS: usize = 6;

/// How often a client asks again that has a place in the queue.
const PLACE_REPETITIONS: usize = 30;

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

    fn next_job(&mut self) -> Job {
        self.done += 1;
        let at = self.random.below(self.keys.len());
        let (limit, weight) = self.share(at);
        let lease_ms = *self.random.pick(self.leases_ms);
        let block_ms = match self.random.below(10) {
            0..3 => None,
            3 => Some(0),
            4..7 => Some(self.between(5, 60)),
            _ => Some(self.between(60, 800)),
        };
        // Some of them for less than it takes them to come again.
        let queue_ms = match self.random.below(12) {
            0..4 => Some(self.between(150, 600)),
            4 => Some(self.between(10, 60)),
            _ => None,
        };
        let slice_ms = self.one_in(2).then(|| self.between(20, 80));
        let block_ms = if queue_ms.is_some() { slice_ms } else { block_ms };
        let token = format!("{}-{}", self.name, self.done);
        let session = queue_ms.is_none() && self.one_in(5);
        let names_level = self.one_in(2);
        let key = self.keys[at].clone();
        let others = self.others(at);
        Job { key, others, token, limit, weight, lease_ms, names_level, block_ms, queue_ms, session }
    }

    /// One or two other locks, of the same slot in a cluster, for some jobs.
    fn others(&mut self, at: usize) -> Vec<String> {
        if !self.abilities.several || !self.one_in(4) {
            return Vec::new();
        }
        let is_possible =
            |other: &usize| *other != at && tag_of(&self.keys[*other]) == tag_of(&self.keys[at]);
        let possible: Vec<usize> = (0..self.keys.len()).filter(is_possible).collect();
        let mut others = Vec::new();
        for _ in 0..possible.len().min(1 + self.random.below(2)) {
            let other = &self.keys[*self.random.pick(&possible)];
            // Now and then one is named twice.
            if !others.contains(other) || self.one_in(4) {
                others.push(other.clone());
            }
        }
        others
    }

    /// Of each three locks, the first is a mutex, the second is read and written, the third has room for several.
    fn share(&mut self, at: usize) -> (Limit, Option<u16>) {
        match (at % 3, self.random.below(10)) {
            (1, 0..7) | (2, 0) => (Limit::Shared, self.weight(3)),
            (2, 1..4) => (Limit::Most(2), self.weight(2)),
            (2, 4..8) => (Limit::Most(4), self.weight(3)),
            _ => (Limit::EXCLUSIVE, self.weight(1)),
        }
    }

    fn weight(&mut self, most: usize) -> Option<u16> {
        self.one_in(2).then(|| u16::try_from(1 + self.random.below(most)).unwrap())
    }

    /// Asks until it is known what came of it, or the client loses interest.
    fn acquire(&mut self, job: &Job) -> Option<Held> {
        if job.block_ms.is_some() && self.one_in(4) {
            return self.acquire_impatiently(job);
        }
        for _ in 0..REPETITIONS {
            let give_up = self.one_in(8).then(|| Duration::from_millis(20 + self.between(0, 150)));
            let Told { answer, sent } = self.client.request(&job.acquire(), give_up);
            match answer {
                Answer::Granted(fence) => {
                    return Some(Held { fence, lease_end: lease_end(sent, job.lease_ms) });
                }
                Answer::Null => return None,
                Answer::Unconfirmed if self.one_in(2) => {
                    self.release(job, 1);
                    break;
                }
                _ if self.one_in(4) => break,
                _ => self.pause(20),
            }
        }
        self.forget(job);
        None
    }

    /// Asks once. Where that takes too long the client leaves the connection alone on which it waits, and withdraws over
    /// another one; what it is told on the first it does not care for.
    fn acquire_impatiently(&mut self, job: &Job) -> Option<Held> {
        let patience = Duration::from_millis(self.between(10, 80));
        let told = match self.client.request_patiently(&job.acquire(), patience) {
            Patient::Told(told) => Some(told),
            Patient::Pending(pending) => {
                let is_withdrawn = self.release(job, 1);
                if is_withdrawn && self.one_in(2) {
                    self.pause(10);
                }
                if is_withdrawn && self.one_in(2) {
                    self.client.request(&job.check(), None);
                }
                let answered = self.client.finish_pending(pending);
                if is_withdrawn && self.one_in(2) {
                    self.client.request(&job.check(), None);
                }
                // It was not withdrawn, perhaps.
                (!is_withdrawn).then_some(answered)
            }
        };
        match told {
            Some(Told { answer: Answer::Granted(fence), sent }) => {
                Some(Held { fence, lease_end: lease_end(sent, job.lease_ms) })
            }
            _ => {
                self.forget(job);
                None
            }
        }
    }

    /// Has a place in the queue, and asks again and again whether it is its turn, over whatever connection there is, until
    /// it is or the client loses interest.
    fn acquire_by_place(&mut self, job: &Job) -> Option<Held> {
        for _ in 0..PLACE_REPETITIONS {
            let Told { answer, sent } = if job.block_ms.is_some() && self.one_in(6) {
                self.acquire_twice(job)
            } else {
                let give_up = self.one_in(8).then(|| Duration::from_millis(self.between(1, 40)));
                self.client.request(&job.acquire(), give_up)
            };
            match answer {
                Answer::Granted(fence) => {
                    return Some(Held { fence, lease_end: lease_end(sent, job.lease_ms) });
                }
                Answer::Null => return None,
                // It dies. Nobody comes to claim what its place is granted.
                Answer::Ticket(_) if self.one_in(25) => {
                    if self.one_in(2) {
                        self.client.close_all();
                    }
                    return None;
                }
                Answer::Ticket(_) if self.one_in(12) => break,
                Answer::Unconfirmed if self.one_in(2) => break,
                // This claims what was granted meanwhile, too.
                Answer::Ticket(_) if self.one_in(12) => {
                    self.client.request(&job.of_all(job.extend(job.lease_ms)), None);
                }
                Answer::Ticket(_) if job.block_ms.is_some() => self.pause(10),
                Answer::Ticket(_) => {
                    let pause_ms = self.between(20, 80);
                    thread::sleep(Duration::from_millis(pause_ms));
                }
                _ => self.pause(20),
            }
        }
        self.give_up_place(job)
    }

    /// Ends its place, or what that was granted. Now and then it thinks better of it, and begins anew.
    fn give_up_place(&mut self, job: &Job) -> Option<Held> {
        let is_withdrawn = self.release(job, 1);
        if is_withdrawn && self.one_in(2) {
            self.pause(10);
            self.client.request(&job.check(), None);
        }
        if is_withdrawn && self.one_in(2) {
            let Told { answer, sent } = self.client.request(&job.ask_again(), None);
            if let Answer::Granted(fence) = answer {
                return Some(Held { fence, lease_end: lease_end(sent, job.lease_ms) });
            }
            self.release(job, 1);
        }
        None
    }

    /// Asks over another connection while the first request waits, as a client does that believes the first one lost.
    fn acquire_twice(&mut self, job: &Job) -> Told {
        let patience = Duration::from_millis(self.between(5, 20));
        match self.client.request_patiently(&job.acquire(), patience) {
            Patient::Told(told) => told,
            Patient::Pending(pending) => {
                let again = self.client.request(&job.ask_again(), None);
                let first = self.client.finish_pending(pending);
                // Whichever was granted the lock; the lease begins with the last of them, but that need not be the second.
                if matches!(first.answer, Answer::Granted(_)) { first } else { again }
            }
        }
    }

    /// Holds the lock for a while, and does with it what holders do.
    fn hold(&mut self, job: &Job, mut held: Held) {
        // Most do so for a moment, some for as long as their lease, or longer.
        let is_long = self.one_in(8);
        let pause_ms = if is_long { usize::try_from(job.lease_ms / 6).unwrap() } else { 2 };
        for _ in 0..if is_long { 12 } else { 1 + self.random.below(3) } {
            let kept = match self.random.below(12) {
                0 => self.extend(job, &mut held),
                1 => self.retry(job, &mut held),
                6 if job.queue_ms.is_none() && !job.session => self.change(job, &mut held),
                2 => self.check(job, &mut held),
                3 | 4 => self.nest(job, &mut held, 2),
                5 if job.others.is_empty() => self.expire(job, &mut held),
                // Between the writes it goes on holding, for faults to meet with.
                7..=9 if self.abilities.guard => {
                    let is_held = self.guard(job);
                    self.pause(pause_ms);
                    is_held
                }
                _ => {
                    self.write(job, &held);
                    self.pause(pause_ms);
                    true
                }
            };
            if !kept {
                return;
            }
        }
    }

    /// Only exclusive holders write: the resource knows no others. And none with a session, which end unnoticed.
    fn write(&mut self, job: &Job, held: &Held) {
        if job.limit != Limit::EXCLUSIVE || job.session {
            return;
        }
        let clock = self.client.clock;
        if let Some((moment, answer)) = self.resource.write(clock, &job.key, held.fence, held.lease_end) {
            self.client.write(&job.key, &job.token, held.fence, answer, moment);
        }
    }

    /// Writes where the server looks whether the lock is held.
    fn guard(&mut self, job: &Job) -> bool {
        self.written += 1;
        let (key, token) = (job.key.clone(), job.token.clone());
        let (name, value) = (guarded(&job.key), format!("{token}-{}", self.written));
        let give_up = self.one_in(10).then(|| Duration::from_millis(20));
        let guard = Ask::Guard { key, token, name, value };
        self.client.request(&guard, give_up).answer != Answer::NotOwner
    }

    fn extend(&mut self, job: &Job, held: &mut Held) -> bool {
        let lease_ms = *self.random.pick(self.leases_ms);
        let Told { answer, sent } = self.client.request(&job.of_all(job.extend(lease_ms)), None);
        // A shorter one may be in force even if no answer says so.
        held.lease_end = held.lease_end.min(lease_end(sent, lease_ms));
        if answer == job.at_all() {
            held.lease_end = lease_end(sent, lease_ms);
        }
        answer == job.at_all() || answer.is_unknown() || matches!(answer, Answer::Error(_))
    }

    fn retry(&mut self, job: &Job, held: &mut Held) -> bool {
        let Told { answer, sent } = self.client.request(&job.acquire(), None);
        let asked = lease_end(sent, job.lease_ms);
        match answer {
            // If it is another hold than before, it has no more than was asked for.
            Answer::Granted(fence) => *held = Held { fence, lease_end: asked },
            _ => held.lease_end = held.lease_end.min(asked),
        }
        !matches!(answer, Answer::Null | Answer::Ticket(_))
    }

    /// Wants more of the lock or less for a while, and then what it had.
    fn change(&mut self, job: &Job, held: &mut Held) -> bool {
        let at = self.keys.iter().position(|key| *key == job.key).unwrap();
        let (limit, weight) = self.share(at);
        let block_ms = self.one_in(2).then(|| self.between(5, 60));
        // A weight that is not named stays, and may be above the new limit.
        let other = Job { limit, weight: weight.or(Some(1)), block_ms, ..job.clone() };
        let Told { answer, sent } = self.client.request(&other.acquire(), None);
        let asked = lease_end(sent, job.lease_ms);
        match answer {
            Answer::Granted(fence) => *held = Held { fence, lease_end: asked },
            _ => held.lease_end = held.lease_end.min(asked),
        }
        // It has to be content with what it has if that is not to be had any more.
        let own = Job { weight: job.weight.or(Some(1)), ..job.clone() };
        let Told { answer, sent } = self.client.request(&own.ask_again(), None);
        let asked = lease_end(sent, job.lease_ms);
        match answer {
            Answer::Granted(fence) => *held = Held { fence, lease_end: asked },
            _ => held.lease_end = held.lease_end.min(asked),
        }
        matches!(answer, Answer::Granted(_))
    }

    /// Calls work that takes the same lock, now and then work that does so in its turn.
    fn nest(&mut self, job: &Job, held: &mut Held, level: u16) -> bool {
        let lease_ms = *self.random.pick(self.leases_ms);
        let Told { answer, sent } = self.client.request(&job.acquire_inner(level, lease_ms), None);
        match answer {
            Answer::Granted(fence) if fence == held.fence => {
                held.lease_end = held.lease_end.max(lease_end(sent, lease_ms));
            }
            Answer::Granted(_) | Answer::Null => return false,
            // The outer work does not know whether the inner one got the lock, and makes sure that it has not.
            _ => return self.release(job, level),
        }
        self.write(job, held);
        self.pause(2);
        let inner_is_kept = !self.one_in(3) || self.nest(job, held, level + 1);
        let is_given_back = inner_is_kept && self.release(job, level);
        if is_given_back && self.one_in(4) {
            // As a client does that has missed the reply.
            self.release(job, level);
        }
        is_given_back
    }

    /// Somebody sets a time to live on the key. The holder knows of it, and may have its lease promised anew.
    fn expire(&mut self, job: &Job, held: &mut Held) -> bool {
        let ttl_ms = self.between(5, 60);
        let Told { sent, .. } = self.client.request(&Ask::Expire { key: job.key.clone(), ttl_ms }, None);
        held.lease_end = held.lease_end.min(lease_end(sent, ttl_ms));
        match self.random.below(4) {
            0 => self.extend(job, held),
            1 => self.nest(job, held, 2),
            _ => self.check(job, held),
        }
    }

    fn check(&mut self, job: &Job, held: &mut Held) -> bool {
        match self.client.request(&job.check(), None).answer {
            Answer::Held(fence, _) => fence == held.fence,
            answer => answer != Answer::Null,
        }
    }

    /// Gives the lock back, or goes away, or forgets it.
    fn end(&mut self, job: &Job) {
        let is_forgotten = self.one_in(if job.lease_ms < 200 { 10 } else { 40 });
        if is_forgotten || (job.session && self.one_in(3)) || !self.release(job, 1) {
            self.forget(job);
        } else if self.abilities.guard && self.one_in(4) {
            self.guard(job);
        }
    }

    /// Whether it is known to be given back, from that level on. There is no command for the inner levels of several locks
    /// together, and now and then none is used for the outermost either.
    fn release(&mut self, job: &Job, level: u16) -> bool {
        if level > 1 || self.one_in(4) {
            let keys: Vec<&String> = [&job.key].into_iter().chain(&job.others).collect();
            return keys.into_iter().all(|key| {
                let one = Job { key: key.clone(), others: Vec::new(), ..job.clone() };
                self.release_by(&one.release(level))
            });
        }
        self.release_by(&job.of_all(job.release(level)))
    }

    fn release_by(&mut self, release: &Ask) -> bool {
        for _ in 0..REPETITIONS {
            let give_up = self.one_in(10).then(|| Duration::from_millis(30));
            match self.client.request(release, give_up).answer {
                Answer::Yes | Answer::No | Answer::Count(_) => return true,
                _ => self.pause(20),
            }
        }
        false
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
