//! What a server tells its replicas and its append-only file: read as it is written, and put into words.
#![allow(dead_code)] // each test file uses a part of it
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use lock_core::token::SEED_TEXT_LEN;
use lock_core::{Hold, Moment, codec};

use crate::support::locks::acquire;
use crate::support::{Client, PATIENCE, Reply, Server, cmd, ok_grant, wait_until};

/// A replica that only listens.
pub(crate) struct Stream {
    socket: TcpStream,
    received: Vec<u8>,
}

impl Stream {
    /// Follows a server from now on.
    #[track_caller]
    pub(crate) fn of(server: &Server) -> Self {
        let mut socket = TcpStream::connect(server.address()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(b"PSYNC ? -1\r\n").unwrap();
        let mut stream = Self { socket, received: Vec::new() };
        let answer = stream.line();
        assert!(answer.starts_with("+FULLRESYNC "), "{answer}");
        // While the snapshot is being made empty lines keep the link up.
        let announced = std::iter::repeat_with(|| stream.line()).find(|line| !line.is_empty()).unwrap();
        let length: usize = announced.strip_prefix('$').and_then(|length| length.parse().ok()).unwrap();
        stream.fill(length);
        stream.received.drain(..length);
        // The server follows up with commands once it knows that the snapshot has arrived.
        wait_until("the server streams to its replica", PATIENCE, || {
            server.client().info("replication", "slave0").contains("state=online")
        });
        stream
    }

    /// All that was said until now, put into words by [`told`].
    #[track_caller]
    pub(crate) fn until_now(&mut self, client: &mut Client) -> Vec<String> {
        client.ok("SET the-end 1");
        let said: Vec<String> = std::iter::repeat_with(|| self.command())
            .take_while(|command| *command != cmd!["SET", "the-end", "1"])
            .filter_map(|command| told(&command))
            .collect();
        said
    }

    /// The next command.
    #[track_caller]
    pub(crate) fn command(&mut self) -> Vec<Vec<u8>> {
        loop {
            if let Some((command, length)) = Reply::from_wire(&self.received) {
                self.received.drain(..length);
                return command.items().iter().map(Reply::bytes).collect();
            }
            let length = self.received.len();
            self.fill(length + 1);
        }
    }

    fn line(&mut self) -> String {
        let end = loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                break end;
            }
            let length = self.received.len();
            self.fill(length + 1);
        };
        let line: Vec<u8> = self.received.drain(..=end).collect();
        String::from_utf8(line).unwrap().trim_end().to_owned()
    }

    #[track_caller]
    fn fill(&mut self, length: usize) {
        while self.received.len() < length {
            let mut chunk = [0; 65_536];
            let count = self.socket.read(&mut chunk).unwrap();
            assert!(count > 0, "the server closed the replication link");
            self.received.extend_from_slice(&chunk[..count]);
        }
    }
}

/// All that a server's append-only file says, put into words by [`told`]. The file must have no snapshot at its head.
#[track_caller]
pub(crate) fn append_only_file(server: &Server) -> Vec<String> {
    append_only_commands(server).iter().filter_map(|command| told(command)).collect()
}

/// The commands of a server's append-only file, which must have no snapshot at its head.
#[track_caller]
pub(crate) fn append_only_commands(server: &Server) -> Vec<Vec<Vec<u8>>> {
    let folder = fs::read_dir(server.folder().join("appendonlydir")).unwrap();
    let mut paths: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    // The base comes before what was appended to it, in the alphabet too.
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "aof"));
    paths.sort();
    let content: Vec<u8> = paths.iter().flat_map(|path| fs::read(path).unwrap()).collect();
    let mut rest = &content[..];
    let mut commands = Vec::new();
    while !rest.is_empty() {
        let (command, length) = Reply::from_wire(rest).expect("the file ends with a command");
        commands.push(command.items().iter().map(Reply::bytes).collect());
        rest = &rest[length..];
    }
    commands
}

/// A command in words, the holds it carries in the manner of [`granted`]. `None` for what the server says of itself.
pub(crate) fn told(command: &[Vec<u8>]) -> Option<String> {
    let words: Vec<String> = command.iter().map(|word| word.escape_ascii().to_string()).collect();
    match (words[0].to_uppercase().as_str(), command) {
        ("SELECT" | "PING" | "REPLCONF", _) => None,
        ("LOCK.ACQUIRE", [_, _, holds]) => {
            let holds =
                codec::decode(holds, Moment::from_micros(0)).expect("holds, as the codec writes them");
            let holds: Vec<String> = holds.iter().map(hold).collect();
            Some(format!("LOCK.ACQUIRE {} {}", words[1], holds.join(" ")))
        }
        _ => Some(words.join(" ")),
    }
}

fn hold(hold: &Hold) -> String {
    let mut buffer = [0; SEED_TEXT_LEN];
    let token = hold.token_text(&mut buffer).escape_ascii();
    let (fence, limit, lease) = (hold.fence().get(), hold.limit().number(), hold.lease_ms());
    let left = Moment::from_micros(0).ms_until(hold.deadline());
    let owner = hold.owner().map_or("-".into(), |owner| format!("\"{}\"", owner.escape_ascii()));
    format!("[{token} #{fence} limit {limit} lease {left}/{lease} count {} owner {owner}]", hold.count())
}

/// What is told of a grant, its lease just begun.
pub(crate) fn granted(
    key: &str,
    token: &str,
    fence: i64,
    limit: u16,
    lease: u64,
    owner: Option<&str>,
) -> String {
    let owner = owner.map_or("-".into(), |owner| format!("\"{owner}\""));
    format!("LOCK.ACQUIRE {key} [{token} #{fence} limit {limit} lease {lease}/{lease} count 1 owner {owner}]")
}

/// Has a server decide everything that can be decided, and everything that comes to no decision; returns what must be
/// told of it.
#[track_caller]
pub(crate) fn every_decision(client: &mut Client) -> Vec<String> {
    let mut due = Vec::new();

    // Grants. A token the server made is told as it is.
    let made = acquire(client, "made");
    let token = String::from_utf8(made.token).unwrap();
    due.push(granted("made", &token, made.fence, 1, 30_000, None));
    let one = acquire(client, "k EX 60 SHARED TOKEN a OWNER me").fence;
    due.push(granted("k", "a", one, 0, 60_000, Some("me")));
    let two = acquire(client, "k LIMIT 2 TOKEN b PX 70000").fence;
    due.push(granted("k", "b", two, 2, 70_000, None));
    let labelled =
        client.call(&cmd!["LOCK.ACQUIRE", b"\0\xff", "TOKEN", b"\r\n", "OWNER", b"%s", "PX", 5000]);
    due.push(granted("\\x00\\xff", "\\r\\n", ok_grant(labelled).1, 1, 5_000, Some("%s")));

    // Retries, one of them with another limit and label.
    acquire(client, "k TOKEN a PX 80000");
    due.push(granted("k", "a", one, 0, 80_000, Some("me")));
    acquire(client, "k TOKEN a PX 80000 LIMIT 5 OWNER you");
    due.push(granted("k", "a", one, 5, 80_000, Some("you")));

    // No decisions.
    for command in [
        "LOCK.ACQUIRE k TOKEN c SHARED",
        "LOCK.ACQUIRE k TOKEN a LIMIT 1",
        "LOCK.ACQUIRE k TOKEN a PX 0",
        "LOCK.RELEASE k c",
        "LOCK.RELEASE nothing a",
        "LOCK.EXTEND k c",
        "LOCK.EXTEND nothing a PX 1000",
        "LOCK.BREAK nothing",
        "LOCK.BREAK k FENCE 1",
        "LOCK.CHECK k a",
        "LOCK.INFO k",
    ] {
        client.run(command);
    }

    // What names its decision already is told as it came.
    for (command, reply) in [
        ("LOCK.EXTEND k a".to_owned(), 1),
        ("LOCK.EXTEND k a PX 90000".to_owned(), 1),
        ("LOCK.EXTEND k b EX 90".to_owned(), 1),
        ("LOCK.RELEASE k b".to_owned(), 1),
        (format!("LOCK.BREAK k FENCE {one}"), 1),
        ("LOCK.BREAK made".to_owned(), 1),
    ] {
        assert_eq!(client.run(&command), Reply::Int(reply), "{command}");
        due.push(command);
    }

    // A lease that ends.
    let brief = acquire(client, "brief TOKEN a PX 30").fence;
    due.push(granted("brief", "a", brief, 1, 30, None));
    wait_until("the lease ends", PATIENCE, || client.run("EXISTS brief") == Reply::Int(0));
    due.push(format!("LOCK.BREAK brief FENCE {brief}"));
    due
}
