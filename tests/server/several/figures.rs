//! `INFO lock` against a recorded workload of several locks: each hold counts for itself, each request once.

use std::collections::BTreeMap;

use super::{all, errs, none, release_all, waits};
use crate::support::figures::{TOTALS, figures};
use crate::support::locks::acquire;
use crate::support::waiter::{release, wait_blocked};
use crate::support::{Client, PATIENCE, Reply, Server, wait_until};

/// What has been added to the totals since, but for what was not. That of all holds that ended is the sum of others.
fn added(client: &mut Client, since: &BTreeMap<String, i64>) -> Vec<(&'static str, i64)> {
    let now = figures(client, "lock");
    let difference = |name: &'static str| (name, now[name] - since[name]);
    let counted = TOTALS.into_iter().filter(|name| *name != "holds_ended");
    counted.map(difference).filter(|(_, number)| *number != 0).collect()
}

/// Does something, of which these figures come.
#[track_caller]
fn counts(client: &mut Client, due: &[(&'static str, i64)], work: impl FnOnce(&mut Client)) {
    let before = figures(client, "lock");
    work(client);
    let mut last = Vec::new();
    wait_until(&format!("{due:?} is counted"), PATIENCE, || {
        last = added(client, &before);
        let is_so = last == due;
        if !is_so && last.len() >= due.len() {
            println!("{last:?}, and not {due:?}");
        }
        is_so
    });
}

#[test]
fn a_grant_of_several_is_a_grant_of_each_and_an_end_of_each_is_one() {
    let server = Server::start();
    let mut client = server.client();
    counts(&mut client, &[("grants", 3)], |it| drop(all(it, "3 k l m TOKEN a PX 600000")));
    let now = figures(&mut client, "lock");
    assert_eq!((now["keys"], now["holds"]), (3, 3));
    counts(&mut client, &[], |it| drop(all(it, "3 k l m TOKEN a PX 600000")));
    counts(&mut client, &[("extensions", 3)], |it| {
        assert_eq!(it.run("LOCK.MEXTEND 3 k l m a"), Reply::Int(3));
    });
    counts(&mut client, &[("releases", 3), ("released", 3)], |it| release_all(it, "3 k l m a"));
    let now = figures(&mut client, "lock");
    assert_eq!((now["keys"], now["holds"]), (0, 0));
}

#[test]
fn a_refusal_is_one_for_all_keys() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    counts(&mut client, &[("refusals", 1)], |it| none(it, "3 k l m TOKEN b"));
}

#[test]
fn a_wait_for_several_is_one_wait_and_its_grants_are_grants_after_a_wait() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    let mut waiter = waits(&server, "3 k l m TOKEN b PX 600000 BLOCK 0");
    let now = figures(&mut client, "lock");
    assert_eq!((now["waiters_blocked"], now["waiters_queued"], now["longest_queue"]), (1, 0, 1), "{now:?}");
    let due = [("grants", 3), ("grants_after_wait", 3), ("releases", 1), ("released", 1)];
    counts(&mut client, &due, |it| release(it, "k", "a"));
    waiter.granted();
    let mut late = waits(&server, "2 m n TOKEN c BLOCK 30");
    counts(&mut client, &[("timeouts", 1)], |_| late.refused());
    counts(&mut client, &[("queue_full", 1)], |it| {
        it.ok("CONFIG SET lock.max-waiters 0");
        errs(it, "2 m n TOKEN c BLOCK 0", "QUEUEFULL ");
        it.ok("CONFIG SET lock.max-waiters 10");
    });
    let now = figures(&mut client, "lock");
    assert_eq!((now["waiters_blocked"], now["longest_queue"]), (0, 0), "{now:?}");
}

#[test]
fn what_ends_by_itself_is_counted_for_each_lock() {
    let server = Server::builder().config("lock.claim-lease 30").start();
    let mut client = server.client();
    counts(&mut client, &[("grants", 2), ("lapsed", 2)], |it| drop(all(it, "2 k l PX 30")));
    counts(&mut client, &[("grants", 2), ("removed", 2)], |it| {
        all(it, "2 k l PX 600000");
        it.run("DEL k l");
    });
    counts(&mut client, &[("grants", 2), ("sessions_closed", 2)], |_| {
        all(&mut server.client(), "2 k l SESSION PX 600000");
    });
    counts(&mut client, &[("grants", 2), ("broken", 2)], |it| {
        all(it, "2 k l PX 600000");
        it.run_all(&["LOCK.BREAK k", "LOCK.BREAK l"]);
    });
    let due = [("grants", 3), ("grants_after_wait", 2), ("releases", 1), ("released", 1), ("unclaimed", 2)];
    counts(&mut client, &due, |it| {
        acquire(it, "k TOKEN a PX 600000");
        assert!(matches!(it.run("LOCK.MACQUIRE 2 k l TOKEN b QUEUE 600000"), Reply::Int(_)));
        release(it, "k", "a");
    });
    let waiter_is_undone =
        [("grants", 3), ("grants_after_wait", 2), ("releases", 1), ("released", 1), ("undone", 2)];
    counts(&mut client, &waiter_is_undone, |it| {
        acquire(it, "k TOKEN a PX 600000");
        let waiter = waits(&server, "2 k l TOKEN b PX 600000 BLOCK 0");
        it.run_all(&["LOCK.RELEASE k a", &format!("CLIENT KILL ID {}", waiter.id)]);
        wait_blocked(&server, 0);
    });
    let now = figures(&mut client, "lock");
    assert_eq!((now["keys"], now["holds"]), (0, 0));
}

#[test]
fn of_a_place_for_several_the_queues_count_it_and_the_server_once() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    assert!(matches!(client.run("LOCK.MACQUIRE 3 k l m TOKEN b QUEUE 600000"), Reply::Int(_)));
    assert!(matches!(client.run("LOCK.MACQUIRE 2 k x TOKEN c QUEUE 600000"), Reply::Int(_)));
    let now = figures(&mut client, "lock");
    assert_eq!((now["waiters_blocked"], now["waiters_queued"], now["longest_queue"]), (0, 2, 2), "{now:?}");
}

#[test]
fn commands_that_fail_count_nothing() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("SET s v");
    counts(&mut client, &[], |it| {
        for command in [
            "LOCK.MACQUIRE 2 k s",
            "LOCK.MACQUIRE 0 k",
            "LOCK.MRELEASE 2 k s a",
            "LOCK.MEXTEND 2 k s a",
            "LOCK.MACQUIRE 2 k l PX 0",
        ] {
            assert!(it.run(command).is_error(), "{command}");
        }
    });
}

/// As `docs/operations.md` has it: requests with the error DEADLOCK.
#[test]
fn a_token_that_holds_some_and_would_have_to_wait_is_a_deadlock() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    acquire(&mut client, "l TOKEN x PX 600000");
    counts(&mut client, &[("deadlocks", 1)], |it| errs(it, "2 k l TOKEN a BLOCK 0", "DEADLOCK "));
}
