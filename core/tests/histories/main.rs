//! Histories that were thought out, or found by chance and cut down to what matters: the core beside the contract, every
//! step checked. A module for each theme. Random ones are in `simulation.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod grace;
mod inner_levels;
mod sessions;
mod several_keys;
mod slots;
mod undone_grants;
mod waits;
#[path = "../world/mod.rs"]
mod world;

use lock_core::ClientId;
use lock_core::queue::WaiterLimits;
use world::checks::World;
use world::steps::{Reply, SPOTS, Spot, Step};
use world::trace::Trace;

const CLIENTS: u64 = 7;
const LIMITS: WaiterLimits = WaiterLimits { in_all: 5, per_key: 4 };

/// Follows a history, and checks every step of it.
fn follow(title: &str, steps: &[Step]) -> World {
    let mut world = World::new(CLIENTS, LIMITS);
    let mut trace = Trace { title: title.to_owned(), steps: Vec::new() };
    for step in steps {
        assert!(world.can(*step), "{step:?} can happen");
        trace.steps.push(*step);
        if let Err(failure) = world.take(*step) {
            panic!("{failure}");
        }
    }
    world
}

const A: Spot = SPOTS[0];
const B: Spot = SPOTS[1];

fn waiting(world: &World) -> Vec<ClientId> {
    world.model.waiting.iter().filter_map(|waiter| waiter.client).collect()
}

#[track_caller]
fn assert_granted(world: &World, client: ClientId) {
    let is_granted = matches!(world.told[..], [(other, Reply::Granted(..))] if other == client);
    assert!(is_granted, "{:?}", world.told);
}
