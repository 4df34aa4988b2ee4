//! Two servers that exchange the roles of master and replica, in each way there is.
#![allow(dead_code)] // each test file uses a part of it
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::support::sentinel::Sentinels;
use crate::support::signal::{go_on, stop};
use crate::support::{LONG_PATIENCE, Pair, Reply, Server, caught_up, wait_until};

/// How the role of master goes to the replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// REPLICAOF NO ONE there, and then REPLICAOF here.
    ByHand,
    /// FAILOVER.
    Failover,
    /// FAILOVER TO ... FORCE, while the replica is silent: the master gives its role away before the other one has it.
    Forced,
    /// SENTINEL FAILOVER.
    Sentinel,
}

/// All of them.
pub(crate) const WAYS: [Way; 4] = [Way::ByHand, Way::Failover, Way::Forced, Way::Sentinel];

/// A master with a replica, which can change their roles again and again.
pub(crate) struct Two {
    way: Way,
    sentinels: Option<Sentinels>,
    servers: [Server; 2],
    master: usize,
}

impl Two {
    /// Both with the fixture's settings, and snapshots without compression.
    #[track_caller]
    pub(crate) fn start(way: Way) -> Self {
        let settings = || Server::builder().config("rdbcompression no");
        let Pair { replica, master } = Pair::start_with(settings(), settings());
        let sentinels = (way == Way::Sentinel).then(|| Sentinels::of(&master, 1));
        Self { way, sentinels, servers: [master, replica], master: 0 }
    }

    /// The present master.
    pub(crate) fn master(&self) -> &Server {
        &self.servers[self.master]
    }

    /// The present replica.
    pub(crate) fn replica(&self) -> &Server {
        &self.servers[1 - self.master]
    }

    /// Waits until the replica has all that the master has.
    #[track_caller]
    pub(crate) fn catch_up(&self) {
        caught_up(self.master(), self.replica());
    }

    /// Changes the roles, and waits until the old master follows the new one.
    #[track_caller]
    pub(crate) fn change_over(&mut self) {
        self.begin_change_over();
        self.end_change_over();
    }

    /// Has the roles changed, and waits until the replica is master.
    #[track_caller]
    pub(crate) fn begin_change_over(&mut self) {
        let (old, new) = (self.master(), self.replica());
        match self.way {
            Way::ByHand => {
                new.client().ok("REPLICAOF NO ONE");
                old.client().ok(&format!("REPLICAOF 127.0.0.1 {}", new.port()));
            }
            Way::Failover => old.client().ok("FAILOVER"),
            Way::Forced => {
                stop(new);
                old.client().ok(&format!("FAILOVER TO 127.0.0.1 {} FORCE TIMEOUT 100", new.port()));
                wait_until("the master has given its role away", LONG_PATIENCE, || role(old) == "slave");
                go_on(new);
            }
            Way::Sentinel => {}
        }
        wait_until("the replica is master", LONG_PATIENCE, || {
            let is_master = role(new) == "master";
            if let (false, Some(sentinels)) = (is_master, &self.sentinels) {
                sentinels.failover();
            }
            is_master
        });
        self.master = 1 - self.master;
    }

    /// Waits until the old master follows the new one.
    #[track_caller]
    pub(crate) fn end_change_over(&self) {
        let (master, replica) = (self.master(), self.replica());
        wait_until("the master is replica", LONG_PATIENCE, || role(replica) == "slave");
        caught_up(master, replica);
        if let Some(sentinels) = &self.sentinels {
            sentinels.wait_until_they_know(master.port(), 1);
        }
    }

    /// Both are well.
    #[track_caller]
    pub(crate) fn assert_alive(&mut self) {
        self.servers.iter_mut().for_each(Server::assert_alive);
    }
}

/// `master` or `slave`. Sentinel closes every connection of a server whose role it changes, this one maybe too: then
/// another one asks.
#[track_caller]
pub(crate) fn role(server: &Server) -> String {
    loop {
        if let Some(Reply::Array(role)) = server.client().try_call(&["ROLE"]) {
            return role[0].text();
        }
    }
}
