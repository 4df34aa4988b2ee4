//! A token that waits and asks for other keys than before: one request of a token stands at a key.

use super::{assert_free, holds, release_all, waiting, waits};
use crate::support::locks::{acquire, exists};
use crate::support::waiter::{owners, release};
use crate::support::{Reply, Server, Waiter};

/// It waits for some of the keys only: a new place, behind those who came meanwhile, and the older request ends.
#[test]
fn who_asks_for_more_gets_a_new_place() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut older = waits(&server, "2 k l TOKEN b OWNER b BLOCK 0");
    let mut between = waits(&server, "2 k l TOKEN c OWNER c BLOCK 0");
    let mut newer = waits(&server, "3 k l m TOKEN b OWNER b BLOCK 0");
    older.refused();
    for key in ["k", "l"] {
        assert_eq!(owners(&mut client, key).1, ["c", "b"], "{key}");
    }
    assert_eq!(owners(&mut client, "m").1, ["b"]);
    release(&mut client, "k", "a");
    between.granted();
    release_all(&mut client, "2 k l c");
    newer.granted();
    release_all(&mut client, "3 k l m b");
    assert_free(&server, &["k", "l", "m"]);
}

/// What kept it waiting was its own older request.
#[test]
fn who_asks_for_other_keys_that_are_free_is_granted_them_at_once() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut older = waits(&server, "2 k l TOKEN b BLOCK 0");
    let mut newer = server.client();
    super::all(&mut newer, "2 l m TOKEN b BLOCK 0");
    older.refused();
    assert_eq!(waiting(&mut client, "k"), 0);
    assert_eq!(holds(&mut client, &["k", "l", "m"], "b"), ["l", "m"]);
}

/// Fewer keys of the same request: it waits at all of them. Whoever waited for the one that it leaves is served.
#[test]
fn who_asks_for_fewer_leaves_the_others_to_those_behind() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut older = waits(&server, "3 k l m TOKEN b OWNER b BLOCK 0");
    let mut at_m = Waiter::new(&server, "m TOKEN c BLOCK 0");
    let mut newer = waits(&server, "2 k l TOKEN b OWNER b BLOCK 0");
    older.refused();
    at_m.granted();
    assert_eq!(owners(&mut client, "k").1, ["b"]);
    release(&mut client, "k", "a");
    newer.granted();
    assert_eq!(holds(&mut client, &["k", "l", "m"], "b"), ["k", "l"]);
}

#[test]
fn lock_acquire_of_one_of_the_keys_takes_that_place_over() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut older = waits(&server, "2 k l TOKEN b OWNER b BLOCK 0");
    let behind = Waiter::new(&server, "k TOKEN c OWNER c BLOCK 0");
    let mut at_l = Waiter::new(&server, "l TOKEN d OWNER d BLOCK 0");
    let mut single = Waiter::new(&server, "k TOKEN b OWNER b BLOCK 0");
    older.refused();
    at_l.granted();
    assert_eq!(owners(&mut client, "k").1, ["b", "c"], "it keeps its place");
    release(&mut client, "k", "a");
    single.granted();
    behind.assert_waiting(&server);
    assert_eq!(holds(&mut client, &["k", "l"], "b"), ["k"]);
}

#[test]
fn lock_acquire_of_the_free_one_of_the_keys_is_granted_if_it_waits() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut older = waits(&server, "2 k l TOKEN b BLOCK 0");
    acquire(&mut client, "l TOKEN b BLOCK 0");
    older.refused();
    assert_eq!(waiting(&mut client, "k"), 0);
    release(&mut client, "k", "a");
    assert!(!exists(&mut client, "k"));
    assert_eq!(holds(&mut client, &["k", "l"], "b"), ["l"]);
}

#[test]
fn who_waits_for_one_and_asks_for_several_gets_a_new_place() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut older = Waiter::new(&server, "k TOKEN b OWNER b BLOCK 0");
    let mut between = Waiter::new(&server, "k TOKEN c OWNER c BLOCK 0");
    let mut newer = waits(&server, "2 k l TOKEN b OWNER b BLOCK 0");
    older.refused();
    assert_eq!(owners(&mut client, "k").1, ["c", "b"]);
    release(&mut client, "k", "a");
    between.granted();
    release(&mut client, "k", "c");
    newer.granted();
}

#[test]
fn who_waits_for_one_and_asks_for_it_alone_with_macquire_keeps_its_place() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut older = Waiter::new(&server, "k TOKEN b OWNER b BLOCK 0");
    let behind = Waiter::new(&server, "k TOKEN c OWNER c BLOCK 0");
    let mut newer = waits(&server, "1 k TOKEN b OWNER b BLOCK 0");
    older.refused();
    assert_eq!(owners(&mut client, "k").1, ["b", "c"]);
    let mut newest = Waiter::new(&server, "k TOKEN b OWNER b BLOCK 0");
    newer.refused();
    release(&mut client, "k", "a");
    newest.granted();
    behind.assert_waiting(&server);
}

/// Two requests of one token for keys apart, and one for a key of each: both end.
#[test]
fn one_request_can_supersede_several() {
    let server = Server::start();
    let mut client = server.client();
    for key in ["k", "m", "x"] {
        acquire(&mut client, &format!("{key} TOKEN a"));
    }
    let mut one = waits(&server, "2 k l TOKEN b BLOCK 0");
    let mut two = waits(&server, "2 m n TOKEN b BLOCK 0");
    let mut three = Waiter::new(&server, "x TOKEN b BLOCK 0");
    let mut newer = waits(&server, "3 l n x TOKEN b BLOCK 0");
    one.refused();
    two.refused();
    three.refused();
    assert_eq!((waiting(&mut client, "k"), waiting(&mut client, "m")), (0, 0));
    release(&mut client, "x", "a");
    newer.granted();
    assert_eq!(holds(&mut client, &["k", "l", "m", "n", "x"], "b"), ["l", "n", "x"]);
}

/// What fails has changed nothing: the older request waits on.
#[test]
fn a_request_that_fails_supersedes_nothing() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    acquire(&mut client, "x TOKEN b");
    client.ok("SET s v");
    let mut older = waits(&server, "2 k l TOKEN b OWNER b BLOCK 0");
    for rest in [
        "3 k l s TOKEN b BLOCK 0",
        "2 l s TOKEN b BLOCK 0",
        "2 k x TOKEN b BLOCK 0",
        "2 k l TOKEN b BLOCK -1",
    ] {
        let reply = client.run(&format!("LOCK.MACQUIRE {rest}"));
        assert!(reply.is_error(), "{rest}: {reply:?}");
        older.assert_waiting(&server);
    }
    client.ok("CONFIG SET lock.max-waiters-per-key 0");
    let reply = client.run("LOCK.MACQUIRE 3 k l m TOKEN b BLOCK 0");
    assert!(reply.error().starts_with("QUEUEFULL "), "{reply:?}");
    older.assert_waiting(&server);
    client.ok("CONFIG SET lock.max-waiters-per-key 1000");
    assert_eq!(owners(&mut client, "k").1, ["b"]);
    assert_eq!(owners(&mut client, "l").1, ["b"]);
    release(&mut client, "k", "a");
    older.granted();
    assert_eq!(client.run("LOCK.MRELEASE 3 k l x b"), Reply::Int(3));
}
