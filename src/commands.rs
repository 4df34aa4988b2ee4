//! The commands, a file each: what the server is told of it, then parse, ask the core, reply.
//!
//! The word at 1 is the key, in every command that has one.

mod acquire;
mod args;
mod break_;
mod check;
mod extend;
mod fence;
mod info;
mod owned;
mod release;

use lock_core::{Lock, Moment, Refusal, Turn};

use crate::perform;
use crate::server::ffi::{Args, CommandSpec, Context, Key};

const KEY: usize = 1;

/// The command table: every command, as its file specifies it.
pub(crate) static ALL: [CommandSpec; 8] = [
    acquire::SPEC,
    release::SPEC,
    extend::SPEC,
    check::SPEC,
    info::SPEC,
    break_::SPEC,
    owned::SPEC,
    fence::SPEC,
];

/// Takes a turn at the command's key.
fn turn<'a, R>(
    context: &'a Context,
    args: &Args<'a>,
    ask: impl FnOnce(&mut Turn<'_>) -> R,
) -> Result<R, Refusal> {
    perform::turn(context, args.name(KEY).ok_or(Refusal::Syntax)?, ask)
}

/// The lock under the command's key, to be looked at; `None` where there is nothing.
fn look<'a>(context: &'a Context, args: &Args<'a>) -> Result<Option<Key<'a, Lock>>, Refusal> {
    let key = args.name(KEY).ok_or(Refusal::Syntax)?;
    Key::open_to_read(context, key).map_err(|_| Refusal::WrongType)
}

/// What is left of a hold: of its lease, or of the time that somebody has given the key to live, if that ends first.
fn remaining_ms(key: Option<&Key<'_, Lock>>, deadline: Moment, now: Moment) -> u64 {
    let lease_ms = now.ms_until(deadline);
    key.and_then(|key| key.ttl_ms()).map_or(lease_ms, |ttl_ms| ttl_ms.min(lease_ms))
}

/// A number as the protocol carries it; what it counts stays far below its end.
fn number(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
