//! What other connections may do with the lock of a session: release and break it, delete its key, move it elsewhere.

use std::time::{Duration, Instant};

use super::{client_is_gone, gone_at_once, session_of};
use crate::support::locks::{acquire, exists, remaining};
use crate::support::waiter::{release, time_passes};
use crate::support::{PATIENCE, Reply, Server, cmd, wait_until};

#[test]
fn any_connection_may_release_it_with_the_token() {
    let server = Server::start();
    let mut session = server.client();
    let mut client = server.client();
    acquire(&mut session, "k TOKEN a PX 600000 SESSION");
    release(&mut client, "k", "a");
    assert!(!exists(&mut client, "k"));
    // What comes after is not the session's, whatever its name.
    acquire(&mut client, "k TOKEN a PX 600000");
    let id = session.id();
    drop(session);
    wait_until("the session is gone", PATIENCE, || client_is_gone(&mut server.client(), id));
    assert!(remaining(&mut client, "k", "a").is_some());
    assert_eq!(session_of(&mut client, "k"), Reply::NullBulk);
}

#[test]
fn any_connection_may_break_it() {
    let server = Server::start();
    let mut session = server.client();
    let mut client = server.client();
    acquire(&mut session, "k TOKEN a PX 1000 SESSION");
    assert_eq!(client.run("LOCK.BREAK k"), Reply::Int(1));
    time_passes(Instant::now(), Duration::from_millis(1_200));
    assert!(!exists(&mut client, "k"), "it is not brought back");
    acquire(&mut client, "k TOKEN b PX 600000");
    drop(session);
    assert!(remaining(&mut client, "k", "b").is_some());
}

#[test]
fn a_deleted_or_overwritten_lock_is_not_brought_back() {
    let mut server = Server::start();
    let mut session = server.client();
    let mut client = server.client();
    for key in ["deleted", "overwritten", "flushed"] {
        acquire(&mut session, &format!("{key} TOKEN a PX 1000 SESSION"));
    }
    client.run("DEL deleted");
    client.ok("SET overwritten v");
    time_passes(Instant::now(), Duration::from_millis(1_200));
    assert!(!exists(&mut client, "deleted"));
    assert!(remaining(&mut client, "flushed", "a").is_some());
    client.ok("FLUSHALL");
    time_passes(Instant::now(), Duration::from_millis(1_200));
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
    client.ok("SET deleted v");
    drop(session);
    server.assert_alive();
    assert_eq!(client.run("GET deleted").text(), "v");
}

#[test]
fn a_lock_that_goes_elsewhere_is_kept_and_released_there() {
    for (commands, database, key) in [
        (&["RENAME k elsewhere"][..], 0, "elsewhere"),
        (&["MOVE k 1"], 1, "k"),
        (&["SWAPDB 0 1"], 1, "k"),
        (&["RENAME k l", "MOVE l 2", "SWAPDB 2 3"], 3, "l"),
    ] {
        let mut server = Server::start();
        let mut session = server.client();
        let id = session.id();
        acquire(&mut session, "k TOKEN a PX 1000 SESSION");
        let mut client = server.client();
        for command in commands {
            assert!(!client.run(command).is_error(), "{command}");
        }
        client.ok(&format!("SELECT {database}"));
        time_passes(Instant::now(), Duration::from_millis(1_600));
        assert!(remaining(&mut client, key, "a").is_some(), "{commands:?}: kept");
        assert_eq!(session_of(&mut client, key), Reply::Int(id), "{commands:?}");
        client.call(&cmd!["LOCK.EXTEND", key, "a", "PX", 600_000]);
        drop(session);
        gone_at_once(&mut client, key);
        server.assert_alive();
    }
}

#[test]
fn a_lock_that_has_just_gone_elsewhere_is_released_there() {
    for (command, database, key) in
        [("RENAME k elsewhere", 0, "elsewhere"), ("MOVE k 1", 1, "k"), ("SWAPDB 0 1", 1, "k")]
    {
        let server = Server::start();
        let mut session = server.client();
        acquire(&mut session, "k TOKEN a PX 600000 SESSION");
        let mut client = server.client();
        assert!(!client.run(command).is_error(), "{command}");
        drop(session);
        client.ok(&format!("SELECT {database}"));
        gone_at_once(&mut client, key);
    }
}
