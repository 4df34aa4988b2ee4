//! Histories written by hand: those that a server may give, and those that it must not, each with the rule it breaks.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use lock_checker::notation::Record;
use lock_checker::{Rule, check, excerpt, losses};

const ONE_SEQUENCE: &str = "terms fences=one-sequence patience=1000.000 writes=kept errors=READONLY\n";
const PER_NODE: &str = "terms fences=per-node-and-key patience=1000.000 writes=kept errors=MOVED\n";

const LOSSY: &str = "terms fences=one-sequence patience=1000.000 writes=lost errors=READONLY\n";

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
    // Another limit may be refused.
    assert_good(&format!("{start}50 51 c0.0 n0 acquire k a limit=2 lease=100 => null"));
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
    // It waits in vain, while the other is granted the lock.
    assert_eq!(broken(&text.replace("2 60", "2 903").replace("granted 12", "null")), [Rule::Overtaking]);
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
terms fences=per-node-and-key patience=1000.000 writes=lost errors=MOVED,ASK
#       sent     answered  who     node  request => answer
       0.001        1.000  c0.1    n2    open => done
       0.002        1.000  c0.1    n2    acquire k a limit=1 lease=100 => granted 10
       0.003        1.000  c0.1    n2    acquire k a limit=shared lease=100 session => null
       0.004        1.000  c0.1    n2    acquire k a limit=5 lease=100 block=7 => gave-up
       0.005        1.000  c0.1    n2    acquire k a limit=5 lease=100 block=0 session => unconfirmed
       0.006        1.000  c0.1    n2    release k a => yes
       0.007        1.000  c0.1    n2    release k a => no
       0.008        1.000  c0.1    n2    extend k a lease=9 => lost
       0.009        1.000  c0.1    n2    check k a => held 10 99
       1.000        9.000  fault   all   failover to n1
       1.000        never  fault   n0    kill
       1.000        1.000  c0.1    n2    look k => queue
       1.001        1.001  c0.1    n2    look k => queue a b
       1.002        1.002  c0.1    n2    write k a 10 => stale
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
        "0 1 c0.0 n0 release k a => perhaps",
        "0 1 c0.0 n0 release k a",
        "0 1 c0 n0 ping => done",
        "0.1 1 c0.0 n0 ping => done",
        "0 1 fault n0 flood",
        "terms fences=none patience=1.000 writes=kept errors=",
    ] {
        let error = format!("{ONE_SEQUENCE}{line}").parse::<Record>().unwrap_err();
        assert_eq!(error, format!("line 2 cannot be read: {line}"));
    }
    assert_eq!("".parse::<Record>(), Err("there is no line of terms".to_owned()));
}
