//! What is done to servers: to one that stands alone, and to a master with its replica. For clusters see `cluster_faults`.

use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lock_checker::FaultKind;

use crate::history_client::Routes;
use crate::run::{Faults, Stage};
use crate::support::signal;
use crate::support::wall_clock::{HOUR, WallClock};
use crate::support::{PATIENCE, Random, Reply, Server, caught_up, wait_until};

pub(crate) fn sleep_ms(least: u64, most: u64, random: &mut Random) {
    thread::sleep(Duration::from_millis(least + random.next() % (most - least + 1)));
}

/// Keeps a server from running for a while.
pub(crate) fn stop(server: &Server, node: usize, random: &mut Random, faults: &mut Faults) {
    faults.during(FaultKind::Stop, Some(node), "", || {
        signal::stop(server);
        sleep_ms(10, 400, random);
        signal::go_on(server);
    });
}

/// Pauses clients, those who write or all of them.
pub(crate) fn pause(server: &Server, node: usize, random: &mut Random, faults: &mut Faults) {
    let mut client = server.client();
    let span_ms = 20 + random.next() % 400;
    if random.below(2) == 0 {
        faults.during(FaultKind::Pause, Some(node), "of writes", || {
            client.ok("CLIENT PAUSE 60000 WRITE");
            thread::sleep(Duration::from_millis(span_ms));
            client.ok("CLIENT UNPAUSE");
        });
    } else {
        faults.during(FaultKind::Pause, Some(node), "of all", || {
            client.ok(&format!("CLIENT PAUSE {span_ms} ALL"));
            assert_eq!(client.run("PING"), Reply::Simple("PONG".into()), "it is answered after the pause");
        });
    }
}

/// Sets a clock by up to an hour.
fn set_clock(clock: &WallClock, node: usize, random: &mut Random, faults: &mut Faults) {
    let seconds = i64::try_from(random.below(7_201)).unwrap() - HOUR;
    faults.during(FaultKind::Clock, Some(node), &format!("set to {seconds} s"), || clock.set(seconds));
}

/// One server.
pub(crate) struct Standalone {
    server: Server,
    routes: Arc<Routes>,
    /// Its wall clock, where that can be set.
    clock: Option<WallClock>,
    /// Whether nothing else happens than that it is killed.
    only_killed: bool,
}

impl Standalone {
    /// One to which everything happens.
    pub(crate) fn new(server: Server, clock: Option<WallClock>) -> Self {
        let routes = Arc::new(Routes::new(vec![server.address()]));
        Self { server, routes, clock, only_killed: false }
    }

    /// One that is killed.
    pub(crate) fn only_killed(server: Server) -> Self {
        Self { only_killed: true, ..Self::new(server, None) }
    }

    fn kill(&mut self, random: &mut Random, faults: &mut Faults) {
        let set_meanwhile = self.clock.as_ref().filter(|_| random.below(2) == 0);
        faults.during(FaultKind::Kill, Some(0), "", || {
            self.server.kill9();
            set_meanwhile.into_iter().for_each(|clock| {
                clock.set(i64::try_from(random.below(7_201)).unwrap() - HOUR);
            });
            self.server.start_again();
            self.routes.set_address(0, self.server.address());
        });
    }
}

impl Stage for Standalone {
    fn routes(&self) -> Arc<Routes> {
        self.routes.clone()
    }

    fn acts(&self) -> usize {
        if self.only_killed { 1 } else { 8 + usize::from(self.clock.is_some()) }
    }

    fn strike(&mut self, act: usize, random: &mut Random, faults: &mut Faults) {
        match act {
            0..3 => self.kill(random, faults),
            3 | 4 => stop(&self.server, 0, random, faults),
            5 | 6 => pause(&self.server, 0, random, faults),
            7 => faults.during(FaultKind::Rewrite, Some(0), "", || self.server.rewrite_aof()),
            _ => self.clock.iter().for_each(|clock| set_clock(clock, 0, random, faults)),
        }
    }

    fn assert_well(&mut self) {
        self.server.assert_alive();
    }
}

/// How a replica is made the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promotion {
    /// It has received everything, and the old master does nothing meanwhile.
    CaughtUp,
    /// It lags behind the master, which is killed.
    Behind,
    /// The master does not run for a while. When it goes on it grants as before, until it is told of the new one.
    Stopped,
}

/// A master and its replica, which change places.
pub(crate) struct Replicated {
    nodes: [Server; 2],
    master: usize,
    routes: Arc<Routes>,
    promotion: Promotion,
    /// The wall clock of the second one, where that can be set.
    clock: Option<WallClock>,
}

impl Replicated {
    /// The second follows the first.
    pub(crate) fn new(nodes: [Server; 2], promotion: Promotion, clock: Option<WallClock>) -> Self {
        caught_up(&nodes[0], &nodes[1]);
        let routes = Arc::new(Routes::new(nodes.iter().map(Server::address).collect()));
        Self { nodes, master: 0, routes, promotion, clock }
    }

    fn change_places(&mut self) {
        self.master = 1 - self.master;
        self.routes.set_master(self.master);
    }

    /// Nobody is granted anything from before the replica has caught up until the master has become one.
    fn promote_caught_up(&mut self, faults: &mut Faults) {
        let (old, new) = (self.master, 1 - self.master);
        faults.during(FaultKind::Failover, None, "to a replica that has caught up", || {
            let mut client = self.nodes[old].client();
            client.ok("CLIENT PAUSE 60000 WRITE");
            caught_up(&self.nodes[old], &self.nodes[new]);
            self.nodes[new].client().ok("REPLICAOF NO ONE");
            client.ok(&format!("REPLICAOF 127.0.0.1 {}", self.nodes[new].port()));
            client.ok("CLIENT UNPAUSE");
            self.change_places();
        });
        caught_up(&self.nodes[new], &self.nodes[old]);
    }

    /// The same, done by the servers.
    fn fail_over(&mut self, faults: &mut Faults) {
        let (old, new) = (self.master, 1 - self.master);
        faults.during(FaultKind::Failover, None, "by FAILOVER", || {
            self.nodes[old].client().ok("FAILOVER");
            let mut client = self.nodes[new].client();
            wait_until("the replica is the master", PATIENCE, || {
                client.info("replication", "role") == "master"
            });
            self.change_places();
        });
        caught_up(&self.nodes[new], &self.nodes[old]);
    }

    /// The replica is parted from its master, and promoted some time later. By then the master is dead.
    fn promote_behind(&mut self, random: &mut Random, faults: &mut Faults) {
        let (old, new) = (self.master, 1 - self.master);
        let lag_ms = 60 + random.next() % 250;
        let mut client = self.nodes[new].client();
        let detail = format!("to a replica that is {lag_ms} ms behind");
        // A client that was on its way to it may find it gone even after all others know of the new master.
        let killed = faults.begin(FaultKind::Kill, Some(old), "");
        faults.during(FaultKind::Failover, None, &detail, || {
            // Nobody is there.
            client.ok("REPLICAOF 127.0.0.1 1");
            thread::sleep(Duration::from_millis(lag_ms));
            self.nodes[old].kill9();
            client.ok("REPLICAOF NO ONE");
            self.change_places();
        });
        self.restart_as_replica(old);
        faults.end(killed);
    }

    /// The master is stopped, and still believes in itself when it goes on.
    fn promote_while_stopped(&mut self, random: &mut Random, faults: &mut Faults) {
        let (old, new) = (self.master, 1 - self.master);
        faults.during(FaultKind::Failover, None, "while the master is stopped", || {
            signal::stop(&self.nodes[old]);
            sleep_ms(10, 150, random);
            self.nodes[new].client().ok("REPLICAOF NO ONE");
            self.change_places();
            sleep_ms(0, 100, random);
            signal::go_on(&self.nodes[old]);
            sleep_ms(0, 100, random);
            self.nodes[old].client().ok(&format!("REPLICAOF 127.0.0.1 {}", self.nodes[new].port()));
        });
        caught_up(&self.nodes[new], &self.nodes[old]);
    }

    /// Starts a server that was killed; it is a replica from the first moment on.
    fn restart_as_replica(&mut self, at: usize) {
        let path = self.nodes[at].folder().join("server.conf");
        let text = fs::read_to_string(&path).unwrap();
        let mut lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("replicaof")).collect();
        let follow = format!("replicaof 127.0.0.1 {}", self.nodes[self.master].port());
        lines.push(&follow);
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        self.nodes[at].start_again();
        self.routes.set_address(at, self.nodes[at].address());
        caught_up(&self.nodes[self.master], &self.nodes[at]);
    }
}

impl Stage for Replicated {
    fn routes(&self) -> Arc<Routes> {
        self.routes.clone()
    }

    fn acts(&self) -> usize {
        match self.promotion {
            // Each time that one is promoted whose clock is behind, fences fall.
            Promotion::Behind if self.clock.is_some() => 4,
            Promotion::Behind | Promotion::Stopped => 2,
            Promotion::CaughtUp => 9 + usize::from(self.clock.is_some()),
        }
    }

    fn strike(&mut self, act: usize, random: &mut Random, faults: &mut Faults) {
        let (master, replica) = (self.master, 1 - self.master);
        match act {
            _ if self.promotion == Promotion::Behind => self.promote_behind(random, faults),
            _ if self.promotion == Promotion::Stopped => self.promote_while_stopped(random, faults),
            0..3 => self.promote_caught_up(faults),
            3 | 4 => self.fail_over(faults),
            5 => stop(&self.nodes[master], master, random, faults),
            6 => stop(&self.nodes[replica], replica, random, faults),
            7 => pause(&self.nodes[master], master, random, faults),
            8 => {
                faults.during(FaultKind::Kill, Some(replica), "", || {
                    self.nodes[replica].kill9();
                    self.restart_as_replica(replica);
                });
            }
            _ => self.clock.iter().for_each(|clock| set_clock(clock, 1, random, faults)),
        }
    }

    fn assert_well(&mut self) {
        self.nodes.iter_mut().for_each(Server::assert_alive);
        caught_up(&self.nodes[self.master], &self.nodes[1 - self.master]);
    }
}
