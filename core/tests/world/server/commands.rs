//! Commands of clients, and of a master.

use std::collections::BTreeSet;
use std::num::NonZeroU64;

use lock_core::codec::Decoded;
use lock_core::outcome::{Acquired, WaitOptions};
use lock_core::queue::Keep;
use lock_core::request::{Acquire, BreakTarget};
use lock_core::turn::together;
use lock_core::{AskedShare, ClientId, Fence, GrantState, Hold, Limit, Refusal, Share, Terms, Ticket, Token};

use super::turns::Several;
use super::{Asked, Server};
use crate::world::steps::{Reply, Request, Spot, Spots, token};

impl Server {
    /// Whether the user of the request with this ticket may take locks.
    pub(super) fn has_right(&self, ticket: Ticket) -> bool {
        let waiter = self.table.queues().waiter(ticket).unwrap();
        let user = waiter.client.or_else(|| Some(user_named(waiter.keep.as_ref()?.user.as_ref()?))).unwrap();
        !self.forbidden.contains(&user)
    }

    pub(super) fn acquire(&mut self, client: ClientId, spot: Spot, request: Request, made: &Token) {
        if self.is_foreign(spot) {
            return self.reply(client, Reply::WrongType);
        }
        let (acquire, wait) = self.asked_for(client, &request);
        let acquired =
            self.turn(spot, Asked::Nothing, |turn| turn.acquire(&acquire, || client, wait, || made.clone()));
        self.answer_acquire(client, &[spot], request.owner, acquired);
    }

    pub(super) fn acquire_all(&mut self, client: ClientId, spots: Spots, request: Request, made: &Token) {
        if spots.iter().any(|spot| self.is_foreign(*spot)) {
            return self.reply(client, Reply::WrongType);
        }
        // What is marked is settled first, as often as one turn marks the key of another. Where this server may not serve,
        // marks stay.
        let serves = |this: &Self, spot: Spot| this.whose(spot).serves();
        for round in 0.. {
            assert!(round < 20, "settling comes to an end");
            for spot in spots {
                self.turn(*spot, Asked::Nothing, |_| ());
            }
            if !spots.iter().any(|spot| self.table.is_marked(*spot) && serves(self, *spot)) {
                break;
            }
        }
        let (acquire, wait) = self.asked_for(client, &request);
        let opened = spots.iter().map(|spot| self.open(*spot)).collect();
        let mut several = Several { server: self, opened };
        let own = acquire.token.clone().unwrap_or_else(|| made.clone());
        let before = several.holds_of(&own);
        let acquired = together::acquire(&mut several, &acquire, || client, wait, || made.clone());
        several.note(before, &own, matches!(acquired, Ok(Acquired::Granted(..))));
        for opened in several.opened {
            self.close(opened, &Asked::Nothing, false);
        }
        if let Ok(Acquired::Granted(..)) = acquired {
            // It is told the highest fence, and learns of all holds by that.
            let holds = spots.iter().filter_map(|spot| self.lock(*spot)?.hold_of(&own, self.now));
            self.told.extend(holds.map(Hold::fence).collect::<Vec<_>>());
        }
        self.answer_acquire(client, spots, request.owner, acquired);
    }

    fn asked_for(&self, client: ClientId, request: &Request) -> (Acquire<'static>, Option<WaitOptions>) {
        let acquire = Acquire {
            token: request.token.map(token),
            lease_ms: request.lease_ms,
            asked: AskedShare { limit: request.limit.map(Limit::from_number), weight: request.weight },
            block_ms: request.block_ms,
            queue_ms: request.queue_ms.and_then(NonZeroU64::new),
            owner: request.owner,
            session_delay_ms: request.session_delay_ms,
            level: request.level,
        };
        let keep = acquire.queue_ms.map(|for_ms| Keep { for_ms, user: Some(client.to_le_bytes().into()) });
        let blocked = request.block_ms.map(|_| client);
        let may_wait = blocked.is_some() || keep.is_some();
        let wait = may_wait.then_some(WaitOptions { client: blocked, keep, limits: self.limits });
        (acquire, wait)
    }

    fn answer_acquire(
        &mut self,
        client: ClientId,
        spots: &[Spot],
        owner: Option<&[u8]>,
        acquired: Result<Acquired, Refusal>,
    ) {
        match acquired {
            Ok(Acquired::Granted(token, fence)) => self.reply(client, Reply::Granted(token, fence)),
            Ok(Acquired::NotAvailable) => self.reply(client, Reply::Null),
            Ok(Acquired::Waits(joining)) => {
                let is_blocked = joining.waiter.client.is_some();
                let joined = self.table.join(spots, *joining);
                self.note_ticket(joined.ticket);
                if is_blocked {
                    self.blocked.insert(client, None);
                } else {
                    self.reply(client, Reply::Queued(self.number_of(joined.ticket)));
                }
                for (older, answer) in joined.superseded {
                    self.answer(older, answer);
                }
            }
            Err(Refusal::Circle) => {
                let circle = self.table.take_circle().unwrap();
                self.work_done.circle_was_found = true;
                let first = circle.named.first().map(|label| &**label);
                assert_eq!(first, owner, "the circle begins with who asks");
                let named: BTreeSet<&[u8]> = circle.named.iter().map(|label| &**label).collect();
                assert!(circle.len >= 2 && circle.len == named.len(), "everybody is named once: {circle:?}");
                self.reply(client, Reply::Error(Refusal::Circle));
            }
            Err(refusal) => self.reply(client, Reply::Error(refusal)),
        }
    }

    pub(super) fn release(&mut self, client: ClientId, spot: Spot, token: &Token, level: u16) {
        if self.is_foreign(spot) {
            return self.reply(client, Reply::WrongType);
        }
        let released = self.release_at(spot, token, level);
        self.reply(client, Reply::Number(released.into()));
    }

    fn release_at(&mut self, spot: Spot, token: &Token, level: u16) -> bool {
        let obeys = !self.is_master;
        let asked = Asked::Release(token.clone(), level);
        self.turn(spot, asked, |turn| turn.release(token, level, || obeys))
    }

    pub(super) fn release_all(&mut self, client: ClientId, spots: Spots, token: &Token) {
        if spots.iter().any(|spot| self.is_foreign(*spot)) {
            return self.reply(client, Reply::WrongType);
        }
        let released = spots.iter().filter(|spot| self.release_at(**spot, token, 1)).count();
        self.reply(client, Reply::Number(released));
    }

    pub(super) fn extend(&mut self, client: ClientId, spot: Spot, token: &Token, lease_ms: Option<u64>) {
        if self.is_foreign(spot) {
            return self.reply(client, Reply::WrongType);
        }
        let extended = self.extend_at(spot, token, lease_ms);
        self.reply(client, Reply::Number(extended.into()));
    }

    fn extend_at(&mut self, spot: Spot, token: &Token, lease_ms: Option<u64>) -> bool {
        let obeys = !self.is_master;
        let asked = Asked::Extend(token.clone(), lease_ms);
        let extended = self.turn(spot, asked, |turn| turn.extend(token, lease_ms, || obeys));
        let hold = self.lock(spot).and_then(|lock| lock.hold_of(token, self.now));
        if let Some(fence) = hold.filter(|_| extended).map(Hold::fence) {
            self.told.insert(fence);
        }
        extended
    }

    pub(super) fn extend_all(
        &mut self,
        client: ClientId,
        spots: Spots,
        token: &Token,
        lease_ms: Option<u64>,
    ) {
        if spots.iter().any(|spot| self.is_foreign(*spot)) {
            return self.reply(client, Reply::WrongType);
        }
        let extended = spots.iter().filter(|spot| self.extend_at(**spot, token, lease_ms)).count();
        self.reply(client, Reply::Number(extended));
    }

    pub(super) fn break_holds(&mut self, client: ClientId, spot: Spot, which: Option<usize>) {
        if self.is_foreign(spot) {
            return self.reply(client, Reply::WrongType);
        }
        let now = self.now;
        let seen = which.and_then(|which| {
            self.lock(spot).and_then(|lock| lock.live_holds(now).nth(which)).map(Hold::fence)
        });
        let broken = match (which, seen) {
            (None, _) => BreakTarget::All,
            (_, Some(fence)) => BreakTarget::One(fence),
            (_, None) => BreakTarget::Nobody,
        };
        let ended = self.turn(spot, Asked::Break(broken), |turn| turn.break_holds(broken));
        self.reply(client, Reply::Number(ended.len()));
    }

    pub(super) fn arrive(&mut self, spot: Spot, number: u8, lease_ms: u64) {
        let hold = self.granted_elsewhere(number, Limit::EXCLUSIVE, lease_ms);
        if self.is_foreign(spot) || self.string(spot).is_some() {
            // What the master says is made so, whatever stands there.
            self.values.remove(&spot);
            self.replica_strings.remove(&spot);
            self.ttls.remove(&spot);
        }
        self.turn(spot, Asked::Apply(vec![hold.clone()]), |turn| {
            turn.apply(Decoded { holds: vec![hold], is_whole: true })
        })
        .unwrap();
    }

    /// A hold that another server has granted just now.
    pub(in crate::world) fn granted_elsewhere(&mut self, number: u8, limit: Limit, lease_ms: u64) -> Hold {
        let fence = Fence::new(self.table.last_fence().map_or(1, |fence| fence.get() + 1)).unwrap();
        self.table.raise_fence(fence);
        let terms =
            Terms { token: &token(number), share: Share::of(limit), lease_ms, owner: None, session: None };
        let state =
            GrantState { fence, granted_at: self.now, deadline: self.now.plus_ms(lease_ms), level: 1 };
        Hold::restore(terms, state)
    }
}

/// The client whose name this is.
fn user_named(name: &[u8]) -> ClientId {
    ClientId::from_le_bytes(name.try_into().unwrap())
}
