//! QUEUE: one place in the queues of several locks, with one ticket, which is published on the channel of the first key.

use super::{all, assert_free, fences, holds, none, release_all, waiting, waits};
use crate::support::locks::{acquire, exists, field, holder, ok_grant, remaining};
use crate::support::waiter::{owners, release};
use crate::support::{Client, PATIENCE, Reply, Server, Waiter, cmd, wait_until};

const KEYS: [&str; 3] = ["k", "l", "m"];

/// Nobody loses a turn for being slow.
fn patient() -> Server {
    Server::builder().config("lock.claim-lease 600000").start()
}

/// Asks with everything behind LOCK.MACQUIRE; it must be told a ticket.
#[track_caller]
fn place(client: &mut Client, rest: &str) -> i64 {
    let reply = client.run(&format!("LOCK.MACQUIRE {rest}"));
    let Reply::Int(ticket) = reply else { panic!("LOCK.MACQUIRE {rest}: a ticket was due, got {reply:?}") };
    assert!((1..1 << 53).contains(&ticket), "{ticket}");
    ticket
}

/// A connection that hears which tickets are called on a channel.
struct Listener(Client);

impl Listener {
    fn of(server: &Server, channel: &str) -> Self {
        let mut client = server.client();
        assert!(!client.run(&format!("SSUBSCRIBE {channel}")).is_error());
        Self(client)
    }

    #[track_caller]
    fn hears(&mut self, ticket: i64) {
        let message = self.0.read();
        assert_eq!(message.items()[0].text(), "smessage");
        assert_eq!(message.items()[2].text(), ticket.to_string(), "the ticket that is called");
    }

    #[track_caller]
    fn heard_nothing(&mut self) {
        let reply = self.0.run("PING");
        assert!(
            matches!(&reply, Reply::Array(parts) if parts[0] == Reply::Bulk(b"pong".to_vec())),
            "{reply:?}"
        );
    }
}

/// The tickets in the queue of a key; `None` for who waits on a connection.
#[track_caller]
fn tickets(client: &mut Client, key: &str) -> Vec<Option<i64>> {
    let info = client.run(&format!("LOCK.INFO {key}"));
    if info.is_null() {
        return Vec::new();
    }
    let queue = field(&info, "queue");
    let of = |entry: &Reply| {
        let pairs = entry.pairs();
        pairs.into_iter().find_map(|(name, value)| (name.text() == "ticket").then(|| value.int()))
    };
    queue.items().iter().map(of).collect()
}

#[test]
fn one_ticket_stands_in_each_queue_and_is_called_on_the_channel_of_the_first_key() {
    let server = patient();
    let mut client = server.client();
    acquire(&mut client, "m TOKEN a");
    let mut channels = KEYS.map(|key| Listener::of(&server, key));
    let ticket = place(&mut client, "3 l k m TOKEN b OWNER b PX 60000 QUEUE 600000");
    for key in KEYS {
        assert_eq!(tickets(&mut client, key), [Some(ticket)], "{key}");
        assert_eq!(owners(&mut client, key).1, ["b"]);
    }
    assert!(!exists(&mut client, "k"));
    release(&mut client, "m", "a");
    channels[1].hears(ticket);
    channels.iter_mut().for_each(Listener::heard_nothing);
    assert_eq!(holds(&mut client, &KEYS, "b"), KEYS);
    let fence = field(&holder(&mut client, "k"), "fence").int();
    assert_eq!(fences(&mut client, &KEYS, "b"), [fence; 3]);
    let grant = all(&mut client, "3 l k m TOKEN b PX 70000 QUEUE 600000");
    assert_eq!((grant.token.as_slice(), grant.fence), (&b"b"[..], fence));
    for key in KEYS {
        assert_eq!(field(&holder(&mut client, key), "lease"), Reply::Int(70_000), "{key}");
    }
}

#[test]
fn the_ticket_stays_with_the_keys_in_any_order() {
    let server = patient();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let ticket = place(&mut client, "2 k l TOKEN b OWNER b QUEUE 600000");
    let behind = place(&mut client, "2 k l TOKEN c OWNER c QUEUE 600000");
    assert!(behind != ticket);
    for again in ["2 k l", "2 l k", "3 l k l"] {
        assert_eq!(place(&mut client, &format!("{again} TOKEN b OWNER b QUEUE 600000")), ticket, "{again}");
    }
    assert_eq!(tickets(&mut client, "k"), [Some(ticket), Some(behind)]);
    assert_eq!(tickets(&mut client, "l"), [Some(ticket), Some(behind)]);
}

#[test]
fn who_asks_for_more_gets_a_new_ticket_at_the_end() {
    let server = patient();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let first = place(&mut client, "2 k l TOKEN b QUEUE 600000");
    let behind = place(&mut client, "1 k TOKEN c QUEUE 600000");
    let newer = place(&mut client, "3 k l m TOKEN b QUEUE 600000");
    assert!(newer != first && newer != behind);
    assert_eq!(tickets(&mut client, "k"), [Some(behind), Some(newer)]);
    assert_eq!(tickets(&mut client, "l"), [Some(newer)]);
    assert_eq!(tickets(&mut client, "m"), [Some(newer)]);
}

/// Who comes too late has lost all of them, and the next is served.
#[test]
fn what_is_not_claimed_in_time_is_lost_at_every_key() {
    let server = Server::builder().config("lock.claim-lease 300").start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    place(&mut client, "3 k l m TOKEN b PX 60000 QUEUE 600000");
    let mut next = waits(&server, "3 k l m TOKEN c BLOCK 0");
    release(&mut client, "k", "a");
    for key in KEYS {
        assert!(remaining(&mut client, key, "b").is_none_or(|left| left <= 300), "{key}");
    }
    next.granted();
    assert!(holds(&mut client, &KEYS, "b").is_empty());
    release_all(&mut client, "3 k l m c");
    assert_eq!(client.info("lock", "lock_unclaimed"), "3");
    assert_free(&server, &KEYS);
}

#[test]
fn lock_extend_claims_each_and_lock_acquire_claims_one() {
    let server = Server::builder().config("lock.claim-lease 700").start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    place(&mut client, "3 k l m TOKEN b PX 60000 QUEUE 600000");
    // In one write, so that the claims come in time.
    let replies =
        client.run_all(&["LOCK.RELEASE k a", "LOCK.EXTEND k b PX 60000", "LOCK.ACQUIRE l TOKEN b PX 60000"]);
    assert_eq!(replies[..2], [Reply::Int(1), Reply::Int(1)]);
    ok_grant(replies[2].clone());
    wait_until("what was not claimed is lost", PATIENCE, || !exists(&mut client, "m"));
    assert_eq!(holds(&mut client, &KEYS, "b"), ["k", "l"]);
}

#[test]
fn mextend_claims_all() {
    let server = Server::builder().config("lock.claim-lease 400").start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    place(&mut client, "3 k l m TOKEN b PX 60000 QUEUE 600000");
    // In one write, so that the claim comes in time.
    let replies = client.run_all(&["LOCK.RELEASE k a", "LOCK.MEXTEND 3 k l m b PX 60000"]);
    assert_eq!(replies, [Reply::Int(1), Reply::Int(3)]);
    assert!(KEYS.iter().all(|key| remaining(&mut client, key, "b") > Some(50_000)));
}

#[test]
fn a_place_whose_time_is_over_leaves_every_queue() {
    let server = patient();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    place(&mut client, "2 k l TOKEN b QUEUE 600000");
    let mut behind = Waiter::new(&server, "l TOKEN c BLOCK 0");
    // The time that is asked for last counts.
    place(&mut client, "2 k l TOKEN b QUEUE 100");
    behind.granted();
    assert_eq!((waiting(&mut client, "k"), waiting(&mut client, "l")), (0, 0));
}

#[test]
fn a_place_is_given_up_by_a_release_at_any_of_its_keys() {
    let server = patient();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    for give_up in ["LOCK.RELEASE k b", "LOCK.RELEASE l b", "LOCK.MRELEASE 2 k l b", "LOCK.MRELEASE 1 l b"] {
        place(&mut client, "2 k l TOKEN b QUEUE 600000");
        assert_eq!(client.run(give_up), Reply::Int(0));
        assert_eq!((waiting(&mut client, "k"), waiting(&mut client, "l")), (0, 0), "{give_up}");
    }
}

/// First on a connection, then without: the end of BLOCK, CLIENT UNBLOCK and the end of the connection leave the place.
#[test]
fn a_place_outlives_its_connection() {
    let server = patient();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut late = waits(&server, "2 k l TOKEN b OWNER b BLOCK 100 QUEUE 600000");
    let ticket = late.reply().int();
    assert_eq!(tickets(&mut client, "l"), [Some(ticket)]);
    let mut again = waits(&server, "2 k l TOKEN b OWNER b BLOCK 0 QUEUE 600000");
    assert_eq!(tickets(&mut client, "l"), [None], "a connection waits");
    client.run(&format!("CLIENT UNBLOCK {}", again.id));
    assert_eq!(again.reply().int(), ticket);
    let lost = waits(&server, "2 l k TOKEN b OWNER b BLOCK 0 QUEUE 600000");
    drop(lost);
    wait_until("the place stands alone", PATIENCE, || tickets(&mut client, "k") == [Some(ticket)]);
    let mut unblocked = waits(&server, "2 k l TOKEN b OWNER b BLOCK 0 QUEUE 600000");
    let mut newer = waits(&server, "2 k l TOKEN b OWNER b BLOCK 0");
    assert_eq!(unblocked.reply().int(), ticket, "told its ticket when another takes the place over");
    client.run(&format!("CLIENT UNBLOCK {} ERROR", newer.id));
    assert!(newer.failed().starts_with("UNBLOCKED "));
    assert_eq!((waiting(&mut client, "k"), waiting(&mut client, "l")), (0, 0));
}

#[test]
fn client_unblock_with_error_ends_the_place_at_every_key() {
    let server = patient();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let mut waiter = waits(&server, "3 k l m TOKEN b BLOCK 0 QUEUE 600000");
    client.run(&format!("CLIENT UNBLOCK {} ERROR", waiter.id));
    assert!(waiter.failed().starts_with("UNBLOCKED "));
    KEYS.iter().for_each(|key| assert_eq!(waiting(&mut client, key), 0));
}

/// Places and clients that wait on connections stand in one order.
#[test]
fn places_and_blocked_clients_stand_in_one_order() {
    let server = patient();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a");
    let first = place(&mut client, "2 k l TOKEN b QUEUE 600000");
    let mut second = waits(&server, "2 l k TOKEN c BLOCK 0");
    let third = place(&mut client, "1 l TOKEN d QUEUE 600000");
    assert_eq!(tickets(&mut client, "k"), [Some(first), None]);
    assert_eq!(tickets(&mut client, "l"), [Some(first), None, Some(third)]);
    let mut at_l = Listener::of(&server, "l");
    let mut at_k = Listener::of(&server, "k");
    release_all(&mut client, "2 k l a");
    at_k.hears(first);
    second.assert_waiting(&server);
    release_all(&mut client, "2 k l b");
    second.granted();
    at_l.heard_nothing();
    release(&mut client, "l", "c");
    at_l.hears(third);
    assert_eq!(holds(&mut client, &["k", "l"], "d"), ["l"]);
    at_k.heard_nothing();
}

/// A grant to a blocked client with a place that could not be told is kept for the claim lease.
#[test]
fn a_grant_that_could_not_be_told_waits_to_be_claimed() {
    let server = patient();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a");
    let waiter = waits(&server, "2 k l TOKEN b BLOCK 0 QUEUE 600000");
    let kill = format!("CLIENT KILL ID {}", waiter.id);
    let replies = client.run_all(&["MULTI", "LOCK.MRELEASE 2 k l a", &kill, "EXEC"]);
    assert_eq!(replies[3], Reply::Array(vec![Reply::Int(2), Reply::Int(1)]));
    drop(waiter);
    assert_eq!(holds(&mut client, &["k", "l"], "b"), ["k", "l"]);
    let grant = all(&mut client, "2 k l TOKEN b QUEUE 600000");
    assert_eq!(fences(&mut client, &["k", "l"], "b"), [grant.fence; 2]);
}

#[test]
fn in_a_transaction_and_in_a_script_a_place_is_given_too() {
    let server = patient();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let replies = client.run_all(&["MULTI", "LOCK.MACQUIRE 2 k l TOKEN b BLOCK 0 QUEUE 600000", "EXEC"]);
    let ticket = replies[2].items()[0].int();
    let script = "return redis.call('LOCK.MACQUIRE', 2, KEYS[1], KEYS[2], 'TOKEN', 'b', 'QUEUE', 600000)";
    assert_eq!(client.call(&cmd!["EVAL", script, 2, "k", "l"]), Reply::Int(ticket));
    release(&mut client, "k", "a");
    let (token, _) = ok_grant(client.call(&cmd!["EVAL", script, 2, "k", "l"]));
    assert_eq!(token, b"b");
}

/// The hold at a key that was claimed for less than all is not taken back: an upgrade that is called in vain leaves the hold.
#[test]
fn an_upgrade_that_is_not_claimed_goes_back_at_all_keys() {
    let server = Server::builder().config("lock.claim-lease 300").start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a SHARED PX 600000");
    acquire(&mut client, "l TOKEN b SHARED");
    place(&mut client, "2 k l TOKEN a LIMIT 1 PX 600000 QUEUE 600000");
    none(&mut client, "1 k TOKEN c SHARED");
    // In one write, so that it is seen in time.
    let replies = client.run_all(&["LOCK.RELEASE l b", "LOCK.INFO k", "LOCK.INFO l"]);
    let shown = |info: &Reply| field(&field(info, "holders").items()[0], "limit").int();
    assert_eq!([&replies[1], &replies[2]].map(shown), [1, 1]);
    let limit = |client: &mut Client, key: &str| field(&holder(client, key), "limit").int();
    wait_until("the limits go back", PATIENCE, || {
        (limit(&mut client, "k"), limit(&mut client, "l")) == (0, 0)
    });
    assert!(remaining(&mut client, "k", "a") > Some(500_000), "it keeps its hold and its lease");
    assert!(remaining(&mut client, "l", "a") > Some(500_000), "it keeps its hold and its lease");
}
