//! A small server and its clients, all in one thread and on a clock of its own: it decides at one moment after another, and
//! a client knows of that only that it was after it had asked and before it was answered.

use std::collections::BTreeMap;

use lock_checker::{Answer, Ask, History, Limit, Micros, Op};

/// What is wrong with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// One hold more than the rule of admission allows.
    OneTooMany,
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
}

const CLIENTS: usize = 6;
const KEYS: [&str; 2] = ["k0", "k1"];

/// The longest way of a request to the server, or of a reply to the client.
const LONGEST_WAY: u64 = 3_000;

/// A wait that is forgotten ends so much after its time.
const FORGOTTEN: Micros = 60_000;

/// What clients are told by a server with this defect in so many steps.
pub(crate) fn history(seed: u64, steps: usize, defect: Option<Defect>) -> History {
    let mut world = World {
        defect,
        random: seed,
        now: 1_000,
        last_fence: 0,
        clients: (0..CLIENTS).map(|_| Client::default()).collect(),
        locks: BTreeMap::new(),
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
    waits: bool,
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
    deadline: Micros,
    tie: Option<ConnectionId>,
}

struct Waiting {
    from: ConnectionId,
    sent: Micros,
    until: Micros,
    ask: Ask,
}

#[derive(Default)]
struct Lock {
    holds: Vec<Held>,
    queue: Vec<Waiting>,
}

/// What arrives at the server after its client has gone.
struct Stray {
    at: Micros,
    from: ConnectionId,
    /// The request, and behind it the end of the connection.
    ask: Ask,
}

struct World {
    defect: Option<Defect>,
    random: u64,
    now: Micros,
    last_fence: u64,
    clients: Vec<Client>,
    locks: BTreeMap<String, Lock>,
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
                let stray = self.strays.remove(place);
                let _ = self.decide(&stray.ask, stray.from, moment);
                for lock in self.locks.values_mut() {
                    lock.holds.retain(|hold| hold.tie != Some(stray.from));
                }
            }
            for key in KEYS {
                let lock = self.locks.entry(key.to_owned()).or_default();
                lock.holds.retain(|hold| hold.tie.is_some() || hold.deadline > moment);
                while let Some(place) =
                    self.lock(key).queue.iter().position(|waiting| waiting.until <= moment)
                {
                    let waiting = self.lock(key).queue.remove(place);
                    self.answer(waiting.from, waiting.sent, moment, waiting.ask, Answer::Null);
                }
                self.serve(key, moment);
            }
        }
    }

    fn next_due(&self) -> Option<Micros> {
        let holds = self.locks.values().flat_map(|lock| &lock.holds).filter(|hold| hold.tie.is_none());
        let waits = self.locks.values().flat_map(|lock| &lock.queue);
        let moments = holds.map(|hold| hold.deadline).chain(waits.map(|waiting| waiting.until));
        moments.chain(self.strays.iter().map(|stray| stray.at)).min()
    }

    fn lock(&mut self, key: &str) -> &mut Lock {
        self.locks.entry(key.to_owned()).or_default()
    }

    fn serve(&mut self, key: &str, moment: Micros) {
        loop {
            let last = self.lock(key).queue.len().saturating_sub(1);
            let place = if self.has(Defect::LastComesFirst) { last } else { 0 };
            let Some(ask) = self.lock(key).queue.get(place).map(|waiting| waiting.ask.clone()) else {
                return;
            };
            if !self.admits(&ask) {
                return;
            }
            let waiting = self.lock(key).queue.remove(place);
            let fence = self.grant(&ask, waiting.from, moment);
            self.answer(waiting.from, waiting.sent, moment, ask, Answer::Granted(fence));
        }
    }

    fn admits(&self, ask: &Ask) -> bool {
        let Ask::Acquire { key, limit, .. } = ask else { return false };
        let holds = self.locks.get(key).map_or(&[][..], |lock| &lock.holds);
        let smallest = holds.iter().map(|hold| hold.limit).fold(most(*limit), usize::min);
        holds.len() < smallest.saturating_add(usize::from(self.has(Defect::OneTooMany)))
    }

    fn grant(&mut self, ask: &Ask, from: ConnectionId, moment: Micros) -> u64 {
        let Ask::Acquire { key, token, limit, lease_ms, session, .. } = ask else { return 0 };
        self.last_fence += 1;
        let fence =
            if self.has(Defect::FallingFences) { 1_000_000 - self.last_fence } else { self.last_fence };
        let lease = if self.has(Defect::ShortLeases) { lease_ms * 500 } else { lease_ms * 1000 };
        let (limit, tie) = (most(*limit), session.then_some(from));
        let held = Held { token: token.clone(), fence, limit, deadline: moment + lease, tie };
        self.lock(key).holds.push(held);
        fence
    }

    /// What the server makes of a request; nothing yet where it waits.
    fn decide(&mut self, ask: &Ask, from: ConnectionId, moment: Micros) -> Option<Answer> {
        let (Some(key), token) = (ask.key(), ask.token()) else { return None };
        let admits = self.admits(ask);
        let lock = self.locks.entry(key.to_owned()).or_default();
        let held = lock.holds.iter_mut().find(|hold| Some(hold.token.as_str()) == token);
        Some(match (ask, held) {
            (Ask::Acquire { lease_ms, session, .. }, Some(held)) => {
                held.deadline = moment + lease_ms * 1000;
                held.tie = session.then_some(from).or(held.tie);
                Answer::Granted(held.fence)
            }
            (Ask::Acquire { .. }, None) if lock.queue.is_empty() && admits => {
                Answer::Granted(self.grant(ask, from, moment))
            }
            (Ask::Acquire { block_ms: Some(_), .. }, None) => return None,
            (Ask::Acquire { .. }, None) => Answer::Null,
            (Ask::Extend { lease_ms, .. }, Some(held)) => {
                held.deadline = moment + lease_ms * 1000;
                Answer::Yes
            }
            (Ask::Check { .. }, Some(held)) => {
                Answer::Held(held.fence, held.deadline.saturating_sub(moment).div_ceil(1000))
            }
            (Ask::Check { .. }, None) => Answer::Null,
            (Ask::Release { .. }, Some(_)) => {
                lock.holds.retain(|hold| Some(hold.token.as_str()) != token);
                Answer::Yes
            }
            (Ask::Look { .. }, _) => {
                let tokens = lock.queue.iter().filter_map(|waiting| waiting.ask.token());
                Answer::Queue(tokens.map(str::to_owned).collect())
            }
            _ => Answer::No,
        })
    }

    /// A client that is free asks for something, which is decided now, or after it has gone.
    fn step(&mut self) {
        let at = self.below(CLIENTS as u64) as usize;
        if self.clients[at].waits || self.clients[at].free >= self.now {
            return;
        }
        let way = self.below(LONGEST_WAY);
        let sent = self.now.saturating_sub(way).max(self.clients[at].free);
        let ask = self.choose(at);
        let from = (at, self.clients[at].connection);
        let waits = matches!(ask, Ask::Acquire { block_ms: Some(_), .. });
        if !waits && self.below(10) == 0 {
            let at = self.now + self.below(60_000);
            self.strays.push(Stray { at, from, ask: ask.clone() });
            self.answer(from, sent, self.now, ask, Answer::GaveUp);
            return;
        }
        match self.decide(&ask, from, self.now) {
            Some(answer) => {
                let freed =
                    matches!(ask, Ask::Release { .. }).then(|| ask.key().map(str::to_owned)).flatten();
                self.answer(from, sent, self.now, ask, answer);
                freed.into_iter().for_each(|key| self.serve(&key, self.now));
            }
            None => self.wait(from, sent, ask),
        }
    }

    fn wait(&mut self, from: ConnectionId, sent: Micros, ask: Ask) {
        let Ask::Acquire { key, block_ms: Some(block_ms), .. } = &ask else { return };
        let until = self.now
            + match self.defect {
                Some(Defect::ImpatientWaits) => block_ms * 500,
                Some(Defect::ForgottenWaits) => block_ms * 1000 + FORGOTTEN,
                _ => block_ms * 1000,
            };
        self.clients[from.0].waits = true;
        let key = key.clone();
        self.lock(&key).queue.push(Waiting { from, sent, until, ask });
    }

    fn choose(&mut self, at: usize) -> Ask {
        let lease_ms = 5 + self.below(60);
        if let Some(again) = self.clients[at].again.take() {
            return again;
        }
        let Some(wants) = self.clients[at].wants.clone() else {
            let key = KEYS[self.below(2) as usize].to_owned();
            if self.below(4) == 0 {
                return Ask::Look { key };
            }
            self.clients[at].work += 1;
            let limit =
                [Limit::Shared, Limit::Most(2), Limit::EXCLUSIVE, Limit::EXCLUSIVE][self.below(4) as usize];
            let block_ms = (self.below(3) != 0).then_some(10 + self.below(60));
            let (token, session) = (format!("c{at}-{}", self.clients[at].work), self.below(4) == 0);
            return Ask::Acquire { key, token, limit, lease_ms, block_ms, session };
        };
        let (key, token) = (wants.key().unwrap().to_owned(), wants.token().unwrap().to_owned());
        match self.below(6) {
            0 => Ask::Extend { key, token, lease_ms },
            1 => Ask::Check { key, token },
            2 => wants,
            _ => Ask::Release { key, token },
        }
    }

    /// The client has what was decided at `moment`, or knows that it will not have it.
    fn answer(&mut self, from: ConnectionId, sent: Micros, moment: Micros, ask: Ask, answer: Answer) {
        let answered = moment + 1 + self.below(LONGEST_WAY);
        let (at, connection) = from;
        let repeats = self.below(2) == 0;
        let client = &mut self.clients[at];
        (client.free, client.waits) = (answered, false);
        match (&ask, &answer) {
            (_, Answer::GaveUp) => {
                client.connection += 1;
                client.again = repeats.then(|| ask.clone());
                if matches!(ask, Ask::Acquire { .. } | Ask::Release { .. }) && !repeats {
                    client.wants = None;
                }
            }
            (Ask::Acquire { .. }, Answer::Granted(_)) => client.wants = Some(ask.clone()),
            (Ask::Acquire { .. } | Ask::Release { .. }, _) => client.wants = None,
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
