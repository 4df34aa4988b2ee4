//! Pages of which each section is a session on a server of its own.

use super::readme::file;
use crate::support::Server;
use crate::support::transcript::{Known, Stage, Step, steps};

/// The pages.
pub(super) const PAGES: [&str; 2] = ["docs/runbooks.md", "docs/migration.md"];

/// The steps of the section with this title.
fn steps_of(page: &str, title: &str) -> Vec<Step> {
    let text = file(page);
    let heading_above =
        |line: usize| text.lines().take(line).filter_map(|line| line.strip_prefix("## ")).last();
    let steps: Vec<Step> =
        steps(&text).into_iter().filter(|step| heading_above(step.line) == Some(title)).collect();
    assert!(!steps.is_empty(), "{page}: the section {title} was not found");
    steps
}

/// Plays a section on a stage. `happens` is told of each step before it is done: its number from 0, and its command.
pub(super) fn play(page: &str, title: &str, mut stage: Stage<'_>, happens: impl Fn(usize, &str)) {
    let mut known = Known::default();
    for (number, step) in steps_of(page, title).iter().enumerate() {
        happens(number, step.command.text().trim());
        stage.play(page, step, &mut known);
    }
    stage.close();
}

/// Plays a section on one server, on which nothing happens but what is written.
pub(super) fn play_alone(page: &str, title: &str) {
    let server = Server::start();
    play(page, title, Stage::new(&server), |_, _| ());
}

/// Every section that has a session is played by a test, which names it.
#[test]
fn every_section_with_a_session_has_a_test() {
    let tests = [include_str!("runbooks.rs"), include_str!("migration.rs")];
    for (page, tests) in PAGES.into_iter().zip(tests) {
        let text = file(page);
        let sections: Vec<&str> = text.split("\n## ").skip(1).collect();
        assert!(sections.len() > 5, "{page}: {sections:?}");
        for section in sections.iter().filter(|section| section.contains("```console")) {
            let title = section.lines().next().unwrap();
            assert!(tests.contains(&format!("\"{title}\"")), "{page}: {title}");
        }
    }
}
