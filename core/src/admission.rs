//! The one rule of admission.

use crate::share::Share;

/// What the rule of admission needs to know of some holds: how many there are, their weights together, and the smallest limit
/// among them.
///
/// Two crowds can be added. So the crowd of a lock is the sum of the crowds of its parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Crowd {
    holds: usize,
    /// Their weights together.
    weight: usize,
    /// The smallest limit among them.
    tolerated: usize,
}

impl Crowd {
    /// No hold, which tolerates any weight.
    pub(crate) const NOBODY: Self = Self { holds: 0, weight: 0, tolerated: usize::MAX };

    /// One hold with this share.
    pub(crate) fn of(share: Share) -> Self {
        Self { holds: 1, weight: share.weight.into(), tolerated: share.limit.most() }
    }

    /// Both together.
    #[must_use]
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            holds: self.holds.saturating_add(other.holds),
            weight: self.weight.saturating_add(other.weight),
            tolerated: self.tolerated.min(other.tolerated),
        }
    }

    /// How many holds there are.
    pub(crate) fn len(self) -> usize {
        self.holds
    }

    /// **The one rule of admission** (G1): a lock may have these holds if their weights together are no more than the smallest
    /// limit among them. Mutex, read/write lock and semaphore follow from it.
    pub(crate) fn is_tolerated(self) -> bool {
        self.weight <= self.tolerated
    }

    /// Whether one more hold with this share is admitted beside these.
    pub(crate) fn admits(self, share: Share) -> bool {
        let with_it = self.and(Self::of(share));
        if cfg!(feature = "broken-admission") {
            return Self { weight: self.weight, ..with_it }.is_tolerated();
        }
        with_it.is_tolerated()
    }
}

impl FromIterator<Share> for Crowd {
    fn from_iter<I: IntoIterator<Item = Share>>(shares: I) -> Self {
        shares.into_iter().map(Self::of).fold(Self::NOBODY, Self::and)
    }
}
