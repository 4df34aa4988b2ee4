//! SESSION DELAY: the hold of a connection that closes stays for the delay, so that its client can come back to it.

use std::time::{Duration, Instant};

use crate::support::locks::{acquire, exists, field, holder, remaining};
use crate::support::read_again::{debug_reload, power_cut, rewrite_and_power_cut, snapshot};
use crate::support::waiter::{assert_left_in_peace, release, time_passes, wait_blocked};
use crate::support::{Client, PATIENCE, Pair, Reply, Server, Waiter, wait_until};

/// A delay that no test outlasts.
const LONG_MS: i64 = 60_000;

/// Waits until the server has noticed that the connection is closed: it keeps the hold alive no longer.
#[track_caller]
fn wait_closed(client: &mut Client, key: &str) {
    wait_until("the connection keeps nothing alive", PATIENCE, || {
        field(&holder(client, key), "session") == Reply::NullBulk
    });
}

/// Ends a connection whose hold has a delay, and sees that the hold stays and can be taken up again.
#[track_caller]
fn stays_and_is_taken_up_again(end: impl Fn(&Server, Client)) {
    let server = Server::start();
    let mut client = server.client();
    let mut session = server.client();
    let grant = acquire(&mut session, "k TOKEN a PX 600000 SESSION DELAY 60000");
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    end(&server, session);
    wait_closed(&mut client, "k");
    let left = remaining(&mut client, "k", "a").expect("the hold stays");
    assert!((LONG_MS - 30_000..=LONG_MS).contains(&left), "{left} ms are left of a delay of {LONG_MS}");
    waiter.assert_waiting(&server);
    let mut back = server.client();
    let id = back.id();
    assert_eq!(acquire(&mut back, "k TOKEN a PX 600000 SESSION DELAY 60000"), grant, "it keeps its fence");
    assert_eq!(field(&holder(&mut client, "k"), "session"), Reply::Int(id));
    assert!(remaining(&mut client, "k", "a") > Some(LONG_MS));
    release(&mut back, "k", "a");
    waiter.granted();
    release(&mut client, "k", "b");
    assert_left_in_peace(&server, "k");
}

#[test]
fn the_end_of_the_connection_leaves_the_hold_for_the_delay() {
    stays_and_is_taken_up_again(|_, session| drop(session));
}

#[test]
fn quit_leaves_the_hold_for_the_delay() {
    stays_and_is_taken_up_again(|_, mut session| assert_eq!(session.run("QUIT"), Reply::Simple("OK".into())));
}

#[test]
fn client_kill_leaves_the_hold_for_the_delay() {
    stays_and_is_taken_up_again(|server, mut session| {
        let id = session.id();
        assert_eq!(server.client().run(&format!("CLIENT KILL ID {id}")), Reply::Int(1));
    });
}

#[test]
fn a_connection_that_kills_itself_leaves_the_hold_for_the_delay() {
    stays_and_is_taken_up_again(|_, mut session| {
        let id = session.id();
        session.run(&format!("CLIENT KILL ID {id} SKIPME no"));
    });
}

#[test]
fn after_the_delay_the_next_is_served() {
    let server = Server::start();
    let mut session = server.client();
    acquire(&mut session, "k TOKEN a PX 600000 SESSION DELAY 400");
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    let closed = Instant::now();
    drop(session);
    waiter.granted();
    assert!(closed.elapsed() >= Duration::from_millis(400), "not before the delay is over");
    assert!(closed.elapsed() < PATIENCE, "long before the lease is");
}

#[test]
fn a_delay_never_makes_the_hold_stay_longer_than_its_lease() {
    let server = Server::start();
    let mut session = server.client();
    acquire(&mut session, "k TOKEN a PX 5000 SESSION DELAY 600000");
    let mut client = server.client();
    drop(session);
    wait_closed(&mut client, "k");
    assert!(remaining(&mut client, "k", "a") <= Some(5_000));
    wait_until("the lease ends", PATIENCE, || !exists(&mut client, "k"));
}

#[test]
fn while_the_connection_is_open_the_delay_cuts_nothing() {
    let server = Server::start();
    let mut session = server.client();
    acquire(&mut session, "k TOKEN a PX 1000 SESSION DELAY 1");
    let mut client = server.client();
    time_passes(Instant::now(), Duration::from_millis(1_600));
    assert!(remaining(&mut client, "k", "a").is_some());
    drop(session);
    wait_until("the delay is over", PATIENCE, || !exists(&mut client, "k"));
}

/// What the token is not asked for again, it does not get: the session is gone, and the lease that is named begins.
#[test]
fn who_comes_back_without_session_has_a_lease_like_any_other() {
    let server = Server::start();
    let mut client = server.client();
    let mut session = server.client();
    let grant = acquire(&mut session, "k TOKEN a PX 600000 SESSION DELAY 60000");
    drop(session);
    wait_closed(&mut client, "k");
    let mut back = server.client();
    assert_eq!(acquire(&mut back, "k TOKEN a PX 500000"), grant);
    drop(back);
    assert!(remaining(&mut client, "k", "a") > Some(400_000), "no connection ends it");
}

#[test]
fn a_retry_names_session_and_delay_anew() {
    let server = Server::start();
    let mut client = server.client();
    for (first, second) in [("SESSION DELAY 60000", "SESSION"), ("SESSION", "SESSION DELAY 60000")] {
        let mut session = server.client();
        acquire(&mut session, &format!("k TOKEN a PX 600000 {first}"));
        acquire(&mut session, &format!("k TOKEN a PX 600000 {second}"));
        drop(session);
        if second == "SESSION" {
            wait_until("without DELAY it ends at once", PATIENCE, || !exists(&mut client, "k"));
        } else {
            wait_closed(&mut client, "k");
            assert!(remaining(&mut client, "k", "a").is_some());
            release(&mut client, "k", "a");
        }
    }
}

#[test]
fn the_old_connection_has_no_say_once_another_has_taken_the_hold_up() {
    let server = Server::start();
    let mut client = server.client();
    let mut old = server.client();
    let mut new = server.client();
    let new_id = new.id();
    let grant = acquire(&mut old, "k TOKEN a PX 600000 SESSION DELAY 1");
    assert_eq!(acquire(&mut new, "k TOKEN a PX 600000 SESSION DELAY 1"), grant);
    let old_id = old.id();
    drop(old);
    wait_until("the old one is gone", PATIENCE, || {
        !client.run("CLIENT LIST").text().contains(&format!("id={old_id} "))
    });
    assert_eq!(field(&holder(&mut client, "k"), "session"), Reply::Int(new_id));
}

#[test]
fn readers_stay_beside_each_other_for_their_delays() {
    let server = Server::start();
    let mut client = server.client();
    let mut session = server.client();
    acquire(&mut session, "k TOKEN a SHARED PX 600000 SESSION DELAY 300");
    acquire(&mut session, "k TOKEN b SHARED PX 600000 SESSION");
    acquire(&mut client, "k TOKEN c SHARED PX 600000");
    drop(session);
    let gone = |client: &mut Client, token: &str| remaining(client, "k", token).is_none();
    wait_until("the one without a delay ends at once", PATIENCE, || gone(&mut client, "b"));
    wait_until("the other ends after it", PATIENCE, || gone(&mut client, "a"));
    assert!(!gone(&mut client, "c"));
}

#[test]
fn very_many_holds_stay_for_their_delay_and_end_after_it() {
    const HOLDS: i64 = 3_000;
    let server = Server::start();
    let mut client = server.client();
    let mut session = server.client();
    let acquires: Vec<String> =
        (0..HOLDS).map(|n| format!("LOCK.ACQUIRE k{n} TOKEN a PX 600000 SESSION DELAY 2000")).collect();
    session.run_all(&acquires.iter().map(String::as_str).collect::<Vec<_>>());
    drop(session);
    wait_closed(&mut client, "k0");
    wait_closed(&mut client, &format!("k{}", HOLDS - 1));
    assert_eq!(client.run("DBSIZE"), Reply::Int(HOLDS));
    wait_until("all have ended", PATIENCE, || client.run("DBSIZE") == Reply::Int(0));
}

// --- a waiter

#[test]
fn a_waiter_has_its_delay_once_it_is_granted() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    let mut waiter = Waiter::new(&server, "k TOKEN b PX 600000 SESSION DELAY 60000 BLOCK 0");
    release(&mut client, "k", "a");
    waiter.granted();
    drop(waiter);
    wait_closed(&mut client, "k");
    assert!(remaining(&mut client, "k", "b").is_some_and(|left| left <= LONG_MS));
}

#[test]
fn a_waiter_that_leaves_before_it_is_granted_never_holds_the_lock() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    drop(Waiter::new(&server, "k TOKEN b PX 600000 SESSION DELAY 60000 BLOCK 0"));
    wait_blocked(&server, 0);
    release(&mut client, "k", "a");
    assert_left_in_peace(&server, "k");
}

// --- locks that move, files, replicas

#[test]
fn a_lock_that_goes_elsewhere_stays_there_for_its_delay() {
    for (command, database, key) in
        [("RENAME k elsewhere", 0, "elsewhere"), ("MOVE k 1", 1, "k"), ("SWAPDB 0 1", 1, "k")]
    {
        for moves_first in [true, false] {
            let server = Server::start();
            let mut client = server.client();
            let mut session = server.client();
            let grant = acquire(&mut session, "k TOKEN a PX 600000 SESSION DELAY 60000");
            let id = session.id();
            if moves_first {
                assert!(!client.run(command).is_error(), "{command}");
                drop(session);
            } else {
                // In one turn of the server's loop, so that the lock leaves before the end of the connection has any effect.
                client.run_all(&["MULTI", &format!("CLIENT KILL ID {id}"), command, "EXEC"]);
            }
            client.ok(&format!("SELECT {database}"));
            wait_closed(&mut client, key);
            let left = remaining(&mut client, key, "a").expect("it stays");
            assert!((LONG_MS - 30_000..=LONG_MS).contains(&left), "{command}: {left}");
            let mut back = server.client();
            back.ok(&format!("SELECT {database}"));
            assert_eq!(acquire(&mut back, &format!("{key} TOKEN a PX 600000 SESSION DELAY 300")), grant);
            drop(back);
            wait_until("the new delay is over", PATIENCE, || !exists(&mut client, key));
        }
    }
}

#[test]
fn an_operator_ends_what_stays() {
    let server = Server::start();
    let mut client = server.client();
    for command in ["LOCK.BREAK k", "DEL k", "LOCK.RELEASE k a", "FLUSHALL"] {
        let mut session = server.client();
        acquire(&mut session, "k TOKEN a PX 600000 SESSION DELAY 60000");
        let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
        drop(session);
        wait_closed(&mut client, "k");
        assert!(!client.run(command).is_error());
        waiter.granted();
        release(&mut client, "k", "b");
    }
}

#[test]
fn what_stays_takes_a_time_to_live_off_the_key() {
    let server = Server::start();
    let mut client = server.client();
    let mut session = server.client();
    acquire(&mut session, "k TOKEN a PX 600000 SESSION DELAY 60000");
    assert_eq!(client.run("PEXPIRE k 30000"), Reply::Int(1));
    drop(session);
    wait_closed(&mut client, "k");
    assert_eq!(client.run("PTTL k"), Reply::Int(-1));
}

#[test]
fn the_cut_lease_reaches_a_replica_and_its_successor() {
    let pair = Pair::start();
    let mut reader = pair.replica.client();
    let mut session = pair.master.client();
    let grant = acquire(&mut session, "k TOKEN a PX 600000 SESSION DELAY 2000");
    wait_until("the replica has it", PATIENCE, || remaining(&mut reader, "k", "a") > Some(2_000));
    drop(session);
    wait_until("the lease is cut there too", PATIENCE, || {
        remaining(&mut reader, "k", "a").is_none_or(|left| left <= 2_000)
    });
    reader.ok("REPLICAOF NO ONE");
    assert!(acquire(&mut reader, "k TOKEN b BLOCK 0").fence > grant.fence);
}

#[test]
fn on_a_promoted_replica_the_lease_runs_as_it_was() {
    let pair = Pair::start();
    let mut session = pair.master.client();
    acquire(&mut session, "k TOKEN a PX 1000 SESSION DELAY 600000");
    pair.wait_caught_up();
    let mut promoted = pair.replica.client();
    promoted.ok("REPLICAOF NO ONE");
    assert!(remaining(&mut promoted, "k", "a") <= Some(1_000));
    wait_until("no connection keeps it there", PATIENCE, || !exists(&mut promoted, "k"));
}

#[test]
fn a_demoted_master_leaves_it_to_its_lease() {
    let server = Server::start();
    let mut client = server.client();
    let mut holder = server.client();
    acquire(&mut holder, "k TOKEN a SESSION PX 1000 DELAY 60000");
    let close = format!("CLIENT KILL ID {}", holder.id());
    client.run_all(&[&close, "REPLICAOF 127.0.0.1 1"]);
    wait_until("the lease runs out", PATIENCE, || client.run("LOCK.CHECK k a").is_null());
}

#[test]
fn what_stays_is_read_again_from_every_file() {
    for way in [snapshot, power_cut, rewrite_and_power_cut, debug_reload] {
        let mut server = Server::builder().aof().start();
        let mut client = server.client();
        let mut session = server.client();
        let grant = acquire(&mut session, "k TOKEN a PX 600000 SESSION DELAY 60000");
        drop(session);
        wait_closed(&mut client, "k");
        way(&mut server);
        let mut client = server.client();
        let left = remaining(&mut client, "k", "a").expect("it is loaded");
        assert!(left <= LONG_MS, "{left} ms are left");
        let mut session = server.client();
        assert_eq!(acquire(&mut session, "k TOKEN a SESSION DELAY 1"), grant);
        drop(session);
        wait_until("the new delay is over", PATIENCE, || !exists(&mut client, "k"));
    }
}

// --- words

#[test]
fn delay_belongs_to_session() {
    let server = Server::start();
    let mut client = server.client();
    for (rest, error) in [
        ("DELAY 1", "ERR syntax error"),
        ("SESSION DELAY", "ERR syntax error"),
        ("SESSION DELAY 1 DELAY 1", "ERR syntax error"),
        ("TOKEN a QUEUE 1000 SESSION DELAY 1", "ERR syntax error"),
        ("SESSION DELAY x", "ERR value is not an integer or out of range"),
        ("SESSION DELAY 0", "ERR invalid expire time in 'lock.acquire' command"),
        ("SESSION DELAY -1", "ERR invalid expire time in 'lock.acquire' command"),
        ("SESSION DELAY 86400001", "ERR invalid expire time in 'lock.acquire' command"),
        ("SESSION DELAY 9223372036854775807", "ERR invalid expire time in 'lock.acquire' command"),
    ] {
        assert_eq!(client.run(&format!("LOCK.ACQUIRE k {rest}")), Reply::Error(error.into()), "{rest}");
    }
    assert!(!exists(&mut client, "k"));
    acquire(&mut client, "k delay 5 TOKEN a session");
}
