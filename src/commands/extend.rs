//! LOCK.EXTEND key token [PX ms | EX s]
//!
//! Replies 1 when the token holds the lock, else 0.

use lock_core::{Refusal, request};

use super::turn;
use crate::config;
use crate::server::ffi::{Args, Command, Context};

pub(crate) struct Extend;

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
