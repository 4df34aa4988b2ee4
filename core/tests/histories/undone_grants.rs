//! Grants and changes that nobody was told of: what is undone, and what stands since its place was kept.

use lock_core::ClientId;

use super::world::steps::{CLAIM_MS, Request, SPOTS, Step};
use super::{A, B, follow};

#[test]
fn a_limit_that_is_given_back_leaves_no_more_holds_than_it_allows_ended_ones_included() {
    let world = follow(
        "a lock comes to a key where its token waits for a larger limit, beside a reader whose lease is over at once",
        &[
            Step::Acquire(1, B, Request::of(0, 30)),
            Step::Acquire(2, A, Request::of(1, 30)),
            Step::Acquire(3, A, Request::of(0, 30).limit(2).block(0)),
            Step::Acquire(4, A, Request::of(2, 1).limit(0).block(0)),
            Step::Rename(B, A),
            Step::Extend(5, A, 3, None),
            Step::Disconnect(3),
            Step::Pass(2),
            Step::EndTurn,
        ],
    );
    assert_eq!(world.model.live(A).map(|holder| holder.share.limit).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_grant_that_another_connection_of_the_token_was_told_of_stands() {
    let world = follow(
        "a client comes again on a new connection before the old one is found closed",
        &[
            Step::Acquire(1, A, Request::of(0, 30)),
            Step::Acquire(2, A, Request::of(1, 30).block(0)),
            Step::Release(1, A, 0, 1),
            Step::Acquire(3, A, Request::of(1, 30).block(0)),
            Step::Disconnect(2),
            Step::EndTurn,
        ],
    );
    assert_eq!(world.model.live(A).count(), 1);
}

#[test]
fn what_is_to_be_undone_follows_its_lock() {
    let session = Request::of(0, 30).session();
    let renamed = [Step::Acquire(1, A, session), Step::Disconnect(1), Step::Rename(A, B), Step::EndTurn];
    assert_eq!(follow("a session closes, and its lock is renamed", &renamed).model.live(B).count(), 0);
    let swapped = [Step::Acquire(1, A, session), Step::Swap, Step::Disconnect(1), Step::EndTurn];
    assert_eq!(
        follow("databases are swapped, and a session closes", &swapped).model.live(SPOTS[3]).count(),
        0
    );
}

/// A hold of a token was granted, then its limit was changed, by two requests that waited on the connections 2 and 3; and
/// nobody was told of either.
fn granted_twice(first: Request, second: Request) -> Vec<Step> {
    vec![
        Step::Acquire(1, A, Request::of(0, 30)),
        Step::Acquire(2, A, first.block(0)),
        Step::Acquire(4, A, Request::of(2, 30).limit(0).block(0)),
        Step::Release(1, A, 0, 1),
        Step::Acquire(3, A, second.block(0)),
        Step::Release(5, A, 2, 1),
    ]
}

/// The limit of a hold was changed twice, by two requests that waited on the connections 2 and 3; and nobody was told of
/// either.
fn changed_twice(first: Request, second: Request) -> Vec<Step> {
    vec![
        Step::Acquire(1, A, Request::of(0, 30).limit(0)),
        Step::Acquire(1, A, Request::of(1, 30).limit(0)),
        Step::Acquire(1, A, Request::of(2, 30).limit(0)),
        Step::Acquire(2, A, first.block(0)),
        Step::Release(5, A, 0, 1),
        Step::Acquire(3, A, second.block(0)),
        Step::Release(5, A, 2, 1),
    ]
}

/// The limit of each hold and what is left of its lease once these connections have closed, the first of them first.
fn left_when_closed(title: &str, steps: &[Step], clients: &[ClientId]) -> Vec<(u16, u64)> {
    let closed: Vec<Step> = clients.iter().map(|client| Step::Disconnect(*client)).collect();
    let world = follow(title, &[steps, &closed, &[Step::EndTurn]].concat());
    let now = world.model.now;
    world.model.live(A).map(|holder| (holder.share.limit, now.ms_until(holder.end))).collect()
}

#[test]
fn a_hold_that_was_granted_twice_and_told_of_by_nobody_stands_if_one_of_the_two_kept_its_place() {
    let (reader, writer) = (Request::of(1, 30).limit(0), Request::of(1, 20).limit(1));
    for (first, second, left) in [
        (reader, writer, vec![]),
        (reader, writer.queue(9), vec![(1, CLAIM_MS)]),
        (reader.queue(9), writer, vec![(1, CLAIM_MS)]),
        (reader.queue(9), writer.queue(9), vec![(1, CLAIM_MS)]),
    ] {
        let steps = granted_twice(first, second);
        let title = format!("a reader that waited becomes the writer: {first:?}, {second:?}");
        assert_eq!(left_when_closed(&title, &steps, &[2, 3]), left, "{title}");
        assert_eq!(left_when_closed(&title, &steps, &[3, 2]), left, "the later first: {title}");
        assert_eq!(left_when_closed(&title, &steps, &[2]), [(1, 20)], "the later is told: {title}");
    }
}

#[test]
fn a_limit_that_was_changed_twice_and_told_of_by_nobody_stands_if_one_of_the_two_kept_its_place() {
    let (few, one) = (Request::of(1, 30).limit(2), Request::of(1, 30).limit(1));
    for (first, second, left) in [
        (few, one, vec![(0, 30)]),
        (few, one.queue(9), vec![(1, 30)]),
        (few.queue(9), one, vec![(1, 30)]),
        (few.queue(9), one.queue(9), vec![(1, 30)]),
    ] {
        let steps = changed_twice(first, second);
        let title = format!("a reader asks for less and less: {first:?}, {second:?}");
        assert_eq!(left_when_closed(&title, &steps, &[2, 3]), left, "{title}");
        assert_eq!(left_when_closed(&title, &steps, &[3, 2]), left, "the later first: {title}");
        assert_eq!(left_when_closed(&title, &steps, &[2]), [(1, 30)], "the later is told: {title}");
    }
}

#[test]
fn a_grant_to_a_kept_place_that_its_token_has_extended_is_not_cut() {
    let world = follow(
        "a transaction pauses the clients and extends the lease of a grant that nobody was told of",
        &[
            Step::Acquire(1, A, Request::of(0, 30)),
            Step::Acquire(2, A, Request::of(1, 30).block(0).queue(9)),
            Step::Release(1, A, 0, 1),
            Step::Disconnect(2),
            Step::Pause(true),
            Step::Extend(3, A, 1, Some(20)),
            Step::Pause(false),
            Step::EndTurn,
        ],
    );
    assert_eq!(world.model.live(A).map(|holder| holder.lease_ms).collect::<Vec<_>>(), [20]);
}

#[test]
fn an_extension_saves_no_other_grant_of_the_key() {
    let world = follow(
        "a transaction pauses the clients and extends the lease of one of two readers whom nobody was told of",
        &[
            Step::Acquire(1, A, Request::of(0, 30)),
            Step::Acquire(2, A, Request::of(1, 30).limit(0).block(0)),
            Step::Acquire(3, A, Request::of(2, 30).limit(0).block(0)),
            Step::Release(1, A, 0, 1),
            Step::Disconnect(2),
            Step::Disconnect(3),
            Step::Pause(true),
            Step::Extend(4, A, 2, Some(20)),
            Step::Pause(false),
            Step::EndTurn,
        ],
    );
    assert_eq!(world.model.live(A).map(|holder| holder.fence).collect::<Vec<_>>(), [3]);
}

#[test]
fn a_change_of_limit_at_a_kept_place_leaves_time_to_claim_it_however_short_the_lease_was() {
    let world = follow(
        "a reader whose lease is nearly over asks to become the writer, and closes its connection",
        &[
            Step::Acquire(1, A, Request::of(0, 30).limit(0)),
            Step::Acquire(2, A, Request::of(1, CLAIM_MS - 1).limit(0)),
            Step::Acquire(3, A, Request::of(1, 30).limit(1).block(0).queue(9)),
            Step::Release(1, A, 0, 1),
            Step::Disconnect(3),
            Step::EndTurn,
        ],
    );
    let left = world.model.live(A).map(|holder| (holder.lease_ms, world.model.now.ms_until(holder.end)));
    assert_eq!(left.collect::<Vec<_>>(), [(30, CLAIM_MS)]);
}
