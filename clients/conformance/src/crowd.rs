//! Very many who wait, by one client: they hold up neither the renewal of what is held nor its release, and all get their
//! turn.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bed::{Bed, Info};
use crate::client::{Client, Outcome, PATIENCE};
use crate::testee::Testee;

/// More than any pool of connections that a client has for those who wait.
const WAITERS: usize = 100;

const LEASE_MS: u64 = 5_000;

/// Far less than waiters are blocked for, and far more than a release takes on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(2);

pub(crate) fn waits(testee: &Testee, bed: &Bed, protocol: u8) {
    let client = Client::of(testee, bed, protocol);
    let lock = "crowded";
    client.hold("A", "a", lock, json!({"lease": LEASE_MS}));
    let actor = |number: usize| format!("waiter {number}");
    let waiting: Vec<_> = (0..WAITERS)
        .map(|number| {
            client.acquire(&actor(number), &actor(number), lock, json!({"wait": 120_000, "level": 1}))
        })
        .collect();
    bed.wait_info(lock, PATIENCE, |info| info.waiting == i64::try_from(WAITERS).unwrap());

    let end = Instant::now() + Duration::from_millis(2 * LEASE_MS);
    while Instant::now() < end {
        let state = client.state("a");
        assert!(state.held && state.lost == 0, "{state:?}");
        thread::sleep(Duration::from_millis(50));
    }
    let begin = Instant::now();
    client.assert_released("A", "a");
    assert!(begin.elapsed() < AT_ONCE, "a release took {:?}", begin.elapsed());

    // Whose turn it is the server decides; here each releases as soon as it holds it.
    let fences: Vec<u64> = thread::scope(|scope| {
        let taking: Vec<_> = waiting
            .into_iter()
            .enumerate()
            .map(|(number, sent)| {
                let (client, actor) = (&client, &actor);
                scope.spawn(move || match client.finish(&sent, 2 * PATIENCE) {
                    Outcome::Held { fence, .. } => {
                        client.assert_released(&actor(number), &actor(number));
                        fence
                    }
                    other => panic!("waiter {number} is to hold it, and it is {other:?}"),
                })
            })
            .collect();
        taking.into_iter().map(|each| each.join().unwrap()).collect()
    });
    let mut different = fences.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), WAITERS, "each has a fence of its own: {fences:?}");
    bed.wait_info(lock, PATIENCE, |info| *info == Info::default());
    client.close();
}
