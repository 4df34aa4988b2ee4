//! LOCK.GUARD and scripts, functions and transactions, in each other.

use crate::support::errors::{NOT_OWNER, fails};
use crate::support::locks::{acquire, exists};
use crate::support::{Client, Reply, Server, cmd};

const SCRIPT_IN_SCRIPT: &str = "ERR LOCK.GUARD runs no script or function in another one: call LOCK.GUARD for each command, or \
                                guard the whole script";

/// A function `set(key) value`, and one that only reads.
const LIBRARY: &str = "#!lua name=lib\n\
    redis.register_function('fset', function(keys, args) return redis.call('SET', keys[1], args[1]) end)\n\
    redis.register_function{function_name='fget', flags={'no-writes'}, callback=function(keys) return redis.call('GET', keys[1]) end}\n\
    redis.register_function('fguard', function(keys, args) return redis.pcall('LOCK.GUARD', keys[1], args[1], 'SET', keys[2], args[2]) end)";

fn holder(server: &Server) -> Client {
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    assert!(!client.call(&["FUNCTION", "LOAD", LIBRARY]).is_error());
    client
}

#[test]
fn scripts_and_functions_run_under_a_lock() {
    let server = Server::start();
    let mut client = holder(&server);
    let script = "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])";
    let sha = client.call(&cmd!["SCRIPT", "LOAD", script]).text();
    for (number, run) in
        [cmd!["EVAL", script, 1, "x", "v0"], cmd!["EVALSHA", sha, 1, "x", "v1"]].into_iter().enumerate()
    {
        let value = format!("v{number}").into_bytes();
        let held = [cmd!["LOCK.GUARD", "k", "a"].to_vec(), run.to_vec()].concat();
        assert_eq!(client.call(&held), Reply::Bulk(value.clone()));
        let other = [cmd!["LOCK.GUARD", "k", "b"].to_vec(), run.to_vec()].concat();
        client.run("DEL x");
        assert_eq!(client.call(&other), Reply::Error(NOT_OWNER.into()));
        assert!(!exists(&mut client, "x"));
    }
    client.ok("LOCK.GUARD k a FCALL fset 1 x v2");
    assert_eq!(client.run("LOCK.GUARD k a FCALL fget 1 x").text(), "v2");
    assert_eq!(client.run("LOCK.GUARD k a FCALL_RO fget 1 x").text(), "v2");
    let reads = "return redis.call('GET', KEYS[1])";
    assert_eq!(client.call(&cmd!["LOCK.GUARD", "k", "a", "EVAL_RO", reads, 1, "x"]).text(), "v2");
    let writes = "return redis.call('SET', KEYS[1], 1)";
    assert!(client.call(&cmd!["LOCK.GUARD", "k", "a", "EVAL_RO", writes, 1, "x"]).is_error());
    let reply = client.run(&format!("LOCK.GUARD k a EVALSHA {} 0", "0".repeat(40)));
    assert!(reply.error().starts_with("NOSCRIPT "), "{reply:?}");
}

#[test]
fn a_script_inside_may_release_the_lock_and_runs_to_its_end() {
    let server = Server::start();
    let mut client = holder(&server);
    let script = "redis.call('LOCK.RELEASE', KEYS[1], ARGV[1]) return redis.call('SET', KEYS[2], 1)";
    let guard = cmd!["LOCK.GUARD", "k", "a", "EVAL", script, 2, "k", "x", "a"];
    assert_eq!(client.call(&guard), Reply::Simple("OK".into()));
    assert!(!exists(&mut client, "k") && exists(&mut client, "x"));
    assert_eq!(client.call(&guard), Reply::Error(NOT_OWNER.into()));
}

#[test]
fn scripts_and_functions_guard_commands() {
    let server = Server::start();
    let mut client = holder(&server);
    let script = "return redis.call('LOCK.GUARD', KEYS[1], ARGV[1], 'SET', KEYS[2], 'v')";
    assert_eq!(client.call(&cmd!["EVAL", script, 2, "k", "x", "a"]), Reply::Simple("OK".into()));
    assert_eq!(client.run("GETDEL x").text(), "v");
    let reply = client.call(&cmd!["EVAL", script, 2, "k", "x", "b"]);
    assert!(reply.error().starts_with("NOTOWNER "), "{reply:?}");
    client.ok("FCALL fguard 2 k x a v");
    fails(&mut client, "FCALL fguard 2 k y b v", NOT_OWNER);
    assert!(!exists(&mut client, "y"));
    // A script that only reads guards nothing: to the server LOCK.GUARD is a write.
    let reply = client.call(&cmd!["EVAL_RO", script, 2, "k", "x", "a"]);
    assert!(reply.is_error(), "{reply:?}");
}

#[test]
fn the_reply_inside_a_script_is_in_the_protocol_of_the_script() {
    let server = Server::start();
    let mut client = holder(&server);
    client.run("HSET hash a 1");
    for (protocol, due) in [(2, "table:nil"), (3, "table:table")] {
        let script = format!(
            "redis.setresp({protocol}) local r = redis.call('LOCK.GUARD', KEYS[1], 'a', 'HGETALL', KEYS[2]) \
             return type(r) .. ':' .. type(r['map'])"
        );
        assert_eq!(client.call(&cmd!["EVAL", script, 2, "k", "hash"]).text(), due, "RESP{protocol}");
    }
}

/// Two scripts at once would end the server.
#[test]
fn a_script_in_a_script_is_refused_however_it_comes_about() {
    let mut server = Server::start();
    let mut client = holder(&server);
    for inner in [
        "'EVAL', 'return 1', 0",
        "'EVAL_RO', 'return 1', 0",
        "'EVALSHA', 'e0e1f9fabfc9d4800c877a703b823ac0578ff8db', 0",
        "'FCALL', 'fset', 1, KEYS[1], 1",
        "'FCALL_RO', 'fget', 1, KEYS[1]",
    ] {
        let script = format!("return redis.pcall('LOCK.GUARD', KEYS[1], 'a', {inner}).err");
        assert_eq!(client.call(&cmd!["EVAL", script, 1, "k"]).text(), SCRIPT_IN_SCRIPT, "{inner}");
        let guarded = client.call(&cmd!["LOCK.GUARD", "k", "a", "EVAL", script, 1, "k"]);
        assert_eq!(guarded.text(), SCRIPT_IN_SCRIPT, "{inner}");
    }
    // A command in a guard in a script in a guard is none.
    let script = "return redis.call('LOCK.GUARD', KEYS[1], 'a', 'SET', KEYS[2], 1)";
    let nested = client.call(&cmd!["LOCK.GUARD", "k", "a", "EVAL", script, 2, "k", "x"]);
    assert_eq!(nested, Reply::Simple("OK".into()));
    server.assert_alive();
}

#[test]
fn transactions_guard_commands() {
    let server = Server::start();
    let mut client = holder(&server);
    let replies = client.run_all(&[
        "MULTI",
        "LOCK.GUARD k a SET x 1",
        "LOCK.GUARD k b SET x 2",
        "LOCK.GUARD k a LOCK.RELEASE k a",
        "LOCK.GUARD k a SET x 3",
        "LOCK.ACQUIRE k TOKEN b PX 60000",
        "LOCK.GUARD k b EVAL return(7) 0",
        "EXEC",
    ]);
    let [ok, other, released, after, _, script] = replies[7].items() else { panic!("{replies:?}") };
    assert_eq!(*ok, Reply::Simple("OK".into()));
    assert_eq!(*other, Reply::Error(NOT_OWNER.into()));
    assert_eq!(*released, Reply::Int(1));
    assert_eq!(*after, Reply::Error(NOT_OWNER.into()));
    assert_eq!(*script, Reply::Int(7));
    assert_eq!(client.run("GET x").text(), "1");
}

#[test]
fn who_watches_a_key_learns_of_what_was_guarded() {
    let server = Server::start();
    let mut client = holder(&server);
    let mut watcher = server.client();
    for (key, guarded, changes) in [
        ("x", "SET x 1", true),
        ("x", "GET x", false),
        ("k", "GET x", false),
        ("k", "LOCK.RELEASE k a", true),
    ] {
        watcher.run(&format!("WATCH {key}"));
        client.run(&format!("LOCK.GUARD k a {guarded}"));
        let replies = watcher.run_all(&["MULTI", "PING", "EXEC"]);
        assert_eq!(replies[2].is_null(), changes, "{key}: {guarded}");
    }
}
