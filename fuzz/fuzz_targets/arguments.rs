//! The words of every command: whatever they are, nothing panics, and what is taken is in range.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lock_core::request::{self, Acquire, Break, Extend, LeaseRules, Release, Top};
use lock_core::token::LONGEST_SPELLED;

const RULES: LeaseRules = LeaseRules { default_ms: 30_000, longest_ms: 86_400_000 };

fuzz_target!(|data: &[u8]| {
    // Words are parted by line feeds, which are as good in them as any byte: the last word has the rest of the data.
    let words = || data.splitn(12, |byte| *byte == b'\n');
    // What follows the keys of a command for several is read as what follows one key.
    assert_eq!(Acquire::parse_for_several(words(), RULES).is_ok(), Acquire::parse(words(), RULES).is_ok());
    assert_eq!(Extend::parse_for_several(words(), RULES).is_ok(), Extend::parse(words(), RULES).is_ok());
    if let Ok(request) = Release::parse_whole(words()) {
        assert!(request.level == 1 && words().count() == 1);
    }
    if let Ok(number) = request::parse_number_of_keys(data) {
        assert!((1..=request::MOST_KEYS).contains(&number));
        assert_eq!(data, number.to_string().as_bytes());
    }
    let keys = request::distinct(words());
    assert!(words().all(|key| keys.iter().filter(|kept| **kept == key).count() == 1));
    if let Ok(request) = Acquire::parse(words(), RULES) {
        assert!((1..=RULES.longest_ms).contains(&request.lease_ms));
        assert!(request.owner.is_none_or(|owner| owner.len() <= 255));
        assert!(request.level.is_none_or(|level| level >= 1));
        assert!(request.session_delay_ms.is_none_or(|ms| ms <= RULES.longest_ms));
        assert!(request.queue_ms.is_none() || request.token.is_some() && request.session_delay_ms.is_none());
        if let Some(token) = &request.token {
            // The token as it was sent is one of the words.
            let mut buffer = [0; LONGEST_SPELLED];
            let text = token.text(&mut buffer);
            assert!((1..=255).contains(&text.len()) && words().any(|word| word == text));
        }
    }
    if let Ok(request) = Release::parse(words()) {
        assert!(request.level >= 1);
    }
    if let Ok(request) = Extend::parse(words(), RULES) {
        assert!(request.lease_ms.is_none_or(|ms| (1..=RULES.longest_ms).contains(&ms)));
    }
    if let Ok(request) = Top::parse(words()) {
        assert!(request.count >= 1);
    }
    let _ = Break::parse(words());
    let _ = request::parse_token(data);
    if let Ok(fence) = request::parse_fence(data) {
        assert!((1..1 << 53).contains(&fence.get()));
        assert_eq!(data, fence.get().to_string().as_bytes());
    }
});
