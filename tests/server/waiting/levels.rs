//! Re-entrance by levels: work that holds a lock calls other work that asks for it too. Every command of it can be repeated.

use crate::support::errors::{self, fails};
use crate::support::locks::{acquire, exists, field, holder, holders, null, refused, remaining, standing};
use crate::support::waiter::{assert_left_in_peace, release};
use crate::support::{Client, PATIENCE, Pair, Reply, Server, Waiter, cmd, wait_until};

fn level(client: &mut Client) -> i64 {
    field(&holder(client, "k"), "level").int()
}

#[test]
fn a_level_repeated_is_the_same_level_and_is_given_back_once() {
    let server = Server::start();
    let mut client = server.client();
    let first = acquire(&mut client, "k TOKEN a PX 60000 LEVEL 1");
    for deep in [2, 3] {
        for _ in 0..3 {
            assert_eq!(acquire(&mut client, &format!("k TOKEN a PX 60000 LEVEL {deep}")), first);
            assert_eq!(level(&mut client), deep);
        }
    }
    assert_eq!(acquire(&mut client, "k TOKEN a PX 60000 LEVEL 2"), first, "a level below");
    assert_eq!(acquire(&mut client, "k TOKEN a PX 60000"), first, "a plain retry");
    assert_eq!(level(&mut client), 3);
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    for deep in [3, 2] {
        assert_eq!(client.run(&format!("LOCK.RELEASE k a LEVEL {deep}")), Reply::Int(1));
        for _ in 0..2 {
            assert_eq!(client.run(&format!("LOCK.RELEASE k a LEVEL {deep}")), Reply::Int(0), "repeated");
            assert_eq!(level(&mut client), deep - 1);
        }
        waiter.assert_waiting(&server);
    }
    assert_eq!(client.run("LOCK.RELEASE k a LEVEL 1"), Reply::Int(1));
    waiter.granted();
    assert_eq!(client.run("LOCK.RELEASE k a LEVEL 1"), Reply::Int(0));
}

#[test]
fn a_level_gives_back_what_is_above_it() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a LEVEL 1");
    acquire(&mut client, "k TOKEN a LEVEL 65535");
    assert_eq!(client.run("LOCK.RELEASE k a LEVEL 3"), Reply::Int(1));
    assert_eq!(level(&mut client), 2);
    for whole in ["LOCK.RELEASE k a", "LOCK.RELEASE k a LEVEL 1"] {
        acquire(&mut client, "k TOKEN a");
        acquire(&mut client, "k TOKEN a LEVEL 9");
        assert_eq!(client.run(whole), Reply::Int(1));
        assert!(!exists(&mut client, "k"), "{whole}");
    }
}

#[test]
fn an_inner_lease_never_cuts_the_outer_one_short() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    acquire(&mut client, "k TOKEN a PX 100 LEVEL 2");
    assert!(remaining(&mut client, "k", "a").unwrap() > 50_000);
    assert_eq!(field(&holder(&mut client, "k"), "lease"), Reply::Int(60_000));
    acquire(&mut client, "k TOKEN a PX 100000 LEVEL 2");
    assert!(remaining(&mut client, "k", "a").unwrap() > 90_000);
    assert_eq!(field(&holder(&mut client, "k"), "lease"), Reply::Int(100_000));
    // To extend it is the holder's own word, and so is a plain retry.
    acquire(&mut client, "k TOKEN a PX 50000");
    assert!(remaining(&mut client, "k", "a").unwrap() <= 50_000);
    assert_eq!(client.run("LOCK.RELEASE k a LEVEL 2"), Reply::Int(1));
    assert!(remaining(&mut client, "k", "a").unwrap() > 30_000, "to give a level back leaves the lease");
}

#[test]
fn an_inner_level_is_null_at_once_where_the_outer_hold_is_gone() {
    let server = Server::start();
    let mut client = server.client();
    for options in ["LEVEL 2 TOKEN a", "LEVEL 2 TOKEN a BLOCK 0", "LEVEL 2", "LEVEL 65535 BLOCK 0 SHARED"] {
        refused(&mut client, &format!("k {options}"));
    }
    assert!(!exists(&mut client, "k"));
    acquire(&mut client, "k TOKEN other");
    refused(&mut client, "k TOKEN a LEVEL 2 BLOCK 0");
    let _waiter = Waiter::new(&server, "k TOKEN a BLOCK 0");
    let before = standing(&mut client, "k");
    refused(&mut client, "k TOKEN a LEVEL 2 BLOCK 0");
    assert_eq!(
        field(&standing(&mut client, "k"), "waiting"),
        field(&before, "waiting"),
        "it keeps its place"
    );
}

#[test]
fn an_inner_level_that_waits_for_another_limit_is_told_when_the_outer_hold_ends() {
    let server = Server::start();
    let mut client = server.client();
    for end in ["LOCK.EXTEND k a PX 40", "LOCK.BREAK k", "DEL k"] {
        acquire(&mut client, "k TOKEN a SHARED PX 60000");
        acquire(&mut client, "k TOKEN b SHARED PX 60000");
        let mut upgrade = Waiter::new(&server, "k TOKEN a LIMIT 1 LEVEL 2 BLOCK 0");
        assert!(client.run(end).int() > 0, "{end}");
        upgrade.refused();
        assert_eq!(client.call(&["LOCK.CHECK", "k", "a"]), null(&client), "{end}");
        client.run("DEL k");
    }
}

#[test]
fn a_lease_a_break_or_a_deletion_ends_all_levels() {
    let server = Server::start();
    let mut client = server.client();
    for end in ["LOCK.BREAK k", "DEL k", "LOCK.EXTEND k a PX 30"] {
        acquire(&mut client, "k TOKEN a");
        acquire(&mut client, "k TOKEN a LEVEL 3");
        assert_eq!(client.run(end), Reply::Int(1));
        wait_until(end, PATIENCE, || !exists(&mut client, "k"));
    }
}

#[test]
fn levels_survive_what_locks_survive_and_all_copies_agree() {
    let mut pair =
        Pair::start_with(Server::builder().aof().config("aof-use-rdb-preamble no"), Server::builder());
    let mut client = pair.master.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    acquire(&mut client, "k TOKEN a PX 600000 LEVEL 4");
    assert_eq!(client.run("LOCK.RELEASE k a LEVEL 4"), Reply::Int(1));
    let before = standing(&mut client, "k");
    pair.wait_caught_up();
    let digest = |client: &mut Client| client.call(&["DEBUG", "DIGEST-VALUE", "k"]);
    assert_eq!(standing(&mut pair.replica.client(), "k"), before);
    assert_eq!(digest(&mut pair.replica.client()), digest(&mut client));
    client.ok("DEBUG RELOAD");
    assert_eq!(standing(&mut client, "k"), before);
    client.ok("DEBUG LOADAOF");
    assert_eq!(standing(&mut client, "k"), before);
    let payload = client.run("DUMP k").bytes();
    client.ok("RENAME k l");
    assert_eq!(client.call(&cmd!["RESTORE", "k", 0, payload]), Reply::Simple("OK".into()));
    assert_eq!(level(&mut client), 3);
    client.ok("RENAME l k");
    pair.master.kill9();
    pair.master.start_again();
    let mut client = pair.master.client();
    assert_eq!(standing(&mut client, "k"), before);
    assert_eq!(client.run("LOCK.RELEASE k a LEVEL 3"), Reply::Int(1));
    release(&mut client, "k", "a");
    assert!(!exists(&mut client, "k"));
}

#[test]
fn a_waiter_is_granted_level_one_and_another_limit_goes_with_a_level() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut waiter = Waiter::new(&server, "k TOKEN b LEVEL 1 BLOCK 0");
    release(&mut client, "k", "a");
    waiter.granted();
    assert_eq!(level(&mut client), 1);
    release(&mut client, "k", "b");
    assert_left_in_peace(&server, "k");

    acquire(&mut client, "k SHARED TOKEN a");
    acquire(&mut client, "k TOKEN a LIMIT 1 LEVEL 2");
    let hold = holder(&mut client, "k");
    assert_eq!((field(&hold, "level"), field(&hold, "limit")), (Reply::Int(2), Reply::Int(1)));
    assert_eq!(client.run("LOCK.RELEASE k a LEVEL 2"), Reply::Int(1));
    refused(&mut client, "k SHARED TOKEN b");
    release(&mut client, "k", "a");
    assert_eq!(holders(&mut client, "k").len(), 0);
}

#[test]
fn what_is_no_level_is_an_error_and_changes_nothing() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a LEVEL 1");
    let before = standing(&mut client, "k");
    const RANGE: &str = "ERR LEVEL must be between 1 and 65535";
    for number in ["0", "-1", "65536", "9223372036854775807"] {
        fails(&mut client, &format!("LOCK.ACQUIRE k TOKEN a LEVEL {number}"), RANGE);
        fails(&mut client, &format!("LOCK.RELEASE k a LEVEL {number}"), RANGE);
    }
    for number in ["x", "1.5", "01"] {
        fails(&mut client, &format!("LOCK.ACQUIRE k TOKEN a LEVEL {number}"), errors::NOT_AN_INTEGER);
        fails(&mut client, &format!("LOCK.RELEASE k a LEVEL {number}"), errors::NOT_AN_INTEGER);
    }
    for words in
        ["ACQUIRE k TOKEN a REENTRANT", "ACQUIRE k LEVEL", "ACQUIRE k LEVEL 1 LEVEL 1", "RELEASE k a LEVEL"]
    {
        fails(&mut client, &format!("LOCK.{words}"), errors::SYNTAX);
    }
    fails(&mut client, "LOCK.RELEASE k a LEVEL 1 LEVEL 1", errors::SYNTAX);
    fails(&mut client, "LOCK.RELEASE k a PX 1", errors::SYNTAX);
    assert_eq!(standing(&mut client, "k"), before);
}
