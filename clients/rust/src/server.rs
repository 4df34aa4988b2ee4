//! One server, or the nodes of a cluster: which of them is asked, and on which connection.

use crate::ask::Reply;
use crate::calls::{Calls, Channels, Seat};
use crate::link::{Link, no_reply};
use crate::lock;
use crate::remote::Own;
use rand::seq::IndexedRandom;
use redis::cluster_routing::Slot;
use redis::sentinel::SentinelClient;
use redis::{
    Client, Cmd, ConnectionAddr, ErrorKind, ProtocolVersion, PushInfo, RedisError, RedisResult, Value, pipe,
};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

const REDIRECTIONS: usize = 5;

/// Host and port of a node, or none where there is no cluster.
pub(crate) type Node = Option<Arc<str>>;

#[derive(Clone)]
pub(crate) enum Source {
    One(Box<Client>),
    Sentinels(Arc<tokio::sync::Mutex<SentinelClient>>),
    /// Some nodes of it, which all have the same settings.
    Cluster(Vec<Client>),
}

pub(crate) struct Server {
    source: Source,
    pub(crate) timeout: Duration,
    routes: Mutex<Routes>,
}

#[derive(Default)]
struct Routes {
    /// The connections that all share. Nobody blocks there: who waits has a place in the queue, and is called.
    links: HashMap<Node, Arc<Link>>,
    calls: HashMap<Node, Arc<Calls>>,
    /// With those that are not shared.
    all: Vec<Weak<Link>>,
    owners: HashMap<Slot, Node>,
    nodes: Vec<Node>,
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

    /// Sends this to the node that has the lock, and says which that is.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        name: &[u8],
        commands: &[Cmd],
        patience: Duration,
        own: Option<&Own>,
    ) -> RedisResult<(Vec<Reply>, Node)> {
        let (replies, node) = self.ask_for_values(name, commands, patience, own).await?;
        Ok((replies.into_iter().map(Reply::try_from).collect::<RedisResult<_>>()?, node))
    }

    /// The same, whatever the replies are. It is sent again only where a node has refused it, and named another one.
    pub(crate) async fn ask_for_values(
        self: &Arc<Self>,
        name: &[u8],
        commands: &[Cmd],
        patience: Duration,
        own: Option<&Own>,
    ) -> RedisResult<(Vec<Value>, Node)> {
        let mut node = self.node(name);
        let mut asking = false;
        let mut redirections = 0..REDIRECTIONS;
        loop {
            let link = match own {
                None => self.link(&node)?,
                Some(own) => own.link(&node, || self.open(&mut lock(&self.routes), &node, |_| true))?,
            };
            let mut pipeline = pipe();
            if asking {
                pipeline.cmd("ASKING");
            }
            for command in commands {
                pipeline.add_command(command.clone());
            }
            let error = match link.ask(&pipeline, patience).await {
                Ok(replies) => return Ok((replies.into_iter().skip(asking.into()).collect(), node)),
                Err(error) => error,
            };
            if own.is_some() {
                // By the next connection a session would not be tied to anything.
                link.close(error.clone());
            }
            self.learn(name, &node, &error);
            match error.redirect_node() {
                Some((address, _)) if node.is_some() && redirections.next().is_some() => {
                    asking = error.code() == Some("ASK");
                    node = Some(of_same_host(address, &node));
                }
                _ => return Err(error),
            }
        }
    }

    pub(crate) fn has_in_one_slot(&self, names: &[Vec<u8>]) -> bool {
        let Source::Cluster(_) = self.source else { return true };
        let mut slots = names.iter().map(Slot::for_key);
        let first = slots.next();
        slots.all(|slot| Some(slot) == first)
    }

    pub(crate) fn node(&self, name: &[u8]) -> Node {
        let Source::Cluster(_) = self.source else { return None };
        let routes = lock(&self.routes);
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
                if let Some(link) = routes.links.get(node) {
                    link.close(error.clone());
                }
            }
            _ => {}
        }
    }

    fn link(self: &Arc<Self>, node: &Node) -> RedisResult<Arc<Link>> {
        let mut routes = lock(&self.routes);
        if let Some(link) = routes.links.get(node).filter(|link| !link.is_closed()) {
            return Ok(link.clone());
        }
        let link = self.open(&mut routes, node, |_| true)?;
        routes.links.insert(node.clone(), link.clone());
        // It may be another server now, whose messages are heard by a new connection, too.
        if let Some(calls) = routes.calls.remove(node) {
            calls.link.close(no_reply("the connection of who asks was lost"));
        }
        if node.is_some() {
            tokio::spawn(self.clone().discover(node.clone(), link.clone()));
        }
        Ok(link)
    }

    pub(crate) fn calls(self: &Arc<Self>, node: &Node) -> RedisResult<Arc<Calls>> {
        let mut routes = lock(&self.routes);
        if let Some(calls) = routes.calls.get(node).filter(|calls| !calls.link.is_closed()) {
            return Ok(calls.clone());
        }
        let channels = Arc::<Channels>::default();
        let heard = channels.clone();
        let link = self.open(&mut routes, node, move |push| heard.hear(&push))?;
        let calls = Calls::new(link, self.timeout, channels);
        routes.calls.insert(node.clone(), calls.clone());
        Ok(calls)
    }

    fn open(
        self: &Arc<Self>,
        routes: &mut Routes,
        node: &Node,
        hear: impl Fn(PushInfo) -> bool + Send + Sync + 'static,
    ) -> RedisResult<Arc<Link>> {
        if routes.closed {
            return Err((ErrorKind::Client, "these locks are closed").into());
        }
        let link = Link::open(self.timeout, self.clone().client(node.clone()), hear);
        routes.all.retain(|other| other.strong_count() > 0);
        routes.all.push(Arc::downgrade(&link));
        Ok(link)
    }

    /// A seat where others wait already, for who has not asked yet whether he has to.
    pub(crate) fn seat_if_known(&self, name: &[u8]) -> Option<Seat> {
        let node = self.node(name);
        let calls = lock(&self.routes).calls.get(&node).cloned();
        calls.filter(|calls| calls.knows(name)).map(|calls| calls.seat(name))
    }

    /// The settings of all our connections. They speak RESP3, the only protocol in which this library hears messages of
    /// shards, and that a connection was closed.
    async fn client(self: Arc<Self>, node: Node) -> RedisResult<Client> {
        let info = match (&self.source, node) {
            (Source::One(client), _) => client.get_connection_info().clone(),
            (Source::Sentinels(client), _) => {
                client.lock().await.async_get_client().await?.get_connection_info().clone()
            }
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

    /// Asks which node has which slot, and which nodes there are, so that one is known whichever fails.
    async fn discover(self: Arc<Self>, node: Node, link: Arc<Link>) {
        let Ok(replies) = link.ask(pipe().cmd("CLUSTER").arg("SLOTS"), self.timeout).await else { return };
        let (mut owners, mut nodes) = (HashMap::new(), self.seeds());
        for slots in replies.iter().filter_map(Value::as_sequence).flatten().filter_map(Value::as_sequence) {
            let [Value::Int(first), Value::Int(last), of_slots @ ..] = slots else { continue };
            let of_slots: Vec<_> = of_slots.iter().map(|each| address(each, &node)).collect();
            let slots = (*first..=*last).filter_map(|slot| Slot::new(slot.try_into().ok()?));
            if let Some(Some(master)) = of_slots.first() {
                owners.extend(slots.map(|slot| (slot, Some(master.clone()))));
            }
            nodes.extend(of_slots.into_iter().filter(Option::is_some));
        }
        let mut routes = lock(&self.routes);
        (routes.owners, routes.nodes) = (owners, nodes);
    }

    fn seeds(&self) -> Vec<Node> {
        match &self.source {
            Source::Cluster(seeds) => {
                let address = |seed: &Client| Some(seed.get_connection_info().addr().to_string().into());
                seeds.iter().map(address).collect()
            }
            _ => Vec::new(),
        }
    }

    pub(crate) fn close(&self) {
        let closed = Routes { closed: true, ..Routes::default() };
        for link in std::mem::replace(&mut *lock(&self.routes), closed).all.iter().filter_map(Weak::upgrade) {
            link.close(no_reply("these locks were closed"));
        }
    }
}

impl Routes {
    fn any(&self, but: &Node) -> Node {
        let others: Vec<_> = self.nodes.iter().filter(|node| *node != but).collect();
        others.choose(&mut rand::rng()).map_or(but, |node| node).clone()
    }
}

/// Without a host it is that of the node that says so.
fn of_same_host(address: &str, node: &Node) -> Arc<str> {
    match (address.strip_prefix(':'), node.as_deref().and_then(|node| node.rsplit_once(':'))) {
        (Some(port), Some((host, _))) => format!("{host}:{port}").into(),
        _ => address.into(),
    }
}

fn at(like: ConnectionAddr, node: &str) -> ConnectionAddr {
    let (host, port) = node.rsplit_once(':').unwrap_or((node, ""));
    let (host, port) = (host.to_owned(), port.parse().unwrap_or_default());
    match like {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure, tls_params }
        }
        _ => ConnectionAddr::Tcp(host, port),
    }
}

/// As CLUSTER SLOTS names it, when that `node` is asked.
fn address(named: &Value, node: &Node) -> Node {
    match named.as_sequence()? {
        [Value::BulkString(host), Value::Int(port), ..] => {
            Some(of_same_host(&format!("{}:{port}", String::from_utf8_lossy(host)), node))
        }
        [Value::Nil, Value::Int(port), ..] => Some(of_same_host(&format!(":{port}"), node)),
        _ => None,
    }
}
