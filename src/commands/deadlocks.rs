//! Deadlocks, as lines of the log.

use lock_core::{DbKey, Moment};

use crate::server::clock;
use crate::server::ffi::{Context, MainThread};
use crate::server::text::printable;
use crate::state::TABLE;

/// A client can run into deadlocks as often as it likes. The log gets one line in so many milliseconds.
const BETWEEN_LINES_MS: u64 = 1000;

/// When the next line may follow.
static NEXT_LINE: MainThread<Option<Moment>> = MainThread::new(None);

/// Logs a deadlock: who was refused, and who waits, by their labels. The line holds neither key nor token.
#[cold]
#[inline(never)]
pub(super) fn log(context: &Context, key: &[u8], owner: Option<&[u8]>) {
    let now = clock::now();
    if NEXT_LINE.with(|next| next.is_some_and(|next| now < next)) {
        return;
    }
    NEXT_LINE.with(|next| *next = Some(now.plus_ms(BETWEEN_LINES_MS)));
    let key = DbKey { database: context.database(), key };
    let other = TABLE.with(|table| table.queues().head(key).and_then(|head| head.owner.clone()));
    let [refused, waits] = [owner, other.as_deref()].map(|owner| match owner {
        Some(owner) => format!("owner {}", printable(owner)),
        None => "a holder without OWNER".to_owned(),
    });
    context.notice(&format!(
        "deadlock: {refused} asks for a smaller limit while {waits} waits for one, and each would wait for the other to \
         release"
    ));
}
