//! How much is measured.

use std::time::Duration;

/// The sizes of the scenarios.
pub(crate) struct Effort {
    /// Whether this is the short run, whose figures are not worth keeping.
    pub(crate) is_quick: bool,
    /// How often every side of a comparison takes its turn.
    pub(crate) rounds: usize,
    /// Passes over its load in one turn of a side.
    pub(crate) passes: usize,
    /// Locks held in the background, or by which memory is measured.
    pub(crate) crowd: usize,
    /// Leases that end in one go in the mass expiry.
    pub(crate) mass: usize,
    /// How often a few leases, or a mass of them, are left to end.
    pub(crate) endings: usize,
    /// How often every way to contend takes its turn.
    pub(crate) contests: usize,
    /// How long such a turn is measured.
    pub(crate) contest: Duration,
    /// How often a number of locks are handed over, one after the other, in every setting.
    pub(crate) relays: usize,
    /// SHARED holds of the lock that very many hold.
    pub(crate) holds: usize,
    /// How often a client does its worst in each way.
    pub(crate) worsts: usize,
    /// Connections that are idle but for the hold each of them keeps.
    pub(crate) idle: usize,
}

impl Effort {
    /// The full sizes, or small ones if `BENCH_QUICK` is set.
    pub(crate) fn from_environment() -> Self {
        if std::env::var_os("BENCH_QUICK").is_some_and(|value| value != "0") {
            Self {
                is_quick: true,
                rounds: 5,
                passes: 40,
                crowd: 100_000,
                mass: 20_000,
                endings: 1,
                contests: 1,
                contest: Duration::from_secs(1),
                relays: 5,
                holds: 10_000,
                worsts: 2,
                idle: 1_000,
            }
        } else {
            Self {
                is_quick: false,
                rounds: 11,
                passes: 150,
                crowd: 1_000_000,
                mass: 100_000,
                endings: 5,
                contests: 3,
                contest: Duration::from_secs(3),
                relays: 25,
                holds: 100_000,
                worsts: 5,
                idle: 9_000,
            }
        }
    }
}
