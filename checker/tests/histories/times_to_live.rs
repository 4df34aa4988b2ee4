//! Times to live: what EXPIRE ends, and which promises take that off.

use lock_checker::Rule;

use super::{assert_good, broken};

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
