//! Places asked for where no connection can wait: transactions, scripts, functions, connections with subscriptions; and while
//! the server pauses, begins anew or takes no writes.

use std::time::{Duration, Instant};

use super::{Listener, call_next, claim, entries, held, is_called, leases, place, ticket, tickets};
use crate::support::locks::{acquire, field, null, remaining};
use crate::support::waiter::{assert_left_in_peace, blocked_clients, release, time_passes, waiting};
use crate::support::{
    Client, Data, PATIENCE, Pair, Reply, Server, Version, Waiter, cmd, ok_grant, wait_until,
};

/// Asks by script, with BLOCK and without.
const SCRIPT: &str = "return redis.call('LOCK.ACQUIRE', KEYS[1], 'TOKEN', ARGV[1], 'QUEUE', 600000)";
const BLOCKING_SCRIPT: &str =
    "return redis.call('LOCK.ACQUIRE', KEYS[1], 'TOKEN', ARGV[1], 'BLOCK', 0, 'QUEUE', 600000)";

/// The same as a function.
const LIBRARY: &str = "#!lua name=places\nredis.register_function('ask', function(keys, arguments) \
    return redis.call('LOCK.ACQUIRE', keys[1], 'TOKEN', arguments[1], 'BLOCK', 0, 'QUEUE', 600000) end)";

// --- transactions, scripts, functions

#[test]
fn in_a_transaction_a_request_does_not_block_and_its_place_stands_at_once() {
    let (_server, mut client) = held();
    let replies = client.run_all(&[
        "MULTI",
        "LOCK.ACQUIRE k TOKEN b BLOCK 0 QUEUE 600000",
        "LOCK.ACQUIRE k TOKEN c QUEUE 600000",
        "LOCK.ACQUIRE k TOKEN b BLOCK 0 QUEUE 600000",
        "LOCK.ACQUIRE k TOKEN d BLOCK 0",
        "EXEC",
    ]);
    let results = replies[5].items();
    let (b, c) = (ticket(&results[0]), ticket(&results[1]));
    assert!(b < c);
    assert_eq!(results[2], Reply::Int(b), "a repeat");
    assert_eq!(results[3], Reply::NullArray, "BLOCK alone is as if not given");
    assert_eq!(blocked_clients(&mut client), 0);
    assert_eq!(tickets(&mut client, "k"), [Some(b), Some(c)]);
    call_next(&mut client, "k", "a", "b");
}

#[test]
fn in_one_transaction_a_place_is_asked_for_called_and_claimed() {
    let (server, mut client) = held();
    let replies = client.run_all(&[
        "MULTI",
        "LOCK.ACQUIRE k TOKEN b QUEUE 600000",
        "LOCK.RELEASE k a",
        "LOCK.CHECK k b",
        "LOCK.ACQUIRE k TOKEN b PX 700000",
        "LOCK.RELEASE k b",
        "EXEC",
    ]);
    let results = replies[6].items();
    ticket(&results[0]);
    assert_eq!(results[1], Reply::Int(1));
    let fence = results[2].items()[0].int();
    assert_eq!(ok_grant(results[3].clone()), (b"b".to_vec(), fence));
    assert_eq!(results[4], Reply::Int(1));
    assert_left_in_peace(&server, "k");
}

#[test]
fn a_script_and_a_function_are_told_the_ticket_as_a_number() {
    let (server, mut client) = held();
    client.call(&["FUNCTION", "LOAD", LIBRARY]);
    let mut listener = Listener::of(&server, "k");
    let asks = [
        cmd!["EVAL", SCRIPT, 1, "k", "b"],
        cmd!["EVAL", BLOCKING_SCRIPT, 1, "k", "b"],
        cmd!["FCALL", "ask", 1, "k", "b"],
    ];
    let mut seen = Vec::new();
    for ask in &asks {
        for mut asking in [server.client(), server.client3()] {
            seen.push(ticket(&asking.call(ask)));
        }
    }
    assert!(seen.iter().all(|number| *number == seen[0]), "one place: {seen:?}");
    assert_eq!(blocked_clients(&mut client), 0);
    release(&mut client, "k", "a");
    listener.hears(seen[0]);
    for ask in &asks {
        assert_eq!(ok_grant(client.call(ask)).0, b"b");
    }
}

#[test]
fn a_script_that_frees_the_lock_has_the_next_place_called_when_it_is_through() {
    let (server, mut client) = held();
    let mut listener = Listener::of(&server, "k");
    let number = place(&mut client, "k TOKEN b QUEUE 600000");
    let script =
        "redis.call('LOCK.RELEASE', KEYS[1], 'a') return redis.call('LOCK.ACQUIRE', KEYS[1], 'TOKEN', 'new')";
    assert!(client.call(&cmd!["EVAL", script, 1, "k"]).is_null(), "a script does not overtake");
    listener.hears(number);
    assert!(is_called(&mut client, "k", "b"));
}

#[test]
fn a_script_that_may_not_write_asks_for_no_place() {
    let (_server, mut client) = held();
    let reply = client.call(&cmd!["EVAL_RO", SCRIPT, 1, "k", "b"]);
    assert!(reply.is_error(), "{reply:?}");
    assert_eq!(waiting(&mut client, "k"), 0);
}

// --- subscriptions

#[test]
fn one_connection_listens_asks_and_claims() {
    let (server, mut client) = held();
    for subscribe in ["SSUBSCRIBE k", "SUBSCRIBE k", "PSUBSCRIBE *"] {
        let mut subscriber = server.client3();
        subscriber.run("SSUBSCRIBE k");
        subscriber.run(subscribe);
        let number = place(&mut subscriber, "k TOKEN b QUEUE 600000");
        release(&mut client, "k", "a");
        let message = subscriber.read();
        assert_eq!(message.items()[2], Reply::Bulk(number.to_string().into_bytes()), "{message:?}");
        claim(&mut subscriber, "k TOKEN b");
        release(&mut subscriber, "k", "b");
        acquire(&mut client, "k TOKEN a PX 600000");
    }
}

#[test]
fn a_subscriber_waits_where_the_server_lets_it_and_is_told_its_ticket_at_once_elsewhere() {
    let (server, mut client) = held();
    let refuses = Version::of(&mut client).is_valkey_from([8, 1]);
    let mut subscriber = server.client3();
    subscriber.run("SSUBSCRIBE other");
    let rest = "k TOKEN b BLOCK 0 QUEUE 600000";
    if refuses {
        let number = place(&mut subscriber, rest);
        assert_eq!(tickets(&mut client, "k"), [Some(number)]);
        call_next(&mut client, "k", "a", "b");
        claim(&mut subscriber, rest);
    } else {
        let mut waiter = Waiter::on(&server, subscriber, rest);
        assert_eq!(tickets(&mut client, "k"), [None]);
        release(&mut client, "k", "a");
        waiter.granted();
    }
}

#[test]
fn many_users_of_one_connection_each_keep_a_place() {
    let (server, mut client) = held();
    let mut shared = server.client();
    let requests: Vec<Vec<Vec<u8>>> = (0..500)
        .map(|n| cmd!["LOCK.ACQUIRE", "k", "TOKEN", format!("user{n}"), "QUEUE", 600_000].to_vec())
        .collect();
    let places: Vec<i64> = shared.pipeline(&requests).iter().map(ticket).collect();
    assert!(places.is_sorted_by(|one, next| one < next));
    assert_eq!(waiting(&mut client, "k"), 500);
    assert_eq!(blocked_clients(&mut client), 0);
    let mut listener = Listener::of(&server, "k");
    let mut last = "a".to_owned();
    for (n, number) in places.iter().enumerate().take(50) {
        release(&mut shared, "k", &last);
        listener.hears(*number);
        last = format!("user{n}");
        claim(&mut shared, &format!("k TOKEN {last}"));
    }
}

// --- pauses, grace, denied writes, full memory

#[test]
fn while_writes_are_paused_nobody_is_called_and_afterwards_the_first_is() {
    const PAUSE: Duration = Duration::from_millis(1_800);
    let settings = || Server::builder().config("lock.claim-lease 600000");
    let mut pair = Pair::start_with(settings().aof(), settings());
    let server = &mut pair.master;
    let mut client = server.client();
    let mut listener = Listener::of(server, "k");
    acquire(&mut client, "k TOKEN a PX 60000");
    let number = place(&mut client, "k TOKEN b QUEUE 600000");
    let paused = Instant::now();
    let pause = format!("CLIENT PAUSE {} WRITE", PAUSE.as_millis());
    let replies = client.run_all(&["LOCK.EXTEND k a PX 900", &pause]);
    assert_eq!(replies, [Reply::Int(1), Reply::Simple("OK".into())]);
    listener.hears(number);
    // The server counts it in whole milliseconds.
    let least = PAUSE - Duration::from_millis(10);
    assert!(paused.elapsed() >= least, "called {:?} into the pause", paused.elapsed());
    claim(&mut client, "k TOKEN b");
    release(&mut client, "k", "b");
    assert_left_in_peace(server, "k");
    server.assert_alive();
    pair.wait_caught_up();
    pair.replica.assert_alive();
}

#[test]
fn a_place_ends_in_its_time_though_the_server_pauses() {
    for mode in ["WRITE", "ALL"] {
        let mut pair = Pair::start_with(Server::builder().aof(), Server::builder());
        let server = &mut pair.master;
        let mut client = server.client();
        acquire(&mut client, "k TOKEN a PX 600000");
        place(&mut client, "k TOKEN b QUEUE 100");
        client.ok(&format!("CLIENT PAUSE 600 {mode}"));
        wait_until("its time is over", PATIENCE, || waiting(&mut client, "k") == 0);
        client.ok("CLIENT UNPAUSE");
        release(&mut client, "k", "a");
        assert_left_in_peace(server, "k");
        server.assert_alive();
    }
}

#[test]
fn a_pause_that_begins_with_the_release_puts_the_call_off_and_does_not_forget_it() {
    let (server, mut client) = held();
    let mut listener = Listener::of(&server, "k");
    let number = place(&mut client, "k TOKEN b QUEUE 600000");
    client.run_all(&["MULTI", "CLIENT PAUSE 200 WRITE", "LOCK.RELEASE k a", "EXEC"]);
    listener.hears(number);
    claim(&mut client, "k TOKEN b");
}

#[test]
fn a_connection_lost_during_a_pause_leaves_its_place() {
    let (server, mut client) = held();
    let waiter = Waiter::new(&server, "k TOKEN b BLOCK 0 QUEUE 600000");
    client.ok("CLIENT PAUSE 500 ALL");
    drop(waiter);
    let mut observer = server.client();
    wait_until("its place stands without it", PATIENCE, || {
        tickets(&mut observer, "k").first().is_some_and(Option::is_some)
    });
    call_next(&mut observer, "k", "a", "b");
}

#[test]
fn in_restart_grace_places_wait_on_and_are_called_in_order_when_it_is_over() {
    // Long enough for all who ask while it lasts.
    const GRACE_MS: u64 = 5_000;
    let mut server = Server::builder()
        .aof()
        .config(&format!("lock.restart-grace {GRACE_MS}"))
        .config("lock.claim-lease 600000")
        .start();
    acquire(&mut server.client(), "held TOKEN a PX 600000");
    server.kill9();
    let start = Instant::now();
    server.start_again();
    let mut client = server.client();
    let mut listener = Listener::of(&server, "k");
    let first = place(&mut client, "k TOKEN first QUEUE 600000");
    let second = place(&mut client, "k TOKEN second QUEUE 600000");
    let behind = place(&mut client, "held TOKEN b QUEUE 600000");
    let mut other = Listener::of(&server, "held");
    release(&mut client, "held", "a");
    assert_eq!(place(&mut client, "k TOKEN first QUEUE 600000"), first, "the lock is free, and nobody's yet");
    listener.hears(first);
    assert!(start.elapsed() >= Duration::from_millis(GRACE_MS), "{:?}", start.elapsed());
    other.hears(behind);
    assert_eq!(tickets(&mut client, "k"), [Some(second)]);
    release(&mut client, "k", "first");
    listener.hears(second);
}

#[test]
fn in_restart_grace_a_place_ends_in_its_time() {
    let mut server = Server::builder().aof().config("lock.restart-grace 3600000").start();
    acquire(&mut server.client(), "held TOKEN a PX 600000");
    server.restart(Data::NoSave);
    let mut client = server.client();
    place(&mut client, "k TOKEN b QUEUE 200");
    place(&mut client, "k TOKEN c QUEUE 600000");
    wait_until("its time is over", PATIENCE, || waiting(&mut client, "k") == 1);
    assert!(!is_called(&mut client, "k", "c"));
    client.ok("CONFIG SET lock.restart-grace 0");
    wait_until("it is called", PATIENCE, || is_called(&mut client, "k", "c"));
}

#[test]
fn while_too_few_replicas_keep_up_nobody_is_called() {
    let server = Server::builder().config("lock.claim-lease 600000").start();
    let mut client = server.client();
    let mut listener = Listener::of(&server, "k");
    acquire(&mut client, "k TOKEN a PX 60000");
    let number = place(&mut client, "k TOKEN b QUEUE 600000");
    let replies = client.run_all(&["LOCK.EXTEND k a PX 300", "CONFIG SET min-replicas-to-write 1"]);
    assert_eq!(replies, [Reply::Int(1), Reply::Simple("OK".into())]);
    let reply = client.run("LOCK.ACQUIRE k TOKEN c QUEUE 600000");
    assert!(reply.error().starts_with("NOREPLICAS "), "{reply:?}");
    wait_until("the lease is over", PATIENCE, || remaining(&mut client, "k", "a").is_none());
    time_passes(Instant::now(), Duration::from_millis(300));
    listener.heard_nothing();
    assert!(!is_called(&mut client, "k", "b"));
    client.ok("CONFIG SET min-replicas-to-write 0");
    listener.hears(number);
    claim(&mut client, "k TOKEN b");
}

#[test]
fn where_memory_is_full_nobody_asks_for_a_place_and_who_has_one_is_called_and_claims_by_extend() {
    let (server, mut client) = held();
    let mut listener = Listener::of(&server, "k");
    let number = place(&mut client, "k TOKEN b QUEUE 600000");
    client.ok("CONFIG SET maxmemory 1");
    let reply = client.run("LOCK.ACQUIRE k TOKEN c QUEUE 600000");
    assert!(reply.error().starts_with("OOM "), "{reply:?}");
    release(&mut client, "k", "a");
    listener.hears(number);
    assert!(remaining(&mut client, "k", "b").is_some());
    assert_eq!(client.run("LOCK.EXTEND k b PX 700000"), Reply::Int(1));
    assert_eq!(leases(&mut client, "k").len(), 1);
    assert!(remaining(&mut client, "k", "b") > Some(600_000));
    release(&mut client, "k", "b");
    client.ok("CONFIG SET maxmemory 0");
    assert_left_in_peace(&server, "k");
}

#[test]
fn a_client_that_may_not_be_evicted_or_is_tracked_asks_as_any_other() {
    let (server, mut client) = held();
    let mut asking: Client = server.client3();
    for command in ["CLIENT NO-EVICT ON", "CLIENT TRACKING ON", "CLIENT REPLY ON", "CLIENT SETNAME me"] {
        asking.ok(command);
    }
    let first = place(&mut asking, "k TOKEN b QUEUE 600000");
    assert_eq!(tickets(&mut client, "k"), [Some(first)]);
}

#[test]
fn who_wants_no_reply_has_its_place_all_the_same() {
    let (server, mut client) = held();
    let mut silent = server.client();
    silent.send(&["CLIENT", "REPLY", "SKIP"]);
    silent.send(&"LOCK.ACQUIRE k TOKEN b OWNER b QUEUE 600000".split(' ').collect::<Vec<_>>());
    assert_eq!(silent.run("PING"), Reply::Simple("PONG".into()));
    let entry = entries(&mut client, "k")[0].clone();
    assert_eq!(field(&entry, "owner").text(), "b");
    assert_eq!(client.run("LOCK.CHECK k b"), null(&client));
    call_next(&mut client, "k", "a", "b");
}
