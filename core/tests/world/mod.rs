//! A small world for the core to live in, as proof that it keeps the contract: keys in two databases, connections that
//! come and go, time, a pause, a change of roles, slots that go to other nodes and come back, a time in which grants may
//! have been lost, and other commands that take keys away from under a lock.
//!
//! | module | holds |
//! |---|---|
//! | [`steps`] | what can happen, and what a client can be told |
//! | [`server`] | the core, driven the way the module drives it |
//! | [`between`] | what the server does between commands |
//! | [`elsewhere`] | what other commands do to its keys |
//! | [`model`] | the contract once more, by the slowest means and with no memory of what it owes to whom |
//! | [`circles`] | who waits for whom, and whether that is a circle |
//! | [`grants`] | how the model grants, serves and undoes |
//! | [`duties`] | what the model does without commands |
//! | [`checks`] | both side by side, and what must be true after every step |
//! | [`trace`] | the way that led to a failure |
// Each of the tests that share this world uses a part of it.
#![allow(dead_code)]

mod between;
pub(crate) mod checks;
mod circles;
mod duties;
mod elsewhere;
mod grants;
pub(crate) mod model;
pub(crate) mod server;
pub(crate) mod steps;
pub(crate) mod trace;
