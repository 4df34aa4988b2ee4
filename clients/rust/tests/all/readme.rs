//! The program of README.md, as a stranger has it: in a package of its own, with the client from its folder.

use crate::server::Server;
use std::process::Command;
use std::{env, fs, path::Path};

#[test]
fn its_program_runs() {
    let server = Server::start();
    let client = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(client.join("README.md")).unwrap();
    let program = readme.split("```rust,no_run\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert!(program.lines().count() < 20, "it is to be short");
    let here = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stranger");
    fs::create_dir_all(here.join("src")).unwrap();
    fs::write(here.join("src/main.rs"), program.replace("redis://127.0.0.1:6379", &server.url)).unwrap();
    let manifest = format!(
        "[workspace]\n[package]\nname = \"stranger\"\nedition = \"2024\"\n[dependencies]\n\
         redis-lock-client = {{ path = {client:?} }}\nredis = \"1\"\ntokio = {{ version = \"1\", features = [\"full\"] }}\n"
    );
    fs::write(here.join("Cargo.toml"), manifest).unwrap();
    let cargo = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO")).args(arguments).current_dir(&here).output().unwrap();
        let (said, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{said}{errors}");
        said.into_owned()
    };
    assert!(cargo(&["run", "--quiet"]).starts_with("working with fence "));
    let held: (String, u64) = server.run("LOCK.ACQUIRE", &[b"order:44", b"TOKEN", b"other"]);
    assert_eq!(held.0, "other", "the program has left nothing");
}
