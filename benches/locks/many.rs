//! Many connections that one thread looks after.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::pipe::Batch;
use crate::support::Server;

/// Any number of connections, each with at most one batch that is not answered yet.
pub(crate) struct Many {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
}

struct Connection {
    stream: TcpStream,
    /// What the replies must be.
    due: Vec<u8>,
    /// What of them has come.
    received: Vec<u8>,
}

/// All replies to what a connection sent have come.
pub(crate) struct Answered {
    /// Which connection.
    pub(crate) number: usize,
    /// Whether they are the expected ones; if not, it is [`NULL`].
    pub(crate) as_expected: bool,
    /// When this thread was told.
    pub(crate) at: Instant,
}

/// The only other reply that may come where another is expected.
const NULL: &[u8] = b"$-1\r\n";

impl Many {
    pub(crate) fn connect(server: &Server, count: usize) -> Self {
        let poll = Poll::new().unwrap();
        let connect = |number| {
            let stream = open(server, &poll, Token(number));
            Connection { stream, due: Vec::new(), received: Vec::new() }
        };
        let connections = (0..count).map(connect).collect();
        Self { poll, events: Events::with_capacity(1024), connections }
    }

    /// Sends a batch on a connection whose last was answered.
    pub(crate) fn send(&mut self, number: usize, batch: &Batch) {
        let connection = &mut self.connections[number];
        connection.due.clear();
        connection.due.extend_from_slice(batch.replies());
        connection.received.clear();
        connection.stream.write_all(batch.wire()).unwrap();
    }

    /// Waits until something comes, at most so long, and gives who was answered.
    pub(crate) fn wait(&mut self, patience: Duration) -> Vec<Answered> {
        match self.poll.poll(&mut self.events, Some(patience)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => panic!("{error}"),
            _ => {}
        }
        let at = Instant::now();
        let numbers = self.events.iter().map(|event| event.token().0);
        numbers
            .filter_map(|number| {
                let as_expected = self.connections[number].read()?;
                Some(Answered { number, as_expected, at })
            })
            .collect()
    }
}

impl Connection {
    /// Takes what has come; if that is all, says whether it is what was expected.
    fn read(&mut self) -> Option<bool> {
        take_in(&mut self.stream, &mut self.received);
        if self.received.is_empty() || self.received.len() < self.due.len() && self.received != NULL {
            return None;
        }
        let as_expected = Batch::fits(&self.received, &self.due);
        assert!(as_expected || self.received == NULL, "got {}", self.received.escape_ascii());
        Some(as_expected)
    }
}

/// A connection to a server, whose replies `poll` reports under this token.
pub(crate) fn open(server: &Server, poll: &Poll, token: Token) -> TcpStream {
    let stream = std::net::TcpStream::connect(server.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut stream = TcpStream::from_std(stream);
    poll.registry().register(&mut stream, token, Interest::READABLE).unwrap();
    stream
}

/// Adds what has come on a connection to what came before.
pub(crate) fn take_in(stream: &mut TcpStream, received: &mut Vec<u8>) {
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => panic!("the server closed the connection"),
            Ok(count) => received.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("{error}"),
        }
    }
}
