//! Replicas, files, promotion, grace and the cluster.

use std::time::{Duration, Instant};

use super::{adopting, set, ttl};
use crate::support::cluster::{Cluster, key_in, moved_to};
use crate::support::errors::{WRONG_TYPE, fails};
use crate::support::locks::{acquire, exists, held, ok_grant, refused, remaining};
use crate::support::waiter::{release, time_passes};
use crate::support::{Client, Data, PATIENCE, Pair, Reply, Server, Waiter, wait_until};

fn digest(client: &mut Client) -> Reply {
    client.run("DEBUG DIGEST")
}

#[track_caller]
fn agree(pair: &Pair) {
    pair.wait_caught_up();
    assert_eq!(digest(&mut pair.replica.client()), digest(&mut pair.master.client()));
}

/// Whatever the replica is set to.
#[test]
fn a_replica_does_what_its_master_has_decided() {
    for replica in [adopting(), Server::builder()] {
        let pair = Pair::start_with(adopting(), replica);
        let (mut client, mut reader) = (pair.master.client(), pair.replica.client());
        set(&mut client, "k", "a", 600_000);
        for extends in ["LOCK.EXTEND k a PX 50000", "LOCK.ACQUIRE k TOKEN a PX 40000", "LOCK.EXTEND k a"] {
            client.run(extends);
            agree(&pair);
            let (here, there) = (ttl(&mut client, "k"), ttl(&mut reader, "k"));
            assert!(there <= 50_000 && (there - here).abs() < 10_000, "{extends}: {here}, {there}");
        }
        release(&mut client, "k", "a");
        agree(&pair);
        set(&mut client, "k", "a", 600_000);
        let mut waiter = Waiter::new(&pair.master, "k TOKEN b PX 60000 BLOCK 0");
        assert_eq!(client.run("LOCK.BREAK k"), Reply::Int(1));
        let fence = waiter.granted().fence;
        agree(&pair);
        assert_eq!(reader.run("LOCK.CHECK k b").items()[0], Reply::Int(fence));
        client.ok("SET k c PX 600000");
        let mut waiter = Waiter::new(&pair.master, "k TOKEN d PX 60000 BLOCK 0");
        assert_eq!(client.run("PEXPIRE k 300"), Reply::Int(1));
        waiter.granted();
        agree(&pair);
        assert!(remaining(&mut reader, "k", "d").is_some());
    }
}

#[test]
fn a_replica_shows_it_by_its_own_setting() {
    let pair = Pair::start_with(adopting(), Server::builder());
    let (mut client, mut reader) = (pair.master.client(), pair.replica.client());
    set(&mut client, "k", "a", 600_000);
    pair.wait_caught_up();
    fails(&mut reader, "LOCK.CHECK k a", WRONG_TYPE);
    reader.ok("CONFIG SET lock.adopt-strings yes");
    assert!(remaining(&mut reader, "k", "a").is_some());
    client.ok("SET brief a NX PX 1");
    pair.wait_caught_up();
    wait_until("a string is not shown past its time", PATIENCE, || held_by_nobody(&mut reader, "brief"));
}

fn held_by_nobody(client: &mut Client, key: &str) -> bool {
    client.run(&format!("LOCK.INFO {key}")).is_null()
}

#[test]
fn a_promoted_replica_goes_on_where_its_master_was() {
    let pair = Pair::start_with(adopting(), adopting());
    let mut client = pair.master.client();
    set(&mut client, "k", "a", 600_000);
    set(&mut client, "brief", "a", 3_000);
    client.run("LOCK.EXTEND k a PX 500000");
    pair.wait_caught_up();
    let mut promoted = pair.replica.client();
    promoted.ok("DEBUG SET-ACTIVE-EXPIRE 0");
    promoted.ok("REPLICAOF NO ONE");
    refused(&mut promoted, "k TOKEN b");
    let mut waiter = Waiter::new(&pair.replica, "brief TOKEN b PX 60000 BLOCK 0");
    assert!(waiter.granted().fence > 0);
    let mut waiter = Waiter::new(&pair.replica, "k TOKEN b PX 60000 BLOCK 0");
    release(&mut promoted, "k", "a");
    waiter.granted();
}

#[test]
fn a_demotion_ends_the_wait_for_it() {
    let pair = Pair::start_with(adopting(), adopting());
    let mut client = pair.master.client();
    set(&mut client, "k", "a", 600_000);
    let mut waiter = Waiter::new(&pair.master, "k TOKEN b BLOCK 0");
    client.ok(&format!("REPLICAOF 127.0.0.1 {}", pair.replica.port()));
    waiter.failed_or_closed();
}

/// What the file says is carried out, whatever is set when it is read.
#[test]
fn the_append_only_file_has_what_was_decided() {
    for preamble in ["yes", "no"] {
        let builder = Server::builder().aof().config(&format!("aof-use-rdb-preamble {preamble}"));
        let mut server = builder.start();
        let mut client = server.client();
        client.ok("CONFIG SET lock.adopt-strings yes");
        for key in ["kept", "released", "handed"] {
            set(&mut client, key, "a", 600_000);
        }
        client.run("LOCK.EXTEND kept a PX 300000");
        release(&mut client, "released", "a");
        let mut waiter = Waiter::new(&server, "handed TOKEN b PX 600000 BLOCK 0");
        release(&mut client, "handed", "a");
        let fence = waiter.granted().fence;
        for rewritten in [false, true] {
            if rewritten {
                server.rewrite_aof();
            }
            server.kill9();
            server.start_again();
            let mut client = server.client();
            assert!((200_000..=300_000).contains(&ttl(&mut client, "kept")), "{preamble}");
            assert!(!exists(&mut client, "released"));
            assert_eq!(client.run("LOCK.CHECK handed b").items()[0], Reply::Int(fence));
        }
    }
}

#[test]
fn in_the_grace_its_token_keeps_it_and_nobody_else_is_granted_anything() {
    let mut server = adopting().aof().config("lock.restart-grace 3600000").start();
    set(&mut server.client(), "k", "a", 600_000);
    server.restart(Data::Save);
    let mut client = server.client();
    ok_grant(client.run("LOCK.ACQUIRE k TOKEN a PX 500000"));
    let mut waiter = Waiter::new(&server, "k TOKEN b PX 60000 BLOCK 0");
    release(&mut client, "k", "a");
    waiter.assert_waiting(&server);
    client.ok("SET k old NX PX 600000");
    client.ok("CONFIG SET lock.restart-grace 0");
    let began = Instant::now();
    time_passes(began, Duration::from_millis(150));
    waiter.assert_waiting(&server);
    client.run("DEL k");
    waiter.granted();
}

#[test]
fn where_the_server_refuses_writes_nobody_is_handed_it() {
    let pair = Pair::start_with(adopting().config("min-replicas-to-write 1"), adopting());
    let mut client = pair.master.client();
    wait_until("the replica counts", PATIENCE, || !client.run("SET k a PX 600000").is_error());
    let mut waiter = Waiter::new(&pair.master, "k TOKEN b PX 60000 BLOCK 0");
    let replies = client.run_all(&["PEXPIRE k 300", "CONFIG SET min-replicas-to-write 2"]);
    assert_eq!(replies, [Reply::Int(1), Reply::Simple("OK".into())]);
    wait_until("its time is over", PATIENCE, || !exists(&mut client, "k"));
    let began = Instant::now();
    time_passes(began, Duration::from_millis(150));
    waiter.assert_waiting(&pair.master);
    client.ok("CONFIG SET min-replicas-to-write 1");
    waiter.granted();
}

#[test]
fn a_string_whose_slot_goes_away_sends_those_who_wait_after_it() {
    let cluster = Cluster::start(3);
    for node in 0..3 {
        cluster.client(node).ok("CONFIG SET lock.adopt-strings yes");
    }
    let (slot, server) = (cluster.fresh_slot(0), cluster.node(0));
    let key = key_in(slot, "k");
    let mut source = cluster.client(0);
    set(&mut source, &key, "a", 600_000);
    let mut waiter = Waiter::new(server, &format!("{key} TOKEN b PX 60000 BLOCK 0"));
    let leaving = cluster.open_slot(slot, 0, 1);
    waiter.assert_waiting(server);
    leaving.move_key_and_leave(&key);
    assert_eq!(waiter.failed(), moved_to(slot, cluster.node(1)));
    leaving.finish();
    let mut target = cluster.client(1);
    refused(&mut target, &format!("{key} TOKEN b"));
    assert_eq!(held(&mut target, &key), 1);
    let mut waiter = Waiter::new(cluster.node(1), &format!("{key} TOKEN b PX 60000 BLOCK 0"));
    release(&mut target, &key, "a");
    waiter.granted();
    acquire(&mut target, &format!("{key} TOKEN b"));
}
