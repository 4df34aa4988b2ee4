//! Who waits with SESSION is tied when it is granted, and never holds the lock if its connection has ended.

use std::time::{Duration, Instant};

use super::{gone_at_once, session_of};
use crate::support::locks::{acquire, field, holder};
use crate::support::waiter::{assert_left_in_peace, release, time_passes, wait_blocked};
use crate::support::{Reply, Server, Waiter, cmd};

#[test]
fn a_waiter_is_tied_when_it_is_granted() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    let mut waiter = Waiter::new(&server, "k TOKEN b PX 1000 SESSION BLOCK 0");
    assert_eq!(session_of(&mut client, "k"), Reply::NullBulk);
    release(&mut client, "k", "a");
    let grant = waiter.granted();
    assert_eq!(session_of(&mut client, "k"), Reply::Int(waiter.id));
    time_passes(Instant::now(), Duration::from_millis(1_600));
    assert_eq!(field(&holder(&mut client, "k"), "fence"), Reply::Int(grant.fence), "it is kept");
    client.call(&cmd!["LOCK.EXTEND", "k", "b", "PX", 600_000]);
    drop(waiter);
    gone_at_once(&mut client, "k");
}

#[test]
fn a_connection_that_ends_while_it_waits_never_holds_the_lock() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    drop(Waiter::new(&server, "k TOKEN b SESSION BLOCK 0"));
    wait_blocked(&server, 0);
    release(&mut client, "k", "a");
    assert_left_in_peace(&server, "k");
}

/// The release comes while the end of the connection is still unread: the grant may be made, and does not stay.
#[test]
fn a_grant_to_a_connection_that_has_ended_unnoticed_does_not_stay() {
    let server = Server::start();
    let mut client = server.client();
    for _ in 0..20 {
        acquire(&mut client, "k TOKEN a PX 600000");
        let waiter = Waiter::new(&server, "k TOKEN b PX 600000 SESSION BLOCK 0");
        let mut behind = Waiter::new(&server, "k TOKEN c BLOCK 0");
        drop(waiter);
        release(&mut client, "k", "a");
        behind.granted();
        release(&mut client, "k", "c");
        assert_left_in_peace(&server, "k");
    }
}
