//! Whether anything consumes the replication stream: a replica, a backlog or an append-only file.
//!
//! Replicating a grant costs a fifth of the grant itself, even if the server then discards it because it has neither
//! replicas nor an append-only file: the server looks the command up by name and builds its arguments before it checks.
//! So the module checks first. It must never miss a consumer. It does not, for these reasons:
//!
//! 1. The server keeps the stream as long as it has a replica, a replication backlog, or an append-only file. If it has
//!    none of them, the stream is not kept anywhere.
//! 2. A new consumer begins with a snapshot: a full synchronisation, a replica started on a copy of a snapshot that
//!    this server wrote, or a new append-only file. The snapshot contains what was done before it was begun, so the
//!    consumer does not need the stream from before.
//! 3. The server tells the module of a snapshot before it begins: by the fork that writes it, or by an event if the
//!    server writes it without a fork. From then on the module assumes a consumer, until it finds neither a child
//!    process nor any of the three of rule 1. It also checks for them several times a second.
//! 4. When the server frees its backlog it also changes the id of the stream, so that no replica can continue it.
//! 5. A node of a cluster can also send slots to another node. There the module always assumes a consumer.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::server::ffi::Context;

static SOMEBODY_LISTENS: AtomicBool = AtomicBool::new(true);

/// Whether there may be a consumer.
pub(crate) fn may_be_there() -> bool {
    SOMEBODY_LISTENS.load(Ordering::Relaxed)
}

/// A consumer may have come.
pub(crate) fn may_have_come() {
    SOMEBODY_LISTENS.store(true, Ordering::Relaxed);
}

/// Checks whether there is a consumer. Called several times a second.
pub(crate) fn look(context: &Context) {
    SOMEBODY_LISTENS.store(!nobody_is_there(context), Ordering::Relaxed);
}

fn nobody_is_there(context: &Context) -> bool {
    // A field that this server does not have counts as not zero.
    let is_zero = |section, field| context.info_integer(section, field) == Some(0);
    !context.appends()
        && !context.is_in_cluster()
        && context.is_master()
        && is_zero(c"replication", c"connected_slaves")
        && is_zero(c"replication", c"repl_backlog_active")
        && is_zero(c"persistence", c"rdb_bgsave_in_progress")
        && is_zero(c"persistence", c"aof_rewrite_in_progress")
}
