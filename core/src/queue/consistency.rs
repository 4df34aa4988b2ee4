//! Whether the parts of the queues agree with each other, for tests and debug builds.

use super::{Queue, Queues, Ticket, Waiter};
use crate::key::OwnedDbKey;

impl Queues {
    /// Whether every wait with a connection and a label is noted, and no other.
    fn are_noted(&self) -> bool {
        let mut noted = self.seats.iter().filter(|(_, seat)| seat.waiter.is_noted());
        self.waits_for.len() == noted.clone().count()
            && noted.all(|(ticket, seat)| self.waits_for.has(*ticket, &seat.waiter, &seat.keys))
    }

    /// Whether all parts agree: every ticket in a queue has a seat that stands there, a token, a client or what keeps it
    /// without one, and, if it has one, a timeout, and there are no others; no place without a connection is kept for ever;
    /// no queue is empty; and only keys with a queue are to be looked at.
    pub fn is_consistent(&self) -> bool {
        let seats_agree = self.seats.iter().all(|(ticket, seat)| {
            let stands = |key: &OwnedDbKey| {
                self.ticket_of(key.as_key(), &seat.waiter.token) == Some(*ticket)
                    && self
                        .queues
                        .get(key.as_key())
                        .is_some_and(|queue| queue.tickets().any(|it| it == *ticket))
            };
            let timeout = seat.waiter.until.map(|until| (until, *ticket));
            !seat.keys.is_empty()
                && seat.keys.iter().all(stands)
                && match seat.waiter.client {
                    Some(client) => self.by_client.get(&client) == Some(ticket),
                    None => seat.waiter.keep.is_some() && seat.waiter.until.is_some(),
                }
                && timeout.is_none_or(|timeout| self.timeouts.contains(&timeout))
        });
        let places: usize = self.seats.values().map(|seat| seat.keys.len()).sum();
        let tickets: usize = self.queues.iter().map(|(_, queue)| queue.len()).sum();
        let is_queued = |ticket: &&Ticket| self.waiter(**ticket).is_some_and(Waiter::is_queued);
        let is_sound = |queue: &Queue| match queue {
            Queue::One(_) => true,
            Queue::Many(many) => {
                many.tickets.len() > 1
                    && many.tickets.len() == many.by_token.len()
                    && many.queued == many.tickets.iter().filter(is_queued).count()
            }
        };
        let with_timeout = self.seats.values().filter(|seat| seat.waiter.until.is_some()).count();
        seats_agree
            && tickets == places
            && self.queues.iter().all(|(_, queue)| is_sound(queue))
            && self.by_client.len() == self.seats.values().filter(|seat| seat.waiter.client.is_some()).count()
            && self.timeouts.len() == with_timeout
            && self.looks.is_consistent()
            && self.looks.len() == self.look_ids.iter().filter(|(key, _)| self.is_waited_for(*key)).count()
            && self.looks.len() == self.look_ids.iter().count()
            && self.waits_for.is_consistent()
            && self.are_noted()
    }
}
