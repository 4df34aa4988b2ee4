//! Locks as bytes: what is written comes back as it was, on whatever clock, and what was not written that way comes
//! back as an error or as a lock that could have been granted.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use lock_core::codec::{
    DecodeError, Decoded, LONGEST_HOLD, VERSION, WHOLE, decode, decode_lock, encode, encode_one,
};
use lock_core::fence::HIGHEST_FENCE;
use lock_core::invariants;
use lock_core::time::LONGEST_LEASE_MS;
use lock_core::token::LONGEST_SPELLED;
use lock_core::{Fence, GrantState, Hold, Limit, Lock, Moment, Share, Terms, Token};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// The fewest bytes a hold can take: what is always there, and a token of one byte.
const SHORTEST_HOLD: usize = 1 + 2 * 8 + (1 + 1);

/// A hold to be, but for what its place in the lock decides.
#[derive(Clone, Debug)]
struct Draft {
    token: Vec<u8>,
    owner: Option<Vec<u8>>,
    looseness: Option<u16>,
    weight: u16,
    lease_ms: u64,
    /// Microseconds before the encoding at which the lease began and the hold was granted.
    began: u64,
    granted: u64,
    fence_step: u64,
    level: u16,
}

fn drafts(longest_text: usize) -> impl Strategy<Value = Vec<Draft>> {
    let own = vec(any::<u8>(), 1..=longest_text.min(255));
    let made = "[0-9a-f]{32}".prop_map(String::into_bytes);
    let uuid = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}".prop_map(String::into_bytes);
    let owner = option::of(vec(any::<u8>(), 0..=longest_text.min(255)));
    let lease = prop_oneof![1..10_u64, 1_000..100_000_u64, LONGEST_LEASE_MS - 1..=LONGEST_LEASE_MS];
    let ago = || prop_oneof![0..3_000_u64, 0..100_000_000_u64, 0..LONGEST_LEASE_MS * 1_000];
    let fence_step = prop_oneof![4 => 1..5_u64, 1 => 1..1_u64 << 45];
    let level = prop_oneof![4 => Just(1), 1 => 1..=u16::MAX];
    let weight = prop_oneof![4 => Just(1), 1 => 1..=9_000_u16];
    let rest = ((option::of(0..=u16::MAX), weight), lease, ago(), ago(), fence_step, level);
    let draft = (prop_oneof![own, made, uuid], owner, rest).prop_map(|(token, owner, rest)| {
        let ((looseness, weight), lease_ms, began, granted, fence_step, level) = rest;
        Draft { token, owner, looseness, weight, lease_ms, began, granted, fence_step, level }
    });
    vec(draft, 1..5)
}

/// The lock the drafts come to at `now`: fences rise, no token twice, every limit as tight as the crowd allows or looser.
fn lock_of(drafts: &[Draft], now: Moment) -> Lock {
    let mut unlike: Vec<&Draft> = Vec::new();
    for draft in drafts {
        if unlike.iter().all(|other| other.token != draft.token) {
            unlike.push(draft);
        }
    }
    let crowd: u16 = unlike.iter().map(|draft| draft.weight).sum();
    let mut fence = 0;
    let hold = |draft: &&Draft| {
        fence += draft.fence_step;
        // No lease is longer ago than it is long, and none began before its hold.
        let began = draft.began.min(draft.lease_ms * 1_000);
        let granted_at =
            Moment::from_micros(now.as_micros() - i64::try_from(draft.granted.max(began)).unwrap());
        let lease_began = Moment::from_micros(now.as_micros() - i64::try_from(began).unwrap());
        let state = GrantState {
            fence: Fence::new(fence).unwrap(),
            granted_at,
            deadline: lease_began.plus_ms(draft.lease_ms),
            level: draft.level,
        };
        let limit =
            draft.looseness.map_or(Limit::SHARED, |more| Limit::from_number(crowd.saturating_add(more)));
        let token = Token::from_text(&draft.token).unwrap();
        Hold::restore(
            Terms {
                token: &token,
                share: Share { limit, weight: draft.weight },
                lease_ms: draft.lease_ms,
                owner: draft.owner.as_deref(),
                session: None,
            },
            state,
        )
    };
    Lock::from_holds(unlike.iter().map(hold).collect())
}

fn moments() -> impl Strategy<Value = Moment> {
    prop_oneof![-2_000_000..2_000_000_i64, 0..1_i64 << 50].prop_map(Moment::from_micros)
}

/// What is true of every lock that was read, whatever it was read from.
fn check_read(bytes: &[u8], now: Moment) -> Result<(), TestCaseError> {
    let decoded = decode(bytes, now);
    if let Ok(Decoded { holds, is_whole }) = &decoded {
        prop_assert!(holds.len() <= bytes.len() / SHORTEST_HOLD);
        // The one form: what is accepted is what would be written.
        let mut again = encode(holds, now);
        if *is_whole {
            again[0] = WHOLE;
        }
        prop_assert_eq!(again, bytes);
    }
    let Ok(lock) = decode_lock(bytes, now) else { return Ok(()) };
    let decoded = decoded.unwrap();
    prop_assert!(!decoded.is_whole && lock.holds().iter().eq(&decoded.holds));
    prop_assert!(invariants::index_is_consistent(&lock));
    prop_assert!(!lock.is_empty());
    prop_assert!(invariants::fences_ascend(&lock));
    prop_assert!(invariants::holds_are_within_limits(&lock));
    prop_assert!(invariants::tokens_are_unique(&lock));
    prop_assert!(invariants::levels_are_positive(&lock));
    prop_assert!(invariants::deadlines_follow_leases(&lock));
    for hold in lock.holds() {
        prop_assert!((1..=HIGHEST_FENCE).contains(&hold.fence().get()));
        prop_assert!((1..=LONGEST_LEASE_MS).contains(&hold.lease_ms()));
        prop_assert!(now.ms_until(hold.deadline()) <= hold.lease_ms());
        prop_assert!(hold.granted_at() <= now);
        prop_assert!(hold.owner().is_none_or(|owner| owner.len() <= 255));
        prop_assert!((1..=255).contains(&hold.token_text(&mut [0; LONGEST_SPELLED]).len()));
    }
    prop_assert!(lock.heap_size() <= 16 * bytes.len(), "{} of {}", lock.heap_size(), bytes.len());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_lock_travels_to_another_clock_unchanged(drafts in drafts(255), then in moments(), now in moments()) {
        let lock = lock_of(&drafts, then);
        let bytes = encode(lock.holds(), then);
        prop_assert!(bytes.len() <= 1 + lock.holds().len() * LONGEST_HOLD);
        let read = decode_lock(&bytes, now);
        prop_assert!(read.is_ok(), "{:?} of {lock:?}", read.err());
        let read = read.unwrap();
        prop_assert_eq!(read.holds().len(), lock.holds().len());
        for (hold, was) in read.holds().iter().zip(lock.holds()) {
            prop_assert_eq!(hold.fence(), was.fence());
            prop_assert_eq!(hold.limit(), was.limit());
            prop_assert_eq!(hold.lease_ms(), was.lease_ms());
            prop_assert_eq!(hold.level(), was.level());
            prop_assert_eq!(hold.owner(), was.owner());
            let (mut one, mut other) = ([0; LONGEST_SPELLED], [0; LONGEST_SPELLED]);
            prop_assert_eq!(hold.token_text(&mut one), was.token_text(&mut other));
            // A lease ends late, never early, and less than a millisecond late.
            let left = was.deadline().as_micros() - then.as_micros();
            let read_left = hold.deadline().as_micros() - now.as_micros();
            prop_assert!((left.max(0)..left.max(0) + 1_000).contains(&read_left), "{left} became {read_left}");
            prop_assert_eq!(now.ms_since(hold.granted_at()), then.ms_since(was.granted_at()));
            prop_assert_eq!(hold.is_live(now), was.is_live(then));
        }
        check_read(&bytes, now)?;
    }

    #[test]
    fn random_bytes_are_no_lock_or_a_sane_one(mut bytes in vec(any::<u8>(), 0..400), now in moments()) {
        check_read(&bytes, now)?;
        if let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        check_read(&bytes, now)?;
    }

    /// Bytes that look like holds for long enough to be believed nearly to the end.
    #[test]
    fn mangled_locks_are_no_locks_or_sane_ones(
        drafts in drafts(40),
        edits in vec((any::<prop::sample::Index>(), any::<u8>(), 0..5_usize, 0..5_usize), 1..4),
        now in moments(),
    ) {
        let mut bytes = encode(lock_of(&drafts, now).holds(), now);
        for (place, byte, removed, inserted) in edits {
            let from = place.index(bytes.len());
            let to = (from + removed).min(bytes.len());
            bytes.splice(from..to, std::iter::repeat_n(byte, inserted));
            if bytes.is_empty() {
                bytes.push(VERSION);
            }
        }
        check_read(&bytes, now)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_lock_cut_short_or_with_a_bit_turned_is_no_lock_or_a_sane_one(drafts in drafts(20), now in moments()) {
        let bytes = encode(lock_of(&drafts, now).holds(), now);
        for length in 0..bytes.len() {
            check_read(&bytes[..length], now)?;
        }
        for bit in 0..bytes.len() * 8 {
            let mut turned = bytes.clone();
            turned[bit / 8] ^= 1 << (bit % 8);
            check_read(&turned, now)?;
        }
    }
}

/// A hold of one byte of token, none of label, with its fixed part given.
fn raw_hold(
    fence: u64,
    lease_ms: u64,
    remaining_ms: u64,
    age_ms: u64,
    limit: u16,
    level: u16,
    token: u8,
) -> Vec<u8> {
    raw_hold_of(fence, lease_ms, remaining_ms, age_ms, (limit, 1), level, token)
}

fn raw_hold_of(
    fence: u64,
    lease_ms: u64,
    remaining_ms: u64,
    age_ms: u64,
    (limit, weight): (u16, u16),
    level: u16,
    token: u8,
) -> Vec<u8> {
    let parts = [remaining_ms != lease_ms, age_ms != 0, limit != 1, level != 1, weight != 1];
    let bits = parts.iter().rev().fold(0, |bits, is_there| bits << 1 | u8::from(*is_there));
    // The weight is the last of them, and has the last bit.
    let mut bytes = vec![bits & 0xf | (bits & 0x10) << 3];
    bytes.extend(fence.to_le_bytes());
    bytes.extend(lease_ms.to_le_bytes());
    let values = [
        remaining_ms.to_le_bytes().to_vec(),
        age_ms.to_le_bytes().to_vec(),
        limit.to_le_bytes().to_vec(),
        level.to_le_bytes().to_vec(),
        weight.to_le_bytes().to_vec(),
    ];
    bytes
        .extend(parts.into_iter().zip(values).filter(|(is_there, _)| *is_there).flat_map(|(_, value)| value));
    bytes.extend([1, token]);
    bytes
}

fn raw_lock(holds: &[Vec<u8>]) -> Vec<u8> {
    [VERSION].into_iter().chain(holds.concat()).collect()
}

#[test]
fn a_lock_that_no_sequence_of_grants_leads_to_is_refused_by_name() {
    let now = Moment::from_micros(7);
    let plain = |fence, limit, token| raw_hold(fence, 10, 10, 0, limit, 1, token);
    let damage = |holds: &[Vec<u8>]| decode_lock(&raw_lock(holds), now).err();
    assert_eq!(damage(&[plain(1, 1, b'a')]), None);
    assert_eq!(damage(&[plain(1, 2, b'a'), plain(2, 0, b'b')]), None);
    let heavy = |fence, limit, weight, token| raw_hold_of(fence, 10, 10, 0, (limit, weight), 1, token);
    assert_eq!(damage(&[heavy(1, 5, 3, b'a'), heavy(2, 0, 2, b'b')]), None);
    let impossible: [&[Vec<u8>]; 7] = [
        &[heavy(1, 5, 3, b'a'), heavy(2, 0, 3, b'b')],
        &[],
        &[plain(1, 1, b'a'), plain(2, 1, b'b')],
        &[plain(1, 1, b'a'), plain(2, 0, b'b')],
        &[plain(2, 0, b'a'), plain(1, 0, b'b')],
        &[plain(1, 0, b'a'), plain(1, 0, b'b')],
        &[plain(1, 0, b'a'), plain(2, 0, b'a')],
    ];
    for holds in impossible {
        assert!(matches!(damage(holds), Some(DecodeError::Impossible(_))), "{holds:?}");
    }
    let out_of_range = [
        raw_hold(0, 10, 10, 0, 1, 1, b'a'),
        raw_hold(HIGHEST_FENCE + 1, 10, 10, 0, 1, 1, b'a'),
        raw_hold(1, 0, 0, 0, 1, 1, b'a'),
        raw_hold(1, LONGEST_LEASE_MS + 1, 0, 0, 1, 1, b'a'),
        raw_hold(1, 10, 11, 0, 1, 1, b'a'),
        raw_hold(1, 10, 10, u64::MAX, 1, 1, b'a'),
        raw_hold(1, 10, 10, 0, 1, 0, b'a'),
        heavy(1, 1, 2, b'a'),
        heavy(1, 2, 3, b'a'),
        heavy(1, 0, 0, b'a'),
    ];
    for hold in out_of_range {
        assert!(matches!(damage(&[hold]), Some(DecodeError::OutOfRange(_))));
    }
    for version in (0..=u8::MAX).filter(|version| *version != VERSION) {
        let mut bytes = raw_lock(&[plain(1, 1, b'a')]);
        bytes[0] = version;
        assert_eq!(decode_lock(&bytes, now).err(), Some(DecodeError::UnknownVersion));
    }
}

/// The forms of a token are told apart by bits, and each token has one.
#[test]
fn a_token_travels_as_what_it_spells_and_in_no_other_way() {
    let now = Moment::from_micros(0);
    let texts: [(u8, &[u8]); 3] = [
        (1 << 4, b"07070707070707070707070707070707"),
        (1 << 6, b"07070707-0707-0707-0707-070707070707"),
        (0, b"07070707-0707-0707-0707-07070707070-"),
    ];
    for (bit, text) in texts {
        let token = Token::from_text(text).unwrap();
        let terms =
            Terms { token: &token, share: Share::EXCLUSIVE, lease_ms: 10, owner: None, session: None };
        let hold = Hold::grant(terms, Fence::new(1).unwrap(), now);
        let start = [vec![VERSION, bit], 1_u64.to_le_bytes().to_vec(), 10_u64.to_le_bytes().to_vec()];
        let as_text = [vec![u8::try_from(text.len()).unwrap()], text.to_vec()].concat();
        let end = if bit == 0 { as_text.clone() } else { vec![7; 16] };
        assert_eq!(encode([&hold], now), [start.concat(), end].concat());
        let decoded = |is_whole| Ok(Decoded { holds: vec![hold.clone()], is_whole });
        assert_eq!(decode(&encode([&hold], now), now), decoded(false));
        assert_eq!(decode(&encode_one(&hold, true, now), now), decoded(true));
        // Spelled out where it need not be.
        let mut spelled = start.concat();
        spelled[1] = 0;
        let spelled = [spelled, as_text].concat();
        assert_eq!(decode(&spelled, now).is_ok(), bit == 0);
    }
    let mut both = vec![VERSION, 1 << 4 | 1 << 6];
    both.extend(1_u64.to_le_bytes());
    both.extend(10_u64.to_le_bytes());
    both.extend([7; 16]);
    assert_eq!(decode(&both, now), Err(DecodeError::OutOfRange("set of parts")));
}

#[test]
fn as_many_holds_as_the_bytes_can_carry_take_memory_in_proportion() {
    let now = Moment::from_micros(0);
    let shared = |fence: u64| {
        let mut hold = raw_hold(fence, 10, 10, 0, 0, 1, 0);
        // Two bytes of token, so that each can have its own.
        let token = u16::try_from(fence).unwrap().to_le_bytes();
        hold.truncate(hold.len() - 2);
        hold.extend([2, token[0], token[1]]);
        hold
    };
    let holds: Vec<Vec<u8>> = (1..=10_000).map(shared).collect();
    let bytes = raw_lock(&holds);
    let lock = decode_lock(&bytes, now).unwrap();
    assert_eq!(lock.holds().len(), holds.len());
    assert!(lock.heap_size() <= 16 * bytes.len(), "{} of {}", lock.heap_size(), bytes.len());
}
