//! Several locks that are freed together go over in one step with what freed them, as one lock does: no command comes
//! between. And whoever is first at a key it can have is served at once, whatever made it the first.

use std::time::Instant;

use super::{all, assert_free, holds, release_all, waiting, waits};
use crate::support::locks::{acquire, exists};
use crate::support::waiter::release;
use crate::support::{Client, Reply, Server, Waiter, at_once, cmd};

// --- nobody comes between

/// Commands that free k and l of `a`, both of them in one turn of the server's loop.
const FREE_BOTH: [&[&str]; 6] = [
    &["LOCK.MRELEASE 2 k l a"],
    &["LOCK.MRELEASE 2 l k a"],
    &["LOCK.RELEASE k a", "LOCK.RELEASE l a"],
    &["LOCK.RELEASE l a", "LOCK.RELEASE k a"],
    &["LOCK.BREAK k", "LOCK.BREAK l"],
    &["LOCK.GUARD k a LOCK.MRELEASE 2 k l a"],
];

/// k and l are held by `a`, and `b` waits for both.
#[track_caller]
fn waited_for() -> (Server, Client, Waiter) {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a");
    let waiter = waits(&server, "2 k l TOKEN b BLOCK 0");
    (server, client, waiter)
}

#[test]
fn old_clients_never_find_a_key_free_between_a_release_of_both_and_the_grant() {
    for free in FREE_BOTH {
        for key in ["k", "l"] {
            let (_server, mut client, mut waiter) = waited_for();
            let set = format!("SET {key} v NX");
            let replies = client.run_all(&[free, &[&set]].concat());
            assert_eq!(replies.last(), Some(&Reply::NullBulk), "{free:?}: {key} was free");
            waiter.granted();
        }
    }
}

#[test]
fn in_a_transaction_the_next_command_finds_the_locks_granted() {
    for free in FREE_BOTH {
        let (_server, mut client, mut waiter) = waited_for();
        let look = &["EXISTS k l", "LOCK.CHECK k b", "LOCK.CHECK l b", "EXEC"];
        let replies = client.run_all(&[&["MULTI"], free, look].concat());
        let results = &replies.last().unwrap().items()[free.len()..];
        assert_eq!(results[0], Reply::Int(2), "{free:?}: {results:?}");
        assert!(results[1..].iter().all(|reply| !reply.is_null()), "{free:?}: {results:?}");
        waiter.granted();
    }
}

#[test]
fn in_a_script_the_next_command_finds_the_locks_granted() {
    let (_server, mut client, mut waiter) = waited_for();
    let script = "return {redis.call('LOCK.MRELEASE', 2, KEYS[1], KEYS[2], 'a'), redis.call('EXISTS', KEYS[1], KEYS[2])}";
    let reply = client.call(&cmd!["EVAL", script, 2, "k", "l"]);
    assert_eq!(reply, Reply::Array(vec![Reply::Int(2), Reply::Int(2)]));
    waiter.granted();
}

#[test]
fn who_was_granted_both_can_use_them_in_the_same_turn() {
    for (command, due) in [
        ("LOCK.MEXTEND 2 k l b PX 60000", Reply::Int(2)),
        ("LOCK.MRELEASE 2 k l b", Reply::Int(2)),
        ("LOCK.RELEASE l b", Reply::Int(1)),
        ("LOCK.EXTEND k b", Reply::Int(1)),
        ("LOCK.GUARD l b SET x 1", Reply::Simple("OK".into())),
        ("LOCK.BREAK k", Reply::Int(1)),
    ] {
        let (_server, mut client, _waiter) = waited_for();
        let replies = client.run_all(&["LOCK.MRELEASE 2 k l a", command]);
        assert_eq!(replies[1], due, "{command}");
    }
}

#[test]
fn in_one_turn_a_release_frees_and_gives_up() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a");
    let mut waiter = waits(&server, "2 k l TOKEN b BLOCK 0");
    let mut next = waits(&server, "2 k l TOKEN c BLOCK 0");
    let replies = client.run_all(&[
        "MULTI",
        "LOCK.MRELEASE 2 k l a",
        "LOCK.MRELEASE 2 k l b",
        "LOCK.CHECK l c",
        "EXEC",
    ]);
    let results = replies[4].items();
    assert_eq!(results[..2], [Reply::Int(2), Reply::Int(2)], "it was granted all, and gave all back");
    assert!(!results[2].is_null(), "and the next has them: {results:?}");
    waiter.granted();
    next.granted();
    release_all(&mut client, "2 k l c");
    assert_free(&server, &["k", "l"]);
}

/// Granted, broken and granted to the next before the first was told.
#[test]
fn in_one_turn_locks_can_go_from_hand_to_hand() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a");
    let mut one = waits(&server, "2 k l TOKEN b BLOCK 0");
    let mut two = waits(&server, "2 k l TOKEN c BLOCK 0");
    let mut three = waits(&server, "2 k l TOKEN d BLOCK 0");
    client.run_all(&["MULTI", "LOCK.MRELEASE 2 k l a", "LOCK.BREAK k", "LOCK.BREAK l", "DEL k l", "EXEC"]);
    let fences_told = [&mut one, &mut two, &mut three].map(|waiter| waiter.granted().fence);
    assert!(fences_told.is_sorted(), "{fences_told:?}");
    assert_eq!(holds(&mut client, &["k", "l"], "d"), ["k", "l"]);
    release_all(&mut client, "2 k l d");
    assert!(!exists(&mut client, "k"));
}

// --- whoever comes to be the first

#[test]
fn who_asks_for_other_keys_lets_in_those_behind_it_at_a_key_it_names_again() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    acquire(&mut client, "m TOKEN a");
    let mut older = waits(&server, "2 k l TOKEN b BLOCK 0");
    let mut behind = Waiter::new(&server, "l TOKEN c BLOCK 0");
    let mut newer = waits(&server, "2 l m TOKEN b BLOCK 0");
    older.refused();
    behind.granted();
    assert_eq!(waiting(&mut client, "k"), 0);
    newer.assert_waiting(&server);
    release(&mut client, "m", "a");
    newer.assert_waiting(&server);
    release(&mut client, "l", "c");
    newer.granted();
}

#[test]
fn who_asks_for_more_lets_in_those_behind_it_who_can_have_what_they_ask_for() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut older = waits(&server, "2 k l TOKEN b BLOCK 0");
    let mut behind = Waiter::new(&server, "l TOKEN c BLOCK 0");
    let newer = waits(&server, "3 k l m TOKEN b BLOCK 0");
    older.refused();
    behind.granted();
    newer.assert_waiting(&server);
}

#[test]
fn who_waited_for_one_and_asks_for_several_lets_in_those_behind_it() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a SHARED");
    acquire(&mut client, "l TOKEN a");
    let mut older = Waiter::new(&server, "k TOKEN b BLOCK 0");
    let mut reader = Waiter::new(&server, "k TOKEN c SHARED BLOCK 0");
    let newer = waits(&server, "2 k l TOKEN b BLOCK 0");
    older.refused();
    reader.granted();
    newer.assert_waiting(&server);
}

#[test]
fn a_place_that_is_asked_for_anew_lets_in_those_behind_it() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    assert!(client.run("LOCK.MACQUIRE 2 k l TOKEN b QUEUE 600000").int() > 0);
    let mut behind = Waiter::new(&server, "l TOKEN c BLOCK 0");
    assert!(client.run("LOCK.MACQUIRE 3 k l m TOKEN b QUEUE 600000").int() > 0);
    behind.granted();
    assert_eq!(waiting(&mut client, "m"), 1);
}

/// The newer request is granted at once; the older one leaves the queue of another key.
#[test]
fn who_is_granted_other_keys_lets_in_those_behind_it_at_the_keys_it_leaves() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "h TOKEN a");
    let mut older = waits(&server, "3 h k l TOKEN b BLOCK 0");
    let mut at_k = Waiter::new(&server, "k TOKEN c BLOCK 0");
    let mut at_l = Waiter::new(&server, "l TOKEN d BLOCK 0");
    all(&mut client, "2 l2 m TOKEN e");
    let newer = waits(&server, "2 l m TOKEN b BLOCK 0");
    older.refused();
    at_k.granted();
    at_l.granted();
    newer.assert_waiting(&server);
    assert_eq!(holds(&mut client, &["h", "k", "l", "m"], "b"), [""; 0]);
    release(&mut client, "k", "c");
}

// --- commands that the server runs late

/// Redis 7.0 runs what stood behind a blocking command after the module's last look at the turn; the clockwork ticks once a
/// second here. The other one is of a single lock: the same must be true of it.
#[test]
fn what_runs_behind_a_blocked_command_serves_who_waits_for_several_at_once() {
    let server = Server::builder().config("hz 1").config("dynamic-hz no").start();
    let mut client = server.client();
    for freeing in
        ["LOCK.MRELEASE 2 k l a", "LOCK.RELEASE l a", "DEL k l", "FLUSHDB", "LOCK.BREAK l", "RENAME l x"]
    {
        let keys = if freeing.contains(" l") && !freeing.contains("k l") { "1 l" } else { "2 k l" };
        at_once(freeing, || {
            all(&mut client, &format!("{keys} TOKEN a"));
            let mut waiter = waits(&server, "2 k l TOKEN b BLOCK 0");
            let mut behind = waits(&server, "2 l m TOKEN c BLOCK 0");
            let mut pipe = server.client();
            for command in ["PING", "BLPOP nothing 0.04", freeing] {
                pipe.send(&command.split(' ').collect::<Vec<_>>());
            }
            let replies = [pipe.read(), pipe.read(), pipe.read()];
            assert!(!replies[2].is_error(), "{freeing}: {replies:?}");
            let freed = Instant::now();
            waiter.granted();
            let delay = freed.elapsed();
            release_all(&mut client, "2 k l b");
            behind.granted();
            client.run("FLUSHALL");
            delay
        });
    }
}

// --- one grant makes the next possible

/// Readers who ask for different keys, one of which all have in common: a release of that lets all of them in.
#[track_caller]
fn all_enter(requests: &[&str]) {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut readers: Vec<Waiter> =
        requests.iter().map(|keys| waits(&server, &format!("{keys} SHARED BLOCK 15000"))).collect();
    release(&mut client, "k", "a");
    let told: Vec<bool> = readers.iter_mut().map(|reader| reader.granted_or_refused().is_some()).collect();
    assert!(told.iter().all(|granted| *granted), "{requests:?}: granted were {told:?}");
}

#[test]
fn readers_of_the_same_keys_enter_together() {
    all_enter(&["2 k l", "2 k l", "2 l k", "2 k l"]);
}

#[test]
fn readers_enter_together_with_one_of_another_key_between_them() {
    all_enter(&["2 k l", "2 k m", "2 k l"]);
}

#[test]
fn readers_enter_together_with_one_of_a_single_key_between_them() {
    all_enter(&["2 k l", "1 k", "2 k l"]);
}

#[test]
fn readers_of_a_single_key_enter_with_those_of_several() {
    all_enter(&["1 k", "2 k m", "2 k l", "1 k", "3 k l m"]);
}

#[test]
fn readers_of_different_other_keys_enter_together() {
    all_enter(&["2 k l", "2 k m", "2 k n", "2 k o"]);
    all_enter(&["2 l k", "2 m k", "2 n k", "2 o k"]);
}

/// Four locks that one token holds, and for each a request that asks for another key besides: however all four become free,
/// all four are granted.
#[test]
fn whatever_frees_many_locks_grants_who_waits_for_each_with_another_key() {
    for free in [
        "LOCK.MRELEASE 4 k l m n a",
        "DEL k l m n",
        "FLUSHALL",
        "LOCK.MEXTEND 4 k l m n a PX 1",
        "CLOSE",
        "LEAVE",
    ] {
        let server = Server::start();
        let mut client = server.client();
        let mut owner = server.client();
        acquire(&mut client, "x TOKEN x");
        let mut first = None;
        if free == "LEAVE" {
            first = Some(waits(&server, "5 x k l m n TOKEN a BLOCK 0"));
        } else {
            let session = if free == "CLOSE" { "SESSION" } else { "" };
            all(&mut owner, &format!("4 k l m n TOKEN a PX 600000 {session}"));
        }
        let mut waiters = ["2 k k2", "2 l2 l", "2 m m2", "2 n2 n"]
            .map(|keys| waits(&server, &format!("{keys} PX 600000 BLOCK 15000")));
        match (free, &first) {
            ("CLOSE", _) => drop(owner),
            (_, Some(first)) => drop(client.run(&format!("CLIENT UNBLOCK {}", first.id))),
            _ => drop(client.run(free)),
        }
        let told: Vec<bool> = waiters.iter_mut().map(|it| it.granted_or_refused().is_some()).collect();
        assert!(told.iter().all(|granted| *granted), "{free}: granted were {told:?}");
    }
}

/// The permits of a semaphore that are given back at once.
#[test]
fn all_permits_that_become_free_at_once_are_granted_with_other_keys() {
    let server = Server::start();
    let mut client = server.client();
    for token in ["a", "b", "c", "d", "e"] {
        acquire(&mut client, &format!("k TOKEN {token} LIMIT 5"));
    }
    let mut waiters = ["2 k l", "2 m k", "2 k n", "2 o k", "2 k p"]
        .map(|keys| waits(&server, &format!("{keys} LIMIT 5 BLOCK 15000")));
    assert_eq!(client.run("LOCK.BREAK k"), Reply::Int(5));
    let told: Vec<bool> = waiters.iter_mut().map(|it| it.granted_or_refused().is_some()).collect();
    assert!(told.iter().all(|granted| *granted), "granted were {told:?}");
}
