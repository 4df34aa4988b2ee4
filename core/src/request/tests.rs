//! What the commands say, word by word.

use super::values::LONGEST_WAIT_MS;
use super::*;
use crate::share::Limit;

const RULES: LeaseRules = LeaseRules { default_ms: 30_000, longest_ms: 86_400_000 };

fn acquire(line: &str) -> Result<Acquire<'_>, Refusal> {
    Acquire::parse(line.split_ascii_whitespace().map(str::as_bytes), RULES)
}

#[test]
fn options_come_in_any_order_and_case() {
    let wanted = Acquire {
        token: Token::from_text(b"t"),
        lease_ms: 5_000,
        asked: AskedShare { limit: Some(Limit::from_number(3)), weight: Some(2) },
        block_ms: Some(700),
        queue_ms: None,
        owner: Some(b"me"),
        session_delay_ms: Some(0),
        level: Some(2),
    };
    assert_eq!(
        acquire("PX 5000 TOKEN t LIMIT 3 WEIGHT 2 BLOCK 700 OWNER me SESSION LEVEL 2"),
        Ok(wanted.clone())
    );
    assert_eq!(acquire("level 2 owner me weight 2 Limit 3 token t bloCK 700 eX 5 session"), Ok(wanted));
    let nothing_named = Acquire {
        token: None,
        lease_ms: 30_000,
        asked: AskedShare::default(),
        block_ms: None,
        queue_ms: None,
        owner: None,
        session_delay_ms: None,
        level: None,
    };
    assert_eq!(acquire(""), Ok(nothing_named));
    assert_eq!(acquire("SHARED").map(|request| request.asked.limit), Ok(Some(Limit::SHARED)));
    let delay = |line| acquire(line).map(|request| request.session_delay_ms);
    assert_eq!((delay("SESSION DELAY 300"), delay("delay 300 session")), (Ok(Some(300)), Ok(Some(300))));
    assert_eq!(acquire("TOKEN px OWNER SHARED").map(|request| request.owner), Ok(Some(&b"SHARED"[..])));
}

#[test]
fn what_is_no_sentence_is_a_syntax_error_whatever_its_values() {
    for line in [
        "PX",
        "PX 1 PX 1",
        "PX 1 EX 1",
        "EX 1 px 1",
        "SHARED SHARED",
        "SHARED LIMIT 2",
        "LIMIT 2 SHARED",
        "LIMIT",
        "TOKEN",
        "TOKEN a TOKEN a",
        "OWNER",
        "WEIGHT",
        "WEIGHT 1 WEIGHT 1",
        "OWNER a OWNER b",
        "FENCE 1",
        "BLOCK",
        "BLOCK 1 BLOCK 1",
        "SESSION SESSION",
        "DELAY 1",
        "SESSION DELAY",
        "SESSION DELAY 1 DELAY 1",
        "TOKEN t QUEUE 1 DELAY 1",
        "DELAY 0 PX 0",
        "REENTRANT",
        "QUEUE",
        "QUEUE 1 QUEUE 1 TOKEN t",
        "QUEUE 1 SESSION TOKEN t",
        "SESSION QUEUE 0",
        "LEVEL",
        "LEVEL 1 level 1",
        "PXX 1",
        "PX abc bogus",
        "LIMIT 0 LIMIT 0",
        "nonsense",
    ] {
        assert_eq!(acquire(line), Err(Refusal::Syntax), "{line}");
    }
}

#[test]
fn values_out_of_range_say_which() {
    let expire = || Refusal::InvalidExpire("lock.acquire");
    for (line, refusal) in [
        ("PX 0", expire()),
        ("PX -1", expire()),
        ("PX 86400001", expire()),
        ("EX 86401", expire()),
        ("EX 9223372036854775807", expire()),
        ("PX -9223372036854775808", expire()),
        ("PX 9223372036854775808", Refusal::NotAnInteger),
        ("SESSION DELAY 0", expire()),
        ("SESSION DELAY -1", expire()),
        ("SESSION DELAY 86400001", expire()),
        ("SESSION DELAY x", Refusal::NotAnInteger),
        ("PX 1.5", Refusal::NotAnInteger),
        ("PX +1", Refusal::NotAnInteger),
        ("PX 01", Refusal::NotAnInteger),
        ("PX -0", Refusal::NotAnInteger),
        ("PX -", Refusal::NotAnInteger),
        ("PX 1e3", Refusal::NotAnInteger),
        ("LIMIT 0", Refusal::LimitRange),
        ("LIMIT 65536", Refusal::LimitRange),
        ("LIMIT -1", Refusal::LimitRange),
        ("LIMIT x", Refusal::NotAnInteger),
        ("WEIGHT 0", Refusal::WeightRange),
        ("WEIGHT 0 SHARED", Refusal::WeightRange),
        ("WEIGHT -1 LIMIT 2", Refusal::WeightRange),
        ("WEIGHT 3 LIMIT 2", Refusal::WeightRange),
        ("WEIGHT 65536 SHARED", Refusal::WeightRange),
        ("WEIGHT x LIMIT 2", Refusal::NotAnInteger),
        ("LEVEL 0", Refusal::LevelRange),
        ("LEVEL 65536", Refusal::LevelRange),
        ("LEVEL -1", Refusal::LevelRange),
        ("LEVEL x", Refusal::NotAnInteger),
        ("BLOCK -1", Refusal::NegativeTimeout),
        ("BLOCK 3153600000001", Refusal::TimeoutRange),
        ("BLOCK 0.5", Refusal::NotAnInteger),
        ("QUEUE 1", Refusal::QueueWithoutToken),
        ("QUEUE 0", Refusal::QueueWithoutToken),
        ("QUEUE 0 TOKEN t", Refusal::TimeoutRange),
        ("QUEUE -1 TOKEN t", Refusal::NegativeTimeout),
        ("QUEUE 3153600000001 TOKEN t", Refusal::TimeoutRange),
        ("QUEUE x TOKEN t", Refusal::NotAnInteger),
    ] {
        assert_eq!(acquire(line), Err(refusal), "{line}");
    }
    let longest = acquire("queue 3153600000000 TOKEN t").map(|request| request.queue_ms);
    assert_eq!(longest, Ok(NonZeroU64::new(LONGEST_WAIT_MS)));
    assert_eq!(acquire("PX 86400000").map(|request| request.lease_ms), Ok(86_400_000));
    assert_eq!(
        acquire("LIMIT 65535").map(|request| request.asked.limit),
        Ok(Some(Limit::from_number(65_535)))
    );
}

#[test]
fn integers_are_read_up_to_their_ends() {
    for number in [i64::MIN, i64::MIN + 1, -10, -1, 0, 1, 9, 10, i64::MAX - 1, i64::MAX] {
        assert_eq!(parse_integer(alloc::format!("{number}").as_bytes()), Ok(number));
    }
    for text in
        ["9223372036854775808", "-9223372036854775809", "99999999999999999999", "-", "", "-0", "00", "1 "]
    {
        assert_eq!(parse_integer(text.as_bytes()), Err(Refusal::NotAnInteger), "{text}");
    }
}

#[test]
fn labels_and_tokens_have_their_lengths() {
    let parse = |words: [&[u8]; 2]| Acquire::parse(words.into_iter(), RULES).err();
    assert_eq!(parse([b"TOKEN", &[0; 255]]), None);
    assert_eq!(parse([b"TOKEN", &[0; 256]]), Some(Refusal::TokenLength));
    assert_eq!(parse([b"TOKEN", b""]), Some(Refusal::TokenLength));
    assert_eq!(parse([b"OWNER", b""]), None);
    assert_eq!(parse([b"OWNER", &[0; 255]]), None);
    assert_eq!(parse([b"OWNER", &[0; 256]]), Some(Refusal::OwnerLength));
}
