//! Several keys in a cluster that is at rest: one slot, the right node, and what is published where.

use super::{all, errs, fences, holds, release_all};
use crate::support::cluster::{Cluster, key_in, moved_to, shared};
use crate::support::errors;
use crate::support::locks::{acquire, exists, null};
use crate::support::waiter::release;
use crate::support::{Client, Reply, Waiter};

/// A connection of this node whose LOCK.MACQUIRE waits.
#[track_caller]
pub(super) fn waits_at(cluster: &Cluster, node: usize, rest: &str) -> Waiter {
    super::waits(cluster.node(node), rest)
}

const COMMANDS: [&str; 4] = [
    "LOCK.MACQUIRE 2 KEY OTHER TOKEN a",
    "LOCK.MACQUIRE 2 KEY OTHER TOKEN a BLOCK 0",
    "LOCK.MRELEASE 2 KEY OTHER a",
    "LOCK.MEXTEND 2 KEY OTHER a",
];

#[track_caller]
fn each(client: &mut Client, key: &str, other: &str, error: &str) {
    for command in COMMANDS {
        let command = command.replace("KEY", key).replace("OTHER", other);
        let reply = client.run(&command);
        assert!(reply.error().starts_with(error), "{command}: {reply:?}");
    }
}

#[test]
fn keys_of_two_slots_are_refused_by_every_node() {
    let cluster = shared();
    let (one, other) = (cluster.fresh_slot(0), cluster.fresh_slot(0));
    let elsewhere = cluster.fresh_slot(1);
    let [k, l, m] = [(one, "k"), (other, "l"), (elsewhere, "m")].map(|(slot, name)| key_in(slot, name));
    for node in 0..3 {
        let mut client = cluster.client(node);
        each(&mut client, &k, &l, "CROSSSLOT ");
        each(&mut client, &k, &m, "CROSSSLOT ");
    }
    assert!(!exists(&mut cluster.client(0), &k));
}

/// A number that is too large makes keys of options, which are in other slots. The command says what is wrong, as ZUNION does.
#[test]
fn more_keys_than_there_are_arguments_are_a_syntax_error_at_every_node() {
    let cluster = shared();
    let slot = cluster.fresh_slot(0);
    let [k, l] = ["k", "l"].map(|name| key_in(slot, name));
    for node in 0..3 {
        let mut client = cluster.client(node);
        for rest in [
            format!("LOCK.MACQUIRE 5 {k} {l} TOKEN t"),
            format!("LOCK.MACQUIRE 256 {k} {l} TOKEN t BLOCK 0"),
            format!("LOCK.MRELEASE 4 {k} {l} t"),
            format!("LOCK.MEXTEND 6 {k} {l} t PX 100"),
            format!("ZUNION 5 {k} {l} WEIGHTS 2"),
        ] {
            assert_eq!(client.run(&rest).error(), errors::SYNTAX, "{rest}");
        }
        // As many arguments as keys leave none for a token: they are keys nevertheless.
        let reply = client.run(&format!("LOCK.MACQUIRE 4 {k} {l} TOKEN t"));
        assert!(reply.error().starts_with("CROSSSLOT "), "{reply:?}");
    }
    cluster.assert_free(0, &k);
}

#[test]
fn keys_of_one_slot_are_sent_to_its_node() {
    let cluster = shared();
    let slot = cluster.fresh_slot(1);
    let [k, l] = ["k", "l"].map(|name| key_in(slot, name));
    for node in [0, 2] {
        each(&mut cluster.client(node), &k, &l, &moved_to(slot, cluster.node(1)));
    }
    cluster.assert_free(1, &k);
    cluster.assert_free(1, &l);
}

#[test]
fn on_its_node_it_is_what_it_is_on_a_server_alone() {
    let cluster = shared();
    let slot = cluster.fresh_slot(2);
    let [k, l, m] = ["k", "l", "m"].map(|name| key_in(slot, name));
    let mut client = cluster.client(2);
    let grant = all(&mut client, &format!("2 {k} {l} TOKEN a PX 60000"));
    assert_eq!(fences(&mut client, &[&k, &l], "a"), [grant.fence; 2]);
    let mut waiter = waits_at(&cluster, 2, &format!("3 {k} {l} {m} TOKEN b BLOCK 0"));
    let mut late = waits_at(&cluster, 2, &format!("2 {m} {k} TOKEN c BLOCK 50"));
    late.refused();
    assert_eq!(client.run(&format!("LOCK.ACQUIRE {m} TOKEN x")), null(&client));
    release_all(&mut client, &format!("2 {k} {l} a"));
    waiter.granted();
    assert_eq!(holds(&mut client, &[&k, &l, &m], "b").len(), 3);
    release_all(&mut client, &format!("3 {k} {l} {m} b"));
    [&k, &l, &m].iter().for_each(|key| cluster.assert_free(2, key));
}

/// The sharded channel that is named like the first key is where the keys are.
#[test]
fn a_ticket_is_published_in_the_slot_of_the_keys() {
    let cluster = shared();
    let slot = cluster.fresh_slot(0);
    let [k, l] = ["k", "l"].map(|name| key_in(slot, name));
    let mut client = cluster.client(0);
    acquire(&mut client, &format!("{k} TOKEN a PX 60000"));
    let ticket = client.run(&format!("LOCK.MACQUIRE 2 {l} {k} TOKEN b PX 600000 QUEUE 600000")).int();
    let mut listener = cluster.client(0);
    assert!(!listener.run(&format!("SSUBSCRIBE {l}")).is_error());
    release(&mut client, &k, "a");
    let message = listener.read();
    assert_eq!(message.items()[2], Reply::Bulk(ticket.to_string().into_bytes()));
    all(&mut client, &format!("2 {l} {k} TOKEN b"));
    release_all(&mut client, &format!("2 {k} {l} b"));
}

#[test]
fn a_cluster_that_is_down_grants_none() {
    let cluster =
        Cluster::builder(3).node_timeout_ms(1_500).config("cluster-allow-reads-when-down yes").start();
    let slot = cluster.fresh_slot(0);
    let [k, l] = ["k", "l"].map(|name| key_in(slot, name));
    let mut client = cluster.client(0);
    let mut owner = cluster.client(0);
    all(&mut owner, &format!("1 {k} TOKEN a PX 600000 SESSION"));
    let mut waiter = waits_at(&cluster, 0, &format!("2 {k} {l} TOKEN b BLOCK 0"));
    let silent = [cluster.freeze(1), cluster.freeze(2)];
    let error = waiter.failed();
    assert!(error.starts_with("CLUSTERDOWN "), "{error}");
    errs(&mut client, &format!("2 {k} {l} TOKEN b BLOCK 0"), "CLUSTERDOWN ");
    drop(owner);
    drop(silent);
    cluster.wait_agreed();
    all(&mut client, &format!("2 {k} {l} TOKEN c BLOCK 0"));
}

/// A waiter keeps its rights to wait where a failover makes another the master: it is told, and its holds are there.
#[test]
fn a_failover_takes_all_of_them_along() {
    let cluster = Cluster::builder(3).replicas(1).start();
    let slot = cluster.fresh_slot(0);
    let [k, l] = ["k", "l"].map(|name| key_in(slot, name));
    let mut client = cluster.client(0);
    let grant = all(&mut client, &format!("2 {k} {l} TOKEN a PX 600000"));
    let mut waiter = waits_at(&cluster, 0, &format!("2 {l} {k} TOKEN b BLOCK 0"));
    cluster.wait_caught_up(0);
    let replica = cluster.replica(0);
    cluster.fail_over_to(replica, "");
    waiter.failed_or_closed();
    let mut client = cluster.client(replica);
    assert_eq!(fences(&mut client, &[&k, &l], "a"), [grant.fence; 2]);
    let newer = {
        release_all(&mut client, &format!("2 {k} {l} a"));
        all(&mut client, &format!("2 {k} {l} TOKEN c"))
    };
    assert!(newer.fence > grant.fence);
}
