//! Commands that the server runs late. Redis 7.0 carries out what stood behind a blocking command on its connection, or was
//! held back by CLIENT PAUSE, after the module's last look at the turn: who is served by it is still told at once, and nobody
//! who comes afterwards gets in between.
//!
//! The server's clockwork ticks once a second here, so that whoever is left for the tick is noticed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crate::support::locks::acquire;
use crate::support::{Client, Reply, Server, Waiter, at_once};

const ROUNDS: usize = 20;

fn server() -> Server {
    Server::builder().config("hz 1").config("dynamic-hz no").start()
}

/// A command that blocks, and what ends it.
const BLOCKING: [[&str; 2]; 3] =
    [["SET a 1", "WAIT 1 40"], ["PING", "BLPOP nothing 0.04"], ["PING", "XREAD BLOCK 40 STREAMS nothing $"]];

fn words(command: &str) -> Vec<&str> {
    command.split_ascii_whitespace().collect()
}

#[test]
fn what_runs_behind_a_blocked_command_serves_whoever_waits_at_once() {
    let server = server();
    let mut client = server.client();
    for [before, blocking] in BLOCKING {
        for freeing in ["LOCK.RELEASE k a", "DEL k", "LOCK.BREAK k", "RENAME k elsewhere", "FLUSHDB"] {
            at_once(&format!("{freeing} behind {blocking}"), || {
                acquire(&mut client, "k TOKEN a");
                let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
                let mut pipe = server.client();
                for command in [before, blocking, freeing] {
                    pipe.send(&words(command));
                }
                let replies = [pipe.read(), pipe.read(), pipe.read()];
                assert!(!replies[2].is_error(), "{freeing}: {replies:?}");
                let freed = Instant::now();
                waiter.granted();
                let delay = freed.elapsed();
                client.run("FLUSHALL");
                delay
            });
        }
    }
}

#[test]
fn what_a_pause_held_back_serves_whoever_waits_at_once() {
    let server = server();
    let mut client = server.client();
    for mode in ["WRITE", "ALL"] {
        for freeing in ["LOCK.RELEASE k a", "DEL k"] {
            at_once(&format!("{freeing} after a pause"), || {
                acquire(&mut client, "k TOKEN a");
                let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
                let mut held_back = server.client();
                client.ok(&format!("CLIENT PAUSE 100 {mode}"));
                held_back.send(&words(freeing));
                assert_eq!(held_back.read(), Reply::Int(1));
                let freed = Instant::now();
                waiter.granted();
                let delay = freed.elapsed();
                client.run("DEL k");
                delay
            });
        }
    }
}

#[test]
fn nobody_who_comes_afterwards_gets_in_where_a_late_del_freed_the_lock() {
    let server = server();
    let (is_over, got_in) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let hammers: Vec<_> = (0..3)
            .map(|_| {
                let mut client: Client = server.client();
                let (is_over, got_in) = (&is_over, &got_in);
                scope.spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        if client.run("SET k v NX") == Reply::Simple("OK".into()) {
                            got_in.fetch_add(1, Ordering::Relaxed);
                            client.run("DEL k");
                        }
                    }
                })
            })
            .collect();
        let mut client = server.client();
        for round in 0..ROUNDS {
            let holder = loop {
                // A hammer may have the key for a moment.
                let reply = client.run("LOCK.ACQUIRE k TOKEN a");
                if matches!(reply, Reply::Array(_)) {
                    break reply;
                }
            };
            assert!(!holder.is_null());
            let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
            let before = got_in.load(Ordering::Relaxed);
            let mut pipe = server.client();
            let [wait_for, blocking] = BLOCKING[round % BLOCKING.len()];
            for command in [wait_for, blocking, "DEL k"] {
                pipe.send(&words(command));
            }
            drop([pipe.read(), pipe.read(), pipe.read()]);
            waiter.granted();
            assert_eq!(got_in.load(Ordering::Relaxed), before, "somebody came between, round {round}");
            client.run("LOCK.RELEASE k b");
        }
        is_over.store(true, Ordering::Relaxed);
        hammers.into_iter().for_each(|hammer| hammer.join().unwrap());
    });
}
