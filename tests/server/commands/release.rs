//! LOCK.RELEASE: who holds gives back, and nobody else.

use crate::support::errors::{self, fails};
use crate::support::locks::{acquire, exists, holders, standing};
use crate::support::{Reply, Server, cmd, ok_grant};

#[test]
fn the_holder_releases_and_the_key_is_gone() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        let grant = acquire(&mut client, "k");
        let release = cmd!["LOCK.RELEASE", "k", grant.token];
        assert_eq!(client.call(&release), Reply::Int(1));
        assert!(!exists(&mut client, "k"));
        assert_eq!(client.run("TYPE k"), Reply::Simple("none".into()));
        assert_eq!(client.run("DBSIZE"), Reply::Int(0), "nothing is left");
        assert_eq!(client.call(&release), Reply::Int(0), "only once");
    }
}

#[test]
fn whoever_knows_the_token_may_release_from_any_connection() {
    let server = Server::start();
    acquire(&mut server.client(), "k TOKEN a");
    assert_eq!(server.client().run("LOCK.RELEASE k a"), Reply::Int(1));
}

#[test]
fn after_a_release_the_next_one_is_granted() {
    let server = Server::start();
    let mut client = server.client();
    let replies = client.run_all(&[
        "LOCK.ACQUIRE k TOKEN a",
        "LOCK.ACQUIRE k TOKEN b",
        "LOCK.RELEASE k a",
        "LOCK.ACQUIRE k TOKEN b",
        "LOCK.RELEASE k a",
        "LOCK.RELEASE k b",
    ]);
    let mut replies = replies.into_iter();
    let mut next = || replies.next().unwrap_or(Reply::Null);
    let first = ok_grant(next());
    assert_eq!(next(), Reply::NullArray);
    assert_eq!(next(), Reply::Int(1));
    assert!(ok_grant(next()).1 > first.1);
    assert_eq!(next(), Reply::Int(0), "the old holder has no say");
    assert_eq!(next(), Reply::Int(1));
}

#[test]
fn another_token_releases_nothing() {
    let server = Server::start();
    let mut client = server.client();
    let token = b"tok\0en".to_vec();
    ok_grant(client.call(&cmd!["LOCK.ACQUIRE", "k", "TOKEN", token]));
    let before = standing(&mut client, "k");
    let strangers: [&[u8]; 9] =
        [b"other", b"t", b"tok", b"tok\0e", b"tok\0en\0", b"tok\0en ", b"Tok\0en", b"tok\0eN", b"\0"];
    for stranger in strangers {
        assert_eq!(
            client.call(&cmd!["LOCK.RELEASE", "k", stranger]),
            Reply::Int(0),
            "{}",
            stranger.escape_ascii()
        );
    }
    assert_eq!(standing(&mut client, "k"), before);
    assert_eq!(client.call(&cmd!["LOCK.RELEASE", "k", token]), Reply::Int(1));
}

#[test]
fn a_token_opens_only_the_key_it_holds() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    acquire(&mut client, "l TOKEN b");
    assert_eq!(client.run("LOCK.RELEASE l a"), Reply::Int(0));
    assert_eq!(client.run("LOCK.RELEASE K a"), Reply::Int(0));
    assert_eq!(client.run("LOCK.RELEASE k a"), Reply::Int(1));
    assert_eq!(client.run("LOCK.RELEASE l b"), Reply::Int(1));
}

#[test]
fn one_of_several_holders_leaves_and_the_others_stay() {
    let server = Server::start();
    let mut client = server.client();
    for token in ["a", "b", "c"] {
        acquire(&mut client, &format!("k SHARED TOKEN {token}"));
    }
    for (token, left) in [("b", 2), ("a", 1), ("c", 0)] {
        assert_eq!(client.run(&format!("LOCK.RELEASE k {token}")), Reply::Int(1));
        assert_eq!(holders(&mut client, "k").len(), left);
        assert_eq!(exists(&mut client, "k"), left > 0);
    }
}

#[test]
fn a_missing_key_gives_0_and_is_not_created() {
    let server = Server::start();
    let mut client = server.client();
    assert_eq!(client.run("LOCK.RELEASE k a"), Reply::Int(0));
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
}

#[test]
fn what_cannot_be_released_is_an_error() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("SET s a");
    acquire(&mut client, "k TOKEN a");
    fails(&mut client, "LOCK.RELEASE s a", errors::WRONG_TYPE);
    assert_eq!(client.run("GET s").text(), "a");
    let arity = errors::arity("lock.release");
    for command in ["LOCK.RELEASE", "LOCK.RELEASE k"] {
        fails(&mut client, command, &arity);
    }
    for command in ["LOCK.RELEASE k a a", "LOCK.RELEASE k a LEVEL", "LOCK.RELEASE k a LEVEL 1 LEVEL 1"] {
        fails(&mut client, command, errors::SYNTAX);
    }
    for length in [0, 256] {
        let token = "x".repeat(length);
        for key in ["k", "missing"] {
            errors::call_fails(&mut client, &cmd!["LOCK.RELEASE", key, token], errors::TOKEN);
        }
    }
    assert!(exists(&mut client, "k"));
}
