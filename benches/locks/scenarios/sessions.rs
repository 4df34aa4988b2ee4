//! What holds that connections keep alive cost the server, though nobody does anything.

use std::thread;
use std::time::{Duration, Instant};

use crate::cpu;
use crate::effort::Effort;
use crate::fill::{TO_BUILD, fill_on};
use crate::loads::{OK, TOKEN_LEN, granted, token};
use crate::many::Many;
use crate::open_files::may_be_open;
use crate::pipe::{Batch, Pipe};
use crate::probe::watch;
use crate::report::{Bound, Section, Target};
use crate::scenarios::stall::{FEW, until_connected};
use crate::stats::{count, median, percentile};
use crate::support::{Client, PATIENCE, Pair, Server};

/// The most that the upkeep of idle connections' holds may take of a core, in percent.
const MOST_CPU: f64 = 5.0;

/// What it may take at most that connections close which keep holds, as many times as with those that keep none.
const MOST_CLOSING: f64 = 3.0;

/// Holds with the shortest lease there is.
const SHORT: usize = 512;

/// The most that may be written down for them, in KB/s.
const MOST_KB: f64 = 100.0;

/// Times in a batch that a lock is taken and goes with all keys.
const ROUNDS: usize = 500;

pub(crate) fn run(effort: &Effort) -> Section {
    let mut section = Section {
        title: "Holds that connections keep",
        method: String::new(),
        columns: vec!["what is kept", "measured", "held at the end"],
        rows: Vec::new(),
        targets: Vec::new(),
        plots: Vec::new(),
    };
    idle_connections(effort, &mut section);
    short_leases(effort, &mut section);
    flushed(effort, &mut section);
    section.method = format!(
        "{idle} connections have a SHARED hold with SESSION on one lock, and are idle. The server's CPU is measured \
         for {window} s, with `PX 30000` for one lease; for the upkeep is what exceeds that of as many connections \
         without a hold. Last they are closed, as fast as that is done, and so are as many without holds. If the holds take more than {seconds} s to get there are as many as there could be by then.\n\n\
         One connection has {SHORT} holds with `PX 1 SESSION`, on as many locks or SHARED on one. The growth of the \
         append-only file and of what is sent to a replica is measured for {window} s each.\n\n\
         One connection takes a lock with SESSION and sends `FLUSHDB`, again and again, another lock each time. \
         The growth of `used_memory` is divided by the number of rounds.",
        idle = count(effort.idle),
        window = window(effort).as_secs(),
        seconds = TO_BUILD.as_secs(),
    );
    section
}

/// How long the server is watched.
fn window(effort: &Effort) -> Duration {
    Duration::from_secs(if effort.is_quick { 2 } else { 5 })
}

/// Very many connections with a hold each, none of which says anything.
fn idle_connections(effort: &Effort, section: &mut Section) {
    let idle = format!("{} connections, idle", count(effort.idle));
    if !may_be_open(effort.idle) {
        section.rows.push(row(&idle, "left out: not so many files may be open"));
        return;
    }
    let server = Server::start();
    cpu::let_settle();
    let mut info = server.client();
    let closing = [(); 3].map(|()| longest_while_closing(&server, Many::connect(&server, effort.idle)));
    let closing_without = median(&closing);
    let mut many = Many::connect(&server, effort.idle);
    let without = busy_percent(&mut info, window(effort));
    section.rows.push(row(&format!("{idle}, without holds"), &format!("{without:.2} % of a core")));
    let a_lease = if effort.is_quick { window(effort) } else { Duration::from_secs(30) };
    for (lease, window) in [("30000", a_lease), ("1000", window(effort))] {
        let kept = keep(&mut many, effort.idle, lease);
        let with = busy_percent(&mut info, window);
        let held = held(&mut info, (0..kept).map(|number| ("kept".to_owned(), token(number))));
        let what = format!("{} connections, idle, with a hold each, `PX {lease} SESSION`", count(kept));
        let upkeep = with - without;
        let measured = format!("{with:.2} % of a core, {upkeep:.2} % for the upkeep");
        section.rows.push(vec![what.clone(), measured, count(held)]);
        section.targets.push(Target {
            name: format!("server CPU for the upkeep of holds; {what}"),
            figure: upkeep,
            unit: "% of a core",
            bound: Bound::Ceiling(MOST_CPU),
        });
    }
    let closing_with = longest_while_closing(&server, many);
    for (which, ms) in [("without holds", closing_without), ("with a hold each", closing_with)] {
        let what = format!("{idle}, {which}, close at once");
        section.rows.push(row(&what, &format!("PING at most {ms:.1} ms")));
    }
    section.targets.push(Target {
        name: format!("the longest PING while {idle}, close at once: with a hold each, against without"),
        figure: closing_with / closing_without,
        unit: "times",
        bound: Bound::Ceiling(MOST_CLOSING),
    });
}

/// A row about what nobody holds at the end.
fn row(what: &str, measured: &str) -> Vec<String> {
    [what, measured, ""].map(str::to_owned).to_vec()
}

/// How long a PING takes at most while connections close, in milliseconds.
fn longest_while_closing(server: &Server, connections: Many) -> f64 {
    let mut info = server.client();
    let (watched, ()) = watch(server, || {
        drop(connections);
        until_connected(&mut info, FEW);
    });
    percentile(&watched.pings_ms, 100.0)
}

/// Gives each of so many connections a SHARED hold on one lock, or anew the one it has; so many as there is time for, and
/// says how many.
fn keep(many: &mut Many, connections: usize, lease: &str) -> usize {
    const AT_ONCE: usize = 100;
    let until = Instant::now() + TO_BUILD;
    let mut kept = 0;
    while kept < connections && Instant::now() < until {
        let some = kept..connections.min(kept + AT_ONCE);
        for number in some.clone() {
            let mut ask = Batch::default();
            let token = token(number);
            ask.push(
                &["LOCK.ACQUIRE", "kept", "SHARED", "PX", lease, "SESSION", "TOKEN", &token],
                &granted(TOKEN_LEN),
            );
            many.send(number, &ask);
        }
        let mut left = some.len();
        while left > 0 {
            let answered = many.wait(PATIENCE);
            assert!(!answered.is_empty() && answered.iter().all(|answered| answered.as_expected));
            left -= answered.len();
        }
        kept = some.end;
    }
    kept
}

/// How many of these tokens hold the lock they are for.
fn held(client: &mut Client, holds: impl Iterator<Item = (String, String)>) -> usize {
    let check = |(key, token): (String, String)| !client.call(&["LOCK.CHECK", &key, &token]).is_null();
    holds.map(check).filter(|is_held| *is_held).count()
}

/// How busy the server is, in percent of a core.
fn busy_percent(info: &mut Client, time: Duration) -> f64 {
    let (start, before_us) = (Instant::now(), cpu::used_us(info));
    thread::sleep(time);
    (cpu::used_us(info) - before_us) / 1e4 / start.elapsed().as_secs_f64()
}

/// Holds with a lease of a millisecond: what is written down to keep them.
fn short_leases(effort: &Effort, section: &mut Section) {
    for is_one_lock in [false, true] {
        let master = Server::builder().config("appendonly yes").config("auto-aof-rewrite-percentage 0");
        let pair = Pair::start_with(master, Server::builder());
        let (mut pipe, mut info) = (Pipe::connect(&pair.master), pair.master.client());
        let key = |number| if is_one_lock { "short".to_owned() } else { format!("short:{number}") };
        fill_on(&mut pipe, SHORT, &granted(TOKEN_LEN), |number| {
            let (key, token) = (key(number), token(number));
            ["LOCK.ACQUIRE", &key, "SHARED", "PX", "1", "SESSION", "TOKEN", &token]
                .map(str::to_owned)
                .to_vec()
        });
        let mut grown = |section: &str, field: &str| {
            let mut bytes = || info.info(section, field).parse::<f64>().unwrap();
            let (start, before) = (Instant::now(), bytes());
            thread::sleep(window(effort));
            (bytes() - before) / 1e3 / start.elapsed().as_secs_f64()
        };
        let to_file = grown("persistence", "aof_current_size");
        let to_replica = grown("replication", "master_repl_offset");
        let held = held(&mut info, (0..SHORT).map(|number| (key(number), token(number))));
        let of = if is_one_lock { "SHARED holds of one lock" } else { "locks" };
        let what = format!("{SHORT} {of}, `PX 1 SESSION`");
        section.rows.push(vec![
            what.clone(),
            format!("{to_file:.1} KB/s to the file, {to_replica:.1} to a replica"),
            count(held),
        ]);
        section.targets.push(Target {
            name: format!("written down to keep {what}"),
            figure: to_file.max(to_replica),
            unit: "KB/s",
            bound: Bound::Ceiling(MOST_KB),
        });
    }
}

/// A lock that is kept and goes with all keys: what stays of it.
fn flushed(effort: &Effort, section: &mut Section) {
    let server = Server::start();
    cpu::let_settle();
    let (mut pipe, mut info) = (Pipe::connect(&server), server.client());
    let mut round = 0;
    let mut go_round = |passes: usize| {
        for _ in 0..passes {
            let mut batch = Batch::default();
            for _ in 0..ROUNDS {
                let key = format!("flushed:{round:07}");
                batch.push(&["LOCK.ACQUIRE", &key, "SESSION"], &granted(TOKEN_LEN));
                batch.push(&["FLUSHDB"], OK);
                round += 1;
            }
            pipe.exchange(&batch);
        }
    };
    let passes = if effort.is_quick { 40 } else { 200 };
    go_round(passes / 10);
    let mut used = || info.info("memory", "used_memory").parse::<f64>().unwrap();
    let before = used();
    go_round(passes);
    let stays = (used() - before) / (passes * ROUNDS) as f64;
    let what = "`LOCK.ACQUIRE SESSION` and `FLUSHDB` on one connection";
    section.rows.push(row(what, &format!("{stays:.2} bytes stay a round")));
    section.targets.push(Target {
        name: format!("memory that stays of a round; {what}"),
        // The server's own buffers make up fractions of a byte.
        figure: stays.round(),
        unit: "bytes",
        bound: Bound::Ceiling(0.0),
    });
}
