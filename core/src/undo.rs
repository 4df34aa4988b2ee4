//! Grants whose clients were not told yet, and what must be undone.
//!
//! A waiter is told of its grant a little later than the grant was made. If it is gone by then, the grant is undone,
//! unless another connection that brought the same token was told meanwhile (W4, W5). If its place is kept without a
//! connection, the grant stands, and waits to be claimed (G13).
//!
//! Some events come at moments at which the module must not write. So the key is *marked*, with what must be undone
//! there, and the mark is settled before anything else is done at that key (G2, W2). An undo is about a hold. If the
//! lock moves to another key, the undo follows it.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::mem;

use smallvec::SmallVec;

use crate::fence::Fence;
use crate::key::{Database, DbKey, DbKeyMap, OwnedDbKey};
use crate::lock::Lock;
use crate::queue::Ticket;
use crate::session::ClientId;
use crate::share::Share;
use crate::time::Moment;

/// What must be undone about a hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Undo {
    /// The fence of the hold.
    pub fence: Fence,
    /// What about it.
    pub what: What,
}

/// See [`Undo`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// It was granted to a client that was gone before it was told: the hold ends.
    Grant,
    /// It was granted again to a client that was gone before it was told: the hold gets back the share that it had, and
    /// its level is no higher than it was.
    Renewal {
        /// The share it had.
        share: Share,
        /// The level it had.
        level: u16,
    },
    /// It was granted to a client that was gone before it was told, and whose place is kept (G13): its lease is cut to what
    /// is left to claim it, and its ticket is called.
    Unclaimed {
        /// The ticket.
        ticket: Ticket,
        /// What its token knew of, if it held the lock before.
        known: Option<Known>,
    },
    /// The connection that kept it alive has closed: it ends, unless another connection keeps it alive by now.
    Session(ClientId),
}

/// What a token knew of its hold before a renewal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// When its lease ended.
    pub deadline: Moment,
    /// The share it had.
    pub share: Share,
    /// The level it had.
    pub level: u16,
}

impl Known {
    /// What gives it back.
    fn undo(self) -> What {
        What::Renewal { share: self.share, level: self.level }
    }
}

impl Undo {
    /// Whether it is dropped once somebody was told that the token holds.
    pub(crate) fn is_about_a_grant(self) -> bool {
        !matches!(self.what, What::Session(_))
    }

    /// What is to be undone if a later grant of the same hold is lost as well. Where one of them is kept, the hold is.
    fn before(self, later: Self) -> Self {
        match (self.what, later.what) {
            (What::Grant, What::Unclaimed { ticket, .. }) => {
                Self { what: What::Unclaimed { ticket, known: None }, ..self }
            }
            (What::Renewal { share, level }, What::Unclaimed { ticket, known }) => {
                let known = known.map(|known| Known { share, level, ..known });
                Self { what: What::Unclaimed { ticket, known }, ..self }
            }
            _ => self,
        }
    }
}

/// A grant whose client was not told yet.
#[derive(Debug)]
struct Untold {
    /// The key of the lock. `None` if the lock has left its key and may arrive under another.
    key: Option<OwnedDbKey>,
    /// What undoes it; `None` when somebody else has learned of the hold meanwhile, so that it stands.
    undo: Option<Undo>,
}

impl Untold {
    fn is_at(&self, key: DbKey<'_>) -> bool {
        self.key.as_ref().is_some_and(|at| at.as_key() == key)
    }
}

/// The id of an untold grant: its fence, and its number in the order of all untold grants.
type UntoldId = (Fence, u64);

/// All marks and untold grants.
#[derive(Debug)]
pub struct Undos {
    marks: DbKeyMap<Vec<Undo>>,
    /// The marked key that [`Undos::marked`] returned last.
    last: Option<OwnedDbKey>,
    untold: BTreeMap<UntoldId, Untold>,
    /// A client is told of one grant at a time, which may be of several keys.
    untold_by_client: BTreeMap<ClientId, SmallVec<[UntoldId; 1]>>,
    /// Renewals at places without a connection, which are undone if they are not claimed by then (G13).
    to_claim: BTreeSet<(Moment, UntoldId)>,
    next_number: u64,
    /// Undos of locks that have left their keys and may arrive under others.
    under_way: Vec<Undo>,
}

impl Default for Undos {
    fn default() -> Self {
        Self::new()
    }
}

impl Undos {
    /// No marks and no grants.
    pub const fn new() -> Self {
        Self {
            marks: DbKeyMap::new(),
            last: None,
            untold: BTreeMap::new(),
            untold_by_client: BTreeMap::new(),
            to_claim: BTreeSet::new(),
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

    /// Whether the hold with this fence is about to end, because its client was gone before it was told.
    pub(crate) fn is_to_end(&self, key: DbKey<'_>, fence: Fence) -> bool {
        let ends = |undo: &Undo| undo.fence == fence && undo.what == What::Grant;
        !self.marks.is_empty() && self.marks.get(key).is_some_and(|undos| undos.iter().any(ends))
    }

    /// Marks a key.
    pub(crate) fn mark(&mut self, key: DbKey<'_>) {
        self.marks.at(key);
    }

    /// Marks a key, with something to undo there.
    pub(crate) fn add(&mut self, key: DbKey<'_>, undo: Undo) {
        self.marks.at(key).push(undo);
    }

    /// The next marked key after the one that was returned last. So every marked key comes in turn, even if others are
    /// marked again and again.
    pub(crate) fn marked(&mut self) -> Option<OwnedDbKey> {
        let last = self.last.take();
        let next = self.marks.after(last.as_ref().map(OwnedDbKey::as_key)).or_else(|| self.marks.after(None));
        self.last = next.map(OwnedDbKey::from);
        self.last.clone()
    }

    /// Removes the mark of a key, and returns what must be undone there.
    pub(crate) fn take_mark(&mut self, key: DbKey<'_>) -> Vec<Undo> {
        self.marks.remove(key).unwrap_or_default()
    }

    /// A client has been granted something, and is still to be told; once for each key of the grant.
    pub(crate) fn granted(&mut self, client: ClientId, key: DbKey<'_>, undo: Undo) {
        let id = self.note(key, undo);
        self.untold_by_client.entry(client).or_default().push(id);
    }

    /// A hold was renewed at a place without a connection. It gets back what it was, unless its token claims it by then.
    pub(crate) fn left_to_claim(&mut self, key: DbKey<'_>, fence: Fence, known: Known, until: Moment) {
        let id = self.note(key, Undo { fence, what: known.undo() });
        self.to_claim.insert((until, id));
    }

    fn note(&mut self, key: DbKey<'_>, undo: Undo) -> UntoldId {
        let id = (undo.fence, self.next_number);
        self.next_number = self.next_number.saturating_add(1);
        self.untold.insert(id, Untold { key: Some(key.into()), undo: Some(undo) });
        id
    }

    /// When the time to claim a renewal ends next.
    pub(crate) fn next_claim_end(&self) -> Option<Moment> {
        self.to_claim.first().map(|(until, _)| *until)
    }

    /// The time to claim renewals has ended, of at most `at_most`: what nobody has claimed is to be undone.
    pub(crate) fn end_claims(&mut self, now: Moment, at_most: usize) {
        for _ in 0..at_most {
            let Some((until, id)) = self.to_claim.first().copied().filter(|(until, _)| *until <= now) else {
                return;
            };
            self.to_claim.remove(&(until, id));
            self.lose(id);
        }
    }

    /// A client is told that its token has the hold with this fence. From now on the hold stands, even if a waiter of
    /// the same token is gone before it is told.
    pub(crate) fn learned(&mut self, key: DbKey<'_>, fence: Fence) {
        if self.is_quiet() {
            return;
        }
        let of_fence = self.untold.range_mut((fence, 0)..=(fence, u64::MAX)).map(|(_, untold)| untold);
        // Holds under several keys may have one fence.
        of_fence.filter(|untold| untold.is_at(key)).for_each(|untold| untold.undo = None);
        if let Some(undos) = self.marks.get_mut(key) {
            // While the server has no authority, undos of this hold may be left over.
            undos.retain(|undo| undo.fence != fence || !undo.is_about_a_grant());
        }
    }

    /// A client was told of its grant. Earlier grants with the same fence stand too, because this one rests on them.
    pub(crate) fn told(&mut self, client: ClientId) {
        for (fence, number) in self.untold_by_client.remove(&client).unwrap_or_default() {
            let Some(Untold { key, .. }) = self.untold.remove(&(fence, number)) else { continue };
            let before = self.untold.range_mut((fence, 0)..(fence, number)).map(|(_, before)| before);
            before.filter(|before| before.key == key).for_each(|before| before.undo = None);
        }
    }

    /// A client is not there to be told any more. What it was granted is to be undone; where a later grant of the same hold
    /// is still to be told, with that one, should it be lost as well. Returns what is to be undone now.
    pub(crate) fn lost(&mut self, client: ClientId) -> SmallVec<[Undo; 1]> {
        let ids = self.untold_by_client.remove(&client).unwrap_or_default();
        ids.into_iter().filter_map(|id| self.lose(id)).collect()
    }

    fn lose(&mut self, id: UntoldId) -> Option<Undo> {
        let Untold { key, undo } = self.untold.remove(&id)?;
        let undo = undo?;
        let mut of_fence = self.untold.range_mut(id..=(id.0, u64::MAX)).map(|(_, later)| later);
        if let Some(later) = of_fence.find(|later| later.key == key) {
            later.undo = later.undo.map(|later| undo.before(later));
            return None;
        }
        let marked = match &key {
            Some(key) => self.marks.at(key.as_key()),
            None => &mut self.under_way,
        };
        // A later grant of the same hold may have been lost first.
        let is_later = |other: &&mut Undo| other.fence == undo.fence && other.is_about_a_grant();
        let Some(later) = marked.iter_mut().find(is_later) else {
            marked.push(undo);
            return Some(undo);
        };
        *later = undo.before(*later);
        Some(*later)
    }

    /// What would undo the grant of a client that is still to be told.
    pub fn undos_for(&self, client: ClientId) -> impl Iterator<Item = Undo> {
        let ids = self.untold_by_client.get(&client).into_iter().flatten();
        ids.filter_map(|id| self.untold.get(id)?.undo)
    }

    /// A lock has left its key. It is deleted, or it will arrive under another key.
    pub(crate) fn departed(&mut self, key: DbKey<'_>) {
        if self.is_quiet() {
            return;
        }
        let undos = self.take_mark(key);
        self.under_way.extend(undos);
        let was_here = self.untold.values_mut().filter(|untold| untold.is_at(key));
        was_here.for_each(|untold| untold.key = None);
    }

    /// A lock has arrived under a key. Its undos and its untold grants follow it.
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
            if untold.key.is_none() && lock.hold(*fence).is_some() {
                untold.key = Some(key.into());
            }
        }
    }

    /// An iteration of the server's loop ends: a lock that has not arrived by now was deleted.
    pub(crate) fn before_sleep(&mut self) {
        self.under_way.clear();
    }

    /// Two databases were swapped.
    pub(crate) fn swapped(&mut self, one: Database, other: Database) {
        self.marks.swap(one, other);
        for untold in self.untold.values_mut() {
            untold.key = untold.key.take().map(|key| key.swapped(one, other));
        }
    }

    /// This server became a replica: nothing is undone here any more. Returns the keys that were marked.
    pub(crate) fn forget(&mut self) -> Box<[OwnedDbKey]> {
        let marks = mem::take(self).marks;
        marks.iter().map(|(key, _)| key.into()).collect()
    }
}
