//! Scripts that run for longer than `busy-reply-threshold`. Servers interrupt those, and would then read from the client of
//! LOCK.GUARD too, which ends them: so they must not.

use std::thread;
use std::time::Duration;

use crate::support::locks::acquire;
use crate::support::{Client, PATIENCE, Reply, Server, cmd, wait_until};

/// Counts so far, then sets the key. Not every server has a clock for scripts that goes on while they run.
const SLOW: &str = "for _ = 1, tonumber(ARGV[1]) do end redis.call('SET', KEYS[1], 'done') return 7";

/// This takes about half a second: much longer than the threshold, and long enough for what a test does meanwhile.
const FAR: i32 = 100_000_000;

const THRESHOLD: &str = "busy-reply-threshold";

/// A server on which the script has begun for a client that holds the lock.
fn with_slow_script() -> (Server, Client) {
    let server = Server::builder().config(&format!("{THRESHOLD} 10")).start();
    let mut client = server.client();
    acquire(&mut client, "{k}lock TOKEN a PX 60000");
    client.send(&cmd!["LOCK.GUARD", "{k}lock", "a", "EVAL", SLOW, 1, "{k}x", FAR]);
    // Nothing tells that it has begun; if it has not, the test is only easier to pass.
    thread::sleep(Duration::from_millis(100));
    (server, client)
}

#[track_caller]
fn runs_to_its_end(server: &mut Server) {
    let mut other = server.client();
    wait_until("the script has set its key", PATIENCE, || {
        other.run("GET {k}x") == Reply::Bulk(b"done".into())
    });
    server.assert_alive();
    let threshold = other.run(&format!("CONFIG GET {THRESHOLD}"));
    assert_eq!(threshold.items()[1], Reply::Bulk(b"10".into()), "as it was");
}

#[test]
fn the_next_commands_of_the_connection_wait_for_the_script() {
    let (mut server, mut client) = with_slow_script();
    client.send(&["PING"]);
    client.send(&["ECHO", "x"]);
    assert_eq!(client.read(), Reply::Int(7));
    assert_eq!(client.read(), Reply::Simple("PONG".into()));
    assert_eq!(client.read(), Reply::Bulk(b"x".into()));
    runs_to_its_end(&mut server);
}

#[test]
fn the_connection_may_close_while_the_script_runs() {
    let (mut server, client) = with_slow_script();
    drop(client);
    runs_to_its_end(&mut server);
}

#[test]
fn others_wait_and_are_not_told_that_the_server_is_busy() {
    let (mut server, mut client) = with_slow_script();
    let mut other = server.client();
    assert_eq!(other.run("GET {k}x"), Reply::Bulk(b"done".into()));
    assert_eq!(client.read(), Reply::Int(7));
    runs_to_its_end(&mut server);
}

#[test]
fn a_transaction_with_a_slow_script_is_safe_as_well() {
    let (mut server, mut client) = with_slow_script();
    assert_eq!(client.read(), Reply::Int(7));
    client.run_all(&["DEL {k}x", "MULTI"]);
    let queued = client.call(&cmd!["LOCK.GUARD", "{k}lock", "a", "EVAL", SLOW, 1, "{k}x", FAR]);
    assert_eq!(queued, Reply::Simple("QUEUED".into()));
    client.send(&["EXEC"]);
    thread::sleep(Duration::from_millis(100));
    client.send(&["PING"]);
    drop(client);
    runs_to_its_end(&mut server);
}

#[test]
fn a_script_that_fails_leaves_the_threshold_as_it_was() {
    let (mut server, mut client) = with_slow_script();
    client.read();
    for script in ["return redis.call('INCR', KEYS[1])", "error('x')", "not lua"] {
        let reply = client.call(&cmd!["LOCK.GUARD", "{k}lock", "a", "EVAL", script, 1, "{k}x"]);
        assert!(reply.is_error(), "{script}: {reply:?}");
    }
    runs_to_its_end(&mut server);
}
