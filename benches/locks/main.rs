//! The benchmarks. `make bench` runs them, prints their tables and writes `docs/benchmarks.md`, its
//! pictures and `docs/benchmarks-targets.md` from them.
//!
//! - `cargo bench --bench locks -- memory` runs the scenarios whose names contain `memory`; several words may be
//!   given. Nothing is written then.
//! - `BENCH_QUICK=1` measures less, in a few minutes, to see that all of it works. Nothing is written then either.
//! - `BENCH_DOCS` names another folder for the page and its pictures, which are written then whatever was measured.
//! - `REDIS_LOCK_MODULE` and `REDIS_SERVER` name the module and the server, as in the tests.
//!
//! A scenario is a function in `scenarios` that starts its servers and gives a [`report::Section`]: its figures, how
//! they came about, and the targets they are held to. To add one, write it and name it in [`SCENARIOS`].
#![allow(clippy::unwrap_used, clippy::panic)] // a failure ends the run
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)] // likewise
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // figures to be rounded

mod contest;
mod cores;
mod cpu;
mod effort;
mod fill;
mod loads;
mod machine;
mod many;
mod means;
mod open_files;
mod pipe;
mod plots;
mod probe;
mod report;
mod scenarios;
mod stats;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use effort::Effort;
use report::Section;
use scenarios::{
    contention, crowd, deadlocks, expiry_hand_over, guard, hand_over, lateness, mass_expiry, memory,
    operators, pairs, per_hold, places, sessions, several, stall,
};

/// Measures something and says what came out.
type Scenario = fn(&Effort) -> Section;

/// All scenarios by name, in the report's order.
const SCENARIOS: [(&str, Scenario); 21] = [
    ("pairs", pairs::in_memory),
    ("aof", pairs::with_aof),
    ("several", several::run),
    ("guard", guard::run),
    ("crowd", crowd::run),
    ("contention", contention::run),
    ("hand-over", hand_over::run),
    ("expiry-hand-over", expiry_hand_over::run),
    ("memory", memory::run),
    ("lateness", lateness::run),
    ("mass-expiry", mass_expiry::run),
    ("stall-holds", stall::holds),
    ("stall-readers", stall::readers),
    ("stall-endings", stall::endings),
    ("per-hold", per_hold::run),
    ("sessions", sessions::run),
    ("places", places::contest),
    ("places-memory", places::memory),
    ("places-hand-over", places::hand_over),
    ("operators", operators::run),
    ("deadlocks", deadlocks::run),
];

fn main() {
    let effort = Effort::from_environment();
    // Words with dashes are cargo's.
    let wanted: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let machine = machine::describe();
    println!("{}", report::pairs_as_text(&machine));
    let start = Instant::now();
    let mut sections = Vec::new();
    for (name, scenario) in SCENARIOS {
        if wanted.is_empty() || wanted.iter().any(|word| name.contains(word)) {
            let section = scenario(&effort);
            println!("{}", section.as_text());
            sections.push(section);
        }
    }
    println!("{}", report::targets_as_text(&sections));
    println!("{:.0} s", start.elapsed().as_secs_f64());
    let elsewhere = env::var_os("BENCH_DOCS").map(PathBuf::from);
    let is_whole = wanted.is_empty() && !effort.is_quick;
    let docs = elsewhere.or_else(|| is_whole.then(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")));
    if let Some(docs) = docs {
        fs::write(docs.join("benchmarks.md"), report::as_markdown(&machine, &sections)).unwrap();
        let targets = report::targets_as_markdown(&machine, &sections);
        fs::write(docs.join("benchmarks-targets.md"), targets).unwrap();
        for plot in sections.iter().flat_map(|section| &section.plots) {
            fs::write(docs.join(plot.file), &plot.svg).unwrap();
        }
        println!("written to {}", docs.join("benchmarks.md").display());
    }
}
