//! Settings: CONFIG GET, CONFIG SET, and directives of redis.conf.

use std::ffi::{CStr, c_char, c_int, c_longlong, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use redis_module::raw::{self, RedisModuleString};

use super::{Context, ERR, OK};

/// A setting and the default with which it is registered.
#[derive(Clone, Copy)]
pub(crate) enum Setting {
    Number(&'static NumericSetting, i64),
    Switch(&'static Switch, bool),
}

/// An integer setting, `lock.NAME`.
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

/// A setting that is `yes` or `no`, `lock.NAME`.
pub(crate) struct Switch {
    pub(crate) name: &'static CStr,
    pub(crate) default: bool,
    pub(crate) value: AtomicBool,
    /// Whether it cannot be changed while the server runs.
    pub(crate) is_fixed: AtomicBool,
    /// The error for a client that tries to change it nevertheless.
    pub(crate) fixed_because: &'static str,
}

impl Switch {
    /// The value in force.
    pub(crate) fn get(&self) -> bool {
        self.value.load(Ordering::Relaxed)
    }
}

impl Setting {
    pub(crate) fn name(self) -> &'static CStr {
        match self {
            Self::Number(setting, _) => setting.name,
            Self::Switch(setting, _) => setting.name,
        }
    }

    fn register(self, context: &Context) -> bool {
        // SAFETY: the name is a C string that the server copies; the data is a static, and the callbacks take it for
        // what it is and only read it.
        let status = unsafe {
            match self {
                Self::Number(setting, default) => api!(RedisModule_RegisterNumericConfig(
                    context.raw(),
                    setting.name.as_ptr(),
                    default,
                    raw::REDISMODULE_CONFIG_DEFAULT,
                    setting.least,
                    setting.most,
                    Some(get_number),
                    Some(set_number),
                    None,
                    ptr::from_ref(setting).cast_mut().cast(),
                )),
                Self::Switch(setting, default) => api!(RedisModule_RegisterBoolConfig(
                    context.raw(),
                    setting.name.as_ptr(),
                    default.into(),
                    raw::REDISMODULE_CONFIG_DEFAULT,
                    Some(get_switch),
                    Some(set_switch),
                    None,
                    ptr::from_ref(setting).cast_mut().cast(),
                )),
            }
        };
        status == OK
    }
}

/// Registers settings and reads their directives. False if a value is not valid; the server logs which one.
pub(crate) fn load_settings(context: &Context, settings: impl IntoIterator<Item = Setting>) -> bool {
    let registered = settings.into_iter().all(|setting| setting.register(context));
    // SAFETY: the context is valid.
    registered && unsafe { api!(RedisModule_LoadConfigs(context.raw())) } == OK
}

unsafe extern "C" fn get_number(_name: *const c_char, data: *mut c_void) -> c_longlong {
    // SAFETY: the data is the setting it was registered with, a static.
    unsafe { &*data.cast::<NumericSetting>() }.get()
}

unsafe extern "C" fn set_number(
    _name: *const c_char,
    value: c_longlong,
    data: *mut c_void,
    _error: *mut *mut RedisModuleString,
) -> c_int {
    // SAFETY: the data is the setting it was registered with, a static. The server has checked the range.
    unsafe { &*data.cast::<NumericSetting>() }.value.store(value, Ordering::Relaxed);
    OK
}

unsafe extern "C" fn get_switch(_name: *const c_char, data: *mut c_void) -> c_int {
    // SAFETY: the data is the setting it was registered with, a static.
    unsafe { &*data.cast::<Switch>() }.get().into()
}

unsafe extern "C" fn set_switch(
    _name: *const c_char,
    value: c_int,
    data: *mut c_void,
    error: *mut *mut RedisModuleString,
) -> c_int {
    // SAFETY: the data is the setting it was registered with, a static.
    let setting = unsafe { &*data.cast::<Switch>() };
    let value = value != 0;
    if value != setting.get() && setting.is_fixed.load(Ordering::Relaxed) {
        let text = setting.fixed_because;
        // SAFETY: the server takes over the string that it makes of the text, and frees it once it has replied.
        unsafe {
            *error = api!(RedisModule_CreateString(ptr::null_mut(), text.as_ptr().cast(), text.len()));
        }
        return ERR;
    }
    setting.value.store(value, Ordering::Relaxed);
    OK
}
