//! How long after the end of a lease the next in the queue knows that it is the holder.

use std::time::{Duration, Instant};

use crate::cpu;
use crate::effort::Effort;
use crate::loads::{TOKEN_LEN, granted};
use crate::many::Many;
use crate::pipe::Batch;
use crate::report::{Bound, Section, Target};
use crate::stats::{percentile, typical};
use crate::support::{PATIENCE, Server};

/// Leases that end at once.
const LOCKS: usize = 200;

/// How long they last: time enough for all to take a lock and all to wait for one.
const LEASE: Duration = Duration::from_millis(200);

/// Rounds for each round of the other scenarios of leases that end.
const ROUNDS: usize = 4;

pub(crate) fn run(effort: &Effort) -> Section {
    let server = Server::start();
    cpu::let_settle();
    let (mut holders, mut waiters) = (Many::connect(&server, 1), Many::connect(&server, LOCKS));
    let rounds: Vec<Vec<f64>> = (0..effort.endings * ROUNDS)
        .map(|_| {
            server.client().ok("FLUSHALL");
            late_ms(&mut holders, &mut waiters)
        })
        .collect();
    let p99 = typical(&rounds, 99.0);
    let row = [typical(&rounds, 50.0), p99, percentile(&rounds.concat(), 100.0)];
    Section {
        title: "Hand-over when leases end",
        method: format!(
            "{LOCKS} locks are taken whose leases end together, and for each a client waits with `LOCK.ACQUIRE BLOCK`, \
             {rounds} rounds. A figure is the time from the end of the lease, counted by the client from just before it \
             sent the commands that took the locks, until the reply to the client that waited is there. p50 and p99 \
             are the medians of the rounds' percentiles, max is the worst of all rounds.",
            rounds = rounds.len(),
        ),
        columns: vec!["locks", "p50 ms", "p99 ms", "max ms"],
        rows: vec![[LOCKS.to_string()].into_iter().chain(row.map(|ms| format!("{ms:.2}"))).collect()],
        targets: vec![Target {
            name: format!("a lease's end to the next holder's reply, p99 of {LOCKS} at once"),
            figure: p99,
            unit: "ms",
            bound: Bound::Ceiling(3.0),
        }],
        plots: Vec::new(),
    }
}

/// Lets the leases end once, and notes by how many milliseconds the replies came later.
fn late_ms(holders: &mut Many, waiters: &mut Many) -> Vec<f64> {
    let granted = granted(TOKEN_LEN);
    let lease = LEASE.as_millis().to_string();
    let key = |number: usize| format!("ending:{number}");
    let mut take = Batch::default();
    for number in 0..LOCKS {
        take.push(&["LOCK.ACQUIRE", &key(number), "PX", &lease], &granted);
    }
    let end = Instant::now() + LEASE;
    holders.send(0, &take);
    while holders.wait(PATIENCE).is_empty() {}
    for number in 0..LOCKS {
        let mut ask = Batch::default();
        ask.push(&["LOCK.ACQUIRE", &key(number), "PX", "60000", "BLOCK", "60000"], &granted);
        waiters.send(number, &ask);
    }
    assert!(Instant::now() < end, "this machine is too slow to let {LOCKS} wait within {LEASE:?}");
    let mut late_ms = Vec::new();
    while late_ms.len() < LOCKS {
        for answered in waiters.wait(PATIENCE) {
            assert!(answered.as_expected && answered.at >= end, "a lease ended early");
            late_ms.push((answered.at - end).as_secs_f64() * 1e3);
        }
    }
    late_ms
}
