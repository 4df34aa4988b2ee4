//! LOCK.MEXTEND numkeys key [key ...] token [PX ms | EX s]
//!
//! Extends the leases of several locks, each as LOCK.EXTEND does. Replies how many of them the token holds.

use lock_core::Refusal;
use lock_core::request::Extend;

use super::args::{KEYS, LEASE, NUMKEYS, TOKEN};
use super::{number, several_keys, tell_several_keys};
use crate::config;
use crate::perform::{Passing, count_at_each};
use crate::server::ffi::{Access, Args, Command, CommandSpec, Context, Handler, Keys};

pub(crate) struct ExtendAll;

/// How the server knows the command: in COMMAND, in COMMAND DOCS and for ACL rules.
pub(super) const SPEC: CommandSpec = CommandSpec {
    name: c"lock.mextend",
    handler: Handler::of::<ExtendAll>(),
    flags: c"write fast getkeys-api",
    categories: c"write fast",
    keys: Some(Keys::Counted(Access::Write)),
    arity: -4,
    summary: c"Extends the leases of those of several locks that the token holds.",
    complexity: c"O(N*log(H)) with N locks and H holds on each",
    args: &[NUMKEYS, KEYS, TOKEN, LEASE],
    reply: r#"{"description": "How many of the locks the token holds.", "type": "integer", "minimum": 0}"#,
};

impl Command for ExtendAll {
    type Error = Refusal;
    const INTERNAL: Refusal = Refusal::Internal;
    const TELLS_KEYS: bool = true;

    fn run(context: &Context, args: &Args<'_>) -> Result<(), Refusal> {
        let (names, rest) = several_keys(args)?;
        let Extend { token, lease_ms } = Extend::parse_for_several(args.from(rest), config::leases())?;
        let extended = count_at_each(context, &names, Passing::Extend(&token, lease_ms), |turn| {
            turn.extend(&token, lease_ms, || context.is_from_master())
        })?;
        context.reply_integer(number(extended));
        Ok(())
    }

    fn tell_keys(context: &Context, args: &Args<'_>) {
        tell_several_keys(context, args, Access::Write);
    }
}
