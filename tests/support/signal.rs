//! Servers that do not run for a while, their sockets open.
#![allow(dead_code)] // each test file uses a part of it
#![allow(clippy::panic)]

use std::process::Command;

use crate::support::Server;

/// Keeps a server from running. A test that fails meanwhile still ends it.
#[track_caller]
pub(crate) fn stop(server: &Server) {
    send(server, "-STOP");
}

/// Lets it run again.
#[track_caller]
pub(crate) fn go_on(server: &Server) {
    send(server, "-CONT");
}

#[track_caller]
fn send(server: &Server, name: &str) {
    let status = Command::new("kill").args([name, &server.pid().to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "kill {name}");
}
