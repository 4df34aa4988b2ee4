//! The arguments of the commands, without the name of the command and the key.
//!
//! First all arguments are read, so that a syntax error comes before any other error. Then their values are checked.
//! Options come in any order and any case, each at most once.

mod options;
mod values;

use alloc::vec::Vec;
use core::num::NonZeroU64;

use smallvec::SmallVec;

use crate::fence::Fence;
use crate::refusal::Refusal;
use crate::share::AskedShare;
use crate::time::LONGEST_LEASE_MS;
use crate::token::Token;

pub use self::options::word;
use self::options::{Keyword, Unit, once, value};
pub use self::values::parse_integer;
use self::values::{parse_lease, parse_level, parse_owner, parse_queue, parse_share, parse_wait};

/// What a lease may be, in milliseconds, as configured.
#[derive(Clone, Copy, Debug)]
pub struct LeaseRules {
    /// For requests that name none. Never more than the longest.
    pub default_ms: u64,
    /// The longest that may be asked for.
    pub longest_ms: u64,
}

impl LeaseRules {
    /// Everything that can be configured. For requests that another server has accepted.
    pub const ANY: Self = Self { default_ms: LONGEST_LEASE_MS, longest_ms: LONGEST_LEASE_MS };
}

/// LOCK.ACQUIRE key [PX ms | EX s] [TOKEN token] [SHARED | LIMIT n] [WEIGHT n] [BLOCK ms] [QUEUE ms] [OWNER label] [SESSION [DELAY ms]] [LEVEL n]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acquire<'a> {
    /// The client's own token. Without one the server makes it.
    pub token: Option<Token>,
    /// How long the lease is to be.
    pub lease_ms: u64,
    /// What it names of its share in the lock: by LIMIT or SHARED, and by WEIGHT.
    pub asked: AskedShare,
    /// How long to wait, in milliseconds. 0 is without end, `None` is not at all.
    pub block_ms: Option<u64>,
    /// How long to keep the place in the queue without a connection, in milliseconds. Only with a token, and without a
    /// session.
    pub queue_ms: Option<NonZeroU64>,
    /// A label for people.
    pub owner: Option<&'a [u8]>,
    /// If the connection is to keep the hold alive, how long the hold stays once that has closed, in milliseconds: the DELAY,
    /// 0 without one.
    pub session_delay_ms: Option<u64>,
    /// The level, if LEVEL is given: 1 to 65535.
    pub level: Option<u16>,
}

impl Acquire<'_> {
    /// Whether it waits if the lock is not available, by BLOCK or QUEUE.
    pub fn may_wait(&self) -> bool {
        self.block_ms.is_some() || self.queue_ms.is_some()
    }

    /// Whether the level is above 1. Such a request needs the hold of its token (G11).
    pub fn is_inner(&self) -> bool {
        is_inner(self.level)
    }
}

/// See [`Acquire::is_inner`].
pub(crate) fn is_inner(level: Option<u16>) -> bool {
    level.is_some_and(|level| level > 1)
}

/// LOCK.RELEASE key token [LEVEL n]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Release {
    /// Proof of ownership.
    pub token: Token,
    /// The level to release, with all levels above it. 1 ends the hold.
    pub level: u16,
}

/// LOCK.EXTEND key token [PX ms | EX s]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Extend {
    /// Proof of ownership.
    pub token: Token,
    /// How long the lease is to be. Without it, the length stays.
    pub lease_ms: Option<u64>,
}

/// LOCK.BREAK key [FENCE fence]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Break {
    /// Which holds are to end.
    pub holds: BreakTarget,
}

/// LOCK.TOP [COUNT n]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Top {
    /// How many locks to show at most, 1 or more.
    pub count: usize,
}

impl Top {
    /// Without COUNT.
    const DEFAULT_COUNT: usize = 10;
}

/// Which holds LOCK.BREAK ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BreakTarget {
    /// All of them.
    All,
    /// The one with this fence.
    One(Fence),
    /// None: the number cannot be a fence.
    Nobody,
}

impl BreakTarget {
    /// Whether the hold with this fence is one of them.
    pub fn names(self, fence: Fence) -> bool {
        match self {
            Self::All => true,
            Self::One(named) => named == fence,
            Self::Nobody => false,
        }
    }
}

impl<'a> Acquire<'a> {
    /// The command's name.
    pub const NAME: &'static str = "lock.acquire";
    /// The name of the command for several keys.
    pub const NAME_FOR_SEVERAL: &'static str = "lock.macquire";

    /// Reads what follows the key.
    ///
    /// # Errors
    /// [`Refusal::Syntax`], or what is wrong with one of the values.
    pub fn parse(words: impl Iterator<Item = &'a [u8]>, leases: LeaseRules) -> Result<Self, Refusal> {
        Self::parse_for(Self::NAME, words, leases)
    }

    /// Reads what follows the keys of LOCK.MACQUIRE, which are the same options.
    ///
    /// # Errors
    /// As for [`Acquire::parse`].
    pub fn parse_for_several(
        words: impl Iterator<Item = &'a [u8]>,
        leases: LeaseRules,
    ) -> Result<Self, Refusal> {
        Self::parse_for(Self::NAME_FOR_SEVERAL, words, leases)
    }

    #[inline(always)]
    #[allow(
        clippy::inline_always,
        reason = "most commands are LOCK.ACQUIRE, and a call would copy what was read"
    )]
    fn parse_for(
        command: &'static str,
        mut words: impl Iterator<Item = &'a [u8]>,
        leases: LeaseRules,
    ) -> Result<Self, Refusal> {
        let (mut lease, mut token, mut limit, mut block, mut owner) = (None, None, None, None, None);
        let (mut session, mut delay, mut level, mut queue, mut weight) = (None, None, None, None, None);
        while let Some(word) = words.next() {
            match Keyword::of(word).ok_or(Refusal::Syntax)? {
                Keyword::Lease(unit) => once(&mut lease, (unit, value(&mut words)?))?,
                Keyword::Token => once(&mut token, value(&mut words)?)?,
                Keyword::Shared => once(&mut limit, None)?,
                Keyword::Limit => once(&mut limit, Some(value(&mut words)?))?,
                Keyword::Weight => once(&mut weight, value(&mut words)?)?,
                Keyword::Block => once(&mut block, value(&mut words)?)?,
                Keyword::Queue => once(&mut queue, value(&mut words)?)?,
                Keyword::Owner => once(&mut owner, value(&mut words)?)?,
                Keyword::Session => once(&mut session, ())?,
                Keyword::Delay => once(&mut delay, value(&mut words)?)?,
                Keyword::Level => once(&mut level, value(&mut words)?)?,
                Keyword::Fence | Keyword::Count => return Err(Refusal::Syntax),
            }
        }
        if session.is_some() && queue.is_some() || session.is_none() && delay.is_some() {
            return Err(Refusal::Syntax);
        }
        let lease_ms = lease.map(|lease| parse_lease(lease, leases, command)).transpose()?;
        let delay = delay.map(|delay| (Unit::Milliseconds, delay));
        let delay_ms = delay.map(|delay| parse_lease(delay, leases, command)).transpose()?;
        if queue.is_some() && token.is_none() {
            return Err(Refusal::QueueWithoutToken);
        }
        Ok(Self {
            token: token.map(parse_token).transpose()?,
            lease_ms: lease_ms.unwrap_or(leases.default_ms),
            asked: parse_share(limit, weight)?,
            block_ms: block.map(parse_wait).transpose()?,
            queue_ms: queue.map(parse_queue).transpose()?,
            owner: owner.map(parse_owner).transpose()?,
            session_delay_ms: session.map(|()| delay_ms.unwrap_or(0)),
            level: level.map(parse_level).transpose()?,
        })
    }
}

impl Release {
    /// The command's name.
    pub const NAME: &'static str = "lock.release";

    /// Reads what follows the key.
    ///
    /// # Errors
    /// [`Refusal::Syntax`], or what is wrong with one of the values.
    pub fn parse<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Result<Self, Refusal> {
        let (token, mut level) = (value(&mut words)?, None);
        while let Some(word) = words.next() {
            match Keyword::of(word) {
                Some(Keyword::Level) => once(&mut level, value(&mut words)?)?,
                _ => return Err(Refusal::Syntax),
            }
        }
        Ok(Self { token: parse_token(token)?, level: level.map(parse_level).transpose()?.unwrap_or(1) })
    }
}

impl Release {
    /// Reads what follows the keys of LOCK.MRELEASE: the token alone.
    ///
    /// # Errors
    /// [`Refusal::Syntax`] or [`Refusal::TokenLength`].
    pub fn parse_whole<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Result<Self, Refusal> {
        let token = value(&mut words)?;
        if words.next().is_some() {
            return Err(Refusal::Syntax);
        }
        Ok(Self { token: parse_token(token)?, level: 1 })
    }
}

impl Extend {
    /// The command's name.
    pub const NAME: &'static str = "lock.extend";

    /// Reads what follows the key.
    ///
    /// # Errors
    /// [`Refusal::Syntax`], or what is wrong with one of the values.
    pub fn parse<'a>(words: impl Iterator<Item = &'a [u8]>, leases: LeaseRules) -> Result<Self, Refusal> {
        Self::parse_for(Self::NAME, words, leases)
    }

    /// Reads what follows the keys of LOCK.MEXTEND, which is the same.
    ///
    /// # Errors
    /// As for [`Extend::parse`].
    pub fn parse_for_several<'a>(
        words: impl Iterator<Item = &'a [u8]>,
        leases: LeaseRules,
    ) -> Result<Self, Refusal> {
        Self::parse_for("lock.mextend", words, leases)
    }

    fn parse_for<'a>(
        command: &'static str,
        mut words: impl Iterator<Item = &'a [u8]>,
        leases: LeaseRules,
    ) -> Result<Self, Refusal> {
        let (token, mut lease) = (value(&mut words)?, None);
        while let Some(word) = words.next() {
            match Keyword::of(word) {
                Some(Keyword::Lease(unit)) => once(&mut lease, (unit, value(&mut words)?))?,
                _ => return Err(Refusal::Syntax),
            }
        }
        let token = parse_token(token)?;
        let lease_ms = lease.map(|lease| parse_lease(lease, leases, command)).transpose()?;
        Ok(Self { token, lease_ms })
    }
}

impl Top {
    /// Reads what follows the command.
    ///
    /// # Errors
    /// [`Refusal::Syntax`], or [`Refusal::NotAnInteger`].
    pub fn parse<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Result<Self, Refusal> {
        let mut count = None;
        while let Some(word) = words.next() {
            match Keyword::of(word) {
                Some(Keyword::Count) => once(&mut count, value(&mut words)?)?,
                _ => return Err(Refusal::Syntax),
            }
        }
        let count = match count {
            None => Self::DEFAULT_COUNT,
            Some(number) => match usize::try_from(parse_integer(number)?) {
                Ok(count @ 1..) => count,
                _ => return Err(Refusal::NotAnInteger),
            },
        };
        Ok(Self { count })
    }
}

impl Break {
    /// The command's name.
    pub const NAME: &'static str = "lock.break";

    /// Reads what follows the key.
    ///
    /// # Errors
    /// [`Refusal::Syntax`], or [`Refusal::NotAnInteger`].
    pub fn parse<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Result<Self, Refusal> {
        let mut fence = None;
        while let Some(word) = words.next() {
            match Keyword::of(word) {
                Some(Keyword::Fence) => once(&mut fence, value(&mut words)?)?,
                _ => return Err(Refusal::Syntax),
            }
        }
        let holds = match fence {
            None => BreakTarget::All,
            Some(number) => fence_of(parse_integer(number)?).map_or(BreakTarget::Nobody, BreakTarget::One),
        };
        Ok(Self { holds })
    }
}

/// The most keys that a command for several may name.
pub const MOST_KEYS: usize = 256;

/// Reads how many keys a command for several names.
///
/// # Errors
/// [`Refusal::NotAnInteger`] or [`Refusal::KeysRange`].
pub fn parse_number_of_keys(number: &[u8]) -> Result<usize, Refusal> {
    match usize::try_from(parse_integer(number)?) {
        Ok(number @ 1..=MOST_KEYS) => Ok(number),
        _ => Err(Refusal::KeysRange),
    }
}

/// The keys of a command for several, each once, in the order in which they are named first.
pub fn distinct<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> Vec<K> {
    let keys = keys.into_iter();
    let mut kept: Vec<K> = Vec::with_capacity(keys.size_hint().0);
    // There are few of them. Most are told apart by a number each, and need not be read again.
    let mut numbers: SmallVec<[u64; 16]> = SmallVec::new();
    for key in keys {
        let number = ends_of(key.as_ref());
        if !numbers.contains(&number) || kept.iter().all(|other| other.as_ref() != key.as_ref()) {
            numbers.push(number);
            kept.push(key);
        }
    }
    kept
}

/// A number that is the same for the same bytes, and rarely for others: it has their length and both their ends.
fn ends_of(bytes: &[u8]) -> u64 {
    let (first, last) = match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => (0, bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))),
    };
    first.rotate_left(1) ^ last ^ (bytes.len() as u64).rotate_left(32)
}

/// Reads the token that LOCK.CHECK takes.
///
/// # Errors
/// [`Refusal::TokenLength`]
pub fn parse_token(text: &[u8]) -> Result<Token, Refusal> {
    Token::from_text(text).ok_or(Refusal::TokenLength)
}

/// Reads the fence that LOCK.FENCE takes.
///
/// # Errors
/// [`Refusal::NotAnInteger`] for what can be nobody's fence.
pub fn parse_fence(number: &[u8]) -> Result<Fence, Refusal> {
    fence_of(parse_integer(number)?).ok_or(Refusal::NotAnInteger)
}

fn fence_of(number: i64) -> Option<Fence> {
    u64::try_from(number).ok().and_then(Fence::new)
}

#[cfg(test)]
mod tests;
