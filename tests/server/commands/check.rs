//! LOCK.CHECK: does this token hold the lock, and for how long.

use crate::support::errors::{self, fails};
use crate::support::locks::{acquire, null, standing};
use crate::support::{Reply, Server, cmd};

#[test]
fn the_holder_sees_its_fence_and_the_time_left() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        let grant = acquire(&mut client, "k TOKEN a PX 60000");
        let reply = client.run("LOCK.CHECK k a");
        let parts = reply.items();
        assert_eq!(parts.len(), 3, "fence, time and how many wait were due: {reply:?}");
        assert_eq!(parts.first(), Some(&Reply::Int(grant.fence)));
        let left = parts.get(1).map_or(0, Reply::int);
        assert!(left > 30_000 && left <= 60_000, "{left} ms left");
        client.run("LOCK.RELEASE k a");
    }
}

#[test]
fn each_of_several_holders_sees_its_own() {
    let server = Server::start();
    let mut client = server.client();
    for (token, lease) in [("a", 20_000), ("b", 40_000), ("c", 60_000)] {
        let grant = acquire(&mut client, &format!("k SHARED TOKEN {token} PX {lease}"));
        let reply = client.run(&format!("LOCK.CHECK k {token}"));
        let parts = reply.items();
        assert_eq!(parts.first(), Some(&Reply::Int(grant.fence)));
        let left = parts.get(1).map_or(0, Reply::int);
        assert!(left > lease - 10_000 && left <= lease, "{token}: {left}");
    }
}

#[test]
fn whoever_does_not_hold_it_sees_null() {
    let server = Server::start();
    acquire(&mut server.client(), "k TOKEN abc");
    for mut client in [server.client(), server.client3()] {
        let null = null(&client);
        for command in ["LOCK.CHECK k ab", "LOCK.CHECK k abcd", "LOCK.CHECK k ABC", "LOCK.CHECK missing abc"]
        {
            assert_eq!(client.run(command), null, "{command}");
        }
    }
}

#[test]
fn checking_changes_nothing() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let before = standing(&mut client, "k");
    let dirty = client.info("persistence", "rdb_changes_since_last_save");
    client.run_all(&["LOCK.CHECK k a", "LOCK.CHECK k b", "LOCK.CHECK missing a"]);
    assert_eq!(standing(&mut client, "k"), before);
    assert_eq!(client.run("DBSIZE"), Reply::Int(1));
    assert_eq!(client.info("persistence", "rdb_changes_since_last_save"), dirty);
}

#[test]
fn what_cannot_be_checked_is_an_error() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("SET s a");
    fails(&mut client, "LOCK.CHECK s a", errors::WRONG_TYPE);
    let arity = errors::arity("lock.check");
    for command in ["LOCK.CHECK", "LOCK.CHECK k", "LOCK.CHECK k a PX"] {
        fails(&mut client, command, &arity);
    }
    for length in [0, 256] {
        let token = "x".repeat(length);
        errors::call_fails(&mut client, &cmd!["LOCK.CHECK", "k", token], errors::TOKEN);
    }
}
