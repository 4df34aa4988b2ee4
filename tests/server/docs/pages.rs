//! The pages for readers of the code: what they name is there, and what refers to them finds it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::readme::{file, make_calls, root};

/// Every page, and the folder from which its links lead.
const PAGES: [(&str, &str); 30] = [
    ("README.md", ""),
    ("CONTRIBUTING.md", ""),
    ("CHANGELOG.md", ""),
    ("SECURITY.md", ""),
    ("docs/commands.md", "docs"),
    ("docs/guide.md", "docs"),
    ("docs/install.md", "docs"),
    ("docs/support.md", "docs"),
    ("docs/benchmarks.md", "docs"),
    ("docs/benchmarks-targets.md", "docs"),
    ("docs/peers.md", "docs"),
    ("benches/peers/README.md", "benches/peers"),
    ("docs/clients.md", "docs"),
    ("docs/cost.md", "docs"),
    ("docs/design.md", "docs"),
    ("docs/losses.md", "docs"),
    ("docs/migration.md", "docs"),
    ("docs/operations.md", "docs"),
    ("docs/runbooks.md", "docs"),
    ("contrib/containers/README.md", "contrib/containers"),
    ("contrib/monitoring/README.md", "contrib/monitoring"),
    ("docs/set-nx.md", "docs"),
    ("tests/README.md", "tests"),
    ("clients/README.md", "clients"),
    ("clients/cases/README.md", "clients/cases"),
    ("clients/python/README.md", "clients/python"),
    ("clients/typescript/README.md", "clients/typescript"),
    ("clients/rust/README.md", "clients/rust"),
    ("clients/go/README.md", "clients/go"),
    ("clients/java/README.md", "clients/java"),
];

/// Pages that name files, tests and targets.
const FOR_DEVELOPERS: [&str; 4] = ["CONTRIBUTING.md", "docs/design.md", "docs/losses.md", "tests/README.md"];

const SOURCES: [&str; 4] = ["core", "src", "tests", "checker"];

#[test]
fn every_link_leads_somewhere() {
    let mut links = 0;
    for (page, folder) in PAGES {
        for line in file(page).lines() {
            for rest in line.split("](").skip(1) {
                links += 1;
                let link = rest.split_once(')').unwrap().0;
                if link.starts_with("https://") {
                    continue;
                }
                let (path, heading) = link.split_once('#').unwrap_or((link, ""));
                let target = if path.is_empty() { root().join(page) } else { root().join(folder).join(path) };
                let text =
                    fs::read_to_string(&target).unwrap_or_else(|error| panic!("{page}: {link}: {error}"));
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                assert!(
                    heading.is_empty() || headings.any(|title| anchor(title) == heading),
                    "{page}: {link}"
                );
            }
        }
    }
    assert!(links >= 30, "the links were not found: {links}");
}

#[test]
fn every_page_that_an_alert_names_is_there() {
    let alerts = file("contrib/monitoring/alerts.yml");
    let pages: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("runbook: ")).collect();
    assert!(pages.len() > 10, "the pages were not found: {pages:?}");
    assert_eq!(pages.len(), alerts.matches("- alert: ").count(), "each alert names one");
    for page in pages {
        let (path, heading) = page.split_once('#').unwrap_or((page, ""));
        let text = file(path);
        let mut headings = text.lines().filter(|line| line.starts_with('#'));
        assert!(heading.is_empty() || headings.any(|title| anchor(title) == heading), "{page}");
    }
}

/// What a link to a heading names, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let title = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    title.chars().filter(|letter| letter.is_alphanumeric() || *letter == '-').collect()
}

#[test]
fn every_file_test_and_target_that_is_named_is_there() {
    let sources = sources();
    let makefile = file("Makefile");
    let mut seen = 0;
    for page in FOR_DEVELOPERS {
        let text = file(page);
        for word in in_backticks(&text) {
            if is_path(word) {
                assert!(root().join(word).exists(), "{page}: {word}");
                seen += 1;
            } else if let Some((_, name)) = word.rsplit_once("::").filter(|_| is_test_path(word)) {
                let is_there = |text: &String| {
                    text.contains(&format!("fn {name}(")) || text.contains(&format!("mod {name};"))
                };
                assert!(sources.iter().any(|(_, text)| is_there(text)), "{page}: {word}");
                seen += 1;
            }
        }
        for call in make_calls(&text) {
            let rule = format!("{}: ", call[0]);
            assert!(makefile.lines().any(|line| line.starts_with(&rule)), "{page}: make {}", call[0]);
        }
    }
    assert!(seen >= 60, "what is named was not found: {seen}");
}

/// A path from the root. LOCK.PEEK is the example of a command that is not there.
fn is_path(word: &str) -> bool {
    let is_of_tree = word.split_once('/').is_some_and(|(folder, _)| {
        SOURCES.contains(&folder) || ["docs", "scripts", "benches", "contrib"].contains(&folder)
    });
    is_of_tree && !word.contains([' ', '*']) && !word.contains("peek")
}

fn is_test_path(word: &str) -> bool {
    let folder = word.split("::").next().unwrap();
    word.chars().all(|letter| letter.is_ascii_lowercase() || "_:".contains(letter))
        && root().join("tests/server").join(folder).is_dir()
}

fn in_backticks(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().filter(|line| !line.starts_with("```"));
    lines.flat_map(|line| line.split('`').skip(1).step_by(2))
}

#[test]
fn every_rule_that_is_referred_to_is_in_the_design() {
    let design = file("docs/design.md");
    let rules: Vec<String> = design
        .lines()
        .filter_map(|line| line.strip_prefix("- **")?.split_once(". "))
        .map(|(rule, _)| rule.to_owned())
        .filter(|rule| is_rule(rule))
        .collect();
    let known: BTreeSet<String> = rules.iter().cloned().collect();
    assert_eq!(known.len(), rules.len(), "a number stands for one rule: {rules:?}");
    assert!(known.len() > 30, "the rules were not found: {known:?}");
    let mut texts = sources();
    texts.extend(PAGES.map(|(page, _)| (page.to_owned(), file(page))));
    let mut referred = BTreeSet::new();
    for (name, text) in texts {
        let comments =
            text.lines().filter(|line| name.ends_with(".md") || line.trim_start().starts_with("//"));
        for word in comments.flat_map(|line| line.split(|letter: char| !letter.is_ascii_alphanumeric())) {
            if is_rule(word) {
                assert!(known.contains(word), "{name}: {word}");
                referred.insert(word.to_owned());
            }
        }
    }
    assert!(referred.len() > 20, "references were not found: {referred:?}");
}

/// Rules are named by a letter and a number. F, T and others stand for something else.
fn is_rule(word: &str) -> bool {
    let is_number =
        |rest: &str| !rest.is_empty() && rest.len() <= 2 && rest.bytes().all(|byte| byte.is_ascii_digit());
    word.strip_prefix(['G', 'W', 'L', 'S', 'R', 'C']).is_some_and(is_number)
}

#[test]
fn every_invariant_is_named_in_the_design() {
    let design = file("docs/design.md");
    let invariants = file("core/src/invariants.rs");
    let names: Vec<&str> = invariants
        .lines()
        .filter_map(|line| line.strip_prefix("pub fn ")?.split_once('('))
        .map(|(name, _)| name)
        .collect();
    assert!(names.len() >= 9, "the invariants were not found: {names:?}");
    for name in names {
        assert!(design.contains(&format!("`{name}`")), "{name}");
        let is_checked =
            |(file, text): &(String, String)| file.starts_with("core/tests") && text.contains(name);
        assert!(sources().iter().any(is_checked), "no test of the core checks {name}");
    }
}

/// A test file that its folder does not name is not compiled, and nothing fails.
#[test]
fn every_test_file_is_compiled() {
    let mut seen = 0;
    let mut folders = vec![root().join("tests/server")];
    while let Some(folder) = folders.pop() {
        let map = ["mod.rs", "main.rs"].iter().find_map(|name| fs::read_to_string(folder.join(name)).ok());
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let holds_files = path.join("mod.rs").exists();
            let is_file = path.extension().is_some_and(|extension| extension == "rs");
            if (is_file && !["mod", "main"].contains(&name)) || holds_files {
                let line = format!("mod {name};");
                let declared = map.as_ref().is_some_and(|map| map.lines().any(|declared| declared == line));
                assert!(declared, "{}", path.display());
                seen += 1;
            }
            if holds_files {
                folders.push(path);
            }
        }
    }
    assert!(seen > 40, "the files were not found: {seen}");
}

/// The name and the text of every source file.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    SOURCES.iter().for_each(|folder| collect(&root().join(folder), &mut found));
    assert!(found.len() > 100, "the sources were not found");
    found
}

fn collect(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
}
