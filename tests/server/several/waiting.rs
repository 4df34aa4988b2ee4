//! Waiting for several locks: in the queue of each, holding none meanwhile, and granted all of them in one step.

use std::time::Instant;

use super::{all, assert_free, fences, holds, none, release_all, waiting, waits, waits_on};
use crate::support::locks::{acquire, exists, field, holder, refused};
use crate::support::waiter::{blocked_clients, owners, release};
use crate::support::{PATIENCE, Reply, Server, Waiter, cmd, wait_until};

#[test]
fn a_request_holds_nothing_until_it_holds_all() {
    let server = Server::start();
    let mut client = server.client();
    let keys = ["k", "l", "m"];
    for key in keys {
        acquire(&mut client, &format!("{key} TOKEN {key}"));
    }
    let mut waiter = waits(&server, "3 k l m TOKEN w OWNER w BLOCK 0");
    for key in keys {
        assert_eq!(owners(&mut client, key).1, ["w"], "it waits at {key}");
        assert_eq!(waiting(&mut client, key), 1);
    }
    release(&mut client, "l", "l");
    release(&mut client, "k", "k");
    waiter.assert_waiting(&server);
    assert!(!exists(&mut client, "k") && !exists(&mut client, "l"), "it holds none");
    assert_eq!(holds(&mut client, &keys, "w"), [""; 0]);
    release(&mut client, "m", "m");
    let grant = waiter.granted();
    assert_eq!(fences(&mut client, &keys, "w"), [grant.fence; 3]);
    for key in keys {
        assert_eq!(waiting(&mut client, key), 0);
    }
    release_all(&mut client, "3 k l m w");
    assert_free(&server, &keys);
}

#[test]
fn all_is_one_step_with_what_freed_the_last() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "l TOKEN l");
    let mut waiter = waits(&server, "3 k l m TOKEN w BLOCK 0");
    let replies = client.run_all(&[
        "LOCK.RELEASE l l",
        "LOCK.ACQUIRE k TOKEN x",
        "LOCK.ACQUIRE m TOKEN x SHARED",
        "LOCK.MACQUIRE 1 l TOKEN x",
        "LOCK.CHECK k w",
        "LOCK.CHECK m w",
    ]);
    assert_eq!(replies[0], Reply::Int(1));
    assert!(replies[1..4].iter().all(Reply::is_null), "{replies:?}");
    assert!(replies[4..].iter().all(|reply| !reply.is_null()), "{replies:?}");
    waiter.granted();
}

/// However the last of them is freed.
#[test]
fn whatever_frees_the_last_lock_grants_all() {
    for free in [
        "LOCK.RELEASE l a",
        "LOCK.MRELEASE 1 l a",
        "LOCK.MRELEASE 2 l other a",
        "LOCK.BREAK l",
        "LOCK.EXTEND l a PX 1",
        "DEL l",
        "UNLINK l",
        "PEXPIRE l 0",
        "RENAME l elsewhere",
        "MOVE l 1",
        "FLUSHDB",
        "FLUSHALL",
        "SWAPDB 0 1",
    ] {
        let server = Server::start();
        let mut client = server.client();
        acquire(&mut client, "l TOKEN a PX 600000");
        let mut waiter = waits(&server, "3 k l m TOKEN w BLOCK 0");
        let reply = client.run(free);
        assert!(!reply.is_error(), "{free}: {reply:?}");
        let grant = waiter.granted();
        assert_eq!(fences(&mut client, &["k", "l", "m"], "w"), [grant.fence; 3], "{free}");
        release_all(&mut client, "3 k l m w");
        assert_free(&server, &["k", "l", "m"]);
    }
}

#[test]
fn a_lock_that_is_free_stays_free_for_who_is_first() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut waiter = waits(&server, "2 k free TOKEN w OWNER w BLOCK 0");
    assert!(!exists(&mut client, "free"));
    let info = client.run("LOCK.INFO free");
    assert_eq!(field(&info, "held"), Reply::Int(0), "{info:?}");
    assert_eq!(field(&info, "waiting"), Reply::Int(1), "{info:?}");
    for options in ["", "SHARED", "LIMIT 9", "BLOCK 1", "TOKEN x"] {
        refused(&mut client, &format!("free {options}"));
        none(&mut client, &format!("1 free {options}"));
        none(&mut client, &format!("2 unrelated free {options}"));
    }
    assert!(!exists(&mut client, "unrelated"));
    let mut behind = Waiter::new(&server, "free TOKEN x BLOCK 0");
    behind.assert_waiting(&server);
    release(&mut client, "k", "a");
    waiter.granted();
    behind.assert_waiting(&server);
    release(&mut client, "free", "w");
    behind.granted();
}

#[test]
fn it_waits_behind_those_ahead_at_each_key_whether_they_ask_for_one_or_several() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a");
    let mut first = Waiter::new(&server, "k TOKEN k1 OWNER k1 BLOCK 0");
    let mut second = Waiter::new(&server, "l TOKEN l1 OWNER l1 BLOCK 0");
    let mut both = waits(&server, "2 k l TOKEN both OWNER both BLOCK 0");
    let mut third = Waiter::new(&server, "l TOKEN l2 OWNER l2 BLOCK 0");
    assert_eq!(owners(&mut client, "k").1, ["k1", "both"]);
    assert_eq!(owners(&mut client, "l").1, ["l1", "both", "l2"]);
    release_all(&mut client, "2 k l a");
    first.granted();
    second.granted();
    both.assert_waiting(&server);
    release(&mut client, "l", "l1");
    both.assert_waiting(&server);
    third.assert_waiting(&server);
    assert!(!exists(&mut client, "l"), "l is free and waits for k");
    release(&mut client, "k", "k1");
    both.granted();
    third.assert_waiting(&server);
    release_all(&mut client, "2 k l both");
    third.granted();
    release(&mut client, "l", "l2");
    assert_free(&server, &["k", "l"]);
}

#[test]
fn the_order_of_the_keys_makes_no_difference() {
    let server = Server::start();
    let mut client = server.client();
    for (one, other) in [("2 k l", "2 l k"), ("2 l k", "2 k l"), ("3 k l k", "4 l k l k")] {
        all(&mut client, &format!("{one} TOKEN a"));
        let mut first = waits(&server, &format!("{other} TOKEN b BLOCK 0"));
        let mut second = waits(&server, &format!("{one} TOKEN c BLOCK 0"));
        release_all(&mut client, "2 k l a");
        first.granted();
        second.assert_waiting(&server);
        release_all(&mut client, "2 l k b");
        second.granted();
        release_all(&mut client, "2 k l c");
        assert_free(&server, &["k", "l"]);
    }
}

#[test]
fn what_is_free_is_granted_without_waiting() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        for block in ["BLOCK 0", "BLOCK 1", "BLOCK 3153600000000", "QUEUE 5000", "BLOCK 5 QUEUE 5"] {
            all(&mut client, &format!("2 k l TOKEN a {block}"));
            release_all(&mut client, "2 k l a");
        }
    }
    assert_free(&server, &["k", "l"]);
}

#[test]
fn the_leases_begin_when_all_are_granted() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut waiter = waits(&server, "2 k l TOKEN b PX 60000 BLOCK 0");
    wait_until("it has waited a while", PATIENCE, || {
        let info = client.run("LOCK.INFO l");
        field(&field(&info, "queue").items()[0], "waited").int() > 300
    });
    let released = Instant::now();
    release(&mut client, "k", "a");
    waiter.granted();
    for key in ["k", "l"] {
        let hold = holder(&mut client, key);
        let since = i64::try_from(released.elapsed().as_millis()).unwrap() + 1;
        assert!(field(&hold, "remaining").int() >= 60_000 - since, "{key}: {hold:?}, {since} ms");
        assert!(field(&hold, "age").int() <= since, "{key}: {hold:?}, {since} ms");
    }
}

#[test]
fn who_waits_is_shown_at_each_key() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a OWNER holder");
    let waiter = waits(&server, "2 k l TOKEN b OWNER me LIMIT 7 WEIGHT 3 BLOCK 600000");
    for key in ["k", "l"] {
        let info = client.run(&format!("LOCK.INFO {key}"));
        let entry = field(&info, "queue").items()[0].clone();
        assert_eq!(field(&entry, "owner").text(), "me");
        assert_eq!(field(&entry, "limit"), Reply::Int(7));
        assert_eq!(field(&entry, "weight"), Reply::Int(3));
        assert_eq!(field(&entry, "client"), Reply::Int(waiter.id));
        let timeout = field(&entry, "timeout").int();
        assert!((500_000..=600_000).contains(&timeout), "{timeout}");
    }
    assert_eq!(client.run("LOCK.CHECK k a").items()[2], Reply::Int(1));
    let top = client.run("LOCK.TOP");
    let mut shown: Vec<_> = top.items().iter().map(|it| (field(it, "key").text(), it.clone())).collect();
    shown.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(shown.iter().map(|it| &it.0[..]).collect::<Vec<_>>(), ["k", "l"], "{top:?}");
    assert_eq!(field(&shown[0].1, "owner").text(), "holder");
    assert_eq!(field(&shown[0].1, "waiting"), Reply::Int(1));
    assert_eq!(field(&shown[1].1, "waiting"), Reply::Int(1));
    assert!(field(&shown[1].1, "held").is_null(), "nobody holds l: {top:?}");
    assert!(field(&shown[1].1, "owner").is_null(), "nobody holds l: {top:?}");
    assert_eq!(blocked_clients(&mut client), 1, "it is one client");
}

#[test]
fn who_waits_is_answered_in_its_own_protocol_and_database() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("SELECT 3");
    acquire(&mut client, "k TOKEN a");
    let mut waiter = server.client3();
    waiter.ok("SELECT 3");
    let mut waiter = waits_on(&server, waiter, "2 k l TOKEN b BLOCK 0");
    let mut late = server.client3();
    late.ok("SELECT 3");
    let mut late = waits_on(&server, late, "2 l k TOKEN c BLOCK 50");
    late.refused();
    let mut elsewhere = server.client();
    all(&mut elsewhere, "2 k l TOKEN x");
    release(&mut client, "k", "a");
    waiter.granted();
    assert_eq!(holds(&mut client, &["k", "l"], "b"), ["k", "l"]);
}

#[test]
fn commands_behind_a_waiting_one_come_after_it() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut waiter = waits(&server, "2 k l TOKEN b BLOCK 0");
    waiter.client.send(&cmd!["LOCK.MRELEASE", 2, "k", "l", "b"]);
    waiter.client.send(&cmd!["LOCK.MACQUIRE", 2, "k", "l", "TOKEN", "c", "BLOCK", 0]);
    waiter.assert_waiting(&server);
    release(&mut client, "k", "a");
    let (token, _) = crate::support::ok_grant(waiter.client.read());
    assert_eq!(token, b"b");
    assert_eq!(waiter.client.read(), Reply::Int(2));
    assert_eq!(waiter.granted().token, b"c");
}

#[test]
fn a_chain_of_256_keys_goes_from_one_to_the_next() {
    let server = Server::start();
    let mut client = server.client();
    let keys: Vec<String> = (0..256).map(|n| format!("key{n}")).collect();
    let keys = keys.join(" ");
    all(&mut client, &format!("256 {keys} TOKEN t0"));
    let mut waiters: Vec<_> =
        (1..=5).map(|n| waits(&server, &format!("256 {keys} TOKEN t{n} BLOCK 0"))).collect();
    for (n, waiter) in waiters.iter_mut().enumerate() {
        assert_eq!(client.run(&format!("LOCK.MRELEASE 256 {keys} t{n}")), Reply::Int(256));
        assert_eq!(waiter.granted().token, format!("t{}", n + 1).into_bytes());
    }
    assert_eq!(client.run(&format!("LOCK.MRELEASE 256 {keys} t5")), Reply::Int(256));
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
}
