//! In MULTI, scripts and functions, and by LOCK.GUARD.

use super::{all, fences, holds, release_all, waits};
use crate::support::locks::{acquire, exists, null};
use crate::support::waiter::{blocked_clients, release};
use crate::support::{Reply, Server, cmd, ok_grant};

#[test]
fn in_a_transaction_all_three_work_and_nobody_waits() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        acquire(&mut client, "held TOKEN x");
        let replies = client.run_all(&[
            "MULTI",
            "LOCK.MACQUIRE 2 k held TOKEN a BLOCK 0",
            "LOCK.MACQUIRE 2 k l TOKEN a BLOCK 0",
            "LOCK.MEXTEND 3 k l held a PX 60000",
            "LOCK.MRELEASE 3 k held l a",
            "LOCK.MRELEASE 3 k held l a",
            "EXEC",
        ]);
        let results = replies[6].items();
        assert_eq!(results[0], null(&client));
        assert_eq!(ok_grant(results[1].clone()).0, b"a");
        assert_eq!(results[2..], [Reply::Int(2), Reply::Int(2), Reply::Int(0)]);
        assert_eq!(blocked_clients(&mut client), 0);
        client.run("FLUSHALL");
    }
}

#[test]
fn a_transaction_hands_over_to_who_waits_for_several() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a");
    let mut waiter = waits(&server, "2 l k TOKEN b BLOCK 0");
    let replies = client.run_all(&[
        "MULTI",
        "LOCK.RELEASE k a",
        "LOCK.MACQUIRE 2 k l TOKEN c",
        "LOCK.RELEASE l a",
        "LOCK.MACQUIRE 2 k l TOKEN c",
        "LOCK.CHECK k b",
        "EXEC",
    ]);
    let results = replies[6].items();
    assert!(results[1].is_null() && results[3].is_null() && !results[4].is_null(), "{results:?}");
    waiter.granted();
}

#[test]
fn in_scripts_all_three_work_and_nobody_waits() {
    let mut server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "held TOKEN x");
    let script = "return {
        redis.call('LOCK.MACQUIRE', 2, KEYS[1], KEYS[3], 'TOKEN', 'a', 'BLOCK', 0),
        redis.call('LOCK.MACQUIRE', 2, KEYS[1], KEYS[2], 'TOKEN', 'a', 'BLOCK', 0),
        redis.call('LOCK.MEXTEND', 3, KEYS[1], KEYS[2], KEYS[3], 'a', 'PX', 60000),
        redis.call('LOCK.MRELEASE', 3, KEYS[1], KEYS[2], KEYS[3], 'a')}";
    let reply = client.call(&cmd!["EVAL", script, 3, "k", "l", "held"]);
    let results = reply.items();
    assert!(results[0].is_null(), "{reply:?}");
    assert_eq!(ok_grant(results[1].clone()).0, b"a");
    assert_eq!(results[2..], [Reply::Int(2), Reply::Int(2)]);
    let failing = "return redis.pcall('LOCK.MACQUIRE', 2, KEYS[1], KEYS[2], 'BLOCK', -1).err";
    assert_eq!(client.call(&cmd!["EVAL", failing, 2, "k", "l"]).text(), "ERR timeout is negative");
    server.assert_alive();
}

#[test]
fn a_script_hands_over_to_who_waits_for_several() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a");
    let mut waiter = waits(&server, "2 k l TOKEN b BLOCK 0");
    let script = "redis.call('LOCK.RELEASE', KEYS[1], 'a')
        local between = redis.call('LOCK.ACQUIRE', KEYS[1], 'TOKEN', 'c')
        redis.call('DEL', KEYS[2])
        return {between, redis.call('LOCK.CHECK', KEYS[1], 'c')}";
    let reply = client.call(&cmd!["EVAL", script, 2, "k", "l"]);
    assert!(reply.items().iter().all(Reply::is_null), "{reply:?}");
    waiter.granted();
    assert_eq!(holds(&mut client, &["k", "l"], "b"), ["k", "l"]);
}

#[test]
fn functions_can_acquire_several() {
    let server = Server::start();
    let mut client = server.client();
    let library = "#!lua name=locks\n
        redis.register_function('take', function(keys, arguments)
            return redis.call('LOCK.MACQUIRE', #keys, keys[1], keys[2], 'TOKEN', arguments[1], 'BLOCK', 0)
        end)
        redis.register_function('give', function(keys, arguments)
            return redis.call('LOCK.MRELEASE', #keys, keys[1], keys[2], arguments[1])
        end)";
    assert_eq!(client.call(&cmd!["FUNCTION", "LOAD", library]).text(), "locks");
    let (_, fence) = ok_grant(client.run("FCALL take 2 k l a"));
    assert_eq!(fences(&mut client, &["k", "l"], "a"), [fence; 2]);
    assert!(client.run("FCALL take 2 k m b").is_null());
    let mut waiter = waits(&server, "2 l m TOKEN c BLOCK 0");
    assert_eq!(client.run("FCALL give 2 k l a"), Reply::Int(2));
    waiter.granted();
}

#[test]
fn guard_runs_releases_and_extensions_of_several() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a PX 60000");
    assert_eq!(client.run("LOCK.GUARD k a LOCK.MEXTEND 2 k l a PX 70000"), Reply::Int(2));
    assert!(client.run("LOCK.GUARD k x LOCK.MRELEASE 2 k l a").error().starts_with("NOTOWNER "));
    // It carries the flag `blocking`, as LOCK.ACQUIRE does.
    let reply = client.run("LOCK.GUARD k a LOCK.MACQUIRE 2 m n TOKEN a");
    assert!(reply.error().starts_with("ERR LOCK.GUARD"), "{reply:?}");
    assert!(!exists(&mut client, "m"));
    let mut waiter = waits(&server, "2 k l TOKEN b BLOCK 0");
    assert_eq!(client.run("LOCK.GUARD l a LOCK.MRELEASE 2 k l a"), Reply::Int(2));
    waiter.granted();
    release_all(&mut client, "2 k l b");
}

/// On Valkey 8.1 and 9 the server cannot block such a connection: then BLOCK is as if not given.
#[test]
fn a_connection_with_subscriptions_waits_or_is_told_null() {
    let mut server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut listener = server.client3();
    listener.run("SUBSCRIBE channel");
    listener.send(&["LOCK.MACQUIRE", "2", "k", "l", "TOKEN", "b", "BLOCK", "300"]);
    assert!(listener.read().is_null());
    release(&mut client, "k", "a");
    assert!(holds(&mut client, &["k", "l"], "b").is_empty());
    server.assert_alive();
}
