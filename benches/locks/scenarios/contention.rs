//! Many clients that want one lock: waiting in the server against asking again and again.

mod pictures;

use std::thread;
use std::time::Duration;

use crate::contest::{Appetite, Contest, HOLD, Tally};
use crate::cpu;
use crate::effort::Effort;
use crate::means::Means;
use crate::report::{Bound, Section, Target};
use crate::stats::{jain, median, percentile, ratios, typical};
use crate::support::{Client, Server};

/// How many contend, and how eagerly. The first are those the targets are of.
const CROWDS: [Crowd; 3] = [
    Crowd { clients: 64, appetite: Appetite::Measured },
    Crowd { clients: 64, appetite: Appetite::Greedy },
    Crowd { clients: 500, appetite: Appetite::Measured },
];

#[derive(Clone, Copy)]
struct Crowd {
    clients: usize,
    appetite: Appetite,
}

impl Crowd {
    fn name(self) -> String {
        match self.appetite {
            Appetite::Measured => format!("{} clients", self.clients),
            Appetite::Greedy => format!("{} greedy ones", self.clients),
        }
    }
}

/// Before a turn is measured: time enough for all to be served once, where they wait in order.
pub(super) const WARM_UP: Duration = Duration::from_millis(1000);

/// PINGs by which is measured what commands at the pace of a contended lock cost.
const PING_TURNS: usize = 500;

/// Where [`Means::Wait`] is in [`Means::ALL`].
const WAIT: usize = 0;

/// Where the polling is that the targets are set against.
const RIVAL: usize = 2;

/// What was seen of one way, a figure a round.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) grants_per_s: Vec<f64>,
    /// The share of the time in which the lock was held: of the grants that the holds allow, how many there were.
    held: Vec<f64>,
    waits_ms: Vec<Vec<f64>>,
    /// The longest, those included that had not ended.
    worst_ms: Vec<f64>,
    pub(super) fairness: Vec<f64>,
    commands: Vec<f64>,
    cpu_us: Vec<f64>,
}

pub(crate) fn run(effort: &Effort) -> Section {
    let server = Server::start();
    cpu::let_settle();
    let mut info = server.client();
    let mut rounds = effort.contests;
    let crowds = CROWDS.map(|crowd| {
        let mut seen: [Seen; 4] = Default::default();
        for round in 0..rounds {
            for turn in 0..Means::ALL.len() {
                let turn = if round % 2 == 0 { turn } else { Means::ALL.len() - 1 - turn };
                seen[turn].observe(&server, &mut info, Means::ALL[turn], crowd, effort.contest);
            }
        }
        rounds = 1;
        seen
    });
    let rows = CROWDS.iter().zip(&crowds).flat_map(|(&crowd, seen)| {
        Means::ALL.into_iter().zip(seen).map(move |(means, seen)| seen.row(crowd, means))
    });
    Section {
        title: "Contention",
        method: method(effort, two_pings_us(&server, &mut info)),
        columns: vec![
            "clients",
            "way",
            "grants/s",
            "of what the holds allow",
            "wait p50 ms",
            "p99 ms",
            "worst ms",
            "fairness",
            "commands a grant",
            "us of CPU a grant",
        ],
        rows: rows.collect(),
        targets: targets(&crowds[0]),
        plots: vec![pictures::bars(&crowds), pictures::waits(&crowds[0])],
    }
}

impl Seen {
    /// Lets so many clients contend for a fresh lock.
    fn observe(&mut self, server: &Server, info: &mut Client, means: Means, crowd: Crowd, time: Duration) {
        info.ok("FLUSHALL");
        let mut contest = Contest::new(server, means, crowd.appetite, crowd.clients);
        contest.run(WARM_UP);
        contest.tally = Tally { grants: vec![0; crowd.clients], ..Tally::default() };
        let spent = spent_during(info, means, || contest.run(time));
        self.take(&contest.tally, &contest.unfinished_ms(), time, spent);
    }

    /// Takes the figures of a round that was so long.
    pub(super) fn take(&mut self, tally: &Tally, unfinished_ms: &[f64], time: Duration, spent: Spent) {
        let Tally { grants, waits_ms, held_ms } = tally;
        let grants_in_all = waits_ms.len() as f64;
        self.grants_per_s.push(grants_in_all / time.as_secs_f64());
        self.held.push(held_ms / 1e3 / time.as_secs_f64());
        self.fairness.push(jain(grants));
        self.commands.push(spent.commands as f64 / grants_in_all);
        self.cpu_us.push(spent.cpu_us / grants_in_all);
        self.worst_ms.push(percentile(&[waits_ms, unfinished_ms].concat(), 100.0));
        self.waits_ms.push(waits_ms.clone());
    }

    fn row(&self, crowd: Crowd, means: Means) -> Vec<String> {
        let mut row = vec![crowd.name(), means.name(), format!("{:.0}", median(&self.grants_per_s))];
        row.extend(self.figures());
        row
    }

    /// What stands in the columns behind that of the grants.
    pub(super) fn figures(&self) -> [String; 7] {
        [
            format!("{:.2}", median(&self.held)),
            format!("{:.1}", typical(&self.waits_ms, 50.0)),
            format!("{:.1}", typical(&self.waits_ms, 99.0)),
            format!("{:.0}", percentile(&self.worst_ms, 100.0)),
            format!("{:.3}", median(&self.fairness)),
            format!("{:.2}", median(&self.commands)),
            format!("{:.1}", median(&self.cpu_us)),
        ]
    }
}

/// What a round has cost.
pub(super) struct Spent {
    /// Of the server's CPU.
    cpu_us: f64,
    /// Those of the clients.
    commands: usize,
}

/// What it costs to do something.
pub(super) fn spent_during(info: &mut Client, means: Means, deed: impl FnOnce()) -> Spent {
    let (cpu_us, commands) = (cpu::used_us(info), calls(info, means));
    deed();
    Spent { cpu_us: cpu::used_us(info) - cpu_us, commands: calls(info, means) - commands }
}

/// How many commands of these clients the server has run, by its own count.
pub(super) fn calls(info: &mut Client, means: Means) -> usize {
    let text = info.call(&["INFO", "commandstats"]).text();
    let calls = |command: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("cmdstat_")?.strip_prefix(command));
        let calls = line.and_then(|line| line.strip_prefix(":calls=")?.split(',').next());
        calls.map_or(0, |calls| calls.parse().unwrap())
    };
    means.commands().into_iter().map(calls).sum()
}

fn targets(seen: &[Seen]) -> Vec<Target> {
    let (wait, rival) = (&seen[WAIT], &seen[RIVAL]);
    let clients = CROWDS[0].clients;
    let target = |name: String, figure, unit, bound| Target { name, figure, unit, bound };
    let rival_name = Means::ALL[RIVAL].name();
    let against = |rival: &Seen| median(&ratios(&wait.grants_per_s, &rival.grants_per_s));
    let polling = seen.iter().enumerate().filter(|(way, _)| *way != WAIT);
    vec![
        target(
            format!("grants/s, {clients} clients contending, against what the holds allow"),
            median(&wait.held),
            "times",
            Bound::Floor(0.9),
        ),
        target(
            format!("grants/s, {clients} clients contending, against the best of polling"),
            polling.map(|(_, rival)| against(rival)).fold(f64::INFINITY, f64::min),
            "times",
            Bound::Floor(1.0),
        ),
        target(
            format!("fairness (Jain), {clients} clients contending"),
            median(&wait.fairness),
            "",
            Bound::Floor(0.99),
        ),
        target(
            format!("worst wait against the median, {clients} clients contending"),
            percentile(&wait.worst_ms, 100.0) / typical(&wait.waits_ms, 50.0),
            "times",
            Bound::Ceiling(3.0),
        ),
        target(
            format!("server CPU a grant, {clients} clients contending, against `{rival_name}`"),
            median(&ratios(&wait.cpu_us, &rival.cpu_us)),
            "times",
            Bound::Ceiling(0.5),
        ),
        target(
            format!("commands a grant, {clients} clients contending"),
            // At either end of the time a holder may have sent one of its two.
            (median(&wait.commands) * 100.0).round() / 100.0,
            "",
            Bound::Ceiling(2.0),
        ),
    ]
}

/// Microseconds of server CPU for two PINGs, if they come every time a hold ends.
fn two_pings_us(server: &Server, info: &mut Client) -> f64 {
    let mut client = server.client();
    let before = cpu::used_us(info);
    for _ in 0..PING_TURNS {
        client.run("PING");
        client.run("PING");
        thread::sleep(HOLD);
    }
    (cpu::used_us(info) - before) / PING_TURNS as f64
}

fn method(effort: &Effort, two_pings_us: f64) -> String {
    format!(
        "{clients} or {more} clients want one lock. Whoever gets it keeps it for {hold} ms, gives it back, is busy \
         elsewhere for 5 to 15 ms and wants it again; *greedy* ones want it again as soon as they are told that they \
         have given it back. They wait with `LOCK.ACQUIRE BLOCK`, or send `SET NX PX` again so many milliseconds after \
         they were refused, and unlock with `EVALSHA`. The ways take turns on one server, {rounds} rounds in the first \
         setting and one in the others, {seconds} s each and {warm_up} s before that which do not count. All clients \
         are looked after by one thread, which sleeps while there is nothing to do: as many threads as clients, on few \
         cores, would be in the way of the server. Where {more} clients poll every millisecond that thread is at its \
         limit, and they poll less often than they would.\n\n\
         The holds allow so many grants a second as there would be if each began when the one before ended, and \
         lasted as long as these holds did by their clients' account: {hold} ms and what the client's sleep was late by. \
         A wait lasts from the first request to the grant. The worst may be one that had not ended when the time was \
         up; p50 and p99 are of those that ended, which with polling are the waits of the lucky. Fairness is Jain's \
         index of the clients' numbers of grants: 1 if all have got as many, 1/n if one has got all. Commands are \
         those the clients sent, by the server's `commandstats`; CPU is the server process's. The figures are medians \
         of the rounds, the worst wait is the worst of all.\n\n\
         A server whose clients wait sleeps most of the time, and to be woken up costs it something; one that is \
         polled hardly ever sleeps. Two PINGs every {hold} ms cost it {two_pings_us:.1} us of CPU, and to give a lock \
         back and ask for it takes two commands at least.",
        clients = CROWDS[0].clients,
        more = CROWDS[2].clients,
        hold = HOLD.as_millis(),
        rounds = effort.contests,
        seconds = effort.contest.as_secs(),
        warm_up = WARM_UP.as_secs(),
    )
}
