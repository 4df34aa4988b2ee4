//! Whether a request would close a circle of owners who wait for each other (G17).

use alloc::vec::Vec;

use smallvec::SmallVec;

use super::{Joining, Places, Queues, Ticket};
use crate::key::{DbKey, OwnedDbKey};
use crate::waits_for::{NotedHolds, View};

impl Queues {
    /// Whether a request for these keys would close a circle of owners if it joined (G17). The circle is kept, for who asks for
    /// it.
    pub(crate) fn closes_circle(&mut self, keys: &[DbKey<'_>], joining: &Joining, view: View<'_>) -> bool {
        let waiter = &joining.waiter;
        let is_noted = waiter.is_noted() && joining.holds.iter().any(Option::is_some);
        let Some(label) = waiter.owner.as_ref().filter(|_| is_noted) else { return false };
        let Places { tickets, kept } = self.places_of(keys, &waiter.token);
        // What these turns have changed so far is still to be noted.
        self.know_all(keys, joining);
        let may_change = joining.ahead || !tickets.is_empty();
        let may_be_waited_for = |key: &DbKey<'_>| self.waits_for.may_be_waited_for(label, *key, may_change);
        if !keys.iter().any(may_be_waited_for) {
            return false;
        }
        // It stands there for as long as the search takes, in the place of older requests of its token.
        let elsewhere = tickets.iter().flat_map(|older| self.keys_of(*older)).cloned();
        let elsewhere: Vec<(OwnedDbKey, NotedHolds)> =
            elsewhere.map(|key| (key.clone(), self.waits_for.known(key.as_key()))).collect();
        tickets.iter().for_each(|older| self.waits_for.leave(*older));
        let anew = if joining.ahead { Ticket::FIRST } else { Ticket::LAST };
        let ticket = kept.map_or(anew, |kept| kept.going(joining.ahead));
        let owned: SmallVec<[OwnedDbKey; 1]> = keys.iter().map(|key| OwnedDbKey::from(*key)).collect();
        self.waits_for.enter(ticket, waiter, &owned);
        self.know_all(keys, joining);
        let circle = self.waits_for.circle_of(ticket, view);
        self.waits_for.leave(ticket);
        for older in tickets {
            if let Some(seat) = self.seats.get(&older) {
                self.waits_for.enter(older, &seat.waiter, &seat.keys);
            }
        }
        elsewhere.into_iter().for_each(|(key, holds)| self.waits_for.know(key.as_key(), holds));
        self.know_all(keys, joining);
        let closes = circle.is_some();
        if closes {
            self.waits_for.refused = circle;
        }
        closes
    }

    fn know_all(&mut self, keys: &[DbKey<'_>], joining: &Joining) {
        for (key, holds) in keys.iter().zip(&joining.holds) {
            self.waits_for.know(*key, holds.clone());
        }
    }
}
