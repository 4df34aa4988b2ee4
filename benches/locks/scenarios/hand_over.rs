//! How long it takes from giving a lock back until the next in the queue knows that it is the holder.

mod queue;

use queue::{Others, Queue, RELAY, Seen};

pub(super) use queue::Side;

use crate::cores::Cores;
use crate::cpu;
use crate::effort::Effort;
use crate::open_files::{OTHER_FILES, open_files};
use crate::plots::{self, Line};
use crate::report::{Bound, Plot, Section, Target};
use crate::stats::{count, typical};

/// How many wait, as far as the system lets so many connections be open.
const WAITERS: [usize; 4] = [1, 100, 1_000, 10_000];

/// The number for which there is a target.
const MANY: usize = 1_000;

pub(crate) fn run(effort: &Effort) -> Section {
    let mut files_left = open_files().saturating_sub(OTHER_FILES);
    let others = [Others::Locks(effort.crowd), Others::Holds(effort.holds)];
    let mut queues = others.into_iter().map(|others| Queue::new(1, others)).collect::<Vec<_>>();
    for waiters in WAITERS {
        if waiters < files_left {
            files_left -= waiters;
            queues.push(Queue::new(waiters, Others::NONE));
        }
    }
    cpu::let_settle();
    let cores = Cores::allowed();
    queues.iter().for_each(|queue| Cores::pin(queue.server.pid(), cores.last()));
    for round in 0..effort.relays * 2 {
        let side = Side::ALL[round % 2];
        Cores::pin_self(if side == Side::Apart { cores.first() } else { cores.last() });
        for turn in 0..queues.len() {
            let turn = if round % 4 < 2 { turn } else { queues.len() - 1 - turn };
            queues[turn].relay(side);
        }
    }
    drop(cores);
    queues.rotate_left(others.len());
    let first = &queues[0];
    let rows = Side::ALL.into_iter().flat_map(|side| queues.iter().map(move |queue| queue.row(first, side)));
    Section {
        title: "Hand-over",
        method: method(effort),
        columns: vec![
            "client's core",
            "waiting",
            "others held",
            "PING p50 us",
            "p99 us",
            "hand-over p50 us",
            "p99 us",
            "p50 / PING",
            "p50 / one waiting",
        ],
        rows: rows.collect(),
        targets: targets(&queues),
        plots: vec![plot(&queues)],
    }
}

fn targets(queues: &[Queue]) -> Vec<Target> {
    let first = &queues[0];
    let mut targets = vec![Target {
        name: "release to the next holder's reply, one waiting, p50 against PING".to_owned(),
        figure: first.to_ping(Side::Apart),
        unit: "times",
        bound: Bound::Ceiling(1.2),
    }];
    for queue in queues {
        let name = match (queue.waiters(), queue.others) {
            (MANY, _) => format!("the same with {} waiting, against one waiting", count(MANY)),
            (_, Others::Locks(1..)) => {
                format!("the same with {} other locks held, against none", queue.others.name())
            }
            (_, Others::Holds(holds)) => {
                format!("the same with {} shared holds on another lock, against none", count(holds))
            }
            _ => continue,
        };
        targets.push(Target {
            name,
            figure: queue.to(first, Side::Apart),
            unit: "times",
            bound: Bound::Ceiling(1.2),
        });
    }
    targets
}

fn method(effort: &Effort) -> String {
    format!(
        "The holder gives the lock back, and the clock runs until the next in the queue has read that it is granted. \
         Then who gave it back joins the queue again, so that its length stays the same. Before each hand-over the \
         holder sends a PING on the same connection, for comparison. One thread does all this and waits for each \
         reply. It runs on another core than the servers, which has to be woken up for each reply as a client \
         elsewhere has to; or on the same core, where nothing sleeps and only the work is seen, and where it shows \
         that a connection that was not used for long is no longer in the processor's cache. The targets are set for \
         the first. Each setting has a server of its own; they take turns, {hand_overs} hand-overs in each of \
         {rounds} rounds. p50 is the median of the rounds' medians, p99 is of all; ratios are medians of the rounds' \
         ratios. Lengths of the queue for which the system does not allow enough open files are left out.",
        hand_overs = RELAY,
        rounds = effort.relays,
    )
}

fn plot(queues: &[Queue]) -> Plot {
    let alone = || queues.iter().filter(|queue| queue.others == Others::NONE);
    let line = |name: &str, side: Side, figures: fn(&Seen) -> &[Vec<f64>]| Line {
        name: name.to_owned(),
        points: alone()
            .map(|queue| (queue.waiters() as f64, typical(figures(queue.seen(side)), 50.0)))
            .collect(),
    };
    let said: Vec<String> = alone()
        .map(|queue| {
            format!(
                "{:.0} us with {} waiting",
                typical(&queue.seen(Side::Apart).hand_overs, 50.0),
                count(queue.waiters())
            )
        })
        .collect();
    Plot {
        file: "benchmarks-hand-over.svg",
        alt: format!(
            "Time of a hand-over by length of the queue. On another core than the server the median is {}.",
            said.join(", ")
        ),
        svg: plots::by_count(
            "From a release to the next holder's reply, median",
            "clients waiting for the lock",
            "time, \u{b5}s",
            &[
                line("hand-over, cores apart", Side::Apart, |seen| &seen.hand_overs),
                line("PING, apart", Side::Apart, |seen| &seen.pings),
                line("hand-over, same core", Side::Together, |seen| &seen.hand_overs),
                line("PING, same core", Side::Together, |seen| &seen.pings),
            ],
        ),
    }
}
