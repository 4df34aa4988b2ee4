//! LOCK.INFO key
//!
//! Replies a map of the holders and the queue of a lock, or a null array when nobody holds the lock and nobody waits
//! for it.

use lock_core::queue::{Ticket, Waiter};
use lock_core::{DbKey, Hold, Limit, Lock, Moment, Refusal};

use super::fields::{reply_address, reply_field, reply_owner, reply_session};
use super::{look, number, remaining_ms};
use crate::server::clock;
use crate::server::ffi::{Access, Arg, Args, Command, CommandSpec, Context, Handler, Key, Keys};
use crate::state::TABLE;

/// At most this many holders, the oldest ones, and this many waiters, the first ones, are in the reply.
const SHOWN: usize = 100;

pub(crate) struct Info;

/// How the server knows the command: in COMMAND, in COMMAND DOCS and for ACL rules.
pub(super) const SPEC: CommandSpec = CommandSpec {
    name: c"lock.info",
    handler: Handler::of::<Info>(),
    flags: c"readonly",
    categories: c"read",
    keys: Some(Keys::First(Access::Read)),
    arity: 2,
    summary: c"Shows who holds a lock and who waits for it. Returns null when nobody does.",
    complexity: c"O(log(H)+N) with H holds on the lock and N holders and waiters in the reply",
    args: &[Arg::KEY],
};

impl Command for Info {
    type Error = Refusal;
    const INTERNAL: Refusal = Refusal::Internal;

    fn run(context: &Context, args: &Args<'_>) -> Result<(), Refusal> {
        let key = look(context, args)?;
        let place = DbKey { database: context.database(), key: args.bytes(1) };
        let now = clock::now();
        let lock: Option<&Lock> = key.as_ref().and_then(|key| key.value());
        let held = lock.map_or(0, |lock| lock.live_count(now));
        if held == 0 && !TABLE.with(|table| table.queues().is_waited_for(place)) {
            context.reply_null_array();
            return Ok(());
        }
        context.reply_map(4);
        context.reply_bytes(b"holders");
        context.reply_array(held.min(SHOWN));
        let holds = lock.into_iter().flat_map(|lock| lock.live_holds(now));
        holds.take(SHOWN).for_each(|hold| reply_holder(context, key.as_ref(), hold, now));
        reply_field(context, "held", number(held));
        reply_queue(context, place, now);
        Ok(())
    }
}

fn reply_holder(context: &Context, key: Option<&Key<'_, Lock>>, hold: &Hold, now: Moment) {
    context.reply_map(9);
    reply_owner(context, hold.owner());
    reply_field(context, "fence", number(hold.fence().get()));
    reply_field(context, "limit", hold.limit().number().into());
    reply_field(context, "lease", number(hold.lease_ms()));
    reply_field(context, "remaining", number(remaining_ms(key, hold.deadline(), now)));
    reply_field(context, "level", hold.level().into());
    reply_session(context, hold.session());
    reply_field(context, "age", number(now.ms_since(hold.granted_at())));
}

fn reply_queue(context: &Context, key: DbKey<'_>, now: Moment) {
    let (len, waiters) = TABLE.with(|table| {
        let queues = table.queues();
        (queues.len_at(key), shown(queues.places(key)))
    });
    reply_field(context, "waiting", number(len));
    context.reply_bytes(b"queue");
    context.reply_array(waiters.len());
    waiters.iter().for_each(|(ticket, waiter)| reply_waiter(context, *ticket, waiter, now));
}

fn shown<'a>(places: impl Iterator<Item = (Ticket, &'a Waiter)>) -> Vec<(Ticket, Waiter)> {
    places.take(SHOWN).map(|(ticket, waiter)| (ticket, waiter.clone())).collect()
}

fn reply_waiter(context: &Context, ticket: Ticket, waiter: &Waiter, now: Moment) {
    context.reply_map(if waiter.client.is_some() { 6 } else { 5 });
    reply_owner(context, waiter.owner.as_deref());
    reply_field(context, "limit", waiter.limit.unwrap_or(Limit::EXCLUSIVE).number().into());
    reply_field(context, "waited", number(now.ms_since(waiter.since)));
    reply_field(context, "timeout", waiter.until.map_or(-1, |until| number(now.ms_until(until))));
    match waiter.client {
        Some(client) => {
            reply_field(context, "client", number(client));
            reply_address(context, Some(client));
        }
        None => reply_field(context, "ticket", number(ticket.number())),
    }
}
