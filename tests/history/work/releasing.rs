//! How a client gives a lock back, or leaves it.

use std::time::Duration;

use lock_checker::{Answer, Ask};

use super::{Job, REPETITIONS, Worker};

impl Worker<'_> {
    /// Gives the lock back, or goes away, or forgets it.
    pub(super) fn end(&mut self, job: &Job) {
        let is_forgotten = self.one_in(if job.lease_ms < 200 { 10 } else { 40 });
        if is_forgotten || (job.session && self.one_in(3)) || !self.release(job, 1) {
            self.forget(job);
        } else if self.abilities.guard && self.one_in(4) {
            self.guard(job);
        }
    }

    /// Whether it is known to be given back, from that level on. There is no command for the inner levels of several locks
    /// together, and now and then none is used for the outermost either.
    pub(super) fn release(&mut self, job: &Job, level: u16) -> bool {
        if level > 1 || self.one_in(4) {
            let keys: Vec<&String> = [&job.key].into_iter().chain(&job.others).collect();
            return keys.into_iter().all(|key| {
                let one = Job { key: key.clone(), others: Vec::new(), ..job.clone() };
                self.release_by(&one.release(level))
            });
        }
        self.release_by(&job.of_all(job.release(level)))
    }

    fn release_by(&mut self, release: &Ask) -> bool {
        for _ in 0..REPETITIONS {
            let give_up = self.one_in(10).then(|| Duration::from_millis(30));
            match self.client.request(release, give_up).answer {
                Answer::Yes | Answer::No | Answer::Count(_) => return true,
                _ => self.pause(20),
            }
        }
        false
    }
}
