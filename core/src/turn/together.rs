//! A request for several keys: all of them or none (G16).
//!
//! Each key has a turn of its own. First the request is judged at every key, and nothing changes. If it can be granted at
//! each, it is, under one fence. Otherwise it waits in the queue of each, and holds none of them meanwhile.
//!
//! Whenever it heads the queue of one of its keys and could be granted that, the others are looked at. So whichever key comes
//! last sets it off. It stands in all queues with one ticket, and the order of tickets is the same everywhere. So the oldest of
//! all that wait for several keys is ahead wherever it meets another: they never wait for each other in a circle, and none
//! starves. The price is that a key which is free can stay so for a while, because who is next needs another key as well.
//!
//! Who holds some of the keys must not wait for the others: they may be held by somebody who waits for those. It gets an
//! error. Who holds all of them may wait for more of all of them, as it may for more of one.

use smallvec::SmallVec;

use super::{Turn, session};
use crate::answer::{Answer, Grant};
use crate::fence::Fence;
use crate::hold::{Hold, Terms};
use crate::key::OwnedDbKey;
use crate::lock::{Renewal, Verdict};
use crate::outcome::{Acquired, Authority, Denied, WaitOptions};
use crate::queue::{Joining, Seat, Ticket, Waiter, WaiterLimits};
use crate::refusal::Refusal;
use crate::request::Acquire;
use crate::session::ClientId;
use crate::string_hold::StringHold;
use crate::time::Moment;
use crate::token::Token;

/// The turns at several keys, no two of which are alike. What is marked at the keys has been settled, and nothing happens
/// there between one step and the next.
pub trait Turns {
    /// How many keys there are, at least one.
    fn count(&self) -> usize;

    /// Takes a step at one of them, by its place in the request.
    fn at<R>(&mut self, place: usize, step: impl FnOnce(&mut Turn<'_>) -> R) -> R;

    /// Sees to it that there is a turn at this place, if there was none yet; it is called in the order of places. False if
    /// there can be none, since a value stands there that counts as no lock.
    fn open(&mut self, _place: usize) -> bool {
        true
    }
}

/// Takes all locks for `request`, or lets it wait for them if it may. See [`Turn::acquire`].
///
/// # Errors
/// As for [`Turn::acquire`], and [`Refusal::HeldInPart`]. Nothing has changed then.
pub fn acquire(
    turns: &mut impl Turns,
    request: &Acquire<'_>,
    connection: impl Fn() -> ClientId,
    wait: Option<WaitOptions>,
    make_token: impl FnOnce() -> Token,
) -> Result<Acquired, Refusal> {
    let acquired = try_to_acquire(turns, request, connection, wait, make_token);
    if !matches!(acquired, Ok(Acquired::Granted(..))) {
        turns.at(0, |turn| turn.outcome.denied = Denied::of(&acquired));
    }
    acquired
}

fn try_to_acquire(
    turns: &mut impl Turns,
    request: &Acquire<'_>,
    connection: impl Fn() -> ClientId,
    wait: Option<WaitOptions>,
    make_token: impl FnOnce() -> Token,
) -> Result<Acquired, Refusal> {
    let may_wait = wait.is_some();
    let own = request.token.as_ref();
    let Judged { held, ready, refused } = judge(turns, request, may_wait);
    let all_held = held == turns.count();
    if request.is_inner() && !all_held {
        // An outer hold is gone, and what works under it is to learn that.
        return Ok(Acquired::NotAvailable);
    }
    if let Some(refusal) = refused {
        return Err(refusal);
    }
    if ready == turns.count() {
        return grant(turns, request, connection, (may_wait, all_held), make_token);
    }
    let Some(wait) = wait else { return Ok(Acquired::NotAvailable) };
    if held > 0 && !all_held {
        return Err(Refusal::HeldInPart);
    }
    if all_held && each(turns, |turn| turn.upgrade_waits(own)).any(|waits| waits) {
        return Err(Refusal::Deadlock);
    }
    let token = request.token.clone().unwrap_or_else(make_token);
    let limits = wait.limits;
    let joining = turns.at(0, |turn| turn.joining(request, wait, token, all_held));
    let waiter = Waiter { is_for_several: true, ..joining.waiter };
    let stands_until = each(turns, |turn| turn.string.as_ref().and_then(StringHold::deadline)).collect();
    let holds = each(turns, |turn| turn.note_for(&waiter)).collect();
    let is_held = each(turns, |turn| turn.is_held()).collect();
    let joining = Joining { waiter, stands_until, is_held, holds, ..joining };
    let keys: SmallVec<[OwnedDbKey; 8]> = each(turns, |turn| turn.key.into()).collect();
    let closes_circle = turns.at(0, |turn| {
        let keys: SmallVec<[_; 8]> = keys.iter().map(OwnedDbKey::as_key).collect();
        turn.closes_circle(&keys, &joining)
    });
    if closes_circle {
        return Err(Refusal::Circle);
    }
    let token = &joining.waiter.token;
    let mut older: SmallVec<[Ticket; 8]> =
        each(turns, |turn| turn.table.queues.ticket_of(turn.key, token)).flatten().collect();
    older.sort_unstable();
    older.dedup();
    // It takes the place of those.
    let in_all = limits.in_all.saturating_add(older.len());
    let limits = WaiterLimits { in_all, ..limits };
    each(turns, |turn| turn.table.queues.room_for(turn.key, token, limits)).collect::<Result<(), _>>()?;
    Ok(joining.or_without_connection())
}

/// What a request finds at its keys.
#[derive(Default)]
struct Judged {
    /// How many of them its token holds.
    held: usize,
    /// How many it could be granted without waiting.
    ready: usize,
    /// What the first lock from which it could never get that refuses it with.
    refused: Option<Refusal>,
}

/// Looks at each key once.
fn judge(turns: &mut impl Turns, request: &Acquire<'_>, may_wait: bool) -> Judged {
    let own = request.token.as_ref();
    let mut judged = Judged::default();
    for place in 0..turns.count() {
        let (is_held, is_ready) = turns.at(place, |turn| {
            turn.end_lost_session(own);
            (turn.holds(own), turn.is_ready_at_once(request, may_wait))
        });
        judged.held = judged.held.saturating_add(is_held.into());
        match is_ready {
            Ok(is_ready) => judged.ready = judged.ready.saturating_add(is_ready.into()),
            Err(refusal) => judged.refused = judged.refused.or(Some(refusal)),
        }
    }
    judged
}

/// Grants all keys, at each of which the request is ready. All that is granted anew has one fence.
fn grant(
    turns: &mut impl Turns,
    request: &Acquire<'_>,
    connection: impl Fn() -> ClientId,
    (may_wait, all_held): (bool, bool),
    make_token: impl FnOnce() -> Token,
) -> Result<Acquired, Refusal> {
    let fence = if all_held { Some(Fence::NONE) } else { turns.at(0, |turn| turn.draw_fence()) };
    let fence = fence.ok_or(Refusal::FencesExhausted)?;
    let token = request.token.clone().unwrap_or_else(make_token);
    // Mostly nobody waits for any key, and there is nothing to look for.
    let somebody_waits = turns.at(0, |turn| !turn.table.queues.is_empty());
    if somebody_waits && !all_held {
        let since = each(turns, |turn| turn.has_waited_since(&token)).flatten().min();
        turns.at(0, |turn| turn.outcome.waited_since.extend(since));
    }
    let take = |turn: &mut Turn<'_>| turn.take(request, &token, fence, &connection);
    let highest =
        each(turns, take).try_fold(fence, |highest, taken| Ok::<_, Refusal>(highest.max(taken?)))?;
    if somebody_waits && may_wait {
        each(turns, |turn| turn.give_up_place(&token)).for_each(drop);
    }
    if somebody_waits {
        // Who waits behind is served by a turn of that key alone.
        each(turns, |turn| turn.table.touched(turn.key)).for_each(drop);
    }
    Ok(Acquired::Granted(token, highest))
}

/// The place of the first of its keys that a request which waits cannot be granted now. `None` if it can be granted all.
pub fn held_up_at(turns: &mut impl Turns, ticket: Ticket) -> Option<usize> {
    (0..turns.count())
        .find(|place| !turns.open(*place) || !turns.at(*place, |turn| is_ready_at(turn, ticket)))
}

/// Whether a request that waits for several keys is next at this one, and can be granted it.
pub fn is_ready_at(turn: &mut Turn<'_>, ticket: Ticket) -> bool {
    turn.is_ready_for(ticket)
}

/// Grants a request all the keys that it has waited for, if its user has the right to take them. It is ready.
pub fn serve(turns: &mut impl Turns, ticket: Ticket, has_right: bool) {
    let Some(Seat { waiter, .. }) = turns.at(0, |turn| turn.table.queues.unseat(ticket)) else { return };
    // Others may have waited behind it anywhere.
    each(turns, |turn| turn.table.touched(turn.key)).for_each(drop);
    if !has_right {
        return turns.at(0, |turn| turn.tell(waiter.client, Answer::Refused(waiter.no_permission())));
    }
    let all_held = each(turns, |turn| turn.holds(Some(&waiter.token))).all(|holds| holds);
    let fence = if all_held { Some(Fence::NONE) } else { turns.at(0, |turn| turn.draw_fence()) };
    let Some(fence) = fence else {
        return turns.at(0, |turn| turn.tell(waiter.client, Answer::Refused(Refusal::FencesExhausted)));
    };
    // A place is called at the first key alone, also where it is left to be claimed.
    let mut call = Some(ticket);
    let fences = each(turns, |turn| turn.grant_to_waiter(call.take(), &waiter, |_| Some(fence)));
    let highest = fences.flatten().max().unwrap_or(fence);
    turns.at(0, |turn| turn.announce(ticket, waiter, highest));
}

/// What a step comes to at each key, one after the other.
fn each<'t, T: Turns, R>(
    turns: &'t mut T,
    mut step: impl FnMut(&mut Turn<'_>) -> R + 't,
) -> impl Iterator<Item = R> + 't {
    (0..turns.count()).map(move |place| turns.at(place, &mut step))
}

impl Turn<'_> {
    /// Whether a request for several keys could be granted this one without waiting.
    ///
    /// # Errors
    /// What the request could not get from any lock.
    fn is_ready_at_once(&self, request: &Acquire<'_>, may_wait: bool) -> Result<bool, Refusal> {
        let token = request.token.as_ref();
        self.check_share(token, request.asked)?;
        if self.is_at_string() {
            let owns = token.is_some_and(|token| self.owns_string(token));
            let is_session = request.session_delay_ms.is_some();
            return if owns && is_session { Err(Refusal::SessionOfString) } else { Ok(owns) };
        }
        let verdict = self.lock.judge(token, request.asked, self.now);
        let is_admitted = match verdict {
            Verdict::Grant => self.is_next(token, may_wait),
            Verdict::Renew | Verdict::Upgrade => true,
            Verdict::Wait => false,
        };
        let is_held_back = verdict.gives_more() && self.is_in_grace();
        Ok(is_admitted && !is_held_back)
    }

    /// The token may head the queue, and ask again.
    fn has_waited_since(&self, token: &Token) -> Option<Moment> {
        self.table.queues.head(self.key).filter(|head| head.token == *token).map(|head| head.since)
    }

    /// Grants this key, at which the request is ready: its own hold again, or a new one under `fence`. Returns the fence.
    fn take(
        &mut self,
        request: &Acquire<'_>,
        token: &Token,
        fence: Fence,
        connection: impl Fn() -> ClientId,
    ) -> Result<Fence, Refusal> {
        let session = session(request, connection);
        if self.is_at_string() {
            self.renew_string(request, token);
            Ok(Fence::NONE)
        } else if self.holds(Some(token)) {
            let renewed = self.renew(token, Renewal::of(request, session)).ok_or(Refusal::Internal)?;
            self.table.undos.learned(self.key, renewed.fence);
            Ok(renewed.fence)
        } else {
            let has_waited = self.table.queues.is_waited_for(self.key);
            let terms = Terms::of(request, token, session);
            self.grant(Hold::grant(terms, fence, self.now), has_waited);
            Ok(fence)
        }
    }

    /// Whether the request with this ticket is next at this key, and can be granted it.
    fn is_ready_for(&mut self, ticket: Ticket) -> bool {
        if self.circumstances.authority != Authority::FULL {
            // Somebody will serve it, and is not to forget.
            self.table.touched(self.key);
            return false;
        }
        let Some((first, head)) = self.table.queues.places(self.key).next() else { return false };
        // One of the holds that it is to change may have ended. Then its wait is over, as a turn here will find.
        let holds_as_it_did = !ticket.is_ahead() || self.holds(Some(&head.token));
        let verdict = self.lock.judge(Some(&head.token), head.asked, self.now);
        first == ticket
            && holds_as_it_did
            && !self.table.undos.has_undos_at(self.key)
            && !self.is_at_string()
            && verdict != Verdict::Wait
            && !(verdict.gives_more() && self.is_in_grace())
    }

    /// Tells a waiter of its grant, or calls its place.
    pub(super) fn announce(&mut self, ticket: Ticket, waiter: Waiter, fence: Fence) {
        self.outcome.waited_since.push(waiter.since);
        match waiter.client {
            None => self.outcome.calls.push(ticket),
            Some(client) => {
                let grant = Grant { client, token: waiter.token, fence };
                self.tell(Some(client), Answer::Granted(grant));
            }
        }
    }
}
