//! What is measured of each peer.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::peers::{Language, Peer};
use crate::servers::Running;

/// How much is measured.
pub(crate) struct Effort {
    pub(crate) is_quick: bool,
    pairs: u64,
    contend_ms: u64,
    hand_overs: u64,
    waiters: u64,
}

/// Clients that contend.
const CLIENTS: u64 = 64;

/// The lease of the holder that dies.
const LEASE_MS: u64 = 2_000;

/// When a worker is given up.
const LONGEST: Duration = Duration::from_secs(60);

impl Effort {
    pub(crate) fn from_environment() -> Self {
        if std::env::var_os("PEERS_QUICK").is_some_and(|value| value != "0") {
            Self { is_quick: true, pairs: 300, contend_ms: 1_000, hand_overs: 5, waiters: 50 }
        } else {
            Self { is_quick: false, pairs: 5_000, contend_ms: 4_000, hand_overs: 40, waiters: 1_000 }
        }
    }
}

/// What was measured of one peer. `None` where it failed, or did not end in time.
pub(crate) struct Measured {
    pub(crate) peer: &'static Peer,
    pub(crate) pair: Option<Pair>,
    pub(crate) contest: Option<Contest>,
    /// Milliseconds from the call that releases to the return of the call that waits, at p50 and at worst.
    pub(crate) hand_over_ms: Option<[f64; 2]>,
    /// Milliseconds until each of very many waiters has had the lock, and of the server's CPU in that.
    pub(crate) crowd: Option<[f64; 2]>,
    /// Milliseconds from the grant of a holder that dies, with a lease of two seconds, to the grant of the next.
    pub(crate) death_ms: Option<f64>,
}

pub(crate) struct Pair {
    pub(crate) us: [f64; 2],
    pub(crate) cpu_us: f64,
    pub(crate) commands: Option<f64>,
}

pub(crate) struct Contest {
    pub(crate) grants_per_s: f64,
    pub(crate) fairness: f64,
    pub(crate) worst_ms: f64,
    pub(crate) cpu_us: f64,
    pub(crate) commands: Option<f64>,
}

pub(crate) fn measure(peer: &'static Peer, effort: &Effort) -> Measured {
    Measured {
        peer,
        pair: pair(peer, effort.pairs),
        contest: contest(peer, effort.contend_ms),
        hand_over_ms: hand_over(peer, effort.hand_overs),
        crowd: crowd(peer, effort.waiters),
        death_ms: death(peer),
    }
}

/// Runs a worker on a new server. Returns what it saw, and what the server took of CPU (microseconds) and of commands.
fn run(peer: &Peer, scenario: &str, numbers: &[u64]) -> Option<(Value, f64, Option<f64>)> {
    let server = Running::start(peer.kind);
    let (cpu, commands) = (server.cpu_us(), server.commands());
    let mut worker = Worker::start(peer, server.port(), scenario, numbers);
    let line = worker.line(LONGEST)?;
    let seen = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{}: {line}: {error}", peer.name));
    let commands = server.commands().zip(commands).map(|(after, before)| after - before);
    Some((seen, server.cpu_us() - cpu, commands))
}

fn spans(seen: &Value) -> Vec<f64> {
    let mut spans: Vec<f64> =
        seen["us"].as_array().unwrap().iter().map(|span| span.as_f64().unwrap()).collect();
    spans.sort_by(f64::total_cmp);
    spans
}

fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

fn pair(peer: &Peer, count: u64) -> Option<Pair> {
    let (seen, cpu_us, commands) = run(peer, "pairs", &[count])?;
    let spans = spans(&seen);
    // The worker warms up with more pairs than it shows.
    let all = (spans.len() + warm_up(peer)) as f64;
    Some(Pair {
        us: [50.0, 99.0].map(|percent| percentile(&spans, percent)),
        cpu_us: cpu_us / all,
        commands: commands.map(|commands| commands / all),
    })
}

fn warm_up(peer: &Peer) -> usize {
    if peer.language == Language::Java { 1_000 } else { 100 }
}

fn contest(peer: &Peer, ms: u64) -> Option<Contest> {
    let (seen, cpu_us, commands) = run(peer, "contend", &[CLIENTS, ms])?;
    let grants: Vec<f64> =
        seen["grants"].as_array().unwrap().iter().map(|count| count.as_f64().unwrap()).collect();
    let sum: f64 = grants.iter().sum();
    let squares: f64 = grants.iter().map(|count| count * count).sum();
    let all = spans(&seen).len() as f64;
    Some(Contest {
        grants_per_s: sum * 1000.0 / ms as f64,
        fairness: sum * sum / (grants.len() as f64 * squares),
        worst_ms: percentile(&spans(&seen), 100.0) / 1000.0,
        cpu_us: cpu_us / all,
        commands: commands.map(|commands| commands / all),
    })
}

fn hand_over(peer: &Peer, count: u64) -> Option<[f64; 2]> {
    let (seen, ..) = run(peer, "hand-over", &[count])?;
    let spans = spans(&seen);
    Some([50.0, 100.0].map(|percent| percentile(&spans, percent) / 1000.0))
}

fn crowd(peer: &Peer, waiters: u64) -> Option<[f64; 2]> {
    let (seen, cpu_us, _) = run(peer, "crowd", &[waiters])?;
    Some([seen["ms"].as_f64().unwrap(), cpu_us / 1000.0])
}

fn death(peer: &Peer) -> Option<f64> {
    let server = Running::start(peer.kind);
    let mut holder = Worker::start(peer, server.port(), "hold", &[LEASE_MS]);
    assert_eq!(holder.line(LONGEST)?, "held");
    let held = Instant::now();
    // It may take a while to start.
    let mut waiter = Worker::start(peer, server.port(), "wait", &[]);
    assert_eq!(waiter.line(LONGEST)?, "waiting");
    thread::sleep(Duration::from_millis(300));
    holder.kill();
    assert_eq!(waiter.line(LONGEST)?, "granted");
    Some(held.elapsed().as_secs_f64() * 1000.0)
}

/// A program that is measured, until it goes out of scope.
struct Worker {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Worker {
    fn start(peer: &Peer, port: u16, scenario: &str, numbers: &[u64]) -> Self {
        let mut command = peer.worker(port, scenario, numbers);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// The next line that it writes; `None` if it ends without one, or takes too long.
    fn line(&mut self, patience: Duration) -> Option<String> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                eprintln!("the worker ended: {:?}", self.child.wait());
                None
            }
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
