//! RESTORE of what no server has DUMPed: every damage to a lock's bytes, the checksum made good again, comes to an
//! error or to a lock like any other, and costs nothing that lasts.

use crate::support::locks::{acquire, exists, field};
use crate::support::payload::Payload;
use crate::support::{Client, Random, Reply, Server, cmd};

/// The longest lease there can be, in milliseconds: a hundred years.
const LONGEST_LEASE: i64 = 100 * 365 * 24 * 60 * 60 * 1_000;

/// Payloads sent in one write.
const BATCH: usize = 200;

/// What may be left of memory after everything is gone: buffers of clients, no data.
const SLACK: i64 = 512 * 1_024;

#[track_caller]
fn an_exclusive_lock(client: &mut Client) -> Payload {
    acquire(client, "original PX 60000");
    taken(client)
}

#[track_caller]
fn a_crowded_lock(client: &mut Client) -> Payload {
    acquire(client, "original PX 60000 LIMIT 5 TOKEN a OWNER somebody");
    acquire(client, "original PX 70000 SHARED TOKEN bb");
    acquire(client, "original EX 80 LIMIT 4 OWNER me");
    taken(client)
}

/// The payload of the key `original`, which goes.
#[track_caller]
fn taken(client: &mut Client) -> Payload {
    let payload = Payload::of(client, "original");
    assert!(client.run("LOCK.BREAK original").int() > 0);
    payload
}

/// RESTOREs every payload and looks at what came of it; returns how many were taken for locks.
#[track_caller]
fn restore_all(client: &mut Client, payloads: &[Payload]) -> usize {
    let before = used_memory(client);
    let mut locks = 0;
    for batch in payloads.chunks(BATCH) {
        let commands: Vec<Vec<Vec<u8>>> = batch
            .iter()
            .flat_map(|payload| {
                [
                    cmd!["RESTORE", "k", 0, payload.wire()].to_vec(),
                    cmd!["LOCK.INFO", "k"].to_vec(),
                    cmd!["LOCK.CHECK", "k", "a"].to_vec(),
                    cmd!["LOCK.BREAK", "k"].to_vec(),
                    cmd!["EXISTS", "k"].to_vec(),
                ]
            })
            .collect();
        let replies = client.pipeline(&commands);
        for (payload, replies) in batch.iter().zip(replies.chunks(5)) {
            let what = payload.body.escape_ascii();
            assert_eq!(replies[4], Reply::Int(0), "{what}: {replies:?}");
            if replies[0].is_error() {
                assert_eq!(replies[0].error(), "ERR Bad data format", "{what}");
                assert_eq!(replies[3], Reply::Int(0), "{what}: {replies:?}");
            } else {
                locks += 1;
                assert_is_sane(&replies[1], &replies[3]);
            }
        }
    }
    let grown = used_memory(client) - before;
    assert!(grown < SLACK, "{grown} bytes are left behind");
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
    locks
}

/// A lock that could have been granted, all of whose holds can be broken. A lease may have run out by the time it is
/// looked at.
#[track_caller]
fn assert_is_sane(info: &Reply, broken: &Reply) {
    if info.is_null() {
        assert_eq!(*broken, Reply::Int(0));
        return;
    }
    let holders = field(info, "holders");
    let holders = holders.items();
    let number = |holder: &Reply, name: &str| field(holder, name).int();
    let count = i64::try_from(holders.len()).unwrap();
    assert!(broken.int() <= count && broken.int() >= count - 1, "{broken:?} of {info:?}");
    let mut fence = 0;
    for holder in holders {
        assert!(number(holder, "fence") > fence, "{info:?}");
        fence = number(holder, "fence");
        assert!(fence < 1 << 53, "{info:?}");
        assert!((1..=LONGEST_LEASE).contains(&number(holder, "lease")), "{info:?}");
        assert!((0..=number(holder, "lease")).contains(&number(holder, "remaining")), "{info:?}");
        assert!(number(holder, "limit") == 0 || number(holder, "limit") >= count, "{info:?}");
        assert!(number(holder, "level") >= 1 && number(holder, "age") >= 0, "{info:?}");
    }
}

fn used_memory(client: &mut Client) -> i64 {
    client.info("memory", "used_memory").parse().unwrap()
}

/// All but the first byte, which says of what type the value is: with another one it is none of a lock.
fn cut_short(payload: &Payload) -> Vec<Payload> {
    (1..payload.body.len()).map(|length| payload.with_body(payload.body[..length].to_vec())).collect()
}

fn with_every_bit_turned(payload: &Payload) -> Vec<Payload> {
    let turned = (8..payload.body.len() * 8).map(|bit| {
        let mut body = payload.body.clone();
        body[bit / 8] ^= 1 << (bit % 8);
        payload.with_body(body)
    });
    turned.collect()
}

/// The footer stands where the rest should, and is read for it: now and then that makes a lock.
#[test]
fn a_payload_cut_short_is_an_error_or_a_sane_lock() {
    for compression in ["yes", "no"] {
        let mut server = Server::builder().config(&format!("rdbcompression {compression}")).start();
        let mut client = server.client();
        for lock in [an_exclusive_lock, a_crowded_lock] {
            let payload = lock(&mut client);
            let damaged = cut_short(&payload);
            let locks = restore_all(&mut client, &damaged);
            assert!(locks < damaged.len() / 4, "{locks} of {}", damaged.len());
            assert_eq!(restore_all(&mut client, &[payload]), 1);
        }
        server.assert_alive();
    }
}

#[test]
fn a_payload_with_a_bit_turned_is_an_error_or_a_sane_lock() {
    for compression in ["yes", "no"] {
        let mut server = Server::builder().config(&format!("rdbcompression {compression}")).start();
        let mut client = server.client();
        for lock in [an_exclusive_lock, a_crowded_lock] {
            let payload = lock(&mut client);
            let damaged = with_every_bit_turned(&payload);
            let locks = restore_all(&mut client, &damaged);
            assert!(locks > 0 && locks < damaged.len(), "{locks} of {}", damaged.len());
            // Fences that were turned high are behind us: what comes next starts anew.
            client.ok("FLUSHALL");
            server.assert_alive();
            server.restart(crate::support::Data::NoSave);
            client = server.client();
        }
    }
}

#[test]
fn a_payload_with_random_bytes_in_it_is_an_error_or_a_sane_lock() {
    let mut random = Random::from_environment();
    let mut server = Server::builder().config("rdbcompression no").start();
    let mut client = server.client();
    let payload = a_crowded_lock(&mut client);
    let damaged: Vec<Payload> = (0..4_000)
        .map(|_| {
            let mut body = payload.body.clone();
            let length = 1 + random.below(12);
            let at = 1 + random.below(body.len() - length);
            let (bytes, inserted) = (random.bytes(length), random.below(2) == 0);
            let end = if inserted { at } else { at + length };
            body.splice(at..end, bytes);
            payload.with_body(body)
        })
        .collect();
    restore_all(&mut client, &damaged);
    server.assert_alive();
}

/// The key that a bad RESTORE with REPLACE was to replace stays as it was.
#[test]
fn a_bad_payload_replaces_nothing() {
    let server = Server::start();
    let mut client = server.client();
    let mut payload = an_exclusive_lock(&mut client);
    let middle = payload.body.len() / 2;
    payload.body.truncate(middle);
    let fence = acquire(&mut client, "k TOKEN a PX 60000").fence;
    let reply = client.call(&cmd!["RESTORE", "k", 0, payload.wire(), "REPLACE"]);
    assert_eq!(reply.error(), "ERR Bad data format");
    assert_eq!(client.run("LOCK.CHECK k a").items()[0], Reply::Int(fence));
}

#[test]
fn dump_and_restore_carry_holds_fences_and_what_is_left_of_the_leases() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k SHARED TOKEN a PX 60000 OWNER me");
    acquire(&mut client, "k LIMIT 3 TOKEN b PX 4000");
    acquire(&mut client, "k SHARED TOKEN c PX 90000");
    let (before, left) = (crate::support::locks::standing(&mut client, "k"), client.run("LOCK.CHECK k b"));
    let payload = Payload::of(&mut client, "k");
    assert_eq!(client.run("LOCK.BREAK k"), Reply::Int(3));
    assert_eq!(client.call(&cmd!["RESTORE", "l", 0, payload.wire()]), Reply::Simple("OK".into()));
    assert_eq!(crate::support::locks::standing(&mut client, "l"), before);
    let again = client.run("LOCK.CHECK l b");
    assert_eq!(again.items()[0], left.items()[0]);
    assert!(again.items()[1].int() <= left.items()[1].int() + 1, "{again:?} after {left:?}");
    crate::support::wait_until("the short lease ends", crate::support::PATIENCE, || {
        crate::support::locks::holders(&mut client, "l").len() == 2
    });
}

/// A lock that is read and then comes to stand nowhere must not be remembered by anybody.
#[test]
fn a_lock_that_was_read_and_dropped_again_leaves_nothing_behind() {
    const TIMES: usize = 20_000;
    let mut server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "original PX 86400000");
    let whole = taken(&mut client);
    // The mark at the end of a module's value is another one.
    let mut unfinished = whole.clone();
    *unfinished.body.last_mut().unwrap() = 2;
    for command in [
        cmd!["RESTORE", "a key of some forty bytes, so that it counts", 0, unfinished.wire()].to_vec(),
        cmd!["RESTORE", "a key of some forty bytes, so that it counts", 1, whole.wire(), "ABSTTL"].to_vec(),
    ] {
        let batch = vec![command; BATCH];
        client.pipeline(&batch);
        let before = used_memory(&mut client);
        (0..TIMES / BATCH).for_each(|_| drop(client.pipeline(&batch)));
        let grown = used_memory(&mut client) - before;
        assert!(!exists(&mut client, "a key of some forty bytes, so that it counts"));
        assert!(
            grown < SLACK,
            "{grown} bytes are left behind by {}",
            crate::support::errors::show(&batch[0])
        );
    }
    server.assert_alive();
}
