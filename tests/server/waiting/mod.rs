//! Waiting in the server: queues, hand-over, sessions, and every way in which a wait ends.

mod caps;
mod deadlocks;
mod denied_writes;
mod endings;
mod hand_over;
mod late_commands;
mod levels;
mod one_turn;
mod places;
mod queue;
mod reentrant_waits;
mod rights;
mod scenarios;
mod session_delay;
mod sessions;
mod subscribers;
mod upgrade;
mod withdrawn;
