//! What becomes of a session on a replica, and after a restart, a reload, a demotion, a promotion.

use std::time::{Duration, Instant};

use super::{gone_at_once, session_of};
use crate::support::locks::{acquire, exists, field, holder, holders, remaining};
use crate::support::waiter::{assert_left_in_peace, time_passes};
use crate::support::{Client, Data, PATIENCE, Pair, Reply, Server, wait_until};

#[test]
fn a_session_that_closed_just_before_a_demotion_runs_out_by_its_lease() {
    let server = Server::start();
    let mut client = server.client();
    let mut holder = server.client();
    acquire(&mut holder, "k TOKEN a SESSION PX 700");
    let close = format!("CLIENT KILL ID {}", holder.id());
    client.run_all(&[&close, "REPLICAOF 127.0.0.1 1"]);
    wait_until("the lease runs out", PATIENCE, || client.run("LOCK.CHECK k a").is_null());
}

#[test]
fn after_a_restart_no_connection_keeps_it_and_its_lease_runs_out() {
    for power_cut in [false, true] {
        let mut server = Server::builder().aof().start();
        let mut session = server.client();
        acquire(&mut session, "k TOKEN a PX 1500 SESSION");
        if power_cut {
            server.kill9();
        } else {
            server.stop(Data::Save);
        }
        let began = Instant::now();
        server.start_again();
        let mut client = server.client();
        // The lease may have been extended just before, and counts from the start.
        if let [hold] = holders(&mut client, "k").as_slice() {
            assert_eq!(field(hold, "session"), Reply::NullBulk);
        } else {
            let may_be_over = began.elapsed() >= Duration::from_millis(1_500);
            assert!(!power_cut || may_be_over, "it cannot have ended yet");
        }
        wait_until("the lease runs out", PATIENCE, || !exists(&mut client, "k"));
        assert_left_in_peace(&server, "k");
    }
}

#[test]
fn a_reload_of_the_data_leaves_the_hold_with_its_connection_or_lets_it_run_out() {
    let mut server = Server::start();
    let mut session = server.client();
    let id = session.id();
    acquire(&mut session, "k TOKEN a PX 1000 SESSION");
    let mut client = server.client();
    client.ok("DEBUG RELOAD");
    match session_of(&mut client, "k") {
        Reply::Int(shown) => {
            assert_eq!(shown, id);
            time_passes(Instant::now(), Duration::from_millis(1_600));
            assert!(remaining(&mut client, "k", "a").is_some(), "what is shown is kept");
            drop(session);
            gone_at_once(&mut client, "k");
        }
        Reply::NullBulk => wait_until("the lease runs out", PATIENCE, || !exists(&mut client, "k")),
        other => panic!("a session is an id or null: {other:?}"),
    }
    server.assert_alive();
}

#[test]
fn the_extensions_reach_a_replica() {
    let pair = Pair::start();
    let mut session = pair.master.client();
    acquire(&mut session, "k TOKEN a PX 1000 SESSION");
    pair.wait_caught_up();
    let mut reader = pair.replica.client();
    // Where an extension comes late the lease is over by the replica's own clock, and the key stays.
    let left_on = |reader: &mut Client| {
        assert!(exists(reader, "k"), "the replica has it");
        remaining(reader, "k", "a").unwrap_or(0)
    };
    for _ in 0..3 {
        let mut last = left_on(&mut reader);
        wait_until("what is left of the lease grows on the replica", PATIENCE, || {
            let left = left_on(&mut reader);
            let grown = left > last;
            last = left;
            grown
        });
    }
    let fence = |client: &mut Client| field(&holder(client, "k"), "fence");
    assert_eq!(fence(&mut reader), fence(&mut pair.master.client()));
    drop(session);
    gone_at_once(&mut pair.master.client(), "k");
    wait_until("it is gone from the replica", PATIENCE, || !exists(&mut reader, "k"));
}

#[test]
fn on_a_promoted_replica_no_connection_keeps_it_and_its_lease_runs_out() {
    let pair = Pair::start();
    let mut session = pair.master.client();
    acquire(&mut session, "k TOKEN a PX 5000 SESSION");
    pair.wait_caught_up();
    let mut promoted = pair.replica.client();
    promoted.ok("REPLICAOF NO ONE");
    assert_eq!(session_of(&mut promoted, "k"), Reply::NullBulk);
    wait_until("the lease runs out", PATIENCE, || !exists(&mut promoted, "k"));
    assert!(remaining(&mut pair.master.client(), "k", "a").is_some(), "the old master keeps its own");
}
