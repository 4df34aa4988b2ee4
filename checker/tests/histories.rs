//! Histories written by hand: those that a server may give, and those that it must not, each with the rule it breaks.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use lock_checker::notation::Record;
use lock_checker::{Rule, check, excerpt, losses};

const ONE_SEQUENCE: &str =
    "terms fences=one-sequence patience=1000.000 claim=5000.000 writes=kept errors=READONLY\n";
const PER_NODE: &str =
    "terms fences=per-node-and-key patience=1000.000 claim=5000.000 writes=kept errors=MOVED\n";

const LOSSY: &str =
    "terms fences=one-sequence patience=1000.000 claim=5000.000 writes=lost errors=READONLY\n";

fn record(text: &str) -> Record {
    let text = if text.contains("terms") { text.to_owned() } else { ONE_SEQUENCE.to_owned() + text };
    text.parse().unwrap()
}

/// The rules that a history breaks.
fn broken(text: &str) -> Vec<Rule> {
    let record = record(text);
    let violations = check(&record.history, &record.terms);
    violations.iter().map(|violation| violation.rule).collect()
}

#[track_caller]
fn assert_good(text: &str) {
    let record = record(text);
    let violations = check(&record.history, &record.terms);
    let shown: Vec<String> =
        violations.iter().map(|violation| excerpt::show(&record.history, violation)).collect();
    assert!(violations.is_empty(), "{}", shown.join("\n"));
}

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
fn weights_add_up() {
    let text = "0 1 c0.0 n0 acquire k a limit=4 lease=100 weight=3 => granted 10
         2 3 c1.0 n0 acquire k b limit=4 lease=100 weight=2 => granted 11";
    assert_eq!(broken(text), [Rule::Admission]);
    assert_good(&text.replace("weight=2", "weight=1"));
    assert_good(&text.replace(" weight=2", ""));
    assert_good(&text.replace("limit=4", "limit=5"));
    assert_good(&text.replace("limit=4", "limit=shared"));
    // The smallest limit counts, whosever it is.
    assert_eq!(broken(&text.replace("a limit=4", "a limit=shared")), [Rule::Admission]);
    assert_eq!(broken(&text.replace("b limit=4", "b limit=shared")), [Rule::Admission]);
    // Three who have room two by two.
    let three = format!("{text}\n 4 5 c2.0 n0 acquire k c limit=6 lease=100 weight=2 => granted 12");
    assert_eq!(broken(&three.replace("limit=4", "limit=6")), [Rule::Admission]);
    assert_good(&three.replace("limit=4", "limit=7").replace("limit=6", "limit=7"));
    // At the same time, and after a wait beside one that stood throughout.
    assert_eq!(broken(&text.replace("0 1", "0 10").replace("2 3", "1 9")), [Rule::Admission]);
    assert_eq!(
        broken(&text.replace("2 3", "2 95").replace("b limit=4 lease=100", "b limit=4 lease=1")),
        [Rule::Admission]
    );
}

#[test]
fn a_weight_that_is_not_named_stays() {
    let text = "0 1 c0.0 n0 acquire k a limit=4 lease=100 weight=3 => granted 10
         2 3 c0.0 n0 acquire k a limit=4 lease=100 => granted 10
         4 5 c1.0 n0 acquire k b limit=4 lease=100 weight=2 => granted 11";
    assert_eq!(broken(text), [Rule::Admission]);
    assert_good(&text.replace("lease=100 => granted 10", "lease=100 weight=1 => granted 10"));
    // What has no reply may have made the hold, or come to nothing.
    let unknown = text.replace("weight=3 => granted 10", "weight=3 => gave-up");
    assert_good(&unknown);
    assert_eq!(
        broken(
            &unknown.replace("limit=4 lease=100 => granted 10", "limit=4 lease=100 weight=3 => granted 10")
        ),
        [Rule::Admission]
    );
    assert_good(
        &unknown.replace("limit=4 lease=100 => granted 10", "limit=4 lease=100 weight=1 => granted 10"),
    );
}

#[test]
fn a_change_of_the_weight_may_be_refused_or_carried_out_where_that_was_not_told() {
    let text = "0 1 c0.0 n0 acquire k a limit=4 lease=100 weight=1 => granted 10
         2 3 c0.0 n0 acquire k a limit=4 lease=100 weight=3 => granted 10
         4 5 c1.0 n0 acquire k b limit=4 lease=100 weight=2 => granted 11";
    assert_eq!(broken(text), [Rule::Admission]);
    assert_good(&text.replace("weight=3 => granted 10", "weight=3 => gave-up"));
    assert_good(&text.replace("weight=3 => granted 10", "weight=3 => null"));
    assert_good(&text.replace("weight=3 => granted 10", "weight=3 => error READONLY you cannot"));
    // While it is on its way, too. And what was sent before it may come after it.
    assert_good(&text.replace("2 3", "2 6").replace("b limit=4 lease=100", "b limit=4 lease=1"));
    let late = text.replace("0 1", "0 1 c0.0 n0 acquire k a limit=4 lease=100 weight=1 => granted 10\n 1 2");
    assert_eq!(broken(&late), [Rule::Admission]);
    assert_good(&late.replace(
        "1 2 c0.0 n0 acquire k a limit=4 lease=100 weight=1 => granted 10",
        "1 2 c0.0 n0 acquire k a limit=4 lease=100 weight=1 => gave-up",
    ));
    // Less is had at once, and lets others in.
    let less = text
        .replace("a limit=4 lease=100 weight=1", "a limit=4 lease=100 weight=4")
        .replace("weight=3", "weight=2");
    assert_good(&less);
    assert_eq!(broken(&less.replace("weight=2 => granted 10", "weight=2 => null")), [Rule::Admission]);
    assert_good(
        &less.replace("weight=2 => granted 10", "weight=2 => lost").replace("2 3", "2 3 fault n0 kill\n 2 3"),
    );
    // Of the weight that it has there is no refusal.
    let refused = text.replace("weight=3 => granted 10", "weight=1 => null");
    assert_eq!(broken(&refused), [Rule::EarlyEnd]);
    assert_eq!(broken(&refused.replace("weight=1 => null", "=> null")), [Rule::EarlyEnd]);
    assert_good(&refused.replace("weight=1 => null", "weight=4 => null"));
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

#[test]
fn a_lease_that_was_extended_counts_on_from_the_extension() {
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
        50 51 c0.0 n0 extend k a lease=100 => yes
       120 121 c1.0 n0 acquire k b limit=1 lease=100 => granted 11";
    assert_eq!(broken(text), [Rule::Admission]);
    assert_good(&text.replace("extend k a lease=100", "extend k a lease=10"));
    assert_good(&text.replace("yes", "error READONLY you cannot"));
    assert_eq!(
        broken(&text.replace("extend k a lease=100 => yes", "check k a => held 10 100")),
        [Rule::Admission]
    );
    let retry = text.replace("extend k a lease=100 => yes", "acquire k a limit=1 lease=100 => granted 10");
    assert_eq!(broken(&retry), [Rule::Admission]);
}

/// Each server counts on its own, and the one that is promoted may have begun before.
#[test]
fn what_is_left_of_a_lease_is_the_word_of_one_server() {
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
        99 100 c0.0 n0 check k a => held 10 50
       120 121 c1.0 n1 acquire k b limit=1 lease=100 => granted 11";
    assert_eq!(broken(text), [Rule::Admission]);
    assert_good(&format!("{text}\n 105 110 fault all failover"));
    assert_eq!(broken(&format!("{text}\n 50 60 fault all failover")), [Rule::Admission]);
    assert_eq!(broken(&format!("{text}\n 105 110 fault n0 stop")), [Rule::Admission]);
}

/// Only that it is still held is certain, and that proves that it has been held all the time.
#[test]
fn a_hold_that_is_found_to_stand_stood_before() {
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
       120 121 c1.0 n0 acquire k b limit=1 lease=100 => granted 11
       130 131 c0.0 n0 release k a => yes";
    assert_eq!(broken(text), [Rule::Admission]);
    assert_good(&text.replace("yes", "no"));
}

#[test]
fn a_hold_whose_end_was_lost_is_none_before_it_is_found_again() {
    let text = format!(
        "{LOSSY}0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
       120 121 c1.0 n0 acquire k b limit=1 lease=100 => granted 11
       125 130 fault all failover
       135 136 c0.1 n1 extend k a lease=100 => yes"
    );
    assert_good(&text);
    assert_eq!(broken(&text.replace("writes=lost", "writes=kept")), [Rule::Admission]);
    // Without a fault in between nothing can have been lost.
    assert_eq!(broken(&text.replace("125 130", "25 30")), [Rule::Admission]);
    // And what certainly stands is not excused by one.
    assert_eq!(broken(&text.replace("120 121", "50 51")), [Rule::Admission]);
}

#[test]
fn what_may_yet_be_carried_out_makes_nothing_certain() {
    // The server may extend to 10 ms at any time.
    assert_good(
        "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
         2 20 c0.0 n0 extend k a lease=10 => gave-up
        21 22 c0.1 n0 extend k a lease=100 => yes
        50 51 c1.0 n0 acquire k b limit=1 lease=100 => granted 11",
    );
    // Or release, after what was asked later.
    assert_good(
        "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
         2 20 c0.0 n0 release k a => gave-up
        21 22 c0.1 n0 acquire k a limit=1 lease=100 => granted 10
        50 51 c1.0 n0 acquire k b limit=1 lease=100 => granted 11",
    );
    assert_good(
        "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
         2 20 c0.0 n0 release k a => gave-up
       150 151 c0.1 n0 acquire k a limit=1 lease=100 => granted 11
       170 171 c1.0 n0 acquire k b limit=1 lease=100 => granted 12",
    );
    // Or grant the lock once more, and then that is what is extended.
    assert_good(
        "0 20 c0.0 n0 acquire k a limit=1 lease=100 => gave-up
        21 22 c0.1 n0 acquire k a limit=1 lease=100 => granted 10
       130 131 c1.0 n0 acquire k b limit=1 lease=10 => granted 11
       150 151 c0.1 n0 extend k a lease=100 => yes",
    );
    // Or tie the hold to the connection that is gone.
    assert_good(
        "0 20 c0.0 n0 acquire k a limit=1 lease=100 session => gave-up
        21 22 c0.1 n0 acquire k a limit=1 lease=100 session => granted 10
        50 51 c1.0 n0 acquire k b limit=1 lease=100 => granted 11",
    );
}

#[test]
fn an_unknown_outcome_and_its_repetition_are_one_hold() {
    let text = "0 20 c0.0 n0 acquire k a limit=1 lease=100 => gave-up
        10 11 c1.0 n0 acquire l b limit=1 lease=100 => granted 11
        21 22 c0.1 n0 acquire k a limit=1 lease=100 => granted 10";
    assert_good(text);
    // Without the first request, fence 10 is granted after 11.
    let alone = text.replace("0 20 c0.0 n0 acquire k a", "0 20 c0.0 n0 acquire k z");
    assert_eq!(broken(&alone), [Rule::Fence]);
}

#[test]
fn a_session_stands_as_long_as_its_connection() {
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=10 session => granted 10
       500 501 c1.0 n0 acquire k b limit=1 lease=10 => granted 11
       900 900 c0.0 n0 close => done";
    assert_eq!(broken(text), [Rule::Admission]);
    assert_good(&text.replace("900 900", "400 400"));
    assert_good(&text.replace("500 501", "500 901"));
}

#[test]
fn a_crash_ends_sessions_with_their_leases_and_no_lease_early() {
    let crash = "0 1 c0.0 n0 acquire k a limit=1 lease=100 session => granted 10
       200 300 fault n0 kill
       400 401 c1.0 n0 acquire k b limit=1 lease=100 => granted 11";
    assert_good(crash);
    assert_eq!(broken(&crash.replace("200 300", "20 30").replace("400 401", "50 51")), [Rule::Admission]);
    // So does a slot that moves, and takes the hold away from its connection.
    assert_good(&crash.replace("fault n0 kill", "fault all move"));
    let plain = "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
        20 30 fault n0 kill
        50 51 c1.0 n0 acquire k b limit=1 lease=100 => granted 11";
    assert_eq!(broken(plain), [Rule::Admission]);
}

#[test]
fn a_hold_that_is_gone_before_its_time_is_found() {
    let start = "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10\n";
    for found_gone in [
        "50 51 c0.0 n0 extend k a lease=100 => no",
        "50 51 c0.0 n0 release k a => no",
        "50 51 c0.0 n0 check k a => null",
        "50 51 c0.0 n0 acquire k a limit=1 lease=100 => null",
        "50 51 c0.0 n0 acquire k a limit=1 lease=100 => granted 12",
    ] {
        assert_eq!(broken(&format!("{start}{found_gone}"))[0], Rule::EarlyEnd, "{found_gone}");
        assert_good(&format!("{start}{}", found_gone.replace("50 51", "50 100")));
    }
    // A replica that has just been started may know of nothing yet. But it does not say so where a master is asked for.
    let replica = format!("{start}50 51 c0.0 n1 check k a => null\n 40 60 fault n1 kill");
    assert_good(&replica);
    assert_eq!(broken(&replica.replace("40 60", "40 49")), [Rule::EarlyEnd]);
    assert_eq!(broken(&replica.replace("check k a => null", "release k a => no")), [Rule::EarlyEnd]);
    // Another limit may be refused.
    assert_good(&format!("{start}50 51 c0.0 n0 acquire k a limit=2 lease=100 => null"));
}

#[test]
fn an_inner_level_never_cuts_the_lease_short() {
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
        20 21 c0.0 n0 acquire k a limit=1 lease=10 level=2 => granted 10
        60 61 c1.0 n0 acquire k b limit=1 lease=100 => granted 11";
    assert_eq!(broken(text), [Rule::Admission]);
    assert_eq!(broken(&text.replace("level=2", "level=1")), [Rule::Admission]);
    // A retry without one sets it anew.
    assert_good(&text.replace(" level=2", ""));
    // The longer of the two may be the inner one.
    let longer =
        text.replace("lease=100 => granted 10", "lease=30 => granted 10").replace("lease=10 ", "lease=100 ");
    assert_eq!(broken(&longer), [Rule::Admission]);
    // Nobody knows whether it came to that, but it has not made it shorter.
    assert_eq!(broken(&text.replace("level=2 => granted 10", "level=2 => gave-up")), [Rule::Admission]);
    assert_good(&longer.replace("level=2 => granted 10", "level=2 => gave-up"));
}

#[test]
fn giving_an_inner_level_back_ends_nothing() {
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=100 level=1 => granted 10
         2 3 c0.0 n0 acquire k a limit=1 lease=10 level=2 => granted 10
         4 5 c0.0 n0 release k a level=2 => yes
        60 61 c1.0 n0 acquire k b limit=1 lease=100 => granted 11";
    assert_eq!(broken(text), [Rule::Admission]);
    assert_eq!(broken(&text.replace("level=2 => yes", "level=2 => gave-up")), [Rule::Admission]);
    assert_good(&text.replace("release k a level=2", "release k a"));
    let found_gone = "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
         2 3 c0.0 n0 acquire k a limit=1 lease=10 level=2 => granted 10
         4 5 c0.0 n0 release k a level=2 => yes
         6 7 c0.0 n0 check k a => null";
    assert_eq!(broken(found_gone), [Rule::EarlyEnd]);
}

#[test]
fn a_level_that_was_made_and_is_not_there_is_found() {
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
         2 3 c0.0 n0 acquire k a limit=1 lease=100 level=3 => granted 10
         4 5 c0.0 n0 release k a level=2 => no";
    assert_eq!(broken(text), [Rule::Level]);
    assert_good(&text.replace("release k a level=2", "release k a level=4"));
    assert_good(&text.replace("4 5", "4 105"));
    // It was lost with the master, or kept.
    let failover = format!("{text}\n 3 4 fault all failover");
    assert_good(&(LOSSY.to_owned() + &failover));
    assert_eq!(broken(&failover), [Rule::Level]);
    // It may be gone, or given back before.
    assert_good(&text.replace("2 3", "2 103").replace("4 5", "104 105"));
    assert_good(&text.replace("level=3 => granted 10", "level=3 => gave-up"));
    assert_good(&text.replace("2 3 c0.0 n0 acquire k a limit=1 lease=100 level=3 => granted 10", ""));
    let given_back = text.replace("4 5", "3.5 4 c0.0 n0 release k a level=2 => gave-up\n 4 5");
    assert_good(&given_back.replace("3.5", "3.500"));
    assert_eq!(
        broken(&given_back.replace("3.5", "3.500").replace("level=2 => gave", "level=3 => gave")),
        [Rule::Level]
    );
}

#[test]
fn an_inner_level_of_what_is_not_held_is_found() {
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=100 level=2 => granted 10";
    assert_eq!(broken(text), [Rule::Level]);
    assert_good(&text.replace("level=2", "level=1"));
    // It was held, perhaps.
    assert_good(&text.replace("0 1", "0 1 c0.0 n0 acquire k a limit=1 lease=100 => gave-up\n 2 3"));
    assert_good(&text.replace("0 1", "0 3 c1.0 n0 acquire k a limit=1 lease=100 => granted 10\n 1 2"));
    // But not this one.
    let other = text.replace("0 1", "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 9\n 200 201");
    assert_eq!(broken(&other), [Rule::Level]);
    let null = text.replace("0 1", "0 1 c0.0 n0 acquire k a limit=1 lease=100 => null\n 2 3");
    assert_eq!(broken(&null), [Rule::Level]);
}

#[test]
fn a_level_that_is_given_back_twice_is_found() {
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
         2 3 c0.0 n0 acquire k a limit=1 lease=100 level=2 => granted 10
         4 5 c0.0 n0 release k a level=2 => yes
         6 7 c0.0 n0 release k a level=2 => yes";
    assert_eq!(broken(text), [Rule::Level]);
    assert_good(
        &text.replace("6 7 c0.0 n0 release k a level=2 => yes", "6 7 c0.0 n0 release k a level=2 => no"),
    );
    // The release was lost, or has not come yet, or the level was made again.
    assert_good(&format!("{text}\n 5 6 fault all failover"));
    assert_good(
        &text.replace("4 5 c0.0 n0 release k a level=2 => yes", "4 5 c0.0 n0 release k a level=2 => gave-up"),
    );
    assert_good(
        &text.replace("6 7", "5 5 c0.0 n0 acquire k a limit=1 lease=100 level=2 => granted 10\n 6 7"),
    );
    assert_good(&text.replace("level=2 => granted 10", "level=2 => gave-up"));
    // It was never so deep.
    assert_eq!(broken(&text.replace("level=2 => yes", "level=3 => yes")), [Rule::Level, Rule::Level]);
}

#[test]
fn an_inner_level_does_not_wait() {
    let text = "0 1400 c0.0 n0 acquire k a limit=1 lease=100 level=2 block=900 => null";
    assert_eq!(broken(text), [Rule::LateAnswer]);
    assert_good(&text.replace(" level=2", ""));
    assert_good(&text.replace("0 1400", "0 1"));
    // Another limit may have to be waited for.
    assert_good(&text.replace("0 1400", "0 1 c0.0 n0 acquire k a limit=2 lease=100 => granted 10\n 1 1402"));
}

#[test]
fn a_time_to_live_ends_a_hold_and_a_promise_takes_it_off() {
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
         2 3 c2.0 n0 expire k ttl=20 => yes
        50 51 c1.0 n0 acquire k b limit=1 lease=100 => granted 11";
    assert_good(text);
    assert_eq!(broken(&text.replace("50 51", "10 11")), [Rule::Admission]);
    assert_eq!(broken(&text.replace("ttl=20", "ttl=90")), [Rule::Admission]);
    assert_eq!(broken(&text.replace("=> yes", "=> no")), [Rule::Admission]);
    assert_eq!(broken(&text.replace("expire k", "expire l")), [Rule::Admission]);
    for promise in [
        "extend k a lease=90 => yes",
        "acquire k a limit=1 lease=90 => granted 10",
        "acquire k a limit=1 lease=1 level=2 => granted 10",
    ] {
        let promised = text.replace("50 51", &format!("4 5 c0.0 n0 {promise}\n 50 51"));
        assert_eq!(broken(&promised), [Rule::Admission], "{promise}");
        // The promise may have come before the time was set.
        assert_good(&promised.replace("2 3 c2.0", "2 5 c2.0"));
        assert_good(&promised.replace("2 3 c2.0", "4 6 c2.0"));
        assert_good(&promised.replace("2 3 c2.0", "12 13 c2.0"));
    }
    // What is not known may be done at any time, but for what a server has closed the connection on.
    let promised = text.replace("50 51", "4 5 c0.0 n0 extend k a lease=90 => yes\n 50 51");
    assert_good(&promised.replace("ttl=20 => yes", "ttl=20 => gave-up"));
    assert_eq!(broken(&promised.replace("ttl=20 => yes", "ttl=20 => lost")), [Rule::Admission, Rule::Reply]);
    // What is found to be left is certain for so long.
    let found = text.replace("50 51", "15 16 c0.0 n0 check k a => held 10 9\n 20 21");
    assert_eq!(broken(&found), [Rule::Admission]);
    assert_good(&format!("{found}\n 17 18 fault n0 clock"));
    assert_good(&found.replace("20 21", "25 26"));
    // Nobody knows when it is over where clocks are set.
    assert_good(&format!("{}\n 30 31 fault n0 clock", text.replace("ttl=20", "ttl=90")));
}

#[test]
fn a_lease_that_ends_by_an_older_time_to_live_is_found() {
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
         2 3 c0.0 n0 expire k ttl=20 => yes
         4 5 c0.0 n0 extend k a lease=90 => yes
        50 51 c0.0 n0 check k a => null";
    assert_eq!(broken(text), [Rule::EarlyEnd]);
    assert_good(&text.replace("4 5 c0.0 n0 extend k a lease=90 => yes", ""));
    // A hold that is handed on is no older than the promise.
    let handed_on = "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
         2 3 c0.0 n0 expire k ttl=20 => yes
         4 5 c0.0 n0 release k a => yes
         6 7 c1.0 n0 acquire k b limit=1 lease=100 block=50 => granted 11
        50 51 c1.0 n0 check k b => null";
    assert_eq!(broken(handed_on), [Rule::EarlyEnd]);
    assert_good(&handed_on.replace("6 7", "1 7"));
}

#[test]
fn a_session_does_not_outlive_a_time_to_live_for_certain() {
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=10 session => granted 10
         2 3 c2.0 n0 expire k ttl=40 => yes
       500 501 c1.0 n0 acquire k b limit=1 lease=10 => granted 11
       900 900 c0.0 n0 close => done";
    assert_good(text);
    assert_eq!(broken(&text.replace("500 501", "30 31")), [Rule::Admission]);
}

#[test]
fn more_than_the_time_to_live_that_is_left_is_found() {
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=1000 => granted 10
         2 3 c0.0 n0 expire k ttl=100 => yes
        50 51 c0.0 n0 check k a => held 10 950";
    assert_eq!(broken(text), [Rule::TimeToLive]);
    assert_good(&text.replace("10 950", "10 53"));
    // Beyond its end, nothing is left.
    assert_eq!(broken(&text.replace("10 950", "10 1").replace("50 51", "150 151")), [Rule::TimeToLive]);
    // Something may have taken it off, or made it longer.
    assert_good(&text.replace("50 51", "4 5 c0.0 n0 extend k a lease=1000 => yes\n 50 51"));
    assert_good(&text.replace("50 51", "4 5 c0.0 n0 acquire k a limit=1 lease=1 level=2 => gave-up\n 50 51"));
    assert_good(&text.replace("50 51", "4 5 c0.0 n0 expire k ttl=1000 => yes\n 50 51"));
    assert_good(&text.replace("2 3", "2 52"));
    assert_good(&text.replace("lease=1000 =>", "lease=1000 session =>"));
    assert_good(&text.replace("limit=1 lease", "limit=2 lease"));
    assert_good(&format!("{text}\n 10 11 fault n0 kill"));
    assert_good(&format!("{text}\n 10 11 fault n0 clock"));
    // It may have come to nothing.
    assert_good(
        &(text.replace("ttl=100 => yes", "ttl=100 => lost") + "\n 0 5 fault n1 kill")
            .replace("2 3 c0.0 n0", "2 3 c2.0 n1"),
    );
    // That came before it.
    let before = text.replace("2 3", "1 2 c0.0 n0 expire k ttl=1000 => yes\n 2 3");
    assert_eq!(broken(&before), [Rule::TimeToLive]);
}

/// A waits, b holds; a gives up, and releases over another connection.
const WITHDRAWN: &str = "0 1 c1.0 n0 acquire k b limit=1 lease=900 => granted 10
         2 200 c0.0 n0 acquire k a limit=1 lease=100 block=900 => null
         4 5 c2.0 n0 look k => queue a
        10 11 c0.1 n0 release k a => no";

#[test]
fn a_wait_may_be_withdrawn() {
    assert_good(WITHDRAWN);
    // Nothing else ends it before its time.
    assert_eq!(broken(&WITHDRAWN.replace("release k a", "release l a")), [Rule::EarlyNull]);
    assert_eq!(broken(&WITHDRAWN.replace("10 11", "0 1")), [Rule::EarlyNull]);
    assert_good(&WITHDRAWN.replace("10 11 c0.1 n0 release k a => no", "0 1 c0.1 n0 release k a => gave-up"));
    // Who comes later is served then.
    assert_good(&format!(
        "{WITHDRAWN}\n 12 40 c3.0 n0 acquire k c limit=1 lease=100 block=900 => granted 11\n 39 40 c1.0 n0 release k b => yes"
    ));
}

#[test]
fn a_grant_to_who_has_withdrawn_is_found() {
    let text = WITHDRAWN.replace("=> null", "=> granted 11") + "\n 30 31 c1.0 n0 release k b => yes";
    assert_eq!(broken(&text), [Rule::Release]);
    // It was not waiting yet, or the release has not come yet, or was told another server.
    assert_good(&text.replace("queue a", "queue"));
    assert_good(&text.replace("4 5", "4 11"));
    assert_good(&text.replace("=> no", "=> lost").replace("10 11 c0.1", "9 9 fault n0 kill\n 10 11 c0.1"));
    assert_good(&text.replace("c0.1 n0 release", "c0.1 n1 release"));
    // The hold may have come and gone before the release: b had given it back.
    let gone = text.replace("30 31", "5 6").replace("10 11", "120 121");
    assert_good(&gone);
    assert_eq!(broken(&gone.replace("10 11", "50 51").replace("120 121", "50 51")), [Rule::Release]);
    let ended = gone.replace("120 121", "50 51") + "\n 7 8 c2.0 n0 expire k ttl=20 => yes";
    assert_good(&ended);
    // A second release, over a third connection, may have been first.
    assert_good(&(gone.replace("120 121", "50 51") + "\n 49 51 c0.2 n0 release k a => yes"));
}

/// The release has ended the hold, so that it was granted before.
#[test]
fn a_grant_that_is_read_after_its_release_is_good() {
    let text = WITHDRAWN.replace("=> null", "=> granted 11").replace("=> no", "=> yes")
        + "\n 6 7 c1.0 n0 release k b => yes";
    assert_good(&text);
    // But not with a fence above one that was granted after the release.
    let above = text + "\n 20 21 c3.0 n0 acquire l c limit=1 lease=100 => granted 12";
    assert_good(&above);
    let above = above.replace("granted 11", "granted 13");
    assert_eq!(broken(&above), [Rule::Release]);
    assert_good(&above.replace("20 21", "10 21"));
    assert_good(&format!("{above}\n 15 16 fault n0 kill"));
}

#[test]
fn a_withdrawn_wait_that_is_not_answered_is_found() {
    let text = WITHDRAWN.replace("2 200", "2 1300").replace("block=900", "block=0");
    assert_eq!(broken(&text), [Rule::LateAnswer]);
    assert_good(&text.replace("2 1300", "2 1000"));
    assert_good(&text.replace("10 11", "400 401"));
    assert_good(&format!("{text}\n 100 500 fault n0 stop"));
    // Nobody knows whether it was there to be withdrawn.
    assert_good(
        &text.replace("queue a", "queue").replace("=> null", "=> granted 11").replace("=> no", "=> yes"),
    );
}

#[test]
fn a_hold_that_goes_on_after_its_release_is_found() {
    let start = "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
         2 3 c0.0 n0 release k a => yes\n";
    for goes_on in [
        "4 5 c0.0 n0 check k a => held 10 90",
        "4 5 c0.0 n0 extend k a lease=100 => yes",
        "4 5 c0.0 n0 release k a => yes",
        "4 5 c0.0 n0 acquire k a limit=1 lease=100 => granted 10",
    ] {
        let text = format!("{start}{goes_on}");
        assert!(broken(&text).contains(&Rule::Release), "{goes_on}");
        assert_good(&text.replace(
            "2 3 c0.0 n0 release k a => yes",
            "2 3 c0.0 n0 release k a => lost\n 2 3 fault all kill",
        ));
        // It may have been lost.
        assert_good(&format!("{text}\n 3 4 fault all failover"));
        // A request that was on its way may have been granted, under another fence.
        let stray = format!("0 0 c0.0 n0 acquire k a limit=1 lease=100 => gave-up\n{text}");
        if goes_on.contains("10") && !goes_on.contains("extend") {
            assert!(broken(&stray).contains(&Rule::Release), "{goes_on}");
        } else {
            assert_good(&stray);
        }
    }
    // It was granted anew.
    assert_good(&format!(
        "{start}4 5 c0.0 n0 acquire k a limit=1 lease=100 => granted 11\n 6 7 c0.0 n0 check k a => held 11 90"
    ));
}

/// What was seen waiting before the release was sent can have been granted nothing after it.
#[test]
fn a_hold_of_who_has_withdrawn_is_found() {
    let text = WITHDRAWN.replace("=> null", "=> granted 11").replace("=> no", "=> yes")
        + "\n 6 7 c1.0 n0 release k b => yes\n 12 13 c0.1 n0 check k a => held 11 60";
    assert_eq!(broken(&text), [Rule::Release]);
    assert_good(&text.replace("queue a", "queue"));
    assert_good(&text.replace("12 13", "11 13"));
    // The client has closed the connection it waited on, and it was granted the lock all the same.
    assert_eq!(broken(&text.replace("=> granted 11", "=> gave-up")), [Rule::Release]);
}

#[test]
fn fences_that_fall_or_repeat_are_found() {
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
         2 3 c1.0 n0 acquire l b limit=1 lease=100 => granted 9";
    assert_eq!(broken(text), [Rule::Fence]);
    // Nobody knows which of them came first.
    assert_good(&text.replace("0 1", "0 3"));
    assert_eq!(broken(&text.replace("0 1", "0 3").replace("granted 9", "granted 10")), [Rule::Fence]);
}

#[test]
fn each_node_has_its_fences_and_so_has_each_key() {
    let text = format!(
        "{PER_NODE}0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
         2 3 c1.0 n1 acquire l b limit=1 lease=100 => granted 9"
    );
    assert_good(&text);
    assert_eq!(broken(&text.replace("n1", "n0")), [Rule::Fence]);
    let same_key = text.replace("acquire l b", "acquire k b").replace("2 3", "198 199");
    assert_eq!(broken(&same_key), [Rule::Fence]);
}

#[test]
fn answers_that_come_too_late_are_found() {
    let text = "0 1600 c0.0 n0 acquire k a limit=1 lease=100 block=500 => null";
    assert_eq!(broken(text), [Rule::LateAnswer]);
    assert_good(&text.replace("1600", "1400"));
    assert_good(&format!("{text}\n 100 300 fault n0 stop"));
    assert_eq!(broken(&format!("{text}\n 100 300 fault n1 stop")), [Rule::LateAnswer]);
    assert_eq!(broken(&format!("{text}\n 100 300 fault n0 clock back")), [Rule::LateAnswer]);
    assert_eq!(broken("0 1100 c0.0 n0 ping => done"), [Rule::LateAnswer]);
}

#[test]
fn waits_that_end_too_early_are_found() {
    let text = "0 400 c0.0 n0 acquire k a limit=1 lease=100 block=500 => null";
    assert_eq!(broken(text), [Rule::EarlyNull]);
    assert_eq!(broken(&text.replace("block=500", "block=0")), [Rule::EarlyNull]);
    assert_good(&text.replace("block=500", "block=400"));
    // Its repetition took its place.
    assert_good(&format!("{text}\n 300 500 c1.0 n0 acquire k a limit=1 lease=100 block=100 => granted 10"));
}

#[test]
fn who_was_seen_waiting_is_served_before_who_comes_later() {
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
         2 60 c1.0 n0 acquire k b limit=1 lease=100 block=900 => granted 12
         5 6 c2.0 n0 look k => queue b
        10 55 c3.0 n0 acquire k c limit=1 lease=100 block=900 => granted 11
        20 21 c0.0 n0 release k a => yes
        56 57 c3.0 n0 release k c => yes";
    assert_eq!(broken(text), [Rule::Overtaking]);
    assert_good(&text.replace("10 55", "4 55"));
    assert_good(&text.replace("queue b", "queue"));
    // It was granted the lock before the other asked: the fence fell since.
    let fell = "0 1 c0.0 n0 acquire k a limit=1 lease=5 => granted 10
         2 9 c1.0 n0 acquire k b limit=1 lease=5 block=900 => granted 20
         3 4 c2.0 n0 look k => queue b
        30 31 c3.0 n0 acquire k c limit=1 lease=5 => granted 15";
    assert_eq!(broken(fell), [Rule::Fence]);
    // It waits in vain, while the other is granted the lock.
    assert_eq!(broken(&text.replace("2 60", "2 903").replace("granted 12", "null")), [Rule::Overtaking]);
}

/// A has the lock, b has a place in the queue, asks again, and claims what it was granted.
const PLACE: &str = "0 1 c0.0 n0 acquire k a limit=1 lease=900 => granted 10
         2 3 c1.0 n0 acquire k b limit=1 lease=900 queue=300 => ticket 7
        40 41 c1.0 n0 acquire k b limit=1 lease=900 queue=300 => ticket 7
        50 51 c0.0 n0 release k a => yes
        80 81 c1.1 n0 acquire k b limit=1 lease=900 queue=300 => granted 11\n";

#[test]
fn a_place_is_kept_and_what_it_is_granted_is_held() {
    assert_good(PLACE);
    assert_good(
        &PLACE
            .replace("2 3", "2 23")
            .replace("40 41", "24 45")
            .replace("queue=300 => ticket", "block=20 queue=300 => ticket"),
    );
    assert_good(&PLACE.replace("80 81", "45 81").replace("queue=300 => granted", "block=500 => granted"));
    // It is held like any other from then on.
    let claimed = format!("{PLACE} 90 91 c2.0 n0 acquire k c limit=1 lease=900 => granted 12");
    assert_eq!(broken(&claimed), [Rule::Admission]);
    let found_gone = format!("{PLACE} 90 91 c1.1 n0 check k b => null");
    assert_eq!(broken(&found_gone), [Rule::EarlyEnd]);
    // Its fence is not older than the last ticket.
    let fences = format!("{PLACE} 30 31 c2.0 n0 acquire l z limit=1 lease=9 => granted 15");
    assert_eq!(broken(&fences), [Rule::Fence]);
    assert_good(&fences.replace("30 31", "45 46"));
    assert_good(&format!("{fences}\n 60 61 fault n0 kill"));
    // The claim may be that of an inner level.
    assert_good(&PLACE.replace("queue=300 => granted", "level=2 => granted"));
}

#[test]
fn a_place_that_is_lost_is_found() {
    let text = PLACE.replace("40 41", "20 21").replace("ticket 7\n        50", "ticket 8\n        50");
    let text = text
        .replace("80 81 c1.1", "80 81 c9.0")
        .replace("k b limit=1 lease=900 queue=300 => granted", "k c limit=1 lease=900 => granted");
    assert_eq!(broken(&text), [Rule::Place]);
    // Its time was over, or that of what it was granted meanwhile.
    assert_good(&text.replace("queue=300", "queue=15"));
    assert_good(&text.replace("lease=900 queue", "lease=15 queue"));
    assert_good(&text.replace("20 21", "20 400").replace("50 51", "401 402").replace("80 81", "403 404"));
    assert_good(&(ONE_SEQUENCE.replace("claim=5000", "claim=15") + &text));
    assert_good(&format!("{text} 10 11 c3.0 n0 expire k ttl=5 => yes"));
    // Something may have ended it.
    for end in [
        "c1.1 n0 release k b => no",
        "c1.1 n0 release k b => gave-up",
        "c1.1 n0 acquire k b limit=1 lease=900 block=5 => gave-up",
        "c1.1 n0 acquire k b limit=1 lease=900 block=1 => null",
        "c1.1 n0 acquire k b limit=1 lease=900 queue=5 => gave-up",
        "c1.1 n0 acquire k b limit=2 lease=900 queue=300 => gave-up",
    ] {
        assert_good(&format!("{text} 10 12 {end}"));
    }
    for fault in ["n0 kill", "all failover", "all move"] {
        assert_good(&format!("{text} 10 11 fault {fault}"));
    }
    // These have not.
    for harmless in [
        "c1.1 n0 acquire k b limit=1 lease=900 => null",
        "c1.1 n0 acquire k b limit=1 lease=900 queue=300 => gave-up",
        "c1.1 n0 acquire k b limit=1 lease=900 block=1 queue=300 => gave-up",
        "c1.1 n0 extend k b lease=100 => no",
        "c1.1 n0 check k b => null",
    ] {
        assert_eq!(broken(&format!("{text} 10 12 {harmless}")), [Rule::Place], "{harmless}");
    }
    assert_eq!(broken(&format!("{text} 10 11 fault n0 stop")), [Rule::Place]);
    assert_eq!(broken(&format!("{text} 10 11 fault n1 kill")), [Rule::Place]);
}

#[test]
fn a_ticket_that_is_used_twice_is_found() {
    let again =
        PLACE.replace("40 41", "12 13").replace("80 81 c1.1", "14 15 c1.1").replace("granted 11", "ticket 7");
    assert_good(&again);
    let text = again.replace("14 15", "10 11 c1.1 n0 release k b => no\n 14 15");
    assert_eq!(broken(&text), [Rule::Release, Rule::Release]);
    assert_good(&text.replace("no\n", "lost\n 0 99 fault n0 kill\n"));
    assert_good(&text.replace("10 11", "3 4").replace("2 3", "2 4").replace("12 13", "3 14"));
    let claimed = PLACE.to_owned() + " 999 1000 c1.1 n0 acquire k b limit=1 lease=900 queue=300 => ticket 7";
    assert_eq!(broken(&claimed), [Rule::Place]);
    assert_good(&claimed.replace("ticket 7\n", "ticket 6\n"));

    let shared = PLACE.to_owned() + " 5 6 c2.0 n0 acquire l c limit=1 lease=900 queue=300 => ticket 7";
    assert_eq!(broken(&shared), [Rule::Place]);
    assert_good(&shared.replace("c2.0 n0", "c2.0 n1"));
    assert_good(&format!("{}\n 100 110 fault n0 kill", shared.replace("5 6", "120 121")));
}

#[test]
fn tickets_that_fall_are_found() {
    let text = PLACE.to_owned() + " 5 6 c2.0 n0 acquire l c limit=1 lease=900 queue=300 => ticket 6";
    assert_eq!(broken(&text), [Rule::Place]);
    assert_good(&text.replace("ticket 6", "ticket 8"));
    assert_good(&text.replace("5 6", "2 6"));
    // It may have had its place before it was told.
    assert_good(&format!("{text}\n 2 3 c2.0 n0 acquire l c limit=1 lease=900 queue=300 => gave-up"));
    assert_good(&format!(
        "{text}\n 2 6 c2.1 n0 acquire l c limit=1 lease=900 block=900 queue=300 => ticket 6"
    ));
}

#[test]
fn who_has_a_place_is_served_before_who_comes_later() {
    let text = PLACE.replace("80 81", "90 91").replace("granted 11", "granted 12")
        + " 52 53 c2.0 n0 acquire k c limit=1 lease=900 => granted 11
            54 55 c2.0 n0 release k c => yes\n";
    assert_eq!(broken(&text), [Rule::Overtaking]);
    // It may have had its place before.
    assert_good(&text.replace("52 53", "2 53"));
    assert_good(&format!("{text} 2 3 c2.1 n0 acquire k c limit=1 lease=900 queue=100 => ticket 8"));
    assert_good(&format!("{text} 2 3 c2.1 n0 acquire k c limit=1 lease=900 queue=100 => gave-up"));
    // The other may have lost its own, or what it was granted.
    assert_good(&text.replace("queue=300", "queue=30"));
    assert_good(&text.replace("lease=900 queue", "lease=30 queue"));
    assert_good(
        &format!("{text} 60 61 c1.1 n0 release k b => lost\n 0 99 fault n1 kill")
            .replace("c1.1 n0 release", "c1.1 n1 release"),
    );
    assert_good(&format!("{text} 60 61 fault n0 kill"));
    // It still waits, however long it is until it asks again.
    let waits = text.replace("granted 12", "ticket 7").replace("queue=300", "queue=30");
    assert_eq!(broken(&waits), [Rule::Overtaking]);
    // Who waits on a connection is overtaken by nobody either, nor by who has a place.
    let seen = "0 1 c0.0 n0 acquire k a limit=1 lease=900 => granted 10
         2 60 c1.0 n0 acquire k b limit=1 lease=900 block=900 => granted 12
         5 6 c2.0 n0 look k => queue b
        10 11 c3.0 n0 acquire k c limit=1 lease=30 queue=100 => ticket 7
        20 21 c0.0 n0 release k a => yes
        30 31 c3.0 n0 acquire k c limit=1 lease=30 queue=100 => granted 11
        56 57 c3.0 n0 release k c => yes";
    assert_eq!(broken(seen), [Rule::Overtaking]);
    assert_good(&seen.replace("10 11", "4 11"));
    // What was seen may have been a place of an older request.
    let place = seen.replace("block=900", "block=900 queue=100");
    assert_good(&place);
}

#[test]
fn who_comes_too_late_learns_it() {
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=50 => granted 10
         2 3 c1.0 n0 acquire k b limit=1 lease=20 queue=300 => ticket 7
        90 91 c2.0 n0 acquire k c limit=1 lease=20 => granted 12
       120 121 c1.0 n0 acquire k b limit=1 lease=20 queue=300 => granted 11";
    assert_eq!(broken(text), [Rule::Place]);
    // The fence is a later one, the locks are others, the other may have been told before.
    assert_good(&text.replace("granted 11", "granted 13"));
    assert_good(&text.replace("granted 11", "ticket 8"));
    assert_good(&text.replace("k c", "l c"));
    assert_good(&text.replace("limit=1", "limit=shared"));
    assert_good(&text.replace("120 121", "90 121"));
    assert_good(&format!("{text}\n 100 101 fault n0 kill"));
}

#[test]
fn a_place_that_is_refused_is_found() {
    let text = "0 30 c0.0 n0 acquire k a limit=1 lease=100 block=20 queue=300 => null";
    assert_eq!(broken(text), [Rule::Place]);
    assert_good(&format!("{text}\n 10 11 c0.1 n0 release k a => no"));
    assert_good(&text.replace(" queue=300", ""));
    assert_good(&text.replace("lease=100", "lease=100 level=2"));
    assert_good(&text.replace("null", "ticket 7"));
    // It waits as long as without one.
    let early = text.replace("null", "ticket 7").replace("0 30", "0 10");
    assert_eq!(broken(&early), [Rule::EarlyNull]);
    assert_good(&format!("{early}\n 5 6 c0.1 n0 acquire k a limit=1 lease=100 queue=300 => ticket 7"));
    // Nobody has a ticket who has not asked for one.
    assert_eq!(broken("0 1 c0.0 n0 acquire k a limit=1 lease=100 => ticket 7"), [Rule::Reply]);
    assert_eq!(
        broken("0 1 c0.0 n0 acquire k a limit=1 lease=100 queue=9 => ticket 9007199254740992"),
        [Rule::Reply]
    );
}

#[test]
fn a_place_may_be_withdrawn() {
    let text = PLACE.replace(
        "80 81 c1.1 n0 acquire k b limit=1 lease=900 queue=300 => granted 11",
        "80 81 c1.1 n0 check k b => held 11 800",
    );
    assert_good(&text);
    let withdrawn = format!("{text} 45 46 c1.2 n0 release k b => no");
    assert_eq!(broken(&withdrawn), [Rule::Release]);
    // A repetition may have come after it.
    assert_good(&withdrawn.replace("45 46", "40 46"));
    assert_good(&format!("{withdrawn}\n 41 42 c1.3 n0 acquire k b limit=1 lease=900 queue=300 => gave-up"));
}

#[test]
fn replies_that_nothing_explains_are_found() {
    assert_eq!(broken("0 1 c0.0 n0 ping => odd 7"), [Rule::Reply]);
    assert_eq!(broken("0 1 c0.0 n0 release k a => error ERR no"), [Rule::Reply]);
    assert_good("0 1 c0.0 n0 release k a => error READONLY you cannot");
    let lost = "0 1 c0.0 n0 open => done\n 2 9 c0.0 n0 ping => lost";
    assert_eq!(broken(lost), [Rule::Reply]);
    assert_good(&format!("{lost}\n 5 20 fault n0 kill"));
    assert_eq!(broken(&format!("{lost}\n 5 20 fault n1 kill")), [Rule::Reply]);
    assert_eq!(broken(&format!("{lost}\n 5 20 fault n0 stop")), [Rule::Reply]);
}

#[test]
fn losses_are_counted() {
    let record = record(
        "0 1 c0.0 n0 acquire k a limit=1 lease=1000 => granted 10
         2 2 c0.0 n0 write k a 10 => done
         3 9 fault all failover
        10 11 c1.0 n1 acquire k b limit=1 lease=1000 => granted 11
        12 12 c1.0 n1 write k b 11 => done
        13 13 c0.0 n0 write k a 10 => stale
        14 15 c0.1 n1 extend k a lease=1000 => no",
    );
    let losses = losses::count(&record.history, &record.terms);
    let counted = (losses.grants, losses.overlaps, losses.early_ends, losses.fallen_fences);
    assert_eq!(counted, (2, 1, 1, 0));
    assert_eq!((losses.overtaken_writes, losses.let_through, losses.turned_away), (1, 0, 0));
}

/// The second fence is below the first: the resource cannot tell who comes too late.
#[test]
fn what_fences_cannot_help_is_counted() {
    let start = "0 1 c0.0 n0 acquire k a limit=1 lease=1000 => granted 10
        10 11 c1.0 n1 acquire k b limit=1 lease=1000 => granted 9\n";
    let count = |writes: &str| {
        let record = record(&format!("{start}{writes}"));
        let losses = losses::count(&record.history, &record.terms);
        assert_eq!(losses.fallen_fences, 1);
        (losses.overtaken_writes, losses.let_through, losses.turned_away)
    };
    let late = "12 12 c1.0 n1 write k b 9 => done\n 13 13 c0.0 n0 write k a 10 => done";
    assert_eq!(count(late), (1, 1, 0));
    let early = "12 12 c0.0 n1 write k a 10 => done\n 13 13 c1.0 n0 write k b 9 => stale";
    assert_eq!(count(early), (0, 0, 1));
}

#[test]
fn an_excerpt_marks_what_matters_and_leaves_out_what_does_not() {
    let record = record(
        "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
         2 3 c2.0 n0 acquire l z limit=1 lease=100 => granted 11
         3 4 c1.0 n0 check k b => null
         3 4 c3.0 n0 look k => queue
         4 5 fault n0 pause
         5 6 c1.0 n0 acquire k b limit=1 lease=100 => granted 12",
    );
    let violations = check(&record.history, &record.terms);
    assert_eq!(
        excerpt::show(&record.history, &violations[0]),
        "\
admission: b was granted k while a certainly held it
  #       sent     answered  who     node  request => answer
>        0.000        1.000  c0.0    n0    acquire k a limit=1 lease=100 => granted 10
         3.000        4.000  c1.0    n0    check k b => null
         4.000        5.000  fault   n0    pause
>        5.000        6.000  c1.0    n0    acquire k b limit=1 lease=100 => granted 12
"
    );
}

/// Every form of a line, once.
const ALL_FORMS: &str = "\
terms fences=per-node-and-key patience=1000.000 claim=5000.000 writes=lost errors=MOVED,ASK
#       sent     answered  who     node  request => answer
       0.001        1.000  c0.1    n2    open => done
       0.002        1.000  c0.1    n2    acquire k a limit=1 lease=100 => granted 10
       0.003        1.000  c0.1    n2    acquire k a limit=shared lease=100 session => null
       0.004        1.000  c0.1    n2    acquire k a limit=5 lease=100 block=7 => gave-up
       0.005        1.000  c0.1    n2    acquire k a limit=5 lease=100 block=0 session => unconfirmed
       0.005        1.000  c0.1    n2    acquire k a limit=5 lease=100 level=2 => granted 10
       0.005        1.000  c0.1    n2    acquire k a limit=5 lease=100 weight=2 level=2 => granted 10
       0.005        1.000  c0.1    n2    macquire k,l a limit=5 lease=100 weight=2 block=0 => granted 10
       0.005        1.000  c0.1    n2    acquire k a limit=5 lease=100 queue=300 => ticket 17
       0.005        1.000  c0.1    n2    acquire k a limit=5 lease=100 level=1 block=20 queue=300 => null
       0.005        1.000  c0.1    n2    acquire k a limit=5 lease=100 level=1 block=0 session => granted 10
       0.006        1.000  c0.1    n2    release k a => yes
       0.006        1.000  c0.1    n2    release k a level=2 => yes
       0.007        1.000  c0.1    n2    release k a => no
       0.007        1.000  c0.1    n2    mrelease k,l a => count 2
       0.007        1.000  c0.1    n2    release k a => either
       0.008        1.000  c0.1    n2    mextend k,l a lease=9 => count 0
       0.008        1.000  c0.1    n2    extend k a lease=9 => lost
       0.009        1.000  c0.1    n2    check k a => held 10 99
       0.009        1.000  c0.1    n2    expire k ttl=20 => yes
       1.000        9.000  fault   all   failover to n1
       1.000        never  fault   n0    kill
       1.000        1.000  c0.1    n2    look k => queue
       1.001        1.001  c0.1    n2    look k => queue a b
       1.002        1.002  c0.1    n2    write k a 10 => stale
       1.002        1.002  c0.1    n2    guard k a set x 1 => done
       1.002        1.002  c0.1    n2    guard k a set x 2 => notowner
       1.002        1.002  c0.1    n2    read x => value 1
       1.003        1.003  c0.1    n2    ping => odd +\"NO\"
       1.004        1.004  c0.1    n2    ping => error ERR it is not so
       1.005        1.005  c0.1    n2    close => done
       2.000        3.000  fault   n0    stop
       2.001        3.000  fault   n0    pause of all
       2.002        3.000  fault   n0    move slot 1
       2.003        3.000  fault   n0    rewrite
       2.004        3.000  fault   n0    clock set back
";

#[test]
fn a_history_is_written_down_as_it_is_read() {
    assert_eq!(record(ALL_FORMS).to_string(), ALL_FORMS);
}

#[test]
fn what_cannot_be_read_is_said() {
    for line in [
        "0 1 c0.0 n0 acquire k a limit=1 => null",
        "0 1 c0.0 n0 acquire k a limit=1 lease=1 block=2 session more => null",
        "0 1 c0.0 n0 acquire k a limit=1 lease=1 block=2 level=2 => null",
        "0 1 c0.0 n0 acquire k a limit=1 lease=1 level=-1 => null",
        "0 1 c0.0 n0 acquire k a limit=1 lease=1 queue=2 block=2 => null",
        "0 1 c0.0 n0 acquire k a limit=1 lease=1 queue=2 => ticket",
        "0 1 c0.0 n0 release k a 2 => yes",
        "0 1 c0.0 n0 expire k => yes",
        "0 1 c0.0 n0 release k a => perhaps",
        "0 1 c0.0 n0 release k a",
        "0 1 c0 n0 ping => done",
        "0.1 1 c0.0 n0 ping => done",
        "0 1 fault n0 flood",
        "terms fences=none patience=1.000 claim=1.000 writes=kept errors=",
    ] {
        let error = format!("{ONE_SEQUENCE}{line}").parse::<Record>().unwrap_err();
        assert_eq!(error, format!("line 2 cannot be read: {line}"));
    }
    assert_eq!("".parse::<Record>(), Err("there is no line of terms".to_owned()));
}

#[test]
fn several_locks_are_one_hold_each() {
    let text = "0 1 c0.0 n0 macquire k,l a limit=1 lease=100 => granted 10
         2 3 c1.0 n0 acquire l b limit=1 lease=100 => granted 11";
    assert_eq!(broken(text), [Rule::Admission]);
    assert_eq!(broken(&text.replace("acquire l b", "macquire m,l b")), [Rule::Admission]);
    assert_good(&text.replace("acquire l b", "acquire m b"));
    assert_good(&text.replace("2 3", "1 2 c0.0 n0 release l a => yes\n 2 3"));
    assert_good(&text.replace("2 3", "1 2 c0.0 n0 mrelease k,l a => count 2\n 2 3"));
    assert_eq!(
        broken(&text.replace("2 3", "1 2 c0.0 n0 release k a => yes\n 2 3")),
        [Rule::Admission],
        "each lock is released by itself"
    );
    // What is wrong with both is said once.
    assert_eq!(broken(&text.replace("acquire l b", "macquire k,l b")), [Rule::Admission]);
    assert_eq!(
        broken("0 2000 c0.0 n0 macquire k,l,k a limit=1 lease=100 block=500 => null"),
        [Rule::LateAnswer]
    );
}

#[test]
fn several_locks_have_one_fence_that_rises() {
    let text = "0 1 c0.0 n0 macquire k,l a limit=1 lease=100 => granted 10
         2 3 c1.0 n0 acquire m b limit=1 lease=100 => granted 11
         4 5 c2.0 n0 macquire n,o c limit=1 lease=100 => granted 12";
    assert_good(text);
    assert_eq!(broken(&text.replace("granted 11", "granted 10")), [Rule::Fence]);
    assert!(broken(&text.replace("granted 12", "granted 11")).contains(&Rule::Fence));
    // They may be found one by one, by who has missed the reply.
    let found = "0 1 c0.0 n0 macquire k,l a limit=1 lease=100 => gave-up
         2 3 c0.1 n0 acquire k a limit=1 lease=100 => granted 10
         4 5 c0.1 n0 acquire l a limit=1 lease=100 => granted 10";
    assert_good(found);
    assert!(broken(&found.replace("macquire k,l a", "macquire k,m a")).contains(&Rule::Fence));
    assert!(broken(&found.replace("gave-up", "null")).contains(&Rule::Fence));
}

/// What it holds may have to be given back first, and what it is granted anew has a fence of its own.
#[test]
fn who_holds_some_of_several_locks_may_be_refused_the_others() {
    let text = "0 1 c0.0 n0 macquire k,l a limit=1 lease=100 => granted 10
         2 3 c0.0 n0 release k a => yes
         4 5 c0.0 n0 macquire k,l a limit=1 lease=100 => null
         6 7 c0.0 n0 check l a => held 10 90";
    assert_good(text);
    assert_eq!(
        broken(
            &text
                .replace("macquire k,l a limit=1 lease=100 => null", "acquire l a limit=1 lease=100 => null")
        ),
        [Rule::EarlyEnd]
    );
    assert_good(&text.replace("=> null", "=> granted 11").replace("held 10", "held 11"));
    assert!(broken(&text.replace("=> null", "=> granted 9")).contains(&Rule::EarlyEnd));
}

#[test]
fn a_count_tells_of_all_or_of_none_and_leaves_the_rest_open() {
    let text = "0 1 c0.0 n0 macquire k,l,m a limit=1 lease=100 => granted 10
         2 3 c0.0 n0 mrelease k,l,m a => count 3
         4 5 c1.0 n0 macquire k,l,m b limit=1 lease=100 => granted 11";
    assert_good(text);
    assert_eq!(broken(&text.replace("count 3", "count 0")), [Rule::EarlyEnd]);
    assert_eq!(broken(&text.replace("count 3", "count 4")), [Rule::Reply]);
    // It held all of them.
    assert_eq!(broken(&text.replace("count 3", "count 2")), [Rule::EarlyEnd]);
    // One of them had ended, or may have.
    assert_good(&text.replace("count 3", "count 2").replace("2 3", "1 2 c0.0 n0 release l a => yes\n 2 3"));
    assert_eq!(
        broken(&text.replace("count 3", "count 1").replace("2 3", "1 2 c0.0 n0 release l a => yes\n 2 3")),
        [Rule::EarlyEnd]
    );
    assert_good(&text.replace("count 3", "count 2").replace("2 3", "2 103").replace("4 5", "104 105"));
    // And whichever it was, none is held after it.
    let held = text.replace("count 3", "count 2").replace("2 3", "1 2 c0.0 n0 release l a => yes\n 2 3");
    let held = format!("{held}\n 6 7 c0.0 n0 check k a => held 10 90");
    assert_eq!(broken(&held), [Rule::Release]);
    let extended = "0 1 c0.0 n0 macquire k,l a limit=1 lease=100 => granted 10
        50 51 c0.0 n0 mextend k,l a lease=100 => count 2
       120 121 c1.0 n0 acquire l b limit=1 lease=100 => granted 11";
    assert_eq!(broken(extended), [Rule::Admission]);
    assert_eq!(broken(&extended.replace("count 2", "count 1")), [Rule::EarlyEnd]);
    assert_good(
        &extended.replace("count 2", "count 1").replace("50 51", "50 51 c0.0 n0 release k a => yes\n 52 53"),
    );
    assert_good(&extended.replace("count 2", "gave-up"));
}

#[test]
fn several_locks_are_granted_together_or_not_at_all() {
    let text = "0 20 c0.0 n0 macquire k,l a limit=1 lease=100 block=50 => gave-up
        21 22 c0.1 n0 check k a => held 10 90
        23 24 c0.1 n0 check l a => null";
    assert_eq!(broken(text), [Rule::Several]);
    assert_good(&text.replace("check l a => null", "check l a => held 10 90"));
    for free in ["release l a => no", "extend l a lease=100 => no", "guard l a set x 1 => notowner"] {
        assert_eq!(broken(&text.replace("check l a => null", free)), [Rule::Several], "{free}");
    }
    for held in ["release k a => yes", "extend k a lease=100 => yes", "guard k a set x 1 => done"] {
        assert_eq!(broken(&text.replace("check k a => held 10 90", held)), [Rule::Several], "{held}");
    }
    for count in ["mrelease k,l a => count 1", "mextend k,l a lease=100 => count 1"] {
        let counted = text.replace("check k a => held 10 90", count);
        assert!(broken(&counted).contains(&Rule::Several), "{count}");
        let ended = counted.replace("21 22", "20 21 c0.1 n0 release l a => no\n 21 22");
        assert!(!broken(&ended).contains(&Rule::Several), "{count}");
    }
    assert_good(&text.replace("check k a => held 10 90", "mrelease k,l a => count 2"));
    // It may have been granted after that was seen.
    assert_good(&text.replace("23 24", "19 20"));
    // Something may have ended it: its lease, a release, a time to live, a crash.
    assert_good(&text.replace("23 24", "23 101"));
    assert_good(
        &text.replace("23 24", "22 23 c0.1 n0 release l a => lost\n 22 22 fault all failover\n 23 24"),
    );
    assert_good(&text.replace("23 24", "22 23 c1.0 n0 expire l ttl=0 => yes\n 23 24"));
    assert_good(&text.replace("23 24", "22 23 fault all failover\n 23 24"));
    // It has asked for one of them beside.
    assert_good(&text.replace("0 20", "0 20 c0.2 n0 acquire k a limit=1 lease=100 => gave-up\n 0 20"));
    // None is none.
    let nothing = text.replace("gave-up", "null").replace("block=50", "");
    assert_eq!(broken(&nothing), [Rule::Several]);
    assert_good(&nothing.replace("21 22 c0.1 n0 check k a => held 10 90", ""));
}

#[test]
fn who_waits_for_several_locks_waits_in_each_queue() {
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=500 => granted 10
         2 90 c1.0 n0 macquire k,l b limit=1 lease=100 block=400 => granted 12
         5 6 c2.0 n0 look k => queue b
        10 11 c3.0 n0 acquire l c limit=1 lease=10 => granted 11
        80 81 c0.0 n0 release k a => yes";
    assert_eq!(broken(text), [Rule::Overtaking]);
    assert_eq!(broken(&text.replace("acquire l c", "macquire l,m c")), [Rule::Overtaking]);
    assert_good(&text.replace("acquire l c", "acquire m c"));
    assert_good(&text.replace("10 11", "3 11"));
    // It was withdrawn before, from either lock.
    let withdrawn = text.replace("2 90", "2 10").replace("block=400 => granted 12", "block=400 => null");
    assert_good(&withdrawn.replace("5 6", "7 8 c4.0 n0 mrelease k,l b => count 0\n 5 6"));
    assert_good(&withdrawn.replace("5 6", "7 8 c4.0 n0 release l b => no\n 5 6"));
    assert_eq!(broken(&withdrawn), [Rule::EarlyNull]);
}

#[test]
fn a_place_for_several_locks_is_one_in_each_queue() {
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=500 => granted 10
         2 3 c1.0 n0 macquire k,l b limit=1 lease=100 queue=400 => ticket 7
        10 11 c3.0 n0 acquire l c limit=1 lease=10 => granted 11
        80 81 c0.0 n0 release k a => yes
        90 91 c1.0 n0 macquire k,l b limit=1 lease=100 queue=400 => granted 12";
    assert_eq!(broken(text), [Rule::Overtaking]);
    let good = text.replace("acquire l c", "acquire m c");
    assert_good(&good);
    let ticket =
        good.replace("10 11", "30 31 c1.0 n0 macquire k,l b limit=1 lease=100 queue=400 => ticket 7\n 10 11");
    assert_good(&ticket);
    // Where a slot has moved it may be another place since, in both queues.
    let twice = ticket
        .replace("10 11", "20 21 c1.0 n0 macquire k,l b limit=1 lease=100 queue=400 => ticket 7\n 10 11");
    assert_good(&format!("{twice}\n 22 23 fault all move"));
    let lost =
        good.replace("10 11", "30 31 c1.0 n0 macquire k,l b limit=1 lease=100 queue=400 => ticket 8\n 10 11");
    assert!(broken(&lost).contains(&Rule::Place));
    // A release at one of them may have ended it.
    assert_good(&lost.replace("30 31", "20 21 c1.0 n0 release l b => no\n 30 31"));
    // Of who asks for them one by one, each has a place of its own.
    let shared = "2 3 c1.0 n0 acquire k b limit=1 lease=100 queue=400 => ticket 7
         4 5 c1.0 n0 acquire l b limit=1 lease=100 queue=400 => ticket 7";
    assert_eq!(broken(shared), [Rule::Place]);
}

#[test]
fn a_release_leaves_the_levels_below_it() {
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
         2 3 c0.0 n0 acquire k a limit=1 lease=100 level=3 => granted 10
         4 5 c0.0 n0 release k a level=3 => yes
         6 7 c0.0 n0 release k a level=2 => yes
         8 9 c0.0 n0 release k a => yes";
    assert_good(text);
    // Two were left, and one after that.
    assert_eq!(broken(&text.replace("level=2 => yes", "level=2 => no")), [Rule::Level]);
    assert_eq!(broken(&text.replace("release k a => yes", "release k a => no")), [Rule::EarlyEnd]);
    // What is above goes with it.
    let above = text.replace("a level=3 => yes", "a level=2 => yes");
    assert_eq!(broken(&above), [Rule::Level]);
    assert_eq!(
        broken(&above.replace("6 7 c0.0 n0 release k a level=2", "6 7 c0.0 n0 release k a level=3")),
        [Rule::Level]
    );
    assert_good(
        &above.replace("6 7 c0.0 n0 release k a level=2 => yes", "6 7 c0.0 n0 release k a level=2 => no"),
    );
    // Several locks are as deep as was asked for all of them.
    let several = "0 1 c0.0 n0 macquire k,l a limit=1 lease=100 => granted 10
         2 3 c0.0 n0 macquire k,l a limit=1 lease=100 level=2 => granted 10
         4 5 c0.0 n0 release l a level=2 => yes";
    assert_good(several);
    assert_eq!(broken(&several.replace("level=2 => yes", "level=2 => no")), [Rule::Level]);
}

#[test]
fn a_guarded_write_is_one_of_a_holder() {
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
         2 3 c0.0 n0 guard k a set x one => done
         4 5 c0.0 n0 release k a => yes
         6 7 c0.0 n0 guard k a set x two => notowner
         8 9 c1.0 n0 read x => value one";
    assert_good(text);
    assert_eq!(
        broken(&text.replace("guard k a set x one => done", "guard k a set x one => notowner"))[0],
        Rule::EarlyEnd
    );
    // Before it held the lock, after it did, or never.
    let never = text.replace("guard k a set x one", "guard k z set x one");
    assert_eq!(broken(&never), [Rule::Guard]);
    assert_good(&never.replace("0 1 c0", "0 1 c5.0 n0 acquire k z limit=1 lease=100 => gave-up\n 0 1 c0"));
    assert_eq!(
        broken(&never.replace("0 1 c0", "0 1 c5.0 n0 acquire k z limit=1 lease=100 => null\n 0 1 c0")),
        [Rule::Guard]
    );
    let after = text.replace("x two => notowner", "x two => done");
    assert!(broken(&after).contains(&Rule::Release));
    // It was on its way.
    assert_good(&text.replace("6 7", "3 7"));
    // While somebody else held it.
    let beside = "0 1 c0.0 n0 acquire k a limit=1 lease=10 => granted 10
        50 51 c1.0 n0 acquire k b limit=1 lease=100 => granted 11
        60 61 c0.0 n0 guard k a set x one => done";
    assert_eq!(broken(beside), [Rule::Admission]);
    assert_good(&beside.replace("one => done", "one => notowner"));
    assert_good(&beside.replace("60 61", "40 61"));
}

#[test]
fn guarded_writes_follow_the_fences() {
    // Nothing is certain of the hold of `a`, whose first request may have been carried out at any time.
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=20 => granted 10
         2 3 c0.0 n0 extend k a lease=5 => gave-up
        50 51 c1.0 n0 acquire k b limit=1 lease=10 => granted 11
        52 53 c1.0 n0 guard k b set x two => done
        90 91 c0.1 n0 guard k a set x one => done";
    assert!(broken(text).contains(&Rule::Guard));
    assert_good(&text.replace("one => done", "one => notowner"));
    assert_good(
        &text.replace(
            "90 91 c0.1 n0 guard k a set x one => done",
            "10 11 c0.1 n0 guard k a set x one => done",
        ),
    );
    // Readers write as they like.
    assert_good(&text.replace("limit=1", "limit=shared"));
    // What is not known is not later either.
    let unknown =
        format!("{}\n 95 96 c2.0 n0 read x => value one", text.replace("one => done", "one => gave-up"));
    assert_eq!(broken(&unknown), [Rule::Guard]);
    assert_good(&unknown.replace("value one", "value two"));
    assert_good(&unknown.replace("limit=1", "limit=shared"));
    // The older one may have been granted the lock again.
    assert_good(&unknown.replace("95 96", "60 61 c0.2 n0 acquire k a limit=1 lease=20 => gave-up\n 95 96"));
}

#[test]
fn what_is_read_was_written_and_not_refused_nor_overwritten() {
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
         2 3 c0.0 n0 guard k a set x one => done
         4 5 c0.0 n0 guard k a set x two => done
         6 7 c1.0 n0 read x => value two";
    assert_good(text);
    assert_eq!(broken(&text.replace("value two", "value one")), [Rule::Guard]);
    assert_eq!(broken(&text.replace("value two", "value three")), [Rule::Guard]);
    assert_eq!(broken(&text.replace("value two", "null")), [Rule::Guard]);
    assert_good(&text.replace("6 7", "0 1").replace("value two", "null"));
    assert_good(&text.replace("4 5", "4 7").replace("value two", "value one"));
    assert_good(&text.replace("two => done", "two => gave-up").replace("value two", "value one"));
    assert_eq!(broken(&text.replace("6 7", "1 2")), [Rule::Guard]);
    let refused = text
        .replace("0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10", "")
        .replace("done", "notowner");
    assert_eq!(broken(&refused), [Rule::Guard]);
    assert_good(&refused.replace("value two", "null"));
    // What is acknowledged may be lost.
    let lost = format!("{LOSSY}{}\n 5 6 fault n0 kill", text.replace("value two", "value one"));
    assert_good(&lost);
    assert_eq!(broken(&lost.replace("writes=lost", "writes=kept")), [Rule::Guard]);
}

/// As where a slot is on its way or a master was replaced: the old server sends the client away, and the new one carries
/// the write out.
#[test]
fn a_write_that_was_sent_again_is_read_as_it_was_carried_out_last() {
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
         2 3 c0.0 n0 guard k a set x one => error READONLY You can't write against a read only replica.
         4 5 c0.1 n1 guard k a set x one => done
         8 9 c1.0 n1 read x => value one";
    assert_good(text);
    let overwritten = format!("{text}\n 6 7 c0.1 n1 guard k a set x two => done");
    assert_eq!(broken(&overwritten), [Rule::Guard]);
    assert_good(&overwritten.replace("value one", "value two"));
}

/// It is granted both locks at 12, and loses one to a time to live; its next request is granted that one anew.
#[test]
fn who_keeps_a_place_for_several_locks_may_lose_one_before_it_asks_again() {
    let text = "0 1 c0.0 n0 acquire k a limit=1 lease=100 => granted 10
         2 3 c1.0 n0 macquire k,l b limit=4 lease=100 queue=100 => ticket 5
         11 12 c0.0 n0 release k a => yes
         4 15 c2.0 n0 acquire k c limit=4 lease=100 block=90 => granted 12
         13 14 c3.0 n0 expire l ttl=10 => yes
         30 31 c1.0 n0 macquire k,l b limit=4 lease=100 queue=100 => granted 20";
    assert_good(text);
    assert_eq!(broken(&text.replace("expire l", "expire m")), [Rule::Overtaking]);
}

#[test]
fn who_holds_several_locks_and_waits_for_another_share_is_sent_away_when_it_loses_one() {
    let text = "0 1 c0.0 n0 macquire k,l a limit=shared lease=30 => granted 10
         2 3 c1.0 n0 acquire l b limit=shared lease=100 => granted 11
         4 31 c0.0 n0 macquire k,l a limit=1 lease=30 block=50 => null";
    assert_good(text);
    assert_eq!(broken(&text.replace("lease=30", "lease=100")), [Rule::EarlyNull]);
    assert_eq!(
        broken(&text.replace("macquire k,l a limit=shared", "acquire k a limit=shared")),
        [Rule::EarlyNull]
    );
}
