//! LOCK.MACQUIRE numkeys key [key ...] [PX ms | EX s] [TOKEN token] [SHARED | LIMIT n] [WEIGHT n] [BLOCK ms] [QUEUE ms] [OWNER label] [SESSION [DELAY ms]] [LEVEL n]
//!
//! Acquires all locks or none, under one token and one fence. Otherwise it is LOCK.ACQUIRE.

use lock_core::turn::together;
use lock_core::{Refusal, request};

use super::acquire::{self, check_session, wait_options};
use super::args::{BLOCK, KEYS, LEASE, LEVEL, NUMKEYS, OTHERS, OWN_TOKEN, OWNER, QUEUE, SESSION, WEIGHT};
use super::{deadlocks, several_keys, tell_several_keys};
use crate::config;
use crate::perform;
use crate::server::entropy;
use crate::server::ffi::{Access, Args, Command, CommandSpec, Context, Handler, Keys};

pub(crate) struct AcquireAll;

/// How the server knows the command: in COMMAND, in COMMAND DOCS and for ACL rules.
pub(super) const SPEC: CommandSpec = CommandSpec {
    name: c"lock.macquire",
    handler: Handler::of::<AcquireAll>(),
    flags: c"write deny-oom blocking getkeys-api",
    categories: c"write blocking",
    keys: Some(Keys::Counted(Access::Write)),
    arity: -3,
    summary: c"Acquires several locks, all of them or none, or waits for all of them.",
    complexity: c"O(N*log(H)) with N locks and H holds on each, and O(log(H)) for each waiter that the request makes room for",
    args: &[NUMKEYS, KEYS, LEASE, OWN_TOKEN, OTHERS, WEIGHT, BLOCK, QUEUE, OWNER, SESSION, LEVEL],
    reply: acquire::REPLY,
};

impl Command for AcquireAll {
    type Error = Refusal;
    const INTERNAL: Refusal = Refusal::Internal;
    const TELLS_KEYS: bool = true;

    fn run(context: &Context, args: &Args<'_>) -> Result<(), Refusal> {
        let (names, rest) = several_keys(args)?;
        let request = request::Acquire::parse_for_several(args.from(rest), config::leases())?;
        check_session(context, &request)?;
        // Before the turns, in which no command of the server may be called.
        let wait = wait_options(context, &request);
        let acquired = perform::turn_at_all(context, &names, |turns| {
            together::acquire(turns, &request, || context.client(), wait, entropy::new_token)
        })?
        .inspect_err(|refusal| deadlocks::log(context, &names, request.owner, refusal))?;
        acquire::reply(context, &names, acquired);
        Ok(())
    }

    fn tell_keys(context: &Context, args: &Args<'_>) {
        tell_several_keys(context, args, Access::Write);
    }
}
