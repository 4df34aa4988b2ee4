//! redis-lock: native locks for Redis and Valkey.
//!
//! The crate `lock-core` holds the lock logic and decides. This crate is loaded into a server and carries the decisions
//! out.
//!
//! | module | does |
//! |---|---|
//! | [`registration`] | registers commands, type, settings and events |
//! | [`commands`] | a file per command: parse, ask the core, reply |
//! | [`events`] | the events of the server, and the method of the table for each |
//! | [`expiry`] | work that no command asks for: marked keys, leases and waits that end |
//! | [`redirect`] | waiters whose key went to another node |
//! | [`guarded`] | what LOCK.GUARD can run |
//! | [`perform`] | takes turns at locks and carries out their outcome: value, stream, deadline, answers |
//! | [`relocated`] | locks that arrived by RENAME, MOVE or RESTORE |
//! | [`waiting`] | blocked clients and their replies |
//! | [`room`] | how much work is done in one iteration of the server's loop |
//! | [`metrics`] | figures for INFO |
//! | [`slow`] | slow waits, for the latency monitor |
//! | [`notifications`] | keyspace notifications |
//! | [`timer`] | the one timer, armed for what is due first |
//! | [`fault`] | faults on purpose, for tests |
//! | [`cluster`] | which node of a cluster serves a key |
//! | [`writes`] | whether the server accepts writes now |
//! | [`datatype`] | the lock as a value: snapshots, append-only file, digest |
//! | [`replication`] | the commands that carry decisions to replicas and the append-only file |
//! | [`consumers`] | whether anything consumes the replication stream |
//! | [`config`] | the settings |
//! | [`state`] | what the module remembers besides the keys |
//! | [`server`] | clocks, randomness, text, and the module API |
//!
//! A module imports only modules that are below it in this list.
#![deny(unsafe_code)]

mod cluster;
mod commands;
mod config;
mod consumers;
mod datatype;
mod events;
mod expiry;
mod fault;
mod guarded;
mod metrics;
mod notifications;
mod perform;
mod redirect;
mod registration;
mod relocated;
mod replication;
mod room;
mod server;
mod slow;
mod state;
mod timer;
mod waiting;
mod writes;
