//! What the module remembers besides the keys.

use lock_core::{Deadlines, FenceSequence, Queues, Ties};

use crate::server::ffi::MainThread;

/// The sequence of fences.
pub(crate) static FENCES: MainThread<FenceSequence> = MainThread::new(FenceSequence::new());

/// Which lease is due next.
pub(crate) static DEADLINES: MainThread<Deadlines> = MainThread::new(Deadlines::new());

/// Who waits for which key.
pub(crate) static QUEUES: MainThread<Queues> = MainThread::new(Queues::new());

/// Which connections keep holds alive.
pub(crate) static TIES: MainThread<Ties> = MainThread::new(Ties::new());
