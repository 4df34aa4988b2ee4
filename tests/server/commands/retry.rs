//! A token that already holds the lock is granted again: what a client does whose reply was lost.

use crate::support::errors::{self, fails};
use crate::support::locks::{acquire, exists, field, holder, holders, refused, remaining, standing};
use crate::support::{PATIENCE, Reply, Server, cmd, ok_grant, wait_until};

#[test]
fn a_retry_is_granted_at_once_with_the_same_fence() {
    let server = Server::start();
    let first = acquire(&mut server.client(), "k TOKEN a");
    for mut client in [server.client(), server.client3()] {
        assert_eq!(acquire(&mut client, "k TOKEN a"), first);
        let hold = holder(&mut client, "k");
        assert_eq!(field(&hold, "level"), Reply::Int(1), "the level stays");
        assert_eq!(field(&hold, "fence"), Reply::Int(first.fence));
    }
    let mut client = server.client();
    assert_eq!(client.run("LOCK.RELEASE k a"), Reply::Int(1));
    assert!(!exists(&mut client, "k"), "one release ends it");
}

#[test]
fn a_generated_token_can_be_brought_again() {
    let server = Server::start();
    let mut client = server.client();
    let first = acquire(&mut client, "k");
    let again = ok_grant(client.call(&cmd!["LOCK.ACQUIRE", "k", "TOKEN", first.token]));
    assert_eq!(again, (first.token, first.fence));
}

#[test]
fn a_retry_sets_the_lease_anew() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    for (options, lease) in [("PX 80000", 80_000), ("PX 9000", 9_000), ("EX 70", 70_000)] {
        acquire(&mut client, &format!("k TOKEN a {options}"));
        let left = remaining(&mut client, "k", "a").unwrap_or_default();
        assert!(left > lease / 2 && left <= lease, "{options}: {left}");
        let hold = holder(&mut client, "k");
        assert_eq!(field(&hold, "lease"), Reply::Int(lease), "{options}");
    }
}

#[test]
fn a_retry_with_the_same_lease_begins_it_again() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    wait_until("some of the lease is used", PATIENCE, || remaining(&mut client, "k", "a") < Some(59_980));
    acquire(&mut client, "k TOKEN a PX 60000");
    let hold = holder(&mut client, "k");
    let gone = 60_000 - field(&hold, "remaining").int();
    let age = field(&hold, "age").int();
    assert!(gone < age, "{gone} ms of the lease used at an age of {age} ms");
}

#[test]
fn a_retry_without_a_lease_gets_the_default_lease() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    acquire(&mut client, "k TOKEN a");
    assert_eq!(field(&holder(&mut client, "k"), "lease"), Reply::Int(30_000));
    assert!(remaining(&mut client, "k", "a") <= Some(30_000));
}

#[test]
fn a_retry_keeps_the_limit_it_does_not_name() {
    let server = Server::start();
    let mut client = server.client();
    for (key, option, shown) in [("s", "SHARED", 0), ("n", "LIMIT 3", 3), ("x", "", 1)] {
        acquire(&mut client, &format!("{key} TOKEN a {option}"));
        acquire(&mut client, &format!("{key} TOKEN a PX 50000"));
        let hold = holder(&mut client, key);
        assert_eq!(field(&hold, "limit"), Reply::Int(shown), "{option}");
    }
    acquire(&mut client, "s TOKEN b SHARED");
    acquire(&mut client, "s TOKEN a");
    acquire(&mut client, "s TOKEN c SHARED");
}

#[test]
fn a_retry_takes_the_new_label_and_keeps_the_old_one_otherwise() {
    let server = Server::start();
    let mut client = server.client();
    let steps = [("OWNER one", "one"), ("", "one"), ("OWNER two", "two"), ("PX 50000", "two")];
    for (options, label) in steps {
        acquire(&mut client, &format!("k TOKEN a {options}"));
        let hold = holder(&mut client, "k");
        assert_eq!(field(&hold, "owner"), Reply::Bulk(label.into()), "{options}");
    }
}

#[test]
fn a_holder_of_a_full_lock_is_granted_again() {
    let server = Server::start();
    let mut client = server.client();
    let grants = ["a", "b", "c"].map(|token| acquire(&mut client, &format!("k LIMIT 3 TOKEN {token}")));
    refused(&mut client, "k LIMIT 3 TOKEN d");
    for (token, grant) in ["a", "b", "c"].iter().zip(grants) {
        for options in ["", "LIMIT 3"] {
            let again = acquire(&mut client, &format!("k TOKEN {token} {options}"));
            assert_eq!(again, grant);
        }
    }
    assert_eq!(holders(&mut client, "k").len(), 3);
}

#[test]
fn a_refused_change_of_limit_leaves_the_hold_wholly_as_it_was() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k SHARED TOKEN a PX 40000 OWNER me");
    acquire(&mut client, "k SHARED TOKEN b PX 40000");
    let before = standing(&mut client, "k");
    for options in ["LIMIT 1", "LIMIT 1 PX 80000 OWNER you", "OWNER you PX 1 LIMIT 1"] {
        refused(&mut client, &format!("k TOKEN a {options}"));
        assert_eq!(standing(&mut client, "k"), before, "{options}");
        let left = remaining(&mut client, "k", "a").unwrap_or_default();
        assert!(left > 1 && left <= 40_000, "{options}: {left}");
    }
}

#[test]
fn a_granted_change_of_limit_is_a_retry_too() {
    let server = Server::start();
    let mut client = server.client();
    let first = acquire(&mut client, "k SHARED TOKEN a PX 40000 OWNER me");
    let changed = acquire(&mut client, "k LIMIT 1 TOKEN a PX 80000 OWNER you");
    assert_eq!(changed, first, "same token, same fence");
    let hold = holder(&mut client, "k");
    assert_eq!(field(&hold, "limit"), Reply::Int(1));
    assert_eq!(field(&hold, "lease"), Reply::Int(80_000));
    assert_eq!(field(&hold, "owner"), Reply::Bulk(b"you".to_vec()));
    assert_eq!(field(&hold, "level"), Reply::Int(1));
}

#[test]
fn a_retry_that_fails_changes_nothing() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 40000 OWNER me");
    let before = standing(&mut client, "k");
    let too_long = "x".repeat(256);
    for (options, error) in [
        ("PX 0", errors::invalid_expire("lock.acquire")),
        ("OWNER you PX 86400001", errors::invalid_expire("lock.acquire")),
        ("SHARED PX abc", errors::NOT_AN_INTEGER.to_owned()),
        ("PX 80000 LIMIT 65536", errors::LIMIT.to_owned()),
        (&format!("PX 80000 OWNER {too_long}"), errors::OWNER.to_owned()),
        ("PX 80000 OWNER you SHARED LIMIT 1", errors::SYNTAX.to_owned()),
    ] {
        fails(&mut client, &format!("LOCK.ACQUIRE k TOKEN a {options}"), &error);
        assert_eq!(standing(&mut client, "k"), before, "{options}");
        assert!(remaining(&mut client, "k", "a") <= Some(40_000), "{options}");
    }
}

#[test]
fn a_token_that_no_longer_holds_the_lock_is_no_retry() {
    let server = Server::start();
    let mut client = server.client();
    let first = acquire(&mut client, "k TOKEN a LIMIT 5 OWNER me");
    client.run("LOCK.RELEASE k a");
    let second = acquire(&mut client, "k TOKEN a");
    assert!(second.fence > first.fence);
    let hold = holder(&mut client, "k");
    assert_eq!(field(&hold, "limit"), Reply::Int(1), "nothing is remembered");
    assert_eq!(field(&hold, "owner"), Reply::NullBulk);
    client.run("LOCK.RELEASE k a");
    acquire(&mut client, "k TOKEN b");
    refused(&mut client, "k TOKEN a");
}

#[test]
fn the_same_token_on_two_keys_is_two_holds() {
    let server = Server::start();
    let mut client = server.client();
    let one = acquire(&mut client, "k TOKEN a");
    let two = acquire(&mut client, "l TOKEN a");
    assert!(two.fence > one.fence);
    client.run("LOCK.RELEASE k a");
    assert!(exists(&mut client, "l"));
}
