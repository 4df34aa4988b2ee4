//! Commands that run only while the lock is held.

use crate::server::{Server, until};
use redis::cmd;
use redis_lock_client::{Error, Locks};
use std::time::Duration;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn replies_and_errors_are_those_of_the_command() {
    let server = Server::start();
    let held = server.locks().acquire("it").await.unwrap().unwrap();
    assert_eq!(held.guard::<u64>(cmd("INCRBY").arg("total").arg(5)).await.unwrap(), 5);
    assert_eq!(held.guard::<Option<String>>(cmd("GET").arg("nothing")).await.unwrap(), None);
    held.guard::<()>(cmd("SET").arg("text").arg(b"\0\r\n\xff")).await.unwrap();
    assert_eq!(held.guard::<Vec<u8>>(cmd("GET").arg("text")).await.unwrap(), b"\0\r\n\xff");
    for (command, code) in [(cmd("INCR").arg("text"), "ERR"), (cmd("LPUSH").arg("text").arg(1), "WRONGTYPE")]
    {
        let outcome = held.guard::<u64>(command).await;
        assert!(matches!(&outcome, Err(Error::Redis(error)) if error.code() == Some(code)), "{outcome:?}");
    }
    // What came is no number.
    assert!(matches!(held.guard::<u64>(cmd("GET").arg("text")).await, Err(Error::Redis(_))));
    let mut scan = cmd("SCAN");
    scan.cursor_arg(0);
    let (next, _): (u64, Vec<String>) = held.guard(&scan).await.unwrap();
    assert_eq!(next, 0);
    assert!(held.is_held());
}

#[tokio::test]
async fn nothing_runs_when_the_lock_is_lost() {
    let server = Server::start();
    let held = server.locks().acquire_all(["a", "b"]).lease(LONG).await.unwrap().unwrap();
    let mut more = cmd("INCR");
    more.arg("total");
    assert_eq!(held.guard_by("b", &more).await.map_err(drop), Ok(1));
    assert!(matches!(held.guard_by::<u64>("c", &more).await, Err(Error::Invalid(_))));
    server.run::<()>("LOCK.BREAK", &[b"b"]);
    assert_eq!(held.guard(&more).await.map_err(drop), Ok(2));
    assert!(matches!(held.guard_by::<u64>("b", &more).await, Err(Error::Lost)));
    timeout(LONG, held.lost()).await.unwrap();
    assert!(matches!(held.guard::<u64>(&more).await, Err(Error::Lost)));
    until(|| !server.is_known(b"a")).await;
    assert_eq!(server.run::<u64>("GET", &[b"total"]), 2);
}

#[tokio::test]
async fn what_was_released_guards_nothing_and_is_not_lost() {
    let server = Server::start();
    let held = server.locks().acquire("it").await.unwrap().unwrap();
    held.release().await.unwrap();
    assert!(matches!(held.guard::<()>(&cmd("PING")).await, Err(Error::Lost)));
    assert!(timeout(Duration::from_millis(100), held.lost()).await.is_err());
}

#[tokio::test]
async fn several_servers_guard_nothing() {
    let server = Server::start();
    let held = Locks::redlock([server.client(), server.client(), server.client()])
        .with_timeout(Duration::from_secs(5))
        .acquire("it")
        .await
        .unwrap()
        .unwrap();
    assert!(matches!(held.guard::<()>(&cmd("PING")).await, Err(Error::Invalid(_))));
}
