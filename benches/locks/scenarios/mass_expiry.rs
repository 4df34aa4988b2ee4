//! Very many leases that end in the same moment: whether the server still answers meanwhile.

use std::thread;
use std::time::{Duration, Instant};

use crate::effort::Effort;
use crate::fill::fill;
use crate::loads::{OK, granted};
use crate::report::Section;
use crate::stats::{count, median, percentile, typical};
use crate::support::{Client, Reply, Server};

/// From the first acquire to the end of all leases.
const UNTIL_END: Duration = Duration::from_millis(1500);

/// How often a PING is due.
const PING_EVERY: Duration = Duration::from_micros(100);

/// PINGs of a round in which nothing ends.
const IDLE_PINGS: usize = 5000;

/// What was seen, round by round.
#[derive(Default)]
struct Seen {
    /// Waits for PING from the end of the leases until all were gone, in milliseconds.
    pings_ms: Vec<Vec<f64>>,
    /// How long until all were gone, in milliseconds.
    gone_ms: Vec<f64>,
}

pub(crate) fn run(effort: &Effort) -> Section {
    let server = Server::start();
    let (mut idle, mut locks, mut sets) = (Seen::default(), Seen::default(), Seen::default());
    for _ in 0..effort.endings {
        let mut client = server.client();
        let waits_ms = pings(&mut client, Instant::now()).flat_map(|(some_ms, _)| some_ms);
        idle.pings_ms.push(waits_ms.take(IDLE_PINGS).collect());
        locks.observe(&server, effort.mass, &granted(32), |key, ms| {
            ["LOCK.ACQUIRE", key, "PX", ms].map(str::to_owned).to_vec()
        });
        sets.observe(&server, effort.mass, OK, |key, ms| {
            ["SET", key, "token", "PX", ms].map(str::to_owned).to_vec()
        });
    }
    Section {
        title: "Mass expiry",
        method: format!(
            "{mass} leases end in the same millisecond, in turns with as many keys that have the server's own \
             expiry and with nothing at all, {rounds} rounds. From that moment until all keys are gone, one \
             connection sends a PING every {every} us, and notes how long after that its answer came: one that could \
             not be sent because those before were not answered yet has waited as well. \
             p50 and p99 are the medians of the rounds' percentiles, max is the worst of all rounds, the last column \
             the median of how long all keys took to go.",
            mass = count(effort.mass),
            rounds = effort.endings,
            every = PING_EVERY.as_micros(),
        ),
        columns: vec!["what ends", "PING p50 ms", "p99 ms", "max ms", "all gone after ms"],
        rows: vec![idle.row("nothing"), locks.row("locks"), sets.row("`SET PX`")],
        targets: Vec::new(),
        plots: Vec::new(),
    }
}

impl Seen {
    /// Lets so many leases end together.
    fn observe<A: AsRef<[u8]>>(
        &mut self,
        server: &Server,
        mass: usize,
        reply: &str,
        command: impl Fn(&str, &str) -> Vec<A>,
    ) {
        let end = Instant::now() + UNTIL_END;
        fill(server, mass, reply, |number| {
            let left = end.saturating_duration_since(Instant::now()).as_millis();
            assert!(left > 0, "this machine is too slow to take {mass} locks within {UNTIL_END:?}");
            command(&format!("mass:{number:07}"), &left.to_string())
        });
        let mut client = server.client();
        thread::sleep(end.saturating_duration_since(Instant::now()));
        let mut waits_ms = Vec::new();
        for (some_ms, keys) in pings(&mut client, end) {
            waits_ms.extend(some_ms);
            if keys == 0 {
                break;
            }
        }
        self.pings_ms.push(waits_ms);
        self.gone_ms.push(end.elapsed().as_secs_f64() * 1e3);
    }

    fn row(&self, what: &str) -> Vec<String> {
        let mut row = vec![what.to_owned()];
        row.extend([50.0, 99.0].map(|percent| format!("{:.2}", typical(&self.pings_ms, percent))));
        row.push(format!("{:.2}", percentile(&self.pings_ms.concat(), 100.0)));
        row.push(if self.gone_ms.is_empty() {
            String::new()
        } else {
            format!("{:.0}", median(&self.gone_ms))
        });
        row
    }
}

/// Sends the PINGs that are due by now, in one write, and DBSIZE behind them. Gives, for each, by how many milliseconds
/// its answer came later than it was due, and at last how many keys there were. So a PING that became due while the
/// server was busy has waited, though it could not be sent yet.
fn pings(client: &mut Client, start: Instant) -> impl Iterator<Item = (Vec<f64>, i64)> {
    let mut next = start;
    std::iter::from_fn(move || {
        let mut dues = Vec::new();
        while dues.is_empty() {
            while next <= Instant::now() {
                dues.push(next);
                next += PING_EVERY;
            }
        }
        let mut commands = vec!["PING"; dues.len()];
        commands.push("DBSIZE");
        let replies = client.run_all(&commands);
        assert_eq!(replies[0], Reply::Simple("PONG".into()));
        let waits_ms = dues.iter().map(|due| due.elapsed().as_secs_f64() * 1e3).collect();
        Some((waits_ms, replies[dues.len()].int()))
    })
}
