//! A session as documentation shows it: the commands of a text's `console` blocks and what is to come out of them.
//!
//! What comes out must be what is written, line by line, save for what no two runs share:
//!
//! - a token of 32 hex digits stands for one token, and a fence of 16 digits for one fence, all through the text. Two
//!   tokens stand for two, and fences in the order in which the text has them. Commands are sent with the real ones;
//! - the milliseconds of `remaining` and `age`, and the second number of LOCK.CHECK, may be off by [`SLACK_MS`];
//! - blanks at the end of a line do not count.
//!
//! A line after a prompt goes to a redis-cli of its own. So nothing may stand there that is about a connection, as
//! SELECT or MULTI is.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::cmp::Ordering;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::Server;

const PROMPT: &str = "127.0.0.1:6379> ";

/// How far the milliseconds in the text, of a session typed by hand, may be from those of a run.
pub(crate) const SLACK_MS: i64 = 20_000;

/// What stands between two lines of three backticks.
pub(crate) struct Block {
    /// The number of its first line.
    pub(crate) line: usize,
    /// Its lines, less the indentation of the backticks.
    pub(crate) lines: Vec<String>,
}

/// The blocks of one language.
pub(crate) fn blocks(text: &str, language: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, &str, Block)> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let fence = line.trim_start().strip_prefix("```");
        match (&mut open, fence) {
            (None, Some(language)) => {
                assert!(!language.is_empty(), "line {number}: a block without a language");
                let indentation = line.len() - line.trim_start().len();
                open = Some((indentation, language, Block { line: number + 1, lines: Vec::new() }));
            }
            (Some((indentation, _, block)), None) => {
                block.lines.push(line.get(*indentation..).unwrap_or_default().to_owned());
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "the last block has no end");
    blocks.into_iter().filter(|(_, found, _)| *found == language).map(|(.., block)| block).collect()
}

/// A command of a session, and what is to come out of it.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) command: Call,
    pub(crate) output: Vec<String>,
}

#[derive(Debug)]
pub(crate) enum Call {
    /// `$ redis-cli ...`: its words
    Shell(String),
    /// `127.0.0.1:6379> ...`
    Typed(String),
}

impl Call {
    fn of(line: &str) -> Option<Self> {
        match line.strip_prefix(PROMPT) {
            Some(typed) => Some(Self::Typed(typed.to_owned())),
            None => Some(Self::Shell(line.strip_prefix("$ redis-cli")?.to_owned())),
        }
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Shell(text) | Self::Typed(text) => text,
        }
    }

    /// All that redis-cli writes, given `text` in place of its own.
    pub(crate) fn run(&self, server: &Server, text: &str) -> String {
        let mut cli = Command::new("redis-cli");
        cli.args(["--no-raw", "-p", &server.port().to_string()]).env_remove("REDISCLI_AUTH");
        let input = match self {
            Self::Shell(_) => {
                assert!(
                    !text.contains(['"', '\'', '\\', '$', '|', '<', '>']),
                    "words alone, no shell: {text}"
                );
                cli.args(text.split_whitespace());
                String::new()
            }
            Self::Typed(_) => format!("{text}\n"),
        };
        cli.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = cli.spawn().unwrap_or_else(|error| panic!("starting redis-cli: {error}"));
        // One that was given its command as words may be gone before it reads.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success() && errors.is_empty(),
            "redis-cli {text}: {}, {errors}",
            output.status
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Every command of every session, in the order of the text.
pub(crate) fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for block in blocks(text, "console") {
        for (index, line) in block.lines.iter().enumerate() {
            let number = block.line + index;
            match Call::of(line) {
                Some(command) => steps.push(Step { line: number, command, output: Vec::new() }),
                None if index == 0 || line.starts_with("$ ") => {
                    panic!("line {number}: no command that can be run: {line}")
                }
                None => steps.last_mut().unwrap().output.push(line.clone()),
            }
        }
    }
    steps
}

/// What a word of an output is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A token the server made: 32 hex digits. It stands for another one.
    Token,
    /// 16 digits, likewise.
    Fence,
    Itself,
}

pub(crate) fn kind(word: &str) -> Kind {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if word.len() == 32 && word.bytes().all(is_hex) {
        Kind::Token
    } else if word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_digit()) {
        Kind::Fence
    } else {
        Kind::Itself
    }
}

/// A line cut into runs of letters and digits, and what is between them.
pub(crate) fn words(line: &str) -> Vec<&str> {
    line.as_bytes()
        .chunk_by(|one, other| one.is_ascii_alphanumeric() && other.is_ascii_alphanumeric())
        .map(|word| std::str::from_utf8(word).unwrap_or_else(|_| panic!("not ASCII: {line}")))
        .collect()
}

/// Whether the number in this line of the output moves with time.
fn moves(command: &str, lines: &[&str], row: usize) -> bool {
    let is_named =
        |text: &str| ["\"remaining\"", "\"age\""].iter().any(|name| text.trim_end().ends_with(name));
    let line = lines[row];
    let in_map = line.split_once(" => ").is_some_and(|(name, _)| is_named(name));
    let flat = row.checked_sub(1).is_some_and(|before| is_named(lines[before]));
    let checked = command.trim_start().starts_with("LOCK.CHECK ") && line.starts_with("2) ");
    in_map || flat || checked
}

/// What the tokens and fences of a text stood for so far: what is written, and what is real.
#[derive(Default)]
pub(crate) struct Known {
    pairs: Vec<(String, String)>,
}

impl Known {
    /// A command as it is written, with the tokens and fences that are real.
    pub(crate) fn to_real(&self, command: &str) -> Result<String, String> {
        let real = words(command).into_iter().map(|word| match kind(word) {
            Kind::Itself => Ok(word),
            Kind::Token | Kind::Fence => match self.pairs.iter().find(|(written, _)| written == word) {
                Some((_, real)) => Ok(real.as_str()),
                None => Err(format!("{word} has not come out before")),
            },
        });
        real.collect()
    }

    /// Compares what is written with what came out, and remembers what stood for what.
    pub(crate) fn compare(&mut self, command: &str, written: &[&str], real: &[&str]) -> Result<(), String> {
        for (row, (line, came)) in written.iter().zip(real).enumerate() {
            self.compare_line(line.trim_end(), came.trim_end(), moves(command, written, row))?;
        }
        if written.len() == real.len() {
            Ok(())
        } else {
            Err(format!("{} lines are written, {} came out", written.len(), real.len()))
        }
    }

    fn compare_line(&mut self, written: &str, real: &str, moves: bool) -> Result<(), String> {
        let differ = || format!("written:  {written}\ncame out: {real}");
        let (ours, theirs) = (words(written), words(real));
        let label_end = ours.iter().rposition(|word| *word == "integer").unwrap_or(ours.len());
        if ours.len() != theirs.len() {
            return Err(differ());
        }
        for (column, (word, came)) in ours.into_iter().zip(theirs).enumerate() {
            let is_alike = match (kind(word), kind(came)) {
                (Kind::Itself, Kind::Itself) if moves && column > label_end => is_near(word, came),
                (Kind::Itself, Kind::Itself) => word == came,
                (ours, theirs) => ours == theirs && self.stands_for(word, came),
            };
            if !is_alike {
                return Err(differ());
            }
        }
        Ok(())
    }

    /// Takes `written` to stand for `real`, unless that contradicts what is known: two that are the same in the one
    /// place are so in the other, and one fence is above another in both or in neither.
    fn stands_for(&mut self, written: &str, real: &str) -> bool {
        let order = |one: &str, other: &str| match kind(one) {
            Kind::Fence => one.cmp(other),
            _ if one == other => Ordering::Equal,
            _ => Ordering::Less,
        };
        let mut alike = self.pairs.iter().filter(|(known, _)| kind(known) == kind(written));
        let agrees = alike.all(|(known, meant)| order(known, written) == order(meant, real));
        self.pairs.push((written.to_owned(), real.to_owned()));
        agrees
    }
}

/// Two equal words, or two numbers no more than [`SLACK_MS`] apart.
fn is_near(word: &str, came: &str) -> bool {
    match (integer(word), integer(came)) {
        (Some(word), Some(came)) => (word - came).abs() <= SLACK_MS,
        _ => word == came,
    }
}

/// An integer as a server writes it, without leading zeros.
fn integer(word: &str) -> Option<i64> {
    word.parse().ok().filter(|number: &i64| number.to_string() == word)
}
