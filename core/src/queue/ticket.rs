//! Tickets: who is served before whom.

/// A position in the order of the whole server: the lower, the earlier it is served. Those who go ahead (G5) have negative
/// ones, the newest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket(i64);

impl Ticket {
    /// The first that does not go ahead.
    const FIRST_BEHIND: Self = Self(0);
    /// Ahead of all others.
    pub(crate) const FIRST: Self = Self(i64::MIN);
    /// Behind all others.
    pub(super) const LAST: Self = Self(i64::MAX);

    /// The ticket with this number, which is not negative.
    pub(super) fn numbered(number: i64, ahead: bool) -> Self {
        Self(number).going(ahead)
    }

    /// The number that clients see. No other ticket of this server has it.
    pub fn number(self) -> u64 {
        self.0.unsigned_abs()
    }

    /// Whether it goes ahead.
    pub fn is_ahead(self) -> bool {
        self < Self::FIRST_BEHIND
    }

    /// The next ticket ahead of it.
    pub(crate) fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The next ticket behind it.
    pub(crate) fn after(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The ticket with the same number that goes ahead, or does not. So who goes ahead no longer stands where it would have
    /// stood from the start.
    pub(super) fn going(self, ahead: bool) -> Self {
        let number = self.0.saturating_abs();
        Self(if ahead { number.saturating_neg() } else { number })
    }
}
