//! LOCK.INFO key
//!
//! Replies a null array when nobody holds the lock, else a map of its holders and its queue.

use lock_core::{Hold, Lock, Moment, Refusal};

use super::{look, number};
use crate::server::clock;
use crate::server::ffi::{Args, Command, Context};

pub(crate) struct Info;

impl Command for Info {
    type Error = Refusal;
    const INTERNAL: Refusal = Refusal::Internal;

    fn run(context: &Context, args: &Args<'_>) -> Result<(), Refusal> {
        let key = look(context, args)?;
        let lock: Option<&Lock> = key.as_ref().and_then(|key| key.value());
        let now = clock::now();
        let holds: Vec<&Hold> = lock.map(|lock| lock.live_holds(now).collect()).unwrap_or_default();
        if holds.is_empty() {
            context.reply_null_array();
            return Ok(());
        }
        context.reply_map(3);
        context.reply_bytes(b"holders");
        context.reply_array(holds.len());
        holds.iter().for_each(|hold| reply_holder(context, hold, now));
        context.reply_bytes(b"waiting");
        context.reply_integer(0);
        context.reply_bytes(b"queue");
        context.reply_array(0);
        Ok(())
    }
}

fn reply_holder(context: &Context, hold: &Hold, now: Moment) {
    let field = |name: &str, value: i64| {
        context.reply_bytes(name.as_bytes());
        context.reply_integer(value);
    };
    context.reply_map(8);
    context.reply_bytes(b"owner");
    match hold.owner() {
        Some(owner) => context.reply_bytes(owner),
        None => context.reply_null(),
    }
    field("fence", number(hold.fence().get()));
    field("limit", hold.limit().number().into());
    field("lease", number(hold.lease_ms()));
    field("remaining", number(now.ms_until(hold.deadline())));
    field("count", hold.count().into());
    context.reply_bytes(b"session");
    context.reply_null();
    field("age", number(now.ms_since(hold.granted_at())));
}
