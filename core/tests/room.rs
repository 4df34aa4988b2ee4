//! What a turn does where much would follow from it: it does what there is room for, and marks the key for the rest.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod one_key;

use lock_core::answer::Answer;
use lock_core::codec::{self, Decoded};
use lock_core::outcome::{Acquired, Change, Ended, Ending};
use lock_core::queue::{Joining, Waiter};
use lock_core::request::Acquire;
use lock_core::turn::check;
use lock_core::{
    AskedShare, ClientId, DbKey, Fence, Hold, Limit, Lock, Moment, Outcome, OwnedDbKey, Session, Share,
    Table, Terms, Token, Turn,
};
use one_key::{A, START, turn};

const LATER: Moment = Moment::from_micros(1_000_000);
/// More holds than are marked at once when their connection closes.
const VERY_MANY: u64 = 200;

fn token(number: u64) -> Token {
    Token::from_text(&number.to_le_bytes()).unwrap()
}

fn hold(number: u64, limit: Limit, lease_ms: u64, session: Option<ClientId>) -> Hold {
    let session = session.map(|client| Session { client, delay_ms: 0 });
    let terms = Terms { token: &token(number), share: Share::of(limit), lease_ms, owner: None, session };
    Hold::grant(terms, Fence::new(number).unwrap(), START)
}

fn request(number: u64, limit: Option<Limit>) -> Acquire<'static> {
    Acquire {
        token: Some(token(number)),
        lease_ms: 10_000,
        asked: AskedShare { limit, weight: None },
        block_ms: None,
        queue_ms: None,
        owner: None,
        session_delay_ms: None,
        level: None,
    }
}

fn join(table: &mut Table, client: ClientId, limit: Limit) {
    let waiter = Waiter {
        client: Some(client),
        token: token(client),
        asked: AskedShare { limit: Some(limit), weight: None },
        lease_ms: 10_000,
        owner: None,
        session_delay_ms: None,
        level: None,
        since: START,
        until: None,
        keep: None,
        is_for_several: false,
    };
    let joining = Joining::from(waiter);
    assert!(table.join(&[A], joining).superseded.is_empty());
}

fn granted(outcome: &Outcome) -> Vec<ClientId> {
    outcome
        .answers
        .iter()
        .map(|(client, answer)| {
            assert!(matches!(answer, Answer::Granted(_)), "{answer:?}");
            *client
        })
        .collect()
}

#[test]
fn those_whom_there_is_no_room_to_serve_are_served_when_the_mark_is_settled() {
    let mut table = Table::new();
    let mut lock = Lock::from_holds(vec![hold(1, Limit::EXCLUSIVE, 60_000, None)]);
    (10..20).for_each(|client| join(&mut table, client, Limit::SHARED));
    let (released, outcome) =
        turn((&mut table, &mut lock), START, 5, |turn| turn.release(&token(1), 1, || false));
    assert!(released);
    assert!(outcome.work() <= 6, "no more than there was room for, and a grant's answer: {}", outcome.work());
    let mut served = granted(&outcome);
    assert!(!served.is_empty() && served.len() < 10);
    assert!(table.is_marked(A), "the rest is to follow");
    // Whoever comes in between waits, though the rule of admission would have room.
    let (acquired, outcome) = turn((&mut table, &mut lock), START, 0, |turn| {
        turn.acquire(&request(99, Some(Limit::SHARED)), || 99, None, || token(0))
    });
    assert_eq!((acquired, outcome.work()), (Ok(Acquired::NotAvailable), 0));
    let mut turns = 0;
    while table.is_marked(A) {
        let (_, outcome) = turn((&mut table, &mut lock), START, 3, |_| ());
        served.extend(granted(&outcome));
        turns += 1;
        assert!(turns < 10, "each turn serves somebody");
    }
    assert_eq!(served, (10..20).collect::<Vec<_>>(), "in the order in which they waited");
    assert!(table.queues().is_empty());
}

/// A connection that kept a hold alive under each of very many keys has closed, and not all of it is marked yet.
fn closed(table: &mut Table) -> Vec<Lock> {
    table.opened(7);
    table.opened(8);
    let mut locks = Vec::new();
    for number in 1..=VERY_MANY {
        let name = number.to_be_bytes();
        let mut lock = Lock::from_holds(vec![hold(number, Limit::EXCLUSIVE, 60_000, Some(7))]);
        table.arrived(DbKey { database: 0, key: &name }, &mut lock);
        locks.push(lock);
    }
    // The last in the order of keys.
    let mut lock = Lock::from_holds(vec![hold(VERY_MANY + 1, Limit::EXCLUSIVE, 60_000, Some(7))]);
    table.arrived(A, &mut lock);
    locks.push(lock);
    table.closed(7, START);
    assert!(!table.is_marked(A), "that comes later");
    assert!(!table.is_unmarked());
    locks
}

#[test]
fn nobody_has_a_hold_whose_connection_has_closed_though_it_was_not_marked_yet() {
    let its = token(VERY_MANY + 1);
    let mut table = Table::new();
    let mut lock = closed(&mut table).pop().unwrap();
    assert_eq!(check(Some(&lock), &mut table, A, &its, START), None);
    let asks: [fn(&mut Turn<'_>) -> bool; 2] = [
        |turn| turn.extend(&token(VERY_MANY + 1), None, || false),
        |turn| turn.release(&token(VERY_MANY + 1), 1, || false),
    ];
    for ask in asks {
        let mut table = Table::new();
        let mut lock = closed(&mut table).pop().unwrap();
        let (done, outcome) = turn((&mut table, &mut lock), START, 9, ask);
        assert!(!done);
        assert!(
            matches!(outcome.changes[..], [Change::Ended(_, Ended { why: Ending::SessionClosed, .. })]),
            "{outcome:?}"
        );
        assert!(lock.is_empty());
    }
    let (acquired, outcome) = turn((&mut table, &mut lock), START, 9, |turn| {
        turn.acquire(&request(VERY_MANY + 1, None), || 8, None, || token(0))
    });
    let Ok(Acquired::Granted(_, fence)) = acquired else { panic!("{acquired:?}") };
    assert!(fence.get() > VERY_MANY + 1, "it is another hold");
    assert_eq!(outcome.changes.len(), 2);
}

#[test]
fn what_a_closed_connection_kept_alive_is_marked_bit_by_bit() {
    let mut table = Table::new();
    let mut locks = closed(&mut table);
    let mut seen = 0;
    while !table.is_unmarked() {
        table.mark_left(50);
        let mut marked = Vec::new();
        while let Some(key) = table.marked().filter(|key| !marked.contains(key)) {
            marked.push(key);
        }
        assert!(marked.len() <= 64 + 50, "{}", marked.len());
        seen += marked.len();
        for key in marked {
            assert_eq!(table.pass_over(OwnedDbKey::as_key(&key)).len(), 1);
        }
    }
    assert_eq!(seen, locks.len());
    assert!(table.sessions().is_empty());
    locks.clear();
}

#[test]
fn marked_keys_have_their_turn_whatever_is_marked_again() {
    let names: [&[u8]; 3] = [b"a", b"b", b"c"];
    let keys = names.map(|key| DbKey { database: 0, key });
    let mut table = Table::new();
    for (client, key) in (1..).zip(keys) {
        let waiter = Waiter {
            client: Some(client),
            token: token(client),
            asked: AskedShare::default(),
            lease_ms: 10,
            owner: None,
            session_delay_ms: None,
            level: None,
            since: START,
            until: None,
            keep: None,
            is_for_several: false,
        };
        table.join(&[key], Joining::from(waiter));
    }
    keys.into_iter().for_each(|key| table.touched(key));
    let seen: Vec<OwnedDbKey> = (0..6).filter_map(|_| table.marked()).collect();
    let expected: Vec<OwnedDbKey> = keys.iter().chain(&keys).map(|key| (*key).into()).collect();
    assert_eq!(seen, expected);
}

/// A lock on which very many leases have ended by [`LATER`], beside so many that run.
fn lapsed(running: u64) -> Lock {
    let ended = (1..=VERY_MANY).map(|number| hold(number, Limit::SHARED, 10, None));
    let runs = (VERY_MANY + 1..=VERY_MANY + running)
        .map(|number| hold(number, Limit::from_number(300), 60_000, None));
    Lock::from_holds(ended.chain(runs).collect())
}

#[test]
fn a_grant_after_very_many_leases_have_ended_is_no_long_work() {
    let mut table = Table::new();
    let mut lock = lapsed(0);
    let (acquired, outcome) = turn((&mut table, &mut lock), LATER, 9, |turn| {
        turn.acquire(&request(999, None), || 8, None, || token(0))
    });
    assert!(matches!(acquired, Ok(Acquired::Granted(..))));
    assert!(outcome.changes.len() < 100, "{}", outcome.changes.len());
    assert!(matches!(outcome.changes.last(), Some(Change::First(..))), "what a replica has is replaced");
    assert_eq!(lock.holds().len(), 1);
}

#[test]
fn as_many_ended_leases_go_as_the_limits_ask_for() {
    for limit in [Limit::from_number(300), Limit::SHARED, Limit::from_number(50)] {
        let mut table = Table::new();
        let mut lock = lapsed(3);
        let (acquired, outcome) = turn((&mut table, &mut lock), LATER, 9, |turn| {
            turn.acquire(&request(999, Some(limit)), || 8, None, || token(0))
        });
        assert!(matches!(acquired, Ok(Acquired::Granted(..))), "{limit:?}");
        assert!(outcome.changes.len() < 100, "{limit:?}: {}", outcome.changes.len());
        assert!(lock_core::invariants::holds_are_within_limits(&lock), "{limit:?}");
        assert_eq!(lock.live_count(LATER), 4);
        // A holder that asks for less room has it made, too.
        let (acquired, _) = turn((&mut table, &mut lock), LATER, 9, |turn| {
            turn.acquire(&request(VERY_MANY + 1, Some(Limit::from_number(4))), || 8, None, || token(0))
        });
        assert!(matches!(acquired, Ok(Acquired::Granted(..))), "{limit:?}");
        assert!(lock_core::invariants::holds_are_within_limits(&lock), "{limit:?}");
    }
}

#[test]
fn where_very_many_leases_have_ended_the_others_are_passed_on_as_a_whole() {
    for running in [1_u16, 3, 128, 129, 280] {
        let limit = Limit::from_number(running + 1);
        let mut table = Table::new();
        let (mut lock, mut replica) = (lapsed(running.into()), lapsed(running.into()));
        let (acquired, outcome) = turn((&mut table, &mut lock), LATER, 9, |turn| {
            turn.acquire(&request(999, Some(limit)), || 8, None, || token(0))
        });
        assert!(matches!(acquired, Ok(Acquired::Granted(..))), "{running}");
        assert!(outcome.changes.len() < 100, "{running}: {}", outcome.changes.len());
        for change in &outcome.changes {
            match change {
                Change::Ended(fence, Ended { why: Ending::Lapsed, .. }) => assert!(replica.end(*fence)),
                Change::Whole(holds, _) => {
                    for piece in codec::encode_in_pieces(holds, LATER) {
                        let Decoded { holds, is_whole } = codec::decode(&piece, LATER).unwrap();
                        if is_whole {
                            replica.replace(holds).unwrap();
                        } else {
                            replica.adopt(holds).unwrap();
                        }
                    }
                }
                Change::Set(hold, _) => replica.adopt(vec![hold.clone()]).unwrap(),
                change => panic!("{change:?}"),
            }
        }
        assert!(outcome.changes.iter().any(|change| matches!(change, Change::Whole(..))), "{running}");
        assert_eq!(replica.holds(), lock.holds(), "{running}");
        assert_eq!(lock.live_count(LATER), usize::from(running) + 1);
    }
}
