//! The grammar of the commands under words of every kind: none brings it down, none gets a value through that is out of
//! its range, and the order of the options means nothing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::num::NonZeroU64;

use lock_core::request::{Acquire, Break, BreakTarget, Extend, LeaseRules, Release, distinct, parse_token};
use lock_core::token::LONGEST_SPELLED;
use lock_core::{AskedShare, Fence, Limit, Refusal, Token};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

const RULES: LeaseRules = LeaseRules { default_ms: 30_000, longest_ms: 86_400_000 };

type Word = Vec<u8>;

/// Words of every kind: options, numbers in and out of range, and bytes.
fn words() -> impl Strategy<Value = Vec<Word>> {
    let option = select(vec![
        "PX", "EX", "TOKEN", "SHARED", "LIMIT", "OWNER", "FENCE", "BLOCK", "QUEUE", "SESSION", "DELAY",
        "LEVEL",
    ]);
    let number = prop_oneof![
        select(vec![
            "0",
            "-0",
            "1",
            "-1",
            "+1",
            "01",
            "1.5",
            "1e3",
            "",
            " 1",
            "1 ",
            "65535",
            "65536",
            "86400",
            "86401",
            "86400000",
            "86400001",
            "9007199254740992",
            "9223372036854775807",
            "9223372036854775808",
            "-9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999999999",
        ])
        .prop_map(str::to_owned),
        any::<i64>().prop_map(|number| number.to_string()),
        (1..=100_000_i64).prop_map(|number| number.to_string()),
    ];
    let word = prop_oneof![
        5 => cased(option),
        4 => number.prop_map(String::into_bytes),
        2 => vec(any::<u8>(), 0..40),
        1 => vec(any::<u8>(), 250..260),
    ];
    vec(word, 0..9)
}

/// The word in any mixture of cases.
fn cased(word: impl Strategy<Value = &'static str>) -> impl Strategy<Value = Word> {
    (word, any::<u32>()).prop_map(|(word, cases)| {
        let letters = word.bytes().enumerate();
        letters
            .map(|(at, letter)| if cases >> at & 1 == 1 { letter.to_ascii_lowercase() } else { letter })
            .collect()
    })
}

fn slices(words: &[Word]) -> impl Iterator<Item = &[u8]> {
    words.iter().map(Vec::as_slice)
}

fn text(token: &Token) -> Word {
    token.text(&mut [0; LONGEST_SPELLED]).to_vec()
}

/// An option with its words, and what it says if its value is in range.
#[derive(Clone, Debug)]
enum Said {
    Lease(Result<u64, ()>),
    Token(Word),
    Limit(Result<Limit, ()>),
    Weight(Result<u16, ()>),
    Owner(Word),
    Queue(Result<NonZeroU64, Refusal>),
    Session(Result<u64, ()>),
}

fn lease_option() -> impl Strategy<Value = (Vec<Word>, Said)> {
    let number =
        prop_oneof![1..=100_i64, 86_000..=87_000_i64, 86_399_999..=86_400_002_i64, -5..=0_i64, any::<i64>()];
    (number, any::<bool>(), any::<u32>()).prop_flat_map(|(number, seconds, _)| {
        let ms = if seconds { number.checked_mul(1_000) } else { Some(number) };
        let said = ms.filter(|ms| (1..=86_400_000).contains(ms)).map(|ms| ms.unsigned_abs()).ok_or(());
        let name = if seconds { "EX" } else { "PX" };
        cased(Just(name))
            .prop_map(move |name| (vec![name, number.to_string().into_bytes()], Said::Lease(said)))
    })
}

fn token_option() -> impl Strategy<Value = (Vec<Word>, Said)> {
    let token =
        prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 254..258), cased(select(vec!["PX", "OWNER"]))];
    (cased(Just("TOKEN")), token).prop_map(|(name, token)| (vec![name, token.clone()], Said::Token(token)))
}

fn limit_option() -> impl Strategy<Value = (Vec<Word>, Said)> {
    let number = prop_oneof![-1..=3_i64, 65_534..=65_537_i64, any::<i64>()];
    let numbered = (cased(Just("LIMIT")), number).prop_map(|(name, number)| {
        let limit =
            u16::try_from(number).ok().filter(|number| *number >= 1).map(Limit::from_number).ok_or(());
        (vec![name, number.to_string().into_bytes()], Said::Limit(limit))
    });
    let shared = cased(Just("SHARED")).prop_map(|name| (vec![name], Said::Limit(Ok(Limit::SHARED))));
    prop_oneof![numbered, shared]
}

fn weight_option() -> impl Strategy<Value = (Vec<Word>, Said)> {
    let number = prop_oneof![-1..=3_i64, 65_534..=65_537_i64, any::<i64>()];
    (cased(Just("WEIGHT")), number).prop_map(|(name, number)| {
        let weight = u16::try_from(number).ok().filter(|weight| *weight >= 1).ok_or(());
        (vec![name, number.to_string().into_bytes()], Said::Weight(weight))
    })
}

fn owner_option() -> impl Strategy<Value = (Vec<Word>, Said)> {
    let owner =
        prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 254..258), cased(select(vec!["SHARED", "EX"]))];
    (cased(Just("OWNER")), owner).prop_map(|(name, owner)| (vec![name, owner.clone()], Said::Owner(owner)))
}

fn queue_option() -> impl Strategy<Value = (Vec<Word>, Said)> {
    let number = prop_oneof![-1..=2_i64, 3_153_599_999_999..=3_153_600_000_001_i64, any::<i64>()];
    (cased(Just("QUEUE")), number).prop_map(|(name, number)| {
        let said = match number {
            ..=-1 => Err(Refusal::NegativeTimeout),
            0 | 3_153_600_000_001.. => Err(Refusal::TimeoutRange),
            _ => Ok(NonZeroU64::new(number.unsigned_abs()).unwrap()),
        };
        (vec![name, number.to_string().into_bytes()], Said::Queue(said))
    })
}

fn session_option() -> impl Strategy<Value = (Vec<Word>, Said)> {
    let alone = cased(Just("SESSION")).prop_map(|name| (vec![name], Said::Session(Ok(0))));
    let number = prop_oneof![-1..=2_i64, 86_399_999..=86_400_001_i64, any::<i64>()];
    let delayed = (cased(Just("SESSION")), cased(Just("DELAY")), number, any::<bool>());
    let delayed = delayed.prop_map(|(session, delay, number, is_first)| {
        let said = u64::try_from(number).ok().filter(|ms| (1..=RULES.longest_ms).contains(ms)).ok_or(());
        let mut words = vec![session, delay, number.to_string().into_bytes()];
        if is_first {
            words.rotate_left(1);
        }
        (words, Said::Session(said))
    });
    prop_oneof![alone, delayed]
}

/// At most one of each, in any order. QUEUE excludes SESSION.
fn options() -> impl Strategy<Value = Vec<(Vec<Word>, Said)>> {
    (
        option::of(lease_option()),
        option::of(token_option()),
        option::of(limit_option()),
        option::of(weight_option()),
        option::of(owner_option()),
        option::of(prop_oneof![queue_option(), session_option()]),
    )
        .prop_map(|(lease, token, limit, weight, owner, stay)| {
            [lease, token, limit, weight, owner, stay].into_iter().flatten().collect()
        })
        .prop_shuffle()
}

fn sentence(options: &[(Vec<Word>, Said)]) -> Vec<Word> {
    options.iter().flat_map(|(words, _)| words.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn no_words_bring_the_grammar_down_or_get_a_value_out_of_range_through(words in words()) {
        if let Ok(request) = Acquire::parse(slices(&words), RULES) {
            prop_assert!((1..=RULES.longest_ms).contains(&request.lease_ms));
            prop_assert!(request.owner.is_none_or(|owner| owner.len() <= 255));
            prop_assert!(request.token.is_none_or(|token| (1..=255).contains(&text(&token).len())));
        }
        if let Ok(request) = Extend::parse(slices(&words), RULES) {
            prop_assert!(request.lease_ms.is_none_or(|lease_ms| (1..=RULES.longest_ms).contains(&lease_ms)));
            prop_assert_eq!(Some(text(&request.token)), words.first().cloned());
        }
        if let Ok(request) = Acquire::parse(slices(&words), RULES) {
            prop_assert!(request.level.is_none_or(|level| level >= 1));
            prop_assert!(request.queue_ms.is_none() || request.token.is_some() && request.session_delay_ms.is_none());
        }
        if let Ok(request) = Release::parse(slices(&words)) {
            prop_assert!(request.level >= 1 && [1, 3].contains(&words.len()));
            prop_assert_eq!(Some(text(&request.token)), words.first().cloned());
        }
        match Break::parse(slices(&words)) {
            Ok(request) => prop_assert_eq!(request.holds == BreakTarget::All, words.is_empty()),
            Err(refusal) => prop_assert!(matches!(refusal, Refusal::Syntax | Refusal::NotAnInteger)),
        }
    }

    #[test]
    fn an_acquire_says_what_its_options_say_in_whatever_order(options in options(), other_order in any::<u64>()) {
        let words = sentence(&options);
        let parsed = Acquire::parse(slices(&words), RULES);
        let mut shuffled = options.clone();
        let turn = usize::try_from(other_order % 4).unwrap().min(shuffled.len());
        shuffled.rotate_left(turn);
        shuffled.reverse();
        let again = sentence(&shuffled);
        prop_assert_eq!(&Acquire::parse(slices(&again), RULES), &parsed);

        let mut wanted = Acquire { token: None, lease_ms: RULES.default_ms, asked: AskedShare::default(), block_ms: None, queue_ms: None, owner: None, session_delay_ms: None, level: None };
        let mut refusals = Vec::new();
        for (_, said) in &options {
            match said {
                Said::Lease(Ok(lease_ms)) => wanted.lease_ms = *lease_ms,
                Said::Lease(Err(())) => refusals.push(Refusal::InvalidExpire("lock.acquire")),
                Said::Token(token) if (1..=255).contains(&token.len()) => wanted.token = Token::from_text(token),
                Said::Token(_) => refusals.push(Refusal::TokenLength),
                Said::Limit(Ok(limit)) => wanted.asked.limit = Some(*limit),
                Said::Limit(Err(())) => refusals.push(Refusal::LimitRange),
                Said::Weight(Ok(weight)) => wanted.asked.weight = Some(*weight),
                Said::Weight(Err(())) => refusals.push(Refusal::WeightRange),
                Said::Owner(owner) if owner.len() <= 255 => wanted.owner = Some(owner),
                Said::Owner(_) => refusals.push(Refusal::OwnerLength),
                Said::Queue(Ok(ms)) => wanted.queue_ms = Some(*ms),
                Said::Session(Ok(ms)) => wanted.session_delay_ms = Some(*ms),
                Said::Session(Err(())) => refusals.push(Refusal::InvalidExpire("lock.acquire")),
                Said::Queue(Err(refusal)) => refusals.push(refusal.clone()),
            }
        }
        let queues = options.iter().any(|(_, said)| matches!(said, Said::Queue(_)));
        let names_token = options.iter().any(|(_, said)| matches!(said, Said::Token(_)));
        if queues && !names_token {
            refusals.push(Refusal::QueueWithoutToken);
        }
        let AskedShare { limit, weight } = wanted.asked;
        if limit.zip(weight).is_some_and(|(limit, weight)| limit != Limit::SHARED && weight > limit.number()) {
            refusals.push(Refusal::WeightRange);
        }
        match parsed {
            Ok(request) => {
                prop_assert!(refusals.is_empty(), "passed over {refusals:?}");
                prop_assert_eq!(request, wanted);
            }
            Err(refusal) => prop_assert!(refusals.contains(&refusal), "{refusal} is none of {refusals:?}"),
        }
    }

    #[test]
    fn an_option_too_many_or_a_word_too_few_is_a_syntax_error_whatever_the_values(
        options in options(),
        again in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        prop_assume!(!options.is_empty());
        let mut words = sentence(&options);
        let (twice, _) = again.get(&options);
        if cut {
            // The last option loses its value; the ones without a value are repeated instead.
            let last = options.last().map_or(0, |(words, _)| words.len());
            if last == 2 { drop(words.pop()) } else { words.extend(twice.clone()) }
        } else {
            words.extend(twice.clone());
        }
        prop_assert_eq!(Acquire::parse(slices(&words), RULES), Err(Refusal::Syntax));
    }

    #[test]
    fn an_extend_takes_its_token_and_one_lease(token in vec(any::<u8>(), 0..260), lease in option::of(lease_option())) {
        let lease_words = lease.iter().flat_map(|(words, _)| words.clone());
        let words: Vec<Word> = [token.clone()].into_iter().chain(lease_words).collect();
        let sane_token = (1..=255).contains(&token.len());
        let parsed = Extend::parse(slices(&words), RULES);
        match lease.map(|(_, said)| said) {
            _ if !sane_token => prop_assert!(parsed.is_err()),
            Some(Said::Lease(Err(()))) => prop_assert_eq!(parsed, Err(Refusal::InvalidExpire("lock.extend"))),
            said => {
                let wanted = said.map(|said| match said {
                    Said::Lease(Ok(lease_ms)) => lease_ms,
                    other => panic!("a lease in range, not {other:?}"),
                });
                let request = parsed.unwrap();
                prop_assert_eq!(request.lease_ms, wanted);
                prop_assert_eq!(text(&request.token), token);
            }
        }
    }

    #[test]
    fn a_release_takes_any_level_from_1_to_65535(level in any::<i64>(), name in cased(Just("LEVEL"))) {
        let words = vec![b"t".to_vec(), name, level.to_string().into_bytes()];
        let wanted = u16::try_from(level).ok().filter(|level| *level >= 1).ok_or(Refusal::LevelRange);
        prop_assert_eq!(Release::parse(slices(&words)).map(|request| request.level), wanted);
        let again = [words.clone(), words[1..].to_vec()].concat();
        prop_assert_eq!(Release::parse(slices(&again)), Err(Refusal::Syntax));
        prop_assert_eq!(Release::parse(slices(&words[..1])).map(|request| request.level), Ok(1));
    }

    #[test]
    fn a_break_takes_any_integer_for_a_fence(fence in any::<i64>(), name in cased(Just("FENCE"))) {
        let words = vec![name, fence.to_string().into_bytes()];
        let named = u64::try_from(fence).ok().and_then(Fence::new);
        prop_assert_eq!(Break::parse(slices(&words)), Ok(Break { holds: named.map_or(BreakTarget::Nobody, BreakTarget::One) }));
        let again = [words.clone(), words].concat();
        prop_assert_eq!(Break::parse(slices(&again)), Err(Refusal::Syntax));
    }

    #[test]
    fn a_token_is_any_1_to_255_bytes(bytes in vec(any::<u8>(), 0..300)) {
        match parse_token(&bytes) {
            Ok(token) => {
                prop_assert!((1..=255).contains(&bytes.len()));
                prop_assert_eq!(text(&token), bytes);
            }
            Err(refusal) => {
                prop_assert_eq!(refusal, Refusal::TokenLength);
                prop_assert!(bytes.is_empty() || bytes.len() > 255);
            }
        }
    }

    #[test]
    fn a_key_that_is_named_again_counts_once(
        // Many alike, and many that differ in their middle only.
        keys in vec((any::<bool>(), vec(select(&b"ab"[..]), 0..4)).prop_map(|(is_long, middle)| {
            let (start, end): (&[u8], &[u8]) = if is_long { (b"account:", b":balance") } else { (b"", b"") };
            [start, &middle, end].concat()
        }), 0..40),
    ) {
        let mut once: Vec<&Word> = Vec::new();
        for key in &keys {
            if !once.contains(&key) {
                once.push(key);
            }
        }
        prop_assert_eq!(distinct(&keys), once);
    }
}
