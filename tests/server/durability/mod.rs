//! Snapshots, the append-only file, replicas, failover: what is kept, and the exact stream.

mod crash;
mod fences;
mod from_master;
mod listeners;
mod persistence;
mod promotion;
mod replication;
mod restart_grace;
mod save_fence;
mod stream;
