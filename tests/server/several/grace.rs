//! `lock.restart-grace`: after a restart nobody is granted several locks of which one could be somebody else's.

use std::time::{Duration, Instant};

use super::{all, assert_free, fences, none, release_all, waiting, waits};
use crate::support::locks::{acquire, exists, field, holder};
use crate::support::waiter::release;
use crate::support::{Data, Reply, Server, ok_grant};

const LONG: &str = "lock.restart-grace 3600000";

/// What a token is known to hold it is granted again, all of it or none.
#[test]
fn only_who_is_known_to_hold_all_is_granted_them() {
    let mut server = Server::builder().aof().config(LONG).start();
    let mut client = server.client();
    let grant = all(&mut client, "2 k l TOKEN a PX 600000");
    let readers = all(&mut client, "2 m n TOKEN r SHARED PX 600000");
    server.restart(Data::NoSave);
    let mut client = server.client();
    for rest in
        ["2 x y TOKEN b", "2 k x TOKEN a", "2 x k TOKEN a", "2 m n TOKEN b SHARED", "3 k l x TOKEN a", "1 x"]
    {
        none(&mut client, rest);
    }
    assert!(!exists(&mut client, "x") && !exists(&mut client, "y"));
    assert_eq!(all(&mut client, "2 k l TOKEN a PX 600000"), grant);
    assert_eq!(all(&mut client, "2 l k TOKEN a PX 600000 BLOCK 0"), grant);
    assert_eq!(all(&mut client, "2 m n TOKEN r PX 600000"), readers);
    none(&mut client, "2 m n TOKEN r LIMIT 1");
    assert_eq!(field(&holder(&mut client, "m"), "limit"), Reply::Int(0));
    assert_eq!(client.run("LOCK.MEXTEND 2 k l a"), Reply::Int(2));
    release_all(&mut client, "2 k l a");
    none(&mut client, "2 k l TOKEN b");
    client.ok("CONFIG SET lock.restart-grace 0");
    all(&mut client, "4 k l x y TOKEN b");
}

#[test]
fn who_waits_for_several_is_served_when_it_is_over() {
    // Long enough for all who come to wait while it lasts.
    const GRACE_MS: u64 = 5_000;
    let mut server = Server::builder().aof().config(&format!("lock.restart-grace {GRACE_MS}")).start();
    acquire(&mut server.client(), "k TOKEN a PX 600000");
    server.kill9();
    let start = Instant::now();
    server.start_again();
    let mut client = server.client();
    let mut waiter = waits(&server, "3 k l m TOKEN b BLOCK 0");
    let mut free = waits(&server, "2 x y TOKEN c BLOCK 0");
    let mut next = waits(&server, "2 y m TOKEN d BLOCK 0");
    let mut late = waits(&server, "2 l x TOKEN e BLOCK 100");
    late.refused();
    assert_eq!(waiting(&mut client, "x"), 1);
    release(&mut client, "k", "a");
    let grant = waiter.granted();
    assert!(start.elapsed() >= Duration::from_millis(GRACE_MS), "{:?}", start.elapsed());
    assert_eq!(fences(&mut client, &["k", "l", "m"], "b"), [grant.fence; 3]);
    free.granted();
    next.assert_waiting(&server);
    release_all(&mut client, "3 k l m b");
    next.assert_waiting(&server);
    release_all(&mut client, "2 x y c");
    next.granted();
    release_all(&mut client, "2 y m d");
    assert_free(&server, &["k", "l", "m", "x", "y"]);
}

/// The end of the grace is told by the operator: all who wait are served in one go, each with all its keys.
#[test]
fn when_it_is_ended_by_hand_all_are_served_in_order() {
    let mut server = Server::builder().aof().config(LONG).start();
    acquire(&mut server.client(), "z TOKEN a PX 600000");
    server.restart(Data::NoSave);
    let mut client = server.client();
    let mut waiters = ["2 a b TOKEN 1", "2 b c TOKEN 2", "2 c d TOKEN 3", "2 d e TOKEN 4"]
        .map(|rest| waits(&server, &format!("{rest} BLOCK 0")));
    client.ok("CONFIG SET lock.restart-grace 0");
    waiters[0].granted();
    // Each waits for its neighbour, first come first served: 2 for b of 1, 3 for c of 2, 4 for d of 3.
    for at in 1..4 {
        waiters[at].assert_waiting(&server);
        let (one, other) = [("a", "b"), ("b", "c"), ("c", "d")][at - 1];
        release_all(&mut client, &format!("2 {one} {other} {at}"));
        waiters[at].granted();
    }
    release_all(&mut client, "2 d e 4");
    assert_free(&server, &["a", "b", "c", "d", "e"]);
}

/// Where the server refuses writes nothing is handed over, at any of the keys.
#[test]
fn where_writes_are_refused_nothing_is_handed_over() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    let mut waiter = waits(&server, "2 k l TOKEN b BLOCK 0");
    client.ok("CONFIG SET min-replicas-to-write 1");
    let reply = client.run("LOCK.MACQUIRE 2 x y TOKEN c");
    assert!(reply.error().starts_with("NOREPLICAS"), "{reply:?}");
    let reply = client.run("LOCK.MRELEASE 1 k a");
    assert!(reply.error().starts_with("NOREPLICAS"), "{reply:?}");
    waiter.assert_waiting(&server);
    client.ok("CONFIG SET min-replicas-to-write 0");
    ok_grant(client.run("LOCK.MACQUIRE 2 x y TOKEN c"));
    release(&mut client, "k", "a");
    waiter.granted();
}
