//! LOCK.TOP [COUNT n]
//!
//! Replies maps of the locks that are waited for on this server, the longest wait first. It looks at every queue, and at the
//! locks in the reply, so that its cost does not depend on how many locks are held.

use lock_core::queue::WaitedFor;
use lock_core::request::word;
use lock_core::{ClientId, Hold, Lock, Moment, Refusal, request};

use super::fields::{reply_field, reply_null_field, reply_owner, reply_session};
use super::number;
use crate::perform;
use crate::server::clock;
use crate::server::ffi::{Arg, ArgKind, Args, Command, CommandSpec, Context, Handler, Key};
use crate::state::TABLE;

pub(crate) struct Top;

/// How the server knows the command: in COMMAND, in COMMAND DOCS and for ACL rules.
pub(super) const SPEC: CommandSpec = CommandSpec {
    name: c"lock.top",
    handler: Handler::of::<Top>(),
    flags: c"readonly admin",
    categories: c"read admin dangerous",
    keys: None,
    arity: -1,
    summary: c"For operators: the locks that are waited for on this server, the longest wait first.",
    complexity: c"O(Q+N*log(N)) with Q locks that are waited for and N locks in the reply",
    args: &[Arg::after(word::COUNT, c"count", ArgKind::Integer).optional()],
    reply: r#"{"description": "The locks that are waited for, the longest wait first.", "type": "array", "items": {"type": "object", "properties": {
        "key": {"type": "string"},
        "database": {"type": "integer"},
        "waiting": {"description": "How many wait.", "type": "integer"},
        "queued": {"description": "How many of them are places without a connection.", "type": "integer"},
        "longest": {"description": "Milliseconds that the first has waited.", "type": "integer"},
        "held": {"description": "Milliseconds that the oldest hold has lasted.", "oneOf": [{"type": "integer"}, {"type": "null"}]},
        "owner": {"oneOf": [{"type": "string"}, {"type": "null"}]},
        "session": {"oneOf": [{"type": "integer"}, {"type": "null"}]},
        "address": {"oneOf": [{"type": "string"}, {"type": "null"}]}
    }}}"#,
};

/// What is shown of the oldest hold of a lock.
struct Oldest {
    since: Moment,
    owner: Option<Box<[u8]>>,
    session: Option<ClientId>,
}

impl Oldest {
    fn of(hold: &Hold) -> Self {
        Self {
            since: hold.granted_at(),
            owner: hold.owner().map(Box::from),
            session: hold.session().map(|session| session.client),
        }
    }
}

impl Command for Top {
    type Error = Refusal;
    const INTERNAL: Refusal = Refusal::Internal;

    fn run(context: &Context, args: &Args<'_>) -> Result<(), Refusal> {
        let request = request::Top::parse(args.from(1))?;
        let now = clock::now();
        let top = TABLE.with(|table| table.queues().longest_waits(request.count));
        // The keys are in any database, and the client is to stay in its own.
        let own = context.database();
        let top: Vec<_> = top.into_iter().map(|at| (oldest_hold(context, &at, now), at)).collect();
        context.select_database(own);
        context.reply_array(top.len());
        top.iter().for_each(|(oldest, at)| reply_lock(context, at, oldest.as_ref(), now));
        Ok(())
    }
}

fn oldest_hold(context: &Context, at: &WaitedFor, now: Moment) -> Option<Oldest> {
    let oldest = perform::at(context, at.key.as_key(), |name| {
        let key = Key::<Lock>::open_to_read(context, name).ok()??;
        key.value()?.live_holds(now).next().map(Oldest::of)
    });
    oldest.flatten()
}

fn reply_lock(context: &Context, at: &WaitedFor, oldest: Option<&Oldest>, now: Moment) {
    context.reply_map(9);
    context.reply_bytes(b"key");
    context.reply_bytes(at.key.as_key().key);
    reply_field(context, "database", at.key.as_key().database.into());
    reply_field(context, "waiting", number(at.waiting));
    reply_field(context, "queued", number(at.queued));
    reply_field(context, "longest", number(now.ms_since(at.since)));
    match oldest {
        Some(oldest) => reply_field(context, "held", number(now.ms_since(oldest.since))),
        None => reply_null_field(context, "held"),
    }
    reply_owner(context, oldest.and_then(|oldest| oldest.owner.as_deref()));
    reply_session(context, oldest.and_then(|oldest| oldest.session));
}
