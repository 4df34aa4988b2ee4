//! Turns at one key, one after the other, by hand.

use lock_core::outcome::{Authority, Circumstances};
use lock_core::{DbKey, Lock, Moment, Outcome, Table, Turn};

pub(crate) const A: DbKey<'_> = DbKey { database: 0, key: b"a" };
pub(crate) const START: Moment = Moment::from_micros(0);
pub(crate) const CLAIM_MS: u64 = 10;
pub(crate) const WALL_MICROS: u64 = 1 << 40;

/// Takes a turn with room for so much.
pub(crate) fn turn<R>(
    (table, lock): (&mut Table, &mut Lock),
    now: Moment,
    at_most: usize,
    ask: impl FnOnce(&mut Turn<'_>) -> R,
) -> (R, Outcome) {
    let circumstances = Circumstances {
        now,
        wall_micros: WALL_MICROS,
        grace_ms: 0,
        claim_ms: CLAIM_MS,
        authority: Authority::FULL,
        at_most,
    };
    let mut outcome = Outcome::default();
    let mut string = None;
    let mut turn = Turn::resume(lock, &mut string, table, A, &circumstances, &mut outcome);
    turn.settle();
    let result = ask(&mut turn);
    while turn.candidate().is_some() {
        turn.judge_candidate(true);
    }
    turn.end();
    (result, outcome)
}
