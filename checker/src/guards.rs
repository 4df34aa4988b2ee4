//! What is written under a guard is written by who holds the lock.
//!
//! LOCK.GUARD carries a write out only while its token holds the lock, in one step with the look whether it does. So:
//!
//! 1. **No write without a hold.** A write that was carried out is one of a token that may have been granted the lock. That
//!    it had not been released since, nor the lock been granted to another, is looked at where any other answer is that says
//!    that a token holds the lock: in [`crate::releases`] and [`crate::admission`].
//! 2. **No refusal to a holder**: see [`crate::holds`].
//! 3. **Writes follow the fences.** Under a lock that is held by one at a time, no write is carried out after one under a
//!    higher fence. Nor is one that nobody knows of, and so what is read was not written under a lower fence than a write
//!    that was there before; nor was it overwritten since.
//! 4. **What was refused was not done.** Nobody reads it.

use std::collections::BTreeMap;

use crate::history::{Answer, Ask, History, Micros, Op};
use crate::holds::Hold;
use crate::{Rule, Violation};

/// A guarded write, and what is known of the fence it was made under.
struct Write<'a> {
    place: usize,
    op: &'a Op,
    value: &'a str,
    /// It is no lower than this.
    lowest: u64,
    /// It is no higher than this, if no request may have been granted another.
    highest: Option<u64>,
    /// Whether its token held the lock alone, whatever it held it for.
    is_alone: bool,
}

/// Guarded writes that must not have been carried out, and reads that show it. `loses_writes` is as in [`crate::Terms`].
pub fn check(history: &History, holds: &[Hold], loses_writes: bool) -> Vec<Violation> {
    let mut names = BTreeMap::<(&str, &str), Vec<Write<'_>>>::new();
    let tokens = history.by_token();
    let mut alone = BTreeMap::<(&str, &str), bool>::new();
    for hold in holds {
        *alone.entry((&hold.key, &hold.token)).or_insert(true) &= hold.share.most == 1;
    }
    for (place, op) in history.ops().iter().enumerate() {
        let Ask::Guard { key, token, name, value } = &op.ask else { continue };
        let lock = (key.as_str(), token.as_str());
        let asked = tokens.get(&lock).map_or(&[][..], Vec::as_slice);
        let (lowest, highest) = fences(history, asked, op);
        let is_alone = alone.get(&lock).is_some_and(|is_alone| *is_alone);
        let write = Write { place, op, value, lowest, highest, is_alone };
        names.entry((key, name)).or_default().push(write);
    }
    let may_be_lost = |begin: Micros, end: Micros| {
        loses_writes && history.has_fault(begin, end, |fault| fault.kind.breaks_connections())
    };
    let mut violations = Vec::new();
    for ((key, name), writes) in names {
        violations.extend(without_hold(history, &tokens, &writes));
        violations.extend(falls(&writes, key, &may_be_lost));
        let is_read = |op: &Op| matches!(&op.ask, Ask::Read { name: read } if read == name);
        for (place, op) in history.ops().iter().enumerate().filter(|(_, op)| is_read(op)) {
            let lost = |write: &Write<'_>| may_be_lost(write.op.sent, op.answered);
            let found = wrongly_read(&writes, op, &lost);
            violations.extend(found.map(|(what, write)| {
                let ops = write.into_iter().chain([place]).collect();
                Violation { rule: Rule::Guard, what: format!("{name} {what}"), ops }
            }));
        }
    }
    violations
}

/// Within which a fence is under which this write may have been made, by what its token asked of the lock.
fn fences(history: &History, asked: &[usize], write: &Op) -> (u64, Option<u64>) {
    let ops = asked.iter().filter_map(|place| history.op(*place));
    let (mut lowest, mut highest, mut is_open) = (0, 0, false);
    for op in ops.filter(|op| op.sent < write.answered || write.answer.is_unknown()) {
        if let Answer::Granted(fence) | Answer::Held(fence, _) = op.answer {
            highest = highest.max(fence);
            lowest = if op.answered <= write.sent { lowest.max(fence) } else { lowest };
        }
        is_open |= matches!(op.ask, Ask::Acquire { .. })
            && (op.answer.is_open() || matches!(op.answer, Answer::Error(_)));
    }
    (lowest, Some(highest).filter(|_| !is_open))
}

fn without_hold(
    history: &History,
    tokens: &BTreeMap<(&str, &str), Vec<usize>>,
    writes: &[Write<'_>],
) -> Vec<Violation> {
    let done = writes.iter().filter(|write| write.op.answer == Answer::Done);
    let is_made = |write: &&Write<'_>| {
        let name = write.op.ask.key().zip(write.op.ask.token());
        let asked = name.and_then(|name| tokens.get(&name)).map_or(&[][..], Vec::as_slice);
        let mut asked = asked.iter().filter_map(|place| history.op(*place));
        asked.any(|op| {
            matches!(op.ask, Ask::Acquire { .. })
                && !op.ask.is_inner()
                && op.answer != Answer::Null
                && op.sent < write.op.answered
        })
    };
    let told = done.filter(|write| !is_made(write)).map(|write| {
        let what = format!("{} was written by who was not granted the lock", write.value);
        Violation { rule: Rule::Guard, what, ops: vec![write.place] }
    });
    told.collect()
}

/// Writes that were carried out after one under a higher fence.
fn falls(writes: &[Write<'_>], key: &str, may_be_lost: &impl Fn(Micros, Micros) -> bool) -> Vec<Violation> {
    let done = || writes.iter().filter(|write| write.is_alone && write.op.answer == Answer::Done);
    let mut by_answer: Vec<&Write<'_>> = done().collect();
    by_answer.sort_by_key(|write| write.op.answered);
    let (mut before, mut top) = (by_answer.into_iter().peekable(), None::<&Write<'_>>);
    let mut violations = Vec::new();
    // In the order in which they were sent.
    for write in done() {
        while let Some(known) = before.next_if(|known| known.op.answered <= write.op.sent) {
            top = top.filter(|top| top.lowest >= known.lowest).or(Some(known));
        }
        let Some((top, fence)) = top.zip(write.highest) else { continue };
        if top.lowest > fence && !may_be_lost(top.op.sent, write.op.answered) {
            let what = format!(
                "{} was written under fence {fence} of {key}, after {} had been under {}",
                write.value, top.value, top.lowest
            );
            violations.push(Violation { rule: Rule::Guard, what, ops: vec![top.place, write.place] });
        }
    }
    violations
}

/// What is wrong with what was read, and the write that shows it.
fn wrongly_read(
    writes: &[Write<'_>],
    read: &Op,
    may_be_lost: &impl Fn(&Write<'_>) -> bool,
) -> Option<(String, Option<usize>)> {
    let before = || {
        let done = writes.iter().filter(|write| write.op.answer == Answer::Done);
        done.filter(|write| write.op.answered <= read.sent && !may_be_lost(write))
    };
    let value = match &read.answer {
        Answer::Value(value) => value,
        Answer::Null => {
            let write = before().next()?;
            return Some((format!("is not there, and {} was written", write.value), Some(write.place)));
        }
        _ => return None,
    };
    // One write may be sent again, to another server: what is read is the last of them that was carried out.
    let sent = || writes.iter().filter(|write| write.value == value && write.op.sent < read.answered);
    let own = || sent().filter(|write| write.op.answer != Answer::NotOwner);
    if own().next().is_none() {
        return Some(match sent().next() {
            Some(refused) => (format!("is {value}, though that was refused"), Some(refused.place)),
            None => (format!("is {value}, which nobody has written"), None),
        });
    }
    let is_after = |later: &Write<'_>, own: &Write<'_>| {
        let comes_after = !own.op.answer.is_unknown() && own.op.answered <= later.op.sent;
        let is_above =
            own.highest.is_some_and(|fence| later.is_alone && own.is_alone && later.lowest > fence);
        comes_after || is_above
    };
    let is_later = |later: &&Write<'_>| later.value != value && own().all(|own| is_after(later, own));
    let later = before().find(is_later)?;
    Some((format!("is {value}, though {} was written after it", later.value), Some(later.place)))
}
