#![doc = include_str!("../README.md")]

mod acquire;
mod ask;
mod background;
mod calls;
mod error;
mod held;
mod link;
mod redlock;
mod remote;
mod server;
mod steps;

pub use acquire::Acquire;
pub use error::Error;
pub use held::Held;
pub use redis;

use ask::Ask;
use background::GoingOn;
use redis::Client;
use redis::sentinel::SentinelClient;
use server::{Server, Source};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Locks of one server, of the master that Sentinels name, of a cluster, or of a majority of several servers.
///
/// It has connections of its own, with the settings of the clients that it is given. They are made when they are needed,
/// and in the runtime that needs them. Clones share them.
#[derive(Clone)]
pub struct Locks {
    /// One, or several of which a majority decides.
    servers: Arc<[Arc<Server>]>,
    going_on: GoingOn,
}

impl Locks {
    /// Of one server.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self::one(Source::One(client.into()))
    }

    /// Of the master that Sentinels name.
    #[must_use]
    pub fn sentinel(client: SentinelClient) -> Self {
        Self::one(Source::Sentinels(Arc::new(client.into())))
    }

    /// Of a cluster, of which some nodes are named. All have the settings of the first.
    ///
    /// It finds the others itself: a `ClusterClient` does not tell them, and has no connection for one hold.
    pub fn cluster(nodes: impl IntoIterator<Item = Client>) -> Self {
        Self::one(Source::Cluster(nodes.into_iter().collect()))
    }

    /// Of a majority of several servers that know nothing of each other: the Redlock algorithm. The README says why one
    /// server with a replica, [`Acquire::replicas`] and fences is the better choice for almost everybody.
    pub fn redlock(clients: impl IntoIterator<Item = Client>) -> Self {
        // A server that is away must not use up the lease.
        let timeout = Duration::from_millis(300);
        let servers = clients.into_iter().map(|client| Server::new(Source::One(client.into()), timeout));
        Self { servers: servers.collect(), going_on: GoingOn::default() }
    }

    fn one(source: Source) -> Self {
        let server = Server::new(source, Duration::from_secs(2));
        Self { servers: Arc::new([server]), going_on: GoingOn::default() }
    }

    /// The same by connections that wait for so long, at most, for the server: by default 2 seconds, and 300 milliseconds
    /// for Redlock. After that the connection is closed, and the request repeated on the next one.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        let servers = self.servers.iter().map(|server| server.with_timeout(timeout));
        Self { servers: servers.collect(), going_on: GoingOn::default() }
    }

    /// Asks for the lock of this name, which may be any bytes.
    pub fn acquire(&self, name: impl AsRef<[u8]>) -> Acquire {
        Acquire::new(self.clone(), Ask::new([name.as_ref().to_vec()], false))
    }

    /// Asks for several locks together, 256 at most: all of them or none, in one step, with one token and one fence, as one
    /// [`Held`]. While it waits it holds none of them. It cannot come to a deadlock with others that do so, whatever the
    /// order of the names is.
    ///
    /// They are lost as soon as one of them is, and what is left of the others is given back then. In a cluster all names
    /// have to be in one slot: put the same `{tag}` in them. [`Locks::redlock`] does not have it.
    ///
    /// ```no_run
    /// # async fn example(locks: redis_lock_client::Locks) -> Result<(), redis_lock_client::Error> {
    /// if let Some(held) = locks.acquire_all(["account:{eu}:7", "account:{eu}:8"]).await? {
    ///     let total: u64 = held.guard(redis::cmd("INCRBY").arg("total:{eu}").arg(5)).await?;
    ///     held.release().await?;
    ///     println!("{total} is what both come to");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn acquire_all(&self, names: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Acquire {
        let names = names.into_iter().map(|name| name.as_ref().to_vec());
        Acquire::new(self.clone(), Ask::new(names, true))
    }

    /// Waits until all is released that was dropped, or could not be released until its lease has ended. Then closes the
    /// connections. What is still held lasts until its lease ends, and sessions end at once.
    pub async fn close(&self) {
        drop(self.going_on.write().await);
        self.servers.iter().for_each(|server| server.close());
    }
}

impl fmt::Debug for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locks").field("servers", &self.servers.len()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As far as a clock can count.
fn later(from: Instant, by: Duration) -> Instant {
    from.checked_add(by).unwrap_or_else(|| from + Duration::from_secs(86_400 * 365))
}

/// What is counted here is what the server is told.
fn whole_ms(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
