//! Places in the queue, kept with QUEUE: their tickets, their order, and what they are granted.

use lock_checker::Rule;

use super::{ONE_SEQUENCE, assert_good, broken};

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
