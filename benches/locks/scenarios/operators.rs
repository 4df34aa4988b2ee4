//! What an operator's look at the server takes of it, with very many locks and waiters.

use super::places::TICKET;
use crate::effort::Effort;
use crate::fill::{fill, hold_crowd};
use crate::report::{Bound, Section, Target};
use crate::stats::{count, percentile};
use crate::support::{Client, Reply, Server};

/// Waiters, each for a lock of its own: as many as the default of `lock.max-waiters` allows.
const WAITERS: usize = 10_000;

/// Commands of each kind.
const LOOKS: usize = 500;

/// What an operator types. The last shows a hundred times as many locks as the default.
const LOOKS_AT: [&str; 3] = ["INFO lock", "LOCK.TOP", "LOCK.TOP COUNT 1000"];

pub(crate) fn run(effort: &Effort) -> Section {
    let server =
        Server::builder().config("slowlog-log-slower-than 0").config("slowlog-max-len 10000").start();
    hold_crowd(&server, effort.crowd);
    fill(&server, WAITERS, TICKET, |number| {
        let key = format!("crowd:{number:07}");
        ["LOCK.ACQUIRE", &key, "TOKEN", "t", "QUEUE", "3600000"].map(str::to_owned).to_vec()
    });
    let mut client = server.client();
    let mut rows = Vec::new();
    let mut targets = Vec::new();
    for look in LOOKS_AT {
        let spans_ms = spans_ms(&mut client, look);
        let [median, late] = [50.0, 99.0].map(|percent| percentile(&spans_ms, percent));
        rows.push(vec![format!("`{look}`"), format!("{median:.3}"), format!("{late:.3}")]);
        if look != LOOKS_AT[2] {
            let name = format!(
                "`{look}`, time of the server at p99, with {} locks held and {} waiters",
                count(effort.crowd),
                count(WAITERS)
            );
            targets.push(Target { name, figure: late, unit: "ms", bound: Bound::Ceiling(1.0) });
        }
    }
    Section {
        title: "What an operator's look costs",
        method: format!(
            "{} locks are held, and {} of them are waited for. Each command is sent {LOOKS} times. The time is the \
             server's own, as SLOWLOG has it: other clients wait for so long.",
            count(effort.crowd),
            count(WAITERS)
        ),
        columns: vec!["command", "ms at p50", "ms at p99"],
        rows,
        targets,
        plots: Vec::new(),
    }
}

/// How long the server took for a command, each time.
fn spans_ms(client: &mut Client, command: &str) -> Vec<f64> {
    client.ok("SLOWLOG RESET");
    (0..LOOKS).for_each(|_| drop(client.run(command)));
    let log = client.run("SLOWLOG GET 10000");
    let words: Vec<&str> = command.split(' ').collect();
    let is_it = |entry: &&Reply| {
        let logged: Vec<String> = entry.items()[3].items().iter().map(Reply::text).collect();
        logged == words
    };
    let spans: Vec<f64> =
        log.items().iter().filter(is_it).map(|entry| entry.items()[2].int() as f64 / 1000.0).collect();
    assert_eq!(spans.len(), LOOKS, "each is in the log");
    spans
}
