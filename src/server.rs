//! The server as seen from here. Nothing in it knows a rule about locks.

pub(crate) mod clock;
pub(crate) mod entropy;
pub(crate) mod ffi;
pub(crate) mod text;
