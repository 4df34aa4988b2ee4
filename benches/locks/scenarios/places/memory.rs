//! What a place in the queue takes of the server's memory.

use super::{KEPT_MS, TICKET, server_for};
use crate::effort::Effort;
use crate::fill::{LONG_LEASE_MS, fill};
use crate::loads::{granted, token, uuid};
use crate::report::{Bound, Section, Target};
use crate::scenarios::memory::{until_alone, used_memory};
use crate::stats::count;

/// Places in all, and for how many locks.
const CROWDS: [(usize, usize); 2] = [(10_000, 1), (100_000, 1_000)];

/// The most that a place may take, in bytes.
const MOST_BYTES: f64 = 400.0;

/// Makes a token from a number.
type MakeToken = fn(usize) -> String;

/// The kinds of tokens.
const TOKENS: [(&str, MakeToken); 2] = [("32 hex digits", token), ("UUID of 36 characters", uuid)];

pub(crate) fn run(_: &Effort) -> Section {
    let mut rows = Vec::new();
    let mut targets = Vec::new();
    for (places, locks) in CROWDS {
        for (kind, make_token) in TOKENS {
            let bytes = bytes_each(places, locks, make_token);
            rows.push(vec![count(places), count(locks), kind.to_owned(), format!("{bytes:.1}")]);
            targets.push(Target {
                name: format!(
                    "memory of a place in the queue; {} in {}, token {kind}",
                    count(places),
                    if locks == 1 { "one queue".to_owned() } else { format!("{} queues", count(locks)) },
                ),
                figure: bytes,
                unit: "bytes",
                bound: Bound::Ceiling(MOST_BYTES),
            });
        }
    }
    Section {
        title: "Memory of places in the queue",
        method: "By how much `used_memory` grows when so many tokens ask with QUEUE for locks that are held, the same \
                 number for each lock, divided by their number. No connection waits."
            .to_owned(),
        columns: vec!["places", "locks", "token", "bytes a place"],
        rows,
        targets,
        plots: Vec::new(),
    }
}

/// Bytes of memory each of so many places takes.
fn bytes_each(places: usize, locks: usize, make_token: MakeToken) -> f64 {
    let server = server_for(places);
    let mut client = server.client();
    let key = |number: usize| format!("lock:{:04}", number % locks);
    let lease = LONG_LEASE_MS.to_string();
    fill(&server, locks, &granted(make_token(0).len()), |number| {
        ["LOCK.ACQUIRE", &key(number), "PX", &lease, "TOKEN", &make_token(number)].map(str::to_owned).to_vec()
    });
    until_alone(&mut client);
    let before = used_memory(&mut client);
    fill(&server, places, TICKET, |number| {
        let (key, token) = (key(number), make_token(locks + number));
        ["LOCK.ACQUIRE", &key, "PX", &lease, "TOKEN", &token, "QUEUE", KEPT_MS].map(str::to_owned).to_vec()
    });
    until_alone(&mut client);
    (used_memory(&mut client) - before) / places as f64
}
