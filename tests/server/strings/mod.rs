//! `lock.adopt-strings`: strings that SET has left count as locks, and both kinds of clients exclude each other. The exact
//! stream is in `durability/pages/strings.txt`.

mod commands;
mod elsewhere;
mod waiting;

use crate::support::{Builder, Client, Reply, Server};

/// A script with which clients release what they have set.
const UNLOCK: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end";

fn adopting() -> Builder {
    Server::builder().config("lock.adopt-strings yes")
}

/// SET NX PX, which must get the lock.
#[track_caller]
fn set(client: &mut Client, key: &str, token: &str, ms: u64) {
    client.ok(&format!("SET {key} {token} NX PX {ms}"));
}

/// The reply of the script.
fn unlock(client: &mut Client, key: &str, token: &str) -> Reply {
    client.call(&["EVAL", UNLOCK, "1", key, token])
}

fn ttl(client: &mut Client, key: &str) -> i64 {
    client.run(&format!("PTTL {key}")).int()
}

/// From now on the server deletes keys whose time is over only when somebody opens them.
fn stop_active_expiry(client: &mut Client) {
    client.ok("DEBUG SET-ACTIVE-EXPIRE 0");
}
