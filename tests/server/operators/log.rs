//! Lines of the server's log. Those of LOCK.BREAK are with the command, those of the grace with it.

use crate::support::locks::acquire;
use crate::support::{Server, Waiter};

#[test]
fn a_deadlock_is_a_line_with_the_owners() {
    let server = Server::start();
    let mut client = server.client();
    for (token, owner) in [("a", "first%s"), ("b", "second\n")] {
        client.call(&["LOCK.ACQUIRE", "secret", "TOKEN", token, "SHARED", "OWNER", owner]);
    }
    let waiter = server.client();
    let _waiter = Waiter::on(&server, waiter, "secret TOKEN a LIMIT 1 OWNER first%s BLOCK 0");
    for _ in 0..20 {
        let refused = client.call(&[
            "LOCK.ACQUIRE",
            "secret",
            "TOKEN",
            "b",
            "LIMIT",
            "1",
            "OWNER",
            "second\n",
            "BLOCK",
            "0",
        ]);
        assert!(refused.error().starts_with("DEADLOCK"));
    }
    let log = server.log();
    let line = "deadlock: owner second\\x0a asks for a smaller limit while owner first%s waits for one";
    assert!(log.contains(line), "{log}");
    assert!(!log.contains("secret"), "neither key nor token is named");
    assert!(log.matches("deadlock:").count() < 20, "nobody fills the log");
}

/// Of several locks somebody may wait for one who is in nobody's way.
#[test]
fn a_deadlock_at_one_of_several_locks_names_who_waits_there() {
    let server = Server::start();
    let mut client = server.client();
    client.run("LOCK.MACQUIRE 2 a b TOKEN y SHARED OWNER refused PX 60000");
    client.run("LOCK.ACQUIRE b TOKEN x SHARED OWNER other PX 60000");
    let _waiters = [
        Waiter::new(&server, "b TOKEN x LIMIT 1 OWNER other BLOCK 0"),
        Waiter::new(&server, "a TOKEN z OWNER bystander BLOCK 0"),
    ];
    let refused = client.run("LOCK.MACQUIRE 2 a b TOKEN y LIMIT 1 OWNER refused BLOCK 0");
    assert!(refused.error().starts_with("DEADLOCK"), "{refused:?}");
    let log = server.log();
    let line = "deadlock: owner refused asks for a smaller limit while owner other waits for one";
    assert!(log.contains(line) && !log.contains("bystander"), "{log}");
}

#[test]
fn a_server_that_may_evict_locks_says_so() {
    let line = "can evict locks that are held";
    let server = Server::builder().config("maxmemory-policy allkeys-lru").start();
    assert_eq!(server.log().matches(line).count(), 1);
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k");
    client.ok("CONFIG SET maxmemory-policy volatile-lru");
    assert_eq!(server.log().matches(line).count(), 0);
    client.ok("CONFIG SET maxmemory-policy allkeys-lfu");
    client.ok("CONFIG SET maxmemory 100mb");
    assert_eq!(server.log().matches(line).count(), 1);
}
