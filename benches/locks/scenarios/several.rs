//! Several locks taken and given back together: what it costs the server against one by one, and against scripts.

use crate::cpu::{self, Side};
use crate::effort::Effort;
use crate::loads::{Load, ONE, TOKEN_LEN, granted, token};
use crate::pipe::Batch;
use crate::report::{Bound, Section, Target};
use crate::stats::{count, median, ratios, spread};
use crate::support::{Client, Server};

/// Locks taken together.
const LOCKS: usize = 8;

/// How often in one pass over a load, each time other keys: about as many keys as the other loads have.
const TIMES: usize = 64;

/// What both commands together may cost, against scripts.
const MOST: f64 = 0.5;

/// Takes all keys or none, with as few calls as that can be done with.
const LEAN_LOCK: &str = "if redis.call('exists',unpack(KEYS))>0 then return 0 end \
    for _,key in ipairs(KEYS) do redis.call('set',key,ARGV[1],'NX','PX',ARGV[2]) end return #KEYS";

/// Deletes those of the keys that hold the token, likewise.
const LEAN_UNLOCK: &str = "local own={} for at,held in ipairs(redis.call('mget',unpack(KEYS))) do \
    if held==ARGV[1] then own[#own+1]=KEYS[at] end end \
    if #own==0 then return 0 end return redis.call('del',unpack(own))";

/// The same as [`LEAN_LOCK`], key by key.
const PLAIN_LOCK: &str = "for _,key in ipairs(KEYS) do if redis.call('exists',key)==1 then return 0 end end \
    for _,key in ipairs(KEYS) do redis.call('set',key,ARGV[1],'NX','PX',ARGV[2]) end return #KEYS";

/// The same as [`LEAN_UNLOCK`], key by key.
const PLAIN_UNLOCK: &str = "local count=0 for _,key in ipairs(KEYS) do \
    if redis.call('get',key)==ARGV[1] then count=count+redis.call('del',key) end end return count";

/// How the locks are taken and given back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// LOCK.MACQUIRE and LOCK.MRELEASE.
    Together,
    /// LOCK.ACQUIRE of each, then LOCK.RELEASE of each.
    OneByOne,
    /// Two scripts with as few calls as possible.
    LeanScripts,
    /// Two scripts that go key by key.
    PlainScripts,
}

impl Way {
    const ALL: [Self; 4] = [Self::Together, Self::OneByOne, Self::LeanScripts, Self::PlainScripts];

    fn name(self) -> String {
        match self {
            Self::Together => "`LOCK.MACQUIRE` + `LOCK.MRELEASE`".to_owned(),
            Self::OneByOne => format!("{LOCKS} times `LOCK.ACQUIRE` + `LOCK.RELEASE`"),
            Self::LeanScripts => "`EVALSHA` twice, fewest calls".to_owned(),
            Self::PlainScripts => "`EVALSHA` twice, key by key".to_owned(),
        }
    }

    fn load(self, client: &mut Client) -> Load {
        let scripts = match self {
            Self::PlainScripts => [PLAIN_LOCK, PLAIN_UNLOCK],
            _ => [LEAN_LOCK, LEAN_UNLOCK],
        };
        let [lock, unlock] = scripts.map(|script| client.call(&["SCRIPT", "LOAD", script]).text());
        let mut batch = Batch::default();
        for time in 0..TIMES {
            let keys: Vec<String> = (0..LOCKS).map(|at| format!("lock:{:07}", time * LOCKS + at)).collect();
            self.push(&mut batch, [&lock, &unlock], &keys, &token(time));
        }
        Load::of(batch, TIMES)
    }

    /// Takes these locks and gives them back.
    fn push(self, batch: &mut Batch, [lock, unlock]: [&str; 2], keys: &[String], token: &str) {
        const LEASE: &str = "30000";
        let (granted, all) = (granted(TOKEN_LEN), format!(":{}\r\n", keys.len()));
        let number = keys.len().to_string();
        let with_keys = |before: &[&str], after: &[&str]| -> Vec<String> {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            [before, &[&number], &keys, after].concat().into_iter().map(str::to_owned).collect()
        };
        match self {
            Self::Together => {
                batch.push(&with_keys(&["LOCK.MACQUIRE"], &["PX", LEASE, "TOKEN", token]), &granted);
                batch.push(&with_keys(&["LOCK.MRELEASE"], &[token]), &all);
            }
            Self::OneByOne => {
                for key in keys {
                    batch.push(&["LOCK.ACQUIRE", key, "PX", LEASE, "TOKEN", token], &granted);
                }
                for key in keys {
                    batch.push(&["LOCK.RELEASE", key, token], ONE);
                }
            }
            Self::LeanScripts | Self::PlainScripts => {
                batch.push(&with_keys(&["EVALSHA", lock], &[token, LEASE]), &all);
                batch.push(&with_keys(&["EVALSHA", unlock], &[token]), &all);
            }
        }
    }
}

pub(crate) fn run(effort: &Effort) -> Section {
    let server = Server::start();
    let mut sides = Way::ALL.map(|way| Side::new(&server, way.load(&mut server.client())));
    let us = cpu::alternate(&mut sides, effort);
    let [together, one_by_one, lean, plain] = [0, 1, 2, 3].map(|way| us[way].as_slice());
    let rows = Way::ALL.iter().zip(&us).map(|(way, figures)| {
        let [to_lean, to_plain, to_single] =
            [lean, plain, one_by_one].map(|other| spread(&ratios(figures, other)));
        vec![way.name(), spread(figures), to_lean, to_plain, to_single]
    });
    Section {
        title: "Several locks together",
        method: format!(
            "One connection takes {LOCKS} locks and gives them back, {times} times in a batch, each time {LOCKS} other keys; \
             the server's CPU is read before and after {all} times. The ways take turns on the same server process, {rounds} \
             rounds, as with single locks. Leases are of 30 s, and the client brings tokens of 32 hex digits.\n\n\
             One of the scripts takes all keys or none, with `SET NX PX`, and the other deletes those that hold the token. \
             *With the fewest calls*, they ask `EXISTS` and `MGET` for all keys at once and delete them at once; *key by key*, \
             they call `EXISTS`, `GET` and `DEL` for each. Neither gives a fence, nor lets anybody wait. One by one, another \
             client can come in between.",
            times = count(TIMES),
            all = count(TIMES * effort.passes),
            rounds = effort.rounds,
        ),
        columns: vec!["way", "us of CPU", "this / fewest calls", "this / key by key", "this / one by one"],
        rows: rows.collect(),
        targets: vec![Target {
            name: format!(
                "{LOCKS} locks taken and given back together, CPU against two scripts with the fewest calls"
            ),
            figure: median(&ratios(together, lean)),
            unit: "times",
            bound: Bound::Ceiling(MOST),
        }],
        plots: Vec::new(),
    }
}
