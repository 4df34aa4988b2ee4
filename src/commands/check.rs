//! LOCK.CHECK key token
//!
//! Replies `[fence, remaining-ms, waiting]` when the token holds the lock, otherwise a null array.

use lock_core::request::parse_token;
use lock_core::{DbKey, Refusal, turn};

use super::args::TOKEN;
use super::{Seen, look, number, remaining_ms};
use crate::server::clock;
use crate::server::ffi::{Access, Arg, Args, Command, CommandSpec, Context, Handler, Keys};
use crate::state::TABLE;

pub(crate) struct Check;

/// How the server knows the command: in COMMAND, in COMMAND DOCS and for ACL rules.
pub(super) const SPEC: CommandSpec = CommandSpec {
    name: c"lock.check",
    handler: Handler::of::<Check>(),
    flags: c"readonly fast",
    categories: c"read fast",
    keys: Some(Keys::First(Access::Read)),
    arity: 3,
    summary:
        c"Returns fence, remaining milliseconds and number of waiters if the token holds the lock, or null.",
    complexity: c"O(log(H)) with H holds on the lock",
    args: &[Arg::KEY, TOKEN],
    reply: r#"{"oneOf": [
        {"description": "The token holds the lock: its fence, the milliseconds that remain, and how many wait.", "type": "array", "minItems": 3, "maxItems": 3, "items": {"type": "integer"}},
        {"description": "The token holds nothing.", "type": "null"}
    ]}"#,
};

impl Command for Check {
    type Error = Refusal;
    const INTERNAL: Refusal = Refusal::Internal;

    fn run(context: &Context, args: &Args<'_>) -> Result<(), Refusal> {
        let token = parse_token(args.bytes(2))?;
        let seen = look(context, args)?;
        let now = clock::now();
        let key_name = DbKey { database: context.database(), key: args.bytes(1) };
        let checked = TABLE.with(|table| match &seen {
            Seen::Lock(key) => {
                let lock = key.as_ref().and_then(|key| key.value());
                turn::check(lock, table, key_name, &token, now)
            }
            Seen::String(string) => turn::check_string(string, table, key_name, &token),
        });
        match checked {
            Some(checked) => {
                context.reply_array(3);
                context.reply_integer(number(checked.fence.get()));
                context.reply_integer(remaining_ms(&seen, checked.deadline, now));
                context.reply_integer(number(checked.waiting));
            }
            None => context.reply_null_array(),
        }
        Ok(())
    }
}
