//! How long it takes from giving a lock back until the next in the queue knows that it is the holder.

use std::fs;
use std::time::{Duration, Instant};

use crate::cpu;
use crate::effort::Effort;
use crate::fill::hold_crowd;
use crate::loads::{ONE, TOKEN_LEN, granted, token};
use crate::pipe::{Batch, Pipe};
use crate::plots::{self, Line};
use crate::report::{Bound, Plot, Section, Target};
use crate::stats::{count, median, percentile, ratios, typical};
use crate::support::Server;

/// How many wait, as far as the system lets so many connections be open.
const WAITERS: [usize; 4] = [1, 100, 1_000, 10_000];

/// The number for which there is a target.
const MANY: usize = 1_000;

/// Hand-overs in one turn.
const RELAY: usize = 100;

/// Files that are open besides the waiters' connections.
const OTHER_FILES: usize = 200;

/// A lock, who holds it and who waits for it in a row.
struct Queue {
    members: Vec<Member>,
    holder: usize,
    others_held: usize,
    pings_us: Vec<Vec<f64>>,
    hand_overs_us: Vec<Vec<f64>>,
    _server: Server,
}

struct Member {
    pipe: Pipe,
    ask: Batch,
    give_back: Batch,
}

pub(crate) fn run(effort: &Effort) -> Section {
    let mut files_left = open_files().saturating_sub(OTHER_FILES);
    let mut queues = vec![Queue::new(1, effort.crowd)];
    for waiters in WAITERS {
        if waiters < files_left {
            files_left -= waiters;
            queues.push(Queue::new(waiters, 0));
        }
    }
    cpu::let_settle();
    for round in 0..effort.relays {
        for turn in 0..queues.len() {
            let turn = if round % 2 == 0 { turn } else { queues.len() - 1 - turn };
            queues[turn].relay();
        }
    }
    queues.rotate_left(1);
    let first = &queues[0];
    let rows = queues.iter().map(|queue| queue.row(first)).collect();
    Section {
        title: "Hand-over",
        method: method(effort),
        columns: vec![
            "waiting",
            "others held",
            "PING p50 us",
            "p99 us",
            "hand-over p50 us",
            "p99 us",
            "p50 / PING",
            "p50 / one waiting",
        ],
        rows,
        targets: targets(&queues),
        plots: vec![plot(&queues)],
    }
}

impl Queue {
    /// A server with one lock that somebody holds and for which so many wait, and with others that nobody wants.
    fn new(waiters: usize, others_held: usize) -> Self {
        let server = Server::builder()
            .config(&format!("maxclients {}", waiters + OTHER_FILES))
            .module_args(&format!("max-waiters {waiters} max-waiters-per-key {waiters}"))
            .start();
        hold_crowd(&server, others_held);
        let mut members: Vec<Member> = (0..=waiters).map(|number| Member::new(&server, number)).collect();
        for (number, member) in members.iter_mut().enumerate() {
            // The server has read what came before, so the order of the queue is this one.
            member.ping_us();
            member.pipe.send(&member.ask);
            if number == 0 {
                member.pipe.receive(&member.ask);
            }
        }
        Self {
            members,
            holder: 0,
            others_held,
            pings_us: Vec::new(),
            hand_overs_us: Vec::new(),
            _server: server,
        }
    }

    fn waiters(&self) -> usize {
        self.members.len() - 1
    }

    /// Hands the lock on a number of times. Who has given it back joins the queue again at its end.
    fn relay(&mut self) {
        let (mut pings_us, mut hand_overs_us) = (Vec::new(), Vec::new());
        for _ in 0..RELAY {
            let next = (self.holder + 1) % self.members.len();
            // The first PING is answered once the server has put the last holder in the queue.
            self.members[self.holder].ping_us();
            pings_us.push(self.members[self.holder].ping_us());
            let start = Instant::now();
            let holder = &mut self.members[self.holder];
            holder.pipe.send(&holder.give_back);
            let heir = &mut self.members[next];
            heir.pipe.receive(&heir.ask);
            hand_overs_us.push(us(start.elapsed()));
            let holder = &mut self.members[self.holder];
            holder.pipe.receive(&holder.give_back);
            holder.pipe.send(&holder.ask);
            self.holder = next;
        }
        self.pings_us.push(pings_us);
        self.hand_overs_us.push(hand_overs_us);
    }

    /// The medians of the rounds.
    fn medians_us(&self) -> Vec<f64> {
        self.hand_overs_us.iter().map(|round| median(round)).collect()
    }

    fn to_ping(&self) -> f64 {
        let pings_us: Vec<f64> = self.pings_us.iter().map(|round| median(round)).collect();
        median(&ratios(&self.medians_us(), &pings_us))
    }

    fn to(&self, other: &Self) -> f64 {
        median(&ratios(&self.medians_us(), &other.medians_us()))
    }

    fn row(&self, first: &Self) -> Vec<String> {
        let mut row = vec![count(self.waiters()), count(self.others_held)];
        for figures in [&self.pings_us, &self.hand_overs_us] {
            row.push(format!("{:.1}", typical(figures, 50.0)));
            row.push(format!("{:.1}", percentile(&figures.concat(), 99.0)));
        }
        row.push(format!("{:.2}", self.to_ping()));
        row.push(format!("{:.2}", self.to(first)));
        row
    }
}

impl Member {
    fn new(server: &Server, number: usize) -> Self {
        let token = token(number);
        let (mut ask, mut give_back) = (Batch::default(), Batch::default());
        ask.push(
            &["LOCK.ACQUIRE", "lock", "PX", "600000", "TOKEN", &token, "BLOCK", "600000"],
            &granted(TOKEN_LEN),
        );
        give_back.push(&["LOCK.RELEASE", "lock", &token], ONE);
        Self { pipe: Pipe::connect(server), ask, give_back }
    }

    /// Sends a PING and gives the time until its answer.
    fn ping_us(&mut self) -> f64 {
        let mut ping = Batch::default();
        ping.push(&["PING"], "+PONG\r\n");
        let start = Instant::now();
        self.pipe.exchange(&ping);
        us(start.elapsed())
    }
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// How many files this process may have open; where that is not known, as many as can be relied on anywhere.
fn open_files() -> usize {
    let text = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = text.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    soft.and_then(|soft| soft.parse().ok()).unwrap_or(256)
}

fn targets(queues: &[Queue]) -> Vec<Target> {
    let first = &queues[0];
    let mut targets = vec![Target {
        name: "release to the next holder's reply, one waiting, p50 against PING".to_owned(),
        figure: first.to_ping(),
        unit: "times",
        bound: Bound::Ceiling(1.5),
    }];
    for queue in queues {
        let name = match (queue.waiters(), queue.others_held) {
            (MANY, _) => format!("the same with {} waiting, against one waiting", count(MANY)),
            (_, 1..) => format!("the same with {} other locks held, against none", count(queue.others_held)),
            _ => continue,
        };
        targets.push(Target { name, figure: queue.to(first), unit: "times", bound: Bound::Ceiling(1.2) });
    }
    targets
}

fn method(effort: &Effort) -> String {
    format!(
        "The holder gives the lock back, and the clock runs until the next in the queue has read that it is granted. \
         Then who gave it back joins the queue again, so that its length stays the same. Before each hand-over the \
         holder sends a PING on the same connection, for comparison. One thread does all this and waits for each \
         reply. Each setting has a server of its own; they take turns, {hand_overs} hand-overs in each of \
         {rounds} rounds. p50 is the median of the rounds' medians, p99 is of all; ratios are medians of the rounds' \
         ratios. Lengths of the queue for which the system does not allow enough open files are left out.",
        hand_overs = RELAY,
        rounds = effort.relays,
    )
}

fn plot(queues: &[Queue]) -> Plot {
    let alone = || queues.iter().filter(|queue| queue.others_held == 0);
    let line = |name: &str, figure: fn(&Queue) -> f64| Line {
        name: name.to_owned(),
        points: alone().map(|queue| (queue.waiters() as f64, figure(queue))).collect(),
    };
    let said: Vec<String> = alone()
        .map(|queue| {
            format!("{:.0} us with {} waiting", typical(&queue.hand_overs_us, 50.0), count(queue.waiters()))
        })
        .collect();
    Plot {
        file: "benchmarks-hand-over.svg",
        alt: format!("Time of a hand-over by length of the queue; the median is {}.", said.join(", ")),
        svg: plots::by_count(
            "From a release to the next holder's reply",
            "clients waiting for the lock",
            "time, \u{b5}s",
            &[
                line("hand-over p50", |queue| typical(&queue.hand_overs_us, 50.0)),
                line("hand-over p99", |queue| percentile(&queue.hand_overs_us.concat(), 99.0)),
                line("PING p50", |queue| typical(&queue.pings_us, 50.0)),
                line("PING p99", |queue| percentile(&queue.pings_us.concat(), 99.0)),
            ],
        ),
    }
}
