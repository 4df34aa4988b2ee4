//! Many clients on one connection that want one lock, against as many that wait on a connection each.

use std::time::Duration;

use super::shared::{Notice, Shared};
use crate::contest::{Appetite, Contest, HOLD, KEY, Tally};
use crate::cpu;
use crate::effort::Effort;
use crate::means::Means;
use crate::report::{Bound, Section, Target};
use crate::scenarios::contention::{WARM_UP, calls};
use crate::scenarios::memory::until_alone;
use crate::stats::{jain, median, percentile, ratios, typical};
use crate::support::{Client, Server};

/// How many contend.
const CLIENTS: usize = 64;

/// How often they ask again where there are no messages.
const REPEAT: Duration = Duration::from_millis(50);

/// How clients come by the lock, and nobody, for comparison.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A connection for each, with BLOCK.
    Blocked,
    /// One connection for all, with QUEUE.
    Places(Notice),
    /// A connection on which only PINGs are sent.
    Idle,
}

impl Way {
    /// In the order of the turns.
    const ALL: [Self; 4] =
        [Self::Blocked, Self::Places(Notice::Message), Self::Places(Notice::Repeat(REPEAT)), Self::Idle];

    fn name(self) -> String {
        match self {
            Self::Blocked => "a connection each, BLOCK".to_owned(),
            Self::Places(Notice::Message) => "one connection, QUEUE and messages".to_owned(),
            Self::Places(Notice::Repeat(pause)) => {
                format!("one connection, QUEUE every {} to {} ms", pause.as_millis() / 2, pause.as_millis())
            }
            Self::Idle => "nobody".to_owned(),
        }
    }
}

/// What was seen of a way, a figure a round.
#[derive(Default)]
struct Seen {
    grants_per_s: Vec<f64>,
    /// The share of the time in which the lock was held.
    held: Vec<f64>,
    waits_ms: Vec<Vec<f64>>,
    /// The longest, those included that had not ended.
    worst_ms: Vec<f64>,
    fairness: Vec<f64>,
    commands: Vec<f64>,
    cpu_us: Vec<f64>,
    pings_us: Vec<Vec<f64>>,
    second_holders: usize,
}

pub(crate) fn run(effort: &Effort) -> Section {
    let server = Server::start();
    cpu::let_settle();
    let mut info = server.client();
    let mut seen: [Seen; 4] = Default::default();
    for round in 0..effort.contests {
        for turn in 0..Way::ALL.len() {
            let turn = if round % 2 == 0 { turn } else { Way::ALL.len() - 1 - turn };
            seen[turn].observe(&server, &mut info, Way::ALL[turn], effort.contest);
        }
    }
    let [blocked, messages, repeats, idle] = &seen;
    Section {
        title: "Places in the queue on one connection",
        method: method(effort, repeats, blocked),
        columns: vec![
            "way",
            "grants/s",
            "of those with a connection each",
            "of what the holds allow",
            "wait p50 ms",
            "p99 ms",
            "worst ms",
            "fairness",
            "commands a grant",
            "us of CPU a grant",
            "PING p50 us",
            "p99 us",
        ],
        rows: Way::ALL.iter().zip(&seen).map(|(way, seen)| seen.row(*way, blocked)).collect(),
        targets: targets(blocked, messages, repeats, idle),
        plots: Vec::new(),
    }
}

impl Seen {
    /// Lets the clients contend for a lock that is free.
    fn observe(&mut self, server: &Server, info: &mut Client, way: Way, time: Duration) {
        match way {
            Way::Blocked => {
                let mut contest = Contest::new(server, Means::Wait, Appetite::Measured, CLIENTS);
                contest.run(WARM_UP);
                contest.tally = Tally { grants: vec![0; CLIENTS], ..Tally::default() };
                let spent = spent_during(info, || contest.run(time));
                self.take(&contest.tally, &contest.unfinished_ms(), time, spent);
                drop(contest);
                until_alone(info);
                info.ok("FLUSHALL");
            }
            Way::Places(notice) => {
                let mut shared = Shared::new(server, notice, CLIENTS);
                shared.run(WARM_UP);
                shared.begin_to_count();
                let spent = spent_during(info, || shared.run(time));
                self.take(&shared.tally, &shared.unfinished_ms(), time, spent);
                self.pings_us.push(shared.pings_us.clone());
                self.second_holders += shared.second_holders;
                assert_eq!(shared.lost_turns, 0, "a place was lost");
                shared.finish();
            }
            Way::Idle => {
                let mut shared = Shared::new(server, Notice::Message, 0);
                shared.run(WARM_UP);
                shared.begin_to_count();
                shared.run(time);
                self.pings_us.push(shared.pings_us.clone());
            }
        }
        assert!(info.call(&["LOCK.INFO", KEY]).is_null(), "somebody is left");
    }

    fn take(&mut self, tally: &Tally, unfinished_ms: &[f64], time: Duration, (cpu_us, commands): (f64, f64)) {
        let Tally { grants, waits_ms, held_ms } = tally;
        let grants_in_all = waits_ms.len() as f64;
        self.grants_per_s.push(grants_in_all / time.as_secs_f64());
        self.held.push(held_ms / 1e3 / time.as_secs_f64());
        self.fairness.push(jain(grants));
        self.commands.push(commands / grants_in_all);
        self.cpu_us.push(cpu_us / grants_in_all);
        self.worst_ms.push(percentile(&[waits_ms, unfinished_ms].concat(), 100.0));
        self.waits_ms.push(waits_ms.clone());
    }

    fn row(&self, way: Way, blocked: &Self) -> Vec<String> {
        let mut row = vec![way.name()];
        if way == Way::Idle {
            row.resize(10, String::new());
        } else {
            row.extend([
                format!("{:.0}", median(&self.grants_per_s)),
                format!("{:.2}", median(&ratios(&self.grants_per_s, &blocked.grants_per_s))),
                format!("{:.2}", median(&self.held)),
                format!("{:.1}", typical(&self.waits_ms, 50.0)),
                format!("{:.1}", typical(&self.waits_ms, 99.0)),
                format!("{:.0}", percentile(&self.worst_ms, 100.0)),
                format!("{:.3}", median(&self.fairness)),
                format!("{:.2}", median(&self.commands)),
                format!("{:.1}", median(&self.cpu_us)),
            ]);
        }
        if way == Way::Blocked {
            row.resize(12, String::new());
        } else {
            row.extend([50.0, 99.0].map(|percent| format!("{:.0}", typical(&self.pings_us, percent))));
        }
        row
    }

    /// The 99th percentile of the PINGs of each round.
    fn pings_p99_us(&self) -> Vec<f64> {
        self.pings_us.iter().map(|round| percentile(round, 99.0)).collect()
    }
}

/// Microseconds of server CPU and commands that something takes.
fn spent_during(info: &mut Client, deed: impl FnOnce()) -> (f64, f64) {
    let (cpu_us, commands) = (cpu::used_us(info), calls(info, Means::Wait));
    deed();
    (cpu::used_us(info) - cpu_us, (calls(info, Means::Wait) - commands) as f64)
}

fn targets(blocked: &Seen, messages: &Seen, repeats: &Seen, idle: &Seen) -> Vec<Target> {
    let target = |name: String, figure, unit, bound| Target { name, figure, unit, bound };
    vec![
        target(
            format!(
                "grants/s, {CLIENTS} places on one connection and messages, against as many connections that wait"
            ),
            median(&ratios(&messages.grants_per_s, &blocked.grants_per_s)),
            "times",
            Bound::Floor(0.9),
        ),
        target(
            format!("fairness (Jain), {CLIENTS} places on one connection and messages"),
            median(&messages.fairness),
            "",
            Bound::Floor(0.99),
        ),
        target(
            format!("PING p99 on the connection that {CLIENTS} contend on, against an idle one"),
            median(&ratios(&messages.pings_p99_us(), &idle.pings_p99_us())),
            "times",
            Bound::Ceiling(2.0),
        ),
        target(
            format!("grants to a second holder, {CLIENTS} places on one connection, messages and repeats"),
            (messages.second_holders + repeats.second_holders) as f64,
            "",
            Bound::Ceiling(0.0),
        ),
    ]
}

fn method(effort: &Effort, repeats: &Seen, blocked: &Seen) -> String {
    format!(
        "{CLIENTS} clients want one lock, hold it for {hold} ms and are busy elsewhere for 5 to 15 ms, as under \
         *Contention*. They wait on a connection each with `LOCK.ACQUIRE BLOCK`. Or they share one connection: they ask \
         with QUEUE, a second connection subscribes to the channel of the lock, and whoever is called by a message asks \
         again and so claims the lock. Or there is no such connection, and they ask again every {half} to {repeat} ms until they \
         are granted the lock: then it is idle from each release until the next of them asks, and changes hands \
         {slower:.1} times less often than among those that wait on connections. On the connection that they share a \
         PING is sent every {ping} ms, and for comparison on one on which nothing else happens. The ways take turns on \
         one server, {rounds} rounds, {seconds} s each and {warm_up} s before that which do not count. All is looked \
         after by one thread. Figures are as under *Contention*; those of PINGs are medians of the rounds' percentiles.",
        hold = HOLD.as_millis(),
        half = REPEAT.as_millis() / 2,
        repeat = REPEAT.as_millis(),
        slower = median(&ratios(&blocked.grants_per_s, &repeats.grants_per_s)),
        ping = super::shared::PING_EVERY.as_millis(),
        rounds = effort.contests,
        seconds = effort.contest.as_secs(),
        warm_up = WARM_UP.as_secs(),
    )
}
