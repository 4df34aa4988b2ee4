//! The forms in which decisions travel, to replicas and through the append-only file. Whoever applies them judges
//! nothing: they say what was decided, never what was asked, and name no time of day.
//!
//! | what was decided | what travels |
//! |---|---|
//! | a hold was granted, or granted again | `LOCK.ACQUIRE key holds`, see [`lock_core::codec`] |
//! | a hold, or a level of it, was given back | `LOCK.RELEASE key token [LEVEL n]`, as it came |
//! | a lease was set anew | `LOCK.EXTEND key token [PX ms \| EX s]`, as it came |
//! | a hold ended by itself | `LOCK.BREAK key FENCE fence` |
//! | holds were broken | `LOCK.BREAK key [FENCE fence]`, as it came |
//! | the highest fence so far, into a new append-only file | `LOCK.FENCE fence` |
//!
//! What came as it is, names key and token or fence, and so is a decision already. The forms that no client may use
//! are refused as what they look like from there: a syntax error.

use std::ffi::CStr;

use lock_core::{Fence, Hold, Moment, codec};

use crate::consumers;
use crate::server::ffi::{Context, RedisString};

pub(crate) const ACQUIRE: &CStr = c"LOCK.ACQUIRE";
const BREAK: &CStr = c"LOCK.BREAK";
const FENCE: &CStr = c"LOCK.FENCE";

/// Passes on that a hold of this key is now as it is, and whether it is the only one.
pub(crate) fn hold_is(context: &Context, key: RedisString<'_>, hold: &Hold, is_only_one: bool, now: Moment) {
    if context.is_of_command() && !consumers::may_be_there() {
        // The server is to know that its data have changed, and looks no further.
        context.replicate_verbatim();
    } else {
        context.replicate_bytes(ACQUIRE, key, &codec::encode_one(hold, is_only_one, now));
    }
}

/// Passes on that a hold of this key ended: its lease ran out, or its connection closed.
pub(crate) fn hold_ended(context: &Context, key: RedisString<'_>, fence: Fence) {
    context.replicate_number(BREAK, key, c"FENCE", signed(fence));
}

/// Writes the highest fence into the append-only file: one that is made anew holds only the locks there are.
pub(crate) fn note_fence(context: &Context, fence: Fence) {
    context.append_number(FENCE, signed(fence));
}

/// A fence as a number of the protocol, which it always fits.
pub(crate) fn signed(fence: Fence) -> i64 {
    fence.get().cast_signed()
}
