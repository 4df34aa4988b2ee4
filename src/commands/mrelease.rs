//! LOCK.MRELEASE numkeys key [key ...] token
//!
//! Releases several locks, each as LOCK.RELEASE does. Replies how many of them the token held.

use lock_core::Refusal;
use lock_core::request::Release;

use super::args::{KEYS, NUMKEYS, TOKEN};
use super::{number, several_keys, tell_several_keys};
use crate::perform::{Passing, count_at_each};
use crate::server::ffi::{Access, Args, Command, CommandSpec, Context, Handler, Keys};

pub(crate) struct ReleaseAll;

/// How the server knows the command: in COMMAND, in COMMAND DOCS and for ACL rules.
pub(super) const SPEC: CommandSpec = CommandSpec {
    name: c"lock.mrelease",
    handler: Handler::of::<ReleaseAll>(),
    flags: c"write fast getkeys-api",
    categories: c"write fast",
    keys: Some(Keys::Counted(Access::Delete)),
    arity: -4,
    summary:
        c"Releases those of several locks that the token holds. Ends a wait of the token for any of them.",
    complexity:
        c"O(N*log(H)) with N locks and H holds on each, and O(log(H)) for each waiter that acquires a lock",
    args: &[NUMKEYS, KEYS, TOKEN],
    reply: r#"{"description": "How many of the locks the token held.", "type": "integer", "minimum": 0}"#,
};

impl Command for ReleaseAll {
    type Error = Refusal;
    const INTERNAL: Refusal = Refusal::Internal;
    const TELLS_KEYS: bool = true;

    fn run(context: &Context, args: &Args<'_>) -> Result<(), Refusal> {
        let (names, rest) = several_keys(args)?;
        let Release { token, level } = Release::parse_whole(args.from(rest))?;
        let released = count_at_each(context, &names, Passing::Release(&token), |turn| {
            turn.release(&token, level, || context.is_from_master())
        })?;
        context.reply_integer(number(released));
        Ok(())
    }

    fn tell_keys(context: &Context, args: &Args<'_>) {
        tell_several_keys(context, args, Access::Delete);
    }
}
