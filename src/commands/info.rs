//! LOCK.INFO key
//!
//! Replies a map of the holders and the queue of a lock, or a null array when nobody holds the lock and nobody waits
//! for it.

use lock_core::queue::{Ticket, Waiter};
use lock_core::{ClientId, DbKey, Fence, Hold, Lock, Moment, Refusal, Share, StringHold};

use super::fields::{reply_address, reply_field, reply_owner, reply_session};
use super::{Seen, look, number, remaining_ms};
use crate::server::clock;
use crate::server::ffi::{Access, Arg, Args, Command, CommandSpec, Context, Handler, Keys};
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
    reply: r#"{"oneOf": [
        {"description": "Who holds the lock, and who waits for it.", "type": "object", "properties": {
            "holders": {"description": "The oldest 100 holds.", "type": "array", "items": {"type": "object"}},
            "held": {"description": "How many holds there are.", "type": "integer"},
            "waiting": {"description": "How many wait.", "type": "integer"},
            "queue": {"description": "The first 100 of them.", "type": "array", "items": {"type": "object"}}
        }},
        {"description": "Nobody holds the lock, and nobody waits for it.", "type": "null"}
    ]}"#,
};

impl Command for Info {
    type Error = Refusal;
    const INTERNAL: Refusal = Refusal::Internal;

    fn run(context: &Context, args: &Args<'_>) -> Result<(), Refusal> {
        let seen = look(context, args)?;
        let place = DbKey { database: context.database(), key: args.bytes(1) };
        let now = clock::now();
        let (lock, string): (Option<&Lock>, _) = match &seen {
            Seen::Lock(key) => (key.as_ref().and_then(|key| key.value()), None),
            Seen::String(string) => (None, Some(string)),
        };
        let held = lock.map_or(usize::from(string.is_some()), |lock| lock.live_count(now));
        if held == 0 && !TABLE.with(|table| table.queues().is_waited_for(place)) {
            context.reply_null_array();
            return Ok(());
        }
        context.reply_map(4);
        context.reply_bytes(b"holders");
        context.reply_array(held.min(SHOWN));
        let holds = lock.into_iter().flat_map(|lock| lock.live_holds(now));
        let holds = holds.take(SHOWN).map(|hold| Holder::of_hold(hold, &seen, now));
        let string = string.map(|string| Holder::of_string(string, &seen, now));
        holds.chain(string).for_each(|holder| reply_holder(context, &holder));
        reply_field(context, "held", number(held));
        reply_queue(context, place, now);
        Ok(())
    }
}

/// What the reply says of a holder.
struct Holder<'a> {
    owner: Option<&'a [u8]>,
    fence: Fence,
    share: Share,
    lease_ms: i64,
    remaining_ms: i64,
    level: u16,
    session: Option<ClientId>,
    age_ms: i64,
}

/// What is not known of a holder, as a number.
const UNKNOWN: i64 = -1;

impl<'a> Holder<'a> {
    fn of_hold(hold: &'a Hold, seen: &Seen<'_>, now: Moment) -> Self {
        Self {
            owner: hold.owner(),
            fence: hold.fence(),
            share: hold.share(),
            lease_ms: number(hold.lease_ms()),
            remaining_ms: remaining_ms(seen, Some(hold.deadline()), now),
            level: hold.level(),
            session: hold.session().map(|session| session.client),
            age_ms: number(now.ms_since(hold.granted_at())),
        }
    }

    /// Of a string, which stores neither when it was set nor how long its lease was.
    fn of_string(string: &StringHold, seen: &Seen<'_>, now: Moment) -> Self {
        Self {
            owner: None,
            fence: Fence::NONE,
            share: Share::EXCLUSIVE,
            lease_ms: UNKNOWN,
            remaining_ms: remaining_ms(seen, string.deadline(), now),
            level: 1,
            session: None,
            age_ms: UNKNOWN,
        }
    }
}

fn reply_holder(context: &Context, holder: &Holder<'_>) {
    context.reply_map(10);
    reply_owner(context, holder.owner);
    reply_field(context, "fence", number(holder.fence.get()));
    reply_share(context, holder.share);
    reply_field(context, "lease", holder.lease_ms);
    reply_field(context, "remaining", holder.remaining_ms);
    reply_field(context, "level", holder.level.into());
    reply_session(context, holder.session);
    reply_field(context, "age", holder.age_ms);
}

fn reply_share(context: &Context, share: Share) {
    reply_field(context, "limit", share.limit.number().into());
    reply_field(context, "weight", share.weight.into());
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
    context.reply_map(if waiter.client.is_some() { 7 } else { 6 });
    reply_owner(context, waiter.owner.as_deref());
    reply_share(context, waiter.asked.of_newcomer());
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
