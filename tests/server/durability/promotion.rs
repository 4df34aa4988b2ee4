//! Servers that become master and replica: by hand, by FAILOVER, by Sentinel. Leases go on from what the new master knew,
//! nobody is left waiting on the old one, and what its connections kept alive runs out.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::change_over::{Two, WAYS, Way, role};
use crate::support::ledger::{Crew, Ledger};
use crate::support::locks::{acquire, exists, fence_of, field, holder, null, remaining};
use crate::support::payload::raise_fences;
use crate::support::sentinel::Sentinels;
use crate::support::signal::{go_on, stop};
use crate::support::stock::{Stock, agree, select};
use crate::support::waiter::{assert_left_in_peace, release, shorten, time_passes, wait_blocked, waiting};
use crate::support::{
    Client, LONG_PATIENCE, PATIENCE, Pair, Random, Reply, Server, Waiter, caught_up, skip, wait_until,
};

/// Runs a test for each way in which the roles change, side by side, for most of it is waiting.
#[track_caller]
fn in_every_way(test: fn(Way)) {
    thread::scope(|scope| {
        for way in WAYS {
            thread::Builder::new().name(format!("{way:?}")).spawn_scoped(scope, move || test(way)).unwrap();
        }
    });
}

#[test]
fn locks_go_along_in_every_way() {
    in_every_way(locks_go_along);
}

#[test]
fn sessions_run_out_in_every_way() {
    in_every_way(sessions_run_out);
}

#[test]
fn every_waiter_is_answered_in_every_way() {
    in_every_way(every_waiter_is_answered);
}

/// Locks of every kind, and those of clients at work until just before, go there and back.
#[track_caller]
fn locks_go_along(way: Way) {
    let mut two = Two::start(way);
    let mut client = two.master().client();
    // Ahead of the clock, so that only who has heard of the last fence goes on above it.
    raise_fences(&mut client);
    let stock = Stock::lay_in(&mut client);
    let before = stock.view(&mut client);
    let mut random = Random::from_environment();
    let mut ledger = Ledger::default();
    // Sentinel takes its time to have the old master follow: once is enough here.
    let turns = if way == Way::Sentinel { &["there"][..] } else { &["there", "back"] };
    for name in turns {
        let mut client = two.master().client();
        select(&mut client, 1);
        let began = Instant::now();
        acquire(&mut client, "brief TOKEN a PX 1500");
        acquire(&mut client, "over TOKEN a PX 1");
        let crew = Crew::of(two.master(), name);
        crew.work(6, &mut random, &mut ledger, || crew.wait_for_grants(200));
        two.catch_up();
        two.change_over();

        ledger.assert_kept_by(two.master());
        for server in [two.master(), two.replica()] {
            stock.view(&mut server.client()).assert_is_later_than(&before);
        }
        let mut client = two.master().client();
        select(&mut client, 1);
        wait_until("a lease of before ends", PATIENCE, || !exists(&mut client, "brief"));
        assert!(began.elapsed() >= Duration::from_millis(1_500), "too early: {:?}", began.elapsed());
        assert!(!exists(&mut client, "over"));
        agree(two.master(), two.replica());
    }
    assert!(ledger.held() > 0, "nobody at work held anything in the end");
    two.assert_alive();
}

/// What the connections of the old master kept alive ends on the new one with its lease, and no sooner for their ends;
/// and does not end at once when the old master is master again.
#[track_caller]
fn sessions_run_out(way: Way) {
    let mut two = Two::start(way);
    let mut session = two.master().client();
    let id = session.id();
    let long = fence_of(&mut session, "long TOKEN a PX 600000 SESSION");
    acquire(&mut session, "brief TOKEN a PX 5000 SESSION");
    acquire(&mut session, "shared SHARED TOKEN a PX 600000 SESSION LEVEL 1");
    two.catch_up();
    two.begin_change_over();

    let looked = Instant::now();
    let left = remaining(&mut two.master().client(), "brief", "a").expect("its lease has just been extended");
    drop(session);
    two.end_change_over();
    let mut client = two.master().client();
    let mut old = two.replica().client();
    wait_until("its connection is closed", PATIENCE, || {
        old.run(&format!("CLIENT LIST ID {id}")).text().is_empty()
    });
    wait_until("the lease runs out", PATIENCE, || !exists(&mut client, "brief"));
    // What is left is told in whole milliseconds, of which the last may have begun.
    let took = looked.elapsed() + Duration::from_millis(1);
    assert!(
        took >= Duration::from_millis(left.unsigned_abs()),
        "{left} ms were left, it ended after {took:?}"
    );

    two.change_over();
    let mut client = two.master().client();
    // Whatever its connection left to be done would be done by the next command, or within a turn.
    assert_eq!(client.run("LOCK.ACQUIRE long TOKEN b"), null(&client));
    let server = two.master();
    let mut waiter = Waiter::new(server, "long TOKEN b BLOCK 0");
    time_passes(Instant::now(), Duration::from_millis(200));
    waiter.assert_waiting(server);
    for key in ["long", "shared"] {
        let hold = holder(&mut client, key);
        assert_eq!(field(&hold, "session"), Reply::NullBulk, "{key}");
        assert!(field(&hold, "remaining").int() > 500_000, "{key}");
    }
    assert_eq!(field(&holder(&mut client, "long"), "fence"), Reply::Int(long));
    release(&mut client, "long", "a");
    waiter.granted();
    release(&mut client, "long", "b");
    release(&mut client, "shared", "a");
    ["long", "shared"].iter().for_each(|key| assert_left_in_peace(server, key));
    two.assert_alive();
}

/// Clients of every kind, that wait for whatever can be waited for.
#[track_caller]
fn every_waiter_is_answered(way: Way) {
    let mut two = Two::start(way);
    let mut client = two.master().client();
    for key in ["k", "l SHARED", "l SHARED TOKEN b"] {
        acquire(&mut client, &format!("{key} PX 600000"));
    }
    client.ok("SET string v");
    let mut upgrader = two.master().client();
    acquire(&mut upgrader, "l SHARED TOKEN up PX 600000");
    let mut elsewhere = two.master().client();
    elsewhere.ok("SELECT 3");
    acquire(&mut elsewhere, "k TOKEN a PX 600000");
    acquire(&mut client, "overwritten TOKEN a PX 600000");

    let server = two.master();
    let mut waiters = vec![
        Waiter::on(server, upgrader, "l LIMIT 1 TOKEN up BLOCK 0"),
        Waiter::on(server, elsewhere, "k BLOCK 0"),
        Waiter::on(server, server.client3(), "k BLOCK 0"),
        Waiter::new(server, "k SESSION BLOCK 0"),
        Waiter::new(server, "k BLOCK 600000"),
        Waiter::new(server, "l BLOCK 0"),
        Waiter::new(server, "overwritten BLOCK 0"),
    ];
    match redirected_client(server) {
        Some(redirected) => waiters.push(Waiter::on(server, redirected, "k BLOCK 0")),
        None => skip!(&mut client, "there is no CLIENT CAPA: nobody waits who would be redirected"),
    }
    client.ok("SET overwritten v");
    two.catch_up();
    two.change_over();
    waiters.iter_mut().for_each(Waiter::failed_or_closed);
    wait_blocked(two.replica(), 0);

    // One can wait on the new master, for what the old one granted.
    let (server, mut client) = (two.master(), two.master().client());
    wait_blocked(server, 0);
    assert_eq!(waiting(&mut client, "k"), 0);
    acquire(&mut client, "brief TOKEN a PX 60000");
    let mut next = Waiter::new(server, "brief TOKEN b BLOCK 0");
    let mut patient = Waiter::new(server, "k TOKEN c BLOCK 0");
    shorten(&mut client, "brief", "a", 100);
    next.granted();
    patient.assert_waiting(server);
    assert_eq!(client.run("LOCK.BREAK k"), Reply::Int(1));
    patient.granted();
    release(&mut client, "k", "c");
    assert_left_in_peace(server, "k");
    agree(two.master(), two.replica());
    two.assert_alive();
}

/// Writes stop before the replica has all, and go on at the new master: nothing that was acknowledged meanwhile is lost.
#[test]
fn a_failover_under_load_loses_nothing_that_was_acknowledged() {
    let mut pair = Pair::start();
    let mut random = Random::from_environment();
    let mut ledger = Ledger::default();
    let crew = Crew::of(&pair.master, "before");
    crew.work(8, &mut random, &mut ledger, || {
        crew.wait_for_grants(100);
        pair.master.client().ok("FAILOVER");
        wait_until("the replica is promoted", LONG_PATIENCE, || role(&pair.replica) == "master");
    });
    ledger.assert_kept_by(&pair.replica);
    assert!(ledger.held() > 0, "nobody held anything in the end");
    caught_up(&pair.replica, &pair.master);
    agree(&pair.replica, &pair.master);
    pair.master.assert_alive();
    pair.replica.assert_alive();
}

/// A client that says it follows redirections, where the server knows such.
fn redirected_client(server: &Server) -> Option<Client> {
    let mut client = server.client();
    (client.run("CLIENT CAPA redirect") == Reply::Simple("OK".into())).then_some(client)
}

/// While a failover waits for its replica writes are paused; when it is given up everything goes on.
#[test]
fn a_failover_that_is_given_up_leaves_everybody_waiting_but_those_whose_time_is_up() {
    let mut pair = Pair::start();
    let mut client = pair.master.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    let mut waiter = Waiter::new(&pair.master, "k TOKEN b BLOCK 0");
    let began = Instant::now();
    let mut brief = Waiter::new(&pair.master, "k TOKEN c BLOCK 700");
    stop(&pair.replica);
    // What the replica has not heard of keeps the failover waiting.
    client.ok("SET unheard v");
    client.ok("FAILOVER TIMEOUT 600000");
    brief.refused();
    assert!(began.elapsed() >= Duration::from_millis(700), "after {:?}", began.elapsed());
    waiter.assert_waiting(&pair.master);
    assert_eq!(client.info("replication", "master_failover_state"), "waiting-for-sync");
    client.ok("FAILOVER ABORT");
    go_on(&pair.replica);
    assert_eq!(role(&pair.master), "master");
    waiter.assert_waiting(&pair.master);
    release(&mut client, "k", "a");
    waiter.granted();
    release(&mut client, "k", "b");
    assert_left_in_peace(&pair.master, "k");
    agree(&pair.master, &pair.replica);
    pair.master.assert_alive();
    pair.replica.assert_alive();
}

/// Its master, at a port where nobody is, says nothing.
#[test]
fn a_demoted_master_ends_no_lease_until_it_is_promoted_again() {
    let mut server = Server::start();
    let mut client = server.client();
    let mut session = server.client();
    acquire(&mut client, "s SHARED TOKEN b PX 600000");
    acquire(&mut session, "tied TOKEN a PX 400 SESSION");
    // In one write, so that no lease is over before.
    let replies = client.run_all(&[
        "LOCK.ACQUIRE k TOKEN a PX 400",
        "LOCK.ACQUIRE s SHARED TOKEN a PX 400",
        "REPLICAOF 127.0.0.1 1",
    ]);
    assert_eq!(replies[2], Reply::Simple("OK".into()), "{replies:?}");
    wait_until("the leases are over", PATIENCE, || {
        ["k", "s", "tied"].iter().all(|key| remaining(&mut client, *key, "a").is_none())
    });
    let watched = Instant::now();
    wait_until("many turns of every timer have passed", PATIENCE, || {
        for key in ["k", "s", "tied"] {
            assert!(exists(&mut client, key), "{key} was ended by a replica");
        }
        watched.elapsed() > Duration::from_millis(400)
    });
    client.ok("REPLICAOF NO ONE");
    wait_until("they end", PATIENCE, || !exists(&mut client, "k") && !exists(&mut client, "tied"));
    wait_until("one of two holds ends", PATIENCE, || {
        crate::support::locks::holders(&mut client, "s").len() == 1
    });
    assert!(remaining(&mut client, "s", "b").is_some());
    server.assert_alive();
}

#[test]
fn a_replica_of_the_promoted_one_follows_it() {
    let mut pair = Pair::start();
    let last = Server::builder().replica_of(&pair.replica).start();
    let mut client = pair.master.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    acquire(&mut client, "brief TOKEN a PX 1000");
    pair.wait_caught_up();
    caught_up(&pair.replica, &last);
    pair.master.kill9();
    let mut promoted = pair.replica.client();
    promoted.ok("REPLICAOF NO ONE");
    let mut reader = last.client();
    wait_until("a lease that the old master granted ends everywhere", PATIENCE, || {
        !exists(&mut promoted, "brief") && !exists(&mut reader, "brief")
    });
    let mut waiter = Waiter::new(&pair.replica, "k TOKEN b PX 600000 BLOCK 0");
    release(&mut promoted, "k", "a");
    let fence = waiter.granted().fence;
    caught_up(&pair.replica, &last);
    assert_eq!(field(&holder(&mut reader, "k"), "fence"), Reply::Int(fence));
    agree(&pair.replica, &last);

    // Its turn has come.
    pair.replica.kill9();
    reader.ok("REPLICAOF NO ONE");
    assert_eq!(field(&holder(&mut reader, "k"), "fence"), Reply::Int(fence));
    assert!(fence_of(&mut reader, "next") > fence);
    release(&mut reader, "k", "b");
    assert_left_in_peace(&last, "k");
}

/// The master dies, two of three sentinels agree on it, and the replica is promoted; then the old master comes back.
#[test]
fn sentinel_promotes_when_the_master_has_died_and_demotes_it_when_it_comes_back() {
    let mut pair = Pair::start();
    let sentinels = Sentinels::of(&pair.master, 1);
    let mut random = Random::from_environment();
    let mut ledger = Ledger::default();
    let crew = Crew::of(&pair.master, "before");
    crew.work(6, &mut random, &mut ledger, || crew.wait_for_grants(200));
    let mut client = pair.master.client();
    let kept = fence_of(&mut client, "kept TOKEN a PX 600000");
    let mut waiters = [1, 2].map(|n| Waiter::new(&pair.master, &format!("kept TOKEN w{n} BLOCK 0")));
    pair.wait_caught_up();
    pair.master.kill9();
    waiters.iter_mut().for_each(Waiter::closed);
    sentinels.wait_for_master(pair.replica.port());
    wait_until("the replica is promoted", LONG_PATIENCE, || role(&pair.replica) == "master");

    ledger.assert_kept_by(&pair.replica);
    let mut promoted = pair.replica.client();
    assert_eq!(field(&holder(&mut promoted, "kept"), "fence"), Reply::Int(kept));
    let mut waiter = Waiter::new(&pair.replica, "kept TOKEN b PX 600000 BLOCK 0");
    release(&mut promoted, "kept", "a");
    let fence = waiter.granted().fence;

    pair.master.start_again();
    wait_until("the old master is demoted", LONG_PATIENCE, || role(&pair.master) == "slave");
    sentinels.wait_until_they_know(pair.replica.port(), 1);
    caught_up(&pair.replica, &pair.master);
    agree(&pair.replica, &pair.master);
    assert_eq!(field(&holder(&mut pair.master.client(), "kept"), "fence"), Reply::Int(fence));
    pair.master.assert_alive();
    pair.replica.assert_alive();
}
