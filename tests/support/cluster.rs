//! A cluster of real servers with the module: masters that share the slots, and replicas of them.
//!
//! - [`Cluster`] starts the nodes and has them agree; [`shared`] is one that tests have in common, each in
//!   slots of its own ([`Cluster::fresh_slot`]).
//! - [`Migration`] moves a slot key by key, step by step; [`Cluster::move_slot`] does all of it, and
//!   [`atomic`] lets the server do it where it can.
//! - [`Routed`] is a client that follows redirections.
//! - [`slot_of`] and [`key_in`] relate keys and slots.
#![allow(dead_code, unused_imports)] // each test file uses a part of it
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure ends the test
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)] // likewise

pub(crate) mod atomic;
mod routed;
mod slots;
mod start;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::locks::{field, null};
use crate::support::{
    Client, LONG_PATIENCE, PATIENCE, Reply, Server, Waiter, caught_up, ok_grant, wait_until,
};

pub(crate) use routed::{Routed, Told};
pub(crate) use slots::{Migration, SLOTS, key_in, slot_of};
pub(crate) use start::ClusterBuilder;

/// When a planned failover that has come to nothing is over for sure: the server gives up after five seconds.
const FAILOVER_TIMEOUT: Duration = Duration::from_secs(6);

/// Running nodes that have agreed on who has which slot. The masters come first, each with an equal range of the slots in
/// ascending order; then the replicas, those of the first master first.
pub(crate) struct Cluster {
    nodes: Vec<Server>,
    ids: Vec<String>,
    masters: usize,
    replicas_each: usize,
    taken: Vec<AtomicU16>,
    giving: Mutex<()>,
    copying: Mutex<()>,
}

/// A cluster of three masters that all tests of a file use which need it at the same time.
#[track_caller]
pub(crate) fn shared() -> InCommon {
    static SHARED: Shared = Shared::new();
    SHARED.get(|| Cluster::start(3))
}

/// A cluster that tests have in common, each minding its own slots. It is there while one of them has it: the last of
/// them ends it, which nothing would do for one that stays.
pub(crate) struct Shared(Mutex<Weak<Cluster>>);

impl Shared {
    /// None as yet.
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    /// The one there is, or a new one.
    #[track_caller]
    pub(crate) fn get(&self, start: impl FnOnce() -> Cluster) -> InCommon {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        InCommon(shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(start());
            *shared = Arc::downgrade(&cluster);
            cluster
        }))
    }
}

/// A test's share of a cluster.
pub(crate) struct InCommon(Arc<Cluster>);

impl Deref for InCommon {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.0
    }
}

impl Drop for InCommon {
    /// The next test may be about to begin, and a new cluster would take it two seconds.
    fn drop(&mut self) {
        let start = Instant::now();
        while Arc::strong_count(&self.0) == 1 && start.elapsed() < Duration::from_millis(100) {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Cluster {
    /// So many masters without replicas, with the fixture's settings.
    #[track_caller]
    pub(crate) fn start(masters: usize) -> Self {
        Self::builder(masters).start()
    }

    /// Replicas and other settings.
    pub(crate) fn builder(masters: usize) -> ClusterBuilder {
        ClusterBuilder::new(masters)
    }

    /// A node.
    pub(crate) fn node(&self, at: usize) -> &Server {
        &self.nodes[at]
    }

    /// A node, to stop it or start it again.
    pub(crate) fn node_mut(&mut self, at: usize) -> &mut Server {
        &mut self.nodes[at]
    }

    /// All nodes.
    pub(crate) fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// A new connection to a node, RESP2.
    #[track_caller]
    pub(crate) fn client(&self, at: usize) -> Client {
        self.nodes[at].client()
    }

    /// A client that goes where it is sent.
    pub(crate) fn routed(&self) -> Routed {
        Routed::new(self.nodes.iter().map(Server::address).collect())
    }

    /// The name a node has in the cluster.
    pub(crate) fn id(&self, at: usize) -> &str {
        &self.ids[at]
    }

    /// The place of the node with that name.
    #[track_caller]
    pub(crate) fn at(&self, id: &str) -> usize {
        let at = self.ids.iter().position(|known| known == id);
        at.unwrap_or_else(|| panic!("no node has the id {id}: {:?}", self.ids))
    }

    /// How many masters it was started with; they are the nodes `0..masters`.
    pub(crate) fn masters(&self) -> usize {
        self.masters
    }

    /// The place of the first replica that this master was started with.
    pub(crate) fn replica(&self, master: usize) -> usize {
        assert!(master < self.masters && self.replicas_each > 0, "no replica of node {master}");
        self.masters + master * self.replicas_each
    }

    /// A slot that this node was started with and that nobody else was given or will be.
    #[track_caller]
    pub(crate) fn fresh_slot(&self, master: usize) -> u16 {
        let range = start::range(master, self.masters);
        let slot = range.start + self.taken[master].fetch_add(1, Ordering::SeqCst);
        assert!(range.contains(&slot), "all slots of node {master} are taken");
        slot
    }

    /// Keeps the other tests of this cluster from giving a slot away until what this lends is dropped, which is to be once
    /// all nodes know of this one. A node that takes a slot takes a new epoch; if the one that gives it takes a newer one
    /// meanwhile, for another slot, then a third that has not heard of the first yet holds the older owner for the newer,
    /// and tells the new owner so, which gives in: from then on each says that the other has the slot.
    pub(crate) fn one_at_a_time(&self) -> MutexGuard<'_, ()> {
        self.giving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the other tests of this cluster from MIGRATE until what this lends is dropped. A node does nothing else until its
    /// MIGRATE is over; two that send each other keys wait for each other until that fails.
    fn one_copies_at_a_time(&self) -> MutexGuard<'_, ()> {
        self.copying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The master that has this slot, as the node sees it; `None` where it thinks that nobody has.
    #[track_caller]
    pub(crate) fn owner_as_seen_by(&self, observer: usize, slot: u16) -> Option<usize> {
        let view = slot_map(&mut self.client(observer));
        let range = view.into_iter().find(|range| (range.first..=range.last).contains(&slot));
        range.map(|range| self.at(&range.nodes[0]))
    }

    /// The master that has this slot, on which all nodes must agree.
    #[track_caller]
    pub(crate) fn owner(&self, slot: u16) -> usize {
        let owner = self.owner_as_seen_by(0, slot);
        for observer in 1..self.nodes.len() {
            assert_eq!(self.owner_as_seen_by(observer, slot), owner, "node {observer} and node 0 disagree");
        }
        owner.unwrap_or_else(|| panic!("nobody has slot {slot}"))
    }

    /// Waits until all nodes know that this master has the slot.
    #[track_caller]
    pub(crate) fn wait_owner(&self, slot: u16, master: usize) {
        for observer in 0..self.nodes.len() {
            wait_until(&format!("node {observer} knows who has slot {slot}"), LONG_PATIENCE, || {
                self.owner_as_seen_by(observer, slot) == Some(master)
            });
        }
    }

    /// The masters that have keys in the slot, whosever it is: never more than one has the same lock.
    #[track_caller]
    pub(crate) fn keepers(&self, slot: u16) -> Vec<usize> {
        let count = |at: usize| self.client(at).run(&format!("CLUSTER COUNTKEYSINSLOT {slot}")).int();
        (0..self.masters).filter(|&at| count(at) > 0).collect()
    }

    /// Waits until this node says so of the cluster: `ok` or `fail`.
    #[track_caller]
    pub(crate) fn wait_state(&self, observer: usize, state: &str) {
        let mut client = self.client(observer);
        wait_until(&format!("node {observer} says that the cluster is {state}"), LONG_PATIENCE, || {
            cluster_state(&mut client) == state
        });
    }

    /// Waits until all nodes are up and agree: on who has which slot and whose replica is which, and that all is well.
    #[track_caller]
    pub(crate) fn wait_agreed(&self) {
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        self.wait_agreed_among(&all);
    }

    /// Waits until these nodes are up and agree on who has which slot, and that all is well.
    #[track_caller]
    pub(crate) fn wait_agreed_among(&self, nodes: &[usize]) {
        let mut clients: Vec<Client> = nodes.iter().map(|&at| self.client(at)).collect();
        let start = Instant::now();
        let of_all = nodes.len() == self.nodes.len();
        while let Err(disagreement) = agreement(&mut clients, of_all) {
            let is_late = start.elapsed() >= LONG_PATIENCE;
            assert!(!is_late, "the nodes do not agree: {disagreement}\n{}", views(&mut clients));
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the replicas that this master was started with have applied all that it has written by now.
    #[track_caller]
    pub(crate) fn wait_caught_up(&self, master: usize) {
        let first = self.replica(master);
        for replica in first..first + self.replicas_each {
            caught_up(&self.nodes[master], &self.nodes[replica]);
        }
    }

    /// Waits until this master and the replicas that it was started with have the same locks.
    #[track_caller]
    pub(crate) fn wait_agreement_of_replicas(&self, master: usize) {
        let first = self.replica(master);
        for replica in first..first + self.replicas_each {
            self.wait_same(master, replica);
        }
    }

    /// Waits until a master and its replica have the same locks.
    #[track_caller]
    pub(crate) fn wait_same(&self, master: usize, replica: usize) {
        caught_up(&self.nodes[master], &self.nodes[replica]);
        let digest = |at: usize| self.client(at).run("DEBUG DIGEST");
        wait_until(&format!("nodes {master} and {replica} agree"), PATIENCE, || {
            digest(master) == digest(replica)
        });
    }

    /// Keeps a node from running, its sockets open, until what this gives goes out of scope.
    #[track_caller]
    pub(crate) fn freeze(&self, at: usize) -> Frozen<'_> {
        Frozen::new(&self.nodes[at])
    }

    /// Makes a replica the master of its shard, as CLUSTER FAILOVER with this option does (`""`, `FORCE` or
    /// `TAKEOVER`), and waits until it is one. What the others do not agree to in time is asked for again, and so is what a
    /// replica refuses while it takes its master for lost, as it does for a while with one that was stalled.
    #[track_caller]
    pub(crate) fn fail_over_to(&self, replica: usize, option: &str) {
        let mut client = self.client(replica);
        let mut asked: Option<Instant> = None;
        wait_until(&format!("node {replica} is a master"), LONG_PATIENCE, || {
            if client.info("replication", "role") == "master" {
                return true;
            }
            if asked.is_none_or(|asked| asked.elapsed() > FAILOVER_TIMEOUT) {
                let reply = client.run(&format!("CLUSTER FAILOVER {option}"));
                let is_refused = reply.is_error() && reply.error().contains("Master is down or failed");
                assert!(
                    is_refused || reply == Reply::Simple("OK".into()),
                    "CLUSTER FAILOVER {option}: {reply:?}"
                );
                asked = (!is_refused).then(Instant::now);
            }
            false
        });
    }

    /// Waits until a replica has become a master.
    #[track_caller]
    pub(crate) fn wait_master(&self, replica: usize) {
        let mut client = self.client(replica);
        wait_until(&format!("node {replica} is a master"), LONG_PATIENCE, || {
            client.info("replication", "role") == "master"
        });
    }

    /// Nobody holds the key or waits for it at the node that has it, and anybody can have it there.
    #[track_caller]
    pub(crate) fn assert_free(&self, at: usize, key: &str) {
        let mut client = self.client(at);
        assert_eq!(client.run(&format!("LOCK.INFO {key}")), null(&client), "{key} is free");
        let acquire = format!("LOCK.ACQUIRE {key} TOKEN anybody");
        ok_grant(client.run(&acquire));
        let waiting = field(&client.run(&format!("LOCK.INFO {key}")), "waiting");
        assert_eq!(waiting, Reply::Int(0), "nobody waits for {key}");
        assert_eq!(client.run(&format!("LOCK.RELEASE {key} anybody")), Reply::Int(1));
        assert_eq!(client.run(&format!("EXISTS {key}")), Reply::Int(0));
    }

    /// Panics unless every node answers and has logged no crash.
    #[track_caller]
    pub(crate) fn assert_alive(&mut self) {
        self.nodes.iter_mut().for_each(Server::assert_alive);
    }
}

/// A node that does not run; it goes on when this goes out of scope.
pub(crate) struct Frozen<'a> {
    server: &'a Server,
}

impl<'a> Frozen<'a> {
    #[track_caller]
    fn new(server: &'a Server) -> Self {
        let frozen = Self { server };
        assert!(frozen.signal("-STOP"), "kill -STOP {}", server.pid());
        frozen
    }

    fn signal(&self, name: &str) -> bool {
        let status = Command::new("kill").args([name, &self.server.pid().to_string()]).status();
        status.is_ok_and(|status| status.success())
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        assert!(self.signal("-CONT") || thread::panicking(), "kill -CONT {}", self.server.pid());
    }
}

/// Slots that one shard has, its master's id first, then its replicas' in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlotRange {
    first: u16,
    last: u16,
    nodes: Vec<String>,
}

/// Who has which slots, as a node sees it, in ascending order.
#[track_caller]
pub(crate) fn slot_map(client: &mut Client) -> Vec<SlotRange> {
    let number = |reply: &Reply| u16::try_from(reply.int()).unwrap();
    let reply = client.run("CLUSTER SLOTS");
    let mut map: Vec<SlotRange> = reply
        .items()
        .iter()
        .map(|range| {
            let parts = range.items();
            let mut nodes: Vec<String> = parts[2..].iter().map(|node| node.items()[2].text()).collect();
            nodes[1..].sort_unstable();
            SlotRange { first: number(&parts[0]), last: number(&parts[1]), nodes }
        })
        .collect();
    map.sort_unstable_by_key(|range| range.first);
    map
}

/// `cluster_state` of CLUSTER INFO.
#[track_caller]
pub(crate) fn cluster_state(client: &mut Client) -> String {
    cluster_info(client, "cluster_state")
}

/// One field of CLUSTER INFO.
#[track_caller]
pub(crate) fn cluster_info(client: &mut Client, name: &str) -> String {
    let text = client.run("CLUSTER INFO").text();
    let mut fields = text.lines().filter_map(|line| line.trim_end().split_once(':'));
    let value = fields.find_map(|(found, value)| (found == name).then(|| value.to_owned()));
    value.unwrap_or_else(|| panic!("CLUSTER INFO has no {name}:\n{text}"))
}

/// Whether these say that the cluster is well and see the same map; why not, if not. If they are all there are (`of_all`) they
/// agree on the replicas too, and each has a link to each.
fn agreement(clients: &mut [Client], of_all: bool) -> Result<(), String> {
    let mut agreed = None;
    let mut agreed_epochs = None;
    for client in clients {
        let state = cluster_state(client);
        if state != "ok" {
            return Err(format!("the cluster is in state {state}"));
        }
        let mut map = slot_map(client);
        if !of_all {
            map.iter_mut().for_each(|range| range.nodes.truncate(1));
        }
        let agreed = agreed.get_or_insert_with(|| map.clone());
        if *agreed != map {
            return Err(format!("{agreed:?}, and {map:?}"));
        }
        // A message on a channel is lost on its way to a node to which there is no link.
        if let Some(node) = of_all.then(|| unlinked(client)).flatten() {
            return Err(format!("there is no link to {node}"));
        }
        // Who moves a slot before the last move is known everywhere may leave nodes that never agree again.
        let epochs = of_all.then(|| config_epochs(client));
        let agreed = agreed_epochs.get_or_insert_with(|| epochs.clone());
        if *agreed != epochs {
            return Err(format!("epochs {agreed:?}, and {epochs:?}"));
        }
        if client.info("replication", "role") == "slave"
            && client.info("replication", "master_link_status") != "up"
        {
            return Err("a replica's link is down".to_owned());
        }
    }
    Ok(())
}

/// A node that this one has no link to.
fn unlinked(client: &mut Client) -> Option<String> {
    let nodes = client.run("CLUSTER NODES").text();
    nodes.lines().find(|line| line.split(' ').nth(7) == Some("disconnected")).map(str::to_owned)
}

/// What each of them says of the cluster.
fn views(clients: &mut [Client]) -> String {
    let view = |client: &mut Client| {
        ["CLUSTER MYID", "CLUSTER INFO", "CLUSTER NODES"].map(|command| client.run(command).text()).join("\n")
    };
    clients.iter_mut().map(view).collect::<Vec<_>>().join("\n")
}

/// The configuration epoch of each master, as a node knows it, by the ids of the nodes.
fn config_epochs(client: &mut Client) -> BTreeMap<String, String> {
    let nodes = client.run("CLUSTER NODES").text();
    let lines = nodes.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let masters = lines.filter(|words| words.len() > 6 && words[2].contains("master"));
    masters.map(|words| (words[0].to_owned(), words[6].to_owned())).collect()
}

/// Where a redirection points to: `MOVED 1234 127.0.0.1:7000` has the slot and the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Redirection {
    /// The slot.
    pub(crate) slot: u16,
    /// `host:port`, as the server gave it.
    pub(crate) endpoint: String,
}

impl Redirection {
    /// What stands in an error that begins with `kind`, MOVED or ASK; `None` for other errors.
    pub(crate) fn parse(error: &str, kind: &str) -> Option<Self> {
        let mut words = error.split(' ');
        if words.next()? != kind {
            return None;
        }
        let redirection = Self { slot: words.next()?.parse().ok()?, endpoint: words.next()?.to_owned() };
        words.next().is_none().then_some(redirection)
    }
}

/// The error that sends a client from elsewhere to this node for a key of the slot.
pub(crate) fn moved_to(slot: u16, node: &Server) -> String {
    format!("MOVED {slot} {}", node.address())
}

/// The error that sends a client to the node that takes the slot over.
pub(crate) fn ask(slot: u16, node: &Server) -> String {
    format!("ASK {slot} {}", node.address())
}

/// Runs a command as a client does that was sent to a node for a slot that is arriving there.
#[track_caller]
pub(crate) fn asking(client: &mut Client, command: &str) -> Reply {
    client.ok("ASKING");
    client.run(command)
}

/// A client that was sent so and waits there, with everything behind LOCK.ACQUIRE.
#[track_caller]
pub(crate) fn asking_waiter(server: &Server, rest: &str) -> Waiter {
    let mut client = server.client();
    let id = client.id();
    client.ok("ASKING");
    client.send(&format!("LOCK.ACQUIRE {rest}").split(' ').collect::<Vec<_>>());
    Waiter { client, id }.once_it_waits_again(server, rest)
}
