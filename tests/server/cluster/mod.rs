//! Nodes of a cluster: who serves a key, and slots that move.

mod arriving;
mod atomic;
mod down;
mod endpoints;
mod failover;
mod left_slots;
mod migration;
mod routing;
