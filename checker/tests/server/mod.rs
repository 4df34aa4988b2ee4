//! A small server and its clients, all in one thread and on a clock of its own: it decides at one moment after another, and
//! a client knows of that only that it was after it had asked and before it was answered.

mod clients;
mod queue;
mod requests;

use std::collections::BTreeMap;

use lock_checker::{Ask, History, Limit, Micros, Op};

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
}

fn most(limit: Limit) -> usize {
    match limit {
        Limit::Most(most) => most,
        Limit::Shared => usize::MAX,
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
