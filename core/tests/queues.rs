//! The queues by themselves, where no history leads: what is left of them when another server decides, and in which order
//! their keys are looked at.
#![allow(clippy::unwrap_used)]

use lock_core::queue::{Joining, Remedy, Waiter};
use lock_core::{ClientId, Fence, Hold, Limit, Lock, Moment, OwnedPlace, Place, Queues, Terms, Token};

const A: Place<'_> = Place { database: 0, key: b"a" };
const B: Place<'_> = Place { database: 0, key: b"b" };

fn join(queues: &mut Queues, place: Place<'_>, client: ClientId) {
    let waiter = Waiter {
        client,
        token: Token::from_text(&client.to_le_bytes()).unwrap(),
        limit: None,
        lease_ms: 10,
        owner: None,
        session: false,
        level: None,
        since: Moment::from_micros(0),
        until: Some(Moment::from_micros(5)),
    };
    assert_eq!(queues.join(place, Joining { waiter, ahead: false }), None);
}

fn lock_of(session: ClientId) -> Lock {
    let token = Token::from_text(b"t").unwrap();
    let terms = Terms { token, limit: Limit::EXCLUSIVE, lease_ms: 10, owner: None, session: Some(session) };
    Lock::from_holds(vec![Hold::grant(terms, Fence::new(1).unwrap(), Moment::from_micros(0))])
}

#[test]
fn nothing_is_left_when_another_server_decides() {
    let mut queues = Queues::new();
    join(&mut queues, A, 1);
    join(&mut queues, B, 2);
    queues.remedy(A, Remedy::EndSession(7));
    queues.mark_all(None);
    assert_eq!(queues.dissolve(), [1, 2]);
    assert!(queues.is_quiet() && queues.is_consistent());
    assert_eq!((queues.next_timeout(), queues.marked()), (None, None));
    join(&mut queues, A, 1);
    assert_eq!(queues.take_mark(A), [], "nothing is put right later either");
}

#[test]
fn what_was_under_way_with_a_lock_does_not_arrive_when_another_server_decides() {
    for is_dissolved in [false, true] {
        let mut queues = Queues::new();
        queues.remedy(A, Remedy::EndSession(7));
        queues.departed(A);
        if is_dissolved {
            queues.dissolve();
        }
        queues.arrived(B, &lock_of(7));
        let remedies = queues.take_mark(B);
        assert_eq!(remedies.is_empty(), is_dissolved, "{remedies:?}");
    }
}

#[test]
fn who_is_dismissed_is_gone_from_everywhere_and_the_others_are_not() {
    let mut queues = Queues::new();
    join(&mut queues, A, 1);
    join(&mut queues, B, 2);
    join(&mut queues, A, 3);
    assert_eq!(queues.dismiss(A), [1, 3], "in the order in which they waited");
    assert!(queues.is_consistent());
    assert_eq!((queues.len(), queues.queue(A).is_none(), queues.waits(2)), (1, true, true));
    assert_eq!(queues.dismiss(A), []);
    join(&mut queues, A, 1);
}

#[test]
fn keys_that_are_waited_for_are_looked_at_one_after_the_other_whatever_happens_meanwhile() {
    let keys = [(0, "a"), (0, "b"), (1, "a"), (3, "")];
    let places = keys.map(|(database, key)| Place { database, key: key.as_bytes() });
    let mut queues = Queues::new();
    for (client, place) in (1..).zip(places) {
        join(&mut queues, place, client);
    }
    let first = queues.waited_for_after(None);
    assert_eq!(first.as_ref().map(OwnedPlace::as_place), Some(places[0]));
    // The key that was looked at is waited for by nobody any more, and one is that comes before it.
    queues.dismiss(places[0]);
    join(&mut queues, Place { database: 0, key: b"" }, 9);
    let mut last = first;
    for place in &places[1..] {
        last = queues.waited_for_after(last.as_ref());
        assert_eq!(last.as_ref().map(OwnedPlace::as_place), Some(*place));
    }
    assert_eq!(queues.waited_for_after(last.as_ref()), None);
}
