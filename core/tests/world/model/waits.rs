//! Waits: how a request joins the queues, whose place it takes, and how it leaves them.

use lock_core::{ClientId, Refusal, Token};

use super::{Model, Waiting};
use crate::world::steps::{Reply, Request, Spot};

/// Those ahead come first, the newest in front. The others stand as they came.
fn in_order(waiting: &mut [Waiting]) {
    waiting.sort_by_key(|waiter| {
        let number = if waiter.is_ahead { usize::MAX - waiter.number } else { waiter.number };
        (!waiter.is_ahead, number)
    });
}

impl Model {
    pub(super) fn wait_or_refuse(
        &mut self,
        client: ClientId,
        spots: &[Spot],
        request: Request,
        token: Token,
        is_ahead: bool,
    ) {
        match self.wait(client, spots, request, token, is_ahead) {
            Err(refusal) => self.reply(client, Reply::Error(refusal)),
            Ok(number) if request.block_ms.is_none() => self.reply(client, Reply::Queued(number)),
            Ok(_) => {}
        }
    }

    fn wait(
        &mut self,
        client: ClientId,
        spots: &[Spot],
        request: Request,
        token: Token,
        is_ahead: bool,
    ) -> Result<usize, Refusal> {
        if is_ahead && spots.iter().any(|spot| self.another_upgrades(*spot, &token)) {
            self.saw("deadlock");
            return Err(Refusal::Deadlock);
        }
        let lasts_ms = request.block_ms.or(request.queue_ms).filter(|ms| *ms > 0);
        let is_older =
            |other: &Waiting| other.token == token && other.spots.iter().any(|spot| spots.contains(spot));
        let older: Vec<Waiting> = self.waiting.iter().filter(|other| is_older(other)).cloned().collect();
        let stands_at = |spot: &Spot| older.iter().any(|older| older.spots.contains(spot));
        let last = older.iter().map(|older| older.number).max();
        let kept = last.filter(|_| spots.iter().all(stands_at));
        let number = kept.unwrap_or(self.places);
        let waiter = Waiting {
            number,
            spots: spots.to_vec(),
            client: request.block_ms.map(|_| client),
            user: client,
            token,
            request,
            until: lasts_ms.map(|ms| self.now.plus_ms(ms)),
            is_ahead,
            was: spots.iter().map(|spot| self.whose(*spot)).collect(),
            met_grace: false,
            command: self.command,
        };
        let replaces = |other: &Waiting| older.iter().any(|older| older.number == other.number);
        let mut all = self.waiting.clone();
        all.retain(|other| !replaces(other));
        all.push(waiter.clone());
        in_order(&mut all);
        // The locks are looked at now.
        self.unseen.retain(|spot| !spots.contains(spot));
        if self.a_circle_is_found(&all, number) {
            self.saw(if older.is_empty() { "circle" } else { "circle of a retry" });
            if request.limit.is_some() || request.weight.is_some() {
                self.saw("circle of shares");
            }
            if spots.len() > 1 {
                self.saw("circle of several");
            }
            return Err(Refusal::Circle);
        }
        self.is_room_for(spots, &older)?;
        if older.len() > 1 && kept.is_some() {
            self.saw("latest of several places kept");
        }
        self.waiting.retain(|other| !replaces(other));
        for older in &older {
            self.note_superseded(older, kept, spots);
            if older.client.is_some() {
                let keeps = older.is_kept() && kept == Some(older.number);
                let reply = if keeps { Reply::Queued(older.number) } else { Reply::Null };
                self.answer_waiter(older, reply);
            }
        }
        if kept.is_none() {
            if waiter.client.is_none() {
                self.saw(if is_ahead { "place taken ahead" } else { "place taken" });
            }
            if spots.len() > 1 {
                self.saw(if is_ahead { "several waited for ahead" } else { "several waited for" });
            }
            self.places += 1;
        }
        self.waiting.push(waiter);
        self.sort();
        Ok(number)
    }

    /// Whether a request is refused because it closes a circle. What is not known of a lock since SWAPDB is known from the next
    /// turn there on, and so from whenever the server came there for a request that waits for another key as well. Until
    /// then a circle by that lock may be found, and need not be.
    fn a_circle_is_found(&mut self, all: &[Waiting], number: usize) -> bool {
        if self.closes_a_circle(all, number) {
            return true;
        }
        let unseen = std::mem::take(&mut self.unseen);
        let is_there = self.closes_a_circle(all, number);
        self.unseen = unseen;
        is_there && self.circle_was_found
    }

    /// A request would exceed no cap. Those whose place it takes are not counted.
    fn is_room_for(&mut self, spots: &[Spot], older: &[Waiting]) -> Result<(), Refusal> {
        for spot in spots {
            if older.iter().any(|older| older.spots.contains(spot)) {
                continue;
            }
            if self.waiting.len() - older.len() >= self.limits.in_all {
                self.saw("all queues full");
                return Err(Refusal::QueueFull("lock.max-waiters"));
            }
            if self.queue(*spot).count() >= self.limits.per_key {
                self.saw("queue full");
                return Err(Refusal::QueueFull("lock.max-waiters-per-key"));
            }
        }
        Ok(())
    }

    fn note_superseded(&mut self, older: &Waiting, kept: Option<usize>, spots: &[Spot]) {
        if older.is_for_several() || spots.len() > 1 {
            self.saw(if spots.len() > 1 {
                "several superseded"
            } else {
                "several superseded by a request for one"
            });
            if older.spots.iter().any(|spot| !spots.contains(spot)) {
                self.saw("several given up elsewhere");
            }
        }
        self.saw(match older.client {
            Some(_) if older.is_kept() && kept == Some(older.number) => "superseded at a place",
            Some(_) => "superseded",
            None if kept == Some(older.number) => "place asked for again",
            None => "place ended",
        });
    }

    pub(in crate::world) fn sort(&mut self) {
        in_order(&mut self.waiting);
    }

    fn another_upgrades(&self, spot: Spot, token: &Token) -> bool {
        let mut ahead = self.queue(spot).filter(|waiter| waiter.is_ahead && waiter.token != *token);
        ahead.any(|waiter| self.holds(spot, &waiter.token))
    }

    /// A token that was granted what it asked for waits no longer for what it asked for before. False if it did not.
    pub(super) fn give_up_place(&mut self, spot: Spot, token: &Token) -> bool {
        let Some(older) = self.queue(spot).find(|waiter| waiter.token == *token).cloned() else {
            return false;
        };
        self.waiting.retain(|waiter| waiter.number != older.number);
        let is_kept = older.request.queue_ms.is_some();
        self.answer_waiter(&older, if is_kept { Reply::Queued(older.number) } else { Reply::Null });
        true
    }

    pub(super) fn withdraw(&mut self, spot: Spot, token: &Token) {
        let Some(waiter) = self.queue(spot).find(|waiter| waiter.token == *token).cloned() else { return };
        self.saw(if waiter.is_ahead { "wait for a change of limit withdrawn" } else { "wait withdrawn" });
        if waiter.is_for_several() {
            self.saw("wait for several withdrawn");
        }
        self.waiting.retain(|other| other.number != waiter.number);
        self.answer_waiter(&waiter, Reply::Null);
    }

    /// Tells a waiter, if it waits on a connection.
    pub(in crate::world) fn answer_waiter(&mut self, waiter: &Waiting, reply: Reply) {
        match waiter.client {
            Some(client) => self.answer(client, reply),
            None => self.saw("place ended"),
        }
    }

    /// A wait ends by its time or with its connection: the place is kept, if QUEUE was asked for. Returns what its client is
    /// told.
    pub(in crate::world) fn end_wait(&mut self, number: usize) -> Reply {
        let index = self.waiting.iter().position(|waiter| waiter.number == number).unwrap();
        let (now, waiter) = (self.now, &mut self.waiting[index]);
        match (waiter.client.take(), waiter.request.queue_ms) {
            (Some(_), Some(ms)) => {
                waiter.until = Some(now.plus_ms(ms));
                self.saw("place kept");
                Reply::Queued(number)
            }
            (client, _) => {
                self.waiting.remove(index);
                if client.is_none() {
                    self.saw("place over");
                }
                Reply::Null
            }
        }
    }

    pub(in crate::world) fn end_wait_of(&mut self, client: ClientId) -> Option<Reply> {
        let waiter = self.waiting.iter().find(|waiter| waiter.client == Some(client))?;
        Some(self.end_wait(waiter.number))
    }
}
