//! Inner levels: they wait for a change of the limit alone, and come to nothing without their outer hold.

use super::world::steps::{Reply, Request, Step};
use super::{A, B, follow, waiting};

#[test]
fn an_upgrade_on_an_inner_level_is_one_level_whether_it_waited_or_not() {
    let world = follow(
        "a reader calls work that becomes the writer",
        &[
            Step::Acquire(1, A, Request::of(0, 30).limit(0)),
            Step::Acquire(2, A, Request::of(1, 30).limit(0)),
            Step::Acquire(1, A, Request::of(0, 30).limit(1).block(0).level(2)),
            Step::Release(2, A, 1, 1),
            Step::EndTurn,
            Step::Release(1, A, 0, 2),
        ],
    );
    assert_eq!(world.model.live(A).map(|holder| holder.level).collect::<Vec<_>>(), [1]);
}

#[test]
fn an_inner_level_that_nobody_was_told_of_is_none() {
    let world = follow(
        "a reader calls work that becomes the writer, and goes away before it is told",
        &[
            Step::Acquire(1, A, Request::of(0, 30).limit(0)),
            Step::Acquire(2, A, Request::of(1, 30).limit(0)),
            Step::Acquire(1, A, Request::of(0, 30).limit(1).block(0).level(2)),
            Step::Release(2, A, 1, 1),
            Step::Disconnect(1),
            Step::EndTurn,
        ],
    );
    let left: Vec<_> = world.model.live(A).map(|holder| (holder.level, holder.share.limit)).collect();
    assert_eq!(left, [(1, 0)]);
}

/// A request that waits for a key as any other, and comes again on an inner level (`again`, on connection 3) once a lock with a
/// hold of its token has arrived there, whose lease is over after `lease_ms`.
fn inner_behind(lease_ms: u64, again: Request) -> Vec<Step> {
    vec![
        Step::Acquire(1, A, Request::of(0, 30)),
        Step::Acquire(2, A, Request::of(1, 30).limit(1).block(0)),
        Step::Acquire(1, B, Request::of(1, lease_ms).limit(0)),
        Step::Acquire(1, B, Request::of(2, 30).limit(0)),
        Step::Rename(B, A),
        Step::EndTurn,
        Step::Acquire(3, A, again),
        Step::EndTurn,
    ]
}

#[test]
fn an_inner_level_at_the_head_of_a_queue_is_told_that_its_outer_hold_is_gone() {
    let inner = Request::of(1, 30).limit(1).level(2);
    let broken = [Step::Break(4, A, Some(0)), Step::EndTurn];
    let steps = [inner_behind(30, inner.block(0)), broken.to_vec()].concat();
    assert_eq!(follow("its hold is broken", &steps).told, [(3, Reply::Null)]);
    let both_over = [Step::Pass(2), Step::Break(4, A, Some(5)), Step::EndTurn];
    let steps = [inner_behind(2, inner.block(2).queue(9)), both_over.to_vec()].concat();
    let world = follow("its hold ends with its wait", &steps);
    assert_eq!(world.told, [(3, Reply::Null)], "no place is kept for it");
    assert!(world.model.waiting.is_empty());
}

#[test]
fn an_inner_level_behind_another_change_of_a_limit_is_told_that_its_outer_hold_is_gone() {
    let world = follow(
        "two readers whose leases are over wait to become the writer, and one holds again and asks on an inner level",
        &[
            Step::Acquire(1, A, Request::of(0, 5).limit(0)),
            Step::Acquire(1, A, Request::of(1, 6).limit(0)),
            Step::Acquire(1, A, Request::of(2, 30).limit(0)),
            Step::Acquire(2, A, Request::of(0, 30).limit(1).block(0)),
            Step::Pass(5),
            Step::EndTurn,
            Step::Acquire(3, A, Request::of(1, 30).limit(1).block(0)),
            Step::Pass(1),
            Step::EndTurn,
            Step::Acquire(1, B, Request::of(0, 30).limit(0)),
            Step::Acquire(1, B, Request::of(2, 30).limit(0)),
            Step::Rename(B, A),
            Step::Acquire(4, A, Request::of(0, 30).limit(1).level(2).block(0)),
            Step::EndTurn,
            Step::Break(1, A, Some(0)),
            Step::EndTurn,
        ],
    );
    assert_eq!((&world.told[..], waiting(&world)), (&[(4, Reply::Null)][..], vec![3]));
}
