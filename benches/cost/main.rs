//! Instructions that the server executes for an operation, by callgrind. Unlike times they are the same on every machine
//! with the same server, libraries and module, so that a loss of one percent shows. `make cost` runs it and writes
//! `docs/cost.md`.
//!
//! - `COST_WHERE=1` says instead in which 40 functions acquire + release spend most of theirs; `COST_WHERE=200` names 200.
//! - `REDIS_LOCK_MODULE` and `REDIS_SERVER` name the module and the server, as in the tests.
//!
//! Every count is what a run of 4,000 has more than one of 1,000, on new servers, divided by the 3,000 between: starting and
//! ending cancel out. What the server does by the clock is not counted, nor what the kernel does, nor the clients. The
//! server's random numbers decide how far it has to look for a command in its table; so they are given to it, the same in
//! every run, and every row is counted with [`SEEDS`] of them, of which it shows the mean. Counted again, a row comes out
//! the same to one or two in a thousand: what is left is how many bytes a read finds, and the module's own random numbers.
//!
//! It fails where a floor of [`limits`] is not kept; targets are only reported.
#![allow(clippy::unwrap_used, clippy::panic)] // a failure ends the run
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)] // likewise
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // figures to be rounded

mod counted;
mod limits;
#[allow(dead_code)] // of it, the keys and tokens
#[path = "../locks/loads.rs"]
mod loads;
#[path = "../locks/machine.rs"]
mod machine;
#[allow(dead_code)] // likewise
#[path = "../locks/pipe.rs"]
mod pipe;
mod report;
#[path = "../../tests/support/mod.rs"]
mod support;
mod works;

use std::env;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use counted::{Job, Seeding};
use report::{Report, Row};
use works::Work;

/// How often every row is counted, each time with other random numbers.
const SEEDS: u8 = 3;

/// How many functions are shown where not asked otherwise.
const FUNCTIONS: usize = 40;

/// Servers at a time; none gets in another's way.
const AT_A_TIME: usize = 2;

fn main() -> ExitCode {
    if let Ok(most) = env::var("COST_WHERE") {
        report::print_functions(most.parse().ok().filter(|most| *most > 1).unwrap_or(FUNCTIONS));
        return ExitCode::SUCCESS;
    }
    let start = Instant::now();
    let report = Report { machine: machine::describe(), rows: count_all() };
    println!("{}", report.as_markdown());
    println!("{:.0} s", start.elapsed().as_secs_f64());
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cost.md");
    fs::write(&page, report.as_markdown()).unwrap();
    let failures = report.failures();
    for failure in &failures {
        eprintln!("{failure}");
    }
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn count_all() -> Vec<Row> {
    let files = Work::ALL.into_iter().filter(|work| work.is_for_aof()).map(|work| (work, true));
    let mut rows: Vec<Row> = Work::ALL
        .into_iter()
        .map(|work| (work, false))
        .chain(files)
        .map(|(work, with_aof)| Row { work, with_aof, counts: Vec::new() })
        .collect();
    let seeding = Seeding::new();
    let jobs = (0..rows.len()).flat_map(|row| (0..SEEDS).map(move |seed| (row, seed)));
    let jobs = Mutex::new(jobs.collect::<Vec<_>>().into_iter());
    let counted = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let Some((row, seed)) = jobs.lock().unwrap().next() else { break };
                    let Row { work, with_aof, .. } = rows[row];
                    let count = Job { work, with_aof, seed }.instructions(&seeding);
                    counted.lock().unwrap().push((row, count));
                }
            });
        }
    });
    for (row, count) in counted.into_inner().unwrap() {
        rows[row].counts.push(count);
    }
    rows
}
