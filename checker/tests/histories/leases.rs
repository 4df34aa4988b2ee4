//! Leases: for how long a hold certainly stands, and which requests make that uncertain.

use lock_checker::Rule;

use super::{LOSSY, assert_good, broken};

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
