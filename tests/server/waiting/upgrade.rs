//! A token that asks again while it waits or holds: its place in the queue, its count, and another limit.

use crate::support::locks::{acquire, field, holder, holders, refused, remaining, standing};
use crate::support::waiter::{assert_left_in_peace, owners, release, shorten, wait_blocked};
use crate::support::{Client, PATIENCE, Reply, Server, Waiter, cmd, wait_until};

// --- a token that waits already

#[test]
fn a_token_that_waits_already_takes_over_its_older_place() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a OWNER a");
    let mut old = Waiter::new(&server, "k TOKEN b OWNER old BLOCK 0");
    let mut behind = Waiter::new(&server, "k TOKEN c OWNER behind BLOCK 0");
    let mut new = Waiter::new(&server, "k TOKEN b OWNER new BLOCK 0");
    old.refused();
    assert_eq!(owners(&mut client, "k").1, ["new", "behind"]);
    wait_blocked(&server, 2);
    release(&mut client, "k", "a");
    assert_eq!(new.granted().token, b"b");
    behind.assert_waiting(&server);
    release(&mut client, "k", "b");
    behind.granted();
    release(&mut client, "k", "c");
    assert_left_in_peace(&server, "k");
}

#[test]
fn who_takes_a_place_over_brings_terms_of_its_own() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut old = Waiter::new(&server, "k TOKEN b PX 10000 BLOCK 60000");
    let mut new = Waiter::new(&server, "k TOKEN b PX 20000 SHARED BLOCK 0");
    old.refused();
    let queue = field(&client.run("LOCK.INFO k"), "queue");
    assert_eq!(field(&queue.items()[0], "limit"), Reply::Int(0));
    assert_eq!(field(&queue.items()[0], "timeout"), Reply::Int(-1));
    release(&mut client, "k", "a");
    new.granted();
    assert_eq!(field(&holder(&mut client, "k"), "lease"), Reply::Int(20_000));
}

#[test]
fn the_same_token_many_times_over_is_one_place() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut last = Waiter::new(&server, "k TOKEN b OWNER b BLOCK 0");
    for _ in 0..10 {
        let next = Waiter::new(&server, "k TOKEN b OWNER b BLOCK 0");
        last.refused();
        last = next;
    }
    assert_eq!(owners_waiting(&mut client), ["b"]);
    release(&mut client, "k", "a");
    last.granted();
    release(&mut client, "k", "b");
    assert_left_in_peace(&server, "k");
}

#[test]
fn who_has_taken_a_place_over_and_gives_up_leaves_no_place() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a OWNER a");
    let mut old = Waiter::new(&server, "k TOKEN b OWNER b BLOCK 0");
    let mut behind = Waiter::new(&server, "k TOKEN c OWNER c BLOCK 0");
    let new = Waiter::new(&server, "k TOKEN b OWNER b BLOCK 0");
    old.refused();
    drop(new);
    wait_until("it has left", PATIENCE, || owners(&mut client, "k").1 == ["c"]);
    release(&mut client, "k", "a");
    behind.granted();
    release(&mut client, "k", "c");
    assert_left_in_peace(&server, "k");
}

// --- a token that holds already

#[test]
fn a_token_that_holds_is_granted_at_once_whoever_waits() {
    let server = Server::start();
    let mut client = server.client();
    let first = acquire(&mut client, "k TOKEN a PX 60000");
    let waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    for options in ["", "BLOCK 0", "LIMIT 1 BLOCK 100", "PX 70000", "OWNER me"] {
        assert_eq!(acquire(&mut client, &format!("k TOKEN a {options}")), first, "{options}");
    }
    waiter.assert_waiting(&server);
    assert_eq!(field(&holder(&mut client, "k"), "level"), Reply::Int(1));
}

// --- another limit

#[test]
fn a_reader_becomes_the_writer_once_it_is_alone_ahead_of_the_queue() {
    let server = Server::start();
    let mut client = server.client();
    let first = acquire(&mut client, "k SHARED TOKEN a OWNER a PX 60000");
    acquire(&mut client, "k SHARED TOKEN b OWNER b");
    acquire(&mut client, "k SHARED TOKEN c OWNER c");
    let mut writer = Waiter::new(&server, "k TOKEN w OWNER w BLOCK 0");
    let mut upgrader = Waiter::new(&server, "k TOKEN a LIMIT 1 PX 70000 BLOCK 0");
    assert_eq!(owners(&mut client, "k").0, ["a", "b", "c"], "it goes on reading while it waits");
    release(&mut client, "k", "b");
    upgrader.assert_waiting(&server);
    release(&mut client, "k", "c");
    assert_eq!(upgrader.granted(), first, "same token, same fence");
    writer.assert_waiting(&server);
    let hold = holder(&mut client, "k");
    assert_eq!(field(&hold, "limit"), Reply::Int(1));
    assert_eq!(field(&hold, "lease"), Reply::Int(70_000));
    release(&mut client, "k", "a");
    writer.granted();
}

#[test]
fn while_an_upgrade_waits_no_new_reader_enters() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k SHARED TOKEN a");
    acquire(&mut client, "k SHARED TOKEN b");
    let mut upgrader = Waiter::new(&server, "k TOKEN a LIMIT 1 BLOCK 0");
    refused(&mut client, "k SHARED TOKEN c");
    let mut reader = Waiter::new(&server, "k SHARED TOKEN d BLOCK 0");
    reader.assert_waiting(&server);
    release(&mut client, "k", "b");
    upgrader.granted();
    reader.assert_waiting(&server);
    release(&mut client, "k", "a");
    reader.granted();
}

#[test]
fn a_reader_that_is_alone_becomes_the_writer_at_once_whoever_waits() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k SHARED TOKEN a");
    let mut writer = Waiter::new(&server, "k TOKEN w BLOCK 0");
    acquire(&mut client, "k TOKEN a LIMIT 1 BLOCK 0");
    writer.assert_waiting(&server);
    release(&mut client, "k", "a");
    writer.granted();
}

#[test]
fn a_second_upgrade_could_never_be_served_and_is_told_so_at_once() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k SHARED TOKEN a");
    acquire(&mut client, "k SHARED TOKEN b");
    acquire(&mut client, "k SHARED TOKEN c");
    let mut upgrader = Waiter::new(&server, "k TOKEN a LIMIT 1 BLOCK 0");
    for block in ["BLOCK 0", "BLOCK 60000"] {
        let reply = client.run(&format!("LOCK.ACQUIRE k TOKEN b LIMIT 1 {block}"));
        assert!(reply.error().starts_with("DEADLOCK "), "{reply:?}");
    }
    refused(&mut client, "k TOKEN b LIMIT 1");
    upgrader.assert_waiting(&server);
    assert_eq!(holders(&mut client, "k").len(), 3, "and it goes on reading");
    release(&mut client, "k", "b");
    release(&mut client, "k", "c");
    upgrader.granted();
}

#[test]
fn after_an_upgrade_was_given_up_another_may_wait_for_its_own() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k SHARED TOKEN a");
    acquire(&mut client, "k SHARED TOKEN b");
    let mut first = Waiter::new(&server, "k TOKEN a LIMIT 1 BLOCK 0");
    assert_eq!(client.run(&format!("CLIENT UNBLOCK {}", first.id)), Reply::Int(1));
    first.refused();
    let mut second = Waiter::new(&server, "k TOKEN b LIMIT 1 BLOCK 0");
    release(&mut client, "k", "a");
    second.granted();
}

#[test]
fn the_same_token_may_ask_for_its_upgrade_again() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k SHARED TOKEN a");
    acquire(&mut client, "k SHARED TOKEN b");
    let mut old = Waiter::new(&server, "k TOKEN a LIMIT 1 BLOCK 0");
    let mut new = Waiter::new(&server, "k TOKEN a LIMIT 1 BLOCK 0");
    old.refused();
    release(&mut client, "k", "b");
    new.granted();
    assert_eq!(field(&holder(&mut client, "k"), "limit"), Reply::Int(1));
}

#[test]
fn a_writer_becomes_a_reader_at_once_and_lets_readers_in() {
    let server = Server::start();
    let mut client = server.client();
    let first = acquire(&mut client, "k TOKEN a OWNER a");
    let mut readers =
        [1, 2].map(|n| Waiter::new(&server, &format!("k SHARED TOKEN r{n} OWNER r{n} BLOCK 0")));
    let writer = Waiter::new(&server, "k TOKEN w OWNER w BLOCK 0");
    let late = Waiter::new(&server, "k SHARED TOKEN late OWNER late BLOCK 0");
    assert_eq!(acquire(&mut client, "k TOKEN a SHARED"), first);
    readers.iter_mut().for_each(|reader| drop(reader.granted()));
    let (holding, waiting) = owners(&mut client, "k");
    assert_eq!(holding, ["a", "r1", "r2"]);
    assert_eq!(waiting, ["w", "late"]);
    writer.assert_waiting(&server);
    late.assert_waiting(&server);
}

#[test]
fn a_wider_limit_lets_as_many_in_as_it_says() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a OWNER a");
    let mut waiters =
        [1, 2, 3].map(|n| Waiter::new(&server, &format!("k LIMIT 3 TOKEN w{n} OWNER w{n} BLOCK 0")));
    acquire(&mut client, "k TOKEN a LIMIT 3");
    waiters[0].granted();
    waiters[1].granted();
    waiters[2].assert_waiting(&server);
    assert_eq!(owners(&mut client, "k").0, ["a", "w1", "w2"]);
}

#[test]
fn an_upgrade_whose_time_is_over_leaves_the_hold_as_it_was() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k SHARED TOKEN a PX 60000 OWNER me");
    acquire(&mut client, "k SHARED TOKEN b PX 60000");
    let before = standing(&mut client, "k");
    refused(&mut client, "k TOKEN a LIMIT 1 PX 5 OWNER you BLOCK 100");
    assert_eq!(standing(&mut client, "k"), before);
    assert!(remaining(&mut client, "k", "a") > Some(30_000));
    acquire(&mut client, "k SHARED TOKEN c");
}

/// Every other end of its wait does no more.
#[test]
fn an_upgrade_that_is_unblocked_killed_or_left_leaves_the_hold_as_it_was() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k SHARED TOKEN a PX 600000 OWNER me");
    acquire(&mut client, "k SHARED TOKEN b PX 600000");
    let before = standing(&mut client, "k");
    for end in ["CLIENT UNBLOCK", "CLIENT KILL ID", "leave"] {
        let upgrader = Waiter::new(&server, "k TOKEN a LIMIT 1 PX 5 OWNER you BLOCK 0");
        match end {
            "leave" => drop(upgrader),
            _ => assert_eq!(client.run(&format!("{end} {}", upgrader.id)), Reply::Int(1)),
        }
        wait_blocked(&server, 0);
        assert_eq!(standing(&mut client, "k"), before, "{end}");
        assert!(remaining(&mut client, "k", "a") > Some(300_000), "{end}");
    }
    acquire(&mut client, "k SHARED TOKEN c");
}

/// What it waits for is then no longer a change of its hold but a lock like any other: it is granted one of its own.
#[test]
fn an_upgrader_whose_own_hold_ends_meanwhile_is_still_answered() {
    for end in ["LOCK.EXTEND k a PX 50", "BREAK", "DEL k"] {
        let server = Server::start();
        let mut client = server.client();
        let first = acquire(&mut client, "k SHARED TOKEN a PX 600000 OWNER a");
        acquire(&mut client, "k SHARED TOKEN b PX 600000 OWNER b");
        let mut upgrader = Waiter::new(&server, "k TOKEN a OWNER upgraded LIMIT 1 BLOCK 0");
        let end = if end == "BREAK" { format!("LOCK.BREAK k FENCE {}", first.fence) } else { end.to_owned() };
        assert_eq!(client.run(&end), Reply::Int(1), "{end}");
        if end != "DEL k" {
            wait_until("its hold has ended", PATIENCE, || owners(&mut client, "k").0 == ["b"]);
            upgrader.assert_waiting(&server);
            release(&mut client, "k", "b");
        }
        let grant = upgrader.granted();
        assert!(grant.fence > first.fence, "{end}: a new hold has a new fence");
        assert_eq!(owners(&mut client, "k").0, ["upgraded"], "{end}");
        release(&mut client, "k", "a");
        assert_left_in_peace(&server, "k");
    }
}

#[test]
fn an_upgrade_is_served_when_the_other_readers_leases_end() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k SHARED TOKEN a PX 60000");
    acquire(&mut client, "k SHARED TOKEN b PX 60000");
    acquire(&mut client, "k SHARED TOKEN c PX 60000");
    let mut upgrader = Waiter::new(&server, "k TOKEN a LIMIT 1 BLOCK 0");
    shorten(&mut client, "k", "b", 100);
    shorten(&mut client, "k", "c", 200);
    upgrader.granted();
    assert_eq!(holders(&mut client, "k").len(), 1);
}

#[test]
fn an_upgrade_is_served_when_the_other_readers_connections_end() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k SHARED TOKEN a PX 600000");
    let mut session = server.client();
    acquire(&mut session, "k SHARED TOKEN b PX 600000 SESSION");
    let mut upgrader = Waiter::new(&server, "k TOKEN a LIMIT 1 BLOCK 0");
    drop(session);
    upgrader.granted();
    assert_eq!(holders(&mut client, "k").len(), 1);
}

#[test]
fn in_a_transaction_or_script_an_upgrade_does_not_wait_and_is_no_deadlock() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k SHARED TOKEN a");
    acquire(&mut client, "k SHARED TOKEN b");
    let _upgrader = Waiter::new(&server, "k TOKEN a LIMIT 1 BLOCK 0");
    let replies = client.run_all(&["MULTI", "LOCK.ACQUIRE k TOKEN b LIMIT 1 BLOCK 0", "EXEC"]);
    assert_eq!(replies[2].items()[0], Reply::NullArray);
    let script = "return redis.call('LOCK.ACQUIRE', KEYS[1], 'TOKEN', 'b', 'LIMIT', 1, 'BLOCK', 0)";
    assert!(client.call(&cmd!["EVAL", script, 1, "k"]).is_null());
}

#[track_caller]
fn owners_waiting(client: &mut Client) -> Vec<String> {
    field(&client.run("LOCK.INFO k"), "queue")
        .items()
        .iter()
        .map(|entry| field(entry, "owner").text())
        .collect()
}
