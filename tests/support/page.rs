//! Cases written as a page: what clients do, what they are replied, and what a replica is told of it, in order.
//!
//! ```text
//! A release hands the lock over
//!     A: LOCK.ACQUIRE k TOKEN a          = a #1   | LOCK.ACQUIRE k [a #1 30000]
//!     B: LOCK.ACQUIRE k TOKEN b BLOCK 0  = waits
//!     A: LOCK.RELEASE k a                = 1      | MULTI
//!                                                 | LOCK.RELEASE k a
//!                                                 | LOCK.ACQUIRE k [b #2 30000]
//!                                                 | EXEC
//!     B:                                 = b #2
//! ```
//!
//! - A letter is a connection, which is opened where it first stands. `; ` parts commands that are sent in one write. What
//!   comes of a long one stands on the next line.
//! - `= waits` says that the server has the client wait; a letter with no command reads what it has waited for.
//! - `(closes)` ends a connection and `(closed)` says that the server has; `(waits)` says that it still waits. `(k goes)`
//!   waits until that key of database 0 does not exist, `(k has 1)` until it has so many holds.
//! - `#1` is the first fence that was drawn in the case, `*1` the first token that the server made, `<B>` the id of a
//!   connection; `$1` is a payload that DUMP gave.
//! - A hold is `[token #fence lease]`, and behind that what is not the rule: `LIMIT n` or `SHARED`, `WEIGHT n`, `LEVEL n`,
//!   `OWNER label`. Of a lease with `~` in front a part may have passed; any other has just begun.
//! - What is told of another database than 0 has its number in front. `DEL/UNLINK` is a key that the server removes by
//!   itself: which of the two it says is a matter of its version. `@1` is the first time of day, which only commands of
//!   the server's own carry.
//! - Between double quotes stands one word, in which `\n`, `\0` and `\xff` are bytes. A word of more than 60 bytes that is
//!   told stands as `...`.
//!
//! What time does, such as the end of a lease, may be told in a step before that in which it is waited for.
//!
//! The server has a replica, which passes on to its own replicas what it is told, and an append-only file, which has the
//! same. After each case the replica agrees, and so does what is read from the file.
#![allow(dead_code)] // each test file uses a part of it
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::support::locks::holders;
use crate::support::stream::{Said, Stream, appended};
use crate::support::waiter::{is_blocked, once_blocked};
use crate::support::wording::Wording;
use crate::support::{Client, PATIENCE, Pair, Reply, Server, wait_until};

/// Runs every case of a page, which must come out as written.
#[track_caller]
pub(crate) fn comes_true(page: &str) {
    let cases = cases(page);
    assert!(!cases.is_empty(), "a page without a case");
    let mut stage = Stage::new();
    let differing = cases.iter().filter(|case| !stage.run(case)).count();
    assert_eq!(differing, 0, "cases that did not come out as written: above as they came out");
    stage.end();
}

/// A step that is written longer than this has what comes of it on a line of its own.
const WIDE: usize = 64;

/// What one connection does, and what is to come of it.
#[derive(Clone, Debug)]
struct Step {
    who: String,
    does: String,
    replied: String,
    told: Vec<String>,
}

#[derive(Debug)]
struct Case {
    title: String,
    steps: Vec<Step>,
}

fn cases(page: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in page.lines().filter(|line| !line.trim().is_empty()) {
        if !line.starts_with(' ') {
            cases.push(Case { title: line.to_owned(), steps: Vec::new() });
            continue;
        }
        let case = cases.last_mut().unwrap_or_else(|| panic!("a step before any title: {line}"));
        let (left, told) = match line.split_once("| ") {
            Some((left, told)) => (left, Some(told.trim().to_owned())),
            None => (line, None),
        };
        if let Some(replied) = left.trim().strip_prefix("= ") {
            let step = case.steps.last_mut().unwrap_or_else(|| panic!("replied to nothing: {line}"));
            replied.trim().clone_into(&mut step.replied);
        } else if !left.trim().is_empty() {
            case.steps.push(step(left.trim()));
        }
        let step = case.steps.last_mut().unwrap_or_else(|| panic!("told of nothing: {line}"));
        step.told.extend(told);
    }
    cases
}

fn step(text: &str) -> Step {
    let (who, rest) = text.split_once(':').unwrap_or_else(|| panic!("nobody does this: {text}"));
    let (does, replied) = rest.split_once(" = ").unwrap_or((rest, ""));
    let [who, does, replied] = [who, does, replied].map(|part| part.trim().to_owned());
    Step { who, does, replied, told: Vec::new() }
}

/// Where cases are played.
struct Stage {
    pair: Pair,
    stream: Stream,
    /// What the replica tells its own replicas.
    echo: Stream,
    observer: Client,
    /// All that was told until now, but for how the end of it was found.
    said: Vec<Said>,
}

impl Stage {
    #[track_caller]
    fn new() -> Self {
        let settings = || Server::builder().config("repl-ping-replica-period 3600");
        // Without a disk a replica would be told nothing for up to a second at first.
        let master = settings().aof().config("aof-use-rdb-preamble no").config("repl-diskless-sync no");
        // A replica judges nothing by settings of its own, whatever they are.
        let narrow = ["lock.max-lease 10", "lock.default-lease 10", "lock.max-waiters 0"];
        let replica = narrow.iter().fold(settings(), |builder, line| builder.config(line));
        let pair = Pair::start_with(master, replica);
        let (stream, echo) = (Stream::of(&pair.master), Stream::of(&pair.replica));
        let observer = pair.master.client();
        Self { pair, stream, echo, observer, said: Vec::new() }
    }

    /// Plays a case. What came out is printed, if it is not what is written.
    #[track_caller]
    fn run(&mut self, case: &Case) -> bool {
        println!("{}", case.title);
        let mut cast = Cast { wording: Wording::default(), clients: BTreeMap::new() };
        let mut came = Vec::new();
        for step in &case.steps {
            let replied = cast.act(step, self);
            let told = self.until_now().iter().map(|said| cast.wording.told(said)).collect();
            came.push(Step { replied, told, ..step.clone() });
        }
        drop(cast);
        let is_as_written = agree(&case.steps, &came);
        if !is_as_written {
            println!("{}", shown(&case.title, &came));
        }
        self.strike(&case.title);
        is_as_written
    }

    fn until_now(&mut self) -> Vec<Said> {
        let said = self.stream.until_now(&mut self.observer);
        assert_eq!(self.echo.until_the_end(), said, "what a replica tells its own replicas");
        self.said.extend(said.iter().cloned());
        said
    }

    /// All who took part leave, replica and file are compared, and the data go.
    #[track_caller]
    fn strike(&mut self, title: &str) {
        let mut observer = self.pair.master.client();
        wait_until("all connections of the case are closed", PATIENCE, || {
            observer.run("CLIENT LIST TYPE normal").text().lines().count() == 2
        });
        self.pair.wait_caught_up();
        let digest = |server: &Server| server.client().run("DEBUG DIGEST").text();
        let mut before = digest(&self.pair.master);
        wait_until(&format!("{title}: the replica agrees"), PATIENCE, || {
            before = digest(&self.pair.master);
            before == digest(&self.pair.replica)
        });
        self.until_now();
        // Neither does a server that reads its own file.
        self.observer.ok("CONFIG SET lock.max-lease 10 lock.default-lease 10");
        self.observer.ok("DEBUG LOADAOF");
        self.observer.ok("CONFIG SET lock.max-lease 86400000 lock.default-lease 30000");
        assert_eq!(digest(&self.pair.master), before, "{title}: what is read from the file is the same");
        self.assert_appended(title);
        self.observer.ok("FLUSHALL");
        self.until_now();
    }

    #[track_caller]
    fn assert_appended(&self, title: &str) {
        let mut appended = appended(&self.pair.master);
        appended.retain(|said| !Stream::is_the_end(said));
        assert_eq!(appended, self.said, "{title}: the append-only file has what replicas are told");
    }

    /// A start from the file adds nothing to it.
    #[track_caller]
    fn end(mut self) {
        self.pair.master.kill9();
        self.pair.master.start_again();
        self.assert_appended("after a restart");
        self.pair.master.assert_alive();
        self.pair.replica.assert_alive();
    }
}

/// Whether each step came out as written; what the next steps do but wait for may have been told before.
fn agree(written: &[Step], came: &[Step]) -> bool {
    let replies = written.iter().zip(came).all(|(written, came)| written.replied == came.replied);
    let mut due = Vec::new();
    let mut told = Vec::new();
    let in_step = written.iter().zip(came).enumerate().all(|(at, (written_step, came_step))| {
        due.extend(&written_step.told);
        told.extend(&came_step.told);
        let next = written[at + 1..].iter().take_while(|next| next.waits_for_time());
        let mut early = due.clone();
        says(&told, &due)
            || next.into_iter().any(|next| {
                early.extend(&next.told);
                says(&told, &early)
            })
    });
    replies && in_step
}

fn says(told: &[&String], due: &[&String]) -> bool {
    let is = |told: &str, due: &str| match due.strip_prefix("DEL/UNLINK ") {
        Some(key) => told == format!("DEL {key}") || told == format!("UNLINK {key}"),
        None if due.contains('~') => told.replace('~', "") == due.replace('~', ""),
        None => told == due,
    };
    told.len() == due.len() && told.iter().zip(due).all(|(told, due)| is(told, due))
}

impl Step {
    fn waits_for_time(&self) -> bool {
        self.does.is_empty() || self.does.starts_with('(')
    }
}

/// The case as it came out, in the form in which it is written.
fn shown(title: &str, steps: &[Step]) -> String {
    let left = |step: &Step| format!("    {}: {}", step.who, step.does).trim_end().to_owned();
    let lefts: Vec<String> = steps.iter().map(left).filter(|left| left.len() <= WIDE).collect();
    let wide = lefts.iter().map(String::len).max().unwrap_or(0);
    let replied = steps.iter().map(|step| step.replied.len()).max().unwrap_or(0);
    let mut page = format!("{title}\n");
    for step in steps {
        let mut line = left(step);
        if line.len() > wide {
            writeln!(page, "{line}").unwrap();
            line.clear();
        }
        let equals = if step.replied.is_empty() { ' ' } else { '=' };
        line = format!("{line:wide$} {equals} {:replied$}", step.replied);
        for told in &step.told {
            writeln!(page, "{line} | {told}").unwrap();
            line = " ".repeat(wide + 3 + replied);
        }
        if step.told.is_empty() {
            writeln!(page, "{}", line.trim_end()).unwrap();
        }
    }
    page
}

/// Who takes part in a case.
struct Cast {
    clients: BTreeMap<String, (Client, i64)>,
    wording: Wording,
}

impl Cast {
    /// Does what a step says; returns the replies in words.
    #[track_caller]
    fn act(&mut self, step: &Step, stage: &mut Stage) -> String {
        if let Some(event) = step.does.strip_prefix('(').and_then(|does| does.strip_suffix(')')) {
            self.await_event(&step.who, event, stage);
            return String::new();
        }
        if !self.clients.contains_key(&step.who) {
            let mut client = stage.pair.master.client();
            let id = client.id();
            self.clients.insert(step.who.clone(), (client, id));
        }
        let commands = self.real(&step.does);
        let (client, id) = self.clients.get_mut(&step.who).unwrap();
        if step.replied == "waits" {
            commands.iter().for_each(|command| client.send(command));
            once_blocked(&mut stage.observer, client, *id, &step.does);
            return "waits".to_owned();
        }
        let replies = if commands.is_empty() { vec![client.read()] } else { client.pipeline(&commands) };
        let words: Vec<String> = replies.iter().map(|reply| self.wording.replied(reply)).collect();
        words.join("; ")
    }

    #[track_caller]
    fn await_event(&mut self, who: &str, event: &str, stage: &mut Stage) {
        let observer = &mut stage.observer;
        match event.split(' ').collect::<Vec<_>>()[..] {
            ["closes"] => {
                let (client, id) = self.clients.remove(who).unwrap();
                drop(client);
                let list = format!("CLIENT LIST ID {id}");
                wait_until("the connection is closed", PATIENCE, || observer.run(&list).text().is_empty());
            }
            ["closed"] => {
                let (client, _) = self.clients.get_mut(who).unwrap();
                assert_eq!(client.try_read().unwrap(), None, "{who}: the connection was to be closed");
            }
            [key, "goes"] => {
                let exists = format!("EXISTS {key}");
                wait_until(event, PATIENCE, || observer.run(&exists) == Reply::Int(0));
            }
            [key, "has", count] => {
                let count: usize = count.parse().unwrap();
                wait_until(event, PATIENCE, || holders(observer, key).len() == count);
            }
            ["waits"] => assert!(is_blocked(observer, self.clients[who].1), "{who} does not wait any more"),
            _ => panic!("no event: {event}"),
        }
    }

    /// Commands as they are sent. Words are parted by blanks, unless they stand between double quotes.
    fn real(&self, text: &str) -> Vec<Vec<Vec<u8>>> {
        let mut commands = vec![Vec::new()];
        for (at, part) in text.split('"').enumerate() {
            if at % 2 == 1 {
                commands.last_mut().unwrap().push(unescaped(part));
                continue;
            }
            for (at, part) in part.split("; ").enumerate() {
                if at > 0 {
                    commands.push(Vec::new());
                }
                let words = part.split_ascii_whitespace().map(|word| self.real_word(word));
                commands.last_mut().unwrap().extend(words);
            }
        }
        commands.retain(|command| !command.is_empty());
        commands
    }

    fn real_word(&self, word: &str) -> Vec<u8> {
        if let Some(name) = word.strip_prefix('<').and_then(|word| word.strip_suffix('>')) {
            return self.clients[name].1.to_string().into_bytes();
        }
        self.wording.real(word).unwrap_or_else(|| word.as_bytes().to_vec())
    }
}

/// The bytes of a word between double quotes.
fn unescaped(text: &str) -> Vec<u8> {
    let mut parts = text.split('\\');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        let (byte, rest) = match part.split_at(1) {
            ("n", rest) => (b'\n', rest),
            ("r", rest) => (b'\r', rest),
            ("0", rest) => (0, rest),
            ("x", rest) => (u8::from_str_radix(&rest[..2], 16).unwrap(), &rest[2..]),
            _ => panic!("no escape: {text}"),
        };
        bytes.push(byte);
        bytes.extend(rest.as_bytes());
    }
    bytes
}
