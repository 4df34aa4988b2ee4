//! What the locks are in: a Redis with the module, an etcd, a PostgreSQL. Each in a folder and on a port of its own, and gone when
//! it goes out of scope.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::peers::Kind;
use crate::support::{Client, PATIENCE, Server, free_port, loopback, wait_until};

pub(crate) enum Running {
    Redis(Server),
    Other(Other),
}

pub(crate) struct Other {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Running {
    pub(crate) fn start(kind: Kind) -> Self {
        match kind {
            Kind::Redis => Self::Redis(Server::start()),
            Kind::Etcd => Self::Other(etcd()),
            Kind::Postgres => Self::Other(postgres()),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Redis(server) => server.port(),
            Self::Other(other) => other.port,
        }
    }

    /// Microseconds of processor time that the server has taken so far, all its processes.
    pub(crate) fn cpu_us(&self) -> f64 {
        match self {
            Self::Redis(server) => {
                let mut client = server.client();
                let mut seconds = |field: &str| client.info("cpu", field).parse::<f64>().unwrap();
                (seconds("used_cpu_user") + seconds("used_cpu_sys")) * 1e6
            }
            Self::Other(other) => cpu_us_of_family(other.child.id()),
        }
    }

    /// How many commands the server has run, those in scripts among them, if it counts them.
    pub(crate) fn commands(&self) -> Option<f64> {
        let Self::Redis(server) = self else { return None };
        let text = server.client().call(&["INFO", "commandstats"]).text();
        let calls = text
            .lines()
            .filter(|line| !line.starts_with("cmdstat_info"))
            .filter_map(|line| line.split_once("calls=")?.1.split(',').next()?.parse::<f64>().ok());
        Some(calls.sum())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-s", "KILL", "--", &group]).status();
        let _ = self.child.wait();
    }
}

/// Clock ticks in a second, as the kernel counts them for /proc.
const TICKS: f64 = 100.0;

/// User and system time of a process, of all that it has started, and of their children that have ended.
fn cpu_us_of_family(root: u32) -> f64 {
    let mut family = BTreeSet::from([root]);
    let mut all = 0.0;
    // A parent has a smaller id than its children, but where ids have begun anew.
    let mut processes: Vec<(u32, u32, f64)> =
        fs::read_dir("/proc").unwrap().flatten().filter_map(process).collect();
    processes.sort_by_key(|(id, ..)| *id);
    for (id, parent, ticks) in processes {
        if id == root || family.contains(&parent) {
            family.insert(id);
            all += ticks;
        }
    }
    all / TICKS * 1e6
}

/// Its id, its parent's, and the clock ticks that it and its ended children have taken.
fn process(entry: fs::DirEntry) -> Option<(u32, u32, f64)> {
    let id = entry.file_name().to_str()?.parse().ok()?;
    let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
    // The name is in brackets, and may have blanks.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields[11..15].iter().map(|field| field.parse::<f64>().unwrap()).sum();
    Some((id, fields[1].parse().ok()?, ticks))
}

fn spawn(command: &mut Command, folder: TempDir, port: u16, is_ready: impl Fn(u16)) -> Other {
    let log = fs::File::create(folder.path().join("log")).unwrap();
    let child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let other = Other { child, port, _folder: folder };
    wait_until("the server listens", PATIENCE, || Client::try_connect(loopback(port)).is_ok());
    is_ready(port);
    other
}

fn etcd() -> Other {
    let (folder, port, peer_port) = (TempDir::new().unwrap(), free_port(), free_port());
    let (clients, peers) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer_port}"));
    let mut command = Command::new("etcd");
    command.args(["--data-dir", folder.path().join("data").to_str().unwrap()]);
    command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
    command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
    command.args(["--initial-cluster", &format!("default={peers}"), "--log-level", "error"]);
    spawn(&mut command, folder, port, |_| ())
}

/// It refuses to run as root, so it runs as the user that its package has made.
fn postgres() -> Other {
    let (folder, port) = (TempDir::new().unwrap(), free_port());
    let programs = postgres_programs();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    assert!(Command::new("chown").args(["-R", "postgres", &path]).status().unwrap().success());
    let as_user = |program: &str| {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--", programs.join(program).to_str().unwrap()]);
        command.args(["-D", data.to_str().unwrap()]).current_dir("/");
        command
    };
    let made = as_user("initdb").args(["--auth", "trust"]).stdout(Stdio::null()).status().unwrap();
    assert!(made.success());
    let mut command = as_user("postgres");
    command.args([
        "-p",
        &port.to_string(),
        "-k",
        &path,
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        "max_connections=1200",
    ]);
    let program = programs.join("pg_isready");
    spawn(&mut command, folder, port, |port| {
        wait_until("PostgreSQL is ready", PATIENCE, || {
            let asked = Command::new(&program).args(["-h", "127.0.0.1", "-p", &port.to_string()]).output();
            asked.unwrap().status.success()
        });
    })
}

fn postgres_programs() -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir(Path::new("/usr/lib/postgresql"))
        .unwrap()
        .map(|entry| entry.unwrap().path().join("bin"))
        .collect();
    found.sort();
    found.pop().unwrap()
}
