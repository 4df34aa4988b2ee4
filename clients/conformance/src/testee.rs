//! The program that has the client of one language do things. README.md of this folder has its language.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// For what should come at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client that takes part.
#[derive(Clone)]
pub(crate) struct Kind {
    /// As in "python threads".
    pub(crate) name: String,
    /// The program, and its arguments.
    pub(crate) command: Vec<String>,
}

/// What the testee says first.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ready {
    #[allow(dead_code)]
    ready: bool,
    pub(crate) protocols: Vec<u8>,
    pub(crate) places: Vec<String>,
    /// What is left out, and why.
    #[serde(default)]
    pub(crate) cannot: HashMap<String, String>,
}

type Waiting = Arc<Mutex<HashMap<u64, Sender<Value>>>>;

pub(crate) struct Testee {
    name: String,
    child: Mutex<Child>,
    input: Mutex<ChildStdin>,
    waiting: Waiting,
    next: AtomicU64,
    pub(crate) ready: Ready,
    errors: tempfile::NamedTempFile,
}

/// A request that was sent.
pub(crate) struct Sent {
    pub(crate) id: u64,
    what: String,
    reply: Receiver<Value>,
}

impl Testee {
    pub(crate) fn start(kind: &Kind) -> Self {
        let errors = tempfile::Builder::new().prefix("redis-lock-testee-").tempfile().unwrap();
        let (program, arguments) = kind.command.split_first().unwrap();
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(errors.path()).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("starting {:?}: {error}", kind.command));
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let first = lines.next().unwrap_or_default();
        let ready = serde_json::from_str(&first).unwrap_or_else(|error| {
            let _ = child.kill();
            panic!("{} did not begin as it should ({error}): {first:?}\n{}", kind.name, read(&errors))
        });
        let waiting = Waiting::default();
        let replies = waiting.clone();
        thread::spawn(move || {
            for line in lines {
                let reply: Value = serde_json::from_str(&line)
                    .unwrap_or_else(|error| json!({"garbled": format!("{line:?}: {error}")}));
                let sender = reply["id"].as_u64().and_then(|id| replies.lock().unwrap().remove(&id));
                match sender {
                    // Nobody may wait for it any more.
                    Some(sender) => drop(sender.send(reply)),
                    None => eprintln!("a testee said what nobody has asked for: {line}"),
                }
            }
            // It has ended, and who waits will get nothing.
            replies.lock().unwrap().clear();
        });
        let (name, child) = (kind.name.clone(), Mutex::new(child));
        Self { name, child, input: Mutex::new(input), waiting, next: AtomicU64::new(1), ready, errors }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// Sends a request: `what`, and what else there is of it.
    pub(crate) fn send(&self, what: &str, more: Value) -> Sent {
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        let (sender, reply) = channel();
        self.waiting.lock().unwrap().insert(id, sender);
        let mut request = Map::from_iter([("id".to_owned(), json!(id)), ("do".to_owned(), json!(what))]);
        request.extend(more.as_object().unwrap().clone());
        let what = Value::Object(request).to_string();
        // An error says that it has ended, and so does the missing reply.
        let _ = writeln!(self.input.lock().unwrap(), "{what}");
        Sent { id, what, reply }
    }

    /// Sends a request and waits for its reply.
    #[track_caller]
    pub(crate) fn call(&self, what: &str, more: Value) -> Value {
        self.wait(&self.send(what, more), PATIENCE)
    }

    #[track_caller]
    pub(crate) fn wait(&self, sent: &Sent, patience: Duration) -> Value {
        self.try_wait(sent, patience).unwrap_or_else(|| {
            panic!("{} has no reply within {patience:?} to {}\n{}", self.name, sent.what, read(&self.errors))
        })
    }

    /// `None` if there is none in time, or the program has ended.
    pub(crate) fn try_wait(&self, sent: &Sent, patience: Duration) -> Option<Value> {
        sent.reply.recv_timeout(patience).ok()
    }

    /// Kills it without notice.
    pub(crate) fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Testee {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("--- standard error of {} ---\n{}", self.name, read(&self.errors));
        }
    }
}

fn read(file: &tempfile::NamedTempFile) -> String {
    let text = fs::read(file.path()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
