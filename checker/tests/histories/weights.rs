//! Weights: how much of a limit a hold takes, and what becomes of a request for another weight.

use lock_checker::Rule;

use super::{assert_good, broken};

#[test]
fn weights_add_up() {
    let text = "0 1 c0.0 n0 acquire k a limit=4 lease=100 weight=3 => granted 10
         2 3 c1.0 n0 acquire k b limit=4 lease=100 weight=2 => granted 11";
    assert_eq!(broken(text), [Rule::Admission]);
    assert_good(&text.replace("weight=2", "weight=1"));
    assert_good(&text.replace(" weight=2", ""));
    assert_good(&text.replace("limit=4", "limit=5"));
    assert_good(&text.replace("limit=4", "limit=shared"));
    // The smallest limit counts, whosever it is.
    assert_eq!(broken(&text.replace("a limit=4", "a limit=shared")), [Rule::Admission]);
    assert_eq!(broken(&text.replace("b limit=4", "b limit=shared")), [Rule::Admission]);
    // Three who have room two by two.
    let three = format!("{text}\n 4 5 c2.0 n0 acquire k c limit=6 lease=100 weight=2 => granted 12");
    assert_eq!(broken(&three.replace("limit=4", "limit=6")), [Rule::Admission]);
    assert_good(&three.replace("limit=4", "limit=7").replace("limit=6", "limit=7"));
    // At the same time, and after a wait beside one that stood throughout.
    assert_eq!(broken(&text.replace("0 1", "0 10").replace("2 3", "1 9")), [Rule::Admission]);
    assert_eq!(
        broken(&text.replace("2 3", "2 95").replace("b limit=4 lease=100", "b limit=4 lease=1")),
        [Rule::Admission]
    );
}

#[test]
fn a_weight_that_is_not_named_stays() {
    let text = "0 1 c0.0 n0 acquire k a limit=4 lease=100 weight=3 => granted 10
         2 3 c0.0 n0 acquire k a limit=4 lease=100 => granted 10
         4 5 c1.0 n0 acquire k b limit=4 lease=100 weight=2 => granted 11";
    assert_eq!(broken(text), [Rule::Admission]);
    assert_good(&text.replace("lease=100 => granted 10", "lease=100 weight=1 => granted 10"));
    // What has no reply may have made the hold, or come to nothing.
    let unknown = text.replace("weight=3 => granted 10", "weight=3 => gave-up");
    assert_good(&unknown);
    assert_eq!(
        broken(
            &unknown.replace("limit=4 lease=100 => granted 10", "limit=4 lease=100 weight=3 => granted 10")
        ),
        [Rule::Admission]
    );
    assert_good(
        &unknown.replace("limit=4 lease=100 => granted 10", "limit=4 lease=100 weight=1 => granted 10"),
    );
}

#[test]
fn a_change_of_the_weight_may_be_refused_or_carried_out_where_that_was_not_told() {
    let text = "0 1 c0.0 n0 acquire k a limit=4 lease=100 weight=1 => granted 10
         2 3 c0.0 n0 acquire k a limit=4 lease=100 weight=3 => granted 10
         4 5 c1.0 n0 acquire k b limit=4 lease=100 weight=2 => granted 11";
    assert_eq!(broken(text), [Rule::Admission]);
    assert_good(&text.replace("weight=3 => granted 10", "weight=3 => gave-up"));
    assert_good(&text.replace("weight=3 => granted 10", "weight=3 => null"));
    assert_good(&text.replace("weight=3 => granted 10", "weight=3 => error READONLY you cannot"));
    // While it is on its way, too. And what was sent before it may come after it.
    assert_good(&text.replace("2 3", "2 6").replace("b limit=4 lease=100", "b limit=4 lease=1"));
    let late = text.replace("0 1", "0 1 c0.0 n0 acquire k a limit=4 lease=100 weight=1 => granted 10\n 1 2");
    assert_eq!(broken(&late), [Rule::Admission]);
    assert_good(&late.replace(
        "1 2 c0.0 n0 acquire k a limit=4 lease=100 weight=1 => granted 10",
        "1 2 c0.0 n0 acquire k a limit=4 lease=100 weight=1 => gave-up",
    ));
    // Less is had at once, and lets others in.
    let less = text
        .replace("a limit=4 lease=100 weight=1", "a limit=4 lease=100 weight=4")
        .replace("weight=3", "weight=2");
    assert_good(&less);
    assert_eq!(broken(&less.replace("weight=2 => granted 10", "weight=2 => null")), [Rule::Admission]);
    assert_good(
        &less.replace("weight=2 => granted 10", "weight=2 => lost").replace("2 3", "2 3 fault n0 kill\n 2 3"),
    );
    // Of the weight that it has there is no refusal.
    let refused = text.replace("weight=3 => granted 10", "weight=1 => null");
    assert_eq!(broken(&refused), [Rule::EarlyEnd]);
    assert_eq!(broken(&refused.replace("weight=1 => null", "=> null")), [Rule::EarlyEnd]);
    assert_good(&refused.replace("weight=1 => null", "weight=4 => null"));
}
