//! A time to live that EXPIRE or RESTORE has set on the key of a lock: whatever promises a lease takes it off, here and on
//! replicas, and what promises none leaves it.

use std::time::{Duration, Instant};

use crate::support::locks::{acquire, exists, field, holder, ok_grant, refused, remaining};
use crate::support::payload::Payload;
use crate::support::waiter::{release, time_passes};
use crate::support::{Client, Data, PATIENCE, Pair, Reply, Server, Waiter, cmd, wait_until};

const LONG_MS: i64 = 3_600_000;

/// Sets a time to live, which the key then has.
#[track_caller]
fn expire(client: &mut Client, key: &str, ms: i64) {
    let replies = client.run_all(&[&format!("PEXPIRE {key} {ms}"), &format!("PTTL {key}")]);
    assert!(replies[0] == Reply::Int(1) && replies[1].int() > 0, "{replies:?}");
}

fn ttl(client: &mut Client, key: &str) -> i64 {
    client.run(&format!("PTTL {key}")).int()
}

/// Master and replica have the same lock, time to live included.
#[track_caller]
fn copies_agree(pair: &Pair) {
    pair.wait_caught_up();
    let digest = |server: &Server| server.client().call(&["DEBUG", "DIGEST"]);
    assert_eq!(digest(&pair.replica), digest(&pair.master));
}

#[test]
fn whatever_promises_a_lease_takes_it_off_here_and_on_replicas() {
    let pair = Pair::start();
    let mut client = pair.master.client();
    for (what, promise) in [
        ("a retry", "LOCK.ACQUIRE k TOKEN a PX 60000"),
        ("a retry of an inner level", "LOCK.ACQUIRE k TOKEN a PX 10 LEVEL 2"),
        ("another limit", "LOCK.ACQUIRE k TOKEN a PX 60000 LIMIT 3"),
        ("another hold", "LOCK.ACQUIRE k TOKEN b PX 60000 LIMIT 3"),
        ("an extension", "LOCK.EXTEND k a"),
        ("an extension with a time", "LOCK.EXTEND k a PX 70000"),
    ] {
        acquire(&mut client, "k TOKEN a PX 60000 LIMIT 2");
        expire(&mut client, "k", LONG_MS);
        copies_agree(&pair);
        let reply = client.run(promise);
        assert!(matches!(reply, Reply::Array(_) | Reply::Int(1)), "{what}: {reply:?}");
        assert_eq!(ttl(&mut client, "k"), -1, "{what}");
        copies_agree(&pair);
        assert_eq!(ttl(&mut pair.replica.client(), "k"), -1, "{what}");
        client.run("LOCK.BREAK k");
    }
}

#[test]
fn what_promises_no_lease_leaves_it() {
    let pair = Pair::start();
    let mut client = pair.master.client();
    acquire(&mut client, "k TOKEN a PX 600000 LIMIT 2");
    let broken = acquire(&mut client, "k TOKEN b PX 600000 LIMIT 2").fence;
    acquire(&mut client, "k TOKEN a PX 600000 LEVEL 2");
    expire(&mut client, "k", LONG_MS);
    let within_an_hour = 1..=LONG_MS;
    refused(&mut client, "k TOKEN c");
    for (nothing, replied) in [
        ("LOCK.CHECK k a".to_owned(), None),
        ("LOCK.INFO k".to_owned(), None),
        ("LOCK.EXTEND k c PX 60000".to_owned(), Some(0)),
        ("LOCK.RELEASE k c".to_owned(), Some(0)),
        ("LOCK.RELEASE k a LEVEL 2".to_owned(), Some(1)),
        (format!("LOCK.BREAK k FENCE {broken}"), Some(1)),
    ] {
        let reply = client.run(&nothing);
        assert!(replied.is_none_or(|number| reply == Reply::Int(number)), "{nothing}: {reply:?}");
        assert!(within_an_hour.contains(&ttl(&mut client, "k")), "{nothing}");
        copies_agree(&pair);
    }
    release(&mut client, "k", "a");
    acquire(&mut client, "k TOKEN a");
    assert_eq!(ttl(&mut client, "k"), -1, "nothing of it outlives the lock");
}

#[test]
fn a_hand_over_takes_it_off() {
    let pair = Pair::start();
    let mut client = pair.master.client();
    for freeing in ["LOCK.RELEASE k a", "LOCK.BREAK k", "LOCK.EXTEND k a PX 30", "DEL k"] {
        acquire(&mut client, "k TOKEN a PX 60000");
        let mut waiter = Waiter::new(&pair.master, "k TOKEN b PX 60000 BLOCK 0");
        expire(&mut client, "k", LONG_MS);
        client.run(freeing);
        waiter.granted();
        assert_eq!(ttl(&mut client, "k"), -1, "{freeing}");
        assert!(remaining(&mut client, "k", "b").unwrap() > 50_000, "{freeing}");
        copies_agree(&pair);
        release(&mut client, "k", "b");
    }
}

#[test]
fn a_lock_that_was_handed_over_outlasts_the_time_to_live_of_its_last_holder() {
    let pair = Pair::start();
    let mut client = pair.master.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    let mut waiter = Waiter::new(&pair.master, "k TOKEN b PX 60000 BLOCK 0");
    let set = Instant::now();
    let replies = client.run_all(&["PEXPIRE k 1000", "LOCK.RELEASE k a"]);
    assert_eq!(replies, [Reply::Int(1), Reply::Int(1)]);
    waiter.granted();
    time_passes(set, Duration::from_millis(1_200));
    assert!(remaining(&mut client, "k", "b").is_some());
    copies_agree(&pair);
}

#[test]
fn the_server_takes_it_off_where_it_extends_a_session() {
    let pair = Pair::start();
    let mut session = pair.master.client();
    let mut client = pair.master.client();
    acquire(&mut session, "k TOKEN a PX 1000 SESSION");
    expire(&mut client, "k", LONG_MS);
    wait_until("the lease is extended", PATIENCE, || ttl(&mut client, "k") == -1);
    copies_agree(&pair);
}

#[test]
fn what_is_left_is_shown_as_the_nearer_end() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        acquire(&mut client, "k TOKEN a PX 60000");
        expire(&mut client, "k", 20_000);
        let shown = |client: &mut Client| {
            let checked = remaining(client, "k", "a").unwrap();
            let hold = holder(client, "k");
            assert_eq!(field(&hold, "lease"), Reply::Int(60_000));
            (checked, field(&hold, "remaining").int())
        };
        let (checked, info) = shown(&mut client);
        assert!(checked <= 20_000 && info <= 20_000 && checked.min(info) > 10_000, "{checked}, {info}");
        expire(&mut client, "k", LONG_MS);
        let (checked, info) = shown(&mut client);
        assert!(checked <= 60_000 && info <= 60_000 && checked.min(info) > 40_000, "{checked}, {info}");
        client.run("LOCK.BREAK k");
    }
}

#[test]
fn when_it_ends_the_lock_is_gone_and_whoever_waits_is_served() {
    let pair = Pair::start();
    let mut client = pair.master.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    let mut waiter = Waiter::new(&pair.master, "k TOKEN b PX 60000 BLOCK 0");
    expire(&mut client, "k", 50);
    waiter.granted();
    assert_eq!(client.run("LOCK.EXTEND k a"), Reply::Int(0));
    assert_eq!(ttl(&mut client, "k"), -1);
    copies_agree(&pair);
}

#[test]
fn it_goes_with_the_lock_and_is_taken_off_there() {
    let server = Server::start();
    let mut client = server.client();
    for (goes, database, key) in [("RENAME k l", 0, "l"), ("MOVE k 1", 1, "k"), ("SWAPDB 0 1", 1, "k")] {
        client.run("FLUSHALL");
        client.run("SELECT 0");
        acquire(&mut client, "k TOKEN a PX 60000");
        expire(&mut client, "k", LONG_MS);
        client.run(goes);
        client.run(&format!("SELECT {database}"));
        assert!(ttl(&mut client, key) > 0, "{goes}");
        assert_eq!(client.run(&format!("LOCK.EXTEND {key} a")), Reply::Int(1));
        assert_eq!(ttl(&mut client, key), -1, "{goes}");
    }
}

#[test]
fn restore_sets_one_and_the_next_promise_takes_it_off() {
    let pair = Pair::start();
    let mut client = pair.master.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    let payload = Payload::of(&mut client, "k").wire();
    assert_eq!(client.call(&cmd!["RESTORE", "l", LONG_MS, &payload]), Reply::Simple("OK".into()));
    assert!(ttl(&mut client, "l") > 0);
    ok_grant(client.run("LOCK.ACQUIRE l TOKEN a PX 60000"));
    assert_eq!(ttl(&mut client, "l"), -1);
    copies_agree(&pair);
}

#[test]
fn files_say_the_same() {
    for preamble in ["yes", "no"] {
        let mut server = Server::builder().aof().config(&format!("aof-use-rdb-preamble {preamble}")).start();
        let mut client = server.client();
        acquire(&mut client, "kept TOKEN a PX 600000");
        acquire(&mut client, "taken TOKEN a PX 600000");
        expire(&mut client, "kept", LONG_MS);
        let replies = client.run_all(&["PEXPIRE taken 1000", "LOCK.EXTEND taken a PX 600000"]);
        assert_eq!(replies, [Reply::Int(1), Reply::Int(1)]);
        server.kill9();
        server.start_again();
        let mut client = server.client();
        assert!(ttl(&mut client, "kept") > 0);
        assert_eq!(ttl(&mut client, "taken"), -1);
        server.rewrite_aof();
        server.restart(Data::Save);
        let mut client = server.client();
        assert!(ttl(&mut client, "kept") > 0);
        assert_eq!(ttl(&mut client, "taken"), -1);
        assert!(exists(&mut client, "taken"));
    }
}
