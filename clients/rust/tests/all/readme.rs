//! README.md as a stranger follows it: its commands, in a package of its own, and then its program.

use crate::server::Server;
use std::process::Command;
use std::{env, fs, path::Path};

#[test]
fn its_program_runs() {
    let server = Server::start();
    let client = env!("CARGO_MANIFEST_DIR");
    let readme = fs::read_to_string(Path::new(client).join("README.md")).unwrap();
    let block = |begin: &str| readme.split(begin).nth(1).unwrap().split("```").next().unwrap();
    let here = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stranger");
    let cargo = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO")).args(arguments).current_dir(&here).output().unwrap();
        let (said, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "cargo {arguments:?}: {said}{errors}");
        said.into_owned()
    };

    fs::create_dir_all(here.join("src")).unwrap();
    let program = block("```rust,no_run\n").replace("redis://127.0.0.1:6379", &server.url);
    fs::write(here.join("src/main.rs"), program).unwrap();
    let manifest = "[workspace]\n[package]\nname = \"stranger\"\nedition = \"2024\"\n";
    fs::write(here.join("Cargo.toml"), manifest).unwrap();
    for line in block("```sh\n").lines() {
        let words = line.split('#').next().unwrap().split_whitespace();
        let words: Vec<_> = words.map(|word| if word == "clients/rust" { client } else { word }).collect();
        assert_eq!(words[0], "cargo");
        cargo(&words[1..]);
    }
    assert!(cargo(&["run", "--quiet"]).starts_with("working with fence "));
    assert!(!server.is_known(b"order:44"), "the program has left something");
}
