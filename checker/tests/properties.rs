//! A small server that is right, and the same with one thing wrong at a time, asked by clients at random.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod server;

use lock_checker::notation::Record;
use lock_checker::{FenceScope, Rule, Terms, check, excerpt};
use proptest::prelude::*;
use server::{CLAIM_LEASE_MS, Defect, history};

fn terms() -> Terms {
    Terms {
        fences: FenceScope::OneSequence,
        patience: 20_000,
        claim_lease: CLAIM_LEASE_MS * 1000,
        errors: Vec::new(),
        loses_writes: false,
    }
}

/// How many histories are made; PROPTEST_CASES says otherwise.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").map_or(400, |text| text.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn nothing_is_found_where_nothing_is_wrong(seed in any::<u64>(), steps in 1..400_usize) {
        let history = history(seed, steps, None);
        let violations = check(&history, &terms());
        let shown: Vec<String> = violations.iter().map(|violation| excerpt::show(&history, violation)).collect();
        prop_assert!(violations.is_empty(), "{}", shown.join("\n"));
    }

    #[test]
    fn a_history_that_is_written_down_can_be_read_again(seed in any::<u64>(), steps in 1..200_usize) {
        let record = Record { terms: terms(), history: history(seed, steps, None) };
        prop_assert_eq!(record.to_string().parse::<Record>(), Ok(record));
    }
}

#[test]
fn what_is_wrong_is_found() {
    for (defect, rule) in [
        (Defect::OneTooMany, Rule::Admission),
        (Defect::WeightsIgnored, Rule::Admission),
        (Defect::ChangesForFree, Rule::Admission),
        (Defect::HalfGrants, Rule::EarlyEnd),
        (Defect::LooseGuards, Rule::Release),
        (Defect::DeafGuards, Rule::EarlyEnd),
        (Defect::LateGuards, Rule::Guard),
        (Defect::ShortLeases, Rule::EarlyEnd),
        (Defect::FallingFences, Rule::Fence),
        (Defect::LastComesFirst, Rule::Overtaking),
        (Defect::ImpatientWaits, Rule::EarlyNull),
        (Defect::ForgottenWaits, Rule::LateAnswer),
        (Defect::KeptTtl, Rule::EarlyEnd),
        (Defect::DeafToTtl, Rule::TimeToLive),
        (Defect::ShortLevels, Rule::EarlyEnd),
        (Defect::LevelsFromNothing, Rule::Level),
        (Defect::LevelsEndHolds, Rule::EarlyEnd),
        (Defect::ForgivingLevels, Rule::Level),
        (Defect::DeafToRelease, Rule::Release),
        (Defect::LostPlaces, Rule::Place),
        (Defect::NoPlaces, Rule::Place),
        (Defect::PlacesComeLast, Rule::Overtaking),
        (Defect::SharedTickets, Rule::Place),
        (Defect::FallingTickets, Rule::Place),
        (Defect::EndlessClaims, Rule::Place),
    ] {
        let found = (0..12).filter(|seed| {
            let history = history(*seed, 4_000, Some(defect));
            check(&history, &terms()).iter().any(|violation| violation.rule == rule)
        });
        let found = found.count();
        assert!(found >= 8, "{defect:?} was found in {found} of 12 histories");
    }
}
