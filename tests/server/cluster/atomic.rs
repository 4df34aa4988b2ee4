//! Slots that the server moves as a whole, as Valkey 9 and Redis 8.4 can: keys are copied while the source goes on deciding,
//! what it decides follows, and then the slot changes hands in one step.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::support::cluster::atomic::{self, AtomicMove, Way};
use crate::support::cluster::{Cluster, InCommon, Shared, key_in, moved_to};
use crate::support::locks::{
    acquire, exists, fence_of, field, holder, holders, refused, remaining, standing,
};
use crate::support::waiter::{assert_left_in_peace, release, shorten, time_passes};
use crate::support::{PATIENCE, Reply, Server, Waiter, skip, wait_until};

/// Leaves the test, and says so, where the server moves no slot as a whole.
macro_rules! where_possible {
    () => {
        if atomic::way().is_none() {
            return skip!(&mut Server::start().client(), "it moves no slot as a whole");
        }
    };
    (by steps) => {
        where_possible!();
        if atomic::way() == Some(Way::Redis) {
            return skip!(&mut Server::start().client(), "it cannot be stopped at a step of the move");
        }
    };
}

/// The cluster, for one test at a time: what a node is told of its moves is about all of them.
fn alone() -> (InCommon, MutexGuard<'static, ()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    // Of their own: while a slot is moved key by key, the server moves none as a whole.
    static SHARED: Shared = Shared::new();
    let cluster = SHARED.get(|| Cluster::start(3));
    (cluster, ALONE.lock().unwrap_or_else(PoisonError::into_inner))
}

#[test]
fn holds_go_along_whole_and_who_waits_is_told_where() {
    where_possible!();
    let (cluster, _alone) = alone();
    let slot = cluster.fresh_slot(0);
    let (one, many) = (key_in(slot, "one"), key_in(slot, "many"));
    let mut source = cluster.client(0);
    let fence = fence_of(&mut source, &format!("{one} TOKEN a PX 60000 OWNER alice"));
    for (token, level) in [("a", 1), ("b", 1), ("b", 2)] {
        acquire(&mut source, &format!("{many} TOKEN {token} LIMIT 3 LEVEL {level} PX 50000"));
    }
    let mut waiters: Vec<Waiter> = [&one, &one, &many]
        .map(|key| Waiter::new(cluster.node(0), &format!("{key} PX 60000 BLOCK 0")))
        .into();
    let before = Instant::now();
    let left = remaining(&mut source, &one, "a").unwrap().unsigned_abs();
    // Nobody waits there, so that they are the same but for time.
    let stand: Vec<Reply> = [&one, &many].map(|key| field(&standing(&mut source, key), "holders")).into();
    cluster.start_atomic_move(slot, 0, 1).wait_done();
    for waiter in &mut waiters {
        assert_eq!(waiter.failed(), moved_to(slot, cluster.node(1)));
    }
    assert_eq!(cluster.keepers(slot), [1]);
    let mut target = cluster.client(1);
    let there: Vec<Reply> = [&one, &many].map(|key| field(&standing(&mut target, key), "holders")).into();
    assert_eq!(there, stand);
    let left_there = remaining(&mut target, &one, "a").unwrap().unsigned_abs();
    let elapsed = before.elapsed() + Duration::from_millis(1);
    assert!(Duration::from_millis(left_there) + elapsed >= Duration::from_millis(left), "it is shorter");
    let mut next = Waiter::new(cluster.node(1), &format!("{one} TOKEN b PX 60000 BLOCK 0"));
    release(&mut target, &one, "a");
    assert!(next.granted().fence > fence);
    for (key, token) in [(&one, "b"), (&many, "a"), (&many, "b")] {
        release(&mut target, key, token);
    }
    cluster.assert_free(1, &one);
    cluster.assert_free(1, &many);
}

/// All keys are at the target already, and the source still decides about them.
#[test]
fn what_the_source_decides_while_keys_are_copied_goes_along() {
    where_possible!();
    let (cluster, _alone) = alone();
    let (slot, server) = (cluster.fresh_slot(0), cluster.node(0));
    let names = ["handed", "expires", "tied", "released", "broken", "deleted", "extended", "waited"];
    let [handed, expires, tied, released, broken, deleted, extended, waited] =
        names.map(|name| key_in(slot, name));
    let mut source = cluster.client(0);
    let mut session = cluster.client(0);
    for key in [&handed, &expires, &released, &broken, &deleted, &extended, &waited] {
        acquire(&mut source, &format!("{key} TOKEN a PX 50000"));
    }
    acquire(&mut session, &format!("{tied} TOKEN a SESSION PX 50000"));
    let mut next = [&handed, &expires, &tied, &deleted]
        .map(|key| Waiter::new(server, &format!("{key} TOKEN b PX 60000 BLOCK 0")));
    let mut stays = Waiter::new(server, &format!("{waited} TOKEN b PX 60000 BLOCK 0"));
    let moving = cluster.start_atomic_move_held_up(slot, 0, 1);
    release(&mut source, &handed, "a");
    assert_eq!(source.run(&format!("LOCK.EXTEND {expires} a PX 1")), Reply::Int(1));
    drop(session);
    release(&mut source, &released, "a");
    assert_eq!(source.run(&format!("LOCK.BREAK {broken}")), Reply::Int(1));
    assert_eq!(source.run(&format!("DEL {deleted}")), Reply::Int(1));
    assert_eq!(source.run(&format!("LOCK.EXTEND {extended} a PX 600000")), Reply::Int(1));
    let new = key_in(slot, "new");
    acquire(&mut source, &format!("{new} TOKEN n PX 60000"));
    let fences = next.each_mut().map(|waiter| waiter.granted().fence);
    stays.assert_waiting(server);
    moving.let_pause();
    moving.wait_done();
    assert_eq!(stays.failed(), moved_to(slot, cluster.node(1)));
    assert_eq!(cluster.keepers(slot), [1]);
    let mut target = cluster.client(1);
    for (key, fence) in [&handed, &expires, &tied, &deleted].into_iter().zip(fences) {
        assert_eq!(field(&holder(&mut target, key), "fence"), Reply::Int(fence), "{key}");
        release(&mut target, key, "b");
    }
    for key in [&released, &broken] {
        assert!(!exists(&mut target, key), "{key}");
    }
    assert!(remaining(&mut target, &extended, "a").unwrap() > 60_000);
    let newest = fence_of(&mut target, &format!("{new} TOKEN n"));
    release(&mut target, &new, "n");
    assert!(fence_of(&mut target, &format!("{new} TOKEN m")) > newest);
    for (key, token) in [(&extended, "a"), (&waited, "a"), (&new, "m")] {
        release(&mut target, key, token);
    }
    assert_eq!(cluster.keepers(slot), [0; 0]);
}

#[test]
fn a_cancelled_move_leaves_everything_where_it_was() {
    where_possible!();
    let (cluster, _alone) = alone();
    let (slot, server) = (cluster.fresh_slot(0), cluster.node(0));
    let (held, short) = (key_in(slot, "held"), key_in(slot, "short"));
    let mut source = cluster.client(0);
    let fence = fence_of(&mut source, &format!("{held} TOKEN a PX 60000"));
    acquire(&mut source, &format!("{short} TOKEN a PX 60000"));
    let mut waiters =
        [&held, &short].map(|key| Waiter::new(server, &format!("{key} TOKEN b PX 60000 BLOCK 0")));
    let moving = cluster.start_atomic_move_held_up(slot, 0, 1);
    moving.cancel();
    moving.let_pause();
    wait_until("the target has dropped it", PATIENCE, || cluster.keepers(slot) == [0]);
    waiters.iter().for_each(|waiter| waiter.assert_waiting(server));
    assert_eq!(source.run(&format!("LOCK.EXTEND {short} a PX 1")), Reply::Int(1));
    release(&mut source, &held, "a");
    for waiter in &mut waiters {
        assert!(waiter.granted().fence > fence);
    }
    // It can go again, and has forgotten nothing of what came after.
    cluster.start_atomic_move(slot, 0, 1).wait_done();
    let mut target = cluster.client(1);
    for key in [&held, &short] {
        release(&mut target, key, "b");
        cluster.assert_free(1, key);
    }
}

/// Leases that run out at the target before it has the slot, by its own clock: it is the source that ends leases.
#[test]
fn a_lease_that_the_source_keeps_extending_does_not_end_at_the_target() {
    where_possible!();
    let (cluster, _alone) = alone();
    let slot = cluster.fresh_slot(0);
    let (tied, extended) = (key_in(slot, "tied"), key_in(slot, "extended"));
    let mut source = cluster.client(0);
    let mut session = cluster.client(0);
    let fence = fence_of(&mut session, &format!("{tied} TOKEN a SESSION PX 300"));
    acquire(&mut source, &format!("{extended} TOKEN a PX 3000"));
    // On Redis for five seconds.
    let moving = cluster.start_atomic_move_held_up_by(200, slot, 0, 1);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(4_000) {
        assert_eq!(source.run(&format!("LOCK.EXTEND {extended} a PX 3000")), Reply::Int(1));
        refused(&mut source, &format!("{tied} BLOCK 30"));
    }
    assert_eq!(source.run(&format!("LOCK.EXTEND {extended} a PX 60000")), Reply::Int(1));
    moving.let_pause();
    moving.wait_done();
    let mut target = cluster.client(1);
    assert!(remaining(&mut target, &extended, "a").is_some());
    // The session does not go along: its lease runs out there.
    if let [hold] = &holders(&mut target, &tied)[..] {
        assert_eq!(field(hold, "fence"), Reply::Int(fence));
        assert!(field(hold, "session").is_null());
    }
    wait_until("the lease of the session ends", PATIENCE, || !exists(&mut target, &tied));
    release(&mut target, &extended, "a");
    cluster.assert_free(1, &extended);
    drop(session);
    assert_left_in_peace(cluster.node(1), &tied);
}

/// Moves a slot, held up where the source has stopped writing and given the slot away, and the target has not taken it.
/// Forty locks are held, of which some leases end before and some meanwhile, and each is waited for.
struct InBetween<'a> {
    moving: AtomicMove<'a>,
    locks: Vec<(String, Waiter)>,
}

impl<'a> InBetween<'a> {
    #[track_caller]
    fn come_to(cluster: &'a Cluster, slot: u16) -> Self {
        let mut source = cluster.client(0);
        cluster.client(1).ok("DEBUG SLOTMIGRATION PREVENT-FAILOVER 1");
        let locks = (0..40).map(|n| {
            let key = key_in(slot, &format!("k{n}"));
            acquire(&mut source, &format!("{key} TOKEN a PX 600000"));
            let waiter = Waiter::new(cluster.node(0), &format!("{key} TOKEN b PX 60000 BLOCK 0"));
            (key, waiter)
        });
        let locks: Vec<(String, Waiter)> = locks.collect();
        for (n, (key, _)) in (0..).zip(&locks) {
            shorten(&mut source, key, "a", 300 + 20 * n);
        }
        time_passes(Instant::now(), Duration::from_millis(200));
        let moving = cluster.start_atomic_move(slot, 0, 1);
        moving.wait_state(&["failover-granted"]);
        time_passes(Instant::now(), Duration::from_millis(300));
        Self { moving, locks }
    }
}

/// The source must not write in the moment of the change, and leases end in it.
#[test]
fn leases_that_end_while_the_slot_changes_hands_end_on_one_side() {
    where_possible!(by steps);
    let (cluster, _alone) = alone();
    let slot = cluster.fresh_slot(0);
    let InBetween { moving, mut locks } = InBetween::come_to(&cluster, slot);
    cluster.client(1).ok("DEBUG SLOTMIGRATION PREVENT-FAILOVER 0");
    moving.wait_done();
    let mut target = cluster.client(1);
    let mut granted = 0;
    for (key, waiter) in &mut locks {
        let reply = waiter.reply();
        if reply.is_error() {
            assert_eq!(reply.error(), moved_to(slot, cluster.node(1)));
            wait_until(&format!("{key} is free"), PATIENCE, || !exists(&mut target, &key));
        } else {
            granted += 1;
            assert!(remaining(&mut target, &key, "b").is_some(), "{key} was granted at the source");
            release(&mut target, key, "b");
        }
    }
    println!("{granted} of {} were granted before", locks.len());
    assert_eq!(cluster.keepers(slot), [0; 0]);
}

#[test]
fn a_move_that_fails_in_between_leaves_everything_where_it_was() {
    where_possible!(by steps);
    let (cluster, _alone) = alone();
    let slot = cluster.fresh_slot(0);
    let timeout = |ms: u32| {
        (0..3).for_each(|at| {
            cluster.client(at).ok(&format!("CONFIG SET cluster-manual-failover-timeout {ms}"));
        });
    };
    timeout(1_000);
    let InBetween { moving, mut locks } = InBetween::come_to(&cluster, slot);
    moving.wait_state(&["failed"]);
    cluster.client(1).ok("DEBUG SLOTMIGRATION PREVENT-FAILOVER 0");
    timeout(5_000);
    for (_, waiter) in &mut locks {
        waiter.granted();
    }
    wait_until("the target has dropped it", PATIENCE, || cluster.keepers(slot) == [0]);
    for (key, _) in &locks {
        release(&mut cluster.client(0), key, "b");
        cluster.assert_free(0, key);
    }
}

#[test]
fn the_replicas_of_both_sides_follow() {
    where_possible!();
    let cluster = Cluster::builder(2).replicas(1).start();
    let slot = cluster.fresh_slot(0);
    let [held, handed, released] = ["held", "handed", "released"].map(|name| key_in(slot, name));
    let mut source = cluster.client(0);
    for key in [&held, &handed, &released] {
        acquire(&mut source, &format!("{key} TOKEN a LIMIT 2 PX 60000"));
    }
    acquire(&mut source, &format!("{held} TOKEN b LIMIT 2 PX 60000"));
    let mut next = Waiter::new(cluster.node(0), &format!("{handed} TOKEN b PX 60000 BLOCK 0"));
    let moving = cluster.start_atomic_move_held_up(slot, 0, 1);
    release(&mut source, &handed, "a");
    release(&mut source, &released, "a");
    next.granted();
    moving.let_pause();
    moving.wait_done();
    for master in [0, 1] {
        cluster.wait_agreement_of_replicas(master);
    }
    let mut replica = cluster.client(cluster.replica(1));
    replica.ok("READONLY");
    let holding = [&held, &handed, &released].map(|key| holders(&mut replica, key).len());
    assert_eq!(holding, [2, 1, 0]);
    let size = cluster.client(cluster.replica(0)).run("DBSIZE");
    assert_eq!(size, Reply::Int(0));
    // Nothing is left of the slot on the one side, also in the index of leases, and all of it is known on the other.
    for (master, keys, holds) in [(0, "0", "0"), (1, "2", "3")] {
        for node in [master, cluster.replica(master)] {
            let mut client = cluster.client(node);
            // Redis drops the keys of a slot bit by bit, once the slot has gone.
            wait_until(&format!("node {node} has {keys} locks and {holds} holds"), PATIENCE, || {
                ["lock_keys", "lock_holds"].map(|name| client.info("lock", name)) == [keys, holds]
            });
        }
    }
    let ended = cluster.client(0).info("lock", "lock_holds_ended");
    assert_eq!(
        ended,
        cluster.client(0).info("lock", "lock_grants"),
        "what it has granted it holds no longer"
    );
}
