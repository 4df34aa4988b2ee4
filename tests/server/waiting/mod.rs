//! Waiting in the server: queues, hand-over, sessions, and every way in which a wait ends.

mod caps;
mod denied_writes;
mod endings;
mod hand_over;
mod one_turn;
mod queue;
mod reentrant_waits;
mod scenarios;
mod sessions;
mod upgrade;
