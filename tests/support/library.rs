//! Shared libraries for servers to load, made of the C sources beside this file.
#![allow(clippy::panic)] // a failure ends the test

use std::env;
use std::path::Path;
use std::process::Command;

/// Makes a shared library of a source file of this project.
#[track_caller]
pub(crate) fn compile(source: &Path, library: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut command = Command::new(&compiler);
    command.args(["-shared", "-fPIC", "-O2", "-o"]).arg(library).arg(source).arg("-ldl");
    let output = command.output().unwrap_or_else(|error| panic!("starting {}: {error}", compiler.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
