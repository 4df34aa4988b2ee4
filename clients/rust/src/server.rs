//! One server, or the nodes of a cluster: which of them is asked, and on which connection.

use crate::ask::{Ask, Reply, ms};
use crate::calls::{Calls, Seat};
use crate::link::{Link, no_reply};
use crate::lock;
use rand::seq::IndexedRandom;
use redis::cluster_routing::Slot;
use redis::sentinel::SentinelClient;
use redis::{Client, Cmd, ConnectionAddr, ErrorKind, ProtocolVersion, RedisError, RedisResult, Value, cmd};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// Between requests of one who waits: less than lock.claim-lease, with room for a slow reply.
const REPEAT: Duration = Duration::from_secs(2);
const REDIRECTIONS: usize = 5;
/// As good as without end, and less than what a clock can count.
const LONG: Duration = Duration::from_secs(86_400 * 365);

/// Host and port of a node, or none where there is no cluster.
type Node = Option<String>;

#[derive(Clone)]
pub(crate) enum Source {
    One(Client),
    Sentinels(Arc<tokio::sync::Mutex<SentinelClient>>),
    /// Some nodes of it, which all have the same settings.
    Cluster(Vec<Client>),
}

pub(crate) struct Server {
    source: Source,
    timeout: Duration,
    routes: Mutex<Routes>,
}

#[derive(Default)]
struct Routes {
    /// The connections that all share. Nobody blocks there: who waits has a place in the queue, and is called.
    links: HashMap<Node, Arc<Link>>,
    calls: HashMap<Node, Arc<Calls>>,
    own: Vec<Weak<Link>>,
    owners: HashMap<Slot, Node>,
    nodes: Vec<String>,
    closed: bool,
}

impl Server {
    pub(crate) fn new(source: Source, timeout: Duration) -> Arc<Self> {
        let server = Self { timeout, routes: Mutex::default(), source };
        lock(&server.routes).nodes = server.seeds();
        Arc::new(server)
    }

    pub(crate) fn with_timeout(&self, timeout: Duration) -> Arc<Self> {
        Self::new(self.source.clone(), timeout)
    }

    pub(crate) async fn ask(self: &Arc<Self>, name: &[u8], command: Cmd) -> RedisResult<Reply> {
        let (replies, _) = self.follow(name, &[command], self.timeout, None).await?;
        replies.into_iter().next_back().unwrap_or(Value::Nil).try_into()
    }

    /// Sends this to the node that has the lock, wherever that is.
    async fn follow(
        self: &Arc<Self>,
        name: &[u8],
        commands: &[Cmd],
        patience: Duration,
        own: Option<&Own>,
    ) -> RedisResult<(Vec<Value>, Node)> {
        let mut node = self.node(name);
        let mut asking = Vec::new();
        for redirections in 0.. {
            let link = match own {
                None => self.link(&node)?,
                Some(own) => own.link(self, &node)?,
            };
            let error = match link.ask(&[&asking, commands].concat(), patience).await {
                Ok(mut replies) => return Ok((replies.split_off(asking.len()), node)),
                Err(error) => error,
            };
            if own.is_some() {
                // By the next connection a session would not be tied to anything.
                link.close(error.clone());
            }
            self.learn(name, &node, &error);
            match (error.redirect_node(), error.code()) {
                (Some((address, _)), code) if redirections < REDIRECTIONS => {
                    asking = if code == Some("ASK") { vec![cmd("ASKING")] } else { Vec::new() };
                    node = Some(of_same_host(address, &node));
                }
                _ => return Err(error),
            }
        }
        Err(no_reply("there is no end of redirections"))
    }

    fn node(&self, name: &[u8]) -> Node {
        let routes = lock(&self.routes);
        let Source::Cluster(_) = self.source else { return None };
        // Any node knows who has it, and says so.
        routes.owners.get(&Slot::for_key(name)).cloned().unwrap_or_else(|| routes.any(&None))
    }

    /// What an error says of the node that has the lock.
    fn learn(&self, name: &[u8], node: &Node, error: &RedisError) {
        let mut routes = lock(&self.routes);
        match (&self.source, error.code()) {
            (Source::Cluster(_), Some("MOVED")) => {
                let owner = error.redirect_node().map(|(address, _)| of_same_host(address, node));
                routes.owners.insert(Slot::for_key(name), owner);
            }
            (Source::Cluster(_), None | Some("CLUSTERDOWN")) => {
                let other = routes.any(node);
                routes.owners.insert(Slot::for_key(name), other);
            }
            // It is no master any more. New connections go to the one that Sentinels, or a name, stand for now.
            (_, Some("READONLY" | "MASTERDOWN")) => {
                let calls = routes.calls.get(node).map(|calls| calls.link());
                for link in routes.links.get(node).into_iter().chain(calls) {
                    link.close(error.clone());
                }
            }
            _ => {}
        }
    }

    fn link(self: &Arc<Self>, node: &Node) -> RedisResult<Arc<Link>> {
        let mut routes = lock(&self.routes);
        routes.check_open()?;
        if let Some(link) = routes.links.get(node).filter(|link| !link.is_closed()) {
            return Ok(link.clone());
        }
        let link = Link::open(self.timeout, self.clone().client(node.clone()), |_| true);
        routes.links.insert(node.clone(), link.clone());
        if node.is_some() {
            tokio::spawn(self.clone().discover(link.clone()));
        }
        Ok(link)
    }

    fn calls(self: &Arc<Self>, node: &Node) -> RedisResult<Arc<Calls>> {
        let mut routes = lock(&self.routes);
        routes.check_open()?;
        if let Some(calls) = routes.calls.get(node).filter(|calls| !calls.link().is_closed()) {
            return Ok(calls.clone());
        }
        let calls = Calls::open(self.timeout, self.clone().client(node.clone()));
        routes.calls.insert(node.clone(), calls.clone());
        Ok(calls)
    }

    /// The settings of all our connections. They speak RESP3, the only protocol in which this library hears messages of
    /// shards, and that a connection was closed.
    async fn client(self: Arc<Self>, node: Node) -> RedisResult<Client> {
        let info = match (&self.source, node) {
            (Source::One(client), _) => client.get_connection_info().clone(),
            (Source::Sentinels(client), _) => client.lock().await.async_get_client().await?.get_connection_info().clone(),
            (Source::Cluster(seeds), node) => {
                let seed = seeds.first().ok_or((ErrorKind::InvalidClientConfig, "a cluster has nodes"))?;
                let info = seed.get_connection_info().clone();
                let address = info.addr().clone();
                info.set_addr(at(address, node.as_deref().unwrap_or_default()))
            }
        };
        let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        Client::open(info.set_redis_settings(redis))
    }

    /// Asks which nodes there are, so that one is known whichever fails.
    async fn discover(self: Arc<Self>, link: Arc<Link>) {
        let slots = cmd("CLUSTER").arg("SLOTS").clone();
        if let Ok(replies) = link.ask(&[slots], self.timeout).await {
            let mut nodes = self.seeds();
            replies.iter().for_each(|reply| add_nodes(reply, &mut nodes));
            nodes.sort();
            nodes.dedup();
            lock(&self.routes).nodes = nodes;
        }
    }

    fn seeds(&self) -> Vec<String> {
        match &self.source {
            Source::Cluster(seeds) => seeds.iter().map(|seed| seed.get_connection_info().addr().to_string()).collect(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn close(&self) {
        let Routes { links, calls, own, .. } = std::mem::replace(&mut *lock(&self.routes), Routes { closed: true, ..Routes::default() });
        let own = own.iter().filter_map(Weak::upgrade);
        for link in links.into_values().chain(calls.values().map(|calls| calls.link().clone())).chain(own) {
            link.close(closed());
        }
    }
}

impl Routes {
    fn any(&self, but: &Node) -> Node {
        let others: Vec<_> = self.nodes.iter().filter(|node| Some(*node) != but.as_ref()).collect();
        others.choose(&mut rand::rng()).map_or_else(|| but.clone(), |node| Some((*node).clone()))
    }

    fn check_open(&self) -> RedisResult<()> {
        if self.closed { Err(closed()) } else { Ok(()) }
    }
}

/// How one hold is asked for: on the connections of all, and for `session` and `replicas` on one of its own.
pub(crate) struct Asker {
    server: Arc<Server>,
    own: Option<Own>,
}

/// A connection for one hold: a session, which ends with it, or one on which WAIT holds up nobody.
struct Own {
    session: bool,
    link: Mutex<Option<(Node, Arc<Link>)>>,
}

impl Asker {
    pub(crate) fn new(server: Arc<Server>, ask: &Ask) -> Self {
        let own = Own { session: ask.session, link: Mutex::default() };
        Self { server, own: (ask.session || ask.replicas > 0).then_some(own) }
    }

    pub(crate) async fn ask(&self, ask: &Ask, command: Cmd) -> RedisResult<Reply> {
        match &self.own {
            Some(own) if own.session => self.ask_on(own, ask, &[command], self.server.timeout).await?.0,
            _ => self.server.ask(&ask.name, command).await,
        }
    }

    /// What releases the hold of a session goes by the connection of all.
    pub(crate) async fn ask_others(&self, ask: &Ask, command: Cmd) -> RedisResult<Reply> {
        self.server.ask(&ask.name, command).await
    }

    /// With how many replicas have what was written so far.
    pub(crate) async fn ask_replicas(&self, ask: &Ask, command: Cmd) -> RedisResult<(Reply, u32)> {
        let Some(own) = &self.own else { return Ok((self.ask(ask, command).await?, 0)) };
        let patience = self.server.timeout;
        let wait = cmd("WAIT").arg(ask.replicas).arg(ms((patience / 2).min(Duration::from_secs(1)))).clone();
        let (reply, confirmed) = self.ask_on(own, ask, &[command, wait], patience).await?;
        Ok((reply?, confirmed))
    }

    /// Sends this LOCK.ACQUIRE, and does not come back with a ticket before that may have been called, or `left` is over.
    pub(crate) async fn ask_in_turn(&self, ask: &Ask, left: Option<Duration>, seat: &mut Option<Seat>) -> RedisResult<Reply> {
        let mut command = ask.acquire(ask.lease);
        if let Some(own) = self.own.as_ref().filter(|own| own.session) {
            command.arg("BLOCK").arg(left.map_or(0, ms));
            let patience = left.unwrap_or(LONG).saturating_add(self.server.timeout).min(LONG);
            return self.ask_on(own, ask, &[command], patience).await?.0;
        }
        command.arg("QUEUE").arg(ms(crate::ask::QUEUE));
        if seat.is_none() {
            *seat = self.server.calls(&self.server.node(&ask.name))?.seat(&ask.name, true);
        }
        let sent = Instant::now();
        let (replies, node) = self.server.follow(&ask.name, &[command], self.server.timeout, None).await?;
        let reply = Reply::try_from(replies.into_iter().next().unwrap_or(Value::Nil))?;
        if let Reply::Ticket(ticket) = reply {
            let calls = self.server.calls(&node)?;
            let mut taken = seat.take().filter(|seat| seat.is_of(&calls)).or_else(|| calls.seat(&ask.name, false));
            // At random, or many would come to ask in step.
            let repeat = REPEAT.mul_f64(rand::random_range(0.5..1.0));
            if let Some(seat) = &mut taken {
                seat.called(ticket, sent, left.unwrap_or(REPEAT).min(repeat)).await;
            }
            *seat = taken;
        }
        Ok(reply)
    }

    async fn ask_on(&self, own: &Own, ask: &Ask, commands: &[Cmd], patience: Duration) -> RedisResult<(RedisResult<Reply>, u32)> {
        let (replies, _) = self.server.follow(&ask.name, commands, patience, Some(own)).await?;
        let mut replies = replies.into_iter();
        let reply = Reply::try_from(replies.next().unwrap_or(Value::Nil));
        let confirmed = match replies.next() {
            Some(Value::Int(confirmed)) => u32::try_from(confirmed).unwrap_or_default(),
            _ => 0,
        };
        Ok((reply, confirmed))
    }

    /// Waits until the connection of a session is lost.
    pub(crate) async fn hung_up(&self) {
        let link = self.own.as_ref().filter(|own| own.session).and_then(|own| lock(&own.link).clone());
        match link {
            Some((_, link)) => drop(link.closed().await),
            None => std::future::pending().await,
        }
    }

    /// The hold has ended, or nobody waits for a reply any more.
    pub(crate) fn end(&self) {
        if let Some((_, link)) = self.own.as_ref().and_then(|own| lock(&own.link).take()) {
            link.close(no_reply("the hold has ended"));
        }
    }
}

impl Own {
    fn link(&self, server: &Arc<Server>, node: &Node) -> RedisResult<Arc<Link>> {
        let mut own = lock(&self.link);
        if let Some((at, link)) = &*own
            && !link.is_closed()
            && (self.session || at == node)
        {
            return Ok(link.clone());
        }
        let mut routes = lock(&server.routes);
        routes.check_open()?;
        let link = Link::open(server.timeout, server.clone().client(node.clone()), |_| true);
        routes.own.retain(|other| other.strong_count() > 0);
        routes.own.push(Arc::downgrade(&link));
        *own = Some((node.clone(), link.clone()));
        Ok(link)
    }
}

fn closed() -> RedisError {
    (ErrorKind::Client, "these locks are closed").into()
}

/// Without a host it is that of the node that says so.
fn of_same_host(address: &str, node: &Node) -> String {
    match (address.strip_prefix(':'), node.as_deref().and_then(|node| node.rsplit_once(':'))) {
        (Some(port), Some((host, _))) => format!("{host}:{port}"),
        _ => address.to_owned(),
    }
}

fn at(like: ConnectionAddr, node: &str) -> ConnectionAddr {
    let (host, port) = node.rsplit_once(':').unwrap_or((node, ""));
    let (host, port) = (host.to_owned(), port.parse().unwrap_or_default());
    match like {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls { host, port, insecure, tls_params },
        _ => ConnectionAddr::Tcp(host, port),
    }
}

/// Of CLUSTER SLOTS: what begins with a name and a number is a node.
fn add_nodes(reply: &Value, nodes: &mut Vec<String>) {
    let Value::Array(values) = reply else { return };
    match values.as_slice() {
        [Value::BulkString(host), Value::Int(port), ..] => nodes.push(format!("{}:{port}", String::from_utf8_lossy(host))),
        values => values.iter().for_each(|value| add_nodes(value, nodes)),
    }
}
