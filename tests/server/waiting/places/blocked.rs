//! BLOCK with QUEUE: a wait on a connection that becomes a place when the connection is gone, the change from one to the
//! other and back, and a grant that nobody could be told.

use std::time::Duration;

use super::{
    CLAIM_LEASE_MS, DEFAULT_LEASE_MS, Listener, call_next, claim, entries, held, is_called, leases, lose,
    patient, place, ticket, tickets,
};
use crate::support::locks::{acquire, exists, field, holder, null, refused, remaining};
use crate::support::waiter::{assert_left_in_peace, blocked_clients, owners, release, wait_blocked, waiting};
use crate::support::{Client, Grant, PATIENCE, Reply, Server, Waiter, ok_grant, wait_until};

#[test]
fn who_is_granted_the_lock_while_it_waits_has_the_lease_it_asked_for() {
    for (options, lease_ms) in [("", DEFAULT_LEASE_MS), ("PX 600000", 600_000), ("PX 1000000", 1_000_000)] {
        let server = Server::start();
        let mut client = server.client();
        let mut listener = Listener::of(&server, "k");
        acquire(&mut client, "k TOKEN a");
        let mut waiter = Waiter::new(&server, &format!("k TOKEN b {options} BLOCK 0 QUEUE 600000"));
        release(&mut client, "k", "a");
        assert_eq!(waiter.granted().token, b"b");
        assert_eq!(leases(&mut client, "k"), [lease_ms], "{options}");
        listener.heard_nothing();
    }
}

#[test]
fn who_is_granted_the_lock_and_leaves_then_holds_it_on() {
    let (server, mut client) = held();
    let mut waiter = Waiter::new(&server, "k TOKEN b PX 600000 BLOCK 0 QUEUE 600000");
    release(&mut client, "k", "a");
    waiter.granted();
    lose(&server, "k", waiter);
    assert_eq!(leases(&mut client, "k"), [600_000]);
    assert!(remaining(&mut client, "k", "b") > Some(300_000));
}

#[test]
fn a_connection_that_closes_leaves_a_place_that_is_called() {
    let (server, mut client) = held();
    let waiter = Waiter::new(&server, "k TOKEN b PX 700000 BLOCK 600000 QUEUE 600000");
    let mut listener = Listener::of(&server, "k");
    lose(&server, "k", waiter);
    let number = tickets(&mut client, "k")[0].expect("a place");
    release(&mut client, "k", "a");
    listener.hears(number);
    assert_eq!(leases(&mut client, "k"), [600_000], "the lease of a call");
    claim(&mut client, "k TOKEN b PX 700000");
    assert_eq!(leases(&mut client, "k"), [700_000]);
}

#[test]
fn a_client_that_returns_on_another_connection_is_granted_there() {
    let (server, mut client) = held();
    for round in 0..5 {
        let waiter = Waiter::new(&server, "k TOKEN b BLOCK 0 QUEUE 600000");
        lose(&server, "k", waiter);
        assert_eq!(waiting(&mut client, "k"), 1, "round {round}");
    }
    let mut listener = Listener::of(&server, "k");
    let mut waiter = Waiter::new(&server, "k TOKEN b PX 700000 BLOCK 0 QUEUE 600000");
    release(&mut client, "k", "a");
    waiter.granted();
    assert_eq!(leases(&mut client, "k"), [700_000]);
    listener.heard_nothing();
}

#[test]
fn without_queue_a_connection_that_closes_still_takes_its_wait_along() {
    let (server, mut client) = held();
    let waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    lose(&server, "k", waiter);
    wait_until("it has left", PATIENCE, || waiting(&mut client, "k") == 0);
}

// --- granted, and gone before it was told

/// `a` gives the lock back and the waiter's connection ends, all in one iteration of the server's loop.
#[track_caller]
fn gone_before_it_was_told(commands: &[&str], options: &str) {
    let mut server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    let mut listener = Listener::of(&server, "k");
    let number = place(&mut client, &format!("k TOKEN b {options} QUEUE 600000"));
    let mut waiter = Waiter::new(&server, &format!("k TOKEN b {options} BLOCK 0 QUEUE 600000"));
    place(&mut client, "k TOKEN behind QUEUE 600000");
    let commands: Vec<String> =
        commands.iter().map(|it| it.replace("WAITER", &waiter.id.to_string())).collect();
    let replies = client.run_all(&commands.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(replies.iter().all(|reply| !reply.is_error()), "{replies:?}");
    waiter.closed();
    listener.hears(number);
    let hold = holder(&mut client, "k");
    let left = remaining(&mut client, "k", "b");
    assert!(left.is_some() && left <= Some(CLAIM_LEASE_MS), "{commands:?}: {left:?}");
    let grant = claim(&mut client, "k TOKEN b PX 600000");
    assert_eq!(field(&hold, "fence"), Reply::Int(grant.fence));
    assert!(remaining(&mut client, "k", "b") > Some(300_000));
    listener.heard_nothing();
    call_next(&mut client, "k", "b", "behind");
    server.assert_alive();
}

#[test]
fn a_grant_whose_client_is_killed_before_it_is_told_is_called() {
    for freeing in ["LOCK.RELEASE k a", "DEL k", "LOCK.BREAK k"] {
        for options in ["", "PX 80000000", "SHARED PX 4000"] {
            gone_before_it_was_told(&[freeing, "CLIENT KILL ID WAITER"], options);
            gone_before_it_was_told(&["MULTI", freeing, "CLIENT KILL ID WAITER", "EXEC"], options);
        }
    }
}

#[test]
fn a_client_that_is_killed_just_before_its_turn_is_called() {
    for freeing in ["LOCK.RELEASE k a", "DEL k"] {
        gone_before_it_was_told(&["CLIENT KILL ID WAITER", freeing], "PX 600000");
        gone_before_it_was_told(&["MULTI", "CLIENT KILL ID WAITER", freeing, "EXEC"], "");
    }
}

#[test]
fn a_grant_that_could_not_be_told_and_is_not_claimed_ends_and_the_next_is_served() {
    let server = Server::builder().config("lock.claim-lease 300").start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    let waiter = Waiter::new(&server, "k TOKEN b PX 600000 BLOCK 0 QUEUE 600000");
    let mut behind = Waiter::new(&server, "k TOKEN c BLOCK 0");
    client.run_all(&["LOCK.RELEASE k a", &format!("CLIENT KILL ID {}", waiter.id)]);
    behind.granted();
    assert_eq!(client.run("LOCK.CHECK k b"), null(&client));
}

#[test]
fn a_grant_that_could_not_be_told_is_called_where_its_lock_went() {
    for (goes, database, key) in [("MOVE k 1", 1, "k"), ("RENAME k l", 0, "l"), ("SWAPDB 0 1", 1, "k")] {
        let mut server = Server::start();
        let mut client = server.client();
        acquire(&mut client, "k TOKEN a PX 600000");
        let waiter = Waiter::new(&server, "k TOKEN b PX 600000 BLOCK 0 QUEUE 600000");
        client.run_all(&["LOCK.RELEASE k a", goes, &format!("CLIENT KILL ID {}", waiter.id)]);
        let mut observer = server.client();
        observer.ok(&format!("SELECT {database}"));
        let left = remaining(&mut observer, key, "b");
        assert!(left.is_some() && left <= Some(CLAIM_LEASE_MS), "{goes}: {left:?}");
        claim(&mut observer, &format!("{key} TOKEN b"));
        release(&mut observer, key, "b");
        server.assert_alive();
    }
}

/// Somebody else was told with its token before: the lease that began then is not cut.
#[test]
fn a_grant_that_was_claimed_before_its_client_is_killed_keeps_its_lease() {
    for claiming in [
        "LOCK.ACQUIRE k TOKEN b PX 700000",
        "LOCK.ACQUIRE k TOKEN b PX 700000 QUEUE 600000",
        "LOCK.EXTEND k b PX 700000",
    ] {
        for transaction in [false, true] {
            let server = Server::start();
            let mut client = server.client();
            acquire(&mut client, "k TOKEN a PX 600000");
            let mut waiter = Waiter::new(&server, "k TOKEN b PX 600000 BLOCK 0 QUEUE 600000");
            let kill = format!("CLIENT KILL ID {}", waiter.id);
            let mut commands = vec!["LOCK.RELEASE k a", claiming, &kill];
            if transaction {
                commands.insert(0, "MULTI");
                commands.push("EXEC");
            }
            let replies = client.run_all(&commands);
            assert!(replies.iter().all(|reply| !reply.is_error()), "{replies:?}");
            waiter.closed();
            wait_blocked(&server, 0);
            let left = remaining(&mut client, "k", "b");
            assert!(left > Some(600_000), "{claiming}, in a transaction {transaction}: {left:?}");
        }
    }
}

#[test]
fn a_grant_that_was_given_back_before_its_client_is_killed_is_not_called() {
    for giving_back in ["LOCK.RELEASE k b", "DEL k", "LOCK.BREAK k"] {
        let (server, mut client) = held();
        let mut listener = Listener::of(&server, "k");
        let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0 QUEUE 600000");
        let behind = place(&mut client, "k TOKEN c QUEUE 600000");
        let kill = format!("CLIENT KILL ID {}", waiter.id);
        client.run_all(&["MULTI", "LOCK.RELEASE k a", giving_back, &kill, "EXEC"]);
        waiter.closed();
        listener.hears(behind);
        listener.heard_nothing();
        assert_eq!(client.run("LOCK.CHECK k b"), null(&client), "{giving_back}");
        release(&mut client, "k", "c");
        assert_left_in_peace(&server, "k");
    }
}

/// More than the server answers in one iteration of its loop.
#[test]
fn a_crowd_of_readers_that_is_granted_and_killed_in_one_turn_is_called_to_the_last() {
    const CROWD: usize = 700;
    let (mut server, mut client) = held();
    let mut listener = Listener::of(&server, "k");
    let waiters: Vec<Client> = (0..CROWD)
        .map(|n| {
            let mut client = server.client();
            let request = format!("LOCK.ACQUIRE k TOKEN r{n} SHARED PX 700000 BLOCK 0 QUEUE 600000");
            client.send(&request.split(' ').collect::<Vec<_>>());
            client
        })
        .collect();
    wait_blocked(&server, CROWD);
    client.run_all(&["LOCK.RELEASE k a", "CLIENT KILL TYPE normal SKIPME yes"]);
    let mut called: Vec<i64> = (0..CROWD).map(|_| listener.ticket()).collect();
    called.sort_unstable();
    called.dedup();
    assert_eq!(called.len(), CROWD, "each once");
    listener.heard_nothing();
    assert_eq!(crate::support::locks::held(&mut client, "k"), 700);
    for n in 0..CROWD {
        let left = remaining(&mut client, "k", format!("r{n}"));
        assert!(left.is_some() && left <= Some(600_000), "r{n}: {left:?}");
    }
    drop(waiters);
    server.assert_alive();
}

/// What decides is the order in which the server looks at things; either way the lock is the waiter's.
#[test]
fn a_release_and_the_end_of_the_connection_in_one_turn_leave_the_lock_to_the_token() {
    for _ in 0..5 {
        let (mut server, mut client) = held();
        let waiter = Waiter::new(&server, "k TOKEN b BLOCK 0 QUEUE 600000");
        let mut behind = Waiter::new(&server, "k TOKEN c BLOCK 0");
        client.send(&["DEBUG", "SLEEP", "0.1"]);
        drop(waiter);
        client.send(&["LOCK.RELEASE", "k", "a"]);
        assert_eq!([client.read(), client.read()], [Reply::Simple("OK".into()), Reply::Int(1)]);
        claim(&mut client, "k TOKEN b");
        behind.assert_waiting(&server);
        release(&mut client, "k", "b");
        behind.granted();
        server.assert_alive();
    }
}

#[test]
fn a_release_and_an_unblocking_in_one_turn_leave_the_lock_to_the_token() {
    for commands in [
        ["LOCK.RELEASE k a", "CLIENT UNBLOCK WAITER TIMEOUT"],
        ["CLIENT UNBLOCK WAITER TIMEOUT", "LOCK.RELEASE k a"],
        ["DEL k", "CLIENT UNBLOCK WAITER"],
        ["CLIENT UNBLOCK WAITER", "DEL k"],
    ] {
        for transaction in [false, true] {
            let (mut server, mut client) = held();
            let mut listener = Listener::of(&server, "k");
            let mut waiter = Waiter::new(&server, "k TOKEN b PX 700000 BLOCK 0 QUEUE 600000");
            let mut commands = commands.map(|it| it.replace("WAITER", &waiter.id.to_string())).to_vec();
            if transaction {
                commands.insert(0, "MULTI".to_owned());
                commands.push("EXEC".to_owned());
            }
            client.run_all(&commands.iter().map(String::as_str).collect::<Vec<_>>());
            match waiter.reply() {
                told @ Reply::Int(_) => listener.hears(ticket(&told)),
                told => {
                    let (token, fence) = ok_grant(told);
                    assert_eq!(claim(&mut client, "k TOKEN b PX 700000"), Grant { token, fence });
                }
            }
            claim(&mut client, "k TOKEN b PX 700000");
            release(&mut client, "k", "b");
            assert_left_in_peace(&server, "k");
            server.assert_alive();
        }
    }
}

#[test]
fn a_wait_that_is_over_while_the_server_sleeps_and_a_release_right_behind_leave_the_lock_to_the_token() {
    for commands in [["DEBUG SLEEP 0.4", "LOCK.RELEASE k a"], ["LOCK.RELEASE k a", "DEBUG SLEEP 0.4"]] {
        let (server, mut client) = held();
        let mut listener = Listener::of(&server, "k");
        let mut waiter = server.client();
        waiter.send(&"LOCK.ACQUIRE k TOKEN b BLOCK 250 QUEUE 600000".split(' ').collect::<Vec<_>>());
        wait_until("it waits", PATIENCE, || waiting(&mut client, "k") == 1);
        client.run_all(&commands);
        match waiter.read() {
            told @ Reply::Int(_) => listener.hears(ticket(&told)),
            told => drop(ok_grant(told)),
        }
        claim(&mut client, "k TOKEN b");
    }
}

#[test]
fn many_clients_killed_at_once_leave_their_places_in_order() {
    const CROWD: usize = 50;
    let (mut server, mut client) = held();
    let _waiters: Vec<Waiter> = (0..CROWD)
        .map(|n| Waiter::new(&server, &format!("k TOKEN w{n} OWNER w{n} BLOCK 0 QUEUE 600000")))
        .collect();
    client.run_all(&["LOCK.RELEASE k a", "CLIENT KILL TYPE normal SKIPME yes"]);
    wait_blocked(&server, 0);
    let mut observer = server.client();
    for n in 0..CROWD {
        assert!(is_called(&mut observer, "k", &format!("w{n}")), "w{n}");
        release(&mut observer, "k", format!("w{n}"));
    }
    assert_left_in_peace(&server, "k");
    server.assert_alive();
}

#[test]
fn readers_granted_together_of_whom_some_are_killed_are_all_granted() {
    let (mut server, mut client) = held();
    let mut waiters: Vec<Waiter> = (0..6)
        .map(|n| {
            Waiter::new(&server, &format!("k TOKEN r{n} OWNER r{n} SHARED PX 700000 BLOCK 0 QUEUE 600000"))
        })
        .collect();
    let mut listener = Listener::of(&server, "k");
    let kills = [1, 4].map(|n: usize| format!("CLIENT KILL ID {}", waiters[n].id));
    client.run_all(&["LOCK.RELEASE k a", &kills[0], &kills[1]]);
    for (n, waiter) in waiters.iter_mut().enumerate() {
        if [1, 4].contains(&n) {
            waiter.closed();
        } else {
            waiter.granted();
        }
    }
    let called = [listener.ticket(), listener.ticket()];
    assert!(called[0] < called[1], "{called:?}");
    listener.heard_nothing();
    let due = [700_000, 600_000, 700_000, 700_000, 600_000, 700_000];
    let mut shown = leases(&mut client, "k");
    assert_eq!(shown.len(), due.len());
    shown.sort_unstable();
    let mut due = due.to_vec();
    due.sort_unstable();
    assert_eq!(shown, due);
    (0..6).for_each(|n| drop(claim(&mut client, &format!("k TOKEN r{n} SHARED"))));
    server.assert_alive();
}

// --- taken over

#[test]
fn a_repeat_with_both_takes_over_and_the_older_connection_is_told_the_ticket() {
    let (server, mut client) = held();
    let first = place(&mut client, "k TOKEN b OWNER b QUEUE 600000");
    place(&mut client, "k TOKEN c OWNER c QUEUE 600000");
    let mut last = Waiter::new(&server, "k TOKEN b OWNER b BLOCK 0 QUEUE 600000");
    for _ in 0..5 {
        let next = Waiter::new(&server, "k TOKEN b OWNER b BLOCK 0 QUEUE 600000");
        assert_eq!(ticket(&last.reply()), first);
        last = next;
    }
    assert_eq!(owners(&mut client, "k").1, ["b", "c"]);
    assert_eq!(blocked_clients(&mut client), 1);
    release(&mut client, "k", "a");
    last.granted();
}

#[test]
fn a_repeat_with_queue_alone_takes_over_and_no_connection_waits_any_more() {
    let (server, mut client) = held();
    let mut older = Waiter::new(&server, "k TOKEN b BLOCK 0 QUEUE 600000");
    let first = place(&mut client, "k TOKEN b QUEUE 600000");
    assert_eq!(ticket(&older.reply()), first);
    assert_eq!(blocked_clients(&mut client), 0);
    assert_eq!(tickets(&mut client, "k"), [Some(first)]);
    let mut listener = Listener::of(&server, "k");
    release(&mut client, "k", "a");
    listener.hears(first);
}

#[test]
fn who_waited_without_queue_is_told_null_when_a_place_takes_over() {
    let (server, mut client) = held();
    for connection in [server.client(), server.client3()] {
        let mut older = Waiter::on(&server, connection, "k TOKEN b BLOCK 0");
        let first = place(&mut client, "k TOKEN b QUEUE 600000");
        older.refused();
        assert_eq!(tickets(&mut client, "k"), [Some(first)]);
        assert_eq!(client.run("LOCK.RELEASE k b"), Reply::Int(0));
    }
}

#[test]
fn a_repeat_with_block_alone_takes_over_and_ends_with_block() {
    let (server, mut client) = held();
    let first = place(&mut client, "k TOKEN b QUEUE 600000");
    refused(&mut client, "k TOKEN b BLOCK 30");
    assert_eq!(waiting(&mut client, "k"), 0, "as BLOCK alone does");
    let mut older = Waiter::new(&server, "k TOKEN b BLOCK 0 QUEUE 600000");
    let newer = Waiter::new(&server, "k TOKEN b BLOCK 0");
    assert!(ticket(&older.reply()) > first, "it had QUEUE");
    lose(&server, "k", newer);
    wait_until("it takes the place along", PATIENCE, || waiting(&mut client, "k") == 0);
}

#[test]
fn a_repeat_with_block_alone_is_granted_in_the_turn_of_the_place() {
    let (server, mut client) = held();
    place(&mut client, "k TOKEN b QUEUE 600000");
    place(&mut client, "k TOKEN c QUEUE 600000");
    let mut waiter = Waiter::new(&server, "k TOKEN b PX 700000 BLOCK 0");
    let mut listener = Listener::of(&server, "k");
    release(&mut client, "k", "a");
    waiter.granted();
    assert_eq!(leases(&mut client, "k"), [700_000]);
    listener.heard_nothing();
}

#[test]
fn who_asks_for_less_and_is_granted_it_at_once_ends_the_older_wait_as_any_repeat_does() {
    for (older, newer) in [("BLOCK 0 QUEUE 600000", "QUEUE 600000"), ("BLOCK 0", "BLOCK 0 QUEUE 600000")] {
        let server = patient();
        let mut client = server.client();
        acquire(&mut client, "k TOKEN r SHARED PX 600000");
        let mut waiter = Waiter::new(&server, &format!("k TOKEN b {older}"));
        let mut listener = Listener::of(&server, "k");
        let grant = claim(&mut client, &format!("k TOKEN b SHARED PX 700000 {newer}"));
        let told = waiter.reply();
        if older.contains("QUEUE") {
            ticket(&told);
        } else {
            assert_eq!(told, null(&waiter.client));
        }
        assert_eq!(leases(&mut client, "k"), [600_000, 700_000]);
        assert_eq!(waiting(&mut client, "k"), 0);
        assert_eq!(claim(&mut client, "k TOKEN b PX 700000"), grant);
        listener.heard_nothing();
    }
}

#[test]
fn a_repeat_with_neither_leaves_the_older_request_waiting() {
    let (server, mut client) = held();
    let mut older = Waiter::new(&server, "k TOKEN b BLOCK 0 QUEUE 600000");
    refused(&mut client, "k TOKEN b");
    older.assert_waiting(&server);
    release(&mut client, "k", "a");
    older.granted();
}

#[test]
fn a_release_of_its_token_tells_a_blocked_client_null() {
    let (server, mut client) = held();
    for protocol in [2, 3] {
        let waiting_client = if protocol == 2 { server.client() } else { server.client3() };
        let mut waiter = Waiter::on(&server, waiting_client, "k TOKEN b BLOCK 0 QUEUE 600000");
        assert_eq!(client.run("LOCK.RELEASE k b"), Reply::Int(0));
        waiter.refused();
        assert_eq!(waiting(&mut client, "k"), 0);
        waiter.client.run("PING");
    }
}

#[test]
fn the_end_of_block_and_a_repeat_go_on_as_one_place_until_the_turn_comes() {
    let (server, mut client) = held();
    let mut polling = server.client();
    let first = place(&mut polling, "k TOKEN b BLOCK 10 QUEUE 600000");
    place(&mut client, "k TOKEN c QUEUE 600000");
    for _ in 0..20 {
        assert_eq!(place(&mut polling, "k TOKEN b BLOCK 10 QUEUE 600000"), first);
    }
    let waiter = {
        let mut waiter = Waiter::on(&server, polling, "k TOKEN b PX 700000 BLOCK 0 QUEUE 600000");
        release(&mut client, "k", "a");
        waiter.granted();
        waiter
    };
    drop(waiter);
    assert_eq!(leases(&mut client, "k"), [700_000]);
    call_next(&mut client, "k", "b", "c");
}

#[test]
fn an_upgrade_whose_connection_breaks_waits_on_ahead_of_the_queue() {
    let server = patient();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a SHARED PX 900000");
    acquire(&mut client, "k TOKEN b SHARED PX 900000");
    place(&mut client, "k TOKEN w QUEUE 600000");
    let upgrade = Waiter::new(&server, "k TOKEN a LIMIT 1 PX 700000 BLOCK 0 QUEUE 600000");
    lose(&server, "k", upgrade);
    assert_eq!(entries(&mut client, "k").len(), 2);
    release(&mut client, "k", "b");
    let hold = holder(&mut client, "k");
    assert_eq!(field(&hold, "limit"), Reply::Int(1));
    assert!(field(&hold, "remaining").int() > 600_000, "never shorter: {hold:?}");
    assert!(!is_called(&mut client, "k", "w"));
}

/// The hold was there before it asked, so it stays, and its lease is not cut.
#[test]
fn an_upgrade_that_could_not_be_told_keeps_the_lease_of_its_hold() {
    let server = Server::builder().config("lock.claim-lease 30000").start();
    let mut client = server.client();
    let first = acquire(&mut client, "k TOKEN a SHARED PX 600000");
    acquire(&mut client, "k TOKEN b SHARED PX 600000");
    let number = place(&mut client, "k TOKEN a LIMIT 1 PX 500000 QUEUE 600000");
    let upgrade = Waiter::new(&server, "k TOKEN a LIMIT 1 PX 500000 BLOCK 0 QUEUE 600000");
    let mut listener = Listener::of(&server, "k");
    client.run_all(&["LOCK.RELEASE k b", &format!("CLIENT KILL ID {}", upgrade.id)]);
    listener.hears(number);
    assert_eq!(field(&holder(&mut client, "k"), "limit"), Reply::Int(1), "it is not undone");
    assert!(remaining(&mut client, "k", "a") > Some(300_000));
    assert_eq!(field(&holder(&mut client, "k"), "fence"), Reply::Int(first.fence));
}

#[test]
fn a_connection_goes_on_after_its_wait_as_any_other() {
    let (server, mut client) = held();
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0 QUEUE 600000");
    waiter.client.send(&["ECHO", "behind"]);
    assert!(!waiter.client.has_reply_within(Duration::from_millis(50)), "it waits");
    client.run(&format!("CLIENT UNBLOCK {}", waiter.id));
    ticket(&waiter.client.read());
    assert_eq!(waiter.client.read(), Reply::Bulk(b"behind".to_vec()));
    let mut again: Client = waiter.client;
    claim_when_released(&mut client, &mut again);
}

#[track_caller]
fn claim_when_released(client: &mut Client, again: &mut Client) {
    call_next(client, "k", "a", "b");
    claim(again, "k TOKEN b");
    release(again, "k", "b");
    assert!(!exists(client, "k"));
}
