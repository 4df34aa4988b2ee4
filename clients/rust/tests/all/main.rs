//! What is particular to Rust. What all clients prove is in clients/conformance.
//!
//! Environment: `REDIS_LOCK_MODULE` is the module, `REDIS_SERVER` a server other than redis-server.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // a failure ends the test

mod dropping;
mod guarding;
mod levels;
mod losing;
mod names;
mod readme;
mod server;
mod several;

use redis_lock_client::{Acquire, Error, Held, Locks};

/// They can be moved to any task and thread.
#[test]
fn everything_is_send_and_sync() {
    fn is<T: Send + Sync + 'static>() {}
    fn can_be_sent<T: Send + 'static>() {}
    is::<Locks>();
    is::<Held>();
    is::<Error>();
    can_be_sent::<Acquire>();
    can_be_sent::<<Acquire as IntoFuture>::IntoFuture>();
    fn its_future_can_be_sent<T: Send>(_: impl FnOnce(Held) -> T) {}
    its_future_can_be_sent(|held| async move { held.guard::<()>(&redis::cmd("PING")).await });
}
