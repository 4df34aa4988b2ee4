//! What it costs to see that a request closes no circle of owners who wait for each other, or that it does.

use crate::cpu::{let_settle, used_us};
use crate::effort::Effort;
use crate::report::{Bound, Section, Target};
use crate::stats::{count, median, spread};
use crate::support::{Client, PATIENCE, Reply, Server, cmd, wait_until};

/// Owners in the chain: each but the first waits for a lock that the one before it holds.
const CHAIN: usize = 1_000;

/// The owner in its middle.
const MIDDLE: usize = CHAIN / 2;

/// How often a request joins in a round.
const JOINS: usize = 400;

/// The most that the search may add to a request, in microseconds.
const CEILING_US: f64 = 50.0;

/// A request that joins, and how it ends.
struct Case {
    what: &'static str,
    owner: String,
    key: String,
    names_owner: bool,
    closes: bool,
}

impl Case {
    fn new(what: &'static str, owner: impl ToString, key: impl ToString) -> Self {
        Self {
            what,
            owner: owner.to_string(),
            key: format!("k{}", key.to_string()),
            names_owner: true,
            closes: false,
        }
    }
}

pub(crate) fn run(effort: &Effort) -> Section {
    let server = Server::start();
    let mut client = server.client();
    for holder in (0..=CHAIN).map(|owner| owner.to_string()).chain(["alone", "other"].map(str::to_owned)) {
        let reply = client.run(&format!("LOCK.ACQUIRE k{holder} PX 3600000 TOKEN {holder} OWNER {holder}"));
        assert!(!reply.is_error(), "{reply:?}");
    }
    let mut waiting: Vec<Client> =
        (1..CHAIN).filter(|owner| *owner != MIDDLE).map(|n| join(&server, n)).collect();
    wait_blocked(&mut client, waiting.len());
    let_settle();
    let cases = [
        Case { names_owner: false, ..Case::new("no chain, without OWNER", "alone", "other") },
        Case::new("no chain", "alone", "other"),
        Case::new("between two halves", MIDDLE, MIDDLE - 1),
        Case::new("behind the last", CHAIN, CHAIN - 1),
        Case::new("ahead of the first", 0, "other"),
        Case { closes: true, ..Case::new("closing the circle", 0, CHAIN - 1) },
    ];
    let mut figures: Vec<Vec<f64>> = Vec::new();
    for (at, case) in cases.iter().enumerate() {
        if at == 3 {
            waiting.push(join(&server, MIDDLE));
            wait_blocked(&mut client, waiting.len());
        }
        figures.push((0..effort.rounds).map(|_| joins_us(&server, &mut client, case)).collect());
    }
    let [nobody, alone] = [0, 1].map(|at| median(&figures[at]));
    let rows = cases.iter().zip(&figures).map(|(case, figures)| {
        vec![case.what.to_owned(), spread(figures), format!("{:.1}", median(figures) - nobody)]
    });
    let targets =
        cases.iter().zip(&figures).skip(2).filter(|(case, _)| !case.closes).map(|(case, figures)| Target {
            name: format!(
                "a request that joins a chain of {} waiting owners, {}, against one that joins none",
                count(CHAIN),
                case.what
            ),
            figure: median(figures) - alone,
            unit: "us more of CPU",
            bound: Bound::Ceiling(CEILING_US),
        });
    Section {
        title: "Looking for deadlocks",
        method: format!(
            "{} owners stand in a chain: each holds a lock, and waits for that of the one before it. One more request with \
             OWNER and BLOCK joins, from two connections in turns, so that each takes over the place of the one before and that \
             is answered. The figures are the server's CPU for both. Between two halves, two chains of half that length become \
             one. The request that would close the circle gets `DEADLOCK` at once.",
            count(CHAIN)
        ),
        columns: vec!["the request joins", "us of CPU", "more than without OWNER"],
        rows: rows.collect(),
        targets: targets.collect(),
        plots: Vec::new(),
    }
}

/// An owner of the chain waits for the lock of the one before it.
fn join(server: &Server, owner: usize) -> Client {
    let mut client = server.client();
    let key = format!("k{}", owner - 1);
    client.send(&cmd!["LOCK.ACQUIRE", key, "TOKEN", owner, "OWNER", owner, "BLOCK", 0]);
    client
}

fn wait_blocked(client: &mut Client, count: usize) {
    let count = count.to_string();
    wait_until("all of them wait", PATIENCE, || client.info("lock", "lock_waiters_blocked") == count);
}

/// Microseconds of the server for one request that joins, and for the answer of the one whose place it takes.
fn joins_us(server: &Server, other: &mut Client, case: &Case) -> f64 {
    let mut clients = [server.client(), server.client()];
    let token = format!("{}-again", case.owner);
    let mut request: Vec<&str> = vec!["LOCK.ACQUIRE", &case.key, "TOKEN", &token, "BLOCK", "0"];
    if case.names_owner {
        request.extend(["OWNER", &case.owner]);
    }
    if case.closes {
        let before = used_us(other);
        (0..JOINS).for_each(|_| assert!(clients[0].call(&request).is_error()));
        return (used_us(other) - before) / JOINS as f64;
    }
    let waiting: usize = other.info("lock", "lock_waiters_blocked").parse().unwrap();
    clients[0].send(&request);
    wait_blocked(other, waiting + 1);
    let before = used_us(other);
    for turn in 0..JOINS {
        clients[(turn + 1) % 2].send(&request);
        assert_eq!(clients[turn % 2].read(), Reply::NullArray);
    }
    let used = used_us(other) - before;
    other.run(&format!("LOCK.RELEASE {} {}", case.key, token));
    wait_blocked(other, waiting);
    used / JOINS as f64
}
