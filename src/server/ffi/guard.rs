//! Catches panics. A panic that unwinds into C would abort the server.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs the body of a function that the server calls. A panic is a bug of the module. It becomes `None`, which the
/// caller answers as an internal error, and the server's log gets a line with the source location. A function that
/// handles many keys uses a guard for each, so that a panic at one key does not affect the others.
pub(crate) fn guard<T>(body: impl FnOnce() -> T) -> Option<T> {
    // A panic can only interrupt changes of locks and index entries. They are valid in every state in which the core leaves
    // them, so it is safe to continue.
    catch_unwind(AssertUnwindSafe(body)).ok()
}

/// Makes panics log their location and nothing else: the message could contain bytes of a client.
pub(super) fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        super::context::warn_anywhere(&format!("the lock module failed at {place}; please report this line"));
    }));
}
