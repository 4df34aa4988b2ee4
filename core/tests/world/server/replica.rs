//! What is passed on of a turn, and what a replica makes of it.

use lock_core::outcome::Change;
use lock_core::request::BreakTarget;
use lock_core::{Hold, Outcome, Token, codec};

use super::Server;
use crate::world::steps::{self, Spot};

/// What a replica is told when a command is passed on as it came.
pub(in crate::world) enum Asked {
    Nothing,
    Release(Token, u16),
    Extend(Token, Option<u64>),
    Break(BreakTarget),
    Apply(Vec<Hold>),
}

impl Server {
    /// What a replica makes of the changes of a turn.
    pub(super) fn pass_on(&mut self, spot: Spot, asked: &Asked, outcome: &Outcome) {
        let now = self.now;
        let replica = self.replica.entry(spot).or_default();
        for change in &outcome.changes {
            match change {
                Change::Lease(token, lease_ms, _) => {
                    let number = self.replica_strings.get(&spot);
                    assert_eq!(number.map(|number| steps::token(*number)).as_ref(), Some(token));
                    self.replica_ttls.insert(spot, now.plus_ms(*lease_ms));
                }
                Change::First(hold, _) => {
                    self.replica_strings.remove(&spot);
                    let bytes = codec::encode_one(hold, true, now);
                    replica.replace(codec::decode(&bytes, now).unwrap().holds).unwrap();
                    self.replica_ttls.remove(&spot);
                }
                Change::Whole(holds, _) => {
                    for bytes in codec::encode_in_pieces(holds, now) {
                        let decoded = codec::decode(&bytes, now).unwrap();
                        if decoded.is_whole {
                            replica.replace(decoded.holds).unwrap();
                        } else {
                            replica.adopt(decoded.holds).unwrap();
                        }
                    }
                    self.replica_ttls.remove(&spot);
                }
                Change::Set(hold, _) => {
                    let bytes = codec::encode([hold], now);
                    replica.adopt(codec::decode(&bytes, now).unwrap().holds).unwrap();
                    self.replica_ttls.remove(&spot);
                }
                Change::Ended(fence, _) => {
                    assert!(replica.end(*fence), "a hold ends once, and the replica has it: {fence:?}");
                }
                Change::AsAsked(..) | Change::StringEnded(_) => match asked {
                    Asked::Nothing => panic!("nothing was asked"),
                    Asked::Release(token, level) => {
                        replica.release(token, *level, now, || true);
                        let number = self.replica_strings.get(&spot);
                        if *level == 1 && number.is_some_and(|number| steps::token(*number) == *token) {
                            self.replica_strings.remove(&spot);
                        }
                    }
                    Asked::Extend(token, lease_ms) => {
                        let extended = replica.extend(token, *lease_ms, now, || true);
                        assert!(extended.is_some(), "the replica has the hold");
                        self.replica_ttls.remove(&spot);
                    }
                    Asked::Break(target) => {
                        replica.end_where(|hold| target.names(hold.fence()));
                        if *target == BreakTarget::All {
                            self.replica_strings.remove(&spot);
                        }
                    }
                    Asked::Apply(holds) => {
                        replica.replace(holds.clone()).unwrap();
                        self.replica_ttls.remove(&spot);
                    }
                },
            }
            if replica.is_empty() && !self.replica_strings.contains_key(&spot) {
                self.replica_ttls.remove(&spot);
            }
        }
    }
}
