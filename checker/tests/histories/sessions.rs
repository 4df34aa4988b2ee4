//! Sessions: holds that stand as long as a connection.

use lock_checker::Rule;

use super::{assert_good, broken};

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
