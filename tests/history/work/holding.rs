//! What a client does while it holds a lock: it writes, extends, retries, asks for another share, calls work that takes the
//! same lock.

use std::time::Duration;

use lock_checker::{Answer, Ask, Limit};

use super::{Held, Job, Worker, guarded, lease_end};
use crate::history_client::Told;

impl Worker<'_> {
    /// Holds the lock for a while, and does with it what holders do.
    pub(super) fn hold(&mut self, job: &Job, mut held: Held) {
        // Most do so for a moment, some for as long as their lease, or longer.
        let is_long = self.one_in(8);
        let pause_ms = if is_long { usize::try_from(job.lease_ms / 6).unwrap() } else { 2 };
        for _ in 0..if is_long { 12 } else { 1 + self.random.below(3) } {
            let kept = match self.random.below(12) {
                0 => self.extend(job, &mut held),
                1 => self.retry(job, &mut held),
                6 if job.queue_ms.is_none() && !job.session => self.change(job, &mut held),
                2 => self.check(job, &mut held),
                3 | 4 => self.nest(job, &mut held, 2),
                5 if job.others.is_empty() => self.expire(job, &mut held),
                // Between the writes it goes on holding, for faults to meet with.
                7..=9 if self.abilities.guard => {
                    let is_held = self.guard(job);
                    self.pause(pause_ms);
                    is_held
                }
                _ => {
                    self.write(job, &held);
                    self.pause(pause_ms);
                    true
                }
            };
            if !kept {
                return;
            }
        }
    }

    /// Only exclusive holders write: the resource knows no others. And none with a session, which end unnoticed.
    fn write(&mut self, job: &Job, held: &Held) {
        if job.limit != Limit::EXCLUSIVE || job.session {
            return;
        }
        let clock = self.client.clock;
        if let Some((moment, answer)) = self.resource.write(clock, &job.key, held.fence, held.lease_end) {
            self.client.write(&job.key, &job.token, held.fence, answer, moment);
        }
    }

    /// Writes where the server looks whether the lock is held.
    pub(super) fn guard(&mut self, job: &Job) -> bool {
        self.written += 1;
        let (key, token) = (job.key.clone(), job.token.clone());
        let (name, value) = (guarded(&job.key), format!("{token}-{}", self.written));
        let give_up = self.one_in(10).then(|| Duration::from_millis(20));
        let guard = Ask::Guard { key, token, name, value };
        self.client.request(&guard, give_up).answer != Answer::NotOwner
    }

    fn extend(&mut self, job: &Job, held: &mut Held) -> bool {
        let lease_ms = *self.random.pick(self.leases_ms);
        let Told { answer, sent } = self.client.request(&job.of_all(job.extend(lease_ms)), None);
        // A shorter one may be in force even if no answer says so.
        held.lease_end = held.lease_end.min(lease_end(sent, lease_ms));
        if answer == job.at_all() {
            held.lease_end = lease_end(sent, lease_ms);
        }
        answer == job.at_all() || answer.is_unknown() || matches!(answer, Answer::Error(_))
    }

    fn retry(&mut self, job: &Job, held: &mut Held) -> bool {
        let Told { answer, sent } = self.client.request(&job.acquire(), None);
        let asked = lease_end(sent, job.lease_ms);
        match answer {
            // If it is another hold than before, it has no more than was asked for.
            Answer::Granted(fence) => *held = Held { fence, lease_end: asked },
            _ => held.lease_end = held.lease_end.min(asked),
        }
        !matches!(answer, Answer::Null | Answer::Ticket(_))
    }

    /// Wants more of the lock or less for a while, and then what it had.
    fn change(&mut self, job: &Job, held: &mut Held) -> bool {
        let at = self.keys.iter().position(|key| *key == job.key).unwrap();
        let (limit, weight) = self.share(at);
        let block_ms = self.one_in(2).then(|| self.between(5, 60));
        // A weight that is not named stays, and may be above the new limit.
        let other = Job { limit, weight: weight.or(Some(1)), block_ms, ..job.clone() };
        let Told { answer, sent } = self.client.request(&other.acquire(), None);
        let asked = lease_end(sent, job.lease_ms);
        match answer {
            Answer::Granted(fence) => *held = Held { fence, lease_end: asked },
            _ => held.lease_end = held.lease_end.min(asked),
        }
        // It has to be content with what it has if that is not to be had any more.
        let own = Job { weight: job.weight.or(Some(1)), ..job.clone() };
        let Told { answer, sent } = self.client.request(&own.ask_again(), None);
        let asked = lease_end(sent, job.lease_ms);
        match answer {
            Answer::Granted(fence) => *held = Held { fence, lease_end: asked },
            _ => held.lease_end = held.lease_end.min(asked),
        }
        matches!(answer, Answer::Granted(_))
    }

    /// Calls work that takes the same lock, now and then work that does so in its turn.
    fn nest(&mut self, job: &Job, held: &mut Held, level: u16) -> bool {
        let lease_ms = *self.random.pick(self.leases_ms);
        let Told { answer, sent } = self.client.request(&job.acquire_inner(level, lease_ms), None);
        match answer {
            Answer::Granted(fence) if fence == held.fence => {
                held.lease_end = held.lease_end.max(lease_end(sent, lease_ms));
            }
            Answer::Granted(_) | Answer::Null => return false,
            // The outer work does not know whether the inner one got the lock, and makes sure that it has not.
            _ => return self.release(job, level),
        }
        self.write(job, held);
        self.pause(2);
        let inner_is_kept = !self.one_in(3) || self.nest(job, held, level + 1);
        let is_given_back = inner_is_kept && self.release(job, level);
        if is_given_back && self.one_in(4) {
            // As a client does that has missed the reply.
            self.release(job, level);
        }
        is_given_back
    }

    /// Somebody sets a time to live on the key. The holder knows of it, and may have its lease promised anew.
    fn expire(&mut self, job: &Job, held: &mut Held) -> bool {
        let ttl_ms = self.between(5, 60);
        let Told { sent, .. } = self.client.request(&Ask::Expire { key: job.key.clone(), ttl_ms }, None);
        held.lease_end = held.lease_end.min(lease_end(sent, ttl_ms));
        match self.random.below(4) {
            0 => self.extend(job, held),
            1 => self.nest(job, held, 2),
            _ => self.check(job, held),
        }
    }

    fn check(&mut self, job: &Job, held: &mut Held) -> bool {
        match self.client.request(&job.check(), None).answer {
            Answer::Held(fence, _) => fence == held.fence,
            answer => answer != Answer::Null,
        }
    }
}
