//! What the server makes of a request.

use lock_checker::{Answer, Ask, Micros};

use super::{ConnectionId, Defect, Held, World, most, with_key};

impl World {
    pub(super) fn admits(&self, ask: &Ask) -> bool {
        let Ask::Acquire { key, token, limit, weight, .. } = ask else { return false };
        let holds = self.locks.get(key).map_or(&[][..], |lock| &lock.holds);
        let (own, others): (Vec<&Held>, Vec<&Held>) = holds.iter().partition(|hold| hold.token == *token);
        let own = own.first().map_or(1, |own| own.weight);
        let smallest = others.iter().map(|hold| hold.limit).fold(most(*limit), usize::min);
        let weight = if self.has(Defect::WeightsIgnored) {
            others.len() + 1
        } else {
            others.iter().map(|hold| hold.weight).sum::<usize>() + weight.map_or(own, usize::from)
        };
        weight <= smallest.saturating_add(usize::from(self.has(Defect::OneTooMany)))
    }

    pub(super) fn grant(&mut self, ask: &Ask, from: ConnectionId, moment: Micros) -> u64 {
        let Ask::Acquire { key, token, limit, lease_ms, weight, session, .. } = ask else { return 0 };
        self.last_fence += 1;
        let fence =
            if self.has(Defect::FallingFences) { 1_000_000 - self.last_fence } else { self.last_fence };
        let lease = if self.has(Defect::ShortLeases) { lease_ms * 500 } else { lease_ms * 1000 };
        let (limit, tie) = (most(*limit), session.then_some(from));
        let weight = weight.map_or(1, usize::from);
        let held =
            Held { token: token.clone(), fence, limit, weight, level: 1, deadline: moment + lease, tie };
        self.lock(key).holds.push(held);
        self.promise(key);
        fence
    }

    /// A lease was promised.
    fn promise(&mut self, key: &str) {
        if !self.has(Defect::KeptTtl) {
            self.lock(key).ttl = None;
        }
    }

    /// What the server makes of a request; nothing yet where it waits.
    pub(super) fn decide(&mut self, ask: &Ask, from: ConnectionId, moment: Micros) -> Option<Answer> {
        match ask {
            Ask::Several { keys, each } => return Some(self.decide_all(keys, each, from, moment)),
            Ask::Guard { key, token, name, value } => return Some(self.guard(key, token, name, value)),
            Ask::Read { name } => {
                return Some(self.written.get(name).cloned().map_or(Answer::Null, Answer::Value));
            }
            _ => {}
        }
        let (key, token) = (ask.key()?, ask.token());
        let admits = self.admits(ask);
        let unclaimed = self.unclaimed.get(&(key.to_owned(), token.unwrap_or_default().to_owned())).copied();
        let unclaimed = unclaimed.filter(|_| self.has(Defect::EndlessClaims));
        let keeps_places = !self.has(Defect::NoPlaces);
        let [changes_for_free, deaf_to_ttl, short_levels, from_nothing, end_holds, forgiving] = [
            Defect::ChangesForFree,
            Defect::DeafToTtl,
            Defect::ShortLevels,
            Defect::LevelsFromNothing,
            Defect::LevelsEndHolds,
            Defect::ForgivingLevels,
        ]
        .map(|defect| self.has(defect));
        let lock = self.locks.entry(key.to_owned()).or_default();
        let (ttl, is_held) = (lock.ttl, !lock.holds.is_empty());
        let held = lock.holds.iter_mut().find(|hold| Some(hold.token.as_str()) == token);
        let answer = match (ask, held) {
            (Ask::Acquire { limit, weight, .. }, Some(held))
                if !(admits || changes_for_free)
                    && (held.limit != most(*limit)
                        || weight.is_some_and(|weight| usize::from(weight) != held.weight)) =>
            {
                Answer::Null
            }
            (Ask::Acquire { limit, lease_ms, weight, session, level, .. }, Some(held)) => {
                held.limit = most(*limit);
                held.weight = weight.map_or(held.weight, usize::from);
                let lease_end = moment + lease_ms * 1000;
                let is_never_shorter = level.is_some() && !short_levels;
                held.deadline = if is_never_shorter { held.deadline.max(lease_end) } else { lease_end };
                held.level = held.level.max(level.unwrap_or(1));
                held.tie = session.then_some(from).or(held.tie);
                let fence = held.fence;
                self.promise(key);
                Answer::Granted(fence)
            }
            (Ask::Acquire { .. }, None) if ask.is_inner() && !from_nothing => Answer::Null,
            (Ask::Acquire { .. }, None) if lock.queue.is_empty() && admits => {
                Answer::Granted(self.grant(ask, from, moment))
            }
            (Ask::Acquire { .. }, None) if unclaimed.is_some() => Answer::Granted(unclaimed.unwrap()),
            (Ask::Acquire { block_ms: Some(_), .. }, None) => return None,
            (Ask::Acquire { .. }, None) if ask.queues() && keeps_places => {
                Answer::Ticket(self.take_place(ask, None, moment))
            }
            (Ask::Acquire { .. }, None) => Answer::Null,
            (Ask::Extend { lease_ms, .. }, Some(held)) => {
                held.deadline = moment + lease_ms * 1000;
                self.promise(key);
                Answer::Yes
            }
            (Ask::Check { .. }, Some(held)) => {
                let end = ttl.filter(|_| !deaf_to_ttl).map_or(held.deadline, |ttl| ttl.min(held.deadline));
                Answer::Held(held.fence, end.saturating_sub(moment).div_ceil(1000))
            }
            (Ask::Check { .. }, None) => Answer::Null,
            (Ask::Release { level: 2.., .. }, Some(_)) if end_holds => {
                lock.holds.retain(|hold| Some(hold.token.as_str()) != token);
                Answer::Yes
            }
            (Ask::Release { level, .. }, Some(held)) if *level > held.level && !forgiving => Answer::No,
            (Ask::Release { level: level @ 2.., .. }, Some(held)) => {
                held.level = held.level.min(level - 1);
                Answer::Yes
            }
            (Ask::Release { .. }, Some(_)) => {
                lock.holds.retain(|hold| Some(hold.token.as_str()) != token);
                Answer::Yes
            }
            (Ask::Expire { ttl_ms, .. }, _) if is_held => {
                lock.ttl = Some(moment + ttl_ms * 1000);
                Answer::Yes
            }
            (Ask::Look { .. }, _) => {
                let tokens = lock.queue.iter().filter_map(|waiting| waiting.ask.token());
                Answer::Queue(tokens.map(str::to_owned).collect())
            }
            _ => Answer::No,
        };
        if matches!(ask, Ask::Release { .. }) {
            self.withdraw(key, token.unwrap_or_default(), moment);
            self.serve(key, moment);
        }
        Some(answer)
    }

    fn holds(&self, key: &str, token: &str) -> bool {
        self.locks.get(key).is_some_and(|lock| lock.holds.iter().any(|hold| hold.token == token))
    }

    fn decide_all(&mut self, keys: &[String], each: &Ask, from: ConnectionId, moment: Micros) -> Answer {
        let token = each.token().unwrap().to_owned();
        let held = keys.iter().filter(|key| self.holds(key, &token)).count();
        if !matches!(each, Ask::Acquire { .. }) {
            let answers: Vec<_> =
                keys.iter().map(|key| self.decide(&with_key(each, key), from, moment)).collect();
            return Answer::Count(answers.iter().filter(|answer| **answer == Some(Answer::Yes)).count());
        }
        if held == keys.len() {
            let answers: Vec<_> =
                keys.iter().map(|key| self.decide(&with_key(each, key), from, moment)).collect();
            return answers.into_iter().flatten().next().unwrap();
        }
        let is_ready = |key: &String| {
            self.admits(&with_key(each, key)) && self.locks.get(key).is_none_or(|lock| lock.queue.is_empty())
        };
        if held > 0 || !keys.iter().all(is_ready) {
            return Answer::Null;
        }
        let granted = if self.has(Defect::HalfGrants) { &keys[..1] } else { keys };
        let fences: Vec<u64> =
            granted.iter().map(|key| self.grant(&with_key(each, key), from, moment)).collect();
        for key in granted {
            let own = self.lock(key).holds.iter_mut().find(|hold| hold.token == token);
            own.unwrap().fence = fences[0];
        }
        Answer::Granted(fences[0])
    }

    fn guard(&mut self, key: &str, token: &str, name: &str, value: &str) -> Answer {
        let is_deaf = self.has(Defect::DeafGuards);
        let may_write = self.holds(key, token) && !is_deaf || self.has(Defect::LooseGuards);
        if may_write || self.has(Defect::LateGuards) {
            self.written.insert(name.to_owned(), value.to_owned());
        }
        if may_write { Answer::Done } else { Answer::NotOwner }
    }
}
