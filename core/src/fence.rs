//! Fences: one rising sequence for each server.
//!
//! A fence is `max(last + 1, wall clock in microseconds)`. `last + 1` makes it rise whatever the clock does. The wall
//! clock makes it rise where the last fence was lost with unsynced writes, as far as the clocks agree. A resource that
//! remembers the highest fence it has seen can refuse a holder that does not know that its lease has ended (Kleppmann,
//! "How to do distributed locking", 2016).

/// The largest fence: the largest integer below which a double carries every integer exactly.
pub const HIGHEST_FENCE: u64 = (1 << 53) - 1;

/// The number of one grant, 1 to [`HIGHEST_FENCE`], or [`Fence::NONE`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Fence(u64);

impl Fence {
    /// What a hold without a fence has in its place: 0, which is below all fences. A string that counts as a lock has none.
    pub const NONE: Self = Self(0);
    /// The first of all.
    pub(crate) const LOWEST: Self = Self(1);

    /// The fence with this number, or `None` if the number is out of range.
    pub const fn new(number: u64) -> Option<Self> {
        if number >= 1 && number <= HIGHEST_FENCE { Some(Self(number)) } else { None }
    }

    /// The number, 1 to [`HIGHEST_FENCE`], or 0 for [`Fence::NONE`].
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// How far a fence that a client brings by RESTORE may be ahead of the wall clock, in microseconds: a day, which is
/// more than clocks differ. All later fences of the server are above it, so a fence near the highest would use the
/// sequence up.
const CREDIBLE_LEAD: u64 = 24 * 60 * 60 * 1_000_000;

impl Fence {
    /// Whether a client is believed that this fence was granted somewhere. A master and a file are always believed.
    pub fn is_credible(self, wall_micros: u64) -> bool {
        self.0 <= wall_micros.saturating_add(CREDIBLE_LEAD)
    }
}

/// The sequence itself. It only rises.
#[derive(Debug, Default)]
pub struct FenceSequence {
    last: u64,
}

impl FenceSequence {
    /// A sequence from which no fence was drawn yet.
    pub const fn new() -> Self {
        Self { last: 0 }
    }

    /// Draws the next fence. `wall_micros` is the wall clock in microseconds since 1970. It is ignored if it is above
    /// the highest fence. `None` when the sequence is used up.
    pub fn draw(&mut self, wall_micros: u64) -> Option<Fence> {
        let from_clock = if wall_micros <= HIGHEST_FENCE { wall_micros } else { 0 };
        let fence = Fence::new(self.last.saturating_add(1).max(from_clock))?;
        self.last = fence.0;
        if cfg!(feature = "broken-fence") {
            // For 32 ms at a time each one is below the one before.
            return Fence::new(fence.0 ^ 0x7fff);
        }
        Some(fence)
    }

    /// A fence was granted elsewhere or earlier: every fence drawn from now on is larger.
    pub fn raise_to(&mut self, fence: Fence) {
        self.last = self.last.max(fence.0);
    }

    /// The highest fence drawn or raised to so far.
    pub fn last(&self) -> Option<Fence> {
        Fence::new(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_follow_the_clock_and_rise_when_it_stands_or_goes_back() {
        let mut fences = FenceSequence::new();
        assert_eq!(fences.last(), None);
        assert_eq!(fences.draw(1_000), Fence::new(1_000));
        assert_eq!(fences.draw(1_000), Fence::new(1_001));
        assert_eq!(fences.draw(5), Fence::new(1_002));
        assert_eq!(fences.draw(2_000), Fence::new(2_000));
        fences.raise_to(Fence(9_000));
        fences.raise_to(Fence(3));
        assert_eq!(fences.draw(2_001), Fence::new(9_001));
    }

    #[test]
    fn the_sequence_ends_rather_than_repeat_or_lose_precision() {
        let mut fences = FenceSequence::new();
        fences.raise_to(Fence(HIGHEST_FENCE - 1));
        assert_eq!(fences.draw(u64::MAX), Fence::new(HIGHEST_FENCE));
        assert_eq!(fences.draw(0), None);
        assert_eq!(fences.last(), Fence::new(HIGHEST_FENCE));
    }

    #[test]
    fn a_client_cannot_use_the_sequence_up() {
        let wall_micros = 1_800_000_000_000_000;
        assert!(Fence(wall_micros).is_credible(wall_micros));
        assert!(Fence(wall_micros + CREDIBLE_LEAD).is_credible(wall_micros));
        assert!(!Fence(wall_micros + CREDIBLE_LEAD + 1).is_credible(wall_micros));
        assert!(!Fence(HIGHEST_FENCE).is_credible(wall_micros));
    }

    #[test]
    fn a_clock_out_of_range_is_passed_over() {
        assert_eq!(FenceSequence::new().draw(u64::MAX), Fence::new(1));
    }
}
