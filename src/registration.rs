//! Tells the server what there is: the type, the commands, the settings, the events.

use std::ffi::CStr;

use lock_core::{IS_BROKEN, Lock};

use crate::cluster;
use crate::commands;
use crate::config;
use crate::events::Events;
use crate::expiry;
use crate::server::ffi::{
    Access, Arg, ArgKind, Args, CommandSpec, Context, Handler, register_commands, register_type, subscribe,
};
use crate::timer;

/// The module's name, and so the prefix of its settings.
pub(crate) const MODULE_NAME: &CStr = c"lock";

/// 0.1.0, as MODULE LIST shows it; 0 for a module that nobody is to use.
pub(crate) const MODULE_VERSION: i32 = if IS_BROKEN { 0 } else { 100 };

const LEASE: Arg = Arg::required(
    c"lease",
    ArgKind::OneOf(&[
        Arg::after(c"PX", c"milliseconds", ArgKind::Integer),
        Arg::after(c"EX", c"seconds", ArgKind::Integer),
    ]),
)
.optional();

const LIMIT: Arg = Arg::required(
    c"others",
    ArgKind::OneOf(&[
        Arg::after(c"SHARED", c"shared", ArgKind::PureToken),
        Arg::after(c"LIMIT", c"holds", ArgKind::Integer),
    ]),
)
.optional();

const LEVEL: Arg = Arg::after(c"LEVEL", c"level", ArgKind::Integer).optional();

const TOKEN: Arg = Arg::required(c"token", ArgKind::String);

/// The command table: every command, and all that the server is told of it.
static COMMANDS: [CommandSpec; 8] = [
    CommandSpec {
        name: c"lock.acquire",
        handler: Handler::of::<commands::Acquire>(),
        flags: c"write deny-oom blocking",
        categories: c"write blocking",
        access: Some(Access::Write),
        arity: -2,
        summary:
            c"Takes a lock, or waits for it, and replies its token and its fence. Null when not available.",
        complexity: c"O(H) with H holds on the lock, 1 for an exclusive one",
        args: &[
            Arg::KEY,
            LEASE,
            Arg::after(c"TOKEN", c"token", ArgKind::String).optional(),
            LIMIT,
            Arg::after(c"BLOCK", c"milliseconds", ArgKind::Integer).optional(),
            Arg::after(c"OWNER", c"label", ArgKind::String).optional(),
            Arg::after(c"SESSION", c"session", ArgKind::PureToken).optional(),
            LEVEL,
        ],
    },
    CommandSpec {
        name: c"lock.release",
        handler: Handler::of::<commands::Release>(),
        flags: c"write fast",
        categories: c"write fast",
        access: Some(Access::Delete),
        arity: -3,
        summary: c"Gives a lock back if the token holds it, and ends its wait for the lock.",
        complexity: c"O(H) with H holds on the lock, 1 for an exclusive one",
        args: &[Arg::KEY, TOKEN, LEVEL],
    },
    CommandSpec {
        name: c"lock.extend",
        handler: Handler::of::<commands::Extend>(),
        flags: c"write fast",
        categories: c"write fast",
        access: Some(Access::Write),
        arity: -3,
        summary: c"Begins the lease anew if the token holds the lock.",
        complexity: c"O(H) with H holds on the lock, 1 for an exclusive one",
        args: &[Arg::KEY, TOKEN, LEASE],
    },
    CommandSpec {
        name: c"lock.check",
        handler: Handler::of::<commands::Check>(),
        flags: c"readonly fast",
        categories: c"read fast",
        access: Some(Access::Read),
        arity: 3,
        summary:
            c"Replies fence, remaining milliseconds and how many wait if the token holds the lock, else null.",
        complexity: c"O(H) with H holds on the lock, 1 for an exclusive one",
        args: &[Arg::KEY, TOKEN],
    },
    CommandSpec {
        name: c"lock.info",
        handler: Handler::of::<commands::Info>(),
        flags: c"readonly",
        categories: c"read",
        access: Some(Access::Read),
        arity: 2,
        summary: c"Shows who holds a lock and who waits for it. Null when nobody does either.",
        complexity: c"O(H) with H holds on the lock",
        args: &[Arg::KEY],
    },
    CommandSpec {
        name: c"lock.break",
        handler: Handler::of::<commands::Break>(),
        flags: c"write admin",
        categories: c"write admin dangerous",
        access: Some(Access::Delete),
        arity: -2,
        summary: c"For operators: ends the hold with that fence, or all holds, whoever owns them.",
        complexity: c"O(H) with H holds on the lock",
        args: &[Arg::KEY, Arg::after(c"FENCE", c"fence", ArgKind::Integer).optional()],
    },
    CommandSpec {
        name: c"lock.owned",
        handler: Handler::of::<commands::Owned>(),
        flags: c"write fast no-monitor no-slowlog",
        categories: c"write fast",
        access: Some(Access::Write),
        arity: 2,
        summary:
            c"Internal: a write that changes nothing. Replies 1 on the node of a cluster that serves the key.",
        complexity: c"O(1)",
        args: &[Arg::KEY],
    },
    CommandSpec {
        name: c"lock.fence",
        handler: Handler::of::<commands::Fence>(),
        flags: c"write fast",
        categories: c"write fast admin dangerous",
        access: None,
        arity: 2,
        summary: c"Internal: keeps the highest fence in the append-only file. Clients are refused.",
        complexity: c"O(1)",
        args: &[Arg::required(c"fence", ArgKind::Integer)],
    },
];

/// Registers everything.
///
/// # Errors
/// Why the server must not start with this module, for its log.
pub(crate) fn register(context: &Context, args: &Args<'_>) -> Result<(), String> {
    if IS_BROKEN {
        context.warn("this module was built to break its promises, for a test: NEVER USE IT");
    }
    context.declare_options();
    cluster::begin(context);
    timer::begin(expiry::sweep);
    // First the settings: what a snapshot holds may depend on them.
    config::load(context, args)?;
    if !register_type::<Lock>(context, config::saves_fence()) {
        return Err("the server refuses the type redislock: is the module loaded twice?".to_owned());
    }
    register_commands(context, &COMMANDS)
        .map_err(|name| format!("the server refuses the command {}", name.to_string_lossy()))?;
    if !subscribe::<Events>(context) {
        return Err("the server refuses an event that the module needs".to_owned());
    }
    Ok(())
}
