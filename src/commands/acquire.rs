//! LOCK.ACQUIRE key [PX ms | EX s] [TOKEN token] [SHARED | LIMIT n] [WEIGHT n] [BLOCK ms] [QUEUE ms] [OWNER label] [SESSION [DELAY ms]] [LEVEL n]
//!
//! Replies `[token, fence]` when the lock is granted, and a null array when it is not available. With BLOCK the client
//! waits for that reply until the lock is granted or the time is over. With QUEUE the token keeps its place in the queue
//! without the connection, and the reply is its ticket instead of the null array.
//!
//! A master and the append-only file send `LOCK.ACQUIRE key holds` instead: see [`crate::replication`].

use std::fmt::Display;

use lock_core::outcome::{Acquired, WaitOptions};
use lock_core::queue::Keep;
use lock_core::{Refusal, codec, request};

use super::args::{BLOCK, LEASE, LEVEL, OTHERS, OWN_TOKEN, OWNER, QUEUE, SESSION, WEIGHT};
use super::{KEY, deadlocks, turn};
use crate::config;
use crate::consumers;
use crate::perform;
use crate::server::ffi::{Access, Arg, Args, Command, CommandSpec, Context, Handler, Keys, RedisString};
use crate::server::{clock, entropy};
use crate::state::TABLE;
use crate::waiting;

pub(crate) struct Acquire;

pub(super) const REPLY: &str = r#"{"oneOf": [
        {"description": "The lock is granted: its token and its fence.", "type": "array", "minItems": 2, "maxItems": 2, "items": [{"type": "string"}, {"type": "integer"}]},
        {"description": "It is not available, or did not become available in time.", "type": "null"},
        {"description": "With QUEUE, where the reply would be null: the ticket of the place.", "type": "integer"}
    ]}"#;

/// How the server knows the command: in COMMAND, in COMMAND DOCS and for ACL rules.
pub(super) const SPEC: CommandSpec = CommandSpec {
    name: c"lock.acquire",
    handler: Handler::of::<Acquire>(),
    flags: c"write deny-oom blocking",
    categories: c"write blocking",
    keys: Some(Keys::First(Access::Write)),
    arity: -2,
    summary:
        c"Acquires a lock, or waits for it. Returns its token and fence; null or a ticket when it is not available.",
    complexity:
        c"O(log(H)) with H holds on the lock, and O(log(H)) for each waiter that the request makes room for",
    args: &[
        Arg::KEY,
        LEASE,
        OWN_TOKEN,
        OTHERS,
        WEIGHT,
        BLOCK,
        QUEUE,
        OWNER,
        SESSION,
        LEVEL,
    ],
    reply: REPLY,
};

impl Command for Acquire {
    type Error = Refusal;
    const INTERNAL: Refusal = Refusal::Internal;

    fn run(context: &Context, args: &Args<'_>) -> Result<(), Refusal> {
        // A server without replication consumers has no master, and the form that it loads has three arguments.
        if (args.len() == 3 || consumers::may_be_there()) && context.is_from_master() {
            return apply(context, args);
        }
        let request = request::Acquire::parse(args.from(2), config::leases())?;
        check_session(context, &request)?;
        // Before the turn, in which no command of the server may be called.
        let wait = wait_options(context, &request);
        let acquired = turn(context, args, |turn| {
            turn.acquire(&request, || context.client(), wait, entropy::new_token)
        })?;
        if let Ok(Acquired::Granted(token, fence)) = &acquired {
            waiting::reply_grant(context, token, *fence);
            return Ok(());
        }
        let acquired = acquired.inspect_err(|refusal| {
            deadlocks::log(context, args.name(KEY).as_slice(), request.owner, refusal)
        })?;
        reply(context, &[args.name(KEY).ok_or(Refusal::Syntax)?], acquired);
        Ok(())
    }
}

/// # Errors
/// [`Refusal::NoConnection`] where there is no connection that could keep the hold.
pub(super) fn check_session(context: &Context, request: &request::Acquire<'_>) -> Result<(), Refusal> {
    let is_session = request.session_delay_ms.is_some();
    if is_session && !TABLE.with(|table| table.sessions().is_open(context.client())) {
        return Err(Refusal::NoConnection);
    }
    Ok(())
}

/// Replies what a request for these keys comes to, or lets it wait.
#[inline]
pub(super) fn reply(context: &Context, names: &[RedisString<'_>], acquired: Acquired) {
    match acquired {
        Acquired::Granted(token, fence) => waiting::reply_grant(context, &token, fence),
        Acquired::NotAvailable => context.reply_null_array(),
        Acquired::Waits(joining) => waiting::wait(context, names, *joining),
    }
}

/// Ignores BLOCK where the client cannot wait.
#[inline]
pub(super) fn wait_options(context: &Context, request: &request::Acquire<'_>) -> Option<WaitOptions> {
    if request.may_wait() { wait_options_of(context, request) } else { None }
}

/// The same of a request that may wait. Most do not.
#[inline(never)]
fn wait_options_of(context: &Context, request: &request::Acquire<'_>) -> Option<WaitOptions> {
    let client = request.block_ms.filter(|_| context.can_wait()).map(|_| context.client());
    let keep = request.queue_ms.map(|for_ms| Keep { for_ms, user: context.current_user() });
    let limits = config::waiter_limits();
    (client.is_some() || keep.is_some()).then_some(WaitOptions { client, keep, limits })
}

/// Applies what another server has decided.
fn apply(context: &Context, args: &Args<'_>) -> Result<(), Refusal> {
    if args.len() != 3 {
        return Err(Refusal::Syntax);
    }
    let refuse = |why: &dyn Display| {
        context.warn(&format!("a grant from the master or the append-only file is not applied: {why}"));
        Refusal::Syntax
    };
    let decided = codec::decode(args.bytes(2), clock::now()).map_err(|damage| refuse(&damage))?;
    let name = args.name(1).ok_or(Refusal::Syntax)?;
    let applied = perform::turn_over_anything(context, name, |turn| turn.apply(decided))?;
    applied.map_err(|rule| refuse(&format!("it breaks a rule: {rule}")))?;
    context.reply_integer(1);
    Ok(())
}
