//! Histories written by hand: those that a server may give, and those that it must not, each with the rule it breaks. A
//! module for each theme.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod fences;
mod guards;
mod leases;
mod levels;
mod limits;
mod losses;
mod notation;
mod places;
mod releases;
mod replies;
mod sessions;
mod several;
mod times_to_live;
mod waits;
mod weights;

use lock_checker::notation::Record;
use lock_checker::{Rule, check, excerpt};

const ONE_SEQUENCE: &str =
    "terms fences=one-sequence patience=1000.000 claim=5000.000 writes=kept errors=READONLY\n";

const LOSSY: &str =
    "terms fences=one-sequence patience=1000.000 claim=5000.000 writes=lost errors=READONLY\n";

fn record(text: &str) -> Record {
    let text = if text.contains("terms") { text.to_owned() } else { ONE_SEQUENCE.to_owned() + text };
    text.parse().unwrap()
}

/// The rules that a history breaks.
fn broken(text: &str) -> Vec<Rule> {
    let record = record(text);
    let violations = check(&record.history, &record.terms);
    violations.iter().map(|violation| violation.rule).collect()
}

#[track_caller]
fn assert_good(text: &str) {
    let record = record(text);
    let violations = check(&record.history, &record.terms);
    let shown: Vec<String> =
        violations.iter().map(|violation| excerpt::show(&record.history, violation)).collect();
    assert!(violations.is_empty(), "{}", shown.join("\n"));
}
