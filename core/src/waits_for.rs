//! Who waits for whom, by the labels of OWNER: what is needed to see that a wait could never end (G17).
//!
//! A wait that stands here has a connection and a label. For each key that such a wait is for, the holds of its lock are
//! noted as well. The lock itself stands in the keyspace, where no search may look. So the notes are taken whenever the
//! lock is at hand: when a request begins to wait, at the end of each turn that has changed the lock, and when a lock
//! arrives under the key. A lock that leaves its key takes the notes with it.
//!
//! Nothing is noted for keys without such a wait. Where nobody names an owner, all of this is empty.
//!
//! The search is in `search`. Owners, waits and keys have small numbers here, so that a step of it costs little.

mod search;
mod slab;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use smallvec::SmallVec;

use self::slab::{Id, Slab};
use crate::fence::Fence;
use crate::hold::Hold;
use crate::key::{Database, DbKey, DbKeyMap, OwnedDbKey};
use crate::lock::Lock;
use crate::queue::{Ticket, Waiter};
use crate::request::is_inner;
use crate::session::{ClientId, SessionIndex};
use crate::share::{AskedShare, Share};
use crate::time::Moment;
use crate::token::Token;
use crate::undo::Undos;

/// The most holds of a lock that are noted. A lock with more counts as one that comes free.
pub const MOST_HOLDS: usize = 64;

/// The most waits of one owner that are looked at. An owner with more is no one worker, and counts as one that goes on.
pub const MOST_WAITS: usize = 64;

/// The most steps of a search: about a millisecond. A circle that is not found by then is not reported.
pub const MOST_STEPS: usize = 50_000;

/// The most owners of a circle that are named.
pub const MOST_NAMED: usize = 8;

/// Owners who wait for each other.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Circle {
    /// Their labels, at most [`MOST_NAMED`]: each waits for the next, the first is that of the request.
    pub named: Vec<Box<[u8]>>,
    /// How many owners there are.
    pub len: usize,
}

/// A hold, as far as waits for its lock depend on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotedHold {
    fence: Fence,
    token: Token,
    owner: Option<Box<[u8]>>,
    share: Share,
    /// When its lease ends, unless a connection keeps it.
    deadline: Moment,
    client: Option<ClientId>,
}

/// The holds of a lock; `None` if they are too many.
pub type NotedHolds = Option<Vec<NotedHold>>;

/// Notes the holds of a lock.
pub(crate) fn note(lock: &Lock) -> NotedHolds {
    let note = |hold: &Hold| NotedHold {
        fence: hold.fence(),
        token: hold.token(),
        owner: hold.owner().map(Box::from),
        share: hold.share(),
        deadline: hold.deadline(),
        client: hold.session().map(|session| session.client),
    };
    (lock.holds().len() <= MOST_HOLDS).then(|| lock.holds().iter().map(note).collect())
}

/// What a search has to know of the moment.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) now: Moment,
    pub(crate) sessions: &'a SessionIndex,
    pub(crate) undos: &'a Undos,
}

/// How far a search has come at an owner or a key. It is of no use to any other search, which has another number.
#[derive(Clone, Copy, Default, Debug)]
struct Mark<T> {
    search: u64,
    at: T,
}

impl<T: Copy> Mark<T> {
    /// What this search has marked.
    fn of(self, search: u64) -> Option<T> {
        (self.search == search).then_some(self.at)
    }
}

#[derive(Debug)]
struct Owner {
    label: Box<[u8]>,
    waits: BTreeSet<Id<Wait>>,
    /// Its holds of the locks that are noted.
    holds: BTreeSet<(Id<WaitedKey>, Fence)>,
    /// Whether it was reached from the request that is judged, and from whom first.
    reached: Mark<Option<Id<Self>>>,
    /// Whether it reaches that.
    reaches: Mark<()>,
    /// Whether it goes on at some time.
    goes_on: Mark<()>,
}

impl Owner {
    /// Whether what it waits for is looked at.
    fn may_be_stuck(&self) -> bool {
        (1..=MOST_WAITS).contains(&self.waits.len())
    }
}

#[derive(Debug)]
struct Wait {
    owner: Id<Owner>,
    ticket: Ticket,
    token: Token,
    asked: AskedShare,
    is_inner: bool,
    until: Option<Moment>,
    keys: SmallVec<[Id<WaitedKey>; 1]>,
}

impl Wait {
    fn lasts(&self, now: Moment) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// A key that is waited for.
#[derive(Debug)]
struct WaitedKey {
    key: OwnedDbKey,
    /// The waits with a label, in the order of the queue.
    queue: BTreeMap<Ticket, (Id<Wait>, Id<Owner>)>,
    /// The holds of its lock; `None` if they are not known, or too many.
    holds: Option<Vec<(NotedHold, Option<Id<Owner>>)>>,
    /// Whether a search has gone to its holders.
    visited: Mark<()>,
    /// All waits before this were gone to.
    ahead: Mark<Option<Ticket>>,
    /// All waits behind this were gone to.
    behind: Mark<Option<Ticket>>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct WaitsFor {
    owners: Slab<Owner>,
    waits: Slab<Wait>,
    keys: Slab<WaitedKey>,
    owner_ids: BTreeMap<Box<[u8]>, Id<Owner>>,
    wait_ids: BTreeMap<Ticket, Id<Wait>>,
    key_ids: DbKeyMap<Id<WaitedKey>>,
    /// The circle that was found last, until somebody takes it.
    pub(crate) refused: Option<Circle>,
    /// The number of the last search.
    search: u64,
}

impl WaitedKey {
    /// Whether just this is known of its lock.
    fn is_noted(&self, holds: Option<&[NotedHold]>) -> bool {
        self.holds
            .as_ref()
            .map(|noted| noted.iter().map(|(hold, _)| hold))
            .into_iter()
            .flatten()
            .eq(holds.into_iter().flatten())
            && self.holds.is_some() == holds.is_some()
    }
}

impl WaitsFor {
    pub(crate) const fn new() -> Self {
        Self {
            owners: Slab::new(),
            waits: Slab::new(),
            keys: Slab::new(),
            owner_ids: BTreeMap::new(),
            wait_ids: BTreeMap::new(),
            key_ids: DbKeyMap::new(),
            refused: None,
            search: 0,
        }
    }

    /// A request begins to wait. Without a connection or a label it is none of this.
    pub(crate) fn enter(&mut self, ticket: Ticket, waiter: &Waiter, keys: &[OwnedDbKey]) {
        let (Some(_), Some(label)) = (waiter.client, &waiter.owner) else { return };
        let owner = self.owner(label);
        let wait = Wait {
            owner,
            ticket,
            token: waiter.token.clone(),
            asked: waiter.asked,
            is_inner: is_inner(waiter.level),
            until: waiter.until,
            keys: keys.iter().map(|key| self.waited_key(key)).collect(),
        };
        let ids = wait.keys.clone();
        let id = self.waits.insert(wait);
        for key in ids {
            if let Some(key) = self.keys.get_mut(key) {
                key.queue.insert(ticket, (id, owner));
            }
        }
        if let Some(owner) = self.owners.get_mut(owner) {
            owner.waits.insert(id);
        }
        self.wait_ids.insert(ticket, id);
    }

    /// A request waits no longer, or not on a connection. Without effect if it is none of this.
    pub(crate) fn leave(&mut self, ticket: Ticket) {
        if self.wait_ids.is_empty() {
            return;
        }
        let Some(id) = self.wait_ids.remove(&ticket) else { return };
        let Some(wait) = self.waits.remove(id) else { return };
        for id in wait.keys {
            let Some(key) = self.keys.get_mut(id) else { continue };
            key.queue.remove(&ticket);
            if key.queue.is_empty() {
                self.set_holds(id, None);
                if let Some(key) = self.keys.remove(id) {
                    self.key_ids.remove(key.key.as_key());
                }
            }
        }
        if let Some(owner) = self.owners.get_mut(wait.owner) {
            owner.waits.remove(&id);
        }
        self.forget_if_idle(wait.owner);
    }

    fn owner(&mut self, label: &[u8]) -> Id<Owner> {
        if let Some(id) = self.owner_ids.get(label) {
            return *id;
        }
        let id = self.owners.insert(Owner {
            label: label.into(),
            waits: BTreeSet::new(),
            holds: BTreeSet::new(),
            reached: Mark::default(),
            reaches: Mark::default(),
            goes_on: Mark::default(),
        });
        self.owner_ids.insert(label.into(), id);
        id
    }

    fn forget_if_idle(&mut self, id: Id<Owner>) {
        let is_idle =
            self.owners.get(id).is_some_and(|owner| owner.waits.is_empty() && owner.holds.is_empty());
        if is_idle && let Some(owner) = self.owners.remove(id) {
            self.owner_ids.remove(&owner.label);
        }
    }

    fn waited_key(&mut self, key: &OwnedDbKey) -> Id<WaitedKey> {
        if let Some(id) = self.key_ids.get(key.as_key()) {
            return *id;
        }
        let id = self.keys.insert(WaitedKey {
            key: key.clone(),
            queue: BTreeMap::new(),
            holds: None,
            visited: Mark::default(),
            ahead: Mark::default(),
            behind: Mark::default(),
        });
        self.key_ids.insert(key.as_key(), id);
        id
    }

    /// Sets what is known of the lock under a key.
    fn set_holds(&mut self, id: Id<WaitedKey>, holds: NotedHolds) {
        if self.keys.get(id).is_some_and(|key| key.is_noted(holds.as_deref())) {
            return;
        }
        let noted = holds.map(|holds| {
            let with_owner = holds.into_iter().map(|hold| {
                let owner = hold.owner.as_ref().map(|label| self.owner(label));
                if let Some(owner) = owner.and_then(|owner| self.owners.get_mut(owner)) {
                    owner.holds.insert((id, hold.fence));
                }
                (hold, owner)
            });
            with_owner.collect::<Vec<_>>()
        });
        let Some(key) = self.keys.get_mut(id) else { return };
        let before = core::mem::replace(&mut key.holds, noted);
        let stays = |fence, owner| {
            let holds = key.holds.iter().flatten();
            holds.into_iter().any(|(hold, its)| hold.fence == fence && *its == Some(owner))
        };
        let mut gone: Vec<(Fence, Id<Owner>)> =
            before.into_iter().flatten().filter_map(|(hold, owner)| Some((hold.fence, owner?))).collect();
        gone.retain(|(fence, owner)| !stays(*fence, *owner));
        for (fence, owner) in gone {
            if let Some(owner) = self.owners.get_mut(owner) {
                owner.holds.remove(&(id, fence));
            }
            self.forget_if_idle(owner);
        }
    }

    /// Notes the holds of the lock under a key. Without effect where nobody with a label waits.
    pub(crate) fn know(&mut self, key: DbKey<'_>, holds: NotedHolds) {
        if let Some(id) = self.key_ids.get(key).copied() {
            self.set_holds(id, holds);
        }
    }

    /// The lock under a key is at hand, and may have changed, or this is new here.
    #[inline]
    pub(crate) fn see(&mut self, key: DbKey<'_>, lock: &Lock, has_changed: bool) {
        if self.key_ids.is_empty() {
            return;
        }
        let Some(id) = self.key_ids.get(key).copied() else { return };
        let is_known = self.keys.get(id).is_some_and(|key| key.holds.is_some());
        if has_changed || !is_known {
            self.set_holds(id, note(lock));
        }
    }

    /// No lock stands under a key any more.
    #[inline]
    pub(crate) fn departed(&mut self, key: DbKey<'_>) {
        if !self.key_ids.is_empty() {
            self.know(key, Some(Vec::new()));
        }
    }

    /// A database was emptied, or all.
    pub(crate) fn flushed(&mut self, database: Option<Database>) {
        self.know_all(|key| database.is_none_or(|database| database == key.database), &Some(Vec::new()));
    }

    /// Other locks have come to stand under the keys of two databases. The next turn at each key shows which.
    pub(crate) fn swapped(&mut self, one: Database, other: Database) {
        self.know_all(|key| key.database == one || key.database == other, &None);
    }

    fn know_all(&mut self, concerns: impl Fn(DbKey<'_>) -> bool, holds: &NotedHolds) {
        let of_key = |(key, id): (DbKey<'_>, &Id<WaitedKey>)| concerns(key).then_some(*id);
        let ids: Vec<Id<WaitedKey>> = self.key_ids.iter().filter_map(of_key).collect();
        ids.into_iter().for_each(|id| self.set_holds(id, holds.clone()));
    }

    /// Whether anybody with a label may wait for an owner, or will if it waits for this key ahead of others. Nearly always
    /// nobody does, and then there is no circle.
    pub(crate) fn may_be_waited_for(&self, label: &[u8], key: DbKey<'_>, is_ahead: bool) -> bool {
        self.owner_ids.contains_key(label) || is_ahead && self.key_ids.get(key).is_some()
    }

    /// Whether what is noted of the lock under a key is right, or nothing is known of it.
    pub(crate) fn is_right_of(&self, key: DbKey<'_>, lock: &Lock) -> bool {
        let waited = self.key_ids.get(key).and_then(|id| self.keys.get(*id));
        waited.is_none_or(|waited| waited.holds.is_none() || waited.is_noted(note(lock).as_deref()))
    }

    /// Whether this wait stands here, in the queue of these keys.
    pub(crate) fn has(&self, ticket: Ticket, waiter: &Waiter, keys: &[OwnedDbKey]) -> bool {
        let Some(wait) = self.wait_ids.get(&ticket).and_then(|id| self.waits.get(*id)) else { return false };
        let label = self.owners.get(wait.owner).map(|owner| &owner.label);
        let stands = |(key, id): (&OwnedDbKey, &Id<WaitedKey>)| {
            let waited = self.keys.get(*id);
            waited.is_some_and(|waited| waited.key == *key && waited.queue.contains_key(&ticket))
        };
        label == waiter.owner.as_ref()
            && wait.token == waiter.token
            && wait.until == waiter.until
            && keys.len() == wait.keys.len()
            && keys.iter().zip(&wait.keys).all(stands)
    }

    /// How many waits stand here.
    pub(crate) fn len(&self) -> usize {
        self.wait_ids.len()
    }

    /// Whether nothing is left of what has gone: every owner waits or holds, every key is waited for.
    pub(crate) fn is_consistent(&self) -> bool {
        let is_busy = |id: &Id<Owner>| {
            self.owners.get(*id).is_some_and(|owner| !owner.waits.is_empty() || !owner.holds.is_empty())
        };
        let keys = || self.key_ids.iter().filter_map(|(_, id)| self.keys.get(*id));
        let noted = keys().flat_map(|key| key.holds.iter().flatten());
        let noted = noted.filter(|(_, owner)| owner.is_some()).count();
        let holds: usize = self
            .owner_ids
            .values()
            .filter_map(|id| self.owners.get(*id))
            .map(|owner| owner.holds.len())
            .sum();
        self.owners.len() == self.owner_ids.len()
            && self.owner_ids.values().all(is_busy)
            && self.keys.len() == keys().count()
            && keys().all(|key| !key.queue.is_empty())
            && self.waits.len() == self.wait_ids.len()
            && noted == holds
    }
}
