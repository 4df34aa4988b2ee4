//! A session as documentation shows it: the commands of a text's `console` blocks and what is to come out of them.
//!
//! What comes out must be what is written, line by line, save for what no two runs share:
//!
//! - a token of 32 hex digits stands for one token, and a fence of 16 digits for one fence, all through the text. Two
//!   tokens stand for two, and fences in the order in which the text has them. Commands are sent with the real ones;
//! - the milliseconds of `remaining`, `age`, `waited` and `timeout`, and the second number of LOCK.CHECK, may be off by
//!   [`SLACK_MS`], and so may the numbers of `client`, `session` and `address`, which are about connections;
//! - blanks at the end of a line do not count, nor does a line such as `(3.00s)`: redis-cli says how long it took, where
//!   that was long. Nor does what it says of how to stop reading messages.
//!
//! - three points stand for what is left out: alone on a line for any number of lines, up to one that begins like the next
//!   that is written, and at the end of a line for the rest of it.
//!
//! A line after the prompt of redis-cli goes to one of its own. So nothing may stand there that is about a connection, as
//! SELECT or MULTI is.
//!
//! Where several clients meet, a letter stands for a terminal with a redis-cli that stays open, until QUIT or the end of
//! the text:
//!
//! ```console
//! B> LOCK.ACQUIRE k BLOCK 0
//! (waits)
//! A> LOCK.RELEASE k a
//! (integer) 1
//! B gets:
//! 1) "00112233445566778899aabbccddeeff"
//! 2) (integer) 1700000000000001
//! ```
//!
//! `(waits)` says that the server has the client wait, and what stands below `B gets:` is what it has waited for. A terminal
//! that has subscribed only reads from then on, and what stands below `S gets:` are messages.
//!
//! Port 6380 is that of a replica, where the text has one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;

use crate::support::waiter::is_blocked;
use crate::support::{PATIENCE, Server, wait_until};

/// What stands for something that is left out.
const LEFT_OUT: &str = "...";

/// The port on which a text has its replica.
const REPLICA_PORT: &str = "6380";

const PROMPT: &str = "127.0.0.1:6379> ";

/// What is written below a command that waits.
const WAITS: &str = "(waits)";

/// How a command begins after which a terminal only reads messages.
const SUBSCRIBE: &str = "SSUBSCRIBE ";

/// How redis-cli says how to stop that.
const READS_MESSAGES: &str = "Reading messages...";

/// What a terminal is asked to say behind the output of each command.
const END: &str = "end-of-output";

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
    /// `A> ...`, in the terminal of that name
    In(char, String),
    /// `A gets:`
    Gets(char),
}

impl Call {
    fn of(line: &str) -> Option<Self> {
        if let Some(typed) = line.strip_prefix(PROMPT) {
            return Some(Self::Typed(typed.to_owned()));
        }
        if let Some(words) = line.strip_prefix("$ redis-cli") {
            return Some(Self::Shell(words.to_owned()));
        }
        let name = line.chars().next().filter(char::is_ascii_uppercase)?;
        match line.split_at(1).1 {
            " gets:" => Some(Self::Gets(name)),
            rest => Some(Self::In(name, rest.strip_prefix("> ")?.to_owned())),
        }
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Shell(text) | Self::Typed(text) | Self::In(_, text) => text,
            Self::Gets(_) => "",
        }
    }
}

/// Where the commands of a text are run.
pub(crate) struct Stage<'a> {
    server: &'a Server,
    replica: Option<&'a Server>,
    terminals: BTreeMap<char, Terminal>,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(server: &'a Server) -> Self {
        Self { server, replica: None, terminals: BTreeMap::new() }
    }

    pub(crate) fn with_replica(self, replica: &'a Server) -> Self {
        Self { replica: Some(replica), ..self }
    }

    /// Runs a step, and compares what comes out with what is written.
    pub(crate) fn play(&mut self, document: &str, step: &Step, known: &mut Known) {
        let shown = || format!("{document}, line {}: {}", step.line, step.command.text());
        let command = known.to_real(step.command.text()).unwrap_or_else(|why| panic!("{}: {why}", shown()));
        let command = match self.replica {
            Some(replica) => {
                let port = replica.port().to_string();
                words(&command)
                    .into_iter()
                    .map(|word| if word == REPLICA_PORT { &port } else { word })
                    .collect()
            }
            None => command,
        };
        let output = self.run(step, &command);
        let real: Vec<&str> = output.lines().collect();
        let written: Vec<&str> = step.output.iter().map(String::as_str).collect();
        let (written, real) = without_what_is_left_out(&written, &real);
        if let Err(why) = known.compare(step.command.text(), &written, &real) {
            panic!("{}\n{why}\n--- what came out\n{output}", shown());
        }
    }

    /// All that redis-cli writes, given `text` in place of the step's own.
    fn run(&mut self, step: &Step, text: &str) -> String {
        match step.command {
            Call::Shell(_) => {
                assert!(
                    !text.contains(['"', '\'', '\\', '$', '|', '<', '>']),
                    "words alone, no shell: {text}"
                );
                alone(redis_cli(self.server).args(text.split_whitespace()), "")
            }
            Call::Typed(_) => alone(&mut redis_cli(self.server), &format!("{text}\n")),
            Call::In(name, _) => {
                let terminal = self.terminals.entry(name).or_insert_with(|| Terminal::open(self.server));
                if text.starts_with(SUBSCRIBE) {
                    terminal.subscribe(text);
                    return terminal.read_lines(step.output.len());
                }
                terminal.type_in(text);
                if step.output == [WAITS] {
                    terminal.wait_blocked(self.server);
                    return format!("{WAITS}\n");
                }
                self.read(name)
            }
            Call::Gets(name) => {
                let terminal = self.terminals.get_mut(&name).unwrap();
                if terminal.listens {
                    return terminal.read_lines(step.output.len());
                }
                assert!(terminal.waits, "{name} does not wait");
                terminal.waits = false;
                self.read(name)
            }
        }
    }

    /// What a terminal writes until its command is done. One that has quit is gone.
    fn read(&mut self, name: char) -> String {
        let (output, is_open) = self.terminals.get_mut(&name).unwrap().read();
        if !is_open {
            self.terminals.remove(&name);
        }
        output
    }

    /// The end of the text, at which nobody may be left waiting, nor have messages that are not written.
    pub(crate) fn close(self) {
        for (name, terminal) in &self.terminals {
            assert!(!terminal.waits, "{name} still waits");
            let unread: Vec<String> = terminal.lines.try_iter().filter(|line| !is_aside(line)).collect();
            assert!(unread.is_empty(), "{name} got more: {unread:?}");
        }
    }
}

fn redis_cli(server: &Server) -> Command {
    let mut cli = Command::new("redis-cli");
    cli.args(["--no-raw", "-p", &server.port().to_string()]).env_remove("REDISCLI_AUTH");
    cli.stdin(Stdio::piped()).stdout(Stdio::piped());
    cli
}

/// All that a redis-cli writes which is given this input and no more.
fn alone(cli: &mut Command, input: &str) -> String {
    let mut child = spawn(cli.stderr(Stdio::piped()));
    // One that was given its command as words may be gone before it reads.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && errors.is_empty(), "{cli:?}: {}, {errors}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !is_aside(line)).flat_map(|line| [line, "\n"]).collect()
}

/// Whether redis-cli says this on its own account.
fn is_aside(line: &str) -> bool {
    let seconds = line.strip_prefix('(').and_then(|line| line.strip_suffix("s)"));
    line.starts_with(READS_MESSAGES) || seconds.is_some_and(|seconds| seconds.parse::<f64>().is_ok())
}

fn spawn(cli: &mut Command) -> Child {
    cli.spawn().unwrap_or_else(|error| panic!("starting redis-cli: {error}"))
}

/// A redis-cli that stays open.
struct Terminal {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    client: i64,
    /// Whether the end of a command's output has still to come.
    waits: bool,
    /// Whether it only reads messages.
    listens: bool,
}

impl Terminal {
    fn open(server: &Server) -> Self {
        let mut child = spawn(&mut redis_cli(server));
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut terminal = Self { child, input, lines, client: 0, waits: false, listens: false };
        terminal.type_in("CLIENT ID");
        let (id, _) = terminal.read();
        terminal.client = id.trim().strip_prefix("(integer) ").unwrap().parse().unwrap();
        terminal
    }

    fn type_in(&mut self, text: &str) {
        assert!(!self.waits && !self.listens, "it reads no further: {text}");
        self.input.write_all(format!("{text}\nECHO {END}\n").as_bytes()).unwrap();
    }

    fn subscribe(&mut self, text: &str) {
        assert!(!self.waits && !self.listens, "it reads no further: {text}");
        self.input.write_all(format!("{text}\n").as_bytes()).unwrap();
        self.listens = true;
    }

    fn wait_blocked(&mut self, server: &Server) {
        let mut observer = server.client();
        wait_until("the command waits", PATIENCE, || is_blocked(&mut observer, self.client));
        assert!(self.lines.try_recv().is_err(), "it was answered");
        self.waits = true;
    }

    /// The output of one command, and whether the terminal is still open.
    fn read(&mut self) -> (String, bool) {
        let mut output = String::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(END) => return (output, true),
                Ok(line) if is_aside(&line) => {}
                Ok(line) => output.extend([&line, "\n"]),
                Err(RecvTimeoutError::Disconnected) => return (output, false),
                Err(RecvTimeoutError::Timeout) => panic!("no reply within {PATIENCE:?}, after: {output}"),
            }
        }
    }

    /// So many lines of messages, or what came of them.
    fn read_lines(&mut self, count: usize) -> String {
        let mut output = String::new();
        let mut left = count;
        while left > 0 {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if is_aside(&line) => {}
                Ok(line) => {
                    output.extend([&line, "\n"]);
                    left -= 1;
                }
                Err(_) => return output,
            }
        }
        output
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Errors say that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
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

/// What is written, and what came out, without what the three points stand for.
pub(crate) fn without_what_is_left_out<'a>(
    written: &[&'a str],
    real: &[&'a str],
) -> (Vec<&'a str>, Vec<&'a str>) {
    let (mut due, mut came) = (Vec::new(), Vec::new());
    let mut rest = real.iter().copied().peekable();
    let mut skips = false;
    for line in written {
        if *line == LEFT_OUT {
            skips = true;
            continue;
        }
        let start = line.strip_suffix(LEFT_OUT);
        let is_meant = |real: &str| match start {
            Some(start) => real.starts_with(start),
            None => label(real) == label(line),
        };
        while skips && rest.next_if(|real| !is_meant(real)).is_some() {}
        skips = false;
        match (start, rest.next()) {
            (Some(start), Some(real)) => {
                due.push(start);
                came.push(real.get(..start.len()).unwrap_or(real));
            }
            (None, Some(real)) => {
                due.push(line);
                came.push(real);
            }
            (_, None) => due.push(line),
        }
    }
    if !skips {
        came.extend(rest);
    }
    (due, came)
}

/// What stands in front of a colon, as INFO has it; all of a line without one.
fn label(line: &str) -> &str {
    line.split(':').next().unwrap_or(line)
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
    let named: &[&str] = match lock_command(command) {
        Some("LOCK.TOP") => &["\"longest\"", "\"held\"", "\"session\"", "\"address\""],
        _ => &[
            "\"remaining\"",
            "\"age\"",
            "\"waited\"",
            "\"timeout\"",
            "\"client\"",
            "\"session\"",
            "\"address\"",
        ],
    };
    let is_named = |text: &str| named.iter().any(|name| text.trim_end().ends_with(name));
    let line = lines[row];
    let in_map = line.split_once(" => ").is_some_and(|(name, _)| is_named(name));
    let flat = row.checked_sub(1).is_some_and(|before| is_named(lines[before]));
    let checked = lock_command(command) == Some("LOCK.CHECK") && line.starts_with("2) ");
    in_map || flat || checked
}

/// The name of the command in a line, behind the options of redis-cli.
fn lock_command(line: &str) -> Option<&str> {
    line.split_whitespace().find(|word| word.starts_with("LOCK."))
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
        let is_label_end = |word: &&str| *word == "integer" || word.contains("=>");
        let label_end = ours.iter().rposition(is_label_end).unwrap_or(0);
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
