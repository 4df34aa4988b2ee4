//! Replies: errors, lost connections and words that no request explains.

use lock_checker::Rule;

use super::{assert_good, broken};

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
