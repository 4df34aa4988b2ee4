//! A lock taken and given back while many others are held.

use crate::cpu::{self, Side};
use crate::effort::Effort;
use crate::fill::hold_crowd;
use crate::loads::{Load, Order, Way};
use crate::report::Section;
use crate::stats::{count, median, ratios, spread};
use crate::support::Server;

pub(crate) fn run(effort: &Effort) -> Section {
    let (empty, crowded) = (Server::start(), Server::start());
    hold_crowd(&crowded, effort.crowd);
    let mut sides: Vec<Side> = Way::ALL
        .into_iter()
        .flat_map(|way| [&empty, &crowded].map(|server| (way, server)))
        .map(|(way, server)| Side::new(server, Load::new(&mut server.client(), way, Order::Interleaved)))
        .collect();
    let figures = cpu::alternate(&mut sides, effort);
    let rows = Way::ALL.into_iter().zip(figures.chunks_exact(2)).map(|(way, pair)| {
        let (empty, crowded) = (&pair[0], &pair[1]);
        vec![way.name().to_owned(), spread(empty), spread(crowded), spread(&ratios(crowded, empty))]
    });
    let script_to_lock = median(&ratios(&figures[1], &figures[5]));
    Section {
        title: "Acquire and release beside other locks",
        method: format!(
            "Two servers in turns, one with nothing else in it, one with {crowd} other locks held; the client \
             brings the token, interleaved as above. The measured leases end before all the others, which is the \
             dearest place in the index of deadlines. The other ways show what a larger keyspace costs by itself. \
             With {crowd} others held, `SET NX PX` + `EVALSHA` takes {script_to_lock:.2} times the CPU of \
             `LOCK.ACQUIRE` + `LOCK.RELEASE`.",
            crowd = count(effort.crowd),
        ),
        columns: vec!["way", "us of CPU a pair, no others", "with others", "with / without"],
        rows: rows.collect(),
        targets: Vec::new(),
        plots: Vec::new(),
    }
}
