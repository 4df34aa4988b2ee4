//! A master with a replica.

use super::launch::Builder;
use super::server::Server;
use super::wait::{LONG_PATIENCE, wait_until};

/// A master and a replica of it, the link up.
pub(crate) struct Pair {
    /// The replica; first, so that it ends before its master.
    pub(crate) replica: Server,
    /// The master.
    pub(crate) master: Server,
}

impl Pair {
    /// Both with the fixture's settings.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::start_with(Server::builder(), Server::builder())
    }

    /// Both as built; the replica follows the master.
    #[track_caller]
    pub(crate) fn start_with(master: Builder, replica: Builder) -> Self {
        let master = master.start();
        let replica = replica.replica_of(&master).start();
        let pair = Self { replica, master };
        pair.wait_caught_up();
        pair
    }

    /// Waits until the replica has applied all that the master has written by now.
    #[track_caller]
    pub(crate) fn wait_caught_up(&self) {
        caught_up(&self.master, &self.replica);
    }
}

/// Waits until `replica` is linked and has applied all that `master` has written by now.
#[track_caller]
pub(crate) fn caught_up(master: &Server, replica: &Server) {
    let mut reader = replica.client();
    wait_until("the replica's link is up", LONG_PATIENCE, || {
        reader.info("replication", "master_link_status") == "up"
    });
    let written = offset(&master.client().info("replication", "master_repl_offset"));
    wait_until("the replica has caught up", LONG_PATIENCE, || {
        offset(&reader.info("replication", "slave_repl_offset")) >= written
    });
}

fn offset(text: &str) -> i64 {
    text.parse().unwrap()
}
