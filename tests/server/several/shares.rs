//! Levels, weights and limits, at several locks at once.

use super::{all, assert_free, errs, holds, none, release_all, waits};
use crate::support::errors;
use crate::support::locks::{acquire, exists, field, holder, holders};
use crate::support::waiter::release;
use crate::support::{Client, Reply, Server};

fn level(client: &mut Client, key: &str) -> i64 {
    field(&holder(client, key), "level").int()
}

#[test]
fn an_inner_level_needs_all_the_outer_holds() {
    let server = Server::start();
    let mut client = server.client();
    for rest in ["2 k l TOKEN a LEVEL 2", "2 k l TOKEN a LEVEL 2 BLOCK 0", "2 k l TOKEN a LEVEL 9 QUEUE 5000"]
    {
        none(&mut client, rest);
    }
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
    acquire(&mut client, "k TOKEN a PX 60000");
    for rest in ["2 k l TOKEN a LEVEL 2", "2 l k TOKEN a LEVEL 2 BLOCK 0", "2 k l TOKEN a LEVEL 2 QUEUE 5000"]
    {
        none(&mut client, rest);
    }
    assert!(!exists(&mut client, "l"));
    assert_eq!(level(&mut client, "k"), 1, "nothing was granted, nothing is changed");
    let grant = all(&mut client, "2 k l TOKEN a PX 60000");
    assert_eq!(all(&mut client, "2 k l TOKEN a LEVEL 3 PX 5000"), grant);
    for key in ["k", "l"] {
        assert_eq!(level(&mut client, key), 3);
        assert!(
            field(&holder(&mut client, key), "remaining").int() > 50_000,
            "an inner level cuts nothing short"
        );
    }
    assert_eq!(client.run("LOCK.RELEASE k a LEVEL 2"), Reply::Int(1));
    assert_eq!((level(&mut client, "k"), level(&mut client, "l")), (1, 3));
    // Of holds that are not equally deep each becomes as deep as was asked, and none less.
    all(&mut client, "2 k l TOKEN a LEVEL 2");
    assert_eq!((level(&mut client, "k"), level(&mut client, "l")), (2, 3));
    release_all(&mut client, "2 k l a");
}

#[test]
fn a_semaphore_and_a_mutex_are_held_by_one_limit_only_where_both_allow_it() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a LIMIT 2");
    all(&mut client, "2 k m TOKEN b LIMIT 2");
    none(&mut client, "2 l k TOKEN c LIMIT 3");
    all(&mut client, "2 l m TOKEN c LIMIT 2");
    let mut waiter = waits(&server, "3 k l m TOKEN d LIMIT 2 BLOCK 0");
    release(&mut client, "k", "a");
    waiter.assert_waiting(&server);
    release(&mut client, "l", "a");
    waiter.assert_waiting(&server);
    none(&mut client, "1 k TOKEN e LIMIT 2");
    release(&mut client, "m", "b");
    waiter.granted();
    for key in ["k", "l", "m"] {
        assert_eq!(holders(&mut client, key).len(), 2);
    }
}

#[test]
fn a_weight_counts_at_each_lock() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a LIMIT 5 WEIGHT 3");
    none(&mut client, "2 l m TOKEN b LIMIT 5 WEIGHT 3");
    assert!(!exists(&mut client, "m"));
    all(&mut client, "2 l m TOKEN b LIMIT 5 WEIGHT 2");
    none(&mut client, "1 l TOKEN c LIMIT 5");
    acquire(&mut client, "k TOKEN c LIMIT 5");
    // Another weight is taken at all or at none: at m there is room, at l there is not.
    none(&mut client, "2 l m TOKEN b LIMIT 5 WEIGHT 4");
    assert_eq!(field(&holder(&mut client, "m"), "weight"), Reply::Int(2));
    release(&mut client, "l", "a");
    all(&mut client, "2 l m TOKEN b LIMIT 5 WEIGHT 4");
    assert_eq!(field(&holder(&mut client, "m"), "weight"), Reply::Int(4));
    assert_eq!(field(&holder(&mut client, "l"), "weight"), Reply::Int(4));
}

/// Where the holds differ, what a retry does not name is that of each; a weight above the limit at one is an error for all.
#[test]
fn a_weight_above_the_limit_of_one_hold_is_refused_for_all() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a LIMIT 9");
    acquire(&mut client, "l TOKEN a LIMIT 2");
    errs(&mut client, "2 k l TOKEN a WEIGHT 5", errors::WEIGHT);
    errs(&mut client, "2 l k TOKEN a WEIGHT 5", errors::WEIGHT);
    assert_eq!(field(&holder(&mut client, "k"), "weight"), Reply::Int(1));
    all(&mut client, "2 k l TOKEN a WEIGHT 2");
    assert_eq!(field(&holder(&mut client, "k"), "weight"), Reply::Int(2));
    assert_eq!(field(&holder(&mut client, "k"), "limit"), Reply::Int(9));
    assert_eq!(field(&holder(&mut client, "l"), "limit"), Reply::Int(2));
}

#[test]
fn a_reader_of_several_lets_readers_of_each_in() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a SHARED");
    all(&mut client, "2 l m TOKEN b SHARED");
    acquire(&mut client, "k TOKEN c SHARED");
    let mut writer = waits(&server, "3 k l m TOKEN w BLOCK 0");
    release_all(&mut client, "2 k l a");
    release_all(&mut client, "2 l m b");
    writer.assert_waiting(&server);
    assert_eq!(holds(&mut client, &["k", "l", "m"], "w"), [""; 0]);
    release(&mut client, "k", "c");
    writer.granted();
    release_all(&mut client, "3 k l m w");
    assert_free(&server, &["k", "l", "m"]);
}
