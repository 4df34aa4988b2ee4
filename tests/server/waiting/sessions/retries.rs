//! A retry with SESSION ties the hold to the connection that it comes from.

use std::time::{Duration, Instant};

use super::{client_is_gone, gone_at_once, session_of};
use crate::support::locks::{acquire, remaining};
use crate::support::waiter::time_passes;
use crate::support::{PATIENCE, Reply, Server, wait_until};

#[test]
fn a_retry_with_session_ties_it_to_the_new_connection() {
    let server = Server::start();
    let (mut old, mut new) = (server.client(), server.client());
    let mut client = server.client();
    let (old_id, new_id) = (old.id(), new.id());
    let first = acquire(&mut old, "k TOKEN a PX 600000 SESSION");
    assert_eq!(session_of(&mut client, "k"), Reply::Int(old_id));
    assert_eq!(acquire(&mut new, "k TOKEN a PX 600000 SESSION"), first);
    assert_eq!(session_of(&mut client, "k"), Reply::Int(new_id));
    drop(old);
    wait_until("the old one is gone", PATIENCE, || client_is_gone(&mut client, old_id));
    assert!(remaining(&mut client, "k", "a").is_some(), "it is no longer the old one's");
    drop(new);
    gone_at_once(&mut client, "k");
}

#[test]
fn a_retry_with_session_ties_a_hold_that_was_nobodys() {
    let server = Server::start();
    let mut client = server.client();
    let first = acquire(&mut client, "k TOKEN a PX 60000");
    let mut session = server.client();
    let id = session.id();
    assert_eq!(acquire(&mut session, "k TOKEN a PX 1000 SESSION"), first);
    assert_eq!(session_of(&mut client, "k"), Reply::Int(id));
    time_passes(Instant::now(), Duration::from_millis(1_600));
    assert!(remaining(&mut client, "k", "a").is_some());
    drop(session);
    gone_at_once(&mut client, "k");
}
