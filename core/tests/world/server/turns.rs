//! A turn at a key, taken the way the module takes it, and a request for several keys served at each of them.

use lock_core::answer::Answer;
use lock_core::outcome::{Authority, Cause, Change, Circumstances};
use lock_core::token::LONGEST_SPELLED;
use lock_core::turn::together::{self, Turns};
use lock_core::{ClientId, Fence, Hold, Lock, Moment, Outcome, StringHold, Table, Ticket, Token, Turn};

use super::{Asked, Granted, Served, Server, TookSeveral, Value, known};
use crate::world::steps::{CLAIM_MS, DEFAULT_LEASE_MS, Reply, Spot, subscriber, token};

impl Server {
    /// Takes a turn at a key, as the module does: it settles first, then it is asked, and whenever it has come to a candidate
    /// the rights of that are looked at.
    pub(in crate::world) fn turn<R>(
        &mut self,
        spot: Spot,
        asked: Asked,
        ask: impl FnOnce(&mut Turn<'_>) -> R,
    ) -> R {
        let opened = self.open(spot);
        self.turns += 1;
        let room = [usize::MAX, 0, 1, 2][self.turns % 4];
        let mut steps = Steps { server: self, opened };
        steps.take(room, |turn| turn.settle());
        steps.settle_the_rest();
        let result = steps.take(room, ask);
        steps.settle_the_rest();
        let opened = steps.opened;
        self.close(opened, &asked, true);
        result
    }

    /// Opens a key for a turn.
    pub(super) fn open(&mut self, spot: Spot) -> Opened {
        let before = self.waiting(spot);
        if self.is_over(spot) {
            // Whoever opens such a key has the server delete it.
            self.remove(spot);
        }
        let (lock, stood) = match self.values.remove(&spot) {
            Some(Value::Lock(lock)) => (lock, Stood::Lock),
            Some(Value::String(number)) => (Lock::new(), Stood::String(number)),
            Some(Value::Foreign) => panic!("a turn at a key of another type"),
            None => (Lock::new(), Stood::Nothing),
        };
        let string = stood.as_hold(self.ttls.get(&spot).copied(), self.now);
        let authority = if self.table.has_business_at(spot) {
            Authority { may_grant: self.decides(), serves_key: self.whose(spot).serves() }
        } else {
            Authority::NONE
        };
        let circumstances = Circumstances {
            now: self.now,
            wall_micros: 0,
            grace_ms: self.grace_ms,
            claim_ms: CLAIM_MS,
            authority,
            at_most: usize::MAX,
        };
        Opened { spot, lock, stood, string, circumstances, outcome: Outcome::default(), before }
    }

    /// Leaves a key as it was when it was opened: it was only looked at.
    fn put_back(&mut self, opened: Opened) {
        let Opened { spot, lock, stood, outcome, .. } = opened;
        assert!(!outcome.has_changed() && outcome.answers.is_empty());
        let value = match stood {
            Stood::Lock => Value::Lock(lock),
            Stood::String(number) => Value::String(number),
            Stood::Nothing => return,
        };
        self.values.insert(spot, value);
    }

    /// Ends a turn, and does what it has come to. It is one of its own, or one with another.
    pub(super) fn close(&mut self, mut opened: Opened, asked: &Asked, is_of_its_own: bool) {
        opened.resume(&mut self.table).end();
        let Opened { spot, mut lock, stood, string, outcome, before, .. } = opened;
        self.pass_on(spot, asked, &outcome);
        self.note_turn(spot, &before, &outcome, is_of_its_own);
        for ticket in &outcome.calls {
            self.replies.push((subscriber(spot), Reply::Called(self.number_of(*ticket))));
        }
        for (client, answer) in outcome.answers {
            self.answer(client, answer);
        }
        if outcome.has_promised {
            assert!(!outcome.changes.is_empty(), "what promises a lease is passed on");
            self.ttls.remove(&spot);
        }
        if !outcome.changes.is_empty() {
            self.put_off.remove(&spot);
        }
        match (lock.is_empty(), stood) {
            (true, Stood::String(number)) if string.is_some() => {
                self.values.insert(spot, Value::String(number));
                for change in &outcome.changes {
                    if let Change::Lease(_, lease_ms, _) = change {
                        self.ttls.insert(spot, self.now.plus_ms(*lease_ms));
                    }
                }
            }
            (true, Stood::String(_)) => drop(self.ttls.remove(&spot)),
            (false, _) => drop(self.values.insert(spot, Value::Lock(lock))),
            (true, Stood::Lock) => {
                self.ttls.remove(&spot);
                self.unlinked(spot, &mut lock);
            }
            (true, Stood::Nothing) => {}
        }
    }

    fn note_turn(
        &mut self,
        spot: Spot,
        before: &[(Ticket, Option<ClientId>)],
        outcome: &Outcome,
        is_of_its_own: bool,
    ) {
        let tickets = |waiting: &[(Ticket, _)]| waiting.iter().map(|(ticket, _)| *ticket).collect();
        let place_of = |client| before.iter().find(|(_, other)| *other == Some(client)).unwrap().0;
        let answered = outcome.answers.iter().filter(|(_, answer)| matches!(answer, Answer::Granted(_)));
        // Other places are called again, of whom nobody was told.
        let waited = |ticket: &&Ticket| before.iter().any(|(other, _)| other == *ticket);
        let called = outcome.calls.iter().filter(waited).copied().collect();
        let drawn = outcome.changes.iter().filter_map(|change| match change {
            Change::First(hold, Cause::Granted { has_waited })
            | Change::Set(hold, Cause::Granted { has_waited }) => Some((hold.fence(), *has_waited)),
            _ => None,
        });
        if is_of_its_own {
            self.work_done.turns.push(spot);
        }
        self.served.push(Served {
            spot,
            before: tickets(before),
            granted: [answered.map(|(client, _)| place_of(*client)).collect(), called],
            after: tickets(&self.waiting(spot)),
            newcomer_was_granted: drawn.clone().any(|(_, has_waited)| !has_waited),
            whose: self.whose(spot),
            in_grace: self.in_grace(),
            one_was_granted_anew: drawn.clone().next().is_some(),
        });
        let is_with_another = !is_of_its_own;
        self.grants.extend(drawn.map(|(fence, _)| Granted { spot, fence, is_with_another }));
    }

    pub(in crate::world) fn unlinked(&mut self, spot: Spot, lock: &mut Lock) {
        self.put_off.remove(&spot);
        self.table.departed(spot, lock);
    }
}

/// What stood under a key before a turn.
#[derive(Clone, Copy)]
enum Stood {
    Nothing,
    Lock,
    String(u8),
}

impl Stood {
    fn as_hold(self, end: Option<Moment>, now: Moment) -> Option<StringHold> {
        let Self::String(number) = self else { return None };
        let token = token(number);
        let value = token.text(&mut [0; LONGEST_SPELLED]).to_vec();
        Some(StringHold::new(&value, end.map(|end| now.ms_until(end)), DEFAULT_LEASE_MS, now))
    }
}

/// A key that is open for a turn.
pub(super) struct Opened {
    spot: Spot,
    lock: Lock,
    stood: Stood,
    string: Option<StringHold>,
    circumstances: Circumstances,
    outcome: Outcome,
    /// Who waited for it.
    before: Vec<(Ticket, Option<ClientId>)>,
}

impl Opened {
    fn resume<'a>(&'a mut self, table: &'a mut Table) -> Turn<'a> {
        let Self { spot, lock, string, circumstances, outcome, .. } = self;
        Turn::resume(lock, string, table, *spot, circumstances, outcome)
    }
}

impl Opened {
    /// What stands in for a key that is lent.
    fn nothing(spot: Spot) -> Self {
        let circumstances = Circumstances {
            now: Moment::from_micros(0),
            wall_micros: 0,
            grace_ms: 0,
            claim_ms: 0,
            authority: Authority::NONE,
            at_most: 0,
        };
        let (lock, outcome) = (Lock::new(), Outcome::default());
        Self { spot, lock, stood: Stood::Nothing, string: None, circumstances, outcome, before: Vec::new() }
    }
}

/// Several keys that are open at once.
pub(super) struct Several<'w> {
    pub(super) server: &'w mut Server,
    pub(super) opened: Vec<Opened>,
}

impl Turns for Several<'_> {
    fn count(&self) -> usize {
        self.opened.len()
    }

    fn at<R>(&mut self, place: usize, step: impl FnOnce(&mut Turn<'_>) -> R) -> R {
        step(&mut self.opened[place].resume(&mut self.server.table))
    }
}

impl Several<'_> {
    /// The holds of a token.
    pub(super) fn holds_of(&self, token: &Token) -> Vec<Option<Fence>> {
        let now = self.server.now;
        let fence = |opened: &Opened| opened.lock.hold_of(token, now).map(Hold::fence);
        let of_string = |opened: &Opened| {
            opened.string.as_ref().filter(|string| string.is_owned_by(token)).map(|_| Fence::NONE)
        };
        self.opened.iter().map(|opened| fence(opened).or_else(|| of_string(opened))).collect()
    }

    pub(super) fn note(&mut self, before: Vec<Option<Fence>>, token: &Token, is_granted: bool) {
        let holds =
            before.into_iter().zip(self.holds_of(token)).map(|(before, after)| [before, after]).collect();
        self.server.took_several.push(TookSeveral { holds, is_granted });
    }
}

/// The steps of a turn.
struct Steps<'w> {
    server: &'w mut Server,
    opened: Opened,
}

impl Steps<'_> {
    /// Takes a step of which so much may follow, and asks for the rights of those it comes to.
    fn take<R>(&mut self, room: usize, step: impl FnOnce(&mut Turn<'_>) -> R) -> R {
        self.opened.circumstances.at_most = self.opened.outcome.work().saturating_add(room);
        let result = step(&mut self.resume());
        while let Some(ticket) = self.opened.outcome.candidate {
            let has_right = self.server.has_right(ticket);
            if self.server.table.queues().keys_of(ticket).len() == 1 {
                self.resume().judge_candidate(has_right);
            } else if self.serve_several(ticket, has_right) {
                self.resume().candidate_is_served();
            } else {
                self.resume().pass_by_candidate();
            }
        }
        result
    }

    /// Serves a request for several keys if it can be served at each. The others are opened as they are.
    fn serve_several(&mut self, ticket: Ticket, has_right: bool) -> bool {
        let here = self.opened.spot;
        let keys = self.server.table.queues().keys_of(ticket);
        let spots: Vec<Spot> = keys.iter().map(|key| known(key.as_key())).collect();
        let turn = self.server.work_done.turns.len();
        if spots.iter().any(|spot| self.server.is_foreign(*spot)) {
            return false;
        }
        let own = std::mem::replace(&mut self.opened, Opened::nothing(here));
        let mut own = Some(own);
        let opened = spots
            .iter()
            .map(|spot| if *spot == here { own.take().unwrap() } else { self.server.open(*spot) });
        let opened = opened.collect();
        let mut several = Several { server: self.server, opened };
        let held_up_at = together::held_up_at(&mut several, ticket);
        if let Some(place) = held_up_at {
            several.server.table.is_held_up(ticket, place);
        } else {
            let token = several.server.table.queues().waiter(ticket).unwrap().token.clone();
            let before = several.holds_of(&token);
            together::serve(&mut several, ticket, has_right);
            several.note(before, &token, has_right);
            let number = several.server.number_of(ticket);
            several.server.work_done.several.push((turn, number));
        }
        for opened in several.opened {
            if opened.spot == here {
                self.opened = opened;
            } else if held_up_at.is_none() {
                self.server.close(opened, &Asked::Nothing, false);
            } else {
                self.server.put_back(opened);
            }
        }
        held_up_at.is_none()
    }

    fn resume(&mut self) -> Turn<'_> {
        self.opened.resume(&mut self.server.table)
    }

    /// As the next iterations of the server's loop do, if nothing else happens before.
    fn settle_the_rest(&mut self) {
        while self.opened.outcome.work() >= self.opened.circumstances.at_most
            && self.server.table.is_marked(self.opened.spot)
        {
            self.take(1, |turn| turn.settle());
        }
    }
}
