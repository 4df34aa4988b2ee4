//! Carries out what a turn comes to: draws fences, passes changes on to a replica, keeps the answers.

use std::collections::BTreeSet;

use lock_core::request::Broken;
use lock_core::turn::{Answer, Perform};
use lock_core::{ClientId, Fence, FenceSequence, Hold, Lock, Moment, Token, codec};

use super::steps::Whose;

/// What a replica is told when a command is passed on as it came.
pub(super) enum Asked {
    Nothing,
    Release(Token),
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
    pub(super) replica: &'w mut Lock,
    pub(super) asked: Asked,
    pub(super) answers: Vec<(ClientId, Answer)>,
    pub(super) drawn: Vec<Fence>,
    pub(super) has_changed: bool,
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

    fn draw_fence(&mut self) -> Option<Fence> {
        let fence = self.fences.draw(0);
        self.drawn.extend(fence);
        fence
    }

    fn hold_is(&mut self, hold: &Hold) {
        self.has_changed = true;
        let bytes = codec::encode([hold], self.now);
        codec::decode(&bytes, self.now).unwrap().into_iter().for_each(|hold| self.replica.put(hold));
    }

    fn hold_ended(&mut self, fence: Fence) {
        self.has_changed = true;
        assert!(self.replica.end(fence), "a hold ends once, and the replica has it: {fence:?}");
    }

    fn as_asked(&mut self) {
        self.has_changed = true;
        match &self.asked {
            Asked::Nothing => panic!("nothing was asked"),
            Asked::Release(token) => drop(self.replica.release(token, self.now, || true)),
            Asked::Extend(token, lease_ms) => {
                assert!(self.replica.extend(token, *lease_ms, self.now, || true), "the replica has the hold");
            }
            Asked::Break(broken) => drop(self.replica.end_where(|hold| broken.names(hold.fence()))),
            Asked::Apply(holds) => holds.iter().for_each(|hold| self.replica.put(hold.clone())),
        }
    }

    fn answer(&mut self, client: ClientId, answer: Answer) {
        self.answers.push((client, answer));
    }
}
