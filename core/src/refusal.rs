//! Every error that a client can get, and its text: what is wrong, and what to do about it. No text repeats what a client
//! has sent.

use alloc::boxed::Box;
use core::fmt;

use crate::request::MOST_KEYS;

/// Why a request failed. A lock that others hold is no error: the reply is null or 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// An unknown option, an option given twice, two options that exclude each other, or an option without its value.
    Syntax,
    /// A number was expected, or the number does not fit into 64 bits.
    NotAnInteger,
    /// A lease that is zero, negative or above `lock.max-lease`. Holds the name of the command.
    InvalidExpire(&'static str),
    /// A number of keys outside 1 to [`crate::request::MOST_KEYS`].
    KeysRange,
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
    /// A request for several locks would have to wait for some of them while its token holds others.
    HeldInPart,
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
    /// LOCK.GUARD with a token that does not hold the lock.
    NotOwner,
    /// LOCK.GUARD of a command that may wait.
    GuardedWaits,
    /// LOCK.GUARD of a command that is about the connection or the server, and not allowed in scripts either.
    GuardedNotAllowed,
    /// LOCK.GUARD of a command that changes the state of the connection.
    GuardedConnection,
    /// LOCK.GUARD of LOCK.GUARD.
    GuardedGuard,
    /// LOCK.GUARD of a script or function, in a script or function.
    GuardedScriptInScript,
    /// LOCK.GUARD of a command whose name holds a NUL byte.
    UnknownCommand,
    /// LOCK.GUARD of a command that the user may not run on these keys and channels.
    GuardedNoPermission,
    /// LOCK.GUARD while the server refuses what modules call.
    GuardedNotNow,
    /// LOCK.GUARD of a command whose reply the server has lost.
    GuardedReplyLost,
    /// LOCK.GUARD where COMMAND or CONFIG cannot be called.
    GuardedNotKnown,
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
            Self::KeysRange => write!(f, "ERR numkeys must be between 1 and {MOST_KEYS}"),
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
            Self::HeldInPart => f.write_str(
                "DEADLOCK this token holds some of these locks already, and would have to wait for the others: release what it \
                 holds, then acquire all of them together",
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
            Self::NotOwner => f.write_str(
                "NOTOWNER the token does not hold this lock, and nothing has run: stop what the lock is for, or acquire it again",
            ),
            Self::GuardedWaits => f.write_str(
                "ERR LOCK.GUARD runs no command that may wait: send one that does not, or a script",
            ),
            Self::GuardedNotAllowed => f.write_str(
                "ERR LOCK.GUARD runs no command that scripts may not run: send it by itself",
            ),
            Self::GuardedConnection => f.write_str(
                "ERR LOCK.GUARD runs no command that changes the state of the connection: send it by itself",
            ),
            Self::GuardedGuard => f.write_str(
                "ERR LOCK.GUARD does not run LOCK.GUARD: guard a script that checks the other lock",
            ),
            Self::GuardedScriptInScript => f.write_str(
                "ERR LOCK.GUARD runs no script or function in another one: call LOCK.GUARD for each command, or guard the whole \
                 script",
            ),
            Self::UnknownCommand => f.write_str("ERR unknown command: no name of a command holds a NUL byte"),
            Self::GuardedNoPermission => f.write_str(
                "NOPERM this user has no permissions to run the command behind LOCK.GUARD, or to use its keys or channels: ask the \
                 operator for them",
            ),
            Self::GuardedNotNow => f.write_str(
                "TRYAGAIN the server refuses for now what LOCK.GUARD has to ask it, and nothing has run: send the command again",
            ),
            Self::GuardedReplyLost => f.write_str(
                "ERR LOCK.GUARD has run the command, and the server has lost its reply, which is mostly an error: look at its keys, or \
                 guard a script that calls it",
            ),
            Self::GuardedNotKnown => f.write_str(
                "ERR LOCK.GUARD needs the server's commands COMMAND and, for scripts, CONFIG, which are renamed or removed here: ask \
                 the operator to bring them back",
            ),
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
