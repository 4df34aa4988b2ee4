//! What a server tells its replicas and its append-only file of locks that are handed over: what freed the lock, then who
//! holds it. Never a question.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "support/stream.rs"]
mod stream;
mod support;

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use stream::{Stream, append_only_commands, append_only_file, granted};
use support::locks::{acquire, exists, field, holder, holders};
use support::waiter::{assert_left_in_peace, release, time_passes, wait_blocked};
use support::{Client, PATIENCE, Pair, Random, Reply, Server, Waiter, wait_until};

/// A lock held by `a`, a waiter with the token `b`, and the stream from then on.
#[track_caller]
fn contended(server: &Server, lease: &str) -> (Client, Waiter, Stream, i64) {
    let mut client = server.client();
    let fence = acquire(&mut client, &format!("k TOKEN a {lease}")).fence;
    let mut stream = Stream::of(server);
    let waiter = Waiter::new(server, "k TOKEN b PX 60000 OWNER me BLOCK 0");
    assert_eq!(stream.until_now(&mut client), [""; 0], "nobody is told of a question");
    (client, waiter, stream, fence)
}

/// What was told, without the bounds of transactions.
#[track_caller]
fn told(stream: &mut Stream, client: &mut Client) -> Vec<String> {
    let mut said = stream.until_now(client);
    said.retain(|line| line != "MULTI" && line != "EXEC");
    said
}

#[track_caller]
fn to_the_waiter(fence: i64) -> String {
    granted("k", "b", fence, 1, 60_000, Some("me"))
}

#[test]
fn a_release_is_told_and_then_the_grant() {
    let server = Server::start();
    let (mut client, mut waiter, mut stream, _) = contended(&server, "PX 60000");
    release(&mut client, "k", "a");
    let fence = waiter.granted().fence;
    assert_eq!(told(&mut stream, &mut client), ["LOCK.RELEASE k a".to_owned(), to_the_waiter(fence)]);
}

#[test]
fn a_release_and_its_grant_are_one_transaction() {
    let server = Server::start();
    let (mut client, mut waiter, mut stream, _) = contended(&server, "PX 60000");
    release(&mut client, "k", "a");
    let fence = waiter.granted().fence;
    let said = stream.until_now(&mut client);
    assert_eq!(
        said,
        ["MULTI".to_owned(), "LOCK.RELEASE k a".to_owned(), to_the_waiter(fence), "EXEC".to_owned()]
    );
}

#[test]
fn the_end_of_a_lease_is_told_as_a_break_and_then_the_grant() {
    let server = Server::start();
    let (mut client, mut waiter, mut stream, first) = contended(&server, "PX 300");
    let fence = waiter.granted().fence;
    let due = [format!("LOCK.BREAK k FENCE {first}"), to_the_waiter(fence)];
    assert_eq!(told(&mut stream, &mut client), due);
}

#[test]
fn a_deletion_is_told_and_then_the_grant() {
    let server = Server::start();
    for deletion in
        ["DEL k", "UNLINK k", "FLUSHALL", "FLUSHDB", "LOCK.BREAK k", "RENAME k elsewhere", "MOVE k 1"]
    {
        let (mut client, mut waiter, mut stream, _) = contended(&server, "PX 60000");
        assert!(!client.run(deletion).is_error());
        let fence = waiter.granted().fence;
        // FLUSHALL may be told in a word more.
        let mut said = told(&mut stream, &mut client);
        said[0].truncate(deletion.len());
        assert_eq!(said, [deletion.to_owned(), to_the_waiter(fence)]);
        client.ok("FLUSHALL");
    }
}

#[test]
fn the_end_of_a_connection_is_told_as_a_break_or_a_release_and_then_the_grant() {
    let server = Server::start();
    let mut session = server.client();
    let first = acquire(&mut session, "k TOKEN a PX 600000 SESSION").fence;
    let mut stream = Stream::of(&server);
    let mut waiter = Waiter::new(&server, "k TOKEN b PX 60000 OWNER me BLOCK 0");
    drop(session);
    let fence = waiter.granted().fence;
    let said = told(&mut stream, &mut server.client());
    let ended = [format!("LOCK.BREAK k FENCE {first}"), "LOCK.RELEASE k a".to_owned()];
    assert!(said.len() == 2 && ended.contains(&said[0]), "{said:?}");
    assert_eq!(said[1], to_the_waiter(fence));
}

#[test]
fn waits_that_end_without_a_grant_are_not_told() {
    let server = Server::start();
    let (mut client, waiter, mut stream, _) = contended(&server, "PX 60000");
    drop(waiter);
    wait_blocked(&server, 0);
    assert!(client.run("LOCK.ACQUIRE k TOKEN c BLOCK 20").is_null());
    let mut waiter = Waiter::new(&server, "k TOKEN d BLOCK 0");
    client.run(&format!("CLIENT UNBLOCK {}", waiter.id));
    waiter.refused();
    assert_eq!(stream.until_now(&mut client), [""; 0]);
}

#[test]
fn a_grant_that_is_undone_is_told_as_undone() {
    let server = Server::start();
    let (mut client, mut waiter, mut stream, _) = contended(&server, "PX 60000");
    let kill = format!("CLIENT KILL ID {}", waiter.id);
    client.run_all(&["LOCK.RELEASE k a", &kill]);
    waiter.closed();
    wait_until("the lock is free", PATIENCE, || !exists(&mut client, "k"));
    let said = told(&mut stream, &mut client);
    assert_eq!(said[0], "LOCK.RELEASE k a");
    assert!(said.len() == 1 || said.len() == 3, "a grant, if it was told, and its end: {said:?}");
}

#[test]
fn the_append_only_file_has_the_same_and_no_question() {
    let server = Server::builder().aof().config("aof-use-rdb-preamble no").start();
    let mut client = server.client();
    let first = acquire(&mut client, "k TOKEN a PX 60000").fence;
    let mut waiter = Waiter::new(&server, "k TOKEN b PX 60000 OWNER me BLOCK 0 SESSION");
    release(&mut client, "k", "a");
    let second = waiter.granted().fence;
    let mut said = append_only_file(&server);
    said.retain(|line| line != "MULTI" && line != "EXEC");
    let due =
        [granted("k", "a", first, 1, 60_000, None), "LOCK.RELEASE k a".to_owned(), to_the_waiter(second)];
    assert_eq!(said, due);
    for command in append_only_commands(&server) {
        for word in ["BLOCK", "SESSION"] {
            assert!(!command.iter().any(|part| part == word.as_bytes()), "{command:?}");
        }
    }
}

#[test]
fn after_a_power_cut_the_one_who_was_handed_the_lock_holds_it() {
    let mut server = Server::builder().aof().start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    let mut waiter = Waiter::new(&server, "k TOKEN b PX 600000 BLOCK 0");
    release(&mut client, "k", "a");
    let fence = waiter.granted().fence;
    server.kill9();
    server.start_again();
    let mut client = server.client();
    assert_eq!(field(&holder(&mut client, "k"), "fence"), Reply::Int(fence));
    release(&mut client, "k", "b");
    assert_left_in_peace(&server, "k");
}

/// Clients that want the same few locks, wait for them, give them back, let them run out, delete them, and leave.
#[test]
fn a_replica_agrees_with_its_master_after_many_contended_rounds() {
    const CLIENTS: usize = 8;
    const ROUNDS: usize = 200;
    let mut pair = Pair::start_with(Server::builder().aof(), Server::builder());
    let mut random = Random::from_environment();
    let address = pair.master.address();
    let threads: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let plan: Vec<usize> = (0..ROUNDS / CLIENTS * 3).map(|_| random.below(1_000)).collect();
            thread::spawn(move || {
                let mut client = Client::connect(address);
                for round in plan.chunks(3) {
                    client = contended_round(client, address, round);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    wait_blocked(&pair.master, 0);
    acquire(&mut pair.master.client(), "last TOKEN a PX 600000");
    pair.wait_caught_up();
    let digest = |server: &Server| server.client().run("DEBUG DIGEST").text();
    wait_until("the digests agree", PATIENCE, || digest(&pair.master) == digest(&pair.replica));
    // The file on disk says the same.
    let mut client = pair.master.client();
    wait_until("short leases have ended and sessions with them", PATIENCE, || {
        client.run("DBSIZE") == Reply::Int(1)
    });
    let before = digest(&pair.master);
    client.ok("DEBUG LOADAOF");
    assert_eq!(digest(&pair.master), before);
    pair.wait_caught_up();
    assert_eq!(holders(&mut pair.replica.client(), "last").len(), 1);
    pair.master.assert_alive();
    pair.replica.assert_alive();
}

/// One round of a client on one of three keys.
fn contended_round(mut client: Client, address: std::net::SocketAddr, round: &[usize]) -> Client {
    let key = format!("k{}", round[0] % 3);
    let (block, lease) = (1 + round[1] % 40, 5 + round[1] % 60);
    let options = ["", " SHARED", " LIMIT 2", " SESSION", " SHARED SESSION"][round[1] % 5];
    let command = format!("LOCK.ACQUIRE {key} PX {lease} BLOCK {block}{options}");
    match round[2] % 10 {
        0 => {
            client.send(&command.split(' ').collect::<Vec<_>>());
            return Client::connect(address);
        }
        1 => drop(client.run(&format!("DEL {key}"))),
        2 => drop(client.run(&format!("RENAME {key} k{}", round[1] % 3))),
        _ => {}
    }
    if let Reply::Array(parts) = client.run(&command) {
        match round[2] % 7 {
            0 => return Client::connect(address),
            1 => time_passes(std::time::Instant::now(), Duration::from_millis(10)),
            _ => drop(client.call(&[b"LOCK.RELEASE".to_vec(), key.into_bytes(), parts[0].bytes()])),
        }
    }
    client
}

#[test]
fn a_replica_has_no_waiters_and_lets_nobody_wait() {
    let pair = Pair::start();
    let (mut client, mut reader) = (pair.master.client(), pair.replica.client());
    acquire(&mut client, "k TOKEN a PX 60000 OWNER a");
    let _waiter = Waiter::new(&pair.master, "k TOKEN b BLOCK 0");
    pair.wait_caught_up();
    assert_eq!(support::waiter::waiting(&mut reader, "k"), 0);
    let reply = reader.run("LOCK.ACQUIRE k BLOCK 0");
    assert!(reply.error().starts_with("READONLY "), "{reply:?}");
    let fences: BTreeSet<i64> =
        [&mut client, &mut reader].map(|it| field(&holder(it, "k"), "fence").int()).into_iter().collect();
    assert_eq!(fences.len(), 1);
}
