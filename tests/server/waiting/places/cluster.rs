//! Places in a cluster: on slots that leave, arrive, and go along with a failover; and where a call is heard.

use std::thread;
use std::time::{Duration, Instant};

use super::{Listener, claim, is_called, place, ticket, tickets};
use crate::support::cluster::{
    Cluster, InCommon, Migration, Shared, ask, asking, asking_waiter, key_in, moved_to,
};
use crate::support::locks::{acquire, field, null, ok_grant, remaining};
use crate::support::waiter::{release, waiting};
use crate::support::{Client, PATIENCE, Reply, Waiter, wait_until};

/// Three masters on which nobody loses a turn for being slow.
#[track_caller]
fn patient() -> InCommon {
    static SHARED: Shared = Shared::new();
    SHARED.get(|| Cluster::builder(3).config("lock.claim-lease 600000").start())
}

/// A slot of node 0 in which `k` is held there by `a`, and a client of that node.
#[track_caller]
fn held(cluster: &Cluster) -> (u16, String, Client) {
    let slot = cluster.fresh_slot(0);
    let key = key_in(slot, "k");
    let mut client = cluster.client(0);
    acquire(&mut client, &format!("{key} TOKEN a PX 600000"));
    (slot, key, client)
}

/// A slot that is on its way from node 0 to node 1, in which `k` is held there by `a`, and a client of node 1.
#[track_caller]
fn held_where_it_arrives(cluster: &Cluster) -> (String, Migration<'_>, Client) {
    let slot = cluster.fresh_slot(0);
    let key = key_in(slot, "k");
    let migration = cluster.open_slot(slot, 0, 1);
    let mut client = cluster.client(1);
    ok_grant(asking(&mut client, &format!("LOCK.ACQUIRE {key} TOKEN a PX 600000")));
    (key, migration, client)
}

#[test]
fn a_place_is_called_on_the_node_that_has_the_slot() {
    let cluster = patient();
    let (slot, key, mut client) = held(&cluster);
    let number = place(&mut client, &format!("{key} TOKEN b QUEUE 600000"));
    let mut listener = Listener::of(cluster.node(0), &key);
    for other in [1, 2] {
        let mut client = cluster.client(other);
        let moved = moved_to(slot, cluster.node(0));
        assert_eq!(client.run(&format!("LOCK.ACQUIRE {key} TOKEN b QUEUE 600000")).error(), moved);
        assert_eq!(
            client.run(&format!("SSUBSCRIBE {key}")).error(),
            moved,
            "the channel is where the key is"
        );
    }
    release(&mut client, &key, "a");
    listener.hears(number);
    claim(&mut client, &format!("{key} TOKEN b"));
    release(&mut client, &key, "b");
    cluster.assert_free(0, &key);
}

#[test]
fn a_place_on_a_slot_that_moves_away_is_given_up_and_a_repeat_is_sent_where_it_went() {
    let cluster = patient();
    let (slot, key, mut client) = held(&cluster);
    let request = format!("{key} TOKEN b PX 700000 QUEUE 600000");
    let old = place(&mut client, &request);
    cluster.move_slot(slot, 1);
    let reply = client.run(&format!("LOCK.ACQUIRE {request}"));
    assert_eq!(reply.error(), moved_to(slot, cluster.node(1)));
    let mut target = cluster.client(1);
    assert_eq!(waiting(&mut target, &key), 0, "it did not go along");
    let new = place(&mut target, &request);
    let mut listener = Listener::of(cluster.node(1), &key);
    release(&mut target, &key, "a");
    listener.hears(new);
    claim(&mut target, &request);
    release(&mut target, &key, "b");
    // When the slot is back nobody is left there of those who waited.
    cluster.move_slot(slot, 0);
    acquire(&mut client, &format!("{key} TOKEN a PX 600000"));
    assert_eq!(waiting(&mut client, &key), 0);
    let newest = place(&mut client, &request);
    assert!(newest > old, "{newest} after {old}");
    release(&mut client, &key, "a");
    release(&mut client, &key, "b");
    cluster.assert_free(0, &key);
}

#[test]
fn a_place_for_a_key_that_has_migrated_is_asked_for_where_it_went() {
    let cluster = patient();
    let (slot, key, mut client) = held(&cluster);
    let request = format!("{key} TOKEN b QUEUE 600000");
    place(&mut client, &request);
    let leaving = cluster.open_slot(slot, 0, 1);
    assert_eq!(tickets(&mut client, &key).len(), 1, "as long as the key is here");
    place(&mut client, &request);
    leaving.move_key(&key);
    let reply = client.run(&format!("LOCK.ACQUIRE {request}"));
    assert_eq!(reply.error(), ask(slot, cluster.node(1)));
    let mut target = cluster.client(1);
    let new = ticket(&asking(&mut target, &format!("LOCK.ACQUIRE {request}")));
    leaving.finish();
    assert_eq!(place(&mut target, &request), new, "the place it was given there");
    let mut listener = Listener::of(cluster.node(1), &key);
    release(&mut target, &key, "a");
    listener.hears(new);
    release(&mut target, &key, "b");
    cluster.assert_free(1, &key);
}

#[test]
fn a_blocked_client_with_a_place_is_sent_along_and_leaves_no_place() {
    let cluster = patient();
    let (slot, key, mut client) = held(&cluster);
    let mut waiter = Waiter::new(cluster.node(0), &format!("{key} TOKEN b BLOCK 0 QUEUE 600000"));
    let leaving = cluster.open_slot(slot, 0, 1);
    leaving.move_key_and_leave(&key);
    assert_eq!(waiter.failed(), moved_to(slot, cluster.node(1)));
    leaving.finish();
    cluster.move_slot(slot, 0);
    assert_eq!(waiting(&mut client, &key), 0);
    release(&mut client, &key, "a");
    cluster.assert_free(0, &key);
}

#[test]
fn what_was_called_goes_along_with_the_slot_and_is_claimed_there() {
    let cluster = patient();
    let (slot, key, mut client) = held(&cluster);
    place(&mut client, &format!("{key} TOKEN b PX 700000 QUEUE 600000"));
    release(&mut client, &key, "a");
    let fence = client.run(&format!("LOCK.CHECK {key} b")).items()[0].int();
    cluster.move_slot(slot, 1);
    let mut target = cluster.client(1);
    assert!(remaining(&mut target, &key, "b") <= Some(600_000));
    assert_eq!(claim(&mut target, &format!("{key} TOKEN b PX 700000 QUEUE 600000")).fence, fence);
    release(&mut target, &key, "b");
    cluster.assert_free(1, &key);
}

/// By ASK the importing node lets wait; it hands over only once the slot has come.
#[test]
fn on_a_slot_that_arrives_a_place_stands_and_is_called_only_once_the_slot_is_here() {
    let cluster = patient();
    for freeing in ["LOCK.RELEASE KEY a", "LOCK.BREAK KEY", "DEL KEY", "LOCK.EXTEND KEY a PX 1"] {
        let (key, migration, mut client) = held_where_it_arrives(&cluster);
        let request = format!("LOCK.ACQUIRE {key} TOKEN b PX 700000 QUEUE 600000");
        let first = ticket(&asking(&mut client, &request));
        assert_eq!(ticket(&asking(&mut client, &request)), first);
        assert_eq!(asking(&mut client, &freeing.replace("KEY", &key)), Reply::Int(1), "{freeing}");
        wait_until("a has lost it", PATIENCE, || {
            asking(&mut client, &format!("LOCK.CHECK {key} a")) == null(&cluster.client(1))
        });
        let newcomer = asking(&mut client, &format!("LOCK.ACQUIRE {key} TOKEN new PX 60000"));
        assert_eq!(newcomer, Reply::NullArray, "{freeing}: nobody overtakes it");
        assert!(asking(&mut client, &format!("LOCK.CHECK {key} b")).is_null(), "{freeing}");
        migration.finish();
        wait_until("it is called", PATIENCE, || is_called(&mut client, &key, "b"));
        assert!(remaining(&mut client, &key, "b") <= Some(600_000));
        ok_grant(client.run(&request));
        release(&mut client, &key, "b");
        cluster.assert_free(1, &key);
    }
}

#[test]
fn a_connection_that_breaks_on_a_slot_that_arrives_leaves_its_place() {
    let cluster = patient();
    let (key, migration, mut client) = held_where_it_arrives(&cluster);
    let waiter = asking_waiter(cluster.node(1), &format!("{key} TOKEN b BLOCK 0 QUEUE 600000"));
    super::lose(cluster.node(1), &key, waiter);
    migration.finish();
    assert_eq!(waiting(&mut client, &key), 1);
    release(&mut client, &key, "a");
    assert!(is_called(&mut client, &key, "b"));
    release(&mut client, &key, "b");
    cluster.assert_free(1, &key);
}

#[test]
fn on_a_slot_that_does_not_come_after_all_a_repeat_is_sent_back() {
    let cluster = patient();
    let (key, migration, mut client) = held_where_it_arrives(&cluster);
    let slot = migration.slot;
    let request = format!("LOCK.ACQUIRE {key} TOKEN b QUEUE 600000");
    ticket(&asking(&mut client, &request));
    assert_eq!(asking(&mut client, &format!("LOCK.RELEASE {key} a")), Reply::Int(1));
    migration.cancel();
    assert_eq!(client.run(&request).error(), moved_to(slot, cluster.node(0)));
    let mut home = cluster.client(0);
    ok_grant(home.run(&request));
    release(&mut home, &key, "b");
    assert_eq!(cluster.keepers(slot), [0; 0]);
    cluster.assert_free(0, &key);
}

/// Clients that go where they are sent and only repeat: each is granted the lock once, wherever its slot is meanwhile.
#[test]
fn clients_that_only_repeat_are_all_served_while_the_slot_goes_round() {
    const CLIENTS: usize = 6;
    let cluster = patient();
    let slot = cluster.fresh_slot(0);
    let key = key_in(slot, "k");
    let fences = thread::scope(|scope| {
        let work: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let (mut client, key) = (cluster.routed(), &key);
                scope.spawn(move || {
                    let mut fences = Vec::new();
                    for turn in 0..4 {
                        let token = format!("t{n}-{turn}");
                        let request = format!("LOCK.ACQUIRE {key} TOKEN {token} PX 600000 QUEUE 600000");
                        wait_until("it is granted", PATIENCE * 3, || match client.run(&request) {
                            Reply::Int(_) => false,
                            reply => {
                                fences.push(ok_grant(reply).1);
                                true
                            }
                        });
                        thread::sleep(Duration::from_millis(10));
                        assert_eq!(client.run(&format!("LOCK.RELEASE {key} {token}")), Reply::Int(1));
                    }
                    fences
                })
            })
            .collect();
        for target in [1, 2, 0] {
            cluster.move_slot(slot, target);
        }
        work.into_iter().flat_map(|it| it.join().unwrap()).collect::<std::collections::BTreeSet<i64>>()
    });
    assert_eq!(fences.len(), CLIENTS * 4, "each grant has a fence of its own");
    cluster.assert_free(0, &key);
}

// --- replicas

#[test]
fn a_call_is_heard_on_every_node_of_the_shard() {
    let cluster = Cluster::builder(3).replicas(1).config("lock.claim-lease 600000").start();
    let (_, key, mut client) = held(&cluster);
    let mut listeners = [0, cluster.replica(0)].map(|at| Listener::of(cluster.node(at), &key));
    for token in ["b", "c"] {
        let number = place(&mut client, &format!("{key} TOKEN {token} QUEUE 600000"));
        let from = if token == "b" { "a" } else { "b" };
        release(&mut client, &key, from);
        listeners.iter_mut().for_each(|listener| listener.hears(number));
        claim(&mut client, &format!("{key} TOKEN {token} PX 600000"));
    }
    listeners.iter_mut().for_each(Listener::heard_nothing);
    cluster.wait_caught_up(0);
    let mut replica = cluster.client(cluster.replica(0));
    replica.ok("READONLY");
    assert_eq!(waiting(&mut replica, &key), 0);
    assert!(is_called(&mut replica, &key, "c"));
}

#[test]
fn over_a_failover_a_repeat_is_given_a_new_place_with_a_larger_ticket() {
    let mut cluster = Cluster::builder(3).replicas(1).config("lock.claim-lease 600000").start();
    let (slot, key, mut client) = held(&cluster);
    let request = format!("{key} TOKEN b PX 700000 QUEUE 600000");
    let old = place(&mut client, &request);
    let mut waiter = Waiter::new(cluster.node(0), &format!("{key} TOKEN c BLOCK 0 QUEUE 600000"));
    cluster.wait_caught_up(0);
    let replica = cluster.replica(0);
    cluster.fail_over_to(replica, "");
    waiter.failed_or_closed();
    let mut new_master = cluster.client(replica);
    assert_eq!(waiting(&mut new_master, &key), 0);
    let new = place(&mut new_master, &request);
    assert!(new > old, "{new} after {old}");
    let began = Instant::now();
    let mut routed = cluster.routed();
    assert_eq!(ticket(&routed.run(&format!("LOCK.ACQUIRE {request}"))), new, "wherever it begins");
    let mut listener = Listener::of(cluster.node(replica), &key);
    release(&mut new_master, &key, "a");
    listener.hears(new);
    assert_eq!(ok_grant(routed.run(&format!("LOCK.ACQUIRE {request}"))).0, b"b", "{:?}", began.elapsed());
    wait_until("the old master knows", PATIENCE, || cluster.owner_as_seen_by(0, slot) == Some(replica));
    let reply = cluster.client(0).run(&format!("LOCK.ACQUIRE {request}"));
    assert_eq!(reply.error(), moved_to(slot, cluster.node(replica)));
    let held = field(&new_master.run(&format!("LOCK.INFO {key}")), "held");
    assert_eq!(held, Reply::Int(1));
    cluster.assert_alive();
}
