//! Several locks, which are one held lock.

use crate::server::{Server, until};
use redis::Value;
use redis_lock_client::Error;
use std::io::Write;
use std::time::Duration;
use tokio::time::{sleep, timeout};

const LONG: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn they_are_held_renewed_and_released_together() {
    let server = Server::start();
    let locks = server.locks();
    let lease = Duration::from_secs(4);
    let held = locks.acquire_all(["b", "a", "b"]).lease(lease).await.unwrap().unwrap();
    assert_eq!((held.name(), held.names()), (&b"b"[..], &[b"b".to_vec(), b"a".to_vec()][..]));
    assert!(locks.acquire("a").wait(Duration::ZERO).await.unwrap().is_none());
    server.renews(&held).await;
    assert!(held.is_held() && server.is_known(b"a") && server.is_known(b"b"));

    let waiting = tokio::spawn(locks.acquire_all(["a", "c", "b"]).into_future());
    until(|| server.waiting(b"a", held.token()) == 1 && server.is_known(b"c")).await;
    held.release().await.unwrap();
    let next = timeout(SOON, waiting).await.unwrap().unwrap().unwrap().unwrap();
    assert!(next.fence() > held.fence());
    next.release().await.unwrap();
    assert!([b"a", b"b", b"c"].iter().all(|name| !server.is_known(*name)));
}

#[tokio::test]
async fn they_are_lost_together_and_the_rest_is_given_back() {
    let server = Server::start();
    let locks = server.locks();
    for (command, more) in [("LOCK.BREAK", &[][..]), ("SET", &[&b"x"[..]][..])] {
        let spoil = || server.run::<Value>(command, &[&[&b"b"[..]][..], more].concat());
        let held = locks.acquire_all(["a", "b"]).lease(LONG).await.unwrap().unwrap();
        spoil();
        assert!(matches!(held.extend(None).await, Err(Error::Lost)));
        timeout(SOON, held.lost()).await.unwrap();
        until(|| !server.is_known(b"a")).await;
        server.run::<()>("DEL", &[b"b"]);

        // By a release the same.
        let held = locks.acquire_all(["a", "b"]).lease(LONG).await.unwrap().unwrap();
        spoil();
        assert!(matches!(held.release().await, Err(Error::Lost)));
        timeout(SOON, held.lost()).await.unwrap();
        assert!(!server.is_known(b"a"));
        server.run::<()>("DEL", &[b"b"]);
    }
}

#[tokio::test]
async fn the_next_level_is_of_all() {
    let server = Server::start();
    let locks = server.locks();
    let first = locks.acquire_all(["a", "b"]).await.unwrap().unwrap();
    let second = first.next_level().await.unwrap().unwrap();
    assert_eq!((second.names(), second.fence()), (first.names(), first.fence()));
    assert_eq!((server.level(b"a"), server.level(b"b")), (2, 2));
    second.release().await.unwrap();
    assert_eq!((server.level(b"a"), server.level(b"b")), (1, 1));
    let handed = locks.acquire_all(["a", "b"]).token(first.token(), 2).await.unwrap().unwrap();
    handed.release().await.unwrap();
    server.run::<()>("LOCK.BREAK", &[b"a"]);
    assert!(matches!(first.next_level().await, Err(Error::Lost)));
    assert!(!first.is_held());
    until(|| !server.is_known(b"b")).await;
}

#[tokio::test]
async fn what_is_dropped_is_released() {
    let server = Server::start();
    let locks = server.locks();
    let held = locks.acquire_all(["a", "b"]).lease(LONG).await.unwrap().unwrap();
    let waits = timeout(Duration::from_millis(200), locks.acquire_all(["c", "b"]).into_future());
    assert!(waits.await.is_err());
    drop(held);
    locks.close().await;
    assert!([b"a", b"b", b"c"].iter().all(|name| !server.is_known(*name)));
}

#[tokio::test]
async fn with_a_delay_a_hold_outlives_its_connection() {
    let server = Server::start();
    let locks = server.locks();
    let held = locks.acquire_all(["a", "b"]).session().delay(SOON).lease(LONG).await.unwrap().unwrap();
    server.run::<u64>("CLIENT", &[b"KILL", b"TYPE", b"normal", b"SKIPME", b"yes"]);
    timeout(SOON, held.lost()).await.unwrap();
    assert!(server.is_known(b"a") && server.is_known(b"b"));
    // Who says that the work has ended need not wait.
    assert!(matches!(held.release().await, Err(Error::Lost)));
    until(|| !server.is_known(b"a") && !server.is_known(b"b")).await;
}

/// The grant is read so late that the client asks whether it still stands, and by then another has one of the locks.
#[tokio::test]
async fn who_has_lost_one_before_the_grant_is_confirmed_waits_for_all_again() {
    let server = Server::start();
    let locks = server.locks();
    locks.acquire_all(["a", "b"]).await.unwrap().unwrap().release().await.unwrap();
    let mut other = server.stream();
    server.signal("STOP");
    let acquiring = locks.acquire_all(["a", "b"]).lease(Duration::from_secs(3));
    let acquiring = tokio::spawn(acquiring.into_future());
    sleep(Duration::from_millis(400)).await;
    other.write_all(b"LOCK.BREAK b\r\nLOCK.ACQUIRE b TOKEN other PX 1000\r\n").unwrap();
    server.signal("CONT");
    let held = timeout(SOON, acquiring).await.unwrap().unwrap().unwrap().unwrap();
    assert!(server.is_known(b"a") && held.is_held());
    held.release().await.unwrap();
}
