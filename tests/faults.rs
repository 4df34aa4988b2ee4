//! What a fault of the module leaves behind: nothing half done. It takes a module that panics at chosen points, where a key
//! is named `fault:POINT:SPARED:...`, which `make fault-proof` builds.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod support;

use std::time::Duration;

use crate::support::locks::{acquire, null};
use crate::support::waiter::time_passes;
use crate::support::{Client, Data, PATIENCE, Reply, Server, Waiter, wait_until};

/// Where a turn can be cut short: the key was opened; the lock was changed; the turn has ended; it was passed on.
const POINTS: [&str; 4] = ["opened", "asked", "ended", "passed-on"];

const FAILED: &str = "ERR the lock module failed on this command";

/// A lock under a key at which every further turn fails: it gets its name by RENAME, which is no turn.
fn held(client: &mut Client, point: &str) -> String {
    let key = format!("fault:{point}:0:k");
    acquire(client, "plain TOKEN a PX 600000");
    client.ok(&format!("RENAME plain {key}"));
    key
}

/// The server lives, answers, grants other locks, and what it saves can be loaded.
#[track_caller]
fn is_well(server: &mut Server, point: &str) {
    let mut client = server.client();
    acquire(&mut client, "other TOKEN a PX 600000");
    assert_eq!(client.run("LOCK.RELEASE other a"), Reply::Int(1));
    assert_eq!(client.run("SAVE"), Reply::Simple("OK".into()), "{point}");
    server.restart(Data::NoSave);
    acquire(&mut server.client(), "other TOKEN a");
    server.client().run("FLUSHALL");
}

#[test]
#[ignore = "it takes a module that fails on purpose: make fault-proof"]
fn a_command_that_fails_leaves_no_lock_that_nobody_holds() {
    let mut server = Server::start();
    for point in POINTS {
        let mut client = server.client();
        let fresh = format!("fault:{point}:0:fresh");
        let error = client.run(&format!("LOCK.ACQUIRE {fresh} TOKEN a")).error().to_owned();
        assert!(error.starts_with(FAILED), "{point}: {error}");
        let key = held(&mut client, point);
        for command in ["RELEASE {} a", "EXTEND {} a", "ACQUIRE {} TOKEN a", "ACQUIRE {} TOKEN b", "BREAK {}"]
        {
            let reply = client.run(&format!("LOCK.{}", command.replace("{}", &key)));
            assert!(
                reply.is_error() || reply.is_null() || reply == Reply::Int(0),
                "{point}: {command}: {reply:?}"
            );
        }
        for key in [&fresh, &key] {
            let info = client.run(&format!("LOCK.INFO {key}"));
            let exists = client.run(&format!("EXISTS {key}")) == Reply::Int(1);
            assert_eq!(info != null(&client), exists, "{point}: a key without a hold: {info:?}");
        }
        is_well(&mut server, point);
    }
}

#[test]
#[ignore = "it takes a module that fails on purpose: make fault-proof"]
fn a_lease_whose_end_fails_does_not_keep_the_server_busy() {
    for point in POINTS {
        let mut server = Server::start();
        let mut client = server.client();
        acquire(&mut client, "plain TOKEN a PX 300");
        client.ok(&format!("RENAME plain fault:{point}:0:k"));
        time_passes(std::time::Instant::now(), Duration::from_millis(1_500));
        let failures = server.log().matches("the lock module failed at").count();
        assert!((1..=10).contains(&failures), "{point}: {failures} failures in a second");
        is_well(&mut server, point);
    }
}

#[test]
#[ignore = "it takes a module that fails on purpose: make fault-proof"]
fn whoever_waits_where_a_turn_fails_is_not_forgotten() {
    for point in POINTS {
        let mut server = Server::start();
        let mut client = server.client();
        // The grant is spared, and so are the two turns in which the waits begin.
        let key = format!("fault:{point}:3:k");
        acquire(&mut client, &format!("{key} TOKEN a PX 600000"));
        let mut timed = Waiter::new(&server, &format!("{key} TOKEN w BLOCK 400"));
        let endless = Waiter::new(&server, &format!("{key} TOKEN v BLOCK 0"));
        client.run(&format!("LOCK.RELEASE {key} a"));
        let answer = timed.reply();
        assert!(
            answer.is_error() || answer.is_null() || matches!(answer, Reply::Array(_)),
            "{point}: {answer:?}"
        );
        client.run(&format!("DEL {key}"));
        drop(endless);
        wait_until("nobody is left blocked", PATIENCE, || client.info("clients", "blocked_clients") == "0");
        is_well(&mut server, point);
    }
}

#[test]
#[ignore = "it takes a module that fails on purpose: make fault-proof"]
fn nobody_is_told_of_a_lock_that_a_fault_has_lost() {
    for point in POINTS {
        let mut server = Server::start();
        let mut client = server.client();
        // The grant and the turn in which the wait begins are spared; the one that follows the DEL makes a new lock, and fails.
        let key = format!("fault:{point}:2:k");
        acquire(&mut client, &format!("{key} TOKEN a PX 600000"));
        let mut waiter = Waiter::new(&server, &format!("{key} TOKEN w PX 600000 BLOCK 400"));
        client.run(&format!("DEL {key}"));
        let answer = waiter.reply();
        if answer != null(&client) && !answer.is_error() {
            let check = client.run(&format!("LOCK.CHECK {key} w"));
            assert_ne!(check, null(&client), "{point}: granted, and not held");
        }
        is_well(&mut server, point);
    }
}
