//! The ways in which a wait for several locks ends without them.

use std::time::{Duration, Instant};

use super::{all, assert_free, holds, waiting, waits, waits_on};
use crate::support::locks::{acquire, exists};
use crate::support::waiter::{release, wait_blocked};
use crate::support::{PATIENCE, Reply, Server, wait_until};

const KEYS: [&str; 3] = ["k", "l", "m"];

#[test]
fn it_is_told_null_when_its_time_is_over() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "l TOKEN a");
    for connection in [server.client(), server.client3()] {
        let start = Instant::now();
        let mut waiter = waits_on(&server, connection, "3 k l m TOKEN b BLOCK 200");
        waiter.refused();
        assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
        for key in KEYS {
            assert_eq!(waiting(&mut client, key), 0);
        }
    }
    release(&mut client, "l", "a");
    assert_free(&server, &KEYS);
}

/// One is released while it waits, so that it had a part of what it needs.
#[test]
fn null_when_only_some_were_freed_in_time() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a");
    let mut waiter = waits(&server, "3 k l m TOKEN b BLOCK 300");
    release(&mut client, "k", "a");
    waiter.refused();
    assert!(holds(&mut client, &KEYS, "b").is_empty());
    assert!(!exists(&mut client, "k") && !exists(&mut client, "m"));
    acquire(&mut client, "k TOKEN c");
}

#[test]
fn client_unblock_gives_null_or_an_error() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "m TOKEN a");
    let mut waiter = waits(&server, "3 k l m TOKEN b BLOCK 0");
    assert_eq!(client.run(&format!("CLIENT UNBLOCK {}", waiter.id)), Reply::Int(1));
    waiter.refused();
    let mut waiter = waits_on(&server, waiter.client, "3 k l m TOKEN b BLOCK 0");
    assert_eq!(client.run(&format!("CLIENT UNBLOCK {} TIMEOUT", waiter.id)), Reply::Int(1));
    waiter.refused();
    let mut waiter = waits_on(&server, waiter.client, "3 k l m TOKEN b BLOCK 0");
    assert_eq!(client.run(&format!("CLIENT UNBLOCK {} ERROR", waiter.id)), Reply::Int(1));
    assert!(waiter.failed().starts_with("UNBLOCKED "));
    wait_blocked(&server, 0);
    for key in KEYS {
        assert_eq!(waiting(&mut client, key), 0);
    }
    release(&mut client, "m", "a");
    assert_free(&server, &KEYS);
}

#[test]
fn a_connection_that_ends_takes_its_wait_along() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "m TOKEN a");
    let ends: [fn(&Server, crate::support::Waiter); 2] = [
        |_, waiter| drop(waiter),
        |server, mut waiter| {
            server.client().run(&format!("CLIENT KILL ID {}", waiter.id));
            waiter.closed();
        },
    ];
    for end in ends {
        let waiter = waits(&server, "3 k l m TOKEN b BLOCK 0");
        end(&server, waiter);
        wait_until("its wait ends", PATIENCE, || KEYS.iter().all(|key| waiting(&mut client, key) == 0));
    }
    release(&mut client, "m", "a");
    assert_free(&server, &KEYS);
}

/// A release of the token at any one key where it holds nothing ends the whole wait.
#[test]
fn a_release_at_one_of_the_keys_ends_the_whole_wait() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "l TOKEN a");
    for (give_up, replied) in [
        ("LOCK.RELEASE k b", 0),
        ("LOCK.RELEASE l b", 0),
        ("LOCK.RELEASE m b", 0),
        ("LOCK.MRELEASE 1 m b", 0),
        ("LOCK.MRELEASE 2 unrelated k b", 0),
        ("LOCK.MRELEASE 3 k l m b", 0),
    ] {
        let mut waiter = waits(&server, "3 k l m TOKEN b BLOCK 0");
        assert_eq!(client.run(give_up), Reply::Int(replied), "{give_up}");
        waiter.refused();
        for key in KEYS {
            assert_eq!(waiting(&mut client, key), 0, "{give_up}");
        }
    }
    // A release elsewhere ends nothing, nor one of another token.
    let waiter = waits(&server, "3 k l m TOKEN b BLOCK 0");
    for command in ["LOCK.RELEASE unrelated b", "LOCK.MRELEASE 3 k l m c", "LOCK.MEXTEND 3 k l m b"] {
        assert_eq!(client.run(command), Reply::Int(0), "{command}");
        waiter.assert_waiting(&server);
    }
}

/// The time of one that waits is not lengthened by what happens at its keys.
#[test]
fn its_time_goes_on_whatever_happens_at_the_keys() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "m TOKEN a");
    let start = Instant::now();
    let mut waiter = waits(&server, "3 k l m TOKEN b BLOCK 600");
    while start.elapsed() < Duration::from_millis(500) {
        client.run_all(&["SET k v", "DEL k", "LOCK.EXTEND m a", "PING"]);
    }
    waiter.refused();
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(600) && waited < Duration::from_secs(10), "{waited:?}");
}
