//! A hold: one holder's part of a lock.

mod details;

use core::ops::Deref;

use self::details::Details;
use crate::fence::Fence;
use crate::request::Acquire;
use crate::session::Session;
use crate::share::{Limit, Share};
use crate::time::{Moment, SHORTEST_SESSION_LEASE_MS};
use crate::token::{LONGEST_SPELLED, Packed, Token, TokenRef};

/// The longest owner label, in bytes.
pub const LONGEST_OWNER: usize = 255;

/// What a request asks a hold to be. The grant adds the fence and the moment.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Whoever presents it owns the hold.
    pub token: &'a Token,
    /// Its share in the lock.
    pub share: Share,
    /// How long the hold lasts after its grant or last extension, in milliseconds, 1 to
    /// [`crate::time::LONGEST_LEASE_MS`].
    pub lease_ms: u64,
    /// A label for people, at most [`LONGEST_OWNER`] bytes.
    pub owner: Option<&'a [u8]>,
    /// What keeps the hold alive, if a connection does.
    pub session: Option<Session>,
}

impl<'a> Terms<'a> {
    /// What this request asks for.
    #[inline]
    pub(crate) fn of(request: &Acquire<'a>, token: &'a Token, session: Option<Session>) -> Self {
        let (share, lease_ms) = (request.asked.of_newcomer(), request.lease_ms);
        Self { token, share, lease_ms, owner: request.owner, session }
    }
}

/// One holder's part of a lock.
///
/// It is small, because there can be millions. What most holds do not have is stored apart, see [`Identity`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hold {
    identity: Identity,
    fence: Fence,
    granted_at: Moment,
    deadline: Moment,
    lease_ms: u64,
}

/// The holder and the terms of a hold.
///
/// A hold is plain exactly if its token has one of the common forms ([`Packed`]), its share is exclusive, its level is
/// 1, it has neither label nor session, and it is not left to be claimed. So equal holds are equal in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Identity {
    Plain(Packed),
    Detailed(Details),
}

/// The parts of an [`Identity`], borrowed, in either form.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Parts<'a> {
    token: TokenRef<'a>,
    share: Share,
    owner: Option<&'a [u8]>,
    level: u16,
    session: Option<Session>,
    is_unclaimed: bool,
}

impl Parts<'_> {
    const fn plain(token: Packed) -> Self {
        let (token, share) = (TokenRef::Packed(token), Share::EXCLUSIVE);
        Self { token, share, owner: None, level: 1, session: None, is_unclaimed: false }
    }

    /// Whether they are what a plain hold has, the token apart.
    fn are_plain(&self) -> bool {
        self.share == Share::EXCLUSIVE
            && self.owner.is_none()
            && self.level == 1
            && self.session.is_none()
            && !self.is_unclaimed
    }
}

impl From<Parts<'_>> for Identity {
    #[inline]
    fn from(parts: Parts<'_>) -> Self {
        match parts.token {
            TokenRef::Packed(token) if parts.are_plain() => Self::Plain(token),
            _ => Self::Detailed(Details::of(parts)),
        }
    }
}

impl Identity {
    fn parts(&self) -> Parts<'_> {
        match self {
            Self::Plain(token) => Parts::plain(*token),
            Self::Detailed(details) => details.parts(),
        }
    }
}

/// What the terms of a hold do not say: its fence, when it was granted, when its lease ends, and its level.
#[derive(Clone, Copy, Debug)]
pub struct GrantState {
    /// The fence of its grant.
    pub fence: Fence,
    /// When it was granted.
    pub granted_at: Moment,
    /// When its lease ends.
    pub deadline: Moment,
    /// Its level, at least 1.
    pub level: u16,
}

impl Hold {
    /// The hold with these terms, granted `now` with `fence`.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "every grant comes here, and a call would copy the terms")]
    pub fn grant(terms: Terms<'_>, fence: Fence, now: Moment) -> Self {
        let lease_ms = counted(terms.lease_ms, terms.session);
        let deadline = now.plus_ms(lease_ms);
        Self::restore(Terms { lease_ms, ..terms }, GrantState { fence, granted_at: now, deadline, level: 1 })
    }

    /// The same hold, granted to a place without a connection, and left to its token to claim it within `claim_ms` (G13).
    pub(crate) fn unclaimed(mut self, claim_ms: u64, now: Moment) -> Self {
        self.lend().leave_to_claim(claim_ms, None, now);
        self
    }

    /// A hold that was granted before, here or elsewhere.
    #[inline]
    pub fn restore(terms: Terms<'_>, state: GrantState) -> Self {
        Self {
            identity: Identity::from(Parts {
                token: terms.token.lend(),
                share: terms.share,
                owner: terms.owner,
                level: state.level,
                session: terms.session,
                is_unclaimed: false,
            }),
            fence: state.fence,
            granted_at: state.granted_at,
            deadline: state.deadline,
            lease_ms: terms.lease_ms,
        }
    }

    /// Whether `token` proves ownership of this hold.
    pub fn is_owned_by(&self, token: &Token) -> bool {
        match &self.identity {
            Identity::Plain(own) => token.lend() == TokenRef::Packed(*own),
            Identity::Detailed(details) => token.lend() == details.parts().token,
        }
    }

    /// The token that owns it.
    pub(crate) fn token(&self) -> Token {
        Token::from(self.lent_token())
    }

    /// The token that owns it, borrowed.
    pub(crate) fn lent_token(&self) -> TokenRef<'_> {
        self.identity.parts().token
    }

    /// The text of its token. `buffer` is the space for it.
    pub fn token_text<'a>(&'a self, buffer: &'a mut [u8; LONGEST_SPELLED]) -> &'a [u8] {
        self.lent_token().text(buffer)
    }

    /// The fence of its grant.
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// Its share in the lock.
    pub fn share(&self) -> Share {
        match &self.identity {
            Identity::Plain(_) => Share::EXCLUSIVE,
            Identity::Detailed(details) => details.parts().share,
        }
    }

    /// How much weight its holder tolerates on the lock.
    pub fn limit(&self) -> Limit {
        self.share().limit
    }

    /// The label that its holder gave.
    pub fn owner(&self) -> Option<&[u8]> {
        self.identity.parts().owner
    }

    /// Its level: 1, or more if work that holds the lock has called other work that acquired it too.
    pub fn level(&self) -> u16 {
        self.identity.parts().level
    }

    /// The length of its lease, in milliseconds.
    pub fn lease_ms(&self) -> u64 {
        self.lease_ms
    }

    /// When it was granted.
    pub fn granted_at(&self) -> Moment {
        self.granted_at
    }

    /// When its lease ends: the first moment at which it is not live any more.
    pub fn deadline(&self) -> Moment {
        self.deadline
    }

    /// Whether it was granted to a place without a connection, and nobody has claimed it yet (G13).
    pub fn is_unclaimed(&self) -> bool {
        match &self.identity {
            Identity::Plain(_) => false,
            Identity::Detailed(details) => details.parts().is_unclaimed,
        }
    }

    /// What keeps it alive, if a connection does.
    pub fn session(&self) -> Option<Session> {
        match &self.identity {
            Identity::Plain(_) => None,
            Identity::Detailed(details) => details.parts().session,
        }
    }

    /// Whether it is live: its lease is running, or a connection keeps it alive. The server may extend the lease of
    /// such a hold late. That does not end the hold.
    pub fn is_live(&self, now: Moment) -> bool {
        now < self.deadline || self.session().is_some()
    }

    /// When its lease ends if its connection closes `now`. `None` if the hold ends at once, or no connection keeps it alive.
    ///
    /// The lease begins a last time then. It is no longer than ever, and no longer than the delay.
    pub fn end_after_close(&self, now: Moment) -> Option<Moment> {
        let delay_ms = self.session()?.delay_ms;
        (delay_ms > 0).then(|| now.plus_ms(delay_ms.min(self.lease_ms)))
    }

    /// When it is due: at the end of its lease, or if a connection keeps it alive, when half of the lease is over.
    pub fn due(&self) -> Moment {
        match self.session() {
            None => self.deadline,
            Some(_) => self.deadline.minus_ms(self.lease_ms / 2),
        }
    }

    /// Bytes allocated besides its own size.
    pub fn heap_size(&self) -> usize {
        match &self.identity {
            Identity::Plain(_) => 0,
            Identity::Detailed(details) => details.heap_size(),
        }
    }

    /// Lends the hold for a change.
    pub(crate) fn lend(&mut self) -> HoldMut<'_> {
        HoldMut(self)
    }
}

/// A hold that can be changed. Its fence and its token cannot.
#[derive(Debug)]
pub(crate) struct HoldMut<'a>(&'a mut Hold);

impl Deref for HoldMut<'_> {
    type Target = Hold;

    fn deref(&self) -> &Hold {
        self.0
    }
}

impl HoldMut<'_> {
    /// Begins the lease anew: it is `lease_ms` long and begins `now`. With a session it is at least
    /// [`SHORTEST_SESSION_LEASE_MS`] long.
    pub(crate) fn extend(&mut self, lease_ms: u64, now: Moment) {
        let lease_ms = counted(lease_ms, self.session());
        self.0.lease_ms = lease_ms;
        self.0.deadline = now.plus_ms(lease_ms);
    }

    /// Sets the lease to `lease_ms` from `now`, unless more of it remains: work on an inner level never shortens the
    /// lease of an outer one. The length becomes the longer of the two, so that LOCK.EXTEND without a length does not
    /// shorten it either.
    pub(crate) fn prolong(&mut self, lease_ms: u64, now: Moment) {
        let lease_ms = counted(lease_ms, self.session());
        self.0.lease_ms = self.lease_ms.max(lease_ms);
        self.0.deadline = self.deadline.max(now.plus_ms(lease_ms));
    }

    /// Takes over what a retry names; what it does not name stays.
    pub(crate) fn amend(&mut self, share: Option<Share>, owner: Option<&[u8]>, session: Option<Session>) {
        let parts = self.identity.parts();
        let amended = Parts {
            share: share.unwrap_or(parts.share),
            owner: owner.or(parts.owner),
            session: session.or(parts.session),
            ..parts
        };
        if amended != parts {
            self.0.identity = Identity::from(amended);
        }
    }

    /// Leaves the hold to be claimed within `claim_ms`: its lease is no longer than that. If its token held the lock before,
    /// it ends no earlier than is `known` to it. What a connection keeps alive is left as it is.
    pub(crate) fn leave_to_claim(&mut self, claim_ms: u64, known: Option<Moment>, now: Moment) {
        if self.session().is_some() {
            return;
        }
        let claim_end = now.plus_ms(claim_ms);
        self.0.deadline = self.deadline.min(known.map_or(claim_end, |known| known.max(claim_end)));
        if known.is_none() {
            self.0.lease_ms = self.lease_ms.min(claim_ms);
            self.0.identity = Identity::from(Parts { is_unclaimed: true, ..self.identity.parts() });
        }
    }

    /// Its token has claimed it.
    pub(crate) fn claim(&mut self) {
        if self.is_unclaimed() {
            self.0.identity = Identity::from(Parts { is_unclaimed: false, ..self.identity.parts() });
        }
    }

    /// No connection keeps the hold alive any more. It ends with its lease.
    pub(crate) fn end_session(&mut self) {
        if self.session().is_some() {
            self.0.identity = Identity::from(Parts { session: None, ..self.identity.parts() });
        }
    }

    /// Its connection has closed, and it stays for its delay, see [`Hold::end_after_close`].
    pub(crate) fn stay_after_close(&mut self, now: Moment) {
        if let Some(end) = self.end_after_close(now) {
            self.0.deadline = end;
            self.end_session();
        }
    }

    /// Sets the level. Level 0 does not exist and changes nothing.
    pub(crate) fn set_level(&mut self, level: u16) {
        if level >= 1 && level != self.level() {
            self.0.identity = Identity::from(Parts { level, ..self.identity.parts() });
        }
    }
}

/// The length of a lease, with the minimum for sessions.
fn counted(lease_ms: u64, session: Option<Session>) -> u64 {
    if session.is_some() { lease_ms.max(SHORTEST_SESSION_LEASE_MS) } else { lease_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(token: &[u8]) -> Option<Hold> {
        let token = &Token::from_text(token)?;
        let terms = Terms { token, share: Share::EXCLUSIVE, lease_ms: 50, owner: None, session: None };
        Some(Hold::grant(terms, Fence::new(7)?, Moment::from_micros(0)))
    }

    #[test]
    fn a_common_hold_needs_no_memory_besides_its_own() {
        for common in ["0123456789abcdef0123456789abcdef", "01234567-89ab-cdef-0123-456789abcdef"] {
            assert_eq!(hold(common.as_bytes()).map(|hold| hold.heap_size()), Some(0), "{common}");
        }
        assert!(hold(b"mine").is_some_and(|hold| hold.heap_size() > 4));
    }

    #[test]
    fn a_hold_that_changes_there_and_back_is_the_hold_it_was() {
        for common in ["0123456789abcdef0123456789abcdef", "01234567-89ab-cdef-0123-456789abcdef"] {
            let Some(before) = hold(common.as_bytes()) else { panic!("a token") };
            let mut hold = before.clone();
            hold.lend().amend(Some(Share::of(Limit::SHARED)), None, None);
            assert_eq!(hold.limit(), Limit::SHARED);
            hold.lend().amend(Some(Share::EXCLUSIVE), None, None);
            assert_eq!(hold, before);
        }
        let Some(before) = hold(b"mine") else { panic!("a token") };
        let mut hold = before.clone();
        hold.lend().amend(None, Some(b"me"), None);
        assert_eq!(hold.owner(), Some(&b"me"[..]));
        hold.lend().amend(Some(Share::of(Limit::SHARED)), None, None);
        assert_eq!(hold.owner(), Some(&b"me"[..]));
        assert_eq!(hold.deadline(), before.deadline());
    }

    #[test]
    fn a_lease_ends_at_its_deadline_and_not_before() {
        let Some(mut hold) = hold(b"mine") else { panic!("a token") };
        assert!(hold.is_live(Moment::from_micros(49_999)));
        assert!(!hold.is_live(Moment::from_micros(50_000)));
        hold.lend().extend(10, Moment::from_micros(45_000));
        assert!(hold.is_live(Moment::from_micros(54_999)));
        assert!(!hold.is_live(Moment::from_micros(55_000)));
        assert_eq!(hold.lease_ms(), 10);
    }

    #[test]
    fn an_inner_lease_never_cuts_the_outer_one_short() {
        let Some(mut hold) = hold(b"mine") else { panic!("a token") };
        hold.lend().prolong(10, Moment::from_micros(30_000));
        assert_eq!((hold.lease_ms(), hold.deadline()), (50, Moment::from_micros(50_000)));
        hold.lend().prolong(30, Moment::from_micros(30_000));
        assert_eq!((hold.lease_ms(), hold.deadline()), (50, Moment::from_micros(60_000)));
        hold.lend().prolong(70, Moment::from_micros(30_000));
        assert_eq!((hold.lease_ms(), hold.deadline()), (70, Moment::from_micros(100_000)));
    }
}
