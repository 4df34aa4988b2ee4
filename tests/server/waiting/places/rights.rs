//! Rights: who may ask for a place, who may listen, and what is looked at again when the turn comes.

use super::{Listener, call_next, claim, is_called, place, ticket, tickets};
use crate::support::locks::{acquire, exists, null};
use crate::support::waiter::{assert_left_in_peace, release, waiting};
use crate::support::{Client, Reply, Server, Waiter};

/// All rights but the one to be administrator of anything.
const USER: &str = "ACL SETUSER app on >secret ~* &* +@all";

#[track_caller]
fn user(server: &Server) -> Client {
    let mut client = server.client();
    client.ok("AUTH app secret");
    client
}

/// `k` is held by `a`; there is the user, and a client that may do everything.
#[track_caller]
fn server() -> (Server, Client) {
    let server = super::patient();
    let mut client = server.client();
    client.ok(USER);
    acquire(&mut client, "k TOKEN a PX 600000");
    (server, client)
}

#[test]
fn without_rights_to_the_channel_nobody_listens_but_repeating_is_enough() {
    let (server, mut client) = server();
    client.ok("ACL SETUSER app resetchannels");
    let mut app = user(&server);
    let mut everybody = Listener::of(&server, "k");
    let reply = app.run("SSUBSCRIBE k");
    assert!(reply.error().starts_with("NOPERM"), "{reply:?}");
    let number = place(&mut app, "k TOKEN b QUEUE 600000");
    assert_eq!(place(&mut app, "k TOKEN b QUEUE 600000"), number);
    release(&mut client, "k", "a");
    everybody.hears(number);
    claim(&mut app, "k TOKEN b QUEUE 600000");
}

#[test]
fn rights_for_the_command_the_key_and_the_channel_are_enough() {
    let (server, mut client) = server();
    client.ok("ACL SETUSER app resetkeys ~k resetchannels &k nocommands +lock.acquire +ssubscribe +ping");
    let mut app = user(&server);
    let mut listener = Listener::on(user(&server), "k");
    let number = place(&mut app, "k TOKEN b QUEUE 600000");
    release(&mut client, "k", "a");
    listener.hears(number);
    claim(&mut app, "k TOKEN b");
}

#[test]
fn who_may_not_ask_gets_no_place() {
    for lacking in ["-lock.acquire", "resetkeys", "resetkeys %R~k", "nocommands +ping"] {
        let (server, mut client) = server();
        client.ok(&format!("ACL SETUSER app {lacking}"));
        let mut app = user(&server);
        let reply = app.run("LOCK.ACQUIRE k TOKEN b QUEUE 600000");
        assert!(reply.error().starts_with("NOPERM"), "{lacking}: {reply:?}");
        assert_eq!(waiting(&mut client, "k"), 0, "{lacking}");
    }
}

#[test]
fn a_user_that_lost_its_rights_is_not_called_and_the_next_is() {
    for lost in ["-lock.acquire", "resetkeys", "resetkeys ~other:*", "nocommands +ping", "resetkeys %R~*"] {
        let (server, mut client) = server();
        let mut listener = Listener::of(&server, "k");
        let old = place(&mut user(&server), "k TOKEN b QUEUE 600000");
        let next = place(&mut client, "k TOKEN c QUEUE 600000");
        client.ok(&format!("ACL SETUSER app {lost}"));
        release(&mut client, "k", "a");
        listener.hears(next);
        assert_eq!(client.run("LOCK.CHECK k b"), null(&client), "{lost}");
        assert_eq!(waiting(&mut client, "k"), 0, "{lost}: its place is gone");
        client.ok(USER);
        assert!(place(&mut user(&server), "k TOKEN b QUEUE 600000") > old, "{lost}");
    }
}

#[test]
fn the_only_one_in_the_queue_that_lost_its_rights_leaves_the_lock_free() {
    let (server, mut client) = server();
    let mut listener = Listener::of(&server, "k");
    place(&mut user(&server), "k TOKEN b QUEUE 600000");
    client.ok("ACL SETUSER app -lock.acquire");
    client.run("DEL k");
    assert!(!exists(&mut client, "k"));
    listener.heard_nothing();
    assert_left_in_peace(&server, "k");
}

#[test]
fn a_user_that_has_its_rights_again_in_time_is_called() {
    let (server, mut client) = server();
    let number = place(&mut user(&server), "k TOKEN b QUEUE 600000");
    client.ok("ACL SETUSER app -lock.acquire");
    client.ok("ACL SETUSER app +lock.acquire");
    assert_eq!(tickets(&mut client, "k"), [Some(number)]);
    call_next(&mut client, "k", "a", "b");
}

#[test]
fn a_user_that_is_deleted_is_not_called() {
    let (server, mut client) = server();
    let mut listener = Listener::of(&server, "k");
    let mut asked = user(&server);
    place(&mut asked, "k TOKEN b QUEUE 600000");
    let mut waiter = Waiter::on(&server, user(&server), "k TOKEN c BLOCK 0 QUEUE 600000");
    let next = place(&mut client, "k TOKEN d QUEUE 600000");
    assert_eq!(client.run("ACL DELUSER app"), Reply::Int(1));
    waiter.closed();
    release(&mut client, "k", "a");
    listener.hears(next);
    assert_eq!(waiting(&mut client, "k"), 0);
}

#[test]
fn the_rights_of_who_asked_last_count() {
    let (server, mut client) = server();
    let mut app = user(&server);
    place(&mut app, "k TOKEN b QUEUE 600000");
    place(&mut client, "k TOKEN b QUEUE 600000");
    place(&mut client, "k TOKEN c QUEUE 600000");
    let old = place(&mut app, "k TOKEN c QUEUE 600000");
    client.ok("ACL SETUSER app -lock.acquire");
    call_next(&mut client, "k", "a", "b");
    release(&mut client, "k", "b");
    assert!(!is_called(&mut client, "k", "c"), "the user asked for it last");
    assert!(!exists(&mut client, "k"));
    assert!(tickets(&mut client, "k").is_empty(), "{old}");
}

#[test]
fn the_rights_of_a_user_whose_connection_is_gone_count_all_the_same() {
    let (server, mut client) = server();
    let mut listener = Listener::of(&server, "k");
    for token in ["b", "c"] {
        let waiter = Waiter::on(&server, user(&server), &format!("k TOKEN {token} BLOCK 0 QUEUE 600000"));
        super::lose(&server, "k", waiter);
    }
    let [Some(first), Some(_)] = tickets(&mut client, "k")[..] else { panic!("two places") };
    release(&mut client, "k", "a");
    listener.hears(first);
    client.ok("ACL SETUSER app -lock.acquire");
    release(&mut client, "k", "b");
    listener.heard_nothing();
    assert_left_in_peace(&server, "k");
}

#[test]
fn a_blocked_client_with_a_place_that_lost_its_rights_is_refused_and_leaves_no_place() {
    let (server, mut client) = server();
    let mut waiter = Waiter::on(&server, user(&server), "k TOKEN b BLOCK 0 QUEUE 600000");
    let next = place(&mut client, "k TOKEN c QUEUE 600000");
    let mut listener = Listener::of(&server, "k");
    client.ok("ACL SETUSER app -lock.acquire");
    release(&mut client, "k", "a");
    assert!(waiter.failed().starts_with("NOPERM "));
    listener.hears(next);
    assert_eq!(waiting(&mut client, "k"), 0);
}

#[test]
fn who_was_called_and_lost_its_rights_keeps_the_hold_and_may_not_claim() {
    let (server, mut client) = server();
    let mut app = user(&server);
    place(&mut app, "k TOKEN b QUEUE 600000");
    call_next(&mut client, "k", "a", "b");
    client.ok("ACL SETUSER app -lock.acquire");
    let reply = app.run("LOCK.ACQUIRE k TOKEN b QUEUE 600000");
    assert!(reply.error().starts_with("NOPERM"), "{reply:?}");
    assert!(is_called(&mut client, "k", "b"));
    assert_eq!(app.run("LOCK.EXTEND k b PX 5000"), Reply::Int(1));
    assert_eq!(app.run("LOCK.RELEASE k b"), Reply::Int(1));
}

#[test]
fn a_place_asked_for_by_a_script_is_the_users_that_ran_it() {
    let (server, mut client) = server();
    let mut app = user(&server);
    let mut listener = Listener::of(&server, "k");
    let script = "return redis.call('LOCK.ACQUIRE', KEYS[1], 'TOKEN', 'b', 'QUEUE', 600000)";
    ticket(&app.call(&["EVAL", script, "1", "k"]));
    let replies = app.run_all(&["MULTI", "LOCK.ACQUIRE k TOKEN c QUEUE 600000", "EXEC"]);
    ticket(&replies[2].items()[0]);
    let next = place(&mut client, "k TOKEN d QUEUE 600000");
    client.ok("ACL SETUSER app -lock.acquire");
    release(&mut client, "k", "a");
    listener.hears(next);
    assert_eq!(waiting(&mut client, "k"), 0);
}
