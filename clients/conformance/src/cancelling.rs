//! Cancellations around the moment of a grant leave neither a hold nor a place.

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bed::{Bed, Info};
use crate::client::{Client, Outcome, PATIENCE};
use crate::faults::{Fault, fraction};
use crate::support::locks::acquire;
use crate::support::{Random, Reply};
use crate::testee::Testee;

const TIMES: usize = 300;

/// How many wait at a time.
const ACTORS: usize = 5;

/// Longer than the test takes: what is left is seen.
const LEASE_MS: u64 = 600_000;

/// Each lock is held by somebody else, who releases it at about the time at which who waits for it is cancelled. With
/// `several` it is waited for together with another one, which is free.
pub(crate) fn around_the_grant(testee: &Testee, bed: &Bed, protocol: u8, options: &Value, several: bool) {
    let client = Client::of(testee, bed, protocol);
    let mut random = Random::from_environment();
    let seeds: Vec<u64> = (0..ACTORS).map(|_| random.next()).collect();
    let counts = Mutex::new([0; 2]);
    thread::scope(|scope| {
        for (actor, seed) in seeds.into_iter().enumerate() {
            let (client, counts) = (&client, &counts);
            scope.spawn(move || {
                let mut random = Random::from_seed(seed);
                // How soon a client is granted depends on how and on the machine: the cancellations follow what comes of them.
                let mut within = 0.006_f64;
                for number in 0..TIMES / ACTORS {
                    let locks = locks_of(actor, number, several);
                    let held = one(client, bed, &mut random, within, actor, &locks, options.clone());
                    within = if held { (within * 0.9).max(0.003) } else { (within * 1.1).min(0.5) };
                    counts.lock().unwrap()[usize::from(held)] += 1;
                }
            });
        }
    });
    for actor in 0..ACTORS {
        for number in 0..TIMES / ACTORS {
            for lock in locks_of(actor, number, several) {
                bed.wait_info(&lock, Duration::from_secs(5), |info| *info == Info::default());
            }
        }
    }
    // Otherwise it has not happened around the grant.
    let counts = counts.into_inner().unwrap();
    assert!(counts.iter().all(|count| *count > TIMES / 100), "cancelled and held: {counts:?}");
    client.close();
}

fn locks_of(actor: usize, number: usize, several: bool) -> Vec<String> {
    let lock = format!("cancelled-{actor}-{number}");
    if several { vec![format!("{{{lock}}} free"), lock] } else { vec![lock] }
}

/// Whether it was held all the same, though it was cancelled `within` so many seconds. It is the last of the locks that somebody else holds.
fn one(
    client: &Client<'_>,
    bed: &Bed,
    random: &mut Random,
    within: f64,
    actor: usize,
    locks: &[String],
    options: Value,
) -> bool {
    let lock = locks.last().unwrap();
    let mut server = bed.owner(lock);
    acquire(&mut server, &format!("{lock} PX 600000 TOKEN holder"));
    let mut options = options;
    options["wait"] = json!(60_000);
    options["lease"] = json!(LEASE_MS);
    let (by, hold) = (format!("actor {actor}"), format!("hold {actor}"));
    let sent = match locks {
        [lock] => client.acquire(&by, &hold, lock, options),
        _ => client.acquire_all(&by, &hold, locks, options),
    };
    bed.wait_info(lock, PATIENCE, |info| info.waiting == 1);
    // Away from the moment at which it has subscribed.
    thread::sleep(Duration::from_millis(10));
    // A second cancellation meets with what the first one has begun.
    let (free, cancel) = (fraction(random) * 0.004, fraction(random) * within);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_secs_f64(free));
            assert_eq!(server.call(&["LOCK.RELEASE", lock, "holder"]), Reply::Int(1));
        });
        thread::sleep(Duration::from_secs_f64(cancel));
        client.cancel(&sent);
        if fraction(random) < 0.3 {
            thread::sleep(Duration::from_secs_f64(fraction(random) * 0.002));
            client.cancel(&sent);
        }
    });
    match client.finish(&sent, PATIENCE) {
        Outcome::Held { .. } => {
            client.assert_released(&by, &hold);
            true
        }
        Outcome::Cancelled => false,
        other => panic!("{other:?}"),
    }
}

/// The server reads the request long after its client has given it up.
pub(crate) fn late_request(testee: &Testee, bed: &Bed, protocol: u8, several: bool) {
    let command = if several { "LOCK.MACQUIRE" } else { "LOCK.ACQUIRE" };
    let client = Client::of(testee, bed, protocol);
    // Connected, so that the request is what is under way.
    client.hold("A", "a", "another", json!({}));
    for wait in [0, 5_000] {
        let locks = [format!("late-{wait}-{several}"), format!("{{late-{wait}-{several}}} too")];
        let before = bed.faults.sent(command);
        bed.faults.add(Fault::Late, command, 1);
        let options = json!({"wait": wait, "lease": LEASE_MS});
        let sent = if several {
            client.acquire_all("B", "b", &locks, options)
        } else {
            client.acquire("B", "b", &locks[0], options)
        };
        thread::sleep(Duration::from_millis(100));
        assert_eq!(bed.faults.sent(command), before, "the request is on its way");
        client.cancel(&sent);
        match client.finish(&sent, PATIENCE) {
            Outcome::Cancelled => {}
            // A client may wait for the reply, and see then that it was cancelled.
            Outcome::Held { .. } => client.assert_released("B", "b"),
            other => panic!("{other:?}"),
        }
        // Longer than the request is late.
        thread::sleep(Duration::from_millis(800));
        for lock in &locks {
            bed.wait_info(lock, Duration::from_secs(5), |info| *info == Info::default());
        }
    }
    client.assert_released("A", "a");
    client.close();
}
