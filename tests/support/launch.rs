//! How a server is set up and started: configuration, module, free port, readiness.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::client::Client;
use super::reply::Reply;
use super::server::Server;

/// How long a server may take until it answers, its data loaded.
pub(crate) const START_DEADLINE: Duration = Duration::from_secs(20);

/// How often another port is tried when somebody else took the chosen one.
const PORT_ATTEMPTS: usize = 10;

/// What a server is started with. All settings are kept over a restart.
#[derive(Clone, Default)]
pub(crate) struct Builder {
    directives: Vec<String>,
    module_arguments: String,
    environment: Vec<(OsString, OsString)>,
    above: Vec<String>,
}

impl Builder {
    /// Adds a line to the configuration file; it follows the fixture's own, so it can overrule them.
    pub(crate) fn config(mut self, directive: &str) -> Self {
        self.directives.push(directive.to_owned());
        self
    }

    /// Arguments of the module, parted by blanks.
    pub(crate) fn module_args(mut self, arguments: &str) -> Self {
        arguments.clone_into(&mut self.module_arguments);
        self
    }

    /// Sets a variable in the server's environment.
    pub(crate) fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Loads a shared library ahead of the server's own.
    pub(crate) fn preload(self, library: &Path) -> Self {
        self.env("LD_PRELOAD", library)
    }

    /// Has a program run it: its words come before the server's own. It has to become the server's process, as valgrind does.
    pub(crate) fn under(mut self, words: &[&str]) -> Self {
        self.above = words.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Makes it a replica.
    pub(crate) fn replica_of(self, master: &Server) -> Self {
        self.config(&format!("replicaof 127.0.0.1 {}", master.port()))
    }

    /// Every write goes to the append-only file and to the disk before its reply.
    pub(crate) fn aof(self) -> Self {
        self.config("appendonly yes").config("appendfsync always")
    }

    /// Starts the server and waits until it answers.
    #[track_caller]
    pub(crate) fn start(self) -> Server {
        self.try_start().unwrap_or_else(|log| panic!("the server did not start:\n{log}"))
    }

    /// The log of a server that must not start.
    #[track_caller]
    pub(crate) fn start_fails(self) -> String {
        let settings = format!("{:?}, module arguments {:?}", self.directives, self.module_arguments);
        match self.try_start() {
            Ok(_) => panic!("the server started, though it must not, with {settings}"),
            Err(log) => log,
        }
    }

    /// Starts the server, or says with its log why it ended.
    pub(crate) fn try_start(self) -> Result<Server, String> {
        let folder = tempfile::Builder::new().prefix("redis-lock-").tempdir().unwrap();
        fs::write(folder.path().join("server.conf"), self.configuration()).unwrap();
        let folder_path = folder.path().canonicalize().unwrap();
        let launch = Launch { folder: folder_path, environment: self.environment, above: self.above };
        let (child, port) = launch.start(None)?;
        Ok(Server::new(folder, launch, child, port))
    }

    fn configuration(&self) -> String {
        let module = module_path();
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            "daemonize no".to_owned(),
            "enable-debug-command yes".to_owned(),
            "save \"\"".to_owned(),
            "appendonly no".to_owned(),
            "repl-diskless-sync-delay 0".to_owned(),
        ];
        lines.extend(self.directives.iter().cloned());
        lines.push(format!("loadmodule {} {}", module.display(), self.module_arguments));
        lines.join("\n") + "\n"
    }
}

/// Starts a server in its folder, the first time and again.
pub(crate) struct Launch {
    /// Where it keeps all it writes.
    pub(crate) folder: PathBuf,
    environment: Vec<(OsString, OsString)>,
    above: Vec<String>,
}

impl Launch {
    /// Where the server's output goes.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// Starts on `port`, if given and free, or on a free one. An error is the log of a server that ended.
    pub(crate) fn start(&self, port: Option<u16>) -> Result<(Child, u16), String> {
        let mut port = port.unwrap_or_else(free_port);
        for _ in 0..PORT_ATTEMPTS {
            let before = self.log().len();
            let mut child = self.spawn(port);
            match self.wait_ready(&mut child, port) {
                Ok(()) => return Ok((child, port)),
                Err(Unready::Ended(status)) => {
                    let log = self.log().get(before..).unwrap_or_default().to_owned();
                    if !log.contains("Address already in use") {
                        return Err(format!("{log}\n({status})"));
                    }
                    port = free_port();
                }
                Err(Unready::Late) => {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    return Err(format!("{}\n(no answer within {START_DEADLINE:?})", self.log()));
                }
            }
        }
        Err(format!("{}\n(no free port)", self.log()))
    }

    /// All the server has written.
    pub(crate) fn log(&self) -> String {
        let log = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    fn spawn(&self, port: u16) -> Child {
        let program = std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        let log = self.open_log();
        let mut words = self.above.iter().map(OsString::from).chain([program.clone()]);
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .arg(self.folder.join("server.conf"))
            .args(["--port", &port.to_string()])
            .args(["--dir".as_ref(), self.folder.as_os_str()])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command.spawn().unwrap_or_else(|error| panic!("starting {}: {error}", program.display()))
    }

    fn open_log(&self) -> File {
        OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap()
    }

    fn wait_ready(&self, child: &mut Child, port: u16) -> Result<(), Unready> {
        let start = Instant::now();
        while start.elapsed() < START_DEADLINE {
            if let Some(status) = child.try_wait().unwrap() {
                return Err(Unready::Ended(status));
            }
            if self.answers(port) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Err(Unready::Late)
    }

    /// Whether our server answers there with its data loaded. Somebody else may have taken the port, for a moment only.
    fn answers(&self, port: u16) -> bool {
        let Ok(mut client) = Client::try_connect(loopback(port)) else {
            return false;
        };
        if client.try_call(&["PING"]) != Some(Reply::Simple("PONG".into())) {
            return false;
        }
        let Some(Reply::Array(parts)) = client.try_call(&["CONFIG", "GET", "dir"]) else {
            return false;
        };
        let folder = self.folder.as_os_str().as_encoded_bytes();
        parts.get(1) == Some(&Reply::Bulk(folder.to_vec()))
    }
}

enum Unready {
    Ended(ExitStatus),
    Late,
}

/// A port's address on this machine.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Where servers listen: below the ports that the system gives to clients. A server that starts again could not have its port
/// back while some other test's connection went out from there.
const PORTS: Range<u16> = 10_000..32_000;

/// A port on which nobody listens at this moment, and which nobody else of this program is given.
pub(crate) fn free_port() -> u16 {
    static DRAWN: AtomicU32 = AtomicU32::new(0);
    // Programs that run side by side begin in different places.
    let begin = std::process::id().wrapping_mul(PLACES_APART);
    let draw = |_| {
        let drawn = begin.wrapping_add(DRAWN.fetch_add(1, Ordering::Relaxed));
        PORTS.start + u16::try_from(drawn % u32::from(PORTS.end - PORTS.start)).unwrap()
    };
    let is_free = |port: &u16| TcpListener::bind(loopback(*port)).is_ok();
    PORTS.map(draw).find(is_free).expect("a free port")
}

/// How far the ports of two programs with neighbouring process ids are apart.
const PLACES_APART: u32 = 1_009;

fn module_path() -> PathBuf {
    let path = std::env::var_os("REDIS_LOCK_MODULE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/libredis_lock.so"),
        PathBuf::from,
    );
    path.canonicalize().unwrap_or_else(|error| {
        panic!("no module at {} ({error}): run `make test`, or `cargo build --release` first", path.display())
    })
}
