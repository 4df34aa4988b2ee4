//! A token that holds all of them and asks for another limit or weight: it waits ahead of the queues, and keeps what it has.

use super::{all, errs, fences, holds, none, release_all, waits};
use crate::support::locks::{acquire, field, holders, refused, standing};
use crate::support::waiter::{owners, release};
use crate::support::{Client, Reply, Server};

fn limits(client: &mut Client, key: &str) -> Vec<i64> {
    holders(client, key).iter().map(|hold| field(hold, "limit").int()).collect()
}

#[test]
fn a_reader_that_is_alone_at_all_becomes_the_writer_at_once_and_a_writer_a_reader() {
    let server = Server::start();
    let mut client = server.client();
    let grant = all(&mut client, "2 k l TOKEN a SHARED");
    assert_eq!(all(&mut client, "2 k l TOKEN a LIMIT 1"), grant);
    assert_eq!((limits(&mut client, "k"), limits(&mut client, "l")), (vec![1], vec![1]));
    none(&mut client, "2 k l TOKEN b SHARED");
    let mut reader = waits(&server, "2 k l TOKEN b SHARED BLOCK 0");
    assert_eq!(all(&mut client, "2 k l TOKEN a SHARED"), grant);
    reader.granted();
    assert_eq!((limits(&mut client, "k"), limits(&mut client, "l")), (vec![0, 0], vec![0, 0]));
}

#[test]
fn without_block_null_and_all_holds_stay_as_they_were() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a SHARED PX 60000");
    acquire(&mut client, "l TOKEN b SHARED PX 60000");
    let before = ["k", "l"].map(|key| standing(&mut client, key));
    none(&mut client, "2 k l TOKEN a LIMIT 1 PX 5");
    assert_eq!(["k", "l"].map(|key| standing(&mut client, key)), before, "k could have been changed alone");
}

#[test]
fn with_block_it_waits_ahead_in_all_queues_and_keeps_its_holds() {
    let server = Server::start();
    let mut client = server.client();
    let grant = all(&mut client, "2 k l TOKEN a OWNER a SHARED PX 60000");
    acquire(&mut client, "l TOKEN b OWNER b SHARED PX 60000");
    let writer = waits(&server, "2 k l TOKEN c OWNER c BLOCK 0");
    let mut upgrade = waits(&server, "2 k l TOKEN a OWNER a LIMIT 1 PX 70000 BLOCK 0");
    for key in ["k", "l"] {
        assert_eq!(owners(&mut client, key).1, ["a", "c"], "{key}");
    }
    assert_eq!(fences(&mut client, &["k", "l"], "a"), [grant.fence; 2]);
    refused(&mut client, "k TOKEN d SHARED");
    release(&mut client, "l", "b");
    assert_eq!(upgrade.granted(), grant);
    assert_eq!((limits(&mut client, "k"), limits(&mut client, "l")), (vec![1], vec![1]));
    writer.assert_waiting(&server);
    release_all(&mut client, "2 k l a");
}

/// However one of its holds ends.
#[test]
fn if_one_of_its_holds_ends_meanwhile_the_wait_ends_with_null() {
    for end in [
        "LOCK.BREAK k",
        "LOCK.RELEASE k a",
        "DEL k",
        "LOCK.EXTEND k a PX 1",
        "RENAME k elsewhere",
        "MOVE k 1",
    ] {
        let server = Server::start();
        let mut client = server.client();
        all(&mut client, "2 k l TOKEN a OWNER a SHARED PX 600000");
        acquire(&mut client, "l TOKEN b OWNER b SHARED PX 600000");
        let mut upgrade = waits(&server, "2 k l TOKEN a LIMIT 1 BLOCK 0");
        let reply = client.run(end);
        assert!(!reply.is_error(), "{end}: {reply:?}");
        upgrade.refused();
        assert_eq!(holds(&mut client, &["k", "l"], "a"), ["l"], "{end}: the other stays");
        assert_eq!(owners(&mut client, "l"), (vec!["a".into(), "b".into()], vec![]), "{end}");
        assert_eq!(limits(&mut client, "l"), [0, 0], "{end}");
        // Nobody is in the way of a newcomer any more.
        acquire(&mut client, "l TOKEN c SHARED");
        acquire(&mut client, "k TOKEN c SHARED");
    }
}

#[test]
fn a_second_one_that_meets_it_at_any_key_is_in_a_deadlock() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a SHARED");
    all(&mut client, "3 k l m TOKEN b SHARED");
    let mut upgrade = waits(&server, "2 k l TOKEN a LIMIT 1 BLOCK 0");
    for rest in
        ["2 k l TOKEN b LIMIT 1 BLOCK 0", "2 l m TOKEN b LIMIT 1 BLOCK 0", "1 k TOKEN b LIMIT 1 BLOCK 0"]
    {
        errs(&mut client, rest, "DEADLOCK ");
    }
    let reply = client.run("LOCK.ACQUIRE k TOKEN b LIMIT 1 BLOCK 0");
    assert!(reply.error().starts_with("DEADLOCK "), "{reply:?}");
    none(&mut client, "2 k l TOKEN b LIMIT 1");
    assert_eq!(client.run("LOCK.MRELEASE 3 k l m b"), Reply::Int(3));
    upgrade.granted();
}

#[test]
fn a_single_upgrade_and_one_of_several_are_in_a_deadlock_too() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a SHARED");
    acquire(&mut client, "l TOKEN b SHARED");
    let mut upgrade = crate::support::Waiter::new(&server, "l TOKEN b LIMIT 1 BLOCK 0");
    errs(&mut client, "2 k l TOKEN a LIMIT 1 BLOCK 0", "DEADLOCK ");
    release_all(&mut client, "2 k l a");
    upgrade.granted();
}

#[test]
fn a_retry_of_its_holds_meanwhile_leaves_its_wait() {
    let server = Server::start();
    let mut client = server.client();
    let grant = all(&mut client, "2 k l TOKEN a SHARED PX 60000");
    acquire(&mut client, "l TOKEN b SHARED");
    let mut upgrade = waits(&server, "2 k l TOKEN a LIMIT 1 BLOCK 0");
    assert_eq!(client.run("LOCK.MEXTEND 2 k l a PX 70000"), Reply::Int(2));
    upgrade.assert_waiting(&server);
    release(&mut client, "l", "b");
    assert_eq!(upgrade.granted(), grant);
}

#[test]
fn an_upgrade_that_gives_up_leaves_all_holds_as_they_were() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a SHARED PX 60000");
    acquire(&mut client, "l TOKEN b SHARED PX 60000");
    let before = ["k", "l"].map(|key| standing(&mut client, key));
    let mut upgrade = waits(&server, "2 k l TOKEN a LIMIT 1 BLOCK 0");
    let mut reader = waits(&server, "2 k l TOKEN c SHARED BLOCK 0");
    // Whose time is short comes when all others wait, and takes over the place.
    let mut brief = waits(&server, "2 k l TOKEN a LIMIT 1 BLOCK 50");
    upgrade.refused();
    brief.refused();
    reader.granted();
    release_all(&mut client, "2 k l c");
    assert_eq!(["k", "l"].map(|key| standing(&mut client, key)), before);
}
