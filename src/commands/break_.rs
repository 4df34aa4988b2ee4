//! LOCK.BREAK key [FENCE fence]
//!
//! Replies the number of holds that it ended, and logs each break, so that an operator can find out later who did it.

use lock_core::request::word;
use lock_core::{Fence, Refusal, request};

use super::{number, turn};
use crate::server::ffi::{Access, Arg, ArgKind, Args, Command, CommandSpec, Context, Handler, Keys};
use crate::server::text::printable;
use crate::state::TABLE;

/// The most fences in a line of the log: the server cuts a line after about a thousand bytes.
const FENCES_LOGGED: usize = 32;

pub(crate) struct Break;

/// How the server knows the command: in COMMAND, in COMMAND DOCS and for ACL rules.
pub(super) const SPEC: CommandSpec = CommandSpec {
    name: c"lock.break",
    handler: Handler::of::<Break>(),
    flags: c"write admin",
    categories: c"write admin dangerous",
    keys: Some(Keys::First(Access::Delete)),
    arity: -2,
    summary: c"For operators: ends the hold with this fence, or all holds, whoever owns them.",
    complexity: c"O(log(H)) with FENCE, O(H) without, where H is the number of holds, and O(log(H)) for each waiter that acquires the lock",
    args: &[Arg::KEY, Arg::after(word::FENCE, c"fence", ArgKind::Integer).optional()],
    reply: r#"{"description": "How many holds have ended.", "type": "integer", "minimum": 0}"#,
};

impl Command for Break {
    type Error = Refusal;
    const INTERNAL: Refusal = Refusal::Internal;

    fn run(context: &Context, args: &Args<'_>) -> Result<(), Refusal> {
        let request = request::Break::parse(args.from(2))?;
        let broken = turn(context, args, |turn| turn.break_holds(request.holds))?;
        if !broken.is_empty() && !context.is_from_master() {
            log(context, &broken);
        }
        context.reply_integer(number(broken.len()));
        Ok(())
    }
}

/// Logs who broke which holds. The line holds neither the key nor anything else that a client chose.
fn log(context: &Context, broken: &[Fence]) {
    let client = context.client();
    let is_connection = TABLE.with(|table| table.sessions().is_open(client));
    let (user, address) =
        if is_connection { (context.user(client), Context::address(client)) } else { (None, None) };
    let user = user.map_or_else(|| "unknown".to_owned(), |name| printable(&name));
    let from = address.unwrap_or_else(|| "a script, or a connection older than the module".to_owned());
    let fences: Vec<String> =
        broken.iter().take(FENCES_LOGGED).map(|fence| fence.get().to_string()).collect();
    let more = broken.len().saturating_sub(FENCES_LOGGED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    context
        .notice(&format!("LOCK.BREAK by user {user} from {from}: ended fence {}{more}", fences.join(", ")));
}
