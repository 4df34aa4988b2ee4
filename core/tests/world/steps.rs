//! What can happen in the world, and what a client can be told.

use lock_core::{ClientId, DbKey, Fence, Refusal, Session, Token};

/// A key in a database.
pub(crate) type Spot = DbKey<'static>;

/// Every key there is: three names in two databases, in the order of keys.
pub(crate) const SPOTS: [Spot; 6] = [
    DbKey { database: 0, key: b"a" },
    DbKey { database: 0, key: b"b" },
    DbKey { database: 0, key: b"c" },
    DbKey { database: 1, key: b"a" },
    DbKey { database: 1, key: b"b" },
    DbKey { database: 1, key: b"c" },
];

/// Several keys of one database, no two of them alike, in the order of the request.
pub(crate) type Spots = &'static [Spot];

/// A token of the clients' own, by its number. Every third has the form of one that the server makes.
pub(crate) fn token(number: u8) -> Token {
    if number % 3 == 2 {
        return Token::from_seed([number; 16]);
    }
    Token::from_text(&[b't', b'0' + number]).unwrap()
}

/// What LOCK.ACQUIRE asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Request {
    pub(crate) token: Option<u8>,
    pub(crate) lease_ms: u64,
    /// 0 for SHARED.
    pub(crate) limit: Option<u16>,
    pub(crate) weight: Option<u16>,
    pub(crate) block_ms: Option<u64>,
    pub(crate) queue_ms: Option<u64>,
    pub(crate) owner: Option<&'static [u8]>,
    /// 0 without DELAY.
    pub(crate) session_delay_ms: Option<u64>,
    pub(crate) level: Option<u16>,
}

impl Request {
    /// The request of a token that names nothing else.
    pub(crate) const fn of(token: u8, lease_ms: u64) -> Self {
        Self {
            token: Some(token),
            lease_ms,
            limit: None,
            weight: None,
            block_ms: None,
            queue_ms: None,
            owner: None,
            session_delay_ms: None,
            level: None,
        }
    }

    pub(crate) const fn limit(mut self, limit: u16) -> Self {
        self.limit = Some(limit);
        self
    }

    pub(crate) const fn weight(mut self, weight: u16) -> Self {
        self.weight = Some(weight);
        self
    }

    pub(crate) const fn block(mut self, ms: u64) -> Self {
        self.block_ms = Some(ms);
        self
    }

    pub(crate) const fn queue(mut self, ms: u64) -> Self {
        self.queue_ms = Some(ms);
        self
    }

    pub(crate) const fn session(mut self) -> Self {
        self.session_delay_ms = Some(0);
        self
    }

    pub(crate) const fn delay(mut self, ms: u64) -> Self {
        self.session_delay_ms = Some(ms);
        self
    }

    pub(crate) fn session_of(&self, client: ClientId) -> Option<Session> {
        self.session_delay_ms.map(|delay_ms| Session { client, delay_ms })
    }

    pub(crate) const fn level(mut self, level: u16) -> Self {
        self.level = Some(level);
        self
    }
}

/// Something that happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    Acquire(ClientId, Spot, Request),
    /// A level of a token. On a replica, what its master says; otherwise a client's command.
    Release(ClientId, Spot, u8, u16),
    Extend(ClientId, Spot, u8, Option<u64>),
    /// LOCK.MACQUIRE, LOCK.MRELEASE, LOCK.MEXTEND.
    AcquireAll(ClientId, Spots, Request),
    ReleaseAll(ClientId, Spots, u8),
    ExtendAll(ClientId, Spots, u8, Option<u64>),
    /// All holds, or the one at this place of the list.
    Break(ClientId, Spot, Option<usize>),
    /// Milliseconds go by, and nobody notices yet.
    Pass(u64),
    /// The timer comes to a lock before it comes to others, with room for so many.
    Expire(Spot, usize),
    /// The timer comes to so many waits.
    TimeOut(usize),
    /// What was marked is settled, what is due is done, answers go out.
    EndTurn,
    Connect,
    Disconnect(ClientId),
    /// CLIENT UNBLOCK, with ERROR or TIMEOUT.
    Unblock(ClientId, bool),
    Delete(Spot),
    /// FLUSHDB or FLUSHALL.
    Flush(Option<i32>),
    /// RENAME and MOVE.
    Rename(Spot, Spot),
    Swap,
    /// A value of another type, over whatever is there.
    Overwrite(Spot),
    /// SET key token, with PX or without, over whatever is there. The string counts as a lock.
    SetString(Spot, u8, Option<u64>),
    /// PEXPIRE, or PERSIST.
    TimeToLive(Spot, Option<u64>),
    /// The user of a connection loses the right to take locks, or gets it back.
    Forbid(ClientId, bool),
    Pause(bool),
    Demote,
    Promote,
    /// A grant arrives from the master.
    Arrive(Spot, u8, u64),
    /// Whose the slot of this key is from now on, in every database. Nobody tells the module. A command that comes all the
    /// same, as after ASK, is carried out.
    Slot(Spot, Whose),
    /// The key goes to another node, and its slot with it.
    Migrate(Spot),
    /// A lock with one hold comes from another node, or from a backup: its token, its limit, its lease.
    Restore(Spot, u8, u16, u64),
    /// A look at so many of the keys that are waited for, from where the last one ended.
    Look(usize),
    /// The setting of how long a grace lasts.
    SetGrace(u64),
    /// The data are written and loaded anew: connections keep nothing alive any more, and a grace begins.
    Reload,
}

impl Step {
    /// Whether it is a command that comes to keys.
    pub(crate) fn is_command(self) -> bool {
        match self {
            Self::Acquire(..) | Self::Release(..) | Self::Extend(..) | Self::Break(..) | Self::Delete(_) => {
                true
            }
            Self::AcquireAll(..) | Self::ReleaseAll(..) | Self::ExtendAll(..) => true,
            Self::Flush(_) | Self::Rename(..) | Self::Swap | Self::Overwrite(_) | Self::SetString(..) => true,
            Self::TimeToLive(..) | Self::Arrive(..) | Self::Migrate(_) | Self::Restore(..) | Self::Reload => {
                true
            }
            Self::Pass(_) | Self::Expire(..) | Self::TimeOut(_) | Self::EndTurn | Self::Connect => false,
            Self::Disconnect(_) | Self::Unblock(..) | Self::Forbid(..) | Self::Pause(_) | Self::Demote => {
                false
            }
            Self::Promote | Self::Slot(..) | Self::Look(_) | Self::SetGrace(_) => false,
        }
    }
}

/// Whose a slot is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Whose {
    Ours,
    /// On its way here, key by key.
    Arriving,
    /// Another node's, also while it is on its way here as a whole.
    Elsewhere,
    /// Nobody's while the cluster is down.
    Nobodys,
}

impl Whose {
    /// Whether those who wait are served.
    pub(crate) fn serves(self) -> bool {
        self == Self::Ours
    }

    /// Whether leases are kept: extended for sessions, and ended.
    pub(crate) fn keeps(self) -> bool {
        self != Self::Elsewhere
    }

    /// What those who wait are told, where nobody can be served here any more.
    pub(crate) fn refusal(self) -> Option<Refusal> {
        match self {
            Self::Ours | Self::Arriving => None,
            Self::Elsewhere => Some(Refusal::Moved("15495 other:7000".into())),
            Self::Nobodys => Some(Refusal::ClusterDown),
        }
    }
}

/// How long a lease is left alone whose key is another node's, in milliseconds.
pub(crate) const NOT_OURS_MS: u64 = 5;

/// How long an extension that names no lease makes that of a string, in milliseconds.
pub(crate) const DEFAULT_LEASE_MS: u64 = 6;

/// How long a grant to a place without a connection may stay unclaimed, in milliseconds.
pub(crate) const CLAIM_MS: u64 = 3;

/// Who hears that a place at this key is called.
pub(crate) fn subscriber(spot: Spot) -> ClientId {
    u64::MAX - SPOTS.iter().position(|other| *other == spot).unwrap() as u64
}

/// What a client is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Reply {
    Granted(Token, Fence),
    Null,
    Number(usize),
    Error(Refusal),
    WrongType,
    Unblocked,
    /// The place of this number is kept. Places are numbered in the order in which they were taken.
    Queued(usize),
    /// The place of this number is called.
    Called(usize),
}
