//! Sessions that close, or whose end is not told, beside changes that were lost.

use super::world::server::Server;
use super::world::steps::{Reply, Request, Step, token};
use super::{A, CLIENTS, LIMITS, follow};

#[test]
fn a_session_whose_end_nobody_told_of_ends_with_its_lease_and_is_handed_over() {
    let mut server = Server::new(CLIENTS, LIMITS);
    let made = token(0);
    for step in [
        // A connection that was never reported to be open.
        Step::Acquire(99, A, Request::of(0, 1000).limit(2).session()),
        Step::Acquire(2, A, Request::of(1, 3000).limit(2)),
        Step::Acquire(3, A, Request::of(2, 30).limit(2).block(0)),
    ] {
        server.take(step, &made);
    }
    server.take(Step::Pass(1000), &made);
    let told = server.take(Step::EndTurn, &made);
    assert!(matches!(told[..], [(3, Reply::Granted(..))]), "{told:?}");
}

#[test]
fn a_session_is_not_cut_when_a_change_of_its_limit_at_a_kept_place_could_not_be_told() {
    let world = follow(
        "a reader with a session asks on another connection to become the writer, and that closes",
        &[
            Step::Acquire(1, A, Request::of(0, 1000).limit(0).session()),
            Step::Acquire(2, A, Request::of(1, 30).limit(0)),
            Step::Acquire(3, A, Request::of(0, 5000).limit(1).block(0).queue(9)),
            Step::Release(2, A, 1, 1),
            Step::Disconnect(3),
            Step::EndTurn,
        ],
    );
    assert_eq!(
        world.model.live(A).map(|holder| (holder.share.limit, holder.lease_ms)).collect::<Vec<_>>(),
        [(1, 5000)]
    );
}

#[test]
fn a_session_that_has_closed_ends_though_a_change_of_its_limit_was_lost_as_well() {
    for change in [Request::of(0, 1000).limit(1), Request::of(0, 1000).limit(1).queue(9)] {
        for closed in [[1, 3], [3, 1]] {
            let world = follow(
                "a reader with a session asks on another connection to become the writer, and both close",
                &[
                    Step::Acquire(1, A, Request::of(0, 1000).limit(0).session()),
                    Step::Acquire(2, A, Request::of(1, 30).limit(0)),
                    Step::Acquire(3, A, change.block(0)),
                    Step::Release(2, A, 1, 1),
                    Step::Disconnect(closed[0]),
                    Step::Disconnect(closed[1]),
                    Step::EndTurn,
                ],
            );
            assert_eq!(world.model.live(A).count(), 0, "{change:?}, {closed:?}");
        }
    }
}
