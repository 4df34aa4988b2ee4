//! redis-lock beside what people use: each library with its own client, the same scenarios, one machine, one run. `make
//! bench-peers` gets what it takes, runs this, and writes `docs/peers.md`.
//!
//! - `PEERS_QUICK=1` measures little, to see that all of it works. Nothing is written then.
//! - `cargo bench --bench peers -- redsync` measures the peers whose names contain the word. Nothing is written then either.
//!
//! README.md of this folder has the scenarios. The workers, a program for each language, do the work and say what they saw; the
//! rest, what the server did, is seen from here.
#![allow(clippy::unwrap_used, clippy::panic)] // a failure ends the run
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)] // likewise
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // figures to be rounded

#[path = "../locks/machine.rs"]
mod machine;
mod peers;
mod scenarios;
mod servers;
#[path = "../../tests/support/mod.rs"]
mod support;
mod table;

use std::env;
use std::fs;
use std::path::Path;

use peers::PEERS;
use scenarios::{Effort, Measured};

fn main() {
    let effort = Effort::from_environment();
    let wanted: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let machine = machine::describe();
    let mut rows: Vec<Measured> = Vec::new();
    for peer in &PEERS {
        if wanted.is_empty() || wanted.iter().any(|word| peer.name.contains(word.as_str())) {
            let measured = scenarios::measure(peer, &effort);
            println!("{}", table::line(&measured));
            rows.push(measured);
        }
    }
    if wanted.is_empty() && !effort.is_quick {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/peers.md");
        fs::write(&page, table::page(&machine, &rows)).unwrap();
        println!("written to {}", page.display());
    }
}
