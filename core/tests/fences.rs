//! The sequence of fences under any clock and any news from elsewhere.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]

use lock_core::fence::HIGHEST_FENCE;
use lock_core::{Fence, FenceSequence};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    /// A grant, at a reading of the wall clock.
    Draw(u64),
    /// A fence that was loaded, replicated or restored.
    Raise(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let highest = HIGHEST_FENCE;
    let wall = || {
        prop_oneof![
            4 => 0..100_u64,
            4 => 1_700_000_000_000_000..1_700_000_000_000_100_u64,
            1 => highest - 3..=highest + 3,
            1 => any::<u64>(),
        ]
    };
    let noted = prop_oneof![
        4 => 1..150_u64,
        4 => 1_700_000_000_000_050..1_700_000_000_000_150_u64,
        1 => highest - 8..=highest,
    ];
    let step = prop_oneof![5 => wall().prop_map(Step::Draw), 1 => noted.prop_map(Step::Raise)];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_fence_is_above_all_before_it_and_no_lower_than_the_clock(steps in steps()) {
        let mut fences = FenceSequence::new();
        // The highest granted or heard of so far.
        let mut highest = 0;
        for step in steps {
            match step {
                Step::Raise(number) => {
                    fences.raise_to(Fence::new(number).unwrap());
                    highest = highest.max(number);
                }
                Step::Draw(wall) => {
                    let clock = if wall > HIGHEST_FENCE { 0 } else { wall };
                    let wanted = clock.max(highest + 1);
                    let drawn = fences.draw(wall).map(Fence::get);
                    prop_assert_eq!(drawn, Some(wanted).filter(|wanted| *wanted <= HIGHEST_FENCE));
                    highest = drawn.unwrap_or(highest);
                }
            }
            prop_assert_eq!(fences.last().map_or(0, Fence::get), highest);
        }
    }

    #[test]
    fn every_fence_survives_a_double(number in prop_oneof![0..10_u64, HIGHEST_FENCE - 5..=HIGHEST_FENCE + 5, any::<u64>()]) {
        let fence = Fence::new(number);
        prop_assert_eq!(fence.is_some(), (1..1 << 53).contains(&number));
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        if let Some(fence) = fence {
            prop_assert_eq!(fence.get() as f64 as u64, number);
        }
    }
}
