//! Guarded writes: who may write, in the order of the fences, and what is read of it.

use lock_checker::Rule;

use super::{LOSSY, assert_good, broken};

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
