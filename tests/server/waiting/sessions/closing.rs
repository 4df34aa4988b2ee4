//! However a connection ends, its holds end with it; RESET ends none.

use super::{AT_ONCE, gone_at_once};
use crate::support::locks::{acquire, exists, field, holder, holders, null, remaining};
use crate::support::waiter::{assert_left_in_peace, release, waiting};
use crate::support::{Client, PATIENCE, Reply, Server, Waiter, wait_until};

#[track_caller]
fn ends_with_it(end: impl Fn(&Server, Client)) {
    let mut server = Server::start();
    let mut client = server.client();
    // Alone, and with somebody behind.
    let mut session = server.client();
    acquire(&mut session, "k TOKEN a PX 600000 SESSION");
    acquire(&mut session, "l TOKEN a PX 600000 SESSION");
    acquire(&mut session, "s TOKEN a SHARED PX 600000 SESSION");
    acquire(&mut session, "stays TOKEN a PX 600000");
    acquire(&mut client, "s TOKEN b SHARED PX 600000");
    let mut next = Waiter::new(&server, "l TOKEN b BLOCK 0");
    let mut last = Waiter::new(&server, "l TOKEN c BLOCK 0");
    let mut writer = Waiter::new(&server, "s TOKEN w BLOCK 0");
    end(&server, session);
    gone_at_once(&mut client, "k");
    next.granted();
    last.assert_waiting(&server);
    wait_until("one reader is left", AT_ONCE, || holders(&mut client, "s").len() == 1);
    writer.assert_waiting(&server);
    release(&mut client, "s", "b");
    writer.granted();
    release(&mut client, "l", "b");
    last.granted();
    assert!(remaining(&mut client, "stays", "a").is_some(), "what was not tied to it stays");
    for (key, token) in [("l", "c"), ("s", "w"), ("stays", "a")] {
        release(&mut client, key, token);
        assert_left_in_peace(&server, key);
    }
    server.assert_alive();
}

#[test]
fn the_end_of_the_connection_releases_at_once() {
    ends_with_it(|_, session| drop(session));
}

#[test]
fn a_reset_of_the_connection_releases_at_once() {
    ends_with_it(|_, mut session| {
        session.send(&["PING"]);
        assert!(session.has_reply_within(PATIENCE));
        session.reset();
    });
}

#[test]
fn quit_releases_at_once() {
    ends_with_it(|_, mut session| assert_eq!(session.run("QUIT"), Reply::Simple("OK".into())));
}

#[test]
fn client_kill_releases_at_once() {
    ends_with_it(|server, mut session| {
        let id = session.id();
        assert_eq!(server.client().run(&format!("CLIENT KILL ID {id}")), Reply::Int(1));
        assert_eq!(session.try_read().unwrap(), None);
    });
}

#[test]
fn a_connection_that_kills_itself_releases_at_once() {
    ends_with_it(|_, mut session| {
        let id = session.id();
        session.run(&format!("CLIENT KILL ID {id} SKIPME no"));
    });
}

#[test]
fn a_protocol_error_releases_at_once() {
    ends_with_it(|_, mut session| session.raw_write(b"*1\r\n?\r\n"));
}

#[test]
fn a_connection_that_ends_while_it_waits_elsewhere_releases_at_once() {
    ends_with_it(|server, session| {
        acquire(&mut server.client(), "other TOKEN x PX 600000");
        let waiter = Waiter::on(server, session, "other TOKEN y SESSION BLOCK 0");
        drop(waiter);
        let mut client = server.client();
        wait_until("it has left the queue", PATIENCE, || waiting(&mut client, "other") == 0);
        release(&mut client, "other", "x");
    });
}

/// A waiter of one connection gets the lock that the same connection held, and neither outlives it.
#[test]
fn a_connection_that_waits_for_its_own_lock_leaves_nothing() {
    let server = Server::start();
    let mut session = server.client();
    acquire(&mut session, "k TOKEN a PX 600000 SESSION");
    let own = Waiter::on(&server, session, "k TOKEN b SESSION BLOCK 0");
    let mut behind = Waiter::new(&server, "k TOKEN c BLOCK 0");
    drop(own);
    assert_eq!(behind.granted().token, b"c");
    release(&mut server.client(), "k", "c");
    assert_left_in_peace(&server, "k");
}

/// Nobody says goodbye: the server learns of it from TCP keepalive, in this time four seconds after it last heard of it.
#[test]
#[cfg(target_os = "linux")]
fn a_lost_peer_is_released_once_keepalive_notices() {
    let server = Server::builder().config("tcp-keepalive 1").start();
    let mut session = server.client();
    acquire(&mut session, "k TOKEN a PX 600000 SESSION");
    let mut behind = Waiter::new(&server, "k TOKEN b BLOCK 0");
    session.get_lost();
    assert_eq!(behind.granted().token, b"b");
    release(&mut behind.client, "k", "b");
    assert_left_in_peace(&server, "k");
    // Until here the peer itself has kept the connection open.
    drop(session);
}

#[test]
fn a_hold_of_several_levels_is_released_whole() {
    let server = Server::start();
    let mut session = server.client();
    let mut client = server.client();
    for level in 1..=3 {
        acquire(&mut session, &format!("k TOKEN a PX 600000 SESSION LEVEL {level}"));
    }
    assert_eq!(field(&holder(&mut client, "k"), "level"), Reply::Int(3));
    assert_eq!(client.run("LOCK.RELEASE k a LEVEL 3"), Reply::Int(1));
    assert!(exists(&mut client, "k"));
    drop(session);
    gone_at_once(&mut client, "k");
}

#[test]
fn very_many_sessions_end_at_once() {
    const SESSIONS: usize = 300;
    let mut server = Server::start();
    let mut client = server.client();
    let sessions: Vec<Client> = (0..SESSIONS)
        .map(|n| {
            let mut session = server.client();
            for m in 0..3 {
                acquire(&mut session, &format!("k{n}:{m} PX 600000 SESSION"));
            }
            acquire(&mut session, "shared SHARED PX 600000 SESSION");
            session
        })
        .collect();
    let mut waiter = Waiter::new(&server, "shared TOKEN w BLOCK 0");
    assert_eq!(client.run("DBSIZE"), Reply::Int(3 * 300 + 1));
    drop(sessions);
    waiter.granted();
    release(&mut client, "shared", "w");
    wait_until("all are released", AT_ONCE, || client.run("DBSIZE") == Reply::Int(0));
    server.assert_alive();
}

#[test]
fn reset_puts_a_connection_back_to_its_beginning_and_ends_no_hold() {
    let server = Server::start();
    let mut session = server.client();
    let mut client = server.client();
    acquire(&mut session, "k TOKEN a PX 600000 SESSION");
    let id = session.id();
    assert_eq!(session.run("RESET"), Reply::Simple("RESET".into()));
    assert_eq!(field(&holder(&mut client, "k"), "session"), Reply::Int(id));
    drop(session);
    wait_until("the connection is seen closed", PATIENCE, || !exists(&mut client, "k"));
}

/// The end of the hold follows at the end of the turn. Nobody is told before that it still stands.
#[test]
fn who_asks_in_the_turn_in_which_the_connection_closes_learns_of_it() {
    let server = Server::start();
    let mut client = server.client();
    for options in ["SESSION", "SESSION DELAY 60000"] {
        let mut session = server.client();
        acquire(&mut session, &format!("k TOKEN t PX 600000 {options}"));
        let kill = format!("CLIENT KILL ID {}", session.id());
        let replies = client.run_all(&[&kill, "LOCK.CHECK k t", "LOCK.GUARD k t SET written 1"]);
        if options == "SESSION" {
            assert_eq!(replies[1], null(&client));
            assert!(replies[2].error().starts_with("NOTOWNER "), "{replies:?}");
            assert!(!exists(&mut client, "written"));
        } else {
            let left = replies[1].items()[1].int();
            assert!(left <= 60_000, "it stays for its delay alone: {left}");
            assert_eq!(replies[2], Reply::Simple("OK".into()), "and is held for that long");
        }
        client.run("LOCK.BREAK k");
    }
}

#[test]
fn while_nothing_may_be_written_a_session_that_has_closed_is_known_to_have_ended() {
    let server = Server::start();
    let mut client = server.client();
    let mut session = server.client();
    acquire(&mut session, "k TOKEN t PX 600000 SESSION");
    let id = session.id();
    client.ok("CLIENT PAUSE 600000 WRITE");
    drop(session);
    wait_until("its end is read", PATIENCE, || client.run(&format!("CLIENT LIST ID {id}")).text().is_empty());
    assert_eq!(client.run("LOCK.CHECK k t"), null(&client));
    client.ok("CLIENT UNPAUSE");
    gone_at_once(&mut client, "k");
}
