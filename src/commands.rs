//! The commands, a file each: parse, ask the core, perform, reply.
//!
//! The word at 1 is the key, in every command that has one.

mod acquire;
mod break_;
mod check;
mod extend;
mod fence;
mod info;
mod owned;
mod release;

pub(crate) use acquire::Acquire;
pub(crate) use break_::Break;
pub(crate) use check::Check;
pub(crate) use extend::Extend;
pub(crate) use fence::Fence;
pub(crate) use info::Info;
pub(crate) use owned::Owned;
pub(crate) use release::Release;

use lock_core::{Lock, Moment, Refusal, Turn};

use crate::perform;
use crate::server::ffi::{Args, Context, Key};

const KEY: usize = 1;

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
