//! The interface to the server. It knows no rule about locks.

pub(crate) mod clock;
pub(crate) mod entropy;
pub(crate) mod ffi;
pub(crate) mod text;
