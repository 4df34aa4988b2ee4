//! Leases: a hold ends when its time is over, not before, and is never seen afterwards.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::errors::show;
use crate::support::locks::{acquire, exists, field, holder, holders, null, remaining};
use crate::support::{Client, PATIENCE, Random, Reply, Server, cmd, ok_grant, wait_until};

#[test]
fn when_the_lease_ends_the_key_is_gone() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 50");
    wait_until("the lock is gone", PATIENCE, || !exists(&mut client, "k"));
    assert_eq!(client.run("DBSIZE"), Reply::Int(0), "nothing is left");
    assert_eq!(client.run("LOCK.CHECK k a"), null(&client));
}

#[test]
fn the_server_ends_a_lease_by_itself_with_nobody_looking() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 50");
    wait_until("the database is empty", PATIENCE, || client.run("DBSIZE") == Reply::Int(0));
}

#[test]
fn the_next_one_is_granted_with_a_larger_fence() {
    let server = Server::start();
    let mut client = server.client();
    let first = acquire(&mut client, "k TOKEN a PX 50");
    let mut second = None;
    wait_until("the next one is granted", PATIENCE, || {
        let reply = client.run("LOCK.ACQUIRE k TOKEN b");
        second = (!reply.is_null()).then(|| ok_grant(reply));
        second.is_some()
    });
    assert!(second.unwrap().1 > first.fence);
    assert_eq!(client.run("LOCK.RELEASE k a"), Reply::Int(0));
}

/// Counts from before the request was sent, so what passes here is at least the lease, but for the millisecond that
/// whole milliseconds leave open.
#[test]
fn no_lease_ends_early() {
    let server = Server::start();
    let mut client = server.client();
    for lease in [1, 2, 3, 5, 10, 20, 40, 80, 160] {
        let start = Instant::now();
        acquire(&mut client, &format!("k TOKEN a PX {lease}"));
        wait_until("the lease ends", PATIENCE, || remaining(&mut client, "k", "a").is_none());
        let passed = start.elapsed();
        assert!(passed >= Duration::from_millis(lease - 1), "{lease} ms ended after {passed:?}");
    }
}

#[test]
fn many_leases_end_each_in_its_time() {
    const LOCKS: usize = 600;
    let mut random = Random::from_environment();
    let server = Server::start();
    let mut client = server.client();
    let leases: Vec<usize> = (0..LOCKS).map(|_| 1 + random.below(400)).collect();
    let commands: Vec<_> = leases
        .iter()
        .enumerate()
        .map(|(n, lease)| cmd!["LOCK.ACQUIRE", format!("k{n}"), "PX", lease])
        .collect();
    acquire(&mut client, "stays TOKEN s PX 60000");
    let start = Instant::now();
    for reply in client.pipeline(&commands) {
        ok_grant(reply);
    }
    let looks: Vec<_> = (0..LOCKS).map(|n| cmd!["EXISTS", format!("k{n}")]).collect();
    wait_until("all leases have ended", PATIENCE, || {
        let seen = client.pipeline(&looks);
        let passed = start.elapsed();
        for (reply, lease) in seen.iter().zip(&leases) {
            let due = Duration::from_millis(u64::try_from(*lease - 1).unwrap());
            assert!(*reply == Reply::Int(1) || passed >= due, "{lease} ms ended after {passed:?}");
        }
        seen.iter().all(|reply| *reply == Reply::Int(0))
    });
    assert!(remaining(&mut client, "stays", "s").is_some());
    assert_eq!(client.run("DBSIZE"), Reply::Int(1));
}

/// Each lock is acquired, perhaps extended to a longer or shorter lease, perhaps renamed, all in one transaction, so that none
/// ends before all is done.
#[test]
fn random_leases_extended_and_renamed_at_random_end_each_in_its_time() {
    const LOCKS: usize = 400;
    let mut random = Random::from_environment();
    let server = Server::start();
    let mut client = server.client();
    let mut commands = Vec::new();
    let mut ends = Vec::new();
    for n in 0..LOCKS {
        let (mut key, mut lease) = (format!("k{n}"), 50 + random.below(400));
        commands.push(cmd!["LOCK.ACQUIRE", key, "TOKEN", "a", "PX", lease].to_vec());
        for _ in 0..random.below(4) {
            if random.below(3) == 0 {
                let name = format!("{key}x");
                commands.push(cmd!["RENAME", key, name].to_vec());
                key = name;
            } else {
                lease = 50 + random.below(400);
                commands.push(cmd!["LOCK.EXTEND", key, "a", "PX", lease].to_vec());
            }
        }
        ends.push((key, Duration::from_millis(u64::try_from(lease - 1).unwrap())));
    }
    client.ok("MULTI");
    client.pipeline(&commands);
    let start = Instant::now();
    for (reply, command) in client.run("EXEC").items().iter().zip(&commands) {
        assert!(
            !reply.is_error() && !reply.is_null() && *reply != Reply::Int(0),
            "{}: {reply:?}",
            show(command)
        );
    }
    let looks: Vec<_> = ends.iter().map(|(key, _)| cmd!["LOCK.CHECK", key, "a"]).collect();
    wait_until("all leases have ended", PATIENCE, || {
        let seen = client.pipeline(&looks);
        let passed = start.elapsed();
        for (reply, (key, due)) in seen.iter().zip(&ends) {
            assert!(!reply.is_null() || passed >= *due, "{key}, due after {due:?}, ended after {passed:?}");
        }
        seen.iter().all(Reply::is_null)
    });
    wait_until("nothing is left", PATIENCE, || client.run("DBSIZE") == Reply::Int(0));
}

/// While the server is stalled no timer runs; the commands that follow in the same write are the first to look.
#[test]
fn no_command_sees_a_hold_after_its_lease_even_when_the_server_was_stalled() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        let before: Vec<i64> = ["acquire", "check", "release", "extend", "info", "break", "fence", "retry"]
            .map(|key| acquire(&mut client, &format!("{key} TOKEN a PX 60")).fence)
            .to_vec();
        let break_fence = format!("LOCK.BREAK fence FENCE {}", before[6]);
        let replies = client.run_all(&[
            "DEBUG SLEEP 0.3",
            "LOCK.ACQUIRE acquire TOKEN b",
            "LOCK.CHECK check a",
            "LOCK.RELEASE release a",
            "LOCK.EXTEND extend a PX 60000",
            "LOCK.INFO info",
            "LOCK.BREAK break",
            &break_fence,
            "LOCK.ACQUIRE retry TOKEN a",
            "LOCK.CHECK acquire b",
        ]);
        assert_eq!(replies[0], Reply::Simple("OK".into()), "{replies:?}");
        assert_eq!(ok_grant(replies[1].clone()).0, b"b");
        assert_eq!(replies[2], null(&client), "CHECK");
        assert_eq!(replies[3], Reply::Int(0), "RELEASE");
        assert_eq!(replies[4], Reply::Int(0), "EXTEND");
        assert_eq!(replies[5], null(&client), "INFO");
        assert_eq!(replies[6], Reply::Int(0), "BREAK");
        assert_eq!(replies[7], Reply::Int(0), "BREAK FENCE");
        let (_, fence) = ok_grant(replies[8].clone());
        assert!(fence > before[7], "a new hold, not the old one again");
        assert!(!replies[9].is_null(), "the new hold is there");
        client.run_all(&["LOCK.RELEASE acquire b", "LOCK.RELEASE retry a"]);
        wait_until("nothing is left", PATIENCE, || client.run("DBSIZE") == Reply::Int(0));
    }
}

#[test]
fn of_several_holds_only_those_whose_time_is_over_end() {
    let server = Server::start();
    let mut client = server.client();
    let kept = acquire(&mut client, "k SHARED TOKEN a PX 60000");
    acquire(&mut client, "k SHARED TOKEN b PX 40");
    acquire(&mut client, "k SHARED TOKEN c PX 80");
    wait_until("two leases have ended", PATIENCE, || holders(&mut client, "k").len() == 1);
    let hold = holder(&mut client, "k");
    assert_eq!(field(&hold, "fence"), Reply::Int(kept.fence));
    acquire(&mut client, "k LIMIT 1 TOKEN a");
}

#[test]
fn stalled_over_the_end_of_one_of_several_holds_only_the_others_count() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k SHARED TOKEN a PX 60000");
    acquire(&mut client, "k SHARED TOKEN b PX 50");
    let replies = client.run_all(&["DEBUG SLEEP 0.2", "LOCK.ACQUIRE k LIMIT 2 TOKEN c", "LOCK.CHECK k b"]);
    ok_grant(replies[1].clone());
    assert_eq!(replies[2], Reply::NullArray);
    assert_eq!(holders(&mut client, "k").len(), 2);
}

#[test]
fn stalled_over_the_end_of_some_holds_only_the_others_are_shown_and_broken() {
    let server = Server::start();
    let mut client = server.client();
    let kept = acquire(&mut client, "k SHARED TOKEN a PX 60000").fence;
    let ended = acquire(&mut client, "k SHARED TOKEN b PX 60").fence;
    let break_ended = format!("LOCK.BREAK k FENCE {ended}");
    let replies = client.run_all(&["DEBUG SLEEP 0.2", "LOCK.INFO k", &break_ended, "LOCK.BREAK k"]);
    let shown = field(&replies[1], "holders");
    assert_eq!(shown.items().len(), 1, "{shown:?}");
    assert_eq!(field(&shown.items()[0], "fence"), Reply::Int(kept));
    assert_eq!(replies[2], Reply::Int(0));
    assert_eq!(replies[3], Reply::Int(1));
}

#[test]
fn stalled_over_the_deadline_a_hold_is_not_seen_wherever_its_key_was_taken() {
    let server = Server::start();
    let mut client = server.client();
    for key in ["renamed", "moved", "swapped"] {
        acquire(&mut client, &format!("{key} TOKEN a PX 60"));
    }
    let replies = client.run_all(&[
        "DEBUG SLEEP 0.2",
        "RENAME renamed new",
        "LOCK.CHECK new a",
        "LOCK.EXTEND new a PX 60000",
        "MOVE moved 1",
        "SELECT 1",
        "LOCK.RELEASE moved a",
        "SWAPDB 0 1",
        "LOCK.INFO swapped",
        "LOCK.ACQUIRE swapped TOKEN b",
    ]);
    assert_eq!(replies[2], Reply::NullArray, "RENAME");
    assert_eq!(replies[3], Reply::Int(0), "RENAME");
    assert_eq!(replies[6], Reply::Int(0), "MOVE");
    assert_eq!(replies[8], Reply::NullArray, "SWAPDB");
    ok_grant(replies[9].clone());
    for db in [0, 1] {
        client.ok(&format!("SELECT {db}"));
        client.run("LOCK.RELEASE swapped b");
        wait_until("nothing is left", PATIENCE, || client.run("DBSIZE") == Reply::Int(0));
    }
}

#[test]
fn while_writes_are_paused_an_ended_hold_is_not_seen_and_afterwards_it_is_gone() {
    let server = Server::builder().aof().start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60");
    acquire(&mut client, "stays TOKEN a PX 60000");
    client.ok("CLIENT PAUSE 60000 WRITE");
    wait_until("the hold is no longer seen", PATIENCE, || remaining(&mut client, "k", "a").is_none());
    assert_eq!(client.run("LOCK.INFO k"), Reply::NullArray);
    assert!(remaining(&mut client, "stays", "a").is_some());
    client.ok("CLIENT UNPAUSE");
    wait_until("the key is gone", PATIENCE, || !exists(&mut client, "k"));
    acquire(&mut client, "k TOKEN b");
}

#[test]
fn an_extension_in_time_prolongs_the_hold() {
    let server = Server::start();
    let mut client = server.client();
    let replies = client.run_all(&["LOCK.ACQUIRE k TOKEN a PX 150", "LOCK.EXTEND k a PX 60000"]);
    let (_, fence) = ok_grant(replies[0].clone());
    assert_eq!(replies[1], Reply::Int(1));
    acquire(&mut client, "unextended PX 150");
    wait_until("a lease without extension ends", PATIENCE, || !exists(&mut client, "unextended"));
    let hold = holder(&mut client, "k");
    assert_eq!(field(&hold, "fence"), Reply::Int(fence));
}

#[test]
fn extended_again_and_again_a_hold_outlasts_its_lease() {
    let server = Server::start();
    let mut client = server.client();
    const LEASE: Duration = Duration::from_millis(1_000);
    let mut extended = Instant::now();
    acquire(&mut client, "k TOKEN a PX 1000");
    let mut start = extended;
    while start.elapsed() < LEASE * 8 / 5 {
        let now = Instant::now();
        if client.run("LOCK.EXTEND k a PX 1000") == Reply::Int(0) {
            // On a machine that stood still for so long the lease is over.
            assert!(extended.elapsed() >= LEASE, "after {:?}", start.elapsed());
            acquire(&mut client, "k TOKEN a PX 1000");
            start = now;
        }
        extended = now;
        thread::sleep(Duration::from_millis(20));
    }
    wait_until("left alone, it ends", PATIENCE, || !exists(&mut client, "k"));
}

#[test]
fn a_shorter_extension_shortens_the_hold() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 80000000");
    assert_eq!(client.run("LOCK.EXTEND k a PX 50"), Reply::Int(1));
    wait_until("the shortened lease ends", PATIENCE, || !exists(&mut client, "k"));
}

#[test]
fn a_shorter_retry_shortens_the_hold() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 80000000");
    acquire(&mut client, "k TOKEN a PX 50");
    wait_until("the shortened lease ends", PATIENCE, || !exists(&mut client, "k"));
}

#[test]
fn an_extension_does_not_revive_what_has_ended() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 30");
    wait_until("the lock is gone", PATIENCE, || !exists(&mut client, "k"));
    for command in ["LOCK.EXTEND k a", "LOCK.EXTEND k a PX 60000"] {
        assert_eq!(client.run(command), Reply::Int(0));
    }
    assert!(!exists(&mut client, "k"));
}

#[test]
fn a_released_holds_lease_does_not_end_its_successor() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 80");
    acquire(&mut client, "sentinel PX 80");
    client.run("LOCK.RELEASE k a");
    acquire(&mut client, "k TOKEN a PX 60000");
    wait_until("the old lease is over", PATIENCE, || !exists(&mut client, "sentinel"));
    assert!(remaining(&mut client, "k", "a").is_some());
}

#[test]
fn every_command_works_in_a_transaction() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        let queued = client.run_all(&[
            "MULTI",
            "LOCK.ACQUIRE k TOKEN a PX 60000",
            "LOCK.ACQUIRE k TOKEN b",
            "LOCK.EXTEND k a PX 70000",
            "LOCK.CHECK k a",
            "LOCK.INFO k",
            "LOCK.RELEASE k a",
            "LOCK.ACQUIRE k TOKEN c",
            "LOCK.BREAK k",
            "LOCK.CHECK k c",
            "LOCK.INFO k",
            "EXEC",
        ]);
        let results = queued.last().unwrap().items();
        ok_grant(results[0].clone());
        assert_eq!(results[1], null(&client));
        assert_eq!(results[2], Reply::Int(1));
        assert_eq!(results[3].items().len(), 3);
        assert_eq!(field(&results[4], "holders").items().len(), 1);
        assert_eq!(results[5], Reply::Int(1));
        ok_grant(results[6].clone());
        assert_eq!(results[7], Reply::Int(1));
        assert_eq!(results[8], null(&client));
        assert_eq!(results[9], null(&client));
        assert!(!exists(&mut client, "k"));
    }
}

#[test]
fn an_error_in_a_transaction_leaves_the_rest_of_it() {
    let server = Server::start();
    let mut client = server.client();
    let queued = client.run_all(&["MULTI", "LOCK.ACQUIRE k PX 0", "LOCK.ACQUIRE k TOKEN a", "EXEC"]);
    let results = queued.last().unwrap().items();
    assert!(results[0].is_error());
    ok_grant(results[1].clone());
}

#[test]
fn every_command_works_in_a_script() {
    let server = Server::start();
    let mut client = server.client();
    let grant = eval(&mut client, "return redis.call('LOCK.ACQUIRE', KEYS[1], 'TOKEN', 'a', 'PX', 60000)");
    assert_eq!(ok_grant(grant).0, b"a");
    for (call, due) in [
        ("'LOCK.ACQUIRE', KEYS[1], 'TOKEN', 'b'", "nil"),
        ("'LOCK.EXTEND', KEYS[1], 'a', 'PX', 70000", "1"),
        ("'LOCK.EXTEND', KEYS[1], 'b'", "0"),
        ("'LOCK.CHECK', KEYS[1], 'b'", "nil"),
        ("'LOCK.RELEASE', KEYS[1], 'a'", "1"),
        ("'LOCK.RELEASE', KEYS[1], 'a'", "0"),
        ("'LOCK.INFO', KEYS[1]", "nil"),
        ("'LOCK.BREAK', KEYS[1]", "0"),
    ] {
        let said = eval(&mut client, &format!("return tostring(redis.call({call}) or nil)"));
        assert_eq!(said.text(), due, "{call}");
    }
    acquire(&mut client, "k TOKEN a PX 60000");
    let check = eval(&mut client, "return redis.call('LOCK.CHECK', KEYS[1], 'a')");
    assert_eq!(check.items().len(), 3);
    let names = eval(
        &mut client,
        "local info = redis.call('LOCK.INFO', KEYS[1]); return {info[1], info[3], #info[2], info[5], info[7]}",
    );
    assert_eq!(
        names,
        Reply::Array(vec![
            Reply::Bulk(b"holders".to_vec()),
            Reply::Bulk(b"held".to_vec()),
            Reply::Int(1),
            Reply::Bulk(b"waiting".to_vec()),
            Reply::Bulk(b"queue".to_vec()),
        ])
    );
    let level = eval(
        &mut client,
        "redis.setresp(3); return redis.call('LOCK.INFO', KEYS[1]).map.holders[1].map.level",
    );
    assert_eq!(level, Reply::Int(1));
}

#[test]
fn a_script_that_speaks_resp3_is_let_wait_as_little_as_another() {
    let server = Server::start();
    let mut client = server.client3();
    acquire(&mut client, "k TOKEN a");
    for script in [
        "redis.setresp(3); return redis.call('LOCK.ACQUIRE', KEYS[1], 'BLOCK', 0)",
        "redis.setresp(3); return redis.call('LOCK.ACQUIRE', KEYS[1], 'TOKEN', 'b', 'BLOCK', 400)",
    ] {
        assert!(eval(&mut client, script).is_null(), "{script}");
    }
}

#[test]
fn an_error_in_a_script_is_the_commands_own() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("SET k v");
    for (call, prefix) in [
        ("'LOCK.ACQUIRE', KEYS[1]", "WRONGTYPE"),
        ("'LOCK.ACQUIRE', KEYS[1], 'WHAT'", "ERR syntax error"),
        ("'LOCK.CHECK', KEYS[1]", "ERR"),
    ] {
        let said = eval(&mut client, &format!("return redis.pcall({call}).err"));
        assert!(said.text().starts_with(prefix), "{call}: {said:?}");
    }
}

#[test]
fn a_read_only_script_may_look_and_no_more() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let run = |client: &mut Client, call: &str| {
        client.call(&cmd!["EVAL_RO", format!("return redis.call({call})"), 1, "k"])
    };
    assert_eq!(run(&mut client, "'LOCK.CHECK', KEYS[1], 'a'").items().len(), 3);
    assert!(!run(&mut client, "'LOCK.INFO', KEYS[1]").is_error());
    for call in [
        "'LOCK.ACQUIRE', 'l'",
        "'LOCK.RELEASE', KEYS[1], 'a'",
        "'LOCK.EXTEND', KEYS[1], 'a'",
        "'LOCK.BREAK', KEYS[1]",
    ] {
        assert!(run(&mut client, call).is_error(), "{call}");
    }
    assert_eq!(holders(&mut client, "k").len(), 1);
}

#[test]
fn a_watched_lock_that_changed_aborts_the_transaction() {
    let server = Server::start();
    let mut watcher = server.client();
    let mut other = server.client();
    acquire(&mut other, "k TOKEN a PX 60000");
    for (change, aborts) in [
        ("LOCK.CHECK k a", false),
        ("LOCK.INFO k", false),
        ("LOCK.RELEASE k stranger", false),
        ("LOCK.EXTEND k stranger", false),
        ("LOCK.ACQUIRE k TOKEN stranger", false),
        ("LOCK.EXTEND k a", true),
        ("LOCK.RELEASE k a", true),
        ("LOCK.ACQUIRE k TOKEN a", true),
        ("LOCK.BREAK k", true),
    ] {
        watcher.ok("WATCH k");
        other.run(change);
        let replies = watcher.run_all(&["MULTI", "PING", "EXEC"]);
        assert_eq!(replies[2] == Reply::NullArray, aborts, "{change}: {:?}", replies[2]);
    }
    acquire(&mut other, "k TOKEN a PX 60");
    watcher.ok("WATCH k");
    wait_until("the lease ends", PATIENCE, || !exists(&mut other, "k"));
    let replies = watcher.run_all(&["MULTI", "PING", "EXEC"]);
    assert_eq!(replies[2], Reply::NullArray, "the end of the lease");
}

#[track_caller]
fn eval(client: &mut Client, script: &str) -> Reply {
    client.call(&cmd!["EVAL", script, 1, "k"])
}

#[test]
fn a_transaction_that_watches_a_session_hold_is_refused_once_the_server_has_extended_it() {
    let server = Server::start();
    let mut session = server.client();
    acquire(&mut session, "k TOKEN a PX 1000 SESSION");
    let mut watcher = server.client();
    watcher.ok("WATCH k");
    let left = remaining(&mut session, "k", "a").unwrap();
    let mut lowest = left;
    wait_until("the lease is extended", PATIENCE, || {
        let now = remaining(&mut session, "k", "a").unwrap();
        lowest = lowest.min(now);
        now > lowest
    });
    let replies = watcher.run_all(&["MULTI", "PING", "EXEC"]);
    assert!(replies[2].is_null(), "{replies:?}");
}
