//! One connection: commands out, replies in, blocking, and never for ever.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use redis_protocol::resp2::types::{BorrowedFrame, Resp2Frame};
use redis_protocol::{resp2, resp3};
#[cfg(target_os = "linux")]
use socket2::{SockFilter, SockRef};

use super::reply::Reply;
use super::wait::PATIENCE;

/// Writes a command of mixed arguments: text, bytes, numbers.
///
/// `cmd!["LOCK.ACQUIRE", b"\0key", "PX", 1000]` is a `[Vec<u8>; 4]`.
macro_rules! cmd {
    ($($argument:expr),+ $(,)?) => {
        [$($crate::support::ToArgument::to_argument(&$argument)),+]
    };
}
pub(crate) use cmd;

/// What may stand as an argument in [`cmd!`].
pub(crate) trait ToArgument {
    /// The argument's bytes.
    fn to_argument(&self) -> Vec<u8>;
}

impl ToArgument for str {
    fn to_argument(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

impl ToArgument for String {
    fn to_argument(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

impl ToArgument for [u8] {
    fn to_argument(&self) -> Vec<u8> {
        self.to_vec()
    }
}

impl ToArgument for Vec<u8> {
    fn to_argument(&self) -> Vec<u8> {
        self.clone()
    }
}

impl<const N: usize> ToArgument for [u8; N] {
    fn to_argument(&self) -> Vec<u8> {
        self.to_vec()
    }
}

impl<T: ToArgument + ?Sized> ToArgument for &T {
    fn to_argument(&self) -> Vec<u8> {
        (*self).to_argument()
    }
}

macro_rules! number_arguments {
    ($($number:ty),+) => {$(
        impl ToArgument for $number {
            fn to_argument(&self) -> Vec<u8> {
                self.to_string().into_bytes()
            }
        }
    )+};
}
number_arguments!(i32, i64, u16, u32, u64, usize, i128);

/// A blocking connection. A read that brings nothing within [`PATIENCE`] panics, so a hang is a failure.
pub(crate) struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    resp3: bool,
}

impl Client {
    /// Connects; the connection speaks RESP2 until [`Client::resp3`].
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("connecting {address}: {error}"))
    }

    /// Connects, if somebody listens.
    pub(crate) fn try_connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new(), resp3: false })
    }

    /// The same connection, switched to RESP3 by HELLO 3.
    #[track_caller]
    pub(crate) fn resp3(mut self) -> Self {
        self.send(&["HELLO", "3"]);
        self.resp3 = true;
        let greeting = self.read();
        assert!(!greeting.is_error(), "HELLO 3: {greeting:?}");
        self
    }

    /// Whether the connection speaks RESP3.
    pub(crate) fn is_resp3(&self) -> bool {
        self.resp3
    }

    /// Another limit on how long a read may take.
    pub(crate) fn set_read_timeout(&mut self, timeout: Duration) {
        self.stream.set_read_timeout(Some(timeout)).unwrap();
    }

    /// Sends a command and reads its reply.
    #[track_caller]
    pub(crate) fn call<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Reply {
        self.send(arguments);
        self.read()
    }

    /// Sends a command written as one text, its arguments parted by blanks, and reads its reply.
    #[track_caller]
    pub(crate) fn run(&mut self, command: &str) -> Reply {
        self.call(&words(command))
    }

    /// Like [`Client::run`], and the reply must be `+OK`.
    #[track_caller]
    pub(crate) fn ok(&mut self, command: &str) {
        let reply = self.run(command);
        assert_eq!(reply, Reply::Simple("OK".into()), "{command}");
    }

    /// Sends a command and reads nothing.
    #[track_caller]
    pub(crate) fn send<A: AsRef<[u8]>>(&mut self, arguments: &[A]) {
        let wire = encode(arguments);
        self.raw_write(&wire);
    }

    /// Sends commands in one write and reads as many replies.
    #[track_caller]
    pub(crate) fn pipeline<C: AsRef<[A]>, A: AsRef<[u8]>>(&mut self, commands: &[C]) -> Vec<Reply> {
        let wire: Vec<u8> = commands.iter().flat_map(|command| encode(command.as_ref())).collect();
        self.raw_write(&wire);
        commands.iter().map(|_| self.read()).collect()
    }

    /// Sends commands, each written as one text, in one write and reads as many replies.
    #[track_caller]
    pub(crate) fn run_all(&mut self, commands: &[&str]) -> Vec<Reply> {
        let commands: Vec<Vec<&str>> = commands.iter().map(|command| words(command)).collect();
        self.pipeline(&commands)
    }

    /// Sends a command to a server that may be gone, and reads its reply; `None` when there is none.
    pub(crate) fn try_call<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Option<Reply> {
        self.stream.write_all(&encode(arguments)).ok()?;
        self.try_read().ok().flatten()
    }

    /// Sends a command to a server that may go away, and reads nothing.
    pub(crate) fn try_send<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> std::io::Result<()> {
        self.stream.write_all(&encode(arguments))
    }

    /// Sends a command to a server that may go away, and reads its reply. The end of the connection is an error.
    pub(crate) fn try_exchange<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> std::io::Result<Reply> {
        self.try_send(arguments)?;
        self.try_read()?.ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }

    /// Writes bytes as they are.
    #[track_caller]
    pub(crate) fn raw_write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap_or_else(|error| panic!("writing to the server: {error}"));
    }

    /// Reads one reply.
    #[track_caller]
    pub(crate) fn read(&mut self) -> Reply {
        match self.try_read() {
            Ok(Some(reply)) => reply,
            Ok(None) => panic!("the server closed the connection; unread: {self:?}"),
            Err(error) => panic!("reading a reply: {error}; unread: {self:?}"),
        }
    }

    /// Reads one reply; `None` when the server closed the connection instead.
    pub(crate) fn try_read(&mut self) -> std::io::Result<Option<Reply>> {
        loop {
            if let Some((reply, length)) = Reply::from_wire(&self.received) {
                self.cross_check(length);
                self.received.drain(..length);
                return Ok(Some(reply));
            }
            let mut chunk = [0; 65_536];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether a reply arrives within `patience`; it stays unread.
    pub(crate) fn has_reply_within(&mut self, patience: Duration) -> bool {
        if Reply::from_wire(&self.received).is_some() {
            return true;
        }
        self.set_read_timeout(patience);
        let mut byte = [0; 1];
        let arrived = matches!(self.stream.peek(&mut byte), Ok(1..));
        self.set_read_timeout(PATIENCE);
        arrived
    }

    /// The connection's id.
    #[track_caller]
    pub(crate) fn id(&mut self) -> i64 {
        self.run("CLIENT ID").int()
    }

    /// Whether the server closes the connection, rather than leave it silent.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.set_read_timeout(Duration::from_millis(100));
        let end = matches!(self.try_read(), Ok(None));
        self.set_read_timeout(PATIENCE);
        end
    }

    /// Closes the connection with a reset, which closing is when something was left unread. Something must be.
    #[track_caller]
    pub(crate) fn reset(self) {
        let mut byte = [0; 1];
        let unread = self.stream.peek(&mut byte);
        assert!(matches!(unread, Ok(1)), "nothing is left unread: {unread:?}");
    }

    /// From now on nothing that is sent to it arrives, as if its machine or the way there was gone. Linux only.
    #[cfg(target_os = "linux")]
    #[track_caller]
    pub(crate) fn get_lost(&self) {
        // The one instruction of the filter: of what arrives, take the first 0 bytes.
        let nothing = SockFilter::new(0x06, 0, 0, 0);
        SockRef::from(&self.stream).attach_filter(&[nothing]).unwrap();
    }

    /// Whether a reply, or the end of the connection, arrives within `patience`; it stays unread.
    pub(crate) fn has_something_within(&mut self, patience: Duration) -> bool {
        if Reply::from_wire(&self.received).is_some() {
            return true;
        }
        self.set_read_timeout(patience);
        let mut byte = [0; 1];
        let blocked = self
            .stream
            .peek(&mut byte)
            .is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
        self.set_read_timeout(PATIENCE);
        !blocked
    }

    /// One field of INFO; panics when the section lacks it.
    #[track_caller]
    pub(crate) fn info(&mut self, section: &str, name: &str) -> String {
        let text = self.call(&["INFO", section]).text();
        let value = text.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            (found == name).then(|| value.trim_end().to_owned())
        });
        value.unwrap_or_else(|| panic!("INFO {section} has no {name}:\n{text}"))
    }

    /// The protocol crate must see the first reply end at `length` too. It cannot stand in for [`Reply::from_wire`]: it
    /// takes the two nulls of RESP2 for one, loses a map's order, and refuses RESP3's sets of maps.
    #[track_caller]
    fn cross_check(&self, length: usize) {
        let found = if self.resp3 {
            match resp3::decode::complete::decode_range(&self.received) {
                Ok(found) => found.map(|(_, length)| length),
                Err(_) => return,
            }
        } else {
            let found = resp2::decode::decode_range(&self.received);
            found.unwrap().map(|(_, length)| length)
        };
        assert_eq!(found, Some(length), "where the reply ends: {self:?}");
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "received \"{}\"", self.received.escape_ascii())
    }
}

/// A command's bytes on the wire.
pub(crate) fn encode<A: AsRef<[u8]>>(arguments: &[A]) -> Vec<u8> {
    let arguments: Vec<BorrowedFrame<'_>> =
        arguments.iter().map(|argument| BorrowedFrame::BulkString(argument.as_ref())).collect();
    let command = BorrowedFrame::Array(&arguments);
    let mut wire = vec![0; command.encode_len(false)];
    resp2::encode::encode_borrowed(&mut wire, &command, false).unwrap();
    wire
}

fn words(command: &str) -> Vec<&str> {
    command.split_ascii_whitespace().collect()
}
