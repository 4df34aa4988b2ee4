//! docs/runbooks.md, held to its word: each section is a session on servers of its own, in the trouble that it is about.

use std::fs;
#[cfg(target_os = "linux")]
use std::process::Command;

use super::sections::{play, play_alone};
use crate::support::locks::{acquire, holders};
use crate::support::transcript::Stage;
use crate::support::{Client, PATIENCE, Pair, Server, caught_up, wait_until};

const PAGE: &str = "docs/runbooks.md";

#[test]
fn a_holder_is_gone() {
    play_alone(PAGE, "A holder is gone");
}

#[test]
fn a_queue_grows() {
    play_alone(PAGE, "A queue grows");
}

#[test]
fn a_lock_was_lost() {
    play_alone(PAGE, "A lock was lost");
}

#[test]
fn a_failover() {
    let pair = Pair::start();
    let stage = Stage::new(&pair.master).with_replica(&pair.replica);
    play(PAGE, "A failover", stage, |_, _| ());
    // The old master has taken over what the new one says.
    caught_up(&pair.replica, &pair.master);
    assert_eq!(holders(&mut pair.master.client(), "order:43").len(), 1);
}

#[test]
fn the_memory_is_full() {
    let server = Server::start();
    play(PAGE, "The memory is full", Stage::new(&server), |number, _| {
        if number == 1 {
            server.client().ok("CONFIG SET maxmemory 1");
        }
    });
}

/// A file cannot take the name of a folder.
#[test]
fn the_disk_is_full() {
    let server = Server::builder().config("save 3600 1000000").start();
    let snapshot = server.folder().join("dump.rdb");
    play(PAGE, "The disk is full", Stage::new(&server), |number, command| {
        if number == 1 {
            fs::create_dir(&snapshot).unwrap();
            let mut client = server.client();
            client.run("BGSAVE");
            wait_until("the snapshot has failed", PATIENCE, || {
                client.info("persistence", "rdb_last_bgsave_status") == "err"
            });
        } else if command == "SAVE" {
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
