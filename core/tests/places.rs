//! What comes out of turns at places in a queue that outlive their connections (G13), where no history looks: why a hold has
//! ended, the numbers of tickets, how long somebody has waited, and how much is done at a time.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod one_key;

use std::num::NonZeroU64;

use lock_core::answer::Answer;
use lock_core::outcome::{Acquired, Cause, Change, Ending, WaitOptions};
use lock_core::queue::{Joining, Keep, Waiter, WaiterLimits};
use lock_core::request::Acquire;
use lock_core::turn::check;
use lock_core::{
    AskedShare, ClientId, Fence, Hold, Limit, Lock, Moment, Outcome, Share, Table, Terms, Ticket, Token, Turn,
};
use one_key::{A, CLAIM_MS, START, WALL_MICROS, turn};

const QUEUE_MS: u64 = 500;

/// Of the form that the server makes, with which an exclusive hold is kept in the fewest bytes.
fn token(number: u64) -> Token {
    let mut seed = [0; 16];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    Token::from_seed(seed)
}

fn at(ms: u64) -> Moment {
    START.plus_ms(ms)
}

fn keep() -> Option<Keep> {
    Some(Keep { for_ms: NonZeroU64::new(QUEUE_MS).unwrap(), user: Some(Box::from(*b"default")) })
}

/// A lock that one token holds for long.
fn held_by(number: u64, limit: Limit) -> Lock {
    let terms = Terms {
        token: &token(number),
        share: Share::of(limit),
        lease_ms: 60_000,
        owner: None,
        session: None,
    };
    Lock::from_holds(vec![Hold::grant(terms, Fence::new(number).unwrap(), START)])
}

/// A waiter whose place is kept, on a connection or without one.
fn waiter(number: u64, client: Option<ClientId>, limit: Limit) -> Waiter {
    Waiter {
        client,
        token: token(number),
        asked: AskedShare { limit: Some(limit), weight: None },
        lease_ms: 30_000,
        owner: None,
        session_delay_ms: None,
        level: None,
        since: START,
        until: if client.is_some() { None } else { Some(at(QUEUE_MS)) },
        keep: keep(),
        is_for_several: false,
    }
}

fn join(table: &mut Table, waiter: Waiter, ahead: bool) -> Ticket {
    let joined = table.join(&[A], Joining { ahead, ..Joining::from(waiter) });
    assert!(joined.superseded.is_empty());
    joined.ticket
}

fn acquire(number: u64) -> Acquire<'static> {
    Acquire {
        token: Some(token(number)),
        lease_ms: 20,
        asked: AskedShare::default(),
        block_ms: None,
        queue_ms: None,
        owner: None,
        session_delay_ms: None,
        level: None,
    }
}

/// Why the lease of the only hold has ended.
fn cause_of_the_end(table: &mut Table, lock: &mut Lock) -> Ending {
    let end = lock.next_due().unwrap();
    let (done, outcome) = turn((table, lock), end, usize::MAX, |turn| turn.expire(usize::MAX));
    assert_eq!((done, lock.is_empty()), (1, true));
    let [Change::Ended(_, ended)] = outcome.changes[..] else { panic!("{outcome:?}") };
    ended.why
}

/// A lock that was handed over to a place without a connection.
fn called() -> (Table, Lock) {
    let (mut table, mut lock) = (Table::new(), held_by(1, Limit::EXCLUSIVE));
    let ticket = join(&mut table, waiter(10, None, Limit::EXCLUSIVE), false);
    let (released, outcome) =
        turn((&mut table, &mut lock), START, usize::MAX, |turn| turn.release(&token(1), 1, || false));
    assert!(released);
    assert_eq!((&outcome.calls[..], &outcome.answers[..]), (&[ticket][..], &[][..]));
    let hold = lock.hold_of(&token(10), START).unwrap();
    assert_eq!((hold.lease_ms(), hold.owner(), hold.session()), (CLAIM_MS, None, None));
    assert_eq!(hold.deadline(), at(CLAIM_MS));
    assert!(hold.is_unclaimed());
    (table, lock)
}

#[test]
fn a_grant_to_a_place_that_nobody_claims_ends_unclaimed() {
    let (mut table, mut lock) = called();
    assert_eq!(cause_of_the_end(&mut table, &mut lock), Ending::Unclaimed);
}

#[test]
fn a_grant_to_a_place_that_was_claimed_ends_as_any_other() {
    let claims: [fn(&mut Turn<'_>) -> bool; 2] = [
        |turn| matches!(turn.acquire(&acquire(10), || 1, None, || token(0)), Ok(Acquired::Granted(..))),
        |turn| turn.extend(&token(10), Some(20), || false),
    ];
    for claim in claims {
        let (mut table, mut lock) = called();
        let (is_claimed, _) = turn((&mut table, &mut lock), START, usize::MAX, claim);
        assert!(is_claimed);
        assert!(lock.holds().iter().all(|hold| !hold.is_unclaimed() && hold.lease_ms() == 20));
        assert_eq!(cause_of_the_end(&mut table, &mut lock), Ending::Lapsed);
    }
}

/// A lock that was handed over to a client whose place is kept, and which was not told yet.
fn granted(lock: &mut Lock, ahead: bool) -> (Table, Ticket) {
    let mut table = Table::new();
    let ticket = join(&mut table, waiter(10, Some(7), Limit::EXCLUSIVE), ahead);
    let (_, outcome) =
        turn((&mut table, lock), START, usize::MAX, |turn| turn.release(&token(1), 1, || false));
    assert!(matches!(outcome.answers[..], [(7, Answer::Granted(_))]), "{outcome:?}");
    assert!(outcome.calls.is_empty());
    (table, ticket)
}

#[test]
fn a_grant_that_was_told_ends_as_any_other() {
    let mut lock = held_by(1, Limit::EXCLUSIVE);
    let (mut table, _) = granted(&mut lock, false);
    table.told(7);
    assert_eq!(cause_of_the_end(&mut table, &mut lock), Ending::Lapsed);
}

#[test]
fn a_grant_that_could_not_be_told_is_left_to_be_claimed_and_ends_unclaimed() {
    let mut lock = held_by(1, Limit::EXCLUSIVE);
    let (mut table, ticket) = granted(&mut lock, false);
    table.closed(7, START);
    let ((), outcome) = turn((&mut table, &mut lock), START, usize::MAX, |_| ());
    let [Change::Set(hold, Cause::LeftToClaim)] = &outcome.changes[..] else { panic!("{outcome:?}") };
    assert_eq!((hold.lease_ms(), hold.deadline()), (CLAIM_MS, at(CLAIM_MS)));
    assert_eq!(outcome.calls, [ticket]);
    assert!(outcome.has_promised, "a time to live of the key is to go");
    assert_eq!(cause_of_the_end(&mut table, &mut lock), Ending::Unclaimed);
}

#[test]
fn a_grant_that_a_check_has_told_of_is_not_cut() {
    let mut lock = held_by(1, Limit::EXCLUSIVE);
    let (mut table, _) = granted(&mut lock, false);
    assert!(check(Some(&lock), &mut table, A, &token(10), START).is_some());
    table.closed(7, START);
    let ((), outcome) = turn((&mut table, &mut lock), START, usize::MAX, |_| ());
    assert!(outcome.changes.is_empty() && outcome.calls.is_empty(), "{outcome:?}");
    assert_eq!(lock.hold_of(&token(10), START).map(Hold::lease_ms), Some(30_000));
}

#[test]
fn a_change_of_limit_that_could_not_be_told_leaves_a_hold_that_its_token_knows_of() {
    let mut lock = held_by(1, Limit::SHARED);
    let known = Terms {
        token: &token(10),
        share: Share::of(Limit::SHARED),
        lease_ms: 20,
        owner: None,
        session: None,
    };
    lock.put(Hold::grant(known, Fence::new(10).unwrap(), START));
    let (mut table, ticket) = granted(&mut lock, true);
    table.closed(7, START);
    let ((), outcome) = turn((&mut table, &mut lock), START, usize::MAX, |_| ());
    assert_eq!(outcome.calls, [ticket]);
    let hold = lock.hold_of(&token(10), START).unwrap();
    assert_eq!((hold.limit(), hold.deadline()), (Limit::EXCLUSIVE, at(20)));
    assert_eq!(cause_of_the_end(&mut table, &mut lock), Ending::Lapsed);
}

#[test]
fn a_ticket_is_above_the_wall_clock_and_every_fence_and_every_ticket_before() {
    let (mut table, mut lock) = (Table::new(), held_by(1, Limit::EXCLUSIVE));
    let mut take = |table: &mut Table, number: u64| {
        let limits = WaiterLimits { in_all: 9, per_key: 9 };
        let wait = Some(WaitOptions { client: None, keep: keep(), limits });
        let (acquired, _) = turn((table, &mut lock), START, usize::MAX, |turn| {
            turn.acquire(&acquire(number), || 1, wait, || token(0))
        });
        let Ok(Acquired::Waits(joining)) = acquired else { panic!("{acquired:?}") };
        table.join(&[A], *joining).ticket.number()
    };
    let first = take(&mut table, 10);
    assert!(first > WALL_MICROS);
    assert!(take(&mut table, 11) > first);
    table.raise_fence(Fence::new(1 << 50).unwrap());
    assert!(take(&mut table, 12) > 1 << 50);
    assert_eq!(take(&mut table, 10), first, "a token that comes again has the same");
}

#[test]
fn who_asks_for_a_place_again_has_waited_since_the_first_time() {
    let mut table = Table::new();
    let ticket = join(&mut table, waiter(10, None, Limit::EXCLUSIVE), false);
    let again = Waiter { since: at(3), until: Some(at(3 + QUEUE_MS)), ..waiter(10, None, Limit::EXCLUSIVE) };
    assert_eq!(join(&mut table, again, false), ticket);
    let waiter = table.queues().waiter(ticket).unwrap();
    assert_eq!((waiter.since, waiter.until), (START, Some(at(3 + QUEUE_MS))));
}

#[test]
fn a_place_is_given_up_by_its_client_and_not_by_a_master_or_a_file() {
    let (mut table, mut lock) = (Table::new(), held_by(1, Limit::EXCLUSIVE));
    join(&mut table, waiter(10, None, Limit::EXCLUSIVE), false);
    for (from_master, left) in [(true, 1), (false, 0)] {
        let (released, outcome) = turn((&mut table, &mut lock), START, usize::MAX, |turn| {
            turn.release(&token(10), 1, || from_master)
        });
        assert!(!released, "it held nothing");
        assert_eq!((table.queues().len(), outcome.places_ended), (left, 1 - left));
    }
}

#[test]
fn who_cannot_wait_on_its_connection_waits_without_it_if_its_place_is_kept() {
    let blocked = Waiter { since: at(3), until: Some(at(4)), ..waiter(10, Some(7), Limit::EXCLUSIVE) };
    let alone = Waiter { keep: None, ..blocked.clone() };
    let joining = |waiter| Joining::from(waiter);
    let expected = Waiter { client: None, until: Some(at(3 + QUEUE_MS)), ..blocked.clone() };
    assert_eq!(joining(blocked).without_connection(), Some(joining(expected)));
    assert_eq!(joining(alone).without_connection(), None);
}

#[test]
fn a_place_is_due_when_the_time_to_keep_it_is_over_and_stands_where_it_stood_until_then() {
    let mut table = Table::new();
    join(&mut table, Waiter { until: Some(at(4)), ..waiter(10, Some(7), Limit::EXCLUSIVE) }, false);
    assert_eq!(table.next_due(0), Some(at(4)));
    table.closed(7, at(2));
    assert_eq!(table.next_due(0), Some(at(2 + QUEUE_MS)));
    assert!(table.is_unmarked(), "nobody has come nearer to its turn");
    join(&mut table, waiter(11, Some(8), Limit::EXCLUSIVE), false);
    assert_eq!(table.time_out(at(2 + QUEUE_MS), usize::MAX), [], "nobody is told");
    assert!(table.is_marked(A), "who stood behind it may have its turn");
    assert_eq!((table.queues().len(), table.next_due(0)), (1, None));
}

/// Ends a hold that ten places wait for, with room for so little that the rest has to follow in other turns. Returns what
/// came out of each turn.
fn served_bit_by_bit(waiter: impl Fn(u64) -> Waiter, now: Moment) -> Vec<Outcome> {
    let (mut table, mut lock) = (Table::new(), held_by(1, Limit::EXCLUSIVE));
    for number in 10..20 {
        join(&mut table, waiter(number), false);
    }
    let (_, outcome) = turn((&mut table, &mut lock), now, 4, |turn| turn.release(&token(1), 1, || false));
    let mut outcomes = vec![outcome];
    while table.is_marked(A) {
        outcomes.push(turn((&mut table, &mut lock), now, 4, |_| ()).1);
        assert!(outcomes.len() <= 11, "each turn serves somebody");
    }
    assert!(table.queues().is_empty());
    outcomes
}

#[test]
fn each_place_that_is_called_is_work() {
    let outcomes = served_bit_by_bit(|number| waiter(number, None, Limit::SHARED), START);
    assert_eq!(outcomes.iter().map(|outcome| outcome.calls.len()).sum::<usize>(), 10);
    // Each is a change and a call, and a turn goes over by one at most.
    assert!(outcomes.iter().all(|outcome| outcome.calls.len() <= 3), "{outcomes:?}");
}

#[test]
fn each_place_that_ends_is_work() {
    let outcomes = served_bit_by_bit(|number| waiter(number, None, Limit::EXCLUSIVE), at(QUEUE_MS));
    assert_eq!(outcomes.iter().map(|outcome| outcome.places_ended).sum::<usize>(), 10);
    assert!(outcomes.iter().all(|outcome| outcome.places_ended <= 5), "{outcomes:?}");
}
