//! What a cluster is to clients of locks: commands go where their key belongs.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "support/cluster.rs"]
mod cluster;
mod support;

use cluster::{key_in, shared, slot_of};

#[test]
fn the_fixture_knows_the_slots_of_keys() {
    let cluster = shared();
    let mut client = cluster.client(0);
    for key in ["k", "{k}x", "x{k}", "{}k", "a{}{b}", "{", "}{k", "123456789"] {
        assert_eq!(client.run(&format!("CLUSTER KEYSLOT {key}")).int(), i64::from(slot_of(key)), "{key}");
    }
    for slot in [0, 1, 5461, 16_383] {
        let key = key_in(slot, "name");
        assert_eq!(client.run(&format!("CLUSTER KEYSLOT {key}")).int(), i64::from(slot), "{key}");
    }
}
