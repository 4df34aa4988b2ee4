//! What reaches the caller.

use redis::{ErrorKind, RedisError};
use std::fmt;

/// Why a lock could not be acquired, extended or released.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The lock ended before its holder released it, or the outer level of it did.
    Lost,
    /// Too many wait for this lock, or on this server.
    QueueFull(RedisError),
    /// The wait could never have ended.
    Deadlock(RedisError),
    /// The user of this connection may not acquire this lock.
    NotPermitted(RedisError),
    /// The key holds something that is no lock.
    WrongType(RedisError),
    /// Fewer replicas than wanted have confirmed the grant. The lock was released again.
    TooFewReplicas {
        /// How many have confirmed it in time.
        confirmed: u64,
        /// How many were to confirm it.
        wanted: u64,
    },
    /// Options that do not go together, or are out of range.
    Invalid(&'static str),
    /// What the server or the library says besides. No server has answered in time, if it is none of the server's errors.
    Redis(RedisError),
}

/// Errors after which the same request may succeed: the table in docs/clients.md.
const PASSING: [&str; 12] = [
    "LOADING",
    "READONLY",
    "UNBLOCKED",
    "MOVED",
    "ASK",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "BUSY",
    "NOREPLICAS",
    "MISCONF",
    "OOM",
];

impl Error {
    /// Whether the server may have done what it was asked. What it refuses it has not done.
    pub(crate) fn is_no_reply(&self) -> bool {
        matches!(self, Self::Redis(error) if error.code().is_none())
    }

    pub(crate) fn passes(&self) -> bool {
        let Self::Redis(error) = self else { return false };
        match (error.code(), error.kind()) {
            (Some(code), _) => PASSING.contains(&code),
            (None, ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig | ErrorKind::Client) => {
                false
            }
            (None, ErrorKind::EmptySentinelList | ErrorKind::RESP3NotSupported) => false,
            (None, _) => true,
        }
    }
}

impl From<RedisError> for Error {
    fn from(error: RedisError) -> Self {
        match error.code() {
            Some("QUEUEFULL") => Self::QueueFull(error),
            Some("DEADLOCK") => Self::Deadlock(error),
            Some("NOPERM") => Self::NotPermitted(error),
            Some("WRONGTYPE") => Self::WrongType(error),
            _ => Self::Redis(error),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("the lock is not held any more"),
            Self::QueueFull(error) => write!(f, "too many wait: {error}"),
            Self::Deadlock(error) => write!(f, "the wait could never end: {error}"),
            Self::NotPermitted(error) => write!(f, "the lock may not be acquired: {error}"),
            Self::WrongType(error) => write!(f, "the key holds no lock: {error}"),
            Self::TooFewReplicas { confirmed, wanted } => {
                write!(f, "{confirmed} of {wanted} replicas have confirmed the lock in time")
            }
            Self::Invalid(what) => f.write_str(what),
            Self::Redis(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::QueueFull(error)
            | Self::Deadlock(error)
            | Self::NotPermitted(error)
            | Self::WrongType(error)
            | Self::Redis(error) => Some(error),
            Self::Lost | Self::TooFewReplicas { .. } | Self::Invalid(_) => None,
        }
    }
}
