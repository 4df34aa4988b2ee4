//! The commands, one file each: its specification, then parse, ask the core, reply.
//!
//! In every command with a key, argument 1 is the key.

mod acquire;
mod args;
mod break_;
mod check;
mod deadlocks;
mod extend;
mod fence;
mod fields;
mod info;
mod owned;
mod release;
mod top;

use lock_core::{Lock, Moment, Refusal, Turn};

use crate::perform;
use crate::server::ffi::{Args, CommandSpec, Context, Key};

const KEY: usize = 1;

/// The command table: the specification of every command.
pub(crate) static ALL: [CommandSpec; 9] = [
    acquire::SPEC,
    release::SPEC,
    extend::SPEC,
    check::SPEC,
    info::SPEC,
    top::SPEC,
    break_::SPEC,
    owned::SPEC,
    fence::SPEC,
];

/// Takes a turn at the key of the command.
fn turn<'a, R>(
    context: &'a Context,
    args: &Args<'a>,
    ask: impl FnOnce(&mut Turn<'_>) -> R,
) -> Result<R, Refusal> {
    perform::turn(context, args.name(KEY).ok_or(Refusal::Syntax)?, ask)
}

/// Opens the key of the command for reading. `None` if the key does not exist.
fn look<'a>(context: &'a Context, args: &Args<'a>) -> Result<Option<Key<'a, Lock>>, Refusal> {
    let key = args.name(KEY).ok_or(Refusal::Syntax)?;
    Key::open_to_read(context, key).map_err(|_| Refusal::WrongType)
}

/// The milliseconds that remain of a hold: of its lease, or of the key's time to live if that ends first.
fn remaining_ms(key: Option<&Key<'_, Lock>>, deadline: Moment, now: Moment) -> u64 {
    let lease_ms = now.ms_until(deadline);
    key.and_then(|key| key.ttl_ms()).map_or(lease_ms, |ttl_ms| ttl_ms.min(lease_ms))
}

/// A number as an integer of the protocol. No count comes near its maximum.
fn number(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
