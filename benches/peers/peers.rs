//! Who is measured.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What a peer locks with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Redis,
    Etcd,
    Postgres,
}

/// In what a client is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Go,
    Java,
    Python,
    Node,
}

impl Language {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Go => "Go",
            Self::Java => "Java",
            Self::Python => "Python",
            Self::Node => "Node.js",
        }
    }
}

/// A library, as one language has it.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) language: Language,
    /// What its worker calls it.
    pub(crate) library: &'static str,
    pub(crate) kind: Kind,
}

const fn peer(name: &'static str, language: Language, library: &'static str, kind: Kind) -> Peer {
    Peer { name, language, library, kind }
}

/// Side by side with ours in the same language.
pub(crate) const PEERS: [Peer; 12] = [
    peer("redis-lock", Language::Go, "redis-lock", Kind::Redis),
    peer("redsync", Language::Go, "redsync", Kind::Redis),
    peer("etcd", Language::Go, "etcd", Kind::Etcd),
    peer("PostgreSQL advisory lock", Language::Go, "postgres", Kind::Postgres),
    peer("redis-lock", Language::Java, "redis-lock", Kind::Redis),
    peer("Redisson RLock", Language::Java, "redisson", Kind::Redis),
    peer("Redisson FairLock", Language::Java, "redisson-fair", Kind::Redis),
    peer("redis-lock", Language::Python, "redis-lock", Kind::Redis),
    peer("redis-py Lock", Language::Python, "redis-py", Kind::Redis),
    peer("python-redis-lock", Language::Python, "python-redis-lock", Kind::Redis),
    peer("redis-lock", Language::Node, "redis-lock", Kind::Redis),
    peer("redlock (Sesame Care)", Language::Node, "redlock", Kind::Redis),
];

impl Peer {
    /// The worker, told to do this.
    pub(crate) fn worker(&self, port: u16, scenario: &str, numbers: &[u64]) -> Command {
        let (root, built) = (Path::new(env!("CARGO_MANIFEST_DIR")), built());
        let sources = root.join("benches/peers");
        let mut command = match self.language {
            Language::Go => Command::new(built.join("go-worker")),
            Language::Java => {
                let classpath = std::fs::read_to_string(built.join("classpath")).unwrap();
                let classpath =
                    format!("{}:{}", built.join("java/target/classes").display(), classpath.trim());
                let mut java = Command::new("java");
                java.args(["-cp", &classpath, "peers.Worker"]);
                java
            }
            Language::Python => {
                let mut python = Command::new(built.join("python/bin/python"));
                python
                    .arg(sources.join("python/worker.py"))
                    .env("PYTHONPATH", root.join("clients/python/src"));
                python
            }
            Language::Node => {
                let mut node = Command::new("node");
                node.arg(built.join("node/worker.mjs"));
                node
            }
        };
        command.args([self.library, &port.to_string(), scenario]).args(numbers.iter().map(u64::to_string));
        command
    }
}

/// Where scripts/peers.sh has put the workers.
fn built() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers")
}
