//! What hands a lock over to the next who waits, and what does not: everything that ends it, takes it away or puts something
//! else in its place.

use std::time::{Duration, Instant};

use crate::support::errors::{self, fails};
use crate::support::locks::{acquire, field, holder, refused, remaining};
use crate::support::payload::Payload;
use crate::support::waiter::{assert_left_in_peace, release, shorten, waiting};
use crate::support::{PATIENCE, Reply, Server, Waiter, at_once, cmd, wait_until};

// --- what ends it

/// A test for each way in which a lock ends, run by a client in database 0 on `k`, held by `a`: in the same write comes
/// a newcomer.
macro_rules! it_is_handed_over_by {
    ($($name:ident: $commands:expr;)+) => {$(
        #[test]
        fn $name() {
            is_handed_over(&$commands);
        }
    )+};
}

it_is_handed_over_by! {
    a_release_hands_over: ["LOCK.RELEASE k a"];
    a_break_hands_over: ["LOCK.BREAK k"];
    a_deletion_hands_over: ["DEL k"];
    an_unlinking_hands_over: ["UNLINK k"];
    a_deletion_of_many_keys_hands_over: ["DEL nothing k nothing-else"];
    a_flush_of_the_database_hands_over: ["FLUSHDB"];
    a_flush_of_the_database_in_the_background_hands_over: ["FLUSHDB ASYNC"];
    a_flush_of_all_databases_hands_over: ["FLUSHALL"];
    a_flush_of_all_databases_in_the_background_hands_over: ["FLUSHALL ASYNC"];
    a_rename_to_another_name_hands_over: ["RENAME k elsewhere"];
    a_rename_to_a_new_name_hands_over: ["RENAMENX k elsewhere"];
    a_rename_there_and_a_deletion_hand_over: ["SET value v", "RENAME value k", "DEL k"];
    a_move_to_another_database_hands_over: ["MOVE k 1"];
    a_swap_with_an_empty_database_hands_over: ["SWAPDB 0 1"];
    a_swap_the_other_way_round_hands_over: ["SWAPDB 1 0"];
    an_expiry_in_the_past_hands_over: ["EXPIREAT k 1"];
    an_overwriting_and_a_deletion_hand_over: ["SET k v", "DEL k"];
    an_overwriting_and_a_read_that_deletes_hand_over: ["SET k v", "GETDEL k"];
    a_list_in_its_place_that_is_emptied_hands_over: ["DEL k", "RPUSH l v", "RENAME l k", "LPOP k"];
    a_transaction_that_deletes_hands_over: ["MULTI", "DEL k", "EXEC"];
    a_transaction_that_overwrites_and_deletes_hands_over: ["MULTI", "SET k v", "DEL k", "EXEC"];
    a_transaction_that_flushes_hands_over: ["MULTI", "FLUSHALL", "EXEC"];
    a_transaction_that_releases_hands_over: ["MULTI", "LOCK.RELEASE k a", "EXEC"];
    a_deletion_in_another_database_hands_over: ["MOVE k 1", "SELECT 1", "DEL k", "SELECT 0"];
    an_extension_to_a_millisecond_hands_over: ["LOCK.EXTEND k a PX 1", "DEBUG SLEEP 0.05"];
    a_retry_with_a_lease_of_a_millisecond_hands_over: ["LOCK.ACQUIRE k TOKEN a PX 1", "DEBUG SLEEP 0.05"];
}

#[track_caller]
fn is_handed_over(commands: &[&str]) {
    let mut server = Server::start();
    let mut client = server.client();
    let first = acquire(&mut client, "k TOKEN a PX 60000");
    let mut next = Waiter::new(&server, "k TOKEN b BLOCK 0");
    let mut last = Waiter::new(&server, "k TOKEN c BLOCK 0");
    let newcomer = ["LOCK.ACQUIRE k TOKEN newcomer", "LOCK.CHECK k newcomer"];
    let replies = client.run_all(&[commands, &newcomer].concat());
    assert!(replies.iter().all(|reply| !reply.is_error()), "{replies:?}");
    assert_eq!(replies[replies.len() - 2..], [Reply::NullArray, Reply::NullArray], "the newcomer");
    let grant = next.granted();
    assert_eq!(grant.token, b"b");
    assert!(grant.fence > first.fence);
    assert_eq!(field(&holder(&mut client, "k"), "fence"), Reply::Int(grant.fence));
    last.assert_waiting(&server);
    assert_eq!(waiting(&mut client, "k"), 1);
    release(&mut client, "k", "b");
    last.granted();
    release(&mut client, "k", "c");
    assert_left_in_peace(&server, "k");
    server.assert_alive();
}

#[test]
fn the_end_of_a_lease_hands_over() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    let mut next = Waiter::new(&server, "k TOKEN b PX 150 BLOCK 0");
    let mut last = Waiter::new(&server, "k TOKEN c BLOCK 0");
    shorten(&mut client, "k", "a", 100);
    next.granted();
    last.granted();
    assert!(remaining(&mut client, "k", "c").is_some());
}

#[test]
fn the_breaking_of_one_hold_hands_over() {
    let server = Server::start();
    let mut client = server.client();
    let first = acquire(&mut client, "k LIMIT 2 TOKEN a").fence;
    acquire(&mut client, "k LIMIT 2 TOKEN b");
    let mut waiter = Waiter::new(&server, "k LIMIT 2 TOKEN c BLOCK 0");
    assert_eq!(client.run("LOCK.BREAK k FENCE 1"), Reply::Int(0));
    waiter.assert_waiting(&server);
    assert_eq!(client.run(&format!("LOCK.BREAK k FENCE {first}")), Reply::Int(1));
    waiter.granted();
}

#[test]
fn an_expiry_of_the_key_hands_over() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    assert_eq!(client.run("PEXPIRE k 100"), Reply::Int(1));
    waiter.granted();
    assert_eq!(client.run("PTTL k"), Reply::Int(-1), "the new lock has nothing of the old one");
}

#[test]
fn an_eviction_hands_over() {
    let mut server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    client.run_all(&[
        "CONFIG SET maxmemory-policy allkeys-random",
        "CONFIG SET maxmemory 1",
        "PING",
        "CONFIG SET maxmemory 0",
    ]);
    waiter.granted();
    server.assert_alive();
}

#[test]
fn a_migration_to_another_server_hands_over_unless_the_lock_stays() {
    let (server, other) = (Server::start(), Server::start());
    let mut client = server.client();
    let first = acquire(&mut client, "k TOKEN a PX 60000 OWNER me").fence;
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    let mut there = other.client();
    acquire(&mut there, "k TOKEN x");
    let migrate = format!("MIGRATE 127.0.0.1 {} k 0 5000", other.port());
    assert!(client.run(&migrate).error().contains("BUSYKEY"));
    waiter.assert_waiting(&server);
    client.ok(&format!("{migrate} COPY REPLACE"));
    waiter.assert_waiting(&server);
    let mut behind = Waiter::new(&other, "k TOKEN y BLOCK 0");
    client.ok(&format!("{migrate} REPLACE"));
    assert!(waiter.granted().fence > first);
    assert_eq!(field(&holder(&mut there, "k"), "fence"), Reply::Int(first));
    behind.assert_waiting(&other);
    release(&mut there, "k", "a");
    assert!(behind.granted().fence > first);
    for (server, token) in [(&server, "b"), (&other, "y")] {
        release(&mut server.client(), "k", token);
        assert_left_in_peace(server, "k");
    }
}

#[test]
fn a_script_that_deletes_hands_over_and_lets_no_newcomer_in() {
    let server = Server::start();
    for key in ["k", "l"] {
        let mut client = server.client();
        acquire(&mut client, &format!("{key} TOKEN a"));
        let mut waiter = Waiter::new(&server, &format!("{key} TOKEN b BLOCK 0"));
        let script = if key == "k" {
            "return redis.call('DEL', KEYS[1])"
        } else {
            "redis.call('DEL', KEYS[1]);
            local newcomer = redis.call('LOCK.ACQUIRE', KEYS[1], 'TOKEN', 'newcomer');
            if newcomer then return 0 else return 1 end"
        };
        assert_eq!(client.call(&cmd!["EVAL", script, 1, key]), Reply::Int(1));
        refused(&mut client, key);
        waiter.granted();
        release(&mut client, key, "b");
        assert_left_in_peace(&server, key);
    }
}

#[test]
fn a_newcomer_in_the_transaction_that_deletes_does_not_overtake() {
    let server = Server::start();
    for deletion in ["DEL k", "UNLINK k", "LOCK.RELEASE k a", "LOCK.BREAK k", "FLUSHDB", "RENAME k elsewhere"]
    {
        let mut client = server.client();
        acquire(&mut client, "k TOKEN a");
        let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
        let replies = client.run_all(&["MULTI", deletion, "LOCK.ACQUIRE k TOKEN newcomer", "EXEC"]);
        let results = replies[3].items();
        assert!(!results[0].is_error(), "{deletion}: {replies:?}");
        assert_eq!(results[1], Reply::NullArray, "{deletion}: the newcomer");
        waiter.granted();
        release(&mut client, "k", "b");
        assert_left_in_peace(&server, "k");
    }
}

// --- another value under a waiter

/// A test for each way in which a value of another type goes away again from under a waiter.
macro_rules! another_type_leaves_it_waiting_until {
    ($($name:ident: $commands:expr;)+) => {$(
        #[test]
        fn $name() {
            waits_out_another_type(&$commands);
        }
    )+};
}

another_type_leaves_it_waiting_until! {
    another_type_leaves_it_waiting_until_it_is_deleted: ["DEL k"];
    another_type_leaves_it_waiting_until_it_is_unlinked: ["UNLINK k"];
    another_type_leaves_it_waiting_until_it_expires: ["PEXPIRE k 60"];
    another_type_leaves_it_waiting_until_it_is_renamed: ["RENAME k elsewhere"];
    another_type_leaves_it_waiting_until_it_is_moved: ["MOVE k 1"];
    another_type_leaves_it_waiting_until_it_is_swapped_away: ["SWAPDB 0 1"];
    another_type_leaves_it_waiting_until_it_is_flushed: ["FLUSHALL"];
    another_type_leaves_it_waiting_until_a_read_deletes_it: ["GETDEL k"];
    another_type_leaves_it_waiting_until_it_is_set_to_expire_and_set_to_expire_again: ["SET k w PX 50000", "PEXPIRE k 60"];
    another_type_leaves_it_waiting_until_its_last_element_is_taken: ["DEL l", "SADD l v", "RENAME l k", "SPOP k"];
}

#[track_caller]
fn waits_out_another_type(commands: &[&str]) {
    let mut server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    client.ok("SET k v");
    waiter.assert_waiting(&server);
    fails(&mut client, "LOCK.ACQUIRE k TOKEN newcomer", errors::WRONG_TYPE);
    fails(&mut client, "LOCK.RELEASE k a", errors::WRONG_TYPE);
    assert_eq!(client.run("GET k").text(), "v", "the value is what was set");
    waiter.assert_waiting(&server);
    for command in commands {
        assert!(!client.run(command).is_error(), "{command}");
    }
    waiter.granted();
    assert!(remaining(&mut client, "k", "b").is_some());
    release(&mut client, "k", "b");
    assert_left_in_peace(&server, "k");
    server.assert_alive();
}

#[test]
fn another_type_under_a_waiter_does_not_keep_it_beyond_its_time() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 300");
    client.ok("SET k v");
    waiter.refused();
    assert_eq!(client.run("GET k").text(), "v");
}

#[test]
fn another_lock_in_place_of_the_first_leaves_it_waiting_for_that_one() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    acquire(&mut client, "other TOKEN x PX 60000");
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    let mut others = Waiter::new(&server, "other TOKEN c BLOCK 0");
    let replies = client.run_all(&["LOCK.EXTEND k a PX 300", "RENAME other k"]);
    assert_eq!(replies, [Reply::Int(1), Reply::Simple("OK".into())]);
    others.granted();
    wait_until("the first lock's lease would have ended", PATIENCE, || {
        remaining(&mut client, "k", "x") < Some(59_600)
    });
    waiter.assert_waiting(&server);
    release(&mut client, "k", "x");
    waiter.granted();
    assert!(remaining(&mut client, "other", "c").is_some());
}

#[test]
fn the_lease_of_a_lock_renamed_there_ends_and_hands_over() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    acquire(&mut client, "other TOKEN x PX 60000");
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    let began = Instant::now();
    let replies = client.run_all(&["LOCK.EXTEND other x PX 400", "RENAME other k"]);
    assert_eq!(replies, [Reply::Int(1), Reply::Simple("OK".into())]);
    waiter.granted();
    assert!(began.elapsed() >= Duration::from_millis(400), "after {:?}", began.elapsed());
}

#[test]
fn a_swap_with_another_lock_leaves_both_databases_waiting_for_the_lock_they_see() {
    let server = Server::start();
    let mut client = server.client();
    let mut second = server.client();
    second.ok("SELECT 1");
    acquire(&mut client, "k TOKEN a");
    acquire(&mut second, "k TOKEN x");
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    let mut connection = server.client();
    connection.ok("SELECT 1");
    let mut other = Waiter::on(&server, connection, "k TOKEN y BLOCK 0");
    client.ok("SWAPDB 0 1");
    waiter.assert_waiting(&server);
    other.assert_waiting(&server);
    release(&mut client, "k", "x");
    assert_eq!(waiter.granted().token, b"b");
    other.assert_waiting(&server);
    release(&mut second, "k", "a");
    assert_eq!(other.granted().token, b"y");
    assert!(remaining(&mut client, "k", "b").is_some());
    assert!(remaining(&mut second, "k", "y").is_some());
}

#[test]
fn the_lease_of_a_lock_swapped_there_ends_and_hands_over() {
    let server = Server::start();
    let mut client = server.client();
    let mut second = server.client();
    second.ok("SELECT 1");
    acquire(&mut client, "k TOKEN a PX 60000");
    acquire(&mut second, "k TOKEN x PX 60000");
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    let began = Instant::now();
    let replies = second.run_all(&["LOCK.EXTEND k x PX 400", "SWAPDB 0 1"]);
    assert_eq!(replies, [Reply::Int(1), Reply::Simple("OK".into())]);
    waiter.granted();
    assert!(began.elapsed() >= Duration::from_millis(400), "after {:?}", began.elapsed());
    assert!(remaining(&mut second, "k", "a").is_some(), "the other one is where it went");
}

#[test]
fn a_lock_restored_there_is_waited_for() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "other TOKEN x PX 3000");
    let payload = Payload::of(&mut client, "other").wire();
    acquire(&mut client, "k TOKEN a PX 60000");
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    let restored = client.call(&cmd!["RESTORE", "k", 0, payload, "REPLACE"]);
    assert_eq!(restored, Reply::Simple("OK".into()));
    waiter.assert_waiting(&server);
    assert!(remaining(&mut client, "k", "x").is_some());
    waiter.granted();
}

#[test]
fn a_value_set_in_the_transaction_that_deletes_leaves_it_waiting() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    let replies = client.run_all(&["MULTI", "DEL k", "SET k v", "EXEC"]);
    assert!(!replies[3].is_error());
    waiter.assert_waiting(&server);
    assert_eq!(client.run("GET k").text(), "v");
    client.run("DEL k");
    waiter.granted();
}

#[test]
fn a_reload_of_the_data_leaves_waiters_where_they_are() {
    let mut server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    let mut waiters = [1, 2].map(|n| Waiter::new(&server, &format!("k TOKEN w{n} BLOCK 0")));
    client.ok("DEBUG RELOAD");
    assert!(remaining(&mut client, "k", "a").is_some());
    release(&mut client, "k", "a");
    waiters[0].granted();
    waiters[1].assert_waiting(&server);
    release(&mut client, "k", "w1");
    waiters[1].granted();
    server.assert_alive();
}

/// The server closes such a connection when its loop is about to sleep, and nothing else would wake it before its next
/// tick, a second later.
#[test]
fn the_end_of_a_session_by_quit_hands_over_before_the_next_tick() {
    let server = Server::builder().config("hz 1").config("dynamic-hz no").start();
    for _ in 0..4 {
        at_once("the end of a session by QUIT", || {
            let mut session = server.client();
            acquire(&mut session, "k TOKEN a SESSION");
            let mut waiter = Waiter::new(&server, "k TOKEN w BLOCK 0");
            let quit = Instant::now();
            session.run("QUIT");
            waiter.granted();
            let delay = quit.elapsed();
            release(&mut waiter.client, "k", "w");
            delay
        });
    }
}

/// Its turn grants the lock to the waiter and takes it back, and leaves no key behind. Redis 8.6 does not survive being asked
/// for the time to live of such a key.
#[test]
fn a_lock_that_is_granted_and_given_back_in_one_turn_leaves_nothing() {
    let mut server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    let mut waiter = Waiter::new(&server, "k TOKEN b PX 60000 BLOCK 0");
    assert_eq!(client.run_all(&["DEL k", "LOCK.RELEASE k b"]), [Reply::Int(1), Reply::Int(1)]);
    waiter.granted();
    server.assert_alive();
    assert_left_in_peace(&server, "k");
}
