//! A command that is repeated does no harm: what is held stays with its fence, what waits keeps its place.

use super::{all, assert_free, errs, fences, holds, none, release_all, waiting, waits};
use crate::support::locks::{acquire, exists, field, holder, remaining, standing};
use crate::support::waiter::{owners, release};
use crate::support::{Reply, Server, Waiter};

#[test]
fn a_token_that_holds_all_is_granted_them_again() {
    let server = Server::start();
    let mut client = server.client();
    let grant = all(&mut client, "2 k l TOKEN a PX 60000 OWNER me LIMIT 3");
    for rest in ["2 k l TOKEN a PX 70000", "2 l k TOKEN a PX 70000", "3 k l k TOKEN a PX 70000 BLOCK 0"] {
        assert_eq!(all(&mut client, rest), grant, "{rest}");
        for key in ["k", "l"] {
            let hold = holder(&mut client, key);
            assert_eq!(field(&hold, "fence"), Reply::Int(grant.fence));
            assert_eq!(field(&hold, "lease"), Reply::Int(70_000));
            assert_eq!(field(&hold, "owner").text(), "me");
            assert_eq!(field(&hold, "limit"), Reply::Int(3), "what it does not name stays");
        }
    }
    // Without a lease it is the default again.
    all(&mut client, "2 k l TOKEN a");
    assert_eq!(field(&holder(&mut client, "l"), "lease"), Reply::Int(30_000));
}

#[test]
fn of_different_fences_the_reply_has_the_highest_and_each_lock_keeps_its_own() {
    let server = Server::start();
    let mut client = server.client();
    let second = acquire(&mut client, "l TOKEN a").fence;
    let third = acquire(&mut client, "m TOKEN a").fence;
    let fourth = acquire(&mut client, "k TOKEN a").fence;
    assert!(second < third && third < fourth);
    for rest in ["3 k l m TOKEN a", "3 m l k TOKEN a", "3 l m k TOKEN a"] {
        assert_eq!(all(&mut client, rest).fence, fourth);
    }
    assert_eq!(all(&mut client, "2 l m TOKEN a").fence, third);
    assert_eq!(fences(&mut client, &["k", "l", "m"], "a"), [fourth, second, third]);
}

#[test]
fn who_holds_some_and_finds_the_others_free_is_granted_them_too() {
    let server = Server::start();
    let mut client = server.client();
    let old = acquire(&mut client, "k TOKEN a PX 60000").fence;
    let grant = all(&mut client, "3 k l m TOKEN a PX 70000");
    assert!(grant.fence > old, "what is granted anew has a new fence");
    assert_eq!(fences(&mut client, &["k", "l", "m"], "a"), [old, grant.fence, grant.fence]);
    assert!(remaining(&mut client, "k", "a") > Some(60_000));
    assert_eq!(all(&mut client, "3 k l m TOKEN a").fence, grant.fence);
}

/// What holds some would have to wait: it could be for who waits for what it holds.
#[test]
fn who_holds_some_and_would_have_to_wait_is_in_a_deadlock() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    acquire(&mut client, "l TOKEN b PX 60000");
    let before = ["k", "l"].map(|key| standing(&mut client, key));
    for wait in ["BLOCK 0", "BLOCK 5", "QUEUE 5000", "BLOCK 5 QUEUE 5000"] {
        errs(&mut client, &format!("3 k l m TOKEN a PX 5 {wait}"), "DEADLOCK ");
        errs(&mut client, &format!("3 m l k TOKEN a PX 5 {wait}"), "DEADLOCK ");
    }
    assert_eq!(["k", "l"].map(|key| standing(&mut client, key)), before);
    assert!(remaining(&mut client, "k", "a") > Some(50_000), "nothing has happened");
    assert!(!exists(&mut client, "m"));
    assert_eq!(waiting(&mut client, "m"), 0);
    // Contention is no error: who does not wait is told null, and in a transaction nobody waits.
    none(&mut client, "3 k l m TOKEN a PX 5");
    let replies = client.run_all(&["MULTI", "LOCK.MACQUIRE 2 k l TOKEN a PX 5 BLOCK 0", "EXEC"]);
    assert!(replies[2].items()[0].is_null(), "{replies:?}");
    assert!(remaining(&mut client, "k", "a") > Some(50_000), "nothing has happened");
    // A free one that somebody else waits for is one to wait for too.
    release(&mut client, "l", "b");
    acquire(&mut client, "n TOKEN b");
    let _first = waits(&server, "2 l n TOKEN c BLOCK 0");
    errs(&mut client, "2 k l TOKEN a BLOCK 0", "DEADLOCK ");
}

#[test]
fn who_waits_keeps_its_place_and_the_older_request_ends() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    for again in ["2 k l", "2 l k", "3 l k l"] {
        let mut older = waits(&server, "2 k l TOKEN b OWNER b BLOCK 0");
        let behind = waits(&server, "2 k l TOKEN c OWNER c BLOCK 0");
        let mut newer = waits(&server, &format!("{again} TOKEN b OWNER b BLOCK 0"));
        older.refused();
        for key in ["k", "l"] {
            assert_eq!(owners(&mut client, key).1, ["b", "c"], "{again}");
        }
        release(&mut client, "k", "a");
        newer.granted();
        behind.assert_waiting(&server);
        assert_eq!(client.run("LOCK.MRELEASE 2 k l c"), Reply::Int(0));
        release_all(&mut client, "2 k l b");
        acquire(&mut client, "k TOKEN a");
    }
}

#[test]
fn a_retry_that_does_not_wait_leaves_the_older_request_waiting() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut older = waits(&server, "2 k l TOKEN b BLOCK 0");
    for rest in ["2 k l TOKEN b", "2 l k TOKEN b SHARED", "1 k TOKEN b", "1 l TOKEN b", "2 l m TOKEN b"] {
        none(&mut client, rest);
    }
    assert!(client.run("LOCK.ACQUIRE l TOKEN b").is_null());
    older.assert_waiting(&server);
    assert!(!exists(&mut client, "m"));
    release(&mut client, "k", "a");
    older.granted();
}

#[test]
fn the_fence_that_was_granted_after_a_wait_is_told_again() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut waiter = waits(&server, "2 k l TOKEN b BLOCK 0");
    release(&mut client, "k", "a");
    let grant = waiter.granted();
    assert_eq!(all(&mut client, "2 k l TOKEN b BLOCK 0"), grant);
    assert_eq!(acquire(&mut client, "l TOKEN b"), grant);
}

#[test]
fn releases_and_extensions_can_be_repeated() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a");
    assert_eq!(client.run("LOCK.MEXTEND 2 k l a PX 5000"), Reply::Int(2));
    assert_eq!(client.run("LOCK.MEXTEND 2 k l a PX 5000"), Reply::Int(2));
    assert_eq!(client.run("LOCK.MRELEASE 2 k l a"), Reply::Int(2));
    all(&mut client, "2 k l TOKEN b");
    assert_eq!(client.run("LOCK.MRELEASE 2 k l a"), Reply::Int(0));
    assert_eq!(holds(&mut client, &["k", "l"], "b"), ["k", "l"]);
}

/// One whose holds have partly ended asks again: what is left keeps its fence, and the rest is granted anew.
#[test]
fn a_retry_after_one_lease_has_ended_grants_that_lock_anew() {
    let server = Server::start();
    let mut client = server.client();
    let first = all(&mut client, "2 k l TOKEN a");
    client.run("LOCK.BREAK k");
    let second = all(&mut client, "2 k l TOKEN a");
    assert!(second.fence > first.fence);
    assert_eq!(fences(&mut client, &["k", "l"], "a"), [second.fence, first.fence]);
}

/// The same token at other keys is another request.
#[test]
fn one_token_can_wait_for_keys_that_do_not_meet() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "3 k m x TOKEN a");
    let mut one = waits(&server, "2 k l TOKEN b BLOCK 0");
    let mut other = waits(&server, "2 m n TOKEN b BLOCK 0");
    let mut single = Waiter::new(&server, "x TOKEN b BLOCK 0");
    one.assert_waiting(&server);
    release(&mut client, "m", "a");
    other.granted();
    one.assert_waiting(&server);
    release(&mut client, "x", "a");
    single.granted();
    release(&mut client, "k", "a");
    one.granted();
    release_all(&mut client, "4 k l m n b");
    release(&mut client, "x", "b");
    assert_free(&server, &["k", "l", "m", "n", "x"]);
}
