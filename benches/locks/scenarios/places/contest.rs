//! Many clients on one connection that want one lock, against as many that wait on a connection each.

use std::time::Duration;

use super::shared::{Notice, Shared};
use crate::contest::{Appetite, Contest, HOLD, KEY, Tally};
use crate::cpu;
use crate::effort::Effort;
use crate::means::Means;
use crate::report::{Bound, Section, Target};
use crate::scenarios::contention::{self, WARM_UP, spent_during};
use crate::scenarios::memory::until_alone;
use crate::stats::{median, percentile, ratios, typical};
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
    contest: contention::Seen,
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
                let spent = spent_during(info, Means::Wait, || contest.run(time));
                self.contest.take(&contest.tally, &contest.unfinished_ms(), time, spent);
                drop(contest);
                until_alone(info);
                info.ok("FLUSHALL");
            }
            Way::Places(notice) => {
                let mut shared = Shared::new(server, notice, CLIENTS);
                shared.run(WARM_UP);
                shared.begin_to_count();
                let spent = spent_during(info, Means::Wait, || shared.run(time));
                self.contest.take(&shared.tally, &shared.unfinished_ms(), time, spent);
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

    fn row(&self, way: Way, blocked: &Self) -> Vec<String> {
        let mut row = vec![way.name()];
        if way == Way::Idle {
            row.resize(10, String::new());
        } else {
            let grants_per_s = &self.contest.grants_per_s;
            row.push(format!("{:.0}", median(grants_per_s)));
            row.push(format!("{:.2}", median(&ratios(grants_per_s, &blocked.contest.grants_per_s))));
            row.extend(self.contest.figures());
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

fn targets(blocked: &Seen, messages: &Seen, repeats: &Seen, idle: &Seen) -> Vec<Target> {
    let target = |name: String, figure, unit, bound| Target { name, figure, unit, bound };
    vec![
        target(
            format!(
                "grants/s, {CLIENTS} places on one connection and messages, against as many connections that wait"
            ),
            median(&ratios(&messages.contest.grants_per_s, &blocked.contest.grants_per_s)),
            "times",
            Bound::Floor(0.9),
        ),
        target(
            format!("fairness (Jain), {CLIENTS} places on one connection and messages"),
            median(&messages.contest.fairness),
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
        slower = median(&ratios(&blocked.contest.grants_per_s, &repeats.contest.grants_per_s)),
        ping = super::shared::PING_EVERY.as_millis(),
        rounds = effort.contests,
        seconds = effort.contest.as_secs(),
        warm_up = WARM_UP.as_secs(),
    )
}
