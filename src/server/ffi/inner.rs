//! Commands that a client has the module run for it: what they are, their keys, and their replies.

use std::ffi::{CStr, CString, c_int, c_void};
use std::io;
use std::ptr;
use std::slice;

use redis_module::raw;

use super::call::{Reply, View};
use super::command::Access;
use super::{Args, Context, OwnedRedisString};

/// Permission denied: what the server says of a command that the rules for the user do not allow.
const EACCES: i32 = 13;

/// Not supported: what the server says where there is no user to run a command as. Its number on Linux, and elsewhere.
const ENOTSUP: i32 = if cfg!(target_os = "linux") { 95 } else { 45 };

/// What the server says of a command.
pub(crate) struct Nature {
    /// Its name, as the server itself spells it: whatever it was renamed to.
    pub(crate) name: String,
    /// Its flags.
    flags: Vec<String>,
    /// Whether it has subcommands, which have flags of their own.
    pub(crate) has_subcommands: bool,
}

/// Why the server cannot be asked what a command is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unasked {
    /// It has no command COMMAND.
    NoCommand,
    /// It refuses what modules call. Valkey 9 does that in a cluster after a script has asked for keys of two slots.
    NotNow,
}

/// How long, in milliseconds, a script runs until the server answers others meanwhile.
const BUSY_REPLY_THRESHOLD: &CStr = c"busy-reply-threshold";

/// Longer than any script runs: 30 years.
const NEVER: &CStr = c"1000000000000";

/// While this lives, no script is interrupted for having run for long.
///
/// The server would then read from its clients, and from the one too whose command this is: it protects only the client that
/// runs the script, which is the module's here. A client that closes its connection, or sends its next command, would end
/// the server. This was seen on every server from 7.0 on.
pub(crate) struct Uninterrupted<'c> {
    context: &'c Context,
    threshold: CString,
}

impl<'c> Uninterrupted<'c> {
    /// `None` where the server cannot be told.
    pub(crate) fn begin(context: &'c Context) -> Option<Self> {
        let threshold = CString::new(context.setting(BUSY_REPLY_THRESHOLD)?).ok()?;
        context.set_setting(BUSY_REPLY_THRESHOLD, NEVER).then_some(Self { context, threshold })
    }
}

impl Drop for Uninterrupted<'_> {
    fn drop(&mut self) {
        self.context.set_setting(BUSY_REPLY_THRESHOLD, &self.threshold);
    }
}

/// What came of a command.
pub(crate) enum Ran {
    /// It was answered, be it by an error, and the client has got the answer.
    Answered,
    /// It has run, and the server has lost its answer. Valkey 8.1 and later do that where a module listens to keyspace events:
    /// GETDEL of what is no string is such a command.
    Lost,
    /// The client's user may not run it. Nothing has run.
    Denied,
    /// The server says nothing. Nothing has run.
    Failed,
}

impl Nature {
    /// Whether the server gives the command this flag.
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|own| own == flag)
    }
}

impl Context {
    /// What the server says of the command with this name, `command|subcommand` for a subcommand. `Ok(None)` if there is no such
    /// command.
    ///
    /// # Errors
    /// Why the server cannot be asked.
    pub(crate) fn nature(&self, name: &[u8]) -> Result<Option<Nature>, Unasked> {
        let name = OwnedRedisString::new(self, name).ok_or(Unasked::NotNow)?;
        // SAFETY: the format names a C string and a string of the server, which is what is passed.
        let reply = unsafe {
            api!(RedisModule_Call(
                self.raw(),
                c"COMMAND".as_ptr(),
                c"cs".as_ptr(),
                c"INFO".as_ptr(),
                name.name().raw()
            ))
        };
        let reply = Reply::new(reply).ok_or_else(|| match io::Error::last_os_error().kind() {
            io::ErrorKind::NotFound => Unasked::NoCommand,
            _ => Unasked::NotNow,
        })?;
        let info = reply.view().element(0).ok_or(Unasked::NotNow)?;
        let name = info.element(0).and_then(View::text);
        let flags = info.element(2).map(|flags| flags.elements().filter_map(View::text).collect());
        let has_subcommands = info.element(9).is_some_and(|those| those.element(0).is_some());
        Ok(name.zip(flags).map(|(name, flags)| Nature { name, flags, has_subcommands }))
    }

    /// Runs the command in these words as the client whose command this is, passes its effect on to replicas and the
    /// append-only file, and answers the client what it answers. Nothing of the module may be lent meanwhile, and no key may be
    /// open.
    pub(crate) fn run_for_client(&self, words: &Args<'_>) -> Ran {
        let Ok(name) = CString::new(words.bytes(0)) else { return Ran::Failed };
        let words = words.inner(1);
        // `v`: the arguments; `!`: replicate it; `0`: in the client's protocol; `M`: not where memory is full; `C`: as the
        // client's user.
        let mut format = c"v!0MC";
        let reply = self.call(&name, format, &words).or_else(|why| {
            if why.raw_os_error() != Some(ENOTSUP) {
                return Err(why);
            }
            // Another module calls, on its own account.
            format = c"v!0M";
            self.call(&name, format, &words)
        });
        let reply = match reply {
            Ok(reply) => reply,
            Err(why) if why.raw_os_error() == Some(EACCES) => return Ran::Denied,
            // The server has found that it cannot run. Asked for it (`E`) it says why in words.
            Err(_) => {
                let format = if format == c"v!0MC" { c"v!0MCE" } else { c"v!0ME" };
                let Ok(reply) = self.call(&name, format, &words) else { return Ran::Failed };
                reply
            }
        };
        if reply.is_nothing() {
            return Ran::Lost;
        }
        // SAFETY: context and reply are valid. The reply is in the protocol of the client.
        unsafe { api!(RedisModule_ReplyWithCallReply(self.raw(), reply.raw())) };
        Ran::Answered
    }

    /// Calls a command whose arguments are the one thing that the format names.
    ///
    /// # Errors
    /// What the server says why it did not run the command.
    fn call(&self, name: &CStr, format: &CStr, words: &Args<'_>) -> io::Result<Reply> {
        // SAFETY: the name ends with a NUL. The format names strings of the server and how many, which is what is passed; the
        // server retains those that it keeps.
        let reply = unsafe {
            api!(RedisModule_Call(self.raw(), name.as_ptr(), format.as_ptr(), words.raw(), words.len()))
        };
        Reply::new(reply).ok_or_else(io::Error::last_os_error)
    }

    /// Whether a script or a function is running.
    pub(crate) fn is_in_script(&self) -> bool {
        self.has_flag(raw::REDISMODULE_CTX_FLAGS_LUA)
    }

    /// Whether the server calls the command only to be told its keys.
    pub(crate) fn is_asked_for_keys(&self) -> bool {
        // SAFETY: the context is valid.
        unsafe { api!(RedisModule_IsKeysPositionRequest(self.raw())) != 0 }
    }

    /// Tells the server that the argument at `index` is a key, and how it is used.
    pub(crate) fn key_is_at(&self, index: usize, access: Access) {
        self.key_with_flags_is_at(index, access.flags().cast_signed());
    }

    fn key_with_flags_is_at(&self, index: usize, flags: c_int) {
        let Ok(index) = c_int::try_from(index) else { return };
        // SAFETY: the context is valid; the server ignores this unless it has asked.
        unsafe { api!(RedisModule_KeyAtPosWithFlags(self.raw(), index, flags)) };
    }

    /// Tells the server which arguments from `index` on are keys of the command that they are.
    pub(crate) fn keys_are_those_of(&self, args: &Args<'_>, index: usize) {
        let words = args.inner(index);
        let Ok(len) = c_int::try_from(words.len()) else { return };
        if len == 0 {
            return;
        }
        let (mut count, mut flags) = (0, ptr::null_mut());
        // SAFETY: the words are strings of the server, `len` of them, which it only looks at.
        let positions = unsafe {
            api!(RedisModule_GetCommandKeysWithFlags(
                self.raw(),
                words.raw(),
                len,
                &raw mut count,
                &raw mut flags
            ))
        };
        let Ok(count) = usize::try_from(count) else { return };
        if positions.is_null() || flags.is_null() {
            return;
        }
        // SAFETY: the server has made two arrays of `count` numbers for the caller. They are looked at, then freed once.
        unsafe {
            let (positions_of, flags_of) =
                (slice::from_raw_parts(positions, count), slice::from_raw_parts(flags, count));
            for (position, flags) in positions_of.iter().zip(flags_of) {
                if let Ok(position) = usize::try_from(*position) {
                    self.key_with_flags_is_at(index.saturating_add(position), *flags);
                }
            }
            api!(RedisModule_Free(positions.cast::<c_void>()));
            api!(RedisModule_Free(flags.cast::<c_void>()));
        }
    }
}
