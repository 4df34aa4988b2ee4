//! LOCK.BREAK: an operator ends holds that are not its own.

use crate::support::errors::{self, fails};
use crate::support::locks::{acquire, exists, field, holders, null, standing};
use crate::support::{Reply, Server};

#[test]
fn all_holds_end_whoever_owns_them() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        for token in ["a", "b", "c"] {
            acquire(&mut client, &format!("k SHARED TOKEN {token}"));
        }
        assert_eq!(client.run("LOCK.BREAK k"), Reply::Int(3));
        assert!(!exists(&mut client, "k"));
        assert_eq!(client.run("LOCK.BREAK k"), Reply::Int(0));
    }
}

#[test]
fn an_owner_whose_hold_was_broken_holds_nothing() {
    let server = Server::start();
    let mut client = server.client();
    let grant = acquire(&mut client, "k TOKEN a");
    assert_eq!(client.run("LOCK.BREAK k"), Reply::Int(1));
    assert_eq!(client.run("LOCK.CHECK k a"), null(&client));
    assert_eq!(client.run("LOCK.EXTEND k a"), Reply::Int(0));
    assert_eq!(client.run("LOCK.RELEASE k a"), Reply::Int(0));
    let again = acquire(&mut client, "k TOKEN a");
    assert!(again.fence > grant.fence, "a new hold has a new fence");
}

#[test]
fn with_a_fence_only_that_hold_ends() {
    let server = Server::start();
    let mut client = server.client();
    let fences = ["a", "b", "c"].map(|token| acquire(&mut client, &format!("k SHARED TOKEN {token}")).fence);
    let [first, second, third] = fences;
    let break_second = format!("lock.break k fence {second}");
    assert_eq!(client.run(&break_second), Reply::Int(1));
    assert_eq!(client.run(&break_second), Reply::Int(0));
    let left: Vec<Reply> = holders(&mut client, "k").iter().map(|hold| field(hold, "fence")).collect();
    assert_eq!(left, [Reply::Int(first), Reply::Int(third)]);
    assert_eq!(client.run("LOCK.CHECK k b"), null(&client));
    for fence in [first, third] {
        let command = format!("LOCK.BREAK k FENCE {fence}");
        assert_eq!(client.run(&command), Reply::Int(1));
    }
    assert!(!exists(&mut client, "k"), "the last hold takes the key");
}

#[test]
fn a_successor_of_what_the_operator_saw_is_not_broken() {
    let server = Server::start();
    let mut client = server.client();
    let seen = acquire(&mut client, "k TOKEN a").fence;
    client.run("LOCK.RELEASE k a");
    acquire(&mut client, "k TOKEN b");
    let before = standing(&mut client, "k");
    let command = format!("LOCK.BREAK k FENCE {seen}");
    assert_eq!(client.run(&command), Reply::Int(0));
    assert_eq!(standing(&mut client, "k"), before);
}

#[test]
fn a_fence_that_names_no_hold_breaks_nothing() {
    let server = Server::start();
    let mut client = server.client();
    let fence = acquire(&mut client, "k").fence;
    acquire(&mut client, "l");
    let before = standing(&mut client, "k");
    for other in [fence - 1, fence + 1, 0, -1, -fence, i64::MAX, i64::MIN] {
        let command = format!("LOCK.BREAK k FENCE {other}");
        assert_eq!(client.run(&command), Reply::Int(0), "{command}");
    }
    assert_eq!(
        client.run(&format!("LOCK.BREAK l FENCE {fence}")),
        Reply::Int(0),
        "a fence belongs to its key"
    );
    assert_eq!(standing(&mut client, "k"), before);
}

#[test]
fn a_missing_key_gives_0() {
    let server = Server::start();
    let mut client = server.client();
    for command in ["LOCK.BREAK k", "LOCK.BREAK k FENCE 1"] {
        assert_eq!(client.run(command), Reply::Int(0));
    }
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
}

#[test]
fn what_cannot_be_broken_is_an_error_and_changes_nothing() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("SET s a");
    acquire(&mut client, "k TOKEN a");
    let before = standing(&mut client, "k");
    fails(&mut client, "LOCK.BREAK s", errors::WRONG_TYPE);
    fails(&mut client, "LOCK.BREAK s FENCE 1", errors::WRONG_TYPE);
    assert_eq!(client.run("GET s").text(), "a");
    fails(&mut client, "LOCK.BREAK", &errors::arity("lock.break"));
    for options in [
        "FENCE",
        "1",
        "a",
        "TOKEN a",
        "FENCES 1",
        "FENCE 1 2",
        "FENCE 1 FENCE 1",
        "FENCE x FENCE 1",
        "FENCE x 1",
    ] {
        let command = format!("LOCK.BREAK k {options}");
        fails(&mut client, &command, errors::SYNTAX);
    }
    for number in ["abc", "+1", "01", "1.0", "9223372036854775808", "-0"] {
        let command = format!("LOCK.BREAK k FENCE {number}");
        fails(&mut client, &command, errors::NOT_AN_INTEGER);
    }
    assert_eq!(standing(&mut client, "k"), before);
}

#[test]
fn each_break_is_a_line_in_the_log_that_says_who_ended_what() {
    let server = Server::start();
    let mut client = server.client();
    let list = client.run("CLIENT LIST").text();
    let own = format!("id={} ", client.id());
    let line = list.lines().find(|line| line.starts_with(&own)).unwrap();
    let address = line.split(' ').find_map(|part| part.strip_prefix("addr=")).unwrap().to_owned();
    let one = acquire(&mut client, "secret-key TOKEN secret-token SHARED").fence;
    let two = acquire(&mut client, "secret-key TOKEN other SHARED").fence;
    client.run("LOCK.BREAK secret-key FENCE 1");
    client.run("LOCK.BREAK nothing");
    assert!(!server.log().contains("LOCK.BREAK"), "nothing was broken");
    client.run("LOCK.BREAK secret-key");
    let line = format!("LOCK.BREAK by user default from {address}: ended fence {one}, {two}\n");
    assert!(server.log().contains(&line), "{line}");
    assert!(!server.log().contains("secret"), "neither key nor token is named");
    assert_eq!(server.log().matches("LOCK.BREAK").count(), 1);
}

#[test]
fn no_name_of_a_user_and_no_crowd_of_holds_breaks_the_log() {
    let server = Server::start();
    let mut client = server.client();
    let name = b"a%s%n\x1bb\xff".to_vec();
    client.call(&[
        b"ACL".to_vec(),
        b"SETUSER".to_vec(),
        name.clone(),
        b"on".to_vec(),
        b"nopass".to_vec(),
        b"~*".to_vec(),
        b"+@all".to_vec(),
    ]);
    let mut operator = server.client();
    assert_eq!(operator.call(&[b"AUTH".to_vec(), name, b"x".to_vec()]), Reply::Simple("OK".into()));
    for n in 0..150 {
        acquire(&mut client, &format!("k SHARED TOKEN t{n}"));
    }
    assert_eq!(operator.run("LOCK.BREAK k"), Reply::Int(150));
    let log = server.log();
    let line = log.lines().find(|line| line.contains("LOCK.BREAK")).unwrap();
    assert!(line.contains("by user a%s%n\\x1bb\\xff from 127.0.0.1:"), "{line}");
    assert!(line.ends_with(" and 118 more"), "{line}");
    acquire(&mut client, "k TOKEN a");
    let script = "return redis.call('LOCK.BREAK', KEYS[1])";
    assert_eq!(client.call(&["EVAL", script, "1", "k"]), Reply::Int(1));
    assert!(
        server.log().contains(
            "LOCK.BREAK by user unknown from a script, or a connection older than the module: ended fence "
        ),
        "{}",
        server.log()
    );
}
