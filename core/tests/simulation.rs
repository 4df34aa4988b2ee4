//! Random histories of a whole world: the core beside the contract, step by step.
//!
//! A history is random but for its seed, which a failure prints. `SIMULATION_SEED` runs one history of each kind again,
//! `SIMULATION_RUNS` and `SIMULATION_STEPS` say how many histories there are of each kind and how long each is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod world;

use std::collections::BTreeMap;
use std::env;

use lock_core::ClientId;
use lock_core::queue::WaiterLimits;
use world::checks::World;
use world::steps::Whose::{Arriving, Elsewhere, Nobodys, Ours};
use world::steps::{Request, SPOTS, Spot, Step};
use world::trace::Trace;

const CLIENTS: usize = 7;
const LIMITS: WaiterLimits = WaiterLimits { in_all: 5, per_key: 4 };

/// Where a history takes place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// A server that has its keys to itself.
    Alone,
    /// A node of a cluster, which loses and gains slots; and after a promotion or a load, grants may have been lost.
    Cluster,
    /// The same as alone, where strings count as locks, as they do while a fleet moves over.
    Strings,
    /// The same as a node, where many who wait do so at places that are kept without a connection.
    Places,
    /// The same as alone, where clients name owners, hold several keys and wait for others.
    Owners,
}

/// Every kind of step.
const KINDS: [&str; 22] = [
    "Acquire",
    "Release",
    "Extend",
    "Break",
    "Pass",
    "Expire",
    "TimeOut",
    "EndTurn",
    "Connect",
    "Disconnect",
    "Unblock",
    "Delete",
    "Flush",
    "Rename",
    "Swap",
    "Overwrite",
    "TimeToLive",
    "Forbid",
    "Pause",
    "Demote",
    "Promote",
    "Arrive",
];

/// The kinds of step there are in a cluster besides.
const KINDS_IN_A_CLUSTER: [&str; 6] = ["Slot", "Migrate", "Restore", "Look", "SetGrace", "Reload"];

/// Everything that has to come to pass in the course of all histories, or they prove nothing about it.
const OUTCOMES: [&str; 51] = [
    "all queues full",
    "broken altogether",
    "broken by fence",
    "change of limit not available",
    "deadlock",
    "downgraded",
    "extended",
    "grant undone",
    "granted after waiting",
    "granted again",
    "granted again after waiting",
    "granted at once",
    "impossible weight",
    "impossible weight after waiting",
    "lease ended",
    "lock replaced by a rename",
    "made heavier at once",
    "not available",
    "nothing to extend",
    "nothing to release",
    "queue full",
    "released",
    "session ended",
    "session delayed",
    "session kept",
    "superseded",
    "timed out",
    "timed out at the head",
    "unblocked with an answer on its way",
    "unblocked with an error",
    "unblocked with null",
    "upgrade undone",
    "upgraded after waiting",
    "upgraded at once",
    "waited at a demotion",
    "wrong type",
    "foreign value under waiters",
    "foreign value replaced at the master's word",
    "inner lease longer than the outer",
    "inner lease shorter than the outer",
    "inner level without its outer hold",
    "inner wait without its outer hold",
    "level given back",
    "level raised",
    "not so deep",
    "refused for want of rights",
    "time to live over under waiters",
    "time to live taken off",
    "wait for a change of limit withdrawn",
    "wait withdrawn",
    "woken at the end of a pause",
];

/// What has to come to pass in a cluster besides.
const OUTCOMES_IN_A_CLUSTER: [&str; 22] = [
    "change of limit refused in the grace",
    "demoted with something to undo",
    "done once it came back",
    "freed under waiters while the slot arrives",
    "granted after the grace",
    "granted after waiting in the grace",
    "granted again in the grace",
    "granted at once while the slot arrives",
    "granted once the cluster was up again",
    "granted once the slot has arrived",
    "granted where a key came back",
    "held back in the grace",
    "lease seen to while the cluster is down",
    "lease seen to while the slot arrives",
    "look taken up again",
    "migrated under waiters",
    "put off",
    "refused in the grace",
    "restored under waiters",
    "session lost with a load",
    "turned away at the end of a turn",
    "turned away by the look",
];

/// What has to come to pass where there are places.
const OUTCOMES_AT_PLACES: [&str; 16] = [
    "granted again after waiting",
    "granted at once at the head of the queue",
    "granted to a place",
    "left to be claimed",
    "not ahead any more",
    "place asked for again",
    "place ended",
    "place kept",
    "place over",
    "place taken",
    "place taken ahead",
    "superseded",
    "superseded at a place",
    "upgrade unclaimed",
    "upgrade undone",
    "upgraded at a place",
];

/// What has to come to pass where owners wait for each other.
const OUTCOMES_OF_OWNERS: [&str; 5] =
    ["circle", "circle of a retry", "circle of shares", "deadlock", "granted after waiting"];

/// What has to come to pass where strings count as locks.
const OUTCOMES_AT_STRINGS: [&str; 13] = [
    "foreign value replaced at the master's word",
    "granted after waiting",
    "lease of a string not cut short",
    "not available at a string",
    "not ahead any more",
    "session of a string refused",
    "string broken",
    "string extended",
    "string granted again",
    "string over under waiters",
    "string released",
    "timed out at the head",
    "waited for a string",
];

/// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
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

    fn choose<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Mostly the first key, so that much happens there.
    fn spot(&mut self) -> Spot {
        SPOTS[self.choose(&[0, 0, 0, 0, 0, 1, 2, 3])]
    }

    fn spot_to_wait_at(&mut self, stage: Stage) -> Spot {
        if stage == Stage::Owners { self.choose(&SPOTS) } else { self.spot() }
    }

    fn token(&mut self) -> u8 {
        self.below(6) as u8
    }

    fn request(&mut self, stage: Stage) -> Request {
        let request = self.request_without_place();
        if stage == Stage::Owners {
            return self.request_of_an_owner(request);
        }
        if stage != Stage::Places || request.token.is_none() || request.session_delay_ms.is_some() {
            return request;
        }
        let queue_ms = self.choose(&[None, Some(1), Some(4), Some(9), Some(30)]);
        let block_ms = if queue_ms.is_some() && self.one_in(2) { None } else { request.block_ms };
        Request { queue_ms, block_ms, ..request }
    }

    /// Mostly each owner has a token of its own.
    fn request_of_an_owner(&mut self, request: Request) -> Request {
        const OWNERS: [&[u8]; 5] = [b"me", b"you", b"her", b"him", b"them"];
        let token = self.token();
        let owner = if self.one_in(10) { self.choose(&OWNERS) } else { OWNERS[usize::from(token) % 5] };
        let is_plain = !self.one_in(3);
        let session_delay_ms = request.session_delay_ms.filter(|_| self.one_in(2));
        let queue_ms = self.choose(&[None, None, None, None, Some(9), Some(30)]);
        Request {
            token: Some(token),
            lease_ms: self.choose(&[3, 10, 30, 300, 300]),
            limit: if is_plain { None } else { request.limit },
            weight: if is_plain { None } else { request.weight },
            block_ms: self.choose(&[None, Some(0), Some(0), Some(0), Some(8), Some(30)]),
            queue_ms: queue_ms.filter(|_| session_delay_ms.is_none()),
            owner: (!self.one_in(12)).then_some(owner),
            session_delay_ms,
            level: request.level.filter(|_| self.one_in(2)),
        }
    }

    fn request_without_place(&mut self) -> Request {
        Request {
            token: (!self.one_in(6)).then(|| self.token()),
            lease_ms: self.choose(&[1, 3, 10, 10, 30]),
            limit: self.choose(&[None, None, Some(0), Some(0), Some(1), Some(2), Some(3)]),
            weight: self.choose(&[None, None, None, None, None, Some(1), Some(2), Some(2), Some(3)]),
            block_ms: self.choose(&[None, Some(0), Some(0), Some(2), Some(8)]),
            queue_ms: None,
            owner: self.choose(&[None, None, Some(&b"me"[..]), Some(&b"you"[..])]),
            session_delay_ms: if self.one_in(5) {
                self.choose(&[Some(0), Some(0), Some(2), Some(20), Some(5_000)])
            } else {
                None
            },
            level: self.choose(&[None, None, None, None, None, None, None, Some(1), Some(2), Some(3)]),
        }
    }

    fn step(&mut self, stage: Stage, world: &World) -> Step {
        let open: Vec<ClientId> = world.server.open.iter().copied().collect();
        if open.len() < CLIENTS {
            return Step::Connect;
        }
        let rare = if stage == Stage::Cluster { 6 } else { 60 };
        let is_node = stage != Stage::Alone && stage != Stage::Owners;
        if is_node && self.one_in(rare) {
            return self.step_of_a_node(stage);
        }
        if stage == Stage::Strings && self.one_in(6) {
            let ms = self.choose(&[None, Some(1), Some(3), Some(9), Some(30)]);
            return Step::SetString(self.spot(), self.token(), ms);
        }
        let client = self.choose(&open);
        match self.below(100) {
            85..91 | 95 if stage == Stage::Owners && !self.one_in(4) => Step::EndTurn,
            0..40 => Step::Acquire(client, self.spot_to_wait_at(stage), self.request(stage)),
            40..52 => Step::Release(client, self.spot(), self.token(), self.choose(&[1, 1, 1, 1, 2, 3])),
            52..56 => {
                let lease_ms = self.choose(&[None, Some(2), Some(20)]);
                Step::Extend(client, self.spot(), self.token(), lease_ms)
            }
            56..58 => Step::Break(client, self.spot(), self.choose(&[None, Some(0), Some(1), Some(5)])),
            58..68 if self.one_in(12) => Step::Pass(self.choose(&[300, 600])),
            58..68 => Step::Pass(self.choose(&[1, 1, 2, 5])),
            68..71 => Step::Expire(self.spot(), self.choose(&[0, 1, 2, usize::MAX])),
            71..73 => Step::TimeOut(self.choose(&[1, 2])),
            73..85 => Step::EndTurn,
            85..88 => Step::Disconnect(client),
            88..91 => Step::Unblock(client, self.one_in(2)),
            91 if self.one_in(3) => Step::Delete(self.spot()),
            91 if self.one_in(2) => {
                Step::TimeToLive(self.spot(), self.choose(&[None, Some(1), Some(4), Some(9)]))
            }
            91 => Step::Forbid(client, !self.one_in(3)),
            92 => Step::Overwrite(self.spot()),
            93..95 => Step::Rename(self.spot(), self.spot()),
            95 => self.choose(&[Step::Flush(None), Step::Flush(Some(0)), Step::Swap, Step::Swap]),
            96 => Step::Pause(true),
            97 => Step::Pause(false),
            98 if self.one_in(3) => Step::Demote,
            98 => Step::Arrive(self.spot(), self.token(), 10),
            _ => Step::Promote,
        }
    }

    /// What happens to a node of a cluster, and to one that has lost its memory.
    fn step_of_a_node(&mut self, stage: Stage) -> Step {
        if stage == Stage::Places && self.one_in(2) {
            // So that there is always much to wait for.
            return Step::Slot(self.spot(), Ours);
        }
        match self.below(20) {
            0..10 => {
                let whose = self.choose(&[Ours, Ours, Ours, Arriving, Elsewhere, Elsewhere, Nobodys]);
                Step::Slot(self.spot(), whose)
            }
            10 => Step::Migrate(self.spot()),
            11..13 => Step::Restore(self.spot(), self.token(), self.choose(&[0, 0, 1, 2]), 10),
            13..17 => Step::Look(self.choose(&[1, 2, usize::MAX])),
            17..19 => Step::SetGrace(self.choose(&[0, 0, 4, 12])),
            _ => self.choose(&[Step::Reload, Step::Promote]),
        }
    }
}

fn name(step: Step) -> String {
    let text = format!("{step:?}");
    text.split('(').next().unwrap().to_owned()
}

/// Runs one history. Returns what came to pass, and how often.
fn run(stage: Stage, seed: u64, steps: usize) -> BTreeMap<String, usize> {
    let mut random = Random(seed);
    let mut world = World::new(CLIENTS as u64, LIMITS);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut history = Trace { title: format!("SIMULATION_SEED={seed} ({stage:?})"), steps: Vec::new() };
    while history.steps.len() < steps {
        let step = random.step(stage, &world);
        if !world.can(step) {
            continue;
        }
        let (was_paused, waited) = (world.model.is_paused, world.model.waiting.len());
        history.steps.push(step);
        if let Err(failure) = world.take(step) {
            panic!("{failure}");
        }
        *seen.entry(name(step)).or_default() += 1;
        if world.model.foreign.iter().any(|spot| world.model.queue(*spot).next().is_some()) {
            *seen.entry("foreign value under waiters".to_owned()).or_default() += 1;
        }
        let is_woken = step == Step::EndTurn && !was_paused && world.model.waiting.len() < waited;
        if is_woken && history.steps.iter().rev().nth(1) == Some(&Step::Pause(false)) {
            *seen.entry("woken at the end of a pause".to_owned()).or_default() += 1;
        }
    }
    seen.extend(world.model.seen.iter().map(|(what, times)| ((*what).to_owned(), *times)));
    seen
}

fn number_from_env(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// Histories that broke the contract once: a renewal undone to a limit that others had come to rely on, and holds ended
/// that somebody had been told of by an extension, in the turn of the grant and after a pause.
#[test]
fn histories_that_found_something_keep_the_contract() {
    for seed in [157, 2_609, 4_140, 6_803] {
        run(Stage::Alone, seed, 1_500);
    }
}

#[test]
fn any_history_keeps_the_contract() {
    let seen = run_all(Stage::Alone, 400);
    assert_all_seen(&seen, KINDS.iter().chain(&OUTCOMES));
}

#[test]
fn any_history_of_a_node_of_a_cluster_keeps_the_contract() {
    let seen = run_all(Stage::Cluster, 150);
    assert_all_seen(&seen, KINDS.iter().chain(&KINDS_IN_A_CLUSTER).chain(&OUTCOMES_IN_A_CLUSTER));
}

#[test]
fn any_history_with_places_keeps_the_contract() {
    let seen = run_all(Stage::Places, 400);
    assert_all_seen(&seen, KINDS.iter().chain(&OUTCOMES_AT_PLACES));
}

#[test]
fn any_history_of_owners_keeps_the_contract() {
    let seen = run_all(Stage::Owners, 400);
    assert_all_seen(&seen, KINDS.iter().chain(&OUTCOMES_OF_OWNERS));
}

#[test]
fn any_history_beside_strings_keeps_the_contract() {
    let seen = run_all(Stage::Strings, 400);
    assert_all_seen(&seen, KINDS.iter().chain(&["SetString"]).chain(&OUTCOMES_AT_STRINGS));
}

/// Runs as many histories as are asked for, or else `runs`. Returns what came to pass in all of them together, or nothing
/// where it was one alone.
fn run_all(stage: Stage, runs: u64) -> BTreeMap<String, usize> {
    let steps = number_from_env("SIMULATION_STEPS").unwrap_or(1_500) as usize;
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    if let Some(seed) = number_from_env("SIMULATION_SEED") {
        run(stage, seed, steps);
        return seen;
    }
    for seed in 0..number_from_env("SIMULATION_RUNS").unwrap_or(runs) {
        for (what, times) in run(stage, seed, steps) {
            *seen.entry(what).or_default() += times;
        }
    }
    seen
}

fn assert_all_seen<'a>(seen: &BTreeMap<String, usize>, wanted: impl Iterator<Item = &'a &'static str>) {
    if seen.is_empty() {
        return;
    }
    for what in wanted {
        assert!(seen.get(*what).copied().unwrap_or_default() > 0, "never came to pass: {what}; {seen:#?}");
    }
}
