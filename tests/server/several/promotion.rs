//! Roles that change: holds go along, each with its fence, and who waits for several is told.

use super::{all, fences, holds, none, release_all, waiting, waits};
use crate::support::change_over::{Two, Way};
use crate::support::locks::{acquire, holder};
use crate::support::payload::raise_fences;
use crate::support::waiter::wait_blocked;
use crate::support::{Reply, Server, field};

const KEYS: [&str; 3] = ["k", "l", "m"];

#[track_caller]
fn there_and_back(way: Way) {
    let mut two = Two::start(way);
    let mut client = two.master().client();
    raise_fences(&mut client);
    let grant = all(&mut client, "3 k l m TOKEN a PX 600000 OWNER me");
    acquire(&mut client, "x TOKEN x PX 600000");
    let mut waiters = [
        waits(two.master(), "2 k free TOKEN b BLOCK 0"),
        waits(two.master(), "2 x l TOKEN c SESSION BLOCK 0"),
        waits(two.master(), "3 free x other TOKEN d BLOCK 0 QUEUE 600000"),
    ];
    two.catch_up();
    two.change_over();
    waiters.iter_mut().for_each(crate::support::Waiter::failed_or_closed);
    wait_blocked(two.replica(), 0);
    let mut client = two.master().client();
    assert_eq!(fences(&mut client, &KEYS, "a"), [grant.fence; 3]);
    assert_eq!(field(&holder(&mut client, "l"), "owner").text(), "me");
    assert_eq!(waiting(&mut client, "free"), 0);
    let newer = all(&mut client, "2 free other TOKEN e PX 600000");
    assert!(newer.fence > grant.fence, "{newer:?} after {grant:?}");
    assert_eq!(all(&mut client, "3 k l m TOKEN a PX 600000").fence, grant.fence);
    release_all(&mut client, "3 k l m a");
    two.catch_up();
    two.change_over();
    let mut client = two.master().client();
    assert!(holds(&mut client, &KEYS, "a").is_empty());
    assert_eq!(fences(&mut client, &["free", "other"], "e"), [newer.fence; 2]);
    none(&mut client, "2 k free TOKEN f");
    assert!(all(&mut client, "3 k l m TOKEN f").fence > newer.fence);
    two.assert_alive();
}

#[test]
fn by_hand() {
    there_and_back(Way::ByHand);
}

#[test]
fn by_failover() {
    there_and_back(Way::Failover);
}

#[test]
fn a_server_that_becomes_a_replica_answers_who_waits_for_several() {
    let server = Server::start();
    let other = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    let mut waiters = [waits(&server, "2 k l TOKEN b BLOCK 0"), waits(&server, "2 l m TOKEN c BLOCK 60000")];
    let place = client.run("LOCK.MACQUIRE 2 m n TOKEN d QUEUE 600000");
    assert!(matches!(place, Reply::Int(_)), "{place:?}");
    client.ok(&format!("REPLICAOF 127.0.0.1 {}", other.port()));
    waiters.iter_mut().for_each(crate::support::Waiter::failed_or_closed);
    wait_blocked(&server, 0);
    let mut client = server.client();
    client.ok("REPLICAOF NO ONE");
    for key in ["l", "m", "n"] {
        assert_eq!(waiting(&mut client, key), 0, "{key}: nobody is left of them");
    }
    all(&mut client, "3 l m n TOKEN e");
}
