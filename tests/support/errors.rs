//! The errors of the contract, word for word.

use super::client::Client;
use super::reply::Reply;

pub(crate) const SYNTAX: &str = "ERR syntax error";
pub(crate) const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
pub(crate) const LIMIT: &str = "ERR LIMIT must be between 1 and 65535";
pub(crate) const NUMKEYS: &str = "ERR numkeys must be between 1 and 256";
pub(crate) const WEIGHT: &str = "ERR WEIGHT must be between 1 and the limit";
pub(crate) const TOKEN: &str = "ERR token must be 1 to 255 bytes";
pub(crate) const OWNER: &str = "ERR owner must be at most 255 bytes";
pub(crate) const NOT_OWNER: &str = "NOTOWNER the token does not hold this lock, and nothing has run: stop what the lock is for, or acquire it again";
pub(crate) const TIMEOUT_NEGATIVE: &str = "ERR timeout is negative";
pub(crate) const TIMEOUT_RANGE: &str = "ERR timeout is out of range";
pub(crate) const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";

/// The error for a lease that is none.
pub(crate) fn invalid_expire(command: &str) -> String {
    let command = command.to_lowercase();
    format!("ERR invalid expire time in '{command}' command")
}

/// The error for too few or too many arguments.
pub(crate) fn arity(command: &str) -> String {
    let command = command.to_lowercase();
    format!("ERR wrong number of arguments for '{command}' command")
}

/// Runs a command, its arguments parted by blanks, which must fail with exactly this error.
#[track_caller]
pub(crate) fn fails(client: &mut Client, command: &str, error: &str) {
    assert_eq!(client.run(command), Reply::Error(error.into()), "{command}");
}

/// Runs a command of any bytes which must fail with exactly this error.
#[track_caller]
pub(crate) fn call_fails<A: AsRef<[u8]>>(client: &mut Client, arguments: &[A], error: &str) {
    let reply = client.call(arguments);
    assert_eq!(reply, Reply::Error(error.into()), "{}", show(arguments));
}

/// A command's arguments, escaped and cut to a readable length.
pub(crate) fn show<A: AsRef<[u8]>>(arguments: &[A]) -> String {
    let shown: Vec<String> = arguments
        .iter()
        .map(|argument| {
            let bytes = argument.as_ref();
            let start = bytes.get(..40).unwrap_or(bytes).escape_ascii();
            format!("\"{start}\"({})", bytes.len())
        })
        .collect();
    shown.join(" ")
}
