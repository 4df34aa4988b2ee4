//! What the clients ask for, when they give up, and what they make of an answer.

use lock_checker::{Answer, Ask, Limit, Micros, Op};

use super::{CLIENTS, ConnectionId, KEYS, Stray, World, most, queue_ms, with_key};

/// The longest way of a request to the server, or of a reply to the client.
const LONGEST_WAY: u64 = 3_000;

/// A client that has a place in the queue takes so long now and then to ask again.
const DAWDLES: Micros = 50_000;

impl World {
    /// A client that is free asks for something, which is decided now, or later; one that waits may give that up.
    pub(super) fn step(&mut self) {
        let at = self.below(CLIENTS as u64) as usize;
        if self.clients[at].free >= self.now {
            return;
        }
        if let Some((sent, ask)) = self.clients[at].waits.clone() {
            match self.below(16) {
                0 | 1 => self.give_up(at, sent, &ask),
                2 if ask.queues() => self.come_back(at, sent, &ask),
                3 if ask.queues() => self.go_away(at, sent, &ask),
                _ => {}
            }
            return;
        }
        let way = self.below(LONGEST_WAY);
        let sent = self.now.saturating_sub(way).max(self.clients[at].free);
        let ask = self.choose(at);
        let from = (at, self.clients[at].connection);
        let waits = matches!(ask, Ask::Acquire { block_ms: Some(_), .. });
        // Nothing is certain of a lock's end any more once it is not known whether a time to live comes.
        let may_stray = !matches!(ask, Ask::Expire { .. }) || self.below(4) == 0;
        if may_stray && self.below(10) == 0 {
            let at = self.now + self.below(if waits { 10_000 } else { 60_000 });
            self.strays.push(Stray { at, from, ask: ask.clone(), sent: waits.then_some(sent) });
            if waits {
                self.clients[from.0].waits = Some((sent, ask));
            } else {
                self.answer(from, sent, self.now, ask, Answer::GaveUp);
            }
            return;
        }
        match self.decide(&ask, from, self.now) {
            Some(answer) => self.answer(from, sent, self.now, ask, answer),
            None => self.wait(from, sent, self.now, ask),
        }
    }

    pub(super) fn wait(&mut self, from: ConnectionId, sent: Micros, moment: Micros, ask: Ask) {
        self.clients[from.0].waits = Some((sent, ask.clone()));
        self.take_place(&ask, Some((from, sent)), moment);
    }

    /// A client asks again over its next connection, as if the first were lost.
    fn come_back(&mut self, at: usize, since: Micros, wait: &Ask) {
        let ask = without_block(wait);
        let sent = self.now.saturating_sub(self.below(LONGEST_WAY)).max(since + 1);
        let (client, connection) = (at, self.clients[at].connection + 1);
        let answer = self.decide(&ask, (client, connection), self.now).unwrap();
        let answered = self.now + 1 + self.below(LONGEST_WAY);
        self.clients[at].free = self.clients[at].free.max(answered);
        self.ops.push(Op { sent, answered, client, connection, node: 0, ask, answer });
    }

    /// The connection of a client is lost while it waits, and its place is kept.
    fn go_away(&mut self, at: usize, since: Micros, wait: &Ask) {
        let (now, from) = (self.now, (at, self.clients[at].connection));
        let queue = &mut self.lock(wait.key().unwrap()).queue;
        let mut own = queue.iter_mut().filter(|waiting| waiting.request == Some((from, since)));
        if let Some(waiting) = own.next() {
            waiting.request = None;
            waiting.until = now + queue_ms(wait).unwrap() * 1000;
            self.answer(from, since, now, wait.clone(), Answer::GaveUp);
        }
    }

    /// A client withdraws what it waits for, over its next connection.
    fn give_up(&mut self, at: usize, since: Micros, wait: &Ask) {
        let (key, token) = (wait.key().unwrap().to_owned(), wait.token().unwrap().to_owned());
        let release = Ask::Release { key, token, level: 1 };
        let sent = self.now.saturating_sub(self.below(LONGEST_WAY)).max(since + 1);
        let from = (at, self.clients[at].connection + 1);
        let answer = self.decide(&release, from, self.now).unwrap();
        let answered = self.now + 1 + self.below(LONGEST_WAY);
        // It may look whether that was so.
        if self.clients[at].waits.is_none() && self.below(2) == 0 {
            self.clients[at].wants = Some(wait.clone());
        }
        self.clients[at].free = self.clients[at].free.max(answered);
        let (client, connection) = from;
        self.ops.push(Op { sent, answered, client, connection, node: 0, ask: release, answer });
    }

    fn share(&mut self) -> (Limit, Option<u16>) {
        let limit = match self.below(8) {
            0 | 1 => Limit::Shared,
            2 => Limit::Most(2),
            3 => Limit::Most(4),
            _ => Limit::EXCLUSIVE,
        };
        (limit, (self.below(3) == 0).then(|| 1 + self.below(most(limit).min(3) as u64) as u16))
    }

    fn choose(&mut self, at: usize) -> Ask {
        let lease_ms = 5 + self.below(120);
        if let Some(again) = self.clients[at].again.take() {
            return again;
        }
        let Some(wants) = self.clients[at].wants.clone() else {
            let key = KEYS[self.below(2) as usize].to_owned();
            match self.below(12) {
                0..4 => return Ask::Look { key },
                4 => return Ask::Read { name: format!("x{key}") },
                _ => {}
            }
            self.clients[at].work += 1;
            let (limit, weight) = self.share();
            let block_ms = (self.below(3) != 0).then_some(10 + self.below(60));
            let queue_ms = (self.below(4) == 0).then_some(10 + self.below(80));
            let session = queue_ms.is_none() && self.below(3) == 0;
            let token = format!("c{at}-{}", self.clients[at].work);
            let level = (self.below(2) == 0).then_some(1);
            let acquire = |block_ms, queue_ms| Ask::Acquire {
                key,
                token,
                limit,
                lease_ms,
                weight,
                level,
                block_ms,
                queue_ms,
                session,
            };
            if self.below(4) == 0 {
                let keys = KEYS.map(str::to_owned).to_vec();
                let each = Box::new(with_key(&acquire(None, None), KEYS[0]));
                return Ask::Several { keys, each };
            }
            return acquire(block_ms, queue_ms);
        };
        let (key, token) = (wants.key().unwrap().to_owned(), wants.token().unwrap().to_owned());
        let inner = 2 + self.below(2) as u16;
        let check = Ask::Check { key: key.clone(), token: token.clone() };
        if self.below(6) == 0 {
            self.values += 1;
            self.clients[at].again = (self.below(2) == 0).then(|| Ask::Read { name: format!("x{key}") });
            return Ask::Guard { name: format!("x{key}"), key, token, value: self.values.to_string() };
        }
        if let Ask::Several { keys, .. } = &wants
            && self.below(2) == 0
        {
            let (other, keys) = (keys[self.below(2) as usize].clone(), keys.clone());
            return match self.below(4) {
                0 => {
                    let each = Box::new(Ask::Release { key, token, level: 1 });
                    Ask::Several { keys, each }
                }
                1 => {
                    let each = Box::new(Ask::Extend { key, token, lease_ms });
                    Ask::Several { keys, each }
                }
                _ => Ask::Check { key: other, token },
            };
        }
        match self.below(16) {
            0 => Ask::Extend { key, token, lease_ms },
            1 => check,
            3 if self.below(2) == 0 => {
                let (limit, weight) = self.share();
                with_share(wants, limit, weight)
            }
            2 | 3 => wants,
            4..=8 => {
                self.clients[at].again = Some(check);
                inner_of(wants, inner, lease_ms / 4)
            }
            9 | 10 => Ask::Release { key, token, level: inner },
            11 | 12 => {
                self.clients[at].again = Some(check);
                Ask::Expire { key, ttl_ms: 1 + self.below(20) }
            }
            _ => Ask::Release { key, token, level: 1 },
        }
    }

    /// The client has what was decided at `moment`, or knows that it will not have it.
    pub(super) fn answer(
        &mut self,
        from: ConnectionId,
        sent: Micros,
        moment: Micros,
        ask: Ask,
        answer: Answer,
    ) {
        let answered = moment + 1 + self.below(LONGEST_WAY);
        let (at, connection) = from;
        let (repeats, waits_on, dawdles) = (self.below(2) == 0, self.below(8) != 0, self.below(4) == 0);
        let client = &mut self.clients[at];
        (client.free, client.waits) = (client.free.max(answered), None);
        let each = match &ask {
            Ask::Several { each, .. } => each,
            ask => ask,
        };
        match (each, &answer) {
            (_, Answer::GaveUp) => {
                client.connection += 1;
                client.again = repeats.then(|| ask.clone());
                if (matches!(each, Ask::Acquire { .. }) || each.releases_all()) && !repeats {
                    client.wants = None;
                }
            }
            (Ask::Acquire { .. }, Answer::Granted(_)) if each.is_inner() => {}
            (Ask::Acquire { .. }, Answer::Granted(_)) => client.wants = Some(ask.clone()),
            (Ask::Acquire { .. }, Answer::Ticket(_)) => {
                client.wants = Some(ask.clone());
                let repetition = if repeats { without_block(&ask) } else { ask.clone() };
                client.again = waits_on.then_some(repetition);
                client.free += if dawdles { DAWDLES } else { 0 };
            }
            // Another share is not to be had, and what is held stays.
            (Ask::Acquire { .. }, _) if client.wants.as_ref().is_some_and(|wants| *wants != ask) => {}
            (Ask::Acquire { .. }, _) => client.wants = None,
            (Ask::Release { .. }, _) if each.releases_all() => client.wants = None,
            _ => {}
        }
        self.ops.push(Op { sent, answered, client: at, connection, node: 0, ask, answer });
    }
}

/// The request for another share of what is held, which waits for nothing.
fn with_share(mut ask: Ask, new_limit: Limit, new_weight: Option<u16>) -> Ask {
    if let Ask::Acquire { limit, weight, block_ms, queue_ms, .. } = &mut ask {
        (*limit, *weight, *block_ms, *queue_ms) = (new_limit, new_weight, None, None);
    }
    ask
}

/// The request of an inner level, which waits for nothing.
fn inner_of(ask: Ask, inner: u16, shorter_ms: u64) -> Ask {
    let Ask::Acquire { key, token, limit, session, .. } = ask else { return ask };
    Ask::Acquire {
        key,
        token,
        limit,
        lease_ms: shorter_ms,
        weight: None,
        level: Some(inner),
        block_ms: None,
        queue_ms: None,
        session,
    }
}

/// A request that is answered at once, whatever it asks for.
fn without_block(ask: &Ask) -> Ask {
    let mut ask = ask.clone();
    if let Ask::Acquire { block_ms, .. } = &mut ask {
        *block_ms = None;
    }
    ask
}
