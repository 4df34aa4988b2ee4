//! A lock: its holds, and what is asked of them and done to them.
//!
//! Every question takes the moment at which it is asked, and a hold whose lease has ended by then counts for nothing,
//! whether or not it has been taken off the lock yet. So no answer depends on how promptly ended leases are swept.

use alloc::vec::Vec;
use core::{mem, slice};

use crate::admission::Crowd;
use crate::deadlines::Slot;
use crate::fence::Fence;
use crate::hold::{Hold, Limit};
use crate::invariants;
use crate::queue::ClientId;
use crate::time::Moment;
use crate::token::Token;

/// A lock: the holds on it, in the order of their fences.
///
/// A lock without holds is never stored: with the last hold its key goes.
#[derive(Debug, Default)]
pub struct Lock {
    holds: Holds,
    /// Where the end of its next lease is noted, while it is.
    pub slot: Option<Slot>,
}

/// One hold in place, or any number apart: nearly every lock has one.
#[derive(Debug)]
enum Holds {
    One(Hold),
    Many(Vec<Hold>),
}

impl Default for Holds {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

/// What the rule of admission says of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It gets a hold of its own.
    Grant,
    /// Its token holds the lock already: that hold is granted again, with the limit it has or a larger one.
    Renew,
    /// Its token holds the lock already, and may have the smaller limit that it names.
    Upgrade,
    /// Not now.
    Refuse,
}

impl Verdict {
    /// Whether it gives the token more than it has: a hold, or a limit that leaves less to others.
    pub fn gives_more(self) -> bool {
        matches!(self, Self::Grant | Self::Upgrade)
    }
}

/// What a retry asks for: the lease to begin anew, and what it names besides. What it does not name stays.
#[derive(Clone, Copy, Debug)]
pub struct Renewal<'a> {
    /// How long the lease is to be, in milliseconds.
    pub lease_ms: u64,
    /// Another limit.
    pub limit: Option<Limit>,
    /// Another label.
    pub owner: Option<&'a [u8]>,
    /// The connection that is to keep the hold alive.
    pub session: Option<ClientId>,
    /// How deep the caller is, if it says so. The hold is at least as deep from now on, and its lease no shorter than what
    /// is left of it.
    pub level: Option<u16>,
}

/// What came of giving a lock back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Released {
    /// The token held nothing, or was not so deep.
    NotHeld,
    /// A level was given back, and the hold stays, less deep.
    LessDeep,
    /// The hold ended.
    Ended,
}

impl Lock {
    /// A lock that nobody holds, to be given its holds.
    pub fn new() -> Self {
        Self::default()
    }

    /// A lock with these holds, which stand in the order of their fences. Whether they could stand together is for the
    /// caller to find out, see [`invariants`].
    pub fn from_holds(mut holds: Vec<Hold>) -> Self {
        let holds = match holds.pop() {
            Some(only) if holds.is_empty() => Holds::One(only),
            last => {
                holds.extend(last);
                Holds::Many(holds)
            }
        };
        Self { holds, slot: None }
    }

    /// Its holds in the order of their fences, ended leases among them.
    pub fn holds(&self) -> &[Hold] {
        match &self.holds {
            Holds::One(hold) => slice::from_ref(hold),
            Holds::Many(holds) => holds,
        }
    }

    /// The holds whose leases are running.
    pub fn live_holds(&self, now: Moment) -> impl Iterator<Item = &Hold> {
        self.holds().iter().filter(move |hold| hold.is_live(now))
    }

    /// Whether no hold is left, so that the key has to go.
    pub fn is_empty(&self) -> bool {
        self.holds().is_empty()
    }

    /// The hold that `token` owns, while its lease runs.
    pub fn hold_of(&self, token: &Token, now: Moment) -> Option<&Hold> {
        self.live_holds(now).find(|hold| hold.is_owned_by(token))
    }

    /// Judges a request. `limit` is the limit it names, if it names one: a newcomer without is exclusive, a holder
    /// without keeps what it has. `token` is `None` when it is still to be made, and so can hold nothing yet.
    pub fn judge(&self, token: Option<&Token>, limit: Option<Limit>, now: Moment) -> Verdict {
        let held = token.and_then(|token| self.hold_of(token, now));
        let crowd = || self.live_holds(now).map(Hold::limit).collect::<Crowd>();
        match (held, limit) {
            (None, limit) if crowd().admits(limit.unwrap_or(Limit::EXCLUSIVE)) => Verdict::Grant,
            (Some(_), None) => Verdict::Renew,
            (Some(held), Some(limit)) if limit == held.limit() => Verdict::Renew,
            (Some(held), Some(limit)) if self.tolerates(held.fence(), limit, now) => {
                if limit.most() < held.limit().most() { Verdict::Upgrade } else { Verdict::Renew }
            }
            _ => Verdict::Refuse,
        }
    }

    /// Whether the hold with this fence could have this limit beside the others.
    pub(crate) fn tolerates(&self, fence: Fence, limit: Limit, now: Moment) -> bool {
        let others = self.live_holds(now).filter(|hold| hold.fence() != fence);
        others.map(Hold::limit).collect::<Crowd>().admits(limit)
    }

    /// Sets a hold of this lock to what was decided: in place of the one its token owned, or as one more.
    ///
    /// This judges nothing, so that a decision can be carried out wherever it arrives.
    pub fn put(&mut self, hold: Hold) {
        let token = hold.token();
        self.end_where(|old| old.is_owned_by(&token));
        match &mut self.holds {
            Holds::Many(holds) if holds.is_empty() => self.holds = Holds::One(hold),
            Holds::Many(holds) => {
                let place = holds.partition_point(|old| old.fence() < hold.fence());
                holds.insert(place, hold);
            }
            Holds::One(_) => {
                if let Holds::One(first) = mem::take(&mut self.holds) {
                    let mut holds = Vec::from([first, hold]);
                    holds.sort_by_key(Hold::fence);
                    self.holds = Holds::Many(holds);
                }
            }
        }
        invariants::check_lock(self);
    }

    /// Sets holds of this lock to what another server decided, all of them or none.
    ///
    /// # Errors
    /// The rule that the lock would break ([`invariants::broken_rule`]): a snapshot with such a lock in it could not be
    /// loaded any more.
    pub fn adopt(&mut self, mut holds: Vec<Hold>) -> Result<(), &'static str> {
        holds.sort_by_key(Hold::fence);
        let mut tokens: Vec<Token> = holds.iter().map(Hold::token).collect();
        tokens.sort_unstable();
        let stays = |old: &&Hold| tokens.binary_search(&old.token()).is_err();
        let mut all: Vec<&Hold> = self.holds().iter().filter(stays).chain(&holds).collect();
        all.sort_by_key(|hold| hold.fence());
        if let Some(rule) = invariants::broken_rule(all.into_iter()) {
            return Err(rule);
        }
        holds.into_iter().for_each(|hold| self.put(hold));
        Ok(())
    }

    /// Grants the hold of `token` again, and returns it as it is now. Judges nothing.
    pub fn renew(&mut self, token: &Token, renewal: Renewal<'_>, now: Moment) -> Option<&Hold> {
        let hold = self.holds_mut().iter_mut().find(|hold| hold.is_owned_by(token))?;
        match renewal.level {
            None => hold.extend(renewal.lease_ms, now),
            Some(level) => {
                hold.prolong(renewal.lease_ms, now);
                hold.set_level(level.max(hold.level()));
            }
        }
        hold.amend(renewal.limit, renewal.owner, renewal.session);
        Some(hold)
    }

    /// The hold with this fence, to be changed.
    pub(crate) fn hold_mut(&mut self, fence: Fence) -> Option<&mut Hold> {
        self.holds_mut().iter_mut().find(|hold| hold.fence() == fence)
    }

    /// Another server decides from now on: no connection here keeps a hold alive any more, and each ends with its lease.
    pub fn disown(&mut self) {
        self.holds_mut().iter_mut().filter(|hold| hold.session().is_some()).for_each(Hold::untie);
    }

    /// The holds that connections keep alive and whose leases are due to be extended.
    pub(crate) fn sessions_due(&mut self, now: Moment) -> impl Iterator<Item = &mut Hold> {
        self.holds_mut().iter_mut().filter(move |hold| hold.session().is_some() && hold.due() <= now)
    }

    /// Gives back `level` of the token's hold and what is above it: all of the hold, for 1. A hold that is not so deep
    /// stays as it is. `obey` is asked when the lease has ended already: a server that carries out what another decided
    /// gives it back all the same.
    pub fn release(
        &mut self,
        token: &Token,
        level: u16,
        now: Moment,
        obey: impl FnOnce() -> bool,
    ) -> Released {
        let Some(hold) = self.holds_mut().iter_mut().find(|hold| hold.is_owned_by(token)) else {
            return Released::NotHeld;
        };
        if !hold.is_live(now) && !obey() {
            return Released::NotHeld;
        }
        if level > hold.level() {
            return Released::NotHeld;
        }
        if level > 1 {
            hold.set_level(level.saturating_sub(1));
            return Released::LessDeep;
        }
        let fence = hold.fence();
        self.end(fence);
        Released::Ended
    }

    /// Sets the lease of the token's hold to `lease_ms` from `now`, or to its own length again. False when the token
    /// holds nothing: a lease that has ended cannot be revived, except where `obey` says that another server,
    /// on whose clock it had not ended, has decided so.
    pub fn extend(
        &mut self,
        token: &Token,
        lease_ms: Option<u64>,
        now: Moment,
        obey: impl FnOnce() -> bool,
    ) -> bool {
        match self.holds_mut().iter_mut().find(|hold| hold.is_owned_by(token)) {
            Some(hold) if hold.is_live(now) || obey() => {
                hold.extend(lease_ms.unwrap_or(hold.lease_ms()), now);
                true
            }
            _ => false,
        }
    }

    /// Ends the hold with this fence. False when there is none.
    pub fn end(&mut self, fence: Fence) -> bool {
        self.end_where(|hold| hold.fence() == fence)
    }

    /// Takes the holds whose leases have ended off the lock, the oldest grants first and at most `at_most` of them,
    /// and returns their fences.
    pub fn end_lapsed(&mut self, now: Moment, at_most: usize) -> Vec<Fence> {
        self.end_first(at_most, |hold| !hold.is_live(now))
    }

    /// Ends the holds that `ends` names, the oldest grants first and at most `at_most` of them, and returns their fences.
    pub(crate) fn end_first(&mut self, at_most: usize, ends: impl Fn(&Hold) -> bool) -> Vec<Fence> {
        let ended = self.holds().iter().filter(|hold| ends(hold));
        let fences: Vec<Fence> = ended.take(at_most).map(Hold::fence).collect();
        if let Some(last) = fences.last() {
            // Holds stand in the order of their fences, so all those named up to the last are those taken.
            self.end_where(|hold| ends(hold) && hold.fence() <= *last);
        }
        fences
    }

    /// When something has to be done about the next of its leases, see [`Hold::due`].
    pub fn next_due(&self) -> Option<Moment> {
        self.holds().iter().map(Hold::due).min()
    }

    /// Bytes allocated besides its own size.
    pub fn heap_size(&self) -> usize {
        let apart = match &self.holds {
            Holds::One(_) => 0,
            Holds::Many(holds) => holds.capacity().saturating_mul(size_of::<Hold>()),
        };
        self.holds().iter().fold(apart, |sum, hold| sum.saturating_add(hold.heap_size()))
    }

    fn holds_mut(&mut self) -> &mut [Hold] {
        match &mut self.holds {
            Holds::One(hold) => slice::from_mut(hold),
            Holds::Many(holds) => holds,
        }
    }

    /// Ends the holds that `ends` names; true when there was one. A lock that is left with one hold keeps it in
    /// place again.
    pub fn end_where(&mut self, ends: impl Fn(&Hold) -> bool) -> bool {
        match &mut self.holds {
            Holds::One(hold) => {
                let ended = ends(hold);
                if ended {
                    self.holds = Holds::default();
                }
                ended
            }
            Holds::Many(holds) => {
                let before = holds.len();
                holds.retain(|hold| !ends(hold));
                let ended = holds.len() < before;
                if holds.len() == 1
                    && let Some(last) = holds.pop()
                {
                    self.holds = Holds::One(last);
                }
                ended
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_with_one_hold_fits_a_cache_line() {
        assert_eq!(size_of::<Lock>(), 64);
    }
}
