//! SESSION: several holds, tied to one connection, that end or are cut with it.

use std::time::{Duration, Instant};

use super::{all, assert_free, holds, release_all, waits, waits_on};
use crate::support::locks::{acquire, field, holder, remaining};
use crate::support::waiter::{release, time_passes};
use crate::support::{Client, PATIENCE, Reply, Server, Waiter, cmd, wait_until};

const KEYS: [&str; 3] = ["k", "l", "m"];

fn session(client: &mut Client, key: &str) -> Reply {
    field(&holder(client, key), "session")
}

#[test]
fn all_of_them_end_with_the_connection() {
    let server = Server::start();
    let mut client = server.client();
    let mut owner = server.client();
    let id = owner.id();
    all(&mut owner, "3 k l m TOKEN a PX 600000 SESSION");
    KEYS.iter().for_each(|key| assert_eq!(session(&mut client, key), Reply::Int(id)));
    let mut waiter = waits(&server, "3 m l k TOKEN b BLOCK 0");
    let mut single = Waiter::new(&server, "l TOKEN c BLOCK 0");
    drop(owner);
    waiter.granted();
    single.assert_waiting(&server);
    release_all(&mut client, "3 k l m b");
    single.granted();
    release(&mut client, "l", "c");
    assert_free(&server, &KEYS);
}

#[test]
fn the_server_extends_all_of_them_while_the_connection_is_open() {
    let server = Server::start();
    let mut client = server.client();
    let mut owner = server.client();
    all(&mut owner, "3 k l m TOKEN a PX 1 SESSION");
    KEYS.iter().for_each(|key| assert_eq!(field(&holder(&mut client, key), "lease"), Reply::Int(1_000)));
    time_passes(Instant::now(), Duration::from_millis(2_500));
    assert_eq!(holds(&mut client, &KEYS, "a"), KEYS);
}

#[test]
fn with_a_delay_all_leases_are_cut_to_it() {
    let server = Server::start();
    let mut client = server.client();
    let mut owner = server.client();
    let grant = all(&mut owner, "2 k l TOKEN a PX 600000 SESSION DELAY 60000");
    drop(owner);
    wait_until("the connection keeps nothing alive", PATIENCE, || {
        ["k", "l"].iter().all(|key| session(&mut client, key) == Reply::NullBulk)
    });
    for key in ["k", "l"] {
        let left = remaining(&mut client, key, "a").expect("the hold stays");
        assert!((30_000..=60_000).contains(&left), "{key}: {left}");
    }
    let mut back = server.client();
    assert_eq!(all(&mut back, "2 k l TOKEN a PX 600000 SESSION DELAY 60000"), grant);
    let id = back.id();
    for key in ["k", "l"] {
        assert!(remaining(&mut client, key, "a") > Some(500_000), "{key}");
        assert_eq!(session(&mut client, key), Reply::Int(id));
    }
}

#[test]
fn a_short_delay_over_several_serves_who_waits_for_all() {
    let server = Server::start();
    let mut owner = server.client();
    all(&mut owner, "2 k l TOKEN a PX 600000 SESSION DELAY 200");
    let mut waiter = waits(&server, "2 k l TOKEN b BLOCK 0");
    let start = Instant::now();
    drop(owner);
    waiter.granted();
    assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
}

#[test]
fn who_waited_is_tied_to_the_connection_that_it_waited_on() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut waiter = waits_on(&server, server.client3(), "2 k l TOKEN b SESSION BLOCK 0");
    let mut next = waits(&server, "2 l k TOKEN c BLOCK 0");
    release(&mut client, "k", "a");
    waiter.granted();
    ["k", "l"].iter().for_each(|key| assert_eq!(session(&mut client, key), Reply::Int(waiter.id)));
    drop(waiter);
    next.granted();
}

/// A session ends: some of its holds are its own by one request, some by another, and one was released.
#[test]
fn what_was_released_or_tied_to_another_connection_is_left_alone() {
    let server = Server::start();
    let mut client = server.client();
    let mut owner = server.client();
    all(&mut owner, "3 k l m TOKEN a PX 600000 SESSION");
    release(&mut client, "k", "a");
    acquire(&mut client, "k TOKEN x PX 600000");
    acquire(&mut client, "m TOKEN a PX 600000 SESSION");
    drop(owner);
    wait_until("l is free", PATIENCE, || holds(&mut client, &KEYS, "a") == ["m"]);
    assert_eq!(holds(&mut client, &KEYS, "x"), ["k"]);
}

#[test]
fn a_script_has_no_connection_to_tie_to() {
    let server = Server::start();
    let mut client = server.client();
    let script = "return redis.call('LOCK.MACQUIRE', 2, KEYS[1], KEYS[2], 'SESSION')";
    let reply = client.call(&cmd!["EVAL", script, 2, "k", "l"]);
    assert!(reply.error().starts_with("ERR SESSION"), "{reply:?}");
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
}

/// A connection that holds one and waits for others dies: its wait goes, and then its hold.
#[test]
fn a_connection_that_holds_and_waits_leaves_nothing() {
    let server = Server::start();
    let mut client = server.client();
    let mut owner = server.client();
    acquire(&mut client, "l TOKEN x PX 600000");
    all(&mut owner, "2 k n TOKEN a PX 600000 SESSION");
    let waiter = waits_on(&server, owner, "2 l m TOKEN b SESSION BLOCK 0");
    let mut at_m = Waiter::new(&server, "m TOKEN c BLOCK 0");
    let mut at_k = waits(&server, "2 k n TOKEN d BLOCK 0");
    drop(waiter);
    at_m.granted();
    at_k.granted();
    release(&mut client, "l", "x");
    assert!(holds(&mut client, &["l", "m"], "b").is_empty());
    release(&mut client, "m", "c");
    release_all(&mut client, "2 k n d");
    assert_free(&server, &["k", "l", "m", "n"]);
}
