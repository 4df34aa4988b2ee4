//! LOCK.FENCE fence
//!
//! Internal: stores the highest fence in the append-only file. A client that sends it gets a syntax error.

use lock_core::{Refusal, request};

use crate::server::ffi::{Arg, ArgKind, Args, Command, CommandSpec, Context, Handler};
use crate::state::TABLE;

pub(crate) struct Fence;

/// How the server knows the command: in COMMAND, in COMMAND DOCS and for ACL rules.
pub(super) const SPEC: CommandSpec = CommandSpec {
    name: c"lock.fence",
    handler: Handler::of::<Fence>(),
    flags: c"write fast",
    categories: c"write fast admin dangerous",
    keys: None,
    arity: 2,
    summary: c"Internal: keeps the highest fence in the append-only file. Clients are refused.",
    complexity: c"O(1)",
    args: &[Arg::required(c"fence", ArgKind::Integer)],
    reply: r#"{"const": 1}"#,
};

impl Command for Fence {
    type Error = Refusal;
    const INTERNAL: Refusal = Refusal::Internal;

    fn run(context: &Context, args: &Args<'_>) -> Result<(), Refusal> {
        if !context.is_from_master() {
            return Err(Refusal::Syntax);
        }
        let fence = request::parse_fence(args.bytes(1))?;
        TABLE.with(|table| table.raise_fence(fence));
        context.replicate_verbatim();
        context.reply_integer(1);
        Ok(())
    }
}
