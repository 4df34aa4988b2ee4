//! SESSION: the server keeps the lease of a connection that is open, and ends the hold of one that is closed.

mod closing;
mod durability;
mod keeping;
mod other_connections;
mod retries;
mod scripts;
mod waiters;

use std::time::Duration;

use crate::support::locks::{exists, field, holder};
use crate::support::{Client, PATIENCE, Reply, wait_until};

/// How soon the end of a connection must be the end of its holds: far sooner than the leases used with it.
const AT_ONCE: Duration = PATIENCE;

/// Waits until the key is gone, long before a lease could have ended.
#[track_caller]
fn gone_at_once(client: &mut Client, key: &str) {
    wait_until(&format!("{key} is released"), AT_ONCE, || !exists(client, key));
}

#[track_caller]
fn session_of(client: &mut Client, key: &str) -> Reply {
    field(&holder(client, key), "session")
}

#[track_caller]
fn client_is_gone(client: &mut Client, id: i64) -> bool {
    client.run(&format!("CLIENT LIST ID {id}")).text().is_empty()
}
