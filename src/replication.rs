//! The commands that carry decisions to replicas and into the append-only file. They say what was decided, not what was
//! asked, and hold no time of day. A server that applies them does not judge them.
//!
//! | decision | command |
//! |---|---|
//! | very many holds have ended, and others are left | `LOCK.ACQUIRE key holds`, as often as it takes |
//! | a hold was granted, or granted again | `LOCK.ACQUIRE key holds`, see [`lock_core::codec`] |
//! | a hold, or a level of it, was released | `LOCK.RELEASE key token [LEVEL n]`, as it came |
//! | one of the keys of LOCK.MRELEASE was released | `LOCK.RELEASE key token` |
//! | one of the keys of LOCK.MEXTEND was extended | `LOCK.EXTEND key token [PX ms]` |
//! | a lease was extended | `LOCK.EXTEND key token [PX ms \| EX s]`, as it came |
//! | a string that counts as a lock got a new lease | `LOCK.EXTEND key token PX ms` |
//! | a lease ended, a connection closed, or a grant was undone | `LOCK.BREAK key FENCE fence` |
//! | holds were broken | `LOCK.BREAK key [FENCE fence]`, as it came |
//! | the highest fence, in a new append-only file | `LOCK.FENCE fence` |
//!
//! Commands that travel as they came name the key and a token or fence, so they are decisions already. The forms that
//! clients must not use are a syntax error when a client sends them.

use std::ffi::CStr;

use lock_core::token::LONGEST_SPELLED;
use lock_core::{Fence, Hold, Moment, Token, codec};

use crate::consumers;
use crate::server::ffi::{Context, RedisString};

pub(crate) const ACQUIRE: &CStr = c"LOCK.ACQUIRE";
const RELEASE: &CStr = c"LOCK.RELEASE";
const EXTEND: &CStr = c"LOCK.EXTEND";
const BREAK: &CStr = c"LOCK.BREAK";
const FENCE: &CStr = c"LOCK.FENCE";

/// Replicates the current state of a hold of this key, and whether it is the only one.
pub(crate) fn hold_is(context: &Context, key: RedisString<'_>, hold: &Hold, is_only_one: bool, now: Moment) {
    if is_read(context) {
        send_hold(context, key, hold, is_only_one, now);
    }
}

/// Apart, for where nobody consumes the stream its space is not to be made.
#[inline(never)]
fn send_hold(context: &Context, key: RedisString<'_>, hold: &Hold, is_only_one: bool, now: Moment) {
    context.replicate_bytes(ACQUIRE, key, &codec::encode_one(hold, is_only_one, now));
}

/// Whether anybody may read what a command has come to. Where nobody does, the server is told that its data have changed, which
/// costs little.
fn is_read(context: &Context) -> bool {
    let is_read = !context.is_of_command() || consumers::may_be_there();
    if !is_read {
        context.replicate_verbatim();
    }
    is_read
}

/// Replicates all holds of this key.
pub(crate) fn holds_are(context: &Context, key: RedisString<'_>, holds: &[Hold], now: Moment) {
    for holds in codec::encode_in_pieces(holds, now) {
        context.replicate_bytes(ACQUIRE, key, &holds);
    }
}

/// Replicates that the token has given back this key, one of several.
pub(crate) fn was_released(context: &Context, key: RedisString<'_>, token: &Token) {
    if is_read(context) {
        context.replicate_bytes(RELEASE, key, token.text(&mut [0; LONGEST_SPELLED]));
    }
}

/// Replicates that the token has extended its lease on this key, one of several.
pub(crate) fn was_extended(context: &Context, key: RedisString<'_>, token: &Token, lease_ms: Option<u64>) {
    if !is_read(context) {
        return;
    }
    let mut buffer = [0; LONGEST_SPELLED];
    let token = token.text(&mut buffer);
    match lease_ms {
        Some(lease_ms) => context.replicate_lease(EXTEND, key, token, lease_ms.cast_signed()),
        None => context.replicate_bytes(EXTEND, key, token),
    }
}

/// Replicates that the string under this key, whose value is the token, lasts so long from now.
pub(crate) fn string_lasts(context: &Context, key: RedisString<'_>, token: &Token, lease_ms: u64) {
    context.replicate_lease(EXTEND, key, token.text(&mut [0; LONGEST_SPELLED]), lease_ms.cast_signed());
}

/// Replicates that a hold of this key ended: its lease ran out, its connection closed, or its grant was undone.
pub(crate) fn hold_ended(context: &Context, key: RedisString<'_>, fence: Fence) {
    context.replicate_number(BREAK, key, c"FENCE", signed(fence));
}

/// Writes the highest fence into a new append-only file, which otherwise contains only the current locks.
pub(crate) fn note_fence(context: &Context, fence: Fence) {
    context.append_number(FENCE, signed(fence));
}

/// A fence as an integer of the protocol. Every fence fits.
pub(crate) fn signed(fence: Fence) -> i64 {
    fence.get().cast_signed()
}
