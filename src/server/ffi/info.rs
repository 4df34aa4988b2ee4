//! The module's section of INFO.

use std::ffi::{CStr, c_int};
use std::ptr::NonNull;

use redis_module::raw::RedisModuleInfoCtx;

use super::guard::guard;
use super::{Context, OK};

/// What the module says of itself.
pub(crate) trait Describe {
    /// Writes the fields.
    fn describe(section: &Section);
}

/// The section that is being written. Its name is the module's, which the server also puts before the names of the fields.
pub(crate) struct Section(NonNull<RedisModuleInfoCtx>);

impl Section {
    /// Writes a field.
    pub(crate) fn number(&self, name: &CStr, number: u64) {
        // SAFETY: the server lends what `self` points to for the callback that `self` was made in; the name ends with a NUL.
        unsafe { api!(RedisModule_InfoAddFieldULongLong(self.0.as_ptr(), name.as_ptr(), number)) };
    }
}

/// Has the server ask for the section. False if it refuses.
pub(crate) fn register_info<D: Describe>(context: &Context) -> bool {
    // SAFETY: the context is valid, and the callback takes what INFO passes.
    unsafe { api!(RedisModule_RegisterInfoFunc(context.raw(), Some(describe::<D>))) == OK }
}

unsafe extern "C" fn describe<D: Describe>(info: *mut RedisModuleInfoCtx, is_crashing: c_int) {
    // A server that crashes may have interrupted the module, which is left alone then.
    if is_crashing != 0 {
        return;
    }
    guard(|| {
        let section = Section(NonNull::new(info)?);
        // SAFETY: the server lends the writer to this callback; the name ends with a NUL, and without one the section has
        // the module's. The server says if nobody has asked for it.
        let is_asked_for = unsafe { api!(RedisModule_InfoAddSection(info, c"".as_ptr())) == OK };
        if is_asked_for {
            D::describe(&section);
        }
        Some(())
    });
}
