//! Bytes of a snapshot, a RESTORE or a master: what is read keeps every rule, and is written as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lock_core::{Moment, codec, invariants};

fuzz_target!(|data: &[u8]| {
    // Late enough that no age reaches back to before the clock began.
    let now = Moment::from_micros(i64::MAX / 2);
    if let Ok(decoded) = codec::decode(data, now) {
        let mut written = codec::encode(&decoded.holds, now);
        if decoded.is_whole {
            written[0] = codec::WHOLE;
        }
        assert_eq!(written, data, "each hold has one form");
        for hold in &decoded.holds {
            let one = codec::encode_one(hold, false, now);
            assert_eq!(codec::decode(&one, now).map(|again| again.holds), Ok(vec![hold.clone()]));
        }
    }
    if let Ok(lock) = codec::decode_lock(data, now) {
        assert!(!lock.is_empty());
        assert!(invariants::fences_ascend(&lock));
        assert!(invariants::holds_are_within_limits(&lock));
        assert!(invariants::tokens_are_unique(&lock));
        assert!(invariants::levels_are_positive(&lock));
        assert!(invariants::deadlines_follow_leases(&lock));
        assert!(invariants::index_is_consistent(&lock));
    }
});
