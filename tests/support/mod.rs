//! The fixture of the server tests: real servers, plain blocking clients, replies as they were on the wire.
//!
//! - [`Server`] starts a server with the module in a folder of its own and ends it when it goes out of scope.
//! - [`Pair`] is a master with a replica.
//! - [`Client`] is one connection; [`Reply`] is what it reads.
//! - [`Waiter`] is a connection that waits for a lock; `waiter` says who waits, and that nothing is left of it.
//! - [`cmd!`] writes a command of mixed arguments; `Client::run` splits a command at its blanks.
//! - [`locks`] speaks of grants and holds, [`errors`] of what is refused, [`wait_until`] waits for a state, [`Random`] repeats itself from a seed.
//! - [`cluster`] starts a cluster; the other modules serve a few tests each.
//! - [`Version`] says which server this is, and [`skip!`] by name what is left out there.
//!
//! Environment: `REDIS_SERVER` is the server to start (default
//! `redis-server`), `REDIS_LOCK_MODULE` the module to load (default `target/release/libredis_lock.so`),
//! `REDIS_LOCK_SEED` the seed of random tests, `REDIS_LOCK_SKIPPED` the file for what is left out.
#![allow(dead_code, unused_imports, unused_macros)] // each test file uses a part of it
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure ends the test
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)] // likewise

pub(crate) mod admission;
pub(crate) mod change_over;
mod client;
pub(crate) mod cluster;
pub(crate) mod errors;
pub(crate) mod figures;
mod launch;
pub(crate) mod ledger;
mod library;
pub(crate) mod listener;
pub(crate) mod load;
pub(crate) mod locks;
pub(crate) mod page;
mod pair;
pub(crate) mod payload;
mod random;
pub(crate) mod read_again;
mod reply;
pub(crate) mod seen;
pub(crate) mod sentinel;
mod server;
pub(crate) mod signal;
pub(crate) mod skip;
pub(crate) mod stock;
pub(crate) mod stream;
pub(crate) mod transcript;
mod version;
mod wait;
pub(crate) mod waiter;
#[cfg(target_os = "linux")]
pub(crate) mod wall_clock;
pub(crate) mod wording;

pub(crate) use client::{Client, ToArgument, cmd};
pub(crate) use launch::{Builder, START_DEADLINE, free_port, loopback};
pub(crate) use library::compile;
pub(crate) use locks::{Grant, field, ok_grant};
pub(crate) use pair::{Pair, caught_up};
pub(crate) use random::Random;
pub(crate) use reply::Reply;
pub(crate) use server::{Data, Server};
pub(crate) use skip::skip;
pub(crate) use version::Version;
pub(crate) use wait::{LONG_PATIENCE, PATIENCE, apart_ms, at_once, wait_until};
pub(crate) use waiter::Waiter;
