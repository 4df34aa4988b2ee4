//! The rule of admission, as tests need it to say who holds a lock and who waits for it.

use std::collections::VecDeque;

use super::Random;

/// The most weight that a holder tolerates, and its own.
pub(crate) type Share = (usize, usize);

/// Who it is, and its share.
pub(crate) type Sharer = (usize, Share);

/// A share at random, and the words that ask for it.
pub(crate) fn any_share(random: &mut Random) -> (Share, &'static str) {
    const ANY: usize = usize::MAX;
    *random.pick(&[
        ((1, 1), ""),
        ((2, 1), "LIMIT 2"),
        ((3, 1), "LIMIT 3"),
        ((3, 2), "LIMIT 3 WEIGHT 2"),
        ((5, 3), "WEIGHT 3 LIMIT 5"),
        ((5, 5), "LIMIT 5 WEIGHT 5"),
        ((ANY, 1), "SHARED"),
        ((ANY, 1), "SHARED"),
        ((ANY, 4), "SHARED WEIGHT 4"),
    ])
}

/// Whether one more with this share may hold the lock beside those who do.
pub(crate) fn fits(holding: &[Sharer], share: Share) -> bool {
    let all = || holding.iter().map(|(_, share)| *share).chain([share]);
    let weight: usize = all().map(|(_, weight)| weight).sum();
    all().all(|(limit, _)| weight <= limit)
}

/// Moves those from the queue to the holders whose turn it is. Returns who they are.
pub(crate) fn enter(holding: &mut Vec<Sharer>, queue: &mut VecDeque<Sharer>) -> Vec<usize> {
    let mut entered = Vec::new();
    while let Some((who, share)) = queue.front().copied().filter(|(_, share)| fits(holding, *share)) {
        queue.pop_front();
        holding.push((who, share));
        entered.push(who);
    }
    entered
}
