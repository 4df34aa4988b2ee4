//! One connection that sends batches made ready beforehand, so that the server and not the client is what is slow.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::support::{PATIENCE, Server};

/// Stands for any one byte in the replies a [`Batch`] expects.
const ANY: u8 = b'?';

/// Commands as they go over the wire, and the replies they must bring.
#[derive(Clone, Default)]
pub(crate) struct Batch {
    wire: Vec<u8>,
    /// All replies in a row; [`ANY`] where the server chooses the byte. Their length tells when all have come.
    replies: Vec<u8>,
}

impl Batch {
    /// Nothing to send, and what comes nevertheless.
    pub(crate) fn unasked(replies: &str) -> Self {
        Self { wire: Vec::new(), replies: replies.into() }
    }

    /// Adds a command and what it is answered with, `?` standing for any byte.
    pub(crate) fn push<A: AsRef<[u8]>>(&mut self, arguments: &[A], reply: &str) {
        write!(self.wire, "*{}\r\n", arguments.len()).unwrap();
        for argument in arguments {
            let bytes = argument.as_ref();
            write!(self.wire, "${}\r\n", bytes.len()).unwrap();
            self.wire.extend_from_slice(bytes);
            self.wire.extend_from_slice(b"\r\n");
        }
        self.replies.extend_from_slice(reply.as_bytes());
    }

    /// How long the commands are on the wire so far.
    pub(crate) fn wire_len(&self) -> usize {
        self.wire.len()
    }

    /// How long the replies are so far.
    pub(crate) fn replies_len(&self) -> usize {
        self.replies.len()
    }

    /// The commands on the wire.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// The replies.
    pub(crate) fn replies(&self) -> &[u8] {
        &self.replies
    }

    /// Whether replies are as expected.
    pub(crate) fn fits(received: &[u8], due: &[u8]) -> bool {
        received.len() == due.len() && received.iter().zip(due).all(|(got, due)| got == due || *due == ANY)
    }

    /// Writes over a part of the commands.
    pub(crate) fn patch(&mut self, at: usize, bytes: &[u8]) {
        self.wire[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// The connection.
pub(crate) struct Pipe {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Pipe {
    pub(crate) fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE * 6)).unwrap(); // the server may be kept busy on purpose
        Self { stream, received: Vec::new() }
    }

    /// Sends a batch, waits for all its replies, sees that they are the expected ones, and gives them.
    pub(crate) fn exchange(&mut self, batch: &Batch) -> &[u8] {
        self.send(batch);
        self.receive(batch)
    }

    /// Waits for the replies to a batch that was sent, whatever they are: the last command was a PING.
    pub(crate) fn receive_until_pong(&mut self) {
        const PONG: &[u8] = b"+PONG\r\n";
        self.received.resize(1 << 16, 0);
        let mut end = Vec::new();
        while !end.ends_with(PONG) {
            let count = self.stream.read(&mut self.received).unwrap();
            assert!(count > 0, "the server closed the connection");
            end.extend_from_slice(&self.received[count.saturating_sub(PONG.len())..count]);
            end.drain(..end.len().saturating_sub(PONG.len()));
        }
    }

    /// Sends a batch.
    pub(crate) fn send(&mut self, batch: &Batch) {
        self.stream.write_all(&batch.wire).unwrap();
    }

    /// Waits for all replies to a batch that was sent, sees that they are the expected ones, and gives them.
    pub(crate) fn receive(&mut self, batch: &Batch) -> &[u8] {
        self.received.resize(batch.replies.len(), 0);
        let mut filled = 0;
        while filled < self.received.len() {
            match self.stream.read(&mut self.received[filled..]) {
                Ok(0) => panic!("the server closed the connection"),
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}, after {}", start(&self.received[..filled])),
            }
        }
        let fits = Batch::fits(&self.received, &batch.replies);
        assert!(fits, "got {}, not {}", start(&self.received), start(&batch.replies));
        &self.received
    }
}

fn start(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(200)].escape_ascii().to_string()
}
