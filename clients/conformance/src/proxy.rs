//! A proxy on the loopback that loses replies, holds up requests, and writes down what passes.
//!
//! It reads requests and replies as RESP, so that a fault hits one LOCK.* command and not the handshake of a library. A
//! reply that is lost is of a command that the server has run.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::time::Duration;

use lock_checker::Micros;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;

use crate::faults::{Fault, Faults, Moment};
use crate::recorder::Request;
use crate::support::Reply;
use crate::tls::Tls;

/// How late a message is that is delayed.
const LATE: Duration = Duration::from_millis(300);

/// Between the bytes of a reply that trickles.
const TRICKLE: Duration = Duration::from_millis(6);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}
type Stream = Box<dyn Duplex>;

/// A port at which a server seems to listen.
pub(crate) struct Proxy {
    port: u16,
    server: Arc<OnceLock<u16>>,
    connections: Arc<Mutex<Vec<Open>>>,
    accepting: AbortHandle,
}

#[derive(Clone)]
struct Open {
    task: AbortHandle,
    known: Arc<Known>,
}

impl Open {
    fn close(&self) {
        self.known.is_ending();
        self.task.abort();
    }
}

/// What is known of one connection.
struct Known {
    faults: Arc<Faults>,
    number: usize,
    /// Of a replica to its master: nothing happens to it.
    is_raw: AtomicBool,
    /// What has no reply yet.
    asked: Mutex<VecDeque<Request>>,
    /// From when on it may have been closed.
    end: OnceLock<Micros>,
}

impl Known {
    /// To be called before anything is closed.
    fn is_ending(&self) {
        let _ = self.end.set(self.faults.recorder().now());
    }
}

impl Proxy {
    /// Listens. Who connects waits until [`Proxy::serve`] has told of a server, and speaks TLS if `tls` is there.
    pub(crate) fn listen(faults: &Arc<Faults>, tls: Option<&Tls>) -> Self {
        let listener = RUNTIME.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (server, connections) = (Arc::new(OnceLock::new()), Arc::new(Mutex::new(Vec::new())));
        let accept = accept(listener, faults.clone(), tls.cloned(), server.clone(), connections.clone());
        let accepting = RUNTIME.spawn(accept).abort_handle();
        Self { port, server, connections, accepting }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The server is the one that listens at this port.
    pub(crate) fn serve(&self, port: u16) {
        self.server.set(port).unwrap();
    }

    /// Closes the connections of clients, both sides.
    pub(crate) fn cut(&self) {
        self.clients().iter().for_each(Open::close);
    }

    /// Closes one of them, which is picked by how many there are.
    pub(crate) fn cut_one(&self, pick: impl FnOnce(usize) -> usize) {
        let open = self.clients();
        if !open.is_empty() {
            open[pick(open.len())].close();
        }
    }

    fn clients(&self) -> Vec<Open> {
        let mut open = self.connections.lock().unwrap();
        open.retain(|each| !each.task.is_finished());
        open.iter().filter(|each| !each.known.is_raw.load(Ordering::SeqCst)).cloned().collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.connections.lock().unwrap().iter().for_each(|each| each.task.abort());
    }
}

async fn accept(
    listener: TcpListener,
    faults: Arc<Faults>,
    tls: Option<Tls>,
    server: Arc<OnceLock<u16>>,
    connections: Arc<Mutex<Vec<Open>>>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let Some(&port) = server.get() else { continue };
        let known = Arc::new(Known {
            faults: faults.clone(),
            number: faults.recorder().open(),
            is_raw: AtomicBool::new(false),
            asked: Mutex::default(),
            end: OnceLock::new(),
        });
        let (connection, tls) = (Connection(known.clone()), tls.clone());
        let task = tokio::spawn(async move {
            // What goes wrong ends the connection, which is what its client sees of it.
            let _ = carry(connection, client, port, tls).await;
        });
        let mut open = connections.lock().unwrap();
        open.retain(|each| !each.task.is_finished());
        open.push(Open { task: task.abort_handle(), known });
    }
}

async fn carry(
    connection: Connection,
    client: TcpStream,
    port: u16,
    tls: Option<Tls>,
) -> std::io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", port)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client, server): (Stream, Stream) = match tls {
        None => (Box::new(client), Box::new(server)),
        Some(tls) => (Box::new(tls.accept(client).await?), Box::new(tls.connect(server).await?)),
    };
    let (from_client, to_client) = tokio::io::split(client);
    let (from_server, to_server) = tokio::io::split(server);
    tokio::select! {
        ended = connection.requests(from_client, to_server) => ended,
        ended = connection.replies(from_server, to_client) => ended,
    }
}

/// It is dropped when the connection has ended, in whatever way.
struct Connection(Arc<Known>);

impl Deref for Connection {
    type Target = Known;

    fn deref(&self) -> &Known {
        &self.0
    }
}

impl Connection {
    async fn requests(&self, from: ReadHalf<Stream>, mut to: WriteHalf<Stream>) -> std::io::Result<()> {
        let mut values = Values::new(from);
        while let Some((request, bytes)) = values.next().await? {
            let words: Vec<String> = request.items().iter().map(Reply::text).collect();
            let mut passed_on = bytes;
            let command = words.first().map(|word| word.to_ascii_uppercase()).unwrap_or_default();
            if command == "PSYNC" || command == "SYNC" {
                self.is_raw.store(true, Ordering::SeqCst);
                to.write_all(&passed_on).await?;
                return copy(values, to).await;
            }
            let error = self.faults.error(&command);
            if command.starts_with("LOCK.") {
                if self.faults.of_request(&command) {
                    tokio::time::sleep(LATE).await;
                }
                self.faults.seen(&command, Moment::Request);
            }
            // A subscription is confirmed by a message.
            if !command.ends_with("SUBSCRIBE") {
                let mut request = self.faults.recorder().request(command, words);
                if error.is_some() {
                    // Its reply says when it is the turn of the error.
                    passed_on = b"*1\r\n$4\r\nPING\r\n".to_vec();
                }
                request.error = error;
                self.asked.lock().unwrap().push_back(request);
            }
            to.write_all(&passed_on).await?;
        }
        self.is_ending();
        Ok(())
    }

    async fn replies(&self, from: ReadHalf<Stream>, mut to: WriteHalf<Stream>) -> std::io::Result<()> {
        let (mut values, mut is_mute) = (Values::new(from), false);
        while let Some((reply, mut bytes)) = values.next().await? {
            if self.is_raw.load(Ordering::SeqCst) {
                to.write_all(&bytes).await?;
                return copy(values, to).await;
            }
            let request = if is_message(&reply) { None } else { self.asked.lock().unwrap().pop_front() };
            let mut fault = None;
            if let Some(request) = request {
                if let Some(error) = &request.error {
                    bytes = format!("-{error}\r\n").into_bytes();
                }
                if request.command.starts_with("LOCK.") {
                    self.faults.seen(&request.command, Moment::Reply);
                    fault = self.faults.of_reply(&request.command);
                }
                self.faults.recorder().reply(self.number, request, &reply);
            }
            is_mute |= fault == Some(Fault::Swallow);
            match fault {
                _ if is_mute => {}
                Some(Fault::Close) => {
                    self.is_ending();
                    return Ok(());
                }
                Some(Fault::Cut) => {
                    self.is_ending();
                    to.write_all(bytes.split_at(bytes.len().div_ceil(2)).0).await?;
                    return to.shutdown().await;
                }
                Some(Fault::Trickle) => {
                    for byte in bytes {
                        to.write_all(&[byte]).await?;
                        tokio::time::sleep(TRICKLE).await;
                    }
                }
                Some(Fault::Delay) => {
                    tokio::time::sleep(LATE).await;
                    to.write_all(&bytes).await?;
                }
                _ => to.write_all(&bytes).await?,
            }
        }
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        self.faults.recorder().close(self.number, asked, self.end.get().copied());
    }
}

/// What a subscriber is sent: with RESP2 an array, like a reply.
fn is_message(reply: &Reply) -> bool {
    match reply {
        Reply::Push(_) => true,
        Reply::Array(items) => matches!(items.first(), Some(Reply::Bulk(kind))
            if matches!(kind.as_slice(), b"smessage" | b"ssubscribe" | b"sunsubscribe" | b"message" | b"subscribe")),
        _ => false,
    }
}

async fn copy(values: Values, mut to: WriteHalf<Stream>) -> std::io::Result<()> {
    let Values { mut from, received } = values;
    to.write_all(&received).await?;
    tokio::io::copy(&mut from, &mut to).await.map(drop)
}

/// The RESP values of what is read.
struct Values {
    from: ReadHalf<Stream>,
    received: Vec<u8>,
}

impl Values {
    fn new(from: ReadHalf<Stream>) -> Self {
        Self { from, received: Vec::new() }
    }

    /// The next one, and its bytes; `None` at the end.
    async fn next(&mut self) -> std::io::Result<Option<(Reply, Vec<u8>)>> {
        loop {
            // A master sends its replica line ends that belong to nothing.
            if self.received.starts_with(b"\n") {
                return Ok(Some((Reply::Null, vec![self.received.remove(0)])));
            }
            if let Some((value, length)) = Reply::from_wire(&self.received) {
                return Ok(Some((value, self.received.drain(..length).collect())));
            }
            if self.from.read_buf(&mut self.received).await? == 0 {
                return Ok(None);
            }
        }
    }
}
