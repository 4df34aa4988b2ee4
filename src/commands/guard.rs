//! LOCK.GUARD key token command [arg [arg ...]]
//!
//! Runs the command if the token holds the lock, in one step with looking, and replies what it replies. Otherwise the reply
//! is an error, and nothing has run.
//!
//! The key is closed before the command runs: the command may be about the lock itself.

use lock_core::request::parse_token;
use lock_core::{DbKey, Refusal, Token, turn};

use super::args::TOKEN;
use super::{KEY, Seen, look};
use crate::guarded::{self, Kind};
use crate::server::clock;
use crate::server::ffi::{
    Access, Arg, ArgKind, Args, Command, CommandSpec, Context, Handler, Keys, Ran, Uninterrupted,
};
use crate::state::TABLE;

pub(crate) struct Guard;

/// How the server knows the command: in COMMAND, in COMMAND DOCS and for ACL rules.
///
/// To the server it is a write, whatever it runs: so the server refuses it on a replica, where too few replicas keep up or
/// the disk fails, and has it wait during CLIENT PAUSE. It would check none of that for the command inside.
pub(super) const SPEC: CommandSpec = CommandSpec {
    name: c"lock.guard",
    handler: Handler::of::<Guard>(),
    flags: c"write getkeys-api",
    categories: c"write",
    keys: Some(Keys::FirstAndTold(Access::Read)),
    arity: -4,
    summary: c"Runs a command if the token holds the lock, or fails.",
    complexity: c"O(log(H)) with H holds on the lock, and that of the command",
    args: &[
        Arg::KEY,
        TOKEN,
        Arg::required(c"command", ArgKind::String),
        Arg::required(c"arg", ArgKind::String).optional().multiple(),
    ],
    reply: r#"{"description": "The reply of the command."}"#,
};

/// The index of the command's name.
const COMMAND: usize = 3;

impl Command for Guard {
    type Error = Refusal;
    const INTERNAL: Refusal = Refusal::Internal;
    const TELLS_KEYS: bool = true;

    fn run(context: &Context, args: &Args<'_>) -> Result<(), Refusal> {
        let token = parse_token(args.bytes(2))?;
        let inner = args.inner(COMMAND);
        let name = inner.bytes(0);
        if name.contains(&0) {
            return Err(Refusal::UnknownCommand);
        }
        if is_guard(name) {
            return Err(Refusal::GuardedGuard);
        }
        let kind = guarded::kind_of(context, &inner)?;
        if !holds(context, args, &token)? {
            return Err(Refusal::NotOwner);
        }
        let _uninterrupted = match kind {
            Kind::Script => Some(Uninterrupted::begin(context).ok_or(Refusal::GuardedNotKnown)?),
            Kind::Command => None,
        };
        match context.run_for_client(&inner) {
            Ran::Answered => Ok(()),
            Ran::Lost => Err(Refusal::GuardedReplyLost),
            Ran::Denied => Err(Refusal::GuardedNoPermission),
            Ran::Failed => Err(Refusal::Internal),
        }
    }

    fn tell_keys(context: &Context, args: &Args<'_>) {
        context.key_is_at(KEY, Access::Read);
        // Otherwise the server would ask on and on.
        if !is_guard(args.bytes(COMMAND)) {
            context.keys_are_those_of(args, COMMAND);
        }
    }
}

/// Whether the token holds the lock now. Key and table are given back when this returns.
fn holds(context: &Context, args: &Args<'_>, token: &Token) -> Result<bool, Refusal> {
    let seen = look(context, args)?;
    let now = clock::now();
    let key = DbKey { database: context.database(), key: args.bytes(KEY) };
    let checked = TABLE.with(|table| match &seen {
        Seen::Lock(lock) => turn::check(lock.as_ref().and_then(|lock| lock.value()), table, key, token, now),
        Seen::String(string) => turn::check_string(string, table, key, token),
    });
    Ok(checked.is_some())
}

fn is_guard(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(SPEC.name.to_bytes())
}
