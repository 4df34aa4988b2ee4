//! A wall clock that can be set, for the servers started by it. A small library, preloaded into them, shifts the wall clock
//! and leaves the monotonic clock alone.
#![allow(dead_code)] // each test file uses a part of it
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)] // a failure ends the test

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use crate::support::{Builder, Client, PATIENCE, Server, compile, wait_until};

/// Seconds.
pub(crate) const HOUR: i64 = 3_600;

/// A wall clock that can be set.
pub(crate) struct WallClock {
    folder: TempDir,
    shift: File,
}

impl WallClock {
    /// One that goes right.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shift = File::create(folder.path().join("shift")).unwrap();
        let clock = Self { folder, shift };
        clock.set(0);
        compile(Path::new("tests/support/wall_clock.c"), &clock.library());
        clock
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("wall_clock.so")
    }

    /// Sets the clock to so many seconds from what it really is.
    pub(crate) fn set(&self, seconds: i64) {
        let micros = seconds * 1_000_000;
        self.shift.write_all_at(&micros.to_ne_bytes(), 0).unwrap();
    }

    /// Sets the clock and waits until a running server has noticed.
    #[track_caller]
    pub(crate) fn set_under(&self, client: &mut Client, seconds: i64) {
        self.set(seconds);
        wait_until("the server lives by this clock", PATIENCE, || {
            (server_time(client) - real_time() - seconds).abs() < HOUR / 2
        });
    }

    /// Has a server live by this clock.
    pub(crate) fn of(&self, server: Builder) -> Builder {
        server.preload(&self.library()).env("WALL_CLOCK_SHIFT", self.folder.path().join("shift"))
    }

    /// Starts a server that lives by this clock, and makes sure that it does.
    pub(crate) fn start(&self, server: Builder) -> Server {
        let server = self.of(server).start();
        let mut client = server.client();
        for seconds in [HOUR, -HOUR, 0] {
            self.set_under(&mut client, seconds);
        }
        server
    }
}

fn server_time(client: &mut Client) -> i64 {
    client.run("TIME").items()[0].text().parse().unwrap()
}

/// Seconds since 1970, as they really are.
pub(crate) fn real_time() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}
