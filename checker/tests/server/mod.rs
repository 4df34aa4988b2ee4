//! A small server and its clients, all in one thread and on a clock of its own: it decides at one moment after another, and
//! a client knows of that only that it was after it had asked and before it was answered.

use std::collections::BTreeMap;

use lock_checker::{Answer, Ask, History, Limit, Micros, Op};

/// What is wrong with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// One hold more than the rule of admission allows.
    OneTooMany,
    /// Every hold counts as one.
    WeightsIgnored,
    /// Another limit or weight is had for the asking.
    ChangesForFree,
    /// Of several locks, only the first is granted.
    HalfGrants,
    /// A guard lets everybody write.
    LooseGuards,
    /// A guard lets nobody write whoever holds the lock.
    DeafGuards,
    /// What a guard has refused is written all the same.
    LateGuards,
    /// Leases end when half of them is over.
    ShortLeases,
    /// Fences go down.
    FallingFences,
    /// The last who waits is served first.
    LastComesFirst,
    /// Waits end when half of their time is over.
    ImpatientWaits,
    /// Waits end a while after their time.
    ForgottenWaits,
    /// A time to live stays on a key whatever lease is promised after it.
    KeptTtl,
    /// What is left of a time to live is not looked at.
    DeafToTtl,
    /// An inner level sets the lease anew, if it is shorter too.
    ShortLevels,
    /// An inner level is granted to who holds nothing.
    LevelsFromNothing,
    /// A hold ends with its inner level.
    LevelsEndHolds,
    /// An inner level is given back as often as asked for.
    ForgivingLevels,
    /// A release leaves the wait of its token.
    DeafToRelease,
    /// Who repeats a request has a new place behind all others.
    LostPlaces,
    /// Nobody has a place who does not wait.
    NoPlaces,
    /// Who waits is served before who has a place.
    PlacesComeLast,
    /// All who ask for the same lock have the same ticket.
    SharedTickets,
    /// Tickets go down.
    FallingTickets,
    /// A grant can be claimed after it has ended.
    EndlessClaims,
}

const CLIENTS: usize = 6;
const KEYS: [&str; 2] = ["k0", "k1"];

/// What is granted to a place in the queue lasts no longer until it is claimed.
pub(crate) const CLAIM_LEASE_MS: u64 = 40;

/// The longest way of a request to the server, or of a reply to the client.
const LONGEST_WAY: u64 = 3_000;

/// A client that has a place in the queue takes so long now and then to ask again.
const DAWDLES: Micros = 50_000;

/// A wait that is forgotten ends so much after its time.
const FORGOTTEN: Micros = 60_000;

/// What clients are told by a server with this defect in so many steps.
pub(crate) fn history(seed: u64, steps: usize, defect: Option<Defect>) -> History {
    let mut world = World {
        defect,
        random: seed,
        now: 1_000,
        last_fence: 0,
        last_ticket: 0,
        unclaimed: BTreeMap::new(),
        clients: (0..CLIENTS).map(|_| Client::default()).collect(),
        locks: BTreeMap::new(),
        written: BTreeMap::new(),
        values: 0,
        strays: Vec::new(),
        ops: Vec::new(),
    };
    for _ in 0..steps {
        world.now += 1 + world.below(4_000);
        world.tick();
        world.step();
    }
    // Those who still wait are told so in their time.
    for _ in 0..200 {
        world.now += 2_000;
        world.tick();
    }
    History::new(world.ops, Vec::new())
}

#[derive(Default)]
struct Client {
    /// When it had its last answer.
    free: Micros,
    /// What it waits for, and when it asked for that.
    waits: Option<(Micros, Ask)>,
    /// The lock it holds or has asked for without an answer, as it asked for it.
    wants: Option<Ask>,
    /// What it asks next, if it has asked for it in vain.
    again: Option<Ask>,
    work: usize,
    connection: usize,
}

type ConnectionId = (usize, usize);

struct Held {
    token: String,
    fence: u64,
    limit: usize,
    weight: usize,
    level: u16,
    deadline: Micros,
    tie: Option<ConnectionId>,
}

/// Somebody in the queue.
struct Waiting {
    /// The request that waits for its answer, by its connection and when it was sent. Without one it is a mere place.
    request: Option<(ConnectionId, Micros)>,
    /// When the request is answered in vain, or the place is gone.
    until: Micros,
    ticket: u64,
    ask: Ask,
}

#[derive(Default)]
struct Lock {
    holds: Vec<Held>,
    /// When the key goes, if somebody has set that.
    ttl: Option<Micros>,
    queue: Vec<Waiting>,
}

/// What arrives at the server late.
struct Stray {
    at: Micros,
    from: ConnectionId,
    ask: Ask,
    /// When it was sent by a client that is still there. Without one the end of the connection comes behind it.
    sent: Option<Micros>,
}

struct World {
    defect: Option<Defect>,
    random: u64,
    now: Micros,
    last_fence: u64,
    last_ticket: u64,
    /// What was granted to places, by key and token.
    unclaimed: BTreeMap<(String, String), u64>,
    clients: Vec<Client>,
    locks: BTreeMap<String, Lock>,
    /// What is written under guards, by name.
    written: BTreeMap<String, String>,
    /// How many values have been drawn.
    values: u64,
    strays: Vec<Stray>,
    ops: Vec<Op>,
}

impl World {
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    /// Does what is due up to now, each at its own moment.
    fn tick(&mut self) {
        while let Some(moment) = self.next_due().filter(|moment| *moment <= self.now) {
            while let Some(place) = self.strays.iter().position(|stray| stray.at == moment) {
                let Stray { from, ask, sent, .. } = self.strays.remove(place);
                let answer = self.decide(&ask, from, moment);
                if let Some(sent) = sent {
                    match answer {
                        Some(answer) => self.answer(from, sent, moment, ask, answer),
                        None => self.wait(from, sent, moment, ask),
                    }
                    continue;
                }
                if answer.is_none() && ask.queues() {
                    self.take_place(&ask, None, moment);
                }
                for lock in self.locks.values_mut() {
                    lock.holds.retain(|hold| hold.tie != Some(from));
                }
            }
            for key in KEYS {
                let lock = self.locks.entry(key.to_owned()).or_default();
                lock.holds.retain(|hold| hold.tie.is_some() || hold.deadline > moment);
                if lock.ttl.is_some_and(|ttl| ttl <= moment) {
                    lock.holds.clear();
                }
                if lock.holds.is_empty() {
                    lock.ttl = None;
                }
                while let Some(place) =
                    self.lock(key).queue.iter().position(|waiting| waiting.until <= moment)
                {
                    self.time_is_up(key, place, moment);
                }
                self.serve(key, moment);
            }
        }
    }

    fn next_due(&self) -> Option<Micros> {
        let holds = self.locks.values().flat_map(|lock| &lock.holds).filter(|hold| hold.tie.is_none());
        let waits = self.locks.values().flat_map(|lock| &lock.queue);
        let ttls = self.locks.values().filter_map(|lock| lock.ttl);
        let moments = holds.map(|hold| hold.deadline).chain(ttls).chain(waits.map(|waiting| waiting.until));
        moments.chain(self.strays.iter().map(|stray| stray.at)).min()
    }

    fn lock(&mut self, key: &str) -> &mut Lock {
        self.locks.entry(key.to_owned()).or_default()
    }

    /// A request has waited for so long, or a place has been kept for so long.
    fn time_is_up(&mut self, key: &str, place: usize, moment: Micros) {
        let keeps_places = !self.has(Defect::NoPlaces);
        let waiting = &mut self.lock(key).queue[place];
        let (request, ticket, ask) = (waiting.request.take(), waiting.ticket, waiting.ask.clone());
        let queue_ms = queue_ms(&ask).filter(|_| keeps_places);
        match (request, queue_ms) {
            (Some(_), Some(queue_ms)) => waiting.until = moment + queue_ms * 1000,
            _ => drop(self.lock(key).queue.remove(place)),
        }
        if let Some((from, sent)) = request {
            let answer = queue_ms.map_or(Answer::Null, |_| Answer::Ticket(ticket));
            self.answer(from, sent, moment, ask, answer);
        }
    }

    /// Whoever asks comes to the queue, or stays where it is; the request of its token that waited there is answered.
    fn take_place(&mut self, ask: &Ask, request: Option<(ConnectionId, Micros)>, moment: Micros) -> u64 {
        let (key, token) = (ask.key().unwrap(), ask.token());
        let block_ms = match ask {
            Ask::Acquire { block_ms, .. } => block_ms.unwrap_or(0),
            _ => 0,
        };
        let span = match (request, self.defect) {
            (None, _) => queue_ms(ask).unwrap_or(0) * 1000,
            (_, Some(Defect::ImpatientWaits)) => block_ms * 500,
            (_, Some(Defect::ForgottenWaits)) => block_ms * 1000 + FORGOTTEN,
            _ => block_ms * 1000,
        };
        self.last_ticket += 1;
        let new = match self.defect {
            Some(Defect::SharedTickets) => 1,
            Some(Defect::FallingTickets) => 1_000_000 - self.last_ticket,
            _ => self.last_ticket,
        };
        let loses_places = self.has(Defect::LostPlaces);
        let queue = &mut self.lock(key).queue;
        let mut waiting = Waiting { request, until: moment + span, ticket: new, ask: ask.clone() };
        let place = queue.iter().position(|waiting| waiting.ask.token() == token);
        let before = match place {
            Some(place) if loses_places => {
                queue.push(waiting);
                Some(queue.remove(place))
            }
            Some(place) => {
                waiting.ticket = queue[place].ticket;
                Some(std::mem::replace(&mut queue[place], waiting))
            }
            None => {
                queue.push(waiting);
                None
            }
        };
        let ticket = before.as_ref().filter(|_| !loses_places).map_or(new, |before| before.ticket);
        if let Some(Waiting { request: Some((from, sent)), ticket, ask, .. }) = before {
            let answer = queue_ms(&ask).map_or(Answer::Null, |_| Answer::Ticket(ticket));
            self.answer(from, sent, moment, ask, answer);
        }
        ticket
    }

    fn serve(&mut self, key: &str, moment: Micros) {
        loop {
            let queue = &self.lock(key).queue;
            let last = queue.len().saturating_sub(1);
            let who_waits = queue.iter().position(|waiting| waiting.request.is_some()).unwrap_or(0);
            let place = match self.defect {
                Some(Defect::LastComesFirst) => last,
                Some(Defect::PlacesComeLast) => who_waits,
                _ => 0,
            };
            let Some(ask) = self.lock(key).queue.get(place).map(|waiting| waiting.ask.clone()) else {
                return;
            };
            if !self.admits(&ask) {
                return;
            }
            let waiting = self.lock(key).queue.remove(place);
            if let Some((from, sent)) = waiting.request {
                let fence = self.grant(&ask, from, moment);
                self.answer(from, sent, moment, ask, Answer::Granted(fence));
            } else {
                let fence = self.grant(&shortened(&ask), (0, 0), moment);
                self.unclaimed.insert((key.to_owned(), ask.token().unwrap().to_owned()), fence);
            }
        }
    }

    fn admits(&self, ask: &Ask) -> bool {
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

    fn grant(&mut self, ask: &Ask, from: ConnectionId, moment: Micros) -> u64 {
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
    fn decide(&mut self, ask: &Ask, from: ConnectionId, moment: Micros) -> Option<Answer> {
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

    /// A release has left this token without a hold, perhaps.
    fn withdraw(&mut self, key: &str, token: &str, moment: Micros) {
        let is_deaf = self.has(Defect::DeafToRelease);
        let lock = self.lock(key);
        let place = lock.queue.iter().position(|waiting| waiting.ask.token() == Some(token));
        if let Some(place) = place.filter(|_| !is_deaf && lock.holds.iter().all(|hold| hold.token != token)) {
            let waiting = lock.queue.remove(place);
            if let Some((from, sent)) = waiting.request {
                self.answer(from, sent, moment, waiting.ask, Answer::Null);
            }
        }
    }

    /// A client that is free asks for something, which is decided now, or later; one that waits may give that up.
    fn step(&mut self) {
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

    fn wait(&mut self, from: ConnectionId, sent: Micros, moment: Micros, ask: Ask) {
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
    fn answer(&mut self, from: ConnectionId, sent: Micros, moment: Micros, ask: Ask, answer: Answer) {
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

fn most(limit: Limit) -> usize {
    match limit {
        Limit::Most(most) => most,
        Limit::Shared => usize::MAX,
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

fn with_key(ask: &Ask, new: &str) -> Ask {
    let mut ask = ask.clone();
    if let Ask::Acquire { key, .. } | Ask::Release { key, .. } | Ask::Extend { key, .. } = &mut ask {
        new.clone_into(key);
    }
    ask
}

fn queue_ms(ask: &Ask) -> Option<u64> {
    match ask {
        Ask::Acquire { queue_ms, .. } => *queue_ms,
        _ => None,
    }
}

/// As it is granted to a place.
fn shortened(ask: &Ask) -> Ask {
    let mut ask = ask.clone();
    if let Ask::Acquire { lease_ms, .. } = &mut ask {
        *lease_ms = (*lease_ms).min(CLAIM_LEASE_MS);
    }
    ask
}

/// A request that is answered at once, whatever it asks for.
fn without_block(ask: &Ask) -> Ask {
    let mut ask = ask.clone();
    if let Ask::Acquire { block_ms, .. } = &mut ask {
        *block_ms = None;
    }
    ask
}
