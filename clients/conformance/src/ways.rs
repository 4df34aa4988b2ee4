//! The way to the servers of a lock, also when they change under its holder and under who waits for it: slots that move,
//! failovers.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bed::{Bed, Info, Place};
use crate::client::{Client, Outcome, PATIENCE};
use crate::support::cluster::{key_in, slot_of};
use crate::support::locks::acquire;
use crate::support::{Reply, Server, wait_until};
use crate::testee::Testee;

pub(crate) type Run = fn(&Testee, &mut Bed);

/// What is true over a change, and how it is tried.
pub(crate) const ALL: [(&str, Place, &[&str], Run); 13] = [
    ("a slot that moves, and back, takes hold and waiter along", Place::Cluster, &[], moves),
    (
        "a slot that moves, and back, takes several locks and who waits for them along",
        Place::Cluster,
        &["several"],
        moves_several,
    ),
    ("a lock of a slot on its way is acquired where it will be", Place::Cluster, &[], on_its_way),
    ("locks and sessions are at the node of their slot", Place::Cluster, &[], both_nodes),
    ("several locks are at the node of their slot", Place::Cluster, &["several"], several_at_both_nodes),
    (
        "a command that a lock guards runs at the node of the lock",
        Place::Cluster,
        &["guard"],
        guards_at_both_nodes,
    ),
    (
        "each lock is asked for at its own node, without redirections",
        Place::Cluster,
        &[],
        without_redirections,
    ),
    ("who waits is granted the lock at once when it is released", Place::Alone, &[], at_once),
    ("who waits in a cluster is granted the lock at once when it is released", Place::Cluster, &[], at_once),
    ("a replica that takes over has hold and waiter", Place::ClusterWithReplicas, &[], taken_over),
    (
        "a replica that takes over has several locks and who waits for them",
        Place::ClusterWithReplicas,
        &["several"],
        taken_over_with_several,
    ),
    ("a failover that Sentinels are told to do takes hold and waiter along", Place::Sentinel, &[], planned),
    ("a master that is killed is followed by one with hold and waiter", Place::Sentinel, &[], killed),
];

/// Somebody holds the locks and somebody waits, while it changes: the one holds them for longer than the lease, and the other
/// gets them when they are released.
#[track_caller]
fn survive(
    testee: &Testee,
    bed: &mut Bed,
    locks: &[&str],
    lease_ms: u64,
    replicas: u64,
    change: impl FnOnce(&mut Bed),
) {
    let client = Client::of(testee, bed, 3);
    let mut options = json!({"lease": lease_ms});
    if replicas > 0 {
        options["replicas"] = json!(replicas);
    }
    let acquire = |by: &str, hold: &str, options: Value| match locks {
        [lock] => client.acquire(by, hold, lock, options),
        _ => {
            let locks: Vec<String> = locks.iter().copied().map(str::to_owned).collect();
            client.acquire_all(by, hold, &locks, options)
        }
    };
    let first = match client.finish(&acquire("A", "a", options), PATIENCE) {
        Outcome::Held { fence, .. } => fence,
        other => panic!("{locks:?} are to be held, and it is {other:?}"),
    };
    let waiting = acquire("B", "b", json!({"wait": 120_000, "lease": lease_ms}));
    let both = |bed: &Bed| {
        for lock in locks {
            bed.wait_info(lock, PATIENCE, |info| info.held == 1 && info.waiting == 1);
        }
    };
    both(bed);
    change(bed);
    let end = Instant::now() + Duration::from_millis(lease_ms + lease_ms / 2);
    while Instant::now() < end {
        let state = client.state("a");
        assert!(state.held && state.lost == 0, "{state:?}");
        thread::sleep(Duration::from_millis(50));
    }
    both(bed);
    client.assert_released("A", "a");
    match client.finish(&waiting, PATIENCE) {
        Outcome::Held { fence, .. } => assert!(fence > first, "{fence} after {first}"),
        other => panic!("who waited is to hold it, and it is {other:?}"),
    }
    client.assert_released("B", "b");
    for lock in locks {
        bed.wait_info(lock, PATIENCE, |info| *info == Info::default());
    }
    client.close();
}

fn moves(testee: &Testee, bed: &mut Bed) {
    moves_with(testee, bed, &["moved"]);
}

fn moves_several(testee: &Testee, bed: &mut Bed) {
    moves_with(testee, bed, &["moved", "{moved} too", "{moved} as well"]);
}

fn moves_with(testee: &Testee, bed: &mut Bed, locks: &[&str]) {
    for _ in 0..2 {
        survive(testee, bed, locks, 2_000, 0, |bed| {
            let slot = slot_of("moved");
            let source = bed.cluster().owner(slot);
            bed.cluster().move_slot(slot, 1 - source);
        });
    }
}

fn on_its_way(testee: &Testee, bed: &mut Bed) {
    let client = Client::of(testee, bed, 3);
    let (lock, slot) = ("on its way", slot_of("on its way"));
    let cluster = bed.cluster();
    let source = cluster.owner(slot);
    let moving = cluster.open_slot(slot, source, 1 - source);
    client.hold("A", "a", lock, json!({"wait": 10_000}));
    let count = |at: usize| cluster.client(at).run(&format!("CLUSTER COUNTKEYSINSLOT {slot}"));
    assert_eq!([count(source), count(1 - source)], [Reply::Int(0), Reply::Int(1)]);
    let other = client.finish(&client.acquire("B", "b", lock, json!({})), PATIENCE);
    assert_eq!(other, Outcome::NotAvailable);
    moving.finish();
    assert_eq!(client.extend("A", "a", json!({}))["is"], json!(true));
    client.assert_released("A", "a");
    client.close();
}

fn both_nodes(testee: &Testee, bed: &mut Bed) {
    let client = Client::of(testee, bed, 3);
    for node in 0..2 {
        let lock = key_in(bed.cluster().fresh_slot(node), "lock");
        for options in [json!({}), json!({"session": true})] {
            if options.get("session").is_some() && cannot(testee, "cluster", "session") {
                continue;
            }
            client.hold("A", "a", &lock, options);
            let held = bed.cluster().client(node).call(&["EXISTS", &lock]);
            assert_eq!(held, Reply::Int(1));
            client.assert_released("A", "a");
        }
    }
    client.close();
}

fn several_at_both_nodes(testee: &Testee, bed: &mut Bed) {
    let client = Client::of(testee, bed, 3);
    for node in 0..2 {
        let lock = key_in(bed.cluster().fresh_slot(node), "lock");
        let locks = [lock.clone(), format!("{lock} too")];
        for options in [json!({}), json!({"session": true})] {
            if options.get("session").is_some() && cannot(testee, "cluster", "session") {
                continue;
            }
            let held = client.finish(&client.acquire_all("A", "a", &locks, options), PATIENCE);
            assert!(matches!(held, Outcome::Held { .. }), "{held:?}");
            let held = bed.cluster().client(node).call(&["EXISTS", &locks[0], &locks[1]]);
            assert_eq!(held, Reply::Int(2));
            client.assert_released("A", "a");
        }
    }
    client.close();
}

/// Also after the slot has moved, which its client is told by MOVED.
fn guards_at_both_nodes(testee: &Testee, bed: &mut Bed) {
    let client = Client::of(testee, bed, 3);
    for node in 0..2 {
        let slot = bed.cluster().fresh_slot(node);
        let lock = key_in(slot, "lock");
        let total = format!("{lock} total");
        client.hold("A", "a", &lock, json!({}));
        for (at, count) in [(node, 1), (1 - node, 2)] {
            if at != node {
                bed.cluster().move_slot(slot, at);
            }
            assert_eq!(client.guard("A", "a", None, json!(["INCR", total])), json!(count));
            assert_eq!(bed.cluster().client(at).call(&["EXISTS", &total]), Reply::Int(1));
        }
        client.assert_released("A", "a");
    }
    client.close();
}

/// The first of them may teach the client where the slots are.
fn without_redirections(testee: &Testee, bed: &mut Bed) {
    let client = Client::of(testee, bed, 3);
    let mut redirections = Vec::new();
    for round in 0..2 {
        for number in 0..30 {
            let lock = format!("asked for {round} {number}");
            client.hold("A", "a", &lock, json!({}));
            client.assert_released("A", "a");
        }
        let nodes = bed.cluster().nodes();
        redirections.push(nodes.iter().map(|node| redirections_of(&mut node.client())).sum::<u64>());
    }
    assert_eq!(redirections[0], redirections[1], "MOVED was said again");
    client.close();
}

fn redirections_of(client: &mut crate::support::Client) -> u64 {
    let text = client.run("INFO errorstats").text();
    let moved = text.lines().find_map(|line| line.strip_prefix("errorstat_MOVED:count="));
    moved.map_or(0, |count| count.trim().parse().unwrap())
}

/// Who waits by asking again and again asks every second or two, and has not been told.
fn at_once(testee: &Testee, bed: &mut Bed) {
    let client = Client::of(testee, bed, 3);
    let mut took = Vec::new();
    for number in 0..11 {
        let lock = format!("handed-over-{number}");
        let mut server = bed.owner(&lock);
        acquire(&mut server, &format!("{lock} PX 60000 TOKEN other"));
        let waiting = client.acquire("A", "a", &lock, json!({"wait": 60_000}));
        bed.wait_info(&lock, PATIENCE, |info| info.waiting == 1);
        // It may be about to wait for the message still.
        thread::sleep(Duration::from_millis(100));
        let begin = Instant::now();
        assert_eq!(server.call(&["LOCK.RELEASE", &lock, "other"]), Reply::Int(1));
        assert!(matches!(client.finish(&waiting, PATIENCE), Outcome::Held { .. }));
        took.push(begin.elapsed());
        client.assert_released("A", "a");
    }
    took.sort_unstable();
    assert!(took[took.len() / 2] < Duration::from_millis(400), "{took:?}");
    client.close();
}

/// Whether the testee has said that it is left out.
pub(crate) fn cannot(testee: &Testee, place: &str, word: &str) -> bool {
    let said = &testee.ready.cannot;
    said.contains_key(word) || said.contains_key(&format!("{place} {word}"))
}

fn taken_over(testee: &Testee, bed: &mut Bed) {
    let lock = key_in(bed.cluster().fresh_slot(0), "lock");
    taken_over_with(testee, bed, 0, &[&lock]);
}

fn taken_over_with_several(testee: &Testee, bed: &mut Bed) {
    let lock = key_in(bed.cluster().fresh_slot(1), "lock");
    taken_over_with(testee, bed, 1, &[&lock, &format!("{lock} too")]);
}

/// Of the node and its replica the one is killed that is the master: an earlier test may have killed the other.
fn taken_over_with(testee: &Testee, bed: &mut Bed, node: usize, locks: &[&str]) {
    survive(testee, bed, locks, 20_000, 1, |bed| {
        let cluster = bed.cluster();
        let (master, replica) = (cluster.owner(slot_of(locks[0])), cluster.replica(node));
        let other = if master == replica { node } else { replica };
        cluster.node_mut(master).kill9();
        cluster.wait_master(other);
        // It is the replica that confirms the extensions from then on.
        cluster.node_mut(master).start_again();
    });
}

/// The lease is longer than the Sentinels need, and the time for which there are two masters: the old one does not know
/// that another was promoted.
fn planned(testee: &Testee, bed: &mut Bed) {
    let port = bed.proxy_port(1);
    survive(testee, bed, &["watched"], 20_000, 1, |bed| {
        let (sentinels, pair) = bed.watched();
        wait_until("the replica is promoted", PATIENCE, || {
            sentinels.failover();
            let end = Instant::now() + Duration::from_secs(5);
            while Instant::now() < end {
                if role(&pair.replica) == "master" {
                    return true;
                }
                thread::sleep(Duration::from_millis(20));
            }
            false
        });
        sentinels.wait_for_master(port);
        wait_until("the old master follows the new one", PATIENCE, || role(&pair.master) == "slave");
    });
}

/// Nothing while it changes: then it closes its connections.
fn role(server: &Server) -> String {
    match server.client().try_call(&["ROLE"]) {
        Some(Reply::Array(parts)) => parts[0].text(),
        _ => String::new(),
    }
}

fn killed(testee: &Testee, bed: &mut Bed) {
    let port = bed.proxy_port(1);
    survive(testee, bed, &["watched"], 20_000, 1, |bed| {
        let (sentinels, pair) = bed.watched();
        pair.master.kill9();
        sentinels.wait_for_master(port);
        pair.master.start_again();
    });
}
