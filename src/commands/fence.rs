//! LOCK.FENCE fence
//!
//! Not for clients: it stands in the append-only file, and says how high fences had come. From a client it is a syntax
//! error.

use lock_core::{Refusal, request};

use crate::perform;
use crate::server::ffi::{Args, Command, Context};

pub(crate) struct Fence;

impl Command for Fence {
    type Error = Refusal;
    const INTERNAL: Refusal = Refusal::Internal;

    fn run(context: &Context, args: &Args<'_>) -> Result<(), Refusal> {
        if !context.obeys() {
            return Err(Refusal::Syntax);
        }
        perform::raise_fence(request::parse_fence(args.bytes(1))?);
        context.replicate_verbatim();
        context.reply_integer(1);
        Ok(())
    }
}
