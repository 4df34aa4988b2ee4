//! LOCK.EXTEND key token [PX ms | EX s]
//!
//! Replies 1 when the token holds the lock, otherwise 0.

use lock_core::{Refusal, request};

use super::args::{LEASE, TOKEN};
use super::turn;
use crate::config;
use crate::server::ffi::{Access, Arg, Args, Command, CommandSpec, Context, Handler, Keys};

pub(crate) struct Extend;

/// How the server knows the command: in COMMAND, in COMMAND DOCS and for ACL rules.
pub(super) const SPEC: CommandSpec = CommandSpec {
    name: c"lock.extend",
    handler: Handler::of::<Extend>(),
    flags: c"write fast",
    categories: c"write fast",
    keys: Some(Keys::First(Access::Write)),
    arity: -3,
    summary: c"Extends the lease of a lock if the token holds it.",
    complexity: c"O(log(H)) with H holds on the lock",
    args: &[Arg::KEY, TOKEN, LEASE],
    reply: r#"{"oneOf": [
        {"description": "The token holds the lock, and its lease begins now.", "const": 1},
        {"description": "The token holds nothing.", "const": 0}
    ]}"#,
};

impl Command for Extend {
    type Error = Refusal;
    const INTERNAL: Refusal = Refusal::Internal;

    fn run(context: &Context, args: &Args<'_>) -> Result<(), Refusal> {
        let request = request::Extend::parse(args.from(2), config::leases()).or_else(|refusal| {
            // The master may have another lock.max-lease.
            if context.is_from_master() {
                request::Extend::parse(args.from(2), request::LeaseRules::ANY)
            } else {
                Err(refusal)
            }
        })?;
        let extended = turn(context, args, |turn| {
            turn.extend(&request.token, request.lease_ms, || context.is_from_master())
        })?;
        context.reply_integer(extended.into());
        Ok(())
    }
}
