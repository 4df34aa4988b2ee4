//! Releases: they end the hold of a token, and withdraw its wait.

use lock_checker::Rule;

use super::{assert_good, broken};

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
