//! The oracle: what the contract says of a lock, asked of a plain list of holds by the slowest means.
#![allow(dead_code)] // each test file uses a part of it
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![allow(clippy::int_plus_one)] // the rule as the contract words it

use std::collections::BTreeSet;

use lock_core::token::LONGEST_SPELLED;
use lock_core::{AskedShare, ClientId, Hold, Limit, Lock, Moment, Released, Session, Token, Verdict};

/// A limit, 0 for shared, and a weight.
pub(crate) type Share = (u16, u16);

/// What a request names of both.
pub(crate) type Asked = (Option<u16>, Option<u16>);

pub(crate) fn share_of((limit, weight): Share) -> lock_core::Share {
    lock_core::Share { limit: Limit::from_number(limit), weight }
}

pub(crate) fn asked((limit, weight): Asked) -> AskedShare {
    AskedShare { limit: limit.map(Limit::from_number), weight }
}

/// A hold as the contract lists its parts.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Holding {
    pub(crate) token: Vec<u8>,
    pub(crate) fence: u64,
    pub(crate) limit: u16,
    pub(crate) weight: u16,
    pub(crate) lease_ms: u64,
    pub(crate) owner: Option<Vec<u8>>,
    pub(crate) level: u16,
    pub(crate) session: Option<Session>,
    pub(crate) granted_at: i64,
    pub(crate) ends_at: i64,
}

impl Holding {
    pub(crate) fn of(hold: &Hold) -> Self {
        Self {
            token: hold.token_text(&mut [0; LONGEST_SPELLED]).to_vec(),
            fence: hold.fence().get(),
            limit: hold.limit().number(),
            weight: hold.share().weight,
            lease_ms: hold.lease_ms(),
            owner: hold.owner().map(<[u8]>::to_vec),
            level: hold.level(),
            session: hold.session(),
            granted_at: hold.granted_at().as_micros(),
            ends_at: hold.deadline().as_micros(),
        }
    }

    pub(crate) fn share(&self) -> Share {
        (self.limit, self.weight)
    }

    /// Its lease runs, or a connection keeps it alive.
    pub(crate) fn is_live(&self, now: i64) -> bool {
        now < self.ends_at || self.session.is_some()
    }

    /// When its lease ends; half of it before, where a connection is to keep it alive.
    pub(crate) fn due(&self) -> i64 {
        let half = if self.session.is_some() { micros(self.lease_ms / 2) } else { 0 };
        self.ends_at - half
    }

    /// With a session a lease counts as a second at least.
    pub(crate) fn counted(&self, lease_ms: u64) -> u64 {
        if self.session.is_some() { lease_ms.max(1000) } else { lease_ms }
    }

    pub(crate) fn lease_anew(&mut self, lease_ms: u64, now: i64) {
        self.lease_ms = self.counted(lease_ms);
        self.ends_at = now + micros(self.lease_ms);
    }
}

/// Whether a limit leaves less to others than another.
fn is_smaller(limit: u16, than: u16) -> bool {
    limit != 0 && (than == 0 || limit < than)
}

/// All that was granted and neither given back, broken nor swept, in the order of the grants.
#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) holds: Vec<Holding>,
}

impl Oracle {
    pub(crate) fn place_of(&self, token: &[u8]) -> Option<usize> {
        self.holds.iter().position(|hold| hold.token == token)
    }

    pub(crate) fn live_place_of(&self, token: &[u8], now: i64) -> Option<usize> {
        self.place_of(token).filter(|place| self.holds[*place].is_live(now))
    }

    pub(crate) fn live_others(&self, own: Option<usize>, now: i64) -> Vec<&Holding> {
        let holds = self.holds.iter().enumerate();
        holds.filter(|(place, hold)| hold.is_live(now) && Some(*place) != own).map(|(_, hold)| hold).collect()
    }

    /// "A request is granted when `the weights of all holds + its own <= the smallest limit among the holds and the request`."
    pub(crate) fn rule(others: &[&Holding], (limit, weight): Share) -> bool {
        let number = |limit: u16| if limit == 0 { u64::MAX } else { u64::from(limit) };
        let mut smallest = number(limit);
        for other in others {
            smallest = smallest.min(number(other.limit));
        }
        let weights: u64 = others.iter().map(|other| u64::from(other.weight)).sum();
        weights + u64::from(weight) <= smallest
    }

    /// "WEIGHT must be between 1 and the limit": what is not named is as it is held, or 1.
    pub(crate) fn is_possible(&self, token: Option<&[u8]>, (limit, weight): Asked, now: i64) -> bool {
        let held =
            token.and_then(|token| self.live_place_of(token, now)).map(|place| self.holds[place].share());
        let (held_limit, held_weight) = held.unwrap_or((1, 1));
        Self::rule(&[], (limit.unwrap_or(held_limit), weight.unwrap_or(held_weight)))
    }

    /// Only of what is possible.
    pub(crate) fn judge(&self, token: Option<&[u8]>, (limit, weight): Asked, now: i64) -> Verdict {
        let held = token.and_then(|token| self.live_place_of(token, now));
        let others = self.live_others(held, now);
        let Some(place) = held else {
            let wants = (limit.unwrap_or(1), weight.unwrap_or(1));
            return if Self::rule(&others, wants) { Verdict::Grant } else { Verdict::Wait };
        };
        let hold = &self.holds[place];
        let (limit, weight) = (limit.unwrap_or(hold.limit), weight.unwrap_or(hold.weight));
        if (limit, weight) == (hold.limit, hold.weight) {
            Verdict::Renew
        } else if !Self::rule(&others, (limit, weight)) {
            Verdict::Wait
        } else if is_smaller(limit, hold.limit) || weight > hold.weight {
            Verdict::Upgrade
        } else {
            Verdict::Renew
        }
    }

    /// Whether the token's hold fits among the others that live. A server on whose clock its lease had not ended, and
    /// which decides for others that it is extended, has granted nothing beside it that does not.
    pub(crate) fn could_stand(&self, token: &[u8], now: i64) -> bool {
        let place = self.place_of(token);
        place.is_none_or(|place| Self::rule(&self.live_others(Some(place), now), self.holds[place].share()))
    }

    pub(crate) fn put(&mut self, hold: Holding) {
        self.holds.retain(|old| old.token != hold.token && old.fence != hold.fence);
        self.holds.push(hold);
        self.holds.sort_by_key(|hold| hold.fence);
    }

    /// The place of the token's hold, if it may be given back or extended.
    pub(crate) fn usable(&self, token: &[u8], now: i64, obey: bool) -> Option<usize> {
        self.place_of(token).filter(|place| obey || self.holds[*place].is_live(now))
    }

    pub(crate) fn release(&mut self, token: &[u8], level: u16, now: i64, obey: bool) -> Released {
        match self.usable(token, now, obey) {
            None => Released::NotHeld,
            Some(place) if self.holds[place].level < level => Released::NotHeld,
            Some(place) if level > 1 => {
                self.holds[place].level = level - 1;
                Released::LessDeep
            }
            Some(place) => {
                let held_since = Moment::from_micros(self.holds.remove(place).granted_at);
                Released::Ended { held_since }
            }
        }
    }

    /// The fences of the first that are due by `now`, of those that connections keep alive or of the others.
    pub(crate) fn due(&self, with_session: bool, now: i64, at_most: usize) -> Vec<u64> {
        let due =
            self.holds.iter().filter(|hold| hold.session.is_some() == with_session && hold.due() <= now);
        let mut due: Vec<(i64, u64)> = due.map(|hold| (hold.due(), hold.fence)).collect();
        due.sort_unstable();
        due.into_iter().take(at_most).map(|(_, fence)| fence).collect()
    }

    /// Sees to the sessions that are due, in lock and oracle: this connection is closed, the others are open.
    pub(crate) fn keep_up(&mut self, lock: &mut Lock, now: i64, at_most: usize, closed: ClientId) {
        let due = lock.sessions_due(Moment::from_micros(now), at_most);
        let fences: Vec<u64> = due.iter().map(|fence| fence.get()).collect();
        assert_eq!(fences, self.due(true, now, at_most));
        for fence in due {
            let hold = self.hold_mut(fence.get());
            let kept = if hold.session.is_some_and(|session| session.client == closed) {
                hold.session = None;
                lock.end_session(fence)
            } else {
                hold.lease_anew(hold.lease_ms, now);
                lock.keep_alive(fence, Moment::from_micros(now))
            };
            assert_eq!(kept.map(Holding::of).as_ref(), Some(&*hold));
        }
    }

    /// Whether a snapshot could be loaded of a lock on which these were put, each in place of the one of its token.
    pub(crate) fn can_adopt(&self, new: &[Holding]) -> bool {
        let stays = |old: &&Holding| new.iter().all(|hold| hold.token != old.token);
        let all: Vec<&Holding> = self.holds.iter().filter(stays).chain(new).collect();
        let alone = |hold: &Holding| all.iter().filter(|other| other.token == hold.token).count() == 1;
        let fences: BTreeSet<u64> = all.iter().map(|hold| hold.fence).collect();
        let weights: usize = all.iter().map(|hold| usize::from(hold.weight)).sum();
        let fits = |hold: &Holding| hold.limit == 0 || weights <= usize::from(hold.limit);
        !all.is_empty() && fences.len() == all.len() && all.iter().all(|hold| alone(hold) && fits(hold))
    }

    pub(crate) fn hold_mut(&mut self, fence: u64) -> &mut Holding {
        self.holds.iter_mut().find(|hold| hold.fence == fence).unwrap()
    }

    pub(crate) fn sweep(&mut self, now: i64, at_most: usize) -> Vec<u64> {
        let fences = self.due(false, now, at_most);
        self.holds.retain(|hold| !fences.contains(&hold.fence));
        fences
    }
}

pub(crate) fn token(text: &[u8]) -> Token {
    Token::from_text(text).unwrap()
}

pub(crate) fn micros(ms: u64) -> i64 {
    i64::try_from(ms).unwrap() * 1_000
}
