//! Fences: they rise, and each stands for one hold.

use lock_checker::Rule;

use super::{assert_good, broken};

const PER_NODE: &str =
    "terms fences=per-node-and-key patience=1000.000 claim=5000.000 writes=kept errors=MOVED\n";

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
