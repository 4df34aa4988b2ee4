//! Figures: how often what has happened since the start, for INFO.
//!
//! They follow from what turns come to ([`Outcome`]), and from how waits end and keys go without a turn. They count what
//! this server has decided. What a master or a file says was counted where it was decided.
//!
//! On a server that has begun without locks and had none from elsewhere, what has ended and what is held is what was
//! granted: see [`Figures::ended`].

use crate::outcome::{Cause, Denied, Ending, Outcome};

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Figures {
    /// Holds that were granted.
    pub grants: u64,
    /// Of them, those whose requests had waited.
    pub grants_after_wait: u64,
    /// Requests that got null at once.
    pub refusals: u64,
    /// Waits that ended with their time.
    pub timeouts: u64,
    /// Requests that would have exceeded a maximum of waiters.
    pub queue_full: u64,
    /// Requests that could never have been served.
    pub deadlocks: u64,
    /// Releases of a hold or of a level of one.
    pub releases: u64,
    /// Releases of what the token did not hold.
    pub refused_releases: u64,
    /// Extensions by holders.
    pub extensions: u64,
    /// Extensions of what the token did not hold.
    pub refused_extensions: u64,
    /// Holds that were released. A release of a level ends none.
    pub released: u64,
    /// Holds whose leases ran out.
    pub lapsed: u64,
    /// Holds whose leases ran out before their tokens had claimed them.
    pub unclaimed: u64,
    /// Holds that operators ended.
    pub broken: u64,
    /// Holds that ended because their connections closed.
    pub sessions_closed: u64,
    /// Grants that could not be told.
    pub undone: u64,
    /// Holds that the server evicted.
    pub evicted: u64,
    /// Holds that went with their keys, by another command than this module's.
    pub removed: u64,
    /// Holds that went with their keys to another node of the cluster, or came from one by a move that was called off.
    pub moved: u64,
}

impl Figures {
    /// Nothing has happened yet.
    pub const fn new() -> Self {
        Self {
            grants: 0,
            grants_after_wait: 0,
            refusals: 0,
            timeouts: 0,
            queue_full: 0,
            deadlocks: 0,
            releases: 0,
            refused_releases: 0,
            extensions: 0,
            refused_extensions: 0,
            released: 0,
            lapsed: 0,
            unclaimed: 0,
            broken: 0,
            sessions_closed: 0,
            undone: 0,
            evicted: 0,
            removed: 0,
            moved: 0,
        }
    }

    /// How many holds have ended, for whatever reason.
    pub fn ended(&self) -> u64 {
        let others = [
            self.lapsed,
            self.unclaimed,
            self.broken,
            self.sessions_closed,
            self.undone,
            self.evicted,
            self.removed,
            self.moved,
        ];
        others.into_iter().fold(self.released, u64::saturating_add)
    }

    /// Counts what a turn has come to.
    pub(crate) fn count(&mut self, outcome: &Outcome) {
        for change in &outcome.changes {
            match change.cause() {
                Some(Cause::Granted { has_waited }) => {
                    add(&mut self.grants, 1);
                    add(&mut self.grants_after_wait, has_waited.into());
                }
                Some(Cause::Released) => add(&mut self.releases, 1),
                Some(Cause::Extended) => add(&mut self.extensions, 1),
                _ => {}
            }
            change.ended().iter().for_each(|ended| add(self.of_ending(ended.why), 1));
        }
        if let Some(denied) = outcome.denied {
            add(self.of_denial(denied), 1);
        }
    }

    fn of_ending(&mut self, why: Ending) -> &mut u64 {
        match why {
            Ending::Released => &mut self.released,
            Ending::Lapsed => &mut self.lapsed,
            Ending::Unclaimed => &mut self.unclaimed,
            Ending::Broken => &mut self.broken,
            Ending::SessionClosed => &mut self.sessions_closed,
            Ending::Undone => &mut self.undone,
        }
    }

    fn of_denial(&mut self, denied: Denied) -> &mut u64 {
        match denied {
            Denied::NotAvailable => &mut self.refusals,
            Denied::QueueFull => &mut self.queue_full,
            Denied::Deadlock => &mut self.deadlocks,
            Denied::NotReleased => &mut self.refused_releases,
            Denied::NotExtended => &mut self.refused_extensions,
        }
    }
}

/// Adds to a figure. None comes near its maximum.
pub(crate) fn add(figure: &mut u64, number: u64) {
    *figure = figure.saturating_add(number);
}
