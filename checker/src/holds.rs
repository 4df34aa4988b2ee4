//! What is certain of each hold, from the times of its client alone.
//!
//! All clients of a history and the servers they ask run on one machine, so that spans on the clients' clock are spans on
//! the servers'. Let a grant be sent for at *s* and its reply be there at *r*. Then, on a server that keeps its promises:
//!
//! 1. The grant was made at some moment from *s* to *r*, so **from *r* on the hold stands**.
//! 2. Its lease began no earlier than *s*, and leases may end late but never early, over a crash, a failover or a move to
//!    another node as well. So **it stands until *s* + lease**. The same goes for whatever begins the lease anew, EXTEND
//!    or a retry, counted from when that was sent. LOCK.CHECK says outright how much is left; but each server has a count
//!    of its own, and another one's may be ahead. So that is certain only as long as the hold is where it is.
//!    A request that names its level never makes a lease shorter: so there it is the later of the two.
//! 3. A shorter lease may be in force from the moment at which it is asked for.
//! 4. The hold may be over from the moment at which its release is sent, if that gives back all of it. Giving back an inner
//!    level ends nothing, but the hold may be less deep from then on. PEXPIRE may end it too: see [`crate::expiries`].
//! 5. A hold that is tied to its connection stands as long as that is open. It may be closed from the moment at which the
//!    client closes it, sends the request whose reply it will not get, or a fault begins after which the hold is on another
//!    server, where no connection keeps it; then its lease runs out.
//! 6. Where the token is later found to hold the lock still, under the same fence, it has held it all the time, for a
//!    lease that has ended cannot be revived. Where servers may lose what they have acknowledged it can: the end of the
//!    hold may have been lost. So nothing is certain there of a hold that outlives its lease over a crash or a failover. Its
//!    client, if it counts like this, has stopped working long before.
//! 7. A request whose outcome is not known may be carried out at any time after it was sent, even after others that were
//!    sent later. So a lease that such a request asked for caps all later ones; and after a release of unknown outcome, or
//!    a request that would tie the hold to a connection that is gone, nothing is certain any more.
//! 8. A place in the queue is granted the lock at some moment before its client is told, for no longer than until it asks
//!    again. So nothing is certain of the hold before the client has been told, as of any other; and it cannot have been
//!    granted before the last request was sent that was told a ticket.
//!
//! How much a hold counts, and how much it tolerates, is looked at in [`crate::shares`].
//!
//! An interval that keeps to all of these is one in which the server *must* have had the hold.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::expiries::Expiries;
use crate::history::{Answer, Ask, Fault, History, Micros, NEVER, Op, certain_part};
use crate::shares::{self, Requests, Share, ShareSpan};
use crate::{Rule, Violation};

/// A hold, and when it certainly stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The lock.
    pub key: String,
    /// Who holds it.
    pub token: String,
    /// Under which fence; 0 for none, where SET has made the lock.
    pub fence: u64,
    /// The share that it had in any case, whatever it named when.
    pub share: Share,
    /// What is certain of its share from the first moment at which the grant can have been made.
    pub shares: Vec<ShareSpan>,
    /// Requests that were granted another share.
    pub changes: Vec<Change>,
    /// The request that was granted, as a place in [`History::ops`].
    pub granted: usize,
    /// The server that granted it.
    pub node: usize,
    /// The first moment at which its token can have come to the queue.
    pub asked: Micros,
    /// The first moment at which the grant can have been made.
    pub earliest: Micros,
    /// From when on it certainly stood: when the client had the reply.
    pub from: Micros,
    /// The first moment at which it may have been over. Not above `from` if nothing is certain.
    pub to: Micros,
}

impl Hold {
    /// Whether it has a fence: what SET has made has none.
    pub(crate) fn has_fence(&self) -> bool {
        self.fence != 0
    }

    /// What is certain of its share all the time.
    pub(crate) fn share_during(&self, begin: Micros, end: Micros) -> Share {
        shares::over(&self.shares, begin, end).unwrap_or(self.share)
    }
}

/// A request by which a hold came to more of its lock than it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The request, as a place in [`History::ops`].
    pub granted: usize,
    /// The first moment at which it can have been carried out.
    pub earliest: Micros,
    /// When its client had the reply.
    pub from: Micros,
    /// What the hold has by it.
    pub share: Share,
}

/// What the requests of all tokens come to.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Every hold that a client was told of.
    pub holds: Vec<Hold>,
    /// Holds that were found ended, or less deep, while they certainly stood as they were.
    pub broken: Vec<Violation>,
    /// Parts of requests at several locks that came to something at some of them: those that must have done so.
    pub due: Vec<usize>,
}

/// Finds every hold, and what is certain of it, in a history [by key](History::by_key). `loses_writes` is as in [`crate::Terms`].
pub fn derive(history: &History, loses_writes: bool) -> Found {
    let (connections, expiries) = (Connections::of(history), Expiries::of(history));
    let ground = Ground { history, connections, expiries, losses: losses(history, loses_writes) };
    let mut found = Found::default();
    for ((key, token), places) in history.by_token() {
        let ops: Vec<(usize, &Op)> =
            places.iter().filter_map(|place| Some((*place, history.op(*place)?))).collect();
        let mut story = Story::new(key, token, &ops, &ground, &mut found);
        for (at, (place, op)) in ops.iter().enumerate() {
            // A release that is sent over another connection meanwhile may come first.
            let mut later = ops.iter().skip(at + 1).take_while(|(_, later)| later.sent <= op.answered);
            if !later.any(|(_, later)| matches!(later.ask, Ask::Release { .. })) {
                story.judge(*place, op);
            }
            story.go_on(*place, op);
        }
        story.end(NEVER);
    }
    found.holds.sort_by_key(|hold| (hold.from, hold.granted));
    found
}

/// What all tokens have in common.
struct Ground<'a> {
    history: &'a History,
    connections: Connections,
    expiries: Expiries<'a>,
    /// Faults over which the end of a hold may have been lost.
    losses: Vec<Range<Micros>>,
}

impl Ground<'_> {
    /// Until when a hold that this request has found certainly stays on the server where it was found.
    fn stays(&self, op: &Op) -> Micros {
        next_change(self.history, op).unwrap_or(NEVER)
    }
}

/// The first moment from this request on at which the holds of its server may be on another, or the server another.
fn next_change(history: &History, op: &Op) -> Option<Micros> {
    let faults = history.faults().iter().filter(|fault| fault.kind.unties());
    let faults = faults.filter(|fault| fault.concerns(op.node) && fault.end >= op.sent);
    faults.map(|fault| fault.begin.max(op.sent)).min()
}

fn losses(history: &History, loses_writes: bool) -> Vec<Range<Micros>> {
    let faults = history.faults().iter().filter(|fault| loses_writes && fault.kind.breaks_connections());
    faults.map(|fault| fault.begin..fault.end).collect()
}

/// A client's connection.
type ConnectionId = (usize, usize);

/// When each connection may have been closed.
struct Connections(BTreeMap<ConnectionId, Connection>);

#[derive(Clone, Copy)]
struct Connection {
    /// Its client closed it, or asked over it what was never answered.
    left: Micros,
    /// A fault began after which it keeps nothing alive.
    untied: Micros,
}

impl Connections {
    fn of(history: &History) -> Self {
        let mut connections = BTreeMap::new();
        for op in history.ops() {
            let connection = connections.entry((op.client, op.connection)).or_insert_with(|| {
                // Its first request.
                Connection { left: NEVER, untied: next_change(history, op).unwrap_or(NEVER) }
            });
            if op.ask == Ask::Close || matches!(op.answer, Answer::Lost | Answer::GaveUp) {
                connection.left = connection.left.min(op.sent);
            }
        }
        Self(connections)
    }

    /// Until when a hold that is tied to this connection certainly stands, if its lease would until `lease_end`.
    fn keep(&self, id: ConnectionId, lease_end: Micros) -> Micros {
        match self.0.get(&id) {
            Some(connection) if connection.left <= connection.untied => connection.left,
            Some(connection) => connection.untied.max(lease_end.min(connection.left)),
            None => 0,
        }
    }
}

/// A hold whose end has not been reached.
struct GrantState {
    hold: Hold,
    /// Until when its lease certainly runs.
    lease_end: Micros,
    /// Until when the key certainly is not ended by a time to live.
    ttl_end: Micros,
    /// How deep it certainly is, and since when that was asked for.
    level: u16,
    level_since: Micros,
    /// The connection that keeps it alive.
    tie: Option<ConnectionId>,
}

/// What one token did at one lock, request by request.
struct Story<'a> {
    key: &'a str,
    token: &'a str,
    /// All that it asked of the lock.
    ops: &'a [(usize, &'a Op)],
    ground: &'a Ground<'a>,
    found: &'a mut Found,
    standing: Option<GrantState>,
    fences: BTreeSet<u64>,
    strays: Strays,
}

/// Requests whose outcome is not known.
struct Strays {
    /// When the first one was sent that may have been granted.
    acquire: Option<Micros>,
    /// The shortest lease that one may yet begin.
    shortest_ms: u64,
    /// How deep a hold is at the most that one may yet make less deep.
    deepest: u16,
    /// Whether one may yet end the hold.
    may_end: bool,
}

impl<'a> Story<'a> {
    fn new(
        key: &'a str,
        token: &'a str,
        ops: &'a [(usize, &'a Op)],
        ground: &'a Ground<'a>,
        found: &'a mut Found,
    ) -> Self {
        let strays = Strays { acquire: None, shortest_ms: u64::MAX, deepest: u16::MAX, may_end: false };
        Self { key, token, ops, ground, found, standing: None, fences: BTreeSet::new(), strays }
    }

    fn go_on(&mut self, place: usize, op: &Op) {
        if self.may_be_revived(op.answered) {
            self.end(op.sent);
        }
        if op.answer.is_unknown() {
            self.stray(op);
            return;
        }
        match (&op.ask, &op.answer) {
            (Ask::Acquire { level, session, .. }, Answer::Granted(fence)) => {
                if self.fence() != Some(*fence) {
                    self.end(op.sent);
                    self.begin(place, op, *fence);
                }
                self.renew(op);
                if let Some(standing) = &mut self.standing {
                    standing.tie = session.then_some((op.client, op.connection)).or(standing.tie);
                    if level.is_some_and(|level| level > standing.level) {
                        standing.level_since = op.sent;
                    }
                    standing.level = standing.level.max(level.unwrap_or(1));
                }
            }
            (Ask::Acquire { .. }, Answer::Null | Answer::Ticket(_))
                if self.has_share(op) && !self.is_part(place) =>
            {
                self.end(op.sent);
            }
            // A ticket for several locks does not say that this one is not held. But from then on the token may be granted what
            // it has a place for, and nobody is told of that.
            (Ask::Acquire { .. }, Answer::Ticket(_)) if self.is_part(place) => {
                self.strays.acquire = self.strays.acquire.or(Some(op.sent));
            }
            // Without a stray the token holds what it was told of, and nothing else.
            (Ask::Extend { .. }, Answer::Yes) if self.strays.acquire.is_none() => {
                self.stood_until(op.sent);
                self.renew(op);
            }
            (Ask::Extend { lease_ms, .. }, Answer::Yes | Answer::Either) => self.shorten(op.sent, *lease_ms),
            (Ask::Check { .. }, Answer::Held(fence, left_ms)) if self.fence() == Some(*fence) => {
                self.stood_until(op.sent);
                let left = certain_part((*left_ms).min(self.strays.shortest_ms));
                let end = self.ground.stays(op).min(op.sent.saturating_add(left));
                let ttl_end = self.ground.expiries.first_end_found(self.key, op.sent, left);
                if let Some(standing) = &mut self.standing {
                    standing.lease_end = standing.lease_end.max(end);
                    standing.ttl_end = standing.ttl_end.max(end.min(ttl_end));
                }
            }
            (Ask::Extend { .. } | Ask::Check { .. }, Answer::No | Answer::Null | Answer::Held(..)) => {
                self.end(op.sent);
            }
            (Ask::Guard { .. }, Answer::Done) if self.strays.acquire.is_none() => self.stood_until(op.sent),
            (Ask::Guard { .. }, Answer::NotOwner) => self.end(op.sent),
            (Ask::Release { level, .. }, answer) if answer.is_counted() => {
                if op.answer == Answer::Yes && self.strays.acquire.is_none() {
                    self.stood_until(op.sent);
                }
                self.give_back(op.sent, *level);
            }
            _ => {}
        }
    }

    /// A request whose outcome is not known, and may be anything from now on.
    fn stray(&mut self, op: &Op) {
        match &op.ask {
            Ask::Acquire { session, .. } => self.strays.may_end |= *session,
            Ask::Extend { .. } => {}
            Ask::Release { level, .. } => {
                self.give_back(op.sent, *level);
                self.strays.deepest = self.strays.deepest.min(level.saturating_sub(1).max(1));
                self.strays.may_end |= op.ask.releases_all();
            }
            _ => return,
        }
        match &op.ask {
            // Nothing comes to stand by it, and no lease becomes shorter.
            Ask::Acquire { .. } if op.ask.is_inner() => {}
            Ask::Acquire { lease_ms, .. } | Ask::Extend { lease_ms, .. } => {
                if matches!(op.ask, Ask::Acquire { .. }) {
                    self.strays.acquire = self.strays.acquire.or(Some(op.sent));
                }
                self.shorten(op.sent, *lease_ms);
                self.strays.shortest_ms = self.strays.shortest_ms.min(*lease_ms);
            }
            _ => {}
        }
        if self.strays.may_end {
            self.end(op.sent);
        }
    }

    /// Whether the hold may have ended since, and be there again, for its end was lost.
    fn may_be_revived(&self, now: Micros) -> bool {
        self.standing.as_ref().is_some_and(|standing| {
            let end = self.certain_end(standing);
            self.ground.losses.iter().any(|loss| end < now && end < loss.end && loss.start < now)
        })
    }

    /// Reports an answer that says that the hold is over, or less deep than it was made, while it certainly stands.
    fn judge(&mut self, place: usize, op: &Op) {
        let Some(standing) = &self.standing else { return };
        if standing.hold.from > op.sent || op.answered >= self.certain_end(standing) {
            return;
        }
        // A replica answers this too, and while servers change places or start it may not know of the hold yet.
        let is_reading = matches!(op.ask, Ask::Check { .. });
        let may_be_behind = |fault: &Fault| fault.kind.breaks_connections() && fault.concerns(op.node);
        if is_reading && self.ground.history.has_fault(op.sent, op.answered, may_be_behind) {
            return;
        }
        let Hold { fence, granted, .. } = standing.hold;
        if op.answer == Answer::Either {
            self.found.due.push(place);
        }
        let ended = match (&op.ask, &op.answer) {
            // Who is granted some of several locks anew is told the fence of those.
            (Ask::Acquire { .. }, Answer::Granted(fence)) => {
                *fence < standing.hold.fence || (*fence != standing.hold.fence && !self.is_part(place))
            }
            // It may hold some of several locks, and have to wait for the others.
            (Ask::Acquire { .. }, Answer::Null | Answer::Ticket(_)) => {
                self.has_share(op) && !self.is_part(place)
            }
            (Ask::Release { level: level @ 2.., .. }, Answer::No) => {
                let deep = standing.level.min(self.strays.deepest);
                let is_lost =
                    |loss: &Range<Micros>| loss.end >= standing.level_since && loss.start <= op.answered;
                if *level <= deep && !self.ground.losses.iter().any(is_lost) {
                    let what = format!(
                        "{} holds {} {deep} deep under fence {fence}, and cannot give {level} back",
                        self.token, self.key
                    );
                    let ops = vec![granted, place];
                    self.found.broken.push(Violation { rule: Rule::Level, what, ops });
                }
                false
            }
            (Ask::Extend { .. } | Ask::Release { .. }, answer) => *answer == Answer::No,
            (Ask::Check { .. }, Answer::Held(fence, _)) => *fence != standing.hold.fence,
            (Ask::Check { .. }, answer) => *answer == Answer::Null,
            (Ask::Guard { .. }, answer) => *answer == Answer::NotOwner,
            _ => false,
        };
        if ended {
            let what = format!(
                "{} does not hold {} any more under fence {fence}, though its lease cannot have ended",
                self.token, self.key
            );
            self.found.broken.push(Violation { rule: Rule::EarlyEnd, what, ops: vec![granted, place] });
        }
    }

    fn begin(&mut self, place: usize, op: &Op, fence: u64) {
        if !self.fences.insert(fence) {
            return;
        }
        let hold = Hold {
            key: self.key.to_owned(),
            token: self.token.to_owned(),
            fence,
            share: Share { most: usize::MAX, weight: 1 },
            shares: Vec::new(),
            changes: Vec::new(),
            granted: place,
            node: op.node,
            asked: self.asked(op),
            earliest: self.earliest(op),
            from: op.answered,
            to: op.answered,
        };
        self.standing =
            Some(GrantState { hold, lease_end: 0, ttl_end: 0, level: 1, level_since: op.sent, tie: None });
    }

    /// The first moment at which this request, or one whose place it has taken, can have come to the queue.
    fn asked(&self, op: &Op) -> Micros {
        let mut asked = op.sent;
        for (_, other) in self.ops.iter().rev() {
            let may_wait =
                other.answer.is_open() || matches!(other.answer, Answer::Error(_)) || other.answered > asked;
            if matches!(other.ask, Ask::Acquire { .. }) && !other.ask.is_inner() && may_wait {
                asked = asked.min(other.sent);
            }
        }
        asked
    }

    /// The first moment at which what this request is told of can have been granted. Who is given a ticket holds nothing
    /// yet, unless it waits for another limit.
    fn earliest(&self, op: &Op) -> Micros {
        let tickets = self.ops.iter().filter(|(_, other)| {
            matches!(other.answer, Answer::Ticket(_)) && other.answered <= op.sent && other.node == op.node
        });
        let asked = self.asked(op);
        let Some(sent) = tickets.map(|(_, other)| other.sent).max() else { return asked };
        // The end of an older hold may have been lost.
        let may_be_older =
            || self.ground.history.has_fault(sent, op.answered, |fault| fault.kind.breaks_connections());
        if has_one_share(self.ops) && !may_be_older() { asked.max(sent) } else { asked }
    }

    /// Its lease was promised anew, and a time to live that was set before has gone.
    fn renew(&mut self, op: &Op) {
        let (Ask::Acquire { lease_ms, .. } | Ask::Extend { lease_ms, .. }) = op.ask else { return };
        let lease_end = op.sent.saturating_add(certain_part(lease_ms.min(self.strays.shortest_ms)));
        if let Some(standing) = &mut self.standing {
            let is_never_shorter = matches!(op.ask, Ask::Acquire { level: Some(_), .. });
            standing.lease_end = if is_never_shorter { standing.lease_end.max(lease_end) } else { lease_end };
            standing.ttl_end = self.ground.expiries.first_end(self.key, op.sent);
            standing.hold.to = standing.hold.to.max(op.sent);
        }
    }

    /// A level and what is above it may be given back from `moment` on.
    fn give_back(&mut self, moment: Micros, level: u16) {
        if level <= 1 {
            self.end(moment);
        } else if let Some(standing) = &mut self.standing {
            standing.level = standing.level.min(level.saturating_sub(1));
        }
    }

    fn shorten(&mut self, sent: Micros, lease_ms: u64) {
        if let Some(standing) = &mut self.standing {
            standing.lease_end = standing.lease_end.min(sent.saturating_add(certain_part(lease_ms)));
        }
    }

    fn stood_until(&mut self, moment: Micros) {
        if let Some(standing) = &mut self.standing {
            standing.hold.to = standing.hold.to.max(moment);
        }
    }

    /// The hold may be over from `moment` on, if it was not before.
    fn end(&mut self, moment: Micros) {
        if let Some(mut standing) = self.standing.take() {
            let end = self.certain_end(&standing).min(moment);
            standing.hold.to = standing.hold.to.max(end);
            self.look_at_shares(&mut standing.hold);
            self.found.holds.push(standing.hold);
        }
    }

    /// Finds out what is certain of the share of a hold whose end is known.
    fn look_at_shares(&self, hold: &mut Hold) {
        let requests = Requests { ops: self.ops, losses: &self.ground.losses };
        let Hold { fence, earliest, from, to, .. } = *hold;
        hold.shares = requests.spans(fence, earliest, from);
        hold.shares.extend(requests.spans(fence, from, to));
        hold.share = shares::over(&hold.shares, 0, NEVER)
            .unwrap_or_else(|| requests.during(fence, from, from.saturating_add(1)));
        for (place, op) in self.ops {
            let Ask::Acquire { limit, weight, .. } = &op.ask else { continue };
            if *place == hold.granted || op.sent < from || op.answer != Answer::Granted(fence) {
                continue;
            }
            let earliest = self.first_sent(op);
            let (before, since) =
                (hold.share_during(op.sent, op.sent + 1), hold.share_during(earliest, op.answered));
            let share = Share { most: limit.most(), weight: weight.map_or(since.weight, usize::from) };
            if share.most < before.most || share.weight > before.weight {
                let change = Change { granted: *place, earliest, from: op.answered, share };
                hold.changes.push(change);
            }
        }
    }

    /// The first moment at which this request, or one before it that may have asked for the same, can have been carried out.
    fn first_sent(&self, op: &Op) -> Micros {
        let mut first = op.sent;
        for (_, other) in self.ops.iter().rev() {
            let may_be_late =
                other.answer.is_open() || matches!(other.answer, Answer::Error(_)) || other.answered > first;
            if matches!(other.ask, Ask::Acquire { .. }) && may_be_late {
                first = first.min(other.sent);
            }
        }
        first
    }

    fn certain_end(&self, standing: &GrantState) -> Micros {
        let end = match standing.tie {
            _ if self.strays.may_end => 0,
            Some(connection) => self.ground.connections.keep(connection, standing.lease_end),
            None => standing.lease_end,
        };
        end.min(standing.ttl_end)
    }

    /// Whether a request is one for several locks.
    fn is_part(&self, place: usize) -> bool {
        self.ground.history.parts(place).nth(1).is_some()
    }

    fn fence(&self) -> Option<u64> {
        Some(self.standing.as_ref()?.hold.fence)
    }

    /// Whether the hold is known to have the share that `op` asks for while it does, so that it needs nobody's leave.
    fn has_share(&self, op: &Op) -> bool {
        let (Some(fence), Ask::Acquire { limit, weight, .. }) = (self.fence(), &op.ask) else { return false };
        let requests = Requests { ops: self.ops, losses: &self.ground.losses };
        requests.has_all_the_time(fence, limit.most(), weight.map(usize::from), op.sent, op.answered)
    }
}

/// Whether all these requests name the same share, so that none of them waits to change it.
pub(crate) fn has_one_share(ops: &[(usize, &Op)]) -> bool {
    let mut shares = ops.iter().filter_map(|(_, op)| match op.ask {
        Ask::Acquire { limit, weight, .. } => Some((limit, weight)),
        _ => None,
    });
    let Some((first, weighed)) = shares.next() else { return true };
    let weight = weighed.unwrap_or(1);
    shares.all(|(limit, weighed)| limit == first && weighed.is_none_or(|weighed| weighed == weight))
}
