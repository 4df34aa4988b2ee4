//! A cluster that is down grants nothing: who waits is told, what ends meanwhile is handed to nobody, and afterwards it
//! all goes on.

use std::time::{Duration, Instant};

use crate::support::cluster::{Cluster, key_in};
use crate::support::locks::{acquire, exists, holders, remaining};
use crate::support::waiter::{release, shorten};
use crate::support::{Client, PATIENCE, Reply, Waiter, wait_until};

/// How long a node is silent until it is taken for lost.
const NODE_TIMEOUT_MS: u32 = 1_500;

/// How long a node is no master once it has started.
const NO_MASTER: Duration = Duration::from_secs(2);

const DOWN: &str = "CLUSTERDOWN ";

/// What may be read can be read while it is down, so that tests can see.
fn readable(masters: usize) -> crate::support::cluster::ClusterBuilder {
    Cluster::builder(masters).node_timeout_ms(NODE_TIMEOUT_MS).config("cluster-allow-reads-when-down yes")
}

#[track_caller]
fn told_that_it_is_down(waiter: &mut Waiter) {
    let error = waiter.failed();
    assert!(error.starts_with(DOWN), "{error}");
}

#[track_caller]
fn nothing_is_granted(client: &mut Client, key: &str) {
    for options in ["", "BLOCK 0", "SHARED"] {
        let reply = client.run(&format!("LOCK.ACQUIRE {key} TOKEN new {options}"));
        assert!(reply.error().starts_with(DOWN), "{reply:?}");
    }
}

#[test]
fn while_most_masters_are_silent_nobody_is_granted_anything() {
    let cluster = readable(3).start();
    let server = cluster.node(0);
    let [held, short, tied] = ["held", "short", "tied"].map(|name| key_in(cluster.fresh_slot(0), name));
    let mut client = cluster.client(0);
    let mut session = cluster.client(0);
    let fence = acquire(&mut client, &format!("{held} TOKEN a PX 60000")).fence;
    acquire(&mut session, &format!("{tied} TOKEN a PX 500 SESSION"));
    let mut waiters: Vec<Waiter> =
        [&held, &held, &tied].map(|key| Waiter::new(server, &format!("{key} PX 60000 BLOCK 0"))).into();
    // Longer than it takes until the cluster is down.
    acquire(&mut client, &format!("{short} TOKEN a PX 8000"));
    waiters.push(Waiter::new(server, &format!("{short} PX 60000 BLOCK 0")));
    let silent = [cluster.freeze(1), cluster.freeze(2)];
    waiters.iter_mut().for_each(told_that_it_is_down);
    cluster.wait_state(0, "fail");
    for key in [&held, &short, &tied] {
        nothing_is_granted(&mut client, key);
    }
    assert_eq!(holders(&mut client, &tied).len(), 1, "its connection is there");
    drop(session);
    for key in [&short, &tied] {
        wait_until(&format!("{key} is free"), PATIENCE, || holders(&mut client, key).is_empty());
    }
    cluster.wait_state(0, "fail");
    drop(silent);
    cluster.wait_agreed();
    assert_eq!(acquire(&mut client, &format!("{held} TOKEN a PX 60000")).fence, fence);
    let mut next = Waiter::new(server, &format!("{held} TOKEN b BLOCK 0"));
    release(&mut client, &held, "a");
    next.granted();
    for key in [&short, &tied] {
        cluster.assert_free(0, key);
    }
}

/// Leases that end, with somebody waiting for that, from before the cluster is known to be down until after.
#[test]
fn nobody_is_handed_a_lock_whose_lease_ends_while_the_cluster_is_down() {
    const LOCKS: u32 = 60;
    let cluster = readable(3).start();
    let server = cluster.node(0);
    let mut client = cluster.client(0);
    let mut waiters: Vec<(String, Waiter)> = (0..LOCKS)
        .map(|_| {
            let key = key_in(cluster.fresh_slot(0), "k");
            acquire(&mut client, &format!("{key} TOKEN a PX 600000"));
            let waiter = Waiter::new(server, &format!("{key} TOKEN b PX 60000 BLOCK 0"));
            (key, waiter)
        })
        .collect();
    for (n, (key, _)) in (0..).zip(&waiters) {
        let lease = NODE_TIMEOUT_MS / 2 + n * NODE_TIMEOUT_MS * 3 / LOCKS;
        shorten(&mut client, key, "a", lease.into());
    }
    let silent = [cluster.freeze(1), cluster.freeze(2)];
    cluster.wait_state(0, "fail");
    let granted = |client: &mut Client, key: &str| remaining(client, key, "b").is_some();
    let before: Vec<bool> = waiters.iter().map(|(key, _)| granted(&mut client, key)).collect();
    for ((key, waiter), before) in waiters.iter_mut().zip(&before) {
        if *before {
            waiter.granted();
            continue;
        }
        told_that_it_is_down(waiter);
        wait_until(&format!("{key} is free"), PATIENCE, || holders(&mut client, &key).is_empty());
    }
    cluster.wait_state(0, "fail");
    println!("{} of {LOCKS} were granted before it was down", before.iter().filter(|it| **it).count());
    assert!(before.contains(&false), "all leases were over before");
    drop(silent);
}

#[test]
fn without_one_slot_nobody_is_granted_anything() {
    let cluster = readable(2).start();
    let server = cluster.node(0);
    let uncovered = cluster.fresh_slot(0);
    let [lost, other] = [key_in(uncovered, "k"), key_in(cluster.fresh_slot(0), "k")];
    let mut client = cluster.client(0);
    for key in [&lost, &other] {
        acquire(&mut client, &format!("{key} TOKEN a PX 60000"));
    }
    let mut waiters = [&lost, &other].map(|key| Waiter::new(server, &format!("{key} TOKEN b BLOCK 0")));
    client.ok(&format!("CLUSTER DELSLOTS {uncovered}"));
    waiters.iter_mut().for_each(told_that_it_is_down);
    cluster.wait_state(0, "fail");
    nothing_is_granted(&mut client, &other);
    assert!(remaining(&mut client, &other, "a").is_some());
    client.ok(&format!("CLUSTER ADDSLOTS {uncovered}"));
    cluster.wait_agreed();
    for key in [&lost, &other] {
        let mut next = Waiter::new(server, &format!("{key} TOKEN b BLOCK 0"));
        release(&mut client, key, "a");
        next.granted();
    }
}

#[test]
fn where_slots_may_be_missing_only_who_waits_in_one_of_them_is_told() {
    let cluster = readable(2).config("cluster-require-full-coverage no").start();
    let server = cluster.node(0);
    let uncovered = cluster.fresh_slot(0);
    let [lost, other] = [key_in(uncovered, "k"), key_in(cluster.fresh_slot(0), "k")];
    let mut client = cluster.client(0);
    for key in [&lost, &other] {
        acquire(&mut client, &format!("{key} TOKEN a PX 60000"));
    }
    let [mut first, mut second] =
        [&lost, &other].map(|key| Waiter::new(server, &format!("{key} TOKEN b BLOCK 0")));
    client.ok(&format!("CLUSTER DELSLOTS {uncovered}"));
    told_that_it_is_down(&mut first);
    assert!(client.run(&format!("LOCK.ACQUIRE {lost}")).error().starts_with(DOWN));
    second.assert_waiting(server);
    release(&mut client, &other, "a");
    second.granted();
    client.ok(&format!("CLUSTER ADDSLOTS {uncovered}"));
    wait_until("the slot is served again", PATIENCE, || exists(&mut client, &lost));
}

/// It is no master for its first two seconds, in which leases end and nobody is served.
#[test]
fn a_node_that_starts_again_goes_on_with_its_locks() {
    let mut cluster = Cluster::builder(2).config("appendonly yes").config("appendfsync always").start();
    let [held, short] = ["held", "short"].map(|name| key_in(cluster.fresh_slot(0), name));
    let mut client = cluster.client(0);
    let fence = acquire(&mut client, &format!("{held} TOKEN a PX 60000")).fence;
    acquire(&mut client, &format!("{short} TOKEN a PX 1000"));
    let mut waiter = Waiter::new(cluster.node(0), &format!("{held} TOKEN b BLOCK 0"));
    cluster.node_mut(0).kill9();
    waiter.closed();
    let began = Instant::now();
    cluster.node_mut(0).start_again();
    let mut client = cluster.client(0);
    let reply = client.run(&format!("LOCK.ACQUIRE {held} TOKEN b BLOCK 1"));
    let is_refused = matches!(&reply, Reply::Error(error) if error.starts_with(DOWN));
    assert!(is_refused || reply.is_null() && began.elapsed() >= NO_MASTER, "{reply:?}");
    cluster.wait_agreed();
    assert_eq!(acquire(&mut client, &format!("{held} TOKEN a PX 60000")).fence, fence);
    let mut next = Waiter::new(cluster.node(0), &format!("{held} TOKEN b BLOCK 0"));
    release(&mut client, &held, "a");
    assert!(next.granted().fence > fence);
    wait_until("the other lease has ended", PATIENCE, || !exists(&mut client, &short));
    cluster.assert_alive();
}
