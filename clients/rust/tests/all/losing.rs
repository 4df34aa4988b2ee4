//! `lost` is ready by itself, whoever asks for what remains or nobody.

use crate::server::Server;
use redis_lock_client::Error;
use std::time::Duration;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn all_who_wait_are_told_when_the_lease_is_over() {
    let server = Server::start();
    let locks = server.locks();
    let lease = Duration::from_millis(300);
    let held = locks.acquire("it").lease(lease).renew(false).await.unwrap().unwrap();
    let (before, at_once) = (held.lost(), held.lost());
    timeout(SOON, async { tokio::join!(before, at_once) }).await.unwrap();
    timeout(SOON, held.lost()).await.unwrap();
    assert!(matches!(held.release().await, Err(Error::Lost)));
}

#[tokio::test]
async fn they_are_told_when_the_server_has_gone() {
    let server = Server::start();
    let locks = server.locks();
    let held = locks.acquire("it").lease(Duration::from_secs(1)).await.unwrap().unwrap();
    let session = locks.acquire("other").lease(Duration::from_secs(3600)).session().await.unwrap().unwrap();
    drop(server);
    timeout(SOON, session.lost()).await.unwrap();
    timeout(SOON, held.lost()).await.unwrap();
    for lost in [held, session] {
        assert!(!lost.is_held());
        assert!(matches!(lost.extend(None).await, Err(Error::Lost)));
    }
}

#[tokio::test]
async fn nobody_is_told_of_a_release() {
    let server = Server::start();
    let locks = server.locks();
    let held = locks.acquire("it").await.unwrap().unwrap();
    let lost = held.lost();
    held.release().await.unwrap();
    drop(held);
    assert!(timeout(Duration::from_millis(200), lost).await.is_err());
}
