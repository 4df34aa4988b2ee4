//! Other commands on the keys of a request for several: DEL, EXPIRE, RENAME, MOVE, SWAPDB, FLUSH, RESTORE.

use super::{all, assert_free, fences, holds, release_all, waiting, waits, waits_on};
use crate::support::locks::{acquire, exists, remaining};
use crate::support::waiter::release;
use crate::support::{PATIENCE, Reply, Server, cmd, wait_until};

/// A key of another type at one of its keys leaves it waiting until that key is gone.
#[test]
fn a_value_that_appears_under_it_keeps_it_waiting_until_it_is_gone() {
    for gone in ["DEL l", "PEXPIRE l 20", "RENAME l elsewhere", "FLUSHALL", "MOVE l 1", "RPOP l"] {
        let server = Server::start();
        let mut client = server.client();
        acquire(&mut client, "k TOKEN a");
        let mut waiter = waits(&server, "2 k l TOKEN b BLOCK 0");
        client.run("RPUSH l x");
        release(&mut client, "k", "a");
        waiter.assert_waiting(&server);
        assert!(!exists(&mut client, "k"));
        assert!(client.run("LOCK.ACQUIRE k TOKEN c").is_null(), "k is its own in turn");
        let reply = client.run(gone);
        assert!(!reply.is_error(), "{gone}: {reply:?}");
        waiter.granted();
        assert_eq!(holds(&mut client, &["k", "l"], "b"), ["k", "l"], "{gone}");
    }
}

#[test]
fn a_lock_that_is_overwritten_is_no_lock() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a");
    let mut waiter = waits(&server, "2 k l TOKEN b BLOCK 0");
    client.ok("SET k v");
    release(&mut client, "l", "a");
    waiter.assert_waiting(&server);
    client.run("DEL k");
    waiter.granted();
}

#[test]
fn both_at_once_by_del_or_one_after_the_other() {
    let server = Server::start();
    let mut client = server.client();
    for free in [&["DEL k l m"][..], &["UNLINK m l k"], &["DEL k", "DEL m", "DEL l"], &["FLUSHDB ASYNC"]] {
        all(&mut client, "3 k l m TOKEN a");
        let mut waiter = waits(&server, "3 k l m TOKEN b BLOCK 0");
        let mut next = waits(&server, "2 m k TOKEN c BLOCK 0");
        client.run_all(free);
        waiter.granted();
        next.assert_waiting(&server);
        client.run_all(free);
        next.granted();
        release_all(&mut client, "2 k m c");
        assert_free(&server, &["k", "l", "m"]);
    }
}

/// In a transaction several keys go one by one: the one that waits for all is granted when the last has gone.
#[test]
fn in_a_transaction_it_is_granted_with_the_last() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "3 k l m TOKEN a");
    let mut waiter = waits(&server, "3 k l m TOKEN b BLOCK 0");
    let replies = client.run_all(&[
        "MULTI",
        "DEL k",
        "LOCK.CHECK k b",
        "LOCK.RELEASE l a",
        "LOCK.ACQUIRE l TOKEN x",
        "LOCK.BREAK m",
        "LOCK.CHECK k b",
        "EXEC",
    ]);
    let results = replies[7].items();
    assert!(results[1].is_null() && results[3].is_null(), "{results:?}");
    waiter.granted();
    assert_eq!(holds(&mut client, &["k", "l", "m"], "b").len(), 3);
}

#[test]
fn a_time_to_live_ends_a_lock_of_several_and_leaves_the_others() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a PX 600000");
    let mut waiter = waits(&server, "2 k m TOKEN b BLOCK 0");
    client.run("PEXPIRE k 30");
    waiter.granted();
    assert_eq!(holds(&mut client, &["k", "l"], "a"), ["l"]);
    assert!(remaining(&mut client, "l", "a") > Some(500_000));
}

/// It waits for names, not for values: a lock that goes under one of its names is one more to wait for.
#[test]
fn rename_brings_locks_under_its_names_and_takes_them_away() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    acquire(&mut client, "other TOKEN x PX 600000");
    let mut waiter = waits(&server, "2 k l TOKEN b BLOCK 0");
    client.ok("RENAME other l");
    client.ok("RENAME k elsewhere");
    waiter.assert_waiting(&server);
    assert_eq!(holds(&mut client, &["k", "l", "elsewhere"], "a"), ["elsewhere"]);
    // From one of its names to another.
    client.ok("RENAME l k");
    waiter.assert_waiting(&server);
    assert_eq!(client.run("LOCK.RELEASE k x"), Reply::Int(1));
    let grant = waiter.granted();
    assert_eq!(fences(&mut client, &["k", "l"], "b"), [grant.fence; 2]);
    assert_eq!(client.run("LOCK.RELEASE elsewhere a"), Reply::Int(1));
}

#[test]
fn what_it_holds_goes_along_with_its_keys_one_by_one() {
    let server = Server::start();
    let mut client = server.client();
    let grant = all(&mut client, "2 k l TOKEN a PX 600000");
    client.ok("RENAME k m");
    assert_eq!(client.run("MOVE l 1"), Reply::Int(1));
    assert_eq!(fences(&mut client, &["m"], "a"), [grant.fence]);
    client.ok("SELECT 1");
    assert_eq!(fences(&mut client, &["l"], "a"), [grant.fence]);
    client.ok("SELECT 0");
    assert_eq!(client.run("LOCK.MRELEASE 3 k l m a"), Reply::Int(1));
}

#[test]
fn swapdb_shows_it_other_locks_under_its_names() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a PX 600000");
    let mut waiter = waits(&server, "2 k l TOKEN b BLOCK 0");
    let mut there = server.client();
    there.ok("SELECT 1");
    acquire(&mut there, "l TOKEN x PX 600000");
    let mut there = waits_on(&server, there, "2 k l TOKEN c BLOCK 0");
    client.ok("SWAPDB 0 1");
    // What was in 1 is in 0: l of x.
    waiter.assert_waiting(&server);
    there.assert_waiting(&server);
    assert_eq!(client.run("LOCK.RELEASE l x"), Reply::Int(1));
    waiter.granted();
    client.ok("SELECT 1");
    release_all(&mut client, "2 k l a");
    there.granted();
}

#[test]
fn what_is_restored_under_it_is_one_more_to_wait_for() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "saved TOKEN x PX 600000");
    let payload = client.run("DUMP saved").bytes();
    acquire(&mut client, "k TOKEN a PX 600000");
    let mut waiter = waits(&server, "2 k l TOKEN b BLOCK 0");
    assert_eq!(client.call(&cmd!["RESTORE", "l", 0, payload]), Reply::Simple("OK".into()));
    release(&mut client, "k", "a");
    waiter.assert_waiting(&server);
    assert_eq!(client.run("LOCK.RELEASE l x"), Reply::Int(1));
    waiter.granted();
}

#[test]
fn copy_of_one_of_them_is_refused() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a");
    assert!(client.run("COPY k m").is_error());
    assert!(!exists(&mut client, "m"));
}

#[test]
fn eviction_serves_who_waits_for_several() {
    let server = Server::builder().config("maxmemory-policy allkeys-random").start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a PX 600000");
    let mut waiter = waits(&server, "2 k l TOKEN b PX 600000 BLOCK 0");
    client.run_all(&["CONFIG SET maxmemory 1", "PING", "SET x 1", "CONFIG SET maxmemory 0"]);
    // What it was granted may have been evicted in turn.
    waiter.granted();
    wait_until("nobody waits", PATIENCE, || waiting(&mut client, "k") == 0);
}

/// Debug reload: holds stay, and who waits for several goes on waiting.
#[test]
fn debug_reload_leaves_holds_and_waits() {
    let server = Server::start();
    let mut client = server.client();
    let grant = all(&mut client, "2 k l TOKEN a PX 600000");
    let mut waiter = waits(&server, "3 k l m TOKEN b BLOCK 0");
    client.ok("DEBUG RELOAD");
    assert_eq!(fences(&mut client, &["k", "l"], "a"), [grant.fence; 2]);
    waiter.assert_waiting(&server);
    assert!(client.run("LOCK.ACQUIRE m TOKEN x").is_null(), "m is its own in turn");
    release_all(&mut client, "2 k l a");
    waiter.granted();
}
