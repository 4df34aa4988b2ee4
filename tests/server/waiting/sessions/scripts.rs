//! Transactions may tie a hold, scripts and functions may not.

use std::time::{Duration, Instant};

use super::{gone_at_once, session_of};
use crate::support::locks::{acquire, null, remaining};
use crate::support::waiter::{assert_left_in_peace, time_passes};
use crate::support::{Reply, Server, cmd, ok_grant};

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
