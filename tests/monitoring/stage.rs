//! An exporter and a Prometheus that watch a server. They live as long as the value that stands for them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::transcript::{Block, blocks};
use crate::support::{Builder, Client, PATIENCE, Server, free_port, loopback, wait_until};

pub(crate) const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/monitoring");

/// What the README says, and what a test says for it, which does not wait for a quarter of a minute.
const INTERVALS: (&str, &str) =
    ("scrape_interval: 15s", "scrape_interval: 500ms\n  evaluation_interval: 500ms");

/// How often another port is tried when somebody else took the chosen one.
const PORT_ATTEMPTS: usize = 5;

/// A server that is watched, or the end of the test, which says why it is skipped.
macro_rules! watch {
    ($server:expr) => {
        match $crate::stage::Stage::of($server) {
            Ok(stage) => stage,
            Err(why) => return $crate::support::skip!(&mut $server.client(), "{why}"),
        }
    };
}
pub(crate) use watch;

/// A sample as Prometheus gives it.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) labels: Value,
    pub(crate) value: f64,
}

pub(crate) struct Stage {
    prometheus: Watcher,
    _exporter: Watcher,
}

impl Stage {
    /// A server that has the user of the exporter.
    pub(crate) fn server() -> Builder {
        block("conf").lines.iter().fold(Server::builder(), |builder, line| builder.config(line))
    }

    /// Watches the server. No alert is active then, and every one has been evaluated on what the exporter says.
    pub(crate) fn of(server: &Server) -> Result<Self, String> {
        programs()?;
        let exporter = exporter(server);
        let prometheus = prometheus(&exporter);
        let stage = Self { prometheus, _exporter: exporter };
        stage.wait_scraped();
        let denied = server.client().run("ACL LOG");
        assert!(denied.items().is_empty(), "its user may not do what it does: {denied:?}");
        assert_eq!(stage.active(), BTreeSet::new(), "before anything has happened");
        Ok(stage)
    }

    /// Waits until all rules have seen a few samples that are taken from now on.
    pub(crate) fn wait_scraped(&self) {
        let samples = || self.query("count_over_time(redis_up[1h])").first().map_or(0.0, |it| it.value);
        let due = samples() + 4.0;
        wait_until("Prometheus has samples", PATIENCE, || samples() >= due);
        let before = self.evaluated();
        wait_until("Prometheus has evaluated the rules", PATIENCE, || {
            self.evaluated().iter().zip(&before).all(|(now, before)| now > before)
        });
    }

    /// Waits until exactly these alerts are active: their conditions are true.
    #[track_caller]
    pub(crate) fn wait_active(&self, due: &[&str]) {
        let due: BTreeSet<String> = due.iter().map(|name| (*name).to_owned()).collect();
        let mut active = BTreeSet::new();
        let start = std::time::Instant::now();
        while start.elapsed() < PATIENCE {
            active = self.active();
            if active == due {
                return;
            }
            thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("{due:?} were due, {active:?} are active");
    }

    /// The alerts whose conditions are true, for however long.
    pub(crate) fn active(&self) -> BTreeSet<String> {
        let rules = self.rules();
        let active = rules.iter().filter(|rule| rule["alerts"].as_array().is_some_and(|it| !it.is_empty()));
        active.map(|rule| rule["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Each rule, with its health.
    pub(crate) fn rules(&self) -> Vec<Value> {
        let groups = self.get("/api/v1/rules")["groups"].clone();
        let rules: Vec<Value> = groups
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|group| group["rules"].as_array().unwrap().clone())
            .collect();
        for rule in &rules {
            assert!(rule["health"] != "err", "{rule}");
        }
        rules
    }

    /// When each rule was evaluated for the last time.
    fn evaluated(&self) -> Vec<String> {
        self.rules().iter().map(|rule| rule["lastEvaluation"].as_str().unwrap().to_owned()).collect()
    }

    /// What an expression is at this moment.
    pub(crate) fn query(&self, expression: &str) -> Vec<Sample> {
        let data = self.get(&format!("/api/v1/query?query={}", escaped(expression)));
        let of = |sample: &Value| Sample {
            labels: sample["metric"].clone(),
            value: sample["value"][1].as_str().unwrap().parse().unwrap(),
        };
        data["result"].as_array().unwrap().iter().map(of).collect()
    }

    /// What a request to Prometheus gives, which must succeed.
    pub(crate) fn get(&self, path: &str) -> Value {
        let answer = self.prometheus.get(path).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"));
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }
}

pub(crate) fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The names and numbers of `INFO lock`.
pub(crate) fn info_lock(client: &mut Client) -> Vec<(String, f64)> {
    let text = client.run("INFO lock").text();
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

/// An error says which program is missing.
pub(crate) fn programs() -> Result<(), String> {
    for name in ["prometheus-redis-exporter", "prometheus", "promtool"] {
        let is_there =
            Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if is_there.is_err() {
            return Err(format!("{name} is not installed"));
        }
    }
    Ok(())
}

/// The one block of that language in the README.
fn block(language: &str) -> Block {
    let text = fs::read_to_string(Path::new(FOLDER).join("README.md")).unwrap();
    let mut blocks = blocks(&text, language);
    assert_eq!(blocks.len(), 1, "{language}");
    blocks.remove(0)
}

/// Started by the command of the README.
fn exporter(server: &Server) -> Watcher {
    let line = block("sh").lines.concat();
    let words: Vec<&str> = line.split_whitespace().collect();
    let ours = format!("tcp_port=\"{}\"", server.port());
    Watcher::start("/metrics", &ours, |port, _| {
        let mut command = Command::new(words[0]);
        command.current_dir(FOLDER).env("GOMAXPROCS", "1");
        command.args(words[1..].iter().map(|word| {
            word.replace("127.0.0.1:6379", &format!("127.0.0.1:{}", server.port()))
                .replace("127.0.0.1:9121", &format!("127.0.0.1:{port}"))
        }));
        command
    })
}

/// Started with the configuration of the README.
fn prometheus(exporter: &Watcher) -> Watcher {
    let written = block("yaml").lines.join("\n");
    assert!(written.contains(INTERVALS.0), "{written}");
    let configuration = written
        .replace(INTERVALS.0, INTERVALS.1)
        .replace("127.0.0.1:9121", &format!("127.0.0.1:{}", exporter.port));
    Watcher::start("/api/v1/status/flags", "redis-lock-watch-", |port, folder| {
        fs::write(folder.join("prometheus.yml"), &configuration).unwrap();
        fs::copy(Path::new(FOLDER).join("alerts.yml"), folder.join("alerts.yml")).unwrap();
        let mut command = Command::new("prometheus");
        command.current_dir(folder).env("GOMAXPROCS", "1").args([
            format!("--config.file={}", folder.join("prometheus.yml").display()),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--log.level=warn".to_owned(),
        ]);
        command
    })
}

/// A process that answers HTTP on a port of its own. It is ended with this value, and its folder removed.
struct Watcher {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Watcher {
    /// Starts it, and waits until `path` is answered with a text that has its own mark in it.
    fn start(path: &str, mark: &str, command: impl Fn(u16, &Path) -> Command) -> Self {
        for _ in 0..PORT_ATTEMPTS {
            let folder = tempfile::Builder::new().prefix("redis-lock-watch-").tempdir().unwrap();
            let port = free_port();
            let log = File::create(folder.path().join("log")).unwrap();
            let mut command = command(port, folder.path());
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
            let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
            let mut watcher = Self { child, port, folder };
            if watcher.wait_ready(path, mark) {
                return watcher;
            }
            let log = watcher.log();
            assert!(log.contains("address already in use"), "{command:?}: {log}");
        }
        panic!("no free port");
    }

    fn wait_ready(&mut self, path: &str, mark: &str) -> bool {
        let start = std::time::Instant::now();
        while start.elapsed() < PATIENCE {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if self.get(path).is_ok_and(|text| text.contains(mark)) {
                return true;
            }
            thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("no answer with {mark} within {PATIENCE:?}: {}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// The body of what it answers.
    fn get(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(loopback(self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Errors say that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- log of the watcher on port {} ---\n{}", self.port, self.log());
        }
    }
}
