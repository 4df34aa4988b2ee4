//! The queue of a lock: who comes to it, who is served, and who leaves it in vain.

use lock_checker::{Answer, Ask, Micros};

use super::{CLAIM_LEASE_MS, ConnectionId, Defect, Waiting, World, queue_ms};

/// A wait that is forgotten ends so much after its time.
const FORGOTTEN: Micros = 60_000;

impl World {
    /// A request has waited for so long, or a place has been kept for so long.
    pub(super) fn time_is_up(&mut self, key: &str, place: usize, moment: Micros) {
        let keeps_places = !self.has(Defect::NoPlaces);
        let waiting = &mut self.lock(key).queue[place];
        let (request, ticket, ask) = (waiting.request.take(), waiting.ticket, waiting.ask.clone());
        let queue_ms = queue_ms(&ask).filter(|_| keeps_places);
        match (request, queue_ms) {
            (Some(_), Some(queue_ms)) => waiting.until = moment + queue_ms * 1000,
            _ => drop(self.lock(key).queue.remove(place)),
        }
        if let Some((from, sent)) = request {
            let answer = queue_ms.map_or(Answer::Null, |_| Answer::Ticket(ticket));
            self.answer(from, sent, moment, ask, answer);
        }
    }

    /// Whoever asks comes to the queue, or stays where it is; the request of its token that waited there is answered.
    pub(super) fn take_place(
        &mut self,
        ask: &Ask,
        request: Option<(ConnectionId, Micros)>,
        moment: Micros,
    ) -> u64 {
        let (key, token) = (ask.key().unwrap(), ask.token());
        let block_ms = match ask {
            Ask::Acquire { block_ms, .. } => block_ms.unwrap_or(0),
            _ => 0,
        };
        let span = match (request, self.defect) {
            (None, _) => queue_ms(ask).unwrap_or(0) * 1000,
            (_, Some(Defect::ImpatientWaits)) => block_ms * 500,
            (_, Some(Defect::ForgottenWaits)) => block_ms * 1000 + FORGOTTEN,
            _ => block_ms * 1000,
        };
        self.last_ticket += 1;
        let new = match self.defect {
            Some(Defect::SharedTickets) => 1,
            Some(Defect::FallingTickets) => 1_000_000 - self.last_ticket,
            _ => self.last_ticket,
        };
        let loses_places = self.has(Defect::LostPlaces);
        let queue = &mut self.lock(key).queue;
        let mut waiting = Waiting { request, until: moment + span, ticket: new, ask: ask.clone() };
        let place = queue.iter().position(|waiting| waiting.ask.token() == token);
        let before = match place {
            Some(place) if loses_places => {
                queue.push(waiting);
                Some(queue.remove(place))
            }
            Some(place) => {
                waiting.ticket = queue[place].ticket;
                Some(std::mem::replace(&mut queue[place], waiting))
            }
            None => {
                queue.push(waiting);
                None
            }
        };
        let ticket = before.as_ref().filter(|_| !loses_places).map_or(new, |before| before.ticket);
        if let Some(Waiting { request: Some((from, sent)), ticket, ask, .. }) = before {
            let answer = queue_ms(&ask).map_or(Answer::Null, |_| Answer::Ticket(ticket));
            self.answer(from, sent, moment, ask, answer);
        }
        ticket
    }

    pub(super) fn serve(&mut self, key: &str, moment: Micros) {
        loop {
            let queue = &self.lock(key).queue;
            let last = queue.len().saturating_sub(1);
            let who_waits = queue.iter().position(|waiting| waiting.request.is_some()).unwrap_or(0);
            let place = match self.defect {
                Some(Defect::LastComesFirst) => last,
                Some(Defect::PlacesComeLast) => who_waits,
                _ => 0,
            };
            let Some(ask) = self.lock(key).queue.get(place).map(|waiting| waiting.ask.clone()) else {
                return;
            };
            if !self.admits(&ask) {
                return;
            }
            let waiting = self.lock(key).queue.remove(place);
            if let Some((from, sent)) = waiting.request {
                let fence = self.grant(&ask, from, moment);
                self.answer(from, sent, moment, ask, Answer::Granted(fence));
            } else {
                let fence = self.grant(&shortened(&ask), (0, 0), moment);
                self.unclaimed.insert((key.to_owned(), ask.token().unwrap().to_owned()), fence);
            }
        }
    }

    /// A release has left this token without a hold, perhaps.
    pub(super) fn withdraw(&mut self, key: &str, token: &str, moment: Micros) {
        let is_deaf = self.has(Defect::DeafToRelease);
        let lock = self.lock(key);
        let place = lock.queue.iter().position(|waiting| waiting.ask.token() == Some(token));
        if let Some(place) = place.filter(|_| !is_deaf && lock.holds.iter().all(|hold| hold.token != token)) {
            let waiting = lock.queue.remove(place);
            if let Some((from, sent)) = waiting.request {
                self.answer(from, sent, moment, waiting.ask, Answer::Null);
            }
        }
    }
}

/// As it is granted to a place.
fn shortened(ask: &Ask) -> Ask {
    let mut ask = ask.clone();
    if let Ask::Acquire { lease_ms, .. } = &mut ask {
        *lease_ms = (*lease_ms).min(CLAIM_LEASE_MS);
    }
    ask
}
