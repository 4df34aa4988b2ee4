//! How long after the end of its lease a lock is gone, on a server that has nothing else to do.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::effort::Effort;
use crate::fill::hold_crowd;
use crate::report::{Bound, Section, Target};
use crate::stats::{count, percentile, typical};
use crate::support::{Client, Reply, Server};

/// Leases that are watched in one go.
const WATCHED: usize = 200;

/// The shortest of them, in milliseconds: time enough to take them all before the first ends.
const SHORTEST_MS: u64 = 300;

/// How the ends of the leases lie.
#[derive(Clone, Copy)]
enum Ends {
    AtOnce,
    Spread,
}

impl Ends {
    const ALL: [Self; 2] = [Self::AtOnce, Self::Spread];

    fn name(self) -> &'static str {
        match self {
            Self::AtOnce => "at once",
            Self::Spread => "one every 3 ms",
        }
    }

    fn lease_ms(self, number: usize) -> u64 {
        match self {
            Self::AtOnce => SHORTEST_MS,
            Self::Spread => SHORTEST_MS + 3 * number as u64,
        }
    }

    fn lease(self, number: usize) -> Duration {
        Duration::from_millis(self.lease_ms(number))
    }
}

/// Whose lateness is measured.
enum Subject<'a> {
    /// LOCK.ACQUIRE on this server.
    Lock(&'a Server),
    /// SET PX on this server.
    Set(&'a Server),
    /// A thread of the benchmark that sleeps until each end: what the machine itself is late by.
    Sleeper,
}

impl Subject<'_> {
    /// Milliseconds by which the ends came late.
    fn late_ms(&self, ends: Ends) -> Vec<f64> {
        match self {
            Self::Lock(server) => watch(server, ends, |key, ms| ["LOCK.ACQUIRE", key, "PX", ms].to_vec()),
            Self::Set(server) => watch(server, ends, |key, ms| ["SET", key, "token", "PX", ms].to_vec()),
            Self::Sleeper => sleep(ends),
        }
    }
}

pub(crate) fn run(effort: &Effort) -> Section {
    let (empty, crowded) = (Server::start(), Server::start());
    hold_crowd(&crowded, effort.crowd);
    let crowd = count(effort.crowd);
    let subjects = [
        ("lock, 0 others held".to_owned(), Subject::Lock(&empty)),
        (format!("lock, {crowd} others held"), Subject::Lock(&crowded)),
        ("`SET PX`, 0 others".to_owned(), Subject::Set(&empty)),
        ("a thread that sleeps".to_owned(), Subject::Sleeper),
    ];
    let mut rows = Vec::new();
    let mut targets = Vec::new();
    for ends in Ends::ALL {
        let mut rounds = vec![Vec::new(); subjects.len()];
        for _ in 0..effort.endings {
            for ((_, subject), rounds) in subjects.iter().zip(&mut rounds) {
                rounds.push(subject.late_ms(ends));
            }
        }
        for ((name, subject), rounds) in subjects.iter().zip(&rounds) {
            let mut row = vec![name.clone(), ends.name().to_owned()];
            row.extend([50.0, 99.0].map(|percent| format!("{:.2}", typical(rounds, percent))));
            row.push(format!("{:.2}", percentile(&rounds.concat(), 100.0)));
            rows.push(row);
            if matches!(subject, Subject::Lock(_)) {
                targets.push(Target {
                    name: format!(
                        "a lease's end to the key being gone, p99 of {WATCHED} {}; {name}",
                        ends.name()
                    ),
                    figure: typical(rounds, 99.0),
                    unit: "ms",
                    bound: Bound::Ceiling(3.0),
                });
            }
        }
    }
    Section {
        title: "How late leases end",
        method: format!(
            "{WATCHED} leases are taken and left to end, in {rounds} rounds. The client is told of each key that \
             goes (`CLIENT TRACKING` with `BCAST`), so nobody asks for the keys meanwhile and nothing else wakes \
             the server. A figure is the time from the end of the lease, counted by the client from just before it \
             sent the commands, to the news that the key is gone: sending, answering and delivery are part of it. \
             p50 and p99 are the medians of the rounds' percentiles, max is the worst of all rounds.\n\n\
             For comparison a key with the server's own expiry that nobody touches, and a thread of the client that \
             sleeps until each of the same moments: this is what the machine is late by, whatever is measured.",
            rounds = effort.endings
        ),
        columns: vec!["what", "ends", "p50 ms", "p99 ms", "max ms"],
        rows,
        targets,
        plots: Vec::new(),
    }
}

/// Takes the leases in one go, and notes by how many milliseconds the news of each end came late.
fn watch(server: &Server, ends: Ends, command: for<'a> fn(&'a str, &'a str) -> Vec<&'a str>) -> Vec<f64> {
    let mut client = server.client3();
    // Without NOLOOP the news would begin with the client's own commands.
    client.ok("CLIENT TRACKING ON BCAST PREFIX late: NOLOOP");
    let keys: Vec<String> = (0..WATCHED).map(|number| format!("late:{number}")).collect();
    let leases: Vec<String> = (0..WATCHED).map(|number| ends.lease_ms(number).to_string()).collect();
    let commands: Vec<Vec<&str>> = keys.iter().zip(&leases).map(|(key, lease)| command(key, lease)).collect();
    let sent = Instant::now();
    let replies = client.pipeline(&commands);
    assert!(!replies.iter().any(|reply| reply.is_error() || reply.is_null()), "{:?}", replies[0]);
    let mut due: HashMap<Vec<u8>, Instant> = keys
        .into_iter()
        .enumerate()
        .map(|(number, key)| (key.into_bytes(), sent + ends.lease(number)))
        .collect();
    let mut late = Vec::new();
    while !due.is_empty() {
        let gone = invalidated(&mut client);
        let now = Instant::now();
        for due in gone.iter().filter_map(|key| due.remove(key)) {
            assert!(now >= due, "a lease ended early");
            late.push((now - due).as_secs_f64() * 1e3);
        }
    }
    late
}

/// Sleeps until each end, and notes by how many milliseconds it woke up late.
fn sleep(ends: Ends) -> Vec<f64> {
    let start = Instant::now();
    let late = |number| {
        let due = start + ends.lease(number);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        due.elapsed().as_secs_f64() * 1e3
    };
    (0..WATCHED).map(late).collect()
}

/// The keys in the next piece of news.
fn invalidated(client: &mut Client) -> Vec<Vec<u8>> {
    match client.read() {
        Reply::Push(parts) if parts.len() == 2 => parts[1].items().iter().map(Reply::bytes).collect(),
        other => panic!("news of keys was due, got {other:?}"),
    }
}
