//! What every client of redis-lock has to prove: see README.md.
//!
//! | module | holds |
//! |---|---|
//! | [`testee`], [`client`] | the program that drives a client, and what it is told to do |
//! | [`bed`] | servers of one kind of place, each behind a proxy |
//! | [`proxy`], [`faults`], [`tls`], [`recorder`] | what the proxies do, and what they write down |
//! | [`cases`] | the cases of clients/cases |
//! | [`ways`] | the way to the servers, when slots move and masters fail |
//! | [`crowd`] | very many who wait |
//! | [`cancelling`], [`killed`] | clients that give up, and that are killed |
//! | [`history`] | work that contends behind random faults |
//! | [`redlock`] | five servers |
//!
//! Environment: `REDIS_LOCK_TESTEES` names the clients, one in a line: its name, a colon, and the program with its
//! arguments, parted by tabs. `REDIS_LOCK_SKIPPED` is the file for what is left out; `REDIS_SERVER`, `REDIS_LOCK_MODULE` and
//! `REDIS_LOCK_SEED` are as in tests/support.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure ends the test
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)] // likewise

mod bed;
mod cancelling;
mod cases;

mod client;
mod crowd;
mod faults;
mod history;
mod killed;
mod proxy;
mod recorder;
mod redlock;
#[path = "../../../tests/support/mod.rs"]
mod support;
mod testee;
mod tls;
mod ways;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::json;

use crate::bed::{Bed, Place};
use crate::cases::Case;
use crate::testee::{Kind, Ready, Testee};

fn main() {
    let arguments = Arguments::from_args();
    let mut all = All::default();
    for kind in kinds() {
        all.add(&kind);
    }
    let All { trials, pools, skipped } = all;
    report(&skipped);
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Ends the servers, which leaving the process would not.
    drop(pools);
    conclusion.exit();
}

fn kinds() -> Vec<Kind> {
    let text = std::env::var("REDIS_LOCK_TESTEES").unwrap_or_default();
    let lines = text.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (name, command) =
                line.split_once(':').unwrap_or_else(|| panic!("no name and no program: {line}"));
            Kind {
                name: name.to_owned(),
                command: command.split('\t').map(|word| word.trim().to_owned()).collect(),
            }
        })
        .collect()
}

/// Says what is left out, by name.
fn report(skipped: &BTreeSet<String>) {
    for line in skipped {
        println!("skipped {line}");
    }
    if let Some(path) = std::env::var_os("REDIS_LOCK_SKIPPED") {
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        for line in skipped {
            writeln!(file, "clients: {line}").unwrap();
        }
    }
}

/// Where the cases are tried, and with which version of RESP.
const CASES_AT: [(Place, u8); 5] =
    [(Place::Alone, 2), (Place::Alone, 3), (Place::Tls, 3), (Place::Sentinel, 3), (Place::Cluster, 3)];

/// A client, and what its testee has said that it can.
struct Client<'a> {
    kind: &'a Kind,
    ready: Ready,
}

#[derive(Default)]
struct All {
    trials: Vec<Trial>,
    pools: Arc<Pools>,
    skipped: BTreeSet<String>,
}

/// Servers and testees that tests use one after the other, each for itself.
#[derive(Default)]
struct Pools {
    beds: Mutex<BTreeMap<Place, Vec<Bed>>>,
    testees: Mutex<BTreeMap<String, Vec<Testee>>>,
}

impl Pools {
    /// Why there can be no such servers here, if that is so. It takes the start of one to know.
    fn cannot_start(&self, place: Place) -> Option<String> {
        if place != Place::Tls {
            return None;
        }
        let mut beds = self.beds.lock().unwrap();
        if beds.get(&place).is_none_or(Vec::is_empty) {
            beds.entry(place).or_default().push(match Bed::start(place) {
                Ok(bed) => bed,
                Err(why) => return Some(why),
            });
        }
        None
    }
}

impl All {
    /// All tests of a client.
    fn add(&mut self, kind: &Kind) {
        let testee = Testee::start(kind);
        let ready = testee.ready.clone();
        self.pools.testees.lock().unwrap().entry(kind.name.clone()).or_default().push(testee);
        let client = Client { kind, ready };

        for (file, cases) in cases::all() {
            for case in cases {
                for (place, protocol) in CASES_AT {
                    if may_run(place, &case) {
                        let name = format!("{place:?} RESP{protocol} {file}: {}", case.name);
                        let (case, words) = (case.clone(), case.words());
                        self.on_bed(&client, (place, protocol), &words, name, move |testee, bed, number| {
                            cases::run(&case, testee, bed, protocol, &format!("case {number}"));
                        });
                    }
                }
            }
        }
        for (name, place, words, run) in ways::ALL {
            let name = format!("ways: {name}");
            self.on_bed(&client, (place, 3), words, name, move |testee, bed, _| run(testee, bed));
        }
        self.add_of_one_server(&client);
        if client.ready.places.iter().any(|place| place == "redlock") {
            for (name, run) in redlock::ALL {
                self.on_testee(kind, format!("redlock: {name}"), run);
            }
        } else {
            self.skip(kind, "redlock", "it has none");
        }
    }

    fn add_of_one_server(&mut self, client: &Client<'_>) {
        let alone = (Place::Alone, 3);
        for (what, options, several, words) in [
            ("requests", json!({}), false, &["cancel"][..]),
            ("sessions", json!({"session": true}), false, &["cancel", "session"]),
            ("requests for several locks", json!({}), true, &["cancel", "several"]),
            (
                "sessions with several locks",
                json!({"session": true}),
                true,
                &["cancel", "session", "several"],
            ),
        ] {
            let name = format!("300 {what} that are cancelled around the grant leave nothing");
            self.on_bed(client, alone, words, name, move |testee, bed, _| {
                cancelling::around_the_grant(testee, bed, 3, &options, several);
            });
        }
        for (what, several, words) in [
            ("a request", false, &["cancel"][..]),
            ("a request for several locks", true, &["cancel", "several"]),
        ] {
            let name = format!("{what} that is read after it was cancelled leaves nothing");
            self.on_bed(client, alone, words, name, move |testee, bed, _| {
                cancelling::late_request(testee, bed, 3, several);
            });
        }
        for protocol in [2, 3] {
            let at = (Place::Alone, protocol);
            let name = format!("a crowd that waits holds up neither renewal nor release, RESP{protocol}");
            self.on_bed(client, at, &[], name, move |testee, bed, _| crowd::waits(testee, bed, protocol));
            let name = format!("history behind random faults, RESP{protocol}");
            self.on_bed(client, at, &[], name, move |testee, bed, _| history::contend(testee, bed, protocol));
        }
        for (when, words, run) in killed::ALL {
            let name = format!("a client that is killed {when} leaves nothing beyond the lease");
            let kind = client.kind.clone();
            self.on_bed(client, alone, words, name, move |_, bed, _| run(&kind, bed));
        }
    }

    /// Why this client is not tried at such servers, if it is not: what is left out, and the reason. `words` are the options
    /// and steps that are needed.
    fn reason_against(
        &self,
        client: &Client<'_>,
        (place, protocol): (Place, u8),
        words: &[&str],
        name: &str,
    ) -> Option<(String, String)> {
        let Ready { protocols, places, cannot, .. } = &client.ready;
        let known = place.name();
        if !places.iter().any(|place| place == known) {
            let why = cannot.get(known).cloned();
            return Some((known.to_owned(), why.unwrap_or_else(|| "it has none".to_owned())));
        }
        if !protocols.contains(&protocol) {
            return Some((format!("RESP{protocol}"), "it does not speak it".to_owned()));
        }
        let mut keys = words.iter().flat_map(|word| [(*word).to_owned(), format!("{known} {word}")]);
        let refused = keys.find_map(|key| Some((format!("{key}: {name}"), cannot.get(&key)?.clone())));
        refused.or_else(|| Some(("TLS".to_owned(), self.pools.cannot_start(place)?)))
    }

    fn skip(&mut self, kind: &Kind, what: &str, why: &str) {
        self.skipped.insert(format!("{}, {what}: {why}", kind.name));
    }

    fn on_testee(&mut self, kind: &Kind, name: String, run: impl FnOnce(&Testee) + Send + 'static) {
        let (pools, kind_again) = (self.pools.clone(), kind.clone());
        let trial = Trial::test(format!("{}, {name}", kind.name), move || {
            let pooled = pools.testees.lock().unwrap().get_mut(&kind_again.name).and_then(Vec::pop);
            let testee = pooled.unwrap_or_else(|| Testee::start(&kind_again));
            run(&testee);
            pools.testees.lock().unwrap().entry(kind_again.name.clone()).or_default().push(testee);
            Ok::<(), Failed>(())
        });
        self.trials.push(trial);
    }

    /// With servers too, and not where there is a reason against it, which is said. `run` is given a number that no other
    /// test has.
    fn on_bed(
        &mut self,
        client: &Client<'_>,
        at: (Place, u8),
        words: &[&str],
        name: String,
        run: impl FnOnce(&Testee, &mut Bed, usize) + Send + 'static,
    ) {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        if let Some((what, why)) = self.reason_against(client, at, words, &name) {
            return self.skip(client.kind, &what, &why);
        }
        let (pools, (place, _)) = (self.pools.clone(), at);
        self.on_testee(client.kind, name, move |testee| {
            let pooled = pools.beds.lock().unwrap().get_mut(&place).and_then(Vec::pop);
            let mut bed = pooled.unwrap_or_else(|| Bed::start(place).unwrap_or_else(|why| panic!("{why}")));
            run(testee, &mut bed, NEXT.fetch_add(1, Ordering::SeqCst));
            bed.faults.end();
            pools.beds.lock().unwrap().entry(place).or_default().push(bed);
        });
    }
}

/// Whether the case is of such a place.
fn may_run(place: Place, case: &Case) -> bool {
    case.needs.iter().all(|need| match need.as_str() {
        // One server gets a replica for the case; a cluster would need one of each.
        "replica" => place != Place::Cluster,
        "no replica" => place != Place::Sentinel,
        "cluster" => place == Place::Cluster,
        other => panic!("no place is known to have {other}"),
    })
}
