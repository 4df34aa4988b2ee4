//! Slots that the server moves as a whole: Valkey 9 does, by CLUSTER MIGRATESLOTS, and Redis 8.4, by CLUSTER MIGRATION.

use std::sync::OnceLock;

use super::{Cluster, key_in};
use crate::support::locks::field;
use crate::support::{Client, PATIENCE, Reply, Server, wait_until};

/// How the server does it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The source sends the slot. Each step can be held up.
    Valkey,
    /// The target fetches the slot. The copy of the keys can be made slow.
    Redis,
}

/// A slot that is being moved as a whole, or was.
pub(crate) struct AtomicMove<'a> {
    cluster: &'a Cluster,
    way: Way,
    /// What Redis calls it.
    task: String,
    slot: u16,
    source: usize,
    target: usize,
    /// Keys that Redis copies besides.
    fillers: usize,
}

/// How the server does it, if it can.
#[track_caller]
pub(crate) fn way() -> Option<Way> {
    static WAY: OnceLock<Option<Way>> = OnceLock::new();
    *WAY.get_or_init(|| {
        let server = Server::start();
        let mut client = server.client();
        let mut has = |name: &str| {
            let info = client.run(&format!("COMMAND INFO cluster|{name}"));
            info.items().iter().any(|command| !command.is_null())
        };
        if has("migrateslots") { Some(Way::Valkey) } else { has("migration").then_some(Way::Redis) }
    })
}

/// Keys that Redis copies besides, one after the other, while the move is held up.
const FILLERS: usize = 60;

/// How long each of them takes.
const FILLER_MICROS: usize = 25_000;

impl Cluster {
    /// Has the slot moved from the source to the target. It goes on by itself.
    #[track_caller]
    pub(crate) fn start_atomic_move(&self, slot: u16, source: usize, target: usize) -> AtomicMove<'_> {
        let way = way().expect("the server can");
        let mut task = String::new();
        if way == Way::Valkey {
            let to = self.id(target);
            self.client(source).ok(&format!("CLUSTER MIGRATESLOTS SLOTSRANGE {slot} {slot} NODE {to}"));
        } else {
            task = self.client(target).run(&format!("CLUSTER MIGRATION IMPORT {slot} {slot}")).text();
        }
        AtomicMove { cluster: self, way, task, slot, source, target, fillers: 0 }
    }

    /// The same, held up while keys are copied and before the source pauses writes, until [`AtomicMove::let_pause`]. On Valkey
    /// the target has all keys by then; Redis goes on by itself after a second and a half.
    #[track_caller]
    pub(crate) fn start_atomic_move_held_up(
        &self,
        slot: u16,
        source: usize,
        target: usize,
    ) -> AtomicMove<'_> {
        self.start_atomic_move_held_up_by(FILLERS, slot, source, target)
    }

    /// The same, and on Redis so many keys take [`FILLER_MICROS`] each.
    #[track_caller]
    pub(crate) fn start_atomic_move_held_up_by(
        &self,
        fillers: usize,
        slot: u16,
        source: usize,
        target: usize,
    ) -> AtomicMove<'_> {
        let mut client = self.client(source);
        if way() == Some(Way::Valkey) {
            client.ok("DEBUG SLOTMIGRATION PREVENT-PAUSE 1");
            let moving = self.start_atomic_move(slot, source, target);
            moving.wait_state(&["waiting-to-pause"]);
            return moving;
        }
        for number in 0..fillers {
            client.ok(&format!("SET {} v", key_in(slot, &format!("filler-{number}"))));
        }
        client.ok(&format!("CONFIG SET rdb-key-save-delay {FILLER_MICROS}"));
        let moving = AtomicMove { fillers, ..self.start_atomic_move(slot, source, target) };
        wait_until("the source copies keys", PATIENCE, || {
            client.info("persistence", "rdb_bgsave_in_progress") == "1"
                || client.info("replication", "connected_slaves") != "0"
                || moving.state().0 != "none" && !moving.state().0.is_empty()
        });
        moving
    }
}

impl AtomicMove<'_> {
    /// Where it has come to, and a message.
    #[track_caller]
    pub(crate) fn state(&self) -> (String, String) {
        match self.way {
            Way::Valkey => valkey_state(&mut self.cluster.client(self.source), self.slot),
            Way::Redis => redis_state(&mut self.cluster.client(self.target), &self.task),
        }
    }

    /// Lets go on what was held up.
    #[track_caller]
    pub(crate) fn let_pause(&self) {
        let mut source = self.cluster.client(self.source);
        match self.way {
            Way::Valkey => source.ok("DEBUG SLOTMIGRATION PREVENT-PAUSE 0"),
            Way::Redis => source.ok("CONFIG SET rdb-key-save-delay 0"),
        }
    }

    /// Waits until it has come to one of these states; it must not end in another way.
    #[track_caller]
    pub(crate) fn wait_state(&self, wanted: &[&str]) {
        wait_until(&format!("the move of slot {} is {wanted:?}", self.slot), PATIENCE, || {
            let (state, message) = self.state();
            let is_there = wanted.contains(&state.as_str());
            let is_over =
                matches!(state.as_str(), "success" | "failed" | "cancelled" | "completed" | "canceled");
            assert!(is_there || !is_over, "the move of slot {} is {state}: {message}", self.slot);
            is_there
        });
    }

    /// Waits until the slot is the target's and all nodes know. No key that was copied besides is left.
    #[track_caller]
    pub(crate) fn wait_done(&self) {
        self.wait_state(&["success", "completed"]);
        self.cluster.wait_owner(self.slot, self.target);
        self.drop_fillers(self.target);
        wait_until("the source has dropped the slot", PATIENCE, || {
            let count = format!("CLUSTER COUNTKEYSINSLOT {}", self.slot);
            self.cluster.client(self.source).run(&count) == Reply::Int(0)
        });
    }

    /// Cancels it, and waits until it is.
    #[track_caller]
    pub(crate) fn cancel(&self) {
        match self.way {
            Way::Valkey => self.cluster.client(self.source).ok("CLUSTER CANCELSLOTMIGRATIONS"),
            Way::Redis => {
                let cancel = format!("CLUSTER MIGRATION CANCEL ID {}", self.task);
                assert_eq!(self.cluster.client(self.target).run(&cancel), Reply::Int(1));
            }
        }
        self.wait_state(&["cancelled", "canceled"]);
        self.drop_fillers(self.source);
    }

    fn drop_fillers(&self, node: usize) {
        if self.way == Way::Redis {
            let mut client = self.cluster.client(node);
            for number in 0..self.fillers {
                client.run(&format!("DEL {}", key_in(self.slot, &format!("filler-{number}"))));
            }
        }
    }
}

/// State and message of the newest move of a slot that a node knows of.
#[track_caller]
fn valkey_state(client: &mut Client, slot: u16) -> (String, String) {
    let jobs = client.run("CLUSTER GETSLOTMIGRATIONS");
    let ranges = format!("{slot}-{slot}");
    let job = jobs.items().iter().find(|job| field(job, "slot_ranges").text() == ranges);
    let job: &Reply = job.unwrap_or_else(|| panic!("no move of slot {slot}: {jobs:?}"));
    (field(job, "state").text(), field(job, "message").text())
}

#[track_caller]
fn redis_state(client: &mut Client, task: &str) -> (String, String) {
    let tasks = client.run(&format!("CLUSTER MIGRATION STATUS ID {task}"));
    let [task] = tasks.items() else { panic!("no task {task}: {tasks:?}") };
    (field(task, "state").text(), field(task, "last_error").text())
}
