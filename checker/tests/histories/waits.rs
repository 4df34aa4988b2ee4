//! Waits with BLOCK: when they are answered, and that nobody is overtaken.

use lock_checker::Rule;

use super::{assert_good, broken};

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
