//! docs/migration.md, held to its word.

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
