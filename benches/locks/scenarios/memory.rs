//! What a held lock takes of the server's memory.

use crate::effort::Effort;
use crate::fill::fill;
use crate::loads::{OK, granted, token, uuid};
use crate::report::{Bound, Section, Target};
use crate::stats::count;
use crate::support::{Client, PATIENCE, Server, wait_until};

/// Long enough to outlast the measurement, in milliseconds.
const LEASE: &str = "3600000";

/// Who makes the token, and of which kind.
#[derive(Clone, Copy)]
enum Token {
    Server,
    Hex,
    Uuid,
}

impl Token {
    const ALL: [Self; 3] = [Self::Server, Self::Hex, Self::Uuid];

    fn name(self) -> &'static str {
        match self {
            Self::Server => "server's own",
            Self::Hex => "client's, 32 hex digits",
            Self::Uuid => "client's, UUID of 36 characters",
        }
    }

    fn text(self, number: usize) -> String {
        match self {
            Self::Server | Self::Hex => token(number),
            Self::Uuid => uuid(number),
        }
    }
}

pub(crate) fn run(effort: &Effort) -> Section {
    let count_of_locks = effort.crowd;
    let set_bytes = [Token::Hex, Token::Uuid].map(|token| set_bytes(count_of_locks, token));
    let mut rows = Vec::new();
    let mut targets = Vec::new();
    for token in Token::ALL {
        let set = set_bytes[usize::from(matches!(token, Token::Uuid))];
        let lock = lock_bytes(count_of_locks, token);
        rows.push(vec![
            token.name().to_owned(),
            format!("{set:.1}"),
            format!("{lock:.1}"),
            format!("{:.2}", lock / set),
        ]);
        targets.push(Target {
            name: format!("memory of a held lock against `SET key token PX`; token {}", token.name()),
            figure: lock / set,
            unit: "times",
            bound: Bound::Ceiling(1.3),
        });
    }
    Section {
        title: "Memory",
        method: format!(
            "By how much `used_memory` grows on a fresh server with {} keys of 12 bytes, divided by their number: \
             key, value, expiry or deadline, and the tables they stand in.",
            count(count_of_locks)
        ),
        columns: vec!["token", "bytes a `SET key token PX`", "bytes a `LOCK.ACQUIRE`", "ratio"],
        rows,
        targets,
        plots: Vec::new(),
    }
}

fn set_bytes(count: usize, token: Token) -> f64 {
    bytes_each(count, OK, |number| {
        vec!["SET".into(), key(number), token.text(number), "PX".into(), LEASE.into()]
    })
}

fn lock_bytes(count: usize, token: Token) -> f64 {
    let granted = granted(token.text(0).len());
    bytes_each(count, &granted, |number| {
        let mut command = vec!["LOCK.ACQUIRE".into(), key(number), "PX".into(), LEASE.into()];
        if !matches!(token, Token::Server) {
            command.extend(["TOKEN".into(), token.text(number)]);
        }
        command
    })
}

fn key(number: usize) -> String {
    format!("lock:{number:07}")
}

/// Bytes of memory each of so many commands takes on a fresh server.
fn bytes_each(count: usize, reply: &str, command: impl Fn(usize) -> Vec<String>) -> f64 {
    let server = Server::start();
    let mut client = server.client();
    let before = used_memory(&mut client);
    fill(&server, count, reply, command);
    until_alone(&mut client);
    (used_memory(&mut client) - before) / count as f64
}

/// Waits until no other connection is left: the buffers of the one that sent the commands are no part of what they left.
pub(super) fn until_alone(client: &mut Client) {
    wait_until("the other connection is gone", PATIENCE, || {
        client.info("clients", "connected_clients") == "1"
    });
}

pub(super) fn used_memory(client: &mut Client) -> f64 {
    client.info("memory", "used_memory").parse().unwrap()
}
