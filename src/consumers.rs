//! Whether anybody listens to what the module passes on.
//!
//! To pass a grant on costs a fifth of the grant itself, also where the server then throws it away because it has
//! neither replicas nor an append-only file: it looks the command up by name and builds its words before it asks. So the
//! module asks first. It must never think itself alone when it is not; that it does not rests on this:
//!
//! 1. The server keeps the stream from the moment it has a replica, a replication backlog, or an append-only file. Where
//!    it has none of them, nothing that was passed on is kept anywhere.
//! 2. Whoever comes to listen after that begins with a snapshot: a replica in full or one started on a copy of a snapshot
//!    that this server wrote, or a new append-only file. What was done before the snapshot was begun is in it, and what
//!    the stream holds from before then, whatever it is, is not asked for.
//! 3. The module is told of a snapshot before it is begun, by the fork that writes it or, where the server writes it
//!    itself, by its beginning. From then on it takes it that somebody listens, until it has seen that there is neither a
//!    child at work nor any of the three of 1. It also looks several times a second whether there is one of them.
//! 4. A backlog that is given up gives up the name of the stream with it, so that nobody can come back to it.
//! 5. A node of a cluster can also send slots to another node; there the module takes it that somebody always listens.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::server::ffi::Context;

static SOMEBODY_LISTENS: AtomicBool = AtomicBool::new(true);

/// Whether there may be anybody.
pub(crate) fn may_be_there() -> bool {
    SOMEBODY_LISTENS.load(Ordering::Relaxed)
}

/// Somebody may have come.
pub(crate) fn may_have_come() {
    SOMEBODY_LISTENS.store(true, Ordering::Relaxed);
}

/// Looks whether there is anybody. Asked several times a second.
pub(crate) fn look(context: &Context) {
    SOMEBODY_LISTENS.store(!nobody_is_there(context), Ordering::Relaxed);
}

fn nobody_is_there(context: &Context) -> bool {
    // A field that this server does not know counts as one that says otherwise.
    let is_zero = |section, field| context.info_integer(section, field) == Some(0);
    !context.appends()
        && !context.is_in_cluster()
        && context.is_master()
        && is_zero(c"replication", c"connected_slaves")
        && is_zero(c"replication", c"repl_backlog_active")
        && is_zero(c"persistence", c"rdb_bgsave_in_progress")
        && is_zero(c"persistence", c"aof_rewrite_in_progress")
}
