//! What one hold is asked of, and on which connections.

use crate::ask::{Ask, QUEUE, Reply, ms};
use crate::calls::Seat;
use crate::link::{Link, no_reply};
use crate::server::{Node, Server};
use crate::steps::Grant;
use crate::{Error, lock, redlock, steps};
use redis::{Cmd, RedisResult, Value, cmd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// Between requests of one who waits: less than lock.claim-lease, with room for a slow reply.
const REPEAT: Duration = Duration::from_secs(2);
/// As good as without end, and no more than what a timer can count.
const LONG: Duration = Duration::from_secs(86_400 * 365);

/// A server, or several of which a majority decides.
pub(crate) enum Remote {
    One(OneServer),
    Several(Arc<[Arc<Server>]>),
}

/// A server, on the connections that all share, and for `session` and `replicas` on one that only this hold uses.
pub(crate) struct OneServer {
    server: Arc<Server>,
    own: Option<Own>,
}

/// A session ends with it, or WAIT holds up nobody there.
pub(crate) struct Own {
    session: bool,
    link: Mutex<Option<(Node, Arc<Link>)>>,
    /// Nothing opens it again.
    is_over: AtomicBool,
}

impl Remote {
    pub(crate) fn new(servers: &Arc<[Arc<Server>]>, ask: &Ask) -> Arc<Self> {
        let own = Own { session: ask.session, link: Mutex::default(), is_over: AtomicBool::new(false) };
        Arc::new(match servers.as_ref() {
            [server] => Self::One(OneServer {
                server: server.clone(),
                own: (ask.session || ask.replicas > 0).then_some(own),
            }),
            _ => Self::Several(servers.clone()),
        })
    }

    pub(crate) async fn acquire(&self, ask: &Ask) -> Result<Option<Grant>, Error> {
        match self {
            Self::One(server) => steps::acquiring(server, ask).await,
            Self::Several(servers) => redlock::acquiring(servers, ask).await,
        }
    }

    pub(crate) async fn extend(
        &self,
        ask: &Ask,
        lease: Duration,
        until: Instant,
    ) -> Result<Option<Instant>, Error> {
        match self {
            Self::One(server) => steps::extending(server, ask, lease, Some(until)).await,
            Self::Several(servers) => redlock::extending(servers, ask, lease, until).await,
        }
    }

    pub(crate) async fn release(&self, ask: &Ask, keep_until: Option<Instant>) -> Result<bool, Error> {
        match self {
            Self::One(server) => steps::releasing(server, ask, keep_until).await,
            Self::Several(servers) => redlock::releasing(servers, ask, keep_until).await,
        }
    }

    /// The reply to a command about this lock, which is not repeated.
    pub(crate) async fn guard(&self, name: &[u8], command: Cmd) -> Result<Value, Error> {
        match self {
            Self::One(OneServer { server, .. }) => {
                let (replies, _) = server
                    .ask_for_values(name, &[command], server.timeout, None)
                    .await
                    .map_err(Error::Redis)?;
                Ok(replies.into_iter().next().unwrap_or(Value::Nil))
            }
            Self::Several(_) => Err(Error::Invalid("with several servers no lock can guard a command")),
        }
    }

    pub(crate) fn is_several(&self) -> bool {
        matches!(self, Self::Several(_))
    }

    /// Whether these locks are of one slot, where there are slots.
    pub(crate) fn has_in_one_slot(&self, names: &[Vec<u8>]) -> bool {
        match self {
            Self::One(OneServer { server, .. }) => server.has_in_one_slot(names),
            Self::Several(_) => true,
        }
    }

    /// Waits until the connection of a session is lost.
    pub(crate) async fn hung_up(&self) {
        let own = self.own().filter(|own| own.session).and_then(|own| lock(&own.link).clone());
        match own {
            Some((_, link)) => drop(link.closed().await),
            None => std::future::pending().await,
        }
    }

    /// The hold has ended, or nobody waits for a reply any more.
    pub(crate) fn end(&self) {
        let Some(own) = self.own() else { return };
        own.is_over.store(true, Ordering::Release);
        if let Some((_, link)) = lock(&own.link).take() {
            link.close(no_reply("the hold has ended"));
        }
    }

    fn own(&self) -> Option<&Own> {
        match self {
            Self::One(server) => server.own.as_ref(),
            Self::Several(_) => None,
        }
    }
}

impl OneServer {
    pub(crate) async fn ask(&self, ask: &Ask, command: Cmd) -> RedisResult<Reply> {
        let own = self.own.as_ref().filter(|own| own.session);
        self.ask_on(own, ask, &[command], self.server.timeout).await.map(first)
    }

    /// What releases the hold of a session goes by the connection of all.
    pub(crate) async fn ask_by_others(&self, ask: &Ask, command: Cmd) -> RedisResult<Reply> {
        self.ask_on(None, ask, &[command], self.server.timeout).await.map(first)
    }

    /// With how many replicas have what was written so far, if any are to.
    pub(crate) async fn ask_replicas(&self, ask: &Ask, command: Cmd) -> RedisResult<(Reply, u64)> {
        if ask.replicas == 0 {
            return Ok((self.ask(ask, command).await?, 0));
        }
        let patience = (self.server.timeout / 2).min(Duration::from_secs(1));
        let wait = cmd("WAIT").arg(ask.replicas).arg(ms(patience)).clone();
        let replies = self.ask_on(self.own.as_ref(), ask, &[command, wait], self.server.timeout).await?;
        match replies.as_slice() {
            [reply, Reply::Number(confirmed)] => Ok((*reply, *confirmed)),
            _ => Ok((first(replies), 0)),
        }
    }

    /// Sends this LOCK.ACQUIRE, and does not come back with a ticket before that may have been called, or `left` is over.
    pub(crate) async fn ask_in_turn(
        &self,
        ask: &Ask,
        left: Option<Duration>,
        seat: &mut Option<Seat>,
    ) -> RedisResult<Reply> {
        let (server, name) = (&self.server, ask.name());
        let mut command = ask.acquire(ask.lease);
        if let Some(own) = self.own.as_ref().filter(|own| own.session) {
            command.arg("BLOCK").arg(left.map_or(0, ms));
            let patience = left.unwrap_or(LONG).saturating_add(server.timeout).min(LONG);
            return self.ask_on(Some(own), ask, &[command], patience).await.map(first);
        }
        command.arg("QUEUE").arg(ms(QUEUE));
        if seat.is_none() {
            *seat = server.seat_if_known(name);
        }
        let sent = Instant::now();
        let (replies, node) = server.ask(name, &[command], server.timeout, None).await?;
        let reply = first(replies);
        if let Reply::Number(ticket) = reply {
            let calls = server.calls(&node)?;
            if !seat.as_ref().is_some_and(|seat| seat.is_of(&calls)) {
                *seat = Some(calls.seat(name));
            }
            if let Some(seat) = seat {
                // At random, or many would come to ask in step.
                let repeat = REPEAT.mul_f64(rand::random_range(0.5..1.0));
                seat.called(ticket, sent, left.unwrap_or(repeat).min(repeat)).await;
            }
        }
        Ok(reply)
    }

    async fn ask_on(
        &self,
        own: Option<&Own>,
        ask: &Ask,
        commands: &[Cmd],
        patience: Duration,
    ) -> RedisResult<Vec<Reply>> {
        Ok(self.server.ask(ask.name(), commands, patience, own).await?.0)
    }
}

impl Own {
    /// The connection, which is made if there is none. A session stays where it is.
    pub(crate) fn link(
        &self,
        node: &Node,
        open: impl FnOnce() -> RedisResult<Arc<Link>>,
    ) -> RedisResult<Arc<Link>> {
        let mut own = lock(&self.link);
        if self.is_over.load(Ordering::Acquire) {
            return Err(no_reply("the hold has ended"));
        }
        match &*own {
            Some((at, link)) if !link.is_closed() && (self.session || at == node) => Ok(link.clone()),
            _ => {
                let link = open()?;
                *own = Some((node.clone(), link.clone()));
                Ok(link)
            }
        }
    }
}

fn first(replies: Vec<Reply>) -> Reply {
    replies.into_iter().next().unwrap_or(Reply::Nil)
}
