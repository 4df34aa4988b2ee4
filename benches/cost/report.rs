//! What was counted, as a page.

use std::fmt::Write as _;

use crate::counted::{Job, Seeding};
use crate::limits::{LIMITS, Limit};
use crate::works::Work;

/// A work and its counts.
pub(crate) struct Row {
    pub(crate) work: Work,
    pub(crate) with_aof: bool,
    /// Instructions for one piece of it, every time it was counted.
    pub(crate) counts: Vec<f64>,
}

impl Row {
    fn mean(&self) -> f64 {
        self.counts.iter().sum::<f64>() / self.counts.len() as f64
    }

    fn spread_percent(&self) -> f64 {
        let least = self.counts.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.counts.iter().copied().fold(0.0, f64::max);
        (most - least) / least * 100.0
    }

    fn name(&self) -> String {
        format!("{}{}", self.work.name(), if self.with_aof { ", with an append-only file" } else { "" })
    }
}

/// All that a run found.
pub(crate) struct Report {
    pub(crate) machine: Vec<(&'static str, String)>,
    pub(crate) rows: Vec<Row>,
}

impl Report {
    /// The page.
    pub(crate) fn as_markdown(&self) -> String {
        let mut page = "# Instructions\n\n\
            `make cost` writes this page. It counts what the server executes for an operation, reading the command and\n\
            answering included, with valgrind's callgrind. The counts are those of this server, these libraries and this\n\
            module, on whatever machine; what the kernel does is not in them. One pipelined connection, 500 keys, the\n\
            append-only file without `fsync`. Each figure is the mean of three servers that find the same commands at other\n\
            places of their tables; by how much those differ is the spread.\n\n\
            | | |\n| --- | --- |\n"
            .to_owned();
        for (name, value) in self.machine.iter().filter(|(name, _)| SHOWN.contains(name)) {
            writeln!(page, "| {name} | {value} |").unwrap();
        }
        page += "\n## Counts\n\n\
            | work | instructions | spread | against `SET NX PX` + `EVALSHA` |\n| --- | ---: | ---: | --- |\n";
        for row in &self.rows {
            let ratio = if matches!(row.work, Work::SetAndDel | Work::Lock | Work::LockByUuid) {
                format!("{:.2} times less", self.ratio(row.work, row.with_aof))
            } else {
                String::new()
            };
            let (name, mean, spread) = (row.name(), thousands(row.mean()), row.spread_percent());
            writeln!(page, "| {name} | {mean} | {spread:.1} % | {ratio} |").unwrap();
        }
        page += "\n## Targets\n\n\
            How many times less acquire + release, with tokens of 32 hex digits, take than `SET NX PX` + `EVALSHA`. Below the\n\
            floor `make cost` fails.\n\n\
            | | measured | floor | target | aim | |\n| --- | --- | --- | --- | --- | --- |\n";
        for limit in &LIMITS {
            let ratio = self.ratio(Work::Lock, limit.with_aof);
            let verdict = match ratio {
                _ if ratio >= limit.aim => "met, and the aim",
                _ if ratio >= limit.target => "met",
                _ => "missed",
            };
            let (place, Limit { floor, target, aim, .. }) = (place(limit), limit);
            writeln!(page, "| {place} | {ratio:.2} | {floor} | {target} | {aim} | {verdict} |").unwrap();
        }
        page
    }

    /// Why the run has failed.
    pub(crate) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for limit in &LIMITS {
            let ratio = self.ratio(Work::Lock, limit.with_aof);
            if ratio < limit.floor {
                failures.push(format!("acquire + release {}: {ratio:.3} is below the floor", place(limit)));
            }
        }
        failures
    }

    /// How many times less than `SET NX PX` + `EVALSHA` it takes.
    fn ratio(&self, work: Work, with_aof: bool) -> f64 {
        let mean = |work| {
            let row = self.rows.iter().find(|row| row.work == work && row.with_aof == with_aof);
            row.unwrap().mean()
        };
        mean(Work::SetAndScript) / mean(work)
    }
}

/// What the page says of the machine; the rest does not matter here.
const SHOWN: [&str; 5] = ["processor", "server", "allocator", "module", "date"];

fn place(limit: &Limit) -> &'static str {
    if limit.with_aof { "with an append-only file" } else { "in memory" }
}

/// To the nearest ten, with commas.
fn thousands(count: f64) -> String {
    let count = (count / 10.0).round() as u64 * 10;
    if count < 1_000 { count.to_string() } else { format!("{},{:03}", count / 1_000, count % 1_000) }
}

/// Prints where the instructions of acquire + release go, as that many functions of each kind.
pub(crate) fn print_functions(most: usize) {
    let seeding = Seeding::new();
    for with_aof in [false, true] {
        let job = Job { work: Work::Lock, with_aof, seed: 0 };
        let title = if with_aof { "with an append-only file" } else { "in memory" };
        for (kind, inclusive) in [("with what it calls", true), ("itself", false)] {
            println!("Acquire + release {title}, each function {kind}:\n");
            for (name, count) in job.by_function(&seeding, inclusive).iter().take(most) {
                println!("{count:>8.0}  {name}");
            }
            println!();
        }
    }
}
