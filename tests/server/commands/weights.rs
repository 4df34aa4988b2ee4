//! WEIGHT: a request is granted when the weights of all holds plus its own are no more than the smallest limit among the
//! holds and the request.

use crate::support::errors;
use crate::support::locks::{acquire, field, held, holders, refused};
use crate::support::waiter::release;
use crate::support::{Client, Reply, Server, Waiter};

#[track_caller]
fn assert_refused_as_impossible(client: &mut Client, rest: &str) {
    assert_eq!(client.run(&format!("LOCK.ACQUIRE {rest}")).error(), errors::WEIGHT, "{rest}");
}

fn weights(client: &mut Client, key: &str) -> Vec<(i64, i64)> {
    let share = |holder: &Reply| (field(holder, "limit").int(), field(holder, "weight").int());
    holders(client, key).iter().map(share).collect()
}

#[test]
fn a_request_is_granted_while_the_weights_are_within_everybodys_limit() {
    // What holds, what asks, whether it is granted.
    let cases: &[(&[&str], &str, bool)] = &[
        (&[], "LIMIT 5 WEIGHT 5", true),
        (&[], "SHARED WEIGHT 65535", true),
        (&[], "WEIGHT 1", true),
        (&["LIMIT 5 WEIGHT 3"], "LIMIT 5 WEIGHT 2", true),
        (&["LIMIT 5 WEIGHT 3"], "LIMIT 5 WEIGHT 3", false),
        (&["LIMIT 5 WEIGHT 3"], "LIMIT 9 WEIGHT 3", false),
        (&["LIMIT 9 WEIGHT 3"], "LIMIT 5 WEIGHT 3", false),
        (&["LIMIT 5 WEIGHT 3"], "SHARED WEIGHT 2", true),
        (&["LIMIT 5 WEIGHT 3"], "SHARED WEIGHT 3", false),
        (&["SHARED WEIGHT 3"], "LIMIT 3", false),
        (&["SHARED WEIGHT 3"], "LIMIT 4", true),
        (&["SHARED WEIGHT 65535", "SHARED WEIGHT 65535"], "SHARED WEIGHT 65535", true),
        (&["SHARED WEIGHT 65535"], "LIMIT 65535", false),
        (&["LIMIT 5 WEIGHT 2", "LIMIT 5 WEIGHT 2"], "LIMIT 5", true),
        (&["LIMIT 5 WEIGHT 2", "LIMIT 5 WEIGHT 2", "LIMIT 5"], "LIMIT 5", false),
        (&["SHARED WEIGHT 2"], "", false),
    ];
    let server = Server::start();
    let mut client = server.client();
    for (index, (holds, request, granted)) in cases.iter().enumerate() {
        let key = format!("k{index}");
        for (number, hold) in holds.iter().enumerate() {
            acquire(&mut client, &format!("{key} TOKEN t{number} {hold}"));
        }
        let reply = client.run(&format!("LOCK.ACQUIRE {key} TOKEN new {request}"));
        assert_eq!(!reply.is_null(), *granted, "{request:?} on {holds:?}: {reply:?}");
        assert_eq!(held(&mut client, &key), i64::try_from(holds.len()).unwrap() + i64::from(*granted));
    }
}

#[test]
fn a_weight_that_no_lock_has_room_for_is_an_error_and_changes_nothing() {
    let server = Server::start();
    let mut client = server.client();
    for rest in [
        "k WEIGHT 2",
        "k LIMIT 2 WEIGHT 3",
        "k LIMIT 1 WEIGHT 2 BLOCK 0",
        "k WEIGHT 0",
        "k SHARED WEIGHT 0",
        "k SHARED WEIGHT 65536",
        "k WEIGHT -1 LIMIT 3",
    ] {
        assert_refused_as_impossible(&mut client, rest);
    }
    assert_eq!(held(&mut client, "k"), 0);
    assert_eq!(client.run("LOCK.ACQUIRE k WEIGHT x LIMIT 2").error(), errors::NOT_AN_INTEGER);
    for rest in ["k WEIGHT", "k WEIGHT 1 WEIGHT 1", "k LIMIT 2 WEIGHT 1 weight 1"] {
        assert_eq!(client.run(&format!("LOCK.ACQUIRE {rest}")).error(), errors::SYNTAX, "{rest}");
    }
    // What a holder does not name is as it holds it.
    acquire(&mut client, "k LIMIT 5 WEIGHT 3 TOKEN a");
    for rest in ["k TOKEN a WEIGHT 6", "k TOKEN a LIMIT 2", "k TOKEN a LIMIT 2 BLOCK 0", "k TOKEN b WEIGHT 2"]
    {
        assert_refused_as_impossible(&mut client, rest);
    }
    assert_eq!(weights(&mut client, "k"), [(5, 3)]);
    acquire(&mut client, "k TOKEN a WEIGHT 5");
    assert_eq!(weights(&mut client, "k"), [(5, 5)]);
    acquire(&mut client, "k TOKEN a LIMIT 1 WEIGHT 1");
    assert_eq!(weights(&mut client, "k"), [(1, 1)]);
}

#[test]
fn a_retry_keeps_its_weight_unless_it_names_another_that_the_rule_allows() {
    let server = Server::start();
    let mut client = server.client();
    let fence = acquire(&mut client, "k LIMIT 6 WEIGHT 3 TOKEN a").fence;
    acquire(&mut client, "k LIMIT 6 WEIGHT 2 TOKEN b");
    for (rest, share) in
        [("", (6, 3)), ("LIMIT 6", (6, 3)), ("LIMIT 6 WEIGHT 3", (6, 3)), ("WEIGHT 4", (6, 4))]
    {
        assert_eq!(acquire(&mut client, &format!("k TOKEN a {rest}")).fence, fence);
        assert_eq!(weights(&mut client, "k")[0], share, "{rest}");
    }
    refused(&mut client, "k TOKEN a WEIGHT 5");
    refused(&mut client, "k TOKEN b WEIGHT 3");
    refused(&mut client, "k TOKEN c LIMIT 9");
    assert_eq!(weights(&mut client, "k"), [(6, 4), (6, 2)]);
    acquire(&mut client, "k TOKEN a WEIGHT 1");
    acquire(&mut client, "k TOKEN c LIMIT 9 WEIGHT 3");
    assert_eq!(weights(&mut client, "k"), [(6, 1), (6, 2), (9, 3)]);
}

#[test]
fn a_holder_that_becomes_lighter_lets_the_next_in() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k LIMIT 3 WEIGHT 3 TOKEN a");
    let mut first = Waiter::new(&server, "k LIMIT 3 WEIGHT 2 TOKEN b BLOCK 0");
    acquire(&mut client, "k TOKEN a WEIGHT 2");
    first.assert_waiting(&server);
    acquire(&mut client, "k TOKEN a WEIGHT 1");
    first.granted();
}

#[test]
fn a_heavy_request_is_not_overtaken_by_light_ones() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k LIMIT 4 WEIGHT 2 TOKEN a");
    acquire(&mut client, "k LIMIT 4 TOKEN b");
    let mut heavy = Waiter::new(&server, "k LIMIT 4 WEIGHT 4 TOKEN heavy BLOCK 0");
    let mut light = Waiter::new(&server, "k LIMIT 4 TOKEN light BLOCK 0");
    // There is room for one, and nobody takes it.
    refused(&mut client, "k LIMIT 4 TOKEN c");
    refused(&mut client, "k SHARED TOKEN d");
    release(&mut client, "k", "a");
    heavy.assert_waiting(&server);
    light.assert_waiting(&server);
    release(&mut client, "k", "b");
    heavy.granted();
    light.assert_waiting(&server);
    release(&mut client, "k", "heavy");
    light.granted();
}

#[test]
fn a_release_of_a_heavy_hold_lets_as_many_in_as_there_is_room_for() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k LIMIT 6 WEIGHT 6 TOKEN a");
    let mut waiters: Vec<_> = [("1", 2), ("2", 3), ("3", 1), ("4", 1)]
        .into_iter()
        .map(|(token, weight)| {
            Waiter::new(&server, &format!("k LIMIT 6 WEIGHT {weight} TOKEN {token} BLOCK 0"))
        })
        .collect();
    release(&mut client, "k", "a");
    for waiter in &mut waiters[..3] {
        waiter.granted();
    }
    waiters[3].assert_waiting(&server);
    assert_eq!(weights(&mut client, "k"), [(6, 2), (6, 3), (6, 1)]);
    release(&mut client, "k", "3");
    waiters[3].granted();
}

#[test]
fn who_waits_to_be_heavier_waits_ahead_and_a_second_one_gets_deadlock() {
    let server = Server::start();
    let mut client = server.client();
    for token in ["a", "b", "c"] {
        acquire(&mut client, &format!("k LIMIT 3 TOKEN {token}"));
    }
    let mut newcomer = Waiter::new(&server, "k LIMIT 3 TOKEN d BLOCK 0");
    let mut heavier = Waiter::new(&server, "k TOKEN a WEIGHT 2 BLOCK 0");
    assert!(client.run("LOCK.ACQUIRE k TOKEN b WEIGHT 2 BLOCK 0").error().starts_with("DEADLOCK "));
    release(&mut client, "k", "c");
    heavier.granted();
    newcomer.assert_waiting(&server);
    assert_eq!(weights(&mut client, "k"), [(3, 2), (3, 1)]);
    release(&mut client, "k", "b");
    newcomer.granted();
}

/// Its own hold became heavier meanwhile, so that what it waits for became impossible: it is told so, and nobody has to wait
/// behind it.
#[test]
fn who_waits_for_what_has_become_impossible_is_told_so() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k SHARED TOKEN a");
    acquire(&mut client, "k SHARED TOKEN b");
    let mut waiter = Waiter::new(&server, "k TOKEN a LIMIT 2 WEIGHT 2 BLOCK 0");
    let mut behind = Waiter::new(&server, "k SHARED TOKEN c BLOCK 0");
    acquire(&mut client, "k TOKEN a SHARED WEIGHT 1");
    waiter.assert_waiting(&server);
    let mut without_weight = Waiter::new(&server, "k TOKEN a LIMIT 1 BLOCK 5000");
    assert!(waiter.client.read().is_null(), "its place was taken over");
    acquire(&mut client, "k TOKEN a SHARED WEIGHT 3");
    assert_eq!(without_weight.client.read().error(), errors::WEIGHT);
    behind.granted();
}

#[test]
fn info_shows_the_weights_of_holders_and_of_the_queue() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k LIMIT 7 WEIGHT 4 TOKEN a");
    acquire(&mut client, "k LIMIT 7 TOKEN b");
    let _heavy = Waiter::new(&server, "k SHARED WEIGHT 9 TOKEN c BLOCK 0");
    let _plain = Waiter::new(&server, "k TOKEN d BLOCK 0");
    assert_eq!(weights(&mut client, "k"), [(7, 4), (7, 1)]);
    let info = client.run("LOCK.INFO k");
    let share = |waiter: &Reply| (field(waiter, "limit").int(), field(waiter, "weight").int());
    let queue: Vec<_> = field(&info, "queue").items().iter().map(share).collect();
    assert_eq!(queue, [(0, 9), (1, 1)]);
}
