//! Several locks in one request: granted together or not at all, under one fence, in each queue.

use lock_checker::Rule;

use super::{assert_good, broken};

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

/// Its first hold is over when it is given a ticket. What it releases in the end its place was granted meanwhile, of which
/// nobody is told.
#[test]
fn who_kept_a_place_for_several_locks_may_release_what_it_was_not_told_of() {
    let text = "0 1 c0.0 n0 macquire k,l a limit=1 lease=10 queue=100 => granted 10
         20 21 c1.0 n0 acquire k b limit=1 lease=100 => granted 11
         22 23 c0.0 n0 macquire k,l a limit=1 lease=10 queue=100 => ticket 5
         24 25 c1.0 n0 release k b => yes
         30 31 c0.0 n0 mrelease k,l a => count 2";
    assert_good(text);
    assert_eq!(
        broken(&text.replace(
            "c0.0 n0 macquire k,l a limit=1 lease=10 queue=100 => ticket 5",
            "c2.0 n0 check k c => null"
        )),
        [Rule::Admission]
    );
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
