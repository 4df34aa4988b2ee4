//! The settings: `lock.NAME` for CONFIG and redis.conf, `NAME value` among the words of `loadmodule`.
//!
//! A word of `loadmodule` replaces a setting's default, and a directive in redis.conf wins over it. So CONFIG REWRITE,
//! which writes directives, is not undone by the words at the next start.

use std::sync::atomic::AtomicI64;

use lock_core::queue::WaiterLimits;
use lock_core::request::{LeaseRules, parse_integer};
use lock_core::time::LONGEST_LEASE_MS;

use crate::server::ffi::{Args, Context, NumericSetting, load_settings};

/// More connections than any server takes.
const MOST_WAITERS: i64 = 1_000_000;

const LONGEST: i64 = LONGEST_LEASE_MS.cast_signed();

/// For requests that name no lease, in milliseconds.
static DEFAULT_LEASE: NumericSetting = NumericSetting {
    name: c"default-lease",
    default: 30_000,
    least: 1,
    most: LONGEST,
    value: AtomicI64::new(30_000),
};

/// The longest lease that may be asked for, in milliseconds.
static MAX_LEASE: NumericSetting = NumericSetting {
    name: c"max-lease",
    default: 86_400_000,
    least: 1,
    most: LONGEST,
    value: AtomicI64::new(86_400_000),
};

/// The most clients that may wait on the whole server.
static MAX_WAITERS: NumericSetting = NumericSetting {
    name: c"max-waiters",
    default: 10_000,
    least: 0,
    most: MOST_WAITERS,
    value: AtomicI64::new(10_000),
};

/// The most clients that may wait for one key.
static MAX_WAITERS_PER_KEY: NumericSetting = NumericSetting {
    name: c"max-waiters-per-key",
    default: 1_000,
    least: 0,
    most: MOST_WAITERS,
    value: AtomicI64::new(1_000),
};

/// How long after a restart or a promotion nobody is granted more than it holds, in milliseconds.
static RESTART_GRACE: NumericSetting =
    NumericSetting { name: c"restart-grace", default: 0, least: 0, most: LONGEST, value: AtomicI64::new(0) };

static SETTINGS: [&NumericSetting; 5] =
    [&DEFAULT_LEASE, &MAX_LEASE, &MAX_WAITERS, &MAX_WAITERS_PER_KEY, &RESTART_GRACE];

/// What leases may be. The default yields where the longest is set below it, so that the two can be set in any order.
pub(crate) fn leases() -> LeaseRules {
    let longest_ms = MAX_LEASE.get().unsigned_abs();
    LeaseRules { default_ms: DEFAULT_LEASE.get().unsigned_abs().min(longest_ms), longest_ms }
}

/// How many clients may wait.
pub(crate) fn waiter_limits() -> WaiterLimits {
    let count = |setting: &NumericSetting| usize::try_from(setting.get()).unwrap_or(0);
    WaiterLimits { in_all: count(&MAX_WAITERS), per_key: count(&MAX_WAITERS_PER_KEY) }
}

/// How long grants are taken for lost after a restart or a promotion, in milliseconds.
pub(crate) fn restart_grace_ms() -> u64 {
    RESTART_GRACE.get().unsigned_abs()
}

/// Registers the settings, with what the words of `loadmodule` say.
///
/// # Errors
/// What is wrong with a word. The words themselves are the operator's, and are not repeated: they could be anything.
pub(crate) fn load(context: &Context, args: &Args<'_>) -> Result<(), String> {
    let mut defaults = SETTINGS.map(|setting| (setting, setting.default));
    let mut words = args.from(0);
    let mut position: u32 = 0;
    while let Some(word) = words.next() {
        position = position.saturating_add(1);
        let name = word.strip_prefix(b"lock.").unwrap_or(word);
        let setting = defaults
            .iter_mut()
            .find(|(setting, _)| setting.name.to_bytes().eq_ignore_ascii_case(name))
            .ok_or_else(|| unknown_argument(position))?;
        setting.1 =
            words.next().and_then(|value| parse(setting.0, value)).ok_or_else(|| bad_value(setting.0))?;
    }
    if load_settings(context, defaults) {
        Ok(())
    } else {
        Err("a lock.* setting is bad, see the line above".to_owned())
    }
}

fn parse(setting: &NumericSetting, value: &[u8]) -> Option<i64> {
    let number = parse_integer(value).ok()?;
    (setting.least..=setting.most).contains(&number).then_some(number)
}

fn unknown_argument(position: u32) -> String {
    let names = SETTINGS.map(|setting| setting.name.to_string_lossy()).join(", ");
    format!(
        "setting {position} given to loadmodule is unknown; what can be given is a name and a value of: {names}"
    )
}

fn bad_value(setting: &NumericSetting) -> String {
    let NumericSetting { name, least, most, .. } = setting;
    let name = name.to_string_lossy();
    format!("lock.{name} given to loadmodule must be a number from {least} to {most}")
}
