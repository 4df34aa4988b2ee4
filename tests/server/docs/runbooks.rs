//! docs/runbooks.md, held to its word: each section is a session on servers of its own, in the trouble that it is about.

use std::fs;
#[cfg(target_os = "linux")]
use std::process::Command;

use super::readme::file;
use crate::support::locks::{acquire, holders};
use crate::support::transcript::{Known, Stage, Step, steps};
use crate::support::{Builder, Client, PATIENCE, Pair, Server, caught_up, wait_until};

pub(super) const PAGE: &str = "docs/runbooks.md";

/// The steps of the section with this title.
fn section(title: &str) -> Vec<Step> {
    let text = file(PAGE);
    let heading_above =
        |line: usize| text.lines().take(line).filter_map(|line| line.strip_prefix("## ")).last();
    let steps: Vec<Step> =
        steps(&text).into_iter().filter(|step| heading_above(step.line) == Some(title)).collect();
    assert!(steps.len() > 3, "the section {title} was not found: {steps:?}");
    steps
}

/// Plays a section on one server. `happens` is told of each step before it is done, with its number.
fn play(title: &str, server: Builder, happens: impl Fn(usize, &Server)) {
    let server = server.start();
    let (mut known, mut stage) = (Known::default(), Stage::new(&server));
    for (number, step) in section(title).iter().enumerate() {
        happens(number, &server);
        stage.play(PAGE, step, &mut known);
    }
    stage.close();
}

#[test]
fn a_holder_is_gone() {
    play("A holder is gone", Server::builder(), |_, _| ());
}

#[test]
fn a_queue_grows() {
    play("A queue grows", Server::builder(), |_, _| ());
}

#[test]
fn a_lock_was_lost() {
    play("A lock was lost", Server::builder(), |_, _| ());
}

#[test]
fn a_failover() {
    let pair = Pair::start();
    let mut stage = Stage::new(&pair.master).with_replica(&pair.replica);
    let mut known = Known::default();
    for step in section("A failover") {
        stage.play(PAGE, &step, &mut known);
    }
    stage.close();
    // The old master has taken over what the new one says.
    caught_up(&pair.replica, &pair.master);
    assert_eq!(holders(&mut pair.master.client(), "order:43").len(), 1);
}

#[test]
fn the_memory_is_full() {
    play("The memory is full", Server::builder(), |number, server| {
        if number == 1 {
            server.client().ok("CONFIG SET maxmemory 1");
        }
    });
}

/// A file cannot take the name of a folder.
#[test]
fn the_disk_is_full() {
    play("The disk is full", Server::builder().config("save 3600 1000000"), |number, server| {
        let snapshot = server.folder().join("dump.rdb");
        let steps = section("The disk is full");
        if number == 1 {
            fs::create_dir(&snapshot).unwrap();
            let mut client = server.client();
            client.run("BGSAVE");
            wait_until("the snapshot has failed", PATIENCE, || {
                client.info("persistence", "rdb_last_bgsave_status") == "err"
            });
        } else if steps[number].command.text().trim() == "SAVE" {
            fs::remove_dir(&snapshot).unwrap();
        }
    });
}

/// What the page says of the append-only file. No file of this server may become larger than so many bytes, until it is told
/// otherwise.
#[cfg(target_os = "linux")]
fn with_little_room(fsync: &str) -> Server {
    let within = "trap '' XFSZ; ulimit -S -f 64; exec \"$@\"";
    let builder = Server::builder().config("appendonly yes").config(&format!("appendfsync {fsync}"));
    builder.under(&["sh", "-c", within, "sh"]).start()
}

#[cfg(target_os = "linux")]
#[test]
fn an_append_only_file_that_can_be_written_again_ends_the_refusals_by_itself() {
    let server = with_little_room("everysec");
    let mut client = server.client();
    client.call(&["SET", "large", &"x".repeat(100_000)]);
    let status = |client: &mut Client| client.info("persistence", "aof_last_write_status");
    wait_until("the append-only file fails", PATIENCE, || status(&mut client) == "err");
    for command in ["LOCK.ACQUIRE k", "LOCK.EXTEND k t", "LOCK.RELEASE k t"] {
        assert!(client.run(command).error().starts_with("MISCONF"), "{command}");
    }
    let pid = server.pid().to_string();
    let raised = Command::new("prlimit").args(["--fsize=unlimited", "--pid", &pid]).status().unwrap();
    assert!(raised.success());
    wait_until("the append-only file is written again", PATIENCE, || status(&mut client) == "ok");
    acquire(&mut client, "k");
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_that_writes_always_stops_when_it_cannot() {
    let server = with_little_room("always");
    let mut client = server.client();
    client.send(&["SET", "large", &"x".repeat(100_000)]);
    assert_eq!(client.try_read().unwrap(), None, "it ends without a reply");
}
