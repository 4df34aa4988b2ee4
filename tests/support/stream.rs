//! What a server tells its replicas and its append-only file, as it is written.
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

use crate::support::{Client, PATIENCE, Reply, Server, wait_until};

/// A command that was told, and the database it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) database: u16,
    pub(crate) command: Vec<Vec<u8>>,
}

/// Which database is being spoken of: who speaks says so once.
#[derive(Default)]
struct Spoken {
    database: u16,
}

impl Spoken {
    /// `None` for what the server says of itself.
    fn said(&mut self, command: Vec<Vec<u8>>) -> Option<Said> {
        match &command[0].to_ascii_uppercase()[..] {
            b"SELECT" => {
                self.database = std::str::from_utf8(&command[1]).unwrap().parse().unwrap();
                None
            }
            b"PING" | b"REPLCONF" => None,
            _ => Some(Said { database: self.database, command }),
        }
    }
}

/// A replica that only listens.
pub(crate) struct Stream {
    socket: TcpStream,
    received: Vec<u8>,
    spoken: Spoken,
}

impl Stream {
    /// Follows a server from now on.
    #[track_caller]
    pub(crate) fn of(server: &Server) -> Self {
        let mut socket = TcpStream::connect(server.address()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(b"PSYNC ? -1\r\n").unwrap();
        let mut stream = Self { socket, received: Vec::new(), spoken: Spoken::default() };
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

    /// All that was said until now.
    #[track_caller]
    pub(crate) fn until_now(&mut self, client: &mut Client) -> Vec<Said> {
        client.run_all(&["SET the-end 1", "DEL the-end"]);
        self.until_the_end()
    }

    /// All that was said until somebody else listened with [`Stream::until_now`].
    #[track_caller]
    pub(crate) fn until_the_end(&mut self) -> Vec<Said> {
        let said =
            std::iter::from_fn(|| Some(self.said())).take_while(|said| !Self::is_the_end(said)).collect();
        assert!(Self::is_the_end(&self.said()), "DEL comes after SET");
        said
    }

    /// Whether this is what [`Stream::until_now`] has the server say.
    pub(crate) fn is_the_end(said: &Said) -> bool {
        said.command.get(1).is_some_and(|key| key == b"the-end")
    }

    fn said(&mut self) -> Said {
        loop {
            let command = self.command();
            if let Some(said) = self.spoken.said(command) {
                return said;
            }
        }
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

/// What a server's append-only file says, which must have no snapshot at its head.
#[track_caller]
pub(crate) fn appended(server: &Server) -> Vec<Said> {
    let folder = fs::read_dir(server.folder().join("appendonlydir")).unwrap();
    let mut paths: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    // The base comes before what was appended to it, in the alphabet too.
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "aof"));
    paths.sort();
    let content: Vec<u8> = paths.iter().flat_map(|path| fs::read(path).unwrap()).collect();
    let mut rest = &content[..];
    let mut spoken = Spoken::default();
    let mut said = Vec::new();
    while !rest.is_empty() {
        let (command, length) = Reply::from_wire(rest).expect("the file ends with a command");
        said.extend(spoken.said(command.items().iter().map(Reply::bytes).collect()));
        rest = &rest[length..];
    }
    said
}
