//! A type of value that keys can hold, and the callbacks by which the server keeps such values.

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

/// What a type of value has to say for itself.
pub(crate) trait Value: Sized + Send + 'static {
    /// Its name, nine characters as the server demands.
    const NAME: &'static CStr;
    /// The version of the outer form in snapshots: one string of bytes, which names the version of its inside itself.
    const ENCODING_VERSION: i32;

    /// Where the server's handle of the type is kept.
    fn handle() -> &'static Handle;
    /// Makes a value of bytes. The error goes to the log, so it holds nothing of the bytes.
    fn load(bytes: &[u8], origin: Origin<'_>) -> Result<Self, String>;
    /// The bytes for a snapshot or a DUMP.
    fn save(&self) -> Vec<u8>;
    /// Writes the commands that make the value anew.
    fn rewrite(&self, writer: &AofWriter<'_>);
    /// Adds all that must agree on master, replica and reload.
    fn digest(&self, digest: &mut Digest<'_>);
    /// Bytes in memory, the value's own size included.
    fn memory(&self) -> usize;
    /// The value has left its key: deleted, overwritten, or about to appear under another.
    fn unlinked(&mut self, place: DbKey<'_>);
    /// A number to be kept in snapshots beside all values, 0 for none.
    fn save_number() -> u64;
    /// Takes in that number; false when it cannot be one.
    fn load_number(number: u64) -> bool;
}

/// Where the bytes of a value come from.
#[derive(Clone, Copy)]
pub(crate) enum Origin<'a> {
    /// From a snapshot, in which it stands at this place, if the server says which.
    Snapshot(Option<DbKey<'a>>),
    /// From a RESTORE that the master has carried out already. Its arrival will be reported.
    Master,
    /// From a client's RESTORE, which may still fail. Its arrival will be reported if it does not.
    Client,
}

/// The server's handle of a type; null until the type is registered.
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

/// Registers a type; false if the server refuses. Without `saves_number` a server before 7.2 is not told of the number
/// that [`Value::save_number`] gives, since it would write it into every snapshot; later ones ask each time.
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
        // Servers before 7.2 know only the first and write the number into every snapshot; later ones prefer the
        // second and leave out what was not written, so that a snapshot without it needs no module.
        aux_save: if saves_number { Some(aux_save::<V>) } else { None },
        aux_save2: Some(aux_save2::<V>),
        aux_save_triggers: AFTER_ALL_KEYS,
        unlink2: Some(unlink2::<V>),
        // Without a copy callback the server refuses COPY.
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

/// Writes a value as commands into the append-only file that is being made anew.
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

/// Sums a value up for DEBUG DIGEST.
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
