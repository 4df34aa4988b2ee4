//! Places and clocks: all times run on the monotonic clock, and tickets rise whatever the wall clock says. Places do not
//! outlive a restart or a failover, and tickets then rise as far as the wall clock does, or the fences that are known.

use std::time::Duration;

use super::{ticket, tickets};
use crate::support::locks::acquire;
use crate::support::payload::{far_fence, raise_fences};
use crate::support::waiter::waiting;
use crate::support::{Builder, Client, Data, Pair, Server, caught_up};

/// A server whose fences are half a day ahead of its clock, so that the clock says nothing of what was used.
#[track_caller]
fn ahead(builder: Builder) -> Server {
    let server = builder.config("rdbcompression no").start();
    raise_fences(&mut server.client());
    server
}

/// Some tickets, the last of all that the server did.
#[track_caller]
fn draw(client: &mut Client, tokens: &str) -> Vec<i64> {
    client.run("LOCK.ACQUIRE k TOKEN a PX 600000");
    let mut draw_one = |n| ticket(&client.run(&format!("LOCK.ACQUIRE k TOKEN {tokens}{n} QUEUE 600000")));
    (0..5).map(&mut draw_one).collect()
}

#[test]
fn where_fences_are_ahead_of_the_clock_tickets_rise_and_doubles_carry_them() {
    let server = ahead(Server::builder());
    let mut client = server.client();
    let mut all = Vec::new();
    for tokens in ["b", "c", "d"] {
        all.extend(draw(&mut client, tokens));
        acquire(&mut client, &format!("{tokens} TOKEN a"));
    }
    assert!(all.is_sorted_by(|one, next| one < next), "{all:?}");
    assert!(far_fence() < 1 << 53);
}

#[test]
fn where_fences_are_ahead_of_the_clock_tickets_are_above_them_after_a_restart() {
    for (builder, data) in [
        (Server::builder(), Data::Save),
        (Server::builder().aof(), Data::NoSave),
        (Server::builder().aof().config("aof-use-rdb-preamble no"), Data::NoSave),
    ] {
        let mut server = ahead(builder);
        let fence = acquire(&mut server.client(), "j PX 600000").fence;
        server.restart(data);
        let after = draw(&mut server.client(), "b");
        assert!(after[0] > fence, "{after:?} after {fence}");
    }
}

#[test]
fn where_fences_are_ahead_of_the_clock_the_tickets_of_a_promoted_replica_are_above_them() {
    let settings = || Server::builder().config("rdbcompression no");
    let Pair { replica, master } = Pair::start_with(settings(), settings());
    raise_fences(&mut master.client());
    let fence = acquire(&mut master.client(), "j PX 600000").fence;
    caught_up(&master, &replica);
    let mut client = replica.client();
    client.ok("REPLICAOF NO ONE");
    let after = draw(&mut client, "b");
    assert!(after[0] > fence, "{after:?} after {fence}");
}

#[cfg(target_os = "linux")]
mod wall_clock {
    use std::time::Instant;

    use super::*;
    use crate::support::locks::{exists, remaining};
    use crate::support::waiter::release;
    use crate::support::wall_clock::{HOUR, WallClock};
    use crate::support::{PATIENCE, wait_until};

    /// Milliseconds of a time that is watched to its end.
    const SPAN_MS: u64 = 2_000;

    /// How much later than in time something may end: what stalls a crowded machine.
    const LATE: Duration = Duration::from_secs(5);

    #[track_caller]
    fn assert_in_time(began: Instant) {
        let passed = began.elapsed();
        assert!(passed >= Duration::from_millis(SPAN_MS - 1), "too early, after {passed:?}");
        assert!(passed < Duration::from_millis(SPAN_MS) + LATE, "too late, after {passed:?}");
    }

    #[test]
    fn a_clock_that_is_set_neither_ends_nor_prolongs_a_place() {
        for shift in [HOUR, -HOUR] {
            let clock = WallClock::new();
            let server = clock.start(Server::builder());
            let mut client = server.client();
            acquire(&mut client, "k TOKEN a PX 600000");
            let began = Instant::now();
            super::super::place(&mut client, &format!("k TOKEN b QUEUE {SPAN_MS}"));
            clock.set_under(&mut client, shift);
            wait_until("its time is over", PATIENCE, || waiting(&mut client, "k") == 0);
            assert_in_time(began);
        }
    }

    #[test]
    fn a_clock_that_is_set_neither_ends_nor_prolongs_the_lease_of_a_call() {
        for shift in [HOUR, -HOUR] {
            let clock = WallClock::new();
            let settings = Server::builder().config(&format!("lock.claim-lease {SPAN_MS}"));
            let server = clock.start(settings);
            let mut client = server.client();
            acquire(&mut client, "k TOKEN a PX 600000");
            super::super::place(&mut client, "k TOKEN b QUEUE 600000");
            let began = Instant::now();
            release(&mut client, "k", "a");
            assert!(remaining(&mut client, "k", "b").is_some());
            clock.set_under(&mut client, shift);
            wait_until("the lease is over", PATIENCE, || !exists(&mut client, "k"));
            assert_in_time(began);
        }
    }

    #[test]
    fn a_clock_set_back_gives_no_ticket_twice_and_a_repeat_keeps_its_own() {
        let clock = WallClock::new();
        let server = clock.start(Server::builder());
        let mut client = server.client();
        let mut last = draw(&mut client, "b");
        for (n, shift) in [HOUR, 0, -HOUR, 2 * HOUR, -HOUR].into_iter().enumerate() {
            clock.set_under(&mut client, shift);
            let next = draw(&mut client, &format!("n{n}-"));
            assert!(next[0] > last[4], "{next:?} after {last:?}");
            assert_eq!(draw(&mut client, &format!("n{n}-")), next, "repeats");
            last = next;
        }
        assert_eq!(tickets(&mut client, "k").len(), 30);
    }
}
