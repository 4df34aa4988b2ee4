//! What a lock is, apart from any server.
//!
//! This crate decides; it performs nothing. It holds the one rule of admission, the holds of a lock and their
//! leases, the sequence of fences, the index of deadlines, the grammar of the commands and the form in which a lock
//! travels. Time, tokens and wall-clock readings come in as arguments; decisions go out as data.
//!
//! What it does not do: read a clock, draw randomness, allocate keys in a database, write to a socket, know Redis.
//!
//! | module | holds |
//! |---|---|
//! | [`lock`] | the lock: taking, giving back, extending, breaking |
//! | `admission` | the one rule of admission |
//! | [`hold`] | one holder's part of a lock, and how many others it tolerates |
//! | [`holds`] | the holds of a lock, found by fence, by token, and by when they are due |
//! | [`token`] | the bytes that prove ownership |
//! | [`fence`] | the sequence of fences |
//! | [`time`] | moments and spans |
//! | [`queue`] | who waits for which key, in which order |
//! | [`session`] | which connections are open, and which holds each keeps alive |
//! | [`undo`] | grants that nobody was told of yet, and what would undo them |
//! | [`table`] | all that is known besides the keys, with a method for each thing that happens to it |
//! | [`key`] | keys in databases |
//! | [`turn`] | a request and all that follows from it: the order in which things are decided |
//! | [`deadlines`] | which lease ends next |
//! | [`grace`] | the time in which grants may have been lost |
//! | [`request`] | what the words of a command mean |
//! | [`refusal`] | every error a client can be given, and its text |
//! | [`codec`] | holds as bytes: for snapshots, the append-only file and replicas |
//! | [`invariants`] | what must be true of all of it at any time |
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod admission;
pub mod codec;
pub mod deadlines;
pub mod fence;
pub mod grace;
pub mod hold;
pub mod holds;
pub mod invariants;
pub mod key;
pub mod lock;
pub mod queue;
pub mod refusal;
pub mod request;
pub mod session;
pub mod table;
pub mod time;
pub mod token;
pub mod turn;
pub mod undo;

pub use deadlines::{DeadlineId, Deadlines};
pub use fence::{Fence, FenceSequence};
pub use grace::Grace;
pub use hold::{GrantState, Hold, Limit, Terms};
pub use holds::Holds;
pub use key::{DbKey, OwnedDbKey};
pub use lock::{Lock, Released, Renewal, Verdict};
pub use queue::{Joining, Queues};
pub use refusal::Refusal;
pub use session::{ClientId, SessionIndex};
pub use table::Table;
pub use time::Moment;
pub use token::Token;
pub use turn::{Outcome, Turn};
pub use undo::Undo;

/// Whether this build breaks a promise on purpose, for a test that has to find that.
pub const IS_BROKEN: bool = cfg!(any(
    feature = "broken-admission",
    feature = "broken-fence",
    feature = "broken-level",
    feature = "broken-release"
));
