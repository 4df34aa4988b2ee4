//! A lock: its holds, and what is asked of them and done to them.
//!
//! Every question takes the moment at which it is asked, and a hold whose lease has ended by then counts for nothing,
//! whether or not it has been taken off the lock yet. So no answer depends on how promptly ended leases are swept.

use alloc::vec::Vec;
use core::mem;

use crate::deadlines::DeadlineId;
use crate::fence::Fence;
use crate::hold::{Hold, Limit};
use crate::holds::{Holds, Kind};
use crate::session::ClientId;
use crate::time::Moment;
use crate::token::Token;

/// A lock: the holds on it.
///
/// A lock without holds is never stored: with the last hold its key goes.
#[derive(Debug, Default)]
pub struct Lock {
    holds: Holds,
    /// Where the end of its next lease is noted, while it is.
    pub deadline_id: Option<DeadlineId>,
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
    Wait,
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

    /// A lock with these holds. Whether they could stand together is for the caller to find out, see
    /// [`Holds::broken_rule`].
    pub fn from_holds(holds: Vec<Hold>) -> Self {
        Self { holds: Holds::from(holds), deadline_id: None }
    }

    /// Its holds in the order of their fences, ended leases among them.
    pub fn holds(&self) -> &Holds {
        &self.holds
    }

    /// The hold with this fence, whether or not its lease has ended.
    pub fn hold(&self, fence: Fence) -> Option<&Hold> {
        self.holds.get(fence)
    }

    /// The holds whose leases are running, the oldest grant first. Those whose leases have ended are passed over one by
    /// one.
    pub fn live_holds(&self, now: Moment) -> impl Iterator<Item = &Hold> {
        self.holds.iter().filter(move |hold| hold.is_live(now))
    }

    /// How many holds there are whose leases are running.
    pub fn live_count(&self, now: Moment) -> usize {
        self.holds.crowd(Some(now), &[]).len()
    }

    /// Whether no hold is left, so that the key has to go.
    pub fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }

    /// The hold that `token` owns, while its lease runs.
    pub fn hold_of(&self, token: &Token, now: Moment) -> Option<&Hold> {
        self.holds.find(token).filter(|hold| hold.is_live(now))
    }

    /// Judges a request. `limit` is the limit it names, if it names one: a newcomer without is exclusive, a holder
    /// without keeps what it has. `token` is `None` when it is still to be made, and so can hold nothing yet.
    pub fn judge(&self, token: Option<&Token>, limit: Option<Limit>, now: Moment) -> Verdict {
        if self.is_empty() {
            return Verdict::Grant;
        }
        let held = token.and_then(|token| self.hold_of(token, now));
        match (held, limit) {
            (None, limit) => {
                let all = self.holds.crowd(Some(now), &[]);
                let is_admitted = all.admits(limit.unwrap_or(Limit::EXCLUSIVE));
                if is_admitted { Verdict::Grant } else { Verdict::Wait }
            }
            (Some(_), None) => Verdict::Renew,
            (Some(held), Some(limit)) if limit == held.limit() => Verdict::Renew,
            (Some(held), Some(limit)) if self.tolerates(held.fence(), limit, now) => {
                if limit.most() < held.limit().most() { Verdict::Upgrade } else { Verdict::Renew }
            }
            _ => Verdict::Wait,
        }
    }

    /// Whether the hold with this fence could have this limit beside the others.
    pub fn tolerates(&self, fence: Fence, limit: Limit, now: Moment) -> bool {
        self.holds.crowd(Some(now), &[fence]).admits(limit)
    }

    /// Whether a hold with this limit could stand beside all others, ended leases among them, but for the hold with the fence
    /// `instead_of`.
    pub(crate) fn has_room_for(&self, limit: Limit, instead_of: Option<Fence>) -> bool {
        self.holds.crowd(None, instead_of.as_slice()).admits(limit)
    }

    /// Sets a hold of this lock to what was decided: in place of the one its token owned, or as one more.
    ///
    /// This judges nothing, so that a decision can be carried out wherever it arrives.
    pub fn put(&mut self, hold: Hold) {
        self.holds.insert(hold);
    }

    /// Sets holds of this lock to what another server decided, all of them or none.
    ///
    /// # Errors
    /// The rule that the lock would break ([`Holds::broken_rule`]): a snapshot with such a lock in it could not be
    /// loaded any more.
    pub fn adopt(&mut self, mut holds: Vec<Hold>) -> Result<(), &'static str> {
        holds.sort_by_key(Hold::fence);
        if let Some(rule) = self.holds.broken_rule(&holds) {
            return Err(rule);
        }
        holds.into_iter().for_each(|hold| self.put(hold));
        Ok(())
    }

    /// Sets the holds of this lock to what another server decided, in place of all that it has.
    ///
    /// # Errors
    /// As for [`Lock::adopt`]; the lock is as it was then.
    pub fn replace(&mut self, mut holds: Vec<Hold>) -> Result<(), &'static str> {
        holds.sort_by_key(Hold::fence);
        if let Some(rule) = Holds::default().broken_rule(&holds) {
            return Err(rule);
        }
        self.holds = Holds::from(holds);
        Ok(())
    }

    /// Grants the hold of `token` again, and returns it as it is now. Judges nothing.
    pub fn renew(&mut self, token: &Token, renewal: Renewal<'_>, now: Moment) -> Option<&Hold> {
        let fence = self.holds.find(token)?.fence();
        self.holds.change(fence, |hold| {
            // First this: with a session a lease counts as longer.
            hold.amend(renewal.limit, renewal.owner, renewal.session);
            match renewal.level {
                None => hold.extend(renewal.lease_ms, now),
                Some(level) => {
                    hold.prolong(renewal.lease_ms, now);
                    hold.set_level(level.max(hold.level()));
                }
            }
        })
    }

    /// Takes back what a renewal gave the hold with this fence, and returns it as it is now: it is no deeper than `level`,
    /// and has this limit again, unless others were let in meanwhile whom that would not tolerate.
    pub fn undo_renewal(&mut self, fence: Fence, limit: Limit, level: u16, now: Moment) -> Option<&Hold> {
        let limit = self.tolerates(fence, limit, now).then_some(limit);
        self.holds.change(fence, |hold| {
            hold.amend(limit, None, None);
            hold.set_level(level.min(hold.level()));
        })
    }

    /// Another server decides from now on: no connection here keeps a hold alive any more, and each ends with its lease.
    pub fn disown(&mut self) {
        for fence in self.holds.due(Kind::Kept, None, usize::MAX) {
            self.end_session(fence);
        }
    }

    /// The fences of the holds that connections keep alive and whose leases are due to be extended: at most `at_most`,
    /// the first due first.
    pub fn sessions_due(&self, now: Moment, at_most: usize) -> Vec<Fence> {
        self.holds.due(Kind::Kept, Some(now), at_most)
    }

    /// Sets the lease of the hold with this fence anew, as long as it was, and returns the hold as it is now.
    pub fn keep_alive(&mut self, fence: Fence, now: Moment) -> Option<&Hold> {
        self.holds.change(fence, |hold| hold.extend(hold.lease_ms(), now))
    }

    /// No connection keeps the hold with this fence alive any more: it ends with its lease. Returns it as it is now.
    pub fn end_session(&mut self, fence: Fence) -> Option<&Hold> {
        self.holds.change(fence, |hold| hold.end_session())
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
        match self.usable(token, now, obey) {
            Some(hold) if level <= hold.level() => {
                let fence = hold.fence();
                if level <= 1 {
                    self.end(fence);
                    return Released::Ended;
                }
                let left = if cfg!(feature = "broken-level") { level } else { level.saturating_sub(1) };
                self.holds.change(fence, |hold| hold.set_level(left));
                Released::LessDeep
            }
            _ => Released::NotHeld,
        }
    }

    /// Sets the lease of the token's hold to `lease_ms` from `now`, or to its own length again, and returns its fence.
    /// `None` when the token holds nothing: a lease that has ended cannot be revived, except where `obey` says that another
    /// server, on whose clock it had not ended, has decided so.
    pub fn extend(
        &mut self,
        token: &Token,
        lease_ms: Option<u64>,
        now: Moment,
        obey: impl FnOnce() -> bool,
    ) -> Option<Fence> {
        let fence = self.usable(token, now, obey)?.fence();
        self.holds
            .change(fence, |hold| hold.extend(lease_ms.unwrap_or(hold.lease_ms()), now))
            .map(Hold::fence)
    }

    /// The token's hold, if its lease runs or `obey` says that this is not to be asked.
    fn usable(&self, token: &Token, now: Moment, obey: impl FnOnce() -> bool) -> Option<&Hold> {
        self.holds.find(token).filter(|hold| hold.is_live(now) || obey())
    }

    /// Ends the hold with this fence. False when there is none.
    pub fn end(&mut self, fence: Fence) -> bool {
        self.holds.end(fence)
    }

    /// Takes the holds whose leases have ended off the lock, at most `at_most` of them, and returns their fences. Which
    /// ended first goes first.
    pub fn end_lapsed(&mut self, now: Moment, at_most: usize) -> Vec<Fence> {
        if self.next_due().is_none_or(|due| now < due) {
            return Vec::new();
        }
        let fences = self.holds.due(Kind::Lapsing, Some(now), at_most);
        fences.iter().for_each(|fence| drop(self.holds.remove(*fence)));
        fences
    }

    /// Ends the holds that `ends` names, after a look at each, and returns their fences, the oldest grant first.
    pub fn end_where(&mut self, ends: impl Fn(&Hold) -> bool) -> Vec<Fence> {
        let (ended, left): (Vec<Hold>, Vec<Hold>) = mem::take(&mut self.holds).into_iter().partition(ends);
        self.holds = Holds::from(left);
        ended.iter().map(Hold::fence).collect()
    }

    /// Ends all holds.
    pub(crate) fn clear(&mut self) {
        self.holds = Holds::default();
    }

    /// When something has to be done about the next of its leases, see [`Hold::due`].
    pub fn next_due(&self) -> Option<Moment> {
        self.holds.first_due()
    }

    /// Bytes allocated besides its own size.
    pub fn heap_size(&self) -> usize {
        self.holds.heap_size()
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
