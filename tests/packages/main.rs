//! What `make dist` ships: each file is opened here, and each package installed on a clean machine and removed again.
//!
//! `make test-packages` and `make test-containers` build what is tested and the clean machines, each for its own tests: where they
//! are missing, a test is skipped by name. `cargo test` leaves all of them out.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod container;
mod installed;
mod machine;
mod shipped;
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

/// A path below target/, or the end of the test, which says why it is skipped.
macro_rules! below_target {
    ($name:expr) => {
        match $crate::find_below_target($name) {
            Ok(path) => path,
            Err(why) => {
                let server = $crate::support::Server::start();
                return $crate::support::skip!(&mut server.client(), "{why}");
            }
        }
    };
}
use below_target;

/// Where `make test-packages` has put something.
fn find_below_target(name: &str) -> Result<PathBuf, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(name);
    if path.exists() { Ok(path) } else { Err(format!("there is no target/{name}: run make test-packages")) }
}

/// What a program writes, which must succeed.
#[track_caller]
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("running {program}: {error}"));
    let [out, err] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{out}{err}", output.status);
    out
}
