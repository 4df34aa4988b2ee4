//! LOCK.RELEASE key token [LEVEL n]
//!
//! Replies 1 when the token held the lock, and was as deep; else 0. A token that is left without a hold does not wait for
//! the lock any more either.

use lock_core::{Refusal, request};

use super::turn;
use crate::server::ffi::{Args, Command, Context};

pub(crate) struct Release;

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
