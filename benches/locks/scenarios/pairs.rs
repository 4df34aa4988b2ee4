//! A lock taken and given back: what it costs the server against the ways without a module.

use crate::cpu::{self, Side};
use crate::effort::Effort;
use crate::loads::{Load, Order, PAIRS, Way};
use crate::report::{Bound, Section, Target};
use crate::stats::{count, median, ratios, spread};
use crate::support::Server;

/// On a server that writes nothing down.
pub(crate) fn in_memory(effort: &Effort) -> Section {
    let server = Server::start();
    let compared = Order::ALL.map(|order| Compared::measure(&server, order, effort));
    let targets = compared.iter().flat_map(|compared| {
        let order = compared.order.name();
        let script = Target {
            name: format!("acquire + release, times less CPU than `SET NX PX` + `EVALSHA`; {order}"),
            figure: median(&compared.script_to_lock),
            unit: "times",
            bound: Bound::Floor(1.9),
        };
        let del = Target {
            name: format!("acquire + release, CPU against `SET NX PX` + `DEL`; {order}"),
            figure: median(&compared.lock_to_del),
            unit: "times",
            bound: Bound::Ceiling(1.2),
        };
        [script, del]
    });
    let method = format!(
        "One connection sends batches over {PAIRS} keys; the server's CPU time (`used_cpu_user` and \
         `used_cpu_sys` of `INFO CPU`) is read before and after {pairs} pairs. The ways take turns on the same \
         server process, {rounds} rounds, every other one in reverse order. A figure is the median of its rounds, \
         with the lowest and highest; a ratio is the median of the rounds' ratios.\n\n\
         All ways use a lease of 30 s and tokens of 32 hex digits. *In two phases* a batch of acquires is answered \
         before the batch of releases is sent, so `LOCK.ACQUIRE` can make the tokens and the client reads them; \
         the other ways send the same two batches, and need no token from the server. *Interleaved*, each release \
         follows its acquire in the same batch and the client brings the token to all ways.\n\n\
         `EVALSHA` runs the script that deletes the key if it still holds the token, which is what lock libraries \
         do. `DEL` deletes whoever's lock it is: nobody should, but nothing in Redis costs less. PING is one command.",
        pairs = count(PAIRS * effort.passes),
        rounds = effort.rounds,
    );
    Section {
        title: "Acquire and release",
        method,
        columns: COLUMNS.to_vec(),
        rows: compared.iter().flat_map(Compared::rows).collect(),
        targets: targets.collect(),
        plots: Vec::new(),
    }
}

/// On a server that appends every change to a file.
pub(crate) fn with_aof(effort: &Effort) -> Section {
    let server = Server::builder()
        .config("appendonly yes")
        .config("appendfsync everysec")
        .config("auto-aof-rewrite-percentage 0")
        .start();
    let compared = Order::ALL.map(|order| Compared::measure(&server, order, effort));
    let targets = compared.iter().map(|compared| Target {
        name: format!(
            "the same with an append-only file, times less CPU than `SET NX PX` + `EVALSHA`; {}",
            compared.order.name()
        ),
        figure: median(&compared.script_to_lock),
        unit: "times",
        bound: Bound::Floor(1.5),
    });
    Section {
        title: "Acquire and release with an append-only file",
        method: "As above, with `appendonly yes`, `appendfsync everysec` and no rewriting of the file. The CPU time \
                 is that of all threads, the one that syncs the file included."
            .to_owned(),
        columns: COLUMNS.to_vec(),
        rows: compared.iter().flat_map(Compared::rows).collect(),
        targets: targets.collect(),
        plots: Vec::new(),
    }
}

const COLUMNS: [&str; 5] = ["tokens", "way", "us of CPU a pair", "`EVALSHA` way / this", "this / `DEL` way"];

/// The ways compared in one order of commands; all figures one a round.
struct Compared {
    order: Order,
    /// Microseconds, by way as in [`Way::ALL`].
    pair_us: Vec<Vec<f64>>,
    ping_us: Vec<f64>,
    script_to_lock: Vec<f64>,
    lock_to_del: Vec<f64>,
}

impl Compared {
    fn measure(server: &Server, order: Order, effort: &Effort) -> Self {
        let loads = Way::ALL.map(|way| Load::new(&mut server.client(), way, order));
        let mut sides: Vec<Side> =
            loads.into_iter().chain([Load::ping()]).map(|load| Side::new(server, load)).collect();
        let mut pair_us = cpu::alternate(&mut sides, effort);
        let ping_us = pair_us.pop().unwrap();
        let [script, del, lock] = [0, 1, 2].map(|way| &pair_us[way]);
        let (script_to_lock, lock_to_del) = (ratios(script, lock), ratios(lock, del));
        Self { order, pair_us, ping_us, script_to_lock, lock_to_del }
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let order = self.order.name();
        let row = |way: &str, figures: &[f64], to_script: String, to_del: String| {
            vec![order.to_owned(), way.to_owned(), spread(figures), to_script, to_del]
        };
        let [script, del, lock] = [0, 1, 2].map(|way| &self.pair_us[way]);
        let script_to_del = median(&ratios(script, del));
        vec![
            row(Way::SetAndScript.name(), script, String::new(), format!("{script_to_del:.2}")),
            row(Way::SetAndDel.name(), del, format!("{script_to_del:.2}"), String::new()),
            row(Way::Lock.name(), lock, spread(&self.script_to_lock), spread(&self.lock_to_del)),
            row("`PING`", &self.ping_us, String::new(), String::new()),
        ]
    }
}
