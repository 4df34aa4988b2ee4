//! Blocked clients. Each gets exactly one reply, and no client keeps a lock that it was never told of.
//!
//! The core decides who is granted the lock, in the turn that freed it. The reply follows at the end of the same
//! iteration of the server's loop ([`deliver`]), or of one of the next if very many clients have to be answered. If the
//! client disconnects before that, or if the server cannot send the reply, the grant is undone.
//!
//! Handles are given back to the server in one place only. CLIENT UNBLOCK must not find a handle that was given back
//! already: Redis before 7.4 would never reply to that client.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};

use lock_core::answer::Answer;
use lock_core::token::LONGEST_SPELLED;
use lock_core::{ClientId, DbKey, Fence, Joining, Ticket, Token};

use crate::notifications;
use crate::replication;
use crate::server::clock;
use crate::server::ffi::{BlockedClient, Context, MainThread, RedisString, Waiting, wake_server};
use crate::state::TABLE;
use crate::timer;

/// A client that waits, or that will be answered at the end of this iteration.
struct Blocked {
    handle: BlockedClient,
    answer: Option<Answer>,
}

/// All blocked clients.
static BLOCKED: MainThread<BTreeMap<ClientId, Blocked>> = MainThread::new(BTreeMap::new());

/// Clients to answer at the end of this iteration, in this order.
static READY: MainThread<VecDeque<ClientId>> = MainThread::new(VecDeque::new());

/// The most clients answered in one iteration of the server's loop: a few milliseconds of work.
const ANSWERS_PER_ITERATION: usize = 512;

/// Handles to give back at the end of this iteration, of clients that are gone or already have a reply.
static RETIRED: MainThread<Vec<BlockedClient>> = MainThread::new(Vec::new());

/// Whether this iteration of the server's loop has ended, and the next has not begun. Redis 7.0 carries out commands in
/// between: those that stood behind a blocking one on their connection, or were held back by CLIENT PAUSE.
static ITERATION_IS_OVER: AtomicBool = AtomicBool::new(false);

/// Lets the request of the running command wait in the queues for these keys, and replies unless its client waits, too.
pub(crate) fn wait(context: &Context, names: &[RedisString<'_>], joining: Joining) {
    let database = context.database();
    let keys: Vec<DbKey<'_>> = names.iter().map(|name| DbKey { database, key: name.bytes() }).collect();
    let is_blocked = joining.waiter.client.is_some_and(|client| block(context, client));
    let joining = if is_blocked { Some(joining) } else { joining.without_connection() };
    let Some(joining) = joining else {
        TABLE.with(|table| table.turned_away());
        return context.reply_null_array();
    };
    let held = joining.is_held.clone();
    let joined = TABLE.with(|table| table.join(&keys, joining));
    for (client, told) in joined.superseded {
        answer(client, told);
    }
    if !is_blocked {
        reply_ticket(context, joined.ticket);
    }
    if joined.is_new {
        let held = names.iter().zip(held).filter(|(_, is_held)| *is_held);
        held.for_each(|(name, _)| notifications::send_waiting(context, *name));
    }
    timer::arm(context);
}

/// Blocks the client of the running command. False where the server does not let it wait: Valkey 8.1 and 9 do not let a
/// connection that speaks RESP3 and has subscriptions.
fn block(context: &Context, client: ClientId) -> bool {
    let handle = BlockedClient::block::<Clients>(context);
    let is_blocked = handle.is_some();
    let blocked = handle.map(|handle| (client, Blocked { handle, answer: None }));
    BLOCKED.with(|all| all.extend(blocked));
    is_blocked
}

/// Answers a client that has left its queue, at the end of this iteration.
pub(crate) fn answer(client: ClientId, answer: Answer) {
    let waits = BLOCKED.with(|blocked| match blocked.get_mut(&client) {
        Some(blocked) => {
            blocked.answer = Some(answer);
            true
        }
        None => false,
    });
    if waits {
        READY.with(|ready| ready.push_back(client));
        keep_awake();
    }
}

/// An iteration of the server's loop has ended: whatever is left to do from now on is to be done though the server may
/// sleep.
pub(crate) fn iteration_has_ended() {
    ITERATION_IS_OVER.store(true, Ordering::Relaxed);
}

/// An iteration of the server's loop begins.
pub(crate) fn iteration_begins() {
    ITERATION_IS_OVER.store(false, Ordering::Relaxed);
}

/// Sees to it that what has just been left to do is done at once, though this iteration of the server's loop may have
/// ended: else it would have to wait for the next event or the server's tick.
pub(crate) fn keep_awake() {
    if ITERATION_IS_OVER.load(Ordering::Relaxed) {
        wake_server();
    }
}

/// Answers those who are to be answered, at the end of an iteration of the server's loop: as many as that has room for.
/// True if others are left.
pub(crate) fn deliver() -> bool {
    for _ in 0..ANSWERS_PER_ITERATION {
        let Some(client) = READY.with(VecDeque::pop_front) else { break };
        // Who was replied to otherwise may wait again by now, and has no answer yet.
        let answered = BLOCKED.with(|blocked| {
            let answer = blocked.get_mut(&client)?.answer.take()?;
            Some((blocked.remove(&client)?.handle, answer))
        });
        if let Some((handle, answer)) = answered {
            handle.answer::<Clients>(answer);
        }
    }
    for handle in RETIRED.with(mem::take) {
        handle.give_back();
    }
    READY.with(|ready| !ready.is_empty())
}

/// A connection is being closed. It waits no longer, and what it kept alive ends.
pub(crate) fn closed(client: ClientId) {
    TABLE.with(|table| table.closed(client, clock::now()));
    withhold_answer(client);
    see_to_marks();
}

/// Sees to it that marks are settled: the server also closes connections just before it sleeps.
fn see_to_marks() {
    if !TABLE.with(|table| table.is_unmarked()) {
        keep_awake();
    }
}

fn withhold_answer(client: ClientId) {
    BLOCKED.with(|blocked| blocked.get_mut(&client).and_then(|blocked| blocked.answer.take()));
}

fn retire(client: ClientId) -> Option<Answer> {
    let blocked = BLOCKED.with(|blocked| blocked.remove(&client))?;
    RETIRED.with(|retired| retired.push(blocked.handle));
    blocked.answer
}

struct Clients;

impl Waiting for Clients {
    type Answer = Answer;

    fn reply(context: &Context, answer: Answer) {
        match answer {
            Answer::Granted(grant) => {
                TABLE.with(|table| table.told(grant.client));
                reply_grant(context, &grant.token, grant.fence);
            }
            Answer::NotAvailable => context.reply_null_array(),
            Answer::Queued(ticket) => reply_ticket(context, ticket),
            Answer::Refused(refusal) => context.reply_error(&refusal),
        }
    }

    fn undelivered(answer: Answer) {
        if let Answer::Granted(grant) = answer {
            TABLE.with(|table| table.abandoned(grant.client));
        }
    }

    fn timed_out(context: &Context, client: ClientId) {
        let told = TABLE.with(|table| table.unblocked(client, clock::now()));
        // A grant that was on its way came before the unblocking, and is what the client gets.
        Self::reply(context, retire(client).or(told).unwrap_or(Answer::NotAvailable));
    }

    fn disconnected(client: ClientId) {
        TABLE.with(|table| table.abandoned(client));
        withhold_answer(client);
        retire(client);
        see_to_marks();
    }
}

/// Replies what LOCK.ACQUIRE replies when its place in the queue is kept.
fn reply_ticket(context: &Context, ticket: Ticket) {
    context.reply_integer(ticket.number().cast_signed());
}

/// Replies what LOCK.ACQUIRE replies when it is granted.
pub(crate) fn reply_grant(context: &Context, token: &Token, fence: Fence) {
    context.reply_array(2);
    context.reply_bytes(token.text(&mut [0; LONGEST_SPELLED]));
    context.reply_integer(replication::signed(fence));
}
