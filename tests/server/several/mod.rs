//! LOCK.MACQUIRE, LOCK.MRELEASE and LOCK.MEXTEND: several keys in one step, all of them or none.
//!
//! - [`all`] acquires several locks, [`none`] is refused them, [`waits`] is a connection that waits for them.
//! - [`holds`] says which of the keys a token holds, [`assert_free`] that nobody holds or waits for any of them.

use crate::support::locks::{Grant, null, remaining};
use crate::support::waiter::assert_left_in_peace;
use crate::support::{Client, Reply, Server, Waiter, ok_grant};

mod caps;
mod cluster;
mod commands;
mod durability;
mod elsewhere;
mod endings;
mod figures;
mod grace;
mod model;
mod moving;
mod notifications;
mod one_step;
mod order;
mod philosophers;
mod places;
mod promotion;
mod replies;
mod retry;
mod rights;
mod sessions;
mod shares;
mod stress;
mod strings;
mod superseded;
mod touched;
mod undo;
mod upgrade;
mod waiting;

/// Acquires with everything behind `LOCK.MACQUIRE`, parted by blanks; it must be granted.
#[track_caller]
fn all(client: &mut Client, rest: &str) -> Grant {
    let (token, fence) = ok_grant(client.run(&format!("LOCK.MACQUIRE {rest}")));
    Grant { token, fence }
}

/// Acquires with everything behind `LOCK.MACQUIRE`; it must be refused with the null of the connection's protocol.
#[track_caller]
fn none(client: &mut Client, rest: &str) {
    let reply = client.run(&format!("LOCK.MACQUIRE {rest}"));
    assert_eq!(reply, null(client), "LOCK.MACQUIRE {rest}");
}

/// Acquires with everything behind `LOCK.MACQUIRE`; the reply must be an error that begins so.
#[track_caller]
fn errs(client: &mut Client, rest: &str, error: &str) {
    let reply = client.run(&format!("LOCK.MACQUIRE {rest}"));
    assert!(reply.error().starts_with(error), "LOCK.MACQUIRE {rest}: {error} was due, got {reply:?}");
}

/// A connection whose LOCK.MACQUIRE, with everything behind it, waits in the server.
#[track_caller]
fn waits(server: &Server, rest: &str) -> Waiter {
    waits_on(server, server.client(), rest)
}

/// The same on a connection there is.
#[track_caller]
fn waits_on(server: &Server, mut client: Client, rest: &str) -> Waiter {
    let id = client.id();
    let command = format!("LOCK.MACQUIRE {rest}");
    client.send(&command.split_ascii_whitespace().collect::<Vec<_>>());
    Waiter { client, id }.once_it_waits_again(server, &format!("of several: {rest}"))
}

/// Releases several locks, all of which the token must hold: `2 k l token`.
#[track_caller]
fn release_all(client: &mut Client, rest: &str) {
    let count: i64 = rest.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(client.run(&format!("LOCK.MRELEASE {rest}")), Reply::Int(count), "LOCK.MRELEASE {rest}");
}

/// Those of the keys that the token holds.
#[track_caller]
fn holds<'a>(client: &mut Client, keys: &[&'a str], token: &str) -> Vec<&'a str> {
    keys.iter().copied().filter(|key| remaining(client, key, token).is_some()).collect()
}

/// The fences of the token's holds on these keys, all of which it must have.
#[track_caller]
fn fences(client: &mut Client, keys: &[&str], token: &str) -> Vec<i64> {
    let mut fence = |key: &&str| client.run(&format!("LOCK.CHECK {key} {token}")).items()[0].int();
    keys.iter().map(&mut fence).collect()
}

/// Nobody holds any of the keys or waits for one, and anybody can have them.
#[track_caller]
fn assert_free(server: &Server, keys: &[&str]) {
    keys.iter().for_each(|key| assert_left_in_peace(server, key));
}

/// How many wait for the key, also if nobody holds it.
#[track_caller]
fn waiting(client: &mut Client, key: &str) -> i64 {
    let info = client.run(&format!("LOCK.INFO {key}"));
    if info.is_null() { 0 } else { crate::support::field(&info, "waiting").int() }
}
