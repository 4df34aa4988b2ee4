//! Registers the type, the commands, the settings and the events with the server.

use std::ffi::CStr;

use lock_core::Lock;

use crate::cluster;
use crate::commands;
use crate::config;
use crate::events::Events;
use crate::expiry;
use crate::metrics::Metrics;
use crate::server::ffi::{
    Args, Context, ServerEvents, register_commands, register_info, register_type, server_version, subscribe,
};
use crate::state::TABLE;
use crate::timer;

/// The module's name, and so the prefix of its settings.
pub(crate) const MODULE_NAME: &CStr = c"lock";

/// 0.1.0, as MODULE LIST shows it. 0 for a test build that must not be used.
pub(crate) const MODULE_VERSION: i32 = if IS_BROKEN { 0 } else { 100 };

/// Whether this build breaks its promises on purpose.
const IS_BROKEN: bool = lock_core::IS_BROKEN || cfg!(feature = "faults");

/// Registers everything.
///
/// # Errors
/// Why the module cannot be loaded. The server logs it.
pub(crate) fn register(context: &Context, args: &Args<'_>) -> Result<(), String> {
    if IS_BROKEN {
        context.warn("this module was built to break its promises, for a test: NEVER USE IT");
    }
    if is_untested(server_version()) {
        context.warn(
            "redis-lock is not tested on Redis before 7.0.5, which frees memory that modules still use in a cluster: \
             upgrade the server",
        );
    }
    context.declare_options();
    cluster::begin(context);
    timer::begin(expiry::sweep);
    // Settings come first: the content of a snapshot can depend on them.
    config::load(context, args)?;
    if !register_type::<Lock>(context, config::saves_fence()) {
        return Err("the server refuses the type redislock: is the module loaded twice?".to_owned());
    }
    register_commands(context, &commands::ALL)
        .map_err(|name| format!("the server refuses the command {}", name.to_string_lossy()))?;
    // A file that is loaded next is an event.
    TABLE.with(|table| table.decides(context.has_master_role()));
    if !register_info::<Metrics>(context) {
        return Err("the server refuses the section of INFO".to_owned());
    }
    Events::reconfigured(context);
    if !subscribe::<Events>(context) {
        return Err(
            "the server refuses an event that the module needs: use Redis 7.0 or newer, or Valkey".to_owned()
        );
    }
    Ok(())
}

/// Whether the module was never run on this version of Redis, or on a version of Valkey that says it is compatible with it:
/// before 7.0.5 the check of whose a key is can delete a key that is open.
fn is_untested(version: (u8, u8, u8)) -> bool {
    version < (7, 0, 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_before_7_0_5_are_untested() {
        assert!([(7, 0, 4), (7, 0, 0), (6, 2, 14)].into_iter().all(is_untested));
        assert!(![(7, 0, 5), (7, 0, 15), (7, 2, 4), (8, 0, 0)].into_iter().any(is_untested));
    }
}
