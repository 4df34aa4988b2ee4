//! An open key.

use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};

use redis_module::raw::{self, RedisModuleKey};

use super::{Context, DistinctNames, OK, RedisString, Value};

/// A key opened to read or change a value of type `V`.
///
/// While a reference to the value exists, no method that moves or frees the value can be called: every such method takes
/// `&mut self`, so the borrow checker prevents it.
pub(crate) struct Key<'c, V> {
    raw: NonNull<RedisModuleKey>,
    context: &'c Context,
    name: RedisString<'c>,
    /// The value, as long as the key exists.
    value: Option<NonNull<V>>,
    /// The right to have it open.
    right: Right,
}

/// How many keys are open for reading, and how many for writing.
static READ: AtomicUsize = AtomicUsize::new(0);
static CHANGED: AtomicUsize = AtomicUsize::new(0);

/// The right to open a key. Several keys can be open for reading. While one is open for writing no other key is open, unless
/// whoever opens another shows that all that are open have other names. So no value is lent twice.
struct Right {
    to_change: bool,
}

impl Right {
    /// `beside` is how many keys of other names are known to be open for writing.
    #[inline]
    fn get(to_change: bool, beside: usize) -> Option<Self> {
        let is_free = CHANGED.load(Ordering::Relaxed) == beside;
        if !is_free || to_change && READ.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let right = Self { to_change };
        right.count(|open| open.saturating_add(1));
        Some(right)
    }

    /// Only the main thread opens keys, so nobody comes between.
    fn count(&self, changed: impl FnOnce(usize) -> usize) {
        let open = if self.to_change { &CHANGED } else { &READ };
        open.store(changed(open.load(Ordering::Relaxed)), Ordering::Relaxed);
    }
}

impl Drop for Right {
    fn drop(&mut self) {
        self.count(|open| open.saturating_sub(1));
    }
}

/// The server's type number of a key that does not exist.
#[allow(clippy::cast_possible_truncation, reason = "0, which the bindings give another type")]
const EMPTY: i32 = raw::REDISMODULE_KEYTYPE_EMPTY as i32;

/// The server's type number of a string.
#[allow(clippy::cast_possible_truncation, reason = "1, which the bindings give another type")]
const STRING: i32 = raw::REDISMODULE_KEYTYPE_STRING as i32;

/// A key that holds a value of another type.
pub(crate) struct Occupied<'c, V>(pub(crate) Key<'c, V>);

impl<'c, V: Value> Key<'c, V> {
    /// Opens a key for reading. `None` if it does not exist, or while another key is open for writing.
    pub(crate) fn open_to_read(
        context: &'c Context,
        name: RedisString<'c>,
    ) -> Result<Option<Self>, Occupied<'c, V>> {
        Self::open(context, name, raw::REDISMODULE_READ, 0)
    }

    /// Opens a key for writing, whether it exists or not. `None` while another key is open.
    pub(crate) fn open_to_write(
        context: &'c Context,
        name: RedisString<'c>,
    ) -> Result<Option<Self>, Occupied<'c, V>> {
        Self::open(context, name, raw::REDISMODULE_READ | raw::REDISMODULE_WRITE, 0)
    }

    /// Opens several keys for writing, whether they exist or not. `None` while another key is open.
    pub(crate) fn open_all_to_write(
        context: &'c Context,
        names: &DistinctNames<'c>,
    ) -> Option<Vec<Result<Self, Occupied<'c, V>>>> {
        // All that are open are those of the names before, which are others.
        let open = |(place, name): (usize, &RedisString<'c>)| {
            Self::open(context, *name, raw::REDISMODULE_READ | raw::REDISMODULE_WRITE, place).transpose()
        };
        names.iter().enumerate().map(open).collect()
    }

    /// Opens a key for writing beside one of the same database that is open for writing already. `None` if that has the same
    /// name, or is not the only one that is open.
    pub(crate) fn open_to_write_beside(
        context: &'c Context,
        name: RedisString<'c>,
        open: &Key<'_, V>,
    ) -> Result<Option<Self>, Occupied<'c, V>> {
        if open.name.bytes() == name.bytes() {
            return Ok(None);
        }
        Self::open(context, name, raw::REDISMODULE_READ | raw::REDISMODULE_WRITE, 1)
    }

    /// Opens a key to apply what another server has decided. A value of another type counts as none, and [`Key::set`]
    /// replaces it.
    pub(crate) fn open_to_replace(context: &'c Context, name: RedisString<'c>) -> Option<Self> {
        let (key, _) = Self::open_any(context, name, raw::REDISMODULE_READ | raw::REDISMODULE_WRITE, 0)?;
        Some(key)
    }

    fn open(
        context: &'c Context,
        name: RedisString<'c>,
        mode: u32,
        beside: usize,
    ) -> Result<Option<Self>, Occupied<'c, V>> {
        match Self::open_any(context, name, mode, beside) {
            Some((key, true)) => Err(Occupied(key)),
            opened => Ok(opened.map(|(key, _)| key)),
        }
    }

    /// Opens a key. Also returns whether it holds a value of another type.
    fn open_any(
        context: &'c Context,
        name: RedisString<'c>,
        mode: u32,
        beside: usize,
    ) -> Option<(Self, bool)> {
        let right = Right::get(mode & raw::REDISMODULE_WRITE != 0, beside)?;
        // SAFETY: context and name are valid for `'c`, for which the key stays open at most.
        let raw = unsafe { api!(RedisModule_OpenKey(context.raw(), name.raw(), mode.cast_signed())) };
        let raw = NonNull::new(raw.cast::<RedisModuleKey>())?;
        let mut key = Self { raw, context, name, value: None, right };
        let is_own = key.has_own_type();
        if is_own {
            // SAFETY: the key is open and holds a value of our type.
            key.value = NonNull::new(unsafe { api!(RedisModule_ModuleTypeGetValue(raw.as_ptr())) }.cast());
        }
        let is_other = !is_own && !key.is_empty();
        Some((key, is_other))
    }

    fn has_own_type(&self) -> bool {
        // SAFETY: the key is open.
        let type_of_value = unsafe { api!(RedisModule_ModuleTypeGetType(self.raw.as_ptr())) };
        V::handle().is(type_of_value)
    }

    fn is_empty(&self) -> bool {
        self.type_number() == EMPTY
    }

    fn type_number(&self) -> i32 {
        // SAFETY: the key is open.
        unsafe { api!(RedisModule_KeyType(self.raw.as_ptr())) }
    }

    /// Reads the bytes of a string. `None` if the key does not exist or holds a value of another type.
    pub(crate) fn read_string<R>(&self, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        if self.type_number() != STRING {
            return None;
        }
        let mut len = 0;
        // SAFETY: the key is open and holds a string.
        let start = unsafe {
            api!(RedisModule_StringDMA(self.raw.as_ptr(), &raw mut len, raw::REDISMODULE_READ.cast_signed()))
        };
        let start = NonNull::new(start.cast::<u8>()).filter(|_| len > 0);
        // SAFETY: the server says that so many bytes are there. They stay as they are while `read` runs, which gets nothing to
        // change or close the key with.
        let bytes = start.map_or(&[][..], |start| unsafe { slice::from_raw_parts(start.as_ptr(), len) });
        Some(read(bytes))
    }

    /// The context in which the key was opened.
    pub(crate) fn context(&self) -> &'c Context {
        self.context
    }

    /// The key's name.
    pub(crate) fn name(&self) -> RedisString<'c> {
        self.name
    }

    /// The value, if the key exists.
    pub(crate) fn value(&self) -> Option<&V> {
        // SAFETY: a value of our type is one that `set` or the type's loader made of a `Box<V>`; it stays where it is
        // until the key is changed through `&mut self` or the key is closed. Nobody else has it to change it: the server
        // calls one callback at a time, and `right` says that no key of this name is open to be changed besides this one.
        self.value.map(|value| unsafe { value.as_ref() })
    }

    /// The value for changing it, if the key exists and is open for writing.
    pub(crate) fn value_mut(&mut self) -> Option<&mut V> {
        let value = self.value.filter(|_| self.right.to_change);
        // SAFETY: as in `value`. It is the only reference: this key lends no other beside `&mut self`, and while it may be
        // changed no other key of its name is open, as `right` says.
        value.map(|mut value| unsafe { value.as_mut() })
    }

    /// The remaining time to live of the key in milliseconds, if it has one.
    pub(crate) fn ttl_ms(&self) -> Option<u64> {
        // Redis 8.6 crashes when it is asked for that of a key that does not exist.
        if self.value.is_none() && self.is_empty() {
            return None;
        }
        // SAFETY: the key is open, and exists.
        let ttl_ms = unsafe { api!(RedisModule_GetExpire(self.raw.as_ptr())) };
        u64::try_from(ttl_ms).ok()
    }

    /// Sets the time to live of the key to so many milliseconds from now.
    pub(crate) fn set_ttl(&mut self, ms: u64) {
        // SAFETY: the key is open. The server refuses one that does not exist or is not open for writing.
        unsafe { api!(RedisModule_SetExpire(self.raw.as_ptr(), ms.cast_signed())) };
    }

    /// Removes the time to live of the key, if it has one.
    pub(crate) fn take_off_ttl(&mut self) {
        if self.ttl_ms().is_some() {
            // SAFETY: the key is open for writing and exists, since it has a time to live.
            unsafe {
                api!(RedisModule_SetExpire(self.raw.as_ptr(), i64::from(raw::REDISMODULE_NO_EXPIRE)));
            }
        }
    }

    /// Sets the value of the key. Replaces the old value.
    pub(crate) fn set(&mut self, value: V) {
        let value = Box::into_raw(Box::new(value));
        // SAFETY: the key is open; the server takes the value over and hands it to the type's `free` in the end. It
        // refuses a key that is not open for writing: then the value is ours again.
        unsafe {
            if api!(RedisModule_ModuleTypeSetValue(self.raw.as_ptr(), V::handle().raw(), value.cast())) == OK
            {
                self.value = NonNull::new(value);
            } else {
                drop(Box::from_raw(value));
            }
        }
    }

    /// Deletes the key.
    pub(crate) fn delete(&mut self) {
        self.value = None;
        // SAFETY: the key is open, and no reference to the value is out.
        unsafe { api!(RedisModule_DeleteKey(self.raw.as_ptr())) };
    }

    /// Signals to clients that WATCH or track the key that it has changed.
    pub(crate) fn signal_modified(&self) {
        // SAFETY: context and name are valid.
        unsafe { api!(RedisModule_SignalModifiedKey(self.context.raw(), self.name.raw())) };
    }
}

/// Opens keys for writing beside one of the same database, one after the other. All of them stay open.
pub(crate) struct OpenBeside<'n, 'c> {
    names: slice::Iter<'n, RedisString<'c>>,
    /// How many are open: all of different names, and none of those that are left.
    open: usize,
}

impl<'n, 'c> OpenBeside<'n, 'c> {
    /// `None` if the key that is open has one of these names.
    pub(crate) fn new<V>(own: &Key<'_, V>, names: &'n DistinctNames<'c>) -> Option<Self> {
        let is_other = |name: &RedisString<'_>| name.bytes() != own.name.bytes();
        names.iter().all(is_other).then(|| Self { names: names.iter(), open: 1 })
    }

    /// Opens the next of them. `None` if there is none left, or if not all are open that were opened before.
    pub(crate) fn open_next<V: Value>(
        &mut self,
        context: &'c Context,
    ) -> Option<Result<Key<'c, V>, Occupied<'c, V>>> {
        let (name, open) = (self.names.next()?, self.open);
        self.open = open.saturating_add(1);
        Key::open(context, *name, raw::REDISMODULE_READ | raw::REDISMODULE_WRITE, open).transpose()
    }
}

impl<V> Drop for Key<'_, V> {
    fn drop(&mut self) {
        // SAFETY: the key is open and is closed once, here; no reference to the value outlives `self`.
        unsafe { api!(RedisModule_CloseKey(self.raw.as_ptr())) };
    }
}
