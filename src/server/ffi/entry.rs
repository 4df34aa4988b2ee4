//! The entry point of the module.

use std::ffi::c_int;

use redis_module::raw::{self, RedisModuleCtx, RedisModuleString};

use super::guard::{guard, log_panics};
use super::{Args, Context, ERR, OK, api};
use crate::registration;

/// The module uses the server's allocator, so that `used_memory` and `maxmemory` count its memory. Unit tests run without a
/// server and use the system's allocator.
#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: redis_module::alloc::RedisAlloc = redis_module::alloc::RedisAlloc;

/// The server calls this function when it loads the module, with the arguments that follow the path.
///
/// # Safety
/// Only the server may call it.
#[unsafe(no_mangle)]
#[expect(unreachable_pub, reason = "the server finds it by its name")]
pub unsafe extern "C" fn RedisModule_OnLoad(
    context: *mut RedisModuleCtx,
    argv: *mut *mut RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: `context` is what the server passed. Nothing has been allocated before this, since the allocator is
    // among the functions that this call looks up.
    let initialised = unsafe {
        raw::Export_RedisModule_Init(
            context,
            registration::MODULE_NAME.as_ptr(),
            registration::MODULE_VERSION,
            raw::REDISMODULE_APIVER_1.cast_signed(),
        )
    };
    // SAFETY: the server lends the context to this call.
    let (OK, Some(context)) = (initialised, unsafe { Context::new(context) }) else { return ERR };
    if let Some(function) = api::missing() {
        context.warn(&format!("this server is too old: it lacks {function}; use 7.0 or newer"));
        return ERR;
    }
    log_panics();
    let loaded = guard(|| {
        // SAFETY: the server lends the arguments to this call, `argc` of them.
        let args = unsafe { Args::new(argv, argc) };
        registration::register(&context, &args)
    });
    match loaded {
        Some(Ok(())) => OK,
        Some(Err(reason)) => {
            context.warn(&reason);
            ERR
        }
        None => ERR,
    }
}
