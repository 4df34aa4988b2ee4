//! Strings of the server: the arguments of commands, and names of keys.

use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;
use std::slice;

use lock_core::request::distinct;
use redis_module::raw::RedisModuleString;

use super::Context;

/// The arguments of a command, its name first.
pub(crate) struct Args<'a> {
    words: &'a [RedisString<'a>],
}

/// A string of the server, valid while the callback that got it runs.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct RedisString<'a> {
    string: NonNull<RedisModuleString>,
    borrowed: PhantomData<&'a RedisModuleString>,
}

impl<'a> Args<'a> {
    /// # Safety
    /// `argv` points to `argc` strings that stay valid for `'a`, as the server passes them to a command.
    pub(super) unsafe fn new(argv: *mut *mut RedisModuleString, argc: i32) -> Self {
        let len = usize::try_from(argc).unwrap_or(0);
        if argv.is_null() || len == 0 {
            return Self { words: &[] };
        }
        // SAFETY: `RedisString` is a transparent non-null pointer, and the server passes no null among the arguments of a
        // command; number and lifetime are the caller's promise.
        Self { words: unsafe { slice::from_raw_parts(argv.cast::<RedisString<'a>>(), len) } }
    }

    /// The number of arguments, including the command's name.
    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }

    /// The bytes of the argument at `index`. Empty if there is none.
    pub(crate) fn bytes(&self, index: usize) -> &'a [u8] {
        self.words.get(index).map_or(&[], |word| word.bytes())
    }

    /// The argument at `index`, as the name of a key.
    pub(crate) fn name(&self, index: usize) -> Option<RedisString<'a>> {
        self.words.get(index).copied()
    }

    /// The arguments from `from` to before `to`, as names of keys, each once. `None` if there are not so many.
    pub(crate) fn distinct_names(&self, from: usize, to: usize) -> Option<DistinctNames<'a>> {
        Some(DistinctNames::of(self.words.get(from..to)?.iter().copied()))
    }

    /// The arguments from `index` on, as a command of their own.
    pub(crate) fn inner(&self, index: usize) -> Args<'a> {
        Args { words: self.words.get(index..).unwrap_or_default() }
    }

    /// The strings as the server takes them.
    pub(super) fn raw(&self) -> *mut *mut RedisModuleString {
        self.words.as_ptr().cast_mut().cast()
    }

    /// The bytes of the arguments from `index` on.
    pub(crate) fn from(&self, index: usize) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.words.get(index..).unwrap_or_default().iter().map(|word| word.bytes())
    }
}

impl<'a> RedisString<'a> {
    /// # Safety
    /// `string` is a string of the server that stays valid and unchanged for `'a`.
    pub(super) unsafe fn new(string: *const RedisModuleString) -> Option<Self> {
        NonNull::new(string.cast_mut()).map(|string| Self { string, borrowed: PhantomData })
    }

    pub(super) fn raw(self) -> *mut RedisModuleString {
        self.string.as_ptr()
    }

    /// The string's bytes, whatever they are.
    pub(crate) fn bytes(self) -> &'a [u8] {
        let mut len = 0;
        // SAFETY: the string is valid for `'a`; the server returns its bytes and their number, and changes no string
        // that it has lent.
        unsafe {
            let bytes = api!(RedisModule_StringPtrLen(self.raw(), &raw mut len));
            if bytes.is_null() { &[] } else { slice::from_raw_parts(bytes.cast(), len) }
        }
    }
}

impl AsRef<[u8]> for RedisString<'_> {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

/// Names of keys, no two of which are alike.
pub(crate) struct DistinctNames<'a>(Vec<RedisString<'a>>);

impl<'a> DistinctNames<'a> {
    /// These, each once.
    pub(crate) fn of(names: impl IntoIterator<Item = RedisString<'a>>) -> Self {
        Self(distinct(names))
    }
}

impl<'a> Deref for DistinctNames<'a> {
    type Target = [RedisString<'a>];

    fn deref(&self) -> &[RedisString<'a>] {
        &self.0
    }
}

/// A string that the module has created or owns.
pub(crate) struct OwnedRedisString<'c> {
    string: NonNull<RedisModuleString>,
    context: &'c Context,
}

impl<'c> OwnedRedisString<'c> {
    /// A server string with these bytes. The server never returns null here; `None` if it did.
    pub(crate) fn new(context: &'c Context, bytes: &[u8]) -> Option<Self> {
        // SAFETY: pointer and length describe `bytes`, which the server copies.
        let string =
            unsafe { api!(RedisModule_CreateString(context.raw(), bytes.as_ptr().cast(), bytes.len())) };
        NonNull::new(string).map(|string| Self { string, context })
    }

    /// A string that the server has made for the caller.
    ///
    /// # Safety
    /// `string` is null or a string that nobody else frees.
    pub(super) unsafe fn adopt(context: &'c Context, string: *mut RedisModuleString) -> Option<Self> {
        NonNull::new(string).map(|string| Self { string, context })
    }

    /// The string, while it lives.
    pub(crate) fn name(&self) -> RedisString<'_> {
        RedisString { string: self.string, borrowed: PhantomData }
    }
}

impl Drop for OwnedRedisString<'_> {
    fn drop(&mut self) {
        // SAFETY: the string was created by `new`, or handed to `adopt`, and no `RedisString` of it outlives it.
        unsafe { api!(RedisModule_FreeString(self.context.raw(), self.string.as_ptr())) };
    }
}
