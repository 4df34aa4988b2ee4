//! One real server, which lives as long as the value that stands for it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Child;
use std::thread;

use tempfile::TempDir;

use super::client::Client;
use super::launch::{Builder, Launch, loopback};
use super::reply::Reply;
use super::wait::{PATIENCE, wait_until};

/// What a server does with its data when it is shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// SHUTDOWN SAVE
    Save,
    /// SHUTDOWN NOSAVE
    NoSave,
}

/// Lines of the log that a failed test shows.
const LOG_TAIL: usize = 60;

/// What a server or a Rust panic writes when it dies.
const CRASH_MARKS: [&str; 7] = [
    "BUG REPORT START",
    "crashed by signal",
    "ASSERTION FAILED",
    "Guru Meditation",
    "panicked at",
    "memory allocation of",
    "AddressSanitizer",
];

/// A running server with the module. When it goes out of scope the process is ended and its folder removed; if the
/// test failed, the end of its log is printed; if it logged a crash, the test fails.
pub(crate) struct Server {
    child: Child,
    launch: Launch,
    port: u16,
    folder: TempDir,
}

impl Server {
    /// A server with the fixture's settings: no RDB points, no AOF, DEBUG allowed.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::builder().start()
    }

    /// Other settings.
    pub(crate) fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(folder: TempDir, launch: Launch, child: Child, port: u16) -> Self {
        Self { child, launch, port, folder }
    }

    /// A new connection, RESP2.
    #[track_caller]
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address())
    }

    /// A new connection, RESP3.
    #[track_caller]
    pub(crate) fn client3(&self) -> Client {
        self.client().resp3()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        loopback(self.port)
    }

    /// Its port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The folder it runs in, with its RDB and AOF files and `server.conf`.
    pub(crate) fn folder(&self) -> PathBuf {
        self.launch.folder.clone()
    }

    /// All it has logged, over restarts, standard error included.
    pub(crate) fn log(&self) -> String {
        self.launch.log()
    }

    /// Panics unless it answers and has logged no crash.
    #[track_caller]
    pub(crate) fn assert_alive(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("the server has ended: {status}");
        }
        assert_eq!(self.client().run("PING"), Reply::Simple("PONG".into()));
        self.assert_no_crash_logged();
    }

    /// Panics if it has logged a crash.
    #[track_caller]
    pub(crate) fn assert_no_crash_logged(&self) {
        let log = self.log();
        if let Some(mark) = CRASH_MARKS.iter().find(|mark| log.contains(*mark)) {
            panic!("the server logged a crash ({mark}):\n{}", tail(&log));
        }
    }

    /// Shuts it down in order and starts it again in the same folder.
    #[track_caller]
    pub(crate) fn restart(&mut self, data: Data) {
        self.stop(data);
        self.start_again();
    }

    /// Shuts it down in order.
    #[track_caller]
    pub(crate) fn stop(&mut self, data: Data) {
        let word = match data {
            Data::Save => "SAVE",
            Data::NoSave => "NOSAVE",
        };
        let mut client = self.client();
        client.send(&["SHUTDOWN", word]);
        if let Ok(Some(reply)) = client.try_read() {
            panic!("SHUTDOWN {word} was answered: {reply:?}");
        }
        wait_until("the server has shut down", PATIENCE, || self.child.try_wait().unwrap().is_some());
    }

    /// Kills it without notice, as a power cut would.
    pub(crate) fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again without the module, on what it has left; an error is the log of a server that ended. It stays so.
    pub(crate) fn start_without_module(&mut self) -> Result<(), String> {
        let path = self.launch.folder.join("server.conf");
        let configuration = std::fs::read_to_string(&path).unwrap();
        let of_others = |line: &&str| !line.starts_with("loadmodule") && !line.starts_with("lock.");
        let lines: Vec<&str> = configuration.lines().filter(of_others).collect();
        std::fs::write(path, lines.join("\n") + "\n").unwrap();
        (self.child, self.port) = self.launch.start(Some(self.port))?;
        Ok(())
    }

    /// Starts it again after [`Server::stop`] or [`Server::kill9`], on the same port unless that was taken.
    #[track_caller]
    pub(crate) fn start_again(&mut self) {
        match self.launch.start(Some(self.port)) {
            Ok((child, port)) => (self.child, self.port) = (child, port),
            Err(log) => panic!("the server did not start again:\n{log}"),
        }
    }

    /// Rewrites the append-only file and waits until that is done.
    #[track_caller]
    pub(crate) fn rewrite_aof(&self) {
        let mut client = self.client();
        let reply = client.run("BGREWRITEAOF");
        assert!(!reply.is_error(), "BGREWRITEAOF: {reply:?}");
        wait_until("the append-only file is rewritten", PATIENCE, || {
            client.info("persistence", "aof_rewrite_in_progress") == "0"
                && client.info("persistence", "aof_rewrite_scheduled") == "0"
        });
        assert_eq!(client.info("persistence", "aof_last_bgrewrite_status"), "ok");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Errors say that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- log of the server on port {} ---\n{}", self.port, tail(&self.log()));
        } else {
            self.assert_no_crash_logged();
        }
    }
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let start = lines.len().saturating_sub(LOG_TAIL);
    lines[start..].join("\n")
}
