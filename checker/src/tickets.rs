//! Places in the queue that outlive a request, by the tickets that clients were told.
//!
//! A ticket is never used for a second place. So a place whose ticket was told twice has been there all the time from the
//! reply to the first request to the sending of the last: nothing has ended it, and nothing was granted to it. What is
//! judged:
//!
//! 1. **A place is kept.** A request with QUEUE that is answered within the QUEUE time, counted from the sending of the one
//!    before that was told a ticket, is told the same one. Unless something may have ended the place: a release, a request
//!    that does not keep it, a fault with which it may be lost, or a grant that its client did not claim in time. There can
//!    be none of those within the lease it would have.
//! 2. **A ticket belongs to one place**, and never again to another, on the same server between two of its crashes.
//! 3. **Tickets rise** in the order in which places were taken: if one was told before another can have been taken, it is
//!    the smaller.
//! 4. **Who comes too late learns it.** A token is not told of a grant any more once somebody who cannot hold the lock
//!    beside it was granted it later, by the fences, and was told so before the token asked.
//! 5. **A place is not refused.** A request with QUEUE is answered with null only if its token was released meanwhile.
//!
//! That nobody overtakes a place is looked at in [`crate::order`].

use std::collections::BTreeMap;

use crate::expiries::Expiries;
use crate::history::{Answer, Ask, History, Micros, Op, certain_part};
use crate::holds::{Hold, has_one_share};
use crate::{Rule, Violation};

/// A request with its place in [`History::ops`].
type Numbered<'a> = (usize, &'a Op);

/// A place in a queue that a client was told of.
pub(crate) struct Place<'a> {
    /// The lock.
    pub(crate) key: &'a str,
    /// Who waits there.
    pub(crate) token: &'a str,
    /// The server that told of it.
    pub(crate) node: usize,
    ticket: u64,
    /// The first moment at which it can have been taken.
    joined: Micros,
    /// When the first reply with its ticket was there, and which request that answered.
    pub(crate) told: Micros,
    pub(crate) first: usize,
    /// When the last request was sent that was told its ticket, and which one that is.
    pub(crate) until: Micros,
    pub(crate) last: usize,
    /// What was granted to it, with the request that was told so, if that can be nothing else.
    pub(crate) granted: Option<(u64, usize)>,
    /// Whether it waits for the lock itself, and not for another limit of a hold.
    pub(crate) is_for_the_lock: bool,
}

/// All places of a history.
pub(crate) struct Places<'a> {
    history: &'a History,
    tokens: Vec<TokenStory<'a>>,
    places: Vec<Place<'a>>,
}

/// What one token that has asked with QUEUE did at one lock.
struct TokenStory<'a> {
    history: &'a History,
    expiries: &'a Expiries<'a>,
    claim_lease: Micros,
    key: &'a str,
    token: &'a str,
    ops: Vec<Numbered<'a>>,
    /// What it asked of other locks beside, if it has asked for several at once.
    beside: Vec<Numbered<'a>>,
    has_one_share: bool,
}

impl<'a> Places<'a> {
    /// Finds them. `claim_lease` is as in [`crate::Terms`].
    pub(crate) fn of(history: &'a History, expiries: &'a Expiries<'a>, claim_lease: Micros) -> Self {
        let (mut tokens, of_several) = (Vec::new(), history.of_several());
        for ((key, token), places) in history.by_token() {
            let ops: Vec<Numbered<'_>> =
                places.iter().filter_map(|place| Some((*place, history.op(*place)?))).collect();
            if ops.iter().any(|(_, op)| op.ask.queues()) {
                let has_one_share = has_one_share(&ops);
                let others = of_several.get(token).map_or(&[][..], Vec::as_slice);
                let others = others.iter().filter_map(|place| Some((*place, history.op(*place)?)));
                let is_part =
                    |place: usize| ops.iter().any(|(own, _)| history.origin(*own) == history.origin(place));
                let beside = others.filter(|(place, _)| !is_part(*place)).collect();
                tokens.push(TokenStory {
                    history,
                    expiries,
                    claim_lease,
                    key,
                    token,
                    ops,
                    beside,
                    has_one_share,
                });
            }
        }
        let places = tokens.iter().flat_map(TokenStory::places).collect();
        Self { history, tokens, places }
    }

    /// The places in the queue of a lock on a server.
    pub(crate) fn at(&self, key: &str, node: usize) -> impl Iterator<Item = &Place<'a>> {
        self.places.iter().filter(move |place| place.key == key && place.node == node)
    }

    /// Places that were lost or refused, tickets that belong to two, grants that were told of too late.
    pub(crate) fn check(&self, holds: &[Hold]) -> Vec<Violation> {
        let mut violations: Vec<Violation> = Vec::new();
        for token in &self.tokens {
            violations.extend(token.lost());
            violations.extend(token.used_up());
            violations.extend(token.refused());
        }
        violations.extend(self.shared());
        violations.extend(self.falls());
        violations.extend(too_late(self.history, holds));
        violations
    }

    /// Which life of its server a place belongs to, if it was told of in one: tickets may begin anew after a crash.
    fn life_of(&self, place: &Place<'_>) -> Option<(usize, usize)> {
        let crashes = || {
            let faults = self.history.faults().iter();
            faults.filter(|fault| fault.kind.breaks_connections() && fault.concerns(place.node))
        };
        let is_in_one =
            crashes().all(|fault| fault.end < place.joined || fault.begin > place.until.max(place.told));
        is_in_one.then(|| (place.node, crashes().filter(|fault| fault.end < place.joined).count()))
    }

    /// Tickets that two tokens were told.
    fn shared(&self) -> Vec<Violation> {
        let mut owners = BTreeMap::new();
        let mut violations = Vec::new();
        for place in &self.places {
            let Some(life) = self.life_of(place) else { continue };
            let owner = *owners.entry((life, place.ticket)).or_insert(place);
            // One request for several locks has one place in all of their queues.
            let mut parts = self.history.parts(place.first).filter_map(|part| self.history.op(part));
            let is_one = owner.token == place.token && parts.any(|op| op.ask.key() == Some(owner.key));
            if (owner.key, owner.token) != (place.key, place.token) && !is_one {
                let Place { ticket, .. } = place;
                let what = format!("{} and {} were told the same ticket {ticket}", owner.token, place.token);
                violations.push(violation(what, vec![owner.first, place.first]));
            }
        }
        violations
    }

    /// Tickets that are not above one that was told before their place was taken.
    fn falls(&self) -> Vec<Violation> {
        let mut lives = BTreeMap::<_, Vec<&Place<'_>>>::new();
        for place in &self.places {
            if let Some(life) = self.life_of(place) {
                lives.entry(life).or_default().push(place);
            }
        }
        let mut violations = Vec::new();
        for mut by_joined in lives.into_values() {
            let mut by_told = by_joined.clone();
            by_told.sort_by_key(|place| place.told);
            by_joined.sort_by_key(|place| place.joined);
            let (mut highest, mut known) = (None::<&Place<'_>>, by_told.into_iter().peekable());
            for place in by_joined {
                while let Some(before) = known.next_if(|before| before.told < place.joined) {
                    highest = highest.filter(|highest| highest.ticket > before.ticket).or(Some(before));
                }
                if let Some(highest) = highest.filter(|highest| highest.ticket > place.ticket) {
                    let what = format!(
                        "{} was told ticket {}, after {} had been told {}",
                        place.token, place.ticket, highest.token, highest.ticket
                    );
                    violations.push(violation(what, vec![highest.first, place.first]));
                }
            }
        }
        violations
    }
}

impl<'a> TokenStory<'a> {
    /// What it asked of this lock, and of others.
    fn all(&self) -> impl Iterator<Item = &Numbered<'a>> {
        self.ops.iter().chain(&self.beside)
    }

    /// The requests that were told a ticket.
    fn told(&self) -> impl Iterator<Item = (Numbered<'a>, u64)> {
        self.ops.iter().filter_map(|(at, op)| match op.answer {
            Answer::Ticket(ticket) => Some(((*at, *op), ticket)),
            _ => None,
        })
    }

    /// The last request that was told a ticket before this one was sent.
    fn told_before(&self, op: &Op) -> Option<(Numbered<'a>, u64)> {
        self.told()
            .filter(|((_, other), _)| other.answered <= op.sent)
            .max_by_key(|((_, other), _)| other.sent)
    }

    /// Its places, in the order in which it was told of them.
    fn places(&self) -> Vec<Place<'a>> {
        let mut places = Vec::<Place<'a>>::new();
        for ((at, op), ticket) in self.told() {
            let known = places.iter_mut().find(|place| {
                (place.node, place.ticket) == (op.node, ticket)
                    && !self.may_be_lost(op.node, place.until, op.answered)
            });
            if let Some(place) = known {
                if op.answered < place.told {
                    (place.told, place.first) = (op.answered, at);
                }
                (place.until, place.last) = (op.sent, at);
                continue;
            }
            places.push(Place {
                key: self.key,
                token: self.token,
                node: op.node,
                ticket,
                joined: self.joined(op, ticket),
                told: op.answered,
                first: at,
                until: op.sent,
                last: at,
                granted: None,
                is_for_the_lock: self.has_one_share,
            });
        }
        for place in &mut places {
            place.granted = self.granted(place.last);
        }
        places
    }

    /// The first moment at which the place can have been taken of which this request was the first to be told. It may have
    /// been taken by any before it, but for those that were told of another.
    fn joined(&self, op: &Op, ticket: u64) -> Micros {
        let acquires = self.ops.iter().filter(|(_, other)| matches!(other.ask, Ask::Acquire { .. }));
        let first = acquires.map(|(_, other)| other.sent).min().unwrap_or(0);
        let others = self.told().filter(|((_, other), told)| *told != ticket && other.answered <= op.sent);
        others.map(|((_, other), _)| other.sent).max().unwrap_or(first).max(first)
    }

    /// What was granted to the place that this request was told of: the next answer is of a grant, and it came before the
    /// place or an unclaimed grant can have ended.
    fn granted(&self, last: usize) -> Option<(u64, usize)> {
        let (_, told) = self.ops.iter().find(|(at, _)| *at == last)?;
        self.ops.iter().filter(|(_, op)| op.sent >= told.answered).find_map(|(at, op)| match op.answer {
            Answer::Granted(fence) if self.is_kept((last, told), (*at, op)) => Some((fence, *at)),
            _ => None,
        })
    }

    /// Requests that were told another ticket than the one before, while its place was kept.
    fn lost(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        for ((at, op), ticket) in self.told() {
            let Some(((before, kept), old)) = self.told_before(op) else { continue };
            if old != ticket && self.is_kept((before, kept), (at, op)) {
                let what =
                    format!("{} kept its place {old} for {}, and has {ticket} now", self.token, self.key);
                violations.push(violation(what, vec![before, at]));
            }
        }
        violations
    }

    /// Tickets that were told again after their place had been given up, or been granted the lock.
    fn used_up(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        for ((at, op), ticket) in self.told() {
            let earlier =
                self.told().filter(|((_, other), told)| *told == ticket && other.answered <= op.sent);
            let Some(((first, told), _)) = earlier.min_by_key(|((_, other), _)| other.answered) else {
                continue;
            };
            let uses_up = |other: &Op| {
                let has_ended = match other.ask {
                    Ask::Release { .. } => other.ask.releases_all() && other.answer.is_counted(),
                    _ => matches!(other.answer, Answer::Granted(_)) && self.has_one_share,
                };
                has_ended && told.answered <= other.sent && other.answered <= op.sent && other.node == op.node
            };
            let Some((end, by)) = self.ops.iter().find(|(_, other)| uses_up(other)) else { continue };
            if told.node == op.node && !self.may_be_lost(op.node, told.sent, op.answered) {
                let what = format!("{} was told ticket {ticket} again, whose place is gone", self.token);
                let rule = if by.ask.releases_all() { Rule::Release } else { Rule::Place };
                violations.push(Violation { rule, what, ops: vec![first, *end, at] });
            }
        }
        violations
    }

    /// Requests that were told that they have no place, though nothing has ended it.
    fn refused(&self) -> Vec<Violation> {
        let is_released = |op: &Op| {
            let mut releases = self.all().filter(|(_, other)| matches!(other.ask, Ask::Release { .. }));
            releases.any(|(_, other)| other.may_fall_into(op.sent, op.answered))
        };
        let refused = self.ops.iter().filter(|(_, op)| {
            op.ask.queues() && !op.ask.is_inner() && op.answer == Answer::Null && !is_released(op)
        });
        let what = || format!("{} was to have a place in the queue of {}", self.token, self.key);
        refused.map(|(at, _)| violation(what(), vec![*at])).collect()
    }

    /// Whether the place that one request was told of, or what was granted to it, is certainly there when the other one is
    /// carried out.
    fn is_kept(&self, (before, told): Numbered<'_>, (at, op): Numbered<'_>) -> bool {
        let between = || {
            self.all().filter(move |(other, between)| {
                *other == before || *other == at || between.may_fall_into(told.sent, op.answered)
            })
        };
        let shortest = |span: fn(&Ask) -> Option<u64>| {
            between().filter_map(|(_, op)| span(&op.ask)).min().map_or(0, certain_part)
        };
        let queue = shortest(|ask| match ask {
            Ask::Acquire { queue_ms, .. } => *queue_ms,
            _ => None,
        });
        let lease = shortest(|ask| match ask {
            Ask::Acquire { lease_ms, .. } => Some(*lease_ms),
            _ => None,
        });
        let end = told.sent.saturating_add(queue.min(lease).min(self.claim_lease));
        let end = end.min(self.expiries.first_end(self.key, told.sent));
        let keeps =
            |(other, between): &Numbered<'_>| *other == before || *other == at || keeps_place(between);
        self.has_one_share
            && told.node == op.node
            && op.answered < end
            && between().all(keeps)
            && !self.may_be_lost(op.node, told.sent, op.answered)
    }

    fn may_be_lost(&self, node: usize, begin: Micros, end: Micros) -> bool {
        self.history.has_fault(begin, end, |fault| fault.kind.unties() && fault.concerns(node))
    }
}

/// Whether the place of its token is there after this request as before it.
fn keeps_place(op: &Op) -> bool {
    match (&op.ask, &op.answer) {
        (_, Answer::Granted(_) | Answer::Held(..) | Answer::Error(_)) => false,
        (Ask::Acquire { block_ms, queue_ms, session, .. }, _) => {
            !session && (queue_ms.is_some() || block_ms.is_none())
        }
        (Ask::Extend { .. }, answer) => *answer == Answer::No,
        (Ask::Release { .. }, _) => false,
        _ => true,
    }
}

/// Grants that were told of when the lock had been granted anew, to somebody who cannot have held it beside.
fn too_late(history: &History, holds: &[Hold]) -> Vec<Violation> {
    let mut keys = BTreeMap::<(&str, usize), Vec<&Hold>>::new();
    for hold in holds {
        keys.entry((&hold.key, hold.node)).or_default().push(hold);
    }
    let mut violations = Vec::new();
    for hold in holds {
        let Some(op) = history.op(hold.granted) else { continue };
        let others = keys.get(&(hold.key.as_str(), hold.node)).into_iter().flatten();
        let next = others.into_iter().find(|other| {
            other.fence > hold.fence
                // Or else it is the fence that is wrong.
                && other.from >= hold.earliest
                && other.from <= op.sent
                && other.token != hold.token
                && other.share.excludes(hold.share)
                && !history.has_fault(hold.asked.min(other.asked), op.answered, |fault| fault.kind.unties())
        });
        if let Some(next) = next {
            let what = format!(
                "{} was told of {} under fence {}, after {} had been granted it under {}",
                hold.token, hold.key, hold.fence, next.token, next.fence
            );
            violations.push(violation(what, vec![next.granted, hold.granted]));
        }
    }
    violations
}

fn violation(what: String, ops: Vec<usize>) -> Violation {
    Violation { rule: Rule::Place, what, ops }
}
