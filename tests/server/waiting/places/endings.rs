//! What ends a place, and what does not.

use std::time::{Duration, Instant};

use super::{Listener, call_next, claim, held, is_called, leases, patient, place, ticket, tickets};
use crate::support::errors::{self, fails};
use crate::support::locks::{acquire, exists, fence_of, field, holders, null, refused};
use crate::support::waiter::{
    assert_left_in_peace, blocked_clients, is_blocked, owners, release, time_passes, wait_blocked, waiting,
};
use crate::support::{Client, Data, PATIENCE, Reply, Server, Waiter, at_once, cmd, wait_until};

/// The place is gone: a repeat is told a new ticket, and gives that up again.
#[track_caller]
fn assert_ended(client: &mut Client, key: &str, token: &str, old: i64) {
    assert!(!tickets(client, key).contains(&Some(old)), "the place {old} is still there");
    let new = place(client, &format!("{key} TOKEN {token} QUEUE 600000"));
    assert!(new > old, "{new} is not newer than {old}");
    assert_eq!(client.run(&format!("LOCK.RELEASE {key} {token}")), Reply::Int(0));
}

// --- LOCK.RELEASE

#[test]
fn a_release_of_the_token_gives_the_place_up_from_any_connection() {
    let (server, mut client) = held();
    let first = place(&mut client, "k TOKEN b QUEUE 600000");
    for mut giving_up in [server.client(), server.client3()] {
        place(&mut client, "k TOKEN b QUEUE 600000");
        assert_eq!(giving_up.run("LOCK.RELEASE k b"), Reply::Int(0), "it held nothing");
        assert_eq!(waiting(&mut client, "k"), 0);
        assert_eq!(giving_up.run("LOCK.RELEASE k b"), Reply::Int(0), "nor does it a second time");
    }
    assert_ended(&mut client, "k", "b", first);
    release(&mut client, "k", "a");
    assert_left_in_peace(&server, "k");
}

#[test]
fn a_release_gives_up_that_place_alone() {
    let (_server, mut client) = held();
    acquire(&mut client, "l TOKEN a PX 600000");
    for rest in ["k TOKEN b", "k TOKEN c", "l TOKEN b"] {
        place(&mut client, &format!("{rest} QUEUE 600000"));
    }
    assert_eq!(client.run("LOCK.RELEASE k b"), Reply::Int(0));
    call_next(&mut client, "k", "a", "c");
    call_next(&mut client, "l", "a", "b");
}

#[test]
fn a_script_and_a_transaction_can_give_a_place_up() {
    let (_server, mut client) = held();
    let first = place(&mut client, "k TOKEN b QUEUE 600000");
    let script = "return redis.call('LOCK.RELEASE', KEYS[1], 'b')";
    assert_eq!(client.call(&cmd!["EVAL", script, 1, "k"]), Reply::Int(0));
    assert_ended(&mut client, "k", "b", first);
    let second = place(&mut client, "k TOKEN b QUEUE 600000");
    let replies = client.run_all(&["MULTI", "LOCK.RELEASE k b", "LOCK.RELEASE k a", "EXEC"]);
    assert_eq!(replies[3], Reply::Array(vec![Reply::Int(0), Reply::Int(1)]));
    assert!(!exists(&mut client, "k"), "nobody was left to be called");
    acquire(&mut client, "k TOKEN a");
    assert_ended(&mut client, "k", "b", second);
}

#[test]
fn a_release_of_a_holder_ends_its_place_for_another_limit_too() {
    let server = patient();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a SHARED PX 600000");
    acquire(&mut client, "k TOKEN b SHARED PX 600000");
    place(&mut client, "k TOKEN a LIMIT 1 QUEUE 600000");
    release(&mut client, "k", "a");
    assert_eq!(waiting(&mut client, "k"), 0);
    release(&mut client, "k", "b");
    assert!(!exists(&mut client, "k"), "a was not called");
}

#[test]
fn a_release_of_an_inner_level_leaves_the_place_for_another_limit() {
    let server = patient();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a SHARED LEVEL 1 PX 600000");
    acquire(&mut client, "k TOKEN a SHARED LEVEL 2 PX 600000");
    acquire(&mut client, "k TOKEN b SHARED PX 600000");
    let upgrade = place(&mut client, "k TOKEN a LIMIT 1 QUEUE 600000");
    assert_eq!(client.run("LOCK.RELEASE k a LEVEL 2"), Reply::Int(1));
    assert_eq!(tickets(&mut client, "k"), [Some(upgrade)]);
    release(&mut client, "k", "b");
    assert_eq!(field(&holders(&mut client, "k")[0], "limit"), Reply::Int(1));
}

// --- time

#[test]
fn a_place_ends_with_its_time_and_not_before() {
    let (server, mut client) = held();
    for queue_ms in [1, 40, 300, 700] {
        let asked = Instant::now();
        let first = place(&mut client, &format!("k TOKEN b QUEUE {queue_ms}"));
        wait_until("its time is over", PATIENCE, || waiting(&mut client, "k") == 0);
        let took = asked.elapsed();
        assert!(took >= Duration::from_millis(queue_ms), "QUEUE {queue_ms} ended after {took:?}");
        assert!(took < Duration::from_millis(queue_ms + 10_000), "QUEUE {queue_ms} ended after {took:?}");
        assert_ended(&mut client, "k", "b", first);
    }
    release(&mut client, "k", "a");
    assert_left_in_peace(&server, "k");
}

#[test]
fn whose_time_is_over_is_not_called_and_who_stands_behind_is() {
    let (server, mut client) = held();
    place(&mut client, "k TOKEN b OWNER b QUEUE 100");
    let behind = place(&mut client, "k TOKEN c OWNER c QUEUE 600000");
    let mut listener = Listener::of(&server, "k");
    wait_until("its time is over", PATIENCE, || owners(&mut client, "k").1 == ["c"]);
    release(&mut client, "k", "a");
    listener.hears(behind);
    assert!(!is_called(&mut client, "k", "b"));
}

#[test]
fn a_writers_place_that_ends_lets_in_the_readers_behind_it() {
    let server = patient();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN r SHARED PX 600000");
    let mut listener = Listener::of(&server, "k");
    place(&mut client, "k TOKEN w QUEUE 600000");
    let mut reader = Waiter::new(&server, "k TOKEN s SHARED BLOCK 0");
    let behind = place(&mut client, "k TOKEN t SHARED QUEUE 600000");
    // The time that is asked for last counts.
    place(&mut client, "k TOKEN w QUEUE 100");
    listener.hears(behind);
    reader.granted();
}

#[test]
fn the_shortest_time_ends_first_wherever_it_stands() {
    let (_server, mut client) = held();
    // In one write, so that their times begin together.
    let requests = [("b", 1_500), ("c", 500), ("d", 1_000)]
        .map(|(token, queue_ms)| format!("LOCK.ACQUIRE k TOKEN {token} OWNER {token} QUEUE {queue_ms}"));
    for reply in client.run_all(&requests.each_ref().map(String::as_str)) {
        ticket(&reply);
    }
    let mut seen = vec![];
    wait_until("all times are over", PATIENCE, || {
        let (_, queue) = owners(&mut client, "k");
        if seen.last() != Some(&queue) {
            seen.push(queue.clone());
        }
        queue.is_empty()
    });
    let full: &[&[&str]] = &[&["b", "c", "d"], &["b", "d"], &["b"], &[]];
    let mut due = full.iter();
    // A loaded machine may show less of it, but nothing else.
    assert!(seen.iter().all(|queue| due.any(|it| it == queue)), "{seen:?}");
}

#[test]
fn each_repeat_begins_the_time_anew() {
    const QUEUE: Duration = Duration::from_millis(1_500);
    let (_server, mut client) = held();
    let request = format!("k TOKEN b QUEUE {}", QUEUE.as_millis());
    let mut asked = Instant::now();
    let (mut first, mut begun) = (place(&mut client, &request), asked);
    wait_until("it would have ended long ago", PATIENCE, || {
        let asking = Instant::now();
        let number = place(&mut client, &request);
        if number != first {
            // On a machine that stood still for so long it has ended, and this one is another.
            assert!(asked.elapsed() >= QUEUE, "after {:?}", begun.elapsed());
            (first, begun) = (number, asking);
        }
        asked = asking;
        begun.elapsed() > QUEUE * 2
    });
    place(&mut client, "k TOKEN b QUEUE 600000");
    call_next(&mut client, "k", "a", "b");
}

#[test]
fn the_time_that_was_asked_for_last_counts() {
    let (_server, mut client) = held();
    let requests = ["longer QUEUE 500", "longer QUEUE 600000", "shorter QUEUE 600000", "shorter QUEUE 500"]
        .map(|it| format!("LOCK.ACQUIRE k TOKEN {it}"));
    let tickets_told = client.run_all(&requests.each_ref().map(String::as_str));
    let long = ticket(&tickets_told[0]);
    wait_until("the shorter is over", PATIENCE, || waiting(&mut client, "k") == 1);
    assert_eq!(tickets(&mut client, "k"), [Some(long)]);
    call_next(&mut client, "k", "a", "longer");
}

#[test]
fn a_place_ends_in_its_time_on_an_idle_server_that_looks_rarely() {
    let server = Server::builder().config("hz 1").config("dynamic-hz no").start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN r SHARED PX 600000");
    for queue_ms in [10, 120, 250] {
        at_once(&format!("the end of QUEUE {queue_ms}"), || {
            let asked = Instant::now();
            place(&mut client, &format!("k TOKEN w QUEUE {queue_ms}"));
            // It stands behind the writer, unless that has left already.
            acquire(&mut client, "k TOKEN s SHARED BLOCK 0");
            let late = asked.elapsed().saturating_sub(Duration::from_millis(queue_ms));
            release(&mut client, "k", "s");
            late
        });
    }
}

// --- CLIENT UNBLOCK

#[test]
fn client_unblock_error_ends_the_place() {
    let (server, mut client) = held();
    let first = place(&mut client, "k TOKEN b QUEUE 600000");
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0 QUEUE 600000");
    assert_eq!(client.run(&format!("CLIENT UNBLOCK {} ERROR", waiter.id)), Reply::Int(1));
    let error = waiter.failed();
    assert!(error.starts_with("UNBLOCKED "), "{error}");
    wait_until("it has left", PATIENCE, || waiting(&mut client, "k") == 0);
    assert_ended(&mut client, "k", "b", first);
}

#[test]
fn client_unblock_ends_the_wait_on_the_connection_and_leaves_the_place() {
    for how in ["", "TIMEOUT"] {
        let (server, mut client) = held();
        let first = place(&mut client, "k TOKEN b QUEUE 600000");
        let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0 QUEUE 600000");
        place(&mut client, "k TOKEN c QUEUE 600000");
        assert_eq!(client.run(&format!("CLIENT UNBLOCK {} {how}", waiter.id)), Reply::Int(1));
        assert_eq!(ticket(&waiter.reply()), first);
        assert_eq!(tickets(&mut client, "k")[0], Some(first));
        call_next(&mut client, "k", "a", "b");
    }
}

#[test]
fn a_connection_that_asked_and_went_on_is_not_blocked() {
    let (_server, mut client) = held();
    let first = place(&mut client, "k TOKEN b QUEUE 600000");
    let id = client.id();
    for how in ["TIMEOUT", "ERROR"] {
        assert_eq!(client.run(&format!("CLIENT UNBLOCK {id} {how}")), Reply::Int(0));
    }
    assert_eq!(tickets(&mut client, "k"), [Some(first)]);
}

// --- the end of BLOCK, and of the connection

#[test]
fn the_end_of_block_leaves_the_place_for_the_time_of_queue() {
    let (_server, mut client) = held();
    let asked = Instant::now();
    // Both times from the same moment would end the place with the wait.
    let first = place(&mut client, "k TOKEN b BLOCK 1500 QUEUE 1400");
    assert!(asked.elapsed() >= Duration::from_millis(1_500), "{:?}", asked.elapsed());
    assert_eq!(tickets(&mut client, "k"), [Some(first)]);
    wait_until("its time is over", PATIENCE, || waiting(&mut client, "k") == 0);
    let took = asked.elapsed();
    assert!(took >= Duration::from_millis(2_900), "{took:?}");
}

/// How a connection comes to its end.
#[derive(Clone, Copy, Debug)]
enum End {
    Closes,
    Reset,
    Killed,
    KilledWithAll,
}

#[test]
fn no_end_of_the_connection_ends_a_place() {
    for end in [End::Closes, End::Reset, End::Killed, End::KilledWithAll] {
        let (server, mut client) = held();
        let waiter = match end {
            End::Reset => Waiter::with_unread_reply(&server, "k TOKEN b BLOCK 0 QUEUE 600000"),
            _ => Waiter::new(&server, "k TOKEN b BLOCK 0 QUEUE 600000"),
        };
        let mut asked = server.client();
        place(&mut asked, "k TOKEN c QUEUE 600000");
        let asked_id = asked.id();
        match end {
            End::Closes => {
                drop(asked);
                drop(waiter);
            }
            End::Reset => {
                asked.send(&["PING"]);
                wait_until("a reply is there", PATIENCE, || asked.has_reply_within(Duration::from_secs(1)));
                asked.reset();
                waiter.reset();
            }
            End::Killed => {
                for id in [asked_id, waiter.id] {
                    assert_eq!(client.run(&format!("CLIENT KILL ID {id}")), Reply::Int(1));
                }
            }
            End::KilledWithAll => {
                client.run("CLIENT KILL TYPE normal SKIPME yes");
            }
        }
        let mut observer = server.client();
        wait_until("the connections have ended", PATIENCE, || blocked_clients(&mut observer) == 0);
        let shown = tickets(&mut observer, "k");
        assert!(shown.len() == 2 && shown.iter().all(Option::is_some), "{end:?}: {shown:?}");
        call_next(&mut observer, "k", "a", "b");
        call_next(&mut observer, "k", "b", "c");
    }
}

#[test]
fn reset_quit_and_a_new_protocol_leave_a_place() {
    let (server, mut client) = held();
    let first = place(&mut client, "k TOKEN b QUEUE 600000");
    for command in ["RESET", "SELECT 3", "QUIT"] {
        let mut asking = server.client();
        assert_eq!(place(&mut asking, "k TOKEN b QUEUE 600000"), first);
        asking.run(command);
        assert_eq!(tickets(&mut client, "k"), [Some(first)], "{command}");
    }
    let mut asking = server.client();
    assert_eq!(place(&mut asking, "k TOKEN b QUEUE 600000"), first);
    assert_eq!(place(&mut asking.resp3(), "k TOKEN b QUEUE 600000"), first);
}

/// The time of a place begins when its connection is gone, not when it was asked for.
#[test]
fn a_place_that_lost_its_connection_has_all_of_its_time_from_then_on() {
    let (server, mut client) = held();
    let waiter = Waiter::new(&server, "k TOKEN b BLOCK 0 QUEUE 1500");
    time_passes(Instant::now(), Duration::from_millis(2_000));
    waiter.assert_waiting(&server);
    let left = Instant::now();
    drop(waiter);
    wait_until("its time is over", PATIENCE, || waiting(&mut client, "k") == 0);
    assert!(left.elapsed() >= Duration::from_millis(1_500), "{:?}", left.elapsed());
}

// --- the key

#[test]
fn a_flush_ends_no_place_and_leaves_the_lock_to_the_first() {
    for flush in ["FLUSHALL", "FLUSHDB", "FLUSHALL ASYNC", "FLUSHDB SYNC"] {
        let (server, mut client) = held();
        let mut listener = Listener::of(&server, "k");
        let first = place(&mut client, "k TOKEN b QUEUE 600000");
        let second = place(&mut client, "k TOKEN c QUEUE 600000");
        client.ok(flush);
        listener.hears(first);
        claim(&mut client, "k TOKEN b");
        assert_eq!(tickets(&mut client, "k"), [Some(second)], "{flush}");
        client.ok(flush);
        listener.hears(second);
    }
}

#[test]
fn the_queue_belongs_to_the_name_when_the_lock_goes_elsewhere() {
    for (goes, database, key) in [("RENAME k l", 0, "l"), ("MOVE k 1", 1, "k"), ("SWAPDB 0 1", 1, "k")] {
        let (server, mut client) = held();
        let mut listener = Listener::of(&server, "k");
        let first = place(&mut client, "k TOKEN b OWNER b QUEUE 600000");
        let second = place(&mut client, "k TOKEN c OWNER c QUEUE 600000");
        assert!(!client.run(goes).is_error(), "{goes}");
        listener.hears(first);
        assert_eq!(owners(&mut client, "k"), (vec!["b".to_owned()], vec!["c".to_owned()]), "{goes}");
        let mut elsewhere = server.client();
        elsewhere.ok(&format!("SELECT {database}"));
        assert_eq!(owners(&mut elsewhere, key), (vec!["a".to_owned()], vec![]), "{goes}");
        release(&mut elsewhere, key, "a");
        listener.heard_nothing();
        release(&mut client, "k", "b");
        listener.hears(second);
    }
}

#[test]
fn a_lock_that_moves_to_a_name_with_a_queue_is_waited_for_there() {
    let (server, mut client) = held();
    acquire(&mut client, "l TOKEN c OWNER c PX 600000");
    let of_k = place(&mut client, "k TOKEN b OWNER b QUEUE 600000");
    let of_l = place(&mut client, "l TOKEN d OWNER d QUEUE 600000");
    let mut listeners = [Listener::of(&server, "k"), Listener::of(&server, "l")];
    client.ok("RENAME k l");
    listeners[0].hears(of_k);
    assert_eq!(owners(&mut client, "l"), (vec!["a".to_owned()], vec!["d".to_owned()]));
    assert_eq!(owners(&mut client, "k").0, ["b"]);
    listeners[1].heard_nothing();
    release(&mut client, "l", "a");
    listeners[1].hears(of_l);
}

#[test]
fn the_queue_belongs_to_the_name_when_databases_are_swapped() {
    let (server, mut client) = held();
    let mut elsewhere = server.client();
    elsewhere.ok("SELECT 1");
    acquire(&mut elsewhere, "k TOKEN there PX 600000");
    let here = place(&mut client, "k TOKEN b QUEUE 600000");
    let there = place(&mut elsewhere, "k TOKEN b QUEUE 600000");
    client.ok("SWAPDB 0 1");
    assert_eq!(tickets(&mut client, "k"), [Some(here)]);
    assert_eq!(tickets(&mut elsewhere, "k"), [Some(there)]);
    let mut listener = Listener::of(&server, "k");
    release(&mut client, "k", "there");
    listener.hears(here);
    release(&mut elsewhere, "k", "a");
    listener.hears(there);
}

#[test]
fn a_value_of_another_type_leaves_the_place_until_it_is_gone() {
    let (server, mut client) = held();
    let mut listener = Listener::of(&server, "k");
    let first = place(&mut client, "k TOKEN b QUEUE 600000");
    client.ok("SET k v");
    fails(&mut client, "LOCK.ACQUIRE k TOKEN b QUEUE 600000", errors::WRONG_TYPE);
    listener.heard_nothing();
    client.run("DEL k");
    listener.hears(first);
    claim(&mut client, "k TOKEN b");
}

#[test]
fn a_called_hold_that_is_taken_away_is_no_place_any_more() {
    for taking in ["DEL k", "LOCK.BREAK k", "FLUSHALL"] {
        let (server, mut client) = held();
        let first = place(&mut client, "k TOKEN b QUEUE 600000");
        let second = place(&mut client, "k TOKEN c QUEUE 600000");
        let mut listener = Listener::of(&server, "k");
        call_next(&mut client, "k", "a", "b");
        listener.hears(first);
        assert!(!client.run(taking).is_error());
        listener.hears(second);
        assert!(place(&mut client, "k TOKEN b QUEUE 600000") > second, "{taking}");
    }
}

// --- the server

#[test]
fn a_server_that_becomes_a_replica_gives_every_place_up() {
    let (mut server, mut client) = held();
    acquire(&mut client, "l TOKEN a PX 600000");
    let first = place(&mut client, "k TOKEN b QUEUE 600000");
    place(&mut client, "l TOKEN b QUEUE 600000");
    let mut waiter = Waiter::new(&server, "l TOKEN c BLOCK 0 QUEUE 600000");
    client.ok("REPLICAOF 127.0.0.1 1");
    waiter.failed_or_closed();
    wait_blocked(&server, 0);
    server.client().ok("REPLICAOF NO ONE");
    let mut client = server.client();
    for key in ["k", "l"] {
        assert_eq!(waiting(&mut client, key), 0, "{key}");
    }
    assert_ended(&mut client, "k", "b", first);
    for key in ["k", "l"] {
        release(&mut client, key, "a");
        assert_left_in_peace(&server, key);
    }
    server.assert_alive();
}

#[test]
fn a_restart_gives_every_place_up() {
    for (builder, data) in [
        (Server::builder(), Data::Save),
        (Server::builder().aof(), Data::NoSave),
        (Server::builder().aof().config("aof-use-rdb-preamble no"), Data::NoSave),
    ] {
        let mut server = builder.start();
        let mut client = server.client();
        acquire(&mut client, "k TOKEN a PX 600000");
        let first = place(&mut client, "k TOKEN b QUEUE 600000");
        let mut waiter = Waiter::new(&server, "k TOKEN c BLOCK 0 QUEUE 600000");
        server.stop(data);
        waiter.closed();
        server.start_again();
        let mut client = server.client();
        assert_eq!(waiting(&mut client, "k"), 0);
        assert_ended(&mut client, "k", "b", first);
        release(&mut client, "k", "a");
        assert_left_in_peace(&server, "k");
    }
}

/// Its outer hold is gone when its turn comes.
#[test]
fn an_inner_level_that_lost_its_outer_one_is_not_called() {
    let server = patient();
    let mut client = server.client();
    let first = fence_of(&mut client, "k TOKEN a SHARED PX 600000");
    acquire(&mut client, "k TOKEN b SHARED PX 600000");
    place(&mut client, "k TOKEN a LIMIT 1 LEVEL 2 QUEUE 600000");
    let behind = place(&mut client, "k TOKEN c QUEUE 600000");
    let mut listener = Listener::of(&server, "k");
    assert_eq!(client.run(&format!("LOCK.BREAK k FENCE {first}")), Reply::Int(1));
    release(&mut client, "k", "b");
    listener.hears(behind);
    assert_eq!(client.run("LOCK.CHECK k a"), null(&client));
    refused(&mut client, "k TOKEN a LIMIT 1 LEVEL 2 QUEUE 600000");
    assert_eq!(waiting(&mut client, "k"), 0);
}

/// What it waits for is then no longer a change of its hold but a lock like any other.
#[test]
fn a_place_for_another_limit_whose_hold_ends_is_called_with_a_new_fence() {
    let server = patient();
    let mut client = server.client();
    let first = fence_of(&mut client, "k TOKEN a SHARED PX 600000");
    acquire(&mut client, "k TOKEN b SHARED PX 600000");
    let upgrade = place(&mut client, "k TOKEN a LIMIT 1 PX 60000 QUEUE 600000");
    let mut listener = Listener::of(&server, "k");
    assert_eq!(client.run(&format!("LOCK.BREAK k FENCE {first}")), Reply::Int(1));
    listener.heard_nothing();
    release(&mut client, "k", "b");
    listener.hears(upgrade);
    assert_eq!(leases(&mut client, "k"), [60_000]);
    assert!(claim(&mut client, "k TOKEN a").fence > first);
}

#[test]
fn a_data_reload_leaves_places_as_it_leaves_whoever_waits() {
    let (server, mut client) = held();
    let first = place(&mut client, "k TOKEN b QUEUE 600000");
    let mut waiter = Waiter::new(&server, "k TOKEN c BLOCK 0");
    client.ok("DEBUG RELOAD");
    let mut observer = server.client();
    assert!(is_blocked(&mut observer, waiter.id));
    assert_eq!(tickets(&mut client, "k"), [Some(first), None]);
    call_next(&mut client, "k", "a", "b");
    release(&mut client, "k", "b");
    waiter.granted();
}

#[test]
fn the_module_cannot_be_unloaded_from_under_a_place() {
    let (mut server, mut client) = held();
    place(&mut client, "k TOKEN b QUEUE 600000");
    assert!(client.run("MODULE UNLOAD lock").is_error());
    call_next(&mut client, "k", "a", "b");
    server.assert_alive();
}
