//! Waiting for a lock: who comes next, and where nobody can wait.

use std::collections::VecDeque;
use std::time::Instant;

use crate::support::admission::{any_share, enter};
use crate::support::locks::{acquire, exists, field, holder, refused};
use crate::support::waiter::{assert_left_in_peace, blocked_clients, owners, release, waiting};
use crate::support::{Client, PATIENCE, Random, Reply, Server, Waiter, cmd, ok_grant, wait_until};

// --- who comes next

#[test]
fn waiters_are_served_in_the_order_they_came() {
    let server = Server::start();
    let mut client = server.client();
    let mut last = acquire(&mut client, "k TOKEN t0 OWNER w0").fence;
    let waiters: Vec<_> =
        (1..=20).map(|n| Waiter::new(&server, &format!("k TOKEN t{n} OWNER w{n} BLOCK 0"))).collect();
    assert_eq!(owners_waiting(&mut client), (1..=20).map(|n| format!("w{n}")).collect::<Vec<_>>());
    for (n, mut waiter) in (1..).zip(waiters) {
        release(&mut client, "k", format!("t{}", n - 1));
        let grant = waiter.granted();
        assert_eq!(grant.token, format!("t{n}").into_bytes());
        assert!(grant.fence > last, "fences rise in the order of the queue");
        last = grant.fence;
        assert_eq!(owners(&mut client, "k").0, [format!("w{n}")], "and one alone holds it");
        assert_eq!(blocked_clients(&mut client), 20 - n, "nobody else was woken");
    }
    release(&mut client, "k", "t20");
    assert_left_in_peace(&server, "k");
}

/// Whatever the limits are, those who hold the lock and those who wait are what the rule of admission makes of a queue.
#[test]
fn with_mixed_limits_the_head_of_the_queue_enters_as_far_as_the_rule_lets_it() {
    let mut random = Random::from_environment();
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN w0 OWNER w0");
    let mut holders = vec![(0, (1, 1))];
    let mut queue = VecDeque::new();
    let mut waiters = VecDeque::new();
    for n in 1..=40 {
        let (share, option) = any_share(&mut random);
        waiters.push_back(Waiter::new(&server, &format!("k TOKEN w{n} OWNER w{n} {option} BLOCK 0")));
        queue.push_back((n, share));
    }
    while !holders.is_empty() {
        let (leaves, _) = holders.swap_remove(random.below(holders.len()));
        release(&mut client, "k", format!("w{leaves}"));
        for _ in enter(&mut holders, &mut queue) {
            waiters.pop_front().unwrap().granted();
        }
        let (mut holding, waiting) = owners(&mut client, "k");
        let mut due: Vec<_> = holders.iter().map(|(n, _)| format!("w{n}")).collect();
        holding.sort();
        due.sort();
        assert_eq!(holding, due);
        assert_eq!(waiting, queue.iter().map(|(n, _)| format!("w{n}")).collect::<Vec<_>>());
    }
    assert!(waiters.is_empty());
    assert_left_in_peace(&server, "k");
}

#[test]
fn a_newcomer_that_does_not_wait_never_overtakes() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k SHARED TOKEN a");
    let mut writer = Waiter::new(&server, "k TOKEN w BLOCK 0");
    for options in ["", "SHARED", "LIMIT 5", "SHARED BLOCK 1", "TOKEN x SHARED"] {
        refused(&mut client, &format!("k {options}"));
    }
    let replies = client.run_all(&["LOCK.RELEASE k a", "LOCK.ACQUIRE k", "LOCK.ACQUIRE k SHARED"]);
    assert_eq!(replies, [Reply::Int(1), Reply::NullArray, Reply::NullArray]);
    writer.granted();
    release(&mut client, "k", "w");
    assert_left_in_peace(&server, "k");
}

#[test]
fn a_reader_does_not_pass_a_waiting_writer() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k SHARED TOKEN a");
    let mut writer = Waiter::new(&server, "k TOKEN w BLOCK 0");
    let mut reader = Waiter::new(&server, "k SHARED TOKEN r BLOCK 0");
    reader.assert_waiting(&server);
    release(&mut client, "k", "a");
    writer.granted();
    reader.assert_waiting(&server);
    release(&mut client, "k", "w");
    reader.granted();
    release(&mut client, "k", "r");
    assert_left_in_peace(&server, "k");
}

#[test]
fn a_writer_that_gives_up_lets_the_readers_behind_it_in() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k SHARED TOKEN a");
    let mut writer = Waiter::new(&server, "k TOKEN w BLOCK 0");
    let mut readers = [1, 2, 3].map(|n| Waiter::new(&server, &format!("k SHARED TOKEN r{n} BLOCK 0")));
    // Whose time is short comes when all others wait, and takes over the place.
    let mut brief = Waiter::new(&server, "k TOKEN w BLOCK 50");
    writer.refused();
    brief.refused();
    readers.iter_mut().for_each(|reader| drop(reader.granted()));
    for token in ["a", "r1", "r2", "r3"] {
        release(&mut client, "k", token);
    }
    assert_left_in_peace(&server, "k");
}

#[test]
fn readers_at_the_head_enter_together() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut readers =
        [1, 2, 3].map(|n| Waiter::new(&server, &format!("k SHARED TOKEN r{n} OWNER r{n} BLOCK 0")));
    let mut writer = Waiter::new(&server, "k TOKEN w OWNER w BLOCK 0");
    let late = Waiter::new(&server, "k SHARED TOKEN late OWNER late BLOCK 0");
    let replies = client.run_all(&["LOCK.RELEASE k a", "LOCK.INFO k"]);
    assert_eq!(field(&replies[1], "holders").items().len(), 3, "in one step: {replies:?}");
    readers.iter_mut().for_each(|reader| drop(reader.granted()));
    assert_eq!(owners(&mut client, "k").1, ["w", "late"]);
    for n in 1..=3 {
        writer.assert_waiting(&server);
        release(&mut client, "k", format!("r{n}"));
    }
    writer.granted();
    late.assert_waiting(&server);
}

#[test]
fn a_semaphore_fills_up_from_its_queue() {
    let server = Server::start();
    let mut client = server.client();
    for n in 0..3 {
        acquire(&mut client, &format!("k LIMIT 3 TOKEN t{n}"));
    }
    let mut waiters: VecDeque<_> =
        (3..8).map(|n| Waiter::new(&server, &format!("k LIMIT 3 TOKEN t{n} BLOCK 0"))).collect();
    release(&mut client, "k", "t1");
    waiters.pop_front().unwrap().granted();
    waiters[0].assert_waiting(&server);
    assert_eq!(client.run("LOCK.BREAK k"), Reply::Int(3), "three places are free at once");
    for _ in 0..3 {
        waiters.pop_front().unwrap().granted();
    }
    waiters[0].assert_waiting(&server);
    assert_eq!(waiting(&mut client, "k"), 1);
    release(&mut client, "k", "t5");
    waiters.pop_front().unwrap().granted();
    assert_eq!(client.run("LOCK.BREAK k"), Reply::Int(3));
    assert_left_in_peace(&server, "k");
}

#[test]
fn keys_have_queues_of_their_own() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    acquire(&mut client, "l TOKEN a");
    let first = Waiter::new(&server, "k TOKEN b BLOCK 0");
    let mut second = Waiter::new(&server, "l TOKEN b BLOCK 0");
    release(&mut client, "l", "a");
    second.granted();
    first.assert_waiting(&server);
    let mut elsewhere = server.client();
    elsewhere.ok("SELECT 1");
    acquire(&mut elsewhere, "k TOKEN c");
    first.assert_waiting(&server);
}

#[test]
fn a_free_lock_is_granted_without_waiting() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        for block in [0, 1, 3_153_600_000_000_i64] {
            acquire(&mut client, &format!("k TOKEN a BLOCK {block}"));
            release(&mut client, "k", "a");
        }
    }
    assert_left_in_peace(&server, "k");
}

#[test]
fn a_waiter_is_answered_in_its_own_protocol() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut granted = Waiter::on(&server, server.client3(), "k TOKEN b BLOCK 0");
    let mut refused = Waiter::on(&server, server.client3(), "k TOKEN c BLOCK 50");
    refused.refused();
    release(&mut client, "k", "a");
    granted.granted();
}

#[test]
fn the_lease_of_a_waiter_begins_when_it_is_granted() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut waiter = Waiter::new(&server, "k TOKEN b PX 60000 BLOCK 0");
    wait_until("it has waited a while", PATIENCE, || field(&queue(&mut client)[0], "waited").int() > 500);
    let released = Instant::now();
    release(&mut client, "k", "a");
    waiter.granted();
    let hold = holder(&mut client, "k");
    let since = i64::try_from(released.elapsed().as_millis()).unwrap() + 1;
    assert_eq!(field(&hold, "lease"), Reply::Int(60_000));
    assert!(field(&hold, "remaining").int() >= 60_000 - since, "{hold:?}, {since} ms after the release");
    assert!(field(&hold, "age").int() <= since, "{hold:?}, {since} ms after the release");
}

#[test]
fn a_waiter_without_a_lease_gets_the_default_lease() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut waiter = Waiter::new(&server, "k OWNER me LIMIT 4 BLOCK 0");
    release(&mut client, "k", "a");
    let grant = waiter.granted();
    assert_eq!(grant.token.len(), 32, "a token is made for who brings none");
    let hold = holder(&mut client, "k");
    assert_eq!(field(&hold, "lease"), Reply::Int(30_000));
    assert_eq!(field(&hold, "owner").text(), "me");
    assert_eq!(field(&hold, "limit"), Reply::Int(4));
    assert_eq!(field(&hold, "fence"), Reply::Int(grant.fence));
    release(&mut client, "k", grant.token);
}

#[test]
fn commands_behind_a_waiting_one_come_after_it() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    waiter.client.send(&["LOCK.CHECK", "k", "b"]);
    waiter.client.send(&["LOCK.RELEASE", "k", "b"]);
    waiter.client.send(&["LOCK.ACQUIRE", "k", "TOKEN", "c", "BLOCK", "0"]);
    waiter.assert_waiting(&server);
    release(&mut client, "k", "a");
    let (token, fence) = ok_grant(waiter.client.read());
    assert_eq!(token, b"b");
    assert_eq!(waiter.client.read().items()[0], Reply::Int(fence));
    assert_eq!(waiter.client.read(), Reply::Int(1));
    assert_eq!(waiter.granted().token, b"c");
}

#[test]
fn a_client_can_wait_again_and_again() {
    let server = Server::start();
    let mut client = server.client();
    let mut other = server.client();
    acquire(&mut client, "k TOKEN t0");
    for n in 1..50 {
        let mut waiter = Waiter::on(&server, other, &format!("k TOKEN t{n} BLOCK 0"));
        release(&mut client, "k", format!("t{}", n - 1));
        waiter.granted();
        (client, other) = (waiter.client, client);
    }
    release(&mut client, "k", "t49");
    assert_left_in_peace(&server, "k");
}

#[test]
fn keys_tokens_and_labels_of_waiters_are_any_bytes() {
    let server = Server::start();
    let mut client = server.client();
    for bytes in [&b"\0"[..], b"\r\n", b"%s%n%s", b"\xff\xfe", &[b'x'; 255]] {
        ok_grant(client.call(&cmd!["LOCK.ACQUIRE", bytes, "TOKEN", "a"]));
        let mut waiter = server.client();
        waiter.send(&cmd!["LOCK.ACQUIRE", bytes, "TOKEN", bytes, "OWNER", bytes, "BLOCK", 0]);
        wait_until("it waits", PATIENCE, || blocked_clients(&mut client) == 1);
        let info = client.call(&cmd!["LOCK.INFO", bytes]);
        assert_eq!(field(&field(&info, "queue").items()[0], "owner"), Reply::Bulk(bytes.to_vec()));
        assert_eq!(client.call(&cmd!["LOCK.RELEASE", bytes, "a"]), Reply::Int(1));
        assert_eq!(ok_grant(waiter.read()).0, bytes);
        assert_eq!(client.call(&cmd!["LOCK.RELEASE", bytes, bytes]), Reply::Int(1));
    }
}

// --- where nobody can wait

#[test]
fn in_a_transaction_block_is_as_if_not_given() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        acquire(&mut client, "held TOKEN a");
        let replies = client.run_all(&[
            "MULTI",
            "LOCK.ACQUIRE held BLOCK 0",
            "LOCK.ACQUIRE free TOKEN b BLOCK 0",
            "EXEC",
        ]);
        let results = replies[3].items();
        assert_eq!(results[0], crate::support::locks::null(&client));
        assert_eq!(ok_grant(results[1].clone()).0, b"b");
        assert_eq!(blocked_clients(&mut client), 0);
        client.run("DEL held free");
    }
}

#[test]
fn in_a_script_block_is_as_if_not_given() {
    let mut server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "held TOKEN a");
    let script = "return redis.call('LOCK.ACQUIRE', KEYS[1], 'TOKEN', 'b', 'BLOCK', 0)";
    assert!(client.call(&cmd!["EVAL", script, 1, "held"]).is_null());
    assert_eq!(ok_grant(client.call(&cmd!["EVAL", script, 1, "free"])).0, b"b");
    let replies = client.pipeline(&[
        cmd!["MULTI"].to_vec(),
        cmd!["EVAL", script, 1, "held"].to_vec(),
        cmd!["EXEC"].to_vec(),
    ]);
    assert!(replies[2].items()[0].is_null());
    assert_eq!(blocked_clients(&mut client), 0);
    server.assert_alive();
}

#[test]
fn in_a_function_block_is_as_if_not_given() {
    let mut server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "held TOKEN a");
    let library = "#!lua name=locks\n
        redis.register_function('take', function(keys)
            return redis.call('LOCK.ACQUIRE', keys[1], 'TOKEN', 'b', 'BLOCK', 0)
        end)";
    assert_eq!(client.call(&cmd!["FUNCTION", "LOAD", library]).text(), "locks");
    assert!(client.call(&cmd!["FCALL", "take", 1, "held"]).is_null());
    assert_eq!(ok_grant(client.call(&cmd!["FCALL", "take", 1, "free"])).0, b"b");
    assert_eq!(blocked_clients(&mut client), 0);
    server.assert_alive();
}

#[test]
fn where_nobody_can_wait_a_bad_block_is_still_refused() {
    let server = Server::start();
    let mut client = server.client();
    let script = "return redis.pcall('LOCK.ACQUIRE', KEYS[1], 'BLOCK', -1).err";
    assert_eq!(client.call(&cmd!["EVAL", script, 1, "k"]).text(), "ERR timeout is negative");
    assert!(!exists(&mut client, "k"));
}

// --- what the tests say

fn queue(client: &mut Client) -> Vec<Reply> {
    field(&client.run("LOCK.INFO k"), "queue").items().to_vec()
}

fn owners_waiting(client: &mut Client) -> Vec<String> {
    owners(client, "k").1
}
