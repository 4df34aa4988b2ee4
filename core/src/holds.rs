//! The holds of a lock, stored so that every operation takes time in the logarithm of their number.
//!
//! Nearly every lock has one hold, which is stored in place. A few holds are a list, in the order of their fences. Many
//! are an index. The form changes only memory and time.
//!
//! Only [`Holds::change`] changes a hold. It lends the parts that can change, and updates the index.

mod index;
mod schedule;

use alloc::boxed::Box;
use alloc::collections::btree_map::Values;
use alloc::vec::{self, Vec};
use core::iter::Chain;
use core::{mem, slice};

pub(crate) use self::schedule::Kind;

use self::index::Index;
use crate::admission::Crowd;
use crate::fence::Fence;
use crate::hold::{Hold, HoldMut};
use crate::time::Moment;
use crate::token::Token;

/// The most holds that are stored as a list, which is searched from end to end. An index of two holds would take as
/// much memory as twenty locks.
const FEW: usize = 16;

/// The most holds of a lock for which debug builds check all of them after every change.
pub(crate) const MOST_CHECKED: usize = 32;

/// Holds, no two with one fence or one token.
#[derive(Debug, Default)]
pub struct Holds(Form);

#[derive(Debug, Default)]
enum Form {
    #[default]
    None,
    One(Hold),
    /// 2 to [`FEW`].
    Few(Vec<Hold>),
    /// More than half of [`FEW`], so that a lock does not change its form with every hold.
    Many(Box<Index>),
}

/// The holds, as a list or as an index.
enum View<'a> {
    List(&'a [Hold]),
    Index(&'a Index),
}

/// Holds in the order of their fences.
pub type Iter<'a> = Chain<slice::Iter<'a, Hold>, Values<'a, Fence, Hold>>;

impl Holds {
    /// How many there are, ended leases among them.
    pub fn len(&self) -> usize {
        match self.view() {
            View::List(holds) => holds.len(),
            View::Index(index) => index.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        matches!(self.0, Form::None)
    }

    /// All of them in the order of their fences: the oldest grant first.
    pub fn iter(&self) -> Iter<'_> {
        match self.view() {
            View::List(holds) => holds.iter().chain(Values::default()),
            View::Index(index) => [].iter().chain(index.iter()),
        }
    }

    fn view(&self) -> View<'_> {
        match &self.0 {
            Form::None => View::List(&[]),
            Form::One(hold) => View::List(slice::from_ref(hold)),
            Form::Few(holds) => View::List(holds),
            Form::Many(index) => View::Index(index),
        }
    }

    /// The hold with this fence.
    pub(crate) fn get(&self, fence: Fence) -> Option<&Hold> {
        match self.view() {
            View::List(holds) => holds.iter().find(|hold| hold.fence() == fence),
            View::Index(index) => index.get(fence),
        }
    }

    /// The hold of this token.
    pub(crate) fn find(&self, token: &Token) -> Option<&Hold> {
        match self.view() {
            View::List(holds) => holds.iter().find(|hold| hold.is_owned_by(token)),
            View::Index(index) => index.find(token),
        }
    }

    /// The holds that are live at `now`, or all holds if `now` is `None`, without those that have these fences.
    pub(crate) fn crowd(&self, now: Option<Moment>, without: &[Fence]) -> Crowd {
        match self.view() {
            View::List(holds) => {
                let counts = |hold: &&Hold| {
                    now.is_none_or(|now| hold.is_live(now)) && !without.contains(&hold.fence())
                };
                holds.iter().filter(counts).map(Hold::share).collect()
            }
            View::Index(index) => index.crowd(now, without),
        }
    }

    /// When the first of them is due ([`Hold::due`]).
    pub(crate) fn first_due(&self) -> Option<Moment> {
        match self.view() {
            View::List(holds) => holds.iter().map(Hold::due).min(),
            View::Index(index) => index.first_due(),
        }
    }

    /// The fences of the holds of a kind that are due by `now`, at most `at_most`, the first due first. If `now` is
    /// `None`, all holds of the kind count as due.
    pub(crate) fn due(&self, kind: Kind, now: Option<Moment>, at_most: usize) -> Vec<Fence> {
        match self.view() {
            View::List(holds) => {
                let is_due = |hold: &&Hold| Kind::of(hold) == kind && now.is_none_or(|now| hold.due() <= now);
                let mut due: Vec<&Hold> = holds.iter().filter(is_due).collect();
                due.sort_by_key(|hold| hold.due());
                due.into_iter().take(at_most).map(Hold::fence).collect()
            }
            View::Index(index) => index.due(kind, now, at_most),
        }
    }

    /// Inserts a hold. It replaces any hold with its token or its fence.
    pub(crate) fn insert(&mut self, hold: Hold) {
        if self.is_empty() {
            self.0 = Form::One(hold);
            return;
        }
        let of_token = self.find(&hold.token()).map(Hold::fence);
        of_token.into_iter().chain([hold.fence()]).for_each(|fence| drop(self.remove(fence)));
        match &mut self.0 {
            Form::None => self.0 = Form::One(hold),
            Form::One(_) => {
                if let Form::One(other) = mem::take(&mut self.0) {
                    let mut holds = Vec::from([other, hold]);
                    holds.sort_by_key(Hold::fence);
                    self.0 = Form::Few(holds);
                }
            }
            Form::Few(holds) if holds.len() < FEW => {
                let place = holds.partition_point(|other| other.fence() < hold.fence());
                holds.insert(place, hold);
            }
            Form::Few(holds) => {
                let index = mem::take(holds).into_iter().chain([hold]).collect();
                self.0 = Form::Many(Box::new(index));
            }
            Form::Many(index) => index.insert(hold),
        }
        self.check();
    }

    /// Removes the hold with this fence. False if there is none.
    pub(crate) fn end(&mut self, fence: Fence) -> bool {
        match &self.0 {
            Form::One(hold) if hold.fence() == fence => {
                self.0 = Form::None;
                true
            }
            _ => self.remove(fence).is_some(),
        }
    }

    /// Removes the hold with this fence and returns it.
    pub(crate) fn remove(&mut self, fence: Fence) -> Option<Hold> {
        let removed = match &mut self.0 {
            Form::One(hold) if hold.fence() == fence => match mem::take(&mut self.0) {
                Form::One(hold) => Some(hold),
                _ => None,
            },
            Form::None | Form::One(_) => None,
            Form::Few(holds) => {
                let place = holds.iter().position(|hold| hold.fence() == fence)?;
                let removed = holds.remove(place);
                if holds.len() == 1
                    && let Some(last) = holds.pop()
                {
                    self.0 = Form::One(last);
                }
                Some(removed)
            }
            Form::Many(index) => {
                let removed = index.remove(fence)?;
                if index.len() <= FEW / 2 {
                    self.0 = Form::Few(mem::take(&mut **index).into_holds());
                }
                Some(removed)
            }
        };
        self.check();
        removed
    }

    /// Changes the hold with this fence, and returns it as it is now.
    pub(crate) fn change(&mut self, fence: Fence, change: impl FnOnce(&mut HoldMut<'_>)) -> Option<&Hold> {
        let hold = match &mut self.0 {
            Form::None => return None,
            Form::One(hold) => Some(hold).filter(|hold| hold.fence() == fence)?,
            Form::Few(holds) => holds.iter_mut().find(|hold| hold.fence() == fence)?,
            Form::Many(index) => return index.change(fence, change),
        };
        change(&mut hold.lend());
        Some(hold)
    }

    /// Bytes allocated besides its own size.
    pub(crate) fn heap_size(&self) -> usize {
        let own = match &self.0 {
            Form::None | Form::One(_) => 0,
            Form::Few(holds) => holds.capacity().saturating_mul(size_of::<Hold>()),
            Form::Many(index) => return size_of::<Index>().saturating_add(index.heap_size()),
        };
        self.iter().fold(own, |sum, hold| sum.saturating_add(hold.heap_size()))
    }

    /// The rule that the lock would break if these holds were inserted in this order, each in place of the hold of its
    /// token. Such a lock is neither loaded from a snapshot nor applied from another server. The time does not depend
    /// on the number of holds that the lock has.
    pub fn broken_rule(&self, new: &[Hold]) -> Option<&'static str> {
        let mut replaced: Vec<Fence> =
            new.iter().filter_map(|hold| self.find(&hold.token())).map(Hold::fence).collect();
        replaced.sort_unstable();
        let is_free = |fence| self.get(fence).is_none() || replaced.binary_search(&fence).is_ok();
        let ascend = new.is_sorted_by(|a, b| a.fence() < b.fence());
        let crowd = self.crowd(None, &replaced).and(new.iter().map(Hold::share).collect());
        let mut tokens: Vec<Token> = new.iter().map(Hold::token).collect();
        tokens.sort_unstable();
        let rules = [
            (!self.is_empty() || !new.is_empty(), "a lock is held"),
            (ascend && new.iter().all(|hold| is_free(hold.fence())), "fences ascend"),
            (crowd.is_tolerated(), "holds are within limits"),
            (tokens.is_sorted_by(|a, b| a != b), "tokens are unique"),
        ];
        rules.into_iter().find(|(is_kept, _)| !is_kept).map(|(_, rule)| rule)
    }

    /// In debug builds: checks all holds, unless there are very many. An index also checks what changed in it.
    fn check(&self) {
        debug_assert!(self.len() > MOST_CHECKED || self.is_consistent(), "holds are consistent: {self:?}");
    }

    /// Whether the form fits the number of holds, they are in order, no token is there twice, and the index agrees with
    /// them.
    pub(crate) fn is_consistent(&self) -> bool {
        match &self.0 {
            Form::None | Form::One(_) => true,
            Form::Few(holds) => {
                let ascend = holds.is_sorted_by(|a, b| a.fence() < b.fence());
                let is_found = |hold: &Hold| self.find(&hold.token()) == Some(hold);
                (2..=FEW).contains(&holds.len()) && ascend && holds.iter().all(is_found)
            }
            Form::Many(index) => index.len() > FEW / 2 && index.is_consistent(),
        }
    }
}

impl Form {
    /// Up to [`FEW`] holds, in the order of their fences.
    fn of_list(mut holds: Vec<Hold>) -> Self {
        match holds.pop() {
            None => Self::None,
            Some(only) if holds.is_empty() => Self::One(only),
            Some(last) => {
                holds.push(last);
                Self::Few(holds)
            }
        }
    }
}

impl From<Vec<Hold>> for Holds {
    /// No two may have one fence or one token.
    fn from(mut holds: Vec<Hold>) -> Self {
        holds.sort_by_key(Hold::fence);
        Self(if holds.len() <= FEW {
            Form::of_list(holds)
        } else {
            Form::Many(Box::new(holds.into_iter().collect()))
        })
    }
}

impl IntoIterator for Holds {
    type Item = Hold;
    type IntoIter = vec::IntoIter<Hold>;

    fn into_iter(self) -> vec::IntoIter<Hold> {
        let holds = match self.0 {
            Form::None => Vec::new(),
            Form::One(hold) => Vec::from([hold]),
            Form::Few(holds) => holds,
            Form::Many(index) => index.into_holds(),
        };
        holds.into_iter()
    }
}

impl<'a> IntoIterator for &'a Holds {
    type Item = &'a Hold;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl PartialEq for Holds {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other)
    }
}

impl Eq for Holds {}
