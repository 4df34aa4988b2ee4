//! A client that was gone before it could be told holds none of the keys, and the next are served, at each.

use super::{all, assert_free, fences, holds, release_all, waits};
use crate::support::locks::acquire;
use crate::support::waiter::release;
use crate::support::{PATIENCE, Reply, Server, Waiter, wait_until};

/// How often each is tried.
const TIMES: usize = 5;

/// Granted and killed in one turn of the server's loop.
#[test]
fn one_that_is_killed_with_its_grant_holds_none() {
    for free in ["LOCK.MRELEASE 3 k l m a", "DEL k l m", "FLUSHALL"] {
        for _ in 0..TIMES {
            let server = Server::start();
            let mut client = server.client();
            all(&mut client, "3 k l m TOKEN a");
            let mut gone = waits(&server, "3 k l m TOKEN gone BLOCK 0");
            let mut at_k = Waiter::new(&server, "k TOKEN x BLOCK 0");
            let mut rest = waits(&server, "2 l m TOKEN y BLOCK 0");
            let kill = format!("CLIENT KILL ID {}", gone.id);
            client.run_all(&["MULTI", free, &kill, "EXEC"]);
            at_k.granted();
            rest.granted();
            gone.closed();
            assert!(holds(&mut client, &["k", "l", "m"], "gone").is_empty());
            release(&mut client, "k", "x");
            release_all(&mut client, "2 l m y");
            assert_free(&server, &["k", "l", "m"]);
        }
    }
}

#[test]
fn one_that_is_killed_with_its_grant_and_nobody_behind_it_leaves_nothing() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "3 k l m TOKEN a");
    let gone = waits(&server, "3 k l m TOKEN gone BLOCK 0");
    let kill = format!("CLIENT KILL ID {}", gone.id);
    client.run_all(&["LOCK.MRELEASE 3 k l m a", &kill]);
    wait_until("all are free", PATIENCE, || client.run("DBSIZE") == Reply::Int(0));
    assert_free(&server, &["k", "l", "m"]);
}

/// Its connection is reset in the same moment as the locks are freed.
#[test]
fn one_whose_connection_is_reset_holds_none_for_long() {
    for _ in 0..TIMES {
        let server = Server::start();
        let mut client = server.client();
        all(&mut client, "2 k l TOKEN a");
        let gone = waits(&server, "2 k l TOKEN gone SESSION BLOCK 0");
        let mut next = waits(&server, "2 l k TOKEN next BLOCK 0");
        drop(gone);
        release_all(&mut client, "2 k l a");
        next.granted();
        release_all(&mut client, "2 k l next");
        assert_free(&server, &["k", "l"]);
    }
}

/// Unblocked in the same turn in which it was granted: told one of both, and what it was told is so.
#[test]
fn one_that_is_unblocked_with_its_grant_is_told_what_is_so() {
    for order in [["LOCK.MRELEASE 2 k l a", "UNBLOCK"], ["UNBLOCK", "LOCK.MRELEASE 2 k l a"]] {
        for how in ["TIMEOUT", "ERROR"] {
            let server = Server::start();
            let mut client = server.client();
            all(&mut client, "2 k l TOKEN a");
            let mut waiter = waits(&server, "2 k l TOKEN b BLOCK 0");
            let mut next = waits(&server, "2 l k TOKEN c BLOCK 0");
            let unblock = format!("CLIENT UNBLOCK {} {how}", waiter.id);
            let [one, two] = order.map(|it| if it == "UNBLOCK" { unblock.as_str() } else { it });
            client.run_all(&["MULTI", one, two, "EXEC"]);
            match waiter.reply() {
                Reply::Array(grant) => {
                    assert_eq!(fences(&mut client, &["k", "l"], "b"), [grant[1].int(); 2], "{order:?} {how}");
                    next.assert_waiting(&server);
                    release_all(&mut client, "2 k l b");
                }
                other => assert!(other.is_null() || other.is_error(), "{other:?}"),
            }
            next.granted();
            assert!(holds(&mut client, &["k", "l"], "b").is_empty(), "{order:?} {how}");
            release_all(&mut client, "2 k l c");
            assert_free(&server, &["k", "l"]);
        }
    }
}

/// What is undone is what was granted: an upgrade that could not be told leaves the hold as it was before.
#[test]
fn an_upgrade_that_could_not_be_told_leaves_all_holds_as_they_were() {
    let server = Server::start();
    let mut client = server.client();
    let grant = all(&mut client, "2 k l TOKEN a SHARED PX 600000");
    acquire(&mut client, "l TOKEN b SHARED PX 600000");
    let upgrade = waits(&server, "2 k l TOKEN a LIMIT 1 PX 600000 BLOCK 0");
    let kill = format!("CLIENT KILL ID {}", upgrade.id);
    client.run_all(&["MULTI", "LOCK.RELEASE l b", &kill, "EXEC"]);
    drop(upgrade);
    wait_until("readers are let in again", PATIENCE, || {
        !client.run("LOCK.MACQUIRE 2 k l TOKEN c SHARED").is_null()
    });
    assert_eq!(fences(&mut client, &["k", "l"], "a"), [grant.fence; 2]);
}
