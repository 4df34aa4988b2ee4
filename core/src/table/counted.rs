//! What is counted, for as long as this server decides; and which locks have left their keys, for some were removed and some
//! have only moved.

use alloc::vec::Vec;

use super::Table;
use crate::fence::Fence;
use crate::figures::{Figures, add};
use crate::hold::Hold;
use crate::key::{DbKey, OwnedDbKey};
use crate::lock::Lock;
use crate::outcome::Outcome;
use crate::time::Moment;

/// A lock that has left its key, with all that it held.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) key: OwnedDbKey,
    pub(super) oldest: Fence,
    pub(super) holds: u64,
}

impl Table {
    /// How often what has happened.
    pub fn figures(&self) -> Figures {
        Figures { removed: self.removed(), ..self.figures }
    }

    /// How many holds there are. Those whose leases have ended are among them until they are taken off their locks.
    pub fn holds(&self) -> u64 {
        self.deadlines.holds(None)
    }

    /// When the restart grace ends, if it lasts.
    pub fn grace_until(&self, grace_ms: u64) -> Option<Moment> {
        // A replica grants nothing at all.
        self.grace.until(grace_ms).filter(|_| self.decides)
    }

    /// Counts what a turn has come to.
    #[inline]
    pub(crate) fn count(&mut self, outcome: &Outcome) {
        if self.decides {
            self.figures.count(outcome);
        }
    }

    /// A wait has ended with its time.
    pub(crate) fn timed_out(&mut self) {
        if self.decides {
            add(&mut self.figures.timeouts, 1);
        }
    }

    /// A request that was to wait could not, and got null.
    pub fn turned_away(&mut self) {
        if self.decides {
            add(&mut self.figures.refusals, 1);
        }
    }

    /// The server has evicted this key.
    pub fn evicted(&mut self, key: DbKey<'_>) {
        if let Some(found) = self.leaving.iter().position(|left| left.key.as_key() == key) {
            let lock = self.leaving.swap_remove(found);
            add(&mut self.figures.evicted, lock.holds);
        }
    }

    /// The keys of the locks that have left them in this iteration, and have not arrived elsewhere.
    pub fn left(&self) -> Vec<OwnedDbKey> {
        self.leaving.iter().map(|left| left.key.clone()).collect()
    }

    /// Says which of [`Table::left`], in that order, another node of the cluster has. They were not removed.
    pub fn have_moved(&mut self, have: &[bool]) {
        let mut have = have.iter();
        let figures = &mut self.figures;
        self.leaving.retain(|left| {
            let has_moved = have.next().copied().unwrap_or(false);
            if has_moved {
                add(&mut figures.moved, left.holds);
            }
            !has_moved
        });
    }

    #[cold]
    pub(super) fn note_leaving(&mut self, key: DbKey<'_>, lock: &Lock) {
        if let Some(oldest) = lock.holds().iter().next().map(Hold::fence).filter(|_| self.decides) {
            let holds = u64::try_from(lock.holds().len()).unwrap_or(u64::MAX);
            self.leaving.push(Leaving { key: key.into(), oldest, holds });
        }
    }

    pub(super) fn removed(&self) -> u64 {
        self.leaving.iter().fold(self.figures.removed, |sum, lock| sum.saturating_add(lock.holds))
    }
}
