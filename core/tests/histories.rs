//! Histories that were thought out, or found by chance and cut down to what matters: the core beside the contract, every
//! step checked. Random ones are in `simulation.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod world;

use lock_core::ClientId;
use lock_core::queue::WaiterLimits;
use world::checks::World;
use world::server::Server;
use world::steps::Whose::{self, Arriving, Elsewhere, Nobodys, Ours};
use world::steps::{CLAIM_MS, NOT_OURS_MS, Reply, Request, SPOTS, Spot, Step, token};
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
/// The same name as the first in another database, and so in the same slot.
const A_TOO: Spot = SPOTS[3];

const GRACE_MS: u64 = 10;

fn waiting(world: &World) -> Vec<ClientId> {
    world.model.waiting.iter().filter_map(|waiter| waiter.client).collect()
}

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

/// What those are told who cannot be served here.
fn refused(clients: &[ClientId], whose: Whose) -> Vec<(ClientId, Reply)> {
    clients.iter().map(|client| (*client, Reply::Error(whose.refusal().unwrap()))).collect()
}

#[track_caller]
fn assert_granted(world: &World, client: ClientId) {
    let is_granted = matches!(world.told[..], [(other, Reply::Granted(..))] if other == client);
    assert!(is_granted, "{:?}", world.told);
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
    assert_eq!(called[0].0, world::steps::subscriber(B));
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
