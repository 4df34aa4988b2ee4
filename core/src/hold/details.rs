//! The parts of a hold that is not plain, in one piece of memory.
//!
//! ```text
//! session  8 bytes, the connection, if there is one
//! limit    2 bytes, 0 for shared
//! level    2 bytes
//! weight   2 bytes
//! parts    1 byte: the form of the token, and whether there is a session, a delay, a label, and whether it is unclaimed
//! length   1 byte, of the token
//! delay    8 bytes, of the session, if there is one
//! token    16 bytes, or its text
//! owner    what is left, if there is a label
//! ```
//!
//! It never leaves the process. So integers have the byte order of the machine, and there are no versions.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use super::Parts;
use crate::session::Session;
use crate::share::{Limit, Share};
use crate::token::{Packed, Spelled, TokenRef};

/// The details of one hold. Equal parts have equal bytes.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Details(Box<[u8]>);

/// Bytes in front of the delay.
const HEAD_LEN: usize = 8 + 2 + 2 + 2 + 1 + 1;

const DELAY_LEN: usize = 8;

const HEX: u8 = 1;
const UUID: u8 = 1 << 1;
const SESSION: u8 = 1 << 2;
const OWNER: u8 = 1 << 3;
const UNCLAIMED: u8 = 1 << 4;
const DELAY: u8 = 1 << 5;

impl Details {
    pub(super) fn of(parts: Parts<'_>) -> Self {
        let (form, token): (u8, &[u8]) = match &parts.token {
            TokenRef::Packed(Packed::Hex(Spelled(bytes))) => (HEX, bytes),
            TokenRef::Packed(Packed::Uuid(Spelled(bytes))) => (UUID, bytes),
            TokenRef::Text(text) => (0, text),
        };
        let session = if parts.session.is_some() { SESSION } else { 0 };
        let delay_ms = parts.session.map_or(0, |session| session.delay_ms);
        let delay = if delay_ms > 0 { DELAY } else { 0 };
        let owner = if parts.owner.is_some() { OWNER } else { 0 };
        debug_assert!(token.len() <= usize::from(u8::MAX), "tokens are at most 255 bytes");
        let len = u8::try_from(token.len()).unwrap_or(u8::MAX);
        let label = parts.owner.unwrap_or_default();
        let [a, b, c, d, e, f, g, h] = parts.session.map_or(0, |session| session.client).to_ne_bytes();
        let [limit_1, limit_2] = parts.share.limit.number().to_ne_bytes();
        let [level_1, level_2] = parts.level.to_ne_bytes();
        let [weight_1, weight_2] = parts.share.weight.to_ne_bytes();
        let unclaimed = if parts.is_unclaimed { UNCLAIMED } else { 0 };
        let parts = form | session | delay | owner | unclaimed;
        #[rustfmt::skip]
        let head: [u8; HEAD_LEN] =
            [a, b, c, d, e, f, g, h, limit_1, limit_2, level_1, level_2, weight_1, weight_2, parts, len];
        let delay_len = if delay_ms > 0 { DELAY_LEN } else { 0 };
        let len = HEAD_LEN.saturating_add(delay_len).saturating_add(token.len()).saturating_add(label.len());
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(&head);
        if delay_ms > 0 {
            bytes.extend_from_slice(&delay_ms.to_ne_bytes());
        }
        bytes.extend_from_slice(token);
        bytes.extend_from_slice(label);
        Self(bytes.into_boxed_slice())
    }

    pub(super) fn parts(&self) -> Parts<'_> {
        let (head, rest) = self.0.split_first_chunk::<HEAD_LEN>().unwrap_or((&[0; HEAD_LEN], &[]));
        #[rustfmt::skip]
        let [a, b, c, d, e, f, g, h, limit_1, limit_2, level_1, level_2, weight_1, weight_2, parts, len] = *head;
        let (delay, rest) = match rest.split_first_chunk::<DELAY_LEN>() {
            Some((delay, rest)) if parts & DELAY != 0 => (u64::from_ne_bytes(*delay), rest),
            _ => (0, rest),
        };
        let (token, label) = rest.split_at_checked(usize::from(len)).unwrap_or_default();
        let packed = || Spelled(token.first_chunk().copied().unwrap_or_default());
        Parts {
            token: match parts & (HEX | UUID) {
                HEX => TokenRef::Packed(Packed::Hex(packed())),
                UUID => TokenRef::Packed(Packed::Uuid(packed())),
                _ => TokenRef::Text(token),
            },
            share: Share {
                limit: Limit::from_number(u16::from_ne_bytes([limit_1, limit_2])),
                weight: u16::from_ne_bytes([weight_1, weight_2]),
            },
            level: u16::from_ne_bytes([level_1, level_2]),
            session: (parts & SESSION != 0)
                .then(|| Session { client: u64::from_ne_bytes([a, b, c, d, e, f, g, h]), delay_ms: delay }),
            owner: (parts & OWNER != 0).then_some(label),
            is_unclaimed: parts & UNCLAIMED != 0,
        }
    }

    /// Bytes allocated.
    pub(super) fn heap_size(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().fmt(f)
    }
}
