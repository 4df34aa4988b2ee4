//! Levels: work that takes the lock which its caller holds.

use lock_checker::Rule;

use super::{LOSSY, assert_good, broken};

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
