//! Clients that contend for one lock, hold it for a moment, give it back and want it again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use crate::loads::{UNLOCK_SCRIPT, token};
use crate::many::{Answered, Many};
use crate::means::Means;
use crate::pipe::Batch;
use crate::support::{Random, Server};

/// How long each holder keeps the lock.
pub(crate) const HOLD: Duration = Duration::from_millis(1);

/// Within which time all have begun.
pub(crate) const START: Duration = Duration::from_millis(10);

/// The lock they want.
pub(crate) const KEY: &str = "contested";

/// What a client does once it has given the lock back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Appetite {
    /// It is busy with something else for a while, [`ELSEWHERE_US`], and wants the lock then.
    Measured,
    /// It wants the lock again.
    Greedy,
}

/// How long, in microseconds.
pub(crate) const ELSEWHERE_US: Range<usize> = 5_000..15_000;

/// What a client does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has asked for the lock.
    Asking,
    /// It was refused, and asks again when its time comes.
    Pausing,
    /// It holds the lock until its time comes.
    Holding,
    /// It has given the lock back, and waits to be told that it has.
    GivingBack,
    /// It does something else until its time comes.
    Elsewhere,
}

struct Contender {
    ask: Batch,
    give_back: Batch,
    state: State,
    /// Since when it wants the lock, or has it.
    since: Instant,
}

/// All the clients, looked after by one thread.
pub(crate) struct Contest {
    means: Means,
    many: Many,
    contenders: Vec<Contender>,
    /// When a client that pauses or holds goes on.
    times: BinaryHeap<Reverse<(Instant, usize)>>,
    appetite: Appetite,
    random: Random,
    /// How many have asked and are not answered.
    asking: usize,
    giving_back: usize,
    is_held: bool,
    pub(crate) tally: Tally,
}

/// What has come of it.
#[derive(Default)]
pub(crate) struct Tally {
    /// Grants of each client.
    pub(crate) grants: Vec<usize>,
    /// How long those who were granted had waited, in milliseconds.
    pub(crate) waits_ms: Vec<f64>,
    /// For how long the lock was held, by the holders' own account, in milliseconds.
    pub(crate) held_ms: f64,
}

impl Contest {
    /// Connects so many clients. They begin one after the other within some milliseconds.
    pub(crate) fn new(server: &Server, means: Means, appetite: Appetite, count: usize) -> Self {
        let script = server.client().call(&["SCRIPT", "LOAD", UNLOCK_SCRIPT]).text();
        let now = Instant::now();
        let contender = |number| Contender {
            ask: means.ask(KEY, &token(number)),
            give_back: means.give_back(KEY, &token(number), &script),
            state: State::Elsewhere,
            since: now,
        };
        let start = |number| Reverse((now + START.mul_f64(number as f64 / count as f64), number));
        Self {
            means,
            appetite,
            random: Random::from_seed(1),
            many: Many::connect(server, count),
            contenders: (0..count).map(contender).collect(),
            times: (0..count).map(start).collect(),
            asking: 0,
            giving_back: 0,
            is_held: false,
            tally: Tally { grants: vec![0; count], ..Tally::default() },
        }
    }

    /// Lets them contend for some time.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let now = Instant::now();
            while let Some(&Reverse((due, number))) = self.times.peek()
                && due <= now
            {
                self.times.pop();
                self.go_on(number, now);
            }
            match self.times.peek() {
                // A sleep is more exact.
                Some(&Reverse((due, _))) if !self.is_reply_imminent() => {
                    thread::sleep(due.min(end).saturating_duration_since(Instant::now()));
                }
                _ => {
                    for answered in self.many.wait(Duration::from_millis(100)) {
                        self.answered(&answered);
                    }
                }
            }
        }
    }

    /// For how many milliseconds those that want the lock now have wanted it.
    pub(crate) fn unfinished_ms(&self) -> Vec<f64> {
        let wanting = self.contenders.iter().filter(|it| matches!(it.state, State::Asking | State::Pausing));
        wanting.map(|contender| contender.since.elapsed().as_secs_f64() * 1e3).collect()
    }

    /// Whether the server is about to answer: it is to whoever polls or gives back, and if nobody holds the lock to one
    /// of those who wait.
    fn is_reply_imminent(&self) -> bool {
        let is_answered_now = self.means != Means::Wait || !self.is_held;
        self.giving_back > 0 || self.asking > 0 && is_answered_now
    }

    fn go_on(&mut self, number: usize, now: Instant) {
        match self.contenders[number].state {
            State::Pausing => self.ask(number),
            State::Elsewhere => {
                self.contenders[number].since = now;
                self.ask(number);
            }
            _ => {
                let contender = &mut self.contenders[number];
                contender.state = State::GivingBack;
                self.tally.held_ms += (now - contender.since).as_secs_f64() * 1e3;
                self.giving_back += 1;
                self.is_held = false;
                self.many.send(number, &contender.give_back);
            }
        }
    }

    fn ask(&mut self, number: usize) {
        let contender = &mut self.contenders[number];
        contender.state = State::Asking;
        self.asking += 1;
        self.many.send(number, &contender.ask);
    }

    fn answered(&mut self, answered: &Answered) {
        let Answered { number, as_expected, at } = *answered;
        let contender = &mut self.contenders[number];
        match (contender.state, self.means) {
            (State::Asking, _) if as_expected => {
                self.asking -= 1;
                self.is_held = true;
                contender.state = State::Holding;
                self.tally.grants[number] += 1;
                self.tally.waits_ms.push((at - contender.since).as_secs_f64() * 1e3);
                contender.since = at;
                self.times.push(Reverse((at + HOLD, number)));
            }
            (State::Asking, Means::Poll(ms)) => {
                self.asking -= 1;
                contender.state = State::Pausing;
                self.times.push(Reverse((at + Duration::from_millis(ms), number)));
            }
            (State::GivingBack, _) => {
                assert!(as_expected, "a holder had lost its lock");
                self.giving_back -= 1;
                contender.state = State::Elsewhere;
                let elsewhere_us = match self.appetite {
                    Appetite::Measured => ELSEWHERE_US.start + self.random.below(ELSEWHERE_US.len()),
                    Appetite::Greedy => 0,
                };
                self.times.push(Reverse((at + Duration::from_micros(elsewhere_us as u64), number)));
            }
            _ => panic!("a reply that was not due"),
        }
    }
}
