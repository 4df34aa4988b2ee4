//! A lock that goes from one client to the next, timed.

use std::time::{Duration, Instant};

use crate::fill::{hold_by_many, hold_crowd};
use crate::loads::{ONE, TOKEN_LEN, granted, token};
use crate::open_files::OTHER_FILES;
use crate::pipe::{Batch, Pipe};
use crate::stats::{count, median, medians, percentile, ratios, typical};
use crate::support::Server;

/// Hand-overs in one turn.
pub(super) const RELAY: usize = 100;

/// Where the client runs, seen from the server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::scenarios) enum Side {
    /// On another core, which has to be woken up, as a client of a server mostly is.
    Apart,
    /// On the same core: nothing sleeps, and all there is to see is the work.
    Together,
}

impl Side {
    pub(in crate::scenarios) const ALL: [Self; 2] = [Self::Apart, Self::Together];

    pub(in crate::scenarios) fn name(self) -> &'static str {
        match self {
            Self::Apart => "another",
            Self::Together => "the server's",
        }
    }
}

/// What others hold meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    /// So many locks, one each.
    Locks(usize),
    /// So many SHARED holds on one other lock, or as many as the server gives in good time.
    Holds(usize),
}

impl Others {
    /// Nothing.
    pub(super) const NONE: Self = Self::Locks(0);

    /// Has them take what they hold, and says how much it is.
    fn take(self, server: &Server) -> Self {
        match self {
            Self::Locks(locks) => {
                hold_crowd(server, locks);
                self
            }
            Self::Holds(holds) => Self::Holds(hold_by_many(server, "elsewhere", holds).len()),
        }
    }

    pub(super) fn name(self) -> String {
        match self {
            Self::Locks(locks) => count(locks),
            Self::Holds(holds) => format!("{} on one lock", count(holds)),
        }
    }
}

/// What was seen, round by round, in microseconds.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) pings: Vec<Vec<f64>>,
    pub(super) hand_overs: Vec<Vec<f64>>,
}

/// A lock, who holds it and who waits for it in a row.
pub(super) struct Queue {
    members: Vec<Member>,
    holder: usize,
    pub(super) others: Others,
    /// By [`Side`].
    seen: [Seen; 2],
    pub(super) server: Server,
}

struct Member {
    pipe: Pipe,
    ask: Batch,
    give_back: Batch,
}

impl Queue {
    /// A server with one lock that somebody holds and for which so many wait, and with others that nobody wants.
    pub(super) fn new(waiters: usize, others: Others) -> Self {
        let server = Server::builder()
            .config(&format!("maxclients {}", waiters + OTHER_FILES))
            .module_args(&format!("max-waiters {waiters} max-waiters-per-key {waiters}"))
            .start();
        let others = others.take(&server);
        let mut members: Vec<Member> = (0..=waiters).map(|number| Member::new(&server, number)).collect();
        for (number, member) in members.iter_mut().enumerate() {
            // The server has read what came before, so the order of the queue is this one.
            member.ping_us();
            member.pipe.send(&member.ask);
            if number == 0 {
                member.pipe.receive(&member.ask);
            }
        }
        Self { members, holder: 0, others, seen: Default::default(), server }
    }

    pub(super) fn waiters(&self) -> usize {
        self.members.len() - 1
    }

    /// Hands the lock on a number of times. Who has given it back joins the queue again at its end.
    pub(super) fn relay(&mut self, side: Side) {
        let (mut pings_us, mut hand_overs_us) = (Vec::new(), Vec::new());
        for _ in 0..RELAY {
            let next = (self.holder + 1) % self.members.len();
            // The first PING is answered once the server has put the last holder in the queue.
            self.members[self.holder].ping_us();
            pings_us.push(self.members[self.holder].ping_us());
            let start = Instant::now();
            let holder = &mut self.members[self.holder];
            holder.pipe.send(&holder.give_back);
            let heir = &mut self.members[next];
            heir.pipe.receive(&heir.ask);
            hand_overs_us.push(us(start.elapsed()));
            let holder = &mut self.members[self.holder];
            holder.pipe.receive(&holder.give_back);
            holder.pipe.send(&holder.ask);
            self.holder = next;
        }
        let seen = &mut self.seen[side as usize];
        seen.pings.push(pings_us);
        seen.hand_overs.push(hand_overs_us);
    }

    pub(super) fn seen(&self, side: Side) -> &Seen {
        &self.seen[side as usize]
    }

    pub(super) fn to_ping(&self, side: Side) -> f64 {
        let seen = self.seen(side);
        median(&ratios(&medians(&seen.hand_overs), &medians(&seen.pings)))
    }

    pub(super) fn to(&self, other: &Self, side: Side) -> f64 {
        median(&ratios(&medians(&self.seen(side).hand_overs), &medians(&other.seen(side).hand_overs)))
    }

    pub(super) fn row(&self, first: &Self, side: Side) -> Vec<String> {
        let mut row = vec![side.name().to_owned(), count(self.waiters()), self.others.name()];
        for figures in [&self.seen(side).pings, &self.seen(side).hand_overs] {
            row.push(format!("{:.1}", typical(figures, 50.0)));
            row.push(format!("{:.1}", percentile(&figures.concat(), 99.0)));
        }
        row.push(format!("{:.2}", self.to_ping(side)));
        row.push(format!("{:.2}", self.to(first, side)));
        row
    }
}

impl Member {
    fn new(server: &Server, number: usize) -> Self {
        let token = token(number);
        let (mut ask, mut give_back) = (Batch::default(), Batch::default());
        ask.push(
            &["LOCK.ACQUIRE", "lock", "PX", "600000", "TOKEN", &token, "BLOCK", "600000"],
            &granted(TOKEN_LEN),
        );
        give_back.push(&["LOCK.RELEASE", "lock", &token], ONE);
        Self { pipe: Pipe::connect(server), ask, give_back }
    }

    /// Sends a PING and gives the time until its answer.
    fn ping_us(&mut self) -> f64 {
        let mut ping = Batch::default();
        ping.push(&["PING"], "+PONG\r\n");
        let start = Instant::now();
        self.pipe.exchange(&ping);
        us(start.elapsed())
    }
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
