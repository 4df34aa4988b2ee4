//! The arguments that several commands share.

use lock_core::request::word;

use crate::server::ffi::{Arg, ArgKind};

/// `[PX milliseconds | EX seconds]`
pub(super) const LEASE: Arg = Arg::required(
    c"lease",
    ArgKind::OneOf(&[
        Arg::after(word::PX, c"milliseconds", ArgKind::Integer),
        Arg::after(word::EX, c"seconds", ArgKind::Integer),
    ]),
)
.optional();

/// `[LEVEL level]`
pub(super) const LEVEL: Arg = Arg::after(word::LEVEL, c"level", ArgKind::Integer).optional();

/// `token`
pub(super) const TOKEN: Arg = Arg::required(c"token", ArgKind::String);

/// `[TOKEN token]`
pub(super) const OWN_TOKEN: Arg = Arg::after(word::TOKEN, c"token", ArgKind::String).optional();

/// `[WEIGHT weight]`
pub(super) const WEIGHT: Arg = Arg::after(word::WEIGHT, c"weight", ArgKind::Integer).optional();

/// `[BLOCK milliseconds]`
pub(super) const BLOCK: Arg = Arg::after(word::BLOCK, c"milliseconds", ArgKind::Integer).optional();

/// `[QUEUE milliseconds]`
pub(super) const QUEUE: Arg = Arg::after(word::QUEUE, c"milliseconds", ArgKind::Integer).optional();

/// `[OWNER label]`
pub(super) const OWNER: Arg = Arg::after(word::OWNER, c"label", ArgKind::String).optional();

/// `[SHARED | LIMIT holds]`
pub(super) const OTHERS: Arg = Arg::required(
    c"others",
    ArgKind::OneOf(&[
        Arg::after(word::SHARED, c"shared", ArgKind::PureToken),
        Arg::after(word::LIMIT, c"holds", ArgKind::Integer),
    ]),
)
.optional();

/// `[SESSION [DELAY milliseconds]]`
pub(super) const SESSION: Arg = Arg::required(
    c"session",
    ArgKind::Block(&[
        Arg::after(word::SESSION, c"session", ArgKind::PureToken),
        Arg::after(word::DELAY, c"milliseconds", ArgKind::Integer).optional(),
    ]),
)
.optional();

/// `numkeys`
pub(super) const NUMKEYS: Arg = Arg::required(c"numkeys", ArgKind::Integer);

/// `key [key ...]`
pub(super) const KEYS: Arg = Arg::KEY.multiple();
