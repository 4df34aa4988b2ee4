//! Whether the server accepts writes from its clients now.
//!
//! It refuses them while too few replicas are connected (`min-replicas-to-write`), and while its disk fails
//! (`stop-writes-on-bgsave-error`, and the append-only file). The operator has configured this so that the server
//! promises nothing that may be lost. So the module grants nothing to waiters then. RM_Call has a flag that checks
//! this, but on Valkey 9 it crashes the server outside of scripts. That is why the rule is repeated here.

use crate::server::ffi::{Context, MainThread};

/// The result in this iteration of the server's loop, once it was needed.
static ACCEPTED: MainThread<Option<bool>> = MainThread::new(None);

/// Whether writes are accepted. Checked once in an iteration of the server's loop.
pub(crate) fn are_accepted(context: &Context) -> bool {
    if let Some(taken) = ACCEPTED.with(|taken| *taken) {
        return taken;
    }
    let taken = !lacks_replicas(context) && !has_a_failing_disk(context);
    ACCEPTED.with(|cached| *cached = Some(taken));
    taken
}

/// An iteration of the server's loop has ended: the result may change.
pub(crate) fn before_sleep() {
    ACCEPTED.with(Option::take);
}

fn lacks_replicas(context: &Context) -> bool {
    // The field exists only if min-replicas-to-write is set.
    let Some(good) = context.info_integer(c"replication", c"min_slaves_good_slaves") else { return false };
    let needed = context.setting(c"min-replicas-to-write").and_then(|number| number.parse().ok());
    needed.is_some_and(|needed: i64| good < needed)
}

fn has_a_failing_disk(context: &Context) -> bool {
    let fails = |field| context.info_says(c"persistence", field, c"err");
    let stops = |name, says: fn(&str) -> bool| context.setting(name).is_some_and(|value| says(&value));
    let snapshots_stop_writes = || {
        stops(c"stop-writes-on-bgsave-error", |value| value == "yes")
            && stops(c"save", |value| !value.is_empty())
    };
    (fails(c"rdb_last_bgsave_status") && snapshots_stop_writes())
        || (context.appends() && fails(c"aof_last_write_status"))
}
