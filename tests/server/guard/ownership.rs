//! LOCK.GUARD runs a command while its token holds the lock, and otherwise nothing at all.

use crate::support::errors::{self, NOT_OWNER, call_fails, fails};
use crate::support::locks::{acquire, exists, null, remaining};
use crate::support::{Client, PATIENCE, Reply, Server, Waiter, cmd, wait_until};

#[track_caller]
fn runs(client: &mut Client, token: &str) {
    client.ok(&format!("LOCK.GUARD k {token} SET x {token}"));
    assert_eq!(client.run("GETDEL x").text(), token);
}

#[track_caller]
fn runs_nothing(client: &mut Client, token: &str) {
    fails(client, &format!("LOCK.GUARD k {token} SET x {token}"), NOT_OWNER);
    assert!(!exists(client, "x"));
}

#[test]
fn the_holder_runs_commands_and_keeps_the_lock() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        acquire(&mut client, "k TOKEN a PX 60000");
        let before = client.run("LOCK.CHECK k a").items()[0].clone();
        runs(&mut client, "a");
        runs(&mut server.client(), "a");
        assert_eq!(client.run("LOCK.CHECK k a").items()[0], before);
        assert_eq!(client.run("LOCK.RELEASE k a"), Reply::Int(1));
    }
}

#[test]
fn whoever_does_not_hold_it_runs_nothing() {
    let server = Server::start();
    let mut client = server.client();
    runs_nothing(&mut client, "a");
    acquire(&mut client, "k TOKEN abc PX 60000");
    for token in ["ab", "abcd", "ABC", "x"] {
        runs_nothing(&mut client, token);
    }
    client.run("LOCK.RELEASE k abc");
    runs_nothing(&mut client, "abc");
    acquire(&mut client, "k TOKEN abc PX 60000");
    client.run("LOCK.BREAK k");
    runs_nothing(&mut client, "abc");
    acquire(&mut client, "k TOKEN abc PX 60000");
    client.run("DEL k");
    runs_nothing(&mut client, "abc");
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
}

#[test]
fn each_of_several_holders_runs_commands() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k SHARED TOKEN a PX 60000");
    acquire(&mut client, "k SHARED TOKEN b PX 60000");
    runs(&mut client, "a");
    runs(&mut client, "b");
    runs_nothing(&mut client, "c");
    client.run("LOCK.RELEASE k a");
    runs_nothing(&mut client, "a");
    runs(&mut client, "b");
}

/// Nothing sweeps within a transaction, so that the hold is still there.
#[test]
fn a_lease_that_has_ended_counts_for_nothing_though_the_hold_is_still_there() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    client.ok("MULTI");
    for command in ["LOCK.EXTEND k a PX 1", "DEBUG SLEEP 0.02", "LOCK.GUARD k a SET x 1", "EXISTS k"] {
        assert_eq!(client.run(command), Reply::Simple("QUEUED".into()), "{command}");
    }
    let replies = client.run("EXEC");
    assert_eq!(replies.items()[2], Reply::Error(NOT_OWNER.into()), "{replies:?}");
    assert_eq!(replies.items()[3], Reply::Int(1), "nothing has ended it yet: {replies:?}");
    assert!(!exists(&mut client, "x"));
}

#[test]
fn a_time_to_live_that_is_over_ends_the_right_to_run_commands() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    client.run("PEXPIRE k 1");
    wait_until("the key has gone", PATIENCE, || remaining(&mut client, "k", "a").is_none());
    runs_nothing(&mut client, "a");
}

#[test]
fn a_session_runs_commands_from_any_connection_until_its_own_has_closed() {
    let server = Server::start();
    let mut client = server.client();
    let mut session = server.client();
    acquire(&mut session, "k TOKEN a SESSION PX 60000");
    runs(&mut client, "a");
    drop(session);
    wait_until("the session has ended", PATIENCE, || remaining(&mut client, "k", "a").is_none());
    runs_nothing(&mut client, "a");
}

#[test]
fn an_inner_level_is_a_hold_like_any_other() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    acquire(&mut client, "k TOKEN a PX 60000 LEVEL 2");
    runs(&mut client, "a");
    client.run("LOCK.RELEASE k a LEVEL 2");
    runs(&mut client, "a");
}

#[test]
fn who_only_waits_runs_nothing() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    client.run("LOCK.ACQUIRE k TOKEN b QUEUE 60000");
    runs_nothing(&mut client, "b");
    client.run("LOCK.RELEASE k a");
    wait_until("the place is granted the lock", PATIENCE, || remaining(&mut client, "k", "b").is_some());
    runs(&mut client, "b");
}

#[test]
fn a_string_counts_where_strings_are_locks() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("SET k a PX 60000");
    fails(&mut client, "LOCK.GUARD k a SET x a", errors::WRONG_TYPE);
    client.ok("CONFIG SET lock.adopt-strings yes");
    runs(&mut client, "a");
    runs_nothing(&mut client, "b");
    assert_eq!(client.run("LOCK.GUARD k a DEL k"), Reply::Int(1));
    runs_nothing(&mut client, "a");
}

#[test]
fn the_database_is_that_of_the_caller() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("SELECT 3");
    acquire(&mut client, "k TOKEN a PX 60000");
    client.ok("LOCK.GUARD k a SET x 1");
    assert!(exists(&mut client, "x"));
    client.ok("SELECT 0");
    runs_nothing(&mut client, "a");
    assert!(!exists(&mut client, "x"));
}

#[test]
fn a_command_may_be_about_the_lock_itself() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        acquire(&mut client, "k TOKEN a PX 60000");
        assert_eq!(client.run("LOCK.GUARD k a LOCK.CHECK k a").items().len(), 3);
        assert_eq!(client.run("LOCK.GUARD k a LOCK.EXTEND k a PX 50000"), Reply::Int(1));
        assert!(remaining(&mut client, "k", "a").is_some_and(|left| left <= 50_000));
        assert_eq!(client.run("LOCK.GUARD k a LOCK.RELEASE k a"), Reply::Int(1));
        runs_nothing(&mut client, "a");
        for end in ["DEL k", "UNLINK k", "LOCK.BREAK k", "PEXPIRE k 0", "FLUSHALL", "RENAME k l", "MOVE k 1"]
        {
            acquire(&mut client, "k TOKEN a PX 60000");
            let reply = client.run(&format!("LOCK.GUARD k a {end}"));
            assert!(!reply.is_error(), "{end}: {reply:?}");
            runs_nothing(&mut client, "a");
            client.ok("FLUSHALL");
        }
        acquire(&mut client, "k TOKEN a PX 60000");
        client.ok("LOCK.GUARD k a SET k v");
        assert_eq!(client.run("GETDEL k").text(), "v");
    }
}

/// Hand-over is one step with the release inside.
#[test]
fn a_release_inside_hands_the_lock_over() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    let mut next = Waiter::new(&server, "k TOKEN b PX 60000 BLOCK 0");
    assert_eq!(client.run("LOCK.GUARD k a LOCK.RELEASE k a"), Reply::Int(1));
    assert_eq!(next.granted().token, b"b");
    runs(&mut client, "b");
    let mut last = Waiter::new(&server, "k TOKEN c PX 60000 BLOCK 0");
    assert_eq!(client.run("LOCK.GUARD k b DEL k"), Reply::Int(1));
    assert_eq!(last.granted().token, b"c");
}

#[test]
fn what_cannot_be_looked_at_is_an_error() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("SET s a");
    fails(&mut client, "LOCK.GUARD s a SET x 1", errors::WRONG_TYPE);
    let arity = errors::arity("lock.guard");
    for command in ["LOCK.GUARD", "LOCK.GUARD k", "LOCK.GUARD k a"] {
        fails(&mut client, command, &arity);
    }
    for length in [0, 256] {
        let token = "x".repeat(length);
        call_fails(&mut client, &cmd!["LOCK.GUARD", "k", token, "SET", "x", "1"], errors::TOKEN);
    }
    assert!(!exists(&mut client, "x"));
    assert_eq!(client.run("LOCK.CHECK k a"), null(&client));
}
