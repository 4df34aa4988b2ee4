//! Every error that a client can get, and its text: what is wrong, and what to do about it. No text repeats what a client
//! has sent.

use alloc::boxed::Box;
use core::fmt;

/// Why a request failed. A lock that others hold is no error: the reply is null or 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// An unknown option, an option given twice, two options that exclude each other, or an option without its value.
    Syntax,
    /// A number was expected, or the number does not fit into 64 bits.
    NotAnInteger,
    /// A lease that is zero, negative or above `lock.max-lease`. Holds the name of the command.
    InvalidExpire(&'static str),
    /// LIMIT outside 1 to 65535.
    LimitRange,
    /// WEIGHT outside 1 to the limit, or a limit below the weight that the holder has.
    WeightRange,
    /// LEVEL outside 1 to 65535.
    LevelRange,
    /// A token that is empty or too long.
    TokenLength,
    /// A label that is too long.
    OwnerLength,
    /// BLOCK or QUEUE is negative.
    NegativeTimeout,
    /// BLOCK or QUEUE is above a hundred years, or QUEUE is 0.
    TimeoutRange,
    /// QUEUE without TOKEN.
    QueueWithoutToken,
    /// SESSION where there is no connection that could keep the hold.
    NoConnection,
    /// SESSION for a hold that is a string, which cannot be tied to a connection.
    SessionOfString,
    /// One more waiter would exceed a cap. Holds the name of the setting.
    QueueFull(&'static str),
    /// Another holder already waits to change its limit: each of the two would wait for the other.
    Deadlock,
    /// Owners named by OWNER would wait for each other in a circle: see [`crate::Table::take_circle`].
    Circle,
    /// The user of the waiting client may no longer acquire this lock.
    NoPermission,
    /// The server became a replica while the client waited.
    Demoted,
    /// Another node of the cluster serves the key. Holds the slot and that node: `slot host:port`.
    Moved(Box<str>),
    /// The slot of the key is moving to another node of the cluster, and the key has already left.
    InTransit,
    /// The cluster is down.
    ClusterDown,
    /// No node of the cluster serves the slot of the key.
    SlotNotServed,
    /// The key holds a value of another type.
    WrongType,
    /// The sequence of fences has reached its end: see [`crate::fence`].
    FencesExhausted,
    /// The command failed inside the module. The client did nothing wrong.
    Internal,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax => f.write_str("ERR syntax error"),
            Self::NotAnInteger => f.write_str("ERR value is not an integer or out of range"),
            Self::InvalidExpire(command) => write!(f, "ERR invalid expire time in '{command}' command"),
            Self::LimitRange => f.write_str("ERR LIMIT must be between 1 and 65535"),
            Self::WeightRange => f.write_str("ERR WEIGHT must be between 1 and the limit"),
            Self::LevelRange => f.write_str("ERR LEVEL must be between 1 and 65535"),
            Self::TokenLength => f.write_str("ERR token must be 1 to 255 bytes"),
            Self::OwnerLength => f.write_str("ERR owner must be at most 255 bytes"),
            Self::NegativeTimeout => f.write_str("ERR timeout is negative"),
            Self::TimeoutRange => f.write_str("ERR timeout is out of range"),
            Self::QueueWithoutToken => f.write_str(
                "ERR QUEUE needs TOKEN: make a token of your own, and send it again whenever you repeat the command",
            ),
            Self::NoConnection => {
                f.write_str(
                "ERR SESSION needs a connection: send the command outside of scripts and functions, on a connection that was \
                 opened after the module was loaded",
            )
            }
            Self::SessionOfString => f.write_str(
                "ERR SESSION cannot keep a lock alive that was made by SET: release it, then acquire it again",
            ),
            Self::QueueFull(setting) => {
                write!(f, "QUEUEFULL too many clients and places are waiting: try again later, or raise {setting}")
            }
            Self::Deadlock => f.write_str(
                "DEADLOCK another holder of this lock already waits to change its limit: release the lock, then acquire it again",
            ),
            Self::Circle => f.write_str(
                "DEADLOCK the owners of these locks would wait for each other in a circle: release what you hold, then acquire it \
                 again",
            ),
            Self::NoPermission => f.write_str(
                "NOPERM this user no longer has permissions to run the 'lock.acquire' command on this key: ask the operator for \
                 them, then acquire the lock again",
            ),
            Self::Demoted => f.write_str(
                "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
            ),
            Self::Moved(slot_and_node) => write!(f, "MOVED {slot_and_node}"),
            Self::InTransit => f.write_str(
                "TRYAGAIN the slot of this lock is moving to another node: send the command again and follow the redirection",
            ),
            Self::ClusterDown => f.write_str("CLUSTERDOWN The cluster is down"),
            Self::SlotNotServed => f.write_str("CLUSTERDOWN Hash slot not served"),
            Self::WrongType => {
                f.write_str("WRONGTYPE Operation against a key holding the wrong kind of value")
            }
            Self::FencesExhausted => f.write_str(
                "ERR fences are used up: a lock with a fence close to 2^53 was loaded or restored. Remove that lock, and restart \
                 the server from data that were saved before it was added",
            ),
            Self::Internal => f.write_str(
                "ERR the lock module failed on this command: see the server's log, and please report it",
            ),
        }
    }
}

impl core::error::Error for Refusal {}
