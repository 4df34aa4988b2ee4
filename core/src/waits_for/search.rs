//! The search for a circle of owners.
//!
//! An owner is *stuck* if it waits, and each of its waits is stuck. A wait is stuck if it could not be admitted though
//! everybody went who is not stuck: the holds of owners that are not stuck and of holders without a label, and the waits
//! ahead of those. A hold and a wait of the same label are never in the way: a label names one worker. A hold that
//! has ended counts for nothing, nor does a wait whose time is over. Of all sets of owners that agree with this, the
//! largest is meant.
//!
//! A request closes a circle if its own wait is stuck, and if a way leads back from it to its owner: to who is stuck and
//! in the way, and on from there.
//!
//! The search first asks less: whether a way leads back at all, with all that is noted in the way. It goes forward and
//! backward from the request in turn, a step at a time, and is over as soon as either comes to an end: who waits
//! at one end of a long chain sees that the chain is long only from one side. Only if a way leads back, what is stuck is found
//! by taking out who goes on, until nobody is left to take out.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Bound;

use smallvec::SmallVec;

use super::slab::Id;
use super::{Circle, MOST_NAMED, MOST_STEPS, Mark, Owner, View, Wait, WaitedKey, WaitsFor};
use crate::admission::Crowd;
use crate::queue::Ticket;

/// How many steps a search may still take.
pub(super) struct Budget(pub(super) usize);

/// The budget is used up: no circle is reported.
pub(super) struct UsedUp;

impl Budget {
    fn spend(&mut self) -> Result<(), UsedUp> {
        self.0 = self.0.checked_sub(1).ok_or(UsedUp)?;
        Ok(())
    }
}

/// What is left to go to.
enum Task {
    /// What an owner waits for; or who waits for it.
    Owner(Id<Owner>),
    /// The waits of a queue between these two, both left out: the last of them first.
    Queue { key: Id<WaitedKey>, from: Option<Ticket>, to: Option<Ticket>, is_own: bool },
    /// The locks that an owner holds, from here on.
    Holds(Id<Owner>, Bound<(Id<WaitedKey>, crate::fence::Fence)>),
}

/// Which way a search goes: to who is waited for, or to who waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Forward,
    Backward,
}

/// One side of a search.
struct Side {
    way: Way,
    tasks: Vec<Task>,
    /// Whether it ends when it meets the other, or a way back.
    is_to_meet: bool,
    /// Who was reached.
    reached: Vec<Id<Owner>>,
}

impl Side {
    fn new(way: Way, from: Id<Owner>, is_to_meet: bool) -> Self {
        Self { way, tasks: Vec::from([Task::Owner(from)]), is_to_meet, reached: Vec::new() }
    }
}

/// What a step came to.
enum Step {
    GoesOn,
    Ended,
    Met,
}

impl WaitsFor {
    /// The circle that the wait of an owner has closed, if it has.
    pub(crate) fn circle_of(&mut self, ticket: Ticket, view: View<'_>) -> Option<Circle> {
        let owner = self.waits.get(*self.wait_ids.get(&ticket)?)?.owner;
        let mut budget = Budget(MOST_STEPS);
        self.find(owner, view, &mut budget).unwrap_or(None)
    }

    pub(super) fn find(
        &mut self,
        from: Id<Owner>,
        view: View<'_>,
        budget: &mut Budget,
    ) -> Result<Option<Circle>, UsedUp> {
        if !self.owners.get(from).is_some_and(Owner::may_be_stuck) || !self.leads_back(from, budget)? {
            return Ok(None);
        }
        let reached = self.reach(from, budget)?;
        if !self.is_stuck_among(from, &reached, view, budget)? {
            return Ok(None);
        }
        self.way_back(from, view, budget)
    }

    fn begin(&mut self) -> u64 {
        self.search = self.search.saturating_add(1);
        self.search
    }

    /// Whether a way leads back to an owner.
    fn leads_back(&mut self, from: Id<Owner>, budget: &mut Budget) -> Result<bool, UsedUp> {
        self.begin();
        let mut sides = [Side::new(Way::Forward, from, true), Side::new(Way::Backward, from, true)];
        loop {
            for side in &mut sides {
                budget.spend()?;
                match self.step(from, side, budget)? {
                    Step::GoesOn => {}
                    Step::Ended => return Ok(false),
                    Step::Met => return Ok(true),
                }
            }
        }
    }

    /// All owners that an owner waits for, directly or not, with itself.
    fn reach(&mut self, from: Id<Owner>, budget: &mut Budget) -> Result<Vec<Id<Owner>>, UsedUp> {
        self.begin();
        let mut side = Side::new(Way::Forward, from, false);
        side.reached.push(from);
        while let Step::GoesOn = self.step(from, &mut side, budget)? {
            budget.spend()?;
        }
        Ok(side.reached)
    }

    fn step(&mut self, from: Id<Owner>, side: &mut Side, budget: &mut Budget) -> Result<Step, UsedUp> {
        match side.tasks.pop() {
            None => return Ok(Step::Ended),
            Some(Task::Owner(owner)) => return self.go_to(from, owner, side, budget),
            Some(Task::Holds(owner, after)) => {
                let next = self
                    .owners
                    .get(owner)
                    .and_then(|owner| owner.holds.range((after, Bound::Unbounded)).next());
                if let Some((key, fence)) = next.copied() {
                    side.tasks.push(Task::Holds(owner, Bound::Excluded((key, fence))));
                    self.go_behind(key, None, owner == from, side);
                }
            }
            Some(Task::Queue { key, from: after, to, is_own }) => {
                let Some(waited) = self.keys.get(key) else { return Ok(Step::GoesOn) };
                let is_done = is_own && side.way == Way::Forward && waited.is_ahead_done(self.search, to);
                let bounds = (
                    after.map_or(Bound::Unbounded, Bound::Excluded),
                    to.map_or(Bound::Unbounded, Bound::Excluded),
                );
                let is_empty = matches!((after, to), (Some(after), Some(to)) if after >= to);
                if is_done || is_empty {
                    return Ok(Step::GoesOn);
                }
                let last =
                    waited.queue.range(bounds).next_back().map(|(ticket, (_, owner))| (*ticket, *owner));
                if let Some((ticket, owner)) = last {
                    side.tasks.push(Task::Queue { key, from: after, to: Some(ticket), is_own });
                    return Ok(self.meet(from, owner, is_own, side));
                }
            }
        }
        Ok(Step::GoesOn)
    }

    /// Goes to what an owner waits for, or to who waits for it. An owner may have many waits for many keys: each place is a step.
    fn go_to(
        &mut self,
        from: Id<Owner>,
        id: Id<Owner>,
        side: &mut Side,
        budget: &mut Budget,
    ) -> Result<Step, UsedUp> {
        let Some(owner) = self.owners.get(id) else { return Ok(Step::GoesOn) };
        let is_own = id == from;
        if side.way == Way::Backward {
            side.tasks.push(Task::Holds(id, Bound::Unbounded));
        }
        if !owner.may_be_stuck() {
            return Ok(Step::GoesOn);
        }
        let stands_at = |wait: &Wait| {
            let ticket = wait.ticket;
            wait.keys.clone().into_iter().map(move |key| (key, ticket))
        };
        let waits = owner.waits.iter().filter_map(|wait| self.waits.get(*wait));
        let places: SmallVec<[(Id<WaitedKey>, Ticket); 4]> = waits.flat_map(stands_at).collect();
        for (key, ticket) in places {
            budget.spend()?;
            match side.way {
                Way::Backward => self.go_behind(key, Some(ticket), is_own, side),
                Way::Forward => {
                    if let met @ Step::Met = self.go_ahead(from, key, ticket, is_own, side) {
                        return Ok(met);
                    }
                }
            }
        }
        Ok(Step::GoesOn)
    }

    /// Goes to who is in the way of a wait: the holders, and those ahead of it.
    fn go_ahead(
        &mut self,
        from: Id<Owner>,
        key: Id<WaitedKey>,
        ticket: Ticket,
        is_own: bool,
        side: &mut Side,
    ) -> Step {
        let search = self.search;
        let Some(waited) = self.keys.get_mut(key) else { return Step::GoesOn };
        let done_to = waited.ahead.of(search).flatten();
        if waited.queue.len() > 1 && !waited.is_ahead_done(search, Some(ticket)) {
            if !is_own {
                waited.ahead = Mark { search, at: Some(ticket) };
            }
            // The ticket that was marked last was left out then.
            let after = done_to.map(Ticket::before);
            side.tasks.push(Task::Queue { key, from: after, to: Some(ticket), is_own });
        }
        if waited.visited.of(search).is_some() {
            return Step::GoesOn;
        }
        if !is_own {
            waited.visited = Mark { search, at: () };
        }
        let holders: SmallVec<[Id<Owner>; 4]> =
            waited.holds.iter().flatten().filter_map(|(_, owner)| *owner).collect();
        for owner in holders {
            if let met @ Step::Met = self.meet(from, owner, is_own, side) {
                return met;
            }
        }
        Step::GoesOn
    }

    /// Goes to who waits behind a ticket, or to all who wait for a key.
    fn go_behind(&mut self, key: Id<WaitedKey>, ticket: Option<Ticket>, is_own: bool, side: &mut Side) {
        let search = self.search;
        let Some(waited) = self.keys.get_mut(key) else { return };
        let done_from = waited.behind.of(search);
        let is_alone = ticket.is_some() && waited.queue.len() == 1;
        let is_done = is_alone || done_from.is_some_and(|from| from <= ticket);
        if !is_done {
            if !is_own {
                waited.behind = Mark { search, at: ticket };
            }
            // The ticket that was marked last was left out then.
            let to = done_from.flatten().map(Ticket::after);
            side.tasks.push(Task::Queue { key, from: ticket, to, is_own });
        }
    }

    /// Comes to an owner, from the request itself or from another.
    fn meet(&mut self, from: Id<Owner>, id: Id<Owner>, is_own: bool, side: &mut Side) -> Step {
        if id == from {
            return if side.is_to_meet && !is_own { Step::Met } else { Step::GoesOn };
        }
        let search = self.search;
        let Some(owner) = self.owners.get_mut(id) else { return Step::GoesOn };
        if side.way == Way::Backward && !owner.may_be_stuck() {
            return Step::GoesOn;
        }
        let (is_reached, reaches) = (owner.reached.of(search).is_some(), owner.reaches.of(search).is_some());
        let (is_known, is_met) = match side.way {
            Way::Forward => (is_reached, reaches),
            Way::Backward => (reaches, is_reached),
        };
        if is_met && side.is_to_meet {
            return Step::Met;
        }
        if !is_known {
            match side.way {
                Way::Forward => owner.reached = Mark { search, at: None },
                Way::Backward => owner.reaches = Mark { search, at: () },
            }
            side.tasks.push(Task::Owner(id));
            side.reached.push(id);
        }
        Step::GoesOn
    }
}

impl WaitedKey {
    /// Whether all waits before a ticket were gone to already, or will be.
    fn is_ahead_done(&self, search: u64, ticket: Option<Ticket>) -> bool {
        self.ahead.of(search).is_some_and(|done| done >= ticket)
    }
}

/// What is stuck.
impl WaitsFor {
    /// Whether an owner is stuck. `reached` are those on whom it depends, with itself. Who goes on is marked with the number of
    /// the search.
    fn is_stuck_among(
        &mut self,
        from: Id<Owner>,
        reached: &[Id<Owner>],
        view: View<'_>,
        budget: &mut Budget,
    ) -> Result<bool, UsedUp> {
        let search = self.begin();
        loop {
            let mut one_goes_on = false;
            // Those who were reached last are most often the first to go on.
            for id in reached.iter().rev().copied() {
                if self.is_stuck(id) && !self.has_to_wait(id, view, budget)? {
                    if id == from {
                        return Ok(false);
                    }
                    one_goes_on = true;
                    if let Some(owner) = self.owners.get_mut(id) {
                        owner.goes_on = Mark { search, at: () };
                    }
                }
            }
            if !one_goes_on {
                return Ok(true);
            }
        }
    }

    /// Whether an owner has not been found to go on.
    fn is_stuck(&self, id: Id<Owner>) -> bool {
        self.owners.get(id).is_some_and(|owner| owner.goes_on.of(self.search).is_none())
    }

    /// Whether an owner waits, and each of its waits is stuck if those are who count as stuck now.
    fn has_to_wait(&self, id: Id<Owner>, view: View<'_>, budget: &mut Budget) -> Result<bool, UsedUp> {
        let Some(owner) = self.owners.get(id).filter(|owner| owner.may_be_stuck()) else { return Ok(false) };
        let mut waits = false;
        for wait in owner.waits.iter().filter_map(|wait| self.waits.get(*wait)) {
            if wait.lasts(view.now) {
                waits = true;
                if !self.is_wait_stuck(wait, view, budget)? {
                    return Ok(false);
                }
            }
        }
        Ok(waits)
    }

    fn is_wait_stuck(&self, wait: &Wait, view: View<'_>, budget: &mut Budget) -> Result<bool, UsedUp> {
        for key in wait.keys.iter().filter_map(|key| self.keys.get(*key)) {
            if self.is_stuck_at(key, wait, view, budget)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_stuck_at(
        &self,
        key: &WaitedKey,
        wait: &Wait,
        view: View<'_>,
        budget: &mut Budget,
    ) -> Result<bool, UsedUp> {
        for (_, (other, owner)) in key.queue.range(..wait.ticket) {
            budget.spend()?;
            if self.is_in_the_way(*other, *owner, wait, view) {
                return Ok(true);
            }
        }
        budget.spend()?;
        Ok(self.is_kept_out_by_holders(key, wait, view))
    }

    /// Whether a wait ahead of this one stays there.
    fn is_in_the_way(&self, other: Id<Wait>, owner: Id<Owner>, wait: &Wait, view: View<'_>) -> bool {
        let lasts = || self.waits.get(other).is_some_and(|other| other.lasts(view.now));
        owner != wait.owner && self.is_stuck(owner) && lasts()
    }

    /// Whether the rule of admission keeps a wait out, beside the holders that are stuck.
    fn is_kept_out_by_holders(&self, key: &WaitedKey, wait: &Wait, view: View<'_>) -> bool {
        let Some(holds) = &key.holds else { return false };
        let own = holds.iter().find(|(hold, _)| hold.token == wait.token && view.counts(key, hold));
        let own = own.map(|(hold, _)| hold.share);
        let wanted = own.map_or(wait.asked.of_newcomer(), |own| wait.asked.beside(own));
        if own == Some(wanted) || !wanted.is_possible() || wait.is_inner && own.is_none() {
            // It is granted that, or refused, or told that the outer hold is gone.
            return false;
        }
        let in_the_way = holds.iter().filter(|(hold, owner)| {
            hold.token != wait.token
                && owner.is_some_and(|owner| owner != wait.owner && self.is_stuck(owner))
                && view.counts(key, hold)
        });
        !in_the_way.map(|(hold, _)| hold.share).collect::<Crowd>().admits(wanted)
    }

    /// The shortest way from an owner back to itself, through who is stuck and in the way. Who goes on was marked by the search
    /// before.
    fn way_back(
        &mut self,
        from: Id<Owner>,
        view: View<'_>,
        budget: &mut Budget,
    ) -> Result<Option<Circle>, UsedUp> {
        // The marks of who goes on stay valid: no search has begun since.
        let search = self.search;
        let mut next = VecDeque::from([from]);
        while let Some(id) = next.pop_front() {
            for other in self.in_the_way_of(id, from, view, budget)? {
                if other == from {
                    return Ok(Some(self.named(from, id)));
                }
                let Some(owner) = self.owners.get_mut(other) else { continue };
                if owner.reached.of(search).is_none() {
                    owner.reached = Mark { search, at: Some(id) };
                    next.push_back(other);
                }
            }
        }
        Ok(None)
    }

    /// Who is stuck and in the way of an owner. Those of a queue come up once, for they are the same for all behind them;
    /// only for the owner `from` itself they come up besides.
    fn in_the_way_of(
        &mut self,
        id: Id<Owner>,
        from: Id<Owner>,
        view: View<'_>,
        budget: &mut Budget,
    ) -> Result<Vec<Id<Owner>>, UsedUp> {
        let search = self.search;
        let mut found = Vec::new();
        let mut gone_through = Vec::new();
        let Some(owner) = self.owners.get(id) else { return Ok(found) };
        for wait in owner.waits.iter().filter_map(|wait| self.waits.get(*wait)) {
            for (key_id, key) in wait.keys.iter().filter_map(|key| Some((*key, self.keys.get(*key)?))) {
                if !wait.lasts(view.now) || !self.is_stuck_at(key, wait, view, budget)? {
                    continue;
                }
                let holds = key.holds.iter().flatten();
                let holders = holds.filter(|(hold, _)| hold.token != wait.token && view.counts(key, hold));
                let holders = holders.filter_map(|(_, owner)| *owner);
                found.extend(holders.filter(|owner| *owner != id && self.is_stuck(*owner)));
                let done = key.ahead.of(search).flatten().filter(|done| *done <= wait.ticket);
                let from_there = done.map_or(Bound::Unbounded, Bound::Included);
                if key.is_ahead_done(search, Some(wait.ticket)) {
                    continue;
                }
                for (_, (other, owner)) in key.queue.range((from_there, Bound::Excluded(wait.ticket))) {
                    budget.spend()?;
                    if self.is_in_the_way(*other, *owner, wait, view) {
                        found.push(*owner);
                    }
                }
                gone_through.push((key_id, wait.ticket));
            }
        }
        for (key, ticket) in gone_through {
            if id != from
                && let Some(key) = self.keys.get_mut(key)
            {
                key.ahead = Mark { search, at: Some(ticket) };
            }
        }
        Ok(found)
    }

    /// The labels of the owners on the way that was found.
    fn named(&self, from: Id<Owner>, last: Id<Owner>) -> Circle {
        let before = |id: &Id<Owner>| self.owners.get(*id)?.reached.of(self.search).flatten();
        let mut owners: Vec<Id<Owner>> =
            core::iter::successors(Some(last), |id| if *id == from { None } else { before(id) }).collect();
        owners.reverse();
        let label = |id: &Id<Owner>| self.owners.get(*id).map(|owner| owner.label.clone());
        let named: Vec<Box<[u8]>> = owners.iter().filter_map(label).take(MOST_NAMED).collect();
        Circle { named, len: owners.len() }
    }
}

impl View<'_> {
    /// Whether a hold counts: its lease runs or its connection is open, and it is not about to be undone.
    fn counts(&self, key: &WaitedKey, hold: &super::NotedHold) -> bool {
        let is_live = match hold.client {
            Some(client) => self.sessions.is_open(client),
            None => self.now < hold.deadline,
        };
        is_live && !self.undos.is_to_end(key.key.as_key(), hold.fence)
    }
}
