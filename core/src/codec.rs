//! Holds as bytes, for snapshots, the append-only file and replicas.
//!
//! ```text
//! version  1 byte, [`VERSION`], or [`WHOLE`] if these are all the holds of the lock
//! hold     any number, each:
//!   parts         1 byte, a bit for each part below that has an "if"
//!   fence         8 bytes
//!   lease_ms      8 bytes
//!   remaining_ms  8 bytes, if it is not all of the lease
//!   age_ms        8 bytes, if it is not 0
//!   limit         2 bytes, 0 for shared, if it is not 1
//!   level         2 bytes, if it is not 1
//!   weight        2 bytes, if it is not 1
//!   token         16 bytes, if it has the form the server makes or is a UUID; else 1 byte of length and as many bytes
//!   owner         1 byte of length and as many bytes, if there is one
//! ```
//!
//! So the grant of a common lock is short: 34 bytes. Redis stores strings of up to 44 bytes in one piece of memory.
//!
//! The session is left out: only one server knows the connection. Integers are little-endian. The bytes hold no
//! moments, only spans, and the reader counts them from when it reads them. So on another clock a lease can end late,
//! never early.
//!
//! A reader checks all bytes before it uses any. Bytes from a damaged file or a hostile RESTORE are an error, or a lock
//! that could have been granted.

use alloc::vec::Vec;
use core::{iter, mem};

use arrayvec::ArrayVec;

use crate::fence::Fence;
use crate::hold::{GrantState, Hold, LONGEST_OWNER, Terms};
use crate::holds::Holds;
use crate::lock::Lock;
use crate::share::{Limit, Share};
use crate::time::{LONGEST_LEASE_MS, Moment};
use crate::token::{LONGEST_TOKEN, Packed, Spelled, Token, TokenRef};

/// The first byte that this version writes. A later form has another first byte, and [`decode`] tells them apart.
pub const VERSION: u8 = 1;

/// The first byte if the lock has these holds and no others, so that any value under the key is replaced. The grant
/// that creates a key is written so. A replica may still have a lock there that the master has dropped without
/// replicating that, as DEBUG RELOAD does with a key whose time to live is over.
pub const WHOLE: u8 = VERSION | 1 << 7;

/// The most bytes one hold can take.
pub const LONGEST_HOLD: usize = FIXED_LEN + 1 + LONGEST_TOKEN + 2 + LONGEST_OWNER;

const FIXED_LEN: usize = 1 + 4 * 8 + 2 + 2 + 2;

/// Bits of `parts`.
mod part {
    pub(super) const REMAINING: u8 = 1;
    pub(super) const AGE: u8 = 1 << 1;
    pub(super) const LIMIT: u8 = 1 << 2;
    pub(super) const LEVEL: u8 = 1 << 3;
    /// The token is 32 hex digits.
    pub(super) const HEX: u8 = 1 << 4;
    pub(super) const OWNER: u8 = 1 << 5;
    /// The token is a UUID.
    pub(super) const UUID: u8 = 1 << 6;
    pub(super) const WEIGHT: u8 = 1 << 7;
}

/// Why bytes cannot be read as holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// This version of the module cannot read them.
    UnknownVersion,
    /// They end in the middle of a hold.
    Truncated,
    /// A value is out of range. Holds the name of the value.
    OutOfRange(&'static str),
    /// Such a lock could not have been granted. Holds the name of the rule that it breaks.
    Impossible(&'static str),
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::UnknownVersion => f.write_str("written by a newer version of the lock module"),
            Self::Truncated => f.write_str("the data is cut short"),
            Self::OutOfRange(value) => write!(f, "a {value} is out of range"),
            Self::Impossible(invariant) => write!(f, "it breaks a rule: {invariant}"),
        }
    }
}

/// One hold as bytes.
pub type EncodedHold = ArrayVec<u8, { 1 + LONGEST_HOLD }>;

/// Writes `holds` as they are `now`.
pub fn encode<'a>(holds: impl IntoIterator<Item = &'a Hold>, now: Moment) -> Vec<u8> {
    encode_after(VERSION, holds, now)
}

/// Writes `holds`, all that the lock has, in pieces of a bounded length. Whoever applies one after the other has the lock.
pub fn encode_in_pieces<'a>(
    holds: impl IntoIterator<Item = &'a Hold>,
    now: Moment,
) -> impl Iterator<Item = Vec<u8>> {
    let mut holds = holds.into_iter().peekable();
    let mut first = WHOLE;
    iter::from_fn(move || {
        holds.peek()?;
        Some(encode_after(mem::replace(&mut first, VERSION), holds.by_ref().take(HOLDS_PER_PIECE), now))
    })
}

/// Holds in a piece, so that no command becomes larger than a server reads at once.
const HOLDS_PER_PIECE: usize = 128;

fn encode_after<'a>(first: u8, holds: impl IntoIterator<Item = &'a Hold>, now: Moment) -> Vec<u8> {
    let mut bytes = Vec::from([first]);
    holds.into_iter().for_each(|hold| encode_hold(hold, now, |part| bytes.extend_from_slice(part)));
    bytes
}

/// Writes one hold as it is `now`: the same bytes, without an allocation.
pub fn encode_one(hold: &Hold, is_whole: bool, now: Moment) -> EncodedHold {
    let mut bytes = EncodedHold::new();
    bytes.push(if is_whole { WHOLE } else { VERSION });
    encode_hold(hold, now, |part| {
        let fits = bytes.try_extend_from_slice(part);
        debug_assert!(fits.is_ok(), "no hold is longer than the longest");
    });
    bytes
}

fn encode_hold(hold: &Hold, now: Moment, mut write: impl FnMut(&[u8])) {
    let remaining_ms = now.ms_until(hold.deadline());
    let age_ms = now.ms_since(hold.granted_at()).min(LONGEST_AGE_MS);
    let token = hold.lent_token();
    let Share { limit, weight } = hold.share();
    let has = |part: u8, is_there: bool| if is_there { part } else { 0 };
    let parts = has(part::REMAINING, remaining_ms != hold.lease_ms())
        | has(part::AGE, age_ms != 0)
        | has(part::LIMIT, limit != Limit::EXCLUSIVE)
        | has(part::LEVEL, hold.level() != 1)
        | has(part::HEX, matches!(token, TokenRef::Packed(Packed::Hex(_))))
        | has(part::OWNER, hold.owner().is_some())
        | has(part::UUID, matches!(token, TokenRef::Packed(Packed::Uuid(_))))
        | has(part::WEIGHT, weight != 1);
    write(&[parts]);
    write(&hold.fence().get().to_le_bytes());
    write(&hold.lease_ms().to_le_bytes());
    if parts & part::REMAINING != 0 {
        write(&remaining_ms.to_le_bytes());
    }
    if parts & part::AGE != 0 {
        write(&age_ms.to_le_bytes());
    }
    if parts & part::LIMIT != 0 {
        write(&limit.number().to_le_bytes());
    }
    if parts & part::LEVEL != 0 {
        write(&hold.level().to_le_bytes());
    }
    if parts & part::WEIGHT != 0 {
        write(&weight.to_le_bytes());
    }
    match token {
        TokenRef::Packed(Packed::Hex(Spelled(bytes)) | Packed::Uuid(Spelled(bytes))) => write(&bytes),
        TokenRef::Text(text) => write_text(text, &mut write),
    }
    if let Some(owner) = hold.owner() {
        write_text(owner, &mut write);
    }
}

fn write_text(text: &[u8], write: &mut impl FnMut(&[u8])) {
    debug_assert!(text.len() <= usize::from(u8::MAX), "tokens and labels are at most 255 bytes");
    let len = u8::try_from(text.len()).unwrap_or(u8::MAX);
    write(&[len]);
    write(text.get(..usize::from(len)).unwrap_or_default());
}

/// The highest age that is written: ten thousand years, in milliseconds.
const LONGEST_AGE_MS: u64 = 100 * LONGEST_LEASE_MS;

/// Holds that were read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decoded {
    /// The holds.
    pub holds: Vec<Hold>,
    /// Whether the lock has these and no others.
    pub is_whole: bool,
}

/// Reads holds. Their leases and ages count from `now`.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode(bytes: &[u8], now: Moment) -> Result<Decoded, DecodeError> {
    let mut reader = Reader(bytes);
    let is_whole = match reader.u8()? {
        VERSION => false,
        WHOLE => true,
        _ => return Err(DecodeError::UnknownVersion),
    };
    let mut holds = Vec::new();
    while !reader.0.is_empty() {
        holds.push(decode_hold(&mut reader, now)?);
    }
    Ok(Decoded { holds, is_whole })
}

/// Reads a whole lock.
///
/// # Errors
/// What is wrong with the bytes, or with the lock they describe.
pub fn decode_lock(bytes: &[u8], now: Moment) -> Result<Lock, DecodeError> {
    let Decoded { holds, is_whole } = decode(bytes, now)?;
    if is_whole {
        // A snapshot always has whole locks, and is written with VERSION.
        return Err(DecodeError::UnknownVersion);
    }
    match Holds::default().broken_rule(&holds) {
        Some(rule) => Err(DecodeError::Impossible(rule)),
        None => Ok(Lock::from_holds(holds)),
    }
}

fn decode_hold(reader: &mut Reader<'_>, now: Moment) -> Result<Hold, DecodeError> {
    let parts = reader.u8()?;
    let has = |part: u8| parts & part != 0;
    let fence = Fence::new(reader.u64()?).ok_or(DecodeError::OutOfRange("fence"))?;
    let lease_ms = in_range("lease", reader.u64()?, 1, LONGEST_LEASE_MS)?;
    let remaining_ms = unless(lease_ms, has(part::REMAINING).then(|| reader.u64()))?;
    let remaining_ms = in_range("remaining lease", remaining_ms, 0, lease_ms)?;
    let age_ms = unless(0, has(part::AGE).then(|| reader.u64()))?;
    let age_ms = in_range("age", age_ms, 0, LONGEST_AGE_MS)?;
    let limit = unless(1, has(part::LIMIT).then(|| reader.u16())).map(Limit::from_number)?;
    let level = unless(1, has(part::LEVEL).then(|| reader.u16()))?;
    if level == 0 {
        return Err(DecodeError::OutOfRange("level"));
    }
    let weight = unless(1, has(part::WEIGHT).then(|| reader.u16()))?;
    let share = Share { limit, weight };
    if !share.is_possible() {
        return Err(DecodeError::OutOfRange("weight"));
    }
    let token = match (has(part::HEX), has(part::UUID)) {
        (true, true) => return Err(DecodeError::OutOfRange("set of parts")),
        (true, false) => Token::from(Packed::Hex(Spelled(reader.array()?))),
        (false, true) => Token::from(Packed::Uuid(Spelled(reader.array()?))),
        (false, false) => {
            let token = Token::from_text(reader.text()?);
            token.filter(|token| !token.is_packed()).ok_or(DecodeError::OutOfRange("token"))?
        }
    };
    let owner = if has(part::OWNER) { Some(reader.text()?) } else { None };
    let state =
        GrantState { fence, granted_at: now.minus_ms(age_ms), deadline: now.plus_ms(remaining_ms), level };
    Ok(Hold::restore(Terms { token: &token, share, lease_ms, owner, session: None }, state))
}

/// The value of a part, or its default if the part is missing. A part with the default value is an error: each hold has
/// one form only.
fn unless<T: PartialEq>(meant: T, part: Option<Result<T, DecodeError>>) -> Result<T, DecodeError> {
    match part.transpose()? {
        Some(value) if value == meant => Err(DecodeError::OutOfRange("set of parts")),
        value => Ok(value.unwrap_or(meant)),
    }
}

fn in_range(name: &'static str, number: u64, least: u64, most: u64) -> Result<u64, DecodeError> {
    if (least..=most).contains(&number) { Ok(number) } else { Err(DecodeError::OutOfRange(name)) }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN], DecodeError> {
        let (array, rest) = self.0.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(*array)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u8()?;
        let (text, rest) = self.0.split_at_checked(usize::from(len)).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(text)
    }
}
