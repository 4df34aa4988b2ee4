//! How a client asks for a lock: until it knows what came of it, impatiently, or by a place in the queue.

use std::thread;
use std::time::Duration;

use lock_checker::Answer;

use super::{Held, Job, REPETITIONS, Worker, lease_end};
use crate::history_client::{Patient, Told};

/// How often a client asks again that has a place in the queue.
const PLACE_REPETITIONS: usize = 30;

impl Worker<'_> {
    /// Asks until it is known what came of it, or the client loses interest.
    pub(super) fn acquire(&mut self, job: &Job) -> Option<Held> {
        if job.block_ms.is_some() && self.one_in(4) {
            return self.acquire_impatiently(job);
        }
        for _ in 0..REPETITIONS {
            let give_up = self.one_in(8).then(|| Duration::from_millis(20 + self.between(0, 150)));
            let Told { answer, sent } = self.client.request(&job.acquire(), give_up);
            match answer {
                Answer::Granted(fence) => {
                    return Some(Held { fence, lease_end: lease_end(sent, job.lease_ms) });
                }
                Answer::Null => return None,
                Answer::Unconfirmed if self.one_in(2) => {
                    self.release(job, 1);
                    break;
                }
                _ if self.one_in(4) => break,
                _ => self.pause(20),
            }
        }
        self.forget(job);
        None
    }

    /// Asks once. Where that takes too long the client leaves the connection alone on which it waits, and withdraws over
    /// another one; what it is told on the first it does not care for.
    fn acquire_impatiently(&mut self, job: &Job) -> Option<Held> {
        let patience = Duration::from_millis(self.between(10, 80));
        let told = match self.client.request_patiently(&job.acquire(), patience) {
            Patient::Told(told) => Some(told),
            Patient::Pending(pending) => {
                let is_withdrawn = self.release(job, 1);
                if is_withdrawn && self.one_in(2) {
                    self.pause(10);
                }
                if is_withdrawn && self.one_in(2) {
                    self.client.request(&job.check(), None);
                }
                let answered = self.client.finish_pending(pending);
                if is_withdrawn && self.one_in(2) {
                    self.client.request(&job.check(), None);
                }
                // It was not withdrawn, perhaps.
                (!is_withdrawn).then_some(answered)
            }
        };
        match told {
            Some(Told { answer: Answer::Granted(fence), sent }) => {
                Some(Held { fence, lease_end: lease_end(sent, job.lease_ms) })
            }
            _ => {
                self.forget(job);
                None
            }
        }
    }

    /// Has a place in the queue, and asks again and again whether it is its turn, over whatever connection there is, until
    /// it is or the client loses interest.
    pub(super) fn acquire_by_place(&mut self, job: &Job) -> Option<Held> {
        for _ in 0..PLACE_REPETITIONS {
            let Told { answer, sent } = if job.block_ms.is_some() && self.one_in(6) {
                self.acquire_twice(job)
            } else {
                let give_up = self.one_in(8).then(|| Duration::from_millis(self.between(1, 40)));
                self.client.request(&job.acquire(), give_up)
            };
            match answer {
                Answer::Granted(fence) => {
                    return Some(Held { fence, lease_end: lease_end(sent, job.lease_ms) });
                }
                Answer::Null => return None,
                // It dies. Nobody comes to claim what its place is granted.
                Answer::Ticket(_) if self.one_in(25) => {
                    if self.one_in(2) {
                        self.client.close_all();
                    }
                    return None;
                }
                Answer::Ticket(_) if self.one_in(12) => break,
                Answer::Unconfirmed if self.one_in(2) => break,
                // This claims what was granted meanwhile, too.
                Answer::Ticket(_) if self.one_in(12) => {
                    self.client.request(&job.of_all(job.extend(job.lease_ms)), None);
                }
                Answer::Ticket(_) if job.block_ms.is_some() => self.pause(10),
                Answer::Ticket(_) => {
                    let pause_ms = self.between(20, 80);
                    thread::sleep(Duration::from_millis(pause_ms));
                }
                _ => self.pause(20),
            }
        }
        self.give_up_place(job)
    }

    /// Ends its place, or what that was granted. Now and then it thinks better of it, and begins anew.
    fn give_up_place(&mut self, job: &Job) -> Option<Held> {
        let is_withdrawn = self.release(job, 1);
        if is_withdrawn && self.one_in(2) {
            self.pause(10);
            self.client.request(&job.check(), None);
        }
        if is_withdrawn && self.one_in(2) {
            let Told { answer, sent } = self.client.request(&job.ask_again(), None);
            if let Answer::Granted(fence) = answer {
                return Some(Held { fence, lease_end: lease_end(sent, job.lease_ms) });
            }
            self.release(job, 1);
        }
        None
    }

    /// Asks over another connection while the first request waits, as a client does that believes the first one lost.
    fn acquire_twice(&mut self, job: &Job) -> Told {
        let patience = Duration::from_millis(self.between(5, 20));
        match self.client.request_patiently(&job.acquire(), patience) {
            Patient::Told(told) => told,
            Patient::Pending(pending) => {
                let again = self.client.request(&job.ask_again(), None);
                let first = self.client.finish_pending(pending);
                // Whichever was granted the lock; the lease begins with the last of them, but that need not be the second.
                if matches!(first.answer, Answer::Granted(_)) { first } else { again }
            }
        }
    }
}
