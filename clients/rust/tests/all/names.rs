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
    let (cluster, second) = (Locks::cluster([nowhere()]), Duration::from_secs(1));
    for acquire in [
        one.acquire("it").lease(Duration::ZERO),
        one.acquire("it").lease(Duration::from_micros(999)),
        one.acquire("it").session().at_least(second),
        one.acquire("it").token("t", 0),
        several.acquire("it").session(),
        several.acquire("it").replicas(1),
        several.acquire_all(["it", "other"]),
        cluster.acquire_all(["it", "other"]),
        one.acquire_all([""; 0]),
        one.acquire_all((0..257).map(|number| number.to_string())),
        one.acquire("it").delay(second),
        one.acquire("it").weight(2),
        one.acquire("it").limit(3).weight(4),
        one.acquire("it").shared().weight(0),
        one.acquire("it").limit(0),
        one.acquire("it").token("t", 2).session(),
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

#[tokio::test]
async fn each_acquire_has_a_label_of_its_own() {
    let server = Server::start();
    let locks = server.locks();
    let mut seen = Vec::new();
    for name in ["a", "b"] {
        let held = locks.acquire(name).await.unwrap().unwrap();
        let label = server.owner(name.as_bytes());
        let words: Vec<_> = label.rsplitn(3, ':').map(str::to_owned).collect();
        assert!(words[0].parse::<u64>().is_ok(), "{label}");
        assert_eq!(words[1], std::process::id().to_string(), "{label}");
        assert!(!seen.contains(&label), "{label}");
        seen.push(label);
        held.release().await.unwrap();
    }
}

#[tokio::test]
async fn a_weight_counts_for_several_permits() {
    let server = Server::start();
    let locks = server.locks();
    let ask = |weight| locks.acquire("it").limit(5).weight(weight).wait(Duration::ZERO);
    let three = ask(3).await.unwrap().unwrap();
    assert!(ask(3).await.unwrap().is_none());
    let two = ask(2).await.unwrap().unwrap();
    three.release().await.unwrap();
    two.release().await.unwrap();
}
