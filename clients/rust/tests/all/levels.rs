//! Levels are asked of the held lock, and given back in any order.

use crate::server::Server;
use redis_lock_client::Error;
use std::time::Duration;

#[tokio::test]
async fn one_task_does_not_hold_it_twice() {
    let server = Server::start();
    let locks = server.locks();
    let _held = locks.acquire("it").await.unwrap().unwrap();
    assert!(locks.acquire("it").wait(Duration::ZERO).await.unwrap().is_none());
}

#[tokio::test]
async fn levels_end_in_any_order() {
    let server = Server::start();
    let locks = server.locks();
    let level = || server.level(b"it");
    let first = locks.acquire("it").await.unwrap().unwrap();
    let (second, third) = tokio::join!(first.next_level(), first.next_level());
    let (second, third) = (second.unwrap().unwrap(), third.unwrap().unwrap());
    assert_eq!((first.level(), second.level(), third.level()), (1, 2, 3));
    assert_eq!(level(), 3);
    second.release().await.unwrap();
    assert_eq!(level(), 3, "the third is still held");
    assert!(!second.is_held() && third.is_held());
    third.release().await.unwrap();
    assert_eq!(level(), 1);
    let again = first.next_level().await.unwrap().unwrap();
    assert_eq!((again.level(), again.fence()), (2, first.fence()));
    first.release().await.unwrap();
    assert!(!again.is_held());
    assert!(matches!(again.release().await, Err(Error::Lost)));
    assert!(matches!(again.next_level().await, Err(Error::Lost)));
    assert!(!server.is_known(b"it"));
}

#[tokio::test]
async fn a_level_of_a_session_is_of_that_session() {
    let server = Server::start();
    let locks = server.locks();
    let first = locks.acquire("it").session().await.unwrap().unwrap();
    let second = first.next_level().await.unwrap().unwrap();
    second.release().await.unwrap();
    assert!(first.is_held());
    first.release().await.unwrap();
}

#[tokio::test]
async fn an_inner_level_makes_no_lease_shorter() {
    let server = Server::start();
    let locks = server.locks();
    let first = locks.acquire("it").lease(Duration::from_secs(60)).await.unwrap().unwrap();
    let second = first.next_level().lease(Duration::from_secs(1)).await.unwrap().unwrap();
    second.extend(Duration::from_secs(1)).await.unwrap();
    let left: (u64, u64, u64) = server.run("LOCK.CHECK", &[b"it", first.token().as_bytes()]);
    assert!(left.1 > 50_000, "{left:?}");
    assert!(first.remaining() > Duration::from_secs(50));
}

#[tokio::test]
async fn a_level_that_was_handed_on_does_not_cut_the_lease_of_the_outer_one() {
    let server = Server::start();
    let locks = server.locks();
    let outer = locks.acquire("it").lease(Duration::from_secs(60)).await.unwrap().unwrap();
    let inner = locks.acquire("it").token(outer.token(), 2).at_least(Duration::from_secs(5));
    inner.await.unwrap().unwrap().release().await.unwrap();
    let left: (u64, u64, u64) = server.run("LOCK.CHECK", &[b"it", outer.token().as_bytes()]);
    assert!(left.1 > 20_000, "{left:?}");
    assert_eq!(server.level(b"it"), 1);
    outer.release().await.unwrap();
}
