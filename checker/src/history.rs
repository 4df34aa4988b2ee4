//! What clients asked, when, and what came of it; and what was done to the servers meanwhile.

use std::collections::{BTreeMap, BTreeSet};

/// Microseconds on the one monotonic clock that all clients of a history share, from its beginning.
pub type Micros = u64;

/// A moment that does not come.
pub const NEVER: Micros = Micros::MAX;

/// What is taken off a lease for what the clocks of clients and servers may differ in over its length, and for leases
/// that travel in whole milliseconds.
pub(crate) fn certain_part(lease_ms: u64) -> Micros {
    let lease = lease_ms.saturating_mul(1000);
    lease.saturating_sub(2_000 + lease / 500)
}

/// How much weight a holder tolerates on its lock, its own included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// So much; one is exclusive.
    Most(usize),
    /// Any.
    Shared,
}

impl Limit {
    /// Nobody else.
    pub const EXCLUSIVE: Self = Self::Most(1);

    /// The most weight that the lock may have.
    pub(crate) fn most(self) -> usize {
        match self {
            Self::Most(most) => most,
            Self::Shared => usize::MAX,
        }
    }
}

/// What a client asked of a server, or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// LOCK.ACQUIRE.
    Acquire {
        /// The lock.
        key: String,
        /// Who wants to hold it; drawn anew for every piece of work.
        token: String,
        /// What it tolerates.
        limit: Limit,
        /// The lease, in milliseconds.
        lease_ms: u64,
        /// How much it counts, if it says so: without it 1 for a newcomer, and as much as before for who holds the lock.
        weight: Option<u16>,
        /// How deep it is, if it says so. From 2 on it asks for more of what its token holds, and for nothing else.
        level: Option<u16>,
        /// How long it waits, in milliseconds; 0 without end.
        block_ms: Option<u64>,
        /// How long its place in the queue is kept after that, in milliseconds.
        queue_ms: Option<u64>,
        /// Whether the hold is tied to the connection.
        session: bool,
    },
    /// LOCK.RELEASE.
    Release {
        /// The lock.
        key: String,
        /// Who held it, or waited for it.
        token: String,
        /// The level that is given back, with what is above it: all of the hold, for 1.
        level: u16,
    },
    /// LOCK.EXTEND.
    Extend {
        /// The lock.
        key: String,
        /// Who holds it.
        token: String,
        /// The lease, in milliseconds.
        lease_ms: u64,
    },
    /// LOCK.CHECK.
    Check {
        /// The lock.
        key: String,
        /// Who holds it.
        token: String,
    },
    /// PEXPIRE: whoever holds the lock, it ends once this is over, unless a lease is promised before.
    Expire {
        /// The lock.
        key: String,
        /// The time to live, in milliseconds.
        ttl_ms: u64,
    },
    /// LOCK.MACQUIRE, LOCK.MRELEASE or LOCK.MEXTEND.
    Several {
        /// The locks.
        keys: Vec<String>,
        /// What is asked of each of them, here of the first.
        each: Box<Ask>,
    },
    /// LOCK.GUARD with a SET: it is carried out only while the token holds the lock.
    Guard {
        /// The lock.
        key: String,
        /// Who holds it.
        token: String,
        /// What is written to.
        name: String,
        /// What is written; drawn anew for every request.
        value: String,
    },
    /// GET of what is written to under a guard.
    Read {
        /// What is read.
        name: String,
    },
    /// LOCK.INFO, for its queue.
    Look {
        /// The lock.
        key: String,
    },
    /// A holder wrote to what the lock protects, with its fence. No server is asked.
    Write {
        /// The lock.
        key: String,
        /// Who holds it.
        token: String,
        /// The fence it holds it under.
        fence: u64,
    },
    /// PING: nothing may stand before its reply.
    Ping,
    /// The connection was opened.
    Open,
    /// The connection was closed.
    Close,
}

impl Ask {
    /// The lock it is about; of several, the first.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Acquire { key, .. }
            | Self::Release { key, .. }
            | Self::Extend { key, .. }
            | Self::Check { key, .. }
            | Self::Expire { key, .. }
            | Self::Guard { key, .. }
            | Self::Look { key }
            | Self::Write { key, .. } => Some(key),
            Self::Several { each, .. } => each.key(),
            Self::Read { .. } | Self::Ping | Self::Open | Self::Close => None,
        }
    }

    /// The token it was asked with.
    pub fn token(&self) -> Option<&str> {
        match self {
            Self::Acquire { token, .. }
            | Self::Release { token, .. }
            | Self::Extend { token, .. }
            | Self::Check { token, .. }
            | Self::Guard { token, .. }
            | Self::Write { token, .. } => Some(token),
            Self::Several { each, .. } => each.token(),
            Self::Expire { .. }
            | Self::Read { .. }
            | Self::Look { .. }
            | Self::Ping
            | Self::Open
            | Self::Close => None,
        }
    }

    /// Whether it is about this lock.
    pub fn is_about(&self, key: &str) -> bool {
        match self {
            Self::Several { keys, .. } => keys.iter().any(|own| own == key),
            _ => self.key() == Some(key),
        }
    }

    /// The same of another lock.
    pub(crate) fn of(&self, new: &str) -> Self {
        let mut ask = self.clone();
        if let Self::Acquire { key, .. } | Self::Release { key, .. } | Self::Extend { key, .. } = &mut ask {
            new.clone_into(key);
        }
        ask
    }

    /// Whether it is an ACQUIRE of an inner level: for a token that holds nothing it is null at once.
    pub fn is_inner(&self) -> bool {
        matches!(self, Self::Acquire { level: Some(2..), .. })
    }

    /// Whether it is a RELEASE that leaves its token with nothing, whatever it held or waited for.
    pub fn releases_all(&self) -> bool {
        matches!(self, Self::Release { level: ..=1, .. })
    }

    /// Whether it is an ACQUIRE whose place in the queue is kept.
    pub fn queues(&self) -> bool {
        match self {
            Self::Acquire { queue_ms, .. } => queue_ms.is_some(),
            Self::Several { each, .. } => each.queues(),
            _ => false,
        }
    }

    /// Whether it promises a lease, if it is answered [`Answer::Granted`] or [`Answer::Yes`].
    pub fn promises(&self) -> bool {
        matches!(self, Self::Acquire { .. } | Self::Extend { .. })
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The lock is the token's, under this fence.
    Granted(u64),
    /// Not available; or not held.
    Null,
    /// Not available, and the place in the queue that has this ticket is kept.
    Ticket(u64),
    /// 1.
    Yes,
    /// 0.
    No,
    /// At how many of several locks it came to something.
    Count(usize),
    /// 1 or 0: it came to something at some of several locks, of which this is one.
    Either,
    /// What is written there.
    Value(String),
    /// The token does not hold the lock, and nothing was done.
    NotOwner,
    /// The token holds the lock under this fence, for so many milliseconds still.
    Held(u64, u64),
    /// Who waits, by the tokens they have written on their labels, the first in front.
    Queue(Vec<String>),
    /// It is done: PING, opening and closing a connection, a write that was taken.
    Done,
    /// The write was refused: the fence is below one that was seen.
    Stale,
    /// An error: nothing was changed.
    Error(String),
    /// The server closed the connection, or could not be reached: whether it was done is not known.
    Lost,
    /// The client closed the connection, weary of waiting: whether it was done, or will be, is not known.
    GaveUp,
    /// The answer came, but there is no telling whether it will last: no replica has confirmed it.
    Unconfirmed,
    /// A reply that such a request does not have.
    Odd(String),
}

impl Answer {
    /// Whether it leaves open if the request was carried out, or will be.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Lost | Self::GaveUp | Self::Unconfirmed | Self::Odd(_))
    }

    /// Whether something may yet come of the request: its outcome is not known, or it has a place in the queue.
    pub fn is_open(&self) -> bool {
        self.is_unknown() || matches!(self, Self::Ticket(_))
    }

    /// Whether it says that the request was carried out, whatever it found.
    pub fn is_counted(&self) -> bool {
        matches!(self, Self::Yes | Self::No | Self::Either)
    }

    /// Whether it says that nothing has come of the request.
    pub fn is_in_vain(&self) -> bool {
        matches!(self, Self::Null | Self::No | Self::NotOwner | Self::Error(_))
    }
}

/// A request and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// When the client was about to send it.
    pub sent: Micros,
    /// When the client had the answer, or knew that there would be none.
    pub answered: Micros,
    /// The client, which does one thing after another.
    pub client: usize,
    /// Which of its connections, counted from 0.
    pub connection: usize,
    /// The server at the other end.
    pub node: usize,
    /// What was asked.
    pub ask: Ask,
    /// What came of it.
    pub answer: Answer,
}

impl Op {
    /// Whether the server may have carried it out at some moment from `begin` to `end`.
    pub fn may_fall_into(&self, begin: Micros, end: Micros) -> bool {
        self.sent < end && (self.answered > begin || self.answer.is_unknown())
    }
}

/// What was done to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Killed without notice; it ends when the server answers again.
    Kill,
    /// Stopped by a signal until it is continued.
    Stop,
    /// CLIENT PAUSE until CLIENT UNPAUSE.
    Pause,
    /// Another server becomes the master; it ends when clients can go on there.
    Failover,
    /// A slot moves from one node to another.
    Move,
    /// The append-only file is rewritten.
    Rewrite,
    /// The wall clock is set.
    Clock,
}

impl FaultKind {
    /// Whether connections may be lost by it.
    pub fn breaks_connections(self) -> bool {
        matches!(self, Self::Kill | Self::Failover)
    }

    /// Whether no connection keeps a hold alive any more after it: there is another server then, and connections are not
    /// handed on.
    pub fn unties(self) -> bool {
        self.breaks_connections() || self == Self::Move
    }

    /// Whether answers may be late by as long as it lasts.
    pub fn delays(self) -> bool {
        !matches!(self, Self::Clock | Self::Rewrite)
    }
}

/// A fault, from the moment before it was begun to the moment after it was over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Before it began.
    pub begin: Micros,
    /// After it was over.
    pub end: Micros,
    /// The server it was done to; `None` for all.
    pub node: Option<usize>,
    /// What was done.
    pub kind: FaultKind,
    /// In detail, for people.
    pub detail: String,
}

impl Fault {
    /// Whether this node is concerned.
    pub fn concerns(&self, node: usize) -> bool {
        self.node.is_none_or(|own| own == node)
    }
}

/// Requests in the order in which they were sent, and faults in the order in which they began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    ops: Vec<Op>,
    faults: Vec<Fault>,
    /// Where each request is a part of one, the place of that. Empty if none is.
    origins: Vec<usize>,
}

impl History {
    /// Puts what was written down here and there into its order.
    pub fn new(mut ops: Vec<Op>, mut faults: Vec<Fault>) -> Self {
        ops.sort_by_key(|op| (op.sent, op.answered));
        faults.sort_by_key(|fault| fault.begin);
        Self { ops, faults, origins: Vec::new() }
    }

    /// The same, with what was asked of several locks at once as a request for each of them.
    pub fn by_key(&self) -> Self {
        let mut ops = Vec::with_capacity(self.ops.len());
        let mut origins = Vec::with_capacity(self.ops.len());
        for (place, op) in self.ops.iter().enumerate() {
            let Ask::Several { keys, each } = &op.ask else {
                ops.push(op.clone());
                origins.push(place);
                continue;
            };
            let keys: BTreeSet<&String> = keys.iter().collect();
            for key in &keys {
                let answer = match op.answer {
                    Answer::Count(0) => Answer::No,
                    Answer::Count(count) if count >= keys.len() => Answer::Yes,
                    Answer::Count(_) => Answer::Either,
                    ref answer => answer.clone(),
                };
                ops.push(Op { ask: each.of(key), answer, ..*op });
                origins.push(place);
            }
        }
        Self { ops, faults: self.faults.clone(), origins }
    }

    /// The place of a request, or of that which it is a part of, in the history that this one was made from by
    /// [`History::by_key`].
    pub fn origin(&self, place: usize) -> usize {
        self.origins.get(place).copied().unwrap_or(place)
    }

    /// The parts of the request of which the one at this place is a part, itself among them.
    pub(crate) fn parts(&self, place: usize) -> impl Iterator<Item = usize> {
        let origin = self.origin(place);
        let is_part = move |other: &usize| self.origin(*other) == origin;
        let before = (0..place).rev().take_while(is_part);
        before.chain((place..self.ops.len()).take_while(is_part))
    }

    /// What was asked of any lock with each of the tokens that have asked for several at once.
    pub(crate) fn of_several(&self) -> BTreeMap<&str, Vec<usize>> {
        let mut tokens = BTreeMap::<&str, Vec<usize>>::new();
        for (place, op) in self.ops.iter().enumerate() {
            if let Some(token) = op.ask.token().filter(|_| self.parts(place).nth(1).is_some()) {
                tokens.entry(token).or_default();
            }
        }
        for (place, op) in self.ops.iter().enumerate() {
            if let Some(places) = op.ask.token().and_then(|token| tokens.get_mut(token)) {
                places.push(place);
            }
        }
        tokens
    }

    /// All requests.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// All faults.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// The request at a place.
    pub fn op(&self, place: usize) -> Option<&Op> {
        self.ops.get(place)
    }

    /// What was asked of each lock with each token, as places in [`History::ops`].
    pub fn by_token(&self) -> BTreeMap<(&str, &str), Vec<usize>> {
        let mut tokens = BTreeMap::<_, Vec<usize>>::new();
        for (place, op) in self.ops.iter().enumerate() {
            if let (Some(key), Some(token)) = (op.ask.key(), op.ask.token()) {
                tokens.entry((key, token)).or_default().push(place);
            }
        }
        tokens
    }

    /// Whether such a fault is under way at some moment from `begin` to `end`.
    pub fn has_fault(&self, begin: Micros, end: Micros, is_such: impl Fn(&Fault) -> bool) -> bool {
        self.faults.iter().any(|fault| fault.begin <= end && fault.end >= begin && is_such(fault))
    }

    /// How long from `begin` to `end` faults may have held up what this node had to say.
    pub fn delays(&self, node: usize, begin: Micros, end: Micros) -> Micros {
        let faults = self.faults.iter().filter(|fault| fault.kind.delays() && fault.concerns(node));
        faults.map(|fault| fault.end.min(end).saturating_sub(fault.begin.max(begin))).sum()
    }
}
