//! The README and the pages for users and operators, held to their word: their sessions are run, their settings loaded, the
//! reference compared with the server's own.
//!
//! Their `console` blocks are sessions, see [`crate::support::transcript`].

mod building;
mod comparer;
mod configuration;
mod operators;
mod reference;
mod sessions;

use std::fs;
use std::path::PathBuf;

use crate::support::transcript::blocks;

const DOCUMENTS: [(&str, usize); 6] = [
    ("README.md", 3),
    ("docs/guide.md", 30),
    ("docs/commands.md", 2),
    ("docs/operations.md", 6),
    ("docs/clients.md", 6),
    ("docs/set-nx.md", 6),
];

pub(super) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(super) fn file(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn readme() -> String {
    file("README.md")
}

fn reference() -> String {
    file("docs/commands.md")
}

/// The words after `make`, in shell blocks and between backticks.
pub(super) fn make_calls(text: &str) -> Vec<Vec<String>> {
    let mut code: Vec<String> = blocks(text, "sh").into_iter().flat_map(|block| block.lines).collect();
    code.extend(text.split('`').skip(1).step_by(2).map(str::to_owned));
    let calls = code.iter().filter_map(|line| line.strip_prefix("make "));
    calls
        .map(|words| words.split_whitespace().take_while(|word| *word != "#").map(str::to_owned).collect())
        .collect()
}
