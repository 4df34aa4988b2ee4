//! What the values of options may be.

use core::num::NonZeroU64;

use super::LeaseRules;
use super::options::Unit;
use crate::hold::LONGEST_OWNER;
use crate::refusal::Refusal;
use crate::share::{AskedShare, Limit};
use crate::time::LONGEST_LEASE_MS;

/// The longest that BLOCK and QUEUE may ask for, in milliseconds, other than BLOCK without end: a hundred years.
pub(super) const LONGEST_WAIT_MS: u64 = LONGEST_LEASE_MS;

/// Digits of the largest 64-bit integer.
const MOST_DIGITS: usize = 19;

pub(super) fn parse_lease(
    lease: (Unit, &[u8]),
    rules: LeaseRules,
    command: &'static str,
) -> Result<u64, Refusal> {
    let (unit, number) = lease;
    let ms_per_unit = match unit {
        Unit::Milliseconds => 1,
        Unit::Seconds => 1000,
    };
    let ms = parse_integer(number)?.checked_mul(ms_per_unit).and_then(|ms| u64::try_from(ms).ok());
    ms.filter(|ms| (1..=rules.longest_ms).contains(ms)).ok_or(Refusal::InvalidExpire(command))
}

fn parse_limit(number: &[u8]) -> Result<Limit, Refusal> {
    match u16::try_from(parse_integer(number)?) {
        Ok(number @ 1..) => Ok(Limit::from_number(number)),
        _ => Err(Refusal::LimitRange),
    }
}

/// `limit` is `Some(None)` for SHARED. The weight may turn out to be too large for a limit that is not named here, see
/// [`AskedShare::check`].
#[inline]
pub(super) fn parse_share(
    limit: Option<Option<&[u8]>>,
    weight: Option<&[u8]>,
) -> Result<AskedShare, Refusal> {
    let limit = limit.map(|number| number.map_or(Ok(Limit::SHARED), parse_limit)).transpose()?;
    let weight = weight.map(|number| match u16::try_from(parse_integer(number)?) {
        Ok(weight @ 1..) if limit.is_none_or(|limit| usize::from(weight) <= limit.most()) => Ok(weight),
        _ => Err(Refusal::WeightRange),
    });
    Ok(AskedShare { limit, weight: weight.transpose()? })
}

pub(super) fn parse_level(number: &[u8]) -> Result<u16, Refusal> {
    match u16::try_from(parse_integer(number)?) {
        Ok(level @ 1..) => Ok(level),
        _ => Err(Refusal::LevelRange),
    }
}

pub(super) fn parse_wait(number: &[u8]) -> Result<u64, Refusal> {
    let ms = u64::try_from(parse_integer(number)?).map_err(|_| Refusal::NegativeTimeout)?;
    if ms <= LONGEST_WAIT_MS { Ok(ms) } else { Err(Refusal::TimeoutRange) }
}

/// A place is never kept without end, for nobody would take it away again.
pub(super) fn parse_queue(number: &[u8]) -> Result<NonZeroU64, Refusal> {
    NonZeroU64::new(parse_wait(number)?).ok_or(Refusal::TimeoutRange)
}

pub(super) fn parse_owner(label: &[u8]) -> Result<&[u8], Refusal> {
    if label.len() <= LONGEST_OWNER { Ok(label) } else { Err(Refusal::OwnerLength) }
}

/// An integer as Redis writes it: no plus sign, no blanks, no leading zeros, within 64 bits.
///
/// # Errors
/// [`Refusal::NotAnInteger`]
pub fn parse_integer(text: &[u8]) -> Result<i64, Refusal> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_negative = digits.len() < text.len();
    let is_canonical = match digits {
        [b'0'] => !is_negative,
        [b'1'..=b'9', ..] => digits.len() <= MOST_DIGITS,
        _ => false,
    };
    if !is_canonical {
        return Err(Refusal::NotAnInteger);
    }
    let mut size = 0_u64;
    for digit in digits {
        let value = digit.wrapping_sub(b'0');
        if value > 9 {
            return Err(Refusal::NotAnInteger);
        }
        // Numbers of so many digits fit.
        size = size.wrapping_mul(10).wrapping_add(value.into());
    }
    let number = if is_negative { 0_i64.checked_sub_unsigned(size) } else { i64::try_from(size).ok() };
    number.ok_or(Refusal::NotAnInteger)
}
