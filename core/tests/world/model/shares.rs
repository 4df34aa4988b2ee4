//! Shares of a lock, and the rule of admission.

use lock_core::Token;

use super::Model;
use crate::world::steps::{Request, Spot};

/// A limit, 0 for shared, and a weight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Share {
    pub(crate) limit: u16,
    pub(crate) weight: u16,
}

fn most(limit: u16) -> usize {
    if limit == 0 { usize::MAX } else { limit.into() }
}

impl Share {
    /// "The weights of all holds + its own <= the smallest limit among the holds and the request."
    pub(in crate::world) fn fits(self, others: &[Self]) -> bool {
        let all = || others.iter().chain([&self]);
        let weights: usize = all().map(|share| usize::from(share.weight)).sum();
        weights <= all().map(|share| most(share.limit)).min().unwrap()
    }

    /// Whether it is more to have: a smaller limit, or a larger weight.
    pub(super) fn is_more_than(self, other: Self) -> bool {
        most(self.limit) < most(other.limit) || self.weight > other.weight
    }
}

impl Model {
    /// Whether the token would come to have more than it has: a hold, a smaller limit or a larger weight.
    pub(crate) fn would_have_more(&self, spot: Spot, token: Option<&Token>, request: &Request) -> bool {
        let own = token.and_then(|token| self.hold_of(spot, token));
        own.is_none_or(|own| self.wanted(spot, token, request).is_more_than(own.share))
    }

    /// What the token would have: what it does not name is as it is held, or 1.
    pub(super) fn wanted(&self, spot: Spot, token: Option<&Token>, request: &Request) -> Share {
        let own = token.and_then(|token| self.hold_of(spot, token));
        let own = own.map_or(Share { limit: 1, weight: 1 }, |own| own.share);
        Share { limit: request.limit.unwrap_or(own.limit), weight: request.weight.unwrap_or(own.weight) }
    }

    /// Whether a lock could ever have room for it.
    pub(in crate::world) fn is_possible(&self, spot: Spot, token: Option<&Token>, request: &Request) -> bool {
        self.wanted(spot, token, request).fits(&[])
    }

    /// The rule of admission, and what it means for one who holds already.
    pub(in crate::world) fn admits(&self, spot: Spot, token: Option<&Token>, request: &Request) -> bool {
        let own = token.and_then(|token| self.hold_of(spot, token));
        let others = self.live(spot).filter(|holder| Some(&holder.token) != token);
        let others: Vec<Share> = others.map(|holder| holder.share).collect();
        let wanted = self.wanted(spot, token, request);
        own.is_some_and(|own| own.share == wanted) || wanted.fits(&others)
    }
}
