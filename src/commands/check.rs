//! LOCK.CHECK key token
//!
//! Replies `[fence, remaining-ms, waiting]` when the token holds the lock, else a null array.

use lock_core::request::parse_token;
use lock_core::{Lock, Place, Refusal};

use super::{look, number, remaining_ms};
use crate::server::clock;
use crate::server::ffi::{Args, Command, Context};
use crate::state::QUEUES;

pub(crate) struct Check;

impl Command for Check {
    type Error = Refusal;
    const INTERNAL: Refusal = Refusal::Internal;

    fn run(context: &Context, args: &Args<'_>) -> Result<(), Refusal> {
        let token = parse_token(args.bytes(2))?;
        let key = look(context, args)?;
        let lock: Option<&Lock> = key.as_ref().and_then(|key| key.value());
        let now = clock::now();
        match lock.and_then(|lock| lock.hold_of(&token, now)) {
            Some(hold) => {
                let place = Place { database: context.database(), key: args.bytes(1) };
                let waiting = QUEUES.with(|queues| {
                    queues.learned(place, hold.fence());
                    queues.queue(place).map_or(0, |queue| queue.len())
                });
                context.reply_array(3);
                context.reply_integer(number(hold.fence().get()));
                context.reply_integer(number(remaining_ms(key.as_ref(), hold, now)));
                context.reply_integer(number(waiting));
            }
            None => context.reply_null_array(),
        }
        Ok(())
    }
}
