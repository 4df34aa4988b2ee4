//! How the model grants, serves and undoes.

use lock_core::{ClientId, Fence, Moment, Refusal, Token};

use super::model::{Holder, Known, Model, Promise, Share, Waiting};
use super::steps::{CLAIM_MS, Reply, Request, Spot, Whose, subscriber};

impl Model {
    pub(super) fn grant(&mut self, spot: Spot, token: Token, request: &Request, client: ClientId) -> u64 {
        self.drop_lapsed(spot);
        self.promise(spot);
        self.last_fence += 1;
        let holder = Holder {
            token,
            fence: self.last_fence,
            share: Share { limit: request.limit.unwrap_or(1), weight: request.weight.unwrap_or(1) },
            lease_ms: counted(request.lease_ms, request.session_delay_ms.is_some()),
            end: self.now.plus_ms(counted(request.lease_ms, request.session_delay_ms.is_some())),
            level: 1,
            owner: request.owner,
            session: request.session_of(client),
            promised: Vec::new(),
        };
        self.holders.push((spot, holder));
        self.last_fence
    }

    /// A lease is promised: the key does not end before it.
    pub(super) fn promise(&mut self, spot: Spot) {
        if self.ttls.remove(&spot).is_some() {
            self.saw("time to live taken off");
        }
    }

    /// Returns the fence, and the limit, the weight and the level there were.
    pub(super) fn renew(
        &mut self,
        spot: Spot,
        token: &Token,
        request: &Request,
        client: ClientId,
    ) -> (u64, (Share, u16)) {
        self.drop_lapsed(spot);
        self.promise(spot);
        let now = self.now;
        let holder = self.hold_of_mut(spot, token).unwrap();
        let before = (holder.share, holder.level);
        let lease_ms =
            counted(request.lease_ms, request.session_delay_ms.is_some() || holder.session.is_some());
        let end = now.plus_ms(lease_ms);
        if let Some(level) = request.level {
            holder.lease_ms = holder.lease_ms.max(lease_ms);
            holder.end = holder.end.max(end);
            holder.level = holder.level.max(level);
        } else {
            (holder.lease_ms, holder.end) = (lease_ms, end);
        }
        holder.share.limit = request.limit.unwrap_or(holder.share.limit);
        holder.share.weight = request.weight.unwrap_or(holder.share.weight);
        holder.owner = request.owner.or(holder.owner);
        holder.session = request.session_of(client).or(holder.session);
        (holder.fence, before)
    }

    /// Somebody is told that the token holds: from now on nothing of it is undone.
    pub(super) fn tell(&mut self, spot: Spot, fence: u64) {
        let mut here = self.holders.iter_mut().filter(|(place, _)| *place == spot);
        let (_, holder) = here.find(|(_, holder)| holder.fence == fence).unwrap();
        holder.promised.clear();
    }

    pub(super) fn drop_lapsed(&mut self, spot: Spot) {
        let now = self.now;
        let before = self.holders.len();
        self.holders.retain(|(place, holder)| *place != spot || holder.is_live(now));
        if self.holders.len() < before {
            self.saw("lease ended");
        }
    }

    /// What is to be undone at a key is undone, then its queue is served.
    pub(super) fn settle(&mut self, spot: Spot) {
        self.unheard.remove(&spot);
        if !self.decides() || self.foreign.contains(&spot) {
            return;
        }
        let mut has_promised = self.end_sessions(spot);
        let shares: Vec<(u64, Share)> = self.live(spot).map(|holder| (holder.fence, holder.share)).collect();
        let (mut seen, mut called, now) = (Vec::new(), Vec::new(), self.now);
        self.holders.retain_mut(|(place, holder)| {
            if *place != spot {
                return true;
            }
            let others: Vec<Share> =
                shares.iter().filter(|(fence, _)| *fence != holder.fence).map(|(_, share)| *share).collect();
            let before = seen.len();
            let is_undone = undo(holder, &others, now, &mut seen, &mut called);
            has_promised |= seen[before..].iter().any(|what| *what != "grant undone");
            !is_undone
        });
        seen.into_iter().for_each(|what| self.saw(what));
        called.into_iter().for_each(|number| self.reply(subscriber(spot), Reply::Called(number)));
        if has_promised {
            self.promise(spot);
        }
        self.serve(spot);
    }

    /// The holds of closed connections end, or stay for their delay. True if one stays. This comes before anything is undone,
    /// beside which they would count.
    fn end_sessions(&mut self, spot: Spot) -> bool {
        let (mut seen, open, now) = (Vec::new(), &self.open, self.now);
        self.holders.retain_mut(|(place, holder)| {
            let closed = holder.session.filter(|session| *place == spot && !open.contains(&session.client));
            let Some(session) = closed else { return true };
            if session.delay_ms == 0 {
                seen.push("session ended");
                return false;
            }
            seen.push("session delayed");
            holder.session = None;
            holder.end = now.plus_ms(session.delay_ms.min(holder.lease_ms));
            true
        });
        let one_stays = seen.contains(&"session delayed");
        seen.into_iter().for_each(|what| self.saw(what));
        one_stays
    }

    /// Who works on an inner level has nothing to wait for once the outer hold is gone.
    fn dismiss_orphans(&mut self, spot: Spot) {
        let is_first =
            |this: &Self, waiter: &Waiting| this.head(spot).is_some_and(|head| head.number == waiter.number);
        let is_orphan = |this: &Self, waiter: &Waiting| {
            let is_inner = waiter.request.level.is_some_and(|level| level > 1);
            is_inner && (waiter.is_ahead || is_first(this, waiter)) && !this.holds(spot, &waiter.token)
        };
        let orphan = |this: &Self| this.queue(spot).find(|waiter| is_orphan(this, waiter)).cloned();
        self.put_those_ahead_right(spot);
        while let Some(orphan) = orphan(self) {
            self.saw("inner wait without its outer hold");
            self.waiting.retain(|waiter| waiter.number != orphan.number);
            self.answer_waiter(&orphan, Reply::Null);
        }
    }

    /// Who waits to change a limit, and whose hold has ended, stands where it would have stood from the start.
    fn put_those_ahead_right(&mut self, spot: Spot) {
        let is_gone = |this: &Self, waiter: &Waiting| {
            let is_inner = waiter.request.level.is_some_and(|level| level > 1);
            waiter.is_ahead && !is_inner && !this.holds(spot, &waiter.token)
        };
        let gone = self.queue(spot).filter(|waiter| is_gone(self, waiter)).map(|waiter| waiter.number);
        for number in gone.collect::<Vec<_>>() {
            self.saw("not ahead any more");
            let gone = self.waiting.iter_mut().find(|waiter| waiter.number == number);
            gone.unwrap().is_ahead = false;
        }
        self.sort();
    }

    pub(super) fn serve(&mut self, spot: Spot) {
        if !self.decides() || !self.whose(spot).serves() || self.foreign.contains(&spot) {
            return;
        }
        loop {
            self.dismiss_orphans(spot);
            let Some(head) = self.head(spot) else { return };
            let is_late = head.until.is_some_and(|until| until <= self.now);
            let is_free = !self.strings.contains_key(&spot);
            let is_admitted = is_free && self.admits(spot, Some(&head.token), &head.request);
            let is_possible = self.is_possible(spot, Some(&head.token), &head.request);
            if !is_late && !is_admitted && is_possible {
                return;
            }
            let would_have_more = self.would_have_more(spot, Some(&head.token), &head.request);
            if !is_late && is_possible && self.in_grace() && would_have_more {
                return self.hold_back(spot);
            }
            if is_late {
                self.saw("timed out at the head");
                let reply = self.end_wait(head.number);
                if head.client.is_some() {
                    self.answer_waiter(&head, reply);
                }
                continue;
            }
            self.waiting.retain(|waiter| waiter.number != head.number);
            if !is_possible {
                self.saw("impossible weight after waiting");
                self.answer_waiter(&head, Reply::Error(Refusal::WeightRange));
                continue;
            }
            if self.forbidden.contains(&head.user) {
                self.saw("refused for want of rights");
                self.answer_waiter(&head, Reply::Error(Refusal::NoPermission));
            } else {
                self.admit(spot, &head);
            }
        }
    }

    /// The first of a queue would be granted, were it not for the grace.
    fn hold_back(&mut self, spot: Spot) {
        self.saw("held back in the grace");
        if let Some(head) = self.waiting.iter_mut().find(|waiter| waiter.spot == spot) {
            head.met_grace = true;
        }
    }

    fn note_waiter(&mut self, head: &Waiting) {
        for (whose, what) in [
            (Whose::Arriving, "granted once the slot has arrived"),
            (Whose::Elsewhere, "granted where a key came back"),
            (Whose::Nobodys, "granted once the cluster was up again"),
        ] {
            if head.was.contains(&whose) {
                self.saw(what);
            }
        }
        if head.met_grace && !self.in_grace() {
            self.saw("granted after the grace");
        }
        if self.in_grace() {
            self.saw("granted after waiting in the grace");
        }
    }

    fn admit(&mut self, spot: Spot, head: &Waiting) {
        self.note_waiter(head);
        let Some(client) = head.client else { return self.call(spot, head) };
        let known = self.known(spot, &head.token);
        let (fence, before) = if known.is_some() {
            self.saw(if head.is_ahead { "upgraded after waiting" } else { "granted again after waiting" });
            let (fence, before) = self.renew(spot, &head.token, &head.request, client);
            (fence, Some(before))
        } else {
            self.saw("granted after waiting");
            (self.grant(spot, head.token.clone(), &head.request, client), None)
        };
        let kept = head.request.queue_ms.map(|_| (head.number, known));
        let promise = Promise { client, before, kept, until: None, is_lost: false };
        self.hold_of_mut(spot, &head.token).unwrap().promised.push(promise);
        self.answer(client, Reply::Granted(head.token.clone(), Fence::new(fence).unwrap()));
    }

    fn known(&self, spot: Spot, token: &Token) -> Option<Known> {
        let known = |holder: &Holder| Known { end: holder.end, share: holder.share, level: holder.level };
        self.hold_of(spot, token).map(known)
    }

    /// Grants the lock to a place at which nobody waits on a connection.
    fn call(&mut self, spot: Spot, head: &Waiting) {
        let until = self.now.plus_ms(CLAIM_MS);
        match self.known(spot, &head.token) {
            Some(known) => {
                self.saw("upgraded at a place");
                let lease_before = self.hold_of(spot, &head.token).unwrap().lease_ms;
                let request = Request { lease_ms: head.request.lease_ms.min(CLAIM_MS), ..head.request };
                self.renew(spot, &head.token, &request, head.user);
                let holder = self.hold_of_mut(spot, &head.token).unwrap();
                (holder.lease_ms, holder.end) =
                    (holder.lease_ms.max(lease_before), holder.end.max(known.end));
                holder.promised.push(to_claim(known, until));
            }
            None => {
                self.saw("granted to a place");
                self.grant(spot, head.token.clone(), &head.request, head.user);
                let holder = self.hold_of_mut(spot, &head.token).unwrap();
                (holder.lease_ms, holder.end) = (holder.lease_ms.min(CLAIM_MS), holder.end.min(until));
            }
        }
        self.reply(subscriber(spot), Reply::Called(head.number));
    }
}

/// What a lease counts as: with a session a second at least.
pub(super) fn counted(lease_ms: u64, has_session: bool) -> u64 {
    if has_session { lease_ms.max(1000) } else { lease_ms }
}

/// Undoes what was granted to clients that left before they were told, or leaves it to a later answer with news of the
/// same hold. What was granted to a place that is kept stands, to be claimed. True when the hold has to end.
pub(super) fn undo(
    holder: &mut Holder,
    others: &[Share],
    now: Moment,
    seen: &mut Vec<&'static str>,
    called: &mut Vec<usize>,
) -> bool {
    let lost_at = |holder: &Holder| holder.promised.iter().position(|promise| promise.is_lost);
    while let Some(index) = lost_at(holder) {
        let lost = holder.promised.remove(index);
        if let Some(later) = holder.promised.get_mut(index) {
            leave_to_later(lost, later);
            continue;
        }
        if let Some((number, known)) = lost.kept {
            if holder.is_live(now) {
                seen.push("left to be claimed");
                called.push(number);
                let until = now.plus_ms(CLAIM_MS);
                if holder.session.is_none() {
                    holder.end = holder.end.min(known.map_or(until, |known| known.end.max(until)));
                    if known.is_none() {
                        holder.lease_ms = holder.lease_ms.min(CLAIM_MS);
                    }
                }
                holder.promised.extend(known.map(|known| to_claim(known, until)));
            }
            continue;
        }
        let Some((share, level)) = lost.before else {
            seen.push("grant undone");
            return true;
        };
        if !holder.is_live(now) {
            continue;
        }
        if lost.until.is_some() {
            seen.push("upgrade unclaimed");
        }
        seen.push("upgrade undone");
        // Others may have been let in meanwhile, beside whom what it had would not be admitted.
        if share.fits(others) {
            holder.share = share;
        }
        holder.level = holder.level.min(level);
    }
    false
}

/// What is given back if nobody claims it.
fn to_claim(known: Known, until: Moment) -> Promise {
    let before = Some((known.share, known.level));
    Promise { client: 0, before, kept: None, until: Some(until), is_lost: false }
}

/// A grant that nobody was told of is told with a later one of the same hold, or undone with it. It is not undone where
/// either is kept.
fn leave_to_later(lost: Promise, later: &mut Promise) {
    match (lost.kept, later.kept, lost.before) {
        (Some(_), ..) => later.kept = lost.kept,
        (None, Some((number, _)), None) => later.kept = Some((number, None)),
        (None, Some((number, known)), Some((share, level))) => {
            later.kept = Some((number, known.map(|known| Known { share, level, ..known })));
        }
        (None, None, before) => later.before = before,
    }
}
