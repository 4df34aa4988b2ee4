//! Every request gets its one reply, of the kind it can have, or loses its connection for a reason.
//!
//! A reply too many would be taken for the reply to the next request, and be of the wrong kind for that: clients send PING
//! between their requests.

use std::collections::BTreeMap;

use crate::history::{Answer, Ask, History, Micros, Op};
use crate::{Rule, Violation};

/// Tickets are below that, so that every client can tell them from each other.
const TICKETS: u64 = 1 << 53;

/// Replies of the wrong kind, errors that this set-up must not answer, connections that were lost without a fault.
pub fn check(history: &History, errors: &[String]) -> Vec<Violation> {
    let opened = openings(history);
    let found = history.ops().iter().enumerate().filter_map(|(place, op)| {
        let what = match &op.answer {
            Answer::Odd(text) => format!("such a request does not have the reply {text}"),
            Answer::Ticket(ticket) if !op.ask.queues() || !(1..TICKETS).contains(ticket) => {
                format!("such a request does not have the ticket {ticket}")
            }
            Answer::Count(count) if !matches!(&op.ask, Ask::Several { keys, .. } if *count <= keys.len()) => {
                format!("such a request does not have the count {count}")
            }
            Answer::Error(text) if !is_expected(text, errors) => format!("nothing explains the error {text}"),
            Answer::Lost if !is_explained(history, op, &opened) => {
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

/// When each connection was opened, by its client and its number.
fn openings(history: &History) -> BTreeMap<(usize, usize), Micros> {
    let opens = history.ops().iter().filter(|op| op.ask == Ask::Open);
    opens.map(|op| ((op.client, op.connection), op.sent)).collect()
}

/// Whether a fault has broken connections since this one was opened.
fn is_explained(history: &History, op: &Op, opened: &BTreeMap<(usize, usize), Micros>) -> bool {
    let opened = opened.get(&(op.client, op.connection)).copied().unwrap_or(0);
    let mut faults = history.faults().iter().filter(|fault| fault.kind.breaks_connections());
    faults.any(|fault| fault.concerns(op.node) && fault.begin <= op.answered && fault.end >= opened)
}
