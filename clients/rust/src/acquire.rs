//! The way to a held lock, and the ways out of it.

use crate::ask::Ask;
use crate::background::Background;
use crate::held::{Held, Hold};
use crate::remote::Remote;
use crate::steps::{Grant, PATIENCE, PAUSE};
use crate::{Error, Locks, whole_ms};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

enum Of {
    Locks(Locks),
    /// A level of this hold.
    Level(Arc<Hold>),
}

/// A lock that is asked for: say how, then await it.
///
/// The outcome is the held lock, or none when it was not available within [`wait`](Self::wait). Dropping the future at any
/// time gives up: what the server has granted by then, or grants later, is released in the background.
#[must_use = "nothing is asked before it is awaited"]
pub struct Acquire {
    of: Of,
    ask: Ask,
}

impl Acquire {
    pub(crate) fn new(locks: Locks, ask: Ask) -> Self {
        Self { of: Of::Locks(locks), ask }
    }

    pub(crate) fn level(hold: Arc<Hold>) -> Self {
        // It never waits, and is asked for as long as there may be an outer one.
        let ask = Ask { lease: hold.lease(), wait: Some(hold.remaining()), ..hold.ask.clone() };
        Self { of: Of::Level(hold), ask }
    }

    /// How long until the lock ends by itself, 30 seconds by default. It is renewed each third of that, unless
    /// [`renew`](Self::renew) is false.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.ask.lease = whole_ms(lease);
        self
    }

    /// How long to wait for it: zero not at all, by default without end. Who waits stands in the server's queue, first in,
    /// first out.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.ask.wait = Some(wait);
        self
    }

    /// Together with any number of others that ask for it so: readers beside a writer.
    pub fn shared(mut self) -> Self {
        self.ask.limit = None;
        self
    }

    /// Together with others, up to so many holders, or as many as weigh so much: a semaphore. By default 1: alone. None can
    /// hold it with 0, which is an error.
    pub fn limit(mut self, limit: u16) -> Self {
        self.ask.limit = Some(limit);
        self
    }

    /// How much it counts beside a limit, by default 1 and at most the limit: `limit(5).weight(3)` takes three of the five
    /// permits of a semaphore.
    pub fn weight(mut self, weight: u16) -> Self {
        self.ask.weight = Some(weight);
        self
    }

    /// What LOCK.INFO shows of it; by default host, process id, and a number that is new for each acquire. Give workers that
    /// can hold several locks a label of their own, and the server finds deadlocks among them.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.ask.owner = owner.into();
        self
    }

    /// The hold of other work, which has handed on its [`Held::token`] and its level: asks for this level of it, one more
    /// than that. Such a level has no [`session`](Self::session).
    pub fn token(mut self, token: impl Into<String>, level: u16) -> Self {
        (self.ask.token, self.ask.level) = (token.into(), level);
        self
    }

    /// It ends when its connection does, and so at once when this process dies.
    pub fn session(mut self) -> Self {
        self.ask.session = true;
        self
    }

    /// With [`session`](Self::session): the server keeps the hold for so long after its connection has closed, at most until
    /// its lease ends. So work that was under way can end before anybody else begins. Here the lock counts as lost all the
    /// same when its connection is. A release ends it at once.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.ask.delay = whole_ms(delay);
        self
    }

    /// So many replicas confirm the grant and each extension.
    pub fn replicas(mut self, replicas: u32) -> Self {
        self.ask.replicas = replicas;
        self
    }

    /// For so long nobody else gets it, even if it is released sooner: a job that is done in no time is not done again by
    /// another host whose clock is late. An inner level has none.
    pub fn at_least(mut self, at_least: Duration) -> Self {
        self.ask.at_least = at_least;
        self
    }

    /// Whether the lease is renewed; true by default.
    pub fn renew(mut self, renew: bool) -> Self {
        self.ask.renew = renew;
        self
    }

    async fn acquire(self) -> Result<Option<Held>, Error> {
        let Self { of, mut ask } = self;
        let (remote, background, outer) = match of {
            Of::Locks(locks) => {
                let remote = Remote::new(&locks.servers, &ask);
                ask.check(&remote)?;
                (remote, Background::here(&locks.going_on), None)
            }
            Of::Level(hold) => {
                // All else is that of the hold: its connection too, which another one would replace at the server.
                ask = Ask { lease: ask.lease, wait: ask.wait, ..hold.ask.clone() };
                ask.check(&hold.remote)?;
                let levels = hold.levels().await;
                ask.level = levels.last().copied().unwrap_or(ask.level).saturating_add(1);
                (hold.remote.clone(), hold.background.clone(), Some((hold, levels)))
            }
        };
        let mut leaving = Leaving { remote, ask, background, outer, is_needed: true };
        match leaving.remote.acquire(&leaving.ask).await {
            Ok(Some(grant)) => leaving.stay(&grant).map(Some),
            Ok(None) => {
                leaving.is_needed = false;
                leaving.hang_up();
                Ok(None)
            }
            Err(error) => {
                if let (Error::Lost, Some((hold, _))) = (&error, &leaving.outer) {
                    hold.is_gone();
                }
                if !error.passes() {
                    // Whether the server answers that, too, is not known, and matters to nobody.
                    let _ = timeout(PATIENCE, leaving.leave(1)).await;
                }
                Err(error)
            }
        }
    }
}

impl IntoFuture for Acquire {
    type Output = Result<Option<Held>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.acquire())
    }
}

/// Whatever ends an acquire without a held lock ends in a release: whatever the server did last, nothing is held then and
/// nobody waits.
struct Leaving {
    remote: Arc<Remote>,
    ask: Ask,
    background: Background,
    /// The hold of which this is a level, and its levels: nobody may take the next one before this one is given back.
    outer: Option<(Arc<Hold>, OwnedMutexGuard<Vec<u16>>)>,
    is_needed: bool,
}

impl Leaving {
    fn stay(mut self, grant: &Grant) -> Result<Held, Error> {
        let Ask { level, lease, .. } = self.ask;
        let hold = match &mut self.outer {
            None => Hold::new(self.remote.clone(), self.ask.clone(), grant, self.background.clone()),
            Some((hold, levels)) if hold.confirm_level(grant.ends, lease) => {
                levels.push(level);
                hold.clone()
            }
            Some(_) => return Err(Error::Lost),
        };
        self.is_needed = false;
        Ok(Held::new(hold, level))
    }

    fn leave(&mut self, times: u32) -> JoinHandle<()> {
        self.is_needed = false;
        self.hang_up();
        let (remote, ask, outer) = (self.remote.clone(), self.ask.clone(), self.outer.take());
        self.background.spawn(async move {
            // The server may read a request that was not answered, on a connection that was closed, after the first.
            for time in 0..times {
                sleep(PAUSE * time.min(1)).await;
                let _ = remote.release(&ask, None).await;
            }
            drop(outer);
        })
    }

    fn hang_up(&self) {
        if self.outer.is_none() {
            self.remote.end();
        }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if self.is_needed {
            drop(self.leave(2));
        }
    }
}
