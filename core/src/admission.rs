//! The one rule of admission.

use crate::hold::Limit;

/// What the rule of admission needs to know of some holds: how many there are, and the smallest limit among them.
///
/// Two crowds can be added. So the crowd of a lock is the sum of the crowds of its parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Crowd {
    holds: usize,
    /// The smallest limit among them.
    tolerated: usize,
}

impl Crowd {
    /// No hold, which tolerates any number.
    pub(crate) const NOBODY: Self = Self { holds: 0, tolerated: usize::MAX };

    /// One hold with this limit.
    pub(crate) fn of(limit: Limit) -> Self {
        Self { holds: 1, tolerated: limit.most() }
    }

    /// Both together.
    #[must_use]
    pub(crate) fn and(self, other: Self) -> Self {
        Self { holds: self.holds.saturating_add(other.holds), tolerated: self.tolerated.min(other.tolerated) }
    }

    /// How many holds there are.
    pub(crate) fn len(self) -> usize {
        self.holds
    }

    /// **The one rule of admission** (G1): a lock may have these holds if there are no more of them than the smallest
    /// limit among them. Mutex, read/write lock and semaphore follow from it.
    pub(crate) fn is_tolerated(self) -> bool {
        self.holds <= self.tolerated
    }

    /// Whether one more hold with this limit is admitted beside these.
    pub(crate) fn admits(self, limit: Limit) -> bool {
        let with_it = self.and(Self::of(limit));
        if cfg!(feature = "broken-admission") {
            return Self { holds: self.holds, ..with_it }.is_tolerated();
        }
        with_it.is_tolerated()
    }
}

impl FromIterator<Limit> for Crowd {
    fn from_iter<I: IntoIterator<Item = Limit>>(limits: I) -> Self {
        limits.into_iter().map(Self::of).fold(Self::NOBODY, Self::and)
    }
}
