//! How many may wait: a place counts as a blocked client does.

use super::{held, lose, patient, place, ticket};
use crate::support::locks::{acquire, refused};
use crate::support::waiter::{release, waiting};
use crate::support::{Client, PATIENCE, Reply, Server, Waiter, cmd, wait_until};

/// The request must be turned away for the queue being full.
#[track_caller]
fn queue_full(client: &mut Client, rest: &str) {
    let reply = client.run(&format!("LOCK.ACQUIRE {rest}"));
    assert!(reply.error().starts_with("QUEUEFULL "), "LOCK.ACQUIRE {rest}: {reply:?}");
}

#[test]
fn a_key_has_room_for_so_many_places_and_clients_together() {
    let server = Server::builder().config("lock.max-waiters-per-key 3").start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    acquire(&mut client, "l TOKEN a PX 600000");
    place(&mut client, "k TOKEN b QUEUE 600000");
    let mut waiter = Waiter::new(&server, "k TOKEN c BLOCK 0");
    place(&mut client, "k TOKEN d QUEUE 600000");
    for options in ["QUEUE 600000", "BLOCK 0 QUEUE 600000", "BLOCK 0", "SHARED QUEUE 1", "BLOCK 1"] {
        queue_full(&mut client, &format!("k TOKEN e {options}"));
    }
    refused(&mut client, "k TOKEN e");
    assert_eq!(waiting(&mut client, "k"), 3);
    place(&mut client, "l TOKEN e QUEUE 600000");
    release(&mut client, "k", "a");
    place(&mut client, "k TOKEN e QUEUE 600000");
    queue_full(&mut client, "k TOKEN f QUEUE 600000");
    release(&mut client, "k", "b");
    waiter.granted();
}

#[test]
fn a_server_has_room_for_so_many_places_and_clients_together() {
    let server = Server::builder().config("lock.max-waiters 3").start();
    let mut client = server.client();
    let mut elsewhere = server.client();
    elsewhere.ok("SELECT 1");
    for client in [&mut client, &mut elsewhere] {
        acquire(client, "k TOKEN a PX 600000");
        acquire(client, "l TOKEN a PX 600000");
    }
    place(&mut client, "k TOKEN b QUEUE 600000");
    place(&mut elsewhere, "k TOKEN b QUEUE 600000");
    let _waiter = Waiter::new(&server, "l TOKEN b BLOCK 0 QUEUE 600000");
    for key in ["k", "l"] {
        queue_full(&mut client, &format!("{key} TOKEN c QUEUE 600000"));
        queue_full(&mut elsewhere, &format!("{key} TOKEN c BLOCK 0"));
    }
    acquire(&mut client, "free TOKEN c QUEUE 600000");
    acquire(&mut client, "l TOKEN a QUEUE 600000");
}

#[test]
fn a_repeat_needs_no_room() {
    let server = Server::builder().config("lock.max-waiters-per-key 2").config("lock.max-waiters 2").start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    let first = place(&mut client, "k TOKEN b QUEUE 600000");
    place(&mut client, "k TOKEN c QUEUE 600000");
    for options in ["QUEUE 600000", "BLOCK 1 QUEUE 600000", "SHARED QUEUE 600000"] {
        assert_eq!(place(&mut client, &format!("k TOKEN b {options}")), first, "{options}");
        queue_full(&mut client, "k TOKEN d QUEUE 600000");
    }
    let waiter = Waiter::new(&server, "k TOKEN b BLOCK 0 QUEUE 600000");
    queue_full(&mut client, "k TOKEN d QUEUE 600000");
    lose(&server, "k", waiter);
    queue_full(&mut client, "k TOKEN d QUEUE 600000");
    client.ok("CONFIG SET lock.max-waiters 0 lock.max-waiters-per-key 0");
    assert_eq!(place(&mut client, "k TOKEN b QUEUE 600000"), first, "nor when the caps are lowered");
}

#[test]
fn a_place_that_ends_makes_room() {
    for cap in ["lock.max-waiters-per-key 2", "lock.max-waiters 2"] {
        let server = Server::builder().config(cap).config("lock.claim-lease 600000").start();
        let mut client = server.client();
        acquire(&mut client, "k TOKEN a PX 600000");
        place(&mut client, "k TOKEN first QUEUE 600000");
        for end in ["LOCK.RELEASE k second", "time", "CLIENT UNBLOCK"] {
            place(&mut client, "k TOKEN second QUEUE 600000");
            queue_full(&mut client, "k TOKEN third QUEUE 600000");
            match end {
                "time" => drop(place(&mut client, "k TOKEN second QUEUE 100")),
                "CLIENT UNBLOCK" => {
                    let mut waiter = Waiter::new(&server, "k TOKEN second BLOCK 0 QUEUE 600000");
                    client.run(&format!("CLIENT UNBLOCK {} ERROR", waiter.id));
                    assert!(waiter.failed().starts_with("UNBLOCKED "));
                }
                _ => assert_eq!(client.run(end), Reply::Int(0)),
            }
            wait_until("it has left", PATIENCE, || waiting(&mut client, "k") == 1);
        }
        // Who is called waits no more.
        place(&mut client, "k TOKEN second QUEUE 600000");
        release(&mut client, "k", "a");
        place(&mut client, "k TOKEN third QUEUE 600000");
        queue_full(&mut client, "k TOKEN fourth QUEUE 600000");
    }
}

#[test]
fn a_full_queue_is_said_in_transactions_and_scripts_too() {
    let server = Server::builder().config("lock.max-waiters 1").start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    let script = "return redis.call('LOCK.ACQUIRE', KEYS[1], 'TOKEN', ARGV[1], 'QUEUE', 600000)";
    let first = ticket(&client.call(&cmd!["EVAL", script, 1, "k", "b"]));
    let reply = client.call(&cmd!["EVAL", script, 1, "k", "c"]);
    assert!(reply.error().contains("QUEUEFULL"), "{reply:?}");
    assert_eq!(ticket(&client.call(&cmd!["EVAL", script, 1, "k", "b"])), first);
    let replies = client.run_all(&["MULTI", "LOCK.ACQUIRE k TOKEN c QUEUE 600000", "EXEC"]);
    assert!(replies[2].items()[0].error().starts_with("QUEUEFULL "), "{replies:?}");
    assert_eq!(waiting(&mut client, "k"), 1);
}

#[test]
fn with_a_cap_of_0_there_is_no_place() {
    for cap in ["lock.max-waiters-per-key 0", "lock.max-waiters 0"] {
        let server = Server::builder().config(cap).start();
        let mut client = server.client();
        acquire(&mut client, "k TOKEN a QUEUE 600000");
        queue_full(&mut client, "k TOKEN b QUEUE 600000");
        queue_full(&mut client, "k TOKEN b BLOCK 0 QUEUE 600000");
        refused(&mut client, "k TOKEN b");
        acquire(&mut client, "k TOKEN a QUEUE 600000");
    }
}

#[test]
fn a_cap_that_is_lowered_sends_no_place_away() {
    let (_server, mut client) = held();
    for n in 0..4 {
        place(&mut client, &format!("k TOKEN t{n} QUEUE 600000"));
    }
    client.ok("CONFIG SET lock.max-waiters 1 lock.max-waiters-per-key 1");
    assert_eq!(waiting(&mut client, "k"), 4);
    queue_full(&mut client, "k TOKEN new QUEUE 600000");
    let mut from = "a".to_owned();
    for n in 0..4 {
        super::call_next(&mut client, "k", &from, &format!("t{n}"));
        from = format!("t{n}");
    }
    place(&mut client, "k TOKEN new QUEUE 600000");
}

#[test]
fn thousands_of_places_block_no_client_and_are_all_called() {
    const CROWD: usize = 9_000;
    let server = patient();
    let mut client = server.client();
    client.ok("CONFIG SET lock.max-waiters-per-key 10000");
    acquire(&mut client, "k TOKEN a PX 600000");
    let requests: Vec<Vec<Vec<u8>>> = (0..CROWD)
        .map(|n| cmd!["LOCK.ACQUIRE", "k", "TOKEN", format!("t{n}"), "SHARED", "QUEUE", 600_000].to_vec())
        .collect();
    for some in requests.chunks(1_000) {
        client.pipeline(some).iter().for_each(|reply| drop(ticket(reply).to_string()));
    }
    assert_eq!(crate::support::waiter::blocked_clients(&mut client), 0);
    assert_eq!(waiting(&mut client, "k"), 9_000);
    release(&mut client, "k", "a");
    wait_until("all are called", PATIENCE, || crate::support::locks::held(&mut client, "k") == 9_000);
    assert_eq!(waiting(&mut client, "k"), 0);
    client.run("DEL k");
    assert_eq!(client.run("LOCK.INFO k"), Reply::NullArray);
}
