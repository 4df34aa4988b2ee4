//! What else may touch a lock's key. Redis lets anyone with the right do that; wherever the lock went its leases still
//! end on time, and nothing that stands at its old place ends early.

use crate::support::locks::{acquire, exists, field, holder, holders, null, refused, remaining, standing};
use crate::support::{Client, PATIENCE, Reply, Server, cmd, ok_grant, wait_until};

/// A lease that is waited for, in milliseconds.
const SHORT: i64 = 100;

#[test]
fn a_lock_is_a_key_of_its_own_type_without_a_ttl() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    assert_eq!(client.run("TYPE k"), Reply::Simple("redislock".into()));
    assert_eq!(client.run("PTTL k"), Reply::Int(-1));
    assert_eq!(client.run("TTL k"), Reply::Int(-1));
    client.run("LOCK.EXTEND k a PX 5000");
    acquire(&mut client, "k TOKEN a");
    assert_eq!(client.run("PTTL k"), Reply::Int(-1));
    client.ok("SET s v");
    let found = client.run("SCAN 0 TYPE redislock COUNT 100");
    assert_eq!(found.items()[1], Reply::Array(vec![Reply::Bulk(b"k".to_vec())]));
}

#[test]
fn object_and_memory_commands_work_on_a_lock() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k SHARED TOKEN a");
    assert_eq!(client.run("OBJECT ENCODING k").text(), "raw");
    assert_eq!(client.run("OBJECT REFCOUNT k"), Reply::Int(1));
    assert!(client.run("OBJECT IDLETIME k").int() >= 0);
    let one = client.run("MEMORY USAGE k").int();
    assert!(one > 0);
    for n in 0..100 {
        acquire(&mut client, &format!("k SHARED TOKEN t{n} OWNER some-label"));
    }
    let many = client.run("MEMORY USAGE k SAMPLES 0").int();
    assert!(many > one + 100 * 8, "{one} bytes for 1 hold, {many} for 101");
}

#[test]
fn commands_of_other_types_are_refused() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let before = standing(&mut client, "k");
    for command in
        ["GET k", "GETDEL k", "GETEX k", "APPEND k v", "INCR k", "LPUSH k v", "HSET k f v", "SADD k v"]
    {
        let reply = client.run(command);
        assert!(reply.error().starts_with("WRONGTYPE"), "{command}: {reply:?}");
    }
    assert_eq!(standing(&mut client, "k"), before);
}

#[test]
fn a_lock_that_was_removed_is_free_and_its_old_lease_harms_nobody() {
    let server = Server::start();
    let mut client = server.client();
    for removal in [
        "DEL k",
        "UNLINK k",
        "PEXPIREAT k 1",
        "EXPIRE k -1",
        "PEXPIRE k 0",
        "FLUSHDB",
        "FLUSHDB ASYNC",
        "FLUSHALL",
        "FLUSHALL ASYNC",
        "FLUSHALL SYNC",
    ] {
        let first = acquire(&mut client, &format!("k TOKEN a PX {SHORT}"));
        let reply = client.run(removal);
        assert!(!reply.is_error(), "{removal}: {reply:?}");
        assert!(!exists(&mut client, "k"), "{removal}");
        assert_eq!(client.run("LOCK.CHECK k a"), null(&client), "{removal}");
        assert_eq!(client.run("LOCK.INFO k"), null(&client), "{removal}");
        assert_eq!(client.run("LOCK.EXTEND k a"), Reply::Int(0), "{removal}");
        assert_eq!(client.run("LOCK.RELEASE k a"), Reply::Int(0), "{removal}");
        let second = acquire(&mut client, "k TOKEN b PX 60000");
        assert!(second.fence > first.fence, "{removal}");
        outlast(&mut client, SHORT);
        assert!(remaining(&mut client, "k", "b").is_some(), "{removal}");
        client.run("LOCK.RELEASE k b");
    }
}

#[test]
fn a_flush_of_one_database_leaves_the_locks_of_the_others() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    acquire(&mut client, &format!("short TOKEN a PX {SHORT}"));
    client.ok("SELECT 1");
    acquire(&mut client, "k TOKEN b PX 60000");
    client.ok("FLUSHDB");
    assert!(!exists(&mut client, "k"));
    client.ok("SELECT 0");
    assert!(remaining(&mut client, "k", "a").is_some());
    wait_until("the other database's leases still end", PATIENCE, || !exists(&mut client, "short"));
    assert!(remaining(&mut client, "k", "a").is_some());
}

#[test]
fn a_flush_ends_thousands_of_locks_and_new_ones_stand() {
    let server = Server::start();
    let mut client = server.client();
    for flush in ["FLUSHALL", "FLUSHALL ASYNC"] {
        let grants: Vec<_> = (0..3000).map(|n| cmd!["LOCK.ACQUIRE", format!("k{n}"), "PX", SHORT]).collect();
        client.pipeline(&grants);
        client.ok(flush);
        assert_eq!(client.run("DBSIZE"), Reply::Int(0), "{flush}");
        let again: Vec<_> = (0..3000).map(|n| cmd!["LOCK.ACQUIRE", format!("k{n}"), "PX", 60_000]).collect();
        assert!(client.pipeline(&again).iter().all(|reply| !reply.is_null()), "{flush}");
        outlast(&mut client, SHORT);
        assert_eq!(client.run("DBSIZE"), Reply::Int(3000), "{flush}");
        client.ok(flush);
    }
}

#[test]
fn a_value_set_over_a_lock_stays_when_the_lease_would_have_ended() {
    let server = Server::start();
    let mut client = server.client();
    client.run("SADD members m");
    for over in [
        "SET k v",
        "SET k v KEEPTTL",
        "COPY members k REPLACE",
        "SINTERSTORE k members",
        "SORT members BY nosort STORE k",
    ] {
        acquire(&mut client, &format!("k TOKEN a PX {SHORT}"));
        let reply = client.run(over);
        assert!(!reply.is_error(), "{over}: {reply:?}");
        let kind = client.run("TYPE k");
        assert_ne!(kind.text(), "redislock", "{over}");
        let said = client.run("LOCK.RELEASE k a");
        assert!(said.error().starts_with("WRONGTYPE"), "{over}: {said:?}");
        outlast(&mut client, SHORT);
        assert_eq!(client.run("TYPE k"), kind, "{over}: it is still there");
        client.run("DEL k");
        acquire(&mut client, "k TOKEN b");
        client.run("LOCK.RELEASE k b");
    }
}

#[test]
fn a_ttl_someone_sets_on_a_lock_ends_it_if_it_comes_first() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    let replies = client.run_all(&[&format!("PEXPIRE k {SHORT}"), "LOCK.CHECK k a"]);
    assert!(replies[0] == Reply::Int(1) && !replies[1].is_null(), "{replies:?}");
    wait_until("the key has expired", PATIENCE, || !exists(&mut client, "k"));
    assert_eq!(client.run("LOCK.CHECK k a"), null(&client));
    acquire(&mut client, "k TOKEN b");
    assert_eq!(client.run("PTTL k"), Reply::Int(-1), "and the next lock has none");

    assert_eq!(short_then(&mut client, "l", "PEXPIRE l 60000"), Reply::Int(1));
    wait_until("the lease has ended", PATIENCE, || !exists(&mut client, "l"));
}

#[test]
fn a_lock_whose_ttl_is_over_is_not_seen_even_before_the_server_has_removed_it() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("DEBUG SET-ACTIVE-EXPIRE 0");
    for command in [
        "LOCK.ACQUIRE k TOKEN b",
        "LOCK.EXTEND k a",
        "LOCK.RELEASE k a",
        "LOCK.BREAK k",
        "LOCK.CHECK k a",
        "LOCK.INFO k",
    ] {
        acquire(&mut client, "k TOKEN a PX 60000");
        let replies = client.run_all(&["PEXPIRE k 20", "DEBUG SLEEP 0.1", command]);
        match &replies[2] {
            Reply::Array(_) => {
                assert_eq!(ok_grant(replies[2].clone()).0, b"b");
                assert_eq!(client.run("PTTL k"), Reply::Int(-1), "a new lock has no TTL");
            }
            reply => assert!(reply.is_null() || *reply == Reply::Int(0), "{command}: {reply:?}"),
        }
        client.run("DEL k");
    }
}

#[test]
fn a_renamed_lock_is_the_same_lock_under_another_name() {
    let server = Server::start();
    let mut client = server.client();
    let grant = acquire(&mut client, "k TOKEN a PX 60000 LIMIT 3 OWNER me");
    let before = standing(&mut client, "k");
    for (rename, old, new) in [("RENAME k l", "k", "l"), ("RENAMENX l m", "l", "m"), ("RENAME m k", "m", "k")]
    {
        let reply = client.run(rename);
        assert!(!reply.is_error(), "{rename}: {reply:?}");
        assert!(!exists(&mut client, old), "{rename}");
        assert_eq!(standing(&mut client, new), before, "{rename}");
        assert_eq!(client.run(&format!("LOCK.EXTEND {old} a")), Reply::Int(0), "{rename}");
        assert_eq!(client.run(&format!("LOCK.EXTEND {new} a")), Reply::Int(1), "{rename}");
    }
    assert_eq!(acquire(&mut client, "k TOKEN a PX 60000").fence, grant.fence);
    assert_eq!(client.run("LOCK.RELEASE k a"), Reply::Int(1));
}

#[test]
fn a_renamed_locks_lease_ends_at_its_new_name_and_harms_nobody_at_the_old_one() {
    let server = Server::start();
    let mut client = server.client();
    short_then(&mut client, "k", "RENAME k l");
    acquire(&mut client, "k TOKEN b PX 60000");
    wait_until("the renamed lock's lease ends", PATIENCE, || !exists(&mut client, "l"));
    outlast(&mut client, SHORT);
    assert!(remaining(&mut client, "k", "b").is_some());
}

#[test]
fn a_lock_renamed_over_another_one_takes_its_place_with_its_own_lease() {
    let server = Server::start();
    let mut client = server.client();
    // The one that goes would have ended first.
    acquire(&mut client, "long TOKEN a PX 60000");
    acquire(&mut client, &format!("k TOKEN b PX {SHORT}"));
    client.ok("RENAME long k");
    assert_eq!(client.run("LOCK.CHECK k b"), null(&client));
    outlast(&mut client, SHORT);
    assert!(remaining(&mut client, "k", "a").is_some());
    // The one that goes would have lasted longer.
    short_then(&mut client, "short", "RENAME short k");
    assert_eq!(client.run("LOCK.RELEASE k a"), Reply::Int(0));
    wait_until("the shorter lease ends", PATIENCE, || !exists(&mut client, "k"));
    // What stands in the way stays, where that was asked for.
    acquire(&mut client, "k TOKEN d");
    acquire(&mut client, "l TOKEN e");
    assert_eq!(client.run("RENAMENX k l"), Reply::Int(0));
    assert!(remaining(&mut client, "k", "d").is_some());
    assert!(remaining(&mut client, "l", "e").is_some());
}

#[test]
fn a_lock_renamed_to_itself_is_as_before() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "long TOKEN a");
    client.ok("RENAME long long");
    assert!(remaining(&mut client, "long", "a").is_some());
    short_then(&mut client, "k", "RENAME k k");
    wait_until("its lease ends", PATIENCE, || !exists(&mut client, "k"));
}

#[test]
fn a_lock_renamed_to_and_fro_ends_once_and_on_time() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, &format!("k TOKEN a PX {SHORT}"));
    for _ in 0..50 {
        client.run_all(&["RENAME k l", "RENAME l k"]);
    }
    wait_until("its lease ends", PATIENCE, || !exists(&mut client, "k"));
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
}

#[test]
fn a_moved_lock_keeps_its_holds_and_its_lease() {
    let server = Server::start();
    let mut here = server.client();
    let mut there = server.client();
    there.ok("SELECT 1");
    acquire(&mut here, "stays TOKEN s PX 60000");
    let goes = acquire(&mut here, "goes TOKEN g PX 60000");
    assert_eq!(here.run("MOVE goes 1"), Reply::Int(1));
    assert!(!exists(&mut here, "goes"));
    assert_eq!(field(&holder(&mut there, "goes"), "fence"), Reply::Int(goes.fence));
    let moved = ["MOVE k 1", "LOCK.ACQUIRE k TOKEN b PX 60000", "MOVE k 1"];
    let short = format!("LOCK.ACQUIRE k TOKEN s PX {SHORT}");
    let replies = here.run_all(&[&[short.as_str()], &moved[..]].concat());
    assert_eq!(replies[1], Reply::Int(1));
    ok_grant(replies[2].clone());
    assert_eq!(replies[3], Reply::Int(0), "the name is taken there");
    wait_until("the moved lock's lease ends there", PATIENCE, || !exists(&mut there, "k"));
    outlast(&mut here, SHORT);
    assert!(remaining(&mut here, "k", "b").is_some(), "the name's next lock");
    assert!(remaining(&mut here, "stays", "s").is_some());
    assert!(remaining(&mut there, "goes", "g").is_some());
    assert_eq!(there.run("LOCK.RELEASE goes g"), Reply::Int(1));
}

#[test]
fn swapped_databases_take_their_leases_along() {
    let server = Server::start();
    let mut zero = server.client();
    let mut one = server.client();
    one.ok("SELECT 1");
    acquire(&mut one, "k TOKEN b PX 60000");
    acquire(&mut one, &format!("l TOKEN c PX {SHORT}"));
    short_then(&mut zero, "k", "SWAPDB 0 1");
    assert!(remaining(&mut zero, "k", "b").is_some());
    assert_eq!(zero.run("LOCK.RELEASE k s"), Reply::Int(0));
    acquire(&mut one, "l TOKEN d PX 60000");
    wait_until("the leases end where the locks went", PATIENCE, || {
        !exists(&mut one, "k") && !exists(&mut zero, "l")
    });
    outlast(&mut zero, SHORT);
    assert!(remaining(&mut zero, "k", "b").is_some());
    assert!(remaining(&mut one, "l", "d").is_some());
    zero.ok("SWAPDB 1 0");
    assert!(remaining(&mut one, "k", "b").is_some());
    assert!(remaining(&mut zero, "l", "d").is_some());
}

#[test]
fn a_dumped_lock_is_restored_with_holds_fences_and_what_was_left_of_the_leases() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a SHARED PX 60000 OWNER me");
    acquire(&mut client, "k TOKEN b LIMIT 9 PX 70000");
    let before = standing(&mut client, "k");
    let dump = client.run("DUMP k").bytes();
    client.run("DEL k");
    restore(&mut client, "k", &dump, "");
    assert_eq!(standing(&mut client, "k"), before);
    for (token, lease) in [("a", 60_000), ("b", 70_000)] {
        let left = remaining(&mut client, "k", token).unwrap();
        assert!(left > lease / 2 && left <= lease, "{token}: {left} of {lease}");
    }
    assert_eq!(client.run("PTTL k"), Reply::Int(-1));
    assert_eq!(client.run("LOCK.RELEASE k a"), Reply::Int(1));
    assert_eq!(client.run("LOCK.RELEASE k b"), Reply::Int(1));
    assert!(!exists(&mut client, "k"));
}

#[test]
fn a_restored_locks_lease_ends_under_whatever_name() {
    let server = Server::start();
    let mut client = server.client();
    let dump = short_then(&mut client, "k", "DUMP k").bytes();
    let replies = client.pipeline(&[cmd!["RESTORE", "l", 0, dump], cmd!["RESTORE", "l", 0, dump]]);
    assert_eq!(replies[0], Reply::Simple("OK".into()));
    assert!(replies[1].error().starts_with("BUSYKEY"), "{replies:?}");
    assert!(remaining(&mut client, "l", "s") <= Some(SHORT));
    wait_until("both leases end", PATIENCE, || !exists(&mut client, "k") && !exists(&mut client, "l"));
}

#[test]
fn a_lock_restored_over_another_one_takes_its_place_with_its_own_lease() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "long TOKEN a PX 60000");
    let long = client.run("DUMP long").bytes();
    let short = short_then(&mut client, "short", "DUMP short").bytes();

    acquire(&mut client, &format!("k TOKEN c PX {SHORT}"));
    restore(&mut client, "k", &long, "REPLACE");
    assert_eq!(client.run("LOCK.CHECK k c"), null(&client));
    outlast(&mut client, SHORT);
    assert!(remaining(&mut client, "k", "a").is_some());

    restore(&mut client, "k", &short, "REPLACE");
    assert_eq!(client.run("LOCK.CHECK k a"), null(&client));
    wait_until("the shorter lease ends", PATIENCE, || !exists(&mut client, "k"));

    client.ok("SET k v");
    restore(&mut client, "k", &short, "REPLACE");
    wait_until("restored over a string it ends too", PATIENCE, || !exists(&mut client, "k"));
    assert!(remaining(&mut client, "long", "a").is_some());
}

#[test]
fn a_restored_lock_keeps_others_out() {
    let server = Server::start();
    let mut client = server.client();
    let grant = acquire(&mut client, "k TOKEN a PX 60000");
    let dump = client.run("DUMP k").bytes();
    client.run("LOCK.RELEASE k a");
    restore(&mut client, "k", &dump, "");
    refused(&mut client, "k TOKEN b");
    assert_eq!(acquire(&mut client, "k TOKEN a").fence, grant.fence);
    assert_eq!(client.run(&format!("LOCK.BREAK k FENCE {}", grant.fence)), Reply::Int(1));
    assert!(acquire(&mut client, "k TOKEN b").fence > grant.fence);
}

#[test]
fn there_is_no_copy_of_a_lock() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    client.ok("SET s v");
    let before = standing(&mut client, "k");
    for copy in ["COPY k l", "COPY k s REPLACE", "COPY k k DB 1"] {
        let reply = client.run(copy);
        assert!(reply.is_error(), "{copy}: {reply:?}");
    }
    assert_eq!(client.run("GET s").text(), "v");
    assert_eq!(client.run("DBSIZE"), Reply::Int(2));
    assert_eq!(standing(&mut client, "k"), before);
}

#[test]
fn eviction_of_keys_with_a_ttl_leaves_locks_alone() {
    let server = Server::builder().config("maxmemory-policy volatile-random").start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    client.ok("CONFIG SET maxmemory 1");
    let reply = client.run("SET s v");
    assert!(reply.error().starts_with("OOM"), "{reply:?}");
    assert!(remaining(&mut client, "k", "a").is_some());
}

#[test]
fn an_evicted_lock_is_free_and_its_old_lease_harms_nobody() {
    let server = Server::builder().config("maxmemory-policy allkeys-random").start();
    let mut client = server.client();
    acquire(&mut client, &format!("k TOKEN a PX {SHORT}"));
    acquire(&mut client, &format!("l TOKEN a PX {SHORT}"));
    client.ok("CONFIG SET maxmemory 1");
    client.run("SET s v");
    client.ok("CONFIG SET maxmemory 0");
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
    acquire(&mut client, "k TOKEN b PX 60000");
    outlast(&mut client, SHORT);
    assert!(remaining(&mut client, "k", "b").is_some());
}

#[test]
fn a_reload_of_the_data_keeps_holds_and_their_leases() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k SHARED TOKEN a PX 60000 OWNER me");
    acquire(&mut client, "k SHARED TOKEN b PX 70000");
    acquire(&mut client, &format!("short TOKEN c PX {SHORT}"));
    let before = standing(&mut client, "k");
    client.ok("DEBUG RELOAD");
    assert_eq!(standing(&mut client, "k"), before);
    assert_eq!(holders(&mut client, "k").len(), 2);
    wait_until("the short lease still ends", PATIENCE, || !exists(&mut client, "short"));
    assert!(remaining(&mut client, "k", "a").is_some());
}

#[test]
fn a_lock_deleted_in_the_transaction_that_acquired_it_is_gone() {
    let server = Server::start();
    let mut client = server.client();
    let replies = client.run_all(&[
        "MULTI",
        "LOCK.ACQUIRE k TOKEN a PX 50",
        "RENAME k l",
        "DEL l",
        "LOCK.ACQUIRE l TOKEN b",
        "EXEC",
    ]);
    assert_eq!(replies[5].items().len(), 4);
    outlast(&mut client, 50);
    assert!(!exists(&mut client, "k"));
    assert!(remaining(&mut client, "l", "b").is_some());
}

/// Acquires `key` for a short lease with token `s` and runs `command` in one write, so that it finds the lock held.
#[track_caller]
fn short_then(client: &mut Client, key: &str, command: &str) -> Reply {
    let replies = client.run_all(&[&format!("LOCK.ACQUIRE {key} TOKEN s PX {SHORT}"), command]);
    ok_grant(replies[0].clone());
    assert!(!replies[1].is_error(), "{command}: {replies:?}");
    replies[1].clone()
}

#[track_caller]
fn restore(client: &mut Client, key: &str, dump: &[u8], option: &str) {
    let mut command = cmd!["RESTORE", key, 0, dump].to_vec();
    if !option.is_empty() {
        command.push(option.into());
    }
    assert_eq!(client.call(&command), Reply::Simple("OK".into()), "RESTORE {key} {option}");
}

/// Waits until every lease of that length that began before has ended: one that begins now has.
#[track_caller]
fn outlast(client: &mut Client, lease_ms: i64) {
    acquire(client, &format!("sentinel PX {lease_ms}"));
    wait_until("a lease of that length ends", PATIENCE, || !exists(client, "sentinel"));
}
