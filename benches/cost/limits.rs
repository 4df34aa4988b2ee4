//! What acquire + release may cost against `SET NX PX` + `EVALSHA`, as the other's instructions divided by ours.

/// What is held to one of them.
pub(crate) struct Limit {
    pub(crate) with_aof: bool,
    /// Below it something has become dearer by mistake: the run fails.
    pub(crate) floor: f64,
    /// What is to be reached.
    pub(crate) target: f64,
    /// What would be better still.
    pub(crate) aim: f64,
}

/// All limits.
pub(crate) const LIMITS: [Limit; 2] = [
    Limit { with_aof: false, floor: 1.95, target: 2.2, aim: 2.3 },
    Limit { with_aof: true, floor: 1.48, target: 1.7, aim: 1.77 },
];
