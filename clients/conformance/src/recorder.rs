//! Writes down what passes the proxies, as a history that checker/ can judge.
//!
//! A proxy is nearer to the server than the client is: it knows when a request was handed on, and what the server said to
//! it, also where the client never heard of it.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use lock_checker::{Answer, Ask, Limit, Micros, Op};

use crate::support::Reply;

pub(crate) struct Recorder {
    began: Instant,
    connections: AtomicUsize,
    is_on: AtomicBool,
    ops: Mutex<Vec<Op>>,
}

/// A request that was handed on.
pub(crate) struct Request {
    /// In capitals.
    pub(crate) command: String,
    /// What the client is told, whatever the server says.
    pub(crate) error: Option<String>,
    words: Vec<String>,
    sent: Micros,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            connections: AtomicUsize::new(0),
            is_on: AtomicBool::new(false),
            ops: Mutex::default(),
        }
    }
}

impl Recorder {
    /// Writes down what passes from now on.
    pub(crate) fn start(&self) {
        self.is_on.store(true, Ordering::SeqCst);
    }

    /// What was written down.
    pub(crate) fn stop(&self) -> Vec<Op> {
        self.is_on.store(false, Ordering::SeqCst);
        std::mem::take(&mut self.ops.lock().unwrap())
    }

    /// The number of a new connection.
    pub(crate) fn open(&self) -> usize {
        self.connections.fetch_add(1, Ordering::SeqCst)
    }

    /// A request that is about to be handed on.
    pub(crate) fn request(&self, command: String, words: Vec<String>) -> Request {
        Request { command, error: None, words, sent: self.now() }
    }

    pub(crate) fn reply(&self, connection: usize, request: Request, reply: &Reply) {
        self.write(connection, request, |ask| answer_of(ask, reply));
    }

    /// The connection has ended, and what was asked on it has no reply. `end` is when the proxy began to close it; without
    /// it the server did, or the way there broke, at some moment since the last reply.
    pub(crate) fn close(&self, connection: usize, asked: VecDeque<Request>, end: Option<Micros>) {
        let sent = end.unwrap_or_else(|| self.last_reply(connection));
        for request in asked {
            self.write(connection, request, |_| Answer::GaveUp);
        }
        let (ask, answer) = (Ask::Close, Answer::Done);
        self.push(Op { sent, answered: self.now(), client: 0, connection, node: 0, ask, answer });
    }

    fn write(&self, connection: usize, request: Request, answer: impl FnOnce(&Ask) -> Answer) {
        let ask = if request.error.is_none() { ask_of(&request) } else { None };
        if let Some(ask) = ask {
            let answer = answer(&ask);
            let (sent, answered) = (request.sent, self.now());
            self.push(Op { sent, answered, client: 0, connection, node: 0, ask, answer });
        }
    }

    fn push(&self, op: Op) {
        if self.is_on.load(Ordering::SeqCst) {
            self.ops.lock().unwrap().push(op);
        }
    }

    fn last_reply(&self, connection: usize) -> Micros {
        let ops = self.ops.lock().unwrap();
        let last = ops.iter().rev().find(|op| op.connection == connection);
        last.map_or(0, |op| op.answered)
    }

    pub(crate) fn now(&self) -> Micros {
        Micros::try_from(self.began.elapsed().as_micros()).unwrap()
    }
}

fn ask_of(request: &Request) -> Option<Ask> {
    let (command, words) = (request.command.as_str(), request.words.get(1..)?);
    match command.strip_prefix("LOCK.M") {
        Some(each) => {
            let (count, words) = words.split_first()?;
            let (keys, rest) = words.split_at_checked(count.parse().ok()?)?;
            let each = ask_of_one(&format!("LOCK.{each}"), keys.first()?, rest)?;
            Some(Ask::Several { keys: keys.to_vec(), each: Box::new(each) })
        }
        None => {
            let (key, rest) = words.split_first()?;
            ask_of_one(command, key, rest)
        }
    }
}

fn ask_of_one(command: &str, key: &str, rest: &[String]) -> Option<Ask> {
    let option = |name: &str| {
        let at = rest.iter().position(|word| word.eq_ignore_ascii_case(name))?;
        rest.get(at + 1)
    };
    let number = |name: &str| option(name).map(|value| value.parse::<u64>().unwrap());
    let has = |name: &str| rest.iter().any(|word| word.eq_ignore_ascii_case(name));
    let level = || option("LEVEL").map(|level| level.parse::<u16>().unwrap());
    let key = key.to_owned();
    Some(match command {
        "LOCK.ACQUIRE" => Ask::Acquire {
            key,
            token: option("TOKEN")?.clone(),
            limit: match option("LIMIT") {
                Some(most) => Limit::Most(most.parse().unwrap()),
                None if has("SHARED") => Limit::Shared,
                None => Limit::EXCLUSIVE,
            },
            lease_ms: number("PX")?,
            weight: option("WEIGHT").map(|weight| weight.parse().unwrap()),
            level: level(),
            block_ms: number("BLOCK"),
            queue_ms: number("QUEUE"),
            session: has("SESSION"),
        },
        "LOCK.RELEASE" => Ask::Release { key, token: rest.first()?.clone(), level: level().unwrap_or(1) },
        "LOCK.EXTEND" => Ask::Extend { key, token: rest.first()?.clone(), lease_ms: number("PX")? },
        "LOCK.GUARD" => match rest {
            [token, set, name, value] if set == "SET" => {
                let (token, name, value) = (token.clone(), name.clone(), value.clone());
                Ask::Guard { key, token, name, value }
            }
            _ => return None,
        },
        _ => return None,
    })
}

fn answer_of(ask: &Ask, reply: &Reply) -> Answer {
    if let Ask::Several { each, .. } = ask {
        return match (&**each, reply) {
            (Ask::Release { .. } | Ask::Extend { .. }, Reply::Int(count)) => {
                Answer::Count(usize::try_from(*count).unwrap())
            }
            (each, reply) => answer_of(each, reply),
        };
    }
    match reply {
        Reply::Error(text) if matches!(ask, Ask::Guard { .. }) && text.starts_with("NOTOWNER ") => {
            Answer::NotOwner
        }
        Reply::Error(text) => Answer::Error(text.clone()),
        Reply::Simple(ok) if matches!(ask, Ask::Guard { .. }) && ok == "OK" => Answer::Done,
        null if null.is_null() => Answer::Null,
        Reply::Array(grant) if matches!(ask, Ask::Acquire { .. }) => {
            Answer::Granted(u64::try_from(grant[1].int()).unwrap())
        }
        Reply::Int(ticket) if matches!(ask, Ask::Acquire { .. }) => {
            Answer::Ticket(u64::try_from(*ticket).unwrap())
        }
        Reply::Int(0) => Answer::No,
        Reply::Int(_) => Answer::Yes,
        other => Answer::Odd(format!("{other:?}")),
    }
}
