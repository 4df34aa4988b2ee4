//! LOCK.BREAK key [FENCE fence]
//!
//! Replies how many holds it ended. Each break is a line in the server's log, for whoever asks later who did it.

use lock_core::request::word;
use lock_core::{Fence, Refusal, request};

use super::{number, turn};
use crate::server::ffi::{Access, Arg, ArgKind, Args, Command, CommandSpec, Context, Handler, Keys};
use crate::server::text::printable;
use crate::state::TABLE;

/// The most fences that a line of the log names: the server cuts a line at a thousand bytes.
const FENCES_LOGGED: usize = 32;

pub(crate) struct Break;

/// What the server, its users and its access rules are told of it.
pub(super) const SPEC: CommandSpec = CommandSpec {
    name: c"lock.break",
    handler: Handler::of::<Break>(),
    flags: c"write admin",
    categories: c"write admin dangerous",
    keys: Some(Keys::First(Access::Delete)),
    arity: -2,
    summary: c"For operators: ends the hold with that fence, or all holds, whoever owns them.",
    complexity: c"O(H) with H holds on the lock",
    args: &[Arg::KEY, Arg::after(word::FENCE, c"fence", ArgKind::Integer).optional()],
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

/// Says who broke which holds. Neither the key nor anything else that a client chose is named.
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
