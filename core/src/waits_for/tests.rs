//! Random small worlds, judged by the search and by the slowest means; and how many steps the search takes in large ones.

#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

extern crate std;

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use std::println;
use std::time::{Duration, Instant};

use super::search::Budget;
use super::*;
use crate::queue::Ticket;
use crate::share::Limit;
use crate::undo::{Undo, What};

const NOW: Moment = Moment::from_micros(1_000_000);

/// SplitMix64, as in `core/tests/simulation.rs`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }
}

/// A hold, in plain words.
#[derive(Clone, Debug)]
struct PlainHold {
    key: usize,
    token: usize,
    owner: Option<usize>,
    share: Share,
    /// Whether its lease has ended, its connection has closed, or it is to be undone.
    has_ended: bool,
    noted: NotedHold,
}

/// A wait, in plain words. Those that come first in the list stand ahead.
#[derive(Clone, Debug)]
struct PlainWait {
    keys: Vec<usize>,
    token: usize,
    owner: usize,
    asked: AskedShare,
    is_inner: bool,
    is_over: bool,
}

#[derive(Debug)]
struct World {
    holds: Vec<PlainHold>,
    waits: Vec<PlainWait>,
    /// Keys of whose locks nothing is known.
    unknown: BTreeSet<usize>,
}

fn db_key(number: usize) -> OwnedDbKey {
    DbKey { database: 0, key: &[number as u8, (number >> 8) as u8] }.into()
}

fn token(number: usize) -> Token {
    let mut seed = [7; 16];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    Token::from_seed(seed)
}

fn label(owner: usize) -> Box<[u8]> {
    format!("owner {owner}").into_bytes().into()
}

fn fence(number: usize) -> Fence {
    let Some(fence) = Fence::new(number as u64 + 1) else { panic!("a fence") };
    fence
}

fn share(limit: u16, weight: u16) -> Share {
    Share { limit: Limit::from_number(limit), weight }
}

fn noted(number: usize, its_token: usize, owner: Option<usize>, share: Share) -> NotedHold {
    NotedHold {
        fence: fence(number),
        token: token(its_token),
        owner: owner.map(label),
        share,
        deadline: NOW.plus_ms(1),
        client: None,
    }
}

fn waiter(wait: &PlainWait) -> Waiter {
    Waiter {
        client: Some(1),
        token: token(wait.token),
        asked: wait.asked,
        lease_ms: 1,
        owner: Some(label(wait.owner)),
        session_delay_ms: None,
        level: wait.is_inner.then_some(2),
        since: NOW,
        until: wait.is_over.then_some(NOW),
        keep: None,
        is_for_several: false,
    }
}

impl World {
    fn random(random: &mut Random, sessions: &mut SessionIndex, undos: &mut Undos) -> Self {
        let (owners, keys) = (2 + random.below(5), 1 + random.below(5));
        let mut holds: Vec<PlainHold> = Vec::new();
        for number in 0..random.below(2 * keys + 2) {
            let (key, its_token) = (random.below(keys), random.below(12));
            if holds.iter().any(|hold| hold.key == key && hold.token == its_token) {
                continue;
            }
            let owner = (!random.one_in(6)).then(|| random.below(owners));
            let share = share([0, 1, 1, 1, 2, 3][random.below(6)], if random.one_in(5) { 2 } else { 1 });
            let mut noted = noted(number, its_token, owner, share);
            let has_ended = random.one_in(8);
            match random.below(3) {
                0 if has_ended => noted.deadline = NOW,
                1 if has_ended => noted.client = Some(99),
                _ if has_ended => {
                    undos.add(db_key(key).as_key(), Undo { fence: noted.fence, what: What::Grant });
                }
                0 => {
                    sessions.opened(1);
                    (noted.client, noted.deadline) = (Some(1), NOW);
                }
                _ => {}
            }
            holds.push(PlainHold { key, token: its_token, owner, share, has_ended, noted });
        }
        let waits = (0..1 + random.below(7)).map(|_| {
            let first = random.below(keys);
            let mut at = Vec::from([first]);
            if random.one_in(4) {
                at.push(random.below(keys));
                at.sort_unstable();
                at.dedup();
            }
            let limit = (!random.one_in(3)).then(|| Limit::from_number([0, 1, 1, 2, 3][random.below(5)]));
            PlainWait {
                keys: at,
                token: random.below(12),
                owner: random.below(owners),
                asked: AskedShare { limit, weight: random.one_in(5).then_some(2) },
                is_inner: random.one_in(12),
                is_over: random.one_in(12),
            }
        });
        let waits = waits.collect();
        let unknown = (0..keys).filter(|_| random.one_in(12)).collect();
        Self { holds, waits, unknown }
    }

    /// The same, as the module has it. The ticket of a wait is its place in the list.
    fn noted(&self) -> WaitsFor {
        let mut noted = WaitsFor::new();
        for (at, wait) in self.waits.iter().enumerate() {
            let keys: Vec<OwnedDbKey> = wait.keys.iter().map(|key| db_key(*key)).collect();
            noted.enter(ticket(at), &waiter(wait), &keys);
        }
        for key in 0..5 {
            let here = self.holds.iter().filter(|hold| hold.key == key);
            let holds = here.map(|hold| hold.noted.clone()).collect();
            noted.know(db_key(key).as_key(), Some(holds).filter(|_| !self.unknown.contains(&key)));
        }
        noted
    }

    /// Who is in the way of a wait at a key, and whether they keep it waiting.
    fn in_the_way(&self, at: usize, key: usize, stuck: &BTreeSet<usize>) -> (BTreeSet<usize>, bool) {
        let wait = &self.waits[at];
        let counts = |owner: usize| owner != wait.owner && stuck.contains(&owner);
        let ahead = self.waits[..at].iter().filter(|other| other.keys.contains(&key) && !other.is_over);
        let ahead: BTreeSet<usize> = ahead.map(|other| other.owner).filter(|owner| counts(*owner)).collect();
        let is_known = !self.unknown.contains(&key);
        let live = || self.holds.iter().filter(|hold| is_known && hold.key == key && !hold.has_ended);
        let own = live().find(|hold| hold.token == wait.token).map(|hold| hold.share);
        let has = own.unwrap_or(share(1, 1));
        let wanted = Share {
            limit: wait.asked.limit.unwrap_or(has.limit),
            weight: wait.asked.weight.unwrap_or(has.weight),
        };
        let others: Vec<&PlainHold> =
            live().filter(|hold| hold.token != wait.token && hold.owner.is_some_and(counts)).collect();
        let most = |share: Share| match share.limit.number() {
            0 => usize::MAX,
            limit => usize::from(limit),
        };
        let shares = || others.iter().map(|hold| hold.share).chain([wanted]);
        let weight: usize = shares().map(|share| usize::from(share.weight)).sum();
        let has_room = weight <= shares().map(most).min().unwrap_or(usize::MAX);
        let is_impossible = usize::from(wanted.weight) > most(wanted);
        let is_answered = own == Some(wanted) || is_impossible || wait.is_inner && own.is_none();
        let keeps = !ahead.is_empty() || is_known && !has_room && !is_answered;
        (ahead.into_iter().chain(others.iter().filter_map(|hold| hold.owner)).collect(), keeps)
    }

    /// The owners that are stuck, and for each the owners that it waits for.
    fn edges(&self) -> Vec<(usize, usize)> {
        let mut stuck: BTreeSet<usize> =
            self.waits.iter().filter(|wait| !wait.is_over).map(|wait| wait.owner).collect();
        let lasting = |owner: usize| {
            (0..self.waits.len()).filter(move |at| self.waits[*at].owner == owner && !self.waits[*at].is_over)
        };
        loop {
            let is_stuck =
                |at: usize| self.waits[at].keys.iter().any(|key| self.in_the_way(at, *key, &stuck).1);
            let goes_on = stuck.iter().copied().find(|owner| lasting(*owner).any(|at| !is_stuck(at)));
            let Some(owner) = goes_on else { break };
            stuck.remove(&owner);
        }
        let mut edges = Vec::new();
        for owner in &stuck {
            for at in lasting(*owner) {
                for key in &self.waits[at].keys {
                    let (others, keeps) = self.in_the_way(at, *key, &stuck);
                    edges.extend(others.into_iter().filter(|_| keeps).map(|other| (*owner, other)));
                }
            }
        }
        edges
    }

    fn is_in_circle(&self, owner: usize, edges: &[(usize, usize)]) -> bool {
        let mut reached: BTreeSet<usize> = BTreeSet::new();
        for _ in 0..=edges.len() {
            let next = edges.iter().filter(|(from, _)| *from == owner || reached.contains(from));
            let next: Vec<usize> = next.map(|(_, to)| *to).collect();
            reached.extend(next);
        }
        reached.contains(&owner)
    }
}

fn ticket(at: usize) -> Ticket {
    (0..=at).fold(Ticket::FIRST, |ticket, _| ticket.after())
}

fn name(circle: &Circle, at: usize) -> String {
    String::from_utf8_lossy(&circle.named[at % circle.named.len()]).into_owned()
}

#[test]
fn a_circle_is_found_exactly_where_there_is_one() {
    let (mut found, mut others) = (0, 0);
    for seed in 0..60_000 {
        let (mut sessions, mut undos) = (SessionIndex::new(), Undos::new());
        let world = World::random(&mut Random(seed), &mut sessions, &mut undos);
        let mut noted = world.noted();
        assert!(noted.is_consistent(), "seed {seed}");
        let edges = world.edges();
        for (at, wait) in world.waits.iter().enumerate() {
            let view = View { now: NOW, sessions: &sessions, undos: &undos };
            let circle = noted.circle_of(ticket(at), view);
            let expected = world.is_in_circle(wait.owner, &edges);
            assert_eq!(circle.is_some(), expected, "seed {seed}, wait {at}: {circle:?} in {world:#?}");
            let Some(circle) = circle else {
                others += 1;
                continue;
            };
            found += 1;
            assert_eq!(circle.len, circle.named.len());
            assert_eq!(circle.named.first(), Some(&label(wait.owner)));
            for step in 0..circle.len {
                let is_next = |(from, to): &(usize, usize)| {
                    format!("owner {from}") == name(&circle, step)
                        && format!("owner {to}") == name(&circle, step + 1)
                };
                assert!(edges.iter().any(is_next), "seed {seed}: each waits for the next: {circle:?}");
            }
        }
        (0..world.waits.len()).for_each(|at| noted.leave(ticket(at)));
        assert!(noted.is_consistent() && noted.owners.len() + noted.keys.len() == 0, "nothing is left");
    }
    assert!(found > 5_000 && others > 5_000, "{found} circles, {others} waits in none");
}

/// Owners in a chain: each holds the key of its number, and waits for that of the one before it.
fn chain(len: usize) -> WaitsFor {
    let mut noted = WaitsFor::new();
    for owner in 1..len {
        put(&mut noted, owner, owner - 1);
    }
    noted
}

fn put(noted: &mut WaitsFor, owner: usize, key: usize) -> Ticket {
    let asked = AskedShare::default();
    let wait = PlainWait { keys: Vec::new(), token: owner, owner, asked, is_inner: false, is_over: false };
    let ticket = ticket(0).going_to(owner);
    noted.enter(ticket, &waiter(&wait), &[db_key(key)]);
    noted.know(db_key(key).as_key(), Some(Vec::from([self::noted(key, key, Some(key), Share::EXCLUSIVE)])));
    ticket
}

impl Ticket {
    fn going_to(self, number: usize) -> Self {
        (0..number).fold(self, |ticket, _| ticket.after())
    }
}

/// The steps and the time that the search takes for who joins, at best of many times.
fn search(noted: &mut WaitsFor, owner: usize, key: usize) -> (Option<usize>, usize, Duration) {
    let (sessions, undos) = (SessionIndex::new(), Undos::new());
    let view = View { now: NOW, sessions: &sessions, undos: &undos };
    let mut best = Duration::MAX;
    let (mut len, mut steps) = (None, 0);
    for _ in 0..20 {
        let ticket = put(noted, owner, key);
        let id = noted.owner(&label(owner));
        let mut budget = Budget(MOST_STEPS);
        let start = Instant::now();
        len = noted.find(id, view, &mut budget).unwrap_or(None).map(|circle| circle.len);
        best = best.min(start.elapsed());
        steps = MOST_STEPS - budget.0;
        noted.leave(ticket);
    }
    (len, steps, best)
}

#[test]
fn a_search_takes_few_steps_beside_a_long_chain() {
    const LEN: usize = 1_000;
    let whole = chain(LEN);
    // At either end, in the middle of two chains, and where it closes the circle.
    let mut two = chain(LEN);
    two.leave(ticket(0).going_to(LEN / 2));
    for (what, mut noted, owner, key, circle, most) in [
        ("behind the last", chain(LEN), LEN, LEN - 1, None, 10),
        ("ahead of the first", chain(LEN), 0, LEN, None, 10),
        ("between two", two, LEN / 2, LEN / 2 - 1, None, 5 * LEN),
        ("closing the circle", whole, 0, LEN - 1, Some(LEN), 12 * LEN),
    ] {
        let (len, steps, time) = search(&mut noted, owner, key);
        println!("{what}: {steps} steps, {time:?}");
        assert_eq!(len, circle, "{what}");
        assert!(steps <= most, "{what}: {steps} steps");
    }
}

#[test]
fn a_search_takes_few_steps_in_a_long_queue() {
    // A thousand wait for one key, and each holds another that somebody waits for.
    const LEN: usize = 1_000;
    let mut noted = WaitsFor::new();
    for owner in 1..LEN {
        put(&mut noted, owner, 0);
        put(&mut noted, owner + LEN, owner);
    }
    let _ = put(&mut noted, 3 * LEN, LEN);
    noted.know(db_key(LEN).as_key(), Some(Vec::from([self::noted(LEN, LEN, Some(LEN), Share::EXCLUSIVE)])));
    let (len, steps, time) = search(&mut noted, LEN, 0);
    println!("in a long queue: {steps} steps, {time:?}");
    assert_eq!(len, None);
    assert!(steps <= 30, "{steps} steps");
}

#[test]
fn each_place_of_an_owner_that_waits_for_much_is_a_step() {
    const PLACES: usize = 60;
    // Who joins waits for one who waits for many keys at once, and many wait for who joins.
    let (first, joins) = (1, 2);
    let mut noted = WaitsFor::new();
    let asked = AskedShare::default();
    let wait =
        PlainWait { keys: Vec::new(), token: first, owner: first, asked, is_inner: false, is_over: false };
    let keys: Vec<_> = (0..PLACES).map(|place| db_key(1_000 + place)).collect();
    noted.enter(ticket(0), &waiter(&wait), &keys);
    for owner in 0..2 * PLACES {
        put(&mut noted, 100 + owner, joins);
    }
    let (len, steps, _) = search(&mut noted, joins, first);
    assert_eq!(len, None);
    assert!((PLACES..=6 * PLACES).contains(&steps), "{steps} steps");
}

#[test]
fn a_search_that_would_take_too_long_is_given_up() {
    let mut noted = chain(MOST_STEPS);
    let (len, ..) = search(&mut noted, 0, MOST_STEPS - 1);
    assert_eq!(len, None);
}
