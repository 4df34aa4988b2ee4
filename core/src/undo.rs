//! What was decided and nobody was told of yet, and what has to be undone.
//!
//! A client that waited is told of its grant a little later than the grant was made. If it is gone by then the grant is
//! undone, unless somebody has learned of it meanwhile: another connection that brought the same token.
//!
//! The module is told of some events at moments at which it must not write. So a key where something has happened is
//! *marked*, with what has to be undone there; a mark is settled before anything else is done at that key.
//! What has to be undone is about a hold: where its lock goes, it follows.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::mem;

use crate::fence::Fence;
use crate::hold::Limit;
use crate::key::{Database, DbKey, DbKeyMap, OwnedDbKey};
use crate::lock::Lock;
use crate::session::ClientId;

/// What has to be undone about the hold with a fence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Undo {
    /// The hold.
    pub fence: Fence,
    /// What about it.
    pub what: What,
}

/// See [`Undo`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// It was granted to a client that went away before it learned of it: it ends.
    Grant,
    /// It was granted again to a client that went away before it learned of it: it has the limit again that it had, and
    /// is no deeper than it was.
    Renewal {
        /// The limit it had.
        limit: Limit,
        /// How deep it was.
        level: u16,
    },
    /// The connection that kept it alive has closed: it ends, unless another connection keeps it alive by now.
    Session(ClientId),
}

impl Undo {
    /// Whether it becomes pointless once somebody has learned that the token holds.
    fn is_about_a_grant(self) -> bool {
        !matches!(self.what, What::Session(_))
    }
}

/// A grant that its client was not told of yet.
#[derive(Debug)]
struct Untold {
    /// Where the lock stands; `None` when it has left its key and may arrive elsewhere.
    key: Option<OwnedDbKey>,
    /// What undoes it; `None` when somebody else has learned of the hold meanwhile, so that it stands.
    undo: Option<Undo>,
}

/// Names a grant that nobody was told of: its fence, and its number in the order of all such grants.
type UntoldId = (Fence, u64);

/// All of it.
#[derive(Debug)]
pub struct Undos {
    marks: DbKeyMap<Vec<Undo>>,
    /// The marked key that was returned last.
    last: Option<OwnedDbKey>,
    untold: BTreeMap<UntoldId, Untold>,
    untold_by_client: BTreeMap<ClientId, UntoldId>,
    next_number: u64,
    /// About locks that have left their keys and may arrive under others.
    under_way: Vec<Undo>,
}

impl Default for Undos {
    fn default() -> Self {
        Self::new()
    }
}

impl Undos {
    /// Nothing.
    pub const fn new() -> Self {
        Self {
            marks: DbKeyMap::new(),
            last: None,
            untold: BTreeMap::new(),
            untold_by_client: BTreeMap::new(),
            next_number: 0,
            under_way: Vec::new(),
        }
    }

    /// Whether no key is marked and every client was told.
    pub(crate) fn is_quiet(&self) -> bool {
        self.marks.is_empty() && self.untold.is_empty()
    }

    /// Whether no key is marked.
    pub(crate) fn is_unmarked(&self) -> bool {
        self.marks.is_empty()
    }

    /// Whether this key is marked.
    pub(crate) fn is_marked(&self, key: DbKey<'_>) -> bool {
        self.marks.get(key).is_some()
    }

    /// Marks a key.
    pub(crate) fn mark(&mut self, key: DbKey<'_>) {
        self.marks.at(key);
    }

    /// Marks a key with something to be undone there.
    pub(crate) fn add(&mut self, key: DbKey<'_>, undo: Undo) {
        self.marks.at(key).push(undo);
    }

    /// A key that is marked: the next after the one that was returned last, so that none is left behind for others that
    /// are marked over and over.
    pub(crate) fn marked(&mut self) -> Option<OwnedDbKey> {
        let last = self.last.take();
        let next = self.marks.after(last.as_ref().map(OwnedDbKey::as_key)).or_else(|| self.marks.after(None));
        self.last = next.map(OwnedDbKey::from);
        self.last.clone()
    }

    /// Takes the mark off a key, with what has to be undone there.
    pub(crate) fn take_mark(&mut self, key: DbKey<'_>) -> Vec<Undo> {
        self.marks.remove(key).unwrap_or_default()
    }

    /// A client has been granted something, and is still to be told. It is told of one grant at a time.
    pub(crate) fn granted(&mut self, client: ClientId, key: DbKey<'_>, undo: Undo) {
        let id = (undo.fence, self.next_number);
        self.next_number = self.next_number.saturating_add(1);
        self.untold.insert(id, Untold { key: Some(key.into()), undo: Some(undo) });
        self.untold_by_client.insert(client, id);
    }

    /// Somebody is told that its token has the hold with this fence: it stands, even if a client that waited for it goes
    /// away untold.
    pub(crate) fn learned(&mut self, key: DbKey<'_>, fence: Fence) {
        if self.is_quiet() {
            return;
        }
        for (_, untold) in self.untold.range_mut((fence, 0)..=(fence, u64::MAX)) {
            untold.undo = None;
        }
        if let Some(undos) = self.marks.get_mut(key) {
            // The server may not have decided for a while, and not have undone anything.
            undos.retain(|undo| undo.fence != fence || !undo.is_about_a_grant());
        }
    }

    /// A client is told what it was granted. That rests on what was granted before under the same fence.
    pub(crate) fn told(&mut self, client: ClientId) {
        if let Some((fence, number)) = self.untold_by_client.remove(&client) {
            self.untold.remove(&(fence, number));
            for (_, before) in self.untold.range_mut((fence, 0)..(fence, number)) {
                before.undo = None;
            }
        }
    }

    /// A client is not there to be told any more. What it was granted is to be undone; where a later grant of the same hold
    /// is still to be told, with that one, should it be lost as well. Returns what is to be undone now.
    pub(crate) fn lost(&mut self, client: ClientId) -> Option<Undo> {
        let id = self.untold_by_client.remove(&client)?;
        let Untold { key, undo } = self.untold.remove(&id)?;
        let undo = undo?;
        if let Some((_, later)) = self.untold.range_mut(id..=(id.0, u64::MAX)).next() {
            later.undo = later.undo.and(Some(undo));
            return None;
        }
        match key {
            Some(key) => self.add(key.as_key(), undo),
            None => self.under_way.push(undo),
        }
        Some(undo)
    }

    /// What would undo the grant of a client that is still to be told.
    pub fn undo_for(&self, client: ClientId) -> Option<Undo> {
        self.untold.get(self.untold_by_client.get(&client)?)?.undo
    }

    /// A lock has left its key, for good or to arrive elsewhere.
    pub(crate) fn departed(&mut self, key: DbKey<'_>) {
        if self.is_quiet() {
            return;
        }
        let undos = self.take_mark(key);
        self.under_way.extend(undos);
        let was_here = |untold: &&mut Untold| untold.key.as_ref().is_some_and(|at| at.as_key() == key);
        self.untold.values_mut().filter(was_here).for_each(|untold| untold.key = None);
    }

    /// A lock has come to stand under a key. What has to be undone about it, or may yet have to be, has come with it.
    pub(crate) fn arrived(&mut self, key: DbKey<'_>, lock: &Lock) {
        let under_way = mem::take(&mut self.under_way);
        for undo in under_way {
            if lock.hold(undo.fence).is_some() {
                self.add(key, undo);
            } else {
                self.under_way.push(undo);
            }
        }
        for ((fence, _), untold) in &mut self.untold {
            if lock.hold(*fence).is_some() {
                untold.key = Some(key.into());
            }
        }
    }

    /// A turn of the server's loop ends: what has not arrived by now has gone for good.
    pub(crate) fn before_sleep(&mut self) {
        self.under_way.clear();
    }

    /// Two databases have changed places.
    pub(crate) fn swapped(&mut self, one: Database, other: Database) {
        self.marks.swap(one, other);
        for untold in self.untold.values_mut() {
            untold.key = untold.key.take().map(|key| key.swapped(one, other));
        }
    }

    /// Another server decides from now on: nothing is undone here any more. Returns the keys that were marked.
    pub(crate) fn forget(&mut self) -> Box<[OwnedDbKey]> {
        let marks = mem::take(self).marks;
        marks.iter().map(|(key, _)| key.into()).collect()
    }
}
