//! The server keeps the lease while the connection is open, however short it is, and longer if it is extended by hand.

use std::time::{Duration, Instant};

use super::gone_at_once;
use crate::support::locks::{acquire, exists, field, holder, refused, remaining};
use crate::support::waiter::time_passes;
use crate::support::{PATIENCE, Pair, Reply, Server, Waiter, wait_until};

#[test]
fn the_server_extends_the_lease_while_the_connection_is_open() {
    let server = Server::start();
    let mut session = server.client();
    let id = session.id();
    let grant = acquire(&mut session, "k TOKEN a PX 1000 SESSION");
    let mut client = server.client();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2_200) {
        let left = remaining(&mut client, "k", "a").expect("it is held all the time");
        assert!((0..=1_000).contains(&left), "{left} ms left of a lease of 1000");
        refused(&mut client, "k TOKEN b");
    }
    let hold = holder(&mut client, "k");
    assert_eq!(field(&hold, "session"), Reply::Int(id));
    assert_eq!(field(&hold, "fence"), Reply::Int(grant.fence));
    assert_eq!(field(&hold, "lease"), Reply::Int(1_000));
    assert_eq!(field(&hold, "level"), Reply::Int(1));
    assert!(field(&hold, "age").int() > 2_000, "{hold:?}");
}

#[test]
fn without_session_nobody_extends_it() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 300");
    wait_until("the lease ends", PATIENCE, || !exists(&mut client, "k"));
}

#[test]
fn the_shortest_leases_are_kept_too() {
    let server = Server::start();
    let mut session = server.client();
    let mut client = server.client();
    let grants: Vec<_> = [1, 2, 5, 10]
        .iter()
        .map(|lease| acquire(&mut session, &format!("k{lease} PX {lease} TOKEN a SESSION")).fence)
        .collect();
    time_passes(Instant::now(), Duration::from_millis(1_200));
    for (lease, fence) in [1, 2, 5, 10].iter().zip(grants) {
        let hold = holder(&mut client, format!("k{lease}"));
        assert_eq!(field(&hold, "fence"), Reply::Int(fence), "PX {lease}");
    }
}

#[test]
fn the_default_lease_is_kept_as_well() {
    let server = Server::builder().config("lock.default-lease 250").start();
    let mut session = server.client();
    acquire(&mut session, "k TOKEN a SESSION");
    time_passes(Instant::now(), Duration::from_millis(1_600));
    assert!(remaining(&mut server.client(), "k", "a").is_some());
}

#[test]
fn it_can_be_extended_by_hand() {
    let server = Server::start();
    let mut session = server.client();
    let mut client = server.client();
    acquire(&mut session, "k TOKEN a PX 1000 SESSION");
    assert_eq!(client.run("LOCK.EXTEND k a PX 600000"), Reply::Int(1));
    assert!(remaining(&mut client, "k", "a") > Some(500_000));
    time_passes(Instant::now(), Duration::from_millis(1_200));
    assert!(remaining(&mut client, "k", "a") > Some(500_000), "the server shortens nothing");
    drop(session);
    gone_at_once(&mut client, "k");
}

#[test]
fn a_server_that_sleeps_longer_than_the_lease_does_not_lose_it() {
    let server = Server::start();
    let mut session = server.client();
    let grant = acquire(&mut session, "k TOKEN a PX 1000 SESSION");
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    let mut client = server.client();
    let replies = client.run_all(&["DEBUG SLEEP 1.3", "LOCK.CHECK k a", "LOCK.ACQUIRE k TOKEN c"]);
    assert_eq!(replies[1].items()[0], Reply::Int(grant.fence));
    assert_eq!(replies[2], Reply::NullArray);
    client.ok("DEBUG SLEEP 1.3");
    waiter.assert_waiting(&server);
    assert_eq!(field(&holder(&mut client, "k"), "fence"), Reply::Int(grant.fence));
    drop(session);
    waiter.granted();
}

#[test]
fn with_a_session_a_lease_of_less_than_a_second_counts_as_a_second_here_and_on_replicas() {
    let pair = Pair::start();
    let mut session = pair.master.client();
    let lease = |server: &Server| field(&holder(&mut server.client(), "k"), "lease").int();
    acquire(&mut session, "k TOKEN a PX 1 SESSION");
    assert_eq!(lease(&pair.master), 1_000);
    for shorter in
        ["LOCK.EXTEND k a PX 5", "LOCK.ACQUIRE k TOKEN a PX 5", "LOCK.ACQUIRE k TOKEN a PX 5 LEVEL 2"]
    {
        assert!(!session.run(shorter).is_error());
        assert_eq!(lease(&pair.master), 1_000, "{shorter}");
        pair.wait_caught_up();
        assert_eq!(lease(&pair.replica), 1_000, "{shorter}");
    }
    assert_eq!(session.run("LOCK.EXTEND k a PX 5000"), Reply::Int(1));
    assert_eq!(lease(&pair.master), 5_000);
    // Without a session it is what it is.
    acquire(&mut session, "l TOKEN a PX 60");
    assert!(remaining(&mut session, "l", "a") <= Some(60));
}
