//! The lock against an oracle that knows nothing but the contract: a plain list of holds, asked and changed by the
//! slowest means. Random histories over few tokens, small limits and short leases lead both through the same states;
//! after every step they must agree on everything that can be asked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod oracle;

use std::collections::BTreeSet;

use lock_core::invariants;
use lock_core::{
    AskedShare, ClientId, Fence, FenceSequence, GrantState, Hold, Limit, Lock, Moment, Released, Renewal,
    Session, Share, Terms, Token, Verdict,
};
use oracle::{Asked, Holding, Oracle, asked, token};
use proptest::prelude::*;
use proptest::sample::select;

/// Tokens of a client's own, and some in the two forms that the lock keeps in another way: one spells the same bytes in
/// both.
const TOKENS: [&[u8]; 6] = [
    b"a",
    b"\0\r\n%s\xff",
    b"0123456789abcdef0123456789abcdef",
    b"0123456789abcdef0123456789abcdee",
    b"0123456789ABCDEF0123456789ABCDEF",
    b"01234567-89ab-cdef-0123-456789abcdef",
];

/// What a request can say of its limit, 0 is shared, and of its weight.
const ASKED: [Asked; 11] = [
    (None, None),
    (Some(0), None),
    (Some(1), None),
    (Some(2), None),
    (Some(3), None),
    (Some(u16::MAX), None),
    (None, Some(1)),
    (None, Some(2)),
    (Some(0), Some(2)),
    (Some(3), Some(2)),
    (Some(u16::MAX), Some(u16::MAX)),
];

type Who = usize;

#[derive(Clone, Debug)]
enum Step {
    /// Time passes, in microseconds.
    Pass(i64),
    /// A request of a token, or of one that is still to be made.
    Acquire {
        who: Option<Who>,
        named: Asked,
        lease_ms: u64,
        owner: Option<&'static [u8]>,
        session: Option<Session>,
    },
    /// A hold that was decided elsewhere arrives, as on an inner level or from a time gone by.
    Arrive {
        who: Who,
        limit: u16,
        lease_ms: u64,
        remaining_ms: u64,
        level: u16,
    },
    /// Whether to obey is what a server that carries out another's decisions is asked.
    Release {
        who: Who,
        level: u16,
        obey: bool,
    },
    Extend {
        who: Who,
        lease_ms: Option<u64>,
        obey: bool,
    },
    /// Ends the hold at this place of the list, or none.
    Break(usize),
    /// Takes ended leases off.
    Sweep {
        at_most: usize,
    },
    /// Sees to the sessions that are due: this connection is closed, the others are open.
    Upkeep {
        at_most: usize,
        closed: ClientId,
    },
    /// Another server decides from now on.
    Disown,
}

/// One of the connections leaves its holds a delay.
fn session_of(client: ClientId) -> Session {
    Session { client, delay_ms: (client - 1) * 700 }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = || 0..TOKENS.len();
    let lease = || 1_u64..=6;
    let micros = select(vec![0_i64, 1, 499, 999, 1_000, 1_001, 2_500, 6_000, 500_000]);
    let owner = select(vec![None, Some(&b""[..]), Some(&b"me"[..]), Some(&b"\0you\xff"[..])]);
    let session = proptest::option::weighted(0.2, (1..=2_u64).prop_map(session_of));
    let acquire = (proptest::option::weighted(0.9, who()), select(ASKED.to_vec()), lease(), owner, session);
    let arrive = (who(), select(vec![0, 1, 2, 3]), 1_u64..=6, 0_u64..=6, 1_u16..=3);
    let step = prop_oneof![
        4 => micros.prop_map(Step::Pass),
        8 => acquire.prop_map(|(who, named, lease_ms, owner, session)| {
            Step::Acquire { who, named, lease_ms, owner, session }
        }),
        1 => arrive.prop_map(|(who, limit, lease_ms, remaining, level)| {
            Step::Arrive { who, limit, lease_ms, remaining_ms: remaining.min(lease_ms), level }
        }),
        3 => (who(), 1_u16..=3, any::<bool>())
            .prop_map(|(who, level, obey)| Step::Release { who, level, obey }),
        2 => (who(), proptest::option::of(lease()), any::<bool>())
            .prop_map(|(who, lease_ms, obey)| Step::Extend { who, lease_ms, obey }),
        1 => (0_usize..5).prop_map(Step::Break),
        2 => select(vec![0, 1, 2, usize::MAX]).prop_map(|at_most| Step::Sweep { at_most }),
        2 => (select(vec![0, 1, usize::MAX]), 1..=2_u64)
            .prop_map(|(at_most, closed)| Step::Upkeep { at_most, closed }),
        1 => Just(Step::Disown),
    ];
    proptest::collection::vec(step, 1..80)
}

/// Lock and oracle, and what surrounds them.
struct World {
    lock: Lock,
    oracle: Oracle,
    fences: FenceSequence,
    now: i64,
    made: u8,
}

impl World {
    fn moment(&self) -> Moment {
        Moment::from_micros(self.now)
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Pass(micros) => self.now += micros,
            Step::Acquire { who, named, lease_ms, owner, session } => {
                self.acquire(who, named, lease_ms, owner, session);
            }
            Step::Arrive { who, limit, lease_ms, remaining_ms, level } => {
                self.arrive(who, limit, lease_ms, remaining_ms, level);
            }
            Step::Release { who, level, obey } => {
                let released = self.lock.release(&token(TOKENS[who]), level, self.moment(), || obey);
                assert_eq!(released, self.oracle.release(TOKENS[who], level, self.now, obey));
            }
            Step::Extend { who, lease_ms, obey } => {
                let obey = obey && self.oracle.could_stand(TOKENS[who], self.now);
                let extended = self.lock.extend(&token(TOKENS[who]), lease_ms, self.moment(), || obey);
                let place = self.oracle.usable(TOKENS[who], self.now, obey);
                assert_eq!(extended.is_some(), place.is_some());
                if let Some(place) = place {
                    let hold = &mut self.oracle.holds[place];
                    hold.lease_anew(lease_ms.unwrap_or(hold.lease_ms), self.now);
                }
            }
            Step::Break(place) => {
                // A fence that no hold has ends nothing.
                let unknown = self.fences.last().map_or(1, |last| last.get() + 1);
                let fence = self.oracle.holds.get(place).map_or(unknown, |hold| hold.fence);
                assert_eq!(self.lock.end(Fence::new(fence).unwrap()), fence != unknown);
                self.oracle.holds.retain(|hold| hold.fence != fence);
            }
            Step::Sweep { at_most } => {
                let ended = self.lock.end_lapsed(self.moment(), at_most);
                let ended: Vec<u64> = ended.iter().map(|hold| hold.fence().get()).collect();
                assert_eq!(ended, self.oracle.sweep(self.now, at_most));
            }
            Step::Upkeep { at_most, closed } => {
                self.oracle.keep_up(&mut self.lock, self.now, at_most, closed);
            }
            Step::Disown => {
                self.lock.disown();
                self.oracle.holds.iter_mut().for_each(|hold| hold.session = None);
            }
        }
    }

    fn acquire(
        &mut self,
        who: Option<Who>,
        named: Asked,
        lease_ms: u64,
        owner: Option<&[u8]>,
        session: Option<Session>,
    ) {
        let text = who.map(|who| TOKENS[who]);
        if !self.oracle.is_possible(text, named, self.now) {
            return;
        }
        let own = text.map(token);
        let verdict = self.lock.judge(own.as_ref(), asked(named), self.moment());
        assert_eq!(verdict, self.oracle.judge(text, named, self.now));
        match verdict {
            Verdict::Wait => {}
            Verdict::Grant => {
                let token = own.unwrap_or_else(|| {
                    self.made += 1;
                    Token::from_seed([self.made; 16])
                });
                let share = asked(named).of_newcomer();
                let fence = self.fences.draw(self.now.unsigned_abs()).unwrap();
                let hold = Hold::grant(
                    Terms { token: &token, share, lease_ms, owner, session },
                    fence,
                    self.moment(),
                );
                let mut holding = Holding::of(&hold);
                holding.lease_anew(lease_ms, self.now);
                assert_eq!(holding, Holding::of(&hold), "a lease begins with its grant");
                assert_eq!((holding.level, holding.granted_at), (1, self.now));
                self.lock.put(hold);
                self.oracle.put(holding);
            }
            Verdict::Renew | Verdict::Upgrade => {
                let own = own.unwrap();
                let renewed = self
                    .lock
                    .renew(
                        &own,
                        Renewal {
                            lease_ms,
                            asked: asked(named),
                            owner,
                            session,
                            level: None,
                            prolongs: false,
                        },
                        self.moment(),
                    )
                    .map(Holding::of);
                let place = self.oracle.place_of(text.unwrap()).unwrap();
                let hold = &mut self.oracle.holds[place];
                hold.limit = named.0.unwrap_or(hold.limit);
                hold.weight = named.1.unwrap_or(hold.weight);
                hold.owner = owner.map(<[u8]>::to_vec).or_else(|| hold.owner.take());
                hold.session = session.or(hold.session);
                hold.lease_anew(lease_ms, self.now);
                assert_eq!(renewed.as_ref(), Some(&*hold), "the same fence and level, the lease set anew");
            }
        }
    }

    /// What another server grants stands there by the same rule, so it arrives only where the rule admits it.
    fn arrive(&mut self, who: Who, limit: u16, lease_ms: u64, remaining_ms: u64, level: u16) {
        if self.oracle.judge(Some(TOKENS[who]), (Some(limit), None), self.now) != Verdict::Grant {
            return;
        }
        let state = GrantState {
            fence: self.fences.draw(0).unwrap(),
            granted_at: self.moment().minus_ms(lease_ms - remaining_ms),
            deadline: self.moment().plus_ms(remaining_ms),
            level,
        };
        let terms = Terms {
            token: &token(TOKENS[who]),
            share: Share::of(Limit::from_number(limit)),
            lease_ms,
            owner: None,
            session: None,
        };
        let hold = Hold::restore(terms, state);
        self.oracle.put(Holding::of(&hold));
        self.lock.put(hold);
    }

    /// Everything that can be asked of both, asked now.
    fn compare(&self) {
        let (lock, now) = (&self.lock, self.moment());
        let holds: Vec<Holding> = lock.holds().iter().map(Holding::of).collect();
        assert_eq!(holds, self.oracle.holds);
        assert_eq!(lock.is_empty(), holds.is_empty());
        let live: Vec<Holding> = lock.live_holds(now).map(Holding::of).collect();
        let wanted: Vec<Holding> = holds.iter().filter(|hold| hold.is_live(self.now)).cloned().collect();
        assert_eq!(live, wanted);
        assert_eq!(lock.live_count(now), wanted.len());
        let next = lock.next_due().map(Moment::as_micros);
        assert_eq!(next, holds.iter().map(Holding::due).min());
        for named in ASKED {
            for text in TOKENS {
                if !self.oracle.is_possible(Some(text), named, self.now) {
                    continue;
                }
                let verdict = lock.judge(Some(&token(text)), asked(named), now);
                assert_eq!(verdict, self.oracle.judge(Some(text), named, self.now), "{text:?} {named:?}");
            }
            if !self.oracle.is_possible(None, named, self.now) {
                continue;
            }
            let verdict = lock.judge(None, asked(named), now);
            assert_eq!(verdict, self.oracle.judge(None, named, self.now), "{named:?}");
        }
        for text in TOKENS {
            let held = lock.hold_of(&token(text), now).map(Holding::of);
            let place = self.oracle.live_place_of(text, self.now);
            assert_eq!(held, place.map(|place| self.oracle.holds[place].clone()));
        }
    }

    fn check_invariants(&self) {
        let lock = &self.lock;
        assert!(invariants::fences_ascend(lock), "{lock:?}");
        assert!(invariants::tokens_are_unique(lock), "{lock:?}");
        assert!(invariants::levels_are_positive(lock), "{lock:?}");
        assert!(invariants::deadlines_follow_leases(lock), "{lock:?}");
        assert!(invariants::index_is_consistent(lock), "{lock:?}");
        // An ended lease counts for nothing, swept or not.
        let live = Lock::from_holds(lock.live_holds(self.moment()).cloned().collect());
        assert!(invariants::holds_are_within_limits(&live), "{lock:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_lock_is_what_the_contract_says_after_every_step(steps in steps(), start in -5_000_i64..5_000) {
        let (lock, oracle, fences) = (Lock::new(), Oracle::default(), FenceSequence::new());
        let mut world = World { lock, oracle, fences, now: start, made: 0 };
        for step in steps {
            world.take(step);
            world.compare();
            world.check_invariants();
        }
    }

    #[test]
    fn a_lock_made_of_holds_is_the_lock_they_were_put_into_in_any_order(
        fences in proptest::collection::btree_set(1_u64..1_000, 1..6),
        order in any::<prop::sample::Index>(),
    ) {
        let now = Moment::from_micros(0);
        let hold = |(place, fence): (usize, &u64)| {
            let terms = Terms { token: &token(TOKENS[place]), share: Share::of(Limit::SHARED), lease_ms: 1, owner: None, session: None };
            Hold::grant(terms, Fence::new(*fence).unwrap(), now)
        };
        let holds: Vec<Hold> = fences.iter().enumerate().map(hold).collect();
        let mut put = Lock::new();
        let start = order.index(holds.len());
        for place in 0..holds.len() {
            put.put(holds[(start + place) % holds.len()].clone());
        }
        let whole = Lock::from_holds(holds);
        prop_assert_eq!(put.holds(), whole.holds());
    }
}

/// A reader's wish to write is refused while another reads, and its hold stays as it was; alone, it is granted.
#[test]
fn a_reader_becomes_the_writer_once_it_is_alone_and_a_writer_a_reader_at_once() {
    let now = Moment::from_micros(0);
    let mut lock = Lock::new();
    for (number, text) in [(1, b"one"), (2, b"two")] {
        let terms = Terms {
            token: &token(text),
            share: Share::of(Limit::SHARED),
            lease_ms: 5,
            owner: None,
            session: None,
        };
        lock.put(Hold::grant(terms, Fence::new(number).unwrap(), now));
    }
    let one = token(b"one");
    assert_eq!(lock.judge(Some(&one), just(Limit::EXCLUSIVE), now), Verdict::Wait);
    assert_eq!(lock.release(&token(b"two"), 1, now, || false), Released::Ended { held_since: now });
    assert_eq!(lock.judge(Some(&one), just(Limit::EXCLUSIVE), now), Verdict::Upgrade);
    lock.renew(&one, named(Limit::EXCLUSIVE), now).expect("it is held");
    assert_eq!(lock.judge(None, just(Limit::SHARED), now), Verdict::Wait);
    assert_eq!(lock.judge(Some(&one), just(Limit::SHARED), now), Verdict::Renew);
    lock.renew(&one, named(Limit::SHARED), now).expect("it is held");
    assert_eq!(lock.judge(None, just(Limit::SHARED), now), Verdict::Grant);
}

/// Every set of up to three holders and every newcomer, by the rule written out.
#[test]
fn the_rule_of_admission_holds_for_every_small_lock() {
    let now = Moment::from_micros(0);
    let shares = [(0_u16, 1_u16), (1, 1), (2, 1), (3, 1), (4, 1), (0, 2), (3, 2), (4, 3)];
    let sizes = (0..=3_u32).flat_map(|size| (0..shares.len().pow(size)).map(move |number| (size, number)));
    let mut verdicts = BTreeSet::new();
    for (size, number) in sizes {
        let of = |place: u32| shares[number / shares.len().pow(place) % shares.len()];
        let holders: Vec<(u16, u16)> = (0..size).map(of).collect();
        let hold = |(place, (limit, weight)): (usize, &(u16, u16))| {
            let terms = Terms {
                token: &token(TOKENS[place]),
                share: Share { limit: Limit::from_number(*limit), weight: *weight },
                lease_ms: 1,
                owner: None,
                session: None,
            };
            Hold::grant(terms, Fence::new(place as u64 + 1).unwrap(), now)
        };
        let lock = Lock::from_holds(holders.iter().enumerate().map(hold).collect());
        for newcomer in shares {
            let all = || holders.iter().chain([&newcomer]);
            let tolerated = all().map(|(limit, _)| *limit).filter(|limit| *limit != 0).min();
            let weight: u16 = all().map(|(_, weight)| weight).sum();
            let admitted = tolerated.is_none_or(|most| weight <= most);
            let verdict = lock.judge(None, asked((Some(newcomer.0), Some(newcomer.1))), now);
            assert_eq!(verdict == Verdict::Grant, admitted, "{newcomer:?} to {holders:?}");
            verdicts.insert(format!("{verdict:?}"));
        }
    }
    assert_eq!(verdicts.len(), 2, "both were seen");
}

fn just(limit: Limit) -> AskedShare {
    AskedShare { limit: Some(limit), weight: None }
}

fn named(limit: Limit) -> Renewal<'static> {
    Renewal { lease_ms: 5, asked: just(limit), owner: None, session: None, level: None, prolongs: false }
}
