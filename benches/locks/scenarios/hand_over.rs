//! How long it takes from giving a lock back until the next in the queue knows that it is the holder.

use std::fs;
use std::time::{Duration, Instant};

use crate::cores::Cores;
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

/// Where the client runs, seen from the server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// On another core, which has to be woken up, as a client of a server mostly is.
    Apart,
    /// On the same core: nothing sleeps, and all there is to see is the work.
    Together,
}

impl Side {
    const ALL: [Self; 2] = [Self::Apart, Self::Together];

    fn name(self) -> &'static str {
        match self {
            Self::Apart => "another",
            Self::Together => "the server's",
        }
    }
}

/// What was seen, round by round, in microseconds.
#[derive(Default)]
struct Seen {
    pings: Vec<Vec<f64>>,
    hand_overs: Vec<Vec<f64>>,
}

/// A lock, who holds it and who waits for it in a row.
struct Queue {
    members: Vec<Member>,
    holder: usize,
    others_held: usize,
    /// By [`Side`].
    seen: [Seen; 2],
    server: Server,
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
    let cores = Cores::allowed();
    queues.iter().for_each(|queue| Cores::pin(queue.server.pid(), cores.last()));
    for round in 0..effort.relays * 2 {
        let side = Side::ALL[round % 2];
        Cores::pin_self(if side == Side::Apart { cores.first() } else { cores.last() });
        for turn in 0..queues.len() {
            let turn = if round % 4 < 2 { turn } else { queues.len() - 1 - turn };
            queues[turn].relay(side);
        }
    }
    drop(cores);
    queues.rotate_left(1);
    let first = &queues[0];
    let rows = Side::ALL.into_iter().flat_map(|side| queues.iter().map(move |queue| queue.row(first, side)));
    Section {
        title: "Hand-over",
        method: method(effort),
        columns: vec![
            "client's core",
            "waiting",
            "others held",
            "PING p50 us",
            "p99 us",
            "hand-over p50 us",
            "p99 us",
            "p50 / PING",
            "p50 / one waiting",
        ],
        rows: rows.collect(),
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
        Self { members, holder: 0, others_held, seen: Default::default(), server }
    }

    fn waiters(&self) -> usize {
        self.members.len() - 1
    }

    /// Hands the lock on a number of times. Who has given it back joins the queue again at its end.
    fn relay(&mut self, side: Side) {
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
        let seen = &mut self.seen[side as usize];
        seen.pings.push(pings_us);
        seen.hand_overs.push(hand_overs_us);
    }

    fn seen(&self, side: Side) -> &Seen {
        &self.seen[side as usize]
    }

    fn to_ping(&self, side: Side) -> f64 {
        let seen = self.seen(side);
        median(&ratios(&medians(&seen.hand_overs), &medians(&seen.pings)))
    }

    fn to(&self, other: &Self, side: Side) -> f64 {
        median(&ratios(&medians(&self.seen(side).hand_overs), &medians(&other.seen(side).hand_overs)))
    }

    fn row(&self, first: &Self, side: Side) -> Vec<String> {
        let mut row = vec![side.name().to_owned(), count(self.waiters()), count(self.others_held)];
        for figures in [&self.seen(side).pings, &self.seen(side).hand_overs] {
            row.push(format!("{:.1}", typical(figures, 50.0)));
            row.push(format!("{:.1}", percentile(&figures.concat(), 99.0)));
        }
        row.push(format!("{:.2}", self.to_ping(side)));
        row.push(format!("{:.2}", self.to(first, side)));
        row
    }
}

fn medians(rounds: &[Vec<f64>]) -> Vec<f64> {
    rounds.iter().map(|round| median(round)).collect()
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
        figure: first.to_ping(Side::Apart),
        unit: "times",
        bound: Bound::Ceiling(1.5),
    }];
    for queue in queues {
        let name = match (queue.waiters(), queue.others_held) {
            (MANY, _) => format!("the same with {} waiting, against one waiting", count(MANY)),
            (_, 1..) => format!("the same with {} other locks held, against none", count(queue.others_held)),
            _ => continue,
        };
        targets.push(Target {
            name,
            figure: queue.to(first, Side::Apart),
            unit: "times",
            bound: Bound::Ceiling(1.2),
        });
    }
    targets
}

fn method(effort: &Effort) -> String {
    format!(
        "The holder gives the lock back, and the clock runs until the next in the queue has read that it is granted. \
         Then who gave it back joins the queue again, so that its length stays the same. Before each hand-over the \
         holder sends a PING on the same connection, for comparison. One thread does all this and waits for each \
         reply. It runs on another core than the servers, which has to be woken up for each reply as a client \
         elsewhere has to; or on the same core, where nothing sleeps and only the work is seen, and where it shows \
         that a connection that was not used for long is no longer in the processor's cache. The targets are set for \
         the first. Each setting has a server of its own; they take turns, {hand_overs} hand-overs in each of \
         {rounds} rounds. p50 is the median of the rounds' medians, p99 is of all; ratios are medians of the rounds' \
         ratios. Lengths of the queue for which the system does not allow enough open files are left out.",
        hand_overs = RELAY,
        rounds = effort.relays,
    )
}

fn plot(queues: &[Queue]) -> Plot {
    let alone = || queues.iter().filter(|queue| queue.others_held == 0);
    let line = |name: &str, side: Side, figures: fn(&Seen) -> &[Vec<f64>]| Line {
        name: name.to_owned(),
        points: alone()
            .map(|queue| (queue.waiters() as f64, typical(figures(queue.seen(side)), 50.0)))
            .collect(),
    };
    let said: Vec<String> = alone()
        .map(|queue| {
            format!(
                "{:.0} us with {} waiting",
                typical(&queue.seen(Side::Apart).hand_overs, 50.0),
                count(queue.waiters())
            )
        })
        .collect();
    Plot {
        file: "benchmarks-hand-over.svg",
        alt: format!(
            "Time of a hand-over by length of the queue. On another core than the server the median is {}.",
            said.join(", ")
        ),
        svg: plots::by_count(
            "From a release to the next holder's reply, median",
            "clients waiting for the lock",
            "time, \u{b5}s",
            &[
                line("hand-over, cores apart", Side::Apart, |seen| &seen.hand_overs),
                line("PING, apart", Side::Apart, |seen| &seen.pings),
                line("hand-over, same core", Side::Together, |seen| &seen.hand_overs),
                line("PING, same core", Side::Together, |seen| &seen.pings),
            ],
        ),
    }
}
