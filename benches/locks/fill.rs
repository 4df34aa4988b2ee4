//! Many keys at once.

use std::time::{Duration, Instant};

use crate::loads::{TOKEN_LEN, granted};
use crate::pipe::{Batch, Pipe};
use crate::support::Server;

/// Commands in one batch.
const BATCH: usize = 1000;

/// The same for holds on one lock, each of which may cost the more the more there are.
const SHARED_BATCH: usize = 200;

/// What is a good time to get very many holds on one lock.
pub(crate) const TO_BUILD: Duration = Duration::from_secs(30);

/// A lease that does not end while other things are measured, in milliseconds. What is left of it has as many digits.
pub(crate) const LONG_LEASE_MS: u64 = 5_000_000;

/// Sends so many commands, made from their numbers, each of which must be answered with `reply`.
pub(crate) fn fill<A: AsRef<[u8]>>(
    server: &Server,
    count: usize,
    reply: &str,
    command: impl Fn(usize) -> Vec<A>,
) {
    fill_on(&mut Pipe::connect(server), count, reply, command);
}

/// The same on a connection of the caller.
pub(crate) fn fill_on<A: AsRef<[u8]>>(
    pipe: &mut Pipe,
    count: usize,
    reply: &str,
    command: impl Fn(usize) -> Vec<A>,
) {
    for start in (0..count).step_by(BATCH) {
        let mut batch = Batch::default();
        for number in start..count.min(start + BATCH) {
            batch.push(&command(number), reply);
        }
        pipe.exchange(&batch);
    }
}

/// Takes so many locks that stay held, an hour and more, while other things are measured.
pub(crate) fn hold_crowd(server: &Server, count: usize) {
    fill(server, count, &granted(32), |number| {
        let lease = (3_600_000 + number).to_string();
        vec!["LOCK.ACQUIRE".to_owned(), format!("crowd:{number:07}"), "PX".to_owned(), lease]
    });
}

/// Takes so many SHARED holds on one lock, with the options given besides, and returns their tokens: fewer, if that takes
/// long.
pub(crate) fn hold_shared(
    pipe: &mut Pipe,
    key: &str,
    count: usize,
    until: Instant,
    mut options: impl FnMut() -> String,
) -> Vec<String> {
    let granted = granted(TOKEN_LEN);
    let token_start = granted.find('?').unwrap();
    let mut tokens = Vec::with_capacity(count);
    while tokens.len() < count && Instant::now() < until {
        let options = options();
        let command: Vec<&str> =
            ["LOCK.ACQUIRE", key, "SHARED"].into_iter().chain(options.split_ascii_whitespace()).collect();
        let mut batch = Batch::default();
        for _ in tokens.len()..count.min(tokens.len() + SHARED_BATCH) {
            batch.push(&command, &granted);
        }
        let replies = pipe.exchange(&batch).chunks_exact(granted.len());
        let token = |reply: &[u8]| String::from_utf8_lossy(&reply[token_start..][..TOKEN_LEN]).into_owned();
        tokens.extend(replies.map(token));
    }
    tokens
}

/// A lock that very many hold, SHARED, for long: their tokens, as many as there could be in good time.
pub(crate) fn hold_by_many(server: &Server, key: &str, count: usize) -> Vec<String> {
    let until = Instant::now() + TO_BUILD;
    hold_shared(&mut Pipe::connect(server), key, count, until, || format!("PX {LONG_LEASE_MS}"))
}
