//! The share of a hold in its lock: its weight, and the limit that its holder sets.

use core::num::NonZeroU16;

use crate::refusal::Refusal;

/// How much weight a holder tolerates on its lock, its own included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit(Option<NonZeroU16>);

impl Limit {
    /// One: nobody else.
    pub const EXCLUSIVE: Self = Self(Some(NonZeroU16::MIN));
    /// No limit of its own.
    pub const SHARED: Self = Self(None);

    /// The limit with this number. 0 is [`Limit::SHARED`].
    pub const fn from_number(number: u16) -> Self {
        Self(NonZeroU16::new(number))
    }

    /// The limit as a number. [`Limit::SHARED`] is 0.
    pub fn number(self) -> u16 {
        self.0.map_or(0, NonZeroU16::get)
    }

    /// The most weight that the lock may have.
    pub(crate) fn most(self) -> usize {
        self.0.map_or(usize::MAX, |limit| usize::from(limit.get()))
    }
}

/// The share of a hold in its lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// How much weight its holder tolerates.
    pub limit: Limit,
    /// How much the hold counts: at least 1, and no more than its limit.
    pub weight: u16,
}

impl Share {
    /// What a newcomer gets that names nothing else.
    pub const EXCLUSIVE: Self = Self::of(Limit::EXCLUSIVE);

    /// The share of a hold with this limit that counts as one.
    pub const fn of(limit: Limit) -> Self {
        Self { limit, weight: 1 }
    }

    /// Whether a holder gets more by having this share instead of another: a smaller limit, or more weight.
    pub(crate) fn is_more_than(self, other: Self) -> bool {
        self.limit.most() < other.limit.most() || self.weight > other.weight
    }

    /// Whether the weight is within the limit. Otherwise no lock has room for it.
    pub(crate) fn is_possible(self) -> bool {
        self.weight >= 1 && usize::from(self.weight) <= self.limit.most()
    }
}

/// The parts of a share that a request names.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct AskedShare {
    /// By LIMIT or SHARED.
    pub limit: Option<Limit>,
    /// By WEIGHT.
    pub weight: Option<u16>,
}

impl AskedShare {
    /// The share of somebody who holds nothing yet: exclusive unless it names a limit, and 1 unless it names a weight.
    pub fn of_newcomer(self) -> Share {
        self.beside(Share::EXCLUSIVE)
    }

    /// The share of somebody who has one. What it does not name stays.
    pub(crate) fn beside(self, held: Share) -> Share {
        Share { limit: self.limit.unwrap_or(held.limit), weight: self.weight.unwrap_or(held.weight) }
    }

    /// # Errors
    /// [`Refusal::WeightRange`] if no lock could ever have room for this, held by somebody who has this share now, if any.
    pub(crate) fn check(self, held: Option<Share>) -> Result<(), Refusal> {
        let share = held.map_or(self.of_newcomer(), |held| self.beside(held));
        if share.is_possible() { Ok(()) } else { Err(Refusal::WeightRange) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(limit: u16, weight: u16) -> Share {
        Share { limit: Limit::from_number(limit), weight }
    }

    #[test]
    fn what_a_request_does_not_name_stays() {
        let asked = |limit: Option<u16>, weight| AskedShare { limit: limit.map(Limit::from_number), weight };
        assert_eq!(asked(None, None).of_newcomer(), share(1, 1));
        assert_eq!(asked(Some(5), None).of_newcomer(), share(5, 1));
        assert_eq!(asked(None, None).beside(share(5, 3)), share(5, 3));
        assert_eq!(asked(Some(0), None).beside(share(5, 3)), share(0, 3));
        assert_eq!(asked(None, Some(2)).beside(share(5, 3)), share(5, 2));
    }

    #[test]
    fn a_weight_is_within_its_limit() {
        let asked = |limit: Option<u16>, weight| AskedShare { limit: limit.map(Limit::from_number), weight };
        for (limit, weight, held, is_possible) in [
            (None, Some(1), None, true),
            (None, Some(2), None, false),
            (Some(2), Some(2), None, true),
            (Some(2), Some(3), None, false),
            (Some(0), Some(u16::MAX), None, true),
            (None, Some(3), Some(share(3, 1)), true),
            (None, Some(4), Some(share(3, 1)), false),
            (Some(1), None, Some(share(3, 2)), false),
            (Some(1), Some(1), Some(share(3, 2)), true),
        ] {
            assert_eq!(
                asked(limit, weight).check(held).is_ok(),
                is_possible,
                "{limit:?} {weight:?} {held:?}"
            );
        }
    }

    #[test]
    fn a_smaller_limit_and_a_larger_weight_are_more() {
        assert!(share(1, 1).is_more_than(share(0, 1)));
        assert!(share(5, 3).is_more_than(share(5, 2)));
        assert!(share(6, 3).is_more_than(share(5, 2)));
        assert!(!share(6, 2).is_more_than(share(5, 2)));
        assert!(!share(5, 1).is_more_than(share(5, 2)));
    }
}
