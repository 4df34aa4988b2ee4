//! What a master sends, in any order: a replica that applies it keeps every rule, and two that apply the same have the same lock,
//! also if one of them was loaded from the other's snapshot in between.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use lock_core::codec::{self, Decoded};
use lock_core::outcome::{Authority, Circumstances, Outcome};
use lock_core::request::BreakTarget;
use lock_core::{DbKey, Fence, GrantState, Hold, Limit, Lock, Moment, Share, Table, Terms, Token, Turn, invariants};

const KEY: DbKey<'_> = DbKey { database: 0, key: b"k" };

#[derive(Arbitrary, Debug)]
struct Held {
    token: u8,
    fence: u8,
    limit: u8,
    weight: u8,
    lease_ms: u16,
    passed_ms: u16,
    level: u8,
    has_owner: bool,
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// LOCK.ACQUIRE in the form of a master.
    Holds(Vec<Held>, bool),
    /// The same, as bytes that no master has written.
    Bytes(Vec<u8>),
    Release(u8, u8),
    Extend(u8, Option<u16>),
    Break(Option<u8>),
    Pass(u16),
    /// The other replica is loaded from a snapshot of this one.
    Snapshot,
}

struct Replica {
    table: Table,
    lock: Lock,
}

impl Replica {
    fn new() -> Self {
        let mut table = Table::new();
        table.decides(false);
        Self { table, lock: Lock::new() }
    }

    fn take<R>(&mut self, now: Moment, ask: impl FnOnce(&mut Turn<'_>) -> R) -> R {
        let circumstances = Circumstances {
            now,
            wall_micros: 1,
            grace_ms: 0,
            claim_ms: 5_000,
            authority: Authority::NONE,
            at_most: usize::MAX,
        };
        let (mut string, mut outcome) = (None, Outcome::default());
        let (lock, table) = (&mut self.lock, &mut self.table);
        let mut turn = Turn::resume(lock, &mut string, table, KEY, &circumstances, &mut outcome);
        let result = ask(&mut turn);
        turn.end();
        if self.lock.is_empty() {
            self.table.departed(KEY, &mut self.lock);
            self.lock = Lock::new();
        }
        result
    }

    fn apply(&mut self, step: &Step, now: Moment) {
        match step {
            Step::Holds(held, is_whole) => {
                let holds = held.iter().filter_map(|held| hold(held, now)).collect();
                let _ = self.take(now, |turn| turn.apply(Decoded { holds, is_whole: *is_whole }));
            }
            Step::Bytes(bytes) => {
                if let Ok(decoded) = codec::decode(bytes, now) {
                    let _ = self.take(now, |turn| turn.apply(decoded));
                }
            }
            Step::Release(token_of, level) => {
                let level = u16::from(*level).max(1);
                self.take(now, |turn| turn.release(&token(*token_of), level, || true));
            }
            Step::Extend(token_of, lease_ms) => {
                let lease_ms = lease_ms.map(|ms| u64::from(ms).max(1));
                self.take(now, |turn| turn.extend(&token(*token_of), lease_ms, || true));
            }
            Step::Break(fence) => {
                let target = fence.map_or(BreakTarget::All, |fence| {
                    Fence::new(fence.into()).map_or(BreakTarget::Nobody, BreakTarget::One)
                });
                self.take(now, |turn| turn.break_holds(target));
            }
            Step::Pass(_) | Step::Snapshot => {}
        }
    }

    fn check(&self) {
        let lock = &self.lock;
        assert!(invariants::fences_ascend(lock));
        assert!(invariants::holds_are_within_limits(lock));
        assert!(invariants::tokens_are_unique(lock));
        assert!(invariants::levels_are_positive(lock));
        assert!(invariants::deadlines_follow_leases(lock));
        assert!(invariants::index_is_consistent(lock));
        let newest = lock.holds().iter().map(Hold::fence).max();
        assert!(newest <= self.table.last_fence(), "a fence was not learned");
        assert_eq!(self.table.holds(), u64::try_from(lock.holds().len()).unwrap());
        assert!(self.table.deadlines().len() <= 1);
    }
}

/// Some have the form that the server makes, some are UUIDs, some are text.
fn token(number: u8) -> Token {
    match number % 3 {
        0 => Token::from_seed([number; 16]),
        1 => Token::from_text(format!("{number:08x}-0000-4000-8000-000000000000").as_bytes()).unwrap(),
        _ => Token::from_text(&[b't', number]).unwrap(),
    }
}

fn hold(held: &Held, now: Moment) -> Option<Hold> {
    let lease_ms = u64::from(held.lease_ms).max(1);
    let terms = Terms {
        token: &token(held.token),
        share: Share { limit: Limit::from_number(held.limit.into()), weight: u16::from(held.weight % 4).max(1) },
        lease_ms,
        owner: held.has_owner.then_some(&b"o"[..]),
        session: None,
    };
    let state = GrantState {
        fence: Fence::new(held.fence.into())?,
        granted_at: now.minus_ms(held.passed_ms.into()),
        deadline: now.plus_ms(lease_ms.saturating_sub(held.passed_ms.into())),
        level: u16::from(held.level).max(1),
    };
    Some(Hold::restore(terms, state))
}

fuzz_target!(|steps: Vec<Step>| {
    let mut now = Moment::from_micros(i64::MAX / 2);
    let (mut one, mut other) = (Replica::new(), Replica::new());
    for step in &steps {
        match step {
            Step::Pass(ms) => now = now.plus_ms((*ms).into()),
            Step::Snapshot if one.lock.is_empty() => {}
            Step::Snapshot => {
                let bytes = codec::encode(one.lock.holds(), now);
                let mut lock = codec::decode_lock(&bytes, now).expect("what is written can be read");
                let mut before = std::mem::take(&mut other.lock);
                other.table.departed(KEY, &mut before);
                other.table.loaded(Some(KEY), &mut lock);
                other.lock = lock;
            }
            _ => {
                one.apply(step, now);
                other.apply(step, now);
            }
        }
        one.check();
        other.check();
        let view = |replica: &Replica| codec::encode(replica.lock.holds(), now);
        assert_eq!(view(&one), view(&other));
    }
});
