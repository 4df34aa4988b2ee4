//! What is measured, a file for each subject.

pub(crate) mod contention;
pub(crate) mod crowd;
pub(crate) mod deadlocks;
pub(crate) mod expiry_hand_over;
pub(crate) mod guard;
pub(crate) mod hand_over;
pub(crate) mod lateness;
pub(crate) mod mass_expiry;
pub(crate) mod memory;
pub(crate) mod operators;
pub(crate) mod pairs;
pub(crate) mod per_hold;
pub(crate) mod places;
pub(crate) mod sessions;
pub(crate) mod several;
pub(crate) mod stall;
