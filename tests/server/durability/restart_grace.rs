//! `lock.restart-grace`: for that long after the data were loaded, or after a promotion, nobody is granted what somebody
//! else may have been granted already. Holders that are known keep what they have.

use std::time::{Duration, Instant};

use crate::support::locks::{acquire, exists, holder, refused, remaining};
use crate::support::waiter::{assert_left_in_peace, owners, release};
use crate::support::{Builder, Client, Data, Grant, Pair, Reply, Server, Waiter, field, wait_until};

/// A grace that is not over before a test is.
const LONG: &str = "lock.restart-grace 3600000";

/// A short one, in milliseconds: long enough for all who come to wait while it lasts.
const SHORT_MS: u64 = 5_000;

fn short() -> String {
    format!("lock.restart-grace {SHORT_MS}")
}

fn keeping() -> Builder {
    Server::builder().aof()
}

/// Ends a grace that would last too long for the test, as an operator can who knows that nothing was lost.
fn end_grace(client: &mut Client) {
    client.ok("CONFIG SET lock.restart-grace 0");
}

#[test]
fn without_one_a_lock_is_there_for_the_taking_at_once() {
    let mut server = keeping().start();
    let mut client = server.client();
    assert_eq!(setting(&mut client), "0");
    acquire(&mut client, "held TOKEN a");
    server.kill9();
    server.start_again();
    acquire(&mut server.client(), "k TOKEN b");
}

#[test]
fn a_server_that_has_loaded_nothing_has_none() {
    let mut server = keeping().config(LONG).start();
    acquire(&mut server.client(), "k TOKEN a");
    server.assert_alive();
}

#[test]
fn after_a_restart_nobody_is_granted_anything_and_known_holders_keep_what_they_have() {
    for builder in [keeping(), keeping().config("aof-use-rdb-preamble no"), Server::builder()] {
        let mut server = builder.config(LONG).start();
        let mut client = server.client();
        let mutex = acquire(&mut client, "mutex TOKEN a PX 60000");
        let reader = acquire(&mut client, "readers TOKEN a SHARED PX 60000");
        acquire(&mut client, "seats TOKEN a LIMIT 2");
        server.restart(Data::Save);
        let mut client = server.client();

        refused(&mut client, "unknown TOKEN b");
        refused(&mut client, "unknown SHARED");
        refused(&mut client, "mutex TOKEN b");
        assert!(!exists(&mut client, "unknown"));

        // Who holds a lock keeps, extends and gives back.
        assert_eq!(acquire(&mut client, "mutex TOKEN a PX 60000"), mutex);
        assert_eq!(acquire(&mut client, "mutex TOKEN a LEVEL 2"), mutex);
        assert_eq!(client.run("LOCK.EXTEND mutex a PX 50000"), Reply::Int(1));
        assert!(remaining(&mut client, "mutex", "a").is_some());
        // A writer may have come after the reader that is known, another one to the seats, another reader besides it.
        refused(&mut client, "readers TOKEN b SHARED");
        refused(&mut client, "seats TOKEN b LIMIT 2");
        refused(&mut client, "readers TOKEN a LIMIT 1");
        assert_eq!(acquire(&mut client, "readers TOKEN a SHARED"), reader);

        // Once nobody is known to hold it, it may be anybody's.
        assert_eq!(client.run("LOCK.RELEASE mutex a LEVEL 2"), Reply::Int(1));
        assert_eq!(client.run("LOCK.RELEASE mutex a"), Reply::Int(1));
        refused(&mut client, "mutex TOKEN b");
        assert_eq!(client.run("LOCK.BREAK seats"), Reply::Int(1));
        refused(&mut client, "seats TOKEN a LIMIT 2");

        end_grace(&mut client);
        for key in ["unknown", "mutex", "seats"] {
            acquire(&mut client, &format!("{key} TOKEN b"));
        }
        server.assert_alive();
    }
}

#[test]
fn whoever_waits_is_served_when_it_is_over_and_in_order() {
    let mut server = keeping().config(&short()).start();
    acquire(&mut server.client(), "held TOKEN a PX 60000");
    server.kill9();
    let start = Instant::now();
    server.start_again();
    let mut first = Waiter::new(&server, "k TOKEN first OWNER first BLOCK 0");
    let mut second = Waiter::new(&server, "k TOKEN second OWNER second BLOCK 0");
    let mut reader = Waiter::new(&server, "shared TOKEN r1 SHARED BLOCK 0");
    let mut other_reader = Waiter::new(&server, "shared TOKEN r2 SHARED BLOCK 0");
    let mut behind = Waiter::new(&server, "held TOKEN b BLOCK 0");
    let mut client = server.client();
    release(&mut client, "held", "a");
    first.granted();
    assert!(start.elapsed() >= Duration::from_millis(SHORT_MS), "{:?}", start.elapsed());
    for waiter in [&mut reader, &mut other_reader, &mut behind] {
        waiter.granted();
    }
    assert_eq!(owners(&mut client, "k").1, ["second"]);
    release(&mut client, "k", "first");
    second.granted();
    // From then on it is as if there had been none.
    release(&mut client, "k", "second");
    acquire(&mut client, "k TOKEN c");
    release(&mut client, "k", "c");
    assert_left_in_peace(&server, "k");
    server.assert_alive();
}

#[test]
fn a_wait_ends_in_time_though_it_lasts() {
    let mut server = keeping().config(LONG).start();
    acquire(&mut server.client(), "held TOKEN a");
    server.kill9();
    server.start_again();
    let mut client = server.client();
    refused(&mut client, "k TOKEN b BLOCK 150");
    end_grace(&mut client);
    assert_left_in_peace(&server, "k");
}

#[test]
fn a_lease_that_runs_out_meanwhile_frees_the_lock_for_nobody() {
    let mut server = keeping().config(LONG).start();
    acquire(&mut server.client(), "k TOKEN a PX 300");
    server.kill9();
    server.start_again();
    let mut waiter = Waiter::new(&server, "k TOKEN b OWNER b BLOCK 0");
    let mut client = server.client();
    wait_until("the lease has ended", crate::support::PATIENCE, || !exists(&mut client, "k"));
    waiter.assert_waiting(&server);
    refused(&mut client, "k TOKEN c");
    end_grace(&mut client);
    waiter.granted();
    assert_eq!(owners(&mut client, "k").0, ["b"]);
}

#[test]
fn it_may_be_made_longer_while_it_lasts() {
    let mut server = keeping().config(&short()).start();
    acquire(&mut server.client(), "held TOKEN a");
    server.kill9();
    server.start_again();
    let mut client = server.client();
    client.ok("CONFIG SET lock.restart-grace 3600000");
    let waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    crate::support::waiter::time_passes(Instant::now(), Duration::from_millis(SHORT_MS + 200));
    waiter.assert_waiting(&server);
    refused(&mut client, "k TOKEN c");
}

#[test]
fn a_promoted_replica_grants_no_unknown_lock_until_it_is_over() {
    let mut pair = Pair::start_with(Server::builder(), Server::builder().config(LONG));
    let Grant { fence, .. } = acquire(&mut pair.master.client(), "held TOKEN a PX 60000");
    pair.wait_caught_up();
    pair.master.kill9();
    let mut client = pair.replica.client();
    client.ok("REPLICAOF NO ONE");
    refused(&mut client, "k TOKEN b");
    assert_eq!(field(&holder(&mut client, "held"), "fence"), Reply::Int(fence));
    let mut waiter = Waiter::new(&pair.replica, "k TOKEN b BLOCK 0");
    end_grace(&mut client);
    assert!(waiter.granted().fence > fence);
    pair.replica.assert_alive();
}

/// A reader that has left is still known to the replica, and the writer that came after it is not.
fn known_wrongly(known: &str, lost: &str, newcomer: &str) {
    let mut pair = Pair::start_with(Server::builder(), Server::builder().config(LONG));
    let mut client = pair.master.client();
    acquire(&mut client, &format!("k TOKEN known PX 60000 {known}"));
    pair.wait_caught_up();
    let mut replica = pair.replica.client();
    // What the master passes on from here does not arrive.
    replica.ok("REPLICAOF 127.0.0.1 1");
    if lost == "LIMIT 1" {
        release(&mut client, "k", "known");
    }
    acquire(&mut client, &format!("k TOKEN lost PX 60000 {lost}"));
    pair.master.kill9();
    replica.ok("REPLICAOF NO ONE");
    refused(&mut replica, &format!("k TOKEN newcomer {newcomer}"));
    let mut waiter = Waiter::new(&pair.replica, &format!("k TOKEN newcomer {newcomer} BLOCK 0"));
    assert_eq!(replica.run("LOCK.EXTEND k known PX 50000"), Reply::Int(1));
    end_grace(&mut replica);
    waiter.granted();
}

#[test]
fn a_reader_is_not_let_in_beside_a_writer_that_was_lost() {
    known_wrongly("SHARED", "LIMIT 1", "SHARED");
}

#[test]
fn a_third_is_not_let_in_beside_two_of_whom_one_was_lost() {
    known_wrongly("LIMIT 2", "LIMIT 2", "LIMIT 2");
}

#[test]
fn a_reload_of_the_data_begins_one() {
    let server = Server::builder().config(LONG).start();
    let mut client = server.client();
    acquire(&mut client, "held TOKEN a");
    let waiter = Waiter::new(&server, "held TOKEN b BLOCK 0");
    client.ok("DEBUG RELOAD");
    refused(&mut client, "k TOKEN c");
    release(&mut client, "held", "a");
    waiter.assert_waiting(&server);
}

#[test]
fn it_is_set_like_the_other_settings_and_lies_between_0_and_a_hundred_years() {
    let directive = Server::builder().config("lock.restart-grace 3153600000000");
    let argument = Server::builder().module_args("restart-grace 3153600000000");
    for server in [directive.start(), argument.start()] {
        let mut client = server.client();
        assert_eq!(setting(&mut client), "3153600000000");
        for value in ["-1", "3153600000001", "abc", "0.5"] {
            let reply = client.call(&["CONFIG", "SET", "lock.restart-grace", value]);
            assert!(reply.is_error(), "{value}: {reply:?}");
        }
        assert_eq!(setting(&mut client), "3153600000000");
        end_grace(&mut client);
        assert_eq!(setting(&mut client), "0");
    }
    let log = Server::builder().module_args("restart-grace -1").start_fails();
    assert!(log.contains("lock.restart-grace given to loadmodule must be a number from 0 to"), "{log}");
}

fn setting(client: &mut Client) -> String {
    field(&client.run("CONFIG GET lock.restart-grace"), "lock.restart-grace").text()
}

#[test]
fn scripts_and_transactions_are_refused_likewise() {
    let mut server = keeping().config(LONG).start();
    acquire(&mut server.client(), "held TOKEN a");
    server.kill9();
    server.start_again();
    let mut client = server.client();
    let script = "return redis.call('LOCK.ACQUIRE', KEYS[1], 'TOKEN', 'b')";
    assert!(client.call(&["EVAL", script, "1", "k"]).is_null());
    let replies = client.run_all(&["MULTI", "LOCK.ACQUIRE k TOKEN b BLOCK 0", "EXEC"]);
    assert!(replies[2].items()[0].is_null(), "{replies:?}");
}

#[test]
fn whoever_waits_in_the_grace_is_shown_though_nobody_holds_the_lock() {
    let mut server = keeping().config(LONG).start();
    server.client().ok("SET k 1");
    server.client().run("DEL k");
    server.kill9();
    server.start_again();
    let mut client = server.client();
    assert!(client.run("LOCK.INFO k").is_null());
    let waiter = Waiter::new(&server, "k TOKEN a OWNER me BLOCK 0");
    let info = client.run("LOCK.INFO k");
    assert_eq!(field(&info, "holders"), Reply::Array(Vec::new()));
    assert_eq!((field(&info, "held"), field(&info, "waiting")), (Reply::Int(0), Reply::Int(1)));
    let entry = field(&info, "queue").items()[0].clone();
    assert_eq!((field(&entry, "owner").text(), field(&entry, "client").int()), ("me".to_owned(), waiter.id));
    end_grace(&mut client);
}

#[test]
fn the_log_says_when_the_grace_begins_and_when_it_has_ended() {
    let begins = format!("restart-grace begins: for {SHORT_MS} ms");
    const HAS_ENDED: &str = "restart-grace has ended";
    let mut server = keeping().config(&short()).start();
    server.client().ok("SET k 1");
    server.kill9();
    server.start_again();
    let count = |text: &str| server.log().matches(text).count();
    assert_eq!(count(&begins), 1);
    wait_until("it has ended", crate::support::PATIENCE, || count(HAS_ENDED) == 1);
    let pair = Pair::start_with(Server::builder(), Server::builder().config(&short()));
    pair.wait_caught_up();
    pair.replica.client().ok("REPLICAOF NO ONE");
    assert!(pair.replica.log().contains(&begins));
    wait_until("it has ended", crate::support::PATIENCE, || pair.replica.log().contains(HAS_ENDED));
    assert!(!pair.master.log().contains("restart-grace"), "without a grace there is nothing to say");
}
