//! Checks a history that was written to a file, again.
//!
//! ```text
//! check-history FILE
//! ```

use std::env;
use std::fs;
use std::process::ExitCode;

use lock_checker::notation::Record;
use lock_checker::{check, excerpt, losses};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

/// Whether the history is as it should be.
fn run() -> Result<bool, String> {
    let path = env::args().nth(1).ok_or("usage: check-history FILE")?;
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let record: Record = text.parse().map_err(|why| format!("{path}: {why}"))?;
    let violations = check(&record.history, &record.terms);
    for violation in &violations {
        println!("{}", excerpt::show(&record.history, violation));
    }
    let losses = losses::count(&record.history, &record.terms);
    println!("{} requests, {} violations, {losses:?}", record.history.ops().len(), violations.len());
    Ok(violations.is_empty())
}
