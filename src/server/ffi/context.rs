//! The context of a callback. The module uses it to reply, to replicate and to query the server.

use std::ffi::{CStr, CString, c_char, c_long, c_void};
use std::fmt::Display;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering};

use redis_module::raw::{self, RedisModuleCtx};

use super::{OK, OwnedRedisString, RedisString};

/// Valkey 9 and later: the module supports atomic slot migration.
const OPTIONS_HANDLE_ATOMIC_SLOT_MIGRATION: u32 = 1 << 5;

/// Valkey 9 and later: the command comes from the node from which its slot arrives.
const CTX_FLAGS_SLOT_IMPORT_CLIENT: u32 = 1 << 25;

/// On other servers the two numbers above have other meanings.
static IS_VALKEY: AtomicBool = AtomicBool::new(false);

/// Whether the server refuses to block a RESP3 client with subscriptions.
static REFUSES_SUBSCRIBERS: AtomicBool = AtomicBool::new(false);

/// The context that the server lends to a callback while it runs.
pub(crate) struct Context {
    raw: NonNull<RedisModuleCtx>,
    is_of_command: bool,
}

impl Context {
    /// # Safety
    /// `raw` is a context that the server lends to the running callback, and the result does not outlive it.
    pub(super) unsafe fn new(raw: *mut RedisModuleCtx) -> Option<Self> {
        NonNull::new(raw).map(|raw| Self { raw, is_of_command: false })
    }

    /// The same, of a command.
    ///
    /// # Safety
    /// As for [`Context::new`], and the running callback is a command.
    pub(super) unsafe fn of_command(raw: *mut RedisModuleCtx) -> Option<Self> {
        NonNull::new(raw).map(|raw| Self { raw, is_of_command: true })
    }

    /// Whether the running callback is a command.
    pub(crate) fn is_of_command(&self) -> bool {
        self.is_of_command
    }

    pub(super) fn raw(&self) -> *mut RedisModuleCtx {
        self.raw.as_ptr()
    }

    /// Writes a warning to the server's log. It must not contain anything that a client has sent.
    pub(crate) fn warn(&self, line: &str) {
        log(self.raw(), c"warning", line);
    }

    /// Writes a notice to the server's log. It must not contain anything that a client has sent.
    pub(crate) fn notice(&self, line: &str) {
        log(self.raw(), c"notice", line);
    }

    // Replies. Each call replies one value. After the header of an array or a map, its values follow.

    pub(crate) fn reply_integer(&self, number: i64) {
        // SAFETY: the context is valid.
        unsafe { api!(RedisModule_ReplyWithLongLong(self.raw(), number)) };
    }

    pub(crate) fn reply_bytes(&self, bytes: &[u8]) {
        // SAFETY: pointer and length describe `bytes`, which the server copies.
        unsafe { api!(RedisModule_ReplyWithStringBuffer(self.raw(), bytes.as_ptr().cast(), bytes.len())) };
    }

    pub(crate) fn reply_null(&self) {
        // SAFETY: the context is valid.
        unsafe { api!(RedisModule_ReplyWithNull(self.raw())) };
    }

    /// The null of a command that otherwise replies an array or a map.
    pub(crate) fn reply_null_array(&self) {
        // SAFETY: the context is valid.
        unsafe { api!(RedisModule_ReplyWithNullArray(self.raw())) };
    }

    /// An array of `len` values, which follow.
    pub(crate) fn reply_array(&self, len: usize) {
        // SAFETY: the context is valid.
        unsafe { api!(RedisModule_ReplyWithArray(self.raw(), announced(len))) };
    }

    /// A map of `len` pairs, which follow; a flat array for clients that speak RESP2.
    pub(crate) fn reply_map(&self, len: usize) {
        // SAFETY: the context is valid.
        unsafe { api!(RedisModule_ReplyWithMap(self.raw(), announced(len))) };
    }

    /// An error, its code first.
    pub(crate) fn reply_error(&self, error: &impl Display) {
        // Our own texts hold no NUL.
        let text = CString::new(error.to_string()).unwrap_or_default();
        // SAFETY: the text ends with a NUL and is copied; the server uses it as text, not as a format.
        unsafe { api!(RedisModule_ReplyWithError(self.raw(), text.as_ptr())) };
    }

    // Replication.

    /// Replicates the running command as it came.
    pub(crate) fn replicate_verbatim(&self) {
        // SAFETY: the context is a command's.
        unsafe { api!(RedisModule_ReplicateVerbatim(self.raw())) };
    }

    /// Replicates `command key bytes`, for the selected database.
    pub(crate) fn replicate_bytes(&self, command: &CStr, key: RedisString<'_>, bytes: &[u8]) {
        // SAFETY: the format names a string of the server and a buffer with its length, which is what is passed; all
        // of it is copied or retained before the call returns.
        unsafe {
            api!(RedisModule_Replicate(
                self.raw(),
                command.as_ptr(),
                c"sb".as_ptr(),
                key.raw(),
                bytes.as_ptr().cast::<c_char>(),
                bytes.len(),
            ));
        }
    }

    /// Replicates `command key word number`.
    pub(crate) fn replicate_number(&self, command: &CStr, key: RedisString<'_>, word: &CStr, number: i64) {
        // SAFETY: as above; the format names a string of the server, a C string and a long long.
        unsafe {
            api!(RedisModule_Replicate(
                self.raw(),
                command.as_ptr(),
                c"scl".as_ptr(),
                key.raw(),
                word.as_ptr(),
                number,
            ));
        }
    }

    /// Replicates `command key bytes PX ms`.
    pub(crate) fn replicate_lease(&self, command: &CStr, key: RedisString<'_>, bytes: &[u8], ms: i64) {
        // SAFETY: as above; the format names a string of the server, a buffer with its length, a C string and a long long.
        unsafe {
            api!(RedisModule_Replicate(
                self.raw(),
                command.as_ptr(),
                c"sbcl".as_ptr(),
                key.raw(),
                bytes.as_ptr().cast::<c_char>(),
                bytes.len(),
                c"PX".as_ptr(),
                ms,
            ));
        }
    }

    /// Writes `command number` to the append-only file only.
    pub(crate) fn append_number(&self, command: &CStr, number: i64) {
        // SAFETY: as above; the format names a long long, and replicas (`R`) as those to leave out.
        unsafe { api!(RedisModule_Replicate(self.raw(), command.as_ptr(), c"lR".as_ptr(), number)) };
    }

    /// Publishes a number on the sharded channel with the name of a key: to subscribers of this server, and in a cluster of
    /// every node of the shard. Returns how many of this server receive it.
    pub(crate) fn publish_to_shard(&self, key: RedisString<'_>, number: u64) -> usize {
        let Some(text) = OwnedRedisString::new(self, number.to_string().as_bytes()) else { return 0 };
        // SAFETY: the context and both strings are valid for the length of the call.
        let receivers =
            unsafe { api!(RedisModule_PublishMessageShard(self.raw(), key.raw(), text.name().raw())) };
        receivers.try_into().unwrap_or(0)
    }

    /// Sends an event about a key to whoever listens to events of modules.
    pub(crate) fn notify(&self, event: &CStr, key: RedisString<'_>) {
        let class = raw::REDISMODULE_NOTIFY_MODULE;
        // SAFETY: the context and the key are valid, and the event ends with a NUL.
        unsafe { api!(RedisModule_NotifyKeyspaceEvent(self.raw(), class, event.as_ptr(), key.raw())) };
    }

    /// Tells the server what the module handles itself: read errors while loading, and signalling which keys have changed.
    pub(crate) fn declare_options(&self) {
        let mut options =
            raw::REDISMODULE_OPTIONS_HANDLE_IO_ERRORS | raw::REDISMODULE_OPTION_NO_IMPLICIT_SIGNAL_MODIFIED;
        let valkey = self.valkey_version();
        IS_VALKEY.store(valkey.is_some(), Ordering::Relaxed);
        REFUSES_SUBSCRIBERS.store(valkey.is_some_and(|version| version >= (8, 1)), Ordering::Relaxed);
        if valkey.is_some() {
            options |= OPTIONS_HANDLE_ATOMIC_SLOT_MIGRATION;
        }
        // SAFETY: the context is valid.
        unsafe { api!(RedisModule_SetModuleOptions(self.raw(), options.cast_signed())) };
    }

    // Queries.

    /// The selected database.
    pub(crate) fn database(&self) -> i32 {
        // SAFETY: the context is valid.
        unsafe { api!(RedisModule_GetSelectedDb(self.raw())) }
    }

    /// Selects a database for this context. False if there is no database with that number.
    pub(crate) fn select_database(&self, database: i32) -> bool {
        // SAFETY: the context is valid; the server checks the number.
        unsafe { api!(RedisModule_SelectDb(self.raw(), database)) == OK }
    }

    /// Whether the running command does not come from a client, but from the master, from the file being loaded, or
    /// from the node from which a slot arrives.
    pub(crate) fn is_from_master(&self) -> bool {
        let slot_import = if is_valkey() { CTX_FLAGS_SLOT_IMPORT_CLIENT } else { 0 };
        self.has_flag(
            raw::REDISMODULE_CTX_FLAGS_REPLICATED | raw::REDISMODULE_CTX_FLAGS_LOADING | slot_import,
        )
    }

    /// The major and the minor version, if the server is Valkey.
    fn valkey_version(&self) -> Option<(u32, u32)> {
        // SAFETY: both names end with a NUL; the server returns null or a C string of the data, which are freed after it
        // was copied.
        let version = unsafe {
            let info = api!(RedisModule_GetServerInfo(self.raw(), c"server".as_ptr()));
            let version = api!(RedisModule_ServerInfoGetFieldC(info, c"valkey_version".as_ptr()));
            let version = NonNull::new(version.cast_mut())
                .map(|version| CStr::from_ptr(version.as_ptr()).to_string_lossy().into_owned());
            api!(RedisModule_FreeServerInfo(self.raw(), info));
            version?
        };
        let mut numbers = version.split('.').map_while(|number| number.parse().ok());
        Some((numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)))
    }

    /// Whether this server decides about its data: it is a master and is not loading.
    pub(crate) fn is_master(&self) -> bool {
        self.has_flag(raw::REDISMODULE_CTX_FLAGS_MASTER) && !self.has_flag(raw::REDISMODULE_CTX_FLAGS_LOADING)
    }

    /// Whether this server is a master, though it may be loading.
    pub(crate) fn has_master_role(&self) -> bool {
        self.has_flag(raw::REDISMODULE_CTX_FLAGS_MASTER)
    }

    /// Whether the server is a node of a cluster.
    pub(crate) fn is_in_cluster(&self) -> bool {
        self.has_flag(raw::REDISMODULE_CTX_FLAGS_CLUSTER)
    }

    /// Whether the server writes an append-only file.
    pub(crate) fn appends(&self) -> bool {
        self.has_flag(raw::REDISMODULE_CTX_FLAGS_AOF)
    }

    pub(super) fn has_flag(&self, any_of: u32) -> bool {
        // SAFETY: the context is valid.
        let flags = unsafe { api!(RedisModule_GetContextFlags(self.raw())) };
        flags.cast_unsigned() & any_of != 0
    }

    /// The id of the client whose command runs, or whose wait the callback is about.
    pub(crate) fn client(&self) -> u64 {
        // SAFETY: the context is valid.
        unsafe { api!(RedisModule_GetClientId(self.raw())) }
    }

    /// Whether the client can be blocked. It cannot in a transaction, a script or a function, and where blocking is
    /// denied. On Valkey 8.1 and later it cannot if a RESP3 connection has subscriptions.
    pub(crate) fn can_wait(&self) -> bool {
        let denied = raw::REDISMODULE_CTX_FLAGS_MULTI
            | raw::REDISMODULE_CTX_FLAGS_LUA
            | raw::REDISMODULE_CTX_FLAGS_DENY_BLOCKING;
        // This comes first: if blocking is denied, there may be no connection to ask about.
        if self.has_flag(denied) {
            return false;
        }
        let is_refused = REFUSES_SUBSCRIBERS.load(Ordering::Relaxed)
            && self.has_flag(raw::REDISMODULE_CTX_FLAGS_RESP3)
            && Self::has_subscriptions(self.client());
        !is_refused
    }

    /// Whether the module must not write on its own account now, because clients are paused: a write would break the
    /// promise of CLIENT PAUSE. The server asserts this.
    pub(crate) fn must_not_write(&self) -> bool {
        // SAFETY: the function takes no arguments.
        unsafe { api!(RedisModule_AvoidReplicaTraffic()) != 0 }
    }

    /// Whether a field of a section of INFO has this value.
    pub(crate) fn info_says(&self, section: &CStr, field: &CStr, text: &CStr) -> bool {
        // SAFETY: the names end with a NUL; the server returns null or a C string of the data, which are freed after it
        // was looked at.
        unsafe {
            let info = api!(RedisModule_GetServerInfo(self.raw(), section.as_ptr()));
            let value = api!(RedisModule_ServerInfoGetFieldC(info, field.as_ptr()));
            let says = !value.is_null() && CStr::from_ptr(value) == text;
            api!(RedisModule_FreeServerInfo(self.raw(), info));
            says
        }
    }

    /// An integer field of a section of INFO, if there is one.
    pub(crate) fn info_integer(&self, section: &CStr, field: &CStr) -> Option<i64> {
        let mut status = 0;
        // SAFETY: both names end with a NUL; the data is freed once, in the context it was got in.
        let number = unsafe {
            let info = api!(RedisModule_GetServerInfo(self.raw(), section.as_ptr()));
            let number = api!(RedisModule_ServerInfoGetFieldSigned(info, field.as_ptr(), &raw mut status));
            api!(RedisModule_FreeServerInfo(self.raw(), info));
            number
        };
        (status == OK).then_some(number)
    }
}

/// A context that belongs to the module and to no client's command. The server answers queries through it without regard to
/// any client.
pub(crate) struct OwnContext(Context);

impl OwnContext {
    /// A context that is kept as long as the server runs.
    pub(crate) fn new(context: &Context) -> Option<Self> {
        // SAFETY: the server makes a context that stays valid, since nobody frees it. It is used from the main thread
        // alone, where no lock has to be taken for that.
        unsafe { Context::new(api!(RedisModule_GetDetachedThreadSafeContext(context.raw()))) }.map(Self)
    }

    pub(crate) fn as_context(&self) -> &Context {
        &self.0
    }
}

/// The server's monotonic clock, in microseconds.
pub(crate) fn monotonic_micros() -> u64 {
    // SAFETY: the function takes no arguments.
    unsafe { api!(RedisModule_MonotonicMicroseconds()) }
}

/// Whether this server can leave out the module's data from a snapshot. Servers before 7.2 write the data that a module has
/// besides its keys into every snapshot, or never. ACL categories for modules came with the same version.
pub(crate) fn knows_optional_aux() -> bool {
    // SAFETY: the static was set by the initialisation, and nobody writes it any more.
    unsafe { raw::RedisModule_SetCommandACLCategories }.is_some()
}

/// The role of the server.
pub(super) enum Role {
    Loading,
    Master,
    /// It follows a master. `is_writable` says whether its clients may write too.
    Replica {
        is_writable: bool,
    },
}

pub(super) fn role() -> Role {
    // SAFETY: without a context, the server tells what is so for all clients.
    let flags = unsafe { api!(RedisModule_GetContextFlags(ptr::null_mut())) }.cast_unsigned();
    if flags & raw::REDISMODULE_CTX_FLAGS_LOADING != 0 {
        Role::Loading
    } else if flags & raw::REDISMODULE_CTX_FLAGS_MASTER != 0 {
        Role::Master
    } else {
        Role::Replica { is_writable: flags & raw::REDISMODULE_CTX_FLAGS_READONLY == 0 }
    }
}

/// Whether the running command may come from the master, on a replica. While a command of the master runs, some of what was
/// read from the master has not been applied yet.
pub(super) fn may_be_from_master() -> bool {
    let mut status = 0;
    // SAFETY: all names end with a NUL; without a context the data is the caller's, who frees it once.
    unsafe {
        let info = api!(RedisModule_GetServerInfo(ptr::null_mut(), c"replication".as_ptr()));
        let mut field =
            |name: &CStr| api!(RedisModule_ServerInfoGetFieldSigned(info, name.as_ptr(), &raw mut status));
        let (read, applied) = (field(c"slave_read_repl_offset"), field(c"slave_repl_offset"));
        api!(RedisModule_FreeServerInfo(ptr::null_mut(), info));
        read != applied
    }
}

/// Whether the server is Valkey, where some numbers mean something else than in Redis.
pub(super) fn is_valkey() -> bool {
    IS_VALKEY.load(Ordering::Relaxed)
}

/// Whether the server is set to send the keyspace notifications of modules.
pub(crate) fn events_of_modules_are_sent() -> bool {
    // SAFETY: it takes nothing.
    let classes = unsafe { api!(RedisModule_GetNotifyKeyspaceEvents()) };
    classes & raw::REDISMODULE_NOTIFY_MODULE != 0
}

/// Adds a span to an event of the server's latency monitor. The server does not check whether the monitor is on.
pub(crate) fn add_latency(event: &CStr, span_ms: u64) {
    // SAFETY: the event ends with a NUL, and the server copies it.
    unsafe { api!(RedisModule_LatencyAddSample(event.as_ptr(), span_ms.cast_signed())) };
}

/// The version of Redis that the server is, or is compatible with.
pub(crate) fn server_version() -> (u8, u8, u8) {
    // SAFETY: it takes nothing.
    let [_, major, minor, patch] = unsafe { api!(RedisModule_GetServerVersion()) }.to_be_bytes();
    (major, minor, patch)
}

/// Makes the server run its event loop once more, even if no event arrives.
pub(crate) fn wake_server() {
    // SAFETY: the callback takes no data.
    unsafe { api!(RedisModule_EventLoopAddOneShot(Some(woken), ptr::null_mut())) };
}

unsafe extern "C" fn woken(_data: *mut c_void) {}

/// Writes a warning to the server's log without a context.
pub(super) fn warn_anywhere(line: &str) {
    log(ptr::null_mut(), c"warning", line);
}

/// Writes a notice to the server's log without a context.
pub(crate) fn notice_anywhere(line: &str) {
    log(ptr::null_mut(), c"notice", line);
}

fn log(context: *mut RedisModuleCtx, level: &CStr, line: &str) {
    let line = CString::new(line).unwrap_or_default();
    // SAFETY: the context is valid or null, which the server takes for a line of nobody's; the line is an argument
    // of a format of ours, never a format itself.
    unsafe {
        if let Some(log) = raw::RedisModule_Log {
            log(context, level.as_ptr(), c"%s".as_ptr(), line.as_ptr());
        }
    }
}

fn announced(len: usize) -> c_long {
    c_long::try_from(len).unwrap_or(c_long::MAX)
}
