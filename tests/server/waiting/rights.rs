//! Rights that are taken away while a client waits: they are looked at again when its turn comes.

use crate::support::locks::{acquire, exists, field, holders};
use crate::support::waiter::{assert_left_in_peace, release};
use crate::support::{Client, Server, Waiter};

const USER: &str = "ACL SETUSER waiter on >secret ~* +@all";

fn waiting(server: &Server, rest: &str) -> Waiter {
    let mut client = server.client();
    client.ok("AUTH waiter secret");
    Waiter::on(server, client, rest)
}

fn server() -> (Server, Client) {
    let server = Server::start();
    let mut client = server.client();
    client.ok(USER);
    acquire(&mut client, "k TOKEN a");
    (server, client)
}

#[test]
fn a_client_that_lost_its_rights_is_refused_when_its_turn_comes_and_the_next_is_served() {
    for lost in [
        "-lock.acquire",
        "resetkeys",
        "resetkeys ~other:*",
        "nocommands +ping",
        "-@all +ping",
        "resetkeys %R~*",
    ] {
        let (server, mut client) = server();
        let mut first = waiting(&server, "k TOKEN b BLOCK 0");
        let mut second = Waiter::new(&server, "k TOKEN c BLOCK 0");
        client.ok(&format!("ACL SETUSER waiter {lost}"));
        first.assert_waiting(&server);
        release(&mut client, "k", "a");
        let error = first.failed();
        assert!(error.starts_with("NOPERM "), "{lost}: {error}");
        assert_eq!(second.granted().token, b"c", "{lost}");
        release(&mut client, "k", "c");
        assert_left_in_peace(&server, "k");
    }
}

#[test]
fn the_last_in_the_queue_is_refused_and_nobody_holds_the_lock() {
    let (server, mut client) = server();
    let mut waiter = waiting(&server, "k TOKEN b BLOCK 0");
    client.ok("ACL SETUSER waiter -lock.acquire");
    client.run("DEL k");
    assert!(waiter.failed().starts_with("NOPERM "));
    assert!(!exists(&mut client, "k"));
}

#[test]
fn a_client_that_lost_its_rights_and_has_them_again_is_granted_the_lock() {
    let (server, mut client) = server();
    let mut waiter = waiting(&server, "k TOKEN b BLOCK 0");
    client.ok("ACL SETUSER waiter -lock.acquire");
    client.ok("ACL SETUSER waiter +lock.acquire");
    release(&mut client, "k", "a");
    waiter.granted();
}

#[test]
fn rights_for_the_command_and_the_key_are_enough() {
    let (server, mut client) = server();
    client.ok("ACL SETUSER waiter resetkeys ~k nocommands +lock.acquire +ping +client|id");
    let mut waiter = waiting(&server, "k TOKEN b BLOCK 0");
    release(&mut client, "k", "a");
    waiter.granted();
}

#[test]
fn readers_are_looked_at_one_by_one() {
    let (server, mut client) = server();
    let mut others = [(); 3].map(|()| Waiter::new(&server, "k SHARED BLOCK 0"));
    let mut without = waiting(&server, "k SHARED BLOCK 0");
    let mut last = Waiter::new(&server, "k SHARED BLOCK 0");
    client.ok("ACL SETUSER waiter -lock.acquire");
    release(&mut client, "k", "a");
    assert!(without.failed().starts_with("NOPERM "));
    others.iter_mut().chain([&mut last]).for_each(|waiter| drop(waiter.granted()));
    assert_eq!(holders(&mut client, "k").len(), 4);
}

#[test]
fn a_holder_that_waits_for_another_limit_keeps_what_it_has() {
    let (server, mut client) = server();
    release(&mut client, "k", "a");
    acquire(&mut client, "k TOKEN a SHARED");
    acquire(&mut client, "k TOKEN b SHARED");
    let mut upgrade = waiting(&server, "k TOKEN b LIMIT 1 BLOCK 0");
    client.ok("ACL SETUSER waiter -lock.acquire");
    release(&mut client, "k", "a");
    assert!(upgrade.failed().starts_with("NOPERM "));
    let hold = &holders(&mut client, "k")[0];
    assert_eq!(field(hold, "limit").int(), 0);
}

#[test]
fn a_user_that_is_deleted_takes_its_waits_along() {
    let (server, mut client) = server();
    let mut gone = waiting(&server, "k TOKEN b BLOCK 0");
    let mut next = Waiter::new(&server, "k TOKEN c BLOCK 0");
    client.run("ACL DELUSER waiter");
    gone.closed();
    release(&mut client, "k", "a");
    next.granted();
}

#[test]
fn who_comes_late_is_told_null_whatever_its_rights() {
    let (server, mut client) = server();
    let mut late = waiting(&server, "k TOKEN b BLOCK 50");
    client.ok("ACL SETUSER waiter -lock.acquire");
    late.refused();
    release(&mut client, "k", "a");
}
