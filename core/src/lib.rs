//! The lock logic, without a server.
//!
//! This crate decides and performs nothing. Time, tokens and readings of the wall clock come in as arguments. Decisions
//! come out as data. docs/design.md explains the terms and the rules.
//!
//! It does not read a clock, draw random numbers, change keys in a database, write to a socket, or know Redis.
//!
//! | module | has |
//! |---|---|
//! | [`lock`] | the lock: acquire, release, extend, break |
//! | `admission` | the one rule of admission |
//! | [`string_hold`] | a string that counts as a lock |
//! | [`share`] | the weight of a hold, and how much weight its holder tolerates |
//! | [`hold`] | one holder's part of a lock |
//! | [`holds`] | the holds of a lock, found by fence, by token, and by when they are due |
//! | [`token`] | the bytes that prove ownership |
//! | [`fence`] | the sequence of fences |
//! | [`time`] | moments and spans |
//! | [`queue`] | the waiters of each key, in order |
//! | [`waits_for`] | which owner waits for which, and the search for a circle of them |
//! | [`answer`] | what clients that waited are told |
//! | [`session`] | which connections are open, and which holds each keeps alive |
//! | [`undo`] | grants whose clients were not told yet, and what would undo them |
//! | [`table`] | all that the module remembers besides the keys, with a method for each thing that can happen |
//! | [`key`] | keys in databases |
//! | [`outcome`] | what goes into a turn and what comes out of it |
//! | [`turn`] | a request and all that follows from it, in the order in which it is decided |
//! | [`figures`] | how often what has happened |
//! | [`deadlines`] | the index of when each lock is due |
//! | [`grace`] | the restart grace |
//! | [`request`] | the arguments of the commands |
//! | [`refusal`] | every error that a client can get, and its text |
//! | [`codec`] | holds as bytes: for snapshots, the append-only file and replicas |
//! | [`invariants`] | what must be true at any time |
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod admission;
pub mod answer;
pub mod codec;
pub mod deadlines;
pub mod fence;
pub mod figures;
pub mod grace;
pub mod hold;
pub mod holds;
pub mod invariants;
pub mod key;
pub mod lock;
pub mod outcome;
pub mod queue;
pub mod refusal;
pub mod request;
pub mod session;
pub mod share;
pub mod string_hold;
pub mod table;
pub mod time;
pub mod token;
pub mod turn;
pub mod undo;
pub mod waits_for;

pub use deadlines::{DeadlineId, Deadlines};
pub use fence::{Fence, FenceSequence};
pub use figures::Figures;
pub use grace::Grace;
pub use hold::{GrantState, Hold, Terms};
pub use holds::Holds;
pub use key::{DbKey, OwnedDbKey};
pub use lock::{Lock, Released, Renewal, Verdict};
pub use outcome::Outcome;
pub use queue::{Joining, Queues, Ticket};
pub use refusal::Refusal;
pub use session::{ClientId, Session, SessionIndex};
pub use share::{AskedShare, Limit, Share};
pub use string_hold::StringHold;
pub use table::Table;
pub use time::Moment;
pub use token::Token;
pub use turn::Turn;
pub use undo::Undo;

/// Whether this build breaks a promise on purpose, for a test that must notice it.
pub const IS_BROKEN: bool = cfg!(any(
    feature = "broken-admission",
    feature = "broken-fence",
    feature = "broken-level",
    feature = "broken-place",
    feature = "broken-release"
));
