//! The settings: `lock.NAME` for CONFIG and redis.conf, `NAME value` among the arguments of `loadmodule`.
//!
//! An argument of `loadmodule` replaces the default of a setting, and a directive in redis.conf takes precedence over
//! it. So at the next start the arguments do not undo CONFIG REWRITE, which writes directives.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use lock_core::queue::WaiterLimits;
use lock_core::request::{LeaseRules, parse_integer};
use lock_core::time::LONGEST_LEASE_MS;

use crate::server::ffi::{Args, Context, NumericSetting, Setting, Switch, knows_optional_aux, load_settings};

/// More connections than any server accepts.
const MOST_WAITERS: i64 = 1_000_000;

const LONGEST: i64 = LONGEST_LEASE_MS.cast_signed();

/// The lease of a request that names none, in milliseconds.
static DEFAULT_LEASE: NumericSetting = NumericSetting {
    name: c"default-lease",
    default: 30_000,
    least: 1,
    most: LONGEST,
    value: AtomicI64::new(30_000),
};

/// The longest lease that a request may name, in milliseconds.
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

/// For how long after a restart or a promotion no client is granted more than it is known to hold, in milliseconds.
static RESTART_GRACE: NumericSetting =
    NumericSetting { name: c"restart-grace", default: 0, least: 0, most: LONGEST, value: AtomicI64::new(0) };

/// How long the lease of a grant to a place without a connection is at most, until it is claimed, in milliseconds.
static CLAIM_LEASE: NumericSetting = NumericSetting {
    name: c"claim-lease",
    default: 5_000,
    least: 1,
    most: LONGEST,
    value: AtomicI64::new(5_000),
};

/// Whether the highest fence is saved beside the locks.
static SAVE_FENCE: Switch = Switch {
    name: c"save-fence",
    default: true,
    value: AtomicBool::new(true),
    is_fixed: AtomicBool::new(false),
    fixed_because: "this server reads it only when it starts: set it in redis.conf and restart",
};

/// Whether a string counts as a lock, as `SET key token NX PX milliseconds` leaves it.
static ADOPT_STRINGS: Switch = Switch {
    name: c"adopt-strings",
    default: false,
    value: AtomicBool::new(false),
    is_fixed: AtomicBool::new(false),
    fixed_because: "",
};

static SETTINGS: [Setting; 8] = [
    Setting::Number(&DEFAULT_LEASE, DEFAULT_LEASE.default),
    Setting::Number(&MAX_LEASE, MAX_LEASE.default),
    Setting::Number(&MAX_WAITERS, MAX_WAITERS.default),
    Setting::Number(&MAX_WAITERS_PER_KEY, MAX_WAITERS_PER_KEY.default),
    Setting::Number(&CLAIM_LEASE, CLAIM_LEASE.default),
    Setting::Number(&RESTART_GRACE, RESTART_GRACE.default),
    Setting::Switch(&ADOPT_STRINGS, ADOPT_STRINGS.default),
    Setting::Switch(&SAVE_FENCE, SAVE_FENCE.default),
];

/// How long leases may be. A default above the longest lease counts as the longest, so that the two can be set in any
/// order.
pub(crate) fn leases() -> LeaseRules {
    let longest_ms = MAX_LEASE.get().unsigned_abs();
    LeaseRules { default_ms: DEFAULT_LEASE.get().unsigned_abs().min(longest_ms), longest_ms }
}

/// How many clients may wait.
pub(crate) fn waiter_limits() -> WaiterLimits {
    let count = |setting: &NumericSetting| usize::try_from(setting.get()).unwrap_or(0);
    WaiterLimits { in_all: count(&MAX_WAITERS), per_key: count(&MAX_WAITERS_PER_KEY) }
}

/// How long the lease of a grant to a place without a connection is at most, until it is claimed, in milliseconds.
pub(crate) fn claim_lease_ms() -> u64 {
    CLAIM_LEASE.get().unsigned_abs()
}

/// How long the restart grace lasts, in milliseconds.
pub(crate) fn restart_grace_ms() -> u64 {
    RESTART_GRACE.get().unsigned_abs()
}

/// Whether a string counts as a lock.
pub(crate) fn adopts_strings() -> bool {
    ADOPT_STRINGS.get()
}

/// Whether snapshots and new append-only files contain the highest fence. Then they load only with the module, even if no
/// lock is in them.
pub(crate) fn saves_fence() -> bool {
    SAVE_FENCE.get()
}

/// Registers the settings, with the arguments of `loadmodule` as their defaults.
///
/// # Errors
/// What is wrong with an argument. The text does not repeat the argument, which can be anything.
pub(crate) fn load(context: &Context, args: &Args<'_>) -> Result<(), String> {
    let mut settings = SETTINGS;
    let mut words = args.from(0);
    let mut position: u32 = 0;
    while let Some(word) = words.next() {
        position = position.saturating_add(1);
        let name = word.strip_prefix(b"lock.").unwrap_or(word);
        let setting = settings
            .iter_mut()
            .find(|setting| setting.name().to_bytes().eq_ignore_ascii_case(name))
            .ok_or_else(|| unknown_argument(position))?;
        *setting = words
            .next()
            .and_then(|value| with_default(*setting, value))
            .ok_or_else(|| bad_value(*setting))?;
    }
    if !load_settings(context, settings) {
        return Err("a lock.* directive in redis.conf is not valid: see the line above".to_owned());
    }
    SAVE_FENCE.is_fixed.store(!knows_optional_aux(), Ordering::Relaxed);
    Ok(())
}

/// The setting with another default. `None` if the value is not valid.
fn with_default(setting: Setting, value: &[u8]) -> Option<Setting> {
    match setting {
        Setting::Number(setting, _) => {
            let number = parse_integer(value).ok()?;
            let is_in_range = (setting.least..=setting.most).contains(&number);
            is_in_range.then_some(Setting::Number(setting, number))
        }
        Setting::Switch(setting, _) => {
            let is = |text: &str| value.eq_ignore_ascii_case(text.as_bytes());
            (is("yes") || is("no")).then(|| Setting::Switch(setting, is("yes")))
        }
    }
}

fn unknown_argument(position: u32) -> String {
    let names = SETTINGS.map(|setting| setting.name().to_string_lossy()).join(", ");
    format!(
        "setting {position} given to loadmodule is unknown: give a name and a value, where the name is one of {names}"
    )
}

fn bad_value(setting: Setting) -> String {
    let name = setting.name().to_string_lossy();
    match setting {
        Setting::Number(NumericSetting { least, most, .. }, _) => {
            format!("lock.{name} given to loadmodule must be a number from {least} to {most}")
        }
        Setting::Switch(..) => format!("lock.{name} given to loadmodule must be yes or no"),
    }
}
