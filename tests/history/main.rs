//! Many clients take and give back locks while servers are killed, stopped, paused and replaced, their clocks set and their
//! slots moved; what the clients were told is checked by `lock-checker`.
//!
//! A set-up is a test. Where the module makes a promise, breaking it fails the test, with the few lines of the history that
//! show it; where Redis itself can lose what it has acknowledged, the losses are counted and printed. Environment:
//!
//! - `REDIS_LOCK_HISTORY_SECONDS`: how long clients are at work in each set-up, 3 by default; `make history` takes a minute.
//! - `REDIS_LOCK_HISTORY_FOLDER`: where every history is written to. Without it, one that broke a promise is written to
//!   `target/tmp`. `cargo run --package lock-checker FILE` checks a file again.
//! - `REDIS_LOCK_SEED`: the seed of a run that is to be made again. Clients and faults then choose alike; which of two
//!   requests reaches a server first is not theirs to choose.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod cluster_faults;
mod faults;
mod history_client;
mod resource;
mod run;
mod setups;
#[path = "../support/mod.rs"]
mod support;
mod verdict;
mod work;
