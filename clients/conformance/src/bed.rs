//! What a client is tried against: servers of one kind of place, each behind a proxy.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::faults::Faults;
use crate::proxy::Proxy;
use crate::support::cluster::{Cluster, slot_of};
use crate::support::locks::field;
use crate::support::sentinel::{NAME, Sentinels};
use crate::support::{Builder, Client, PATIENCE, Pair, Reply, Server, caught_up, free_port, wait_until};
use crate::tls::Tls;

/// The socket timeout of the clients, in milliseconds: less than the two seconds for which they try an acquire that does not
/// wait, and more than a busy machine takes for a reply.
pub(crate) const TIMEOUT_MS: u64 = 1_500;

/// Where the servers are that a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// One server.
    Alone,
    /// One server, by TLS.
    Tls,
    /// Three Sentinels that watch a master and a replica.
    Sentinel,
    /// Two masters that share the slots.
    Cluster,
    /// Three masters that share the slots, so that two can agree on who follows the third, with a replica each.
    ClusterWithReplicas,
}

impl Place {
    /// As the testee knows it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Alone | Self::Tls => "standalone",
            Self::Sentinel => "sentinel",
            Self::Cluster | Self::ClusterWithReplicas => "cluster",
        }
    }
}

enum Servers {
    One(Server),
    Watched(Sentinels, Pair),
    Many(Cluster),
}

pub(crate) struct Bed {
    pub(crate) place: Place,
    pub(crate) faults: Arc<Faults>,
    proxies: Vec<Proxy>,
    servers: Servers,
    tls: Option<Tls>,
}

/// What LOCK.INFO says of a lock. Where there is nothing, nobody holds it and nobody waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Info {
    pub(crate) held: i64,
    pub(crate) waiting: i64,
    /// Labels, of the holders and of the queue.
    pub(crate) owners: Vec<Option<String>>,
    pub(crate) queue: Vec<Option<String>>,
    /// Of the holders.
    pub(crate) weights: Vec<i64>,
    /// Of the first holder.
    pub(crate) level: i64,
}

impl Bed {
    /// Starts the servers; or says why that is not possible here.
    pub(crate) fn start(place: Place) -> Result<Self, String> {
        let faults = Arc::new(Faults::default());
        let tls = (place == Place::Tls).then(Tls::new);
        let count = match place {
            Place::Alone | Place::Tls => 1,
            Place::Sentinel | Place::Cluster => 2,
            Place::ClusterWithReplicas => 6,
        };
        let proxies: Vec<Proxy> = (0..count).map(|_| Proxy::listen(&faults, tls.as_ref())).collect();
        let servers = match place {
            Place::Alone => {
                let server = Server::start();
                proxies[0].serve(server.port());
                Servers::One(server)
            }
            Place::Tls => {
                let port = free_port();
                let lines = tls.iter().flat_map(|tls| tls.directives(port));
                let builder = lines.fold(Server::builder(), |builder, line| builder.config(&line));
                let server = builder.try_start().map_err(|log| {
                    format!("this server has no TLS: {}", log.lines().last().unwrap_or_default())
                })?;
                proxies[0].serve(port);
                Servers::One(server)
            }
            Place::Sentinel => watched(&proxies),
            Place::Cluster => clustered(&proxies, 2, 0),
            Place::ClusterWithReplicas => clustered(&proxies, 3, 1),
        };
        Ok(Self { place, faults, proxies, servers, tls })
    }

    /// Whether a replica can confirm what is granted here.
    pub(crate) fn has_replica(&self) -> bool {
        matches!(self.place, Place::Sentinel | Place::ClusterWithReplicas)
    }

    /// What a testee is told to connect to.
    pub(crate) fn address(&self) -> Value {
        let ports = match &self.servers {
            Servers::One(_) | Servers::Many(_) => self.proxies.iter().map(Proxy::port).collect(),
            Servers::Watched(sentinels, _) => sentinels.ports(),
        };
        let servers: Vec<Value> = ports.iter().map(|port| json!(["127.0.0.1", port])).collect();
        let mut address = json!({"place": self.place.name(), "servers": servers, "timeout": TIMEOUT_MS});
        if matches!(self.servers, Servers::Watched(..)) {
            address["master"] = json!(NAME);
        }
        if let Some(tls) = &self.tls {
            address["ca"] = json!(tls.authority());
        }
        address
    }

    /// A connection to the server that has this lock, around the proxies.
    pub(crate) fn owner(&self, lock: &str) -> Client {
        self.server_of(lock).client3()
    }

    pub(crate) fn server_of(&self, lock: &str) -> &Server {
        match &self.servers {
            Servers::One(server) => server,
            Servers::Watched(_, pair) => {
                let is_master = |server: &Server| server.client().info("replication", "role") == "master";
                if is_master(&pair.replica) { &pair.replica } else { &pair.master }
            }
            Servers::Many(cluster) => cluster.node(cluster.owner(slot_of(lock))),
        }
    }

    /// Has every server run it, and gives the reply of the one that has the lock.
    #[track_caller]
    pub(crate) fn run_everywhere(&self, lock: &str, words: &[String]) -> Reply {
        let others = self.servers().into_iter().map(Server::client3);
        let replies: Vec<Reply> = others.map(|mut client| client.call(words)).collect();
        let owner = self.server_of(lock).port();
        let at = self.servers().iter().position(|server| server.port() == owner).unwrap();
        replies[at].clone()
    }

    fn servers(&self) -> Vec<&Server> {
        match &self.servers {
            Servers::One(server) => vec![server],
            Servers::Watched(_, pair) => vec![&pair.master, &pair.replica],
            Servers::Many(cluster) => cluster.nodes().iter().collect(),
        }
    }

    /// Waits until it is so.
    #[track_caller]
    pub(crate) fn wait_info(&self, lock: &str, within: Duration, is_so: impl Fn(&Info) -> bool) {
        let mut client = self.owner(lock);
        let end = Instant::now() + within;
        loop {
            let seen = info(&mut client, lock);
            if is_so(&seen) {
                return;
            }
            assert!(Instant::now() < end, "it stays {seen:?} for {within:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Closes all connections of clients.
    pub(crate) fn cut(&self) {
        self.proxies.iter().for_each(Proxy::cut);
    }

    /// Closes one of them, of the first server.
    pub(crate) fn cut_one(&self, pick: impl FnOnce(usize) -> usize) {
        self.proxies[0].cut_one(pick);
    }

    /// The cluster, if it is one.
    pub(crate) fn cluster(&mut self) -> &mut Cluster {
        match &mut self.servers {
            Servers::Many(cluster) => cluster,
            _ => panic!("{:?} is no cluster", self.place),
        }
    }

    /// What the Sentinels watch.
    pub(crate) fn watched(&mut self) -> (&Sentinels, &mut Pair) {
        match &mut self.servers {
            Servers::Watched(sentinels, pair) => (sentinels, pair),
            _ => panic!("{:?} has no Sentinels", self.place),
        }
    }

    /// The proxy before the server that listens at this port.
    pub(crate) fn proxy_port(&self, at: usize) -> u16 {
        self.proxies[at].port()
    }

    /// A replica of the one server, which is up to date.
    pub(crate) fn replica(&self) -> Server {
        let Servers::One(master) = &self.servers else { panic!("{:?} has replicas of its own", self.place) };
        let replica = Server::builder().replica_of(master).start();
        caught_up(master, &replica);
        // The master counts it a little later.
        let mut client = master.client();
        client.ok("SET replicated yes");
        wait_until("the replica confirms", PATIENCE, || client.run("WAIT 1 1000").int() == 1);
        replica
    }
}

/// What the server at the other end says of a lock.
pub(crate) fn info(client: &mut Client, lock: &str) -> Info {
    let reply = client.call(&["LOCK.INFO", lock]);
    if reply.is_null() {
        return Info::default();
    }
    let labels = |list: &Reply| {
        let owners = list.items().iter().map(|each| field(each, "owner"));
        owners.map(|owner| (!owner.is_null()).then(|| owner.text())).collect()
    };
    let holders = field(&reply, "holders");
    Info {
        held: field(&reply, "held").int(),
        waiting: field(&reply, "waiting").int(),
        owners: labels(&holders),
        queue: labels(&field(&reply, "queue")),
        weights: holders.items().iter().map(|each| field(each, "weight").int()).collect(),
        level: holders.items().first().map_or(0, |first| field(first, "level").int()),
    }
}

/// All of them know each other by their proxies.
fn watched(proxies: &[Proxy]) -> Servers {
    let announced = |at: usize| -> Builder {
        Server::builder()
            .config("replica-announce-ip 127.0.0.1")
            .config(&format!("replica-announce-port {}", proxies[at].port()))
    };
    let master = announced(0).start();
    proxies[0].serve(master.port());
    let replica = announced(1).config(&format!("replicaof 127.0.0.1 {}", proxies[0].port())).start();
    proxies[1].serve(replica.port());
    caught_up(&master, &replica);
    let sentinels = Sentinels::at(proxies[0].port(), 1);
    Servers::Watched(sentinels, Pair { replica, master })
}

fn clustered(proxies: &[Proxy], masters: usize, replicas_each: usize) -> Servers {
    let mut builder = Cluster::builder(masters).replicas(replicas_each).node_timeout_ms(5_000);
    for (at, proxy) in proxies.iter().enumerate() {
        builder = builder.node_config(at, &format!("cluster-announce-port {}", proxy.port()));
    }
    let cluster = builder.start_with(|at, server| proxies[at].serve(server.port()));
    Servers::Many(cluster)
}
