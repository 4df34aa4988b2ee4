//! What the module remembers besides the keys: the sequence of fences, and which lease ends next.

use lock_core::{Deadlines, FenceSequence};

use crate::server::ffi::MainThread;

/// See the module.
pub(crate) struct State {
    pub(crate) fences: FenceSequence,
    pub(crate) deadlines: Deadlines,
}

/// The one there is. Lent by [`MainThread::with`], within which the server must not be called.
pub(crate) static STATE: MainThread<State> =
    MainThread::new(State { fences: FenceSequence::new(), deadlines: Deadlines::new() });
