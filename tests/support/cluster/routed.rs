//! A client that knows what a cluster is: it goes where it is sent.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use super::{Redirection, slot_of};
use crate::support::{Client, Reply};

/// How long it waits until it asks again where an answer was "not now".
const PAUSE: Duration = Duration::from_millis(10);

/// How long a request may be sent on and put off, and a reply stay out, in all.
const DEADLINE: Duration = Duration::from_secs(60);

/// How often it was told what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// `MOVED`
    pub(crate) moved: usize,
    /// `ASK`
    pub(crate) ask: usize,
    /// `TRYAGAIN`
    pub(crate) try_again: usize,
    /// `CLUSTERDOWN`
    pub(crate) down: usize,
    /// `UNBLOCKED` and `LOADING`
    pub(crate) other: usize,
    /// Nothing: the connection was closed or refused.
    pub(crate) closed: usize,
}

/// A client of the whole cluster, with a connection to each node it was sent to.
pub(crate) struct Routed {
    seeds: Vec<SocketAddr>,
    /// Which of the seeds is asked where nothing better is known.
    next_seed: usize,
    slots: HashMap<u16, SocketAddr>,
    connections: HashMap<SocketAddr, Client>,
    deadline: Duration,
    is_sparing: bool,
    /// What redirected or put it off so far.
    pub(crate) told: Told,
}

impl Routed {
    pub(super) fn new(seeds: Vec<SocketAddr>) -> Self {
        Self {
            seeds,
            next_seed: 0,
            slots: HashMap::new(),
            connections: HashMap::new(),
            deadline: DEADLINE,
            is_sparing: false,
            told: Told::default(),
        }
    }

    /// Another limit on how long a request may take in all.
    pub(crate) fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Closes the connection to a node as soon as it is sent elsewhere for good: for crowds.
    pub(crate) fn sparing(mut self) -> Self {
        self.is_sparing = true;
        self
    }

    /// Sends a command about this key, wherever it belongs, and gives the first reply that sends it nowhere else. A command
    /// whose connection broke is sent again, so it must be one that may come twice: one with a token.
    #[track_caller]
    pub(crate) fn call<A: AsRef<[u8]>>(&mut self, key: &str, command: &[A]) -> Reply {
        let slot = slot_of(key);
        let start = Instant::now();
        let mut asked: Option<SocketAddr> = None;
        loop {
            let spent = start.elapsed();
            assert!(spent < self.deadline, "no answer to a command about {key}: {:?}", self.told);
            let home = self.slots.get(&slot).copied().unwrap_or_else(|| self.seed());
            let reply = self.send(asked.unwrap_or(home), command, asked.is_some(), self.deadline - spent);
            let at = asked.take().unwrap_or(home);
            match reply {
                Ok(Reply::Error(error)) => match self.judge(&error, slot, at) {
                    Next::Give => return Reply::Error(error),
                    Next::Again => {}
                    Next::Ask(address) => asked = Some(address),
                },
                Ok(reply) => return reply,
                Err(error) => self.lost(slot, at, &error),
            }
        }
    }

    /// The same of a command written as one text, its arguments parted by blanks; the first of them is the key.
    #[track_caller]
    pub(crate) fn run(&mut self, command: &str) -> Reply {
        let words: Vec<&str> = command.split_ascii_whitespace().collect();
        self.call(words[1], &words)
    }

    fn send<A: AsRef<[u8]>>(
        &mut self,
        address: SocketAddr,
        command: &[A],
        asking: bool,
        patience: Duration,
    ) -> io::Result<Reply> {
        let mut client = match self.connections.remove(&address) {
            Some(client) => client,
            None => Client::try_connect(address)?,
        };
        client.set_read_timeout(patience);
        if asking {
            let reply = client.try_exchange(&["ASKING"])?;
            assert_eq!(reply, Reply::Simple("OK".into()), "ASKING");
        }
        let reply = client.try_exchange(command)?;
        self.connections.insert(address, client);
        Ok(reply)
    }

    fn judge(&mut self, error: &str, slot: u16, at: SocketAddr) -> Next {
        if let Some(moved) = Redirection::parse(error, "MOVED") {
            assert_eq!(moved.slot, slot, "{error}");
            self.told.moved += 1;
            let address = resolve(&moved.endpoint, at);
            if address == at {
                thread::sleep(PAUSE);
            } else if self.is_sparing {
                self.connections.remove(&at);
            }
            self.slots.insert(slot, address);
            return Next::Again;
        }
        if let Some(ask) = Redirection::parse(error, "ASK") {
            assert_eq!(ask.slot, slot, "{error}");
            self.told.ask += 1;
            return Next::Ask(resolve(&ask.endpoint, at));
        }
        let told = match error.split(' ').next() {
            Some("TRYAGAIN") => &mut self.told.try_again,
            Some("CLUSTERDOWN") => &mut self.told.down,
            Some("UNBLOCKED" | "LOADING") => &mut self.told.other,
            _ => return Next::Give,
        };
        *told += 1;
        thread::sleep(PAUSE);
        Next::Again
    }

    /// Asks somebody else next time.
    #[track_caller]
    fn lost(&mut self, slot: u16, at: SocketAddr, error: &io::Error) {
        let is_late = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        assert!(!is_late, "no answer from {at} about slot {slot}: {:?}", self.told);
        self.told.closed += 1;
        self.slots.remove(&slot);
        self.next_seed += 1;
        thread::sleep(PAUSE);
    }

    fn seed(&self) -> SocketAddr {
        self.seeds[self.next_seed % self.seeds.len()]
    }
}

enum Next {
    Give,
    Again,
    Ask(SocketAddr),
}

/// The address of an endpoint; one without a host is on the host that spoke of it.
#[track_caller]
fn resolve(endpoint: &str, speaker: SocketAddr) -> SocketAddr {
    let (host, port) = endpoint.rsplit_once(':').unwrap_or_else(|| panic!("no endpoint: {endpoint}"));
    let port: u16 = port.parse().unwrap_or_else(|_| panic!("no port: {endpoint}"));
    if host.is_empty() || host == "?" {
        return SocketAddr::new(speaker.ip(), port);
    }
    let addresses = (host, port).to_socket_addrs();
    let mut addresses = addresses.unwrap_or_else(|error| panic!("{endpoint}: {error}"));
    addresses.find(SocketAddr::is_ipv4).unwrap_or_else(|| panic!("no address of {endpoint}"))
}
