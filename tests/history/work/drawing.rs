//! Which piece of work a client does next: how it asks for which locks is drawn at random.

use lock_checker::Limit;

use super::{Job, Worker, tag_of};

impl Worker<'_> {
    pub(super) fn next_job(&mut self) -> Job {
        self.done += 1;
        let at = self.random.below(self.keys.len());
        let (limit, weight) = self.share(at);
        let lease_ms = *self.random.pick(self.leases_ms);
        let block_ms = match self.random.below(10) {
            0..3 => None,
            3 => Some(0),
            4..7 => Some(self.between(5, 60)),
            _ => Some(self.between(60, 800)),
        };
        // Some of them for less than it takes them to come again.
        let queue_ms = match self.random.below(12) {
            0..4 => Some(self.between(150, 600)),
            4 => Some(self.between(10, 60)),
            _ => None,
        };
        let slice_ms = self.one_in(2).then(|| self.between(20, 80));
        let block_ms = if queue_ms.is_some() { slice_ms } else { block_ms };
        let token = format!("{}-{}", self.name, self.done);
        let session = queue_ms.is_none() && self.one_in(5);
        let names_level = self.one_in(2);
        let key = self.keys[at].clone();
        let others = self.others(at);
        Job { key, others, token, limit, weight, lease_ms, names_level, block_ms, queue_ms, session }
    }

    /// One or two other locks, of the same slot in a cluster, for some jobs.
    fn others(&mut self, at: usize) -> Vec<String> {
        if !self.abilities.several || !self.one_in(4) {
            return Vec::new();
        }
        let is_possible =
            |other: &usize| *other != at && tag_of(&self.keys[*other]) == tag_of(&self.keys[at]);
        let possible: Vec<usize> = (0..self.keys.len()).filter(is_possible).collect();
        let mut others = Vec::new();
        for _ in 0..possible.len().min(1 + self.random.below(2)) {
            let other = &self.keys[*self.random.pick(&possible)];
            // Now and then one is named twice.
            if !others.contains(other) || self.one_in(4) {
                others.push(other.clone());
            }
        }
        others
    }

    /// Of each three locks, the first is a mutex, the second is read and written, the third has room for several.
    pub(super) fn share(&mut self, at: usize) -> (Limit, Option<u16>) {
        match (at % 3, self.random.below(10)) {
            (1, 0..7) | (2, 0) => (Limit::Shared, self.weight(3)),
            (2, 1..4) => (Limit::Most(2), self.weight(2)),
            (2, 4..8) => (Limit::Most(4), self.weight(3)),
            _ => (Limit::EXCLUSIVE, self.weight(1)),
        }
    }

    fn weight(&mut self, most: usize) -> Option<u16> {
        self.one_in(2).then(|| u16::try_from(1 + self.random.below(most)).unwrap())
    }
}
