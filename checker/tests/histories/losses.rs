//! What is counted where Redis may lose what it has acknowledged.

use lock_checker::losses;

use super::record;

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
