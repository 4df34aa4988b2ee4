//! Three sentinels that watch a master, and have a replica promoted when two of them agree that it is down, or on demand.
//!
//! They are the same program as the servers. What they do every second or every ten by themselves they do here
//! several times a second, so that a failover takes about as long as its election.
#![allow(dead_code)] // each test file uses a part of it
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::thread;

use tempfile::TempDir;

use crate::support::{Client, LONG_PATIENCE, Reply, Server, free_port, loopback, wait_until};

/// How many there are.
const SENTINELS: usize = 3;

/// How many have to agree that the master is down.
const QUORUM: usize = 2;

/// How long the master has to be silent until a sentinel takes it to be down, in milliseconds.
const DOWN_AFTER_MS: u64 = 700;

/// What the sentinels call the master.
pub(crate) const NAME: &str = "locks";

/// How often they ask and tell, in milliseconds. A replica is not promoted if what it said of itself is older than five
/// pings; a sentinel that has not heard of a promotion undoes it after four of its announcements; replicas are asked
/// once a second meanwhile, whatever is set here. A busy machine is not to make them give up for a while.
const PACE: [(&str, u64); 5] = [
    ("info-period", 100),
    ("ping-period", 300),
    ("ask-period", 100),
    ("publish-period", 500),
    ("tilt-trigger", 60_000),
];

/// One of them. It ends when it goes out of scope.
struct Sentinel {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Sentinel {
    #[track_caller]
    fn start(master: u16) -> Self {
        let folder = tempfile::Builder::new().prefix("redis-lock-sentinel-").tempdir().unwrap();
        let port = free_port();
        let path = folder.path().display();
        let lines = [
            "bind 127.0.0.1".to_owned(),
            format!("port {port}"),
            format!("dir \"{path}\""),
            format!("sentinel monitor {NAME} 127.0.0.1 {master} {QUORUM}"),
            format!("sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}"),
            format!("sentinel failover-timeout {NAME} 5000"),
        ];
        let configuration = folder.path().join("sentinel.conf");
        fs::write(&configuration, lines.join("\n") + "\n").unwrap();
        let log = File::create(folder.path().join("sentinel.log")).unwrap();
        let program = std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        let mut command = Command::new(program);
        command.arg(configuration).arg("--sentinel").current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap();
        let mut sentinel = Self { child, port, folder };
        let mut has_ended = false;
        wait_until("the sentinel answers", LONG_PATIENCE, || {
            has_ended = sentinel.child.try_wait().unwrap().is_some();
            has_ended || sentinel.answers()
        });
        if has_ended {
            assert!(sentinel.log().contains("Address already in use"), "{}", sentinel.log());
            return Self::start(master);
        }
        for (name, value) in PACE {
            sentinel.client().ok(&format!("SENTINEL DEBUG {name} {value}"));
        }
        sentinel
    }

    /// Whether it is the one that answers there.
    fn answers(&self) -> bool {
        let Ok(mut client) = Client::try_connect(loopback(self.port)) else { return false };
        let Some(Reply::Bulk(info)) = client.try_call(&["INFO", "server"]) else { return false };
        String::from_utf8_lossy(&info).contains(&format!("process_id:{}\r\n", self.child.id()))
    }

    #[track_caller]
    fn client(&self) -> Client {
        Client::connect(loopback(self.port))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("sentinel.log")).unwrap_or_default()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of the sentinel on port {} ---\n{}", self.port, self.log());
        }
        // Errors say that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All of them.
pub(crate) struct Sentinels {
    all: Vec<Sentinel>,
}

impl Sentinels {
    /// Starts them, and waits until they know of each other and of the replicas.
    #[track_caller]
    pub(crate) fn of(master: &Server, replicas: usize) -> Self {
        Self::at(master.port(), replicas)
    }

    /// The same for a master that seems to be at this port.
    #[track_caller]
    pub(crate) fn at(master: u16, replicas: usize) -> Self {
        let all = (0..SENTINELS).map(|_| Sentinel::start(master)).collect();
        let sentinels = Self { all };
        sentinels.wait_until_they_know(master, replicas);
        sentinels
    }

    /// Where they listen.
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.all.iter().map(|sentinel| sentinel.port).collect()
    }

    /// Waits until all of them take the server at this port for the master, and it and so many replicas to be well.
    #[track_caller]
    pub(crate) fn wait_until_they_know(&self, master: u16, replicas: usize) {
        for sentinel in &self.all {
            let mut client = sentinel.client();
            wait_until("the sentinel knows master, replicas and the other sentinels", LONG_PATIENCE, || {
                let known = client.run(&format!("SENTINEL MASTER {NAME}"));
                let slaves = client.run(&format!("SENTINEL REPLICAS {NAME}"));
                let well = slaves.items().iter().filter(|slave| {
                    text(slave, "flags") == "slave" && text(slave, "master-link-status") == "ok"
                });
                text(&known, "port") == master.to_string()
                    && text(&known, "flags") == "master"
                    && text(&known, "num-other-sentinels") == (SENTINELS - 1).to_string()
                    && well.count() == replicas
            });
        }
    }

    /// Has a replica promoted though nobody is down; to be called again until that is so. A sentinel that heard too late
    /// of what it waits for gives a failover up, and does not begin it anew by itself.
    #[track_caller]
    pub(crate) fn failover(&self) {
        let reply = self.all[0].client().run(&format!("SENTINEL FAILOVER {NAME}"));
        let under_way = |text: &str| text.starts_with("INPROG ") || text.starts_with("NOGOODSLAVE ");
        assert!(!reply.is_error() || under_way(reply.error()), "{reply:?}");
    }

    /// Waits until all of them take the server at this port for the master.
    #[track_caller]
    pub(crate) fn wait_for_master(&self, port: u16) {
        for sentinel in &self.all {
            let mut client = sentinel.client();
            wait_until("the sentinel takes the promoted one for the master", LONG_PATIENCE, || {
                let address = client.run(&format!("SENTINEL GET-MASTER-ADDR-BY-NAME {NAME}"));
                address.items()[1].text() == port.to_string()
            });
        }
    }
}

fn text(map: &Reply, name: &str) -> String {
    let pairs = map.pairs();
    let value = pairs.iter().find(|(key, _)| key.text() == name);
    value.map(|(_, value)| value.text()).unwrap_or_default()
}
