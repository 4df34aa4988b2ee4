//! Slots of a cluster that go to another node, arrive from one, and come back.

use lock_core::ClientId;

use super::world::steps::Whose::{self, Arriving, Elsewhere, Nobodys, Ours};
use super::world::steps::{NOT_OURS_MS, Reply, Request, SPOTS, Spot, Step};
use super::{A, B, assert_granted, follow, waiting};

/// The same name as the first in another database, and so in the same slot.
const A_TOO: Spot = SPOTS[3];

/// What those are told who cannot be served here.
fn refused(clients: &[ClientId], whose: Whose) -> Vec<(ClientId, Reply)> {
    clients.iter().map(|client| (*client, Reply::Error(whose.refusal().unwrap()))).collect()
}

#[test]
fn who_waits_for_a_key_that_goes_to_another_node_is_told_where_it_is() {
    let world = follow(
        "a key is migrated under those who wait for it",
        &[
            Step::Acquire(1, A, Request::of(0, 30)),
            Step::Acquire(2, A, Request::of(1, 30).block(0)),
            Step::Acquire(3, A, Request::of(2, 30).block(8)),
            Step::Migrate(A),
            Step::EndTurn,
        ],
    );
    assert_eq!(world.told, refused(&[2, 3], Elsewhere));
    assert_eq!(waiting(&world), []);
}

#[test]
fn what_is_freed_at_another_nodes_key_is_handed_over_to_nobody_here() {
    let freed: [&[Step]; 5] = [
        &[Step::Release(1, A, 0, 1)],
        &[Step::Break(1, A, None)],
        &[Step::Delete(A)],
        &[Step::Disconnect(1)],
        &[Step::Acquire(1, A, Request::of(0, 30).limit(0))],
    ];
    for steps in freed {
        let before = [
            Step::Acquire(1, A, Request::of(0, 30).session()),
            Step::Acquire(2, A, Request::of(1, 30).limit(0).block(0)),
            Step::Slot(A, Elsewhere),
        ];
        let world =
            follow("a lock is freed at another node's key", &[&before, steps, &[Step::EndTurn]].concat());
        assert_eq!(world.told, refused(&[2], Elsewhere), "{steps:?}");
    }
}

#[test]
fn who_asks_where_a_slot_arrives_is_granted_the_lock_and_who_waits_is_served_once_it_is_here() {
    let mut steps = vec![
        Step::Slot(A, Arriving),
        Step::Restore(A, 0, 2, 10),
        Step::Acquire(1, A, Request::of(1, 30).limit(2)),
        Step::Acquire(2, A, Request::of(2, 30).limit(2).block(0)),
        Step::Release(3, A, 0, 1),
        Step::Acquire(4, A, Request::of(3, 30).limit(2)),
        Step::EndTurn,
    ];
    let world = follow("a slot is on its way here", &steps);
    assert_eq!((world.model.live(A).count(), waiting(&world)), (1, vec![2]));
    steps.extend([Step::Slot(A, Ours), Step::Look(1), Step::EndTurn]);
    assert_granted(&follow("and is here", &steps), 2);
}

#[test]
fn who_waits_where_a_slot_arrives_is_told_when_it_never_does() {
    let world = follow(
        "a slot that was on its way here stays where it was",
        &[
            Step::Slot(A, Arriving),
            Step::Acquire(1, A, Request::of(0, 30)),
            Step::Acquire(2, A, Request::of(1, 30).block(0)),
            Step::Look(usize::MAX),
            Step::Slot(A, Elsewhere),
            Step::Look(usize::MAX),
            Step::EndTurn,
        ],
    );
    assert_eq!(world.told, refused(&[2], Elsewhere));
}

#[test]
fn leases_end_where_a_slot_arrives_and_while_the_cluster_is_down() {
    for (whose, told) in [(Arriving, vec![]), (Nobodys, refused(&[2], Nobodys))] {
        let world = follow(
            "a lease runs out",
            &[
                Step::Acquire(1, A, Request::of(0, 10)),
                Step::Acquire(2, A, Request::of(1, 30).block(0)),
                Step::Slot(A, whose),
                Step::Pass(10),
                Step::EndTurn,
            ],
        );
        assert!(world.server.lock(A).is_none(), "{whose:?}");
        assert_eq!(world.told, told);
    }
}

#[test]
fn a_key_that_is_lost_and_comes_back_within_a_turn_is_handed_over() {
    let world = follow(
        "a slot comes back before anybody was told",
        &[
            Step::Acquire(1, A, Request::of(0, 30)),
            Step::Acquire(2, A, Request::of(1, 30).block(0)),
            Step::Slot(A, Elsewhere),
            Step::Release(1, A, 0, 1),
            Step::Slot(A, Ours),
            Step::EndTurn,
        ],
    );
    assert_granted(&world, 2);
}

#[test]
fn a_lease_at_another_nodes_key_ends_when_the_key_is_back() {
    let mut steps = vec![
        Step::Acquire(1, A, Request::of(0, 10)),
        Step::Acquire(2, A, Request::of(1, 30).block(0)),
        Step::Slot(A, Elsewhere),
        Step::Pass(10),
        Step::EndTurn,
        Step::Expire(A, usize::MAX),
    ];
    let world = follow("a lease runs out at another node's key", &steps);
    assert_eq!(world.server.lock(A).map(|lock| lock.holds().len()), Some(1), "nothing is ended");
    assert_eq!(waiting(&world), [2]);
    steps.extend([Step::Slot(A, Ours), Step::Pass(NOT_OURS_MS), Step::EndTurn]);
    let world = follow("and the key comes back", &steps);
    assert_granted(&world, 2);
}

#[test]
fn a_session_at_another_nodes_key_goes_on_when_the_key_is_back() {
    let world = follow(
        "a hold is due to be kept alive while its key is another node's",
        &[
            Step::Acquire(1, A, Request::of(0, 1000).session()),
            Step::Slot(A, Elsewhere),
            Step::Pass(2000),
            Step::EndTurn,
            Step::Acquire(2, A, Request::of(1, 10)),
            Step::Slot(A, Ours),
            Step::Pass(NOT_OURS_MS),
            Step::EndTurn,
        ],
    );
    let ends: Vec<_> = world.model.live(A).map(|holder| world.model.now.ms_until(holder.end)).collect();
    assert_eq!(ends, [1000]);
}

#[test]
fn a_look_comes_to_every_key_that_is_waited_for() {
    let mut steps = Vec::new();
    for (client, spot) in [(1, A_TOO), (2, A), (3, B)] {
        let number = u8::try_from(client).unwrap();
        steps.extend([
            Step::Acquire(7, spot, Request::of(0, 30)),
            Step::Acquire(client, spot, Request::of(number, 30).block(0)),
        ]);
    }
    steps.extend([Step::Slot(A, Elsewhere), Step::Look(1)]);
    let ends = |steps: &[Step]| follow("a look at all who wait", &[steps, &[Step::EndTurn]].concat()).told;
    assert_eq!(ends(&steps), refused(&[2], Elsewhere));
    steps.extend([Step::EndTurn, Step::Slot(B, Elsewhere), Step::Look(1)]);
    assert_eq!(ends(&steps), refused(&[3], Elsewhere), "it goes on where it was");
    steps.extend([Step::EndTurn, Step::Look(2)]);
    assert_eq!(ends(&steps), refused(&[1], Elsewhere));
}

#[test]
fn a_look_begins_anew_after_the_last_key() {
    let world = follow(
        "a key is lost behind the look's back",
        &[
            Step::Acquire(1, A, Request::of(0, 30)),
            Step::Acquire(2, A, Request::of(1, 30).block(0)),
            Step::Look(1),
            Step::Slot(A, Elsewhere),
            Step::Look(usize::MAX),
            Step::EndTurn,
            Step::Look(usize::MAX),
            Step::EndTurn,
        ],
    );
    assert_eq!(world.told, refused(&[2], Elsewhere));
}
