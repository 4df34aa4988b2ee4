//! A server that is killed under load: with `appendfsync always` nothing is lost that a client was told of, and a replica
//! that had caught up knows all of it once it is promoted.
//!
//! The process is killed, not the machine, so that nothing here depends on the disk.

use crate::support::ledger::{Crew, Ledger};
use crate::support::locks::{acquire, field, holder};
use crate::support::payload::raise_fences;
use crate::support::waiter::{assert_left_in_peace, blocked_clients, release, wait_blocked};
use crate::support::{Builder, Pair, Random, Reply, Server, Waiter};

/// Clients at work.
const CLIENTS: usize = 12;

/// How often the server is killed.
const ROUNDS: usize = 6;

/// Grants after which it is killed, less a random part.
const GRANTS: usize = 300;

#[track_caller]
fn nothing_acknowledged_is_lost(builder: Builder, rewrites: bool) {
    let mut server = builder.config("rdbcompression no").start();
    // Ahead of the clock, so that only who has kept the last fence goes on above it.
    raise_fences(&mut server.client());
    let mut random = Random::from_environment();
    let mut ledger = Ledger::default();
    for round in 0..ROUNDS {
        let crew = Crew::of(&server, &format!("round-{round}"));
        let grants = 1 + random.below(GRANTS);
        let seed = random.next();
        let mut choices = Random::from_seed(seed);
        crew.work(CLIENTS, &mut random, &mut ledger, || {
            crew.wait_for_grants(grants);
            if rewrites {
                let begun = server.client().run("BGREWRITEAOF");
                assert!(!begun.is_error(), "{begun:?}");
                crew.wait_for_grants(grants + choices.below(GRANTS));
            }
            server.kill9();
        });
        server.start_again();
        assert_eq!(blocked_clients(&mut server.client()), 0);
        ledger.assert_kept_by(&server);
    }
    assert!(ledger.held() > 0, "nobody held anything in the end");
    server.assert_alive();
}

#[test]
fn nothing_acknowledged_is_lost_in_a_crash() {
    nothing_acknowledged_is_lost(Server::builder().aof(), false);
}

#[test]
fn nothing_acknowledged_is_lost_in_a_crash_during_a_rewrite() {
    nothing_acknowledged_is_lost(Server::builder().aof().config("aof-use-rdb-preamble no"), true);
}

#[test]
fn nothing_acknowledged_is_lost_in_a_crash_during_a_rewrite_to_a_snapshot() {
    nothing_acknowledged_is_lost(Server::builder().aof().config("aof-use-rdb-preamble yes"), true);
}

#[test]
fn the_one_who_was_handed_the_lock_just_before_a_crash_holds_it_after() {
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

/// The load stops, the replica catches up, the master is killed, some clients still waiting.
#[test]
fn nothing_acknowledged_is_lost_by_the_promotion_of_a_replica_that_has_caught_up() {
    let mut pair = Pair::start_with(Server::builder().config("rdbcompression no"), Server::builder());
    raise_fences(&mut pair.master.client());
    let mut random = Random::from_environment();
    let mut ledger = Ledger::default();
    let crew = Crew::of(&pair.master, "before");
    crew.work(CLIENTS, &mut random, &mut ledger, || crew.wait_for_grants(GRANTS));
    let mut client = pair.master.client();
    let kept = acquire(&mut client, "kept TOKEN a PX 600000");
    let mut waiters = [1, 2].map(|n| Waiter::new(&pair.master, &format!("kept TOKEN w{n} BLOCK 0")));
    assert_eq!(client.run("WAIT 1 20000"), Reply::Int(1));
    pair.master.kill9();
    waiters.iter_mut().for_each(Waiter::closed);
    let mut promoted = pair.replica.client();
    promoted.ok("REPLICAOF NO ONE");
    ledger.assert_kept_by(&pair.replica);
    assert!(ledger.held() > 0, "nobody held anything in the end");
    assert_eq!(field(&holder(&mut promoted, "kept"), "fence"), Reply::Int(kept.fence));

    // The new master goes on where the old one ended.
    let crew = Crew::of(&pair.replica, "after");
    crew.work(CLIENTS, &mut random, &mut ledger, || crew.wait_for_grants(GRANTS));
    ledger.assert_kept_by(&pair.replica);
    pair.replica.assert_alive();
}

/// What the replica had not received is lost, and may be granted again; fences rise all the same, for the clocks agree.
#[test]
fn fences_rise_over_a_promotion_that_loses_grants() {
    let mut pair = Pair::start();
    let mut random = Random::from_environment();
    let mut ledger = Ledger::default();
    let crew = Crew::of(&pair.master, "before");
    let Pair { master, replica } = &mut pair;
    crew.work(CLIENTS, &mut random, &mut ledger, || {
        crew.wait_for_grants(GRANTS);
        master.kill9();
    });
    let mut promoted = replica.client();
    promoted.ok("REPLICAOF NO ONE");
    assert!(acquire(&mut promoted, "next").fence > ledger.highest_fence());
    wait_blocked(replica, 0);
    replica.assert_alive();
}
