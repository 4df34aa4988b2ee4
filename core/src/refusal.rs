//! Every error a client can be given, and its text. Nothing a client sent is ever part of it.

use alloc::boxed::Box;
use core::fmt;

/// Why a request was refused. Contention is not among the reasons: it is answered with null or 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// A word that is no option here, an option twice, two that exclude each other, or one without its value.
    Syntax,
    /// A number that is none, or that no 64 bits hold.
    NotAnInteger,
    /// A lease of zero or less, or above the configured longest. Names the command.
    InvalidExpire(&'static str),
    /// LIMIT outside 1 to 65535.
    LimitRange,
    /// LEVEL outside 1 to 65535.
    LevelRange,
    /// A token that is empty or too long.
    TokenLength,
    /// A label that is too long.
    OwnerLength,
    /// BLOCK below zero.
    NegativeTimeout,
    /// BLOCK beyond all reason.
    TimeoutRange,
    /// SESSION where there is no connection.
    NoConnection,
    /// The request would exceed a cap on waiting clients. Names the setting.
    QueueFull(&'static str),
    /// Waiting could never end.
    Deadlock,
    /// The user that waits may not take this lock any more.
    NoPermission,
    /// The server that was to grant the lock is a replica now.
    Demoted,
    /// The key is another node's of the cluster. Says which slot it is in, and whose that is: `slot host:port`.
    Moved(Box<str>),
    /// The slot of the key is on its way to another node of the cluster, and the key with it.
    InTransit,
    /// The cluster is down.
    ClusterDown,
    /// No node of the cluster serves the slot of the key.
    SlotNotServed,
    /// The key holds another type.
    WrongType,
    /// The sequence of fences has come to its end; see [`crate::fence`].
    FencesExhausted,
    /// The command failed inside the module; nothing the client did wrong.
    Internal,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax => f.write_str("ERR syntax error"),
            Self::NotAnInteger => f.write_str("ERR value is not an integer or out of range"),
            Self::InvalidExpire(command) => write!(f, "ERR invalid expire time in '{command}' command"),
            Self::LimitRange => f.write_str("ERR LIMIT must be between 1 and 65535"),
            Self::LevelRange => f.write_str("ERR LEVEL must be between 1 and 65535"),
            Self::TokenLength => f.write_str("ERR token must be 1 to 255 bytes"),
            Self::OwnerLength => f.write_str("ERR owner must be at most 255 bytes"),
            Self::NegativeTimeout => f.write_str("ERR timeout is negative"),
            Self::TimeoutRange => f.write_str("ERR timeout is out of range"),
            Self::NoConnection => {
                f.write_str("ERR SESSION ties a hold to a connection: not in a script or a function, and not on a connection that is older \
                     than the module")
            }
            Self::QueueFull(setting) => {
                write!(f, "QUEUEFULL too many clients are waiting: try again later, or raise {setting}")
            }
            Self::Deadlock => f.write_str(
                "DEADLOCK another holder of this lock waits to change its limit too: release the lock, then acquire it anew",
            ),
            Self::NoPermission => f.write_str(
                "NOPERM this user has no permissions any more to run the 'lock.acquire' command on this key: ask the operator for them, \
                 then acquire the lock anew",
            ),
            Self::Demoted => f.write_str(
                "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
            ),
            Self::Moved(slot_and_node) => write!(f, "MOVED {slot_and_node}"),
            Self::InTransit => f.write_str(
                "TRYAGAIN the slot of this lock is moving to another node: send the command again, and follow where it is redirected",
            ),
            Self::ClusterDown => f.write_str("CLUSTERDOWN The cluster is down"),
            Self::SlotNotServed => f.write_str("CLUSTERDOWN Hash slot not served"),
            Self::WrongType => {
                f.write_str("WRONGTYPE Operation against a key holding the wrong kind of value")
            }
            Self::FencesExhausted => f.write_str(
                "ERR no fence is left below 2^53: a lock with an extreme fence was loaded or restored; \
                 remove it and restart from data saved before it came",
            ),
            Self::Internal => f.write_str(
                "ERR the lock module failed on this command, see the server's log; please report it",
            ),
        }
    }
}

impl core::error::Error for Refusal {}
