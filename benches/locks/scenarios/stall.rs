//! How long others are kept waiting while clients do their worst.

mod endings;
mod holds;
mod readers;

pub(crate) use endings::run as endings;
pub(crate) use holds::run as holds;
pub(crate) use readers::run as readers;

use std::thread;
use std::time::{Duration, Instant};

use crate::effort::Effort;
use crate::open_files::may_be_open;
use crate::probe::{Watched, watch};
use crate::report::{Bound, Section, Target};
use crate::stats::{median, percentile};
use crate::support::{Client, PATIENCE, Server, wait_until};

/// What a PING of somebody else may take at most, in milliseconds.
const LONGEST_MS: f64 = 20.0;

/// When so much time has gone by nothing is done once more.
const ENOUGH: Duration = Duration::from_secs(8);

/// How long nothing is done, for comparison.
const IDLE: Duration = Duration::from_millis(500);

/// How long before leases or waits end what is seen begins to count.
const LEAD: Duration = Duration::from_millis(50);

const COLUMNS: [&str; 6] =
    ["what is done meanwhile", "times", "PING p99 ms", "longest ms", "by the clock ms", "all done after ms"];

/// The name of a lock, short, so that the server reads many commands at once.
fn key(lock: usize) -> String {
    lock.to_string()
}

/// Fewer connections than this are open where none is measured.
pub(crate) const FEW: usize = 10;

/// Waits until fewer connections than this are open.
pub(crate) fn until_connected(client: &mut Client, fewer_than: usize) {
    let mut connected = || client.info("clients", "connected_clients").parse::<usize>().unwrap();
    wait_until("the connections are closed", PATIENCE, || connected() < fewer_than);
}

/// One way to do one's worst, and what was seen of it, round by round.
struct Case {
    what: String,
    seen: Vec<Watched>,
    /// Whether it could not be done, since that many files may not be open.
    is_left_out: bool,
    /// Whether it is held to the target.
    has_target: bool,
}

impl Case {
    fn new(what: &str) -> Self {
        Self { what: what.to_owned(), seen: Vec::new(), is_left_out: false, has_target: true }
    }

    /// Does it a number of times, or less often if that takes long.
    fn observe(what: &str, effort: &Effort, mut round: impl FnMut() -> Watched) -> Self {
        let mut case = Self::new(what);
        let start = Instant::now();
        while case.seen.is_empty() || case.seen.len() < effort.worsts && start.elapsed() < ENOUGH {
            case.seen.push(round());
        }
        case
    }

    /// Nothing, for comparison.
    fn idle(server: &Server, effort: &Effort) -> Self {
        Self::observe("nothing", effort, || watch(server, || thread::sleep(IDLE)).0)
    }

    /// Observes what takes so many connections, if there may be so many.
    fn observe_with(connections: usize, what: &str, observe: impl FnOnce() -> Self) -> Self {
        if may_be_open(connections) { observe() } else { Self::left_out(what) }
    }

    fn left_out(what: &str) -> Self {
        Self { is_left_out: true, ..Self::new(what) }
    }

    fn without_target(mut self) -> Self {
        self.has_target = false;
        self
    }

    /// The median of the rounds' longest PINGs, in milliseconds.
    fn longest_ms(&self) -> f64 {
        self.median_of(|seen| percentile(&seen.pings_ms, 100.0))
    }

    /// The median over the rounds.
    fn median_of(&self, figure: impl Fn(&Watched) -> f64) -> f64 {
        median(&self.seen.iter().map(figure).collect::<Vec<_>>())
    }

    fn row(&self) -> Vec<String> {
        let mut row = vec![self.what.clone()];
        if self.is_left_out {
            row.push("left out: not so many files may be open".to_owned());
            row.resize(COLUMNS.len(), String::new());
            return row;
        }
        row.push(self.seen.len().to_string());
        let figures = [
            self.median_of(|seen| percentile(&seen.pings_ms, 99.0)),
            self.longest_ms(),
            self.median_of(|seen| seen.longest_by_clock_ms),
            self.median_of(|seen| seen.took_ms),
        ];
        row.extend(figures.map(|ms| format!("{ms:.1}")));
        row
    }

    fn target(&self) -> Option<Target> {
        (self.has_target && !self.is_left_out).then(|| Target {
            name: format!("the longest PING of another client; {}", self.what),
            figure: self.longest_ms(),
            unit: "ms",
            bound: Bound::Ceiling(LONGEST_MS),
        })
    }
}

/// The section for some cases, the first of which is that nothing is done.
fn section(title: &'static str, method: &str, cases: &[Case]) -> Section {
    let how = "One connection sends PINGs, each a millisecond after the reply to the last. A figure is the median of \
               the rounds' figures. The time in which the server or that client was ready to run and had no core is \
               taken off, where the system says how much it was; the longest by the clock has it in it. A PING \
               that took long stands for all that would have been sent meanwhile. The last column is how long it \
               took until the clients had all their replies, or all was gone. What takes long is done less often.";
    Section {
        title,
        method: format!("{method}\n\n{how}"),
        columns: COLUMNS.to_vec(),
        rows: cases.iter().map(Case::row).collect(),
        targets: cases.iter().skip(1).filter_map(Case::target).collect(),
        plots: Vec::new(),
    }
}
