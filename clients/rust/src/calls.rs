//! Hears whose turn it is: the messages of one server, for all who wait there.
//!
//! A message only makes prompt what repeating makes right. So whatever goes wrong here ends in somebody asking once more.

use crate::link::Link;
use crate::{lock, steps};
use redis::{PushInfo, PushKind, Value, from_redis_value_ref, pipe};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{OnceCell, broadcast};
use tokio::time::{Instant, sleep};

/// How long a subscription stays that nobody uses.
const KEPT: Duration = Duration::from_secs(5);
/// Calls of one lock that may come at once. Who has missed some asks.
const CALLS: usize = 16;

/// By the name of the lock.
#[derive(Default)]
pub(crate) struct Channels(Mutex<HashMap<Vec<u8>, Arc<Channel>>>);

/// What is subscribed to on one connection, as long as that is there.
pub(crate) struct Calls {
    pub(crate) link: Arc<Link>,
    timeout: Duration,
    channels: Arc<Channels>,
    /// Commands go out in the order in which `channels` was changed.
    in_order: tokio::sync::Mutex<()>,
}

struct Channel {
    /// When the server has confirmed the subscription, or that it refuses it.
    subscribed: OnceCell<Option<Instant>>,
    tickets: broadcast::Sender<u64>,
    used: Mutex<Instant>,
}

/// Of one who waits, or is about to.
pub(crate) struct Seat {
    calls: Arc<Calls>,
    name: Vec<u8>,
    channel: Arc<Channel>,
    heard: broadcast::Receiver<u64>,
    taken: Instant,
}

impl Calls {
    /// On a connection whose messages `channels` hear.
    pub(crate) fn new(link: Arc<Link>, timeout: Duration, channels: Arc<Channels>) -> Arc<Self> {
        let calls = Arc::new(Self { link, timeout, channels, in_order: tokio::sync::Mutex::default() });
        let weak = Arc::downgrade(&calls);
        tokio::spawn(async move {
            while let Some(calls) = weak.upgrade().filter(|calls| !calls.link.is_closed()) {
                calls.forget_unused().await;
                drop(calls);
                sleep(KEPT).await;
            }
        });
        calls
    }

    pub(crate) fn knows(&self, name: &[u8]) -> bool {
        lock(&self.channels.0).contains_key(name)
    }

    pub(crate) fn seat(self: &Arc<Self>, name: &[u8]) -> Seat {
        let mut channels = lock(&self.channels.0);
        let channel = channels.entry(name.to_vec()).or_insert_with(|| {
            let used = Mutex::new(Instant::now());
            Arc::new(Channel { subscribed: OnceCell::new(), tickets: broadcast::Sender::new(CALLS), used })
        });
        let (channel, heard) = (channel.clone(), channel.tickets.subscribe());
        Seat { calls: self.clone(), name: name.to_vec(), channel, heard, taken: Instant::now() }
    }

    async fn subscribe(&self, name: &[u8]) -> Option<Instant> {
        let _in_order = self.in_order.lock().await;
        self.link.ask(pipe().cmd("SSUBSCRIBE").arg(name), self.timeout).await.ok()?;
        Some(Instant::now())
    }

    async fn forget_unused(&self) {
        let _in_order = self.in_order.lock().await;
        let mut commands = pipe();
        lock(&self.channels.0).retain(|name, channel| {
            let used = Arc::strong_count(channel) > 1 || lock(&channel.used).elapsed() < KEPT;
            if !used {
                commands.cmd("SUNSUBSCRIBE").arg(name);
            }
            used
        });
        if !commands.is_empty() {
            let _ = self.link.ask(&commands, self.timeout).await;
        }
    }
}

impl Seat {
    pub(crate) fn is_of(&self, calls: &Arc<Calls>) -> bool {
        Arc::ptr_eq(&self.calls, calls)
    }

    /// Waits until this ticket is called, or may have been since the request was `sent`, or the time is over.
    pub(crate) async fn called(&mut self, ticket: u64, sent: Instant, at_most: Duration) {
        let Self { calls, name, channel, heard, taken } = self;
        let call = async {
            match channel.subscribed.get_or_init(|| calls.subscribe(name)).await {
                // Without the right to it repeats are enough.
                None => return std::future::pending().await,
                Some(since) if sent < *since || sent < *taken => return,
                Some(_) => {}
            }
            while heard.recv().await.is_ok_and(|called| called != ticket) {}
        };
        tokio::select! {
            () = call => {}
            _ = calls.link.closed() => sleep(steps::PAUSE.min(at_most)).await,
            () = sleep(at_most) => {}
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        *lock(&self.channel.used) = Instant::now();
    }
}

impl Channels {
    /// Whether the connection is of use after that.
    pub(crate) fn hear(&self, push: &PushInfo) -> bool {
        let channels = lock(&self.0);
        match (&push.kind, push.data.as_slice()) {
            (PushKind::SMessage, [Value::BulkString(name), ticket, ..]) => {
                if let (Some(channel), Ok(ticket)) = (channels.get(name), from_redis_value_ref(ticket)) {
                    // An error says that nobody waits.
                    let _ = channel.tickets.send(ticket);
                }
                true
            }
            // Nobody has asked for that: the slot has moved to another node.
            (PushKind::SUnsubscribe, [Value::BulkString(name), ..]) => !channels.contains_key(name),
            _ => true,
        }
    }
}
