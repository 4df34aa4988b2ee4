//! A slot goes to another node key by key: holds go along, and who waits is told where to go, or to try again. Nobody is
//! granted a lock where it has left.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::cluster::{Cluster, ask, asking, key_in, moved_to, shared};
use crate::support::locks::{acquire, field, holder, standing};
use crate::support::payload::{far_fence, raise_fences_by};
use crate::support::waiter::release;
use crate::support::{Client, PATIENCE, Reply, Waiter, cmd, ok_grant, wait_until};

/// What a newcomer is told at the source of a key that is no longer there.
const TRY_AGAIN: &str = "TRYAGAIN ";

#[test]
fn who_waits_for_a_key_that_migrates_is_told_to_try_again() {
    let cluster = shared();
    let (slot, server) = (cluster.fresh_slot(0), cluster.node(0));
    let key = key_in(slot, "k");
    let mut source = cluster.client(0);
    let held = acquire(&mut source, &format!("{key} TOKEN a PX 60000"));
    let mut waiters: Vec<Waiter> = ["BLOCK 0", "BLOCK 60000 LIMIT 7", "SHARED BLOCK 0 SESSION OWNER o"]
        .into_iter()
        .map(|options| Waiter::new(server, &format!("{key} {options}")))
        .collect();
    let leaving = cluster.open_slot(slot, 0, 1);
    waiters.iter().for_each(|waiter| waiter.assert_waiting(server));
    leaving.move_key(&key);
    for waiter in &mut waiters {
        let error = waiter.failed();
        assert!(error.starts_with(TRY_AGAIN), "{error}");
    }
    assert_eq!(cluster.keepers(slot), [1]);
    let mut target = cluster.client(1);
    let check = asking(&mut target, &format!("LOCK.CHECK {key} a"));
    assert_eq!(check.items()[0], Reply::Int(held.fence));
    leaving.finish();
    assert!(acquire(&mut target, &format!("{key} TOKEN a PX 60000")).fence == held.fence);
    release(&mut target, &key, "a");
    cluster.assert_free(1, &key);
}

#[test]
fn who_waits_for_a_key_that_left_with_its_slot_is_told_where() {
    let cluster = shared();
    let (slot, server) = (cluster.fresh_slot(0), cluster.node(0));
    let key = key_in(slot, "k");
    let mut source = cluster.client(0);
    let held = acquire(&mut source, &format!("{key} TOKEN a PX 60000"));
    let mut waiters: Vec<Waiter> =
        (0..3).map(|_| Waiter::new(server, &format!("{key} BLOCK 0 PX 60000"))).collect();
    let leaving = cluster.open_slot(slot, 0, 2);
    leaving.move_key_and_leave(&key);
    for waiter in &mut waiters {
        assert_eq!(waiter.failed(), moved_to(slot, cluster.node(2)));
    }
    assert_eq!(source.run(&format!("LOCK.ACQUIRE {key}")).error(), moved_to(slot, cluster.node(2)));
    leaving.finish();
    assert_eq!(cluster.keepers(slot), [2]);
    let mut target = cluster.client(2);
    assert_eq!(target.run(&format!("LOCK.CHECK {key} a")).items()[0], Reply::Int(held.fence));
}

#[test]
fn only_those_whose_key_has_gone_are_told_and_the_others_wait_on() {
    let cluster = shared();
    let (slot, server) = (cluster.fresh_slot(0), cluster.node(0));
    let mut source = cluster.client(0);
    let keys: Vec<String> = (0..4).map(|n| key_in(slot, &format!("k{n}"))).collect();
    let mut waiters: Vec<Waiter> = keys
        .iter()
        .map(|key| {
            acquire(&mut source, &format!("{key} TOKEN a PX 60000"));
            Waiter::new(server, &format!("{key} TOKEN b PX 60000 BLOCK 0"))
        })
        .collect();
    let elsewhere = key_in(cluster.fresh_slot(0), "k");
    acquire(&mut source, &format!("{elsewhere} TOKEN a PX 60000"));
    let mut stays = Waiter::new(server, &format!("{elsewhere} TOKEN b PX 60000 BLOCK 0"));
    let leaving = cluster.open_slot(slot, 0, 1);
    for (at, key) in keys.iter().enumerate().take(2) {
        leaving.move_key(key);
        let error = waiters[at].failed();
        assert!(error.starts_with(TRY_AGAIN), "{error}");
    }
    waiters[2..].iter().for_each(|waiter| waiter.assert_waiting(server));
    release(&mut source, &keys[2], "a");
    waiters[2].granted();
    leaving.move_all_keys();
    let error = waiters[3].failed();
    assert!(error.starts_with(TRY_AGAIN), "{error}");
    leaving.finish();
    let mut target = cluster.client(1);
    for (key, token) in keys.iter().zip(["a", "a", "b", "a"]) {
        release(&mut target, key, token);
    }
    stays.assert_waiting(server);
    release(&mut source, &elsewhere, "a");
    stays.granted();
}

#[test]
fn a_wait_that_ends_in_its_time_while_the_slot_is_leaving_is_answered_with_null() {
    let cluster = shared();
    let slot = cluster.fresh_slot(0);
    let key = key_in(slot, "k");
    acquire(&mut cluster.client(0), &format!("{key} TOKEN a PX 60000"));
    let mut waiter = Waiter::new(cluster.node(0), &format!("{key} BLOCK 300"));
    let leaving = cluster.open_slot(slot, 0, 1);
    waiter.refused();
    leaving.cancel();
}

#[test]
fn a_crowd_that_waits_is_told_to_the_last() {
    const CROWD: usize = 150;
    let cluster = shared();
    let (slot, server) = (cluster.fresh_slot(2), cluster.node(2));
    let key = key_in(slot, "k");
    acquire(&mut cluster.client(2), &format!("{key} TOKEN a PX 60000"));
    let mut crowd: Vec<Client> = (0..CROWD).map(|_| server.client()).collect();
    for client in &mut crowd {
        client.send(&cmd!["LOCK.ACQUIRE", key, "BLOCK", 0, "PX", 60_000]);
    }
    let mut observer = cluster.client(2);
    wait_until("all wait", PATIENCE, || {
        field(&observer.run(&format!("LOCK.INFO {key}")), "waiting") == Reply::Int(CROWD.try_into().unwrap())
    });
    let leaving = cluster.open_slot(slot, 2, 0);
    leaving.move_key_and_leave(&key);
    let start = Instant::now();
    for client in &mut crowd {
        assert_eq!(client.read().error(), moved_to(slot, cluster.node(0)));
        assert_eq!(client.run("PING"), Reply::Simple("PONG".into()));
    }
    println!("{CROWD} were told within {:?}", start.elapsed());
    leaving.finish();
    assert_eq!(cluster.keepers(slot), [0]);
}

/// The source learns from the target, deletes its keys of the slot by itself, and has waiters.
#[test]
fn who_waits_in_a_slot_that_another_node_takes_is_told_where() {
    let cluster = shared();
    let (slot, server) = (cluster.fresh_slot(0), cluster.node(0));
    let (key, more) = (key_in(slot, "k"), key_in(slot, "more"));
    let mut source = cluster.client(0);
    let held = acquire(&mut source, &format!("{key} TOKEN a PX 60000"));
    acquire(&mut source, &format!("{more} TOKEN a PX 60000 SESSION"));
    let mut waiters: Vec<Waiter> =
        [&key, &key, &more].map(|key| Waiter::new(server, &format!("{key} BLOCK 0 PX 60000"))).into();
    let taking = cluster.open_slot(slot, 0, 1);
    let others_wait = cluster.one_at_a_time();
    taking.take();
    let start = Instant::now();
    for waiter in &mut waiters {
        assert_eq!(waiter.failed(), moved_to(slot, cluster.node(1)));
    }
    println!("told within {:?}", start.elapsed());
    taking.wait_owned();
    drop(others_wait);
    wait_until("the server deletes what is not its own", PATIENCE, || cluster.keepers(slot).is_empty());
    let mut target = cluster.client(1);
    assert!(acquire(&mut target, &format!("{key} TOKEN b")).fence > held.fence, "the clock is the same");
    release(&mut target, &key, "b");
    cluster.assert_free(1, &key);
}

/// A test for each way in which a key goes that is in a slot on its way to another node: from then on the source sends
/// whoever asks for the key to the target, so it may not grant it itself.
macro_rules! nobody_is_granted_what_goes_from_a_leaving_slot_by {
    ($($name:ident: $commands:expr;)+) => {$(
        #[test]
        fn $name() {
            goes_from_a_leaving_slot(&$commands);
        }
    )+};
}

nobody_is_granted_what_goes_from_a_leaving_slot_by! {
    nobody_is_granted_a_lock_deleted_from_a_leaving_slot: ["DEL k"];
    nobody_is_granted_a_lock_unlinked_from_a_leaving_slot: ["UNLINK k"];
    nobody_is_granted_a_lock_expired_in_a_leaving_slot: ["EXPIREAT k 1"];
    nobody_is_granted_a_lock_overwritten_and_deleted_in_a_leaving_slot: ["SET k v", "DEL k"];
    nobody_is_granted_a_lock_deleted_from_a_leaving_slot_by_a_transaction: ["MULTI", "DEL k", "EXEC"];
}

#[track_caller]
fn goes_from_a_leaving_slot(commands: &[&str]) {
    let cluster = shared();
    let (slot, server) = (cluster.fresh_slot(0), cluster.node(0));
    let key = key_in(slot, "k");
    let mut source = cluster.client(0);
    acquire(&mut source, &format!("{key} TOKEN a PX 60000"));
    let mut waiters =
        ["b", "c"].map(|token| Waiter::new(server, &format!("{key} TOKEN {token} PX 60000 BLOCK 0")));
    let leaving = cluster.open_slot(slot, 0, 1);
    let commands: Vec<String> =
        commands.iter().map(|command| command.replace(" k", &format!(" {key}"))).collect();
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let replies = source.run_all(&commands);
    assert!(replies.iter().all(|reply| !reply.is_error()), "{replies:?}");
    for waiter in &mut waiters {
        let error = waiter.failed();
        assert!(error.starts_with(TRY_AGAIN), "{error}");
    }
    assert_eq!(source.run(&format!("LOCK.INFO {key}")).error(), ask(slot, cluster.node(1)));
    assert!(cluster.keepers(slot).is_empty());
    let grant = ok_grant(asking(&mut cluster.client(1), &format!("LOCK.ACQUIRE {key} TOKEN d PX 60000")));
    assert_eq!(grant.0, b"d");
    leaving.finish();
    release(&mut cluster.client(1), &key, "d");
    cluster.assert_free(1, &key);
}

#[test]
fn who_waits_in_a_slot_that_stays_after_all_is_served() {
    let cluster = shared();
    let (slot, server) = (cluster.fresh_slot(0), cluster.node(0));
    let key = key_in(slot, "k");
    let mut source = cluster.client(0);
    acquire(&mut source, &format!("{key} TOKEN a PX 60000"));
    let mut waiter = Waiter::new(server, &format!("{key} TOKEN b PX 60000 BLOCK 0"));
    let leaving = cluster.open_slot(slot, 0, 1);
    waiter.assert_waiting(server);
    leaving.cancel();
    waiter.assert_waiting(server);
    release(&mut source, &key, "a");
    waiter.granted();
    assert_eq!(cluster.owner(slot), 0);
}

// --- what goes along

/// When a lease ends by the clock of the test, as close as one can tell.
struct LeaseEnd {
    not_before: Instant,
    not_after: Instant,
}

impl LeaseEnd {
    /// Of a token, by a command that must find it.
    #[track_caller]
    fn of(check: impl FnOnce() -> Reply) -> Self {
        let before = Instant::now();
        let remaining = check().items()[1].int().unsigned_abs();
        Self {
            not_before: before + Duration::from_millis(remaining),
            not_after: Instant::now() + Duration::from_millis(remaining + 1),
        }
    }
}

#[test]
fn holds_go_along_with_all_they_are() {
    let cluster = shared();
    let slot = cluster.fresh_slot(0);
    let (many, one) = (key_in(slot, "many"), key_in(slot, "one"));
    let mut source = cluster.client(0);
    acquire(&mut source, &format!("{many} TOKEN a LIMIT 3 PX 50000 OWNER alice"));
    acquire(&mut source, &format!("{many} TOKEN a LIMIT 3 PX 50000 LEVEL 2"));
    acquire(&mut source, &format!("{many} TOKEN b SHARED PX 40000"));
    acquire(&mut source, &format!("{one} TOKEN c PX 30000"));
    let before = [standing(&mut source, &many), standing(&mut source, &one)];
    let check = |token: &str| format!("LOCK.CHECK {many} {token}");
    let began = Instant::now();
    let leases = ["a", "b"].map(|token| LeaseEnd::of(|| source.run(&check(token))));
    let leaving = cluster.open_slot(slot, 0, 1);
    leaving.move_all_keys();
    let mut target = cluster.client(1);
    for (token, lease) in ["a", "b"].into_iter().zip(&leases) {
        let moved = LeaseEnd::of(|| asking(&mut target, &check(token)));
        assert!(moved.not_after >= lease.not_before, "the lease of {token} is shorter there");
        assert!(moved.not_before <= lease.not_after + began.elapsed(), "the lease of {token} began anew");
    }
    leaving.finish();
    assert_eq!([standing(&mut target, &many), standing(&mut target, &one)], before);
    for (key, token) in [(&many, "a"), (&many, "b"), (&one, "c")] {
        release(&mut target, key, token);
    }
    cluster.assert_free(1, &many);
    cluster.assert_free(1, &one);
}

#[test]
fn a_session_does_not_go_along_and_its_lease_runs_out() {
    let cluster = shared();
    let slot = cluster.fresh_slot(0);
    let (short, long) = (key_in(slot, "short"), key_in(slot, "long"));
    let mut holding = cluster.client(0);
    acquire(&mut holding, &format!("{short} TOKEN a PX 400 SESSION"));
    acquire(&mut holding, &format!("{long} TOKEN a PX 60000 SESSION"));
    cluster.move_slot(slot, 1);
    let mut target = cluster.client(1);
    assert!(field(&holder(&mut target, &long), "session").is_null());
    wait_until("the lease that nobody extends ends", PATIENCE, || {
        target.run(&format!("EXISTS {short}")) == Reply::Int(0)
    });
    // The connection that held it is nothing to it any more.
    let id = holding.id();
    drop(holding);
    let mut source = cluster.client(0);
    wait_until("the source has noticed", PATIENCE, || {
        source.run(&format!("CLIENT LIST ID {id}")).text().is_empty()
    });
    cluster.assert_free(1, &short);
    assert!(!target.run(&format!("LOCK.CHECK {long} a")).is_null());
}

/// All in one turn of the source: the lock leaves, and the connection that kept it is closed. What was to be put right
/// about the lock is not put right about one that comes back.
#[test]
fn a_session_that_is_closed_just_as_its_lock_leaves_is_nothing_to_it_any_more() {
    let cluster = shared();
    let slot = cluster.fresh_slot(0);
    let key = key_in(slot, "k");
    let mut holding = cluster.client(0);
    let fence = acquire(&mut holding, &format!("{key} TOKEN a PX 60000 SESSION")).fence;
    let mut waiter = Waiter::new(cluster.node(0), &format!("{key} TOKEN b BLOCK 0"));
    let leaving = cluster.open_slot(slot, 0, 1);
    let kill = format!("CLIENT KILL ID {}", holding.id());
    leaving.in_one_write(&[], &key, &[&kill]);
    let error = waiter.failed();
    assert!(error.starts_with(TRY_AGAIN), "{error}");
    leaving.finish();
    for node in [1, 2, 0] {
        if cluster.owner(slot) != node {
            cluster.move_slot(slot, node);
        }
        let mut client = cluster.client(node);
        client.run("PING");
        assert_eq!(client.run(&format!("LOCK.CHECK {key} a")).items()[0], Reply::Int(fence), "{node}");
    }
    release(&mut cluster.client(0), &key, "a");
    cluster.assert_free(0, &key);
}

/// All in one turn of the source: somebody is granted the lock and goes away, and the lock leaves.
#[test]
fn who_waits_behind_somebody_who_went_away_just_as_the_lock_left_is_told() {
    let cluster = shared();
    let (slot, server) = (cluster.fresh_slot(0), cluster.node(0));
    let key = key_in(slot, "k");
    let mut source = cluster.client(0);
    acquire(&mut source, &format!("{key} TOKEN a PX 60000"));
    let gone = Waiter::new(server, &format!("{key} TOKEN b PX 1500 BLOCK 0"));
    let mut behind = Waiter::new(server, &format!("{key} TOKEN c PX 60000 BLOCK 0"));
    let leaving = cluster.open_slot(slot, 0, 1);
    let kill = format!("CLIENT KILL ID {}", gone.id);
    leaving.in_one_write(&[&format!("LOCK.RELEASE {key} a"), &kill], &key, &[]);
    let error = behind.failed();
    assert!(error.starts_with(TRY_AGAIN), "{error}");
    leaving.finish();
    let mut next = cluster.client(1);
    let grant = ok_grant(next.run(&format!("LOCK.ACQUIRE {key} TOKEN d PX 60000 BLOCK 0")));
    assert_eq!(grant.0, b"d", "once the lease is over that nobody uses");
    release(&mut next, &key, "d");
    cluster.assert_free(1, &key);
}

#[test]
fn a_holder_that_waits_to_change_its_limit_is_told_and_keeps_its_hold() {
    let cluster = shared();
    let (slot, server) = (cluster.fresh_slot(0), cluster.node(0));
    let key = key_in(slot, "k");
    let mut source = cluster.client(0);
    for token in ["a", "b"] {
        acquire(&mut source, &format!("{key} TOKEN {token} SHARED PX 60000"));
    }
    let before = standing(&mut source, &key);
    let mut upgrader = Waiter::new(server, &format!("{key} TOKEN a LIMIT 1 PX 60000 BLOCK 0"));
    let leaving = cluster.open_slot(slot, 0, 1);
    leaving.move_all_keys();
    let error = upgrader.failed();
    assert!(error.starts_with(TRY_AGAIN), "{error}");
    leaving.finish();
    let mut target = cluster.client(1);
    assert_eq!(standing(&mut target, &key), before);
    let mut upgrader = Waiter::new(cluster.node(1), &format!("{key} TOKEN a LIMIT 1 PX 60000 BLOCK 0"));
    release(&mut target, &key, "b");
    upgrader.granted();
}

/// With a fence that no clock would give.
#[test]
fn fences_at_the_target_are_above_those_that_came_there() {
    let cluster = Cluster::builder(2).config("rdbcompression no").start();
    let slot = cluster.fresh_slot(0);
    let key = key_in(slot, "k");
    let mut source = cluster.client(0);
    raise_fences_by(&mut source, &key);
    let held = acquire(&mut source, &format!("{key} TOKEN a PX 60000")).fence;
    assert!(held > far_fence());
    let leaving = cluster.open_slot(slot, 0, 1);
    leaving.move_all_keys();
    let mut target = cluster.client(1);
    let other = key_in(slot, "other");
    let arrived = ok_grant(asking(&mut target, &format!("LOCK.ACQUIRE {other} TOKEN a PX 60000"))).1;
    assert!(arrived > held, "{arrived} after {held}");
    leaving.finish();
    release(&mut target, &key, "a");
    assert!(acquire(&mut target, &format!("{key} TOKEN b")).fence > arrived);
}

#[test]
fn a_slot_that_goes_round_takes_its_lock_along_and_each_time_sends_those_who_wait_after_it() {
    let cluster = shared();
    let slot = cluster.fresh_slot(0);
    let key = key_in(slot, "k");
    let mut first = cluster.routed();
    let held = ok_grant(first.run(&format!("LOCK.ACQUIRE {key} TOKEN a PX 60000"))).1;
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let mut client = cluster.routed();
            let grant = ok_grant(client.run(&format!("LOCK.ACQUIRE {key} TOKEN b PX 60000 BLOCK 0")));
            (grant, client.told)
        });
        for (at, target) in [1, 2, 0, 1].into_iter().enumerate() {
            let server = cluster.node([0, 1, 2, 0][at]);
            wait_blocked_on(&mut server.client(), &key);
            cluster.move_slot(slot, target);
            let check = first.run(&format!("LOCK.CHECK {key} a"));
            assert_eq!(check.items()[0], Reply::Int(held), "at node {target}");
        }
        wait_blocked_on(&mut cluster.client(1), &key);
        assert_eq!(first.run(&format!("LOCK.RELEASE {key} a")), Reply::Int(1));
        let (grant, told) = waiting.join().unwrap();
        assert!(grant.1 > held);
        assert!(told.moved + told.try_again + told.ask >= 4, "{told:?}");
    });
}

/// Waits until somebody waits for the key at this node.
#[track_caller]
fn wait_blocked_on(client: &mut Client, key: &str) {
    wait_until(&format!("somebody waits for {key}"), PATIENCE, || {
        let info = client.run(&format!("LOCK.INFO {key}"));
        !info.is_null() && !info.is_error() && field(&info, "waiting") == Reply::Int(1)
    });
}
