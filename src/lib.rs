//! redis-lock: native locks for Redis and Valkey.
//!
//! The crate `lock-core` knows what a lock is and decides; this one is loaded into a server and performs.
//!
//! | module | does |
//! |---|---|
//! | [`registration`] | tells the server what there is: commands, type, settings, events |
//! | [`commands`] | a file per command: parse, ask the core, reply |
//! | [`events`] | what the server reports, and which method of the table it is |
//! | [`expiry`] | what no command asks for: marked keys, leases and waits that end |
//! | [`redirect`] | waiters whose key went to another node |
//! | [`perform`] | takes turns at locks and carries out what they come to: value, stream, deadline, answers |
//! | [`relocated`] | locks that came from elsewhere |
//! | [`waiting`] | clients that wait for a lock, and their replies |
//! | [`room`] | how much is done in one turn of the server's loop |
//! | [`timer`] | the one timer, armed for what is due first |
//! | [`fault`] | faults on purpose, for a test |
//! | [`cluster`] | whose a key is, in a cluster |
//! | [`writes`] | whether the server accepts writes at present |
//! | [`datatype`] | the lock as a value: snapshots, append-only file, digest |
//! | [`replication`] | the forms in which decisions travel |
//! | [`consumers`] | whether anybody replicates or appends what is passed on |
//! | [`config`] | the settings |
//! | [`state`] | what the module remembers besides the keys |
//! | [`server`] | the server as seen from here: clocks, randomness, text, and the module API |
//!
//! Imports run from the top of this list to its end, never back.
#![deny(unsafe_code)]

mod cluster;
mod commands;
mod config;
mod consumers;
mod datatype;
mod events;
mod expiry;
mod fault;
mod perform;
mod redirect;
mod registration;
mod relocated;
mod replication;
mod room;
mod server;
mod state;
mod timer;
mod waiting;
mod writes;
