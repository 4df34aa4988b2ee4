//! Every request gets its one reply, of the kind it can have, or loses its connection for a reason.
//!
//! A reply too many would be taken for the reply to the next request, and be of the wrong kind for that: clients send PING
//! between their requests.

use crate::history::{Answer, Ask, History, Op};
use crate::{Rule, Violation};

/// Replies of the wrong kind, errors that this set-up must not answer, connections that were lost without a fault.
pub fn check(history: &History, errors: &[String]) -> Vec<Violation> {
    let found = history.ops().iter().enumerate().filter_map(|(place, op)| {
        let what = match &op.answer {
            Answer::Odd(text) => format!("such a request does not have the reply {text}"),
            Answer::Error(text) if !is_expected(text, errors) => format!("nothing explains the error {text}"),
            Answer::Lost if !is_explained(history, op) => {
                "nothing explains the loss of the connection".to_owned()
            }
            _ => return None,
        };
        Some(Violation { rule: Rule::Reply, what, ops: vec![place] })
    });
    found.collect()
}

fn is_expected(text: &str, errors: &[String]) -> bool {
    text.split(' ').next().is_some_and(|first| errors.iter().any(|error| error == first))
}

/// Whether a fault has broken connections since this one was opened.
fn is_explained(history: &History, op: &Op) -> bool {
    let mut own =
        history.ops().iter().filter(|other| (other.client, other.connection) == (op.client, op.connection));
    let opened = own.find(|other| other.ask == Ask::Open).map_or(0, |open| open.sent);
    let mut faults = history.faults().iter().filter(|fault| fault.kind.breaks_connections());
    faults.any(|fault| fault.concerns(op.node) && fault.begin <= op.answered && fault.end >= opened)
}
