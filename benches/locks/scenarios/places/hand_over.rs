//! How long it takes from giving a lock back until the next place in the queue is called, and until its lock is claimed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{KEPT_MS, TICKET, TICKET_DIGITS, server_for};
use crate::cores::Cores;
use crate::cpu;
use crate::effort::Effort;
use crate::fill::{LONG_LEASE_MS, fill_on};
use crate::loads::{ONE, TOKEN_LEN, granted, token};
use crate::pipe::{Batch, Pipe};
use crate::report::{Bound, Section, Target};
use crate::scenarios::hand_over::Side;
use crate::stats::{count, median, medians, percentile, ratios, typical};
use crate::support::Server;

/// Hand-overs in one turn.
const RELAY: usize = 100;

/// How many locks there are, and how many places in the queue of each. The first is what the others are held against.
const CROWDS: [Crowd; 3] =
    [Crowd { locks: 1, places: 1 }, Crowd { locks: 1, places: 10_000 }, Crowd { locks: 1_000, places: 100 }];

/// What a hand-over may take at most, as many times as with one place.
const MOST: f64 = 1.2;

#[derive(Clone, Copy)]
struct Crowd {
    locks: usize,
    /// For each lock.
    places: usize,
}

impl Crowd {
    fn in_all(self) -> usize {
        self.locks * self.places
    }

    fn name(self) -> String {
        match self.locks {
            1 => format!("{} in one queue", count(self.places)),
            locks => format!("{} in {} queues", count(self.in_all()), count(locks)),
        }
    }
}

pub(crate) fn run(effort: &Effort) -> Section {
    let mut relays: Vec<Relay> = CROWDS.into_iter().map(Relay::new).collect();
    cpu::let_settle();
    let cores = Cores::allowed();
    relays.iter().for_each(|relay| Cores::pin(relay.server.pid(), cores.last()));
    for round in 0..effort.relays * 2 {
        let side = Side::ALL[round % 2];
        Cores::pin_self(if side == Side::Apart { cores.first() } else { cores.last() });
        for turn in 0..relays.len() {
            let turn = if round % 4 < 2 { turn } else { relays.len() - 1 - turn };
            relays[turn].run(side);
        }
    }
    drop(cores);
    let first = &relays[0];
    let rows = Side::ALL.into_iter().flat_map(|side| relays.iter().map(move |relay| relay.row(first, side)));
    Section {
        title: "Hand-over from place to place",
        method: method(effort),
        columns: vec![
            "client's core",
            "places",
            "PING p50 us",
            "to the message p50 us",
            "p99 us",
            "to the claim p50 us",
            "p99 us",
            "message / one place",
            "claim / one place",
        ],
        rows: rows.collect(),
        targets: relays.iter().skip(1).flat_map(|relay| relay.targets(first)).collect(),
        plots: Vec::new(),
    }
}

fn method(effort: &Effort) -> String {
    format!(
        "The holder gives the lock back on a connection that all share, and the clock runs until another connection, which \
         has subscribed, has read the message with the ticket of the next, and until the next has claimed the lock on the \
         shared connection. Then who gave it back takes a place again, so that the queue stays as long. Where there are \
         many locks, each hand-over is one of another lock. Before each, a PING is sent for comparison. One thread does \
         all this, on another core than the servers or on the same, as above; the targets are set for the first. Each \
         setting has a server of its own; they take turns, {RELAY} hand-overs in each of {rounds} rounds. p50 is the \
         median of the rounds' medians, p99 is of all; ratios are medians of the rounds' ratios.",
        rounds = effort.relays,
    )
}

/// What was seen, round by round, in microseconds.
#[derive(Default)]
struct Seen {
    pings: Vec<Vec<f64>>,
    to_message: Vec<Vec<f64>>,
    to_claim: Vec<Vec<f64>>,
}

/// Locks that go from place to place.
struct Relay {
    crowd: Crowd,
    commands: Pipe,
    messages: Pipe,
    locks: Vec<Lock>,
    /// The lock that is handed over next.
    next: usize,
    /// By [`Side`].
    seen: [Seen; 2],
    server: Server,
}

struct Lock {
    key: String,
    /// Who holds it, and who has the places behind, in order.
    members: VecDeque<Member>,
}

struct Member {
    token: String,
    /// In digits; none for who got the lock at once.
    ticket: String,
}

impl Relay {
    fn new(crowd: Crowd) -> Self {
        let server = server_for(crowd.in_all());
        let (mut commands, mut messages) = (Pipe::connect(&server), Pipe::connect(&server));
        let keys: Vec<String> = (0..crowd.locks).map(|number| format!("lock:{number:04}")).collect();
        let mut subscribe = Batch::default();
        for (number, key) in (1..).zip(&keys) {
            let reply = format!("*3\r\n$10\r\nssubscribe\r\n${}\r\n{key}\r\n:{number}\r\n", key.len());
            subscribe.push(&["SSUBSCRIBE", key], &reply);
        }
        messages.exchange(&subscribe);
        fill_on(&mut commands, keys.len(), &granted(TOKEN_LEN), |number| ask(&keys[number], &token(number)));
        let first = |(number, key): (usize, String)| Lock {
            key,
            members: VecDeque::from([Member { token: token(number), ticket: String::new() }]),
        };
        let mut locks: Vec<Lock> = keys.into_iter().enumerate().map(first).collect();
        for round in 1..=crowd.places {
            for (number, lock) in locks.iter_mut().enumerate() {
                lock.join(&mut commands, token(round * crowd.locks + number));
            }
        }
        Self { crowd, commands, messages, locks, next: 0, seen: Default::default(), server }
    }

    /// Hands locks on a number of times. Who has given one back takes a place again.
    fn run(&mut self, side: Side) {
        let mut seen = [const { Vec::new() }; 3];
        for _ in 0..RELAY {
            let figures = self.hand_over();
            seen.iter_mut().zip(figures).for_each(|(seen, figure)| seen.push(figure));
        }
        let [pings, to_message, to_claim] = seen;
        let seen = &mut self.seen[side as usize];
        seen.pings.push(pings);
        seen.to_message.push(to_message);
        seen.to_claim.push(to_claim);
    }

    /// Hands a lock on: how long a PING before that took, and the hand-over until the message and until the claim.
    fn hand_over(&mut self) -> [f64; 3] {
        let lock = &mut self.locks[self.next];
        self.next = (self.next + 1) % self.crowd.locks;
        let (holder, heir) = (lock.members.pop_front().unwrap(), &lock.members[0]);
        let (mut give_back, mut claim) = (Batch::default(), Batch::default());
        give_back.push(&["LOCK.RELEASE", &lock.key, &holder.token], ONE);
        claim.push(&ask(&lock.key, &heir.token), &granted(TOKEN_LEN));
        let (key, ticket) = (&lock.key, &heir.ticket);
        let message =
            format!("*3\r\n$8\r\nsmessage\r\n${}\r\n{key}\r\n${TICKET_DIGITS}\r\n{ticket}\r\n", key.len());
        let message = Batch::unasked(&message);
        ping_us(&mut self.commands);
        let ping_us = ping_us(&mut self.commands);
        let start = Instant::now();
        self.commands.send(&give_back);
        self.messages.receive(&message);
        let to_message_us = us(start.elapsed());
        self.commands.send(&claim);
        self.commands.receive(&give_back);
        self.commands.receive(&claim);
        let to_claim_us = us(start.elapsed());
        lock.join(&mut self.commands, holder.token);
        [ping_us, to_message_us, to_claim_us]
    }

    fn row(&self, first: &Self, side: Side) -> Vec<String> {
        let seen = &self.seen[side as usize];
        let mut row = vec![side.name().to_owned(), self.crowd.name()];
        row.push(format!("{:.1}", typical(&seen.pings, 50.0)));
        for figures in [&seen.to_message, &seen.to_claim] {
            row.push(format!("{:.1}", typical(figures, 50.0)));
            row.push(format!("{:.1}", percentile(&figures.concat(), 99.0)));
        }
        row.extend(self.to(first, side).map(|ratio| format!("{ratio:.2}")));
        row
    }

    /// How many times as long it takes to the message, and to the claim, as elsewhere.
    fn to(&self, other: &Self, side: Side) -> [f64; 2] {
        let (own, other) = (&self.seen[side as usize], &other.seen[side as usize]);
        let ratio = |own: &[Vec<f64>], other: &[Vec<f64>]| median(&ratios(&medians(own), &medians(other)));
        [ratio(&own.to_message, &other.to_message), ratio(&own.to_claim, &other.to_claim)]
    }

    fn targets(&self, first: &Self) -> Vec<Target> {
        let target = |(end, figure)| Target {
            name: format!(
                "release to {end} with {} places {}, against one place",
                count(self.crowd.in_all()),
                if self.crowd.locks == 1 { "on the key" } else { "on many keys" },
            ),
            figure,
            unit: "times",
            bound: Bound::Ceiling(MOST),
        };
        ["the message", "the claim"].into_iter().zip(self.to(first, Side::Apart)).map(target).collect()
    }
}

impl Lock {
    /// Takes a place at the end of the queue.
    fn join(&mut self, commands: &mut Pipe, token: String) {
        let mut join = Batch::default();
        join.push(&ask(&self.key, &token), TICKET);
        let reply = commands.exchange(&join);
        let ticket = String::from_utf8_lossy(&reply[1..][..TICKET_DIGITS]).into_owned();
        self.members.push_back(Member { token, ticket });
    }
}

/// The request that asks for a lock, or claims it.
fn ask(key: &str, token: &str) -> Vec<String> {
    let lease = LONG_LEASE_MS.to_string();
    ["LOCK.ACQUIRE", key, "PX", &lease, "TOKEN", token, "QUEUE", KEPT_MS].map(str::to_owned).to_vec()
}

/// Sends a PING and gives the time until its answer.
fn ping_us(pipe: &mut Pipe) -> f64 {
    let mut ping = Batch::default();
    ping.push(&["PING"], "+PONG\r\n");
    let start = Instant::now();
    pipe.exchange(&ping);
    us(start.elapsed())
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
