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
