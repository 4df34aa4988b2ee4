//! Owners who wait for each other: who would close a circle is told at once, and nobody else.
//!
//! Some of the scenes follow PostgreSQL's isolation tests (deadlock-simple, -hard, -soft, -soft-2, -parallel). PostgreSQL lets
//! a waiter overtake to break a circle; here nobody overtakes, so one who asks last is refused instead.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::locks::{acquire, refused};
use crate::support::waiter::{assert_left_in_peace, release, shorten, wait_blocked};
use crate::support::{Client, PATIENCE, Reply, Server, Waiter, cmd, wait_until};

/// Owners by their names, each with a token that is its name.
struct Scene {
    server: Server,
    client: Client,
}

impl Scene {
    fn new() -> Self {
        let server = Server::start();
        let client = server.client();
        Self { server, client }
    }

    /// `"a k SHARED"`: owner a takes k.
    #[track_caller]
    fn takes(&mut self, owner: &str, rest: &str) {
        acquire(&mut self.client, &format!("{rest} TOKEN {owner} OWNER {owner}"));
    }

    /// An owner waits, for as long as it takes.
    #[track_caller]
    fn waits(&self, owner: &str, rest: &str) -> Waiter {
        Waiter::new(&self.server, &format!("{rest} TOKEN {owner} OWNER {owner} BLOCK 0"))
    }

    /// An owner is told that its wait could never end.
    #[track_caller]
    fn is_refused(&mut self, owner: &str, rest: &str) {
        let before = deadlocks(&mut self.client);
        let command = format!("LOCK.ACQUIRE {rest} TOKEN {owner} OWNER {owner} BLOCK 0");
        let reply = self.server.client().run(&command);
        assert!(reply.is_error() && reply.error().starts_with("DEADLOCK "), "{command}: {reply:?}");
        assert_eq!(deadlocks(&mut self.client), before + 1);
    }

    #[track_caller]
    fn gives_back(&mut self, owner: &str, key: &str) {
        release(&mut self.client, key, owner);
    }
}

#[track_caller]
fn deadlocks(client: &mut Client) -> u64 {
    client.info("lock", "lock_deadlocks").parse().unwrap()
}

// --- after PostgreSQL

/// Simple: two readers of one lock, each of which wants to be its writer.
#[test]
fn the_second_of_two_readers_who_want_to_write_is_refused() {
    let mut scene = Scene::new();
    scene.takes("a", "k SHARED");
    scene.takes("b", "k SHARED");
    let mut a = scene.waits("a", "k LIMIT 1");
    scene.is_refused("b", "k LIMIT 1");
    scene.gives_back("b", "k");
    a.granted();
    scene.gives_back("a", "k");
    assert_left_in_peace(&scene.server, "k");
}

/// Hard: eight owners, each of whom holds a lock and wants that of the next.
#[test]
fn the_last_of_eight_in_a_ring_is_refused() {
    let mut scene = Scene::new();
    let owner = |n: usize| format!("o{}", n % 8);
    let key = |n: usize| format!("k{}", n % 8);
    (0..8).for_each(|n| scene.takes(&owner(n), &key(n)));
    let mut waiting: Vec<Waiter> = (0..7).map(|n| scene.waits(&owner(n), &key(n + 1))).collect();
    scene.is_refused("o7", "k0");
    scene.is_refused("o7", "k0");
    scene.gives_back("o7", "k7");
    for n in (0..7).rev() {
        waiting[n].granted();
        scene.gives_back(&owner(n), &key(n + 1));
        scene.gives_back(&owner(n), &key(n));
    }
    (0..8).for_each(|n| assert_left_in_peace(&scene.server, &key(n)));
}

/// Soft: two readers wait behind writers that wait for the other reader. It is the queue that closes the circle.
#[test]
fn a_reader_behind_a_writer_that_waits_for_it_in_the_end_is_refused() {
    let mut scene = Scene::new();
    scene.takes("d1", "a1 SHARED");
    scene.takes("d2", "a2 SHARED");
    let mut e1 = scene.waits("e1", "a1");
    let mut e2 = scene.waits("e2", "a2");
    let mut d1 = scene.waits("d1", "a2 SHARED");
    scene.is_refused("d2", "a1 SHARED");
    scene.gives_back("d2", "a2");
    e2.granted();
    scene.gives_back("e2", "a2");
    d1.granted();
    scene.gives_back("d1", "a1");
    e1.granted();
    scene.gives_back("e1", "a1");
    scene.gives_back("d1", "a2");
}

/// Soft, the second: the way back goes over two who wait, and neither holds anything.
#[test]
fn a_way_back_over_two_who_hold_nothing_is_a_circle() {
    let mut scene = Scene::new();
    scene.takes("s1", "a1");
    scene.takes("s2", "a2 SHARED");
    let mut s2 = scene.waits("s2", "a1");
    let mut s3 = scene.waits("s3", "a2");
    let mut s4 = scene.waits("s4", "a2");
    scene.is_refused("s1", "a2 SHARED");
    // Nobody overtakes, also if there would be room: without BLOCK it is told so.
    refused(&mut scene.client, "a2 SHARED TOKEN s1 OWNER s1");
    scene.gives_back("s1", "a1");
    s2.granted();
    scene.gives_back("s2", "a2");
    s3.granted();
    scene.gives_back("s3", "a2");
    s4.granted();
}

/// Parallel: a group of workers under one label waits for several locks at once. A label goes on as long as one of its waits
/// can be served.
#[test]
fn a_group_under_one_label_is_stuck_only_if_all_of_it_is() {
    let mut scene = Scene::new();
    scene.takes("d1", "a1 SHARED");
    scene.takes("d2", "a2 SHARED");
    acquire(&mut scene.client, "free TOKEN x");
    let mut e1 = scene.waits("e1", "a1");
    let mut e2 = scene.waits("e2", "a2");
    let worker = |n: u32, key: &str, owner: &str| {
        Waiter::new(&scene.server, &format!("{key} TOKEN {owner}w{n} SHARED OWNER {owner} BLOCK 0"))
    };
    let mut first: Vec<Waiter> = (0..3).map(|n| worker(n, "a2", "d1")).collect();
    let other = worker(9, "free", "d1");
    // One of d1 waits for a lock that may come free, and then d1 may give back a1: d2 has something to wait for.
    let mut second = worker(0, "a1", "d2");
    drop(other);
    let mut client = scene.server.client();
    wait_until("it has left", PATIENCE, || blocked(&mut client) == 6);
    let reply = client.run("LOCK.ACQUIRE a1 TOKEN d2w1 SHARED OWNER d2 BLOCK 0");
    assert!(reply.error().starts_with("DEADLOCK "), "{reply:?}");
    scene.gives_back("d2", "a2");
    e2.granted();
    scene.gives_back("e2", "a2");
    for (n, waiter) in first.iter_mut().enumerate() {
        waiter.granted();
        release(&mut scene.client, "a2", format!("d1w{n}"));
    }
    scene.gives_back("d1", "a1");
    e1.granted();
    scene.gives_back("e1", "a1");
    second.granted();
}

fn blocked(client: &mut Client) -> usize {
    client.info("lock", "lock_waiters_blocked").parse().unwrap()
}

// --- shares

#[test]
fn a_wait_for_a_semaphore_ends_when_one_of_its_holders_goes() {
    let mut scene = Scene::new();
    scene.takes("a", "s LIMIT 2");
    scene.takes("b", "s LIMIT 2");
    scene.takes("c", "k");
    let mut a = scene.waits("a", "k");
    // a waits for c. But b can go, and then c is granted a permit.
    let mut c = scene.waits("c", "s LIMIT 2");
    scene.gives_back("b", "s");
    c.granted();
    scene.gives_back("c", "k");
    a.granted();
    scene.gives_back("c", "s");
    scene.gives_back("a", "s");
}

#[test]
fn a_semaphore_all_of_whose_holders_wait_is_a_circle() {
    let mut scene = Scene::new();
    scene.takes("a", "s LIMIT 2");
    scene.takes("b", "s LIMIT 2");
    scene.takes("c", "k");
    let a = scene.waits("a", "k SHARED");
    let b = scene.waits("b", "k SHARED");
    scene.is_refused("c", "s LIMIT 2");
    scene.is_refused("c", "s LIMIT 1");
    drop((a, b));
}

#[test]
fn who_wants_more_weight_than_others_leave_is_in_a_circle() {
    let mut scene = Scene::new();
    scene.takes("a", "s LIMIT 3 WEIGHT 2");
    scene.takes("b", "s LIMIT 3");
    scene.takes("c", "k");
    let a = scene.waits("a", "k");
    // Once b has gone there is room for one, not for two.
    scene.is_refused("c", "s LIMIT 3 WEIGHT 2");
    let mut c = scene.waits("c", "s LIMIT 3");
    scene.gives_back("b", "s");
    c.granted();
    drop(a);
}

#[test]
fn an_exclusive_request_waits_for_every_reader() {
    let mut scene = Scene::new();
    scene.takes("a", "s SHARED");
    scene.takes("b", "s SHARED");
    scene.takes("c", "k");
    let a = scene.waits("a", "k");
    scene.is_refused("c", "s");
    scene.takes("c", "s SHARED");
    drop(a);
}

// --- no false alarm

/// Two philosophers: each has one fork and wants the other. The options name who they are, or not.
fn two(first: &str, second: &str) -> (Scene, Waiter) {
    let mut scene = Scene::new();
    acquire(&mut scene.client, &format!("left TOKEN a {first}"));
    acquire(&mut scene.client, &format!("right TOKEN b {second}"));
    let waiter = Waiter::new(&scene.server, &format!("right TOKEN a {first} BLOCK 0"));
    (scene, waiter)
}

#[test]
fn of_two_philosophers_the_second_is_refused_as_often_as_it_asks() {
    let (mut scene, mut a) = two("OWNER a", "OWNER b");
    for _ in 0..3 {
        scene.is_refused("b", "left");
    }
    // Nothing has changed by that: it holds its fork, and may wait for another.
    assert_eq!(scene.client.run("LOCK.EXTEND right b"), Reply::Int(1));
    assert!(scene.client.run("LOCK.CHECK right b").items().len() == 3);
    scene.gives_back("b", "right");
    a.granted();
    scene.gives_back("a", "left");
    scene.gives_back("a", "right");
    assert_left_in_peace(&scene.server, "left");
    assert_left_in_peace(&scene.server, "right");
}

#[test]
fn who_names_no_owner_or_waits_for_one_who_does_not_is_never_refused() {
    for (first, second) in [("", ""), ("OWNER a", ""), ("", "OWNER b")] {
        let (mut scene, mut a) = two(first, second);
        refused(&mut scene.client, &format!("left TOKEN b {second} BLOCK 50"));
        assert_eq!(deadlocks(&mut scene.client), 0);
        scene.gives_back("b", "right");
        a.granted();
    }
}

#[test]
fn who_does_not_wait_on_a_connection_is_never_refused() {
    let (mut scene, a) = two("OWNER a", "OWNER b");
    let client = &mut scene.client;
    refused(client, "left TOKEN b OWNER b");
    let ticket = client.run("LOCK.ACQUIRE left TOKEN b OWNER b QUEUE 60000");
    assert!(matches!(ticket, Reply::Int(_)), "{ticket:?}");
    // Inside a transaction and a script BLOCK is as if not given.
    client.ok("MULTI");
    client.run("LOCK.ACQUIRE left TOKEN b OWNER b BLOCK 0");
    let replies = client.run("EXEC");
    assert!(!replies.items()[0].is_error(), "{replies:?}");
    let script = "return redis.pcall('LOCK.ACQUIRE', 'left', 'TOKEN', 'b', 'OWNER', 'b', 'BLOCK', '0')";
    let reply = client.call(&["EVAL", script, "1", "left"]);
    assert!(!reply.is_error(), "{reply:?}");
    assert_eq!(deadlocks(client), 0);
    // Nor does a place without a connection block its owner: it is on the connection that b is refused.
    let reply = client.run("LOCK.ACQUIRE left TOKEN b OWNER b BLOCK 0 QUEUE 60000");
    assert!(reply.error().starts_with("DEADLOCK "), "{reply:?}");
    drop(a);
}

#[test]
fn a_place_without_a_connection_is_no_part_of_a_circle() {
    let mut scene = Scene::new();
    scene.takes("a", "left");
    scene.takes("b", "right");
    assert!(matches!(scene.client.run("LOCK.ACQUIRE right TOKEN a OWNER a QUEUE 60000"), Reply::Int(_)));
    let mut b = scene.waits("b", "left");
    scene.gives_back("a", "left");
    b.granted();
}

#[test]
fn workers_under_one_label_contend_as_others_do() {
    let mut scene = Scene::new();
    acquire(&mut scene.client, "left TOKEN a OWNER worker");
    acquire(&mut scene.client, "right TOKEN b OWNER worker");
    let mut waiting = [
        Waiter::new(&scene.server, "right TOKEN a OWNER worker BLOCK 0"),
        Waiter::new(&scene.server, "right TOKEN c OWNER worker BLOCK 0"),
        Waiter::new(&scene.server, "left TOKEN d OWNER worker BLOCK 0"),
    ];
    assert_eq!(deadlocks(&mut scene.client), 0);
    scene.gives_back("b", "right");
    waiting[0].granted();
}

#[test]
fn a_circle_is_open_once_a_lease_in_it_has_ended() {
    let mut scene = Scene::new();
    scene.takes("b", "right");
    scene.takes("a", "left PX 60000");
    let mut a = scene.waits("a", "right");
    scene.is_refused("b", "left");
    let mut client = scene.server.client();
    shorten(&mut client, "left", "a", 100);
    wait_until("the lease ends", PATIENCE, || client.run("LOCK.CHECK left a") == Reply::NullArray);
    scene.takes("b", "left");
    scene.gives_back("b", "right");
    a.granted();
}

#[test]
fn a_circle_is_open_once_a_wait_in_it_is_over_or_its_client_has_gone() {
    for how in ["time", "client", "unblocked"] {
        let mut scene = Scene::new();
        scene.takes("a", "left");
        scene.takes("b", "right");
        let block = if how == "time" { 100 } else { 0 };
        let mut a = Waiter::new(&scene.server, &format!("right TOKEN a OWNER a BLOCK {block}"));
        match how {
            "time" => a.refused(),
            "client" => drop(a),
            _ => {
                assert_eq!(scene.client.run(&format!("CLIENT UNBLOCK {}", a.id)), Reply::Int(1));
                a.refused();
            }
        }
        let mut client = scene.server.client();
        wait_until("nobody waits", PATIENCE, || blocked(&mut client) == 0);
        let mut b = scene.waits("b", "left");
        scene.gives_back("a", "left");
        b.granted();
        assert_eq!(deadlocks(&mut scene.client), 0, "{how}");
    }
}

#[test]
fn a_circle_is_open_once_the_connection_of_a_hold_in_it_has_closed() {
    let mut scene = Scene::new();
    scene.takes("b", "right");
    let mut session = scene.server.client();
    acquire(&mut session, "left TOKEN a OWNER a SESSION");
    let a = scene.waits("a", "right");
    scene.is_refused("b", "left");
    // The connection closes and the next asks in the same iteration, or later: either way left is free.
    drop(session);
    let mut client = scene.server.client();
    wait_until("its hold has ended", PATIENCE, || client.run("LOCK.CHECK left a") == Reply::NullArray);
    scene.takes("b", "left");
    drop(a);
}

#[test]
fn a_lock_that_goes_by_another_command_opens_the_circle_and_one_that_comes_closes_it() {
    let mut scene = Scene::new();
    scene.takes("a", "left");
    scene.takes("b", "right");
    let mut c = scene.waits("c", "left");
    let a = scene.waits("a", "right");
    // What b asks for is held by a, which waits for b. Then a's lock is elsewhere, and here stands one of its own.
    scene.is_refused("b", "left");
    scene.client.ok("RENAME left elsewhere");
    c.granted();
    scene.is_refused("b", "elsewhere");
    let mut b = scene.waits("b", "left");
    scene.gives_back("c", "left");
    b.granted();
    scene.client.ok("FLUSHALL");
    drop(a);
}

// --- what is told

#[test]
fn the_log_has_the_owners_of_the_circle_and_no_byte_of_theirs_that_breaks_a_line() {
    let server = Server::start();
    let mut client = server.client();
    let first = "first%s\r\nfake line".as_bytes();
    let second = b"second\0\xff\\";
    client.call(&[&b"LOCK.ACQUIRE"[..], b"left secret", b"TOKEN", b"hidden a", b"OWNER", first]);
    client.call(&[&b"LOCK.ACQUIRE"[..], b"right secret", b"TOKEN", b"hidden b", b"OWNER", second]);
    let mut waiter = server.client();
    waiter.send(&[
        &b"LOCK.ACQUIRE"[..],
        b"right secret",
        b"TOKEN",
        b"hidden a",
        b"OWNER",
        first,
        b"BLOCK",
        b"0",
    ]);
    wait_blocked(&server, 1);
    for _ in 0..20 {
        let asked =
            [&b"LOCK.ACQUIRE"[..], b"left secret", b"TOKEN", b"hidden b", b"OWNER", second, b"BLOCK", b"0"];
        assert!(client.call(&asked).error().starts_with("DEADLOCK "));
    }
    let log = server.log();
    let line = "deadlock: owner second\\x00\\xff\\x5c was refused a lock: it would wait for \
                first%s\\x0d\\x0afake\\x20line, which waits for owner second\\x00\\xff\\x5c";
    assert!(log.contains(line), "{log}");
    assert!(!log.contains("secret") && !log.contains("hidden"), "neither key nor token is named");
    assert!(log.matches("deadlock:").count() < 20, "nobody fills the log");
    assert_eq!(deadlocks(&mut client), 20);
}

// --- philosophers

const PHILOSOPHERS: usize = 50;
const MEALS: usize = 5;

/// All sit down at a round table, take the fork at their left and then that at their right. Each eats a few times.
fn dine(options: impl Fn(usize) -> String + Sync, is_over: impl Fn(&Reply) -> bool + Sync) -> usize {
    let mut server = Server::start();
    let end = Instant::now() + PATIENCE;
    let in_vain: usize = thread::scope(|scope| {
        let sit = |n: usize| {
            let (server, options, is_over) = (&server, &options, &is_over);
            scope.spawn(move || {
                let mut client = server.client();
                let mut in_vain = 0;
                for _ in 0..MEALS {
                    loop {
                        assert!(Instant::now() < end, "philosopher {n} starves");
                        let take = |client: &mut Client, fork: usize| {
                            let command =
                                format!("LOCK.ACQUIRE fork{} TOKEN p{n} {}", fork % PHILOSOPHERS, options(n));
                            client.run(&command)
                        };
                        let left = take(&mut client, n);
                        if is_over(&left) {
                            in_vain += 1;
                            continue;
                        }
                        thread::sleep(Duration::from_millis(1));
                        let right = take(&mut client, n + 1);
                        let has_both = !is_over(&right);
                        if has_both {
                            release(&mut client, &format!("fork{}", (n + 1) % PHILOSOPHERS), format!("p{n}"));
                        }
                        release(&mut client, &format!("fork{n}"), format!("p{n}"));
                        if has_both {
                            break;
                        }
                        in_vain += 1;
                    }
                }
                in_vain
            })
        };
        let seated: Vec<_> = (0..PHILOSOPHERS).map(sit).collect();
        seated.into_iter().map(|philosopher| philosopher.join().unwrap()).sum()
    });
    (0..PHILOSOPHERS).for_each(|n| assert_left_in_peace(&server, &format!("fork{n}")));
    server.assert_alive();
    in_vain
}

#[test]
fn fifty_philosophers_who_say_who_they_are_all_eat_and_wait_without_end() {
    dine(
        |n| format!("OWNER p{n} BLOCK 0"),
        |reply| {
            assert!(!reply.is_error() || reply.error().starts_with("DEADLOCK "), "{reply:?}");
            reply.is_error()
        },
    );
}

#[test]
fn fifty_philosophers_who_do_not_eat_because_they_give_up_in_time() {
    dine(
        |n| format!("BLOCK {}", 20 + n * 7 % 50),
        |reply| {
            assert!(!reply.is_error(), "nobody who is without a name is refused: {reply:?}");
            *reply == Reply::NullArray
        },
    );
}

/// The same once more, to see the circle of all of them close.
#[test]
fn a_table_at_which_all_have_taken_their_left_fork_is_a_circle_of_fifty() {
    let mut scene = Scene::new();
    (0..PHILOSOPHERS).for_each(|n| scene.takes(&format!("p{n}"), &format!("fork{n}")));
    let last = PHILOSOPHERS - 1;
    let waiting: Vec<Client> = (0..last)
        .map(|n| {
            let mut client = scene.server.client();
            let fork = format!("fork{}", n + 1);
            client.send(&cmd![
                "LOCK.ACQUIRE",
                fork,
                "TOKEN",
                format!("p{n}"),
                "OWNER",
                format!("p{n}"),
                "BLOCK",
                0
            ]);
            client
        })
        .collect();
    wait_blocked(&scene.server, last);
    scene.is_refused(&format!("p{last}"), "fork0");
    let line = "owner p49 was refused a lock: it would wait for p0, which waits for p1, which waits for p2, which waits for \
                p3, which waits for p4, which waits for p5, which waits for p6, and so on through 42 more, which waits for owner \
                p49";
    let log = scene.server.log();
    assert!(log.contains(line), "{log}");
    drop(waiting);
}
