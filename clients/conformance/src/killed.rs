//! A client that is killed leaves nothing beyond its lease, whatever it was about to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bed::{Bed, Info};
use crate::client::{Client, PATIENCE};
use crate::faults::Moment;
use crate::support::{Reply, locks, wait_until};
use crate::testee::{Kind, Testee};

const LEASE_MS: u64 = 3_000;

/// What the server grants a place that nobody claims, by its default.
const CLAIM_LEASE_MS: u64 = 5_000;

/// What a busy machine may add.
const SLACK_MS: u64 = 6_000;

pub(crate) type Run = fn(&Kind, &Bed);

/// When it is killed, what its client has to have for that, and how it is tried.
pub(crate) const ALL: [(&str, &[&str], Run); 5] = [
    ("at each step", &[], at_each_step),
    ("at each step with several locks", &["several"], at_each_step_with_several),
    ("while it waits", &[], while_it_waits),
    ("at its turn", &[], at_its_turn),
    ("with a session", &["session"], with_a_session),
];

/// At a request or its reply, of a client that holds the lock or is about to.
fn at_each_step(kind: &Kind, bed: &Bed) {
    for command in ["LOCK.ACQUIRE", "LOCK.EXTEND", "LOCK.RELEASE"] {
        for moment in [Moment::Request, Moment::Reply] {
            at(kind, bed, command, moment, false);
        }
    }
}

fn at_each_step_with_several(kind: &Kind, bed: &Bed) {
    for command in ["LOCK.MACQUIRE", "LOCK.MEXTEND", "LOCK.MRELEASE"] {
        for moment in [Moment::Request, Moment::Reply] {
            at(kind, bed, command, moment, true);
        }
    }
}

fn at(kind: &Kind, bed: &Bed, command: &'static str, at: Moment, several: bool) {
    let lock = format!("killed-{command}-{at:?}");
    let locks = [format!("{{{lock}}} too"), lock];
    let testee = Arc::new(Testee::start(kind));
    let client = Client::of(&testee, bed, 3);
    let is_killed = watch(bed, &testee, command, at);
    let options = json!({"lease": LEASE_MS});
    let sent = if several {
        client.acquire_all("A", "a", &locks, options)
    } else {
        client.acquire("A", "a", &locks[1], options)
    };
    if command.ends_with("RELEASE") {
        assert!(testee.try_wait(&sent, PATIENCE).is_some(), "it is to be held");
        testee.send("release", json!({"by": "A", "hold": "a"}));
    }
    wait_until(&format!("killed at the {at:?} of {command}"), PATIENCE, || is_killed.load(Ordering::SeqCst));
    let killed = Instant::now();
    for lock in &locks {
        assert_free_within(bed, lock, LEASE_MS, killed);
    }
    bed.faults.end();
}

/// Kills it when the command is seen.
fn watch(bed: &Bed, testee: &Arc<Testee>, command: &'static str, at: Moment) -> Arc<AtomicBool> {
    let is_killed = Arc::new(AtomicBool::new(false));
    let (told, testee) = (is_killed.clone(), testee.clone());
    bed.faults.watch(move |seen, moment| {
        if seen == command && moment == at && !told.load(Ordering::SeqCst) {
            testee.kill();
            told.store(true, Ordering::SeqCst);
        }
    });
    is_killed
}

fn assert_free_within(bed: &Bed, lock: &str, ms: u64, since: Instant) {
    let within = Duration::from_millis(ms + SLACK_MS).saturating_sub(since.elapsed());
    bed.wait_info(lock, within, |info| *info == Info::default());
}

/// It waits. When its turn comes, it holds up the next for the claim lease at the longest, or for its own, where the server
/// has not heard yet that it is gone.
fn while_it_waits(kind: &Kind, bed: &Bed) {
    while_waiting(kind, bed, "waits", |_, _| {});
}

/// Its turn comes, and it is killed before it has heard of that.
fn at_its_turn(kind: &Kind, bed: &Bed) {
    while_waiting(kind, bed, "turn", |bed, lock| {
        assert_eq!(bed.owner(lock).call(&["LOCK.RELEASE", lock, "other"]), Reply::Int(1));
    });
}

fn while_waiting(kind: &Kind, bed: &Bed, lock: &str, last: impl FnOnce(&Bed, &str)) {
    let testee = Testee::start(kind);
    let client = Client::of(&testee, bed, 3);
    let mut server = bed.owner(lock);
    locks::acquire(&mut server, &format!("{lock} PX 60000 TOKEN other"));
    client.acquire("A", "a", lock, json!({"wait": 60_000, "lease": LEASE_MS}));
    bed.wait_info(lock, PATIENCE, |info| info.waiting == 1);
    last(bed, lock);
    testee.kill();
    // It may have been released above.
    server.call(&["LOCK.RELEASE", lock, "other"]);
    assert_free_within(bed, lock, CLAIM_LEASE_MS, Instant::now());
}

/// A session ends with its client, whatever its lease.
fn with_a_session(kind: &Kind, bed: &Bed) {
    let testee = Testee::start(kind);
    let client = Client::of(&testee, bed, 3);
    client.hold("A", "a", "session", json!({"session": true, "lease": 60_000}));
    testee.kill();
    assert_free_within(bed, "session", 0, Instant::now());
}
