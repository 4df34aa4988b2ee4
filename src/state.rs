//! What the module remembers besides the keys.

use std::collections::BTreeSet;

use lock_core::{ClientId, Deadlines, FenceSequence, Grace, Queues, Ties};

use crate::server::ffi::MainThread;

/// The sequence of fences.
pub(crate) static FENCES: MainThread<FenceSequence> = MainThread::new(FenceSequence::new());

/// Which lease is due next.
pub(crate) static DEADLINES: MainThread<Deadlines> = MainThread::new(Deadlines::new());

/// Whether grants may have been lost, with a restart or a promotion.
pub(crate) static GRACE: MainThread<Grace> = MainThread::new(Grace::new());

/// Who waits for which key.
pub(crate) static QUEUES: MainThread<Queues> = MainThread::new(Queues::new());

/// Which connections keep holds alive.
pub(crate) static TIES: MainThread<Ties> = MainThread::new(Ties::new());

/// The connections that are open, of those that were opened since the module was loaded. Scripts, functions and other
/// modules send commands by clients that are none; no flag tells them apart on every server.
pub(crate) static CONNECTIONS: MainThread<BTreeSet<ClientId>> = MainThread::new(BTreeSet::new());
