//! Places in the queue that outlive the connection, by QUEUE: what asks for one, whose turn comes when, what is told then and
//! to whom, and what ends a place and what does not.
//!
//! - [`place`] asks for a place and gives its ticket, [`ticket`] takes a reply for one.
//! - [`Listener`] is a subscriber to the channel on which tickets are called.
//! - [`call_next`] has a holder give the lock back to a place, and [`is_called`] says whose turn it is.
//! - [`entries`] and [`tickets`] are the queue as LOCK.INFO shows it.

use crate::support::locks::{Grant, field, holders, remaining};
use crate::support::waiter::release;
use crate::support::{Client, Reply, Server, Waiter, ok_grant};

mod blocked;
mod called;
mod caps;
mod changes;
mod clocks;
mod cluster;
mod connections;
mod durability;
mod endings;
mod histories;
mod info;
mod modules;
mod order;
mod replies;
mod rights;
mod settings;

/// The lease with which a place is called, unless the setting is another.
const CLAIM_LEASE_MS: i64 = 5_000;

/// The lease of a request that names none.
const DEFAULT_LEASE_MS: i64 = 30_000;

/// A server on which nobody loses a turn for being slow.
#[track_caller]
fn patient() -> Server {
    Server::builder().config("lock.claim-lease 600000").start()
}

/// The same, `k` held by `a` for long, with a client.
#[track_caller]
fn held() -> (Server, Client) {
    let server = patient();
    let mut client = server.client();
    ok_grant(client.run("LOCK.ACQUIRE k TOKEN a OWNER a PX 600000"));
    (server, client)
}

/// Asks with everything behind LOCK.ACQUIRE, parted by blanks; it must be told a ticket.
#[track_caller]
fn place(client: &mut Client, rest: &str) -> i64 {
    let reply = client.run(&format!("LOCK.ACQUIRE {rest}"));
    assert!(matches!(reply, Reply::Int(_)), "LOCK.ACQUIRE {rest}: a ticket was due, got {reply:?}");
    ticket(&reply)
}

/// The ticket that a reply must be.
#[track_caller]
fn ticket(reply: &Reply) -> i64 {
    let ticket = reply.int();
    assert!((1..1 << 53).contains(&ticket), "doubles carry it exactly: {ticket}");
    ticket
}

/// Claims what was called, with everything behind LOCK.ACQUIRE; it must be granted.
#[track_caller]
fn claim(client: &mut Client, rest: &str) -> Grant {
    let (token, fence) = ok_grant(client.run(&format!("LOCK.ACQUIRE {rest}")));
    Grant { token, fence }
}

/// Whether the token's turn has come: it holds the lock.
#[track_caller]
fn is_called(client: &mut Client, key: &str, token: &str) -> bool {
    remaining(client, key, token).is_some()
}

/// `from` gives the lock back, and the next is `to`, which nobody has told yet.
#[track_caller]
fn call_next(client: &mut Client, key: &str, from: &str, to: &str) {
    release(client, key, from);
    assert!(is_called(client, key, to), "{to} comes behind {from}");
}

/// The leases of those who hold the lock, in the order of their grants.
#[track_caller]
fn leases(client: &mut Client, key: &str) -> Vec<i64> {
    holders(client, key).iter().map(|hold| field(hold, "lease").int()).collect()
}

/// The queue as LOCK.INFO shows it; empty where the lock is free and nobody waits.
#[track_caller]
fn entries(client: &mut Client, key: &str) -> Vec<Reply> {
    let info = client.run(&format!("LOCK.INFO {key}"));
    if info.is_null() { Vec::new() } else { field(&info, "queue").items().to_vec() }
}

/// The tickets of those in the queue, in its order; `None` for who waits on a connection.
#[track_caller]
fn tickets(client: &mut Client, key: &str) -> Vec<Option<i64>> {
    let of = |entry: &Reply| {
        let pairs = entry.pairs();
        pairs.into_iter().find_map(|(name, value)| (name.text() == "ticket").then(|| value.int()))
    };
    entries(client, key).iter().map(of).collect()
}

/// Ends the connection of a waiter and waits until its place stands without one.
#[track_caller]
fn lose(server: &Server, key: &str, waiter: Waiter) {
    let id = waiter.id;
    drop(waiter);
    let mut client = server.client();
    crate::support::wait_until(
        &format!("the server has noticed that client {id} is gone from {key}"),
        crate::support::PATIENCE,
        || client.run(&format!("CLIENT LIST ID {id}")).text().is_empty(),
    );
}

/// A connection that hears which tickets of a key are called.
struct Listener {
    client: Client,
    channel: Vec<u8>,
}

impl Listener {
    /// Listens on a connection of its own.
    #[track_caller]
    fn of<C: AsRef<[u8]>>(server: &Server, channel: C) -> Self {
        Self::on(server.client(), channel)
    }

    /// Listens on this connection.
    #[track_caller]
    fn on<C: AsRef<[u8]>>(mut client: Client, channel: C) -> Self {
        let channel = channel.as_ref().to_vec();
        let reply = client.call(&[b"SSUBSCRIBE", &channel[..]]);
        assert!(!reply.is_error(), "SSUBSCRIBE: {reply:?}");
        assert_eq!(reply.items()[0].text(), "ssubscribe");
        assert_eq!(reply.items()[1].bytes(), channel);
        Self { client, channel }
    }

    /// The next ticket that is called.
    #[track_caller]
    fn ticket(&mut self) -> i64 {
        let message = self.client.read();
        let parts = message.items();
        assert_eq!(parts.len(), 3, "{message:?}");
        assert_eq!(parts[0].text(), "smessage");
        assert_eq!(parts[1].bytes(), self.channel);
        let text = parts[2].text();
        let ticket: i64 = text.parse().unwrap_or_else(|_| panic!("a ticket was due, got {text}"));
        assert_eq!(ticket.to_string(), text, "as decimal text");
        ticket
    }

    /// The next ticket that is called must be this one.
    #[track_caller]
    fn hears(&mut self, ticket: i64) {
        assert_eq!(self.ticket(), ticket, "the ticket that is called");
    }

    /// Nothing was called until now, but for what was read.
    #[track_caller]
    fn heard_nothing(&mut self) {
        let reply = self.client.run("PING");
        let is_pong = match &reply {
            Reply::Simple(text) => text == "PONG",
            Reply::Array(parts) => parts[0] == Reply::Bulk(b"pong".to_vec()),
            _ => false,
        };
        assert!(is_pong, "nothing was to be called, got {reply:?}");
    }
}
