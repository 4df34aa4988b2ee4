//! The sessions on the pages, and the calls of a client library: they come out as they are written.

use super::{DOCUMENTS, file};
use crate::support::transcript::{Known, Stage, blocks, steps};
use crate::support::{Reply, Server, ok_grant};

#[test]
fn every_session_comes_out_as_it_is_written() {
    for (document, fewest) in DOCUMENTS {
        let server = Server::start();
        let (mut known, mut stage) = (Known::default(), Stage::new(&server));
        let steps = steps(&file(document));
        assert!(steps.len() >= fewest, "the sessions were not found: {steps:?}");
        for step in steps {
            stage.play(document, &step, &mut known);
        }
        stage.close();
    }
}

#[test]
fn the_calls_from_a_client_library_do_what_is_shown() {
    let server = Server::start();
    let mut client = server.client();
    let lines: Vec<String> =
        blocks(&file("docs/guide.md"), "python").into_iter().flat_map(|block| block.lines).collect();
    let calls: Vec<Vec<&str>> = lines.iter().filter_map(|line| words_of_call(line)).collect();
    let [take, give_back] = calls.as_slice() else { panic!("two calls were due: {calls:?}") };
    ok_grant(client.call(take));
    assert_eq!(client.call(give_back), Reply::Int(1));

    let block = take.iter().position(|word| *word == "BLOCK").unwrap();
    let block_ms: u64 = take[block + 1].parse().unwrap();
    let timeout = lines.iter().find_map(|line| line.split_once("socket_timeout=")).unwrap().1;
    let timeout_s: u64 = timeout.split_once(')').unwrap().0.parse().unwrap();
    assert!(timeout_s * 1000 > block_ms, "{timeout_s} s, BLOCK {block_ms}");
}

/// What a line of Python has the client send, names standing for themselves.
fn words_of_call(line: &str) -> Option<Vec<&str>> {
    let (_, words) = line.trim_end_matches(')').split_once("execute_command(")?;
    Some(words.split(", ").map(|word| word.trim_matches('"')).collect())
}
