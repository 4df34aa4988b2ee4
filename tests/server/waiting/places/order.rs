//! Whose turn it is: strictly first in, first out, among places, blocked clients and both.

use std::collections::VecDeque;

use super::{Listener, call_next, claim, held, is_called, leases, lose, patient, place, ticket, tickets};
use crate::support::admission::{any_share, enter};
use crate::support::locks::{acquire, exists, field, holder, holders, refused};
use crate::support::waiter::{assert_left_in_peace, blocked_clients, owners, release, waiting};
use crate::support::{Random, Reply, Server, Waiter};

#[test]
fn places_are_served_in_the_order_they_came() {
    let (server, mut client) = held();
    let mut listener = Listener::of(&server, "k");
    let places: Vec<i64> =
        (0..20).map(|n| place(&mut client, &format!("k TOKEN t{n} OWNER w{n} QUEUE 600000"))).collect();
    assert!(places.is_sorted_by(|one, next| one < next), "{places:?}");
    let mut last = ("a".to_owned(), 0);
    for (n, number) in places.iter().enumerate() {
        release(&mut client, "k", &last.0);
        listener.hears(*number);
        assert_eq!(owners(&mut client, "k").0, [format!("w{n}")], "one alone");
        let grant = claim(&mut client, &format!("k TOKEN t{n} OWNER w{n}"));
        assert!(grant.fence > last.1, "fences rise in the order of the queue");
        last = (format!("t{n}"), grant.fence);
        assert_eq!(waiting(&mut client, "k"), i64::try_from(places.len() - n - 1).unwrap());
    }
    release(&mut client, "k", last.0);
    listener.heard_nothing();
    assert_left_in_peace(&server, "k");
}

#[test]
fn places_and_blocked_clients_stand_in_one_queue() {
    let (server, mut client) = held();
    let mut first = Waiter::new(&server, "k TOKEN first OWNER first BLOCK 0");
    let second = place(&mut client, "k TOKEN second OWNER second QUEUE 600000");
    let mut third = Waiter::new(&server, "k TOKEN third OWNER third BLOCK 0 QUEUE 600000");
    let fourth = place(&mut client, "k TOKEN fourth OWNER fourth QUEUE 600000");
    let mut fifth = Waiter::new(&server, "k TOKEN fifth OWNER fifth BLOCK 0");
    assert_eq!(owners(&mut client, "k").1, ["first", "second", "third", "fourth", "fifth"]);
    assert_eq!(tickets(&mut client, "k"), [None, Some(second), None, Some(fourth), None]);
    let mut listener = Listener::of(&server, "k");
    release(&mut client, "k", "a");
    first.granted();
    release(&mut client, "k", "first");
    listener.hears(second);
    third.assert_waiting(&server);
    release(&mut client, "k", "second");
    third.granted();
    release(&mut client, "k", "third");
    listener.hears(fourth);
    fifth.assert_waiting(&server);
    release(&mut client, "k", "fourth");
    fifth.granted();
    release(&mut client, "k", "fifth");
    listener.heard_nothing();
    assert_left_in_peace(&server, "k");
}

#[test]
fn a_repeat_never_costs_the_turn() {
    let (server, mut client) = held();
    let first: Vec<i64> =
        ["b", "c", "d"].iter().map(|t| place(&mut client, &format!("k TOKEN {t} QUEUE 600000"))).collect();
    for token in ["d", "b", "c", "b", "d"] {
        for options in ["QUEUE 600000", "BLOCK 1 QUEUE 600000", "QUEUE 700000 SHARED", "QUEUE 600000"] {
            place(&mut client, &format!("k TOKEN {token} {options}"));
        }
    }
    assert_eq!(tickets(&mut client, "k"), [Some(first[0]), Some(first[1]), Some(first[2])]);
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "d")] {
        call_next(&mut client, "k", from, to);
    }
    release(&mut client, "k", "d");
    assert_left_in_peace(&server, "k");
}

#[test]
fn a_place_that_goes_on_on_a_connection_keeps_its_turn() {
    let (server, mut client) = held();
    let first = place(&mut client, "k TOKEN b OWNER b QUEUE 600000");
    place(&mut client, "k TOKEN c OWNER c QUEUE 600000");
    let mut waiter = Waiter::new(&server, "k TOKEN b OWNER b BLOCK 0 QUEUE 600000");
    assert_eq!(owners(&mut client, "k").1, ["b", "c"]);
    lose(&server, "k", waiter);
    assert_eq!(tickets(&mut client, "k")[0], Some(first), "the same place");
    waiter = Waiter::new(&server, "k TOKEN b OWNER b BLOCK 0 QUEUE 600000");
    release(&mut client, "k", "a");
    waiter.granted();
    call_next(&mut client, "k", "b", "c");
}

#[test]
fn a_blocked_client_whose_connection_breaks_keeps_its_turn() {
    let (server, mut client) = held();
    let first = Waiter::new(&server, "k TOKEN b OWNER b BLOCK 0 QUEUE 600000");
    let mut second = Waiter::new(&server, "k TOKEN c OWNER c BLOCK 0");
    lose(&server, "k", first);
    assert_eq!(owners(&mut client, "k").1, ["b", "c"]);
    call_next(&mut client, "k", "a", "b");
    second.assert_waiting(&server);
    release(&mut client, "k", "b");
    second.granted();
}

/// A test for each way in which a lock ends, run by a client in database 0 on `k`, held by `a`: in the same write comes
/// a newcomer.
macro_rules! a_place_is_called_and_nobody_overtakes_it_by {
    ($($name:ident: $commands:expr;)+) => {$(
        #[test]
        fn $name() {
            nobody_overtakes(&$commands);
        }
    )+};
}

a_place_is_called_and_nobody_overtakes_it_by! {
    a_release_calls_the_next_place: ["LOCK.RELEASE k a"];
    a_break_calls_the_next_place: ["LOCK.BREAK k"];
    a_deletion_calls_the_next_place: ["DEL k"];
    an_unlinking_calls_the_next_place: ["UNLINK k"];
    a_flush_of_the_database_calls_the_next_place: ["FLUSHDB"];
    a_flush_of_all_databases_calls_the_next_place: ["FLUSHALL"];
    a_flush_in_the_background_calls_the_next_place: ["FLUSHALL ASYNC"];
    a_rename_calls_the_next_place: ["RENAME k elsewhere"];
    a_move_to_another_database_calls_the_next_place: ["MOVE k 1"];
    a_swap_with_an_empty_database_calls_the_next_place: ["SWAPDB 0 1"];
    an_expiry_in_the_past_calls_the_next_place: ["EXPIREAT k 1"];
    an_overwriting_and_a_deletion_call_the_next_place: ["SET k v", "DEL k"];
    a_transaction_that_releases_calls_the_next_place: ["MULTI", "LOCK.RELEASE k a", "EXEC"];
    a_transaction_that_deletes_calls_the_next_place: ["MULTI", "DEL k", "EXEC"];
    a_lease_of_a_millisecond_calls_the_next_place: ["LOCK.EXTEND k a PX 1", "DEBUG SLEEP 0.05"];
}

#[track_caller]
fn nobody_overtakes(commands: &[&str]) {
    let (mut server, mut client) = held();
    let fence = acquire(&mut client, "k TOKEN a PX 600000").fence;
    let next = place(&mut client, "k TOKEN b QUEUE 600000");
    let last = place(&mut client, "k TOKEN c QUEUE 600000");
    let mut listener = Listener::of(&server, "k");
    let newcomer = ["LOCK.ACQUIRE k TOKEN new", "LOCK.ACQUIRE k TOKEN new SHARED", "LOCK.CHECK k new"];
    let replies = client.run_all(&[commands, &newcomer].concat());
    assert!(replies.iter().all(|reply| !reply.is_error()), "{replies:?}");
    let of_newcomer = &replies[replies.len() - newcomer.len()..];
    assert!(of_newcomer.iter().all(|reply| *reply == Reply::NullArray), "{replies:?}");
    listener.hears(next);
    assert!(claim(&mut client, "k TOKEN b").fence > fence);
    listener.heard_nothing();
    assert_eq!(waiting(&mut client, "k"), 1);
    release(&mut client, "k", "b");
    listener.hears(last);
    release(&mut client, "k", "c");
    assert_left_in_peace(&server, "k");
    server.assert_alive();
}

#[test]
fn a_newcomer_with_queue_comes_behind_who_was_called() {
    let (_server, mut client) = held();
    place(&mut client, "k TOKEN b QUEUE 600000");
    let replies = client.run_all(&["LOCK.RELEASE k a", "LOCK.ACQUIRE k TOKEN new QUEUE 600000"]);
    ticket(&replies[1]);
    assert!(is_called(&mut client, "k", "b"));
    call_next(&mut client, "k", "b", "new");
}

#[test]
fn the_holder_that_releases_and_asks_again_comes_behind() {
    let (_server, mut client) = held();
    place(&mut client, "k TOKEN b QUEUE 600000");
    for _ in 0..3 {
        call_next(&mut client, "k", "a", "b");
        place(&mut client, "k TOKEN a QUEUE 600000");
        call_next(&mut client, "k", "b", "a");
        place(&mut client, "k TOKEN b QUEUE 600000");
    }
}

#[test]
fn a_reader_does_not_overtake_a_writers_place() {
    let server = patient();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN r SHARED PX 600000");
    place(&mut client, "k TOKEN w QUEUE 600000");
    refused(&mut client, "k TOKEN s SHARED");
    place(&mut client, "k TOKEN s SHARED QUEUE 600000");
    let mut blocked = Waiter::new(&server, "k TOKEN t SHARED BLOCK 0");
    assert_eq!(holders(&mut client, "k").len(), 1);
    call_next(&mut client, "k", "r", "w");
    assert!(!is_called(&mut client, "k", "s"));
    call_next(&mut client, "k", "w", "s");
    blocked.granted();
    assert_eq!(holders(&mut client, "k").len(), 2);
}

#[test]
fn a_place_for_less_than_is_free_does_not_overtake_one_for_more() {
    let server = patient();
    let mut client = server.client();
    for token in ["a", "b"] {
        acquire(&mut client, &format!("k TOKEN {token} LIMIT 3 PX 600000"));
    }
    place(&mut client, "k TOKEN narrow LIMIT 2 QUEUE 600000");
    place(&mut client, "k TOKEN wide LIMIT 3 QUEUE 600000");
    assert_eq!(holders(&mut client, "k").len(), 2, "though there is room for the second");
    call_next(&mut client, "k", "a", "narrow");
    assert!(!is_called(&mut client, "k", "wide"));
    release(&mut client, "k", "b");
    assert!(is_called(&mut client, "k", "wide"), "two of two");
}

/// Whatever the limits are, those who hold the lock and those who wait are what the rule of admission makes of a queue.
#[test]
fn with_mixed_limits_places_and_clients_enter_as_far_as_the_rule_lets_them() {
    let mut random = Random::from_environment();
    let server = patient();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN w0 OWNER w0 PX 600000");
    let mut holding = vec![(0, (1, 1))];
    let mut queue = VecDeque::new();
    let mut waiters = Vec::new();
    for n in 1..=40 {
        let (share, option) = any_share(&mut random);
        let request = format!("k TOKEN w{n} OWNER w{n} PX 600000 {option}");
        match random.below(3) {
            0 => waiters.push((n, Waiter::new(&server, &format!("{request} BLOCK 0")))),
            1 => waiters.push((n, Waiter::new(&server, &format!("{request} BLOCK 0 QUEUE 600000")))),
            _ => drop(place(&mut client, &format!("{request} QUEUE 600000"))),
        }
        queue.push_back((n, share));
    }
    while !holding.is_empty() {
        let (leaves, _) = holding.swap_remove(random.below(holding.len()));
        release(&mut client, "k", format!("w{leaves}"));
        enter(&mut holding, &mut queue);
        let names = |numbers: Vec<usize>| numbers.iter().map(|n| format!("w{n}")).collect::<Vec<_>>();
        let mut due: Vec<usize> = holding.iter().map(|(n, _)| *n).collect();
        due.sort_unstable();
        let (shown, waiting) = owners(&mut client, "k");
        assert_eq!(shown, names(due), "who holds it");
        assert_eq!(waiting, names(queue.iter().map(|(n, _)| *n).collect()), "who waits");
    }
    waiters.iter_mut().for_each(|(n, waiter)| assert_eq!(waiter.granted().token, format!("w{n}").as_bytes()));
    assert_left_in_peace(&server, "k");
}

#[test]
fn who_leaves_from_the_middle_leaves_the_others_in_order() {
    let (server, mut client) = held();
    for n in 0..6 {
        place(&mut client, &format!("k TOKEN w{n} OWNER w{n} QUEUE 600000"));
    }
    for gone in ["w4", "w0", "w2"] {
        assert_eq!(client.run(&format!("LOCK.RELEASE k {gone}")), Reply::Int(0));
    }
    assert_eq!(owners(&mut client, "k").1, ["w1", "w3", "w5"]);
    for (from, to) in [("a", "w1"), ("w1", "w3"), ("w3", "w5")] {
        call_next(&mut client, "k", from, to);
    }
    release(&mut client, "k", "w5");
    assert_left_in_peace(&server, "k");
}

#[test]
fn the_head_that_gives_up_lets_in_whom_it_kept_out() {
    let server = patient();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN r SHARED PX 600000");
    place(&mut client, "k TOKEN w QUEUE 600000");
    let reader = place(&mut client, "k TOKEN s SHARED QUEUE 600000");
    let mut blocked = Waiter::new(&server, "k TOKEN t SHARED BLOCK 0");
    let mut listener = Listener::of(&server, "k");
    assert_eq!(client.run("LOCK.RELEASE k w"), Reply::Int(0));
    listener.hears(reader);
    blocked.granted();
    assert_eq!(holders(&mut client, "k").len(), 3);
}

#[test]
fn a_repeat_that_asks_for_less_is_granted_at_once_where_it_heads_the_queue() {
    let server = patient();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN r SHARED PX 600000");
    place(&mut client, "k TOKEN w QUEUE 600000");
    let behind = place(&mut client, "k TOKEN s SHARED QUEUE 600000");
    let mut listener = Listener::of(&server, "k");
    claim(&mut client, "k TOKEN w SHARED QUEUE 600000");
    listener.hears(behind);
    assert_eq!(waiting(&mut client, "k"), 0);
}

#[test]
fn a_repeat_that_asks_for_more_keeps_out_who_stands_behind() {
    let server = patient();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    let first = place(&mut client, "k TOKEN b SHARED QUEUE 600000");
    place(&mut client, "k TOKEN c SHARED QUEUE 600000");
    assert_eq!(place(&mut client, "k TOKEN b QUEUE 600000"), first);
    call_next(&mut client, "k", "a", "b");
    assert!(!is_called(&mut client, "k", "c"), "b is called for what it asked last");
    call_next(&mut client, "k", "b", "c");
}

// --- another limit

#[test]
fn an_upgrade_stands_ahead_of_the_queue() {
    let server = patient();
    let mut client = server.client();
    let first = acquire(&mut client, "k TOKEN a SHARED OWNER a PX 600000");
    acquire(&mut client, "k TOKEN b SHARED OWNER b PX 600000");
    place(&mut client, "k TOKEN w QUEUE 600000");
    let upgrade = place(&mut client, "k TOKEN a LIMIT 1 QUEUE 600000");
    assert_eq!(holders(&mut client, "k").len(), 2, "it goes on reading while it waits");
    refused(&mut client, "k TOKEN late SHARED");
    let mut listener = Listener::of(&server, "k");
    release(&mut client, "k", "b");
    listener.hears(upgrade);
    assert_eq!(field(&holder(&mut client, "k"), "limit"), Reply::Int(1));
    assert_eq!(claim(&mut client, "k TOKEN a LIMIT 1"), first, "same token, same fence");
    assert!(!is_called(&mut client, "k", "w"));
    call_next(&mut client, "k", "a", "w");
}

#[test]
fn an_upgrade_that_is_granted_never_shortens_the_lease_of_the_hold() {
    let server = Server::builder().config("lock.claim-lease 30000").start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a SHARED PX 600000");
    acquire(&mut client, "k TOKEN b SHARED PX 600000");
    place(&mut client, "k TOKEN a LIMIT 1 PX 2000 QUEUE 600000");
    release(&mut client, "k", "b");
    let left = crate::support::locks::remaining(&mut client, "k", "a").unwrap();
    assert!(left > 300_000, "{left}");
    assert_eq!(field(&holder(&mut client, "k"), "limit"), Reply::Int(1));
}

#[test]
fn a_second_upgrade_is_a_deadlock_with_queue_too() {
    let server = patient();
    let mut client = server.client();
    for token in ["a", "b", "c"] {
        acquire(&mut client, &format!("k TOKEN {token} SHARED PX 600000"));
    }
    let first = place(&mut client, "k TOKEN a LIMIT 1 QUEUE 600000");
    for options in ["QUEUE 600000", "BLOCK 0 QUEUE 600000", "BLOCK 0", "QUEUE 1"] {
        let reply = client.run(&format!("LOCK.ACQUIRE k TOKEN b LIMIT 1 {options}"));
        assert!(reply.error().starts_with("DEADLOCK "), "{options}: {reply:?}");
    }
    refused(&mut client, "k TOKEN b LIMIT 1");
    assert_eq!(place(&mut client, "k TOKEN a LIMIT 1 QUEUE 600000"), first, "the first may repeat");
    assert_eq!(holders(&mut client, "k").len(), 3, "and all go on reading");
    release(&mut client, "k", "b");
    release(&mut client, "k", "c");
    assert_eq!(leases(&mut client, "k").len(), 1);
    assert_eq!(field(&holder(&mut client, "k"), "limit"), Reply::Int(1));
}

#[test]
fn after_an_upgrades_time_is_over_another_may_wait_for_its_own() {
    let server = patient();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a SHARED PX 600000");
    acquire(&mut client, "k TOKEN b SHARED PX 600000");
    place(&mut client, "k TOKEN a LIMIT 1 QUEUE 50");
    crate::support::wait_until("its time is over", crate::support::PATIENCE, || {
        waiting(&mut client, "k") == 0
    });
    assert_eq!(holders(&mut client, "k").len(), 2, "and it reads on");
    place(&mut client, "k TOKEN b LIMIT 1 QUEUE 600000");
    release(&mut client, "k", "a");
    assert_eq!(field(&holder(&mut client, "k"), "limit"), Reply::Int(1));
}

#[test]
fn a_writer_that_becomes_a_reader_calls_the_readers_at_once() {
    let (server, mut client) = held();
    let readers: Vec<i64> =
        (0..3).map(|n| place(&mut client, &format!("k TOKEN r{n} SHARED QUEUE 600000"))).collect();
    let writer = place(&mut client, "k TOKEN w QUEUE 600000");
    place(&mut client, "k TOKEN late SHARED QUEUE 600000");
    let mut listener = Listener::of(&server, "k");
    acquire(&mut client, "k TOKEN a SHARED");
    readers.iter().for_each(|reader| listener.hears(*reader));
    listener.heard_nothing();
    assert_eq!(tickets(&mut client, "k")[0], Some(writer));
    assert_eq!(holders(&mut client, "k").len(), 4);
}

#[test]
fn the_queues_of_two_keys_know_nothing_of_each_other() {
    let (_server, mut client) = held();
    acquire(&mut client, "l TOKEN a PX 600000");
    place(&mut client, "k TOKEN b QUEUE 600000");
    place(&mut client, "l TOKEN b QUEUE 600000");
    place(&mut client, "l TOKEN c QUEUE 600000");
    call_next(&mut client, "l", "a", "b");
    assert!(!is_called(&mut client, "k", "b"));
    assert_eq!(client.run("LOCK.RELEASE k b"), Reply::Int(0), "its place for k");
    assert!(is_called(&mut client, "l", "b"));
    call_next(&mut client, "l", "b", "c");
    release(&mut client, "k", "a");
    assert!(!exists(&mut client, "k"));
    assert_eq!(blocked_clients(&mut client), 0);
}

// --- a lock that comes from elsewhere

/// Its token waited for another's lock, and holds the one that has come in its place.
#[test]
fn a_place_whose_token_comes_to_hold_the_lock_is_no_place_any_more() {
    let (_server, mut client) = held();
    let elsewhere = acquire(&mut client, "l TOKEN b OWNER b PX 600000");
    place(&mut client, "k TOKEN b QUEUE 600000");
    place(&mut client, "k TOKEN c QUEUE 600000");
    client.ok("RENAME l k");
    assert_eq!(claim(&mut client, "k TOKEN b PX 600000 QUEUE 600000").fence, elsewhere.fence);
    assert_eq!(waiting(&mut client, "k"), 1);
    call_next(&mut client, "k", "b", "c");
}

#[test]
fn a_lock_that_is_restored_over_another_is_waited_for_by_the_same_places() {
    let (server, mut client) = held();
    let mut listener = Listener::of(&server, "k");
    let number = place(&mut client, "k TOKEN b QUEUE 600000");
    acquire(&mut client, "l TOKEN other PX 600000");
    let payload = client.run("DUMP l").bytes();
    let restored = client.call(&crate::support::cmd!["RESTORE", "k", 0, payload, "REPLACE"]);
    assert_eq!(restored, Reply::Simple("OK".into()));
    listener.heard_nothing();
    release(&mut client, "k", "other");
    listener.hears(number);
}

#[test]
fn whoever_watches_the_key_sees_a_call_and_not_a_place() {
    let (server, mut client) = held();
    let mut watching = server.client();
    watching.ok("WATCH k");
    place(&mut client, "k TOKEN b QUEUE 600000");
    place(&mut client, "k TOKEN b QUEUE 600000");
    assert_eq!(client.run("LOCK.RELEASE k b"), Reply::Int(0));
    let replies = watching.run_all(&["MULTI", "PING", "EXEC"]);
    assert_eq!(replies[2].items().len(), 1, "nothing has changed: {replies:?}");
    place(&mut client, "k TOKEN b QUEUE 600000");
    watching.ok("WATCH k");
    release(&mut client, "k", "a");
    let replies = watching.run_all(&["MULTI", "PING", "EXEC"]);
    assert!(replies[2].is_null(), "it is another's: {replies:?}");
}
