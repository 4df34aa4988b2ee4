//! Changes of a limit at places: what is given back if nobody claims it, and where their tokens stand.

use super::{Listener, claim, held, place, ticket};
use crate::support::locks::{acquire, field, holders};
use crate::support::waiter::{owners, release, shorten, waiting};
use crate::support::{Client, PATIENCE, Reply, Server, Waiter, wait_until};

/// A server on which nobody waits long for who was called, with two readers of `k` that hold it for long.
#[track_caller]
fn two_readers() -> (Server, Client) {
    let server = Server::builder().config("lock.claim-lease 100").start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a OWNER a SHARED PX 600000");
    acquire(&mut client, "k TOKEN b OWNER b SHARED PX 600000");
    (server, client)
}

#[track_caller]
fn limits(client: &mut Client) -> Vec<i64> {
    holders(client, "k").iter().map(|holder| field(holder, "limit").int()).collect()
}

#[track_caller]
fn gives_its_limit_back(client: &mut Client) {
    wait_until("the limit is given back", PATIENCE, || limits(client) == [0]);
    acquire(client, "k TOKEN c SHARED");
    assert!(field(&holders(client, "k")[0], "remaining").int() > 500_000, "the lease that it had stands");
}

#[test]
fn a_writer_that_nobody_claims_is_a_reader_again() {
    let (server, mut client) = two_readers();
    let upgrade = place(&mut client, "k TOKEN a LIMIT 1 PX 1000 QUEUE 600000");
    let mut listener = Listener::of(&server, "k");
    release(&mut client, "k", "b");
    listener.hears(upgrade);
    gives_its_limit_back(&mut client);
}

#[test]
fn a_writer_that_could_not_be_told_and_that_nobody_claims_is_a_reader_again() {
    let (server, mut client) = two_readers();
    let upgrade = Waiter::new(&server, "k TOKEN a LIMIT 1 PX 600000 BLOCK 0 QUEUE 600000");
    client.run_all(&["LOCK.RELEASE k b", &format!("CLIENT KILL ID {}", upgrade.id)]);
    gives_its_limit_back(&mut client);
}

#[test]
fn a_writer_that_was_claimed_stays_the_writer() {
    for request in ["LOCK.ACQUIRE k TOKEN a LIMIT 1 PX 600000", "LOCK.EXTEND k a PX 600000", "LOCK.CHECK k a"]
    {
        let (_server, mut client) = two_readers();
        place(&mut client, "k TOKEN a LIMIT 1 QUEUE 600000");
        // In one write, so that it comes in time.
        let replies = client.run_all(&["LOCK.RELEASE k b", request]);
        assert!(replies[0] == Reply::Int(1) && !replies[1].is_error(), "{request}: {replies:?}");
        // A lease that ends later than the time to claim, so that this has passed.
        acquire(&mut client, "later PX 300");
        wait_until("it is over", PATIENCE, || client.run("EXISTS later") == Reply::Int(0));
        assert_eq!(limits(&mut client), [1], "{request}");
    }
}

#[test]
fn what_is_asked_for_last_counts_also_where_it_is_granted_at_once() {
    for again in ["SHARED QUEUE 600000", "SHARED BLOCK 0"] {
        let (_server, mut client) = two_readers();
        place(&mut client, "k TOKEN a LIMIT 1 QUEUE 600000");
        claim(&mut client, &format!("k TOKEN a {again}"));
        assert_eq!(waiting(&mut client, "k"), 0, "{again}: it does not want to be the writer any more");
        acquire(&mut client, "k TOKEN c SHARED");
        release(&mut client, "k", "b");
        assert_eq!(limits(&mut client), [0, 0], "{again}");
    }
}

#[test]
fn a_retry_that_does_not_wait_leaves_the_wait_of_its_token() {
    let (_server, mut client) = two_readers();
    place(&mut client, "k TOKEN a LIMIT 1 QUEUE 600000");
    claim(&mut client, "k TOKEN a");
    assert_eq!(waiting(&mut client, "k"), 1);
}

#[test]
fn who_went_ahead_and_holds_nothing_any_more_stands_where_it_came() {
    let server = Server::builder().config("lock.claim-lease 600000").start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a OWNER a SHARED PX 60000");
    acquire(&mut client, "k TOKEN b OWNER b SHARED PX 600000");
    let first = place(&mut client, "k TOKEN c OWNER c QUEUE 600000");
    let upgrade = place(&mut client, "k TOKEN a OWNER a LIMIT 1 QUEUE 600000");
    let last = place(&mut client, "k TOKEN d OWNER d QUEUE 600000");
    assert!(first < upgrade && upgrade < last);
    assert_eq!(owners(&mut client, "k").1, ["a", "c", "d"], "it goes ahead");
    shorten(&mut client, "k", "a", 100);
    wait_until("its lease is over", PATIENCE, || holders(&mut client, "k").len() == 1);
    // It asks again for what it would have got at once, were it the first.
    let again = client.run("LOCK.ACQUIRE k TOKEN a OWNER a SHARED QUEUE 600000");
    assert_eq!(ticket(&again), upgrade, "the place is the same");
    assert_eq!(owners(&mut client, "k").1, ["c", "a", "d"], "and it stands where it came");
}

#[test]
fn who_comes_to_hold_and_waits_for_a_smaller_limit_goes_ahead_from_then_on() {
    let (_server, mut client) = held();
    place(&mut client, "k TOKEN c OWNER c QUEUE 600000");
    let early = place(&mut client, "k TOKEN b OWNER b QUEUE 600000");
    acquire(&mut client, "j TOKEN b OWNER b SHARED PX 600000");
    acquire(&mut client, "j TOKEN d OWNER d SHARED PX 600000");
    client.ok("RENAME j k");
    let upgrade = client.run("LOCK.ACQUIRE k TOKEN b OWNER b LIMIT 1 QUEUE 600000");
    assert_eq!(ticket(&upgrade), early);
    assert_eq!(owners(&mut client, "k").1, ["b", "c"]);
}
