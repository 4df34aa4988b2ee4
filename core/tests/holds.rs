//! Locks with many holds, which are an index, against the plain list of the oracle. Random histories take a lock from a few
//! holds to many hundreds and back, with few distinct deadlines, with limits that would never let them in together, and
//! with leases that end by the hundred; after every step both agree on whatever can be asked.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod oracle;

use lock_core::{
    ClientId, Fence, GrantState, Hold, Lock, Moment, Renewal, Session, Terms, Token, codec, invariants,
};
use oracle::{Asked, Holding, Oracle, Share, asked, micros, share_of};
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// How holds of a crowd are to be.
#[derive(Clone, Debug)]
struct Kind {
    /// The limits and weights they have in turn.
    shares: Vec<Share>,
    lease_ms: u64,
    /// Every so many of them is kept alive by a connection, none for 0.
    session_every: usize,
    level: u16,
}

#[derive(Clone, Debug)]
enum Step {
    Pass(i64),
    /// Holds of new tokens, their fences rising or falling.
    Crowd {
        count: usize,
        kind: Kind,
        falling: bool,
    },
    /// A hold of a token that holds already, under another fence.
    Replace {
        which: Index,
        kind: Kind,
    },
    /// A hold of another token under the fence of one that there is.
    Supplant {
        which: Index,
        kind: Kind,
    },
    Renew {
        which: Index,
        lease_ms: u64,
        named: Asked,
        session: Option<Session>,
        level: Option<u16>,
    },
    UndoRenewal {
        which: Index,
        share: Share,
        level: u16,
    },
    Extend {
        which: Index,
        lease_ms: Option<u64>,
        obey: bool,
    },
    Release {
        which: Index,
        level: u16,
        obey: bool,
    },
    /// So many holds that stand next to each other end.
    End {
        which: Index,
        count: usize,
    },
    Sweep(usize),
    Upkeep {
        at_most: usize,
        closed: ClientId,
    },
    EndSession(Index),
    EndEvery(u64),
    Disown,
    /// What another server decided arrives: holds of these tokens again, and of so many new ones.
    Adopt {
        which: Vec<Index>,
        new: usize,
        kind: Kind,
        spoil: Option<Spoil>,
    },
    /// It is written to a snapshot, and read.
    Reload,
    Rebuild,
}

/// What makes holds that arrive impossible.
#[derive(Clone, Copy, Debug)]
enum Spoil {
    TokenTwice,
    FenceTwice,
    FenceOfAnother,
}

fn kinds() -> impl Strategy<Value = Kind> {
    let limits = vec![vec![0], vec![0, 0, 0, 900], vec![1_000, 0, 400, 65_535], vec![3], vec![0, 1]];
    let light = limits.into_iter().map(|limits| limits.into_iter().map(|limit| (limit, 1)).collect());
    let heavy = [vec![(0, 2), (0, 1)], vec![(1_000, 3), (0, 1), (900, 7)], vec![(65_535, 65_535)]];
    let shares = select(light.chain(heavy).collect::<Vec<Vec<Share>>>());
    let level = prop_oneof![4 => Just(1), 1 => 1..=4_u16];
    (shares, 1..=8_u64, select(vec![0, 0, 1, 3, 40]), level)
        .prop_map(|(shares, lease_ms, session_every, level)| Kind { shares, lease_ms, session_every, level })
}

/// Some connections leave their holds a delay.
fn session_of(client: ClientId) -> Session {
    Session { client, delay_ms: client.saturating_sub(2) * 700 }
}

fn steps(crowd: usize, length: usize) -> impl Strategy<Value = Vec<Step>> {
    let which = any::<Index>;
    let lease = || 1..=8_u64;
    let limit = || select(vec![0, 1, 2, 17, 100, 400, 65_535]);
    let weight = || select(vec![1, 1, 2, 17, 65_535]);
    let asked = || (proptest::option::of(limit()), proptest::option::weighted(0.2, weight()));
    let session = || proptest::option::weighted(0.3, (1..=3_u64).prop_map(session_of));
    let renewal = (which(), lease(), asked(), session(), proptest::option::of(1..=4_u16));
    let at_most = || select(vec![0, 1, 40, 512, usize::MAX]);
    let spoil = select(vec![Spoil::TokenTwice, Spoil::FenceTwice, Spoil::FenceOfAnother]);
    let adoption = (
        proptest::collection::vec(which(), 0..20),
        0..40_usize,
        kinds(),
        proptest::option::weighted(0.3, spoil),
    );
    let step = prop_oneof![
        3 => select(vec![0, 1, 999, 1_000, 1_500, 4_000, 500_000]).prop_map(Step::Pass),
        4 => (1..=crowd, kinds(), any::<bool>())
            .prop_map(|(count, kind, falling)| Step::Crowd { count, kind, falling }),
        4 => (1..=20_usize, kinds(), any::<bool>())
            .prop_map(|(count, kind, falling)| Step::Crowd { count, kind, falling }),
        2 => (which(), kinds()).prop_map(|(which, kind)| Step::Replace { which, kind }),
        1 => (which(), kinds()).prop_map(|(which, kind)| Step::Supplant { which, kind }),
        6 => renewal.prop_map(|(which, lease_ms, named, session, level)| {
            Step::Renew { which, lease_ms, named, session, level }
        }),
        2 => (which(), (limit(), weight()), 1..=3_u16)
            .prop_map(|(which, share, level)| Step::UndoRenewal { which, share, level }),
        3 => (which(), proptest::option::of(lease()), any::<bool>())
            .prop_map(|(which, lease_ms, obey)| Step::Extend { which, lease_ms, obey }),
        3 => (which(), 1..=3_u16, any::<bool>())
            .prop_map(|(which, level, obey)| Step::Release { which, level, obey }),
        2 => (which(), prop_oneof![1..=30_usize, 1..=crowd])
            .prop_map(|(which, count)| Step::End { which, count }),
        3 => at_most().prop_map(Step::Sweep),
        3 => (at_most(), 1..=3_u64).prop_map(|(at_most, closed)| Step::Upkeep { at_most, closed }),
        1 => which().prop_map(Step::EndSession),
        1 => (1..=4_u64).prop_map(Step::EndEvery),
        1 => Just(Step::Disown),
        4 => adoption.prop_map(|(which, new, kind, spoil)| Step::Adopt { which, new, kind, spoil }),
        1 => Just(Step::Reload),
        1 => Just(Step::Rebuild),
    ];
    proptest::collection::vec(step, 1..length)
}

struct World {
    lock: Lock,
    oracle: Oracle,
    now: i64,
    last_fence: u64,
    tokens: u64,
}

impl World {
    fn new() -> Self {
        Self { lock: Lock::new(), oracle: Oracle::default(), now: 0, last_fence: 0, tokens: 0 }
    }

    fn moment(&self) -> Moment {
        Moment::from_micros(self.now)
    }

    /// A token that was not there yet, in one of the forms there are.
    fn new_token(&mut self) -> Token {
        self.tokens += 1;
        // Not in the order in which they are made.
        let number = self.tokens.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let text = match self.tokens % 3 {
            0 => format!("{number:032x}"),
            1 => format!("{:08x}-0000-4000-8000-{:012x}", number >> 32, self.tokens),
            _ => format!("token {number}"),
        };
        oracle::token(text.as_bytes())
    }

    fn hold(&self, token: Token, fence: u64, number: usize, kind: &Kind) -> Hold {
        let is_kept = kind.session_every > 0 && number.is_multiple_of(kind.session_every);
        let terms = Terms {
            token: &token,
            share: share_of(kind.shares[number % kind.shares.len()]),
            lease_ms: kind.lease_ms,
            owner: None,
            session: is_kept.then(|| session_of(1 + number as u64 % 3)),
        };
        let deadline = self.moment().plus_ms(kind.lease_ms);
        let fence = Fence::new(fence).unwrap();
        Hold::restore(terms, GrantState { fence, granted_at: self.moment(), deadline, level: kind.level })
    }

    fn next_fences(&mut self, count: usize) -> std::ops::RangeInclusive<u64> {
        let first = self.last_fence + 1;
        self.last_fence += count as u64;
        first..=self.last_fence
    }

    fn pick(&self, which: Index) -> Option<Holding> {
        (!self.oracle.holds.is_empty()).then(|| which.get(&self.oracle.holds).clone())
    }

    fn put(&mut self, hold: Hold) {
        self.oracle.put(Holding::of(&hold));
        self.lock.put(hold);
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Pass(micros) => self.now += micros,
            Step::Crowd { count, kind, falling } => {
                let fences = self.next_fences(count);
                let fences: Vec<u64> = if falling { fences.rev().collect() } else { fences.collect() };
                for (number, fence) in fences.into_iter().enumerate() {
                    let token = self.new_token();
                    let hold = self.hold(token, fence, number, &kind);
                    self.put(hold);
                }
            }
            Step::Replace { which, kind } => {
                let Some(old) = self.pick(which) else { return };
                let fence = *self.next_fences(1).start();
                let hold = self.hold(oracle::token(&old.token), fence, 1, &kind);
                self.put(hold);
            }
            Step::Supplant { which, kind } => {
                let Some(old) = self.pick(which) else { return };
                let token = self.new_token();
                let hold = self.hold(token, old.fence, 1, &kind);
                self.put(hold);
            }
            Step::Renew { which, lease_ms, named, session, level } => {
                self.renew(which, lease_ms, named, session, level);
            }
            Step::UndoRenewal { which, share, level } => self.undo_renewal(which, share, level),
            Step::Extend { which, lease_ms, obey } => {
                let Some(old) = self.pick(which) else { return };
                let extended = self.lock.extend(&oracle::token(&old.token), lease_ms, self.moment(), || obey);
                let place = self.oracle.usable(&old.token, self.now, obey);
                assert_eq!(extended.is_some(), place.is_some());
                if let Some(place) = place {
                    self.oracle.holds[place].lease_anew(lease_ms.unwrap_or(old.lease_ms), self.now);
                }
            }
            Step::Release { which, level, obey } => {
                let Some(old) = self.pick(which) else { return };
                let released = self.lock.release(&oracle::token(&old.token), level, self.moment(), || obey);
                assert_eq!(released, self.oracle.release(&old.token, level, self.now, obey));
            }
            Step::End { which, count } => {
                let Some(first) = self.pick(which) else { return };
                let place = self.oracle.place_of(&first.token).unwrap();
                let end = (place + count).min(self.oracle.holds.len());
                for hold in self.oracle.holds.drain(place..end) {
                    assert!(self.lock.end(Fence::new(hold.fence).unwrap()));
                    assert!(!self.lock.end(Fence::new(hold.fence).unwrap()), "a hold ends once");
                }
            }
            Step::Sweep(at_most) => {
                let ended = self.lock.end_lapsed(self.moment(), at_most);
                let ended: Vec<u64> = ended.iter().map(|hold| hold.fence().get()).collect();
                assert_eq!(ended, self.oracle.sweep(self.now, at_most));
            }
            Step::Upkeep { at_most, closed } => {
                self.oracle.keep_up(&mut self.lock, self.now, at_most, closed);
            }
            Step::EndSession(which) => {
                let Some(old) = self.pick(which) else { return };
                self.lock.end_session(Fence::new(old.fence).unwrap());
                self.oracle.hold_mut(old.fence).session = None;
            }
            Step::EndEvery(step) => {
                let ended = self.lock.end_where(|hold| hold.fence().get().is_multiple_of(step));
                let (gone, left): (Vec<Holding>, Vec<Holding>) =
                    self.oracle.holds.drain(..).partition(|hold| hold.fence.is_multiple_of(step));
                self.oracle.holds = left;
                assert!(ended.iter().map(|hold| hold.fence().get()).eq(gone.iter().map(|hold| hold.fence)));
            }
            Step::Disown => {
                self.lock.disown();
                self.oracle.holds.iter_mut().for_each(|hold| hold.session = None);
            }
            Step::Adopt { which, new, kind, spoil } => self.adopt(&which, new, &kind, spoil),
            Step::Reload => self.reload(),
            Step::Rebuild => {
                self.lock = Lock::from_holds(self.lock.holds().iter().cloned().collect());
            }
        }
    }

    fn renew(
        &mut self,
        which: Index,
        lease_ms: u64,
        named: Asked,
        session: Option<Session>,
        level: Option<u16>,
    ) {
        let Some(old) = self.pick(which) else { return };
        let now = self.moment();
        let renewal =
            Renewal { lease_ms, asked: asked(named), owner: None, session, level, prolongs: level.is_some() };
        let renewed = self.lock.renew(&oracle::token(&old.token), renewal, now).map(Holding::of);
        let hold = self.oracle.hold_mut(old.fence);
        hold.limit = named.0.unwrap_or(hold.limit);
        hold.weight = named.1.unwrap_or(hold.weight);
        hold.session = session.or(hold.session);
        match level {
            None => hold.lease_anew(lease_ms, self.now),
            Some(level) => {
                let lease_ms = hold.counted(lease_ms);
                hold.level = hold.level.max(level);
                hold.lease_ms = hold.lease_ms.max(lease_ms);
                hold.ends_at = hold.ends_at.max(self.now + micros(lease_ms));
            }
        }
        assert_eq!(renewed.as_ref(), Some(&*hold));
    }

    fn undo_renewal(&mut self, which: Index, share: Share, level: u16) {
        let Some(old) = self.pick(which) else { return };
        let (fence, now) = (Fence::new(old.fence).unwrap(), self.moment());
        let undone = self.lock.undo_renewal(fence, share_of(share), level, now).map(Holding::of);
        let place = self.oracle.place_of(&old.token);
        let is_tolerated = Oracle::rule(&self.oracle.live_others(place, self.now), share);
        let hold = self.oracle.hold_mut(old.fence);
        (hold.limit, hold.weight) = if is_tolerated { share } else { hold.share() };
        hold.level = hold.level.min(level);
        assert_eq!(undone.as_ref(), Some(&*hold));
    }

    fn adopt(&mut self, which: &[Index], new: usize, kind: &Kind, spoil: Option<Spoil>) {
        let mut tokens: Vec<Token> =
            which.iter().filter_map(|which| self.pick(*which)).map(|old| oracle::token(&old.token)).collect();
        tokens.sort_unstable();
        tokens.dedup();
        tokens.extend((0..new).map(|_| self.new_token()));
        let fences = self.next_fences(tokens.len());
        let holds = tokens.into_iter().zip(fences).enumerate();
        let mut holds: Vec<Hold> =
            holds.map(|(number, (token, fence))| self.hold(token, fence, number, kind)).collect();
        let other = match spoil {
            Some(Spoil::TokenTwice) => {
                holds.first().map(|first| (oracle::token(&Holding::of(first).token), self.last_fence + 1))
            }
            Some(Spoil::FenceTwice) => holds.first().map(|first| (self.new_token(), first.fence().get())),
            Some(Spoil::FenceOfAnother) => {
                self.oracle.holds.first().map(|hold| hold.fence).map(|fence| (self.new_token(), fence))
            }
            None => None,
        };
        if let Some((token, fence)) = other {
            self.last_fence += 1;
            holds.push(self.hold(token, fence, 0, kind));
        }
        holds.reverse();
        let new: Vec<Holding> = holds.iter().map(Holding::of).collect();
        let can = self.oracle.can_adopt(&new);
        assert_eq!(self.lock.adopt(holds).is_ok(), can, "{new:?}");
        if can {
            new.into_iter().for_each(|hold| self.oracle.put(hold));
        }
    }

    /// A snapshot of a lock that could be: what is in the way of that ends first.
    fn reload(&mut self) {
        let bytes = codec::encode(self.lock.holds(), self.moment());
        let read = codec::decode_lock(&bytes, self.moment());
        assert_eq!(read.is_ok(), self.oracle.can_adopt(&[]) && !self.oracle.holds.is_empty());
        let Ok(lock) = read else { return };
        self.lock = lock;
        for hold in &mut self.oracle.holds {
            hold.session = None;
            // What is left of a lease travels in milliseconds, rounded up; what is gone by, rounded down.
            let left = (hold.ends_at - self.now).max(0);
            hold.ends_at = self.now + (left + 999) / 1_000 * 1_000;
            hold.granted_at = self.now - (self.now - hold.granted_at) / 1_000 * 1_000;
        }
    }

    fn compare(&self) {
        let (lock, oracle, now) = (&self.lock, &self.oracle, self.moment());
        assert!(lock.holds().iter().map(Holding::of).eq(oracle.holds.iter().cloned()));
        assert_eq!(lock.holds().len(), oracle.holds.len());
        assert_eq!(lock.is_empty(), oracle.holds.is_empty());
        let live = oracle.live_others(None, self.now).len();
        assert_eq!(lock.live_count(now), live);
        assert_eq!(lock.live_holds(now).count(), live);
        let due = oracle.holds.iter().map(Holding::due).min();
        assert_eq!(lock.next_due().map(Moment::as_micros), due);
        for at_most in [1, 50, usize::MAX] {
            let due = lock.sessions_due(now, at_most).into_iter().map(Fence::get);
            assert!(due.eq(oracle.due(true, self.now, at_most)));
        }
        let of_interest = [live.saturating_sub(1), live, live + 1].map(|limit| u16::try_from(limit).unwrap());
        let limits = [None, Some(0), Some(1), Some(u16::MAX)].into_iter().chain(of_interest.map(Some));
        let weights = [None, Some(1), Some(2), Some(u16::MAX)];
        let named = limits.flat_map(|limit| weights.map(|weight| (limit, weight)));
        // The first, the last, and some between them.
        let step = (oracle.holds.len() / 4).max(1);
        let some = || oracle.holds.iter().step_by(step).chain(oracle.holds.last());
        for named in named {
            if oracle.is_possible(None, named, self.now) {
                assert_eq!(
                    lock.judge(None, asked(named), now),
                    oracle.judge(None, named, self.now),
                    "{named:?}"
                );
            }
            for hold in some() {
                if !oracle.is_possible(Some(&hold.token), named, self.now) {
                    continue;
                }
                let verdict = lock.judge(Some(&oracle::token(&hold.token)), asked(named), now);
                assert_eq!(verdict, oracle.judge(Some(&hold.token), named, self.now), "{hold:?} {named:?}");
            }
        }
        for hold in some() {
            let found = lock.hold(Fence::new(hold.fence).unwrap()).map(Holding::of);
            assert_eq!(found.as_ref(), Some(hold));
            let found = lock.hold_of(&oracle::token(&hold.token), now).map(Holding::of);
            assert_eq!(found.as_ref(), Some(hold).filter(|hold| hold.is_live(self.now)));
        }
        assert!(lock.hold_of(&oracle::token(b"nobody's"), now).is_none());
        assert!(invariants::index_is_consistent(lock));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn many_holds_are_a_sorted_list_after_every_step(steps in steps(300, 40)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
            world.compare();
        }
    }

    #[test]
    fn a_few_holds_more_or_less_are_still_a_sorted_list(steps in steps(12, 80)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
            world.compare();
        }
    }
}

/// An index that is made at once is full, and what is left over stands by itself. It is taken apart from either end, down
/// to nothing.
#[test]
fn an_index_that_was_made_at_once_is_taken_apart() {
    let kind = Kind { shares: vec![(0, 1), (2_000, 1)], lease_ms: 5, session_every: 7, level: 1 };
    for count in [17, 31, 32, 33, 64, 65, 1_023, 1_024, 1_025, 1_057] {
        for from_the_end in [false, true] {
            let mut world = World::new();
            world.take(Step::Crowd { count, kind: kind.clone(), falling: false });
            world.take(Step::Rebuild);
            while !world.oracle.holds.is_empty() {
                let last = world.oracle.holds.len() - 1;
                let gone = world.oracle.holds.remove(if from_the_end { last } else { 0 });
                assert!(world.lock.end(Fence::new(gone.fence).unwrap()));
                if world.oracle.holds.len().is_multiple_of(16) || world.oracle.holds.len() + 3 > count {
                    world.compare();
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn thousands_of_holds_are_a_sorted_list(steps in steps(3_000, 20)) {
        let mut world = World::new();
        let kind = Kind { shares: vec![(0, 1), (0, 1), (9_000, 1)], lease_ms: 5, session_every: 50, level: 1 };
        world.take(Step::Crowd { count: 3_000, kind, falling: false });
        for step in steps {
            world.take(step);
            world.compare();
        }
    }
}
