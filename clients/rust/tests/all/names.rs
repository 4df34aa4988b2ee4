//! What callers may say.

use crate::server::{Server, until};
use redis_lock_client::{Error, Locks};
use std::time::Duration;

#[tokio::test]
async fn names_are_any_bytes() {
    let server = Server::start();
    let locks = server.locks();
    let all: Vec<u8> = (0..=255).collect();
    for name in [&b""[..], b"\0", b"\r\n$5\r\n", b"%s%n", &all, &[0xff; 4096], "🔒".as_bytes(), b"{a}{b}"] {
        let held = locks.acquire(name).owner("\0\r\n%s").await.unwrap().unwrap();
        assert_eq!(held.name(), name);
        assert!(server.is_known(name));
        let waiting = tokio::spawn(locks.acquire(name).into_future());
        until(|| server.waiting(name, held.token()) == 1).await;
        held.release().await.unwrap();
        waiting.await.unwrap().unwrap().unwrap().release().await.unwrap();
        assert!(!server.is_known(name));
    }
}

#[tokio::test]
async fn what_does_not_go_together_is_said_before_anything_is_sent() {
    let nowhere = || redis::Client::open("redis://127.0.0.1:1").unwrap();
    let (one, several) = (Locks::new(nowhere()), Locks::redlock([nowhere(), nowhere(), nowhere()]));
    let second = Duration::from_secs(1);
    for acquire in [
        one.acquire("it").lease(Duration::ZERO),
        one.acquire("it").lease(Duration::from_micros(999)),
        one.acquire("it").session().at_least(second),
        one.acquire("it").token("t", 0),
        several.acquire("it").session(),
        several.acquire("it").replicas(1),
    ] {
        let outcome = acquire.await;
        assert!(matches!(outcome, Err(Error::Invalid(_))), "{outcome:?}");
    }
}

#[tokio::test]
async fn times_may_be_as_long_as_can_be_said() {
    let server = Server::start();
    let locks = server.locks();
    let held = locks.acquire("it").wait(Duration::MAX).at_least(Duration::MAX).await.unwrap().unwrap();
    assert!(held.is_held());
    // The server has a longest lease.
    for outcome in
        [held.extend(Duration::MAX).await, locks.acquire("other").lease(Duration::MAX).await.map(drop)]
    {
        assert!(matches!(&outcome, Err(Error::Redis(error)) if error.code() == Some("ERR")), "{outcome:?}");
    }
    let session = locks.acquire("another").session().wait(Duration::MAX).await.unwrap().unwrap();
    session.release().await.unwrap();
}
