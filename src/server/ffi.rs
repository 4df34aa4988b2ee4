//! A safe interface to the module API. The only unsafe code of the project is in this folder.
//!
//! Every SAFETY comment relies on these facts:
//!
//! 1. **One thread.** The server calls a module's commands, events, timers and type callbacks from its main thread,
//!    one at a time. The exceptions are the `free` of a type, which uses only the value that it is given, and the question of
//!    which arguments of a command are keys, whose answer uses only these and the context.
//! 2. **Borrowed for a call.** A context, the strings of a command and what they refer to stay valid until the callback
//!    that received them returns. The wrappers have that as a lifetime, so they cannot be kept.
//! 3. **The table is complete.** The server sets the function pointers of the API at load, before anything else runs.
//!    [`entry`] refuses a server that lacks one of those that [`api`] names, and `api!` calls no others.
//! 4. **No unwinding into C.** Every function that the server calls runs inside [`guard`].
#![allow(unsafe_code)]

/// The API's code for success.
#[allow(clippy::cast_possible_truncation, reason = "0, which the bindings give another type")]
const OK: std::ffi::c_int = redis_module::raw::REDISMODULE_OK as std::ffi::c_int;

/// The API's code for failure.
#[allow(clippy::cast_possible_truncation, reason = "1, which the bindings give another type")]
const ERR: std::ffi::c_int = redis_module::raw::REDISMODULE_ERR as std::ffi::c_int;

#[macro_use]
mod api;

mod args;
mod blocking;
mod call;
mod clients;
mod cluster;
mod command;
mod config;
mod context;
mod entry;
mod events;
mod guard;
mod info;
mod inner;
mod key;
mod main_thread;
mod timer;
mod value;

pub(crate) use args::{Args, DistinctNames, OwnedRedisString, RedisString};
pub(crate) use blocking::{BlockedClient, Waiting};
pub(crate) use cluster::{Ownership, SlotRange};
pub(crate) use command::{Access, Arg, ArgKind, Command, CommandSpec, Handler, Keys, register_commands};
pub(crate) use config::{NumericSetting, Setting, Switch, load_settings};
pub(crate) use context::{
    Context, OwnContext, add_latency, events_of_modules_are_sent, knows_optional_aux, monotonic_micros,
    notice_anywhere, server_version, wake_server,
};
pub(crate) use events::{KeyspaceEvents, ServerEvents, subscribe};
pub(crate) use guard::guard;
pub(crate) use info::{Describe, Section, register_info};
pub(crate) use inner::{Nature, Ran, Unasked, Uninterrupted};
pub(crate) use key::{Key, Occupied, OpenBeside};
pub(crate) use main_thread::MainThread;
pub(crate) use timer::{Fire, Timer};
pub(crate) use value::{AofWriter, Digest, Handle, Origin, Value, register_type};
