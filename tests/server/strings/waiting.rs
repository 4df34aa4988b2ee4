//! Who waits for a string stands in the queue, and is served once the string is gone, however it goes.

use std::time::{Duration, Instant};

use super::{adopting, set, stop_active_expiry, unlock};
use crate::support::locks::{acquire, exists, field, held, ok_grant, refused};
use crate::support::waiter::{assert_left_in_peace, release, time_passes, waiting};
use crate::support::{Client, PATIENCE, Reply, Server, Waiter, wait_until};

/// How long a string stays that goes by itself: long enough for somebody to come and wait for it.
const TIME_MS: u64 = 3_000;

/// The lock is a string, and somebody waits for it.
#[track_caller]
fn waited_for(server: &Server, client: &mut Client, ms: u64) -> Waiter {
    set(client, "k", "a", ms);
    Waiter::new(server, "k TOKEN b PX 60000 BLOCK 0")
}

#[track_caller]
fn served(mut waiter: Waiter, client: &mut Client) {
    assert!(waiter.granted().fence > 0);
    release(client, "k", "b");
}

#[test]
fn whatever_takes_the_string_away_serves_them() {
    let server = adopting().start();
    let mut client = server.client();
    for goes in [
        "DEL k",
        "UNLINK k",
        "GETDEL k",
        "LOCK.RELEASE k a",
        "LOCK.BREAK k",
        "PEXPIRE k 0",
        "EXPIREAT k 1",
        "SET k v PXAT 1",
        "GETEX k PXAT 1",
        "RENAME k elsewhere",
        "MOVE k 1",
        "SWAPDB 0 1",
        "FLUSHDB",
        "FLUSHALL",
    ] {
        let waiter = waited_for(&server, &mut client, 60_000);
        let reply = client.run(goes);
        assert!(!reply.is_error(), "{goes}: {reply:?}");
        served(waiter, &mut client);
        client.run("FLUSHALL");
    }
    let waiter = waited_for(&server, &mut client, 60_000);
    assert_eq!(unlock(&mut client, "k", "a"), Reply::Int(1));
    served(waiter, &mut client);
    assert_left_in_peace(&server, "k");
}

#[test]
fn eviction_serves_them() {
    let server = adopting().config("maxmemory-policy volatile-random").start();
    let mut client = server.client();
    let waiter = waited_for(&server, &mut client, 600_000);
    client.ok("CONFIG SET maxmemory 1");
    // The next write of anybody makes room.
    client.run("SET other v");
    served(waiter, &mut client);
}

#[test]
fn the_end_of_its_time_serves_them_though_the_server_would_take_longer() {
    let server = adopting().start();
    let mut client = server.client();
    stop_active_expiry(&mut client);
    let began = Instant::now();
    let waiter = waited_for(&server, &mut client, TIME_MS);
    served(waiter, &mut client);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(TIME_MS), "{took:?}");
}

#[test]
fn whatever_changes_its_time_counts() {
    let server = adopting().start();
    let mut client = server.client();
    stop_active_expiry(&mut client);
    for changes in [
        "PEXPIRE k 50",
        "SET k c PX 50",
        "PSETEX k 50 c",
        "GETEX k PX 50",
        "LOCK.EXTEND k a PX 50",
        "LOCK.ACQUIRE k TOKEN a PX 50",
    ] {
        let waiter = waited_for(&server, &mut client, 600_000);
        let reply = client.run(changes);
        assert!(!reply.is_error() && !reply.is_null(), "{changes}: {reply:?}");
        served(waiter, &mut client);
    }
    for prolongs in ["PERSIST k", "SET k c", "GETSET k c", "PEXPIRE k 600000", "LOCK.EXTEND k a PX 600000"] {
        let waiter = waited_for(&server, &mut client, 600_000);
        let began = Instant::now();
        let replies = client.run_all(&["PEXPIRE k 700", prolongs]);
        assert!(replies[0] == Reply::Int(1) && !replies[1].is_error(), "{prolongs}: {replies:?}");
        time_passes(began, Duration::from_millis(800));
        waiter.assert_waiting(&server);
        client.run("DEL k");
        served(waiter, &mut client);
    }
    for changes in ["APPEND k more", "SETRANGE k 0 x", "SET k c KEEPTTL"] {
        let waiter = waited_for(&server, &mut client, 600_000);
        let began = Instant::now();
        let replies = client.run_all(&["PEXPIRE k 700", changes]);
        assert_eq!(replies[0], Reply::Int(1));
        served(waiter, &mut client);
        assert!(began.elapsed() >= Duration::from_millis(700), "{changes}");
    }
}

#[test]
fn they_are_served_in_the_order_in_which_they_came() {
    let server = adopting().start();
    let mut client = server.client();
    set(&mut client, "k", "a", 60_000);
    let mut waiters: Vec<Waiter> =
        (0..5).map(|n| Waiter::new(&server, &format!("k TOKEN w{n} PX 60000 BLOCK 0"))).collect();
    refused(&mut client, "k TOKEN newcomer");
    assert_eq!(unlock(&mut client, "k", "a"), Reply::Int(1));
    let mut last = 0;
    for (n, waiter) in waiters.iter_mut().enumerate() {
        let fence = waiter.granted().fence;
        assert!(fence > last);
        last = fence;
        assert!(client.run("SET k old NX PX 60000").is_null(), "no gap for those who poll");
        release(&mut client, "k", format!("w{n}"));
    }
}

#[test]
fn a_string_that_comes_while_they_wait_is_waited_for_in_turn() {
    let server = adopting().start();
    let mut client = server.client();
    stop_active_expiry(&mut client);
    acquire(&mut client, "k TOKEN a PX 60000");
    let mut first = Waiter::new(&server, "k TOKEN b PX 60000 BLOCK 0");
    let mut second = Waiter::new(&server, "k TOKEN c PX 60000 BLOCK 0");
    for replaces in ["SET k x PX 60000", &format!("SET k y PX {TIME_MS}")] {
        client.ok(replaces);
        first.assert_waiting(&server);
    }
    first.granted();
    client.ok("SET k z PX 60000");
    second.assert_waiting(&server);
    assert_eq!(client.run("LOCK.RELEASE k b"), Reply::Int(0), "SET has taken it away");
    client.run("DEL k");
    second.granted();
}

#[test]
fn waits_end_as_ever() {
    let server = adopting().start();
    let mut client = server.client();
    set(&mut client, "k", "a", 60_000);
    let mut late = Waiter::new(&server, "k TOKEN b BLOCK 50");
    late.refused();
    let mut withdrawn = Waiter::new(&server, "k TOKEN c BLOCK 0");
    assert_eq!(client.run("LOCK.RELEASE k c"), Reply::Int(0));
    withdrawn.refused();
    let gone = Waiter::new(&server, "k TOKEN d BLOCK 0");
    drop(gone);
    wait_until("who has left waits no more", PATIENCE, || waiting(&mut client, "k") == 0);
    let mut inner = server.client();
    assert!(inner.run("LOCK.ACQUIRE k TOKEN e LEVEL 2 BLOCK 0").is_null(), "there is no outer hold");
    assert_eq!(held(&mut client, "k"), 1);
}

#[test]
fn a_place_in_the_queue_is_called_when_it_goes() {
    let server = adopting().start();
    let mut client = server.client();
    stop_active_expiry(&mut client);
    for goes in ["DEL k", "PEXPIRE k 30"] {
        set(&mut client, "k", "a", 60_000);
        let ticket = client.run("LOCK.ACQUIRE k TOKEN b PX 60000 QUEUE 60000").int();
        let mut listener = server.client();
        listener.run("SSUBSCRIBE k");
        client.run(goes);
        assert_eq!(listener.read().items()[2].text(), ticket.to_string());
        let (_, fence) = ok_grant(client.run("LOCK.ACQUIRE k TOKEN b PX 60000 QUEUE 60000"));
        assert!(fence > 0);
        release(&mut client, "k", "b");
    }
}

/// Its token waits for something else already when SET makes a lock of it: a retry is granted that, and the older request
/// waits no longer.
#[test]
fn a_waiting_token_that_comes_to_hold_by_a_string_is_granted_it_when_it_asks_again() {
    let server = adopting().start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    let mut older = Waiter::new(&server, "k TOKEN b PX 60000 BLOCK 0");
    client.ok("SET k b PX 60000");
    let (_, fence) = ok_grant(client.run("LOCK.ACQUIRE k TOKEN b PX 60000 BLOCK 0"));
    assert_eq!(fence, 0);
    older.refused();
    release(&mut client, "k", "b");
    assert_left_in_peace(&server, "k");
}

#[test]
fn the_setting_may_change_while_somebody_waits() {
    let server = Server::start();
    let mut client = server.client();
    stop_active_expiry(&mut client);
    for (before, after) in [("no", "yes"), ("yes", "no")] {
        client.ok("CONFIG SET lock.adopt-strings yes");
        set(&mut client, "k", "a", 60_000);
        let mut first = Waiter::new(&server, "k TOKEN b PX 60000 BLOCK 0");
        client.ok(&format!("CONFIG SET lock.adopt-strings {before}"));
        client.ok("SET k c PX 300");
        client.ok(&format!("CONFIG SET lock.adopt-strings {after}"));
        first.granted();
        release(&mut client, "k", "b");
    }
    client.ok("CONFIG SET lock.adopt-strings yes");
    set(&mut client, "k", "a", 60_000);
    let mut waiter = Waiter::new(&server, "k TOKEN b PX 60000 BLOCK 0");
    client.ok("CONFIG SET lock.adopt-strings no");
    waiter.assert_waiting(&server);
    client.run("DEL k");
    waiter.granted();
}

#[test]
fn a_paused_server_serves_them_when_the_pause_is_over() {
    let server = adopting().start();
    let mut client = server.client();
    let mut waiter = waited_for(&server, &mut client, 600_000);
    let paused = Instant::now();
    let replies = client.run_all(&["PEXPIRE k 300", "CLIENT PAUSE 1200 WRITE"]);
    assert_eq!(replies, [Reply::Int(1), Reply::Simple("OK".into())]);
    waiter.granted();
    assert!(paused.elapsed() >= Duration::from_millis(1_190), "{:?}", paused.elapsed());
    release(&mut client, "k", "b");
}

#[test]
fn another_value_in_its_place_is_waited_for() {
    let server = adopting().start();
    let mut client = server.client();
    let waiter = waited_for(&server, &mut client, 60_000);
    client.run("RPUSH list x");
    client.ok("RENAME list k");
    waiter.assert_waiting(&server);
    assert!(client.run("LOCK.INFO k").is_error());
    client.run("DEL k");
    served(waiter, &mut client);
}

#[test]
fn who_waits_is_shown_with_the_string() {
    let server = adopting().start();
    let mut client = server.client();
    let waiter = waited_for(&server, &mut client, 60_000);
    let info = client.run("LOCK.INFO k");
    assert_eq!(field(&info, "waiting"), Reply::Int(1));
    assert_eq!(field(&info, "held"), Reply::Int(1));
    drop(waiter);
    assert!(exists(&mut client, "k"));
}
