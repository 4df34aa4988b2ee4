//! Calls of server commands, and their replies.

use std::ffi::{CStr, c_char};
use std::ptr::NonNull;

use redis_module::raw::{self, RedisModuleCallReply};

use super::Context;

impl Context {
    /// A setting of the server, as CONFIG GET shows it. `None` if it does not exist, or CONFIG cannot be called.
    pub(crate) fn setting(&self, name: &CStr) -> Option<String> {
        // SAFETY: the format names two C strings, which is what is passed.
        let reply = unsafe {
            api!(RedisModule_Call(
                self.raw(),
                c"CONFIG".as_ptr(),
                c"cc".as_ptr(),
                c"GET".as_ptr(),
                name.as_ptr()
            ))
        };
        Reply::new(reply)?.view().element(1)?.text()
    }
}

impl Context {
    /// Sets a setting of the server, as CONFIG SET does. False if the server does not take it, or CONFIG cannot be called.
    pub(super) fn set_setting(&self, name: &CStr, value: &CStr) -> bool {
        // SAFETY: the format names three C strings, which is what is passed.
        let reply = unsafe {
            api!(RedisModule_Call(
                self.raw(),
                c"CONFIG".as_ptr(),
                c"ccc".as_ptr(),
                c"SET".as_ptr(),
                name.as_ptr(),
                value.as_ptr()
            ))
        };
        Reply::new(reply).and_then(|reply| reply.view().text()).is_some_and(|text| text == "OK")
    }
}

/// A reply to a command that the module has called.
pub(super) struct Reply(NonNull<RedisModuleCallReply>);

impl Reply {
    /// The reply. `None` if the server refused to run the command; then errno says why.
    pub(super) fn new(raw: *mut RedisModuleCallReply) -> Option<Self> {
        NonNull::new(raw).map(Self)
    }

    pub(super) fn raw(&self) -> *mut RedisModuleCallReply {
        self.0.as_ptr()
    }

    /// Whether it has not even one byte.
    pub(super) fn is_nothing(&self) -> bool {
        let mut len = 0;
        // SAFETY: the reply is valid. The bytes are not looked at.
        unsafe { api!(RedisModule_CallReplyProto(self.0.as_ptr(), &raw mut len)) };
        len == 0
    }

    pub(super) fn view(&self) -> View<'_> {
        View { reply: self.0, of: self }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        // SAFETY: it is the server's, whole, and freed once.
        unsafe { api!(RedisModule_FreeCallReply(self.0.as_ptr())) };
    }
}

/// A reply or a part of one. It lives as long as the whole reply.
#[derive(Clone, Copy)]
pub(super) struct View<'r> {
    reply: NonNull<RedisModuleCallReply>,
    of: &'r Reply,
}

impl<'r> View<'r> {
    fn is(self, kind: isize) -> bool {
        // SAFETY: the reply is valid as long as the whole that it is a part of.
        let is_of = unsafe { api!(RedisModule_CallReplyType(self.reply.as_ptr())) };
        isize::try_from(is_of) == Ok(kind)
    }

    pub(super) fn integer(self) -> Option<i64> {
        // SAFETY: as above, and it is an integer.
        self.is(raw::REDISMODULE_REPLY_INTEGER)
            .then(|| unsafe { api!(RedisModule_CallReplyInteger(self.reply.as_ptr())) })
    }

    pub(super) fn text(self) -> Option<String> {
        if !self.is(raw::REDISMODULE_REPLY_STRING) {
            return None;
        }
        let mut len = 0;
        // SAFETY: as above; the server returns a buffer of this length, or null.
        let bytes = unsafe {
            let start: *const c_char =
                api!(RedisModule_CallReplyStringPtr(self.reply.as_ptr(), &raw mut len));
            std::slice::from_raw_parts(NonNull::new(start.cast_mut().cast::<u8>())?.as_ptr(), len)
        };
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    pub(super) fn element(self, index: usize) -> Option<Self> {
        if !self.is(raw::REDISMODULE_REPLY_ARRAY) {
            return None;
        }
        // SAFETY: as above, and it is an array; an index beyond its end gives null.
        let element = unsafe { api!(RedisModule_CallReplyArrayElement(self.reply.as_ptr(), index)) };
        Some(View { reply: NonNull::new(element)?, of: self.of })
    }

    /// The value of a field in a map, which arrives as a flat array.
    pub(super) fn field(self, name: &str) -> Option<Self> {
        let mut parts = self.elements();
        while let (Some(field), Some(value)) = (parts.next(), parts.next()) {
            if field.text()? == name {
                return Some(value);
            }
        }
        None
    }

    pub(super) fn elements(self) -> impl Iterator<Item = Self> + use<'r> {
        (0..).map_while(move |index| self.element(index))
    }
}
