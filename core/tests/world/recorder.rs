//! Carries out what a turn comes to: draws fences, passes changes on to a replica, keeps the answers.

use std::collections::BTreeSet;

use lock_core::request::Broken;
use lock_core::turn::{Answer, Perform};
use lock_core::{ClientId, Fence, FenceSequence, Hold, Lock, Moment, Token, codec};

use super::steps::Whose;

/// What a replica is told when a command is passed on as it came.
pub(super) enum Asked {
    Nothing,
    Release(Token, u16),
    Extend(Token, Option<u64>),
    Break(Broken),
    Apply(Vec<Hold>),
}

pub(super) struct Recorder<'w> {
    pub(super) decides: bool,
    pub(super) whose: Whose,
    pub(super) may_have_lost_grants: bool,
    pub(super) now: Moment,
    pub(super) open: &'w BTreeSet<ClientId>,
    pub(super) fences: &'w mut FenceSequence,
    /// Clients who may not take locks.
    pub(super) forbidden: &'w BTreeSet<ClientId>,
    pub(super) replica: &'w mut Lock,
    /// When the key ends on the replica, if somebody has set that.
    pub(super) replica_ttl: Option<Moment>,
    pub(super) asked: Asked,
    pub(super) answers: Vec<(ClientId, Answer)>,
    pub(super) drawn: Vec<Fence>,
    pub(super) has_changed: bool,
    pub(super) has_promised: bool,
}

impl Recorder<'_> {
    fn drop_ttl_with_the_key(&mut self) {
        if self.replica.is_empty() {
            self.replica_ttl = None;
        }
    }
}

impl Perform for Recorder<'_> {
    fn decides(&mut self) -> bool {
        self.decides
    }

    fn owns(&mut self) -> bool {
        self.whose.serves()
    }

    fn keeps(&mut self) -> bool {
        self.whose.keeps()
    }

    fn may_have_lost_grants(&mut self) -> bool {
        self.may_have_lost_grants
    }

    fn is_open(&mut self, connection: ClientId) -> bool {
        self.open.contains(&connection)
    }

    fn may_acquire(&mut self, client: ClientId) -> bool {
        !self.forbidden.contains(&client)
    }

    fn take_off_ttl(&mut self) {
        self.has_promised = true;
    }

    fn draw_fence(&mut self) -> Option<Fence> {
        let fence = self.fences.draw(0);
        self.drawn.extend(fence);
        fence
    }

    fn hold_is(&mut self, hold: &Hold) {
        self.has_changed = true;
        let bytes = codec::encode([hold], self.now);
        self.replica.adopt(codec::decode(&bytes, self.now).unwrap()).unwrap();
        self.replica_ttl = None;
    }

    fn hold_ended(&mut self, fence: Fence) {
        self.has_changed = true;
        assert!(self.replica.end(fence), "a hold ends once, and the replica has it: {fence:?}");
        self.drop_ttl_with_the_key();
    }

    fn as_asked(&mut self) {
        self.has_changed = true;
        match &self.asked {
            Asked::Nothing => panic!("nothing was asked"),
            Asked::Release(token, level) => drop(self.replica.release(token, *level, self.now, || true)),
            Asked::Extend(token, lease_ms) => {
                assert!(self.replica.extend(token, *lease_ms, self.now, || true), "the replica has the hold");
                self.replica_ttl = None;
            }
            Asked::Break(broken) => drop(self.replica.end_where(|hold| broken.names(hold.fence()))),
            Asked::Apply(holds) => {
                self.replica.adopt(holds.clone()).unwrap();
                self.replica_ttl = None;
            }
        }
        self.drop_ttl_with_the_key();
    }

    fn answer(&mut self, client: ClientId, answer: Answer) {
        self.answers.push((client, answer));
    }
}
