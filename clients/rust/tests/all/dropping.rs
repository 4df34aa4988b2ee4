//! Dropping cannot wait, and leaves nothing all the same.

use crate::server::{Server, until};
use std::time::Duration;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn what_is_dropped_is_released_by_the_end_of_close() {
    let server = Server::start();
    for round in 0..20 {
        let locks = server.locks();
        let held: Vec<_> =
            [locks.acquire("one").lease(LONG).await, locks.acquire("other").lease(LONG).session().await]
                .into();
        assert!(held.iter().all(|held| matches!(held, Ok(Some(_)))), "{held:?}");
        drop(held);
        locks.close().await;
        assert!(!server.is_known(b"one") && !server.is_known(b"other"), "in round {round}");
    }
}

#[tokio::test]
async fn a_wait_that_is_dropped_is_given_up_by_the_end_of_close() {
    let server = Server::start();
    let holder = server.locks();
    let held = holder.acquire("it").lease(LONG).await.unwrap().unwrap();
    for session in [false, true] {
        let locks = server.locks();
        let waiting = locks.acquire("it");
        let waiting = if session { waiting.session() } else { waiting };
        assert!(timeout(Duration::from_millis(200), waiting).await.is_err());
        locks.close().await;
        assert_eq!(server.waiting(b"it", held.token()), 0);
    }
    held.release().await.unwrap();
    assert!(!server.is_known(b"it"));
}

#[test]
fn a_held_lock_may_be_dropped_outside_of_the_runtime() {
    let server = Server::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let locks = server.locks();
    let held = runtime.block_on(locks.acquire("it").lease(LONG).into_future()).unwrap();
    drop(held);
    runtime.block_on(until(|| !server.is_known(b"it")));
}

#[tokio::test]
async fn a_panic_releases() {
    let server = Server::start();
    let locks = server.locks();
    let work = tokio::spawn(async move {
        let _held = locks.acquire("it").lease(LONG).await.unwrap();
        panic!("as it is meant to");
    });
    assert!(work.await.unwrap_err().is_panic());
    until(|| !server.is_known(b"it")).await;
}

#[test]
fn what_the_runtime_does_not_come_to_do_ends_with_the_lease() {
    let server = Server::start();
    let locks = server.locks();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let held = runtime.block_on(locks.acquire("it").lease(Duration::from_millis(500)).into_future()).unwrap();
    drop(runtime);
    drop(held);
    let later = tokio::runtime::Runtime::new().unwrap();
    later.block_on(until(|| !server.is_known(b"it")));
    // Another runtime goes on with the same locks.
    let held = later.block_on(locks.acquire("it").into_future()).unwrap().unwrap();
    later.block_on(held.release()).unwrap();
}

#[tokio::test]
async fn a_release_goes_on_that_nobody_waits_for() {
    let server = Server::start();
    let locks = server.locks();
    for _ in 0..20 {
        let held = locks.acquire("it").lease(LONG).await.unwrap().unwrap();
        let _ = timeout(Duration::ZERO, held.release()).await;
        assert!(!held.is_held());
    }
    locks.close().await;
    assert!(!server.is_known(b"it"));
}

#[tokio::test]
async fn who_waits_is_served_when_the_holder_drops() {
    let server = Server::start();
    let locks = server.locks();
    let mut held = locks.acquire("it").lease(LONG).await.unwrap().unwrap();
    for _ in 0..50 {
        let waiting = tokio::spawn(locks.acquire("it").lease(LONG).into_future());
        until(|| server.waiting(b"it", held.token()) == 1).await;
        let fence = held.fence();
        drop(held);
        held = waiting.await.unwrap().unwrap().unwrap();
        assert!(held.fence() > fence);
    }
}
