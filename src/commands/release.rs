//! LOCK.RELEASE key token [LEVEL n]
//!
//! Replies 1 when the token held the lock at this level, otherwise 0. If the token no longer holds the lock afterwards, the
//! command also ends a wait of that token for the lock.

use lock_core::{Refusal, request};

use super::args::{LEVEL, TOKEN};
use super::turn;
use crate::server::ffi::{Access, Arg, Args, Command, CommandSpec, Context, Handler, Keys};

pub(crate) struct Release;

/// How the server knows the command: in COMMAND, in COMMAND DOCS and for ACL rules.
pub(super) const SPEC: CommandSpec = CommandSpec {
    name: c"lock.release",
    handler: Handler::of::<Release>(),
    flags: c"write fast",
    categories: c"write fast",
    keys: Some(Keys::First(Access::Delete)),
    arity: -3,
    summary: c"Releases a lock if the token holds it. Ends a wait of the token for the lock.",
    complexity: c"O(log(H)) with H holds on the lock, and O(log(H)) for each waiter that acquires the lock",
    args: &[Arg::KEY, TOKEN, LEVEL],
    reply: r#"{"oneOf": [
        {"description": "The hold has ended, or with LEVEL this level of it.", "const": 1},
        {"description": "The token held nothing, or was not so deep.", "const": 0}
    ]}"#,
};

impl Command for Release {
    type Error = Refusal;
    const INTERNAL: Refusal = Refusal::Internal;

    fn run(context: &Context, args: &Args<'_>) -> Result<(), Refusal> {
        let request = request::Release::parse(args.from(2))?;
        let released = turn(context, args, |turn| {
            turn.release(&request.token, request.level, || context.is_from_master())
        })?;
        context.reply_integer(released.into());
        Ok(())
    }
}
