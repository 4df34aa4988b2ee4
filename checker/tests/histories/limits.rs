//! Limits: who may hold a lock at the same time, and what becomes of a request for another limit.

use lock_checker::Rule;

use super::{LOSSY, assert_good, broken};

#[test]
fn locks_that_are_handed_on_are_good() {
    assert_good(
        "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
         2 3 c1.0 n0 acquire k b limit=1 lease=100 => null
         4 9 c1.0 n0 acquire k b limit=1 lease=100 block=500 => granted 11
         7 8 c0.0 n0 release k a => yes
        10 11 c1.0 n0 release k b => yes",
    );
}

#[test]
fn two_exclusive_holds_at_a_time_are_found() {
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
         5 6 c1.0 n0 acquire k b limit=1 lease=100 => granted 11";
    assert_eq!(broken(text), [Rule::Admission]);
    // In another lock, or after the lease may have run out, it is none.
    assert_good(&text.replace("acquire k b", "acquire l b"));
    assert_good(&text.replace("5 6", "98 99"));
    assert_good(&text.replace("5 6", "5 99"));
}

#[test]
fn a_change_of_the_limit_may_be_refused_whether_that_was_told_or_not() {
    let text = "0 1 c0.0 n0 acquire k a limit=2 lease=100 => granted 10
         2 3 c1.0 n0 acquire k b limit=2 lease=100 => granted 11
         4 5 c0.0 n0 acquire k a limit=1 lease=100 => gave-up
         6 7 c0.1 n0 acquire k a limit=1 lease=100 => null";
    assert_good(text);
    assert_good(&text.replace("gave-up", "null"));
    // Of the limit it had, or was told that it has now, there is no refusal.
    assert_eq!(broken(&text.replace("a limit=1", "a limit=2")), [Rule::EarlyEnd]);
    assert!(broken(&text.replace("gave-up", "granted 10")).contains(&Rule::EarlyEnd));
}

/// The request whose reply was lost raises the limit late, and the old one has to be asked for like a new one.
#[test]
fn a_change_of_the_limit_may_come_after_what_was_asked_later() {
    let text = "0 1 c0.0 n0 acquire k a limit=2 lease=100 => granted 10
         4 5 c0.0 n0 acquire k a limit=3 lease=100 => gave-up
         6 7 c0.1 n0 acquire k a limit=2 lease=100 => granted 10
         8 9 c0.1 n0 acquire k a limit=2 lease=100 => null";
    assert_good(text);
    assert_good(&text.replace("gave-up", "lost").replace("4 5", "4 5 fault n0 kill\n 4 5"));
    // Over two connections, it may have come in between.
    assert_good(&text.replace("4 5", "4 9").replace("gave-up", "granted 10"));
    // What was refused has changed nothing, nor has what was asked before.
    assert_eq!(broken(&text.replace("gave-up", "null")), [Rule::EarlyEnd]);
    assert_eq!(broken(&text.replace("gave-up", "granted 10")), [Rule::EarlyEnd]);
    // A wait that the end of a reign has ended may have been granted before.
    let ended = text
        .replace("gave-up", "error READONLY you cannot")
        .replace("6 7 c0.1 n0 acquire k a limit=2 lease=100 => granted 10", "");
    assert_good(&ended);
}

#[test]
fn two_grants_at_the_same_time_are_found() {
    let text = "0 10 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
         1 9 c1.0 n0 acquire k b limit=1 lease=100 => granted 11";
    assert_eq!(broken(text), [Rule::Admission]);
    assert_good(&text.replace("limit=1", "limit=2"));
}

/// Nothing is certain of the lease of a hold after a long wait, and yet it was granted.
#[test]
fn a_grant_after_a_wait_beside_a_hold_that_stood_throughout_is_found() {
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=1000 => granted 10
         2 500 c1.0 n0 acquire k b limit=1 lease=100 block=900 => granted 11";
    assert_eq!(broken(text), [Rule::Admission]);
    // The release was on its way.
    assert_good(&format!("{text}\n 499 501 c0.0 n0 release k a => yes"));
}

#[test]
fn the_smallest_limit_counts() {
    let text = "0 1 c0.0 n0 acquire k a limit=3 lease=100 => granted 10
         2 3 c1.0 n0 acquire k b limit=2 lease=100 => granted 11
         4 5 c2.0 n0 acquire k c limit=shared lease=100 => granted 12";
    assert_eq!(broken(text), [Rule::Admission]);
    assert_good(&text.replace("limit=2", "limit=3"));
    let writer = "0 1 c0.0 n0 acquire k a limit=shared lease=100 => granted 10
         2 3 c1.0 n0 acquire k b limit=1 lease=100 => granted 11";
    assert_eq!(broken(writer), [Rule::Admission]);
    assert_good(&writer.replace("limit=1", "limit=shared"));
}

#[test]
fn more_of_a_lock_is_not_granted_beside_who_holds_it() {
    let text = "0 1 c0.0 n0 acquire k a limit=shared lease=100 => granted 10
         2 3 c1.0 n0 acquire k b limit=shared lease=100 => granted 11
         4 5 c0.0 n0 acquire k a limit=1 lease=100 => granted 10";
    assert_eq!(broken(text), [Rule::Admission]);
    assert_good(&text.replace("a limit=1", "a limit=2"));
    assert_good(&text.replace("2 3 c1.0 n0 acquire k b", "2 3 c1.0 n0 acquire l b"));
    assert_good(&text.replace("4 5", "3 4 c1.0 n0 release k b => yes\n 4 5"));
    // After a wait, beside one that stood throughout; or that has gone meanwhile.
    let waits = text.replace(
        "4 5 c0.0 n0 acquire k a limit=1 lease=100",
        "4 95 c0.0 n0 acquire k a limit=1 lease=10 block=200",
    );
    assert_eq!(broken(&waits), [Rule::Admission]);
    assert_good(&format!("{waits}\n 20 21 c1.0 n0 release k b => yes"));
    // Whoever comes after it stands is not let in.
    let later = "0 1 c0.0 n0 acquire k a limit=shared lease=100 => granted 10
         2 3 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
         4 5 c1.0 n0 acquire k b limit=shared lease=100 => granted 11";
    assert_eq!(broken(later), [Rule::Admission]);
    assert_good(&later.replace("limit=1 lease=100 => granted 10", "limit=1 lease=100 => null"));
    // It has been lost with the master.
    let failover = format!("{LOSSY}{later}\n 3 4 fault all failover");
    assert_good(&failover);
    assert_eq!(broken(&failover.replace("writes=lost", "writes=kept")), [Rule::Admission]);
}
