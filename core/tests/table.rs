//! The table by itself, where no history leads: what is left of it when another server decides, and in which order the keys
//! that are waited for are looked at.
#![allow(clippy::unwrap_used)]

use lock_core::outcome::{Authority, Circumstances};
use lock_core::queue::{Joining, Waiter};
use lock_core::{
    AskedShare, ClientId, DbKey, Fence, Hold, Lock, Moment, Outcome, OwnedDbKey, Session, Share, Table,
    Terms, Token, Turn,
};

const A: DbKey<'_> = DbKey { database: 0, key: b"a" };
const B: DbKey<'_> = DbKey { database: 0, key: b"b" };

const START: Moment = Moment::from_micros(0);

fn join(table: &mut Table, key: DbKey<'_>, client: ClientId) {
    let waiter = Waiter {
        client: Some(client),
        token: Token::from_text(&client.to_le_bytes()).unwrap(),
        asked: AskedShare::default(),
        lease_ms: 10,
        owner: None,
        session_delay_ms: None,
        level: None,
        since: START,
        until: Some(Moment::from_micros(5)),
        keep: None,
        is_for_several: false,
    };
    let joining = Joining::from(waiter);
    assert!(table.join(&[key], joining).superseded.is_empty());
}

fn lock_of(session: ClientId) -> Lock {
    let token = Token::from_text(b"t").unwrap();
    let session = Some(Session { client: session, delay_ms: 0 });
    let terms = Terms { token: &token, share: Share::EXCLUSIVE, lease_ms: 10, owner: None, session };
    Lock::from_holds(vec![Hold::grant(terms, Fence::new(1).unwrap(), START)])
}

/// Serves the queue at a key.
fn serve(table: &mut Table, lock: &mut Lock, key: DbKey<'_>) {
    let circumstances = Circumstances {
        now: START,
        wall_micros: 0,
        grace_ms: 0,
        claim_ms: 10,
        authority: Authority::FULL,
        at_most: usize::MAX,
    };
    table.touched(key);
    let mut outcome = Outcome::default();
    let mut string = None;
    let mut turn = Turn::resume(lock, &mut string, table, key, &circumstances, &mut outcome);
    turn.settle();
    while turn.candidate().is_some() {
        turn.judge_candidate(true);
    }
    turn.end();
}

#[test]
fn nothing_is_left_when_another_server_decides() {
    let mut table = Table::new();
    table.opened(7);
    table.arrived(A, &mut lock_of(7));
    join(&mut table, A, 1);
    join(&mut table, B, 2);
    table.touched(A);
    table.touched(B);
    let demotion = table.demoted();
    assert_eq!(demotion.dismissed, [1, 2]);
    assert!(demotion.disowned.contains(&OwnedDbKey::from(A)));
    assert!(table.is_quiet() && table.queues().is_consistent() && table.sessions().is_empty());
    assert_eq!((table.queues().next_timeout(), table.marked()), (None, None));
    join(&mut table, A, 1);
    assert_eq!(table.pass_over(A), [], "nothing is undone later either");
}

#[test]
fn what_was_under_way_with_a_lock_does_not_arrive_when_another_server_decides() {
    for is_demoted in [false, true] {
        let (mut table, mut lock) = (Table::new(), Lock::new());
        join(&mut table, A, 1);
        serve(&mut table, &mut lock, A);
        assert!(!table.closed(1, START).is_empty(), "the client was not told");
        table.departed(A, &mut lock);
        if is_demoted {
            table.demoted();
        }
        table.arrived(B, &mut lock);
        assert_eq!(table.pass_over(B).is_empty(), is_demoted);
    }
}

#[test]
fn a_session_whose_connection_has_closed_ends_where_its_lock_arrives() {
    let mut table = Table::new();
    table.opened(7);
    table.arrived(A, &mut lock_of(7));
    assert_eq!(table.pass_over(A), []);
    table.arrived(B, &mut lock_of(8));
    assert_eq!(table.pass_over(B).len(), 1);
}

#[test]
fn nothing_of_a_session_outlives_its_database() {
    let mut table = Table::new();
    table.opened(7);
    for round in 1..=3 {
        table.arrived(A, &mut lock_of(7));
        assert_eq!((table.sessions().len(), table.deadlines().len()), (1, 1), "round {round}");
        table.flushed(Some(0));
        assert_eq!((table.sessions().len(), table.deadlines().len()), (0, 0), "round {round}");
    }
}

#[test]
fn who_is_dismissed_is_gone_from_everywhere_and_the_others_are_not() {
    let mut table = Table::new();
    join(&mut table, A, 1);
    join(&mut table, B, 2);
    join(&mut table, A, 3);
    assert_eq!(table.dismiss(A), [1, 3], "in the order in which they waited");
    let queues = table.queues();
    assert!(queues.is_consistent());
    assert_eq!((queues.len(), queues.is_waited_for(A), queues.waits(2)), (1, false, true));
    assert_eq!(table.dismiss(A), []);
    join(&mut table, A, 1);
}

#[test]
fn keys_that_are_waited_for_are_looked_at_one_after_the_other_whatever_happens_meanwhile() {
    let names = [(0, "a"), (0, "b"), (1, "a"), (3, "")];
    let keys = names.map(|(database, key)| DbKey { database, key: key.as_bytes() });
    let mut table = Table::new();
    for (client, key) in (1..).zip(keys) {
        join(&mut table, key, client);
    }
    let first = table.queues().waited_for_after(None);
    assert_eq!(first.as_ref().map(OwnedDbKey::as_key), Some(keys[0]));
    // The key that was looked at is waited for by nobody any more, and one is that comes before it.
    table.dismiss(keys[0]);
    join(&mut table, DbKey { database: 0, key: b"" }, 9);
    let mut last = first;
    for key in &keys[1..] {
        last = table.queues().waited_for_after(last.as_ref());
        assert_eq!(last.as_ref().map(OwnedDbKey::as_key), Some(*key));
    }
    assert_eq!(table.queues().waited_for_after(last.as_ref()), None);
}

#[test]
fn nothing_of_a_session_outlives_its_lock() {
    let (mut table, mut lock) = (Table::new(), lock_of(7));
    table.opened(7);
    table.arrived(A, &mut lock);
    assert_eq!(table.sessions().len(), 1);
    table.departed(A, &mut lock);
    assert_eq!(table.sessions().len(), 0);
}
