//! Everything that a client, an operator or another server can see of the module, on real servers that the tests start
//! themselves. `tests/README.md` says where a test goes.
//!
//! `cargo test --test server waiting::hand_over` runs the tests of one file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure ends the test
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)] // likewise

mod cluster;
mod commands;
mod docs;
mod durability;
mod fixture;
mod guard;
mod keyspace;
mod operators;
mod several;
mod stress;
mod strings;
#[path = "../support/mod.rs"]
mod support;
mod time;
mod waiting;
