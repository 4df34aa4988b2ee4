//! A run: clients at work, faults among them, and in the end everything written down.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lock_checker::history::NEVER;
use lock_checker::{Ask, Fault, FaultKind, History, Limit, Op};

use crate::history_client::{Clock, HistoryClient, Routes};
use crate::resource::Resource;
use crate::support::Random;
use crate::work::{Abilities, Worker, guarded};

/// Clients at work at a time.
const CLIENTS: usize = 10;

/// How long clients are at work if the environment does not say.
const SECONDS: u64 = 3;

/// The same where a replica has to confirm each grant, and is behind for most of the time: a tenth of the grants are made
/// then, and only many of them have one that is held at a failover.
const SECONDS_TO_CONFIRM: u64 = 12;

/// How long the locks may take to be free once everybody has gone: no longer than a lease, and the grace of a restart.
const PATIENCE_MS: u64 = 10_000;

/// The servers of a set-up, and what is done to them.
pub(crate) trait Stage {
    /// Where clients find them.
    fn routes(&self) -> Arc<Routes>;
    /// How many things can be done to them; one that is to be done more often counts more than once.
    fn acts(&self) -> usize;
    /// Does one of them, and puts it right again.
    fn strike(&mut self, act: usize, random: &mut Random, faults: &mut Faults);
    /// All must be well.
    fn assert_well(&mut self);
}

/// What is asked of the servers.
pub(crate) struct Plan {
    /// The locks.
    pub(crate) keys: Vec<String>,
    /// Whether clients have a replica confirm what they are granted.
    pub(crate) confirms: bool,
    pub(crate) leases_ms: &'static [u64],
    /// Between faults, at the least.
    pub(crate) gap_ms: u64,
}

/// What was done, and when.
pub(crate) struct Faults {
    clock: Clock,
    done: Vec<Fault>,
}

impl Faults {
    /// Does it, between two looks at the clock.
    pub(crate) fn during<R>(
        &mut self,
        kind: FaultKind,
        node: Option<usize>,
        detail: &str,
        fault: impl FnOnce() -> R,
    ) -> R {
        let begun = self.begin(kind, node, detail);
        let result = fault();
        self.end(begun);
        result
    }

    /// A fault begins, and lasts for good if it is not ended.
    pub(crate) fn begin(&mut self, kind: FaultKind, node: Option<usize>, detail: &str) -> Begun {
        let fault = Fault { begin: self.clock.now(), end: NEVER, node, kind, detail: detail.to_owned() };
        self.done.push(fault);
        Begun(self.done.len() - 1)
    }

    /// It is over.
    pub(crate) fn end(&mut self, fault: Begun) {
        self.done[fault.0].end = self.clock.now();
    }
}

/// A fault that has begun.
pub(crate) struct Begun(usize);

/// The client that comes when all others have gone, and must be given every lock.
pub(crate) const LAST_CLIENT: usize = CLIENTS + 1;

/// What became of a run.
pub(crate) struct Outcome {
    pub(crate) history: History,
    /// What ended it before its time, if anything did: a server that does not start again, for one.
    pub(crate) failure: Option<Box<dyn Any + Send>>,
}

/// Has clients work and faults happen.
pub(crate) fn run(plan: &Plan, stage: &mut dyn Stage, random: &mut Random) -> Outcome {
    let (clock, routes, resource) = (Clock::start(), stage.routes(), Resource::default());
    let abilities = Abilities::of(routes.address(0));
    let is_over = AtomicBool::new(false);
    let mut faults = Faults { clock, done: Vec::new() };
    let mut failure = None;
    let mut ops = thread::scope(|scope| {
        let mut clients = Vec::new();
        for client in 0..CLIENTS {
            let mut worker = Worker {
                client: HistoryClient::new(clock, &routes, client, plan.confirms),
                random: Random::from_seed(random.next()),
                name: format!("c{client}"),
                keys: &plan.keys,
                abilities,
                leases_ms: plan.leases_ms,
                resource: &resource,
                done: 0,
                written: 0,
            };
            let is_over = &is_over;
            clients.push(scope.spawn(move || {
                while !is_over.load(Ordering::SeqCst) {
                    worker.work();
                }
                worker.client.finish()
            }));
        }
        let (watcher, over) = (HistoryClient::new(clock, &routes, CLIENTS, false), &is_over);
        clients.push(scope.spawn(move || watch(watcher, &plan.keys, over)));

        let end = Instant::now() + span(plan);
        let strikes = || strike_until(end, plan.gap_ms, stage, random, &mut faults);
        // Whatever fails, the history up to there may tell why.
        failure = panic::catch_unwind(AssertUnwindSafe(strikes)).err();
        is_over.store(true, Ordering::SeqCst);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<Vec<Op>>()
    });
    if failure.is_none() {
        stage.assert_well();
        let mut last = HistoryClient::new(clock, &routes, LAST_CLIENT, false);
        take_all(&mut last, &plan.keys);
        if abilities.guard {
            read_all(&mut last, &plan.keys);
        }
        ops.extend(last.finish());
    }
    Outcome { history: History::new(ops, faults.done), failure }
}

fn span(plan: &Plan) -> Duration {
    let seconds = std::env::var("REDIS_LOCK_HISTORY_SECONDS").map(|text| text.parse().unwrap());
    Duration::from_secs(seconds.unwrap_or(if plan.confirms { SECONDS_TO_CONFIRM } else { SECONDS }))
}

/// Does everything that can be done in one order after another, once at least.
fn strike_until(end: Instant, gap_ms: u64, stage: &mut dyn Stage, random: &mut Random, faults: &mut Faults) {
    for round in 0.. {
        let mut acts: Vec<usize> = (0..stage.acts()).collect();
        while !acts.is_empty() {
            // Some time for clients to hold locks, which is what faults are to meet with.
            thread::sleep(Duration::from_millis(gap_ms + random.next() % 200));
            if round > 0 && Instant::now() > end {
                return;
            }
            stage.strike(acts.swap_remove(random.below(acts.len())), random, faults);
        }
    }
}

/// Looks at the queues over and over, so that it is known of some who wait that they came before others.
fn watch(mut client: HistoryClient<'_>, keys: &[String], is_over: &AtomicBool) -> Vec<Op> {
    while !is_over.load(Ordering::SeqCst) {
        for key in keys {
            client.request(&Ask::Look { key: key.clone() }, None);
        }
        thread::sleep(Duration::from_millis(2));
    }
    client.finish()
}

/// When everybody has gone, every lock can be had.
fn take_all(client: &mut HistoryClient<'_>, keys: &[String]) {
    for (key, number) in keys.iter().zip(0..) {
        let token = format!("last-{number}");
        let acquire = Ask::Acquire {
            key: key.clone(),
            token: token.clone(),
            limit: Limit::EXCLUSIVE,
            lease_ms: 1_000,
            weight: None,
            level: None,
            block_ms: Some(PATIENCE_MS),
            queue_ms: None,
            session: false,
        };
        client.request(&acquire, None);
        client.request(&Ask::Release { key: key.clone(), token, level: 1 }, None);
    }
}

/// And nobody writes any more to what they guard.
fn read_all(client: &mut HistoryClient<'_>, keys: &[String]) {
    for key in keys {
        client.request(&Ask::Read { name: guarded(key) }, None);
    }
}
