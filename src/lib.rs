//! redis-lock: native locks for Redis and Valkey.
//!
//! The crate `lock-core` knows what a lock is and decides; this one is loaded into a server and performs.
//!
//! | module | does |
//! |---|---|
//! | [`registration`] | tells the server what there is: commands, type, settings, events |
//! | [`commands`] | a file per command: parse, ask the core, perform, reply |
//! | [`perform`] | carries out what the core decided: value, stream, deadline |
//! | [`waiting`] | clients that wait for a lock, and their replies |
//! | [`expiry`] | ends leases and waits: one timer over the core's indexes |
//! | [`grace`] | the time after a restart in which grants may have been lost |
//! | [`cluster`] | whose a key is, in a cluster |
//! | [`writes`] | whether the server takes writes at present |
//! | [`keyspace`] | follows a lock where other commands take its key |
//! | [`moves`] | finds locks that were moved to another database |
//! | [`datatype`] | the lock as a value: snapshots, append-only file, digest |
//! | [`replication`] | the forms in which decisions travel |
//! | [`listeners`] | whether anybody listens to them |
//! | [`config`] | the settings |
//! | [`state`] | what the module remembers besides the keys |
//! | [`server`] | the server as seen from here: clocks, randomness, text, and the module API |
#![deny(unsafe_code)]

mod cluster;
mod commands;
mod config;
mod datatype;
mod expiry;
mod grace;
mod keyspace;
mod listeners;
mod moves;
mod perform;
mod registration;
mod replication;
mod server;
mod state;
mod waiting;
mod writes;
