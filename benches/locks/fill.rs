//! Many keys at once.

use crate::loads::granted;
use crate::pipe::{Batch, Pipe};
use crate::support::Server;

/// Commands in one batch.
const BATCH: usize = 1000;

/// Sends so many commands, made from their numbers, each of which must be answered with `reply`.
pub(crate) fn fill<A: AsRef<[u8]>>(
    server: &Server,
    count: usize,
    reply: &str,
    command: impl Fn(usize) -> Vec<A>,
) {
    let mut pipe = Pipe::connect(server);
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
