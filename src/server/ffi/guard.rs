//! Keeps panics out of the server: unwinding into C would abort it, and every client's locks with it.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs the body of a function that the server calls. A panic is a bug of ours; it is turned into `None`, for the
/// caller to answer as an internal error, and leaves a line in the server's log with the place it came from. Where one such
/// function sees to many keys, each gets a guard of its own, so that a fault at one does not keep the others waiting.
pub(crate) fn guard<T>(body: impl FnOnce() -> T) -> Option<T> {
    // Whatever a panic left half done is a lock or an index entry, each of which is valid in any state the core
    // leaves it in; so carrying on is safe.
    catch_unwind(AssertUnwindSafe(body)).ok()
}

/// Makes panics say where they happened and nothing else: their message could carry a client's bytes.
pub(super) fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        super::context::warn_anywhere(&format!("the lock module failed at {place}; please report this line"));
    }));
}

/// Called for a function of the module API that this server lacks.
#[allow(clippy::panic)]
pub(super) fn missing(function: &str) -> ! {
    // Caught by `guard`. Does not happen for what `required` lists.
    panic!("{function} is missing")
}
