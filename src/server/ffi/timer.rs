//! A timer of the server.

use std::ffi::c_void;
use std::ptr;

use redis_module::raw::{RedisModuleCtx, RedisModuleTimerID};

use super::Context;
use super::guard::guard;

/// A timer that was started and has not fired.
///
/// The callback must drop it first, without stopping it: the server frees a timer after its callback has returned, so
/// stopping it there would free it twice.
pub(crate) struct Timer(RedisModuleTimerID);

impl Timer {
    /// Starts a timer that fires once, in `delay_ms` milliseconds by the wall clock, and calls `T::fire`.
    pub(crate) fn start<T: Fire>(context: &Context, delay_ms: u64) -> Self {
        let delay = i64::try_from(delay_ms).unwrap_or(i64::MAX);
        // SAFETY: the context is valid, and the callback takes no data.
        let id =
            unsafe { api!(RedisModule_CreateTimer(context.raw(), delay, Some(fired::<T>), ptr::null_mut())) };
        Self(id)
    }

    /// Stops the timer.
    pub(crate) fn stop(self, context: &Context) {
        // SAFETY: the context is valid; a timer that is not there any more is refused by its id.
        unsafe { api!(RedisModule_StopTimer(context.raw(), self.0, ptr::null_mut())) };
    }
}

/// The action of a timer.
pub(crate) trait Fire {
    fn fire(context: &Context);
}

unsafe extern "C" fn fired<T: Fire>(context: *mut RedisModuleCtx, _data: *mut c_void) {
    // SAFETY: the server lends the context to this callback.
    guard(|| unsafe { Context::new(context) }.map(|context| T::fire(&context)));
}
