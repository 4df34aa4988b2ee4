//! The rule of admission, as tests need it to say who holds a lock and who waits for it.

use std::collections::VecDeque;

use super::Random;

/// Who it is, and the most holders that it tolerates.
pub(crate) type Limited = (usize, usize);

/// A limit at random, and the words that ask for it.
pub(crate) fn any_limit(random: &mut Random) -> (usize, &'static str) {
    *random.pick(&[(1, ""), (2, "LIMIT 2"), (3, "LIMIT 3"), (usize::MAX, "SHARED"), (usize::MAX, "SHARED")])
}

/// Whether one more with this limit may hold the lock beside those who do.
pub(crate) fn fits(holding: &[Limited], limit: usize) -> bool {
    let smallest = holding.iter().map(|(_, limit)| *limit).fold(limit, usize::min);
    holding.len() < smallest
}

/// Moves those from the queue to the holders whose turn it is. Returns who they are.
pub(crate) fn enter(holding: &mut Vec<Limited>, queue: &mut VecDeque<Limited>) -> Vec<usize> {
    let mut entered = Vec::new();
    while let Some((who, limit)) = queue.front().copied().filter(|(_, limit)| fits(holding, *limit)) {
        queue.pop_front();
        holding.push((who, limit));
        entered.push(who);
    }
    entered
}
