//! State that belongs to the server's main thread.

use std::cell::RefCell;
use std::sync::OnceLock;
use std::thread::{self, ThreadId};

/// A value that only the main thread uses.
///
/// It lends the value to a closure. The closure must not call functions of the server that call the module back, such
/// as opening and deleting keys, because then the value would be lent twice. Replying, replicating and querying the
/// server's state are safe. If the rule is broken, the second borrow panics and [`super::guard`] catches the panic.
pub(crate) struct MainThread<T>(RefCell<T>);

// SAFETY: see 1. in the folder's head: only the main thread runs code that can reach this, so no two threads ever
// touch the `RefCell`. The one callback that may run elsewhere, a value's `free`, uses no statics.
unsafe impl<T> Sync for MainThread<T> {}

impl<T> MainThread<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    /// Lends the value to `body`, for which the rule above holds.
    pub(crate) fn with<R>(&self, body: impl FnOnce(&mut T) -> R) -> R {
        debug_assert!(is_main_thread(), "the main thread's state is used by another thread");
        body(&mut self.0.borrow_mut())
    }
}

/// In debug builds: whether this is the thread that called this function first. That is the thread that loaded the module.
fn is_main_thread() -> bool {
    static MAIN: OnceLock<ThreadId> = OnceLock::new();
    let this = thread::current().id();
    *MAIN.get_or_init(|| this) == this
}
