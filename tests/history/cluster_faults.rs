//! What is done to a cluster: slots move, nodes crash, replicas take over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lock_checker::FaultKind;

use crate::faults::{pause, sleep_ms, stop};
use crate::history_client::Routes;
use crate::run::{Faults, Stage};
use crate::support::cluster::{Cluster, atomic, slot_of};
use crate::support::{LONG_PATIENCE, Random, Server, wait_until};

/// A failover that has not come about by then is given up by the servers, and to be asked for again.
const GIVEN_UP: Duration = Duration::from_secs(6);

/// When a replica whose votes were lost has become a master at the latest. It asks for votes anew only after four times the
/// node timeout, whatever it is told meanwhile.
const ELECTION_DEADLINE: Duration = LONG_PATIENCE.saturating_mul(3);

/// A cluster under clients.
pub(crate) struct Clustered {
    cluster: Cluster,
    keys: Vec<String>,
    routes: Arc<Routes>,
    /// Whether the servers can move a slot as a whole.
    is_atomic: bool,
    /// Whether each master has a replica.
    has_replicas: bool,
}

impl Clustered {
    /// Clients want these keys.
    pub(crate) fn new(cluster: Cluster, keys: Vec<String>) -> Self {
        let routes = Arc::new(Routes::new(cluster.nodes().iter().map(Server::address).collect()));
        let is_atomic = atomic::way().is_some();
        let has_replicas = cluster.nodes().len() > cluster.masters();
        Self { cluster, keys, routes, is_atomic, has_replicas }
    }

    fn masters(&self) -> Vec<usize> {
        (0..self.cluster.nodes().len()).filter(|&at| self.role(at) == "master").collect()
    }

    fn role(&self, at: usize) -> String {
        self.cluster.client(at).info("replication", "role")
    }

    /// Which slot moves, from where, and where to.
    fn choose(&self, random: &mut Random) -> (u16, usize, usize) {
        let slot = slot_of(random.pick(&self.keys));
        let source = self.cluster.owner(slot);
        let others: Vec<usize> = self.masters().into_iter().filter(|&at| at != source).collect();
        (slot, source, *random.pick(&others))
    }

    /// The servers move a slot.
    fn move_as_a_whole(&self, random: &mut Random, faults: &mut Faults) {
        let (slot, source, target) = self.choose(random);
        let detail = format!("slot {slot} from n{source} to n{target}, as a whole");
        faults.during(FaultKind::Move, None, &detail, || {
            self.cluster.start_atomic_move(slot, source, target).wait_done();
        });
    }

    /// A slot moves key by key, with time between the steps for clients to come in.
    fn move_key_by_key(&self, random: &mut Random, faults: &mut Faults) {
        let (slot, source, target) = self.choose(random);
        let detail = format!("slot {slot} from n{source} to n{target}, key by key");
        faults.during(FaultKind::Move, None, &detail, || {
            let migration = self.cluster.open_slot(slot, source, target);
            sleep_ms(0, 30, random);
            migration.move_all_keys();
            sleep_ms(0, 30, random);
            migration.finish();
        });
    }

    /// A node that crashes keeps what it has acknowledged. For a while after its start it serves nobody.
    fn kill(&mut self, random: &mut Random, faults: &mut Faults) {
        let node = random.below(self.cluster.nodes().len());
        faults.during(FaultKind::Kill, Some(node), "", || {
            self.cluster.node_mut(node).kill9();
            self.cluster.node_mut(node).start_again();
            self.routes.set_address(node, self.cluster.node(node).address());
        });
        self.cluster.wait_agreed();
    }

    /// A replica takes over once it has caught up, while its master has its clients wait.
    fn take_over(&self, random: &mut Random, faults: &mut Faults) {
        let masters = self.masters();
        let replicas: Vec<usize> =
            (0..self.cluster.nodes().len()).filter(|at| !masters.contains(at)).collect();
        let replica = *random.pick(&replicas);
        faults.during(FaultKind::Failover, None, &format!("to n{replica}"), || {
            let mut client = self.cluster.client(replica);
            let mut asked: Option<Instant> = None;
            wait_until("the replica is a master", ELECTION_DEADLINE, || {
                if asked.is_none_or(|asked| asked.elapsed() > GIVEN_UP) {
                    client.run("CLUSTER FAILOVER");
                    asked = Some(Instant::now());
                }
                self.role(replica) == "master"
            });
        });
        self.cluster.wait_agreed();
    }
}

impl Stage for Clustered {
    fn routes(&self) -> Arc<Routes> {
        self.routes.clone()
    }

    fn acts(&self) -> usize {
        8
    }

    fn strike(&mut self, act: usize, random: &mut Random, faults: &mut Faults) {
        let node = *random.pick(&self.masters());
        match act {
            0 => stop(self.cluster.node(node), node, random, faults),
            1 => pause(self.cluster.node(node), node, random, faults),
            2 | 3 if self.has_replicas => self.take_over(random, faults),
            2 => self.kill(random, faults),
            4 | 5 if self.is_atomic => self.move_as_a_whole(random, faults),
            _ => self.move_key_by_key(random, faults),
        }
    }

    fn assert_well(&mut self) {
        self.cluster.assert_alive();
    }
}
