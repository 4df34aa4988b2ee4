//! What a history comes to: broken promises, losses, and whether enough has happened for it to prove anything.

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

use lock_checker::losses::{self, Losses};
use lock_checker::notation::Record;
use lock_checker::{
    Answer, Ask, Fault, FaultKind, History, Hold, Op, Rule, Terms, Violation, check, excerpt, holds, looks,
};

use crate::run::{LAST_CLIENT, Outcome};

/// How many violations are shown.
const SHOWN: usize = 3;

/// What is promised in a set-up.
pub(crate) struct Promise {
    /// The set-up in a few words.
    pub(crate) name: &'static str,
    /// The terms its history is checked by.
    pub(crate) terms: Terms,
    /// Rules that may be broken here, because Redis may lose what it has acknowledged. How often is counted.
    pub(crate) may_break: &'static [Rule],
    /// What has to happen, and to meet with holds; where every promise is kept, with such that stand afterwards too.
    pub(crate) faults: &'static [FaultKind],
}

/// Prints what the history comes to, and gives what was lost; panics if a promise was broken, or too little happened.
#[track_caller]
pub(crate) fn judge(promise: &Promise, outcome: Outcome) -> Losses {
    let record = Record { terms: promise.terms.clone(), history: outcome.history };
    let history = &record.history;
    let violations = check(history, &record.terms);
    let broken: Vec<&Violation> =
        violations.iter().filter(|violation| !promise.may_break.contains(&violation.rule)).collect();
    let losses = losses::count(history, &record.terms);
    println!(
        "{}: {} requests, {} grants, {} faults",
        promise.name,
        history.ops().len(),
        losses.grants,
        history.faults().len()
    );
    println!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        promise.name,
        faults_of(history, promise.faults),
        losses.grants,
        losses.overlaps,
        losses.early_ends,
        losses.fallen_fences,
        losses.overtaken_writes,
        losses.let_through,
        losses.turned_away
    );
    let folder = std::env::var_os("REDIS_LOCK_HISTORY_FOLDER").map(PathBuf::from);
    if let Some(folder) = &folder {
        println!("written to {}", write(folder, promise, &record).display());
    }
    if !broken.is_empty() {
        let folder = folder.unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
        let path = write(&folder, promise, &record);
        let shown: Vec<String> =
            broken.iter().take(SHOWN).map(|violation| excerpt::show(history, violation)).collect();
        panic!(
            "{}: {} violations, the first of them here, all of the history in {}\n\n{}",
            promise.name,
            broken.len(),
            path.display(),
            shown.join("\n")
        );
    }
    if let Some(failure) = outcome.failure {
        panic::resume_unwind(failure);
    }
    assert_all_free(history);
    let missing = missing(history, promise);
    assert!(missing.is_empty(), "{}: nothing is proven, for this did not happen: {missing:?}", promise.name);
    losses
}

fn faults_of(history: &History, kinds: &[FaultKind]) -> usize {
    history.faults().iter().filter(|fault| kinds.contains(&fault.kind)).count()
}

fn write(folder: &Path, promise: &Promise, record: &Record) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let name: String =
        promise.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let path = folder.join(format!("{name}.history"));
    fs::write(&path, format!("# {}\n{record}", promise.name)).unwrap();
    path
}

/// The client that came when all others had gone was given every lock.
#[track_caller]
fn assert_all_free(history: &History) {
    let is_last = |op: &&Op| op.client == LAST_CLIENT && matches!(op.ask, Ask::Acquire { .. });
    for op in history.ops().iter().filter(is_last) {
        let is_granted = matches!(op.answer, Answer::Granted(_));
        assert!(is_granted, "everybody has gone, and nobody gets the lock:\n{op}");
    }
}

/// What has to happen in a history that is to prove anything, and did not.
fn missing(history: &History, promise: &Promise) -> Vec<String> {
    let ops = history.ops();
    let has = |found: &dyn Fn(&Op) -> bool| ops.iter().any(found);
    let acquires = |op: &Op, waits: bool| {
        matches!(op.ask, Ask::Acquire { block_ms, .. } if block_ms.is_some() == waits)
            && op.client != LAST_CLIENT
    };
    let has_waited = |op: &Op| acquires(op, true) && op.answered - op.sent > 5_000;
    let is_granted = |op: &Op| matches!(op.answer, Answer::Granted(_));
    let has_ticket = |op: &Op| matches!(op.answer, Answer::Ticket(_));
    let all_kept = promise.may_break.is_empty();
    let meets_holds = |kind: FaultKind| {
        let found = holds::derive(&history.by_key(), promise.terms.loses_writes).holds;
        let meets = |fault: &Fault| {
            let stays = if all_kept { fault.end } else { fault.begin };
            let meets = |hold: &Hold| fault.concerns(hold.node) && hold.from < fault.begin && hold.to > stays;
            found.iter().any(meets)
        };
        history.faults().iter().any(|fault| fault.kind == kind && meets(fault))
    };
    let mut due = vec![
        ("a grant at once", has(&|op| acquires(op, false) && !op.ask.queues() && is_granted(op))),
        ("a refusal", has(&|op| acquires(op, false) && op.answer == Answer::Null)),
        ("a grant after waiting", has(&|op| has_waited(op) && is_granted(op))),
        ("a wait in vain", has(&|op| has_waited(op) && op.answer == Answer::Null)),
        ("a weight", has(&|op| matches!(op.ask, Ask::Acquire { weight: Some(2..), .. }) && is_granted(op))),
        ("another share", has_changed(history)),
        ("an inner level", has(&|op| op.ask.is_inner() && is_granted(op))),
        (
            "an inner level that was given back",
            has(&|op| matches!(op.ask, Ask::Release { level: 2.., .. }) && op.answer == Answer::Yes),
        ),
        ("a time to live", has(&|op| matches!(op.ask, Ask::Expire { .. }) && op.answer == Answer::Yes)),
        ("a wait that was seen and withdrawn", has_withdrawn(history)),
        ("a place in the queue", has(&|op| acquires(op, false) && has_ticket(op))),
        ("a place after a wait", has(&|op| acquires(op, true) && has_ticket(op))),
        ("a place that was kept", has_kept(history, &has_ticket)),
        ("a place that was granted the lock", has_kept(history, &is_granted)),
        ("a client that gave up", has(&|op| op.answer == Answer::GaveUp)),
        ("a lease set anew", has(&|op| matches!(op.ask, Ask::Extend { .. }) && op.answer == Answer::Yes)),
        ("a release", has(&|op| matches!(op.ask, Ask::Release { .. }) && op.answer == Answer::Yes)),
        ("a write", has(&|op| matches!(op.ask, Ask::Write { .. }))),
        ("a queue that was seen", has(&|op| matches!(&op.answer, Answer::Queue(queue) if queue.len() > 1))),
    ]
    .into_iter()
    .map(|(what, is_there)| (what.to_owned(), is_there))
    .collect::<Vec<_>>();
    // What the module cannot do yet was not asked for.
    let several = |ask: &Ask| matches!(ask, Ask::Several { .. });
    if has(&|op| several(&op.ask)) {
        due.push(("several locks at once".to_owned(), has(&|op| several(&op.ask) && is_granted(op))));
        let counted = has(&|op| matches!(op.answer, Answer::Count(2..)));
        due.push(("several locks that were released or extended".to_owned(), counted));
    }
    let guarded = |answer: &Answer| has(&|op| matches!(op.ask, Ask::Guard { .. }) && op.answer == *answer);
    if has(&|op| matches!(op.ask, Ask::Guard { .. })) {
        due.push(("a guarded write".to_owned(), guarded(&Answer::Done)));
        due.push(("a guarded write that was refused".to_owned(), guarded(&Answer::NotOwner)));
    }
    due.extend(promise.faults.iter().map(|kind| (format!("a hold at a {kind}"), meets_holds(*kind))));
    due.into_iter().filter_map(|(what, is_there)| (!is_there).then_some(what)).collect()
}

/// Whether a request with a place in the queue was answered like that after one of its token had been told its ticket: the
/// same one, if it is a ticket.
fn has_kept(history: &History, is_such: &dyn Fn(&Op) -> bool) -> bool {
    let (ops, tokens) = (history.ops(), history.by_token());
    tokens.values().any(|places| {
        let told = |op: &Op| matches!(op.answer, Answer::Ticket(_));
        let mut kept = places.iter().map(|place| &ops[*place]).skip_while(|op| !told(op));
        let first = kept.next();
        kept.any(|op| {
            op.ask.queues()
                && is_such(op)
                && (!told(op) || first.is_some_and(|first| first.answer == op.answer))
        })
    })
}

/// Whether a token was granted another share of what it held.
fn has_changed(history: &History) -> bool {
    let (ops, tokens) = (history.ops(), history.by_token());
    tokens.values().any(|places| {
        let granted = places.iter().map(|place| &ops[*place]).filter_map(|op| match (&op.ask, &op.answer) {
            (Ask::Acquire { limit, weight, .. }, Answer::Granted(fence)) => Some((*fence, *limit, *weight)),
            _ => None,
        });
        let mut before = None;
        granted.into_iter().any(|now| before.replace(now).is_some_and(|old| old.0 == now.0 && old != now))
    })
}

/// Whether a request was seen waiting, a release was sent after that, and it was answered with null.
fn has_withdrawn(history: &History) -> bool {
    let (ops, tokens) = (history.ops(), history.by_token());
    looks::sightings(history).iter().any(|sighting| {
        let (wait, look) = (&ops[sighting.wait], &ops[sighting.look]);
        let name = wait.ask.key().zip(wait.ask.token()).unwrap();
        let is_release = |op: &Op| {
            op.ask.releases_all()
                && matches!(op.answer, Answer::Yes | Answer::No)
                && op.sent > look.answered
                && op.sent < wait.answered
        };
        wait.answer == Answer::Null && tokens[&name].iter().any(|place| is_release(&ops[*place]))
    })
}
