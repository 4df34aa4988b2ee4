//! LOCK.EXTEND: a holder sets its lease anew.

use crate::support::errors::{self, fails};
use crate::support::locks::{acquire, exists, field, holder, holders, remaining, standing};
use crate::support::{Client, Reply, Server, cmd};

#[test]
fn the_holder_gets_the_given_time_from_now() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        acquire(&mut client, "k TOKEN a PX 5000");
        for (option, lease) in [("PX 60000", 60_000), ("EX 90", 90_000), ("px 7000", 7_000)] {
            assert_eq!(client.run(&format!("LOCK.EXTEND k a {option}")), Reply::Int(1));
            assert_lease(&mut client, lease);
        }
        client.run("LOCK.RELEASE k a");
    }
}

#[test]
fn without_a_time_it_gets_its_own_lease_again() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 70000");
    assert_eq!(client.run("LOCK.EXTEND k a"), Reply::Int(1));
    assert_lease(&mut client, 70_000);
    assert_eq!(client.run("LOCK.EXTEND k a PX 9000"), Reply::Int(1));
    assert_eq!(client.run("LOCK.EXTEND k a"), Reply::Int(1));
    assert_lease(&mut client, 9_000);
}

#[test]
fn an_extension_changes_the_lease_and_nothing_else() {
    let server = Server::start();
    let mut client = server.client();
    let grant = acquire(&mut client, "k TOKEN a PX 60000 LIMIT 3 OWNER me");
    assert_eq!(client.run("LOCK.EXTEND k a PX 80000"), Reply::Int(1));
    let hold = holder(&mut client, "k");
    assert_eq!(field(&hold, "fence"), Reply::Int(grant.fence));
    assert_eq!(field(&hold, "limit"), Reply::Int(3));
    assert_eq!(field(&hold, "owner"), Reply::Bulk(b"me".to_vec()));
    assert_eq!(field(&hold, "level"), Reply::Int(1));
}

#[test]
fn one_of_several_holders_extends_its_own_lease_only() {
    let server = Server::start();
    let mut client = server.client();
    for token in ["a", "b", "c"] {
        acquire(&mut client, &format!("k SHARED TOKEN {token} PX 50000"));
    }
    assert_eq!(client.run("LOCK.EXTEND k b PX 80000"), Reply::Int(1));
    let leases: Vec<Reply> = holders(&mut client, "k").iter().map(|hold| field(hold, "lease")).collect();
    assert_eq!(leases, [50_000, 80_000, 50_000].map(Reply::Int));
}

#[test]
fn another_token_extends_nothing() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN abc PX 60000");
    let before = standing(&mut client, "k");
    for stranger in ["ab", "abcd", "ABC", "x"] {
        for option in ["", " PX 80000", " EX 1"] {
            let command = format!("LOCK.EXTEND k {stranger}{option}");
            assert_eq!(client.run(&command), Reply::Int(0), "{command}");
        }
    }
    assert_eq!(standing(&mut client, "k"), before);
}

#[test]
fn a_missing_key_gives_0_and_is_not_created() {
    let server = Server::start();
    let mut client = server.client();
    for command in ["LOCK.EXTEND k a", "LOCK.EXTEND k a PX 100"] {
        assert_eq!(client.run(command), Reply::Int(0));
    }
    acquire(&mut client, "k TOKEN a");
    client.run("LOCK.RELEASE k a");
    assert_eq!(client.run("LOCK.EXTEND k a PX 100"), Reply::Int(0));
    assert!(!exists(&mut client, "k"));
}

#[test]
fn what_cannot_be_extended_is_an_error_and_changes_nothing() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("SET s a");
    acquire(&mut client, "k TOKEN a PX 60000");
    let before = standing(&mut client, "k");
    fails(&mut client, "LOCK.EXTEND s a PX 100", errors::WRONG_TYPE);
    fails(&mut client, "LOCK.EXTEND s a", errors::WRONG_TYPE);
    assert_eq!(client.run("PTTL s"), Reply::Int(-1));
    let arity = errors::arity("lock.extend");
    for command in ["LOCK.EXTEND", "LOCK.EXTEND k"] {
        fails(&mut client, command, &arity);
    }
    for options in [
        "PX",
        "EX",
        "100",
        "PX 100 PX 100",
        "PX 100 EX 1",
        "PX 100 100",
        "PX abc EX 1",
        "PX 0 WHAT",
        "TOKEN a",
        "OWNER a",
        "SHARED",
        "LIMIT 2",
    ] {
        let command = format!("LOCK.EXTEND k a {options}");
        fails(&mut client, &command, errors::SYNTAX);
    }
    for number in ["abc", "+5", "05", "1.5", "9223372036854775808"] {
        for option in ["PX", "EX"] {
            let command = format!("LOCK.EXTEND k a {option} {number}");
            fails(&mut client, &command, errors::NOT_AN_INTEGER);
        }
    }
    let invalid = errors::invalid_expire("lock.extend");
    for option in
        ["PX 0", "PX -1", "PX 86400001", "EX 0", "EX 86401", "EX 9223372036854775807", "EX 18446744073709552"]
    {
        fails(&mut client, &format!("LOCK.EXTEND k a {option}"), &invalid);
    }
    for length in [0, 256] {
        let token = "x".repeat(length);
        errors::call_fails(&mut client, &cmd!["LOCK.EXTEND", "k", token], errors::TOKEN);
    }
    assert_eq!(standing(&mut client, "k"), before);
}

/// The hold of token `a` on `k` has this lease, and it has just begun.
#[track_caller]
fn assert_lease(client: &mut Client, lease: i64) {
    assert_eq!(field(&holder(client, "k"), "lease"), Reply::Int(lease));
    let left = remaining(client, "k", "a").unwrap_or_default();
    assert!(left > lease / 2 && left <= lease, "{left} of {lease} left");
}
