//! Settings: CONFIG GET and SET, directives of redis.conf, and the module's arguments.

use std::ffi::{CStr, c_char, c_int, c_longlong, c_void};
use std::ptr;
use std::sync::atomic::{AtomicI64, Ordering};

use redis_module::raw::{self, RedisModuleString};

use super::{Context, OK};

/// A whole number that can be configured, as `lock.NAME`.
pub(crate) struct NumericSetting {
    pub(crate) name: &'static CStr,
    pub(crate) default: i64,
    pub(crate) least: i64,
    pub(crate) most: i64,
    pub(crate) value: AtomicI64,
}

impl NumericSetting {
    /// The value in force.
    pub(crate) fn get(&self) -> i64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// Registers settings, each with the default given beside it, and reads their directives; false if a value is bad,
/// which the server has then logged.
pub(crate) fn load_settings(
    context: &Context,
    settings: impl IntoIterator<Item = (&'static NumericSetting, i64)>,
) -> bool {
    let registered = settings.into_iter().all(|(setting, default)| {
        let data = ptr::from_ref(setting).cast_mut().cast();
        // SAFETY: the name is a C string that the server copies; the data is a static, and the callbacks take it for
        // what it is and only read it.
        let status = unsafe {
            api!(RedisModule_RegisterNumericConfig(
                context.raw(),
                setting.name.as_ptr(),
                default,
                raw::REDISMODULE_CONFIG_DEFAULT,
                setting.least,
                setting.most,
                Some(get),
                Some(set),
                None,
                data,
            ))
        };
        status == OK
    });
    // SAFETY: the context is valid.
    registered && unsafe { api!(RedisModule_LoadConfigs(context.raw())) } == OK
}

unsafe extern "C" fn get(_name: *const c_char, data: *mut c_void) -> c_longlong {
    // SAFETY: the data is the setting it was registered with, a static.
    unsafe { &*data.cast::<NumericSetting>() }.get()
}

unsafe extern "C" fn set(
    _name: *const c_char,
    value: c_longlong,
    data: *mut c_void,
    _error: *mut *mut RedisModuleString,
) -> c_int {
    // SAFETY: the data is the setting it was registered with, a static. The server has checked the range.
    unsafe { &*data.cast::<NumericSetting>() }.value.store(value, Ordering::Relaxed);
    OK
}
