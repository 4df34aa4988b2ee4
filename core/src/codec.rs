//! Holds as bytes: how they travel in snapshots, in the append-only file and to replicas.
//!
//! ```text
//! version  1 byte, [`VERSION`]
//! hold     any number, each:
//!   fence         8 bytes    remaining_ms  8 bytes    limit  2 bytes, 0 for shared
//!   lease_ms      8 bytes    age_ms        8 bytes    count  4 bytes
//!   token         1 byte of length and as many bytes
//!   owner         1 byte for whether there is one, then 1 byte of length and as many bytes
//! ```
//!
//! What is left out is the session: a connection is known to one server only, and nobody else could keep the hold alive
//! by it. Integers are little-endian. No moment travels, only spans: the receiver counts them from when it reads them, so
//! that on another clock a lease can end late, never early.
//!
//! What is read is judged wholly before any of it is believed: bytes from a damaged file or a hostile RESTORE come
//! out as an error or as a lock that could have been granted.

use alloc::vec::Vec;

use crate::fence::{Fence, HIGHEST_FENCE};
use crate::hold::{Hold, LONGEST_OWNER, Limit, Standing, Terms};
use crate::invariants;
use crate::lock::Lock;
use crate::time::{LONGEST_LEASE_MS, Moment};
use crate::token::{LONGEST_TOKEN, SEED_TEXT_LEN, Token};

/// The first byte of what this version writes. A later form takes another one, and is told apart in [`decode`].
pub const VERSION: u8 = 1;

/// The most bytes one hold can take.
pub const LONGEST_HOLD: usize = FIXED_LEN + 1 + LONGEST_TOKEN + 2 + LONGEST_OWNER;

const FIXED_LEN: usize = 4 * 8 + 2 + 4;

/// Why bytes are not the holds of a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// They are of a version that this one cannot read.
    UnknownVersion,
    /// They end in the middle of a hold.
    Truncated,
    /// A value lies outside its range. Names the value.
    OutOfRange(&'static str),
    /// No sequence of grants leads to such a lock. Names the invariant it breaks.
    Impossible(&'static str),
}

impl core::fmt::Display for Damage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::UnknownVersion => f.write_str("written by a newer version of the lock module"),
            Self::Truncated => f.write_str("the data is cut short"),
            Self::OutOfRange(value) => write!(f, "a {value} is out of range"),
            Self::Impossible(invariant) => write!(f, "it breaks a rule: {invariant}"),
        }
    }
}

/// Writes `holds` as they stand `now`.
pub fn encode<'a>(holds: impl IntoIterator<Item = &'a Hold>, now: Moment) -> Vec<u8> {
    // Enough for one hold with a token made by the server, which is what nearly every call is about.
    let mut bytes = Vec::with_capacity(1 + FIXED_LEN + 1 + SEED_TEXT_LEN + 1);
    bytes.push(VERSION);
    for hold in holds {
        encode_hold(hold, now, &mut bytes);
    }
    bytes
}

fn encode_hold(hold: &Hold, now: Moment, bytes: &mut Vec<u8>) {
    let remaining_ms = now.ms_until(hold.deadline());
    let age_ms = now.ms_since(hold.granted_at()).min(LONGEST_AGE_MS);
    for number in [hold.fence().get(), hold.lease_ms(), remaining_ms, age_ms] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&hold.limit().number().to_le_bytes());
    bytes.extend_from_slice(&hold.count().to_le_bytes());
    encode_text(hold.token_text(&mut [0; SEED_TEXT_LEN]), bytes);
    match hold.owner() {
        None => bytes.push(0),
        Some(owner) => {
            bytes.push(1);
            encode_text(owner, bytes);
        }
    }
}

fn encode_text(text: &[u8], bytes: &mut Vec<u8>) {
    debug_assert!(text.len() <= usize::from(u8::MAX), "tokens and labels are at most 255 bytes");
    let len = u8::try_from(text.len()).unwrap_or(u8::MAX);
    bytes.push(len);
    bytes.extend(text.iter().take(usize::from(len)));
}

/// The oldest a hold can be said to be: ten thousand years, in milliseconds.
const LONGEST_AGE_MS: u64 = 100 * LONGEST_LEASE_MS;

/// Reads holds that stand as they do from `now` on.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode(bytes: &[u8], now: Moment) -> Result<Vec<Hold>, Damage> {
    let mut reader = Reader(bytes);
    if reader.u8()? != VERSION {
        return Err(Damage::UnknownVersion);
    }
    let mut holds = Vec::new();
    while !reader.0.is_empty() {
        holds.push(decode_hold(&mut reader, now)?);
    }
    Ok(holds)
}

/// Reads a whole lock.
///
/// # Errors
/// What is wrong with the bytes, or with the lock they describe.
pub fn decode_lock(bytes: &[u8], now: Moment) -> Result<Lock, Damage> {
    let lock = Lock::from_holds(decode(bytes, now)?);
    for (holds, rule) in [
        (!lock.is_empty(), "a lock is held"),
        (invariants::fences_ascend(&lock), "fences ascend"),
        (invariants::holds_are_within_limits(&lock), "holds are within limits"),
        (invariants::tokens_are_unique(&lock), "tokens are unique"),
    ] {
        if !holds {
            return Err(Damage::Impossible(rule));
        }
    }
    Ok(lock)
}

fn decode_hold(reader: &mut Reader<'_>, now: Moment) -> Result<Hold, Damage> {
    let fence = reader.number("fence", 1, HIGHEST_FENCE)?;
    let lease_ms = reader.number("lease", 1, LONGEST_LEASE_MS)?;
    let remaining_ms = reader.number("remaining lease", 0, lease_ms)?;
    let age_ms = reader.number("age", 0, LONGEST_AGE_MS)?;
    let limit = Limit::from_number(u16::from_le_bytes(reader.array()?));
    let count = u32::from_le_bytes(reader.array()?);
    if count == 0 {
        return Err(Damage::OutOfRange("count"));
    }
    let token = Token::from_text(reader.text()?).ok_or(Damage::OutOfRange("token"))?;
    let owner = match reader.u8()? {
        0 => None,
        1 => Some(reader.text()?),
        _ => return Err(Damage::OutOfRange("label")),
    };
    let standing = Standing {
        fence: Fence::new(fence).ok_or(Damage::OutOfRange("fence"))?,
        granted_at: now.minus_ms(age_ms),
        deadline: now.plus_ms(remaining_ms),
        count,
    };
    Ok(Hold::restore(Terms { token, limit, lease_ms, owner, session: None }, standing))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN], Damage> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Damage::Truncated)?;
        self.0 = rest;
        Ok(*array)
    }

    fn u8(&mut self) -> Result<u8, Damage> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn number(&mut self, name: &'static str, least: u64, most: u64) -> Result<u64, Damage> {
        let number = u64::from_le_bytes(self.array()?);
        if (least..=most).contains(&number) { Ok(number) } else { Err(Damage::OutOfRange(name)) }
    }

    fn text(&mut self) -> Result<&'a [u8], Damage> {
        let len = self.u8()?;
        let (text, rest) = self.0.split_at_checked(usize::from(len)).ok_or(Damage::Truncated)?;
        self.0 = rest;
        Ok(text)
    }
}
