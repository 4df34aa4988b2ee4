//! Many holds, found by fence, by token, and by when they are due.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Values;
use alloc::vec::Vec;

use super::schedule::{Kind, Schedule};
use crate::admission::Crowd;
use crate::fence::Fence;
use crate::hold::{Hold, HoldMut};
use crate::time::Moment;
use crate::token::Token;

/// Holds by fence, by token, and by when they are due. No two have one fence or one token.
///
/// The three always change together. No method lends a hold in a way that could make them disagree.
#[derive(Debug, Default)]
pub(super) struct Index {
    by_fence: BTreeMap<Fence, Hold>,
    by_token: BTreeMap<Token, Fence>,
    schedule: Schedule,
}

impl Index {
    /// How many holds there are.
    pub(super) fn len(&self) -> usize {
        self.by_fence.len()
    }

    /// In the order of their fences.
    pub(super) fn iter(&self) -> Values<'_, Fence, Hold> {
        self.by_fence.values()
    }

    /// In the order of their fences.
    pub(super) fn into_holds(self) -> Vec<Hold> {
        self.by_fence.into_values().collect()
    }

    /// The hold with this fence.
    pub(super) fn get(&self, fence: Fence) -> Option<&Hold> {
        self.by_fence.get(&fence)
    }

    /// The hold of this token.
    pub(super) fn find(&self, token: &Token) -> Option<&Hold> {
        self.get(*self.by_token.get(token)?)
    }

    /// See [`super::Holds::crowd`].
    pub(super) fn crowd(&self, now: Option<Moment>, without: &[Fence]) -> Crowd {
        self.schedule.crowd(now, without.iter().filter_map(|fence| self.get(*fence)))
    }

    /// When the first is due.
    pub(super) fn first_due(&self) -> Option<Moment> {
        self.schedule.first_due()
    }

    /// See [`super::Holds::due`].
    pub(super) fn due(&self, kind: Kind, now: Option<Moment>, at_most: usize) -> Vec<Fence> {
        self.schedule.due(kind, now, at_most)
    }

    /// Inserts a hold. No other may have its fence or its token.
    pub(super) fn insert(&mut self, hold: Hold) {
        let fence = hold.fence();
        self.by_token.insert(hold.token(), fence);
        self.schedule.insert(&hold);
        self.by_fence.insert(fence, hold);
        debug_assert!(self.agrees_on(fence), "{fence:?} stands in every order once");
    }

    /// Removes the hold with this fence.
    pub(super) fn remove(&mut self, fence: Fence) -> Option<Hold> {
        let hold = self.by_fence.remove(&fence)?;
        self.by_token.remove(&hold.token());
        self.schedule.remove(&hold);
        debug_assert!(!self.schedule.contains(&hold) && self.is_even(), "{fence:?} is gone from every order");
        Some(hold)
    }

    /// Changes the hold with this fence, and returns it as it is now.
    pub(super) fn change(&mut self, fence: Fence, change: impl FnOnce(&mut HoldMut<'_>)) -> Option<&Hold> {
        let hold = self.by_fence.get_mut(&fence)?;
        self.schedule.remove(hold);
        change(&mut hold.lend());
        self.schedule.insert(hold);
        debug_assert!(self.schedule.contains(hold), "{fence:?} stands in the schedule as it is now");
        Some(hold)
    }

    /// An estimate of the bytes allocated, including those of the holds.
    pub(super) fn heap_size(&self) -> usize {
        // A node of these maps has room for eleven entries. If new ones are appended at the end, it is left with six.
        let per_hold = size_of::<(Fence, Hold)>().saturating_add(size_of::<(Token, Fence)>());
        let maps = self.len().saturating_mul(per_hold).saturating_mul(11) / 6;
        let tokens = self.by_token.keys().map(Token::heap_size);
        let holds = self.iter().map(Hold::heap_size);
        let schedule = self.schedule.heap_size();
        tokens.chain(holds).fold(maps.saturating_add(schedule), usize::saturating_add)
    }

    /// Whether all three have the hold with this fence as it is, and are of the same length.
    fn agrees_on(&self, fence: Fence) -> bool {
        self.get(fence).is_some_and(|hold| {
            hold.fence() == fence
                && self.by_token.get(&hold.token()) == Some(&fence)
                && self.schedule.contains(hold)
        }) && self.is_even()
    }

    fn is_even(&self) -> bool {
        let len = self.by_fence.len();
        self.by_token.len() == len && self.schedule.crowd(None, []).len() == len
    }

    /// Whether all three have the same holds, and the sums are right.
    pub(super) fn is_consistent(&self) -> bool {
        self.schedule.is_consistent() && self.by_fence.keys().all(|fence| self.agrees_on(*fence))
    }
}

impl FromIterator<Hold> for Index {
    fn from_iter<I: IntoIterator<Item = Hold>>(holds: I) -> Self {
        let by_fence: BTreeMap<Fence, Hold> = holds.into_iter().map(|hold| (hold.fence(), hold)).collect();
        let by_token = by_fence.iter().map(|(fence, hold)| (hold.token(), *fence)).collect();
        let schedule = by_fence.values().collect();
        Self { by_fence, by_token, schedule }
    }
}
