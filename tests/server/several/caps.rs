//! How many may wait: a request for several counts once on the server, and at each of its keys.

use super::{all, errs, none, release_all, waiting, waits};
use crate::support::locks::{acquire, exists};
use crate::support::waiter::{release, wait_blocked};
use crate::support::{PATIENCE, Reply, Server, Waiter, wait_until};

#[test]
fn on_the_server_a_request_counts_once_whatever_the_number_of_its_keys() {
    let server = Server::builder().config("lock.max-waiters 2").start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut first = waits(&server, "5 k l m n o TOKEN b BLOCK 0");
    let _second = waits(&server, "2 k x TOKEN c BLOCK 0");
    for rest in ["2 k l TOKEN d BLOCK 0", "1 k BLOCK 5", "2 k y TOKEN d QUEUE 5000", "1 l TOKEN d BLOCK 0"] {
        errs(&mut client, rest, "QUEUEFULL ");
    }
    assert!(client.run("LOCK.ACQUIRE l BLOCK 0").error().starts_with("QUEUEFULL "));
    none(&mut client, "2 k l TOKEN d");
    all(&mut client, "2 free other TOKEN d BLOCK 0");
    client.run(&format!("CLIENT UNBLOCK {}", first.id));
    first.refused();
    let _third = waits(&server, "4 k l m n TOKEN d BLOCK 0");
}

#[test]
fn each_key_has_its_own_cap() {
    let server = Server::builder().config("lock.max-waiters-per-key 2").start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    acquire(&mut client, "l TOKEN a");
    let first = waits(&server, "2 k l TOKEN b BLOCK 0");
    let mut second = Waiter::new(&server, "l TOKEN c BLOCK 0");
    // l is full, k is not.
    for rest in ["2 k l TOKEN d BLOCK 0", "2 l k TOKEN d BLOCK 0", "3 m k l TOKEN d QUEUE 5000"] {
        errs(&mut client, rest, "QUEUEFULL ");
    }
    assert_eq!((waiting(&mut client, "k"), waiting(&mut client, "l"), waiting(&mut client, "m")), (1, 2, 0));
    let third = waits(&server, "2 k m TOKEN d BLOCK 0");
    client.run(&format!("CLIENT UNBLOCK {}", second.id));
    second.refused();
    let fourth = waits(&server, "2 l m TOKEN e BLOCK 0");
    [first, third, fourth].iter().for_each(|waiter| waiter.assert_waiting(&server));
}

/// Who keeps its place needs no more room.
#[test]
fn a_retry_needs_no_room_but_where_it_is_new() {
    for cap in ["lock.max-waiters 1", "lock.max-waiters-per-key 1"] {
        let server = Server::builder().config(cap).start();
        let mut client = server.client();
        acquire(&mut client, "k TOKEN a");
        let mut older = waits(&server, "2 k l TOKEN b BLOCK 0");
        let mut newer = waits(&server, "2 l k TOKEN b BLOCK 0");
        older.refused();
        errs(&mut client, "2 k l TOKEN c BLOCK 0", "QUEUEFULL ");
        release(&mut client, "k", "a");
        newer.granted();
    }
}

/// However it leaves, there is room again, at every key and on the server.
#[test]
fn who_leaves_makes_room_everywhere() {
    for cap in ["lock.max-waiters 1", "lock.max-waiters-per-key 1"] {
        let server = Server::builder().config(cap).start();
        let mut client = server.client();
        acquire(&mut client, "k TOKEN a");
        for end in ["CLIENT UNBLOCK ?", "CLIENT UNBLOCK ? ERROR", "CLIENT KILL ID ?", "LOCK.RELEASE m b"] {
            let waiter = waits(&server, "3 k l m TOKEN b BLOCK 0");
            client.run(&end.replace('?', &waiter.id.to_string()));
            wait_blocked(&server, 0);
            assert_eq!(waiting(&mut client, "l"), 0, "{cap}: {end}");
        }
        drop(waits(&server, "3 k l m TOKEN b BLOCK 0"));
        wait_blocked(&server, 0);
        for _ in 0..3 {
            let mut late = waits(&server, "3 m l k TOKEN b BLOCK 20");
            late.refused();
        }
        let mut granted = waits(&server, "3 m l k TOKEN b BLOCK 0");
        release(&mut client, "k", "a");
        granted.granted();
        release_all(&mut client, "3 k l m b");
    }
}

#[test]
fn without_room_for_anybody_what_is_free_is_granted_and_the_rest_refused() {
    let server = Server::builder().config("lock.max-waiters 0").start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a BLOCK 0");
    errs(&mut client, "2 l m TOKEN b BLOCK 0", "QUEUEFULL ");
    none(&mut client, "2 l m TOKEN b");
    all(&mut client, "2 k l TOKEN a BLOCK 0");
    assert!(!exists(&mut client, "m"));
}

/// Nothing is left of queues in which thousands have stood.
#[test]
fn many_requests_over_many_keys_come_and_go() {
    let server = Server::start();
    let mut client = server.client();
    let keys: Vec<String> = (0..100).map(|n| format!("k{n}")).collect();
    let keys = keys.join(" ");
    acquire(&mut client, "k0 TOKEN a PX 600000");
    for round in 0..2 {
        for n in 0..200 {
            let reply = client.run(&format!("LOCK.MACQUIRE 100 {keys} TOKEN t{n} QUEUE 600000"));
            assert!(matches!(reply, Reply::Int(_)), "{reply:?}");
        }
        assert_eq!(client.info("lock", "lock_waiters_queued"), "200");
        assert_eq!(waiting(&mut client, "k99"), 200, "round {round}");
        for n in 0..200 {
            assert_eq!(client.run(&format!("LOCK.RELEASE k{} t{n}", n % 100)), Reply::Int(0));
        }
        assert_eq!(client.info("lock", "lock_waiters_queued"), "0");
        wait_until("nobody waits", PATIENCE, || client.info("lock", "lock_longest_queue") == "0");
    }
    release(&mut client, "k0", "a");
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
}
