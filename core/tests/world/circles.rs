//! Owners who wait for each other, as the contract has it, found by the slowest means: everybody counts as stuck, and is
//! struck off for as long as there is one who can go on.
//!
//! An owner is a label. It is stuck if it waits on a connection and none of its waits can ever be granted, though all who are
//! not stuck come and go. A label is never in its own way. A hold that has ended counts for nothing, nor does one whose
//! connection has closed, nor one that is to be undone, nor a wait whose time is over.

use std::collections::BTreeSet;

use super::grants::undo;
use super::model::{Holder, Model, Share, Waiting};
use super::steps::Spot;

type Label = &'static [u8];

impl Model {
    /// Whether a request closes a circle of owners by waiting. `all` are those who wait then, itself among them, in their order.
    pub(super) fn closes_a_circle(&self, all: &[Waiting], number: usize) -> bool {
        let new = all.iter().find(|waiter| waiter.number == number).unwrap();
        let (Some(_), Some(own)) = (new.client, new.request.owner) else { return false };
        let mut stuck: BTreeSet<Label> = all.iter().filter_map(|waiter| self.label_of(waiter)).collect();
        loop {
            let goes_on = |label: &Label| {
                let mut its = all.iter().filter(|waiter| self.label_of(waiter) == Some(label));
                its.any(|waiter| !self.cannot_be_granted(waiter, all, &stuck))
            };
            let Some(label) = stuck.iter().copied().find(goes_on) else { break };
            stuck.remove(label);
        }
        if !stuck.contains(own) {
            return false;
        }
        let mut reached: BTreeSet<Label> = BTreeSet::new();
        loop {
            let known = reached.len();
            for waiter in all {
                let Some(label) = self.label_of(waiter) else { continue };
                if label == own || reached.contains(label) {
                    let (ahead, holders) = self.in_the_way(waiter, all, &stuck);
                    reached.extend(ahead);
                    reached.extend(holders.iter().filter_map(|holder| holder.owner));
                }
            }
            if reached.len() == known {
                return reached.contains(own);
            }
        }
    }

    /// The label of who waits on a connection, and whose time is not over.
    fn label_of(&self, waiter: &Waiting) -> Option<Label> {
        let lasts = waiter.until.is_none_or(|until| self.now < until);
        waiter.client.filter(|_| lasts)?;
        waiter.request.owner
    }

    /// Who is stuck and stands or holds in the way of a waiter.
    fn in_the_way<'a>(
        &'a self,
        waiter: &Waiting,
        all: &[Waiting],
        stuck: &BTreeSet<Label>,
    ) -> (Vec<Label>, Vec<&'a Holder>) {
        let is_other = |label: &Label| Some(*label) != waiter.request.owner && stuck.contains(label);
        let ahead = all.iter().take_while(|other| other.number != waiter.number);
        let ahead = ahead.filter(|other| other.spot == waiter.spot);
        let ahead = ahead.filter_map(|other| self.label_of(other)).filter(is_other).collect();
        let holders = self.counting(waiter.spot).filter(|holder| holder.token != waiter.token);
        let holders = holders.filter(|holder| holder.owner.as_ref().is_some_and(is_other)).collect();
        (ahead, holders)
    }

    fn cannot_be_granted(&self, waiter: &Waiting, all: &[Waiting], stuck: &BTreeSet<Label>) -> bool {
        let (ahead, holders) = self.in_the_way(waiter, all, stuck);
        if !ahead.is_empty() {
            return true;
        }
        let request = &waiter.request;
        let own = self.counting(waiter.spot).find(|holder| holder.token == waiter.token);
        let has = own.map_or(Share { limit: 1, weight: 1 }, |own| own.share);
        let wanted =
            Share { limit: request.limit.unwrap_or(has.limit), weight: request.weight.unwrap_or(has.weight) };
        let is_answered_otherwise =
            !wanted.fits(&[]) || own.is_none() && request.level.is_some_and(|level| level > 1);
        let has_it = own.is_some_and(|own| own.share == wanted);
        let others: Vec<Share> = holders.iter().map(|holder| holder.share).collect();
        !is_answered_otherwise && !has_it && !wanted.fits(&others)
    }

    /// The holds that count.
    fn counting(&self, spot: Spot) -> impl Iterator<Item = &Holder> {
        let shares: Vec<(u64, Share)> = self.live(spot).map(|holder| (holder.fence, holder.share)).collect();
        self.live(spot).filter(move |holder| {
            let others: Vec<Share> =
                shares.iter().filter(|(fence, _)| *fence != holder.fence).map(|(_, share)| *share).collect();
            let is_closed = holder.session.is_some_and(|session| !self.open.contains(&session.client));
            let is_undone = undo(&mut (*holder).clone(), &others, self.now, &mut Vec::new(), &mut Vec::new());
            !self.unseen.contains(&spot) && !is_closed && !is_undone
        })
    }
}
