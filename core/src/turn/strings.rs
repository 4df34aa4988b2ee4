//! A turn at a string that counts as a lock (G14). It is exclusive: who waits has to wait until it is gone.

use smallvec::SmallVec;

use super::Turn;
use crate::fence::Fence;
use crate::outcome::{Acquired, Cause, Change, Denied, WaitOptions};
use crate::refusal::Refusal;
use crate::request::Acquire;
use crate::string_hold::StringHold;
use crate::token::Token;

impl Turn<'_> {
    /// Whether a string stands under the key, and counts as a lock.
    pub(super) fn is_at_string(&self) -> bool {
        self.string.is_some()
    }

    /// Whether the token is the value of that string.
    pub(super) fn owns_string(&self, token: &Token) -> bool {
        self.string.as_ref().is_some_and(|string| string.is_owned_by(token))
    }

    /// [`Turn::acquire`] where a string stands. Its own token gets a new lease. The string stores neither limit nor level
    /// nor label: it stays exclusive, whatever its token asks for, and counts as held as deep as its token says.
    #[cold]
    pub(super) fn acquire_string(
        &mut self,
        request: &Acquire<'_>,
        wait: Option<WaitOptions>,
        make_token: impl FnOnce() -> Token,
    ) -> Result<Acquired, Refusal> {
        request.asked.check(None)?;
        let own = request.token.as_ref().filter(|token| self.owns_string(token));
        match (own, wait) {
            // A connection cannot keep it alive, and its client must not believe so.
            (Some(_), _) if request.session_delay_ms.is_some() => Err(Refusal::SessionOfString),
            (Some(token), wait) => {
                self.renew_string(request, token);
                if wait.is_some() {
                    self.give_up_place(token);
                }
                self.serve();
                Ok(Acquired::Granted(token.clone(), Fence::NONE))
            }
            (None, Some(wait)) if !request.is_inner() => self.wait(request, wait, make_token),
            (None, _) => Ok(Acquired::NotAvailable),
        }
    }

    /// Grants its own token the string again.
    pub(super) fn renew_string(&mut self, request: &Acquire<'_>, token: &Token) {
        let lasts = |string: &StringHold| string.lasts(request.lease_ms, self.now);
        let is_long_enough = request.level.is_some() && self.string.as_ref().is_some_and(lasts);
        if !is_long_enough {
            self.extend_string(token, Some(request.lease_ms), Cause::Renewed);
        }
    }

    /// Sets the lease of the string anew, if the token owns it.
    #[cold]
    pub(super) fn extend_string(&mut self, token: &Token, lease_ms: Option<u64>, cause: Cause) -> bool {
        let now = self.now;
        let Some(string) = self.string.as_mut().filter(|string| string.is_owned_by(token)) else {
            self.outcome.denied = Some(Denied::NotExtended);
            return false;
        };
        let lease_ms = string.extend(lease_ms, now);
        self.outcome.changes.push(Change::Lease(token.clone(), lease_ms, cause));
        true
    }

    /// Gives back a level of the string: level 1 ends it, and no other is stored. `None` if the token does not own it.
    #[cold]
    pub(super) fn release_string(&mut self, token: &Token, level: u16) -> Option<Change> {
        if !self.owns_string(token) {
            return None;
        }
        if level > 1 {
            return Some(Change::AsAsked(Cause::Released, SmallVec::new()));
        }
        *self.string = None;
        Some(Change::StringEnded(Cause::Released))
    }
}
