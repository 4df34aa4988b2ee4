//! Slots that move under requests for several: who waits is told, and nobody is granted any of them at the wrong node.

use std::collections::HashMap;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::cluster::waits_at;
use super::{all, fences, holds, release_all, waiting};
use crate::support::cluster::{Cluster, ask, asking, atomic, key_in, moved_to, shared};
use crate::support::locks::{acquire, field, holders, null};
use crate::support::waiter::{release, time_passes};
use crate::support::{Client, PATIENCE, Reply, Server, Waiter, ok_grant, skip, wait_until};

const TRY_AGAIN: &str = "TRYAGAIN ";

/// A fresh slot of node 0 with the names of three keys in it, and a client of that node.
fn scene(cluster: &Cluster) -> (u16, [String; 3], Client) {
    let slot = cluster.fresh_slot(0);
    (slot, ["k", "l", "m"].map(|name| key_in(slot, name)), cluster.client(0))
}

/// Told to try again or where to go, at the latest when the slot has gone; a grant it must not be.
#[track_caller]
fn sent_away(waiter: &mut Waiter, slot: u16, cluster: &Cluster) {
    let error = waiter.failed();
    let is_due = error.starts_with(TRY_AGAIN) || error == moved_to(slot, cluster.node(1));
    assert!(is_due, "{error}");
}

#[test]
fn who_waits_is_told_when_the_first_of_its_keys_has_gone() {
    let cluster = shared();
    let (slot, [k, l, _], mut source) = scene(&cluster);
    let grant = all(&mut source, &format!("2 {k} {l} TOKEN a PX 600000"));
    let mut waiters = [
        waits_at(&cluster, 0, &format!("2 {k} {l} TOKEN b BLOCK 0")),
        waits_at(&cluster, 0, &format!("2 {l} {k} TOKEN c SHARED SESSION BLOCK 60000")),
    ];
    let leaving = cluster.open_slot(slot, 0, 1);
    waiters.iter().for_each(|waiter| waiter.assert_waiting(cluster.node(0)));
    leaving.move_key(&l);
    for waiter in &mut waiters {
        let error = waiter.failed();
        assert!(error.starts_with(TRY_AGAIN), "{error}");
    }
    assert_eq!(waiting(&mut source, &k), 0);
    // The keys are at two nodes now: neither can grant both.
    let reply = source.run(&format!("LOCK.MACQUIRE 2 {k} {l} TOKEN b"));
    assert!(reply.error().starts_with(TRY_AGAIN), "{reply:?}");
    let mut target = cluster.client(1);
    let reply = asking(&mut target, &format!("LOCK.MACQUIRE 2 {k} {l} TOKEN b"));
    assert!(reply.error().starts_with(TRY_AGAIN), "{reply:?}");
    leaving.move_key(&k);
    let reply = source.run(&format!("LOCK.MACQUIRE 2 {k} {l} TOKEN a"));
    assert_eq!(reply.error(), ask(slot, cluster.node(1)));
    let retry = asking(&mut target, &format!("LOCK.MACQUIRE 2 {k} {l} TOKEN a PX 600000"));
    assert_eq!(ok_grant(retry).1, grant.fence);
    leaving.finish();
    assert_eq!(fences(&mut target, &[&k, &l], "a"), [grant.fence; 2]);
    release_all(&mut target, &format!("2 {k} {l} a"));
    [&k, &l].iter().for_each(|key| cluster.assert_free(1, key));
}

#[test]
fn who_waits_is_told_where_when_all_went_with_the_slot() {
    let cluster = shared();
    let (slot, [k, l, _], mut source) = scene(&cluster);
    all(&mut source, &format!("2 {k} {l} TOKEN a PX 600000"));
    let mut waiter = waits_at(&cluster, 0, &format!("2 {k} {l} TOKEN b BLOCK 0"));
    cluster.move_slot(slot, 1);
    sent_away(&mut waiter, slot, &cluster);
    let reply = source.run(&format!("LOCK.MACQUIRE 2 {k} {l} TOKEN b"));
    assert_eq!(reply.error(), moved_to(slot, cluster.node(1)));
    let mut again = waits_at(&cluster, 1, &format!("2 {k} {l} TOKEN b BLOCK 0"));
    let mut target = cluster.client(1);
    release_all(&mut target, &format!("2 {k} {l} a"));
    again.granted();
    release_all(&mut target, &format!("2 {k} {l} b"));
}

/// One of the keys is held, the other was never there. A key that is not there is the target's from the moment the slot is
/// open: at the source both cannot be granted any more, whatever becomes of the one that is held.
#[test]
fn where_a_free_key_is_among_them_nothing_is_granted_at_the_source() {
    for free in ["LOCK.RELEASE KEY a", "LOCK.BREAK KEY", "DEL KEY", "LOCK.EXTEND KEY a PX 1"] {
        let cluster = shared();
        let (slot, [k, l, _], mut source) = scene(&cluster);
        acquire(&mut source, &format!("{k} TOKEN a PX 600000"));
        let mut waiter = waits_at(&cluster, 0, &format!("2 {k} {l} TOKEN b PX 600000 BLOCK 0"));
        let leaving = cluster.open_slot(slot, 0, 1);
        let reply = source.run(&free.replace("KEY", &k));
        assert!(!reply.is_error(), "{free}: {reply:?}");
        // Somebody is granted l where it is now.
        let mut target = cluster.client(1);
        ok_grant(asking(&mut target, &format!("LOCK.ACQUIRE {l} TOKEN x PX 600000")));
        leaving.move_all_keys();
        leaving.finish();
        sent_away(&mut waiter, slot, &cluster);
        assert_eq!(holds(&mut target, &[&l], "x"), [l.as_str()]);
        assert!(holds(&mut target, &[&k, &l], "b").is_empty(), "{free}: it was granted at the wrong node");
        assert_eq!(cluster.keepers(slot), [1], "{free}");
        assert_eq!(target.run(&format!("LOCK.BREAK {l}")), Reply::Int(1));
    }
}

/// The same, and the slot stays where it was: then the wait goes on, or its client asks again.
#[test]
fn where_the_slot_stays_after_all_the_keys_can_be_had_again() {
    let cluster = shared();
    let (slot, [k, l, _], mut source) = scene(&cluster);
    acquire(&mut source, &format!("{k} TOKEN a PX 600000"));
    let mut waiter = waits_at(&cluster, 0, &format!("2 {k} {l} TOKEN b PX 600000 BLOCK 0"));
    let leaving = cluster.open_slot(slot, 0, 1);
    release(&mut source, &k, "a");
    time_passes(Instant::now(), Duration::from_millis(200));
    leaving.cancel();
    match waiter.reply() {
        Reply::Array(grant) => {
            assert_eq!(fences(&mut source, &[&k, &l], "b"), [grant[1].int(); 2]);
            release_all(&mut source, &format!("2 {k} {l} b"));
        }
        other => assert!(other.error().starts_with(TRY_AGAIN), "{other:?}"),
    }
    assert_eq!(waiting(&mut source, &k), 0);
    [&k, &l].iter().for_each(|key| cluster.assert_free(0, key));
}

/// By ASK the importing node lets wait for keys that are all there, and hands over only once the slot has come.
#[test]
fn on_a_slot_that_arrives_nothing_is_handed_over_before_it_is_here() {
    let cluster = shared();
    let (slot, [k, l, _], mut source) = scene(&cluster);
    all(&mut source, &format!("2 {k} {l} TOKEN a PX 600000"));
    let leaving = cluster.open_slot(slot, 0, 1);
    leaving.move_all_keys();
    let server = cluster.node(1);
    let mut client = server.client();
    let id = client.id();
    client.ok("ASKING");
    client.send(&["LOCK.MACQUIRE", "2", &k, &l, "TOKEN", "b", "BLOCK", "0"]);
    let mut waiter = Waiter { client, id }.once_it_waits_again(server, &k);
    let mut target = cluster.client(1);
    for key in [&k, &l] {
        assert_eq!(asking(&mut target, &format!("LOCK.RELEASE {key} a")), Reply::Int(1));
    }
    assert!(asking(&mut target, &format!("LOCK.CHECK {k} b")).is_null(), "the slot is not here yet");
    assert!(asking(&mut target, &format!("LOCK.ACQUIRE {l} TOKEN x")).is_null(), "nobody overtakes it");
    leaving.finish();
    let grant = waiter.granted();
    assert_eq!(fences(&mut target, &[&k, &l], "b"), [grant.fence; 2]);
    release_all(&mut target, &format!("2 {k} {l} b"));
    assert_eq!(cluster.keepers(slot), [0; 0]);
}

#[test]
fn a_place_for_several_does_not_go_along() {
    let cluster = shared();
    let (slot, [k, l, m], mut source) = scene(&cluster);
    all(&mut source, &format!("2 {k} {l} TOKEN a PX 600000"));
    let place = source.run(&format!("LOCK.MACQUIRE 3 {k} {l} {m} TOKEN b QUEUE 600000"));
    assert!(matches!(place, Reply::Int(_)), "{place:?}");
    cluster.move_slot(slot, 1);
    let mut target = cluster.client(1);
    for key in [&k, &l, &m] {
        assert_eq!(waiting(&mut target, key), 0);
    }
    acquire(&mut target, &format!("{m} TOKEN x"));
    release(&mut target, &m, "x");
    release_all(&mut target, &format!("2 {k} {l} a"));
    cluster.move_slot(slot, 0);
    assert_eq!(source.run(&format!("LOCK.MACQUIRE 2 {k} {m} TOKEN c")).items()[0].text(), "c");
    assert_eq!(waiting(&mut source, &l), 0);
    release_all(&mut source, &format!("2 {k} {m} c"));
}

/// Clients that go where they are sent, on a slot that goes round: never two holders of a key, and all are served.
#[test]
fn clients_are_all_served_and_none_twice_while_the_slot_goes_round() {
    const CLIENTS: usize = 6;
    const TURNS: usize = 5;
    let cluster = Cluster::start(2);
    let slot = cluster.fresh_slot(0);
    let keys = ["a", "b", "c"].map(|name| key_in(slot, name));
    let held: Mutex<HashMap<String, String>> = Mutex::new(HashMap::new());
    thread::scope(|scope| {
        let work: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let (mut client, keys, held) = (cluster.routed(), &keys, &held);
                scope.spawn(move || {
                    for turn in 0..TURNS {
                        let pair = [&keys[(n + turn) % 3], &keys[(n + turn + 1) % 3]];
                        let token = format!("t{n}-{turn}");
                        let rest = format!("2 {} {}", pair[0], pair[1]);
                        let request = format!("LOCK.MACQUIRE {rest} TOKEN {token} PX 600000 BLOCK 200");
                        wait_until("it is granted", PATIENCE * 3, || {
                            match client.call(pair[0], &words(&request)) {
                                Reply::Array(_) => true,
                                other => {
                                    assert!(
                                        other.is_null() || other.error().starts_with(TRY_AGAIN),
                                        "{other:?}"
                                    );
                                    thread::sleep(Duration::from_millis(5));
                                    false
                                }
                            }
                        });
                        for key in pair {
                            let other = held.lock().unwrap().insert(key.clone(), token.clone());
                            assert_eq!(other, None, "{key} has two holders");
                        }
                        thread::sleep(Duration::from_millis(5));
                        pair.iter().for_each(|key| drop(held.lock().unwrap().remove(*key)));
                        for key in pair {
                            let command = format!("LOCK.RELEASE {key} {token}");
                            wait_until("it is released", PATIENCE, || {
                                match client.call(key, &words(&command)) {
                                    Reply::Int(number) => number == 1,
                                    other => {
                                        assert!(other.error().starts_with(TRY_AGAIN), "{other:?}");
                                        false
                                    }
                                }
                            });
                        }
                    }
                })
            })
            .collect();
        let mut at = 0;
        while !work.iter().all(|work| work.is_finished()) {
            at = 1 - at;
            cluster.move_slot(slot, at);
            cluster.wait_agreed();
        }
        work.into_iter().for_each(|work| work.join().unwrap());
    });
    let at = cluster.owner(slot);
    keys.iter().for_each(|key| cluster.assert_free(at, key));
}

fn words(command: &str) -> Vec<&str> {
    command.split_ascii_whitespace().collect()
}

/// Nothing at the source keeps a hold, a queue or a count of what has gone.
#[test]
fn nothing_is_left_at_the_node_that_gave_the_slot() {
    let cluster = Cluster::start(2);
    let slot = cluster.fresh_slot(0);
    let keys = ["k", "l", "m"].map(|name| key_in(slot, name));
    let mut source = cluster.client(0);
    all(&mut source, &format!("2 {} {} TOKEN a PX 600000", keys[0], keys[1]));
    let mut waiter = waits_at(&cluster, 0, &format!("3 {} {} {} TOKEN b BLOCK 0", keys[0], keys[1], keys[2]));
    cluster.move_slot(slot, 1);
    sent_away(&mut waiter, slot, &cluster);
    for name in
        ["lock_keys", "lock_holds", "lock_waiters_blocked", "lock_waiters_queued", "lock_longest_queue"]
    {
        wait_until(&format!("{name} is 0"), PATIENCE, || source.info("lock", name) == "0");
    }
    let mut target = cluster.client(1);
    assert_eq!(holders(&mut target, &keys[0]).len(), 1);
    assert_eq!(field(&holders(&mut target, &keys[1])[0], "session"), Reply::NullBulk);
    assert_eq!(target.run(&format!("LOCK.CHECK {} b", keys[2])), null(&target));
}

/// Where the server moves slots as a whole.
#[test]
fn a_slot_that_moves_as_a_whole_takes_holds_along_and_sends_who_waits() {
    if atomic::way().is_none() {
        return skip!(&mut Server::start().client(), "it moves no slot as a whole");
    }
    let cluster = Cluster::start(2);
    let (slot, [k, l, m], mut source) = scene(&cluster);
    let grant = all(&mut source, &format!("2 {k} {l} TOKEN a PX 600000"));
    let mut waiters = [
        waits_at(&cluster, 0, &format!("2 {k} {l} TOKEN b BLOCK 0")),
        waits_at(&cluster, 0, &format!("2 {l} {m} TOKEN c BLOCK 0")),
    ];
    let place = source.run(&format!("LOCK.MACQUIRE 2 {m} {k} TOKEN d QUEUE 600000"));
    assert!(matches!(place, Reply::Int(_)), "{place:?}");
    cluster.start_atomic_move(slot, 0, 1).wait_done();
    for waiter in &mut waiters {
        assert_eq!(waiter.failed(), moved_to(slot, cluster.node(1)));
    }
    let mut target = cluster.client(1);
    assert_eq!(fences(&mut target, &[&k, &l], "a"), [grant.fence; 2]);
    assert_eq!(waiting(&mut target, &m), 0);
    for name in ["lock_keys", "lock_holds", "lock_waiters_blocked", "lock_waiters_queued"] {
        wait_until(&format!("{name} is 0"), PATIENCE, || source.info("lock", name) == "0");
    }
    release_all(&mut target, &format!("2 {k} {l} a"));
    [&k, &l, &m].iter().for_each(|key| cluster.assert_free(1, key));
}
