//! What tests say about locks: grants, holds, LOCK.INFO's fields.

use super::client::Client;
use super::reply::Reply;

/// What LOCK.ACQUIRE gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The token that proves it.
    pub(crate) token: Vec<u8>,
    /// Its fence.
    pub(crate) fence: i64,
}

/// Token and fence of a LOCK.ACQUIRE that must have been granted.
#[track_caller]
pub(crate) fn ok_grant(reply: Reply) -> (Vec<u8>, i64) {
    match reply {
        Reply::Array(parts) if parts.len() == 2 => (parts[0].bytes(), parts[1].int()),
        other => panic!("a grant was due, got {other:?}"),
    }
}

/// Acquires with everything behind `LOCK.ACQUIRE`, parted by blanks; it must be granted.
#[track_caller]
pub(crate) fn acquire(client: &mut Client, rest: &str) -> Grant {
    let (token, fence) = ok_grant(client.run(&format!("LOCK.ACQUIRE {rest}")));
    Grant { token, fence }
}

/// The fence of an acquire that must be granted.
#[track_caller]
pub(crate) fn fence_of(client: &mut Client, rest: &str) -> i64 {
    acquire(client, rest).fence
}

/// Acquires with everything behind `LOCK.ACQUIRE`; it must be refused with the null of the connection's protocol.
#[track_caller]
pub(crate) fn refused(client: &mut Client, rest: &str) {
    let reply = client.run(&format!("LOCK.ACQUIRE {rest}"));
    assert_eq!(reply, null(client), "LOCK.ACQUIRE {rest}");
}

/// The null that ACQUIRE, CHECK and INFO answer on this connection.
pub(crate) fn null(client: &Client) -> Reply {
    if client.is_resp3() { Reply::Null } else { Reply::NullArray }
}

/// The value of `name` in a map, which in RESP2 is a flat array.
#[track_caller]
pub(crate) fn field(map: &Reply, name: &str) -> Reply {
    map.pairs()
        .into_iter()
        .find_map(|(key, value)| (key.text() == name).then_some(value))
        .unwrap_or_else(|| panic!("no field {name} in {map:?}"))
}

/// The names of a map's fields in their order.
#[track_caller]
pub(crate) fn field_names(map: &Reply) -> Vec<String> {
    map.pairs().iter().map(|(key, _)| key.text()).collect()
}

/// The holders LOCK.INFO shows; none when the key does not exist.
#[track_caller]
pub(crate) fn holders<K: AsRef<[u8]>>(client: &mut Client, key: K) -> Vec<Reply> {
    let info = client.call(&[b"LOCK.INFO".as_slice(), key.as_ref()]);
    if info.is_null() {
        return Vec::new();
    }
    field(&info, "holders").items().to_vec()
}

/// How many hold a lock by LOCK.INFO, which shows the oldest hundred of them.
#[track_caller]
pub(crate) fn held<K: AsRef<[u8]>>(client: &mut Client, key: K) -> i64 {
    let info = client.call(&[b"LOCK.INFO".as_slice(), key.as_ref()]);
    if info.is_null() { 0 } else { field(&info, "held").int() }
}

/// The one holder LOCK.INFO must show.
#[track_caller]
pub(crate) fn holder<K: AsRef<[u8]>>(client: &mut Client, key: K) -> Reply {
    let holders = holders(client, key);
    assert_eq!(holders.len(), 1, "one holder was due, got {holders:?}");
    holders[0].clone()
}

/// Milliseconds left of a token's lease by LOCK.CHECK; `None` when it does not hold the lock.
#[track_caller]
pub(crate) fn remaining<K: AsRef<[u8]>, T: AsRef<[u8]>>(
    client: &mut Client,
    key: K,
    token: T,
) -> Option<i64> {
    let reply = client.call(&[b"LOCK.CHECK".as_slice(), key.as_ref(), token.as_ref()]);
    if reply.is_null() {
        return None;
    }
    let parts = reply.items();
    assert_eq!(parts.len(), 3, "LOCK.CHECK gives fence, time and how many wait: {reply:?}");
    Some(parts[1].int())
}

/// Whether the key exists.
#[track_caller]
pub(crate) fn exists<K: AsRef<[u8]>>(client: &mut Client, key: K) -> bool {
    client.call(&[b"EXISTS".as_slice(), key.as_ref()]) == Reply::Int(1)
}

/// What LOCK.INFO says of a key, less what moves with time (`remaining`, `age`): for "nothing changed".
#[track_caller]
pub(crate) fn standing<K: AsRef<[u8]>>(client: &mut Client, key: K) -> Reply {
    let info = client.call(&[b"LOCK.INFO".as_slice(), key.as_ref()]);
    if info.is_null() || info.is_error() {
        return info;
    }
    let still = info.pairs().into_iter().map(|(name, value)| {
        if name.text() != "holders" {
            return (name, value);
        }
        let holders = value.items().iter().map(|holder| {
            let parts = holder.pairs().into_iter();
            Reply::Map(parts.filter(|(part, _)| !moves(&part.text())).collect())
        });
        (name, Reply::Array(holders.collect()))
    });
    Reply::Map(still.collect())
}

fn moves(field: &str) -> bool {
    field == "remaining" || field == "age"
}
