//! The share that a hold has in its lock, its limit and its weight, as far as that is certain.
//!
//! A request that names another limit or weight than the hold has may change it from when it is sent. Once it is known to
//! have been granted the hold has what it named, unless another request may have been carried out since. What was refused
//! has changed nothing. So at any moment there are a few shares that the hold may have, and what is certain is the largest of
//! their limits and the least of their weights.

use std::ops::Range;

use crate::history::{Answer, Ask, Micros, Op};

/// What is certain of the share of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// How much weight it tolerates at the most, its own included.
    pub most: usize,
    /// How much it counts at the least.
    pub weight: usize,
}

impl Share {
    /// What is certain of a hold that has either.
    fn or(self, other: Self) -> Self {
        Self { most: self.most.max(other.most), weight: self.weight.min(other.weight) }
    }

    /// Whether two holds with these shares cannot stand beside each other.
    pub(crate) fn excludes(self, other: Self) -> bool {
        self.weight.saturating_add(other.weight) > self.most.min(other.most)
    }
}

/// A share with the time in which it is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareSpan {
    /// What is certain.
    pub share: Share,
    /// From when on.
    pub from: Micros,
    /// Until when.
    pub to: Micros,
}

/// What is certain over all of these.
pub(crate) fn over(spans: &[ShareSpan], begin: Micros, end: Micros) -> Option<Share> {
    let spans = spans.iter().filter(|span| span.from < end && span.to > begin);
    spans.map(|span| span.share).reduce(Share::or)
}

/// What one token asked of a lock.
pub(crate) struct Requests<'a> {
    pub(crate) ops: &'a [(usize, &'a Op)],
    /// Faults over which what was granted may have been lost.
    pub(crate) losses: &'a [Range<Micros>],
}

impl Requests<'_> {
    /// What is certain of the hold with this fence, from moment to moment.
    pub(crate) fn spans(&self, fence: u64, begin: Micros, end: Micros) -> Vec<ShareSpan> {
        let acquires = self.ops.iter().filter(|(_, op)| matches!(op.ask, Ask::Acquire { .. }));
        let moments = acquires.flat_map(|(_, op)| [op.sent, op.answered]);
        let mut moments: Vec<Micros> = moments.filter(|moment| (begin..end).contains(moment)).collect();
        moments.extend([begin, end]);
        moments.sort_unstable();
        moments.dedup();
        let mut spans = Vec::<ShareSpan>::new();
        for (from, to) in moments.iter().copied().zip(moments.iter().copied().skip(1)) {
            let share = self.during(fence, from, to);
            match spans.last_mut().filter(|last| last.share == share) {
                Some(last) => last.to = to,
                None => spans.push(ShareSpan { share, from, to }),
            }
        }
        spans
    }

    /// What is certain of the hold with this fence all the time.
    pub(crate) fn during(&self, fence: u64, begin: Micros, end: Micros) -> Share {
        let (limits, weights) = self.possible(fence, begin, end);
        Share {
            most: limits.into_iter().max().unwrap_or(usize::MAX),
            weight: weights.into_iter().min().unwrap_or(1),
        }
    }

    /// Whether the hold with this fence has this limit, and this weight if there is one, and certainly no other.
    pub(crate) fn has_all_the_time(
        &self,
        fence: u64,
        limit: usize,
        weight: Option<usize>,
        begin: Micros,
        end: Micros,
    ) -> bool {
        let (limits, weights) = self.possible(fence, begin, end);
        limits.iter().all(|possible| *possible == limit)
            && weight.is_none_or(|weight| weights.iter().all(|possible| *possible == weight))
    }

    /// The limits and the weights that the hold with this fence may have.
    fn possible(&self, fence: u64, begin: Micros, end: Micros) -> (Vec<usize>, Vec<usize>) {
        let limit = |ask: &Ask| match ask {
            Ask::Acquire { limit, .. } => Some(limit.most()),
            _ => None,
        };
        let weight = |ask: &Ask| match ask {
            Ask::Acquire { weight, .. } => weight.map(usize::from),
            _ => None,
        };
        let (limits, _) = self.named(fence, begin, end, limit);
        let (mut weights, is_known) = self.named(fence, begin, end, weight);
        let is_newcomer = |op: &Op| matches!(op.ask, Ask::Acquire { weight: None, .. }) && !op.ask.is_inner();
        if !is_known && self.ops.iter().any(|(_, op)| is_newcomer(op) && op.sent < end) {
            weights.push(1);
        }
        (limits, weights)
    }

    /// What the hold may have of what requests name, and whether it is known to have had one of that before.
    ///
    /// What is not known to have been carried out may be so at any time. That goes for a wait that has ended with an error:
    /// its server may have become a replica, and have granted the lock before.
    fn named(
        &self,
        fence: u64,
        begin: Micros,
        end: Micros,
        name: impl Fn(&Ask) -> Option<usize>,
    ) -> (Vec<usize>, bool) {
        let may_be_lost = |op: &Op| self.losses.iter().any(|loss| loss.end >= op.sent && loss.start <= end);
        let naming: Vec<(&Op, usize)> = self
            .ops
            .iter()
            .filter(|(_, op)| op.answer != Answer::Null && op.sent < end)
            .filter_map(|(_, op)| Some((*op, name(&op.ask)?)))
            .collect();
        let known = naming.iter().filter(|(op, _)| {
            op.answer == Answer::Granted(fence) && op.answered <= begin && !may_be_lost(op)
        });
        let Some((known, named)) = known.max_by_key(|(op, _)| op.sent) else {
            return (naming.into_iter().map(|(_, named)| named).collect(), false);
        };
        let since = naming
            .iter()
            .filter(|(op, _)| op.may_fall_into(known.sent, end) || op.answer.is_open())
            .map(|(_, named)| *named);
        (since.chain([*named]).collect(), true)
    }
}
