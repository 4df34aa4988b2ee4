//! Clients that contend for one lock on one connection: each has a place in the queue, and none waits on the connection.
//!
//! One thread looks after them, as in [`crate::contest`]. A second connection subscribes to the channel of the lock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::io::{ErrorKind, Write};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Poll, Token};

use super::KEPT_MS;
use crate::contest::{ELSEWHERE_US, HOLD, KEY, START, Tally};
use crate::loads::token;
use crate::many;
use crate::pipe::Batch;
use crate::support::{Random, Reply, Server};

/// How often a PING is sent on the connection that they share.
pub(super) const PING_EVERY: Duration = Duration::from_millis(5);

/// How often a client asks again that waits for a message: within the claim lease, for the message may be lost.
const TO_BE_SURE: Duration = Duration::from_secs(2);

/// How a client learns that its turn has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    /// By the message with its ticket.
    Message,
    /// It asks again after so much time, or after any that is between this and half of it: clients that come to ask in step
    /// miss each other's release again and again, by a moment each time.
    Repeat(Duration),
}

/// What a client does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has asked for the lock and waits for the reply.
    Asking,
    /// It has a place in the queue.
    Queued,
    /// It holds the lock until its time comes.
    Holding,
    /// It has given the lock back, and waits to be told that it has.
    GivingBack,
    /// It does something else until its time comes.
    Elsewhere,
}

struct Client {
    ask: Batch,
    give_back: Batch,
    state: State,
    /// Since when it wants the lock, or has it.
    since: Instant,
    /// When it goes on.
    due: Instant,
    /// Of its place, while it has one.
    ticket: Option<i64>,
}

/// What a reply is due for.
#[derive(Clone, Copy)]
enum Sent {
    Ask(usize),
    GiveBack(usize),
    Ping(Instant),
}

/// All of them.
pub(super) struct Shared {
    notice: Notice,
    poll: Poll,
    events: Events,
    commands: Connection,
    messages: Connection,
    /// What was sent and is not answered yet, in order.
    sent: VecDeque<Sent>,
    clients: Vec<Client>,
    /// When a client goes on that pauses or holds.
    times: BinaryHeap<Reverse<(Instant, usize)>>,
    next_ping: Instant,
    ping: Batch,
    /// Which client has which ticket.
    by_ticket: BTreeMap<i64, usize>,
    /// Tickets that were called before the reply that names them had come.
    called: BTreeSet<i64>,
    random: Random,
    /// Who holds the lock, until it is told that it has given it back.
    holder: Option<usize>,
    last_fence: i64,
    /// How many have a place.
    queued: usize,
    pub(super) tally: Tally,
    /// How long PINGs took, in microseconds.
    pub(super) pings_us: Vec<f64>,
    /// How often the lock was granted while another client held it, or with a fence that was not above the last.
    pub(super) second_holders: usize,
    /// How often a place had another ticket than before.
    pub(super) lost_turns: usize,
}

impl Shared {
    /// So many clients on a connection. They begin one after the other within some milliseconds.
    pub(super) fn new(server: &Server, notice: Notice, count: usize) -> Self {
        let now = Instant::now();
        let start = |number| now + START.mul_f64(number as f64 / count as f64);
        let poll = Poll::new().unwrap();
        let mut ping = Batch::default();
        ping.push(&["PING"], "");
        let mut shared = Self {
            notice,
            commands: Connection::open(server, &poll, Token(0)),
            messages: Connection::open(server, &poll, Token(1)),
            poll,
            events: Events::with_capacity(16),
            sent: VecDeque::new(),
            clients: (0..count).map(|number| Client::new(number, start(number))).collect(),
            times: (0..count).map(|number| Reverse((start(number), number))).collect(),
            next_ping: now,
            ping,
            by_ticket: BTreeMap::new(),
            called: BTreeSet::new(),
            random: Random::from_seed(1),
            holder: None,
            last_fence: 0,
            queued: 0,
            tally: Tally { grants: vec![0; count], ..Tally::default() },
            pings_us: Vec::new(),
            second_holders: 0,
            lost_turns: 0,
        };
        if notice == Notice::Message {
            shared.subscribe();
        }
        shared
    }

    /// Returns once the server has confirmed it: a message is sent once.
    fn subscribe(&mut self) {
        let mut subscribe = Batch::default();
        subscribe.push(&["SSUBSCRIBE", KEY], "");
        self.messages.send(&subscribe);
        let mut replies = Vec::new();
        while replies.is_empty() {
            self.poll.poll(&mut self.events, None).unwrap();
            replies = self.messages.read();
        }
        assert_eq!(replies[0].items()[0].text(), "ssubscribe");
    }

    /// Forgets what was seen so far.
    pub(super) fn begin_to_count(&mut self) {
        self.tally = Tally { grants: vec![0; self.clients.len()], ..Tally::default() };
        self.pings_us.clear();
    }

    /// Lets them contend for some time.
    pub(super) fn run(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.begin_what_is_due();
            if self.is_news_imminent() {
                self.read();
            } else {
                // More exact than to wait for what may come and will not.
                let due = self.times.peek().map_or(end, |Reverse((due, _))| *due);
                let due = due.min(self.next_ping).min(end);
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
    }

    /// Ends all holds and places.
    pub(super) fn finish(mut self) {
        while !self.sent.is_empty() {
            self.read();
        }
        for client in &self.clients {
            self.commands.send(&client.give_back);
        }
        let mut left = self.clients.len();
        while left > 0 {
            self.poll.poll(&mut self.events, None).unwrap();
            left -= self.commands.read().len();
        }
    }

    /// For how many milliseconds those that want the lock now have wanted it.
    pub(super) fn unfinished_ms(&self) -> Vec<f64> {
        let wanting = self.clients.iter().filter(|it| matches!(it.state, State::Asking | State::Queued));
        wanting.map(|client| client.since.elapsed().as_secs_f64() * 1e3).collect()
    }

    /// Whether the server is about to say something: it answers all at once, and when nobody holds the lock it has called
    /// one of those who have a place.
    fn is_news_imminent(&self) -> bool {
        let is_called = self.notice == Notice::Message && self.holder.is_none() && self.queued > 0;
        !self.sent.is_empty() || is_called
    }

    fn begin_what_is_due(&mut self) {
        let now = Instant::now();
        if self.next_ping <= now {
            self.next_ping = now + PING_EVERY;
            self.commands.send(&self.ping);
            self.sent.push_back(Sent::Ping(now));
        }
        while let Some(&Reverse((due, number))) = self.times.peek()
            && due <= now
        {
            self.times.pop();
            // It may have gone on before, because it was called.
            if self.clients[number].due == due {
                self.go_on(number, now);
            }
        }
    }

    fn go_on(&mut self, number: usize, now: Instant) {
        let client = &mut self.clients[number];
        match client.state {
            State::Elsewhere => {
                client.since = now;
                self.ask(number);
            }
            State::Queued => self.ask(number),
            State::Holding => {
                client.state = State::GivingBack;
                self.tally.held_ms += (now - client.since).as_secs_f64() * 1e3;
                self.commands.send(&client.give_back);
                self.sent.push_back(Sent::GiveBack(number));
            }
            State::Asking | State::GivingBack => {}
        }
    }

    fn ask(&mut self, number: usize) {
        let client = &mut self.clients[number];
        if client.state == State::Queued {
            self.queued -= 1;
        }
        client.state = State::Asking;
        self.commands.send(&client.ask);
        self.sent.push_back(Sent::Ask(number));
    }

    fn pause(&mut self, number: usize, due: Instant) {
        self.clients[number].due = due;
        self.times.push(Reverse((due, number)));
    }

    /// Waits for what comes, and takes it.
    fn read(&mut self) {
        match self.poll.poll(&mut self.events, Some(Duration::from_millis(100))) {
            Err(error) if error.kind() != ErrorKind::Interrupted => panic!("{error}"),
            _ => {}
        }
        let at = Instant::now();
        for reply in self.commands.read() {
            match self.sent.pop_front().unwrap() {
                Sent::Ping(sent) => self.pings_us.push((at - sent).as_secs_f64() * 1e6),
                Sent::Ask(number) => self.answered(number, &reply, at),
                Sent::GiveBack(number) => self.has_given_back(number, &reply, at),
            }
        }
        for message in self.messages.read() {
            self.is_called(message.items()[2].text().parse().unwrap());
        }
    }

    fn answered(&mut self, number: usize, reply: &Reply, at: Instant) {
        match reply {
            Reply::Int(ticket) => self.has_place(number, *ticket, at),
            Reply::Array(parts) => self.is_granted(number, parts[1].int(), at),
            other => panic!("a ticket or a grant was due, got {other:?}"),
        }
    }

    fn has_place(&mut self, number: usize, ticket: i64, at: Instant) {
        let client = &mut self.clients[number];
        client.state = State::Queued;
        self.queued += 1;
        let before = client.ticket.replace(ticket).filter(|before| *before != ticket);
        if let Some(before) = before {
            self.by_ticket.remove(&before);
            self.lost_turns += 1;
        }
        self.by_ticket.insert(ticket, number);
        if self.called.remove(&ticket) {
            return self.ask(number);
        }
        let pause = match self.notice {
            Notice::Message => TO_BE_SURE,
            Notice::Repeat(pause) => pause.mul_f64(0.5 + self.random.below(1000) as f64 / 2e3),
        };
        self.pause(number, at + pause);
    }

    fn is_granted(&mut self, number: usize, fence: i64, at: Instant) {
        if self.holder.replace(number).is_some() || fence <= self.last_fence {
            self.second_holders += 1;
        }
        self.last_fence = fence;
        let client = &mut self.clients[number];
        if let Some(ticket) = client.ticket.take() {
            self.by_ticket.remove(&ticket);
            self.called.remove(&ticket);
        }
        client.state = State::Holding;
        self.tally.grants[number] += 1;
        self.tally.waits_ms.push((at - client.since).as_secs_f64() * 1e3);
        client.since = at;
        self.pause(number, at + HOLD);
    }

    fn has_given_back(&mut self, number: usize, reply: &Reply, at: Instant) {
        assert_eq!(*reply, Reply::Int(1), "a holder had lost its lock");
        self.holder = None;
        self.clients[number].state = State::Elsewhere;
        let Range { start, end } = ELSEWHERE_US;
        let elsewhere_us = start + self.random.below(end - start);
        self.pause(number, at + Duration::from_micros(elsewhere_us as u64));
    }

    fn is_called(&mut self, ticket: i64) {
        match self.by_ticket.get(&ticket) {
            Some(&number) if self.clients[number].state == State::Queued => self.ask(number),
            _ => {
                self.called.insert(ticket);
            }
        }
    }
}

impl Client {
    fn new(number: usize, start: Instant) -> Self {
        let token = token(number);
        let (mut ask, mut give_back) = (Batch::default(), Batch::default());
        ask.push(&["LOCK.ACQUIRE", KEY, "PX", "30000", "TOKEN", &token, "QUEUE", KEPT_MS], "");
        give_back.push(&["LOCK.RELEASE", KEY, &token], "");
        Self { ask, give_back, state: State::Elsewhere, since: start, due: start, ticket: None }
    }
}

/// A connection on which replies come to more than one request at a time, or unasked.
struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    fn open(server: &Server, poll: &Poll, token: Token) -> Self {
        Self { stream: many::open(server, poll, token), received: Vec::new() }
    }

    fn send(&mut self, batch: &Batch) {
        self.stream.write_all(batch.wire()).unwrap();
    }

    /// What has come, as far as it is whole.
    fn read(&mut self) -> Vec<Reply> {
        many::take_in(&mut self.stream, &mut self.received);
        let mut replies = Vec::new();
        let mut taken = 0;
        while let Some((reply, length)) = Reply::from_wire(&self.received[taken..]) {
            taken += length;
            replies.push(reply);
        }
        self.received.drain(..taken);
        replies
    }
}
