//! How the module is built: the targets of make and their variables, and what has to be installed.

use std::fs;

use super::{file, make_calls, readme, root};
use crate::support::transcript::blocks;

#[test]
fn every_make_target_and_variable_is_there() {
    let makefile = file("Makefile");
    let scripts: String = fs::read_dir(root().join("scripts"))
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    let calls = make_calls(&readme());
    for used in ["run", "test", "test-matrix", "build", "check", "bench"] {
        assert!(calls.iter().any(|call| call[0] == used), "make {used} is not in {calls:?}");
    }
    for words in calls {
        for word in words {
            match word.split_once('=') {
                Some((variable, _)) => assert!(scripts.contains(&format!("${{{variable}:-")), "{word}"),
                None => {
                    let rule = format!("{word}: ");
                    assert!(makefile.lines().any(|line| line.starts_with(&rule)), "make {word}");
                }
            }
        }
    }
}

#[test]
fn what_to_install_is_what_the_setup_asks_for() {
    let setup = file("scripts/setup.sh");
    let code: Vec<String> =
        blocks(&file("docs/install.md"), "sh").into_iter().flat_map(|block| block.lines).collect();
    let mut seen = 0;
    for line in code.iter().map(|line| line.split('#').next().unwrap()) {
        for installer in ["apt-get install ", "dnf install ", "brew install "] {
            let packages = line.split_once(installer).map_or("", |(_, packages)| packages);
            for package in packages.split_whitespace() {
                assert!(setup.contains(package), "{package}");
                seen += 1;
            }
        }
    }
    assert!(seen >= 9, "the packages were not found");
    let rust = file("Cargo.toml");
    let rust = rust.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert!(readme().contains(&format!("Rust toolchain, {rust} or newer")), "{rust}");
}
