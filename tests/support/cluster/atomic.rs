//! Slots that the server moves as a whole: Valkey 9 does, by CLUSTER MIGRATESLOTS.

use std::sync::OnceLock;

use super::Cluster;
use crate::support::locks::field;
use crate::support::{Client, PATIENCE, Reply, Server, wait_until};

/// A slot that is being moved as a whole, or was.
pub(crate) struct AtomicMove<'a> {
    cluster: &'a Cluster,
    slot: u16,
    source: usize,
    target: usize,
}

/// Whether the server can.
#[track_caller]
pub(crate) fn is_possible() -> bool {
    static IS_POSSIBLE: OnceLock<bool> = OnceLock::new();
    *IS_POSSIBLE.get_or_init(|| {
        let info = Server::start().client().run("COMMAND INFO cluster|migrateslots");
        info.items().iter().any(|command| !command.is_null())
    })
}

impl Cluster {
    /// Has the source move the slot to the target. It goes on by itself.
    #[track_caller]
    pub(crate) fn start_atomic_move(&self, slot: u16, source: usize, target: usize) -> AtomicMove<'_> {
        let to = self.id(target);
        self.client(source).ok(&format!("CLUSTER MIGRATESLOTS SLOTSRANGE {slot} {slot} NODE {to}"));
        AtomicMove { cluster: self, slot, source, target }
    }

    /// The same, held up as soon as the target has all keys and before the source pauses writes, until
    /// [`AtomicMove::let_pause`].
    #[track_caller]
    pub(crate) fn start_atomic_move_held_up(
        &self,
        slot: u16,
        source: usize,
        target: usize,
    ) -> AtomicMove<'_> {
        self.client(source).ok("DEBUG SLOTMIGRATION PREVENT-PAUSE 1");
        let moving = self.start_atomic_move(slot, source, target);
        moving.wait_state(&["waiting-to-pause"]);
        moving
    }
}

impl AtomicMove<'_> {
    /// What the source says of it: where it has come to, and a message.
    #[track_caller]
    pub(crate) fn state(&self) -> (String, String) {
        state(&mut self.cluster.client(self.source), self.slot)
    }

    /// Lets go on what was held up.
    #[track_caller]
    pub(crate) fn let_pause(&self) {
        self.cluster.client(self.source).ok("DEBUG SLOTMIGRATION PREVENT-PAUSE 0");
    }

    /// Waits until it has come to one of these states; it must not end in another way.
    #[track_caller]
    pub(crate) fn wait_state(&self, wanted: &[&str]) {
        wait_until(&format!("the move of slot {} is {wanted:?}", self.slot), PATIENCE, || {
            let (state, message) = self.state();
            let is_there = wanted.contains(&state.as_str());
            let is_over = matches!(state.as_str(), "success" | "failed" | "cancelled");
            assert!(is_there || !is_over, "the move of slot {} is {state}: {message}", self.slot);
            is_there
        });
    }

    /// Waits until the slot is the target's and all nodes know.
    #[track_caller]
    pub(crate) fn wait_done(&self) {
        self.wait_state(&["success"]);
        for observer in 0..self.cluster.nodes().len() {
            wait_until(&format!("node {observer} knows who has slot {}", self.slot), PATIENCE, || {
                self.cluster.owner_as_seen_by(observer, self.slot) == Some(self.target)
            });
        }
    }

    /// Cancels it, and waits until it is.
    #[track_caller]
    pub(crate) fn cancel(&self) {
        self.cluster.client(self.source).ok("CLUSTER CANCELSLOTMIGRATIONS");
        self.wait_state(&["cancelled"]);
    }
}

/// State and message of the newest move of a slot that a node knows of.
#[track_caller]
fn state(client: &mut Client, slot: u16) -> (String, String) {
    let jobs = client.run("CLUSTER GETSLOTMIGRATIONS");
    let ranges = format!("{slot}-{slot}");
    let job = jobs.items().iter().find(|job| field(job, "slot_ranges").text() == ranges);
    let job: &Reply = job.unwrap_or_else(|| panic!("no move of slot {slot}: {jobs:?}"));
    (field(job, "state").text(), field(job, "message").text())
}
