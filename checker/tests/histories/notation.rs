//! How a history is written down and read, and the excerpt that is shown of it.

use lock_checker::notation::Record;
use lock_checker::{check, excerpt};

use super::{ONE_SEQUENCE, record};

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
terms fences=per-node-and-key patience=1000.000 claim=5000.000 writes=lost errors=MOVED,ASK
#       sent     answered  who     node  request => answer
       0.001        1.000  c0.1    n2    open => done
       0.002        1.000  c0.1    n2    acquire k a limit=1 lease=100 => granted 10
       0.003        1.000  c0.1    n2    acquire k a limit=shared lease=100 session => null
       0.004        1.000  c0.1    n2    acquire k a limit=5 lease=100 block=7 => gave-up
       0.005        1.000  c0.1    n2    acquire k a limit=5 lease=100 block=0 session => unconfirmed
       0.005        1.000  c0.1    n2    acquire k a limit=5 lease=100 level=2 => granted 10
       0.005        1.000  c0.1    n2    acquire k a limit=5 lease=100 weight=2 level=2 => granted 10
       0.005        1.000  c0.1    n2    macquire k,l a limit=5 lease=100 weight=2 block=0 => granted 10
       0.005        1.000  c0.1    n2    acquire k a limit=5 lease=100 queue=300 => ticket 17
       0.005        1.000  c0.1    n2    acquire k a limit=5 lease=100 level=1 block=20 queue=300 => null
       0.005        1.000  c0.1    n2    acquire k a limit=5 lease=100 level=1 block=0 session => granted 10
       0.006        1.000  c0.1    n2    release k a => yes
       0.006        1.000  c0.1    n2    release k a level=2 => yes
       0.007        1.000  c0.1    n2    release k a => no
       0.007        1.000  c0.1    n2    mrelease k,l a => count 2
       0.007        1.000  c0.1    n2    release k a => either
       0.008        1.000  c0.1    n2    mextend k,l a lease=9 => count 0
       0.008        1.000  c0.1    n2    extend k a lease=9 => lost
       0.009        1.000  c0.1    n2    check k a => held 10 99
       0.009        1.000  c0.1    n2    expire k ttl=20 => yes
       1.000        9.000  fault   all   failover to n1
       1.000        never  fault   n0    kill
       1.000        1.000  c0.1    n2    look k => queue
       1.001        1.001  c0.1    n2    look k => queue a b
       1.002        1.002  c0.1    n2    write k a 10 => stale
       1.002        1.002  c0.1    n2    guard k a set x 1 => done
       1.002        1.002  c0.1    n2    guard k a set x 2 => notowner
       1.002        1.002  c0.1    n2    read x => value 1
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
        "0 1 c0.0 n0 acquire k a limit=1 lease=1 block=2 level=2 => null",
        "0 1 c0.0 n0 acquire k a limit=1 lease=1 level=-1 => null",
        "0 1 c0.0 n0 acquire k a limit=1 lease=1 queue=2 block=2 => null",
        "0 1 c0.0 n0 acquire k a limit=1 lease=1 queue=2 => ticket",
        "0 1 c0.0 n0 release k a 2 => yes",
        "0 1 c0.0 n0 expire k => yes",
        "0 1 c0.0 n0 release k a => perhaps",
        "0 1 c0.0 n0 release k a",
        "0 1 c0 n0 ping => done",
        "0.1 1 c0.0 n0 ping => done",
        "0 1 fault n0 flood",
        "terms fences=none patience=1.000 claim=1.000 writes=kept errors=",
    ] {
        let error = format!("{ONE_SEQUENCE}{line}").parse::<Record>().unwrap_err();
        assert_eq!(error, format!("line 2 cannot be read: {line}"));
    }
    assert_eq!("".parse::<Record>(), Err("there is no line of terms".to_owned()));
}
