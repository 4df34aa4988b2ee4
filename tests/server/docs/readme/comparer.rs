//! The comparer of sessions, which must notice what is wrong.

use super::{DOCUMENTS, file};
use crate::docs::sections;
use crate::support::transcript::{Kind, Known, SLACK_MS, kind, steps, without_what_is_left_out, words};

const TOKENS: [&str; 2] = ["00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100"];
const FENCES: [&str; 2] = ["1700000000000001", "1700000000000002"];

/// Compares two outputs of a command, line by line, from nothing known.
fn is_alike(command: &str, written: &[&str], real: &[&str]) -> bool {
    Known::default().compare(command, written, real).is_ok()
}

#[test]
fn the_comparer_takes_what_differs_only_in_tokens_fences_and_time() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("PING", &["PONG"], &["PONG"]),
        ("LOCK.INFO k", &["1# \"holders\" =>"], &["1# \"holders\" => "]),
        (
            "LOCK.ACQUIRE k",
            &["1) \"00112233445566778899aabbccddeeff\""],
            &["1) \"ffeeddccbbaa99887766554433221100\""],
        ),
        ("LOCK.ACQUIRE k", &["2) (integer) 1700000000000001"], &["2) (integer) 1700000000000002"]),
        ("LOCK.CHECK k t", &["2) (integer) 50000"], &["2) (integer) 70000"]),
        ("LOCK.INFO k", &["5# \"remaining\" => (integer) 50"], &["5# \"remaining\" => (integer) 7"]),
        ("LOCK.INFO k", &["8# \"age\" => (integer) 50"], &["8# \"age\" => (integer) 7"]),
        ("LOCK.INFO k", &["3# \"waited\" => (integer) 50"], &["3# \"waited\" => (integer) 7"]),
        ("LOCK.INFO k", &["4# \"timeout\" => (integer) 50"], &["4# \"timeout\" => (integer) 7"]),
        ("LOCK.INFO k", &[" 9) \"remaining\"", "10) (integer) 5"], &[" 9) \"remaining\"", "10) (integer) 7"]),
        ("LOCK.INFO k", &["15) \"age\"", "16) (integer) 5"], &["15) \"age\"", "16) (integer) 7"]),
    ];
    for (command, written, real) in cases {
        assert!(is_alike(command, written, real), "{command}: {written:?} and {real:?}");
        assert!(is_alike(command, real, written), "{command}: {real:?} and {written:?}");
    }
}

#[test]
fn the_comparer_notices_every_other_difference() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("PING", &["PONG"], &["PONK"]),
        ("PING", &["PONG"], &["PON"]),
        ("PING", &["PONG"], &[]),
        ("PING", &[], &["PONG"]),
        ("PING", &["PONG"], &["PONG", "PONG"]),
        ("PING", &["PONG"], &[" PONG"]),
        ("LOCK.RELEASE k t", &["(integer) 1"], &["(integer) 0"]),
        ("LOCK.RELEASE k t", &["(integer) 1"], &["(integer) 10"]),
        ("LOCK.ACQUIRE k", &["(nil)"], &["(error) ERR syntax error"]),
        ("LOCK.ACQUIRE k", &["(error) ERR syntax error"], &["(error) ERR syntax  error"]),
        ("LOCK.ACQUIRE k", &["1) \"00112233445566778899aabbccddeeff\""], &["1) \"mine\""]),
        ("LOCK.ACQUIRE k", &["1) \"mine\""], &["1) \"00112233445566778899aabbccddeeff\""]),
        ("LOCK.ACQUIRE k", &["00112233445566778899aabbccddeeff"], &["00112233445566778899AABBCCDDEEFF"]),
        ("LOCK.ACQUIRE k", &["00112233445566778899aabbccddeeff"], &["00112233445566778899aabbccddeef"]),
        ("LOCK.ACQUIRE k", &["2) (integer) 1700000000000001"], &["2) (integer) 170000000000001"]),
        ("LOCK.ACQUIRE k", &["2) (integer) 1700000000000001"], &["2) \"1700000000000001\""]),
        ("LOCK.CHECK k t", &["2) (integer) 50000"], &["2) (integer) 70001"]),
        ("LOCK.CHECK k t", &["2) (integer) 50000"], &["2) (integer) 29999"]),
        ("LOCK.CHECK k t", &["2) (integer) 50000"], &["2) (nil)"]),
        ("LOCK.CHECK k t", &["2) (integer) 50000"], &["2) (integer) -1"]),
        ("LOCK.CHECK k t", &["1) (integer) 50000"], &["1) (integer) 50001"]),
        ("LOCK.ACQUIRE k", &["2) (integer) 50000"], &["2) (integer) 50001"]),
        ("LOCK.INFO k", &["4# \"lease\" => (integer) 90000"], &["4# \"lease\" => (integer) 90001"]),
        ("LOCK.INFO k", &["\"lease\"", "4) (integer) 90000"], &["\"lease\"", "4) (integer) 90001"]),
        ("LOCK.INFO k", &["5# \"age\" => (integer) 5"], &["6# \"age\" => (integer) 5"]),
        ("LOCK.INFO k", &["5# \"age\" => (integer) 5"], &["5# \"age\" => (integer) 20006"]),
        ("LOCK.INFO k", &["4# \"timeout\" => (integer) 5"], &["4# \"timeout\" => (integer) -1"]),
        ("LOCK.INFO k", &["4# \"timeout\" => (integer) 50000"], &["4# \"timeout\" => (integer) -1"]),
        ("LOCK.ACQUIRE k BLOCK 0", &["(waits)"], &["(nil)"]),
    ];
    for (command, written, real) in cases {
        assert!(!is_alike(command, written, real), "{command}: {written:?} taken for {real:?}");
        assert!(!is_alike(command, real, written), "{command}: {real:?} taken for {written:?}");
    }
}

#[test]
fn three_points_stand_for_what_is_left_out_and_for_no_more() {
    let is_alike = |written: &[&str], real: &[&str]| {
        let (written, real) = without_what_is_left_out(written, real);
        is_alike("INFO", &written, &real)
    };
    let real = ["# Memory", "used:5", "used_peak:7", "policy:noeviction", "end:1"];
    for written in [
        &["# Memory", "...", "policy:noeviction", "..."] as &[&str],
        &["...", "used:5", "used_peak:7", "...", "end:1"],
        &["# Memory", "used:...", "...", "end:1"],
        &["...", "policy:no...", "end:1"],
        &["..."],
    ] {
        assert!(is_alike(written, &real), "{written:?}");
    }
    for written in [
        &["# Memory", "...", "policy:allkeys", "..."] as &[&str],
        &["# Memory", "...", "policy:noeviction"],
        &["# Memory", "policy:noeviction", "..."],
        &["...", "missing:1", "..."],
        &["...", "end:1", "...", "used:5"],
        &["# Memory", "free:...", "..."],
        &["...", "end:1", "end:1"],
    ] {
        assert!(!is_alike(written, &real), "{written:?}");
    }
}

#[test]
fn the_comparer_remembers_who_stands_for_whom() {
    let [a, b] = TOKENS;
    let [one, two] = FENCES;
    // The same twice is the same twice, two are two, and fences keep their order.
    for (written, real, alike) in [
        ([a, a], [b, b], true),
        ([a, b], [b, a], true),
        ([a, a], [a, b], false),
        ([a, b], [a, a], false),
        ([one, one], [two, two], true),
        ([one, two], [one, two], true),
        ([one, one], [one, two], false),
        ([one, two], [one, one], false),
        ([one, two], [two, one], false),
    ] {
        assert_eq!(is_alike("ECHO", &written, &real), alike, "{written:?} and {real:?}");
    }
    let mut known = Known::default();
    known.compare("LOCK.ACQUIRE k", &[a, one], &[b, two]).unwrap();
    assert_eq!(known.to_real(&format!("LOCK.RELEASE k {a}")), Ok(format!("LOCK.RELEASE k {b}")));
    assert_eq!(known.to_real(&format!("LOCK.BREAK k FENCE {one}")), Ok(format!("LOCK.BREAK k FENCE {two}")));
    for stranger in [b, two] {
        assert!(known.to_real(&format!("LOCK.RELEASE k {stranger}")).is_err(), "{stranger} never appeared");
    }
}

/// Whatever word of an output in a document were another one, its test would fail.
#[test]
fn every_word_of_every_session_counts() {
    let documents = DOCUMENTS.iter().map(|(document, _)| document).chain(&sections::PAGES);
    for step in documents.flat_map(|document| steps(&file(document))) {
        let written: Vec<&str> = step.output.iter().map(String::as_str).collect();
        let (written, _) = without_what_is_left_out(&written, &written);
        let command = step.command.text();
        assert!(is_alike(command, &written, &written), "line {}", step.line);
        for (row, line) in written.iter().enumerate() {
            let words = words(line);
            for (column, word) in words.iter().enumerate() {
                let stands_for = kind(word) != Kind::Itself;
                let mut changed: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
                changed[column] = match word.parse::<i64>() {
                    Ok(number) if !stands_for => (number + SLACK_MS + 1).to_string(),
                    _ => format!("{word}0"),
                };
                let changed = changed.concat();
                let mut real = written.clone();
                real[row] = &changed;
                assert!(!is_alike(command, &written, &real), "line {}: {line} or {changed}", step.line);
            }
        }
    }
}
