//! LOCK.INFO key
//!
//! Replies a null array when nobody holds the lock, else a map of its holders and its queue.

use lock_core::queue::Waiter;
use lock_core::{Hold, Limit, Lock, Moment, Place, Refusal};

use super::{look, number};
use crate::server::clock;
use crate::server::ffi::{Args, Command, Context};
use crate::state::QUEUES;

/// The most waiters that are shown.
const WAITERS_SHOWN: usize = 100;

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
        reply_queue(context, Place { database: context.database(), key: args.bytes(1) }, now);
        Ok(())
    }
}

fn reply_holder(context: &Context, hold: &Hold, now: Moment) {
    context.reply_map(8);
    reply_owner(context, hold.owner());
    reply_field(context, "fence", number(hold.fence().get()));
    reply_field(context, "limit", hold.limit().number().into());
    reply_field(context, "lease", number(hold.lease_ms()));
    reply_field(context, "remaining", number(now.ms_until(hold.deadline())));
    reply_field(context, "count", hold.count().into());
    match hold.session() {
        Some(client) => reply_field(context, "session", number(client)),
        None => {
            context.reply_bytes(b"session");
            context.reply_null();
        }
    }
    reply_field(context, "age", number(now.ms_since(hold.granted_at())));
}

fn reply_queue(context: &Context, place: Place<'_>, now: Moment) {
    QUEUES.with(|queues| {
        let queue = queues.queue(place);
        let len = queue.map_or(0, |queue| queue.len());
        reply_field(context, "waiting", number(len));
        context.reply_bytes(b"queue");
        context.reply_array(len.min(WAITERS_SHOWN));
        let waiters = queue.into_iter().flat_map(|queue| queue.iter());
        waiters.take(WAITERS_SHOWN).for_each(|waiter| reply_waiter(context, waiter, now));
    });
}

fn reply_waiter(context: &Context, waiter: &Waiter, now: Moment) {
    context.reply_map(4);
    reply_owner(context, waiter.owner.as_deref());
    reply_field(context, "limit", waiter.limit.unwrap_or(Limit::EXCLUSIVE).number().into());
    reply_field(context, "waited", number(now.ms_since(waiter.since)));
    reply_field(context, "timeout", waiter.until.map_or(-1, |until| number(now.ms_until(until))));
}

fn reply_owner(context: &Context, owner: Option<&[u8]>) {
    context.reply_bytes(b"owner");
    match owner {
        Some(owner) => context.reply_bytes(owner),
        None => context.reply_null(),
    }
}

fn reply_field(context: &Context, name: &str, value: i64) {
    context.reply_bytes(name.as_bytes());
    context.reply_integer(value);
}
