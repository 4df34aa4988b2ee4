//! A client that writes down what it says and hears, and when.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lock_checker::{Answer, Ask, Limit, Micros, Op};

use crate::support::cluster::Redirection;
use crate::support::{Client, Reply, field};

/// How long a client waits for an answer that it does not want to give up: no answer within that is a hang.
const NO_ANSWER: Duration = Duration::from_secs(60);

/// How long it waits for a replica to confirm.
const CONFIRM_MS: u64 = 200;

/// How often it lets itself be sent on.
const REDIRECTIONS: usize = 8;

/// The clock of a history, which all its clients share.
#[derive(Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Micros {
        u64::try_from(self.0.elapsed().as_micros()).unwrap()
    }
}

/// Where the servers are, and which of them has what.
pub(crate) struct Routes {
    addresses: Mutex<Vec<SocketAddr>>,
    /// Where a key is that is not known to be elsewhere.
    master: AtomicUsize,
    /// Where keys were last said to be, in a cluster.
    homes: Mutex<BTreeMap<String, usize>>,
}

impl Routes {
    pub(crate) fn new(addresses: Vec<SocketAddr>) -> Self {
        Self { addresses: Mutex::new(addresses), master: AtomicUsize::new(0), homes: Mutex::default() }
    }

    pub(crate) fn address(&self, node: usize) -> SocketAddr {
        self.addresses.lock().unwrap()[node]
    }

    /// A server has come up elsewhere.
    pub(crate) fn set_address(&self, node: usize, address: SocketAddr) {
        self.addresses.lock().unwrap()[node] = address;
    }

    pub(crate) fn master(&self) -> usize {
        self.master.load(Ordering::SeqCst)
    }

    pub(crate) fn set_master(&self, node: usize) {
        self.master.store(node, Ordering::SeqCst);
    }

    fn home(&self, key: &str) -> usize {
        self.homes.lock().unwrap().get(key).copied().unwrap_or_else(|| self.master())
    }

    fn set_home(&self, key: &str, node: usize) {
        self.homes.lock().unwrap().insert(key.to_owned(), node);
    }

    fn node_at(&self, endpoint: &str) -> usize {
        let addresses = self.addresses.lock().unwrap();
        addresses.iter().position(|address| address.to_string() == endpoint).unwrap()
    }
}

/// What a client was told, and when it had asked.
pub(crate) struct Told {
    pub(crate) answer: Answer,
    pub(crate) sent: Micros,
}

struct Link {
    number: usize,
    client: Client,
}

/// A request that is not answered yet. The connection it went over serves for nothing else meanwhile.
pub(crate) struct Pending {
    link: Link,
    node: usize,
    ask: Ask,
    sent: Micros,
}

/// What came of a request that was waited for only so long.
pub(crate) enum Patient {
    /// It was answered.
    Told(Told),
    /// It was not, and may still be.
    Pending(Pending),
}

/// A client with a connection to each server it has to do with.
pub(crate) struct HistoryClient<'a> {
    pub(crate) clock: Clock,
    routes: &'a Routes,
    client: usize,
    /// Whether a replica has to confirm what it is granted.
    confirms: bool,
    links: BTreeMap<usize, Link>,
    next_link: usize,
    ops: Vec<Op>,
}

impl<'a> HistoryClient<'a> {
    pub(crate) fn new(clock: Clock, routes: &'a Routes, client: usize, confirms: bool) -> Self {
        Self { clock, routes, client, confirms, links: BTreeMap::new(), next_link: 0, ops: Vec::new() }
    }

    /// Closes all connections, and gives what was written down.
    pub(crate) fn finish(mut self) -> Vec<Op> {
        self.close_all();
        self.ops
    }

    /// Closes all connections, and with them what is tied to them.
    pub(crate) fn close_all(&mut self) {
        while let Some((node, link)) = self.links.pop_first() {
            self.leave(node, link);
        }
    }

    /// Asks whoever has the key, and goes where it is sent. With `give_up` it waits no longer than that, and closes the
    /// connection.
    pub(crate) fn request(&mut self, ask: &Ask, give_up: Option<Duration>) -> Told {
        match self.send_on(ask, |client, node, asking| Patient::Told(client.ask(node, ask, asking, give_up)))
        {
            Patient::Told(told) => told,
            Patient::Pending(pending) => self.finish_pending(pending),
        }
    }

    /// The same, but if no answer comes within `patience` it may come later: the connection is left open.
    pub(crate) fn request_patiently(&mut self, ask: &Ask, patience: Duration) -> Patient {
        self.send_on(ask, |client, node, asking| client.ask_patiently(node, ask, asking, patience))
    }

    fn send_on(&mut self, ask: &Ask, mut ask_at: impl FnMut(&mut Self, usize, bool) -> Patient) -> Patient {
        let key = match ask {
            Ask::Read { name } => name,
            _ => ask.key().unwrap_or_default(),
        };
        let mut node = self.routes.home(key);
        let mut asking = false;
        for _ in 0..REDIRECTIONS {
            let patient = ask_at(self, node, asking);
            let Patient::Told(Told { answer: Answer::Error(error), .. }) = &patient else { return patient };
            if let Some(moved) = Redirection::parse(error, "MOVED") {
                (node, asking) = (self.routes.node_at(&moved.endpoint), false);
                self.routes.set_home(key, node);
            } else if let Some(sent_on) = Redirection::parse(error, "ASK") {
                (node, asking) = (self.routes.node_at(&sent_on.endpoint), true);
            } else {
                return patient;
            }
        }
        ask_at(self, node, asking)
    }

    /// Asks one server, and writes down what comes of it.
    pub(crate) fn ask(&mut self, node: usize, ask: &Ask, asking: bool, give_up: Option<Duration>) -> Told {
        let Some(mut link) = self.link_to(node) else { return self.not_reached() };
        link.client.set_read_timeout(give_up.unwrap_or(NO_ANSWER));
        let sent = self.clock.now();
        let reply = exchange(&mut link.client, ask, asking);
        self.understand(link, node, ask, sent, reply, give_up.is_some())
    }

    fn ask_patiently(&mut self, node: usize, ask: &Ask, asking: bool, patience: Duration) -> Patient {
        let Some(mut link) = self.link_to(node) else { return Patient::Told(self.not_reached()) };
        link.client.set_read_timeout(NO_ANSWER);
        let sent = self.clock.now();
        let begun = begin(&mut link.client, ask, asking);
        if begun.is_ok() && !link.client.has_something_within(patience) {
            return Patient::Pending(Pending { link, node, ask: ask.clone(), sent });
        }
        link.client.set_read_timeout(NO_ANSWER);
        let reply = begun.and_then(|()| read(&mut link.client));
        Patient::Told(self.understand(link, node, ask, sent, reply, false))
    }

    /// Takes the answer to a request that has been left alone.
    pub(crate) fn finish_pending(&mut self, pending: Pending) -> Told {
        let Pending { mut link, node, ask, sent } = pending;
        link.client.set_read_timeout(NO_ANSWER);
        let reply = read(&mut link.client);
        self.understand(link, node, &ask, sent, reply, false)
    }

    fn link_to(&mut self, node: usize) -> Option<Link> {
        self.links.remove(&node).or_else(|| self.open(node))
    }

    fn not_reached(&self) -> Told {
        Told { answer: Answer::Lost, sent: self.clock.now() }
    }

    /// Writes down what came of a request, and keeps the connection if it is of use.
    fn understand(
        &mut self,
        mut link: Link,
        node: usize,
        ask: &Ask,
        sent: Micros,
        reply: io::Result<Reply>,
        gives_up: bool,
    ) -> Told {
        let mut answer = match &reply {
            Ok(reply) => understand(ask, reply),
            Err(error) => unanswered(error.kind(), gives_up),
        };
        let mut is_open = reply.is_ok();
        if self.confirms {
            is_open = is_open && confirm(&mut link.client, ask, &mut answer).is_ok();
        }
        self.note(link.number, node, sent, ask.clone(), answer.clone());
        let is_of_use = is_open && !matches!(answer, Answer::Odd(_)) && !self.links.contains_key(&node);
        if is_of_use {
            self.links.insert(node, link);
        } else {
            self.leave(node, link);
        }
        Told { answer, sent }
    }

    /// A holder writes to what the lock protects; `write` does so if its lease still runs, and says what came of it.
    pub(crate) fn write(&mut self, key: &str, token: &str, fence: u64, answer: Answer, moment: Micros) {
        let ask = Ask::Write { key: key.to_owned(), token: token.to_owned(), fence };
        let op =
            Op { sent: moment, answered: moment, client: self.client, connection: 0, node: 0, ask, answer };
        self.ops.push(op);
    }

    fn open(&mut self, node: usize) -> Option<Link> {
        let number = self.next_link;
        self.next_link += 1;
        let sent = self.clock.now();
        let client = Client::try_connect(self.routes.address(node)).ok();
        let answer = if client.is_some() { Answer::Done } else { Answer::Lost };
        self.note(number, node, sent, Ask::Open, answer);
        Some(Link { number, client: client? })
    }

    fn leave(&mut self, node: usize, link: Link) {
        let (number, sent) = (link.number, self.clock.now());
        drop(link);
        self.note(number, node, sent, Ask::Close, Answer::Done);
    }

    fn note(&mut self, connection: usize, node: usize, sent: Micros, ask: Ask, answer: Answer) {
        let answered = self.clock.now();
        self.ops.push(Op { sent, answered, client: self.client, connection, node, ask, answer });
    }
}

/// Asks for a replica's word that it has what was done. There is none for what was seen, which may be gone tomorrow; and
/// none is needed for what was given back.
fn confirm(client: &mut Client, ask: &Ask, answer: &mut Answer) -> io::Result<()> {
    let each = match ask {
        Ask::Several { each, .. } => each,
        ask => ask,
    };
    let confirmed = match (each, &answer) {
        (Ask::Acquire { .. }, Answer::Granted(_))
        | (Ask::Extend { .. }, Answer::Yes | Answer::Count(1..))
        | (Ask::Guard { .. }, Answer::Done) => client.try_exchange(&["WAIT", "1", &CONFIRM_MS.to_string()]),
        (Ask::Check { .. }, Answer::Held(..)) => Ok(Reply::Int(0)),
        _ => return Ok(()),
    };
    if !matches!(confirmed, Ok(Reply::Int(1..))) {
        *answer = Answer::Unconfirmed;
    }
    confirmed.map(drop)
}

fn exchange(client: &mut Client, ask: &Ask, asking: bool) -> io::Result<Reply> {
    begin(client, ask, asking)?;
    read(client)
}

fn begin(client: &mut Client, ask: &Ask, asking: bool) -> io::Result<()> {
    if asking {
        let reply = client.try_exchange(&["ASKING"])?;
        assert_eq!(reply, Reply::Simple("OK".into()), "ASKING");
    }
    client.try_send(&command(ask))
}

fn read(client: &mut Client) -> io::Result<Reply> {
    client.try_read()?.ok_or_else(|| ErrorKind::UnexpectedEof.into())
}

fn unanswered(kind: ErrorKind, gives_up: bool) -> Answer {
    match kind {
        ErrorKind::WouldBlock | ErrorKind::TimedOut if gives_up => Answer::GaveUp,
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Answer::Odd(format!("(none within {NO_ANSWER:?})")),
        _ => Answer::Lost,
    }
}

/// A request as the server is sent it. The label is the token, so that LOCK.INFO shows who waits.
fn command(ask: &Ask) -> Vec<String> {
    let text = match ask {
        Ask::Several { keys, each } => {
            let mut words = command(each);
            words[0] = words[0].replace("LOCK.", "LOCK.M");
            words.splice(1..2, [keys.len().to_string()].into_iter().chain(keys.iter().cloned()));
            return words;
        }
        Ask::Guard { key, token, name, value } => format!("LOCK.GUARD {key} {token} SET {name} {value}"),
        Ask::Read { name } => format!("GET {name}"),
        Ask::Acquire { key, token, limit, lease_ms, weight, level, block_ms, queue_ms, session } => {
            let limit = match limit {
                Limit::Most(most) => format!("LIMIT {most}"),
                Limit::Shared => "SHARED".to_owned(),
            };
            let weight = weight.map_or_else(String::new, |weight| format!("WEIGHT {weight}"));
            let block = block_ms.map_or_else(String::new, |block_ms| format!("BLOCK {block_ms}"));
            let level = level.map_or_else(String::new, |level| format!("LEVEL {level}"));
            let queue = queue_ms.map_or_else(String::new, |queue_ms| format!("QUEUE {queue_ms}"));
            let rest = format!("{weight} {level} {block} {queue} {}", if *session { "SESSION" } else { "" });
            format!("LOCK.ACQUIRE {key} TOKEN {token} OWNER {token} {limit} PX {lease_ms} {rest}")
        }
        Ask::Release { key, token, level: ..=1 } => format!("LOCK.RELEASE {key} {token}"),
        Ask::Release { key, token, level } => format!("LOCK.RELEASE {key} {token} LEVEL {level}"),
        Ask::Extend { key, token, lease_ms } => format!("LOCK.EXTEND {key} {token} PX {lease_ms}"),
        Ask::Check { key, token } => format!("LOCK.CHECK {key} {token}"),
        Ask::Expire { key, ttl_ms } => format!("PEXPIRE {key} {ttl_ms}"),
        Ask::Look { key } => format!("LOCK.INFO {key}"),
        Ask::Ping => "PING".to_owned(),
        Ask::Write { .. } | Ask::Open | Ask::Close => panic!("no server is asked for {ask}"),
    };
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// What a reply means to who asked for this; odd, if such a request does not have it.
fn understand(ask: &Ask, reply: &Reply) -> Answer {
    let number = |reply: &Reply| match reply {
        Reply::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    let understood = match (ask, reply) {
        (Ask::Several { keys, each }, reply) => match (&**each, reply) {
            (Ask::Release { .. } | Ask::Extend { .. }, Reply::Int(_)) => number(reply)
                .and_then(|count| usize::try_from(count).ok())
                .filter(|count| *count <= keys.len())
                .map(Answer::Count),
            (each, reply) => return understand(each, reply),
        },
        (Ask::Guard { .. }, Reply::Error(text)) if text.starts_with("NOTOWNER ") => Some(Answer::NotOwner),
        (_, Reply::Error(text)) => Some(Answer::Error(text.clone())),
        (Ask::Acquire { .. } | Ask::Check { .. }, Reply::NullArray) => Some(Answer::Null),
        (Ask::Acquire { queue_ms: Some(_), .. }, ticket @ Reply::Int(_)) => {
            number(ticket).map(Answer::Ticket)
        }
        (Ask::Look { .. }, Reply::NullArray) => Some(Answer::Queue(Vec::new())),
        (Ask::Acquire { token, .. }, Reply::Array(parts)) => match parts.as_slice() {
            [Reply::Bulk(own), fence] if own == token.as_bytes() => number(fence).map(Answer::Granted),
            _ => None,
        },
        (Ask::Check { .. }, Reply::Array(parts)) => match parts.as_slice() {
            [fence, left, Reply::Int(0..)] => {
                number(fence).zip(number(left)).map(|(fence, left)| Answer::Held(fence, left))
            }
            _ => None,
        },
        (Ask::Look { .. }, Reply::Array(_)) => {
            let queue = field(reply, "queue");
            Some(Answer::Queue(queue.items().iter().map(|entry| field(entry, "owner").text()).collect()))
        }
        (Ask::Release { .. } | Ask::Extend { .. } | Ask::Expire { .. }, Reply::Int(0)) => Some(Answer::No),
        (Ask::Release { .. } | Ask::Extend { .. } | Ask::Expire { .. }, Reply::Int(1)) => Some(Answer::Yes),
        (Ask::Guard { .. }, Reply::Simple(text)) if text == "OK" => Some(Answer::Done),
        (Ask::Read { .. }, Reply::NullBulk) => Some(Answer::Null),
        (Ask::Read { .. }, Reply::Bulk(value)) => String::from_utf8(value.clone()).ok().map(Answer::Value),
        (Ask::Ping, Reply::Simple(text)) if text == "PONG" => Some(Answer::Done),
        _ => None,
    };
    understood.unwrap_or_else(|| Answer::Odd(format!("{reply:?}")))
}
