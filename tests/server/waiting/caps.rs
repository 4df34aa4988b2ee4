//! How many may wait, and what LOCK.INFO shows of them.

use std::collections::VecDeque;

use crate::support::errors::{self, fails};
use crate::support::locks::{acquire, field, field_names, refused};
use crate::support::waiter::{assert_left_in_peace, blocked_clients, release, wait_blocked, waiting};
use crate::support::{Client, PATIENCE, Reply, Server, Waiter, cmd, wait_until};

const QUEUE_FIELDS: [&str; 7] = ["owner", "limit", "weight", "waited", "timeout", "client", "address"];

/// The request must be turned away for the queue being full.
#[track_caller]
fn queue_full(client: &mut Client, rest: &str) {
    let reply = client.run(&format!("LOCK.ACQUIRE {rest}"));
    assert!(reply.error().starts_with("QUEUEFULL "), "LOCK.ACQUIRE {rest}: {reply:?}");
    assert_eq!(client.run("PING"), Reply::Simple("PONG".into()));
}

// --- caps

#[test]
fn a_key_has_room_for_so_many_waiters() {
    let server = Server::builder().config("lock.max-waiters-per-key 2").start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    acquire(&mut client, "l TOKEN a");
    let mut waiters = [1, 2].map(|n| Waiter::new(&server, &format!("k TOKEN w{n} BLOCK 0")));
    for options in ["BLOCK 0", "BLOCK 1", "SHARED BLOCK 0", "TOKEN x SESSION BLOCK 0"] {
        queue_full(&mut client, &format!("k {options}"));
    }
    refused(&mut client, "k");
    assert_eq!(waiting(&mut client, "k"), 2);
    let other = Waiter::new(&server, "l BLOCK 0");
    other.assert_waiting(&server);
    release(&mut client, "k", "a");
    waiters[0].granted();
    waiters[1].assert_waiting(&server);
}

#[test]
fn a_server_has_room_for_so_many_waiters() {
    let server = Server::builder().config("lock.max-waiters 3").start();
    let mut client = server.client();
    for key in ["k", "l", "m"] {
        acquire(&mut client, &format!("{key} TOKEN a"));
    }
    let mut elsewhere = server.client();
    elsewhere.ok("SELECT 1");
    acquire(&mut elsewhere, "k TOKEN a");
    let _waiters = [
        Waiter::new(&server, "k BLOCK 0"),
        Waiter::new(&server, "k BLOCK 0"),
        Waiter::new(&server, "l BLOCK 0"),
    ];
    for key in ["k", "l", "m"] {
        queue_full(&mut client, &format!("{key} BLOCK 0"));
    }
    queue_full(&mut elsewhere, "k BLOCK 0");
    acquire(&mut client, "free TOKEN a BLOCK 0");
    acquire(&mut client, "m TOKEN a BLOCK 0");
}

/// However one leaves, there is room for another.
#[test]
fn who_leaves_makes_room() {
    for cap in ["lock.max-waiters-per-key 2", "lock.max-waiters 2"] {
        let server = Server::builder().config(cap).start();
        let mut client = server.client();
        acquire(&mut client, "k TOKEN a");
        let mut first = Waiter::new(&server, "k TOKEN first BLOCK 0");
        for end in ["CLIENT UNBLOCK", "CLIENT KILL ID", "leave", "reset", "time"] {
            let block = if end == "time" { 50 } else { 0 };
            let waiter = if end == "reset" {
                Waiter::with_unread_reply(&server, "k TOKEN second BLOCK 0")
            } else {
                Waiter::new(&server, &format!("k TOKEN second BLOCK {}", block * 10))
            };
            match end {
                "leave" => drop(waiter),
                "reset" => waiter.reset(),
                "time" => {
                    let mut waiter = waiter;
                    waiter.refused();
                }
                _ => {
                    queue_full(&mut client, "k TOKEN third BLOCK 0");
                    assert_eq!(client.run(&format!("{end} {}", waiter.id)), Reply::Int(1));
                }
            }
            wait_until("it has left", PATIENCE, || waiting(&mut client, "k") == 1);
        }
        let mut last = Waiter::new(&server, "k TOKEN last BLOCK 0");
        queue_full(&mut client, "k TOKEN third BLOCK 0");
        release(&mut client, "k", "a");
        first.granted();
        let next = Waiter::new(&server, "k TOKEN next BLOCK 0");
        queue_full(&mut client, "k TOKEN third BLOCK 0");
        release(&mut client, "k", "first");
        last.granted();
        drop(next);
        wait_until("it has left", PATIENCE, || waiting(&mut client, "k") == 0);
        release(&mut client, "k", "last");
        assert_left_in_peace(&server, "k");
    }
}

#[test]
fn who_takes_over_a_place_needs_no_room() {
    let server = Server::builder().config("lock.max-waiters-per-key 2").config("lock.max-waiters 2").start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut old = Waiter::new(&server, "k TOKEN b BLOCK 0");
    let mut behind = Waiter::new(&server, "k TOKEN c BLOCK 0");
    queue_full(&mut client, "k TOKEN d BLOCK 0");
    let mut new = Waiter::new(&server, "k TOKEN b BLOCK 0");
    old.refused();
    queue_full(&mut client, "k TOKEN d BLOCK 0");
    release(&mut client, "k", "a");
    new.granted();
    release(&mut client, "k", "b");
    behind.granted();
    release(&mut client, "k", "c");
    assert_left_in_peace(&server, "k");
}

#[test]
fn with_a_cap_of_0_nobody_waits() {
    for cap in ["lock.max-waiters-per-key", "lock.max-waiters"] {
        let server = Server::start();
        let mut client = server.client();
        client.ok(&format!("CONFIG SET {cap} 0"));
        acquire(&mut client, "k TOKEN a BLOCK 0");
        queue_full(&mut client, "k BLOCK 0");
        refused(&mut client, "k");
        acquire(&mut client, "k TOKEN a BLOCK 0");
        assert_eq!(blocked_clients(&mut client), 0);
        client.ok(&format!("CONFIG SET {cap} 1"));
        let waiter = Waiter::new(&server, "k BLOCK 0");
        waiter.assert_waiting(&server);
    }
}

#[test]
fn a_cap_that_is_lowered_sends_nobody_away() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut waiters: VecDeque<_> =
        (0..3).map(|n| Waiter::new(&server, &format!("k TOKEN w{n} BLOCK 0"))).collect();
    client.ok("CONFIG SET lock.max-waiters 1 lock.max-waiters-per-key 1");
    waiters.iter().for_each(|waiter| waiter.assert_waiting(&server));
    queue_full(&mut client, "k BLOCK 0");
    let mut token = "a".to_owned();
    for n in 0..3 {
        release(&mut client, "k", &token);
        waiters.pop_front().unwrap().granted();
        token = format!("w{n}");
    }
    let waiter = Waiter::new(&server, "k BLOCK 0");
    waiter.assert_waiting(&server);
    queue_full(&mut client, "k BLOCK 0");
}

#[test]
fn where_nobody_can_wait_no_queue_is_full() {
    let server = Server::builder().config("lock.max-waiters 0").start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let replies = client.run_all(&["MULTI", "LOCK.ACQUIRE k BLOCK 0", "EXEC"]);
    assert_eq!(replies[2].items()[0], Reply::NullArray);
    let script = "return redis.call('LOCK.ACQUIRE', KEYS[1], 'BLOCK', 0)";
    assert!(client.call(&cmd!["EVAL", script, 1, "k"]).is_null());
}

#[test]
fn what_is_wrong_with_a_request_is_said_before_the_queue_is_full() {
    let server = Server::builder().config("lock.max-waiters 0").start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    client.ok("SET string v");
    fails(&mut client, "LOCK.ACQUIRE k BLOCK 0 PX 0", &errors::invalid_expire("lock.acquire"));
    fails(&mut client, "LOCK.ACQUIRE string BLOCK 0", errors::WRONG_TYPE);
    fails(&mut client, "LOCK.ACQUIRE k BLOCK -1", errors::TIMEOUT_NEGATIVE);
}

// --- LOCK.INFO

#[test]
fn the_queue_is_shown_in_its_order() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let _waiters = ["OWNER one BLOCK 0", "SHARED BLOCK 60000", "LIMIT 5 OWNER three BLOCK 600000"]
        .map(|options| Waiter::new(&server, &format!("k {options}")));
    for (mut client, null) in [(server.client(), Reply::NullBulk), (server.client3(), Reply::Null)] {
        let info = client.run("LOCK.INFO k");
        assert_eq!(field(&info, "waiting"), Reply::Int(3));
        let queue = field(&info, "queue").items().to_vec();
        assert!(queue.iter().all(|entry| matches!(entry, Reply::Map(_)) == client.is_resp3()), "{queue:?}");
        let shown: Vec<_> =
            queue.iter().map(|entry| (field(entry, "owner"), field(entry, "limit"))).collect();
        let label = |text: &str| Reply::Bulk(text.into());
        let due = [(label("one"), Reply::Int(1)), (null, Reply::Int(0)), (label("three"), Reply::Int(5))];
        assert_eq!(shown, due);
        let timeouts: Vec<i64> = queue.iter().map(|entry| field(entry, "timeout").int()).collect();
        assert_eq!(timeouts[0], -1);
        assert!(timeouts[1] > 30_000 && timeouts[1] <= 60_000, "{timeouts:?}");
        assert!(timeouts[2] > 570_000 && timeouts[2] <= 600_000, "{timeouts:?}");
        for entry in &queue {
            assert_eq!(field_names(entry), QUEUE_FIELDS);
            assert!((0..30_000).contains(&field(entry, "waited").int()), "{entry:?}");
        }
        assert!(queue.is_sorted_by_key(|entry| -field(entry, "waited").int()), "{queue:?}");
    }
}

#[test]
fn waited_grows_and_timeout_shrinks() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let _waiter = Waiter::new(&server, "k BLOCK 60000");
    wait_until("time passes for the waiter", PATIENCE, || {
        let info = client.run("LOCK.INFO k");
        let entry = field(&info, "queue").items()[0].clone();
        let (waited, timeout) = (field(&entry, "waited").int(), field(&entry, "timeout").int());
        assert!((waited + timeout - 60_000).abs() <= 2, "both from the same moment: {entry:?}");
        waited > 100 && timeout < 59_900
    });
}

#[test]
fn the_first_hundred_are_shown_and_all_are_counted() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let waiters: Vec<Waiter> =
        (0..130).map(|n| Waiter::new(&server, &format!("k OWNER w{n} BLOCK 0"))).collect();
    let info = client.run("LOCK.INFO k");
    assert_eq!(field(&info, "waiting"), Reply::Int(130));
    let queue = field(&info, "queue").items().to_vec();
    let shown: Vec<String> = queue.iter().map(|entry| field(entry, "owner").text()).collect();
    assert_eq!(shown, (0..100).map(|n| format!("w{n}")).collect::<Vec<_>>());
    drop(waiters);
    wait_blocked(&server, 0);
    wait_until("all have left", PATIENCE, || waiting(&mut client, "k") == 0);
}

#[test]
fn no_token_is_shown_of_anybody() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN holders-secret OWNER holder");
    let _waiters = [
        Waiter::new(&server, "k TOKEN waiters-secret OWNER waiter BLOCK 0"),
        Waiter::new(&server, "k TOKEN upgraders-secret SHARED SESSION BLOCK 60000"),
    ];
    for mut client in [server.client(), server.client3()] {
        let shown = format!("{:?}", client.run("LOCK.INFO k"));
        assert!(!shown.contains("secret"), "{shown}");
    }
    for command in ["INFO everything", "CLIENT LIST", "DEBUG OBJECT k"] {
        let shown = format!("{:?}", client.run(command));
        assert!(!shown.contains("secret"), "{command}: {shown}");
    }
    assert!(!server.log().contains("secret"));
}

#[test]
fn the_queue_of_each_name_is_its_own_when_a_lock_moves() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    acquire(&mut client, "l TOKEN a");
    let _k = Waiter::new(&server, "k OWNER of-k BLOCK 0");
    let _l = Waiter::new(&server, "l OWNER of-l BLOCK 0");
    client.ok("RENAME k l");
    assert_eq!(crate::support::waiter::owners(&mut client, "l").1, ["of-l"]);
    wait_until("the waiter at the free name has it", PATIENCE, || {
        crate::support::waiter::owners(&mut client, "k") == (vec!["of-k".to_owned()], vec![])
    });
}
