//! How requests for several keys stand in the queues of all of them (G17): their tickets, and those whose place they take.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::num::NonZeroU64;

use lock_core::answer::Answer;
use lock_core::queue::{Joining, Keep, Waiter};
use lock_core::table::Joined;
use lock_core::{AskedShare, ClientId, DbKey, Moment, OwnedDbKey, Table, Ticket, Token};

const A: DbKey<'_> = DbKey { database: 0, key: b"a" };
const B: DbKey<'_> = DbKey { database: 0, key: b"b" };
const C: DbKey<'_> = DbKey { database: 0, key: b"c" };

const START: Moment = Moment::from_micros(0);

/// Joins with the token of this number, on a connection.
fn join(table: &mut Table, keys: &[DbKey<'_>], number: u8, client: ClientId, keep: Option<Keep>) -> Joined {
    let waiter = Waiter {
        client: Some(client),
        token: Token::from_seed([number; 16]),
        asked: AskedShare::default(),
        lease_ms: 30_000,
        owner: None,
        session_delay_ms: None,
        level: None,
        since: START.plus_ms(client),
        until: None,
        keep,
        is_for_several: keys.len() > 1,
    };
    let joined = table.join(keys, Joining::from(waiter));
    assert!(table.queues().is_consistent());
    joined
}

fn keep() -> Option<Keep> {
    Some(Keep { for_ms: NonZeroU64::new(500).unwrap(), user: None })
}

/// Who stands in the queue of a key, by tickets.
fn queue(table: &Table, key: DbKey<'_>) -> Vec<Ticket> {
    table.queues().places(key).map(|(ticket, _)| ticket).collect()
}

/// The keys that are marked.
fn marked(table: &mut Table) -> Vec<OwnedDbKey> {
    let mut marked = Vec::new();
    while let Some(key) = table.marked() {
        table.pass_over(key.as_key());
        marked.push(key);
    }
    marked.sort();
    marked
}

#[test]
fn a_request_for_several_keys_stands_everywhere_with_one_ticket() {
    let mut table = Table::new();
    let first = join(&mut table, &[A, B], 1, 1, None).ticket;
    let second = join(&mut table, &[C, A], 2, 2, None).ticket;
    assert_eq!(
        [queue(&table, A), queue(&table, B), queue(&table, C)],
        [vec![first, second], vec![first], vec![second]]
    );
    assert_eq!(table.queues().keys_of(second), [C.into(), A.into()], "in the order of the request");
    assert_eq!((table.queues().len(), table.queues().blocked()), (2, 2), "each waits once");
}

#[test]
fn a_token_that_stands_at_each_key_keeps_its_latest_ticket() {
    let mut table = Table::new();
    join(&mut table, &[A], 1, 1, keep());
    let between = join(&mut table, &[A], 2, 2, None).ticket;
    let latest = join(&mut table, &[B, C], 1, 3, keep()).ticket;
    let joined = join(&mut table, &[A, B], 1, 4, None);
    assert_eq!((joined.ticket, joined.is_new), (latest, false));
    assert_eq!(joined.superseded[..], [(1, Answer::NotAvailable), (3, Answer::Queued(latest))]);
    assert_eq!(
        [queue(&table, A), queue(&table, B), queue(&table, C)],
        [vec![between, latest], vec![latest], vec![]]
    );
    assert_eq!(table.queues().waiter(latest).unwrap().since, START.plus_ms(3));
    assert_eq!(marked(&mut table), [A.into()], "who stood behind it there may be next now");
}

#[test]
fn a_token_that_stands_at_some_keys_gets_a_new_ticket() {
    let mut table = Table::new();
    let older = join(&mut table, &[A, C], 1, 1, keep()).ticket;
    let behind = join(&mut table, &[C], 2, 2, None).ticket;
    let joined = join(&mut table, &[A, B], 1, 3, None);
    assert!(joined.is_new && joined.ticket > older);
    assert_eq!(joined.superseded[..], [(1, Answer::NotAvailable)], "its place is not kept");
    assert_eq!([queue(&table, A), queue(&table, C)], [vec![joined.ticket], vec![behind]]);
    assert_eq!(marked(&mut table), [A.into(), C.into()]);
}

#[test]
fn a_request_for_one_of_several_keys_keeps_the_ticket_there() {
    let mut table = Table::new();
    let ticket = join(&mut table, &[A, B], 1, 1, None).ticket;
    let behind = join(&mut table, &[B], 2, 2, None).ticket;
    let joined = join(&mut table, &[A], 1, 3, None);
    assert_eq!((joined.ticket, joined.is_new), (ticket, false));
    assert_eq!(joined.superseded[..], [(1, Answer::NotAvailable)]);
    assert_eq!([queue(&table, A), queue(&table, B)], [vec![ticket], vec![behind]]);
    assert_eq!(marked(&mut table), [B.into()]);
}

#[test]
fn who_is_dismissed_at_one_key_leaves_all_its_queues() {
    let mut table = Table::new();
    join(&mut table, &[A, B], 1, 1, None);
    let behind = join(&mut table, &[B], 2, 2, None).ticket;
    assert_eq!(table.dismiss(A), [1]);
    assert_eq!([queue(&table, A), queue(&table, B)], [vec![], vec![behind]]);
    assert_eq!(marked(&mut table), [B.into()]);
}
