//! Every way in which a wait can end: one reply or the end of the connection, nobody left behind, and no lock with a client
//! that never learned of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::support::locks::{acquire, field, null};
use crate::support::waiter::{
    assert_left_in_peace, blocked_clients, owners, release, time_passes, wait_blocked,
};
use crate::support::{Client, Data, PATIENCE, Pair, Reply, Server, Waiter, at_once, signal, wait_until};

/// How late a wait may end before something is wrong with more than the machine.
const LATE: Duration = Duration::from_secs(10);

/// A lock that `a` holds, one waiter at the head of its queue, whose wait is to end, and one behind it.
struct Queue {
    client: Client,
    ends: Waiter,
    behind: Waiter,
    server: Server,
}

impl Queue {
    #[track_caller]
    fn new() -> Self {
        Self::with(Waiter::new)
    }

    #[track_caller]
    fn with(waiter: impl Fn(&Server, &str) -> Waiter) -> Self {
        let server = Server::start();
        let mut client = server.client();
        acquire(&mut client, "k TOKEN a OWNER a");
        let ends = waiter(&server, "k TOKEN ends OWNER ends BLOCK 0");
        let behind = Waiter::new(&server, "k TOKEN behind OWNER behind BLOCK 0");
        assert_eq!(owners(&mut client, "k").1, ["ends", "behind"]);
        Self { client, ends, behind, server }
    }
}

/// The wait has ended: the one behind is the next, and nothing is left in the end.
#[track_caller]
fn assert_left(mut client: Client, mut behind: Waiter, mut server: Server) {
    wait_until("it has left the queue", PATIENCE, || owners(&mut client, "k").1 == ["behind"]);
    wait_blocked(&server, 1);
    assert_eq!(client.run("LOCK.CHECK k ends"), null(&client));
    release(&mut client, "k", "a");
    behind.granted();
    assert_eq!(owners(&mut client, "k").0, ["behind"]);
    release(&mut client, "k", "behind");
    assert_left_in_peace(&server, "k");
    server.assert_alive();
}

#[test]
fn a_grant_ends_it() {
    let Queue { mut client, mut ends, mut behind, server } = Queue::new();
    release(&mut client, "k", "a");
    ends.granted();
    release(&mut client, "k", "ends");
    behind.granted();
    release(&mut client, "k", "behind");
    assert_left_in_peace(&server, "k");
}

#[test]
fn client_unblock_ends_it_with_null() {
    for how in ["", "TIMEOUT"] {
        let Queue { mut client, mut ends, behind, server } = Queue::new();
        assert_eq!(client.run(&format!("CLIENT UNBLOCK {} {how}", ends.id)), Reply::Int(1));
        ends.refused();
        assert_left(client, behind, server);
    }
}

#[test]
fn client_unblock_error_ends_it_with_an_error() {
    let Queue { mut client, mut ends, behind, server } = Queue::new();
    assert_eq!(client.run(&format!("CLIENT UNBLOCK {} ERROR", ends.id)), Reply::Int(1));
    let error = ends.failed();
    assert!(error.starts_with("UNBLOCKED "), "{error}");
    assert_left(client, behind, server);
}

#[test]
fn client_unblock_twice_in_one_write_ends_it_once() {
    for [one, other] in
        [["TIMEOUT", "ERROR"], ["ERROR", "TIMEOUT"], ["ERROR", "ERROR"], ["TIMEOUT", "TIMEOUT"]]
    {
        let Queue { mut client, mut ends, behind, server } = Queue::new();
        let id = ends.id;
        let commands = [one, other].map(|how| format!("CLIENT UNBLOCK {id} {how}"));
        client.run_all(&[&commands[0], &commands[1]]);
        let reply = ends.reply();
        assert!(reply.is_error() || reply == Reply::NullArray, "{reply:?}");
        assert_left(client, behind, server);
    }
}

#[test]
fn client_kill_ends_it() {
    let Queue { mut client, mut ends, behind, server } = Queue::new();
    assert_eq!(client.run(&format!("CLIENT KILL ID {}", ends.id)), Reply::Int(1));
    ends.closed();
    assert_left(client, behind, server);
}

#[test]
fn the_removal_of_its_user_ends_it() {
    let Queue { mut client, mut ends, mut behind, server } = Queue::with(|server, rest| {
        let mut client = server.client();
        client.ok("ACL SETUSER app on nopass ~* +@all");
        client.ok("AUTH app any");
        Waiter::on(server, client, rest)
    });
    assert_eq!(client.run("ACL DELUSER app"), Reply::Int(1));
    ends.closed();
    behind.assert_waiting(&server);
    behind.client.send(&["PING"]);
    release(&mut client, "k", "a");
    crate::support::ok_grant(behind.client.read());
    assert_eq!(behind.client.read(), Reply::Simple("PONG".into()));
    release(&mut client, "k", "behind");
    assert_left_in_peace(&server, "k");
}

#[test]
fn the_end_of_the_connection_ends_it() {
    let Queue { client, ends, behind, server } = Queue::new();
    drop(ends);
    assert_left(client, behind, server);
}

#[test]
fn a_reset_of_the_connection_ends_it() {
    let Queue { client, ends, behind, server } = Queue::with(Waiter::with_unread_reply);
    ends.reset();
    assert_left(client, behind, server);
}

#[test]
fn the_end_of_its_time_ends_it_with_null_and_not_before() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a OWNER a");
    let mut other = server.client();
    for block in [1, 30, 300, 700] {
        let asked = Instant::now();
        let reply = other.run(&format!("LOCK.ACQUIRE k TOKEN ends BLOCK {block}"));
        let took = asked.elapsed();
        assert_eq!(reply, Reply::NullArray);
        assert!(took >= Duration::from_millis(block), "BLOCK {block} ended after {took:?}");
        assert!(took < Duration::from_millis(block) + LATE, "BLOCK {block} ended after {took:?}");
    }
    let ends = Waiter::on(&server, other, "k TOKEN ends OWNER ends BLOCK 300");
    let behind = Waiter::new(&server, "k TOKEN behind OWNER behind BLOCK 0");
    let mut ends = ends;
    ends.refused();
    assert_left(client, behind, server);
}

#[test]
fn the_shortest_time_ends_first_wherever_it_stands_in_the_queue() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let waits = [("longest", 900), ("shortest", 300), ("middle", 600)].map(|(owner, block)| {
        let mut client = server.client();
        client.run("PING");
        (client, format!("LOCK.ACQUIRE k OWNER {owner} BLOCK {block}"))
    });
    // All are there when the server goes on, so that their times begin together.
    signal::stop(&server);
    let waits = waits.map(|(mut client, command)| {
        client.send(&command.split(' ').collect::<Vec<_>>());
        client
    });
    signal::go_on(&server);
    let mut last = BTreeSet::from(["longest", "middle", "shortest"].map(str::to_owned));
    wait_until("all times are over", PATIENCE, || {
        let waiting: BTreeSet<String> = owners(&mut client, "k").1.into_iter().collect();
        // A loaded machine may show less of it, but nothing else.
        assert!(waiting.is_subset(&last), "{waiting:?} after {last:?}");
        let order = ["shortest", "middle", "longest"].map(|owner| waiting.contains(owner));
        assert!(order.is_sorted(), "{waiting:?}");
        last = waiting;
        last.is_empty()
    });
    for mut client in waits {
        assert_eq!(client.read(), Reply::NullArray);
    }
    release(&mut client, "k", "a");
    assert_left_in_peace(&server, "k");
}

#[test]
fn block_0_is_without_end() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    let began = Instant::now();
    time_passes(began, Duration::from_millis(1_500));
    waiter.assert_waiting(&server);
    let queue = field(&client.run("LOCK.INFO k"), "queue");
    assert_eq!(field(&queue.items()[0], "timeout"), Reply::Int(-1));
    release(&mut client, "k", "a");
    waiter.granted();
}

#[test]
fn the_longest_block_is_as_good_as_without_end() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 3153600000000");
    time_passes(Instant::now(), Duration::from_millis(300));
    waiter.assert_waiting(&server);
    release(&mut client, "k", "a");
    waiter.granted();
}

#[test]
fn demotion_ends_every_wait_and_nobody_hangs() {
    let mut server = Server::start();
    let mut client = server.client();
    for key in ["k", "l", "m"] {
        acquire(&mut client, &format!("{key} TOKEN a PX 60000"));
    }
    let mut waiters: Vec<_> = ["k", "k", "l", "m", "m"]
        .iter()
        .map(|key| Waiter::new(&server, &format!("{key} TOKEN b BLOCK 0")))
        .collect();
    // The second waiter of a key brought the token of the first, whose place it took.
    for at in [3, 0] {
        waiters.remove(at).refused();
    }
    client.ok("REPLICAOF 127.0.0.1 1");
    waiters.iter_mut().for_each(Waiter::failed_or_closed);
    wait_blocked(&server, 0);
    server.client().ok("REPLICAOF NO ONE");
    let mut client = server.client();
    for key in ["k", "l", "m"] {
        assert!(client.run(&format!("LOCK.CHECK {key} b")).is_null());
        assert_eq!(crate::support::waiter::waiting(&mut client, key), 0);
        release(&mut client, key, "a");
        assert_left_in_peace(&server, key);
    }
    server.assert_alive();
}

#[test]
fn shutdown_ends_every_wait() {
    for data in [Data::Save, Data::NoSave] {
        let mut server = Server::builder().aof().start();
        let mut client = server.client();
        acquire(&mut client, "k TOKEN a PX 60000");
        let mut waiters =
            [1, 2, 3].map(|n| Waiter::new(&server, &format!("k TOKEN w{n} BLOCK {}", n * 100_000 - 100_000)));
        server.stop(data);
        waiters.iter_mut().for_each(Waiter::closed);
        server.start_again();
        let mut client = server.client();
        assert!(!client.run("LOCK.CHECK k a").is_null());
        assert_eq!(crate::support::waiter::waiting(&mut client, "k"), 0);
        release(&mut client, "k", "a");
        assert_left_in_peace(&server, "k");
    }
}

#[test]
fn the_module_cannot_be_unloaded_from_under_a_waiter() {
    let mut server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    assert!(client.run("MODULE UNLOAD lock").is_error());
    waiter.assert_waiting(&server);
    release(&mut client, "k", "a");
    waiter.granted();
    server.assert_alive();
}

#[test]
fn every_client_is_killed_and_nothing_is_left_of_them() {
    let mut server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut waiters: Vec<_> =
        (0..30).map(|n| Waiter::new(&server, &format!("k TOKEN w{n} SESSION BLOCK 0"))).collect();
    // The connections on which the test looked on may not have ended yet, and count then.
    let killed = client.run("CLIENT KILL TYPE normal SKIPME yes").int();
    assert!(killed >= 30, "{killed}");
    waiters.iter_mut().for_each(Waiter::closed);
    wait_blocked(&server, 0);
    release(&mut client, "k", "a");
    assert_left_in_peace(&server, "k");
    server.assert_alive();
}

#[test]
fn those_who_leave_from_the_middle_of_a_queue_leave_it_in_order() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a OWNER a");
    let mut waiters: Vec<_> = (0..9)
        .map(|n| Waiter::with_unread_reply(&server, &format!("k TOKEN w{n} OWNER w{n} BLOCK 0")))
        .collect();
    // From the back, so that the places of the others stay.
    waiters.remove(8).reset();
    drop(waiters.remove(6));
    let killed = waiters.remove(4);
    assert_eq!(client.run(&format!("CLIENT KILL ID {}", killed.id)), Reply::Int(1));
    let unblocked = waiters.remove(2);
    assert_eq!(client.run(&format!("CLIENT UNBLOCK {}", unblocked.id)), Reply::Int(1));
    let due = ["w0", "w1", "w3", "w5", "w7"];
    wait_until("they have left", PATIENCE, || owners(&mut client, "k").1 == due);
    let mut token = "a";
    for (waiter, owner) in waiters.iter_mut().zip(due) {
        release(&mut client, "k", token);
        assert_eq!(waiter.client.read(), Reply::Simple("PONG".into()), "what was left unread");
        assert_eq!(waiter.granted().token, owner.as_bytes());
        token = owner;
    }
    release(&mut client, "k", token);
    assert_left_in_peace(&server, "k");
}

/// The server stops writes for a while, and lets a lease and a wait end meanwhile. Whatever is written to a replica or to
/// the append-only file in that time brings the server down.
#[test]
fn while_writes_are_paused_nothing_is_handed_over_and_a_wait_still_ends_in_time() {
    let mut pair = Pair::start_with(Server::builder().aof(), Server::builder());
    let server = &mut pair.master;
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    let mut waiter = Waiter::new(server, "k TOKEN b PX 60000 BLOCK 0");
    let asked = Instant::now();
    let mut brief = Waiter::new(server, "k TOKEN c BLOCK 1000");
    let replies = client.run_all(&["LOCK.EXTEND k a PX 250", "CLIENT PAUSE 60000 WRITE"]);
    assert_eq!(replies, [Reply::Int(1), Reply::Simple("OK".into())]);
    brief.refused();
    assert!(asked.elapsed() >= Duration::from_millis(1_000), "after {:?}", asked.elapsed());
    wait_until("the lease is over", PATIENCE, || client.run("LOCK.CHECK k a") == null(&client));
    waiter.assert_waiting(server);
    client.ok("CLIENT UNPAUSE");
    waiter.granted();
    release(&mut client, "k", "b");
    assert_left_in_peace(server, "k");
    server.assert_alive();
    pair.wait_caught_up();
    pair.replica.assert_alive();
}

/// Not only leases: what a paused server would hand over otherwise waits too.
#[test]
fn while_all_is_paused_a_disconnect_hands_nothing_over_and_brings_nothing_down() {
    let mut pair = Pair::start_with(Server::builder().aof(), Server::builder());
    let server = &mut pair.master;
    let mut client = server.client();
    let mut session = server.client();
    acquire(&mut session, "k TOKEN a SESSION PX 300");
    let mut waiter = Waiter::new(server, "k TOKEN b BLOCK 0");
    let gone = Waiter::new(server, "k TOKEN c BLOCK 0");
    client.ok("CLIENT PAUSE 1000 ALL");
    let paused = Instant::now();
    drop(session);
    drop(gone);
    waiter.granted();
    assert!(paused.elapsed() < Duration::from_secs(10));
    let mut client = server.client();
    release(&mut client, "k", "b");
    assert_left_in_peace(server, "k");
    server.assert_alive();
    pair.wait_caught_up();
    pair.replica.assert_alive();
}

#[test]
fn a_wait_ends_in_time_on_an_idle_server_that_looks_rarely() {
    let server = Server::builder().config("hz 1").config("dynamic-hz no").start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    for block in [10, 120, 250] {
        at_once(&format!("the end of BLOCK {block}"), || {
            let asked = Instant::now();
            assert_eq!(client.run(&format!("LOCK.ACQUIRE k BLOCK {block}")), Reply::NullArray);
            asked.elapsed().saturating_sub(Duration::from_millis(block))
        });
    }
    assert_eq!(blocked_clients(&mut client), 0);
}
