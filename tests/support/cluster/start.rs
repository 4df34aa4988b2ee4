//! How a cluster is set up, by commands alone: ports, slots, meeting, replicas.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::AtomicU16;
use std::thread;
use std::time::{Duration, Instant};

use super::{Cluster, SLOTS};
use crate::support::{Builder, Client, LONG_PATIENCE, Server, free_port, wait_until};

/// How often another pair of ports is tried when somebody else took one of those chosen.
const PORT_ATTEMPTS: usize = 5;

/// What a cluster is started with.
pub(crate) struct ClusterBuilder {
    masters: usize,
    replicas_each: usize,
    node_timeout_ms: u32,
    directives: Vec<String>,
    node_directives: Vec<(usize, String)>,
}

impl ClusterBuilder {
    /// No replicas; a node timeout so long that no node of a busy machine is taken for lost.
    pub(super) fn new(masters: usize) -> Self {
        Self {
            masters,
            replicas_each: 0,
            node_timeout_ms: 15_000,
            directives: Vec::new(),
            node_directives: Vec::new(),
        }
    }

    /// So many replicas of each master.
    pub(crate) fn replicas(mut self, each: usize) -> Self {
        self.replicas_each = each;
        self
    }

    /// How long a node is silent until it is taken for lost.
    pub(crate) fn node_timeout_ms(mut self, timeout_ms: u32) -> Self {
        self.node_timeout_ms = timeout_ms;
        self
    }

    /// A line in the configuration of every node.
    pub(crate) fn config(mut self, directive: &str) -> Self {
        self.directives.push(directive.to_owned());
        self
    }

    /// A line in the configuration of one node.
    pub(crate) fn node_config(mut self, at: usize, directive: &str) -> Self {
        self.node_directives.push((at, directive.to_owned()));
        self
    }

    /// Starts the nodes and waits until all agree that all is well.
    #[track_caller]
    pub(crate) fn start(self) -> Cluster {
        self.start_with(|_, _| {})
    }

    /// The same, and `started` is told of each node before they meet.
    #[track_caller]
    pub(crate) fn start_with(self, started: impl Fn(usize, &Server)) -> Cluster {
        let count = self.masters * (1 + self.replicas_each);
        let this = &self;
        let nodes: Vec<Server> = thread::scope(|scope| {
            let starting: Vec<_> = (0..count).map(|at| scope.spawn(move || this.start_node(at))).collect();
            starting.into_iter().map(|node| node.join().unwrap()).collect()
        });
        nodes.iter().enumerate().for_each(|(at, node)| started(at, node));
        let mut clients: Vec<Client> = nodes.iter().map(Server::client).collect();
        let ids: Vec<String> = clients.iter_mut().map(|client| client.run("CLUSTER MYID").text()).collect();
        self.share_slots(&mut clients);
        meet(&nodes, &mut clients);
        self.follow_masters(&mut clients, &ids);
        let taken = (0..self.masters).map(|_| AtomicU16::new(0)).collect();
        let cluster = Cluster {
            nodes,
            ids,
            masters: self.masters,
            replicas_each: self.replicas_each,
            taken,
            giving: Mutex::new(()),
            copying: Mutex::new(()),
        };
        cluster.wait_agreed();
        for client in &mut clients {
            client.ok(&format!("CONFIG SET cluster-node-timeout {}", self.node_timeout_ms));
        }
        cluster
    }

    /// Starts a node. Its bus has a port of its own, since the usual one is ten thousand above the clients' and need not
    /// be free, nor a port at all.
    #[track_caller]
    fn start_node(&self, at: usize) -> Server {
        let mut log = String::new();
        for _ in 0..PORT_ATTEMPTS {
            match self.node_builder(at).config(&format!("cluster-port {}", free_port())).try_start() {
                Ok(server) => return server,
                Err(said) => log = said,
            }
            if !log.contains("Address already in use") {
                break;
            }
        }
        panic!("node {at} did not start:\n{log}")
    }

    fn node_builder(&self, at: usize) -> Builder {
        let own = self.node_directives.iter().filter(|(of, _)| *of == at).map(|(_, directive)| directive);
        let builder = Server::builder()
            .config("cluster-enabled yes")
            // For the start: word of who follows whom goes round the sooner, the shorter this is.
            .config("cluster-node-timeout 1500")
            // A master that has given its last slot away stays what it is.
            .config("cluster-allow-replica-migration no")
            // A replica may be elected however long its master has been away.
            .config("cluster-replica-validity-factor 0");
        self.directives.iter().chain(own).fold(builder, |builder, directive| builder.config(directive))
    }

    /// Gives each master its slots, and an epoch of its own, so that they have nothing to settle later.
    #[track_caller]
    fn share_slots(&self, clients: &mut [Client]) {
        for (at, client) in clients.iter_mut().enumerate() {
            client.ok(&format!("CLUSTER SET-CONFIG-EPOCH {}", at + 1));
            if at < self.masters {
                let Range { start, end } = range(at, self.masters);
                client.ok(&format!("CLUSTER ADDSLOTSRANGE {start} {}", end - 1));
            }
        }
    }

    #[track_caller]
    fn follow_masters(&self, clients: &mut [Client], ids: &[String]) {
        for (replica, client) in clients.iter_mut().enumerate().skip(self.masters) {
            let master = &ids[(replica - self.masters) / self.replicas_each];
            // It may know its master's address already and not yet its name.
            wait_until(&format!("node {replica} follows its master"), LONG_PATIENCE, || {
                !client.run(&format!("CLUSTER REPLICATE {master}")).is_error()
            });
        }
    }
}

/// The slots that a master is started with.
pub(super) fn range(master: usize, masters: usize) -> Range<u16> {
    let border = |at: usize| u16::try_from(at * usize::from(SLOTS) / masters).unwrap();
    border(master)..border(master + 1)
}

/// Makes every two nodes known to each other, rather than wait until word of them has gone round.
///
/// A node that does not run for as long as the node timeout gives up on whom it is just meeting, who may know it by then and
/// asks no more: of two, one would never know the other. So who does not know all after a while asks in turn.
#[track_caller]
fn meet(nodes: &[Server], clients: &mut [Client]) {
    let buses: Vec<u16> = clients.iter_mut().map(bus_port).collect();
    let meet = |client: &mut Client, other: usize| {
        client.ok(&format!("CLUSTER MEET 127.0.0.1 {} {}", nodes[other].port(), buses[other]));
    };
    for (at, client) in clients.iter_mut().enumerate() {
        (at + 1..nodes.len()).for_each(|other| meet(client, other));
    }
    for (at, client) in clients.iter_mut().enumerate() {
        let mut asked = Instant::now();
        wait_until(&format!("node {at} knows {} nodes", nodes.len()), LONG_PATIENCE, || {
            let known = client.run("CLUSTER NODES").text();
            let is_met = known.lines().count() == nodes.len() && !known.contains("handshake");
            if !is_met && asked.elapsed() > MEETING {
                asked = Instant::now();
                let unknown = |other: &usize| !known.contains(&format!(":{}@", nodes[*other].port()));
                (0..nodes.len()).filter(unknown).for_each(|other| meet(client, other));
            }
            is_met
        });
    }
}

/// When nodes that run have met for sure, or given up.
const MEETING: Duration = Duration::from_secs(4);

#[track_caller]
fn bus_port(client: &mut Client) -> u16 {
    let reply = client.run("CONFIG GET cluster-port");
    reply.items()[1].text().parse().unwrap()
}
