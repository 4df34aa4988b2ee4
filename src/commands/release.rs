//! LOCK.RELEASE key token
//!
//! Replies 1 when the token held the lock, else 0.

use lock_core::Refusal;
use lock_core::request::parse_token;

use super::open;
use crate::server::clock;
use crate::server::ffi::{Args, Command, Context};

pub(crate) struct Release;

impl Command for Release {
    type Error = Refusal;
    const INTERNAL: Refusal = Refusal::Internal;

    fn run(context: &Context, args: &Args<'_>) -> Result<(), Refusal> {
        let token = parse_token(args.bytes(2))?;
        let released =
            open(context, args)?.turn(clock::now(), |turn| turn.release(&token, || context.obeys()));
        context.reply_integer(released.into());
        Ok(())
    }
}
