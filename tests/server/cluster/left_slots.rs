//! What a node still has of a slot that has gone, mostly as a whole: clients that wait, places in queues, keys that the
//! server drops later, and what INFO says of all that.

use std::time::{Duration, Instant};

use crate::support::cluster::atomic::{self, AtomicMove, Way};
use crate::support::cluster::{Cluster, key_in, moved_to};
use crate::support::locks::{acquire, field, holder};
use crate::support::waiter::{blocked_clients, release, time_passes};
use crate::support::{Client, PATIENCE, Reply, Server, Waiter, skip, wait_until};

/// Leaves the test, and says so, where the server moves no slot as a whole.
macro_rules! where_possible {
    () => {
        if atomic::way().is_none() {
            return skip!(&mut Server::start().client(), "it moves no slot as a whole");
        }
    };
}

/// What is so now, as INFO has it: keys, holds, waiters on a connection, places without one.
#[track_caller]
fn now(client: &mut Client) -> [u64; 4] {
    ["lock_keys", "lock_holds", "lock_waiters_blocked", "lock_waiters_queued"]
        .map(|name| number(client, name))
}

/// What has happened to holds: grants, releases, leases that ran out, moves, removals, and all ends.
#[track_caller]
fn totals(client: &mut Client) -> [u64; 6] {
    ["lock_grants", "lock_released", "lock_lapsed", "lock_moved", "lock_removed", "lock_holds_ended"]
        .map(|name| number(client, name))
}

#[track_caller]
fn number(client: &mut Client, name: &str) -> u64 {
    client.info("lock", name).parse().expect("a number")
}

#[track_caller]
fn wait_now(client: &mut Client, expected: [u64; 4]) {
    let mut last = [0; 4];
    wait_until(&format!("keys, holds, waiters and places are {expected:?}, not {last:?}"), PATIENCE, || {
        last = now(client);
        last == expected
    });
}

/// Takes a place in the queue that no connection keeps.
#[track_caller]
fn place(client: &mut Client, request: &str) {
    let reply = client.run(&format!("LOCK.ACQUIRE {request}"));
    assert!(matches!(reply, Reply::Int(_)), "{reply:?}");
}

/// On Redis the source drops no key of the slot until it may.
fn hold_drops_up(cluster: &Cluster, node: usize) {
    if atomic::way() == Some(Way::Redis) {
        cluster.client(node).ok("DEBUG ASM-TRIM-METHOD active -1");
    }
}

fn let_drop(cluster: &Cluster, node: usize) {
    if atomic::way() == Some(Way::Redis) {
        cluster.client(node).ok("DEBUG ASM-TRIM-METHOD active 0");
    }
}

/// All waiters are checked once a second. So a redirection that waited for the check would rarely come as soon as these do.
#[test]
fn waiters_are_redirected_at_once_even_if_the_keys_are_dropped_later() {
    const MOVES: usize = 8;
    where_possible!();
    let cluster = Cluster::start(2);
    let mut source = cluster.client(0);
    let mut delays: Vec<Duration> = (0..MOVES)
        .map(|_| {
            let slot = cluster.fresh_slot(0);
            let key = key_in(slot, "k");
            acquire(&mut source, &format!("{key} TOKEN a PX 600000"));
            let mut waiter = Waiter::new(cluster.node(0), &format!("{key} TOKEN b PX 600000 BLOCK 0"));
            hold_drops_up(&cluster, 0);
            let moving = cluster.start_atomic_move(slot, 0, 1);
            wait_until("the source has given the slot away", PATIENCE, || {
                source.run(&format!("LOCK.CHECK {key} a")).is_error()
            });
            let began = Instant::now();
            assert_eq!(waiter.failed(), moved_to(slot, cluster.node(1)));
            let delay = began.elapsed();
            let_drop(&cluster, 0);
            moving.wait_done();
            release(&mut cluster.client(1), &key, "a");
            delay
        })
        .collect();
    delays.sort_unstable();
    println!("redirected after {delays:?}");
    // A machine that stalls makes a few of them longer.
    assert!(delays[MOVES - 3] < Duration::from_millis(300), "{delays:?}");
    wait_now(&mut source, [0; 4]);
}

#[test]
fn places_end_with_the_slot_and_a_repeated_request_takes_a_new_one_at_the_target() {
    where_possible!();
    let cluster = Cluster::start(2);
    let slot = cluster.fresh_slot(0);
    let key = key_in(slot, "k");
    let (mut source, mut target) = (cluster.client(0), cluster.client(1));
    let fence = acquire(&mut source, &format!("{key} TOKEN a PX 600000")).fence;
    let request = format!("{key} TOKEN b PX 600000 QUEUE 600000");
    place(&mut source, &request);
    wait_now(&mut source, [1, 1, 0, 1]);
    cluster.start_atomic_move(slot, 0, 1).wait_done();
    wait_now(&mut source, [0; 4]);
    let again = source.run(&format!("LOCK.ACQUIRE {request}"));
    assert_eq!(again.error(), moved_to(slot, cluster.node(1)));
    place(&mut target, &request);
    wait_now(&mut target, [1, 1, 0, 1]);
    release(&mut target, &key, "a");
    assert!(acquire(&mut target, &request).fence > fence);
    release(&mut target, &key, "b");
    wait_now(&mut target, [0; 4]);
}

/// A lock with two holds, one with a waiter and a place, one with a session, one whose lease ends soon.
fn fill(cluster: &Cluster, slot: u16) -> (Client, Waiter) {
    let [shared, waited, tied, short] = ["shared", "waited", "tied", "short"].map(|name| key_in(slot, name));
    let mut source = cluster.client(0);
    let mut session = cluster.client(0);
    for token in ["a", "b"] {
        acquire(&mut source, &format!("{shared} TOKEN {token} SHARED PX 600000"));
    }
    acquire(&mut source, &format!("{waited} TOKEN a PX 600000"));
    acquire(&mut session, &format!("{tied} TOKEN a SESSION PX 600000"));
    // Longer than it takes until the slot has moved.
    acquire(&mut source, &format!("{short} TOKEN a PX 8000"));
    place(&mut source, &format!("{waited} TOKEN c PX 600000 QUEUE 600000"));
    let waiter = Waiter::new(cluster.node(0), &format!("{waited} TOKEN b PX 600000 BLOCK 0"));
    assert_eq!(now(&mut source), [4, 5, 1, 1]);
    (session, waiter)
}

#[test]
fn figures_are_right_on_both_sides_of_a_move_there_and_back() {
    where_possible!();
    let cluster = Cluster::start(2);
    let slot = cluster.fresh_slot(0);
    let (mut source, mut target) = (cluster.client(0), cluster.client(1));
    let (session, mut waiter) = fill(&cluster, slot);
    let [shared, waited, tied] = ["shared", "waited", "tied"].map(|name| key_in(slot, name));
    hold_drops_up(&cluster, 0);
    let moving = cluster.start_atomic_move(slot, 0, 1);
    assert_eq!(waiter.failed(), moved_to(slot, cluster.node(1)));
    // The short lease ends there, also if the key is still here.
    wait_now(&mut target, [3, 4, 0, 0]);
    time_passes(Instant::now(), Duration::from_millis(1_200));
    let_drop(&cluster, 0);
    moving.wait_done();
    wait_now(&mut source, [0; 4]);
    assert_eq!(totals(&mut source), [5, 0, 0, 5, 0, 5]);
    assert_eq!(totals(&mut target), [0, 0, 1, 0, 0, 1]);
    // The connection of the session closes at a node that has nothing to do with the hold any more.
    drop(session);
    wait_until("the connections have closed", PATIENCE, || blocked_clients(&mut source) == 0);
    assert!(field(&holder(&mut target, &tied), "session").is_null());
    release(&mut target, &waited, "a");
    wait_now(&mut target, [2, 3, 0, 0]);
    cluster.start_atomic_move(slot, 1, 0).wait_done();
    wait_now(&mut target, [0; 4]);
    wait_now(&mut source, [2, 3, 0, 0]);
    assert_eq!(totals(&mut target), [0, 1, 1, 3, 0, 5]);
    for (key, token) in [(&shared, "a"), (&shared, "b"), (&tied, "a")] {
        release(&mut source, key, token);
    }
    wait_now(&mut source, [0; 4]);
    assert_eq!(totals(&mut source), [5, 3, 0, 5, 0, 8]);
}

/// The holds are the source's all the time: the target has neither granted nor removed one.
#[test]
fn a_cancelled_move_leaves_the_figures_of_both_sides_as_they_were() {
    where_possible!();
    let cluster = Cluster::start(2);
    let slot = cluster.fresh_slot(0);
    let (mut source, mut target) = (cluster.client(0), cluster.client(1));
    let (_session, mut waiter) = fill(&cluster, slot);
    let moving: AtomicMove<'_> = cluster.start_atomic_move_held_up(slot, 0, 1);
    moving.cancel();
    moving.let_pause();
    wait_until("the target has dropped it", PATIENCE, || cluster.keepers(slot) == [0]);
    wait_now(&mut target, [0; 4]);
    // On Redis the move may be cancelled before a hold has come.
    let [grants, released, lapsed, moved, removed, ended] = totals(&mut target);
    assert_eq!([grants, released, lapsed, removed], [0; 4]);
    assert_eq!(ended, moved);
    assert!(moved >= 4 || atomic::way() == Some(Way::Redis), "{moved}");
    waiter.assert_waiting(cluster.node(0));
    wait_now(&mut source, [3, 4, 1, 1]);
    assert_eq!(totals(&mut source), [5, 0, 1, 0, 0, 1]);
    let waited = key_in(slot, "waited");
    release(&mut source, &waited, "a");
    wait_until("the place is served", PATIENCE, || {
        source.run(&format!("LOCK.RELEASE {waited} c")) == Reply::Int(1)
    });
    waiter.granted();
    release(&mut source, &waited, "b");
    wait_now(&mut source, [2, 3, 0, 0]);
}

/// Redis tries again by itself. Each time all holds arrive, and are dropped.
#[test]
fn a_move_that_fails_once_all_has_arrived_leaves_the_figures_as_they_were() {
    where_possible!();
    if atomic::way() == Some(Way::Valkey) {
        return skip!(&mut Server::start().client(), "cluster::atomic has its failing moves");
    }
    let cluster = Cluster::start(2);
    let slot = cluster.fresh_slot(0);
    let (mut source, mut target) = (cluster.client(0), cluster.client(1));
    let (_session, mut waiter) = fill(&cluster, slot);
    target.ok("DEBUG ASM-FAILPOINT import-main-channel wait-stream-eof");
    let moving = cluster.start_atomic_move(slot, 0, 1);
    wait_until("holds have arrived and been dropped", PATIENCE, || number(&mut target, "lock_moved") >= 4);
    let [grants, released, lapsed, moved, removed, ended] = totals(&mut target);
    assert_eq!([grants, released, lapsed, removed], [0; 4]);
    assert_eq!(ended, moved);
    waiter.assert_waiting(cluster.node(0));
    wait_now(&mut source, [3, 4, 1, 1]);
    assert_eq!(totals(&mut source), [5, 0, 1, 0, 0, 1]);
    target.call(&["DEBUG", "ASM-FAILPOINT", "", ""]);
    wait_until("it has been tried again", PATIENCE, || moving.state().0 == "completed");
    moving.wait_done();
    assert_eq!(waiter.failed(), moved_to(slot, cluster.node(1)));
    wait_now(&mut source, [0; 4]);
    wait_now(&mut target, [3, 4, 0, 0]);
    assert_eq!(totals(&mut source), [5, 0, 1, 4, 0, 5]);
}

#[test]
fn keys_that_move_one_by_one_count_as_moved_and_a_deleted_one_as_removed() {
    let cluster = Cluster::start(2);
    let slot = cluster.fresh_slot(0);
    let [goes, deleted] = ["goes", "deleted"].map(|name| key_in(slot, name));
    let (mut source, mut target) = (cluster.client(0), cluster.client(1));
    for key in [&goes, &deleted] {
        acquire(&mut source, &format!("{key} TOKEN a PX 600000"));
    }
    assert_eq!(source.run(&format!("DEL {deleted}")), Reply::Int(1));
    let migration = cluster.open_slot(slot, 0, 1);
    migration.move_all_keys();
    migration.finish();
    wait_now(&mut source, [0; 4]);
    assert_eq!(totals(&mut source), [2, 0, 0, 1, 1, 2]);
    release(&mut target, &goes, "a");
    wait_now(&mut target, [0; 4]);
    assert_eq!(totals(&mut target), [0, 1, 0, 0, 0, 1]);
}
