//! Data types of the module: their registration, and the callbacks of the server for their values.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicPtr, Ordering};

use lock_core::DbKey;
use redis_module::raw::{
    self, RedisModuleDigest, RedisModuleIO, RedisModuleKeyOptCtx, RedisModuleString, RedisModuleType,
    RedisModuleTypeMethods,
};

use super::context::{Role, may_be_from_master, role};
use super::guard::guard;
use super::{Context, ERR, OK, RedisString};

/// A data type.
pub(crate) trait Value: Sized + Send + 'static {
    /// Its name. The server requires nine characters.
    const NAME: &'static CStr;
    /// The version of the encoding in snapshots. A value is one string, which contains the version of its own format.
    const ENCODING_VERSION: i32;

    /// The server's handle of the type.
    fn handle() -> &'static Handle;
    /// Decodes a value. The error is logged, so it must not contain any of the bytes.
    fn load(bytes: &[u8], origin: Origin<'_>) -> Result<Self, String>;
    /// The bytes for a snapshot or a DUMP.
    fn save(&self) -> Vec<u8>;
    /// Writes the commands that create the value again.
    fn rewrite(&self, writer: &AofWriter<'_>);
    /// Adds everything that must be equal on master and replica and after a reload.
    fn digest(&self, digest: &mut Digest<'_>);
    /// The bytes in memory, including the value itself.
    fn memory(&self) -> usize;
    /// The value has left its key: it was deleted or overwritten, or it will arrive under another key.
    fn unlinked(&mut self, place: DbKey<'_>);
    /// A number that snapshots contain besides the values. 0 for none.
    fn save_number() -> u64;
    /// Loads that number. False if it is not valid.
    fn load_number(number: u64) -> bool;
}

/// Where the bytes of a value come from.
#[derive(Clone, Copy)]
pub(crate) enum Origin<'a> {
    /// From a snapshot, under this key if the server says which.
    Snapshot(Option<DbKey<'a>>),
    /// From a RESTORE of the master. The arrival will be reported as an event.
    Master,
    /// From a RESTORE of a client, which may still fail. If it succeeds, the arrival will be reported as an event.
    Client,
}

/// The server's handle of a type. Null until the type is registered.
pub(crate) struct Handle(AtomicPtr<RedisModuleType>);

impl Handle {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    pub(super) fn raw(&self) -> *mut RedisModuleType {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn is(&self, other: *mut RedisModuleType) -> bool {
        !other.is_null() && other == self.raw()
    }
}

#[allow(clippy::cast_possible_truncation, reason = "2, which the bindings give another type")]
const AFTER_ALL_KEYS: c_int = raw::REDISMODULE_AUX_AFTER_RDB as c_int;

/// Registers a type. False if the server refuses it. Without `saves_number` a server before 7.2 does not get the
/// callback for [`Value::save_number`], because it would write a number into every snapshot. Later servers ask each
/// time.
pub(crate) fn register_type<V: Value>(context: &Context, saves_number: bool) -> bool {
    let mut methods = RedisModuleTypeMethods {
        version: u64::from(raw::REDISMODULE_TYPE_METHOD_VERSION),
        rdb_load: Some(rdb_load::<V>),
        rdb_save: Some(rdb_save::<V>),
        aof_rewrite: Some(aof_rewrite::<V>),
        mem_usage: Some(mem_usage::<V>),
        digest: Some(digest::<V>),
        free: Some(free::<V>),
        aux_load: Some(aux_load::<V>),
        // Servers before 7.2 know only `aux_save` and write the number into every snapshot. Later servers prefer
        // `aux_save2` and write nothing if it writes nothing, so that such a snapshot loads without the module.
        aux_save: if saves_number { Some(aux_save::<V>) } else { None },
        aux_save2: Some(aux_save2::<V>),
        aux_save_triggers: AFTER_ALL_KEYS,
        unlink2: Some(unlink2::<V>),
        // Without a callback for copying, the server refuses COPY.
        copy: None,
        copy2: None,
        free_effort: None,
        free_effort2: None,
        unlink: None,
        mem_usage2: None,
        defrag: None,
    };
    // SAFETY: the name ends with a NUL, and the server copies the table.
    let handle = unsafe {
        api!(RedisModule_CreateDataType(
            context.raw(),
            V::NAME.as_ptr(),
            V::ENCODING_VERSION,
            &raw mut methods
        ))
    };
    V::handle().0.store(handle, Ordering::Relaxed);
    !handle.is_null()
}

unsafe extern "C" fn rdb_load<V: Value>(rdb: *mut RedisModuleIO, version: c_int) -> *mut c_void {
    let value = guard(|| {
        if version != V::ENCODING_VERSION {
            log(rdb, "the data was written by a newer version of the lock module");
            return None;
        }
        // SAFETY: `rdb` is the reader the server lends; the string it returns is read before it is freed, once. The
        // name is lent for the length of this callback, and null where there is none.
        unsafe {
            let mut len = 0;
            let bytes = api!(RedisModule_LoadStringBuffer(rdb, &raw mut len));
            if bytes.is_null() {
                return None;
            }
            let database = api!(RedisModule_GetDbIdFromIO(rdb));
            let key = RedisString::new(api!(RedisModule_GetKeyNameFromIO(rdb)));
            let place = key.map(|key| DbKey { database, key: key.bytes() });
            let origin = match role() {
                Role::Loading => Origin::Snapshot(place),
                Role::Replica { is_writable: true } if !may_be_from_master() => Origin::Client,
                Role::Replica { .. } => Origin::Master,
                Role::Master => Origin::Client,
            };
            let loaded = V::load(slice::from_raw_parts(bytes.cast(), len), origin);
            api!(RedisModule_Free(bytes.cast()));
            loaded.map_err(|damage| log(rdb, &damage)).ok()
        }
    });
    value.flatten().map_or(ptr::null_mut(), |value| Box::into_raw(Box::new(value)).cast())
}

unsafe extern "C" fn rdb_save<V: Value>(rdb: *mut RedisModuleIO, value: *mut c_void) {
    guard(|| {
        // SAFETY: the server passes a value of this type, which nobody changes meanwhile.
        let bytes = unsafe { borrow::<V>(value) }.save();
        // SAFETY: pointer and length describe `bytes`, which the server copies.
        unsafe { api!(RedisModule_SaveStringBuffer(rdb, bytes.as_ptr().cast(), bytes.len())) };
    });
}

/// Writes a value as commands into a new append-only file.
pub(crate) struct AofWriter<'a> {
    io: *mut RedisModuleIO,
    key: *mut RedisModuleString,
    borrowed: PhantomData<&'a RedisModuleIO>,
}

impl AofWriter<'_> {
    /// Writes `command key bytes`.
    pub(crate) fn write(&self, command: &CStr, bytes: &[u8]) {
        // SAFETY: the format names a string of the server and a buffer with its length, as is passed; all of it is
        // valid for the callback that this writer was made in.
        unsafe {
            api!(RedisModule_EmitAOF(
                self.io,
                command.as_ptr(),
                c"sb".as_ptr(),
                self.key,
                bytes.as_ptr().cast::<c_char>(),
                bytes.len(),
            ));
        }
    }
}

unsafe extern "C" fn aof_rewrite<V: Value>(
    aof: *mut RedisModuleIO,
    key: *mut RedisModuleString,
    value: *mut c_void,
) {
    guard(|| {
        // SAFETY: the server passes a value of this type, which nobody changes meanwhile.
        let value = unsafe { borrow::<V>(value) };
        value.rewrite(&AofWriter { io: aof, key, borrowed: PhantomData });
    });
}

/// The digest of a value for DEBUG DIGEST.
pub(crate) struct Digest<'a> {
    digest: *mut RedisModuleDigest,
    borrowed: PhantomData<&'a RedisModuleDigest>,
}

impl Digest<'_> {
    pub(crate) fn add_bytes(&mut self, bytes: &[u8]) {
        // SAFETY: pointer and length describe `bytes`, which are only read.
        unsafe {
            api!(RedisModule_DigestAddStringBuffer(self.digest, bytes.as_ptr().cast(), bytes.len()));
        }
    }

    pub(crate) fn add_number(&mut self, number: i64) {
        // SAFETY: the digest is the one the server lends.
        unsafe { api!(RedisModule_DigestAddLongLong(self.digest, number)) };
    }

    /// Ends a sequence whose order counts.
    pub(crate) fn end_sequence(&mut self) {
        // SAFETY: the digest is the one the server lends.
        unsafe { api!(RedisModule_DigestEndSequence(self.digest)) };
    }
}

unsafe extern "C" fn digest<V: Value>(digest: *mut RedisModuleDigest, value: *mut c_void) {
    guard(|| {
        // SAFETY: the server passes a value of this type, which nobody changes meanwhile.
        let value = unsafe { borrow::<V>(value) };
        value.digest(&mut Digest { digest, borrowed: PhantomData });
    });
}

unsafe extern "C" fn mem_usage<V: Value>(value: *const c_void) -> usize {
    // SAFETY: the server passes a value of this type, which nobody changes meanwhile.
    guard(|| unsafe { borrow::<V>(value) }.memory()).unwrap_or(0)
}

/// May run on a background thread.
unsafe extern "C" fn free<V: Value>(value: *mut c_void) {
    // SAFETY: the value was a `Box<V>` until the server took it over; it gives it back once, here, and `V: Send`
    // lets it be dropped on whichever thread that is.
    guard(|| drop(unsafe { Box::from_raw(value.cast::<V>()) }));
}

unsafe extern "C" fn unlink2<V: Value>(place: *mut RedisModuleKeyOptCtx, value: *const c_void) {
    guard(|| {
        // SAFETY: `place` is what the server lends for this callback, and so is the name in it.
        let (database, key) = unsafe {
            let key = RedisString::new(api!(RedisModule_GetKeyNameFromOptCtx(place)));
            (api!(RedisModule_GetDbIdFromOptCtx(place)), key.map_or(&[][..], RedisString::bytes))
        };
        // SAFETY: the server passes a value of this type on the main thread. The one who made it drop the key holds
        // no reference to the value: `Key` gives none out while it deletes or overwrites.
        unsafe { &mut *value.cast_mut().cast::<V>() }.unlinked(DbKey { database, key });
    });
}

unsafe extern "C" fn aux_save<V: Value>(rdb: *mut RedisModuleIO, _when: c_int) {
    guard(|| write_number(rdb, V::save_number()));
}

unsafe extern "C" fn aux_save2<V: Value>(rdb: *mut RedisModuleIO, _when: c_int) {
    guard(|| match V::save_number() {
        0 => {}
        number => write_number(rdb, number),
    });
}

fn write_number(rdb: *mut RedisModuleIO, number: u64) {
    // SAFETY: `rdb` is the writer the server lends to the callback that calls this.
    unsafe { api!(RedisModule_SaveUnsigned(rdb, number)) };
}

unsafe extern "C" fn aux_load<V: Value>(rdb: *mut RedisModuleIO, version: c_int, _when: c_int) -> c_int {
    let loaded = guard(|| {
        // SAFETY: `rdb` is the reader the server lends.
        let (number, failed) = unsafe {
            let number = api!(RedisModule_LoadUnsigned(rdb));
            (number, api!(RedisModule_IsIOError(rdb)) != 0)
        };
        !failed && version == V::ENCODING_VERSION && V::load_number(number)
    });
    if loaded == Some(true) { OK } else { ERR }
}

/// # Safety
/// `value` is a value of type `V` in the server's hands, and nobody changes it during the call.
unsafe fn borrow<'a, V: Value>(value: *const c_void) -> &'a V {
    // SAFETY: the caller's promise.
    unsafe { &*value.cast::<V>() }
}

fn log(io: *mut RedisModuleIO, line: &str) {
    let line = std::ffi::CString::new(line).unwrap_or_default();
    // SAFETY: the line is an argument of a format of ours, never a format itself.
    unsafe { api!(RedisModule_LogIOError(io, c"warning".as_ptr(), c"%s".as_ptr(), line.as_ptr())) };
}
