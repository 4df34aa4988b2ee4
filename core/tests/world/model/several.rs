//! LOCK.MACQUIRE, LOCK.MRELEASE, LOCK.MEXTEND: several keys in one command.

use lock_core::{ClientId, Fence, Refusal, Token};

use super::{Model, Waiting};
use crate::world::server::WorkDone;
use crate::world::steps::{Reply, Request, Spot, token};

impl Model {
    /// All keys or none.
    pub(super) fn acquire_all(
        &mut self,
        client: ClientId,
        spots: &[Spot],
        request: Request,
        made: &Token,
        work_done: &WorkDone,
    ) {
        if spots.iter().any(|spot| self.foreign.contains(spot)) {
            self.saw("several of a wrong type");
            return self.reply(client, Reply::WrongType);
        }
        for (turn, spot) in work_done.turns.iter().enumerate() {
            self.turn = turn;
            self.settle(*spot);
        }
        let own = request.token.map(token);
        let held =
            spots.iter().filter(|spot| own.as_ref().is_some_and(|own| self.holds(**spot, own))).count();
        if held < spots.len() && request.level.is_some_and(|level| level > 1) {
            self.saw("inner level without all outer holds");
            return self.reply(client, Reply::Null);
        }
        for spot in spots {
            if !self.is_possible(*spot, own.as_ref(), &request) {
                return self.reply(client, Reply::Error(Refusal::WeightRange));
            }
            let owns = own.as_ref().is_some_and(|own| self.owns_string(*spot, own));
            if owns && request.session_delay_ms.is_some() {
                return self.reply(client, Reply::Error(Refusal::SessionOfString));
            }
        }
        let ready = spots.iter().filter(|spot| self.is_ready_at_once(**spot, own.as_ref(), &request)).count();
        let may_wait = request.block_ms.is_some() || request.queue_ms.is_some();
        let token = own.unwrap_or_else(|| made.clone());
        if ready == spots.len() {
            self.grant_all(client, spots, &request, &token);
        } else if !may_wait {
            self.saw(if held > 0 {
                "several not available to one who holds"
            } else {
                "several not available"
            });
            self.reply(client, Reply::Null);
        } else if held > 0 && held < spots.len() {
            self.saw("held in part");
            self.reply(client, Reply::Error(Refusal::HeldInPart));
        } else {
            if ready > 0 {
                self.saw("several held back by one key");
            }
            self.wait_or_refuse(client, spots, request, token, held > 0);
        }
    }

    /// Whether a request could be granted this one key without waiting.
    fn is_ready_at_once(&self, spot: Spot, token: Option<&Token>, request: &Request) -> bool {
        if self.strings.contains_key(&spot) {
            return token.is_some_and(|token| self.owns_string(spot, token));
        }
        let holds = token.is_some_and(|token| self.hold_of(spot, token).is_some());
        let may_wait = request.block_ms.is_some() || request.queue_ms.is_some();
        let is_own = |head: &Waiting| may_wait && Some(&head.token) == token;
        let is_next = holds || self.head(spot).is_none_or(|head| is_own(&head));
        let is_held_back = self.in_grace() && self.would_have_more(spot, token, request);
        is_next && self.admits(spot, token, request) && !is_held_back
    }

    fn grant_all(&mut self, client: ClientId, spots: &[Spot], request: &Request, token: &Token) {
        let held = spots.iter().filter(|spot| self.holds(**spot, token)).count();
        self.saw(match held {
            0 => "granted several at once",
            _ if held < spots.len() => "granted the rest of several",
            _ => "granted several again",
        });
        if held < spots.len() {
            self.last_fence += 1;
        }
        let new = self.last_fence;
        let mut highest = 0;
        for spot in spots {
            let fence = if self.owns_string(*spot, token) {
                self.renew_string(*spot, request);
                0
            } else if self.hold_of(*spot, token).is_some() {
                let has = self.hold_of(*spot, token).unwrap().share;
                if self.wanted(*spot, Some(token), request).is_more_than(has) {
                    self.saw("several upgraded at once");
                }
                let (fence, _) = self.renew(*spot, token, request, client);
                self.tell(*spot, fence);
                fence
            } else {
                self.grant_under(new, *spot, token.clone(), request, client);
                new
            };
            highest = highest.max(fence);
        }
        if request.block_ms.is_some() || request.queue_ms.is_some() {
            for spot in spots {
                if self.give_up_place(*spot, token) {
                    self.saw("several granted at once at the head of a queue");
                }
            }
        }
        let fence = Fence::new(highest).unwrap_or(Fence::NONE);
        self.reply(client, Reply::Granted(token.clone(), fence));
    }

    pub(super) fn release_all(&mut self, client: ClientId, spots: &[Spot], token: &Token) {
        if spots.iter().any(|spot| self.foreign.contains(spot)) {
            return self.reply(client, Reply::WrongType);
        }
        let mut released = 0;
        for (turn, spot) in spots.iter().enumerate() {
            self.turn = turn;
            released += usize::from(self.release_at(*spot, token, 1));
        }
        self.saw(if released > 1 { "released several" } else { "released one or none of several" });
        self.reply(client, Reply::Number(released));
    }

    pub(super) fn extend_all(
        &mut self,
        client: ClientId,
        spots: &[Spot],
        token: &Token,
        lease_ms: Option<u64>,
    ) {
        if spots.iter().any(|spot| self.foreign.contains(spot)) {
            return self.reply(client, Reply::WrongType);
        }
        let mut extended = 0;
        for (turn, spot) in spots.iter().enumerate() {
            self.turn = turn;
            extended += usize::from(self.extend_at(*spot, token, lease_ms));
        }
        self.saw(if extended > 1 { "extended several" } else { "extended one or none of several" });
        self.reply(client, Reply::Number(extended));
    }
}
