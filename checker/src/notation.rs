//! Histories as text, a line for each request and each fault, so that people can read them and a file can be checked
//! again.
//!
//! ```text
//! terms fences=one-sequence patience=5000.000 claim=5000.000 writes=kept errors=READONLY,UNBLOCKED
//! #       sent     answered  who     node  request => answer
//!        1.204        1.377  c0.1    n0    acquire k1 c0-7 limit=1 lease=300 level=1 block=50 session => granted 17953
//!        1.204        1.377  c0.1    n0    macquire k1,k2 c0-8 limit=4 lease=300 weight=2 => null
//!        1.204        1.377  c0.1    n0    guard k1 c0-7 set x c0-7-1 => done
//!       20.001       81.500  fault   n0    kill with the append-only file kept
//! ```
//!
//! Times are in milliseconds since the history began. A line that begins with `#` is a remark.

use std::fmt;
use std::str::FromStr;

use crate::history::{Answer, Ask, Fault, FaultKind, History, Limit, Micros, NEVER, Op};
use crate::{FenceScope, Terms};

/// What stands over the columns.
pub const HEADING: &str = "#       sent     answered  who     node  request => answer";

/// A history together with what was promised where it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What was promised.
    pub terms: Terms,
    /// What happened.
    pub history: History,
}

/// Microseconds, shown as milliseconds.
struct Ms(Micros);

impl fmt::Display for Ms {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            NEVER => out.pad("never"),
            micros => out.pad(&format!("{}.{:03}", micros / 1000, micros % 1000)),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, answered) = (Ms(self.sent), Ms(self.answered));
        let (who, node) = (format!("c{}.{}", self.client, self.connection), format!("n{}", self.node));
        write!(out, "{sent:>12} {answered:>12}  {who:<6}  {node:<4}  {} => {}", self.ask, self.answer)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (begin, end) = (Ms(self.begin), Ms(self.end));
        let node = self.node.map_or_else(|| "all".to_owned(), |node| format!("n{node}"));
        let line = format!("{begin:>12} {end:>12}  fault   {node:<4}  {} {}", self.kind, self.detail);
        out.write_str(line.trim_end())
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Most(most) => write!(out, "{most}"),
            Self::Shared => out.write_str("shared"),
        }
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Several { keys, each } => write!(out, "m{}", each.of(&keys.join(","))),
            Self::Guard { key, token, name, value } => write!(out, "guard {key} {token} set {name} {value}"),
            Self::Read { name } => write!(out, "read {name}"),
            Self::Acquire { key, token, limit, lease_ms, weight, level, block_ms, queue_ms, session } => {
                write!(out, "acquire {key} {token} limit={limit} lease={lease_ms}")?;
                if let Some(weight) = weight {
                    write!(out, " weight={weight}")?;
                }
                if let Some(level) = level {
                    write!(out, " level={level}")?;
                }
                if let Some(block_ms) = block_ms {
                    write!(out, " block={block_ms}")?;
                }
                if let Some(queue_ms) = queue_ms {
                    write!(out, " queue={queue_ms}")?;
                }
                out.write_str(if *session { " session" } else { "" })
            }
            Self::Release { key, token, level: ..=1 } => write!(out, "release {key} {token}"),
            Self::Release { key, token, level } => write!(out, "release {key} {token} level={level}"),
            Self::Extend { key, token, lease_ms } => write!(out, "extend {key} {token} lease={lease_ms}"),
            Self::Check { key, token } => write!(out, "check {key} {token}"),
            Self::Expire { key, ttl_ms } => write!(out, "expire {key} ttl={ttl_ms}"),
            Self::Look { key } => write!(out, "look {key}"),
            Self::Write { key, token, fence } => write!(out, "write {key} {token} {fence}"),
            Self::Ping => out.write_str("ping"),
            Self::Open => out.write_str("open"),
            Self::Close => out.write_str("close"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Granted(fence) => write!(out, "granted {fence}"),
            Self::Null => out.write_str("null"),
            Self::Ticket(ticket) => write!(out, "ticket {ticket}"),
            Self::Yes => out.write_str("yes"),
            Self::No => out.write_str("no"),
            Self::Count(count) => write!(out, "count {count}"),
            Self::Either => out.write_str("either"),
            Self::Value(value) => write!(out, "value {value}"),
            Self::NotOwner => out.write_str("notowner"),
            Self::Held(fence, left_ms) => write!(out, "held {fence} {left_ms}"),
            Self::Queue(tokens) if tokens.is_empty() => out.write_str("queue"),
            Self::Queue(tokens) => write!(out, "queue {}", tokens.join(" ")),
            Self::Done => out.write_str("done"),
            Self::Stale => out.write_str("stale"),
            Self::Error(text) => write!(out, "error {text}"),
            Self::Lost => out.write_str("lost"),
            Self::GaveUp => out.write_str("gave-up"),
            Self::Unconfirmed => out.write_str("unconfirmed"),
            Self::Odd(text) => write!(out, "odd {text}"),
        }
    }
}

impl FaultKind {
    const ALL: [(Self, &str); 7] = [
        (Self::Kill, "kill"),
        (Self::Stop, "stop"),
        (Self::Pause, "pause"),
        (Self::Failover, "failover"),
        (Self::Move, "move"),
        (Self::Rewrite, "rewrite"),
        (Self::Clock, "clock"),
    ];
}

impl fmt::Display for FaultKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(kind, _)| kind == self).map_or("", |(_, name)| name);
        out.pad(name)
    }
}

impl fmt::Display for Terms {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fences = match self.fences {
            FenceScope::OneSequence => "one-sequence",
            FenceScope::PerNodeAndKey => "per-node-and-key",
        };
        let (patience, claim) = (Ms(self.patience), Ms(self.claim_lease));
        let writes = if self.loses_writes { "lost" } else { "kept" };
        write!(
            out,
            "terms fences={fences} patience={patience} claim={claim} writes={writes} errors={}",
            self.errors.join(",")
        )
    }
}

impl fmt::Display for Record {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}\n{HEADING}", self.terms)?;
        let mut faults = self.history.faults().iter().peekable();
        for op in self.history.ops() {
            while let Some(fault) = faults.next_if(|fault| fault.begin <= op.sent) {
                writeln!(out, "{fault}")?;
            }
            writeln!(out, "{op}")?;
        }
        faults.try_for_each(|fault| writeln!(out, "{fault}"))
    }
}

impl FromStr for Record {
    type Err = String;

    /// Reads what [`Record`] shows.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut lines = Lines::default();
        for (line, number) in text.lines().zip(1..) {
            lines.read(line).ok_or_else(|| format!("line {number} cannot be read: {line}"))?;
        }
        let terms = lines.terms.ok_or("there is no line of terms")?;
        Ok(Self { terms, history: History::new(lines.ops, lines.faults) })
    }
}

/// What has been read so far.
#[derive(Default)]
struct Lines {
    terms: Option<Terms>,
    ops: Vec<Op>,
    faults: Vec<Fault>,
}

impl Lines {
    fn read(&mut self, line: &str) -> Option<()> {
        let mut words = line.split_whitespace();
        match (words.next(), words.nth(1)) {
            (None, _) => {}
            (Some(word), _) if word.starts_with('#') => {}
            (Some("terms"), _) => self.terms = Some(read_terms(line)?),
            (_, Some("fault")) => self.faults.push(read_fault(line)?),
            _ => self.ops.push(read_op(line)?),
        }
        Some(())
    }
}

fn read_terms(line: &str) -> Option<Terms> {
    let mut words = line.split_whitespace().skip(1);
    let fences = match words.next()?.strip_prefix("fences=")? {
        "one-sequence" => FenceScope::OneSequence,
        "per-node-and-key" => FenceScope::PerNodeAndKey,
        _ => return None,
    };
    let patience = read_time(words.next()?.strip_prefix("patience=")?)?;
    let claim_lease = read_time(words.next()?.strip_prefix("claim=")?)?;
    let loses_writes = match words.next()?.strip_prefix("writes=")? {
        "kept" => false,
        "lost" => true,
        _ => return None,
    };
    let errors = words.next()?.strip_prefix("errors=")?;
    let errors = errors.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    Some(Terms { fences, patience, claim_lease, errors, loses_writes })
}

fn read_op(line: &str) -> Option<Op> {
    let (left, right) = line.split_once(" =>")?;
    let mut words = left.split_whitespace();
    let (sent, answered) = (read_time(words.next()?)?, read_time(words.next()?)?);
    let (client, connection) = words.next()?.strip_prefix('c')?.split_once('.')?;
    let node = read_node(words.next()?)?;
    let ask = read_ask(&words.collect::<Vec<_>>())?;
    let (client, connection) = (client.parse().ok()?, connection.parse().ok()?);
    Some(Op { sent, answered, client, connection, node, ask, answer: read_answer(right.trim())? })
}

fn read_fault(line: &str) -> Option<Fault> {
    let mut words = line.split_whitespace();
    let (begin, end) = (read_time(words.next()?)?, read_time(words.next()?)?);
    let node = match words.nth(1)? {
        "all" => None,
        node => Some(read_node(node)?),
    };
    let kind = words.next()?;
    let (kind, _) = FaultKind::ALL.into_iter().find(|(_, name)| *name == kind)?;
    Some(Fault { begin, end, node, kind, detail: words.collect::<Vec<_>>().join(" ") })
}

fn read_time(word: &str) -> Option<Micros> {
    if word == "never" {
        return Some(NEVER);
    }
    let (ms, micros) = word.split_once('.').unwrap_or((word, "000"));
    let micros = if micros.len() == 3 { micros.parse::<Micros>().ok()? } else { return None };
    ms.parse::<Micros>().ok()?.checked_mul(1000)?.checked_add(micros)
}

fn read_node(word: &str) -> Option<usize> {
    word.strip_prefix('n')?.parse().ok()
}

fn read_ask(words: &[&str]) -> Option<Ask> {
    let own = |word: &&str| (*word).to_owned();
    Some(match words {
        ["acquire", key, token, limit, lease, rest @ ..] => {
            let mut rest = rest.iter().copied().peekable();
            let weight = rest.next_if(|word| word.starts_with("weight="));
            let level = rest.next_if(|word| word.starts_with("level="));
            let block = rest.next_if(|word| word.starts_with("block="));
            let queue = rest.next_if(|word| word.starts_with("queue="));
            let session = rest.next_if_eq(&"session").is_some();
            if rest.next().is_some() {
                return None;
            }
            let limit = match limit.strip_prefix("limit=")? {
                "shared" => Limit::Shared,
                most => Limit::Most(most.parse().ok()?),
            };
            Ask::Acquire {
                key: own(key),
                token: own(token),
                limit,
                lease_ms: read_number("lease=", lease)?,
                weight: read_option("weight=", weight)?,
                level: read_option("level=", level)?,
                block_ms: read_option("block=", block)?,
                queue_ms: read_option("queue=", queue)?,
                session,
            }
        }
        ["release", key, token] => Ask::Release { key: own(key), token: own(token), level: 1 },
        ["release", key, token, level] => {
            Ask::Release { key: own(key), token: own(token), level: read_number("level=", level)? }
        }
        ["extend", key, token, lease] => {
            Ask::Extend { key: own(key), token: own(token), lease_ms: read_number("lease=", lease)? }
        }
        ["check", key, token] => Ask::Check { key: own(key), token: own(token) },
        ["expire", key, ttl] => Ask::Expire { key: own(key), ttl_ms: read_number("ttl=", ttl)? },
        [ask @ ("macquire" | "mrelease" | "mextend"), keys, rest @ ..] => {
            let keys: Vec<String> = keys.split(',').map(str::to_owned).collect();
            let mut words = vec![ask.strip_prefix('m')?, keys.first()?];
            words.extend(rest);
            let each = Box::new(read_ask(&words)?);
            Ask::Several { keys, each }
        }
        ["guard", key, token, "set", name, value] => {
            Ask::Guard { key: own(key), token: own(token), name: own(name), value: own(value) }
        }
        ["read", name] => Ask::Read { name: own(name) },
        ["look", key] => Ask::Look { key: own(key) },
        ["write", key, token, fence] => {
            Ask::Write { key: own(key), token: own(token), fence: fence.parse().ok()? }
        }
        ["ping"] => Ask::Ping,
        ["open"] => Ask::Open,
        ["close"] => Ask::Close,
        _ => return None,
    })
}

fn read_number<N: FromStr>(name: &str, word: &str) -> Option<N> {
    word.strip_prefix(name)?.parse().ok()
}

/// `None` if it is there and cannot be read.
#[allow(clippy::option_option)]
fn read_option<N: FromStr>(name: &str, word: Option<&str>) -> Option<Option<N>> {
    match word {
        Some(word) => read_number(name, word).map(Some),
        None => Some(None),
    }
}

fn read_answer(text: &str) -> Option<Answer> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    Some(match word {
        "granted" => Answer::Granted(rest.parse().ok()?),
        "null" => Answer::Null,
        "ticket" => Answer::Ticket(rest.parse().ok()?),
        "yes" => Answer::Yes,
        "no" => Answer::No,
        "count" => Answer::Count(rest.parse().ok()?),
        "either" => Answer::Either,
        "value" => Answer::Value(rest.to_owned()),
        "notowner" => Answer::NotOwner,
        "held" => {
            let (fence, left_ms) = rest.split_once(' ')?;
            Answer::Held(fence.parse().ok()?, left_ms.parse().ok()?)
        }
        "queue" => Answer::Queue(rest.split_whitespace().map(str::to_owned).collect()),
        "done" => Answer::Done,
        "stale" => Answer::Stale,
        "error" => Answer::Error(rest.to_owned()),
        "lost" => Answer::Lost,
        "gave-up" => Answer::GaveUp,
        "unconfirmed" => Answer::Unconfirmed,
        "odd" => Answer::Odd(rest.to_owned()),
        _ => return None,
    })
}
