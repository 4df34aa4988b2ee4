//! A connection that waits for a lock, and what becomes of it.

use std::time::{Duration, Instant};

use super::client::{Client, encode};
use super::locks::{Grant, field, null, ok_grant};
use super::reply::Reply;
use super::server::Server;
use super::wait::{PATIENCE, wait_until};

/// A connection whose LOCK.ACQUIRE waits in the server. When its one reply has come it must answer PING, and nothing
/// may stand between the two.
pub(crate) struct Waiter {
    /// The connection.
    pub(crate) client: Client,
    /// Its id.
    pub(crate) id: i64,
}

impl Waiter {
    /// Sends LOCK.ACQUIRE with everything behind it and returns once the server has the connection wait, or may have had it
    /// wait: a wait by BLOCK can be over before anybody has looked.
    #[track_caller]
    pub(crate) fn new(server: &Server, rest: &str) -> Self {
        Self::on(server, server.client(), rest)
    }

    /// The same on a connection there is.
    #[track_caller]
    pub(crate) fn on(server: &Server, mut client: Client, rest: &str) -> Self {
        let id = client.id();
        let command = format!("LOCK.ACQUIRE {rest}");
        client.send(&command.split_ascii_whitespace().collect::<Vec<_>>());
        Self { client, id }.once_blocked(server, rest)
    }

    /// The same, with a reply to something else left unread, so that [`Client::reset`] can be called.
    #[track_caller]
    pub(crate) fn with_unread_reply(server: &Server, rest: &str) -> Self {
        let mut client = server.client();
        let id = client.id();
        let command = format!("LOCK.ACQUIRE {rest}");
        let mut wire = encode(&["PING"]);
        wire.extend(encode(&command.split_ascii_whitespace().collect::<Vec<_>>()));
        client.raw_write(&wire);
        Self { client, id }.once_blocked(server, rest)
    }

    /// The same waiter, once the server has its next request for `key` wait.
    #[track_caller]
    pub(crate) fn once_it_waits_again(self, server: &Server, key: &str) -> Self {
        self.once_blocked(server, key)
    }

    #[track_caller]
    fn once_blocked(mut self, server: &Server, rest: &str) -> Self {
        once_blocked(&mut server.client(), &mut self.client, self.id, rest);
        self
    }

    /// Panics unless it waits, with all that was asked before now done.
    #[track_caller]
    pub(crate) fn assert_waiting(&self, server: &Server) {
        let mut observer = server.client();
        observer.run("PING");
        assert!(is_blocked(&mut observer, self.id), "client {} does not wait any more", self.id);
    }

    /// Its one reply.
    #[track_caller]
    pub(crate) fn reply(&mut self) -> Reply {
        let reply = self.client.read();
        self.client.send(&["PING"]);
        let next = self.client.read();
        assert_eq!(next, Reply::Simple("PONG".into()), "one reply was due, and after {reply:?} came");
        reply
    }

    /// The grant it must get.
    #[track_caller]
    pub(crate) fn granted(&mut self) -> Grant {
        let (token, fence) = ok_grant(self.reply());
        Grant { token, fence }
    }

    /// It must get the null of its protocol.
    #[track_caller]
    pub(crate) fn refused(&mut self) {
        let reply = self.reply();
        assert_eq!(reply, null(&self.client));
    }

    /// A grant or a null, one of which it must get.
    #[track_caller]
    pub(crate) fn granted_or_refused(&mut self) -> Option<Grant> {
        let reply = self.reply();
        if reply == null(&self.client) {
            return None;
        }
        let (token, fence) = ok_grant(reply);
        Some(Grant { token, fence })
    }

    /// The text of the error it must get.
    #[track_caller]
    pub(crate) fn failed(&mut self) -> String {
        self.reply().error().to_owned()
    }

    /// The server must close the connection and say nothing before.
    #[track_caller]
    pub(crate) fn closed(&mut self) {
        let last = self.client.try_read().unwrap();
        assert_eq!(last, None, "the connection was to be closed");
    }

    /// An error, after which the connection may be closed, or the end of the connection alone.
    #[track_caller]
    pub(crate) fn failed_or_closed(&mut self) {
        let Some(reply) = self.client.try_read().unwrap() else { return };
        assert!(reply.is_error(), "an error was due, got {reply:?}");
        if !self.client.is_closed() {
            assert_eq!(self.client.run("PING"), Reply::Simple("PONG".into()), "after {reply:?}");
        }
    }

    /// Closes the connection with a reset. It must come from [`Waiter::with_unread_reply`].
    #[track_caller]
    pub(crate) fn reset(self) {
        self.client.reset();
    }
}

/// How long a look takes at whether a reply is there.
const A_LOOK: Duration = Duration::from_millis(1);

/// How long a request waits; `None` if that is without end, or not said.
fn block_of(rest: &str) -> Option<Duration> {
    let mut words = rest.split_ascii_whitespace().skip_while(|word| *word != "BLOCK");
    let millis = words.nth(1)?.parse().ok()?;
    (millis > 0).then(|| Duration::from_millis(millis))
}

/// Returns once the server has this client wait for its request, of which `rest` are the words, or may have had it wait: a
/// wait by BLOCK can be over before anybody has looked.
#[track_caller]
pub(crate) fn once_blocked(observer: &mut Client, client: &mut Client, id: i64, rest: &str) {
    let begun = Instant::now();
    let block = block_of(rest);
    wait_until(&format!("{rest} waits"), PATIENCE, || {
        is_blocked(observer, id)
            || block.is_some_and(|block| begun.elapsed() >= block) && client.has_reply_within(A_LOOK)
    });
}

/// Whether the server has this client wait.
#[track_caller]
pub(crate) fn is_blocked(observer: &mut Client, id: i64) -> bool {
    let list = observer.run(&format!("CLIENT LIST ID {id}")).text();
    list.split_ascii_whitespace().any(|part| part.strip_prefix("flags=").is_some_and(|it| it.contains('b')))
}

/// How many clients the server has wait.
#[track_caller]
pub(crate) fn blocked_clients(client: &mut Client) -> usize {
    client.info("clients", "blocked_clients").parse().unwrap()
}

/// Waits until so many clients wait.
#[track_caller]
pub(crate) fn wait_blocked(server: &Server, count: usize) {
    let mut client = server.client();
    wait_until(&format!("{count} clients wait"), PATIENCE, || blocked_clients(&mut client) == count);
}

/// The labels of those who hold the lock, in the order of their grants, and of those who wait, in theirs; `-` without one.
#[track_caller]
pub(crate) fn owners(client: &mut Client, key: &str) -> (Vec<String>, Vec<String>) {
    let info = client.run(&format!("LOCK.INFO {key}"));
    if info.is_null() {
        return (Vec::new(), Vec::new());
    }
    let names = |list: &str| -> Vec<String> {
        let entries = field(&info, list);
        let names = entries.items().iter().map(|entry| match field(entry, "owner") {
            owner if owner.is_null() => "-".to_owned(),
            owner => owner.text(),
        });
        names.collect()
    };
    let (holders, queue) = (names("holders"), names("queue"));
    assert_eq!(field(&info, "waiting"), Reply::Int(i64::try_from(queue.len()).unwrap()), "{info:?}");
    (holders, queue)
}

/// How many wait for the key, which must exist.
#[track_caller]
pub(crate) fn waiting(client: &mut Client, key: &str) -> i64 {
    field(&client.run(&format!("LOCK.INFO {key}")), "waiting").int()
}

/// Nobody waits, nobody holds the key, and anybody can have it: nothing is left of what was.
#[track_caller]
pub(crate) fn assert_left_in_peace(server: &Server, key: &str) {
    wait_blocked(server, 0);
    let mut client = server.client();
    assert_eq!(client.run(&format!("LOCK.INFO {key}")), null(&client), "the lock is free");
    ok_grant(client.run(&format!("LOCK.ACQUIRE {key} TOKEN anybody")));
    assert_eq!(waiting(&mut client, key), 0);
    assert_eq!(client.run(&format!("LOCK.RELEASE {key} anybody")), Reply::Int(1));
    assert_eq!(client.run(&format!("EXISTS {key}")), Reply::Int(0));
}

/// Releases a lock that the token must hold.
#[track_caller]
pub(crate) fn release<T: AsRef<[u8]>>(client: &mut Client, key: &str, token: T) {
    let reply = client.call(&[b"LOCK.RELEASE", key.as_bytes(), token.as_ref()]);
    assert_eq!(reply, Reply::Int(1), "LOCK.RELEASE {key} {}", token.as_ref().escape_ascii());
}

/// Cuts a lease, which the token must have, to so many milliseconds from now. Whoever has to wait before a lease ends waits
/// for a long one, which is then cut: a short one could end first, while the machine does something else.
#[track_caller]
pub(crate) fn shorten(client: &mut Client, key: &str, token: &str, lease_ms: u64) {
    let extend = format!("LOCK.EXTEND {key} {token} PX {lease_ms}");
    assert_eq!(client.run(&extend), Reply::Int(1), "{extend}");
}

/// Polls until this time has passed since `start`: for what must not happen within it.
pub(crate) fn time_passes(start: std::time::Instant, span: Duration) {
    wait_until("time passes", span + PATIENCE, || start.elapsed() >= span);
}
