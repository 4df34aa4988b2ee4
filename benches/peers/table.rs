//! The page.

use std::fmt::Write;

use crate::peers::Language;
use crate::scenarios::Measured;

/// A line for the terminal.
pub(crate) fn line(measured: &Measured) -> String {
    let row = |cells: Vec<String>| cells.join(" ");
    format!(
        "{} ({}): pair {} | contest {} | hand-over {} | crowd {} | death {}",
        measured.peer.name,
        measured.peer.language.name(),
        row(pair_cells(measured)),
        row(contest_cells(measured)),
        row(hand_over_cells(measured)),
        row(crowd_cells(measured)),
        row(death_cells(measured)),
    )
}

const NONE: &str = "-";
const LATE: &str = "failed, or not in 60 s";

fn number(number: f64) -> String {
    match number {
        ..10.0 => format!("{number:.2}"),
        10.0..100.0 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

fn optional(figure: Option<f64>) -> String {
    figure.map_or_else(|| NONE.to_owned(), number)
}

fn late(count: usize) -> Vec<String> {
    let mut cells = vec![NONE.to_owned(); count];
    cells[0] = LATE.to_owned();
    cells
}

fn pair_cells(measured: &Measured) -> Vec<String> {
    measured.pair.as_ref().map_or_else(
        || late(4),
        |pair| vec![number(pair.us[0]), number(pair.us[1]), number(pair.cpu_us), optional(pair.commands)],
    )
}

fn contest_cells(measured: &Measured) -> Vec<String> {
    measured.contest.as_ref().map_or_else(
        || late(5),
        |contest| {
            vec![
                number(contest.grants_per_s),
                format!("{:.3}", contest.fairness),
                number(contest.worst_ms),
                number(contest.cpu_us),
                optional(contest.commands),
            ]
        },
    )
}

fn hand_over_cells(measured: &Measured) -> Vec<String> {
    measured.hand_over_ms.map_or_else(|| late(2), |ms| ms.map(number).to_vec())
}

fn crowd_cells(measured: &Measured) -> Vec<String> {
    measured.crowd.map_or_else(|| late(2), |figures| figures.map(number).to_vec())
}

fn death_cells(measured: &Measured) -> Vec<String> {
    measured.death_ms.map_or_else(|| late(1), |ms| vec![number(ms)])
}

/// A table of the page: its title, its columns, how a row is made, and what it means.
type Table = (&'static str, &'static str, &'static [&'static str], fn(&Measured) -> Vec<String>);

const TABLES: [Table; 5] = [
    (
        "A lock that nobody else wants",
        "One client acquires and releases the same lock, again and again, on one connection.",
        &["µs at p50", "µs at p99", "server CPU, µs a pair", "commands run a pair"],
        pair_cells,
    ),
    (
        "64 clients that want the same lock",
        "Each holds it for a millisecond and asks again at once, for 4 seconds. Fairness is Jain's: 1 is all alike, 1/64 is one \
         client alone.",
        &["grants/s", "fairness", "worst wait, ms", "server CPU, µs a grant", "commands run a grant"],
        contest_cells,
    ),
    (
        "Handing over",
        "One client releases, another has waited for a quarter of a second: from the call to the return of the other's.",
        &["ms at p50", "ms at worst of 40"],
        hand_over_cells,
    ),
    (
        "1,000 waiters",
        "They wait for 3 seconds. Then the holder releases, and each of them releases at once: how long until all have had the lock, \
         and what the server's CPU was, from the first that waits to the last.",
        &["ms until all had it", "server CPU, ms"],
        crowd_cells,
    ),
    (
        "A holder that dies",
        "It is killed within its lease of 2 seconds, while another waits: how long after its grant that has the lock. Below 2 seconds \
         the lock was free before its lease ended. PostgreSQL has no lease but the connection, etcd one of its session.",
        &["ms"],
        death_cells,
    ),
];

pub(crate) fn page(machine: &[(&'static str, String)], rows: &[Measured]) -> String {
    let mut page = String::from(
        "# Beside what people use\n\n`make bench-peers` writes this page. Each library is used as it comes, with its own client, \
         but told its lease, and to go on where it would give up;\n[benches/peers](../benches/peers/README.md) has the programs. All were measured in one run on one \
         machine, one after the other,\nclients and server beside each other. The figures promise nothing about another machine. Compare \
         within a language: a\nclient can cost more than the server. Commands are those that the server has run, in scripts too.\n\n| machine | |\n| --- | --- |\n",
    );
    for (name, value) in machine {
        writeln!(page, "| {name} | {value} |").unwrap();
    }
    for (title, method, columns, cells) in TABLES {
        write!(page, "\n## {title}\n\n{method}\n\n| | client | {} |\n", columns.join(" | ")).unwrap();
        writeln!(page, "| --- | --- |{}", " ---: |".repeat(columns.len())).unwrap();
        for language in [Language::Go, Language::Java, Language::Python, Language::Node] {
            for measured in rows.iter().filter(|measured| measured.peer.language == language) {
                let name = measured.peer.name;
                let name = if name == "redis-lock" { "**redis-lock**" } else { name };
                writeln!(page, "| {name} | {} | {} |", language.name(), cells(measured).join(" | ")).unwrap();
            }
        }
    }
    page + NOTES
}

const NOTES: &str = "
## What to make of it

- **Where a client waits by asking again and again** (redsync, redis-py Lock, redlock), it sleeps while the lock is free: see its
  hand-overs and its worst waits. With 64 clients somebody asks at any moment, and the lock is hardly ever free: then such a client
  takes it again at once, and others wait for seconds. So there they have as many grants as the rest, and take less of the
  server's CPU for each than redis-lock, which wakes the next client every time.
- **Where it waits in the server** (redis-lock, PostgreSQL, etcd), all are served in turn. PostgreSQL does so for less CPU a grant,
  with a process for each client, and takes longest with 1,000 of them. etcd keeps three and more servers in agreement, which
  redis-lock does not; here it is one.
- **Redisson** sends messages when a lock is released, and asks again after them. Its FairLock keeps the order in lists. With 1,000
  waiters on one client it ends with `Unable to acquire connection for subscription`, as it comes.
- **python-redis-lock** waits for a list in the server. It hands over as fast, and 1,000 threads sooner than redis-lock does from
  one client; but when a holder dies, who waits waits on.
- **redis-lock** keeps at most 32 connections blocked for a client in Go and for threads in Python and Java. Who comes then keeps a
  place, which takes more commands for a grant than the two of a client that blocks.
";
