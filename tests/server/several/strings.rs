//! `lock.adopt-strings`: among the keys of one command there may be strings, which count as locks.

use super::{all, errs, holds, none, waiting, waits};
use crate::support::errors::WRONG_TYPE;
use crate::support::locks::{acquire, exists, remaining};
use crate::support::waiter::release;
use crate::support::{Client, Reply, Server};

fn adopting() -> Server {
    Server::builder().config("lock.adopt-strings yes").start()
}

fn ttl(client: &mut Client, key: &str) -> i64 {
    client.run(&format!("PTTL {key}")).int()
}

#[test]
fn a_string_of_somebody_else_keeps_all_of_them_away() {
    let server = adopting();
    let mut client = server.client();
    client.ok("SET s other NX PX 600000");
    for rest in ["2 k s TOKEN a", "2 s k TOKEN a SHARED", "3 k s l"] {
        none(&mut client, rest);
    }
    assert_eq!(client.run("DBSIZE"), Reply::Int(1));
    assert_eq!(client.run("GET s").text(), "other");
}

/// However the string goes.
#[test]
fn who_waits_for_a_string_and_for_locks_is_granted_all_when_the_string_goes() {
    for end in [
        "DEL s",
        "UNLINK s",
        "GETDEL s",
        "PEXPIRE s 30",
        "LOCK.RELEASE s a",
        "LOCK.MRELEASE 2 s k a",
        "LOCK.BREAK s",
        "FLUSHALL",
        "RENAME s elsewhere",
    ] {
        let server = adopting();
        let mut client = server.client();
        client.ok("SET s a NX PX 600000");
        let mut waiter = waits(&server, "3 k s l TOKEN b BLOCK 0");
        assert!(!exists(&mut client, "k") && !exists(&mut client, "l"));
        let reply = client.run(end);
        assert!(!reply.is_error(), "{end}: {reply:?}");
        waiter.granted();
        assert_eq!(holds(&mut client, &["k", "s", "l"], "b"), ["k", "s", "l"], "{end}");
        assert_eq!(client.run("SET s x NX"), Reply::NullBulk);
    }
}

#[test]
fn releases_and_extensions_serve_strings_and_locks_alike() {
    let server = adopting();
    let mut client = server.client();
    client.ok("SET s a NX PX 60000");
    client.ok("SET t other NX PX 60000");
    acquire(&mut client, "k TOKEN a PX 60000");
    assert_eq!(client.run("LOCK.MEXTEND 3 s k t a PX 70000"), Reply::Int(2));
    assert!(ttl(&mut client, "s") > 60_000 && ttl(&mut client, "t") <= 60_000);
    assert!(remaining(&mut client, "k", "a") > Some(60_000));
    assert_eq!(client.run("GET s").text(), "a", "it is still a string");
    assert_eq!(client.run("LOCK.MRELEASE 3 t s k a"), Reply::Int(2));
    assert!(!exists(&mut client, "s") && !exists(&mut client, "k"));
    assert_eq!(client.run("GET t").text(), "other");
}

/// Its own string and free locks: what it holds is granted again, and the rest anew.
#[test]
fn a_token_whose_string_is_among_the_keys_is_granted_all() {
    let server = adopting();
    let mut client = server.client();
    client.ok("SET s a NX PX 60000");
    let grant = all(&mut client, "3 k s l TOKEN a PX 70000");
    assert_eq!(grant.token, b"a");
    assert_eq!(holds(&mut client, &["k", "s", "l"], "a"), ["k", "s", "l"]);
    assert!(ttl(&mut client, "s") > 60_000 || remaining(&mut client, "s", "a") > Some(60_000));
    assert_eq!(all(&mut client, "3 k s l TOKEN a PX 70000").token, b"a");
    assert_eq!(client.run("LOCK.MRELEASE 3 k s l a"), Reply::Int(3));
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
}

#[test]
fn a_token_whose_string_is_held_and_that_would_have_to_wait_is_in_a_deadlock() {
    let server = adopting();
    let mut client = server.client();
    client.ok("SET s a NX PX 60000");
    acquire(&mut client, "k TOKEN b");
    errs(&mut client, "2 s k TOKEN a BLOCK 0", "DEADLOCK ");
    none(&mut client, "2 s k TOKEN a");
    assert!(ttl(&mut client, "s") <= 60_000);
}

#[test]
fn a_hold_of_a_string_cannot_be_tied_to_a_connection_and_then_none_is_granted() {
    let server = adopting();
    let mut client = server.client();
    client.ok("SET s a NX PX 60000");
    errs(&mut client, "2 k s TOKEN a SESSION", "ERR SESSION");
    assert!(!exists(&mut client, "k"));
}

#[test]
fn a_string_that_takes_a_free_key_from_under_a_waiter_is_one_more_to_wait_for() {
    let server = adopting();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut waiter = waits(&server, "2 k s TOKEN b BLOCK 0");
    // Old clients know nothing of queues.
    client.ok("SET s old NX PX 600000");
    release(&mut client, "k", "a");
    waiter.assert_waiting(&server);
    assert!(!exists(&mut client, "k"));
    assert_eq!(client.run("DEL s"), Reply::Int(1));
    waiter.granted();
}

#[test]
fn the_setting_decides_at_each_command() {
    let server = adopting();
    let mut client = server.client();
    client.ok("SET s a NX PX 600000");
    client.ok("CONFIG SET lock.adopt-strings no");
    for command in ["LOCK.MACQUIRE 2 k s TOKEN a", "LOCK.MRELEASE 2 k s a", "LOCK.MEXTEND 2 s k a"] {
        assert_eq!(client.run(command), Reply::Error(WRONG_TYPE.into()), "{command}");
    }
    client.ok("CONFIG SET lock.adopt-strings yes");
    let waiter = waits(&server, "2 k s TOKEN b BLOCK 0");
    client.ok("CONFIG SET lock.adopt-strings no");
    waiter.assert_waiting(&server);
    assert_eq!(waiting(&mut client, "k"), 1);
}
