//! What the server knows of the cluster that it is a node of.

use std::ffi::CStr;
use std::io;
use std::ops::RangeInclusive;
use std::ptr::NonNull;

use redis_module::raw;

use super::call::{Reply, View};
use super::{Context, RedisString};

/// Whether this node may write to a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ownership {
    /// It may.
    Ours,
    /// Another node serves the key, the key has moved there already, or no node serves it.
    NotOurs,
    /// The cluster is down.
    Down,
}

/// Slots that one node serves.
pub(crate) struct SlotRange {
    /// The first and the last of them.
    pub(crate) slots: RangeInclusive<i64>,
    /// The host of the node, as the server tells its clients. Empty for the node that they are connected to.
    pub(crate) host: String,
    /// The port of the node.
    pub(crate) port: i64,
    /// Whether it is this node.
    pub(crate) is_ours: bool,
}

impl Context {
    /// Asks the server whether it may write to this key, by calling a write command that does nothing. Only for servers
    /// that are nodes of a cluster.
    pub(crate) fn ask_ownership(&self, command: &CStr, key: RedisString<'_>) -> Ownership {
        // SAFETY: the format names a string of the server, which is what is passed.
        let reply = unsafe { api!(RedisModule_Call(self.raw(), command.as_ptr(), c"s".as_ptr(), key.raw())) };
        match Reply::new(reply) {
            Some(_) => Ownership::Ours,
            // errno says why: EPERM if a client would be redirected, and ENETDOWN or EROFS if the cluster is down.
            None if io::Error::last_os_error().kind() == io::ErrorKind::PermissionDenied => {
                Ownership::NotOurs
            }
            None => Ownership::Down,
        }
    }

    /// The slot of a key.
    pub(crate) fn slot_of(&self, key: RedisString<'_>) -> Option<i64> {
        // SAFETY: the format names a C string and a string of the server.
        let reply = unsafe {
            api!(RedisModule_Call(
                self.raw(),
                c"CLUSTER".as_ptr(),
                c"cs".as_ptr(),
                c"KEYSLOT".as_ptr(),
                key.raw()
            ))
        };
        Reply::new(reply)?.view().integer()
    }

    /// The slots that are moving to this node, key by key.
    pub(crate) fn arriving_slots(&self) -> Vec<i64> {
        // SAFETY: the format names a C string.
        let reply = unsafe {
            api!(RedisModule_Call(self.raw(), c"CLUSTER".as_ptr(), c"c".as_ptr(), c"NODES".as_ptr()))
        };
        let nodes = Reply::new(reply).and_then(|reply| reply.view().text()).unwrap_or_default();
        let me = nodes.lines().find(|line| line.contains("myself"));
        me.into_iter().flat_map(str::split_ascii_whitespace).filter_map(arriving_slot).collect()
    }

    /// Which node serves which slots. Slots that no node serves are left out.
    ///
    /// CLUSTER SLOTS is not used: it crashes Valkey 8 when no command of a client is running.
    pub(crate) fn slot_ranges(&self) -> Vec<SlotRange> {
        // SAFETY: the format names a C string.
        let reply = unsafe {
            api!(RedisModule_Call(self.raw(), c"CLUSTER".as_ptr(), c"c".as_ptr(), c"SHARDS".as_ptr()))
        };
        let Some(reply) = Reply::new(reply) else { return Vec::new() };
        let me = my_id();
        // The server chooses the port in this way for requests that do not come by a connection.
        let is_tls = self.setting(c"tls-cluster").as_deref() == Some("yes");
        reply.view().elements().flat_map(|shard| slots_of_shard(shard, me.as_deref(), is_tls)).collect()
    }
}

/// The number of a slot that is arriving, as CLUSTER NODES writes it among a node's slots: `[93-<-` and the id of the node
/// that it comes from.
fn arriving_slot(word: &str) -> Option<i64> {
    let (slot, _) = word.strip_prefix('[')?.split_once("-<-")?;
    slot.parse().ok()
}

/// What CLUSTER SHARDS says of a shard: its slots, the first and the last of each range, and its nodes.
fn slots_of_shard(shard: View<'_>, me: Option<&str>, is_tls: bool) -> Vec<SlotRange> {
    let is = |node: View<'_>, field, text: &str| {
        node.field(field).and_then(View::text).is_some_and(|value| value == text)
    };
    let nodes = shard.field("nodes").into_iter().flat_map(View::elements);
    let masters: Vec<View<'_>> = nodes.filter(|node| is(*node, "role", "master")).collect();
    // A failed master may still be listed beside the one that has replaced it.
    let is_online = |node: &&View<'_>| is(**node, "health", "online");
    let Some(master) = masters.iter().find(is_online).or(masters.first()) else { return Vec::new() };
    let port = |field| master.field(field).and_then(View::integer);
    let (plain, tls) = (port("port"), port("tls-port"));
    let Some(port) = (if is_tls { tls.or(plain) } else { plain.or(tls) }) else { return Vec::new() };
    let id = master.field("id").and_then(View::text);
    let bounds: Vec<i64> =
        shard.field("slots").into_iter().flat_map(View::elements).filter_map(View::integer).collect();
    let (ranges, _) = bounds.as_chunks();
    ranges
        .iter()
        .map(|[first, last]| SlotRange {
            slots: *first..=*last,
            host: master.field("endpoint").and_then(View::text).unwrap_or_default(),
            port,
            is_ours: id.as_deref() == me,
        })
        .collect()
}

/// The id of this node.
fn my_id() -> Option<String> {
    // SAFETY: the server returns null, or an id of this length that stays valid.
    let id = unsafe {
        let id = api!(RedisModule_GetMyClusterID()).cast::<u8>();
        let len = usize::try_from(raw::REDISMODULE_NODE_ID_LEN).ok()?;
        std::slice::from_raw_parts(NonNull::new(id.cast_mut())?.as_ptr(), len)
    };
    String::from_utf8(id.to_vec()).ok()
}
