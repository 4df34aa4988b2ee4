//! LOCK.RELEASE of a token that waits: whoever has given up, for whatever reason and from whatever connection, sends it and
//! neither holds nor waits any more.

use crate::support::locks::{acquire, exists, field, holders, null};
use crate::support::waiter::{assert_left_in_peace, release, waiting};
use crate::support::{Reply, Server, Waiter, cmd};

#[test]
fn a_release_ends_a_wait_from_any_connection_and_replies_0() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    for block in ["0", "60000"] {
        let mut waiter = Waiter::new(&server, &format!("k TOKEN b BLOCK {block}"));
        assert_eq!(client.run("LOCK.RELEASE k b"), Reply::Int(0));
        waiter.refused();
        assert_eq!(waiting(&mut client, "k"), 0);
        // Its connection can be used again.
        assert_eq!(waiter.client.run("PING"), Reply::Simple("PONG".into()));
    }
    release(&mut client, "k", "a");
    assert!(!exists(&mut client, "k"), "nobody was granted it");
    assert_left_in_peace(&server, "k");
}

#[test]
fn whom_the_withdrawn_request_kept_out_is_served_at_once() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN reader SHARED");
    let mut writer = Waiter::new(&server, "k TOKEN writer BLOCK 0");
    let mut behind = ["x", "y"].map(|token| Waiter::new(&server, &format!("k TOKEN {token} SHARED BLOCK 0")));
    assert_eq!(client.run("LOCK.RELEASE k writer"), Reply::Int(0));
    writer.refused();
    behind.iter_mut().for_each(|waiter| drop(waiter.granted()));
    assert_eq!(holders(&mut client, "k").len(), 3);
}

#[test]
fn others_keep_their_places_and_other_keys_are_left_alone() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    acquire(&mut client, "l TOKEN a");
    let mut first = Waiter::new(&server, "k TOKEN first BLOCK 0");
    let mut gone = Waiter::new(&server, "k TOKEN gone BLOCK 0");
    let mut last = Waiter::new(&server, "k TOKEN last BLOCK 0");
    let elsewhere = Waiter::new(&server, "l TOKEN gone BLOCK 0");
    assert_eq!(client.run("LOCK.RELEASE k gone"), Reply::Int(0));
    gone.refused();
    elsewhere.assert_waiting(&server);
    release(&mut client, "k", "a");
    first.granted();
    last.assert_waiting(&server);
    release(&mut client, "k", "first");
    last.granted();
}

#[test]
fn a_release_of_a_holder_that_waits_for_another_limit_ends_both() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a SHARED");
    acquire(&mut client, "k TOKEN b SHARED");
    let mut upgrade = Waiter::new(&server, "k TOKEN a LIMIT 1 BLOCK 0");
    assert_eq!(client.run("LOCK.RELEASE k a"), Reply::Int(1));
    upgrade.refused();
    assert_eq!(holders(&mut client, "k").len(), 1);
}

#[test]
fn a_release_that_leaves_a_hold_leaves_its_wait() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a SHARED");
    acquire(&mut client, "k TOKEN a SHARED LEVEL 3");
    acquire(&mut client, "k TOKEN b SHARED");
    let mut upgrade = Waiter::new(&server, "k TOKEN a LIMIT 1 BLOCK 0");
    assert_eq!(client.run("LOCK.RELEASE k a LEVEL 3"), Reply::Int(1));
    assert_eq!(client.run("LOCK.RELEASE k a LEVEL 3"), Reply::Int(0), "not so deep");
    upgrade.assert_waiting(&server);
    release(&mut client, "k", "b");
    upgrade.granted();
    assert_eq!(field(&holders(&mut client, "k")[0], "level"), Reply::Int(2));
}

#[test]
fn a_script_and_a_transaction_can_withdraw() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    let script = "return redis.call('LOCK.RELEASE', KEYS[1], 'b')";
    assert_eq!(client.call(&cmd!["EVAL", script, 1, "k"]), Reply::Int(0));
    waiter.refused();
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    let replies = client.run_all(&["MULTI", "LOCK.RELEASE k b", "LOCK.RELEASE k a", "EXEC"]);
    assert_eq!(replies[3], Reply::Array(vec![Reply::Int(0), Reply::Int(1)]));
    waiter.refused();
    assert!(!exists(&mut client, "k"));
}

#[test]
fn a_release_just_behind_the_grant_gives_back_what_was_granted() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    // In one iteration of the server's loop: b is granted the lock, and gives it back before it was told.
    let replies = client.run_all(&["MULTI", "LOCK.RELEASE k a", "LOCK.RELEASE k b", "EXEC"]);
    assert_eq!(replies[3], Reply::Array(vec![Reply::Int(1), Reply::Int(1)]));
    waiter.granted();
    assert_eq!(client.run("LOCK.CHECK k b"), null(&client));
    assert!(!exists(&mut client, "k"));
}

#[test]
fn a_release_that_is_replayed_from_a_file_ends_no_wait() {
    let server = Server::builder().aof().config("aof-use-rdb-preamble no").start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN b");
    release(&mut client, "k", "b");
    acquire(&mut client, "k TOKEN a PX 600000");
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    client.ok("DEBUG LOADAOF");
    waiter.assert_waiting(&server);
    release(&mut client, "k", "a");
    waiter.granted();
}
