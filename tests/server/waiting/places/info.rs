//! What LOCK.INFO and LOCK.CHECK show of places.

use super::{Listener, call_next, claim, entries, held, lose, patient, place, tickets};
use crate::support::locks::{acquire, exists, field, field_names, null};
use crate::support::waiter::{owners, release, waiting};
use crate::support::{PATIENCE, Reply, Server, Waiter, wait_until};

const BLOCKED: [&str; 7] = ["owner", "limit", "weight", "waited", "timeout", "client", "address"];
const WITHOUT_CONNECTION: [&str; 6] = ["owner", "limit", "weight", "waited", "timeout", "ticket"];

#[test]
fn places_and_blocked_clients_are_shown_in_their_order_each_with_what_it_has() {
    let (server, mut client) = held();
    let first = place(&mut client, "k TOKEN b OWNER one QUEUE 60000");
    let _second = Waiter::new(&server, "k TOKEN c SHARED BLOCK 600000 QUEUE 3000000");
    let third = place(&mut client, "k TOKEN d LIMIT 5 QUEUE 600000");
    let _fourth = Waiter::new(&server, "k TOKEN e BLOCK 0 QUEUE 600000");
    for (mut client, null) in [(server.client(), Reply::NullBulk), (server.client3(), Reply::Null)] {
        let info = client.run("LOCK.INFO k");
        assert_eq!(field(&info, "waiting"), Reply::Int(4));
        let queue = field(&info, "queue").items().to_vec();
        assert!(queue.iter().all(|entry| matches!(entry, Reply::Map(_)) == client.is_resp3()), "{queue:?}");
        let names: Vec<Vec<String>> = queue.iter().map(field_names).collect();
        assert_eq!(names[0], WITHOUT_CONNECTION);
        assert_eq!(names[1], BLOCKED);
        assert_eq!(names[2], WITHOUT_CONNECTION);
        assert_eq!(names[3], BLOCKED);
        let shown: Vec<_> =
            queue.iter().map(|entry| (field(entry, "owner"), field(entry, "limit").int())).collect();
        let due = [(Reply::Bulk(b"one".to_vec()), 1), (null.clone(), 0), (null.clone(), 5), (null, 1)];
        assert_eq!(shown, due);
        assert_eq!(field(&queue[0], "ticket"), Reply::Int(first));
        assert_eq!(field(&queue[2], "ticket"), Reply::Int(third));
        let timeouts: Vec<i64> = queue.iter().map(|entry| field(entry, "timeout").int()).collect();
        assert!(timeouts[0] > 30_000 && timeouts[0] <= 60_000, "what is left of QUEUE: {timeouts:?}");
        assert!(timeouts[1] > 570_000 && timeouts[1] <= 600_000, "what is left of BLOCK: {timeouts:?}");
        assert!(timeouts[2] > 570_000 && timeouts[2] <= 600_000, "{timeouts:?}");
        assert_eq!(timeouts[3], -1, "without end");
        assert!(queue.iter().all(|entry| (0..30_000).contains(&field(entry, "waited").int())), "{queue:?}");
        assert!(queue.is_sorted_by_key(|entry| -field(entry, "waited").int()), "{queue:?}");
    }
}

#[test]
fn waited_goes_on_over_repeats_and_timeout_begins_anew() {
    let (server, mut client) = held();
    let mut repeating = server.client();
    place(&mut repeating, "k TOKEN b QUEUE 60000");
    wait_until("time passes for the place", PATIENCE, || {
        let entry = entries(&mut client, "k")[0].clone();
        let (waited, timeout) = (field(&entry, "waited").int(), field(&entry, "timeout").int());
        assert!((waited + timeout - 60_000).abs() <= 2, "both from the same moment: {entry:?}");
        waited > 300
    });
    place(&mut repeating, "k TOKEN b QUEUE 60000");
    let entry = entries(&mut client, "k")[0].clone();
    let (waited, timeout) = (field(&entry, "waited").int(), field(&entry, "timeout").int());
    assert!(waited > 300, "{entry:?}");
    assert!(waited + timeout > 60_200, "the time of before does not count against it: {entry:?}");
    let _waiter = Waiter::on(&server, repeating, "k TOKEN b BLOCK 0 QUEUE 60000");
    assert!(field(&entries(&mut client, "k")[0], "waited").int() >= waited, "nor on a connection");
}

#[test]
fn a_place_that_lost_its_connection_shows_its_ticket_and_the_time_of_queue() {
    let (server, mut client) = held();
    let waiter = Waiter::new(&server, "k TOKEN b OWNER b BLOCK 0 QUEUE 60000");
    assert_eq!(field(&entries(&mut client, "k")[0], "client"), Reply::Int(waiter.id));
    lose(&server, "k", waiter);
    let entry = entries(&mut client, "k")[0].clone();
    assert_eq!(field_names(&entry), WITHOUT_CONNECTION);
    let timeout = field(&entry, "timeout").int();
    assert!(timeout > 30_000 && timeout <= 60_000, "{entry:?}");
    assert_eq!(place(&mut client, "k TOKEN b QUEUE 60000"), field(&entry, "ticket").int());
}

#[test]
fn who_was_called_is_shown_as_a_holder_with_its_label() {
    let (_server, mut client) = held();
    place(&mut client, "k TOKEN b OWNER called LIMIT 3 QUEUE 60000");
    call_next(&mut client, "k", "a", "b");
    assert_eq!(owners(&mut client, "k"), (vec!["called".to_owned()], vec![]));
    let info = client.run("LOCK.INFO k");
    assert_eq!(field(&info, "held"), Reply::Int(1));
    let hold = field(&info, "holders").items()[0].clone();
    assert_eq!(field(&hold, "limit"), Reply::Int(3));
    assert_eq!(field(&hold, "level"), Reply::Int(1));
    assert!(field(&hold, "session").is_null(), "{hold:?}");
}

#[test]
fn the_first_hundred_are_shown_and_all_are_counted() {
    let (_server, mut client) = held();
    for n in 0..130 {
        place(&mut client, &format!("k TOKEN t{n} OWNER w{n} QUEUE 600000"));
    }
    assert_eq!(waiting(&mut client, "k"), 130);
    let shown: Vec<String> =
        entries(&mut client, "k").iter().map(|entry| field(entry, "owner").text()).collect();
    assert_eq!(shown, (0..100).map(|n| format!("w{n}")).collect::<Vec<_>>());
}

#[test]
fn a_check_counts_places_and_blocked_clients() {
    let (server, mut client) = held();
    let counted = |client: &mut crate::support::Client, token: &str| {
        client.run(&format!("LOCK.CHECK k {token}")).items()[2].int()
    };
    assert_eq!(counted(&mut client, "a"), 0);
    place(&mut client, "k TOKEN b QUEUE 600000");
    place(&mut client, "k TOKEN b QUEUE 600000");
    assert_eq!(counted(&mut client, "a"), 1);
    let _waiter = Waiter::new(&server, "k TOKEN c BLOCK 0");
    place(&mut client, "k TOKEN d QUEUE 600000");
    assert_eq!(counted(&mut client, "a"), 3);
    assert_eq!(client.run("LOCK.CHECK k b"), null(&client), "who waits holds nothing");
    call_next(&mut client, "k", "a", "b");
    assert_eq!(counted(&mut client, "b"), 2);
    assert_eq!(client.run("LOCK.RELEASE k d"), Reply::Int(0));
    assert_eq!(counted(&mut client, "b"), 1);
}

#[test]
fn a_place_where_nobody_holds_the_lock_is_shown_while_it_must_wait() {
    let mut server = Server::builder().aof().config("lock.restart-grace 3600000").start();
    acquire(&mut server.client(), "other TOKEN a PX 600000");
    server.kill9();
    server.start_again();
    let mut client = server.client();
    let number = place(&mut client, "k TOKEN b QUEUE 600000");
    let info = client.run("LOCK.INFO k");
    assert_eq!(field(&info, "held"), Reply::Int(0));
    assert_eq!(field(&info, "waiting"), Reply::Int(1));
    assert_eq!(tickets(&mut client, "k"), [Some(number)]);
    assert!(!exists(&mut client, "k"), "a place is no key");
    assert_eq!(client.run("LOCK.RELEASE k b"), Reply::Int(0));
    assert_eq!(client.run("LOCK.INFO k"), null(&client));
}

#[test]
fn a_place_leaves_nothing_in_the_keyspace() {
    let server = patient();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    for n in 0..100 {
        place(&mut client, &format!("k TOKEN t{n} QUEUE 600000"));
    }
    assert_eq!(client.run("DBSIZE"), Reply::Int(1));
    assert_eq!(client.run("KEYS *"), Reply::Array(vec![Reply::Bulk(b"k".to_vec())]));
}

#[test]
fn no_token_of_a_place_is_shown_to_anybody() {
    let (server, mut client) = held();
    let mut listener = Listener::of(&server, "k");
    place(&mut client, "k TOKEN secret-of-a-place OWNER one QUEUE 600000");
    let _waiter = Waiter::new(&server, "k TOKEN secret-of-a-waiter BLOCK 0 QUEUE 600000");
    let mut shown = Vec::new();
    for mut looking in [server.client(), server.client3()] {
        for command in ["LOCK.INFO k", "LOCK.CHECK k a", "INFO everything", "CLIENT LIST", "DEBUG OBJECT k"] {
            shown.push(format!("{command}: {:?}", looking.run(command)));
        }
    }
    release(&mut client, "k", "a");
    let told = listener.ticket();
    shown.push(format!("{told} {:?}", client.run("LOCK.INFO k")));
    shown.push(server.log());
    assert!(!shown.iter().any(|text| text.contains("secret")), "{shown:?}");
    claim(&mut client, "k TOKEN secret-of-a-place");
}
