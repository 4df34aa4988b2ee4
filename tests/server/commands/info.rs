//! LOCK.INFO: what an operator sees of a lock.

use crate::support::errors::{self, fails};
use crate::support::locks::{acquire, field, field_names, held, holder, holders, null, standing};
use crate::support::{Client, PATIENCE, Reply, Server, Waiter, cmd, wait_until};

const HOLD_FIELDS: [&str; 10] =
    ["owner", "fence", "limit", "weight", "lease", "remaining", "level", "session", "address", "age"];

#[test]
fn a_missing_key_is_null() {
    let server = Server::start();
    assert_eq!(server.client().run("LOCK.INFO k"), Reply::NullArray);
    assert_eq!(server.client3().run("LOCK.INFO k"), Reply::Null);
}

#[test]
fn resp2_has_flat_arrays_and_resp3_maps_of_the_same_fields() {
    let server = Server::start();
    acquire(&mut server.client(), "k TOKEN a");
    let flat = server.client().run("LOCK.INFO k");
    let mapped = server.client3().run("LOCK.INFO k");
    assert!(matches!(flat, Reply::Array(_)), "{flat:?}");
    assert!(matches!(mapped, Reply::Map(_)), "{mapped:?}");
    for info in [flat, mapped] {
        assert_eq!(field_names(&info), ["holders", "held", "waiting", "queue"]);
        let holders = field(&info, "holders");
        assert_eq!(field_names(holders.items().first().unwrap()), HOLD_FIELDS);
        assert_eq!(field(&info, "waiting"), Reply::Int(0));
        assert_eq!(field(&info, "queue"), Reply::Array(Vec::new()));
    }
}

#[test]
fn a_hold_in_resp3_is_a_map_and_in_resp2_a_flat_array() {
    let server = Server::start();
    acquire(&mut server.client(), "k");
    let flat = holder(&mut server.client(), "k");
    let mapped = holder(&mut server.client3(), "k");
    assert!(matches!(flat, Reply::Array(_)), "{flat:?}");
    assert!(matches!(mapped, Reply::Map(_)), "{mapped:?}");
}

#[test]
fn a_hold_shows_what_it_was_granted_with() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        let grant = acquire(&mut client, "k TOKEN a PX 60000 LIMIT 4 OWNER me");
        let hold = holder(&mut client, "k");
        assert_eq!(field(&hold, "owner"), Reply::Bulk(b"me".to_vec()));
        assert_eq!(field(&hold, "fence"), Reply::Int(grant.fence));
        assert_eq!(field(&hold, "limit"), Reply::Int(4));
        assert_eq!(field(&hold, "lease"), Reply::Int(60_000));
        assert_eq!(field(&hold, "level"), Reply::Int(1));
        let left = field(&hold, "remaining").int();
        assert!(left > 30_000 && left <= 60_000, "{left} ms left");
        let age = field(&hold, "age").int();
        assert!((0..30_000).contains(&age), "{age} ms old");
        client.run("LOCK.RELEASE k a");
    }
}

#[test]
fn what_was_not_given_is_null_and_shared_is_limit_0() {
    let server = Server::start();
    acquire(&mut server.client(), "k SHARED");
    for (mut client, null) in [(server.client(), Reply::NullBulk), (server.client3(), Reply::Null)] {
        let hold = holder(&mut client, "k");
        assert_eq!(field(&hold, "owner"), null);
        assert_eq!(field(&hold, "session"), null);
        assert_eq!(field(&hold, "limit"), Reply::Int(0));
    }
}

#[test]
fn holders_stand_in_the_order_of_their_grants() {
    let server = Server::start();
    let mut client = server.client();
    let mut fences = Vec::new();
    for n in 0..20 {
        // Neither tokens nor leases are in that order.
        let token = (n * 7) % 20;
        let lease = 90_000 - 1_000 * ((n * 3) % 20);
        let grant = acquire(&mut client, &format!("k SHARED TOKEN t{token} PX {lease}"));
        fences.push(Reply::Int(grant.fence));
    }
    let shown = |client: &mut _| -> Vec<Reply> {
        holders(client, "k").iter().map(|hold| field(hold, "fence")).collect()
    };
    assert_eq!(shown(&mut client), fences);
    client.run("LOCK.RELEASE k t7");
    fences.remove(1);
    acquire(&mut client, "k TOKEN t0");
    client.run("LOCK.EXTEND k t14 PX 1000000");
    assert_eq!(shown(&mut client), fences, "a retry keeps its place");
}

#[test]
fn age_grows_and_the_time_left_shrinks() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    let moving = |hold: &Reply| (field(hold, "age").int(), field(hold, "remaining").int());
    let (age, left) = moving(&holder(&mut client, "k"));
    wait_until("time passes for the hold", PATIENCE, || {
        let (older, less) = moving(&holder(&mut client, "k"));
        older >= age + 20 && less <= left - 20
    });
    // In one write, since what is left shrinks again.
    let replies = client.run_all(&["LOCK.EXTEND k a", "LOCK.INFO k"]);
    let (older, more) = moving(&field(&replies[1], "holders").items()[0]);
    assert!(older >= age + 20, "an extension makes no hold younger");
    assert!(more > left - 20, "but it has its time again");
}

#[test]
fn a_token_is_never_shown() {
    let server = Server::start();
    let tokens = ["tell-nobody-1", "tell-nobody-2"];
    for token in tokens {
        acquire(&mut server.client(), &format!("k SHARED OWNER me TOKEN {token}"));
    }
    let generated = acquire(&mut server.client(), "k SHARED").token;
    let generated = String::from_utf8(generated).unwrap();
    for mut client in [server.client(), server.client3()] {
        let shown = format!("{:?}", client.run("LOCK.INFO k"));
        assert!(shown.contains("me"));
        for token in tokens.iter().copied().chain([generated.as_str()]) {
            assert!(!shown.contains(token), "{shown}");
        }
    }
}

#[test]
fn looking_changes_nothing() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k");
    let dirty = client.info("persistence", "rdb_changes_since_last_save");
    let first = standing(&mut client, "k");
    assert_eq!(standing(&mut client, "k"), first);
    assert_eq!(client.run("LOCK.INFO missing"), null(&client));
    assert_eq!(client.run("DBSIZE"), Reply::Int(1));
    assert_eq!(client.info("persistence", "rdb_changes_since_last_save"), dirty);
}

#[test]
fn what_is_no_lock_is_an_error() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("SET s a");
    fails(&mut client, "LOCK.INFO s", errors::WRONG_TYPE);
    let arity = errors::arity("lock.info");
    for command in ["LOCK.INFO", "LOCK.INFO k k"] {
        fails(&mut client, command, &arity);
    }
    let empty = client.call(&cmd!["LOCK.INFO", ""]);
    assert_eq!(empty, null(&client), "an empty key is a key");
}

#[test]
fn connections_are_shown_so_that_they_can_be_ended() {
    let server = Server::start();
    let mut session = server.client();
    let mut client = server.client();
    acquire(&mut session, "k TOKEN a SESSION");
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    let list = client.run("CLIENT LIST").text();
    let address = |id: i64| {
        let line = list.lines().find(|line| line.starts_with(&format!("id={id} "))).unwrap();
        let parts = line.split(' ').find_map(|part| part.strip_prefix("addr="));
        Reply::Bulk(parts.unwrap().as_bytes().to_vec())
    };
    let hold = holder(&mut client, "k");
    let id = session.id();
    assert_eq!((field(&hold, "session"), field(&hold, "address")), (Reply::Int(id), address(id)));
    let entry = field(&client.run("LOCK.INFO k"), "queue").items()[0].clone();
    assert_eq!(
        (field(&entry, "client"), field(&entry, "address")),
        (Reply::Int(waiter.id), address(waiter.id))
    );
    assert_eq!(client.run(&format!("CLIENT UNBLOCK {}", field(&entry, "client").int())), Reply::Int(1));
    waiter.refused();
    assert_eq!(client.run(&format!("CLIENT KILL ID {}", field(&hold, "session").int())), Reply::Int(1));
    wait_until("the session has ended", PATIENCE, || client.run("EXISTS k") == Reply::Int(0));
    acquire(&mut client, "k TOKEN a");
    let hold = holder(&mut client, "k");
    assert_eq!((field(&hold, "session"), field(&hold, "address")), (Reply::NullBulk, Reply::NullBulk));
}

#[test]
fn the_oldest_hundred_holders_are_shown_and_how_many_there_are() {
    let server = Server::start();
    let mut client = server.client();
    let fences: Vec<i64> =
        (0..150).map(|n| acquire(&mut client, &format!("k SHARED TOKEN t{n}")).fence).collect();
    assert_eq!(held(&mut client, "k"), 150);
    let shown: Vec<i64> = holders(&mut client, "k").iter().map(|hold| field(hold, "fence").int()).collect();
    assert_eq!(shown, fences[..100]);
}

#[test]
fn a_holder_is_told_how_many_wait() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let waiting = |client: &mut Client| client.run("LOCK.CHECK k a").items()[2].int();
    assert_eq!(waiting(&mut client), 0);
    let first = Waiter::new(&server, "k BLOCK 0");
    let second = Waiter::new(&server, "k SHARED BLOCK 0");
    assert_eq!(waiting(&mut client), 2);
    for gone in [first, second] {
        client.run(&format!("CLIENT UNBLOCK {}", gone.id));
    }
    assert_eq!(waiting(&mut client), 0);
}
