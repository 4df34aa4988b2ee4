//! A string that counts as a lock: what `SET key token NX PX milliseconds` leaves.
//!
//! A fleet that moves from such locks to those of the module uses both under the same keys for a while. So a string can be
//! taken for an exclusive hold: its value is the token, its time to live the lease. It stays a string, because clients that
//! made it compare and delete it themselves. What a string cannot store, its hold does not have: no fence, no limit but
//! one, no level, no label and no session.
//!
//! The server alone ends such a lease, by its own clock. As long as the string is there, it is held.

use crate::time::Moment;
use crate::token::Token;

/// The exclusive hold that a string counts as.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StringHold {
    /// `None` if the value is empty or too long for a token. Then nobody owns the hold by a command of the module.
    token: Option<Token>,
    /// When the time to live ends; `None` if the key has none.
    deadline: Option<Moment>,
    /// The lease of an extension that names none. A string does not store how long its lease was.
    default_lease_ms: u64,
}

impl StringHold {
    /// The hold that a string with this value counts as, which has so many milliseconds to live.
    pub fn new(value: &[u8], ttl_ms: Option<u64>, default_lease_ms: u64, now: Moment) -> Self {
        let deadline = ttl_ms.map(|ms| now.plus_ms(ms));
        Self { token: Token::from_text(value), deadline, default_lease_ms }
    }

    /// Whether `token` proves ownership.
    pub fn is_owned_by(&self, token: &Token) -> bool {
        self.token.as_ref() == Some(token)
    }

    /// When the time to live ends; `None` if the key has none.
    pub fn deadline(&self) -> Option<Moment> {
        self.deadline
    }

    /// Begins the lease anew, with `lease_ms` or the default. Returns its length.
    pub(crate) fn extend(&mut self, lease_ms: Option<u64>, now: Moment) -> u64 {
        let lease_ms = lease_ms.unwrap_or(self.default_lease_ms);
        self.deadline = Some(now.plus_ms(lease_ms));
        lease_ms
    }

    /// Whether it lasts at least `lease_ms` from now as it is.
    pub(crate) fn lasts(&self, lease_ms: u64, now: Moment) -> bool {
        self.deadline.is_none_or(|deadline| now.plus_ms(lease_ms) <= deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_micros(0);

    #[test]
    fn its_value_is_its_token_unless_no_token_can_be_so() {
        let token = |text: &[u8]| Token::from_text(text).unwrap_or(Token::from_seed([0; 16]));
        let hold = |value: &[u8]| StringHold::new(value, Some(5), 30, NOW);
        assert!(hold(b"me").is_owned_by(&token(b"me")));
        assert!(!hold(b"me").is_owned_by(&token(b"you")));
        assert!(hold(&[b'x'; 255]).is_owned_by(&token(&[b'x'; 255])));
        for nobodys in [&[][..], &[b'x'; 256]] {
            assert!(!hold(nobodys).is_owned_by(&token(nobodys)), "{} bytes", nobodys.len());
        }
    }

    #[test]
    fn its_lease_is_the_time_to_live_or_without_end() {
        let mut hold = StringHold::new(b"me", Some(5), 30, NOW);
        assert_eq!(hold.deadline(), Some(NOW.plus_ms(5)));
        assert!(hold.lasts(5, NOW) && !hold.lasts(6, NOW));
        assert_eq!(hold.extend(None, NOW), 30);
        assert_eq!(hold.extend(Some(7), NOW), 7);
        assert_eq!(hold.deadline(), Some(NOW.plus_ms(7)));
        let endless = StringHold::new(b"me", None, 30, NOW);
        assert_eq!(endless.deadline(), None);
        assert!(endless.lasts(u64::MAX, NOW));
    }
}
