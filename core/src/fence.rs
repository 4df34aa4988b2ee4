//! Fences: one rising sequence a server.
//!
//! A fence is `max(last + 1, wall clock in microseconds)`. The first half makes it rise whatever the clock does; the
//! second keeps it rising, as far as the clocks agree, where the last fence was lost with unsynced writes. A consumer
//! that remembers the highest fence it has seen can turn away a holder whose lease ended without its knowledge
//! (Kleppmann, "How to do distributed locking", 2016).

/// The largest fence: the largest integer below which a double carries every integer exactly.
pub const HIGHEST_FENCE: u64 = (1 << 53) - 1;

/// The number of one grant, 1 to [`HIGHEST_FENCE`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Fence(u64);

impl Fence {
    /// The first of all.
    pub(crate) const LOWEST: Self = Self(1);

    /// The fence with this number, or `None` when no grant can have had it.
    pub const fn new(number: u64) -> Option<Self> {
        if number >= 1 && number <= HIGHEST_FENCE { Some(Self(number)) } else { None }
    }

    /// The number, 1 to [`HIGHEST_FENCE`].
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// How far ahead of the wall clock a fence may be that a client brings, in microseconds: a day, which is more than clocks
/// differ. A fence far ahead would take the fences of the whole server with it, and one near the highest would use the
/// sequence up.
const CREDIBLE_LEAD: u64 = 24 * 60 * 60 * 1_000_000;

impl Fence {
    /// Whether a client's word can be taken for it that this fence was granted somewhere. What a master or a file says
    /// is not asked.
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
    /// A sequence from which nothing was drawn yet.
    pub const fn new() -> Self {
        Self { last: 0 }
    }

    /// Draws the next fence. `wall_micros` is the wall clock in microseconds since 1970; a reading from before 1970
    /// or beyond the highest fence does no harm. `None` once the sequence has come to its end.
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

    /// Takes note of a fence that was granted elsewhere or earlier: every fence drawn from now on is higher.
    pub fn raise_to(&mut self, fence: Fence) {
        self.last = self.last.max(fence.0);
    }

    /// The highest fence drawn or noted so far.
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
