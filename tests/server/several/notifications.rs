//! Keyspace notifications: what happens to several locks is an event of each, each once.

use super::{all, none, release_all, waits};
use crate::support::listener::Listener;
use crate::support::locks::acquire;
use crate::support::waiter::release;
use crate::support::{Reply, Server};

#[test]
fn each_command_is_an_event_of_each_lock_it_changed() {
    let server = Server::start();
    let mut client = server.client();
    let mut listener = Listener::new(&server);
    all(&mut client, "3 k l k TOKEN a PX 600000");
    listener.hears_in_any_order(&["k lock.acquired", "l lock.acquired"]);
    none(&mut client, "2 l m TOKEN b");
    all(&mut client, "2 k l TOKEN a PX 600000");
    listener.hears_in_any_order(&["k lock.extended", "l lock.extended"]);
    client.run("LOCK.MEXTEND 3 k l m a PX 600000");
    listener.hears_in_any_order(&["k lock.extended", "l lock.extended"]);
    client.run("LOCK.MEXTEND 3 k l m x");
    client.run("LOCK.MRELEASE 3 k l m x");
    release_all(&mut client, "2 k l a");
    listener.hears_in_any_order(&["k lock.released", "l lock.released"]);
    listener.hears_no_more(&mut client);
}

/// `lock.waiting` is for locks that are held, so that a holder can give way.
#[test]
fn holders_hear_that_somebody_waits_and_a_hand_over_is_an_event_of_each() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a PX 600000");
    let mut listener = Listener::new(&server);
    let mut waiter = waits(&server, "2 k l TOKEN b PX 600000 BLOCK 0");
    listener.hears_in_any_order(&["k lock.waiting", "l lock.waiting"]);
    // It has waited before.
    let mut again = waits(&server, "2 k l TOKEN b PX 600000 BLOCK 0");
    waiter.refused();
    listener.hears_no_more(&mut client);
    release(&mut client, "k", "a");
    listener.hears_in_any_order(&["k lock.released"]);
    release(&mut client, "l", "a");
    again.granted();
    listener.hears_in_any_order(&["l lock.released", "k lock.acquired", "l lock.acquired"]);
    listener.hears_no_more(&mut client);
}

#[test]
fn the_ends_of_leases_are_events_of_each() {
    let server = Server::start();
    let mut client = server.client();
    let mut listener = Listener::new(&server);
    all(&mut client, "2 k l PX 30");
    listener.hears_in_any_order(&["k lock.acquired", "l lock.acquired"]);
    listener.hears_in_any_order(&["k lock.expired", "l lock.expired"]);
    all(&mut server.client(), "2 k l SESSION PX 600000");
    listener.hears_in_any_order(&["k lock.acquired", "l lock.acquired"]);
    listener.hears_in_any_order(&["k lock.released", "l lock.released"]);
    listener.hears_no_more(&mut client);
}

#[test]
fn a_grant_that_was_undone_is_two_events_of_each() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    let waiter = waits(&server, "2 k l TOKEN b PX 600000 BLOCK 0");
    let mut listener = Listener::new(&server);
    client.run_all(&["LOCK.RELEASE k a", &format!("CLIENT KILL ID {}", waiter.id)]);
    listener.hears_in_any_order(&[
        "k lock.released",
        "k lock.acquired",
        "l lock.acquired",
        "k lock.released",
        "l lock.released",
    ]);
    listener.hears_no_more(&mut client);
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
}

/// What freed them comes before who was granted them, as with one lock.
#[test]
fn a_hand_over_is_told_behind_the_release_that_made_it() {
    let server = Server::start();
    let mut client = server.client();
    for held in ["k", "l"] {
        acquire(&mut client, &format!("{held} TOKEN a PX 600000"));
        let mut listener = Listener::new(&server);
        let mut waiter = waits(&server, "2 k l TOKEN b PX 600000 BLOCK 0");
        listener.hears_in_any_order(&[&format!("{held} lock.waiting")]);
        release(&mut client, held, "a");
        waiter.granted();
        listener.hears_in_any_order(&[&format!("{held} lock.released")]);
        listener.hears_in_any_order(&["k lock.acquired", "l lock.acquired"]);
        release_all(&mut client, "2 k l b");
    }
}
