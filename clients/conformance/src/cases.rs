//! The cases of clients/cases, whose README.md has what each step does.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::bed::{Bed, Info};
use crate::client::{Client, Outcome, PATIENCE};
use crate::faults::Fault;
use crate::support::Reply;
use crate::testee::{Sent, Testee};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../cases");

/// How long it may take until nothing is left of a case.
const LEFT_WITHIN: Duration = Duration::from_secs(8);

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) needs: Vec<String>,
    /// Milliseconds until nothing is left.
    #[serde(default)]
    leaves: u64,
    steps: Vec<Step>,
}

type Options = serde_json::Map<String, Value>;

/// Each is an object with a word of its own; one that is none of these is a mistake.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Step {
    Acquire(Acquire),
    Start(Start),
    Finish(Finish),
    Cancel(Cancel),
    Extend(Extend),
    Release(Release),
    Guard(Guard),
    Held(Held),
    Lost(Lost),
    NotLost(NotLost),
    Remaining(Remaining),
    Rising(Rising),
    Same(Same),
    Redis(Redis),
    Until(Until),
    Pause(Pause),
    Fault(Faulty),
    Say(Say),
    Cut(Cut),
    Stall(Stall),
    Sent(Asked),
    NotSent(NotSent),
}

fn first_actor() -> String {
    "A".to_owned()
}

fn the_lock() -> String {
    "$lock".to_owned()
}

fn once() -> usize {
    1
}

macro_rules! step {
    ($name:ident { $($(#[$meta:meta])* $field:ident: $kind:ty),+ $(,)? }) => {
        #[derive(Clone, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $name { $($(#[$meta])* $field: $kind),+ }
    };
}

step!(Acquire {
    acquire: String,
    #[serde(default = "first_actor")]
    by: String,
    #[serde(default = "the_lock")]
    name: String,
    /// In place of `name`.
    names: Option<Vec<String>>,
    #[serde(default)]
    options: Options,
    expect: Value
});
step!(Start {
    start: String,
    by: String,
    #[serde(default = "the_lock")]
    name: String,
    /// In place of `name`.
    names: Option<Vec<String>>,
    #[serde(default)]
    options: Options
});
step!(Finish { finish: String, expect: Value, within: u64 });
step!(Cancel { cancel: String });
step!(Extend {
    extend: String,
    #[serde(default)]
    options: Options,
    expect: Value
});
step!(Release { release: String, expect: Value });
step!(Guard { guard: String, command: Vec<Value>, name: Option<String>, expect: Value });
step!(Held { held: String, expect: bool });
step!(Lost { lost: String, within: u64 });
step!(NotLost { not_lost: String });
step!(Remaining { remaining: String, from: f64, to: f64 });
step!(Rising { rising: Vec<String> });
step!(Same { same: Vec<String> });
step!(Redis { redis: Vec<Value>, expect: Option<i64> });
step!(Until {
    until: Wanted,
    #[serde(default = "the_lock")]
    of: String,
    within: u64
});
step!(Pause { pause: u64 });
step!(Faulty {
    fault: Fault,
    of: String,
    #[serde(default = "once")]
    times: usize
});
step!(Say {
    say: String,
    to: String,
    #[serde(default = "once")]
    times: usize
});
step!(Cut {
    #[allow(dead_code)]
    cut: bool
});
step!(Stall { stall: bool });
step!(Asked { sent: String, at_least: usize, within: u64 });
step!(NotSent { not_sent: String });
step!(Wanted {
    held: Option<i64>,
    waiting: Option<i64>,
    owners: Option<Vec<String>>,
    queue: Option<Vec<String>>,
    weights: Option<Vec<i64>>,
    level: Option<i64>,
});

/// All cases, by the file they are in.
pub(crate) fn all() -> BTreeMap<String, Vec<Case>> {
    let mut files: Vec<_> = fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.into_iter().map(|path| (stem(&path), read(&path))).collect()
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

fn read(path: &Path) -> Vec<Case> {
    let text = fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

impl Case {
    /// The options and steps that some testee may not have.
    pub(crate) fn words(&self) -> Vec<&str> {
        let words = self.steps.iter().flat_map(|step| match step {
            Step::Acquire(Acquire { options, names, .. }) | Step::Start(Start { options, names, .. }) => {
                options.keys().map(String::as_str).chain(names.is_some().then_some("several")).collect()
            }
            Step::Cancel(_) => vec!["cancel"],
            Step::Guard(_) => vec!["guard"],
            _ => vec![],
        });
        words.collect()
    }
}

pub(crate) fn run(case: &Case, testee: &Testee, bed: &Bed, protocol: u8, lock: &str) {
    let replica =
        (case.needs.iter().any(|need| need == "replica") && !bed.has_replica()).then(|| bed.replica());
    let mut run = Run {
        testee,
        bed,
        protocol,
        lock,
        locks: BTreeSet::from([lock.to_owned()]),
        clients: HashMap::new(),
        holds: HashMap::new(),
        started: HashMap::new(),
    };
    for (step, number) in case.steps.iter().zip(1..) {
        let at = At(number);
        run.step(step);
        drop(at);
    }
    bed.faults.stall(false);
    for lock in &run.locks {
        bed.wait_info(lock, LEFT_WITHIN + Duration::from_millis(case.leaves), |info| {
            *info == Info::default()
        });
    }
    run.clients.into_values().for_each(Client::close);
    drop(replica);
}

/// Says at which step a case has failed.
struct At(usize);

impl Drop for At {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("at step {} of the case", self.0);
        }
    }
}

struct Run<'a> {
    testee: &'a Testee,
    bed: &'a Bed,
    protocol: u8,
    lock: &'a str,
    /// All that were asked for.
    locks: BTreeSet<String>,
    /// By user; that of the cases has none.
    clients: HashMap<String, Client<'a>>,
    holds: HashMap<String, Hold>,
    started: HashMap<String, Started>,
}

struct Hold {
    user: String,
    by: String,
    fence: u64,
    token: String,
}

struct Started {
    user: String,
    by: String,
    sent: Sent,
}

impl<'a> Run<'a> {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Acquire(Acquire { acquire, by, name, names, options, expect }) => {
                self.start(acquire, by, name, names.as_deref(), options);
                self.finish(acquire, expect, PATIENCE);
            }
            Step::Start(Start { start, by, name, names, options }) => {
                self.start(start, by, name, names.as_deref(), options);
            }
            Step::Finish(Finish { finish, expect, within }) => self.finish(finish, expect, ms(*within)),
            Step::Cancel(Cancel { cancel }) => {
                let started = &self.started[cancel];
                self.clients[&started.user].cancel(&started.sent);
            }
            Step::Extend(Extend { extend, options, expect }) => {
                let (client, hold) = self.held(extend);
                let reply = client.extend(&hold.by, extend, json!(options));
                assert!(*expect == json!("any") || reply["is"] == *expect, "{expect} is expected: {reply}");
            }
            Step::Release(Release { release, expect }) => {
                let (client, hold) = self.held(release);
                let reply = client.release(&hold.by, release);
                assert_eq!(reply["is"], *expect, "{reply}");
            }
            Step::Guard(Guard { guard, command, name, expect }) => {
                let (client, hold) = self.held(guard);
                let command: Vec<Value> = command.iter().map(|word| self.value(word)).collect();
                let name = name.as_ref().map(|name| self.name(name));
                let reply = client.guard(&hold.by, guard, name.as_deref(), json!(command));
                let said = reply.get("error").map_or(reply.clone(), |kind| json!({"error": kind}));
                let is_one_of = |these: &Value| these.as_array().is_some_and(|these| these.contains(&said));
                let is_expected = said == *expect || expect.get("one of").is_some_and(is_one_of);
                assert!(is_expected, "{expect} is expected, and it is {reply}");
            }
            Step::Held(Held { held, expect }) => {
                let state = self.held(held).0.state(held);
                assert_eq!(state.held, *expect, "{state:?}");
                assert_eq!(state.remaining > 0.0, state.held, "{state:?}");
            }
            Step::Lost(Lost { lost, within }) => self.held(lost).0.wait_lost(lost, ms(*within)),
            Step::NotLost(NotLost { not_lost }) => {
                let state = self.held(not_lost).0.state(not_lost);
                assert_eq!(state.lost, 0, "{state:?}");
            }
            Step::Remaining(Remaining { remaining, from, to }) => {
                let left = self.held(remaining).0.state(remaining).remaining;
                assert!((*from..=*to).contains(&left), "{left} ms are left");
            }
            Step::Rising(Rising { rising }) => {
                let fences = self.fences(rising);
                assert!(fences.is_sorted_by(|one, next| one < next), "{fences:?}");
            }
            Step::Same(Same { same }) => {
                let fences = self.fences(same);
                assert!(fences.iter().all(|fence| *fence == fences[0]), "{fences:?}");
            }
            Step::Redis(Redis { redis, expect }) => self.redis(redis, *expect),
            Step::Until(Until { until, of, within }) => {
                let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
                let default = format!("{}:{}:", host.trim_end(), self.testee.pid());
                self.bed.wait_info(&self.name(of), ms(*within), |info| until.is_met(info, &default));
            }
            Step::Pause(Pause { pause }) => thread::sleep(ms(*pause)),
            Step::Fault(Faulty { fault, of, times }) => self.bed.faults.add(*fault, of, *times),
            Step::Say(Say { say, to, times }) => self.bed.faults.say(say, to, *times),
            Step::Cut(Cut { cut }) => {
                assert!(cut, "cut is true, or not there");
                self.bed.cut();
            }
            Step::Stall(Stall { stall }) => self.bed.faults.stall(*stall),
            Step::Sent(Asked { sent, at_least, within }) => {
                let end = Instant::now() + ms(*within);
                while self.bed.faults.sent(sent) < *at_least {
                    assert!(Instant::now() < end, "sent {} times", self.bed.faults.sent(sent));
                    thread::sleep(Duration::from_millis(5));
                }
            }
            Step::NotSent(NotSent { not_sent }) => {
                assert_eq!(self.bed.faults.sent(not_sent), 0, "{not_sent} was sent");
            }
        }
    }

    fn start(&mut self, hold: &str, by: &str, name: &str, names: Option<&[String]>, options: &Options) {
        let name = self.name(name);
        let names: Option<Vec<String>> =
            names.map(|names| names.iter().map(|name| self.name(name)).collect());
        self.locks.extend(names.clone().unwrap_or_else(|| vec![name.clone()]));
        let mut options = options.clone();
        let user = options.remove("user").map(|user| user.as_str().unwrap().to_owned()).unwrap_or_default();
        for value in options.values_mut() {
            *value = self.value(value);
        }
        let client = self.clients.entry(user.clone()).or_insert_with(|| {
            let mut settings = json!({"protocol": self.protocol});
            if !user.is_empty() {
                settings["user"] = json!(user);
                settings["password"] = json!("secret");
            }
            Client::connect(self.testee, &format!("main {user}"), self.bed.address(), settings)
        });
        let sent = match names {
            Some(names) => client.acquire_all(by, hold, &names, json!(options)),
            None => client.acquire(by, hold, &name, json!(options)),
        };
        self.started.insert(hold.to_owned(), Started { user, by: by.to_owned(), sent });
    }

    fn held(&self, name: &str) -> (&Client<'a>, &Hold) {
        let hold = self.holds.get(name).unwrap_or_else(|| panic!("nothing was held that is called {name}"));
        (&self.clients[&hold.user], hold)
    }

    fn fences(&self, names: &[String]) -> Vec<u64> {
        names.iter().map(|name| self.held(name).1.fence).collect()
    }

    /// `$lock`, or another name that is in the same slot of a cluster, as in `$lock b`.
    fn name(&self, word: &str) -> String {
        match word.strip_prefix("$lock") {
            Some("") => self.lock.to_owned(),
            Some(more) => format!("{{{}}}{more}", self.lock),
            None => word.to_owned(),
        }
    }

    /// A word of a step, with what stands for something else put in.
    fn value(&self, value: &Value) -> Value {
        match value.as_str().and_then(|word| word.strip_prefix('$')) {
            None => value.clone(),
            Some(word) if word.starts_with("lock") => json!(self.name(&format!("${word}"))),
            Some(word) => match word.split_once('.') {
                Some((hold, "token")) => json!(self.held(hold).1.token),
                Some((hold, "fence")) => json!(self.held(hold).1.fence),
                _ => panic!("${word} stands for nothing"),
            },
        }
    }

    fn redis(&self, words: &[Value], expect: Option<i64>) {
        let words: Vec<String> = words
            .iter()
            .map(|word| match self.value(word) {
                Value::String(text) => text,
                other => other.to_string(),
            })
            .collect();
        // What is not about the lock is for all servers.
        let others = format!("{{{}}}", self.lock);
        let is_of_lock = words.iter().any(|word| word == self.lock || word.starts_with(&others));
        let reply = if is_of_lock {
            self.bed.owner(self.lock).call(&words)
        } else {
            self.bed.run_everywhere(self.lock, &words)
        };
        assert!(!reply.is_error(), "{words:?}: {reply:?}");
        if let Some(expect) = expect {
            assert_eq!(reply, Reply::Int(expect), "{words:?}");
        }
    }

    fn finish(&mut self, name: &str, expect: &Value, within: Duration) {
        let Started { user, by, sent } = self.started.remove(name).unwrap();
        let outcome = self.clients[&user].finish(&sent, within);
        let said = match &outcome {
            Outcome::Held { .. } => json!("held"),
            Outcome::NotAvailable => json!("none"),
            Outcome::Cancelled => json!("cancelled"),
            Outcome::Error(kind, _) => json!({"error": kind}),
        };
        let is_any_error = *expect == json!({"error": "any"}) && matches!(outcome, Outcome::Error(..));
        assert!(is_any_error || said == *expect, "{expect} is expected, and it is {outcome:?}");
        if let Outcome::Held { fence, token } = outcome {
            self.holds.insert(name.to_owned(), Hold { user, by, fence, token });
        }
    }
}

fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

impl Wanted {
    /// `default` is how the owner begins that a client names by itself; what names the worker follows.
    fn is_met(&self, info: &Info, default: &str) -> bool {
        let number = |wanted: Option<i64>, is: i64| wanted.is_none_or(|wanted| wanted == is);
        let labels = |wanted: &Option<Vec<String>>, are: &[Option<String>]| {
            wanted.as_ref().is_none_or(|wanted| {
                let is_so = |(wanted, is): (&String, &Option<String>)| {
                    let is = is.as_deref();
                    if wanted == "default" {
                        is.and_then(|is| is.strip_prefix(default)).is_some_and(|worker| !worker.is_empty())
                    } else {
                        is == Some(wanted)
                    }
                };
                wanted.len() == are.len() && wanted.iter().zip(are).all(is_so)
            })
        };
        number(self.held, info.held)
            && number(self.waiting, info.waiting)
            && number(self.level, info.level)
            && self.weights.as_ref().is_none_or(|weights| *weights == info.weights)
            && labels(&self.owners, &info.owners)
            && labels(&self.queue, &info.queue)
    }
}
