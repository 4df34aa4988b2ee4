//! The commands, one file each: its specification, then parse, ask the core, reply.
//!
//! In every command with one key, argument 1 is the key.

mod acquire;
mod args;
mod break_;
mod check;
mod deadlocks;
#[cfg(test)]
mod described;
mod extend;
mod fence;
mod fields;
mod guard;
mod info;
mod macquire;
mod mextend;
mod mrelease;
mod owned;
mod release;
mod top;

use lock_core::request::parse_number_of_keys;
use lock_core::{Lock, Moment, Refusal, StringHold, Turn};

use crate::perform;
use crate::server::clock;
use crate::server::ffi::{Access, Args, CommandSpec, Context, DistinctNames, Key, Occupied};

const KEY: usize = 1;

/// In the commands for several keys, argument 1 is how many they are, and the first of them follows.
const FIRST_OF_SEVERAL: usize = 2;

/// The command table: the specification of every command.
pub(crate) static ALL: [CommandSpec; 13] = [
    acquire::SPEC,
    release::SPEC,
    extend::SPEC,
    check::SPEC,
    macquire::SPEC,
    mrelease::SPEC,
    mextend::SPEC,
    guard::SPEC,
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

/// The keys of a command for several, each once, and the index of the argument behind them.
fn several_keys<'a>(args: &Args<'a>) -> Result<(DistinctNames<'a>, usize), Refusal> {
    let number = parse_number_of_keys(args.bytes(1))?;
    let end = number.saturating_add(FIRST_OF_SEVERAL);
    Ok((args.distinct_names(FIRST_OF_SEVERAL, end).ok_or(Refusal::Syntax)?, end))
}

/// Tells the server which arguments are the keys of a command for several. It asks before the command has looked at them. Where
/// they are not as many as is said, none is told, as for the server's own commands: the command is to say what is wrong, and
/// not the server that an option is a key of another slot, or one that the user has no right to.
fn tell_several_keys(context: &Context, args: &Args<'_>, access: Access) {
    let number = parse_number_of_keys(args.bytes(1)).unwrap_or(0);
    let end = number.saturating_add(FIRST_OF_SEVERAL);
    if end > args.len() {
        return;
    }
    (FIRST_OF_SEVERAL..end).for_each(|index| context.key_is_at(index, access));
}

/// What stands under the key of the command, if it exists.
enum Seen<'a> {
    /// The open key of a lock.
    Lock(Option<Key<'a, Lock>>),
    String(StringHold),
}

/// Looks at the key of the command.
fn look<'a>(context: &'a Context, args: &Args<'a>) -> Result<Seen<'a>, Refusal> {
    match Key::open_to_read(context, args.name(KEY).ok_or(Refusal::Syntax)?) {
        Ok(key) => Ok(Seen::Lock(key)),
        Err(Occupied(key)) => {
            perform::string_hold(&key, clock::now()).map(Seen::String).ok_or(Refusal::WrongType)
        }
    }
}

/// The milliseconds that remain of a hold: of its lease, or of the key's time to live if that ends first. -1 for a hold
/// without end.
fn remaining_ms(seen: &Seen<'_>, deadline: Option<Moment>, now: Moment) -> i64 {
    let ttl_ms = match seen {
        Seen::Lock(key) => key.as_ref().and_then(|key| key.ttl_ms()),
        Seen::String(_) => None,
    };
    let lease_ms = deadline.map(|deadline| now.ms_until(deadline));
    lease_ms.into_iter().chain(ttl_ms).min().map_or(-1, number)
}

/// A number as an integer of the protocol. No count comes near its maximum.
fn number(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
