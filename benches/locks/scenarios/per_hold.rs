//! What a command costs on a lock that very many hold, against one that has a single hold.

use std::mem;
use std::time::{Duration, Instant};

use crate::cpu;
use crate::effort::Effort;
use crate::fill::{LONG_LEASE_MS, TO_BUILD, fill, hold_by_many};
use crate::loads::{ONE, TOKEN_LEN, checked, granted, token};
use crate::pipe::{Batch, Pipe};
use crate::report::{Bound, Section, Target};
use crate::stats::{count, median, ratios, spread};
use crate::support::{Client, Server};

/// Commands of one kind in one turn of a side.
const COMMANDS: usize = 2_000;

/// The lock with very many holds.
const KEY: &str = "crowded";

/// What one may cost at most, as many times as on a lock with a single hold.
const MOST: f64 = 4.0;

/// After so much time there is no other round.
const ENOUGH: Duration = Duration::from_secs(20);

/// What is measured, in this order: what is released after what was acquired leaves the locks with as many holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Check,
    Extend,
    Refused,
    Acquire,
    Release,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Check, Self::Extend, Self::Refused, Self::Acquire, Self::Release];

    fn name(self) -> &'static str {
        match self {
            Self::Check => "`LOCK.CHECK`",
            Self::Extend => "`LOCK.EXTEND`",
            Self::Refused => "`LOCK.ACQUIRE`, refused",
            Self::Acquire => "`LOCK.ACQUIRE SHARED`",
            Self::Release => "`LOCK.RELEASE`",
        }
    }
}

/// One command's lock, and the tokens it may name.
struct Errand {
    key: String,
    /// Of a hold there is.
    held: String,
    /// Of one to be acquired.
    new: String,
    /// Of the one to be released then.
    released: String,
}

/// One of the sides.
enum Side {
    /// [`COMMANDS`] locks with one hold each, and one more while it is acquired and released.
    Alone,
    /// One lock with these holds. The one released is another than the one acquired.
    Crowded(Vec<String>),
}

impl Side {
    /// What a round is about: holds from all over the lock, others each time.
    fn errands(&mut self, round: usize) -> Vec<Errand> {
        let errand = |number| {
            let new = token((round + 1) * COMMANDS + number);
            match self {
                Self::Alone => {
                    let (held, released) = (token(number), new.clone());
                    Errand { key: alone(number), held, new, released }
                }
                Self::Crowded(tokens) => {
                    let place = number * (tokens.len() / COMMANDS) + round % (tokens.len() / COMMANDS);
                    let held = mem::replace(&mut tokens[place], new.clone());
                    Errand { key: KEY.to_owned(), released: held.clone(), held, new }
                }
            }
        };
        (0..COMMANDS).map(errand).collect()
    }
}

fn alone(number: usize) -> String {
    format!("alone:{number:04}")
}

pub(crate) fn run(effort: &Effort) -> Section {
    let server = Server::start();
    cpu::let_settle();
    let (mut pipe, mut info) = (Pipe::connect(&server), server.client());
    let tokens = hold_by_many(&server, KEY, effort.holds);
    let holds = tokens.len();
    assert!(holds >= COMMANDS, "{holds} holds are too few");
    fill(&server, COMMANDS, &granted(TOKEN_LEN), |number| {
        let lease = LONG_LEASE_MS.to_string();
        ["LOCK.ACQUIRE", &alone(number), "SHARED", "PX", &lease, "TOKEN", &token(number)]
            .map(str::to_owned)
            .to_vec()
    });
    let mut sides = [Side::Alone, Side::Crowded(tokens)];
    let mut us = [const { [const { Vec::new() }; 2] }; Kind::ALL.len()];
    let start = Instant::now();
    let mut rounds = 0;
    while rounds == 0 || rounds < effort.rounds && start.elapsed() < ENOUGH {
        for (number, side) in sides.iter_mut().enumerate() {
            let figures = turn(&side.errands(rounds), &mut pipe, &mut info);
            for (us, figure) in us.iter_mut().zip(figures) {
                us[number].push(figure);
            }
        }
        rounds += 1;
    }
    let target = |(kind, [alone, crowded]): (Kind, &[Vec<f64>; 2])| Target {
        name: format!(
            "{} on a lock with {} holds, against one with a single hold",
            kind.name(),
            count(holds)
        ),
        figure: median(&ratios(crowded, alone)),
        unit: "times",
        bound: Bound::Ceiling(MOST),
    };
    let row = |(kind, [alone, crowded]): (Kind, &[Vec<f64>; 2])| {
        vec![kind.name().to_owned(), spread(alone), spread(crowded), spread(&ratios(crowded, alone))]
    };
    Section {
        title: "Commands on a lock with very many holds",
        method: format!(
            "A lock has {holds} SHARED holds, {wanted} if the server gives so many in {seconds} s, and {locks} others \
             have one hold each. One connection sends {locks} commands of one kind in a batch, all on the one lock or \
             one on each of the others, {rounds} rounds in turns; the server's CPU is read before and after. The holds \
             that are named are from all over the lock, other ones each round. What is acquired is one hold more, \
             and one is released after that: on the locks with a single hold the one that came.",
            holds = count(holds),
            wanted = count(effort.holds),
            seconds = TO_BUILD.as_secs(),
            locks = count(COMMANDS),
        ),
        columns: vec!["command", "us of CPU, one hold", "very many", "very many / one"],
        rows: Kind::ALL.into_iter().zip(&us).map(row).collect(),
        targets: Kind::ALL.into_iter().zip(&us).map(target).collect(),
        plots: Vec::new(),
    }
}

/// Sends a batch of each kind, and gives the microseconds of server CPU for a command of it.
fn turn(errands: &[Errand], pipe: &mut Pipe, info: &mut Client) -> [f64; Kind::ALL.len()] {
    let checked = checked(info, &errands[0].key, &errands[0].held);
    let (lease, granted) = (LONG_LEASE_MS.to_string(), granted(TOKEN_LEN));
    Kind::ALL.map(|kind| {
        let mut batch = Batch::default();
        for Errand { key, held, new, released } in errands {
            match kind {
                Kind::Check => batch.push(&["LOCK.CHECK", key, held], &checked),
                Kind::Extend => batch.push(&["LOCK.EXTEND", key, held], ONE),
                Kind::Refused => batch.push(&["LOCK.ACQUIRE", key], "*-1\r\n"),
                Kind::Acquire => {
                    batch.push(&["LOCK.ACQUIRE", key, "SHARED", "PX", &lease, "TOKEN", new], &granted);
                }
                Kind::Release => batch.push(&["LOCK.RELEASE", key, released], ONE),
            }
        }
        let before_us = cpu::used_us(info);
        pipe.exchange(&batch);
        (cpu::used_us(info) - before_us) / errands.len() as f64
    })
}
