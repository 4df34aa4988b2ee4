//! Requests for several keys: all of them or none, one fence, a place in each queue.

use super::world::checks::World;
use super::world::steps::Whose::{Arriving, Elsewhere, Ours};
use super::world::steps::{Reply, Request, SPOTS, Spot, Step, subscriber, token};
use super::{A, B, follow, waiting};

const C: Spot = SPOTS[2];

/// Whether this token holds the key.
fn holds(world: &World, spot: Spot, number: u8) -> bool {
    world.model.live(spot).any(|holder| holder.token == token(number))
}

#[test]
fn several_keys_are_held_under_one_fence() {
    let world = follow(
        "a client takes two keys, one of which it has already, and waits for two of others",
        &[
            Step::Acquire(1, A, Request::of(0, 30)),
            Step::AcquireAll(1, &[A, B, C], Request::of(0, 30)),
            Step::AcquireAll(2, &[C, B], Request::of(1, 30).block(0)),
            Step::ReleaseAll(1, &[A, B, C], 0),
            Step::EndTurn,
        ],
    );
    let fences: Vec<_> = [C, B].iter().flat_map(|spot| world.model.live(*spot)).collect();
    assert_eq!(fences.iter().map(|holder| holder.fence).collect::<Vec<_>>(), [3, 3]);
    assert_eq!(world.model.live(A).count(), 0);
}

#[test]
fn a_free_key_stays_free_for_who_waits_for_another_as_well() {
    let world = follow(
        "two wait for a free key behind one that needs a second, and come again without BLOCK",
        &[
            Step::Acquire(1, A, Request::of(0, 30)),
            Step::AcquireAll(2, &[A, B], Request::of(1, 30).block(0)),
            Step::Acquire(3, B, Request::of(2, 30).block(0)),
            Step::Acquire(4, B, Request::of(3, 30)),
            Step::EndTurn,
            Step::Release(1, A, 0, 1),
            Step::EndTurn,
        ],
    );
    assert!(holds(&world, A, 1) && holds(&world, B, 1));
    assert_eq!(waiting(&world), [3]);
}

#[test]
fn who_moves_back_lets_those_in_that_stood_behind_it() {
    let one_more_key = follow(
        "a writer that waits for one key comes again for two, and a reader comes forward",
        &[
            Step::Acquire(1, A, Request::of(0, 30).limit(0)),
            Step::Acquire(2, A, Request::of(1, 30).block(0)),
            Step::Acquire(3, A, Request::of(2, 30).limit(0).block(0)),
            Step::AcquireAll(4, &[A, B], Request::of(1, 30).block(0)),
            Step::EndTurn,
        ],
    );
    assert!(holds(&one_more_key, A, 2));
    let latest_place = follow(
        "a writer that waits for two keys one by one comes for both, and keeps the later place",
        &[
            Step::Acquire(1, A, Request::of(0, 30).limit(0)),
            Step::Acquire(1, B, Request::of(0, 30)),
            Step::Acquire(2, A, Request::of(1, 30).block(0)),
            Step::Acquire(3, A, Request::of(2, 30).limit(0).block(0)),
            Step::Acquire(4, B, Request::of(1, 30).block(0)),
            Step::AcquireAll(5, &[A, B], Request::of(1, 30).block(0)),
            Step::EndTurn,
        ],
    );
    assert!(holds(&latest_place, A, 2));
}

#[test]
fn a_change_of_several_is_over_with_one_of_the_holds() {
    let world = follow(
        "a reader of two keys waits to become the writer, and the lease of one has ended when the other is ready",
        &[
            Step::Acquire(2, A, Request::of(1, 200).limit(0)),
            Step::AcquireAll(1, &[A, B], Request::of(0, 30).limit(0)),
            Step::Extend(1, A, 0, Some(200)),
            Step::AcquireAll(1, &[A, B], Request::of(0, 30).limit(1).block(0)),
            Step::Pass(30),
            Step::Release(2, A, 1, 1),
            Step::EndTurn,
        ],
    );
    assert!(holds(&world, A, 0) && !holds(&world, B, 0));
    assert!(waiting(&world).is_empty());
}

#[test]
fn an_inner_level_without_all_outer_holds_is_null_whatever_else_it_asks_for() {
    let world = follow(
        "a level of two keys is asked for where one is held, with a weight that the other could not have",
        &[
            Step::Acquire(1, A, Request::of(0, 30).limit(3)),
            Step::AcquireAll(1, &[A, B], Request::of(0, 30).weight(3).level(2).block(0)),
        ],
    );
    assert_eq!(world.told, [(1, Reply::Null)]);
}

#[test]
fn a_place_of_several_keys_is_called_at_the_first_of_them() {
    let world = follow(
        "a client has gone before it is told that it holds two keys, and its place was kept",
        &[
            Step::Acquire(1, A, Request::of(0, 30)),
            Step::AcquireAll(2, &[B, A], Request::of(1, 30).block(0).queue(50)),
            Step::Release(1, A, 0, 1),
            Step::Disconnect(2),
            Step::EndTurn,
        ],
    );
    let called: Vec<_> = world.told.iter().filter(|(_, reply)| *reply == Reply::Called(0)).collect();
    assert_eq!(called.len(), 1, "{:?}", world.told);
    assert_eq!(called[0].0, subscriber(B));
    assert!(holds(&world, A, 1) && holds(&world, B, 1));
}

#[test]
fn who_is_sent_to_another_node_is_in_nobodys_way_any_more() {
    let world = follow(
        "one of two keys goes to another node, and somebody waits for the other",
        &[
            Step::Acquire(1, A, Request::of(0, 30)),
            Step::AcquireAll(2, &[A, B], Request::of(1, 30).block(0)),
            Step::Acquire(3, B, Request::of(2, 30).block(0)),
            Step::Slot(A, Elsewhere),
            Step::Look(usize::MAX),
            Step::EndTurn,
        ],
    );
    assert!(holds(&world, B, 2));
}

#[test]
fn a_request_for_several_keys_is_served_once_the_last_of_them_has_come() {
    let world = follow(
        "the slot of the second key is on its way here when the first is given back",
        &[
            Step::Slot(B, Arriving),
            Step::Acquire(1, A, Request::of(0, 30)),
            Step::AcquireAll(2, &[A, B], Request::of(1, 30).block(0)),
            Step::Release(1, A, 0, 1),
            Step::EndTurn,
            Step::Slot(B, Ours),
            Step::Look(usize::MAX),
            Step::EndTurn,
        ],
    );
    assert!(holds(&world, A, 1) && holds(&world, B, 1));
}

#[test]
fn a_request_that_takes_the_place_of_its_own_exceeds_no_cap() {
    let mut steps = vec![Step::AcquireAll(7, &[A, B], Request::of(0, 30))];
    for client in 1..=4 {
        let spot = if client % 2 == 0 { A } else { B };
        let number = u8::try_from(client).unwrap();
        steps.push(Step::Acquire(client, spot, Request::of(number, 30).block(0)));
    }
    steps.push(Step::Acquire(5, A, Request::of(5, 30).block(0)));
    steps.push(Step::AcquireAll(6, &[A, C], Request::of(5, 30).block(0)));
    let world = follow("all places are taken, and one of those who wait comes again for more keys", &steps);
    assert_eq!(waiting(&world), [1, 2, 3, 4, 6]);
}

#[test]
fn who_heads_two_queues_and_asks_for_less_has_waited_for_both() {
    let world = follow(
        "a writer of two keys comes again as a reader, and somebody waits behind it",
        &[
            Step::Acquire(1, A, Request::of(0, 30).limit(0)),
            Step::AcquireAll(2, &[A, B], Request::of(1, 30).block(0)),
            Step::Acquire(3, B, Request::of(2, 30).block(0)),
            Step::AcquireAll(4, &[A, B], Request::of(1, 30).limit(0).block(0)),
        ],
    );
    assert!(holds(&world, A, 1) && holds(&world, B, 1));
    assert_eq!(world.server.table.figures().grants_after_wait, 2);
}

#[test]
fn who_holds_a_part_must_not_wait_for_the_rest() {
    let world = follow(
        "each of two holds a key and asks for both",
        &[
            Step::Acquire(1, A, Request::of(0, 30)),
            Step::Acquire(2, B, Request::of(1, 30)),
            Step::AcquireAll(1, &[A, B], Request::of(0, 30)),
            Step::AcquireAll(2, &[A, B], Request::of(1, 30).block(0)),
        ],
    );
    assert_eq!(world.told, [(2, Reply::Error(lock_core::Refusal::HeldInPart))]);
}

#[test]
fn a_release_at_one_key_ends_a_wait_for_several() {
    let world = follow(
        "a client gives up from another connection, by one of its keys",
        &[
            Step::Acquire(1, A, Request::of(0, 30)),
            Step::AcquireAll(2, &[A, B], Request::of(1, 30).block(0)),
            Step::Acquire(3, B, Request::of(2, 30).block(0)),
            Step::Release(4, B, 1, 1),
            Step::EndTurn,
        ],
    );
    assert!(holds(&world, B, 2));
    assert!(waiting(&world).is_empty());
}

#[test]
fn one_turn_serves_two_that_wait_for_several_keys_each() {
    let circle: [&[Spot]; 3] = [&[A, B], &[B, C], &[C, A]];
    let shared = Request::of(1, 10).limit(0).block(0);
    let world = follow(
        "the lease of a writer of two keys has ended, and it comes again as a reader behind two others",
        &[
            Step::AcquireAll(2, circle[1], Request::of(2, 10).block(0)),
            Step::AcquireAll(1, circle[0], shared),
            Step::AcquireAll(3, circle[2], Request { token: Some(3), ..shared }),
            Step::Pass(10),
            Step::AcquireAll(2, circle[1], Request { token: Some(2), ..shared }),
            Step::EndTurn,
        ],
    );
    assert!(waiting(&world).is_empty());
}

#[test]
fn what_nobody_was_told_of_at_one_key_is_not_undone_at_another_that_was_granted_with_it() {
    let world = follow(
        "two keys are granted together, one is asked for again, and then takes the place of the other",
        &[
            Step::Acquire(1, A, Request::of(0, 30)),
            Step::AcquireAll(2, &[A, B], Request::of(1, 30).block(0)),
            Step::Release(1, A, 0, 1),
            Step::Acquire(3, A, Request::of(1, 30)),
            Step::Rename(A, B),
            Step::Unblock(2, true),
            Step::EndTurn,
        ],
    );
    assert!(holds(&world, B, 1));
}
