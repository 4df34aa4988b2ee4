//! LOCK.OWNED key
//!
//! Replies 1 and does nothing. The server refuses it where this node does not serve the key: see [`crate::cluster`].

use lock_core::Refusal;

use crate::server::ffi::{Access, Arg, Args, Command, CommandSpec, Context, Handler, Keys};

pub(crate) struct Owned;

/// How the server knows the command: in COMMAND, in COMMAND DOCS and for ACL rules.
pub(super) const SPEC: CommandSpec = CommandSpec {
    name: c"lock.owned",
    handler: Handler::of::<Owned>(),
    flags: c"write fast no-monitor no-slowlog",
    categories: c"write fast",
    keys: Some(Keys::First(Access::Write)),
    arity: 2,
    summary:
        c"Internal: a write that changes nothing. Replies 1 on the node of a cluster that serves the key.",
    complexity: c"O(1)",
    args: &[Arg::KEY],
    reply: r#"{"const": 1}"#,
};

impl Command for Owned {
    type Error = Refusal;
    const INTERNAL: Refusal = Refusal::Internal;

    fn run(context: &Context, _args: &Args<'_>) -> Result<(), Refusal> {
        context.reply_integer(1);
        Ok(())
    }
}
