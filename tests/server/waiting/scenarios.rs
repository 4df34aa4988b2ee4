//! Scenes from the field: crowds, crashed holders, readers and writers, a server with other work to do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::locks::{acquire, field, holder};
use crate::support::waiter::{assert_left_in_peace, blocked_clients, owners, release, wait_blocked, waiting};
use crate::support::{Client, PATIENCE, Reply, Server, Waiter, cmd, ok_grant, wait_until};

/// Every holder crashes with the lock: each lease must end before the next one's turn. When that was says the fence, near
/// the wall clock in microseconds; the reply may be read any time later.
#[test]
fn eight_waiters_with_leases_that_nobody_gives_back_are_served_in_order() {
    const LEASE_MICROS: i64 = 1_000_000;
    // What stalls a crowded machine.
    const LATE_MICROS: i64 = 10_000_000;
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN first PX 600000");
    let mut waiters: Vec<_> =
        (0..8).map(|n| Waiter::new(&server, &format!("k TOKEN w{n} PX 1000 BLOCK 0"))).collect();
    release(&mut client, "k", "first");
    let mut last = None;
    for (n, waiter) in waiters.iter_mut().enumerate() {
        let (token, fence) = ok_grant(waiter.client.read());
        assert_eq!(token, format!("w{n}").into_bytes());
        if let Some(last) = last.replace(fence) {
            let passed = fence - last;
            assert!(passed > LEASE_MICROS * 9 / 10, "{passed} microseconds after the one before");
            assert!(passed < LEASE_MICROS + LATE_MICROS, "{passed} microseconds after the one before");
        }
    }
    wait_until("the last lease ends", PATIENCE, || client.run("EXISTS k") == Reply::Int(0));
    assert_left_in_peace(&server, "k");
}

#[test]
fn five_hundred_waiters_are_all_served_one_at_a_time() {
    const WAITERS: usize = 500;
    let mut server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN first");
    let waiters: Vec<Client> = (0..WAITERS)
        .map(|n| {
            let mut waiter = server.client();
            waiter.send(&cmd!["LOCK.ACQUIRE", "k", "TOKEN", format!("w{n}"), "BLOCK", 0]);
            waiter
        })
        .collect();
    wait_blocked(&server, WAITERS);
    assert_eq!(waiting(&mut client, "k"), 500);
    let busy = AtomicBool::new(false);
    release(&mut client, "k", "first");
    thread::scope(|scope| {
        for share in split(waiters, 4) {
            let busy = &busy;
            // Its waiters came in this order, and so are served in it.
            scope.spawn(move || {
                let mut last = 0;
                for mut waiter in share {
                    let (token, fence) = ok_grant(waiter.read());
                    assert!(!busy.swap(true, Ordering::SeqCst), "two hold the lock");
                    assert!(fence > last, "in the order they came");
                    last = fence;
                    busy.store(false, Ordering::SeqCst);
                    release(&mut waiter, "k", token);
                }
            });
        }
    });
    assert_left_in_peace(&server, "k");
    server.assert_alive();
}

#[test]
fn a_waiter_that_is_killed_delays_nobody() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    let killed: Vec<_> =
        (0..5).map(|n| Waiter::new(&server, &format!("k TOKEN x{n} PX 600000 BLOCK 0"))).collect();
    let mut next = Waiter::new(&server, "k TOKEN b BLOCK 0");
    for waiter in &killed {
        assert_eq!(client.run(&format!("CLIENT KILL ID {}", waiter.id)), Reply::Int(1));
    }
    let released = Instant::now();
    release(&mut client, "k", "a");
    next.granted();
    assert!(released.elapsed() < Duration::from_secs(5), "{:?}", released.elapsed());
}

#[test]
fn a_holder_that_crashes_with_a_session_delays_nobody() {
    let server = Server::start();
    let mut crashed = server.client();
    acquire(&mut crashed, "k PX 600000 SESSION");
    let mut waiters: Vec<_> = (0..5).map(|_| Waiter::new(&server, "k PX 600000 SESSION BLOCK 0")).collect();
    let began = Instant::now();
    drop(crashed);
    for mut waiter in waiters.drain(..) {
        waiter.granted();
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_left_in_peace(&server, "k");
}

#[test]
fn twenty_readers_behind_a_writer_enter_together() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN writer");
    let mut readers: Vec<_> =
        (0..20).map(|n| Waiter::new(&server, &format!("k SHARED TOKEN r{n} OWNER r{n} BLOCK 0"))).collect();
    let replies = client.run_all(&["LOCK.RELEASE k writer", "LOCK.INFO k"]);
    assert_eq!(field(&replies[1], "holders").items().len(), 20);
    assert_eq!(field(&replies[1], "waiting"), Reply::Int(0));
    let fences: Vec<i64> = readers.iter_mut().map(|reader| reader.granted().fence).collect();
    assert!(fences.is_sorted_by(|one, next| one < next), "{fences:?}");
    assert_eq!(owners(&mut client, "k").0.len(), 20);
}

#[test]
fn a_writer_behind_readers_with_different_leases_enters_when_the_longest_ends() {
    let server = Server::start();
    let mut client = server.client();
    for n in 0..4 {
        acquire(&mut client, &format!("k SHARED TOKEN r{n} PX 600000"));
    }
    let mut writer = Waiter::new(&server, "k TOKEN w BLOCK 0");
    let began = Instant::now();
    let leases =
        ["r0 PX 400", "r1 PX 1200", "r2 PX 200", "r3 PX 800"].map(|it| format!("LOCK.EXTEND k {it}"));
    assert_eq!(client.run_all(&leases.each_ref().map(String::as_str)), [(); 4].map(|()| Reply::Int(1)));
    writer.granted();
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(1_200), "after {waited:?}");
    assert_eq!(field(&holder(&mut client, "k"), "limit"), Reply::Int(1));
}

#[test]
fn readers_and_writers_in_turns_starve_nobody() {
    let server = Server::start();
    let stop = AtomicBool::new(false);
    let address = server.address();
    thread::scope(|scope| {
        // Readers that overlap, so that the lock is never free of them unless they are kept out.
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                while !stop.load(Ordering::SeqCst) {
                    let (token, _) = ok_grant(client.run("LOCK.ACQUIRE k SHARED BLOCK 0"));
                    thread::sleep(Duration::from_millis(3));
                    release(&mut client, "k", token);
                }
            });
        }
        let mut writer = server.client();
        for _ in 0..20 {
            let (token, _) = ok_grant(writer.run("LOCK.ACQUIRE k BLOCK 15000"));
            release(&mut writer, "k", token);
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert_left_in_peace(&server, "k");
}

#[test]
fn locks_are_handed_over_while_the_append_only_file_is_rewritten() {
    const HANDS: usize = 400;
    let mut server = Server::builder().aof().config("aof-use-rdb-preamble no").start();
    let mut client = server.client();
    let value = "x".repeat(4_000);
    let fill: Vec<_> = (0..5_000).map(|n| cmd!["SET", format!("filler{n}"), value]).collect();
    client.pipeline(&fill);
    // A rewrite that takes as long as this test hands locks over.
    client.ok("CONFIG SET rdb-key-save-delay 200");
    acquire(&mut client, "k TOKEN t0 PX 600000");
    assert!(!client.run("BGREWRITEAOF").is_error());
    let rewriting = |client: &mut Client| client.info("persistence", "aof_rewrite_in_progress") == "1";
    wait_until("the rewrite runs", PATIENCE, || rewriting(&mut client));
    let mut other = server.client();
    let mut during = 0;
    let mut last = 0;
    for n in 1..=HANDS {
        let mut waiter = Waiter::on(&server, other, &format!("k TOKEN t{n} PX 600000 BLOCK 0"));
        release(&mut client, "k", format!("t{}", n - 1));
        let fence = waiter.granted().fence;
        assert!(fence > last);
        last = fence;
        (client, other) = (waiter.client, client);
        if !rewriting(&mut client) {
            break;
        }
        during = n;
    }
    assert!(during > 0, "locks were handed over while the rewrite ran");
    client.ok("CONFIG SET rdb-key-save-delay 0");
    wait_until("the rewrite is done", PATIENCE, || !rewriting(&mut client));
    assert_eq!(client.info("persistence", "aof_last_bgrewrite_status"), "ok");
    let hold = holder(&mut client, "k");
    assert_eq!(field(&hold, "fence"), Reply::Int(last));
    server.kill9();
    server.start_again();
    let mut client = server.client();
    assert_eq!(field(&holder(&mut client, "k"), "fence"), Reply::Int(last), "what was handed over last");
    assert_eq!(blocked_clients(&mut client), 0);
    server.assert_alive();
}

#[test]
fn a_thousand_keys_with_a_waiter_each_are_handed_over_by_one_flush() {
    const KEYS: usize = 1_000;
    let mut server = Server::start();
    let mut client = server.client();
    client.pipeline(
        &(0..KEYS).map(|n| cmd!["LOCK.ACQUIRE", format!("k{n}"), "TOKEN", "a"]).collect::<Vec<_>>(),
    );
    let mut waiters: Vec<Client> = (0..KEYS)
        .map(|n| {
            let mut waiter = server.client();
            waiter.send(&cmd!["LOCK.ACQUIRE", format!("k{n}"), "TOKEN", "b", "BLOCK", 0]);
            waiter
        })
        .collect();
    wait_blocked(&server, KEYS);
    client.ok("FLUSHALL");
    for waiter in &mut waiters {
        assert_eq!(ok_grant(waiter.read()).0, b"b");
    }
    assert_eq!(client.run("DBSIZE"), Reply::Int(1_000));
    wait_blocked(&server, 0);
    server.assert_alive();
}

/// `items` in as many shares as said, dealt in turns.
fn split<T>(items: Vec<T>, shares: usize) -> Vec<Vec<T>> {
    let mut dealt: Vec<Vec<T>> = (0..shares).map(|_| Vec::new()).collect();
    for (n, item) in items.into_iter().enumerate() {
        dealt[n % shares].push(item);
    }
    dealt
}
