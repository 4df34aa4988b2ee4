//! LOCK.OWNED key
//!
//! Replies 1, where the server lets it come this far: see [`crate::cluster`], which asks it. It does nothing.

use lock_core::Refusal;

use crate::server::ffi::{Args, Command, Context};

pub(crate) struct Owned;

impl Command for Owned {
    type Error = Refusal;
    const INTERNAL: Refusal = Refusal::Internal;

    fn run(context: &Context, _args: &Args<'_>) -> Result<(), Refusal> {
        context.reply_integer(1);
        Ok(())
    }
}
