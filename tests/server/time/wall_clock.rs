//! The wall clock is set forward and back under running servers: no lease notices, and every fence is above the last.
//!
//! A small library, preloaded into the server, shifts the wall clock for it and leaves the monotonic clock alone.
#![cfg(target_os = "linux")]

use std::time::{Duration, Instant};

use crate::support::locks::{acquire, exists, fence_of, field, holder, remaining};
use crate::support::stock::Stock;
use crate::support::wall_clock::{HOUR, WallClock, real_time};
use crate::support::{Builder, Client, Data, PATIENCE, Pair, Reply, Server, wait_until};

fn no_snapshot() -> Builder {
    Server::builder().aof().config("aof-use-rdb-preamble no")
}

/// Milliseconds of a lease that is watched to its end.
const LEASE: u64 = 2_000;

/// How much later than in time a lease may end: what stalls a crowded machine, and no more than that.
const LATE: Duration = Duration::from_secs(5);

/// The end of a lease of [`LEASE`] that began at `began`, or later by no more than a reply takes.
#[track_caller]
fn assert_ends_in_time(client: &mut Client, began: Instant) {
    wait_until("the lease ends", PATIENCE, || !exists(client, "k"));
    let passed = began.elapsed();
    assert!(passed >= Duration::from_millis(LEASE - 1), "too early, after {passed:?}");
    assert!(passed < Duration::from_millis(LEASE) + LATE, "too late, after {passed:?}");
}

#[test]
fn a_clock_set_forward_ends_no_lease() {
    let clock = WallClock::new();
    let mut server = clock.start(Server::builder());
    let mut client = server.client();
    let began = Instant::now();
    acquire(&mut client, &format!("k TOKEN a PX {LEASE}"));
    client.ok(&format!("SET expiring value NX PX {LEASE}"));
    clock.set_under(&mut client, HOUR);
    // An ordinary key of the same time to live is gone at once.
    let looks = client.run_all(&["EXISTS expiring", "LOCK.CHECK k a"]);
    assert_eq!(looks[0], Reply::Int(0));
    assert!(!looks[1].is_null() || began.elapsed() >= Duration::from_millis(LEASE));
    assert_ends_in_time(&mut client, began);
    server.assert_alive();
}

/// The server keys a module's timers by the wall clock, so the timer alone would be an hour late.
#[test]
fn a_clock_set_back_prolongs_no_lease() {
    let clock = WallClock::new();
    let mut server = clock.start(Server::builder());
    let mut client = server.client();
    let began = Instant::now();
    acquire(&mut client, &format!("k TOKEN a PX {LEASE}"));
    client.ok(&format!("SET expiring value NX PX {LEASE}"));
    clock.set_under(&mut client, -HOUR);
    assert!(remaining(&mut client, "k", "a").is_none_or(|left| left <= 2_000));
    assert_ends_in_time(&mut client, began);
    // An ordinary key of the same time to live stays for the hour.
    assert!(client.run("PTTL expiring").int() > 3_000_000);
    server.assert_alive();
}

/// A lock granted after the step has a timer of the new time, one of before has not: both end, each in its time.
#[test]
fn leases_of_before_and_after_a_step_end_each_in_its_time() {
    let clock = WallClock::new();
    let server = clock.start(Server::builder());
    let mut client = server.client();
    for step in [-HOUR, HOUR, 0] {
        let began = Instant::now();
        acquire(&mut client, &format!("k TOKEN a PX {LEASE}"));
        clock.set_under(&mut client, step);
        let later = Instant::now();
        acquire(&mut client, "short TOKEN a PX 200");
        wait_until("the short lease ends", PATIENCE, || !exists(&mut client, "short"));
        assert!(later.elapsed() >= Duration::from_millis(199), "too early, after {:?}", later.elapsed());
        assert!(later.elapsed() < LATE, "too late, after {:?}", later.elapsed());
        assert_ends_in_time(&mut client, began);
    }
}

#[test]
fn what_lock_info_shows_does_not_follow_the_wall_clock() {
    let clock = WallClock::new();
    let server = clock.start(Server::builder());
    let mut client = server.client();
    let stock = Stock::lay_in(&mut client);
    let before = stock.view(&mut client);
    for step in [HOUR, -HOUR] {
        clock.set_under(&mut client, step);
        stock.view(&mut client).assert_is_later_than(&before);
        let age = field(&holder(&mut client, "a"), "age").int();
        assert!((0..60_000).contains(&age), "{age}");
    }
}

#[test]
fn fences_rise_over_a_step_back() {
    let clock = WallClock::new();
    let server = clock.start(Server::builder());
    let mut client = server.client();
    let mut last = 0;
    for step in [0, HOUR, 0, -HOUR, HOUR, -2 * HOUR] {
        clock.set_under(&mut client, step);
        for _ in 0..3 {
            let fence = fence_of(&mut client, "k TOKEN a PX 60000");
            assert!(fence > last, "{fence} came after {last}");
            last = fence;
            assert_eq!(client.run("LOCK.RELEASE k a"), Reply::Int(1));
        }
    }
}

/// Nothing is held when the server goes down, and its clock is set back before it comes up.
#[track_caller]
fn fences_rise_over_a_restart(builder: Builder, restart: fn(&mut Server)) {
    let clock = WallClock::new();
    let mut server = clock.start(builder);
    let mut last = 0;
    for step in [HOUR, 0, -HOUR] {
        clock.set_under(&mut server.client(), step);
        let fence = fence_of(&mut server.client(), "k TOKEN a PX 60000");
        assert!(fence > last, "{fence} came after {last}");
        last = fence;
        assert_eq!(server.client().run("LOCK.RELEASE k a"), Reply::Int(1));
        clock.set(step - HOUR);
        restart(&mut server);
        let fence = fence_of(&mut server.client(), "k TOKEN a PX 60000");
        assert!(fence > last, "{fence} came after {last}");
        last = fence;
        assert_eq!(server.client().run("LOCK.RELEASE k a"), Reply::Int(1));
    }
}

#[test]
fn fences_rise_over_a_restart_from_a_snapshot_with_the_clock_set_back() {
    fences_rise_over_a_restart(Server::builder(), |server| server.restart(Data::Save));
}

#[test]
fn fences_rise_over_the_replay_of_the_append_only_file_with_the_clock_set_back() {
    fences_rise_over_a_restart(no_snapshot(), |server| {
        server.kill9();
        server.start_again();
    });
}

#[test]
fn fences_rise_over_a_rewritten_append_only_file_with_the_clock_set_back() {
    fences_rise_over_a_restart(no_snapshot(), |server| {
        server.rewrite_aof();
        server.kill9();
        server.start_again();
    });
}

/// While a server is down its clock is set: leases come back with what was left of them, as spans know no clock.
#[track_caller]
fn leases_survive_a_restart(builder: Builder, data: Data) {
    let clock = WallClock::new();
    let mut server = clock.start(builder);
    for step in [HOUR, -HOUR] {
        let mut client = server.client();
        clock.set_under(&mut client, 0);
        let stock = Stock::lay_in(&mut client);
        let before = stock.view(&mut client);
        server.stop(data);
        clock.set(step);
        server.start_again();
        let mut client = server.client();
        stock.view(&mut client).assert_is_later_than(&before);
        client.ok("FLUSHALL");
    }
}

#[test]
fn leases_survive_a_restart_from_a_snapshot_with_the_clock_set() {
    leases_survive_a_restart(Server::builder(), Data::Save);
}

#[test]
fn leases_survive_a_restart_from_the_append_only_file_with_the_clock_set() {
    leases_survive_a_restart(no_snapshot(), Data::NoSave);
}

/// The clocks of two servers need not agree for their leases to.
#[test]
fn a_replica_with_another_clock_has_the_same_leases_and_is_promoted_with_them() {
    for step in [HOUR, -HOUR] {
        let clock = WallClock::new();
        let master = Server::builder();
        let pair = Pair::start_with(master, clock.of(Server::builder()));
        let (mut client, mut reader) = (pair.master.client(), pair.replica.client());
        clock.set_under(&mut reader, step);
        let stock = Stock::lay_in(&mut client);
        let before = stock.view(&mut client);
        let began = Instant::now();
        acquire(&mut client, &format!("k TOKEN a PX {LEASE}"));
        pair.wait_caught_up();
        reader.ok("REPLICAOF NO ONE");
        assert_ends_in_time(&mut reader, began);
        stock.view(&mut reader).assert_is_later_than(&before);
        assert!(fence_of(&mut reader, "next") > stock.highest_fence);
    }
}

#[test]
fn a_client_is_not_believed_a_fence_years_ahead_but_a_master_is() {
    const YEARS: i64 = 20 * 365 * 24 * HOUR;
    let (ahead, behind) = (WallClock::new(), WallClock::new());
    ahead.set(YEARS);
    let master = ahead.of(Server::builder()).start();
    let replica = behind.of(Server::builder()).replica_of(&master).start();
    let pair = Pair { replica, master };
    pair.wait_caught_up();
    let mut client = pair.master.client();
    let fence = fence_of(&mut client, "k TOKEN a");
    assert!(fence > (real_time() + YEARS / 2) * 1_000_000, "the module does not live by this clock: {fence}");
    let payload = client.run("DUMP k").bytes().to_vec();

    let elsewhere = behind.of(Server::builder()).start();
    let refused = elsewhere.client().call(&[&b"RESTORE"[..], b"k", b"0", &payload]);
    assert!(refused.is_error(), "{refused:?}");

    assert_eq!(client.call(&[&b"RESTORE"[..], b"l", b"0", &payload]), Reply::Simple("OK".into()));
    pair.wait_caught_up();
    let mut reader = pair.replica.client();
    assert_eq!(field(&holder(&mut reader, "l"), "fence"), Reply::Int(fence));
}
