//! LOCK.EXTEND key token [PX ms | EX s]
//!
//! Replies 1 when the token holds the lock, else 0.

use lock_core::{Refusal, request};

use super::args::{LEASE, TOKEN};
use super::turn;
use crate::config;
use crate::server::ffi::{Access, Arg, Args, Command, CommandSpec, Context, Handler, Keys};

pub(crate) struct Extend;

/// What the server, its users and its access rules are told of it.
pub(super) const SPEC: CommandSpec = CommandSpec {
    name: c"lock.extend",
    handler: Handler::of::<Extend>(),
    flags: c"write fast",
    categories: c"write fast",
    keys: Some(Keys::First(Access::Write)),
    arity: -3,
    summary: c"Begins the lease anew if the token holds the lock.",
    complexity: c"O(H) with H holds on the lock, 1 for an exclusive one",
    args: &[Arg::KEY, TOKEN, LEASE],
};

impl Command for Extend {
    type Error = Refusal;
    const INTERNAL: Refusal = Refusal::Internal;

    fn run(context: &Context, args: &Args<'_>) -> Result<(), Refusal> {
        let request = request::Extend::parse(args.from(2), config::leases()).or_else(|refusal| {
            // The master's longest lease may be another than ours.
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
