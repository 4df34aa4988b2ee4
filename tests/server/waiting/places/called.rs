//! The call: a lock that is granted to a token while nobody waits on a connection, who is told, how it is claimed, and what
//! becomes of it when nobody comes.

use std::thread;
use std::time::{Duration, Instant};

use super::{
    CLAIM_LEASE_MS, Listener, call_next, claim, entries, held, is_called, leases, patient, place, tickets,
};
use crate::support::locks::{acquire, exists, fence_of, field, holder, holders, null, refused, remaining};
use crate::support::waiter::{assert_left_in_peace, owners, release, shorten, waiting};
use crate::support::{Client, PATIENCE, Reply, Server, Waiter, at_once, cmd, ok_grant, wait_until};

/// A server that gives those who are called so many milliseconds.
#[track_caller]
fn hasty(claim_lease_ms: u32) -> (Server, Client) {
    let server = Server::builder().config(&format!("lock.claim-lease {claim_lease_ms}")).start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a OWNER a PX 600000");
    (server, client)
}

// --- the lease

#[test]
fn who_is_called_has_five_seconds_unless_it_asked_for_less() {
    for (options, lease_ms) in [
        ("", CLAIM_LEASE_MS),
        ("PX 600000", CLAIM_LEASE_MS),
        ("PX 5001", CLAIM_LEASE_MS),
        ("PX 5000", 5_000),
        ("PX 4999", 4_999),
        ("EX 4", 4_000),
    ] {
        let server = Server::start();
        let mut client = server.client();
        acquire(&mut client, "k TOKEN a PX 600000");
        place(&mut client, &format!("k TOKEN b {options} QUEUE 600000"));
        release(&mut client, "k", "a");
        let left = remaining(&mut client, "k", "b");
        assert!(left <= Some(lease_ms), "{options}: {left:?}");
        assert_eq!(leases(&mut client, "k"), [lease_ms], "{options}");
    }
}

#[test]
fn the_setting_counts_from_the_next_call_on() {
    let (_server, mut client) = hasty(600_000);
    for (n, claim_lease_ms) in [(1, 400_000), (2, 300_000), (3, 700_000)] {
        place(&mut client, &format!("k TOKEN t{n} PX 80000000 QUEUE 600000"));
        client.ok(&format!("CONFIG SET lock.claim-lease {claim_lease_ms}"));
        let from = if n == 1 { "a".to_owned() } else { format!("t{}", n - 1) };
        call_next(&mut client, "k", &from, &format!("t{n}"));
        assert_eq!(leases(&mut client, "k"), [claim_lease_ms]);
    }
    client.ok("CONFIG SET lock.claim-lease 1000");
    assert!(remaining(&mut client, "k", "t3") > Some(300_000), "who was called before keeps what it has");
}

#[test]
fn a_default_lease_below_the_setting_is_what_it_is_called_with() {
    let (_server, mut client) = hasty(600_000);
    client.ok("CONFIG SET lock.default-lease 70000");
    place(&mut client, "k TOKEN b QUEUE 600000");
    call_next(&mut client, "k", "a", "b");
    assert_eq!(leases(&mut client, "k"), [70_000]);
}

#[test]
fn what_it_asked_for_last_counts() {
    let (_server, mut client) = hasty(600_000);
    place(&mut client, "k TOKEN b PX 100000 LIMIT 7 OWNER first QUEUE 600000");
    place(&mut client, "k TOKEN b PX 200000 SHARED OWNER last QUEUE 600000");
    call_next(&mut client, "k", "a", "b");
    let hold = holder(&mut client, "k");
    assert_eq!(field(&hold, "lease"), Reply::Int(200_000));
    assert_eq!(field(&hold, "limit"), Reply::Int(0));
    assert_eq!(field(&hold, "owner").text(), "last");
}

// --- who is told

/// The message comes only when the lock is the token's, however the lock was freed.
#[test]
fn a_subscriber_that_claims_at_once_is_told_its_grant() {
    let (server, mut client) = held();
    let mut listener = Listener::of(&server, "k");
    let mut claiming = server.client();
    for round in 0..30 {
        let number = place(&mut claiming, "k TOKEN b QUEUE 600000");
        let freeing = ["LOCK.RELEASE k a", "DEL k", "LOCK.BREAK k", "FLUSHALL", "LOCK.EXTEND k a PX 1"];
        let freeing = freeing[round % freeing.len()];
        let words: Vec<&str> = freeing.split(' ').collect();
        client.send(&words);
        listener.hears(number);
        let grant = claim(&mut claiming, "k TOKEN b PX 600000");
        assert_eq!(grant.token, b"b");
        assert!(!client.read().is_error(), "{freeing}");
        assert_eq!(field(&holder(&mut client, "k"), "fence"), Reply::Int(grant.fence), "{freeing}");
        place(&mut client, "k TOKEN a PX 600000 QUEUE 600000");
        release(&mut client, "k", "b");
        listener.ticket();
        claim(&mut client, "k TOKEN a PX 600000");
    }
}

#[test]
fn a_call_is_told_once_to_every_subscriber() {
    let (server, mut client) = held();
    let mut listeners = [Listener::of(&server, "k"), Listener::of(&server, "k")];
    let mut newer = Listener::on(server.client3(), "k");
    let number = place(&mut client, "k TOKEN b QUEUE 600000");
    call_next(&mut client, "k", "a", "b");
    listeners.iter_mut().chain([&mut newer]).for_each(|listener| {
        listener.hears(number);
        listener.heard_nothing();
    });
    for options in ["", "QUEUE 600000", "BLOCK 5"] {
        claim(&mut client, &format!("k TOKEN b {options}"));
    }
    release(&mut client, "k", "b");
    listeners.iter_mut().for_each(Listener::heard_nothing);
}

#[test]
fn in_resp3_a_call_is_a_push() {
    let (server, mut client) = held();
    let mut subscriber = server.client3();
    subscriber.run("SSUBSCRIBE k");
    let number = place(&mut subscriber, "k TOKEN b QUEUE 600000");
    release(&mut client, "k", "a");
    let message = subscriber.read();
    let due = ["smessage", "k", &number.to_string()].map(|text| Reply::Bulk(text.into()));
    assert_eq!(message, Reply::Push(due.to_vec()));
    claim(&mut subscriber, "k TOKEN b");
}

#[test]
fn only_the_sharded_channel_of_that_name_is_told() {
    let (server, mut client) = held();
    let mut others = ["SUBSCRIBE k", "PSUBSCRIBE *", "SSUBSCRIBE l", "SSUBSCRIBE K"].map(|subscribe| {
        let mut client = server.client();
        client.run(subscribe);
        Listener { client, channel: b"k".to_vec() }
    });
    let mut listener = Listener::of(&server, "k");
    let number = place(&mut client, "k TOKEN b QUEUE 600000");
    call_next(&mut client, "k", "a", "b");
    listener.hears(number);
    others.iter_mut().for_each(Listener::heard_nothing);
}

#[test]
fn nobody_is_told_of_what_a_client_was_told_itself() {
    let (server, mut client) = held();
    let mut listener = Listener::of(&server, "k");
    acquire(&mut client, "k TOKEN a PX 600000 QUEUE 600000");
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0 QUEUE 600000");
    release(&mut client, "k", "a");
    waiter.granted();
    release(&mut client, "k", "b");
    acquire(&mut client, "k TOKEN c QUEUE 600000");
    place(&mut client, "k TOKEN d QUEUE 600000");
    client.run("LOCK.RELEASE k d");
    place(&mut client, "k TOKEN d QUEUE 1");
    wait_until("its time is over", PATIENCE, || waiting(&mut client, "k") == 0);
    release(&mut client, "k", "c");
    listener.heard_nothing();
}

#[test]
fn places_of_one_name_in_two_databases_are_told_apart_by_their_tickets() {
    let (server, mut client) = held();
    let mut elsewhere = server.client();
    elsewhere.ok("SELECT 3");
    acquire(&mut elsewhere, "k TOKEN a PX 600000");
    let here = place(&mut client, "k TOKEN b QUEUE 600000");
    let there = place(&mut elsewhere, "k TOKEN b QUEUE 600000");
    let mut listener = Listener::of(&server, "k");
    release(&mut elsewhere, "k", "a");
    listener.hears(there);
    assert!(!is_called(&mut client, "k", "b"));
    claim(&mut elsewhere, "k TOKEN b");
    release(&mut client, "k", "a");
    listener.hears(here);
    claim(&mut client, "k TOKEN b");
}

#[test]
fn who_hears_nothing_and_only_repeats_is_served_as_well() {
    let (server, mut client) = hasty(5_000);
    let mut repeating = server.client();
    place(&mut repeating, "k TOKEN b QUEUE 600000");
    let mut released = false;
    wait_until("it is granted", PATIENCE, || {
        let reply = repeating.run("LOCK.ACQUIRE k TOKEN b PX 60000 QUEUE 600000");
        if matches!(reply, Reply::Int(_)) {
            assert!(!released, "after the release the next repeat is granted");
            release(&mut client, "k", "a");
            released = true;
            return false;
        }
        ok_grant(reply).0 == b"b"
    });
    assert_eq!(leases(&mut client, "k"), [60_000]);
}

/// The server's clockwork ticks once a second here, so that whoever is left for the tick is noticed.
#[test]
fn a_call_does_not_wait_for_the_servers_tick() {
    let server =
        Server::builder().config("hz 1").config("dynamic-hz no").config("lock.claim-lease 600000").start();
    let mut client = server.client();
    let mut listener = Listener::of(&server, "k");
    for freeing in ["LOCK.RELEASE k a", "DEL k", "LOCK.BREAK k", "RENAME k elsewhere"] {
        at_once(freeing, || {
            acquire(&mut client, "k TOKEN a");
            let number = place(&mut client, "k TOKEN b QUEUE 600000");
            let freed = Instant::now();
            assert!(!client.run(freeing).is_error());
            listener.hears(number);
            let delay = freed.elapsed();
            release(&mut client, "k", "b");
            client.run("DEL elsewhere");
            delay
        });
    }
    at_once("the end of a lease", || {
        acquire(&mut client, "k TOKEN a PX 60000");
        let number = place(&mut client, "k TOKEN b QUEUE 600000");
        let asked = Instant::now();
        shorten(&mut client, "k", "a", 100);
        listener.hears(number);
        let late = asked.elapsed().saturating_sub(Duration::from_millis(100));
        release(&mut client, "k", "b");
        late
    });
}

// --- the claim

#[test]
fn a_repeat_claims_and_its_own_lease_begins() {
    for options in ["", "QUEUE 600000", "BLOCK 0", "BLOCK 5 QUEUE 1", "OWNER me", "LIMIT 1"] {
        let server = Server::start();
        let mut client = server.client();
        acquire(&mut client, "k TOKEN a PX 600000");
        place(&mut client, "k TOKEN b QUEUE 600000");
        release(&mut client, "k", "a");
        let fence = field(&holder(&mut client, "k"), "fence").int();
        let grant = claim(&mut client, &format!("k TOKEN b PX 600000 {options}"));
        assert_eq!((grant.token, grant.fence), (b"b".to_vec(), fence), "{options}");
        assert_eq!(leases(&mut client, "k"), [600_000], "{options}");
        assert!(remaining(&mut client, "k", "b") > Some(300_000), "{options}");
    }
}

#[test]
fn a_claim_can_be_repeated_after_a_lost_reply() {
    let (server, mut client) = held();
    place(&mut client, "k TOKEN b QUEUE 600000");
    call_next(&mut client, "k", "a", "b");
    let grant = claim(&mut client, "k TOKEN b PX 60000 QUEUE 600000");
    for mut again in [server.client(), server.client3()] {
        assert_eq!(claim(&mut again, "k TOKEN b PX 60000 QUEUE 600000"), grant);
    }
    assert_eq!(client.run("LOCK.RELEASE k b"), Reply::Int(1), "one level");
    assert_left_in_peace(&server, "k");
}

#[test]
fn what_was_claimed_lasts_beyond_the_lease_of_the_call() {
    let (_server, mut client) = hasty(1_000);
    place(&mut client, "k TOKEN b QUEUE 600000");
    place(&mut client, "k TOKEN c QUEUE 600000");
    let called = Instant::now();
    // In one write, so that the claim comes in time.
    let replies = client.run_all(&["LOCK.RELEASE k a", "LOCK.ACQUIRE k TOKEN b PX 600000"]);
    assert_eq!(replies[0], Reply::Int(1));
    ok_grant(replies[1].clone());
    crate::support::waiter::time_passes(called, Duration::from_millis(1_600));
    assert!(remaining(&mut client, "k", "b") > Some(300_000));
    assert!(!is_called(&mut client, "k", "c"));
}

#[test]
fn an_extension_claims_as_well() {
    let (_server, mut client) = hasty(1_000);
    place(&mut client, "k TOKEN b QUEUE 600000");
    place(&mut client, "k TOKEN c QUEUE 600000");
    let called = Instant::now();
    // In one write, so that the claim comes in time.
    let replies = client.run_all(&["LOCK.RELEASE k a", "LOCK.CHECK k b", "LOCK.EXTEND k b PX 600000"]);
    assert_eq!([&replies[0], &replies[2]], [&Reply::Int(1); 2], "{replies:?}");
    let fence = replies[1].items()[0].int();
    crate::support::waiter::time_passes(called, Duration::from_millis(1_600));
    assert!(remaining(&mut client, "k", "b") > Some(300_000));
    assert_eq!(fence_of(&mut client, "k TOKEN b"), fence);
    assert!(!is_called(&mut client, "k", "c"));
}

#[test]
fn a_check_shows_what_was_called_and_claims_nothing() {
    let (server, mut client) = hasty(300);
    place(&mut client, "k TOKEN b QUEUE 600000");
    let next = place(&mut client, "k TOKEN c QUEUE 600000");
    let mut listener = Listener::of(&server, "k");
    release(&mut client, "k", "a");
    listener.ticket();
    let mut last = 300;
    wait_until("the lease ends, looked at or not", PATIENCE, || {
        let left = remaining(&mut client, "k", "b");
        assert!(left <= Some(last), "{left:?} after {last}");
        last = left.unwrap_or(last);
        left.is_none()
    });
    listener.hears(next);
}

#[test]
fn a_claim_may_name_another_limit() {
    let (server, mut client) = held();
    place(&mut client, "k TOKEN b QUEUE 600000");
    let reader = place(&mut client, "k TOKEN c SHARED QUEUE 600000");
    call_next(&mut client, "k", "a", "b");
    let mut listener = Listener::of(&server, "k");
    claim(&mut client, "k TOKEN b SHARED");
    listener.hears(reader);
    assert_eq!(holders(&mut client, "k").len(), 2);
}

#[test]
fn a_claim_may_tie_the_hold_to_a_connection() {
    let (server, mut client) = held();
    place(&mut client, "k TOKEN b QUEUE 600000");
    let next = place(&mut client, "k TOKEN c QUEUE 600000");
    let mut listener = Listener::of(&server, "k");
    release(&mut client, "k", "a");
    listener.ticket();
    let mut session = server.client();
    claim(&mut session, "k TOKEN b SESSION PX 60000");
    drop(session);
    listener.hears(next);
}

#[test]
fn what_was_called_can_be_given_back_without_a_claim() {
    let (server, mut client) = held();
    place(&mut client, "k TOKEN b QUEUE 600000");
    let next = place(&mut client, "k TOKEN c QUEUE 600000");
    let mut listener = Listener::of(&server, "k");
    call_next(&mut client, "k", "a", "b");
    listener.ticket();
    release(&mut client, "k", "b");
    listener.hears(next);
    assert_eq!(client.run("LOCK.BREAK k"), Reply::Int(1));
    assert_left_in_peace(&server, "k");
}

// --- nobody comes

#[test]
fn who_does_not_come_in_time_has_lost_the_hold_and_the_next_is_served() {
    let (server, mut client) = hasty(300);
    let mut listener = Listener::of(&server, "k");
    let first = place(&mut client, "k TOKEN b OWNER b QUEUE 600000");
    let mut waiter = Waiter::new(&server, "k TOKEN c OWNER c PX 600000 BLOCK 0");
    let began = Instant::now();
    release(&mut client, "k", "a");
    listener.hears(first);
    let fence = waiter.granted().fence;
    assert!(began.elapsed() >= Duration::from_millis(300), "after {:?}", began.elapsed());
    assert_eq!(client.run("LOCK.CHECK k b"), null(&client));
    assert_eq!(client.run("LOCK.EXTEND k b PX 5000"), Reply::Int(0), "it cannot be revived");
    let late = place(&mut client, "k TOKEN b OWNER b QUEUE 600000");
    assert!(late > first, "a new ticket tells that the old place is gone");
    release(&mut client, "k", "c");
    listener.hears(late);
    assert!(claim(&mut client, "k TOKEN b").fence > fence);
}

#[test]
fn who_comes_late_stands_at_the_end() {
    let (server, mut client) = hasty(1);
    place(&mut client, "k TOKEN b OWNER b QUEUE 600000");
    let _second = Waiter::new(&server, "k TOKEN c OWNER c PX 600000 BLOCK 0");
    place(&mut client, "k TOKEN d OWNER d QUEUE 600000");
    release(&mut client, "k", "a");
    wait_until("the second has it", PATIENCE, || owners(&mut client, "k").0 == ["c"]);
    place(&mut client, "k TOKEN b OWNER b QUEUE 600000");
    assert_eq!(owners(&mut client, "k").1, ["d", "b"]);
}

#[test]
fn the_last_that_does_not_come_leaves_the_lock_free() {
    let (server, mut client) = hasty(100);
    place(&mut client, "k TOKEN b QUEUE 600000");
    let replies = client.run_all(&["LOCK.RELEASE k a", "LOCK.CHECK k b"]);
    let fence = replies[1].items()[0].int();
    wait_until("its lease is over", PATIENCE, || !exists(&mut client, "k"));
    let grant = acquire(&mut client, "k TOKEN b QUEUE 600000");
    assert!(grant.fence > fence, "a new grant");
    release(&mut client, "k", "b");
    assert_left_in_peace(&server, "k");
}

#[test]
fn where_nobody_comes_all_are_called_one_after_the_other_by_the_server_alone() {
    const CROWD: i64 = 30;
    let (server, mut client) = hasty(20);
    let mut listener = Listener::of(&server, "k");
    let places: Vec<i64> =
        (0..CROWD).map(|n| place(&mut client, &format!("k TOKEN t{n} QUEUE 600000"))).collect();
    let began = Instant::now();
    release(&mut client, "k", "a");
    places.iter().for_each(|number| listener.hears(*number));
    assert!(began.elapsed() >= Duration::from_millis(20 * 29), "each had its time: {:?}", began.elapsed());
    wait_until("the last lease is over", PATIENCE, || !exists(&mut client, "k"));
    listener.heard_nothing();
    assert_left_in_peace(&server, "k");
}

#[test]
fn a_newcomer_does_not_overtake_those_who_are_called_one_after_the_other() {
    let (_server, mut client) = hasty(10);
    for n in 0..20 {
        place(&mut client, &format!("k TOKEN t{n} QUEUE 600000"));
    }
    let released = client.run_all(&["LOCK.RELEASE k a", "LOCK.ACQUIRE k TOKEN new PX 600000"]);
    assert_eq!(released, [Reply::Int(1), Reply::NullArray], "the first of them is before it");
    wait_until("all were called", PATIENCE, || {
        // In one step: whether somebody is before it, and what it is told.
        let replies = client.run_all(&["MULTI", "LOCK.INFO k", "LOCK.ACQUIRE k TOKEN new PX 600000", "EXEC"]);
        let [info, reply] = replies[3].items() else { panic!("{replies:?}") };
        if reply.is_null() {
            return false;
        }
        let nobody_waits = info.is_null() || field(info, "waiting") == Reply::Int(0);
        assert!(nobody_waits, "granted though it was somebody's turn: {info:?}");
        true
    });
}

// --- many

#[test]
fn many_readers_are_called_at_once_in_their_order() {
    const CROWD: usize = 200;
    let (server, mut client) = held();
    let mut listener = Listener::of(&server, "k");
    let places: Vec<i64> = (0..CROWD)
        .map(|n| place(&mut client, &format!("k TOKEN t{n} SHARED PX 600000 QUEUE 600000")))
        .collect();
    let writer = place(&mut client, "k TOKEN w QUEUE 600000");
    release(&mut client, "k", "a");
    places.iter().for_each(|number| listener.hears(*number));
    listener.heard_nothing();
    assert_eq!(crate::support::locks::held(&mut client, "k"), 200);
    let fences: Vec<i64> =
        (0..CROWD).map(|n| claim(&mut client, &format!("k TOKEN t{n} SHARED")).fence).collect();
    assert!(fences.is_sorted_by(|one, next| one < next));
    assert_eq!(tickets(&mut client, "k"), [Some(writer)]);
    (0..CROWD).for_each(|n| release(&mut client, "k", format!("t{n}")));
    listener.hears(writer);
}

#[test]
fn readers_that_do_not_come_do_not_keep_the_writer_out_for_long() {
    let (server, mut client) = hasty(1_000);
    let mut listener = Listener::of(&server, "k");
    for n in 0..10 {
        place(&mut client, &format!("k TOKEN t{n} SHARED QUEUE 600000"));
    }
    let writer = place(&mut client, "k TOKEN w QUEUE 600000");
    // In one write, so that the claim comes in time.
    let replies = client.run_all(&["LOCK.RELEASE k a", "LOCK.ACQUIRE k TOKEN t4 SHARED PX 600000"]);
    let (_, claimed) = ok_grant(replies[1].clone());
    wait_until("the nine have lost theirs", PATIENCE, || leases(&mut client, "k") == [600_000]);
    assert_eq!(field(&holder(&mut client, "k"), "fence"), Reply::Int(claimed));
    assert_eq!(tickets(&mut client, "k"), [Some(writer)]);
    release(&mut client, "k", "t4");
    let readers: Vec<i64> = (0..10).map(|_| listener.ticket()).collect();
    assert!(readers.is_sorted_by(|one, next| one < next), "each once: {readers:?}");
    listener.hears(writer);
}

#[test]
fn many_keys_are_called_in_one_step() {
    const KEYS: usize = 100;
    let server = patient();
    let mut client = server.client();
    let mut listeners = Vec::new();
    for n in 0..KEYS {
        acquire(&mut client, &format!("k{n} TOKEN a PX 600000"));
        let number = place(&mut client, &format!("k{n} TOKEN b QUEUE 600000"));
        listeners.push((number, Listener::of(&server, format!("k{n}"))));
    }
    client.run("FLUSHALL");
    for (number, listener) in &mut listeners {
        listener.hears(*number);
    }
    (0..KEYS).for_each(|n| drop(claim(&mut client, &format!("k{n} TOKEN b"))));
}

#[test]
fn a_call_of_what_somebody_else_may_want_costs_nobody_the_lock() {
    // Many clients that only repeat, each with its token, on one lock: one holds it at a time and all come to hold it.
    let server = Server::builder().config("lock.claim-lease 10000").start();
    let turns = thread::scope(|scope| {
        let work: Vec<_> = (0..8)
            .map(|n| {
                let mut client = server.client();
                scope.spawn(move || {
                    let mut fences = Vec::new();
                    for turn in 0..5 {
                        let token = format!("t{n}-{turn}");
                        let command =
                            cmd!["LOCK.ACQUIRE", "k", "TOKEN", token, "PX", 60_000, "QUEUE", 60_000];
                        wait_until("it is granted", PATIENCE, || match client.call(&command) {
                            Reply::Int(_) => false,
                            reply => {
                                fences.push(ok_grant(reply).1);
                                true
                            }
                        });
                        release(&mut client, "k", token);
                    }
                    fences
                })
            })
            .collect();
        work.into_iter().flat_map(|it| it.join().unwrap()).collect::<std::collections::BTreeSet<i64>>()
    });
    assert_eq!(turns.len(), 40, "each grant has a fence of its own");
    assert_left_in_peace(&server, "k");
}

#[test]
fn a_place_is_no_place_any_more_once_it_is_called() {
    let (server, mut client) = held();
    place(&mut client, "k TOKEN b QUEUE 600000");
    call_next(&mut client, "k", "a", "b");
    assert!(entries(&mut client, "k").is_empty());
    refused(&mut client, "k TOKEN c");
    claim(&mut client, "k TOKEN b");
    release(&mut client, "k", "b");
    assert_left_in_peace(&server, "k");
}
