//! A command that runs only while a lock is held: what it costs the server against a script that looks first.

use crate::cpu::{self, Side};
use crate::effort::Effort;
use crate::fill::LONG_LEASE_MS;
use crate::loads::{Load, OK, PAIRS, TOKEN_LEN, granted, token};
use crate::pipe::{Batch, Pipe};
use crate::report::{Bound, Section, Target};
use crate::stats::{count, median, ratios, spread};
use crate::support::{Client, Server};

/// Sets the second key if the first holds the token.
const SCRIPT: &str = "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('set',KEYS[2],ARGV[2]) \
    else return redis.error_reply('NOTOWNER') end";

/// How many times less the command must cost than the script.
const LEAST: f64 = 1.5;

/// How a key is set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By LOCK.GUARD, with a lock of the module.
    Guard,
    /// By the script, with a lock that `SET NX PX` has made.
    Script,
    /// By SET, whoever holds the lock.
    Set,
}

impl Way {
    const ALL: [Self; 3] = [Self::Guard, Self::Script, Self::Set];

    fn name(self) -> &'static str {
        match self {
            Self::Guard => "`LOCK.GUARD` of `SET`",
            Self::Script => "`EVALSHA` of `GET`, then `SET`",
            Self::Set => "`SET`, unguarded",
        }
    }

    /// Sets as many keys as there are locks, once.
    fn load(self, client: &mut Client) -> Load {
        let script = client.call(&["SCRIPT", "LOAD", SCRIPT]).text();
        let mut batch = Batch::default();
        for number in 0..PAIRS {
            let (token, key) = (token(number), format!("data:{number:07}"));
            match self {
                Self::Guard => batch.push(&["LOCK.GUARD", &lock(number), &token, "SET", &key, VALUE], OK),
                Self::Script => {
                    batch.push(&["EVALSHA", &script, "2", &plain(number), &key, &token, VALUE], OK);
                }
                Self::Set => batch.push(&["SET", &key, VALUE], OK),
            }
        }
        Load::of(batch, PAIRS)
    }
}

/// What the keys are set to.
const VALUE: &str = "value";

/// A lock of the module.
fn lock(number: usize) -> String {
    format!("lock:{number:07}")
}

/// A key that serves as a lock, with a name as long.
fn plain(number: usize) -> String {
    format!("held:{number:07}")
}

/// Takes the locks of both kinds.
fn hold(server: &Server) {
    let (lease, granted) = (LONG_LEASE_MS.to_string(), granted(TOKEN_LEN));
    let mut batch = Batch::default();
    for number in 0..PAIRS {
        let token = token(number);
        batch.push(&["LOCK.ACQUIRE", &lock(number), "PX", &lease, "TOKEN", &token], &granted);
        batch.push(&["SET", &plain(number), &token, "NX", "PX", &lease], OK);
    }
    Pipe::connect(server).exchange(&batch);
}

pub(crate) fn run(effort: &Effort) -> Section {
    let server = Server::start();
    hold(&server);
    let mut sides = Way::ALL.map(|way| Side::new(&server, way.load(&mut server.client())));
    let us = cpu::alternate(&mut sides, effort);
    let [guard, script, set] = [0, 1, 2].map(|way| us[way].as_slice());
    let rows = Way::ALL.iter().zip(&us).map(|(way, figures)| {
        vec![
            way.name().to_owned(),
            spread(figures),
            spread(&ratios(script, figures)),
            spread(&ratios(figures, set)),
        ]
    });
    Section {
        title: "A command guarded by a lock",
        method: format!(
            "{locks} locks are held for long, each with its token of 32 hex digits. One connection sets as many other keys to \
             a short value, one for each lock, in a batch; the server's CPU is read before and after {commands} commands. The \
             ways take turns on the same server process, {rounds} rounds, as with single locks. The script gets the lock's \
             key, made by `SET NX PX`, compares it with the token, and sets the other key.",
            locks = count(PAIRS),
            commands = count(PAIRS * effort.passes),
            rounds = effort.rounds,
        ),
        columns: vec!["way", "us of CPU", "`EVALSHA` way / this", "this / unguarded"],
        rows: rows.collect(),
        targets: vec![Target {
            name: "`SET` by `LOCK.GUARD`, times less CPU than `EVALSHA` of `GET` and `SET`".to_owned(),
            figure: median(&ratios(script, guard)),
            unit: "times",
            bound: Bound::Floor(LEAST),
        }],
        plots: Vec::new(),
    }
}
