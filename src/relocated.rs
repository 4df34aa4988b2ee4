//! Locks that arrived under a key by RENAME, by RESTORE, or by MOVE from another database.
//!
//! When a lock moves, the server reports the departure to the value and the arrival as a keyspace event. The order of
//! the two depends on the server, and in a transaction Valkey 9 reports the event in one database and opens keys in
//! another. So at the end of the iteration of the server's loop the module looks for a moved lock under its name in every
//! database.

use std::mem;

use lock_core::{DbKey, Lock};

use crate::cluster;
use crate::server::ffi::{Context, Key, MainThread, OwnedRedisString, RedisString};
use crate::state::TABLE;
use crate::timer;

struct Moves {
    /// Whether a lock has left its key since the last key was moved.
    one_has_left: bool,
    /// The last key that was moved, until a lock is reported to have left it.
    unexplained: Option<Box<[u8]>>,
    /// The keys to look for.
    sought: Vec<Box<[u8]>>,
}

static MOVES: MainThread<Moves> =
    MainThread::new(Moves { one_has_left: false, unexplained: None, sought: Vec::new() });

/// A lock has left this key, by MOVE or otherwise.
pub(crate) fn lock_left(key: &[u8]) {
    MOVES.with(|moves| {
        moves.one_has_left = true;
        if moves.unexplained.as_deref() == Some(key) {
            moves.sought.extend(moves.unexplained.take());
        }
    });
}

/// MOVE has moved this key to another database. Its value may be of any type.
pub(crate) fn key_moved(key: &[u8]) {
    MOVES.with(|moves| {
        if mem::take(&mut moves.one_has_left) {
            moves.sought.push(key.into());
        } else {
            moves.unexplained = Some(key.into());
        }
    });
}

/// The end of an iteration of the server's loop: finds the locks that were moved during it.
pub(crate) fn find(context: &Context) {
    for key in MOVES.with(|moves| mem::take(&mut moves.sought)) {
        let Some(name) = OwnedRedisString::new(context, &key) else { return };
        let databases = (0..).take_while(|database| context.select_database(*database));
        databases.for_each(|_| arrived(context, name.name()));
    }
}

/// The end of an iteration of the server's loop: tells locks that another node of the cluster has now from those that were
/// removed.
pub(crate) fn find_moved_away(context: &Context) {
    if !cluster::is_node() {
        return;
    }
    let left = TABLE.with(|table| table.left());
    if !left.is_empty() {
        let have: Vec<bool> =
            left.iter().map(|key| cluster::is_elsewhere(context, key.as_key().key)).collect();
        TABLE.with(|table| table.have_moved(&have));
    }
}

/// A value has arrived under this name. If it is a lock, its leases run on here, and pending undos follow it.
pub(crate) fn arrived(context: &Context, name: RedisString<'_>) {
    let Ok(Some(mut key)) = Key::<Lock>::open_to_write(context, name) else { return };
    let Some(lock) = key.value_mut() else { return };
    let place = DbKey { database: context.database(), key: name.bytes() };
    TABLE.with(|table| table.arrived(place, lock));
    timer::arm(context);
}
