//! Fences: every grant has a larger one than all grants before it on the server, whatever happened in between.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::locks::{acquire, exists, fence_of, field, holder};
use crate::support::{Data, PATIENCE, Reply, Server, cmd, ok_grant, wait_until};

/// What a double carries exactly.
const LARGEST: i64 = (1 << 53) - 1;

#[test]
fn a_fence_is_near_the_wall_clock_in_microseconds() {
    const SLACK: i64 = 1_000_000;
    let server = Server::start();
    let mut client = server.client();
    let before = wall_clock_us();
    let fence = fence_of(&mut client, "k");
    let after = wall_clock_us();
    assert!(before - SLACK <= fence && fence <= after + SLACK, "{before} {fence} {after}");
    assert!(fence <= LARGEST);
}

#[test]
fn fences_grow_over_keys_databases_and_modes() {
    let server = Server::start();
    let mut client = server.client();
    let mut last = 0;
    for db in 0..3 {
        client.ok(&format!("SELECT {db}"));
        for rest in ["k", "l", "m SHARED", "m SHARED", "n LIMIT 5", "n LIMIT 5", "o TOKEN a"] {
            let fence = fence_of(&mut client, rest);
            assert!(fence > last, "{rest}: {fence} after {last}");
            last = fence;
        }
    }
}

#[test]
fn fences_grow_over_whatever_ends_a_hold() {
    let server = Server::start();
    let mut client = server.client();
    let mut last = 0;
    for ending in [
        "LOCK.RELEASE k a",
        "LOCK.BREAK k",
        "DEL k",
        "UNLINK k",
        "SET k v",
        "DEL k",
        "FLUSHDB",
        "FLUSHALL",
        "RENAME k l",
        "MOVE k 1",
        "DEBUG RELOAD",
    ] {
        let reply = client.run("LOCK.ACQUIRE k TOKEN a");
        if !reply.is_error() {
            let fence = ok_grant(reply).1;
            assert!(fence > last, "{fence} after {last}, before {ending}");
            last = fence;
        }
        let ended = client.run(ending);
        assert!(!ended.is_error(), "{ending}: {ended:?}");
    }
    client.run("DEL k");
    acquire(&mut client, "k PX 30");
    wait_until("the lease ends", PATIENCE, || !exists(&mut client, "k"));
    assert!(fence_of(&mut client, "k") > last);
}

#[test]
fn many_grants_in_one_microsecond_still_have_growing_fences() {
    const GRANTS: i64 = 20_000;
    let server = Server::start();
    let mut client = server.client();
    let commands: Vec<_> = (0..GRANTS).map(|n| cmd!["LOCK.ACQUIRE", n, "TOKEN", "a"]).collect();
    let fences: Vec<i64> = client.pipeline(&commands).into_iter().map(|reply| ok_grant(reply).1).collect();
    assert!(fences.is_sorted_by(|earlier, later| earlier < later));
    // A transaction sees one time of day.
    let mut transaction = vec![cmd!["MULTI"].to_vec()];
    transaction.extend((0..1000).map(|n| cmd!["LOCK.ACQUIRE", format!("m{n}")].to_vec()));
    transaction.push(cmd!["EXEC"].to_vec());
    let replies = client.pipeline(&transaction);
    let grants = replies.last().unwrap().items().to_vec();
    let fences: Vec<i64> = grants.into_iter().map(|reply| ok_grant(reply).1).collect();
    assert_eq!(fences.len(), 1000);
    assert!(fences.is_sorted_by(|earlier, later| earlier < later));
}

#[test]
fn a_retry_and_an_extension_use_up_no_new_fence_of_their_own() {
    let server = Server::start();
    let mut client = server.client();
    let fence = fence_of(&mut client, "k TOKEN a");
    client.run("LOCK.EXTEND k a");
    assert_eq!(fence_of(&mut client, "k TOKEN a PX 9000"), fence);
    assert_eq!(field(&holder(&mut client, "k"), "fence"), Reply::Int(fence));
}

#[test]
fn the_fence_reads_alike_everywhere() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        let fence = fence_of(&mut client, "k TOKEN a");
        let check = client.run("LOCK.CHECK k a");
        assert_eq!(check.items().first(), Some(&Reply::Int(fence)));
        assert_eq!(field(&holder(&mut client, "k"), "fence"), Reply::Int(fence));
        assert_eq!(client.run(&format!("LOCK.BREAK k FENCE {fence}")), Reply::Int(1));
    }
}

#[test]
fn fences_grow_over_a_restart_from_an_rdb_file() {
    let mut server = Server::start();
    for held in [true, false] {
        let fence = fence_of(&mut server.client(), "k TOKEN a");
        if !held {
            server.client().run("LOCK.RELEASE k a");
        }
        server.restart(Data::Save);
        let mut client = server.client();
        assert_eq!(exists(&mut client, "k"), held);
        assert!(fence_of(&mut client, "next") > fence);
        client.run_all(&["LOCK.BREAK k", "LOCK.BREAK next"]);
    }
}

#[test]
fn fences_grow_over_a_kill_with_an_append_only_file() {
    let mut server = Server::builder().aof().start();
    for held in [true, false] {
        let fence = fence_of(&mut server.client(), "k TOKEN a");
        if !held {
            server.client().run("LOCK.RELEASE k a");
        }
        server.kill9();
        server.start_again();
        let mut client = server.client();
        assert_eq!(exists(&mut client, "k"), held);
        assert!(fence_of(&mut client, "next") > fence);
        client.run_all(&["LOCK.BREAK k", "LOCK.BREAK next"]);
    }
}

#[test]
fn fences_grow_over_a_rewritten_append_only_file_with_no_lock_held() {
    for preamble in ["yes", "no"] {
        let directive = format!("aof-use-rdb-preamble {preamble}");
        let mut server = Server::builder().aof().config(&directive).start();
        let fence = fence_of(&mut server.client(), "k TOKEN a");
        server.client().run("LOCK.RELEASE k a");
        server.rewrite_aof();
        server.kill9();
        server.start_again();
        let mut client = server.client();
        assert_eq!(client.run("DBSIZE"), Reply::Int(0), "{directive}");
        assert!(fence_of(&mut client, "k") > fence, "{directive}");
    }
}

fn wall_clock_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_micros()).unwrap()
}
