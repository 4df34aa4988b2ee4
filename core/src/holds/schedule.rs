//! The holds of a lock in the order in which they are due, with sums. The number of live holds at a moment, and the
//! smallest limit among them, are found without a walk over the holds.
//!
//! A hold is live while its lease runs, or while a connection keeps it alive. All holds that are due after `now` are
//! live. Of those that are due before, only the ones that a connection keeps alive are. So the live holds are the sum
//! of two parts of this list, however many leases have ended and are not removed yet.
//!
//! The list is a B+ tree. Leaves hold the entries. A node above stores for each child the first and the last place in
//! it, and the crowds of the two kinds of holds below it. Every operation follows one or two paths from the root to a
//! leaf. No node is empty, except the root of an empty tree, and all leaves are equally deep.

use alloc::vec::Vec;
use core::mem;

use smallvec::SmallVec;

use crate::admission::Crowd;
use crate::fence::Fence;
use crate::hold::Hold;
use crate::share::Share;
use crate::time::Moment;

/// The most entries in a leaf, and the most children of a node above.
const MOST: usize = 32;

/// A node that is left with fewer is merged with its neighbour.
const FEWEST: usize = MOST / 4;

/// The place of a hold in the order: when it is due ([`Hold::due`]), then its fence.
type Place = (Moment, Fence);

/// What the list stores of a hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    due: Moment,
    fence: Fence,
    share: Share,
    kind: Kind,
}

/// The two kinds of holds that are due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Their leases end when they are due.
    Lapsing,
    /// Connections keep them alive. Their leases are extended when they are due.
    Kept,
}

impl Kind {
    /// The kind of this hold.
    pub(super) fn of(hold: &Hold) -> Self {
        if hold.session().is_some() { Self::Kept } else { Self::Lapsing }
    }
}

impl Entry {
    fn of(hold: &Hold) -> Self {
        Self { due: hold.due(), fence: hold.fence(), share: hold.share(), kind: Kind::of(hold) }
    }

    fn place(&self) -> Place {
        (self.due, self.fence)
    }

    /// As [`Hold::is_live`] says of the hold.
    fn is_live(&self, now: Moment) -> bool {
        self.kind == Kind::Kept || now < self.due
    }
}

/// The first and last place in a part of the list, and the crowds in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Summary {
    first: Place,
    last: Place,
    lapsing: Crowd,
    kept: Crowd,
}

impl Summary {
    fn of(entry: &Entry) -> Self {
        let (place, crowd) = (entry.place(), Crowd::of(entry.share));
        let (lapsing, kept) = match entry.kind {
            Kind::Lapsing => (crowd, Crowd::NOBODY),
            Kind::Kept => (Crowd::NOBODY, crowd),
        };
        Self { first: place, last: place, lapsing, kept }
    }

    /// The summary of this part and the one behind it.
    fn and(self, behind: Self) -> Self {
        Self {
            first: self.first,
            last: behind.last,
            lapsing: self.lapsing.and(behind.lapsing),
            kept: self.kept.and(behind.kept),
        }
    }

    fn crowd(&self, kind: Kind) -> Crowd {
        match kind {
            Kind::Lapsing => self.lapsing,
            Kind::Kept => self.kept,
        }
    }
}

/// The list.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    root: Node,
}

#[derive(Debug)]
enum Node {
    Leaf(Vec<Entry>),
    Inner(Vec<Branch>),
}

#[derive(Debug)]
struct Branch {
    summary: Summary,
    node: Node,
}

impl Default for Node {
    fn default() -> Self {
        Self::Leaf(Vec::new())
    }
}

impl Schedule {
    /// Inserts a hold. It must not be in the list yet.
    pub(super) fn insert(&mut self, hold: &Hold) {
        if let Some(right) = self.root.insert(Entry::of(hold)) {
            let left = mem::take(&mut self.root);
            self.root = Node::Inner([left, right].into_iter().filter_map(Branch::of).collect());
        }
    }

    /// Removes a hold, which must not have changed since it was inserted. False if it is not in the list.
    pub(super) fn remove(&mut self, hold: &Hold) -> bool {
        let is_removed = self.root.remove(Entry::of(hold).place());
        while let Node::Inner(branches) = &mut self.root
            && branches.len() <= 1
        {
            self.root = branches.pop().map(|only| only.node).unwrap_or_default();
        }
        is_removed
    }

    /// Whether this hold is in the list, as it is now.
    pub(super) fn contains(&self, hold: &Hold) -> bool {
        let entry = Entry::of(hold);
        self.root.find(entry.place()) == Some(&entry)
    }

    /// The holds that are live at `now`, or all holds if `now` is `None`, without these, which are in the list.
    pub(super) fn crowd<'a>(
        &self,
        now: Option<Moment>,
        without: impl IntoIterator<Item = &'a Hold>,
    ) -> Crowd {
        let mut without: SmallVec<[Place; 1]> =
            without.into_iter().map(|hold| Entry::of(hold).place()).collect();
        without.sort_unstable();
        self.root.crowd(now, &without)
    }

    /// When the first is due.
    pub(super) fn first_due(&self) -> Option<Moment> {
        match &self.root {
            Node::Leaf(entries) => entries.first().map(|entry| entry.due),
            Node::Inner(branches) => branches.first().map(|branch| branch.summary.first.0),
        }
    }

    /// The fences of the first holds of a kind that are due by `now`, at most `at_most`. If `now` is `None`, all holds
    /// of the kind count as due.
    pub(super) fn due(&self, kind: Kind, now: Option<Moment>, at_most: usize) -> Vec<Fence> {
        let mut fences = Vec::new();
        self.root.collect_due(kind, now, at_most, &mut fences);
        fences
    }

    /// Bytes allocated.
    pub(super) fn heap_size(&self) -> usize {
        self.root.heap_size()
    }

    /// Whether the entries are in order, no node is empty or overfull, all leaves are equally deep, the root has more
    /// than one child, and every summary is right.
    pub(super) fn is_consistent(&self) -> bool {
        let is_right = match &self.root {
            Node::Leaf(entries) if entries.is_empty() => return true,
            Node::Leaf(_) => true,
            Node::Inner(branches) => branches.len() > 1,
        };
        is_right && self.root.depth_if_consistent().is_some()
    }
}

impl<'a> FromIterator<&'a Hold> for Schedule {
    fn from_iter<I: IntoIterator<Item = &'a Hold>>(holds: I) -> Self {
        let mut entries: Vec<Entry> = holds.into_iter().map(Entry::of).collect();
        entries.sort_unstable_by_key(Entry::place);
        let mut nodes: Vec<Node> = chunks(entries).map(Node::Leaf).collect();
        while nodes.len() > 1 {
            let branches = nodes.into_iter().filter_map(Branch::of);
            nodes = chunks(branches).map(Node::Inner).collect();
        }
        Self { root: nodes.pop().unwrap_or_default() }
    }
}

/// Splits items into full chunks. The last one has what is left.
fn chunks<T>(items: impl IntoIterator<Item = T>) -> impl Iterator<Item = Vec<T>> {
    let mut items = items.into_iter();
    core::iter::from_fn(move || {
        let chunk: Vec<T> = items.by_ref().take(MOST).collect();
        (!chunk.is_empty()).then_some(chunk)
    })
}

impl Branch {
    /// `None` for an empty node, which must not be in a tree.
    fn of(node: Node) -> Option<Self> {
        Some(Self { summary: node.summary()?, node })
    }

    /// Updates the summary after a change below.
    fn sum_up(&mut self) {
        if let Some(summary) = self.node.summary() {
            self.summary = summary;
        }
    }
}

impl Node {
    fn len(&self) -> usize {
        match self {
            Self::Leaf(entries) => entries.len(),
            Self::Inner(branches) => branches.len(),
        }
    }

    fn summary(&self) -> Option<Summary> {
        match self {
            Self::Leaf(entries) => entries.iter().map(Summary::of).reduce(Summary::and),
            Self::Inner(branches) => branches.iter().map(|branch| branch.summary).reduce(Summary::and),
        }
    }

    /// Inserts an entry. If there is no room for it, the node is split, and its right part is returned.
    fn insert(&mut self, entry: Entry) -> Option<Self> {
        match self {
            Self::Leaf(entries) => {
                let at = entries.partition_point(|other| other.place() < entry.place());
                // Most new leases end after all others, so they come last. The leaf before them stays full.
                let cut = if at == entries.len() { at } else { MOST / 2 };
                insert_or_split(entries, at, cut, entry).map(Self::Leaf)
            }
            Self::Inner(branches) => {
                let at = branch_for(branches, entry.place());
                let branch = branches.get_mut(at)?;
                let right = branch.node.insert(entry);
                branch.sum_up();
                let right = Branch::of(right?)?;
                insert_or_split(branches, at.saturating_add(1), MOST / 2, right).map(Self::Inner)
            }
        }
    }

    /// Removes the entry at this place. The node may be left with too few entries.
    fn remove(&mut self, place: Place) -> bool {
        match self {
            Self::Leaf(entries) => {
                let found = entries.binary_search_by_key(&place, Entry::place);
                found.map(|at| entries.remove(at)).is_ok()
            }
            Self::Inner(branches) => {
                let at = branch_for(branches, place);
                let Some(branch) = branches.get_mut(at) else { return false };
                if !branch.node.remove(place) {
                    return false;
                }
                branch.sum_up();
                if branch.node.len() < FEWEST {
                    join(branches, at);
                }
                true
            }
        }
    }

    fn find(&self, place: Place) -> Option<&Entry> {
        match self {
            Self::Leaf(entries) => entries.iter().find(|entry| entry.place() == place),
            Self::Inner(branches) => branches.get(branch_for(branches, place))?.node.find(place),
        }
    }

    /// See [`Schedule::crowd`]. The places to leave out are in this node, in order.
    fn crowd(&self, now: Option<Moment>, without: &[Place]) -> Crowd {
        match self {
            Self::Leaf(entries) => {
                let counts = |entry: &&Entry| {
                    now.is_none_or(|now| entry.is_live(now)) && !without.contains(&entry.place())
                };
                entries.iter().filter(counts).map(|entry| entry.share).collect()
            }
            Self::Inner(branches) => {
                let mut without = without;
                let mut crowd = Crowd::NOBODY;
                for Branch { summary: Summary { first, last, lapsing, kept }, node } in branches {
                    let here = without.partition_point(|place| place <= last);
                    let (here, later) = without.split_at(here);
                    without = later;
                    let below = match now {
                        _ if !here.is_empty() => node.crowd(now, here),
                        Some(now) if last.0 <= now => *kept,
                        Some(now) if first.0 <= now => node.crowd(Some(now), here),
                        _ => lapsing.and(*kept),
                    };
                    crowd = crowd.and(below);
                }
                crowd
            }
        }
    }

    /// See [`Schedule::due`].
    fn collect_due(&self, kind: Kind, now: Option<Moment>, at_most: usize, fences: &mut Vec<Fence>) {
        let is_due = |due: Moment| now.is_none_or(|now| due <= now);
        match self {
            Self::Leaf(entries) => {
                let due = entries.iter().take_while(|entry| is_due(entry.due));
                let of_kind = due.filter(|entry| entry.kind == kind).map(|entry| entry.fence);
                fences.extend(of_kind.take(at_most.saturating_sub(fences.len())));
            }
            Self::Inner(branches) => {
                let due = branches.iter().take_while(|branch| is_due(branch.summary.first.0));
                for branch in due.filter(|branch| branch.summary.crowd(kind) != Crowd::NOBODY) {
                    if fences.len() >= at_most {
                        return;
                    }
                    branch.node.collect_due(kind, now, at_most, fences);
                }
            }
        }
    }

    /// Appends the node behind it. If there are too many entries for one node, returns the right part of both.
    fn append(&mut self, right: Self) -> Option<Self> {
        match (self, right) {
            (Self::Leaf(entries), Self::Leaf(right)) => append_or_split(entries, right).map(Self::Leaf),
            (Self::Inner(branches), Self::Inner(right)) => append_or_split(branches, right).map(Self::Inner),
            // Cannot happen: all leaves are equally deep.
            (_, right) => Some(right),
        }
    }

    fn heap_size(&self) -> usize {
        match self {
            Self::Leaf(entries) => entries.capacity().saturating_mul(size_of::<Entry>()),
            Self::Inner(branches) => {
                let own = branches.capacity().saturating_mul(size_of::<Branch>());
                branches.iter().fold(own, |sum, branch| sum.saturating_add(branch.node.heap_size()))
            }
        }
    }

    /// The depth of the node, if everything in it is consistent.
    fn depth_if_consistent(&self) -> Option<usize> {
        let is_filled = (1..=MOST).contains(&self.len());
        match self {
            Self::Leaf(entries) => {
                let ascends = entries.is_sorted_by(|a, b| a.place() < b.place());
                (is_filled && ascends).then_some(0)
            }
            Self::Inner(branches) => {
                let ascends = branches.is_sorted_by(|a, b| a.summary.last < b.summary.first);
                let is_true = |branch: &Branch| branch.node.summary() == Some(branch.summary);
                let mut depths = branches.iter().map(|branch| branch.node.depth_if_consistent());
                let depth = depths.next()??;
                let is_level = depths.all(|other| other == Some(depth));
                let is_consistent = is_filled && ascends && is_level && branches.iter().all(is_true);
                is_consistent.then_some(depth.saturating_add(1))
            }
        }
    }
}

/// The branch that has this place, or would have it.
fn branch_for(branches: &[Branch], place: Place) -> usize {
    let at = branches.partition_point(|branch| branch.summary.last < place);
    at.min(branches.len().saturating_sub(1))
}

/// Inserts an item at a place. If there is no room, splits the items at `cut` first and returns the right part.
fn insert_or_split<T>(items: &mut Vec<T>, at: usize, cut: usize, item: T) -> Option<Vec<T>> {
    if items.len() < MOST {
        items.insert(at, item);
        return None;
    }
    let mut right = items.split_off(cut);
    match at.checked_sub(cut) {
        Some(at) => right.insert(at, item),
        None => items.insert(at, item),
    }
    Some(right)
}

/// Merges the branch at a place, which has too few children, with a neighbour.
fn join(branches: &mut Vec<Branch>, at: usize) {
    let left = at.min(branches.len().saturating_sub(2));
    let right = left.saturating_add(1);
    if right < branches.len() {
        let right = branches.remove(right);
        let Some(branch) = branches.get_mut(left) else { return };
        let right = branch.node.append(right.node).and_then(Branch::of);
        branch.sum_up();
        if let Some(right) = right {
            branches.insert(left.saturating_add(1), right);
        }
    } else {
        // It has no neighbour here. If it is empty, its parent is now empty too, and is merged with a neighbour of its
        // own.
        branches.retain(|branch| branch.node.len() > 0);
    }
}

/// Appends items. If there are too many, keeps half and returns the rest.
fn append_or_split<T>(items: &mut Vec<T>, mut right: Vec<T>) -> Option<Vec<T>> {
    items.append(&mut right);
    if items.len() <= MOST {
        return None;
    }
    right = items.split_off(items.len() / 2);
    items.shrink_to(MOST);
    Some(right)
}
