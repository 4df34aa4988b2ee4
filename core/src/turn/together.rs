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
use crate::queue::{Joining, Seat, Ticket, Waiter};
use crate::refusal::Refusal;
use crate::request::Acquire;
use crate::session::ClientId;
use crate::string_hold::StringHold;
use crate::token::Token;

/// The turns at several keys, no two of which are alike. What is marked at the keys has been settled, and nothing happens
/// there between one step and the next.
pub trait Turns {
    /// How many keys there are, at least one.
    fn count(&self) -> usize;

    /// Takes a step at one of them, by its place in the request.
    fn at<R>(&mut self, place: usize, step: impl FnOnce(&mut Turn<'_>) -> R) -> R;
}

/// How a request stands at one of its keys.
#[derive(Clone, Copy, Debug)]
struct Standing {
    /// Whether its token holds this lock.
    is_held: bool,
    /// Whether it can be granted now.
    is_ready: bool,
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
    let standings =
        each(turns, |turn| turn.stand(request, may_wait)).collect::<Result<SmallVec<[_; 8]>, _>>()?;
    let all_held = standings.iter().all(|standing| standing.is_held);
    if request.is_inner() && !all_held {
        // An outer hold is gone, and what works under it is to learn that.
        return Ok(Acquired::NotAvailable);
    }
    if standings.iter().all(|standing| standing.is_ready) {
        // One fence for all that is granted anew.
        let fence = if all_held { Some(Fence::NONE) } else { turns.at(0, |turn| turn.draw_fence()) };
        let fence = fence.ok_or(Refusal::FencesExhausted)?;
        let token = request.token.clone().unwrap_or_else(make_token);
        turns.at(0, |turn| turn.note_wait_of(&token));
        let take = |turn: &mut Turn<'_>| turn.take(request, &token, fence, &connection, may_wait);
        let fences = each(turns, take).collect::<Result<SmallVec<[_; 8]>, _>>()?;
        return Ok(Acquired::Granted(token, fences.into_iter().max().unwrap_or(fence)));
    }
    let Some(wait) = wait else { return Ok(Acquired::NotAvailable) };
    if !all_held && standings.iter().any(|standing| standing.is_held) {
        return Err(Refusal::HeldInPart);
    }
    let own = request.token.as_ref();
    if all_held && each(turns, |turn| turn.upgrade_waits(own)).any(|waits| waits) {
        return Err(Refusal::Deadlock);
    }
    let token = request.token.clone().unwrap_or_else(make_token);
    let limits = wait.limits;
    let joining = turns.at(0, |turn| turn.joining(request, wait, token, all_held));
    let waiter = Waiter { is_for_several: true, ..joining.waiter };
    let stands_until = each(turns, |turn| turn.string.as_ref().and_then(StringHold::deadline)).collect();
    let holds = each(turns, |turn| turn.note_for(&waiter)).collect();
    let joining = Joining { waiter, stands_until, holds, ..joining };
    let keys: SmallVec<[OwnedDbKey; 8]> = each(turns, |turn| turn.key.into()).collect();
    let closes_circle = turns.at(0, |turn| {
        let keys: SmallVec<[_; 8]> = keys.iter().map(OwnedDbKey::as_key).collect();
        turn.closes_circle(&keys, &joining)
    });
    if closes_circle {
        return Err(Refusal::Circle);
    }
    let token = &joining.waiter.token;
    each(turns, |turn| turn.table.queues.room_for(turn.key, token, limits)).collect::<Result<(), _>>()?;
    Ok(joining.or_without_connection())
}

/// Whether a request that waits can be granted all its keys now.
pub fn is_ready(turns: &mut impl Turns, ticket: Ticket) -> bool {
    each(turns, |turn| turn.is_ready_for(ticket)).all(|is_ready| is_ready)
}

/// Grants a request all the keys that it has waited for, if its user has the right to take them. It is ready.
pub fn serve(turns: &mut impl Turns, ticket: Ticket, has_right: bool) {
    let Some(Seat { waiter, .. }) = turns.at(0, |turn| turn.table.queues.unseat(ticket)) else { return };
    // Others may have waited behind it anywhere.
    each(turns, |turn| turn.table.touched(turn.key)).for_each(drop);
    if !has_right {
        return turns.at(0, |turn| turn.tell(waiter.client, Answer::Refused(Refusal::NoPermission)));
    }
    let all_held = each(turns, |turn| turn.holds(Some(&waiter.token))).all(|holds| holds);
    let fence = if all_held { Some(Fence::NONE) } else { turns.at(0, |turn| turn.draw_fence()) };
    let Some(fence) = fence else {
        return turns.at(0, |turn| turn.tell(waiter.client, Answer::Refused(Refusal::FencesExhausted)));
    };
    let fences = each(turns, |turn| turn.grant_to_waiter(ticket, &waiter, |_| Some(fence)));
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
    /// How a request for several keys stands at this one.
    ///
    /// # Errors
    /// What the request could not get from any lock.
    fn stand(&mut self, request: &Acquire<'_>, may_wait: bool) -> Result<Standing, Refusal> {
        let token = request.token.as_ref();
        self.end_lost_session(token);
        self.check_share(token, request.asked)?;
        if self.is_at_string() {
            let owns = token.is_some_and(|token| self.owns_string(token));
            let is_session = request.session_delay_ms.is_some();
            return if owns && is_session {
                Err(Refusal::SessionOfString)
            } else {
                Ok(Standing { is_held: owns, is_ready: owns })
            };
        }
        let verdict = self.lock.judge(token, request.asked, self.now);
        let is_admitted = match verdict {
            Verdict::Grant => self.is_next(token, may_wait),
            Verdict::Renew | Verdict::Upgrade => true,
            Verdict::Wait => false,
        };
        let is_held_back = verdict.gives_more() && self.is_in_grace();
        Ok(Standing { is_held: self.holds(token), is_ready: is_admitted && !is_held_back })
    }

    /// The token may have headed the queue, and ask again.
    fn note_wait_of(&mut self, token: &Token) {
        let head = self.table.queues.head(self.key).filter(|head| head.token == *token);
        self.outcome.waited_since.extend(head.map(|head| head.since));
    }

    /// Grants this key, at which the request is ready: its own hold again, or a new one under `fence`. Returns the fence.
    fn take(
        &mut self,
        request: &Acquire<'_>,
        token: &Token,
        fence: Fence,
        connection: impl Fn() -> ClientId,
        may_wait: bool,
    ) -> Result<Fence, Refusal> {
        let session = session(request, connection);
        let granted = if self.is_at_string() {
            self.renew_string(request, token);
            Fence::NONE
        } else if self.holds(Some(token)) {
            let renewed = self.renew(token, Renewal::of(request, session)).ok_or(Refusal::Internal)?;
            self.table.undos.learned(self.key, renewed.fence);
            renewed.fence
        } else {
            let has_waited = self.table.queues.is_waited_for(self.key);
            let terms = Terms::of(request, token.clone(), session);
            self.grant(Hold::grant(terms, fence, self.now), has_waited);
            fence
        };
        if may_wait {
            self.give_up_place(token);
        }
        // Who waits behind is served by a turn of that key alone.
        self.table.touched(self.key);
        Ok(granted)
    }

    /// Whether the request with this ticket is next at this key, and can be granted it.
    fn is_ready_for(&self, ticket: Ticket) -> bool {
        let Some((first, head)) = self.table.queues.places(self.key).next() else { return false };
        let verdict = self.lock.judge(Some(&head.token), head.asked, self.now);
        first == ticket
            && self.circumstances.authority == Authority::FULL
            && !self.table.undos.is_marked(self.key)
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
