//! SESSION: the server keeps the lease of a connection that is open, and ends the hold of one that is closed.

use std::time::{Duration, Instant};

use crate::support::locks::{acquire, exists, field, holder, holders, null, refused, remaining};
use crate::support::waiter::{assert_left_in_peace, release, time_passes, wait_blocked, waiting};
use crate::support::{Client, Data, PATIENCE, Pair, Reply, Server, Waiter, cmd, ok_grant, wait_until};

/// How soon the end of a connection must be the end of its holds: far sooner than the leases used with it.
const AT_ONCE: Duration = PATIENCE;

/// Waits until the key is gone, long before a lease could have ended.
#[track_caller]
fn gone_at_once(client: &mut Client, key: &str) {
    wait_until(&format!("{key} is released"), AT_ONCE, || !exists(client, key));
}

#[track_caller]
fn session_of(client: &mut Client, key: &str) -> Reply {
    field(&holder(client, key), "session")
}

#[test]
fn a_session_that_closed_just_before_a_demotion_runs_out_by_its_lease() {
    let server = Server::start();
    let mut client = server.client();
    let mut holder = server.client();
    acquire(&mut holder, "k TOKEN a SESSION PX 700");
    let close = format!("CLIENT KILL ID {}", holder.id());
    client.run_all(&[&close, "REPLICAOF 127.0.0.1 1"]);
    wait_until("the lease runs out", PATIENCE, || client.run("LOCK.CHECK k a").is_null());
}

#[test]
fn the_server_extends_the_lease_while_the_connection_is_open() {
    let server = Server::start();
    let mut session = server.client();
    let id = session.id();
    let grant = acquire(&mut session, "k TOKEN a PX 1000 SESSION");
    let mut client = server.client();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2_200) {
        let left = remaining(&mut client, "k", "a").expect("it is held all the time");
        assert!((0..=1_000).contains(&left), "{left} ms left of a lease of 1000");
        refused(&mut client, "k TOKEN b");
    }
    let hold = holder(&mut client, "k");
    assert_eq!(field(&hold, "session"), Reply::Int(id));
    assert_eq!(field(&hold, "fence"), Reply::Int(grant.fence));
    assert_eq!(field(&hold, "lease"), Reply::Int(1_000));
    assert_eq!(field(&hold, "level"), Reply::Int(1));
    assert!(field(&hold, "age").int() > 2_000, "{hold:?}");
}

#[test]
fn without_session_nobody_extends_it() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 300");
    wait_until("the lease ends", PATIENCE, || !exists(&mut client, "k"));
}

#[test]
fn the_shortest_leases_are_kept_too() {
    let server = Server::start();
    let mut session = server.client();
    let mut client = server.client();
    let grants: Vec<_> = [1, 2, 5, 10]
        .iter()
        .map(|lease| acquire(&mut session, &format!("k{lease} PX {lease} TOKEN a SESSION")).fence)
        .collect();
    time_passes(Instant::now(), Duration::from_millis(1_200));
    for (lease, fence) in [1, 2, 5, 10].iter().zip(grants) {
        let hold = holder(&mut client, format!("k{lease}"));
        assert_eq!(field(&hold, "fence"), Reply::Int(fence), "PX {lease}");
    }
}

#[test]
fn the_default_lease_is_kept_as_well() {
    let server = Server::builder().config("lock.default-lease 250").start();
    let mut session = server.client();
    acquire(&mut session, "k TOKEN a SESSION");
    time_passes(Instant::now(), Duration::from_millis(1_600));
    assert!(remaining(&mut server.client(), "k", "a").is_some());
}

// --- how a connection ends

#[track_caller]
fn ends_with_it(end: impl Fn(&Server, Client)) {
    let mut server = Server::start();
    let mut client = server.client();
    // Alone, and with somebody behind.
    let mut session = server.client();
    acquire(&mut session, "k TOKEN a PX 600000 SESSION");
    acquire(&mut session, "l TOKEN a PX 600000 SESSION");
    acquire(&mut session, "s TOKEN a SHARED PX 600000 SESSION");
    acquire(&mut session, "stays TOKEN a PX 600000");
    acquire(&mut client, "s TOKEN b SHARED PX 600000");
    let mut next = Waiter::new(&server, "l TOKEN b BLOCK 0");
    let mut last = Waiter::new(&server, "l TOKEN c BLOCK 0");
    let mut writer = Waiter::new(&server, "s TOKEN w BLOCK 0");
    end(&server, session);
    gone_at_once(&mut client, "k");
    next.granted();
    last.assert_waiting(&server);
    wait_until("one reader is left", AT_ONCE, || holders(&mut client, "s").len() == 1);
    writer.assert_waiting(&server);
    release(&mut client, "s", "b");
    writer.granted();
    release(&mut client, "l", "b");
    last.granted();
    assert!(remaining(&mut client, "stays", "a").is_some(), "what was not tied to it stays");
    for (key, token) in [("l", "c"), ("s", "w"), ("stays", "a")] {
        release(&mut client, key, token);
        assert_left_in_peace(&server, key);
    }
    server.assert_alive();
}

#[test]
fn the_end_of_the_connection_releases_at_once() {
    ends_with_it(|_, session| drop(session));
}

#[test]
fn a_reset_of_the_connection_releases_at_once() {
    ends_with_it(|_, mut session| {
        session.send(&["PING"]);
        assert!(session.has_reply_within(PATIENCE));
        session.reset();
    });
}

#[test]
fn quit_releases_at_once() {
    ends_with_it(|_, mut session| assert_eq!(session.run("QUIT"), Reply::Simple("OK".into())));
}

#[test]
fn client_kill_releases_at_once() {
    ends_with_it(|server, mut session| {
        let id = session.id();
        assert_eq!(server.client().run(&format!("CLIENT KILL ID {id}")), Reply::Int(1));
        assert_eq!(session.try_read().unwrap(), None);
    });
}

#[test]
fn a_connection_that_kills_itself_releases_at_once() {
    ends_with_it(|_, mut session| {
        let id = session.id();
        session.run(&format!("CLIENT KILL ID {id} SKIPME no"));
    });
}

#[test]
fn a_protocol_error_releases_at_once() {
    ends_with_it(|_, mut session| session.raw_write(b"*1\r\n?\r\n"));
}

#[test]
fn a_connection_that_ends_while_it_waits_elsewhere_releases_at_once() {
    ends_with_it(|server, session| {
        acquire(&mut server.client(), "other TOKEN x PX 600000");
        let waiter = Waiter::on(server, session, "other TOKEN y SESSION BLOCK 0");
        drop(waiter);
        let mut client = server.client();
        wait_until("it has left the queue", PATIENCE, || waiting(&mut client, "other") == 0);
        release(&mut client, "other", "x");
    });
}

/// A waiter of one connection gets the lock that the same connection held, and neither outlives it.
#[test]
fn a_connection_that_waits_for_its_own_lock_leaves_nothing() {
    let server = Server::start();
    let mut session = server.client();
    acquire(&mut session, "k TOKEN a PX 600000 SESSION");
    let own = Waiter::on(&server, session, "k TOKEN b SESSION BLOCK 0");
    let mut behind = Waiter::new(&server, "k TOKEN c BLOCK 0");
    drop(own);
    assert_eq!(behind.granted().token, b"c");
    release(&mut server.client(), "k", "c");
    assert_left_in_peace(&server, "k");
}

/// Nobody says goodbye: the server learns of it from TCP keepalive, in this time four seconds after it last heard of it.
#[test]
#[cfg(target_os = "linux")]
fn a_lost_peer_is_released_once_keepalive_notices() {
    let server = Server::builder().config("tcp-keepalive 1").start();
    let mut session = server.client();
    acquire(&mut session, "k TOKEN a PX 600000 SESSION");
    let mut behind = Waiter::new(&server, "k TOKEN b BLOCK 0");
    session.get_lost();
    assert_eq!(behind.granted().token, b"b");
    release(&mut behind.client, "k", "b");
    assert_left_in_peace(&server, "k");
    // Until here the peer itself has kept the connection open.
    drop(session);
}

// --- what others may do with it

#[test]
fn any_connection_may_release_it_with_the_token() {
    let server = Server::start();
    let mut session = server.client();
    let mut client = server.client();
    acquire(&mut session, "k TOKEN a PX 600000 SESSION");
    release(&mut client, "k", "a");
    assert!(!exists(&mut client, "k"));
    // What comes after is not the session's, whatever its name.
    acquire(&mut client, "k TOKEN a PX 600000");
    let id = session.id();
    drop(session);
    wait_until("the session is gone", PATIENCE, || client_is_gone(&mut server.client(), id));
    assert!(remaining(&mut client, "k", "a").is_some());
    assert_eq!(session_of(&mut client, "k"), Reply::NullBulk);
}

#[test]
fn any_connection_may_break_it() {
    let server = Server::start();
    let mut session = server.client();
    let mut client = server.client();
    acquire(&mut session, "k TOKEN a PX 1000 SESSION");
    assert_eq!(client.run("LOCK.BREAK k"), Reply::Int(1));
    time_passes(Instant::now(), Duration::from_millis(1_200));
    assert!(!exists(&mut client, "k"), "it is not brought back");
    acquire(&mut client, "k TOKEN b PX 600000");
    drop(session);
    assert!(remaining(&mut client, "k", "b").is_some());
}

#[test]
fn a_deleted_or_overwritten_lock_is_not_brought_back() {
    let mut server = Server::start();
    let mut session = server.client();
    let mut client = server.client();
    for key in ["deleted", "overwritten", "flushed"] {
        acquire(&mut session, &format!("{key} TOKEN a PX 1000 SESSION"));
    }
    client.run("DEL deleted");
    client.ok("SET overwritten v");
    time_passes(Instant::now(), Duration::from_millis(1_200));
    assert!(!exists(&mut client, "deleted"));
    assert!(remaining(&mut client, "flushed", "a").is_some());
    client.ok("FLUSHALL");
    time_passes(Instant::now(), Duration::from_millis(1_200));
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
    client.ok("SET deleted v");
    drop(session);
    server.assert_alive();
    assert_eq!(client.run("GET deleted").text(), "v");
}

#[test]
fn a_lock_that_goes_elsewhere_is_kept_and_released_there() {
    for (commands, database, key) in [
        (&["RENAME k elsewhere"][..], 0, "elsewhere"),
        (&["MOVE k 1"], 1, "k"),
        (&["SWAPDB 0 1"], 1, "k"),
        (&["RENAME k l", "MOVE l 2", "SWAPDB 2 3"], 3, "l"),
    ] {
        let mut server = Server::start();
        let mut session = server.client();
        let id = session.id();
        acquire(&mut session, "k TOKEN a PX 1000 SESSION");
        let mut client = server.client();
        for command in commands {
            assert!(!client.run(command).is_error(), "{command}");
        }
        client.ok(&format!("SELECT {database}"));
        time_passes(Instant::now(), Duration::from_millis(1_600));
        assert!(remaining(&mut client, key, "a").is_some(), "{commands:?}: kept");
        assert_eq!(session_of(&mut client, key), Reply::Int(id), "{commands:?}");
        client.call(&cmd!["LOCK.EXTEND", key, "a", "PX", 600_000]);
        drop(session);
        gone_at_once(&mut client, key);
        server.assert_alive();
    }
}

#[test]
fn a_lock_that_has_just_gone_elsewhere_is_released_there() {
    for (command, database, key) in
        [("RENAME k elsewhere", 0, "elsewhere"), ("MOVE k 1", 1, "k"), ("SWAPDB 0 1", 1, "k")]
    {
        let server = Server::start();
        let mut session = server.client();
        acquire(&mut session, "k TOKEN a PX 600000 SESSION");
        let mut client = server.client();
        assert!(!client.run(command).is_error(), "{command}");
        drop(session);
        client.ok(&format!("SELECT {database}"));
        gone_at_once(&mut client, key);
    }
}

#[test]
fn it_can_be_extended_by_hand() {
    let server = Server::start();
    let mut session = server.client();
    let mut client = server.client();
    acquire(&mut session, "k TOKEN a PX 1000 SESSION");
    assert_eq!(client.run("LOCK.EXTEND k a PX 600000"), Reply::Int(1));
    assert!(remaining(&mut client, "k", "a") > Some(500_000));
    time_passes(Instant::now(), Duration::from_millis(1_200));
    assert!(remaining(&mut client, "k", "a") > Some(500_000), "the server shortens nothing");
    drop(session);
    gone_at_once(&mut client, "k");
}

// --- retries

#[test]
fn a_retry_with_session_ties_it_to_the_new_connection() {
    let server = Server::start();
    let (mut old, mut new) = (server.client(), server.client());
    let mut client = server.client();
    let (old_id, new_id) = (old.id(), new.id());
    let first = acquire(&mut old, "k TOKEN a PX 600000 SESSION");
    assert_eq!(session_of(&mut client, "k"), Reply::Int(old_id));
    assert_eq!(acquire(&mut new, "k TOKEN a PX 600000 SESSION"), first);
    assert_eq!(session_of(&mut client, "k"), Reply::Int(new_id));
    drop(old);
    wait_until("the old one is gone", PATIENCE, || client_is_gone(&mut client, old_id));
    assert!(remaining(&mut client, "k", "a").is_some(), "it is no longer the old one's");
    drop(new);
    gone_at_once(&mut client, "k");
}

#[test]
fn a_retry_with_session_ties_a_hold_that_was_nobodys() {
    let server = Server::start();
    let mut client = server.client();
    let first = acquire(&mut client, "k TOKEN a PX 60000");
    let mut session = server.client();
    let id = session.id();
    assert_eq!(acquire(&mut session, "k TOKEN a PX 1000 SESSION"), first);
    assert_eq!(session_of(&mut client, "k"), Reply::Int(id));
    time_passes(Instant::now(), Duration::from_millis(1_600));
    assert!(remaining(&mut client, "k", "a").is_some());
    drop(session);
    gone_at_once(&mut client, "k");
}

#[test]
fn a_hold_of_several_levels_is_released_whole() {
    let server = Server::start();
    let mut session = server.client();
    let mut client = server.client();
    for level in 1..=3 {
        acquire(&mut session, &format!("k TOKEN a PX 600000 SESSION LEVEL {level}"));
    }
    assert_eq!(field(&holder(&mut client, "k"), "level"), Reply::Int(3));
    assert_eq!(client.run("LOCK.RELEASE k a LEVEL 3"), Reply::Int(1));
    assert!(exists(&mut client, "k"));
    drop(session);
    gone_at_once(&mut client, "k");
}

// --- waiting

#[test]
fn a_waiter_is_tied_when_it_is_granted() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    let mut waiter = Waiter::new(&server, "k TOKEN b PX 1000 SESSION BLOCK 0");
    assert_eq!(session_of(&mut client, "k"), Reply::NullBulk);
    release(&mut client, "k", "a");
    let grant = waiter.granted();
    assert_eq!(session_of(&mut client, "k"), Reply::Int(waiter.id));
    time_passes(Instant::now(), Duration::from_millis(1_600));
    assert_eq!(field(&holder(&mut client, "k"), "fence"), Reply::Int(grant.fence), "it is kept");
    client.call(&cmd!["LOCK.EXTEND", "k", "b", "PX", 600_000]);
    drop(waiter);
    gone_at_once(&mut client, "k");
}

#[test]
fn a_connection_that_ends_while_it_waits_never_holds_the_lock() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    drop(Waiter::new(&server, "k TOKEN b SESSION BLOCK 0"));
    wait_blocked(&server, 0);
    release(&mut client, "k", "a");
    assert_left_in_peace(&server, "k");
}

/// The release comes while the end of the connection is still unread: the grant may be made, and does not stay.
#[test]
fn a_grant_to_a_connection_that_has_ended_unnoticed_does_not_stay() {
    let server = Server::start();
    let mut client = server.client();
    for _ in 0..20 {
        acquire(&mut client, "k TOKEN a PX 600000");
        let waiter = Waiter::new(&server, "k TOKEN b PX 600000 SESSION BLOCK 0");
        let mut behind = Waiter::new(&server, "k TOKEN c BLOCK 0");
        drop(waiter);
        release(&mut client, "k", "a");
        behind.granted();
        release(&mut client, "k", "c");
        assert_left_in_peace(&server, "k");
    }
}

// --- a server that is slow, restarts, replicates

#[test]
fn a_server_that_sleeps_longer_than_the_lease_does_not_lose_it() {
    let server = Server::start();
    let mut session = server.client();
    let grant = acquire(&mut session, "k TOKEN a PX 1000 SESSION");
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    let mut client = server.client();
    let replies = client.run_all(&["DEBUG SLEEP 1.3", "LOCK.CHECK k a", "LOCK.ACQUIRE k TOKEN c"]);
    assert_eq!(replies[1].items()[0], Reply::Int(grant.fence));
    assert_eq!(replies[2], Reply::NullArray);
    client.ok("DEBUG SLEEP 1.3");
    waiter.assert_waiting(&server);
    assert_eq!(field(&holder(&mut client, "k"), "fence"), Reply::Int(grant.fence));
    drop(session);
    waiter.granted();
}

#[test]
fn after_a_restart_no_connection_keeps_it_and_its_lease_runs_out() {
    for power_cut in [false, true] {
        let mut server = Server::builder().aof().start();
        let mut session = server.client();
        acquire(&mut session, "k TOKEN a PX 1500 SESSION");
        if power_cut {
            server.kill9();
        } else {
            server.stop(Data::Save);
        }
        let began = Instant::now();
        server.start_again();
        let mut client = server.client();
        // The lease may have been extended just before, and counts from the start.
        if let [hold] = holders(&mut client, "k").as_slice() {
            assert_eq!(field(hold, "session"), Reply::NullBulk);
        } else {
            let may_be_over = began.elapsed() >= Duration::from_millis(1_500);
            assert!(!power_cut || may_be_over, "it cannot have ended yet");
        }
        wait_until("the lease runs out", PATIENCE, || !exists(&mut client, "k"));
        assert_left_in_peace(&server, "k");
    }
}

#[test]
fn a_reload_of_the_data_leaves_the_hold_with_its_connection_or_lets_it_run_out() {
    let mut server = Server::start();
    let mut session = server.client();
    let id = session.id();
    acquire(&mut session, "k TOKEN a PX 1000 SESSION");
    let mut client = server.client();
    client.ok("DEBUG RELOAD");
    match session_of(&mut client, "k") {
        Reply::Int(shown) => {
            assert_eq!(shown, id);
            time_passes(Instant::now(), Duration::from_millis(1_600));
            assert!(remaining(&mut client, "k", "a").is_some(), "what is shown is kept");
            drop(session);
            gone_at_once(&mut client, "k");
        }
        Reply::NullBulk => wait_until("the lease runs out", PATIENCE, || !exists(&mut client, "k")),
        other => panic!("a session is an id or null: {other:?}"),
    }
    server.assert_alive();
}

#[test]
fn the_extensions_reach_a_replica() {
    let pair = Pair::start();
    let mut session = pair.master.client();
    acquire(&mut session, "k TOKEN a PX 1000 SESSION");
    pair.wait_caught_up();
    let mut reader = pair.replica.client();
    // Where an extension comes late the lease is over by the replica's own clock, and the key stays.
    let left_on = |reader: &mut Client| {
        assert!(exists(reader, "k"), "the replica has it");
        remaining(reader, "k", "a").unwrap_or(0)
    };
    for _ in 0..3 {
        let mut last = left_on(&mut reader);
        wait_until("what is left of the lease grows on the replica", PATIENCE, || {
            let left = left_on(&mut reader);
            let grown = left > last;
            last = left;
            grown
        });
    }
    let fence = |client: &mut Client| field(&holder(client, "k"), "fence");
    assert_eq!(fence(&mut reader), fence(&mut pair.master.client()));
    drop(session);
    gone_at_once(&mut pair.master.client(), "k");
    wait_until("it is gone from the replica", PATIENCE, || !exists(&mut reader, "k"));
}

#[test]
fn on_a_promoted_replica_no_connection_keeps_it_and_its_lease_runs_out() {
    let pair = Pair::start();
    let mut session = pair.master.client();
    acquire(&mut session, "k TOKEN a PX 5000 SESSION");
    pair.wait_caught_up();
    let mut promoted = pair.replica.client();
    promoted.ok("REPLICAOF NO ONE");
    assert_eq!(session_of(&mut promoted, "k"), Reply::NullBulk);
    wait_until("the lease runs out", PATIENCE, || !exists(&mut promoted, "k"));
    assert!(remaining(&mut pair.master.client(), "k", "a").is_some(), "the old master keeps its own");
}

// --- transactions, scripts and functions

#[test]
fn a_transaction_may_tie_a_hold() {
    let server = Server::start();
    let mut session = server.client();
    let id = session.id();
    let replies = session.run_all(&["MULTI", "LOCK.ACQUIRE k TOKEN a PX 1000 SESSION BLOCK 0", "EXEC"]);
    assert_eq!(ok_grant(replies[2].items()[0].clone()).0, b"a");
    let mut client = server.client();
    assert_eq!(session_of(&mut client, "k"), Reply::Int(id));
    time_passes(Instant::now(), Duration::from_millis(1_600));
    assert!(remaining(&mut client, "k", "a").is_some());
    client.call(&cmd!["LOCK.EXTEND", "k", "a", "PX", 600_000]);
    drop(session);
    gone_at_once(&mut client, "k");
}

#[test]
fn a_script_or_function_has_no_connection_to_tie_it_to() {
    let mut server = Server::start();
    let mut client = server.client();
    let script = "return redis.pcall('LOCK.ACQUIRE', KEYS[1], 'SESSION').err";
    let error = client.call(&cmd!["EVAL", script, 1, "k"]).text();
    assert!(error.starts_with("ERR SESSION "), "{error}");
    let error = client.call(&cmd!["EVAL", "return redis.call('LOCK.ACQUIRE', KEYS[1], 'SESSION')", 1, "k"]);
    assert!(error.error().starts_with("ERR SESSION "), "{error:?}");
    let library = "#!lua name=locks\n
        redis.register_function('take', function(keys) return redis.call('LOCK.ACQUIRE', keys[1], 'SESSION') end)";
    assert_eq!(client.call(&cmd!["FUNCTION", "LOAD", library]).text(), "locks");
    let error = client.call(&cmd!["FCALL", "take", 1, "k"]);
    assert!(error.error().starts_with("ERR SESSION "), "{error:?}");
    let replies = client.pipeline(&[
        cmd!["MULTI"].to_vec(),
        cmd!["EVAL", script, 1, "k"].to_vec(),
        cmd!["EXEC"].to_vec(),
    ]);
    assert!(replies[2].items()[0].text().starts_with("ERR SESSION "), "{replies:?}");
    assert_eq!(client.run("LOCK.INFO k"), null(&client), "nothing was taken");
    server.assert_alive();
}

#[test]
fn a_script_may_still_release_what_is_tied() {
    let server = Server::start();
    let mut session = server.client();
    acquire(&mut session, "k TOKEN a PX 600000 SESSION");
    let script = "return redis.call('LOCK.RELEASE', KEYS[1], 'a')";
    assert_eq!(server.client().call(&cmd!["EVAL", script, 1, "k"]), Reply::Int(1));
    assert_left_in_peace(&server, "k");
}

#[test]
fn very_many_sessions_end_at_once() {
    const SESSIONS: usize = 300;
    let mut server = Server::start();
    let mut client = server.client();
    let sessions: Vec<Client> = (0..SESSIONS)
        .map(|n| {
            let mut session = server.client();
            for m in 0..3 {
                acquire(&mut session, &format!("k{n}:{m} PX 600000 SESSION"));
            }
            acquire(&mut session, "shared SHARED PX 600000 SESSION");
            session
        })
        .collect();
    let mut waiter = Waiter::new(&server, "shared TOKEN w BLOCK 0");
    assert_eq!(client.run("DBSIZE"), Reply::Int(3 * 300 + 1));
    drop(sessions);
    waiter.granted();
    release(&mut client, "shared", "w");
    wait_until("all are released", AT_ONCE, || client.run("DBSIZE") == Reply::Int(0));
    server.assert_alive();
}

#[track_caller]
fn client_is_gone(client: &mut Client, id: i64) -> bool {
    client.run(&format!("CLIENT LIST ID {id}")).text().is_empty()
}

#[test]
fn reset_puts_a_connection_back_to_its_beginning_and_ends_no_hold() {
    let server = Server::start();
    let mut session = server.client();
    let mut client = server.client();
    acquire(&mut session, "k TOKEN a PX 600000 SESSION");
    let id = session.id();
    assert_eq!(session.run("RESET"), Reply::Simple("RESET".into()));
    assert_eq!(field(&holder(&mut client, "k"), "session"), Reply::Int(id));
    drop(session);
    wait_until("the connection is seen closed", PATIENCE, || !exists(&mut client, "k"));
}

#[test]
fn with_a_session_a_lease_of_less_than_a_second_counts_as_a_second_here_and_on_replicas() {
    let pair = crate::support::Pair::start();
    let mut session = pair.master.client();
    let lease = |server: &Server| field(&holder(&mut server.client(), "k"), "lease").int();
    acquire(&mut session, "k TOKEN a PX 1 SESSION");
    assert_eq!(lease(&pair.master), 1_000);
    for shorter in
        ["LOCK.EXTEND k a PX 5", "LOCK.ACQUIRE k TOKEN a PX 5", "LOCK.ACQUIRE k TOKEN a PX 5 LEVEL 2"]
    {
        assert!(!session.run(shorter).is_error());
        assert_eq!(lease(&pair.master), 1_000, "{shorter}");
        pair.wait_caught_up();
        assert_eq!(lease(&pair.replica), 1_000, "{shorter}");
    }
    assert_eq!(session.run("LOCK.EXTEND k a PX 5000"), Reply::Int(1));
    assert_eq!(lease(&pair.master), 5_000);
    // Without a session it is what it is.
    acquire(&mut session, "l TOKEN a PX 60");
    assert!(remaining(&mut session, "l", "a") <= Some(60));
}
