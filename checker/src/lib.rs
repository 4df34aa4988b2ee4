//! Checks histories of locks.
//!
//! Clients take and give back locks on real servers, faults are injected, and all of it is written down with the times
//! at which it was sent and answered. This crate says whether what the clients were told can be the work of a server that
//! keeps its promises. In the manner of Jepsen and its checkers (Kingsbury), but for locks alone: no search for an order
//! in which the answers make sense is needed, since an interval in which a hold certainly stands follows from times.
//!
//! Everything here errs on one side: what is reported has happened. What cannot be told from the clients' times alone is
//! passed over; see [`holds`] for what is certain.
//!
//! What it does not do: talk to a server, read a clock, draw randomness. `tests/history` makes histories.
//!
//! | module | holds |
//! |---|---|
//! | [`history`] | requests, answers, faults |
//! | [`notation`] | the same as text, a line each |
//! | [`expiries`] | times to live, which end a lock early until a lease is promised after them |
//! | [`holds`] | what is certain of each hold |
//! | [`admission`] | never more weight than the rule of admission allows, and none that ends early |
//! | [`shares`] | what is certain of its limit and its weight |
//! | [`fences`] | fences rise in the order of grants |
//! | [`several`] | several locks are granted together, or not at all |
//! | [`guards`] | what is written under a guard is written by who holds the lock, in the order of fences |
//! | [`levels`] | an inner level is granted only to who holds the lock, and given back only once |
//! | [`ttl`] | no more is left of a lease than the key has to live |
//! | [`releases`] | what a release has ended goes on no more, neither a hold nor a wait |
//! | [`waits`] | nobody waits longer or shorter than asked |
//! | [`order`] | who came first is served first |
//! | [`tickets`] | a place in the queue is kept, and what it is granted can be claimed until that has ended |
//! | [`replies`] | every request has its one reply, of its kind |
//! | [`looks`] | which requests were seen waiting |
//! | [`losses`] | what was lost where Redis does not promise to keep it |
//! | [`excerpt`] | the few lines around a violation |
#![forbid(unsafe_code)]
#![allow(clippy::arithmetic_side_effects)] // an overflow ends the tool, and no server with it

pub mod admission;
pub mod excerpt;
pub mod expiries;
pub mod fences;
pub mod guards;
pub mod history;
pub mod holds;
pub mod levels;
pub mod looks;
pub mod losses;
pub mod notation;
pub mod order;
pub mod releases;
pub mod replies;
pub mod several;
pub mod shares;
pub mod tickets;
pub mod ttl;
pub mod waits;

use std::collections::BTreeSet;
use std::fmt;

pub use history::{Answer, Ask, Fault, FaultKind, History, Limit, Micros, Op};
pub use holds::Hold;

/// What is promised where a history was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How far fences rise.
    pub fences: FenceScope,
    /// How much longer than it has to take an answer may take: a bound on hangs, not on speed.
    pub patience: Micros,
    /// The longest lease of what is granted to a place in the queue before its client has asked again.
    pub claim_lease: Micros,
    /// The first words of the errors that this set-up may answer.
    pub errors: Vec<String>,
    /// Whether servers may lose what they have acknowledged, in a crash or a failover.
    pub loses_writes: bool,
}

/// Among which grants fences have to rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceScope {
    /// Among all: there is one master at a time, and who follows it knows its fences.
    OneSequence,
    /// Among the grants of each node and among those of each key, whichever nodes they are of: the wall clocks agree.
    PerNodeAndKey,
}

/// What was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// More weight at a time than the rule of admission allows.
    Admission,
    /// A hold was over before its lease was, or a second one was granted to its token.
    EarlyEnd,
    /// A fence that is not above those granted before.
    Fence,
    /// A hold that is not as deep as it was made, or deeper.
    Level,
    /// Several locks of which some were granted, and not all.
    Several,
    /// A guarded write of who did not hold the lock, or in another order than that of fences, or one that is not there.
    Guard,
    /// More is left of a lease than the key has to live.
    TimeToLive,
    /// A hold, or a wait, that went on after its release.
    Release,
    /// A place in the queue that was lost while it was kept, or a ticket that belongs to two, or a grant that is told of
    /// after its end.
    Place,
    /// A wait, or any answer, that took too long.
    LateAnswer,
    /// A wait that was given up before its time.
    EarlyNull,
    /// Somebody was served before who had come first.
    Overtaking,
    /// No reply, or one of the wrong kind, or an error that nothing explains.
    Reply,
}

/// One thing that must not have happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What was broken.
    pub rule: Rule,
    /// How, in a sentence.
    pub what: String,
    /// The requests that show it, as places in [`History::ops`].
    pub ops: Vec<usize>,
}

/// Everything in a history that must not have happened, in the order of the rules and then of time.
pub fn check(history: &History, terms: &Terms) -> Vec<Violation> {
    let (whole, history) = (history, &history.by_key());
    let found = holds::derive(history, terms.loses_writes);
    let expiries = expiries::Expiries::of(history);
    let mut violations = several::check(whole, history, &found, &expiries, terms);
    violations.extend(guards::check(history, &found.holds, terms.loses_writes));
    violations.extend(found.broken);
    violations.extend(admission::check(history, &found.holds));
    violations.extend(fences::check(history, &found.holds, terms.fences));
    violations.extend(levels::check(history));
    violations.extend(ttl::check(history, &found.holds));
    violations.extend(releases::check(history, &found.holds, terms.patience));
    violations.extend(waits::check(history, &found.holds, terms.patience));
    let places = tickets::Places::of(history, &expiries, terms.claim_lease);
    violations.extend(order::check(history, &found.holds, &places));
    violations.extend(places.check(&found.holds));
    for violation in &mut violations {
        violation.ops.iter_mut().for_each(|place| *place = history.origin(*place));
    }
    violations.extend(replies::check(whole, &terms.errors));
    violations.sort_by_key(|violation| (violation.rule, violation.ops.iter().max().copied()));
    // What is wrong with a request for several locks is found at each of them.
    let mut known = BTreeSet::new();
    violations.retain(|violation| known.insert((violation.rule, violation.ops.clone())));
    violations
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Admission => "admission",
            Self::EarlyEnd => "early end",
            Self::Fence => "fence",
            Self::Level => "level",
            Self::Several => "several",
            Self::Guard => "guard",
            Self::TimeToLive => "time to live",
            Self::Release => "release",
            Self::Place => "place",
            Self::LateAnswer => "late answer",
            Self::EarlyNull => "early null",
            Self::Overtaking => "overtaking",
            Self::Reply => "reply",
        })
    }
}
