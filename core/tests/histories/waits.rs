//! Waits that end in a grant, are withdrawn, or are held up by a pause.

use super::world::steps::{Request, Step};
use super::{A, assert_granted, follow};

#[test]
fn who_takes_over_its_own_place_and_asks_for_less_is_served_in_the_same_turn() {
    let world = follow(
        "a writer that waits comes again as a reader",
        &[
            Step::Acquire(1, A, Request::of(0, 30).limit(0)),
            Step::Acquire(2, A, Request::of(1, 30).limit(1).block(0)),
            Step::Acquire(3, A, Request::of(1, 30).limit(0).block(0)),
            Step::EndTurn,
        ],
    );
    assert_eq!(world.model.live(A).count(), 2);
}

#[test]
fn what_is_given_back_during_a_pause_is_handed_over_after_it() {
    let world = follow(
        "a transaction pauses the clients and gives back one of two holds",
        &[
            Step::Acquire(1, A, Request::of(0, 30).limit(2)),
            Step::Acquire(2, A, Request::of(1, 30).limit(2)),
            Step::Acquire(3, A, Request::of(2, 30).limit(2).block(0)),
            Step::Pause(true),
            Step::Release(1, A, 0, 1),
            Step::EndTurn,
            Step::Pause(false),
            Step::EndTurn,
        ],
    );
    assert_eq!(world.model.live(A).count(), 2);
}

#[test]
fn a_hand_over_takes_a_time_to_live_off() {
    let world = follow(
        "the key was to end within the lease of the next holder",
        &[
            Step::Acquire(1, A, Request::of(0, 30)),
            Step::Acquire(2, A, Request::of(1, 30).block(0)),
            Step::TimeToLive(A, Some(5)),
            Step::Release(1, A, 0, 1),
            Step::EndTurn,
            Step::Pass(20),
            Step::EndTurn,
        ],
    );
    assert_eq!(world.model.live(A).count(), 1);
}

#[test]
fn a_withdrawn_writer_lets_the_readers_behind_it_in() {
    let world = follow(
        "a writer gives up its wait from another connection",
        &[
            Step::Acquire(1, A, Request::of(0, 30).limit(0)),
            Step::Acquire(2, A, Request::of(1, 30).block(0)),
            Step::Acquire(3, A, Request::of(2, 30).limit(0).block(0)),
            Step::Release(4, A, 1, 1),
            Step::EndTurn,
        ],
    );
    assert_eq!(world.model.live(A).count(), 2);
}

#[test]
fn who_holds_nothing_any_more_is_no_deadlock_for_one_who_changes_its_limit() {
    let world = follow(
        "the lease of a reader that waits to become the writer ends, and another asks for the same",
        &[
            Step::Acquire(1, A, Request::of(0, 5).limit(0)),
            Step::Acquire(2, A, Request::of(1, 30).limit(0)),
            Step::Acquire(4, A, Request::of(2, 30).limit(0)),
            Step::Acquire(3, A, Request::of(0, 30).limit(1).block(0)),
            Step::Pass(5),
            Step::EndTurn,
            Step::Acquire(2, A, Request::of(1, 30).limit(1).block(0)),
            Step::Release(4, A, 2, 1),
            Step::EndTurn,
        ],
    );
    assert_granted(&world, 2);
}
