//! docs/migration.md, held to its word.

use std::collections::{BTreeMap, BTreeSet};

use super::readme::file;
use super::sections::play_alone;
use crate::support::{Server, skip};

const PAGE: &str = "docs/migration.md";

#[test]
fn the_way() {
    play_alone(PAGE, "The way");
}

#[test]
fn old_and_new_clients_at_the_same_time() {
    play_alone(PAGE, "Old and new clients at the same time");
}

#[test]
fn strings_that_count_as_locks() {
    let server = Server::start();
    let mut client = server.client();
    if client.run("CONFIG GET lock.adopt-strings").items().is_empty() {
        return skip!(&mut client, "this module has no lock.adopt-strings");
    }
    play_alone(PAGE, "Strings that count as locks");
}

#[test]
fn the_way_back() {
    play_alone(PAGE, "The way back");
}

/// In the tables with a column for one of our clients, the page of that client knows every name.
#[test]
fn every_call_of_our_clients_is_one_of_theirs() {
    let mut names = 0;
    for (client, cells) in cells_of_clients() {
        let page = format!("clients/{client}/README.md");
        let text = file(&page);
        let known: BTreeSet<&str> = names_in(&text).collect();
        for code in cells.iter().flat_map(|cell| cell.split('`').skip(1).step_by(2)) {
            for name in names_in(code) {
                assert!(known.contains(name), "{page} does not know {name}, of {code}");
                names += 1;
            }
        }
    }
    assert!(names > 30, "the names were not found: {names}");
}

/// Words that are no numbers.
fn names_in(code: &str) -> impl Iterator<Item = &str> {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let words = code.split(move |letter: char| !is_part(letter));
    words.filter(|word| word.len() > 1 && !word.starts_with(|letter: char| letter.is_ascii_digit()))
}

/// For each client the cells below headings such as `clients/python`.
fn cells_of_clients() -> BTreeMap<String, Vec<String>> {
    let mut cells: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut client = None;
    for line in file(PAGE).lines() {
        let Some(row) = line.strip_prefix('|') else {
            client = None;
            continue;
        };
        let last = row.trim_end_matches('|').rsplit('|').next().unwrap().trim().to_owned();
        match (&client, last.strip_prefix("clients/")) {
            (None, Some(name)) => client = Some(name.to_owned()),
            (Some(client), _) => cells.entry(client.clone()).or_default().push(last),
            (None, None) => {}
        }
    }
    cells
}
