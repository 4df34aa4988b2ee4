//! Deadlocks, as lines of the log. A line has labels, and neither keys nor tokens.

use lock_core::waits_for::Circle;
use lock_core::{DbKey, Moment, Refusal};

use crate::server::clock;
use crate::server::ffi::{Context, MainThread, RedisString};
use crate::server::text::printable;
use crate::state::TABLE;

/// A client can run into deadlocks as often as it likes. The log gets one line in so many milliseconds.
const BETWEEN_LINES_MS: u64 = 1000;

/// When the next line may follow.
static NEXT_LINE: MainThread<Option<Moment>> = MainThread::new(None);

/// Logs why a request of this owner for these keys was refused, if waiting could never have ended.
#[cold]
#[inline(never)]
pub(super) fn log(context: &Context, keys: &[RedisString<'_>], owner: Option<&[u8]>, refusal: &Refusal) {
    if !matches!(refusal, Refusal::Deadlock | Refusal::HeldInPart | Refusal::Circle) {
        return;
    }
    let circle = TABLE.with(|table| table.take_circle());
    let now = clock::now();
    if NEXT_LINE.with(|next| next.is_some_and(|next| now < next)) {
        return;
    }
    NEXT_LINE.with(|next| *next = Some(now.plus_ms(BETWEEN_LINES_MS)));
    context.notice(&match (circle, refusal) {
        (Some(circle), _) => of_owners(&circle),
        (None, Refusal::HeldInPart) => of_holder(owner),
        (None, _) => of_upgrades(context, keys, owner),
    });
}

/// Who was refused because it holds some of the locks that it asks for.
fn of_holder(owner: Option<&[u8]>) -> String {
    format!(
        "deadlock: {} holds some of the locks that it asks for together, and would wait for the others",
        name_of(owner)
    )
}

fn name_of(owner: Option<&[u8]>) -> String {
    owner.map_or_else(|| "a holder without OWNER".to_owned(), |owner| format!("owner {}", printable(owner)))
}

/// Who was refused, and who waits ahead of all others at one of the keys, by their labels.
fn of_upgrades(context: &Context, keys: &[RedisString<'_>], owner: Option<&[u8]>) -> String {
    let database = context.database();
    let other = TABLE.with(|table| {
        let first =
            |key: &RedisString<'_>| table.queues().places(DbKey { database, key: key.bytes() }).next();
        let (_, waiter) = keys.iter().filter_map(first).find(|(ticket, _)| ticket.is_ahead())?;
        waiter.owner.clone()
    });
    let [refused, waits] = [owner, other.as_deref()].map(name_of);
    format!(
        "deadlock: {refused} asks for a smaller limit while {waits} waits for one, and each would wait for the other to \
         release"
    )
}

/// The owners of a circle: who was refused, whom it would have waited for, whom that waits for, and so on.
fn of_owners(circle: &Circle) -> String {
    let named: Vec<String> = circle.named.iter().map(|owner| printable(owner)).collect();
    let (refused, others) = named.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
    let left_out = match circle.len.saturating_sub(named.len()) {
        0 => String::new(),
        more => format!(", and so on through {more} more"),
    };
    format!(
        "deadlock: owner {refused} was refused a lock: it would wait for {}{left_out}, which waits for owner {refused}",
        others.join(", which waits for ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_is_told_as_who_waits_for_whom_without_a_byte_that_breaks_the_line() {
        let circle =
            |named: &[&[u8]], len| Circle { named: named.iter().map(|n| (*n).into()).collect(), len };
        assert_eq!(
            of_owners(&circle(&[b"a", b"b\r\n%s"], 2)),
            "deadlock: owner a was refused a lock: it would wait for b\\x0d\\x0a%s, which waits for owner a"
        );
        assert_eq!(
            of_owners(&circle(&[b"a", b"b", b"c"], 1000)),
            "deadlock: owner a was refused a lock: it would wait for b, which waits for c, and so on through 997 more, \
             which waits for owner a"
        );
    }
}
