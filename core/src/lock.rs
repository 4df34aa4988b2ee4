//! A lock: its holds, and the operations on them.
//!
//! Every question takes the moment at which it is asked. A hold whose lease has ended by then counts for nothing, also
//! if it has not been removed yet. So no answer depends on how soon ended leases are removed.

use alloc::vec::Vec;
use core::mem;

use crate::deadlines::DeadlineId;
use crate::fence::Fence;
use crate::hold::Hold;
use crate::holds::{Holds, Kind};
use crate::request::Acquire;
use crate::session::{ClientId, Session};
use crate::share::{AskedShare, Share};
use crate::time::Moment;
use crate::token::Token;

/// A lock: its holds.
///
/// A lock without holds is never stored. With the last hold its key is deleted.
#[derive(Debug, Default)]
pub struct Lock {
    holds: Holds,
    /// Its entry among the deadlines, if it has one.
    pub deadline_id: Option<DeadlineId>,
    /// How many of its holds the table has counted, see [`crate::Table::holds`].
    pub(crate) counted: u32,
}

/// What the rule of admission says of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is granted a new hold.
    Grant,
    /// Its token already holds the lock. That hold is granted again, with the share that it has or less.
    Renew,
    /// Its token already holds the lock, and may have the smaller limit or the larger weight that it names.
    Upgrade,
    /// It has to wait.
    Wait,
}

impl Verdict {
    /// Whether it gives the token more than it has: a new hold, a smaller limit, or more weight.
    pub fn gives_more(self) -> bool {
        matches!(self, Self::Grant | Self::Upgrade)
    }
}

/// What a retry asks for: a lease that begins anew, and changes of what it names. What it does not name stays.
#[derive(Clone, Copy, Debug)]
pub struct Renewal<'a> {
    /// How long the lease is to be, in milliseconds.
    pub lease_ms: u64,
    /// Another share, or parts of one.
    pub asked: AskedShare,
    /// Another label.
    pub owner: Option<&'a [u8]>,
    /// What is to keep the hold alive, if a connection is.
    pub session: Option<Session>,
    /// How deep the caller is, if it says so. The hold is at least as deep from now on.
    pub level: Option<u16>,
    /// Whether the lease is no shorter than what is left of it.
    pub prolongs: bool,
}

impl<'a> Renewal<'a> {
    /// What this request asks for.
    pub(crate) fn of(request: &Acquire<'a>, session: Option<Session>) -> Self {
        Self {
            lease_ms: request.lease_ms,
            asked: request.asked,
            owner: request.owner,
            session,
            level: request.level,
            prolongs: request.level.is_some(),
        }
    }
}

/// The result of a release.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Released {
    /// The token held nothing, or was not so deep.
    NotHeld,
    /// A level was released, and the hold stays.
    LessDeep,
    /// The hold ended.
    Ended {
        /// Since when it was held.
        held_since: Moment,
    },
}

impl Lock {
    /// A lock without holds.
    pub fn new() -> Self {
        Self::default()
    }

    /// A lock with these holds. The caller has checked that it breaks no rule, see [`Holds::broken_rule`].
    pub fn from_holds(holds: Vec<Hold>) -> Self {
        Self { holds: Holds::from(holds), ..Self::default() }
    }

    /// Its holds in the order of their fences, ended leases among them.
    pub fn holds(&self) -> &Holds {
        &self.holds
    }

    /// The hold with this fence, whether or not its lease has ended.
    pub fn hold(&self, fence: Fence) -> Option<&Hold> {
        self.holds.get(fence)
    }

    /// The live holds, the oldest grant first. It walks over the others one by one.
    pub fn live_holds(&self, now: Moment) -> impl Iterator<Item = &Hold> {
        self.holds.iter().filter(move |hold| hold.is_live(now))
    }

    /// The holds that connections keep alive: which connection, and the fence of the hold.
    pub(crate) fn kept(&self) -> impl Iterator<Item = (ClientId, Fence)> {
        self.holds.iter().filter_map(|hold| Some((hold.session()?.client, hold.fence())))
    }

    /// The number of live holds.
    pub fn live_count(&self, now: Moment) -> usize {
        self.holds.crowd(Some(now), &[]).len()
    }

    /// Whether no hold is left, so that the key must be deleted.
    pub fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }

    /// The hold of `token`, if it is live.
    pub fn hold_of(&self, token: &Token, now: Moment) -> Option<&Hold> {
        self.holds.find(token).filter(|hold| hold.is_live(now))
    }

    /// Judges a request. `asked` is what it names of its share, and is possible ([`AskedShare::check`]). `token` is `None` if the server is still to make it, so that
    /// it holds nothing yet.
    pub fn judge(&self, token: Option<&Token>, asked: AskedShare, now: Moment) -> Verdict {
        if self.is_empty() {
            return Verdict::Grant;
        }
        let held = token.and_then(|token| self.hold_of(token, now));
        let Some(held) = held else {
            let is_admitted = self.holds.crowd(Some(now), &[]).admits(asked.of_newcomer());
            return if is_admitted { Verdict::Grant } else { Verdict::Wait };
        };
        let (has, wants) = (held.share(), asked.beside(held.share()));
        if wants == has {
            Verdict::Renew
        } else if !self.tolerates(held.fence(), wants, now) {
            Verdict::Wait
        } else if wants.is_more_than(has) {
            Verdict::Upgrade
        } else {
            Verdict::Renew
        }
    }

    /// Whether the rule of admission allows the hold with this fence to have this share.
    pub fn tolerates(&self, fence: Fence, share: Share, now: Moment) -> bool {
        self.holds.crowd(Some(now), &[fence]).admits(share)
    }

    /// Whether the rule of admission allows a hold with this share if ended holds count too, without the hold with the
    /// fence `instead_of`.
    pub(crate) fn has_room_for(&self, share: Share, instead_of: Option<Fence>) -> bool {
        self.holds.crowd(None, instead_of.as_slice()).admits(share)
    }

    /// Inserts a hold, or replaces the hold of its token. It judges nothing.
    pub fn put(&mut self, hold: Hold) {
        self.holds.insert(hold);
    }

    /// Inserts or replaces holds as another server has decided, all of them or none.
    ///
    /// # Errors
    /// The rule that the lock would break ([`Holds::broken_rule`]). A snapshot with such a lock could not be loaded.
    pub fn adopt(&mut self, mut holds: Vec<Hold>) -> Result<(), &'static str> {
        holds.sort_by_key(Hold::fence);
        if let Some(rule) = self.holds.broken_rule(&holds) {
            return Err(rule);
        }
        holds.into_iter().for_each(|hold| self.put(hold));
        Ok(())
    }

    /// Replaces all holds as another server has decided. Returns the lock as it was.
    ///
    /// # Errors
    /// As for [`Lock::adopt`]. The lock has not changed then.
    pub fn replace(&mut self, mut holds: Vec<Hold>) -> Result<Self, &'static str> {
        holds.sort_by_key(Hold::fence);
        if let Some(rule) = Holds::default().broken_rule(&holds) {
            return Err(rule);
        }
        let before = mem::replace(&mut self.holds, Holds::from(holds));
        Ok(Self { holds: before, ..Self::default() })
    }

    /// Grants the hold of `token` again, and returns it as it is now. It judges nothing.
    pub fn renew(&mut self, token: &Token, renewal: Renewal<'_>, now: Moment) -> Option<&Hold> {
        let fence = self.holds.find(token)?.fence();
        self.holds.change(fence, |hold| {
            // This comes first: a session has a minimum for the lease.
            let share = renewal.asked.beside(hold.share());
            hold.amend(Some(share), renewal.owner, renewal.session);
            if renewal.prolongs {
                hold.prolong(renewal.lease_ms, now);
            } else {
                hold.extend(renewal.lease_ms, now);
            }
            if let Some(level) = renewal.level {
                hold.set_level(level.max(hold.level()));
            }
            hold.claim();
        })
    }

    /// Undoes a renewal of the hold with this fence, and returns it as it is now. Its level is at most `level`, and it
    /// has `share` again, unless other holds were granted meanwhile beside which it may not.
    pub fn undo_renewal(&mut self, fence: Fence, share: Share, level: u16, now: Moment) -> Option<&Hold> {
        let share = self.tolerates(fence, share, now).then_some(share);
        self.holds.change(fence, |hold| {
            hold.amend(share, None, None);
            hold.set_level(level.min(hold.level()));
        })
    }

    /// Leaves the hold with this fence to be claimed within `claim_ms` (G13), and returns it as it is now. `known` is
    /// when its lease ended, as far as its token knows, if it held the lock before. `None` if the hold has ended.
    pub(crate) fn leave_to_claim(
        &mut self,
        fence: Fence,
        claim_ms: u64,
        known: Option<Moment>,
        now: Moment,
    ) -> Option<&Hold> {
        self.hold(fence).filter(|hold| hold.is_live(now))?;
        self.holds.change(fence, |hold| hold.leave_to_claim(claim_ms, known, now))
    }

    /// This server is no master any more: no connection keeps a hold alive, and each hold ends with its lease.
    pub fn disown(&mut self) {
        for fence in self.holds.due(Kind::Kept, None, usize::MAX) {
            self.end_session(fence);
        }
    }

    /// The fences of the holds that connections keep alive and whose leases must be extended now: at most `at_most`,
    /// the first due first.
    pub fn sessions_due(&self, now: Moment, at_most: usize) -> Vec<Fence> {
        self.holds.due(Kind::Kept, Some(now), at_most)
    }

    /// Begins the lease of the hold with this fence anew, and returns the hold as it is now.
    pub fn keep_alive(&mut self, fence: Fence, now: Moment) -> Option<&Hold> {
        self.holds.change(fence, |hold| hold.extend(hold.lease_ms(), now))
    }

    /// No connection keeps the hold with this fence alive any more. It ends with its lease. Returns it as it is now.
    pub fn end_session(&mut self, fence: Fence) -> Option<&Hold> {
        self.holds.change(fence, |hold| hold.end_session())
    }

    /// The connection that kept the hold with this fence alive has closed: the hold stays for its delay, if it has one.
    /// Returns it as it is now. `None` if it has none, and is as it was.
    pub(crate) fn stay_after_close(&mut self, fence: Fence, now: Moment) -> Option<&Hold> {
        self.hold(fence)?.end_after_close(now)?;
        self.holds.change(fence, |hold| hold.stay_after_close(now))
    }

    /// Releases `level` of the token's hold and all levels above it. Level 1 ends the hold. A hold with a lower level
    /// stays as it is. `obey` is called if the lease has ended: it is true if another server has decided the release,
    /// and then the hold is released nevertheless.
    pub fn release(
        &mut self,
        token: &Token,
        level: u16,
        now: Moment,
        obey: impl FnOnce() -> bool,
    ) -> Released {
        match self.usable(token, now, obey) {
            Some(hold) if level <= hold.level() => {
                let (fence, held_since) = (hold.fence(), hold.granted_at());
                if level <= 1 {
                    self.end(fence);
                    return Released::Ended { held_since };
                }
                let left = if cfg!(feature = "broken-level") { level } else { level.saturating_sub(1) };
                self.holds.change(fence, |hold| hold.set_level(left));
                Released::LessDeep
            }
            _ => Released::NotHeld,
        }
    }

    /// Begins the lease of the token's hold anew, with `lease_ms` or its own length, and returns its fence. `None` if
    /// the token holds nothing. A lease that has ended cannot be revived, unless `obey` says that another server has
    /// decided so, on whose clock it had not ended.
    pub fn extend(
        &mut self,
        token: &Token,
        lease_ms: Option<u64>,
        now: Moment,
        obey: impl FnOnce() -> bool,
    ) -> Option<Fence> {
        let fence = self.usable(token, now, obey)?.fence();
        let extended = self.holds.change(fence, |hold| {
            hold.extend(lease_ms.unwrap_or(hold.lease_ms()), now);
            hold.claim();
        });
        extended.map(Hold::fence)
    }

    /// The token's hold, if it is live or `obey` is true.
    fn usable(&self, token: &Token, now: Moment, obey: impl FnOnce() -> bool) -> Option<&Hold> {
        self.holds.find(token).filter(|hold| hold.is_live(now) || obey())
    }

    /// Ends the hold with this fence. False if there is none.
    pub fn end(&mut self, fence: Fence) -> bool {
        self.holds.end(fence)
    }

    /// Ends the hold with this fence and returns it.
    pub(crate) fn take(&mut self, fence: Fence) -> Option<Hold> {
        self.holds.remove(fence)
    }

    /// The fence of the token's hold if its lease has ended and it has not been taken off the lock yet.
    pub(crate) fn left_over(&self, token: &Token, now: Moment) -> Option<Fence> {
        self.holds.find(token).filter(|hold| !hold.is_live(now)).map(Hold::fence)
    }

    /// Takes the holds whose leases have ended off the lock, at most `at_most` of them, and returns them. Which ended first
    /// goes first.
    pub fn end_lapsed(&mut self, now: Moment, at_most: usize) -> Vec<Hold> {
        if self.next_due().is_none_or(|due| now < due) {
            return Vec::new();
        }
        let fences = self.holds.due(Kind::Lapsing, Some(now), at_most);
        fences.into_iter().filter_map(|fence| self.holds.remove(fence)).collect()
    }

    /// Ends the holds for which `ends` is true, and returns them, the oldest grant first. It looks at every hold.
    pub fn end_where(&mut self, ends: impl Fn(&Hold) -> bool) -> Vec<Hold> {
        let (ended, left): (Vec<Hold>, Vec<Hold>) = mem::take(&mut self.holds).into_iter().partition(ends);
        self.holds = Holds::from(left);
        ended
    }

    /// When the lock is due, see [`Hold::due`].
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
