//! Moments on a monotonic clock, and the spans between them.
//!
//! Leases are asked for and shown in milliseconds, but counted in microseconds. Otherwise a lease granted in the middle
//! of a millisecond would be half a millisecond short.

/// The longest lease that can be configured, asked for or loaded: a hundred years, in milliseconds. Far below what
/// could overflow a [`Moment`].
pub const LONGEST_LEASE_MS: u64 = 100 * 365 * 24 * 60 * 60 * 1000;

/// The shortest lease of a hold that a connection keeps alive, in milliseconds. The server extends it by itself, and
/// shorter leases would have to be extended too often.
pub const SHORTEST_SESSION_LEASE_MS: u64 = 1000;

const MICROS_PER_MS: i64 = 1000;

/// A point on the server's monotonic clock, in microseconds since the clock's zero.
///
/// It can be negative: a hold that was loaded from a file can be older than the clock's zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Moment(i64);

impl Moment {
    /// The moment `micros` microseconds after the clock's zero.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the clock's zero.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The moment `ms` milliseconds later.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(span(ms)))
    }

    /// The moment `ms` milliseconds earlier.
    #[must_use]
    pub fn minus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(span(ms)))
    }

    /// Milliseconds from here until `later`, rounded up: a time that is not over is never shown as 0. It is 0 if
    /// `later` has passed.
    pub fn ms_until(self, later: Self) -> u64 {
        let micros = later.0.saturating_sub(self.0).max(0).unsigned_abs();
        micros.div_ceil(MICROS_PER_MS.unsigned_abs())
    }

    /// Whole milliseconds since `earlier`, or 0 if `earlier` is in the future.
    pub fn ms_since(self, earlier: Self) -> u64 {
        let micros = self.0.saturating_sub(earlier.0).max(0).unsigned_abs();
        micros.checked_div(MICROS_PER_MS.unsigned_abs()).unwrap_or(0)
    }
}

fn span(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(MICROS_PER_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_lease_rounds_up_and_its_age_rounds_down() {
        let granted = Moment::from_micros(1_500);
        let end = granted.plus_ms(10);
        assert_eq!(granted.ms_until(end), 10);
        assert_eq!(Moment::from_micros(11_499).ms_until(end), 1);
        assert_eq!(Moment::from_micros(11_500).ms_until(end), 0);
        assert_eq!(Moment::from_micros(2_499).ms_since(granted), 0);
        assert_eq!(Moment::from_micros(2_500).ms_since(granted), 1);
    }

    #[test]
    fn no_span_overflows() {
        assert_eq!(Moment::from_micros(i64::MAX - 1).plus_ms(u64::MAX).as_micros(), i64::MAX);
        assert_eq!(Moment::from_micros(i64::MIN + 1).minus_ms(u64::MAX).as_micros(), i64::MIN);
        assert_eq!(
            Moment::from_micros(i64::MIN).ms_until(Moment::from_micros(i64::MAX)),
            (i64::MAX as u64).div_ceil(1000)
        );
    }
}
