//! LOCK.RELEASE key token [LEVEL n]
//!
//! Replies 1 when the token held the lock, and was as deep; else 0. A token that is left without a hold does not wait for
//! the lock any more either.

use lock_core::{Refusal, request};

use super::args::{LEVEL, TOKEN};
use super::turn;
use crate::server::ffi::{Access, Arg, Args, Command, CommandSpec, Context, Handler, Keys};

pub(crate) struct Release;

/// What the server, its users and its access rules are told of it.
pub(super) const SPEC: CommandSpec = CommandSpec {
    name: c"lock.release",
    handler: Handler::of::<Release>(),
    flags: c"write fast",
    categories: c"write fast",
    keys: Some(Keys::First(Access::Delete)),
    arity: -3,
    summary: c"Gives a lock back if the token holds it, and ends its wait for the lock.",
    complexity: c"O(H) with H holds on the lock, 1 for an exclusive one",
    args: &[Arg::KEY, TOKEN, LEVEL],
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
