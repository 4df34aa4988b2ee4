//! LOCK.ACQUIRE: what is granted at once, granted again, refused, or waits.

use lock_core::{ClientId, Fence, Refusal, Token};

use super::Model;
use crate::world::grants::counted;
use crate::world::steps::{Reply, Request, Spot, Whose, token};

impl Model {
    pub(super) fn acquire(&mut self, client: ClientId, spot: Spot, request: Request, made: &Token) {
        if self.foreign.contains(&spot) {
            self.saw("wrong type");
            return self.reply(client, Reply::WrongType);
        }
        self.settle(spot);
        if self.strings.contains_key(&spot) {
            return self.acquire_string(client, spot, request, made);
        }
        let own = request.token.map(token);
        let holds = own.as_ref().is_some_and(|own| self.hold_of(spot, own).is_some());
        if !holds && request.level.is_some_and(|level| level > 1) {
            self.saw("inner level without its outer hold");
            return self.reply(client, Reply::Null);
        }
        if !self.is_possible(spot, own.as_ref(), &request) {
            self.saw("impossible weight");
            return self.reply(client, Reply::Error(Refusal::WeightRange));
        }
        let admits = self.admits(spot, own.as_ref(), &request);
        let is_held_back = self.in_grace() && self.would_have_more(spot, own.as_ref(), &request);
        let token = own.unwrap_or_else(|| made.clone());
        if holds && admits && !is_held_back {
            self.note_renewal(spot, &token, &request);
            let (fence, _) = self.renew(spot, &token, &request, client);
            self.tell(spot, fence);
            if request.block_ms.is_some() || request.queue_ms.is_some() {
                self.give_up_place(spot, &token);
            }
            self.serve(spot);
            self.reply(client, Reply::Granted(token, Fence::new(fence).unwrap()));
        } else if !holds && admits && !is_held_back && self.is_next(spot, &token, &request) {
            if self.give_up_place(spot, &token) {
                self.saw("granted at once at the head of the queue");
            }
            self.note_grant(spot);
            let fence = self.grant(spot, token.clone(), &request, client);
            self.tell(spot, fence);
            self.serve(spot);
            self.reply(client, Reply::Granted(token, Fence::new(fence).unwrap()));
        } else if request.block_ms.is_none() && request.queue_ms.is_none() {
            self.saw(if holds { "change of limit not available" } else { "not available" });
            if admits && is_held_back {
                self.saw(if holds { "change of limit refused in the grace" } else { "refused in the grace" });
            }
            self.reply(client, Reply::Null);
        } else {
            self.wait_or_refuse(client, &[spot], request, token, holds);
        }
    }

    /// Whether nobody waits ahead of the token. It may head the queue itself, and ask again.
    fn is_next(&self, spot: Spot, token: &Token, request: &Request) -> bool {
        let may_wait = request.block_ms.is_some() || request.queue_ms.is_some();
        self.head(spot).is_none_or(|head| may_wait && head.token == *token)
    }

    fn note_renewal(&mut self, spot: Spot, token: &Token, request: &Request) {
        let (has, wanted) =
            (self.hold_of(spot, token).unwrap().share, self.wanted(spot, Some(token), request));
        self.saw(match () {
            () if wanted == has => "granted again",
            () if wanted.is_more_than(has) => "upgraded at once",
            () => "downgraded",
        });
        if wanted.weight > has.weight {
            self.saw("made heavier at once");
        }
        let holder = self.hold_of(spot, token).unwrap();
        if let Some(level) = request.level {
            let lease_ms =
                counted(request.lease_ms, request.session_delay_ms.is_some() || holder.session.is_some());
            let cuts = self.now.plus_ms(lease_ms) < holder.end;
            let is_deeper = level > holder.level;
            self.saw(if cuts {
                "inner lease shorter than the outer"
            } else {
                "inner lease longer than the outer"
            });
            if is_deeper {
                self.saw("level raised");
            }
        }
        if self.in_grace() {
            self.saw("granted again in the grace");
        }
    }

    fn note_grant(&mut self, spot: Spot) {
        self.saw("granted at once");
        if self.whose(spot) == Whose::Arriving {
            self.saw("granted at once while the slot arrives");
        }
    }

    fn acquire_string(&mut self, client: ClientId, spot: Spot, request: Request, made: &Token) {
        if !self.is_possible(spot, None, &request) {
            return self.reply(client, Reply::Error(Refusal::WeightRange));
        }
        let own = request.token.map(token).filter(|own| self.owns_string(spot, own));
        let may_wait = request.block_ms.is_some() || request.queue_ms.is_some();
        let Some(own) = own else {
            if !may_wait || request.level.is_some_and(|level| level > 1) {
                self.saw("not available at a string");
                return self.reply(client, Reply::Null);
            }
            self.saw("waited for a string");
            let token = request.token.map_or_else(|| made.clone(), token);
            return self.wait_or_refuse(client, &[spot], request, token, false);
        };
        if request.session_delay_ms.is_some() {
            self.saw("session of a string refused");
            return self.reply(client, Reply::Error(Refusal::SessionOfString));
        }
        self.renew_string(spot, &request);
        if may_wait {
            self.give_up_place(spot, &own);
        }
        self.serve(spot);
        self.reply(client, Reply::Granted(own, Fence::NONE));
    }

    pub(super) fn renew_string(&mut self, spot: Spot, request: &Request) {
        let end = self.now.plus_ms(request.lease_ms);
        let ends_later = self.ttls.get(&spot).is_none_or(|own| end <= *own);
        if request.level.is_some() && ends_later {
            self.saw("lease of a string not cut short");
        } else {
            self.saw("string granted again");
            self.ttls.insert(spot, end);
        }
    }
}
