//! Promotions: the grace in which grants may have been lost, and what a demotion has ended before.

use super::world::steps::{Reply, Request, Step};
use super::{A, assert_granted, follow, waiting};

const GRACE_MS: u64 = 10;

/// A server that has been promoted, with a grace to begin by.
fn promoted() -> Vec<Step> {
    vec![Step::SetGrace(GRACE_MS), Step::Demote, Step::Promote]
}

#[test]
fn a_lock_that_is_not_known_is_granted_to_nobody_until_the_grace_is_over() {
    let mut steps = promoted();
    steps.extend([
        Step::Acquire(1, A, Request::of(0, 30)),
        Step::Acquire(2, A, Request::of(1, 30).limit(0)),
        Step::Acquire(3, A, Request::of(2, 30).block(0)),
        Step::Pass(GRACE_MS - 1),
        Step::EndTurn,
    ]);
    assert_eq!(follow("a lock in the grace", &steps).model.live(A).count(), 0);
    steps.extend([Step::Pass(1), Step::EndTurn]);
    let world = follow("and after it", &steps);
    assert_granted(&world, 3);
}

#[test]
fn in_the_grace_holders_keep_what_they_have_and_nobody_gets_more() {
    let mut steps = vec![Step::Acquire(1, A, Request::of(0, 30).limit(0))];
    steps.extend(promoted());
    steps.extend([
        // A reader beside a reader: the lock may be a writer's by now.
        Step::Acquire(2, A, Request::of(1, 30).limit(0)),
        Step::Acquire(1, A, Request::of(0, 20)),
        Step::Acquire(1, A, Request::of(0, 20).limit(0)),
        Step::Extend(1, A, 0, Some(40)),
        // And it may not be the only reader.
        Step::Acquire(1, A, Request::of(0, 20).limit(1)),
        Step::Acquire(1, A, Request::of(0, 20).limit(1).block(0)),
        Step::Acquire(3, A, Request::of(2, 30).block(0)),
        Step::EndTurn,
    ]);
    let world = follow("a lock that is known in the grace", &steps);
    assert_eq!((world.model.live(A).count(), waiting(&world)), (1, vec![1, 3]));
    steps.extend([Step::Unblock(1, false), Step::Release(1, A, 0, 1), Step::EndTurn]);
    let world = follow("and is given back", &steps);
    assert_eq!((world.model.live(A).count(), waiting(&world)), (0, vec![3]));
    steps.extend([Step::SetGrace(0), Step::EndTurn]);
    let world = follow("and the grace is cut short", &steps);
    assert_granted(&world, 3);
}

#[test]
fn a_lease_that_ends_in_the_grace_leaves_a_lock_that_is_not_known() {
    let mut steps = vec![Step::Acquire(1, A, Request::of(0, 3))];
    steps.extend(promoted());
    steps.extend([
        Step::Acquire(2, A, Request::of(1, 30).block(0)),
        Step::Pass(3),
        Step::EndTurn,
        Step::Acquire(1, A, Request::of(0, 30)),
    ]);
    let world = follow("a lease ends in the grace", &steps);
    assert_eq!((world.model.live(A).count(), waiting(&world)), (0, vec![2]));
}

#[test]
fn who_waits_in_the_grace_stops_waiting_in_time() {
    let mut steps = promoted();
    steps.extend([
        Step::Acquire(1, A, Request::of(0, 30).block(2)),
        Step::Acquire(2, A, Request::of(1, 30).block(0)),
        Step::Pass(2),
        // A turn at the key comes before the timer.
        Step::Break(3, A, None),
        Step::Expire(A, 1),
        Step::EndTurn,
    ]);
    let world = follow("a wait ends in the grace", &steps);
    assert_eq!((&world.told[..], waiting(&world)), (&[(1, Reply::Null)][..], vec![2]));
}

#[test]
fn a_promotion_puts_nothing_right_from_before_the_demotion() {
    let session = [Step::Acquire(1, A, Request::of(0, 1000).session()), Step::Disconnect(1), Step::Demote];
    let granted = [
        Step::Acquire(1, A, Request::of(0, 10)),
        Step::Acquire(2, A, Request::of(1, 10).block(0)),
        Step::Release(1, A, 0, 1),
    ];
    let lost_before = [&granted[..], &[Step::Disconnect(2), Step::Demote]].concat();
    let lost_after = [&granted[..], &[Step::Demote, Step::Disconnect(2)]].concat();
    for mut steps in [session.to_vec(), lost_before, lost_after] {
        steps.extend([Step::Promote, Step::EndTurn]);
        let world = follow("a server is demoted and promoted again", &steps);
        assert_eq!(world.model.live(A).count(), 1, "the hold runs by its lease: {steps:?}");
        steps.extend([Step::Pass(1000), Step::EndTurn]);
        assert_eq!(follow("and the lease ends", &steps).model.live(A).count(), 0);
    }
}

#[test]
fn no_connection_keeps_anything_alive_after_a_demotion() {
    let world = follow(
        "a server is demoted and promoted again while a session is open",
        &[
            Step::Acquire(1, A, Request::of(0, 1000).session()),
            Step::Demote,
            Step::Pass(999),
            Step::Promote,
            Step::EndTurn,
            Step::Pass(1),
            Step::EndTurn,
        ],
    );
    assert_eq!(world.model.live(A).count(), 0);
}
