//! The Redlock algorithm: see <https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/>
//!
//! One token, asked of all servers at once. It is held when a majority has granted it while something is left of the
//! lease, less what the clocks of the servers may differ by. What was granted by fewer is given back at once, and asked for
//! again after a time at random, or those who contend would do so in step and split the servers again. There is no queue:
//! who waits in several could wait for ever for one who waits there too.

use crate::ask::{Ask, Reply};
use crate::server::Server;
use crate::steps::{Grant, PATIENCE, PAUSE};
use crate::{Error, later};
use redis::Cmd;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// At most, between two tries.
const RETRY: Duration = Duration::from_millis(200);
/// To release at a server whose reply was lost. What is held there otherwise ends with its lease.
const TRIES: usize = 3;

/// What came of asking several.
#[derive(Default)]
struct Count {
    yes: usize,
    fence: u64,
    errors: Vec<Error>,
    /// Those of which it is not known.
    silent: Vec<Arc<Server>>,
}

pub(crate) async fn acquiring(servers: &[Arc<Server>], ask: &Ask) -> Result<Option<Grant>, Error> {
    let began = Instant::now();
    let deadline = ask.wait.map(|wait| later(began, wait));
    loop {
        let sent = Instant::now();
        let count = ask_all(servers, ask, &ask.acquire(ask.lease)).await;
        let ends = later(sent, less_drift(ask.lease));
        if count.yes >= quorum(servers) && Instant::now() < ends {
            return Ok(Some(Grant { fence: count.fence, ends }));
        }
        // Whether it was held matters to nobody.
        let _ = releasing(servers, ask, None).await;
        if ask.level > 1 && count.yes + count.errors.len() < quorum(servers) {
            return Err(Error::Lost);
        }
        let over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        match count.too_many(servers.len() - quorum(servers)) {
            Some(error) if !error.passes() || over && began.elapsed() >= PATIENCE => return Err(error),
            None if over => return Ok(None),
            _ => {}
        }
        let left = deadline.filter(|_| !over).map_or(RETRY, |deadline| deadline - Instant::now());
        sleep(left.min(RETRY.mul_f64(rand::random_range(0.25..1.0)))).await;
    }
}

pub(crate) async fn extending(
    servers: &[Arc<Server>],
    ask: &Ask,
    lease: Duration,
    until: Instant,
) -> Result<Option<Instant>, Error> {
    loop {
        let sent = Instant::now();
        let mut count = ask_all(servers, ask, &ask.renew(lease)).await.of_holders();
        if count.yes >= quorum(servers) {
            return Ok(Some(later(sent, less_drift(lease))));
        }
        if count.yes + count.errors.len() < quorum(servers) {
            return Ok(None);
        }
        if let Some(error) = count.errors.pop().filter(|_| later(Instant::now(), PAUSE) >= until) {
            return Err(error);
        }
        sleep(PAUSE.min(lease / 10)).await;
    }
}

pub(crate) async fn releasing(
    servers: &[Arc<Server>],
    ask: &Ask,
    keep_until: Option<Instant>,
) -> Result<bool, Error> {
    let mut count = ask_all(servers, ask, &ask.give_back(keep_until)).await.of_holders();
    for _ in 1..TRIES {
        let asked = std::mem::take(&mut count.silent);
        let again = ask_all(&asked, ask, &ask.give_back(keep_until)).await.of_holders();
        // After a lost reply 0 says nothing: the first request may have released it.
        count.yes += asked.len() - again.errors.len();
        count.errors.retain(|error| !error.passes());
        count.errors.extend(again.errors);
        count.silent = again.silent;
    }
    let unknown = count.errors.len();
    match count.errors.pop() {
        Some(error) if count.yes < quorum(servers) && count.yes + unknown >= quorum(servers) => Err(error),
        _ => Ok(count.yes >= quorum(servers)),
    }
}

fn quorum(servers: &[Arc<Server>]) -> usize {
    servers.len() / 2 + 1
}

impl Count {
    /// Of those that were asked about a hold: what stands in its place says that it is gone.
    fn of_holders(mut self) -> Self {
        self.errors.retain(|error| !matches!(error, Error::WrongType(_)));
        self
    }

    /// An error, when there are so many that the lock cannot be had: one that does not pass if those are enough.
    fn too_many(self, at_most: usize) -> Option<Error> {
        let (mut passing, mut lasting): (Vec<_>, Vec<_>) = self.errors.into_iter().partition(Error::passes);
        if lasting.len() > at_most {
            lasting.pop()
        } else if lasting.len() + passing.len() > at_most {
            passing.pop()
        } else {
            None
        }
    }
}

async fn ask_all(servers: &[Arc<Server>], ask: &Ask, command: &Cmd) -> Count {
    let mut asking = JoinSet::new();
    for server in servers.iter().cloned() {
        let (name, command) = (ask.name().to_vec(), [command.clone()]);
        asking.spawn(async move {
            (server.ask(&name, &command, server.timeout, None).await.map_err(Error::from), server)
        });
    }
    let mut count = Count::default();
    for (reply, server) in asking.join_all().await {
        match reply {
            Ok((replies, _)) => {
                for reply in replies {
                    count.yes += usize::from(ask.is_yes(reply));
                    if let Reply::Granted { fence } = reply {
                        count.fence = count.fence.max(fence);
                    }
                }
            }
            Err(error) => {
                if error.passes() {
                    count.silent.push(server);
                }
                count.errors.push(error);
            }
        }
    }
    count
}

/// By how much a lease may end sooner at a server than here: 1 % for the clocks, 2 ms for their resolution.
fn less_drift(lease: Duration) -> Duration {
    lease.saturating_sub(lease / 100 + Duration::from_millis(2))
}
