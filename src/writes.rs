//! Whether the server takes writes from its clients at present.
//!
//! It refuses them while too few replicas keep up (`min-replicas-to-write`), and while its disk fails
//! (`stop-writes-on-bgsave-error`, and the append-only file). The operator asked for that, so as not to have the server
//! promise what may be lost; so the module promises nothing of its own accord then. There is a flag of RM_Call to ask the
//! server this; on Valkey 9 it brings the server down outside of scripts. Hence the same rule once more.

use crate::server::ffi::{Context, MainThread};

/// What was found in this turn of the server's loop.
static ACCEPTED: MainThread<Option<bool>> = MainThread::new(None);

/// Whether they are taken. Found out once in a turn of the server's loop.
pub(crate) fn are_accepted(context: &Context) -> bool {
    if let Some(taken) = ACCEPTED.with(|taken| *taken) {
        return taken;
    }
    let taken = !lacks_replicas(context) && !has_a_failing_disk(context);
    ACCEPTED.with(|cached| *cached = Some(taken));
    taken
}

/// A turn of the server's loop has ended: it may be otherwise.
pub(crate) fn before_sleep() {
    ACCEPTED.with(Option::take);
}

fn lacks_replicas(context: &Context) -> bool {
    // The field is there only where replicas are asked for.
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
