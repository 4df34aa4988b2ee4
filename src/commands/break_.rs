//! LOCK.BREAK key [FENCE fence]
//!
//! Replies how many holds it ended.

use lock_core::{Refusal, request};

use super::{number, open};
use crate::server::clock;
use crate::server::ffi::{Args, Command, Context};

pub(crate) struct Break;

impl Command for Break {
    type Error = Refusal;
    const INTERNAL: Refusal = Refusal::Internal;

    fn run(context: &Context, args: &Args<'_>) -> Result<(), Refusal> {
        let request = request::Break::parse(args.from(2))?;
        let broken = open(context, args)?.turn(clock::now(), |turn| turn.break_holds(request.holds));
        context.reply_integer(number(broken));
        Ok(())
    }
}
