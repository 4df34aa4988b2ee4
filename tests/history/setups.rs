//! The set-ups, each with what it promises.
//!
//! Where servers keep what they acknowledge, everything is promised. Where a crash or a failover may lose it, it is counted
//! how often that made two holders, and it is promised what helps against it: WAIT, and the grace of a restart.

use lock_checker::losses::Losses;
use lock_checker::{FaultKind, FenceScope, Rule, Terms};

use crate::cluster_faults::Clustered;
use crate::faults::{Promotion, Replicated, Standalone};
use crate::run::{Plan, Stage, run};
use crate::support::cluster::{Cluster, ClusterBuilder, key_in};
use crate::support::wall_clock::{HOUR, WallClock};
use crate::support::{Builder, Random, Server};
use crate::verdict::{Promise, judge};
use crate::work::{LEASES_MS, SHORT_LEASES_MS};

/// How much longer than asked for anything may take, in microseconds: a bound on hangs.
const PATIENCE: u64 = 5_000_000;

/// The same where each request waits for a disk that others use too.
const PATIENCE_WITH_DISK: u64 = 20_000_000;

/// Milliseconds; longer than any of the short leases.
const GRACE: &str = "lock.restart-grace 300";

/// Shorter than most leases, so that who has a place in the queue and does not ask again finds it lost.
const CLAIM_LEASE_MS: u64 = 200;

/// Losses that make a second holder, and holders who learn of it.
const LOST_GRANTS: &[Rule] = &[Rule::Admission, Rule::EarlyEnd];

/// How many locks clients want.
const KEYS: usize = 6;

fn keys() -> Vec<String> {
    (0..KEYS).map(|number| format!("k{number}")).collect()
}

fn plan() -> Plan {
    Plan { keys: keys(), confirms: false, leases_ms: LEASES_MS, gap_ms: 40 }
}

/// With leases that are over within the grace, and some time after it.
fn plan_of_grace() -> Plan {
    Plan { leases_ms: SHORT_LEASES_MS, gap_ms: 400, ..plan() }
}

fn terms(fences: FenceScope, errors: &[&str]) -> Terms {
    let errors = errors.iter().map(|error| (*error).to_owned()).collect();
    Terms { fences, patience: PATIENCE, claim_lease: CLAIM_LEASE_MS * 1000, errors, loses_writes: false }
}

fn lossy_terms(errors: &[&str]) -> Terms {
    Terms { loses_writes: true, ..terms(FenceScope::OneSequence, errors) }
}

fn try_out(plan: &Plan, stage: &mut dyn Stage, mut random: Random, promise: &Promise) -> Losses {
    let outcome = run(plan, stage, &mut random);
    judge(promise, outcome)
}

/// A clock to be set, where that can be done.
fn wall_clock() -> Option<WallClock> {
    cfg!(target_os = "linux").then(WallClock::new)
}

/// A server as it is in every set-up.
fn builder() -> Builder {
    Server::builder().config(&format!("lock.claim-lease {CLAIM_LEASE_MS}"))
}

fn living_by(clock: Option<&WallClock>, builder: Builder) -> Builder {
    match clock {
        Some(clock) => clock.of(builder),
        None => builder,
    }
}

#[test]
fn a_server_that_keeps_its_append_only_file_keeps_every_promise() {
    let mut random = Random::from_environment();
    let clock = wall_clock();
    let preamble = random.pick(&["yes", "no"]);
    let builder = builder().aof().config(&format!("aof-use-rdb-preamble {preamble}"));
    let server = living_by(clock.as_ref(), builder).start();
    let promise = Promise {
        name: "appendfsync always",
        terms: Terms {
            patience: PATIENCE_WITH_DISK,
            ..terms(FenceScope::OneSequence, &["LOADING", "DEADLOCK"])
        },
        may_break: &[],
        faults: &[FaultKind::Kill],
    };
    try_out(&plan(), &mut Standalone::new(server, clock), random, &promise);
}

#[test]
fn a_server_that_keeps_nothing_loses_grants_in_a_crash_and_no_fences() {
    let promise = Promise {
        name: "nothing on disk",
        terms: lossy_terms(&["LOADING", "DEADLOCK"]),
        may_break: LOST_GRANTS,
        faults: &[FaultKind::Kill],
    };
    let mut stage = Standalone::only_killed(builder().start());
    let losses = try_out(&plan(), &mut stage, Random::from_environment(), &promise);
    assert!(losses.overlaps > 0, "every lock was forgotten again and again, and nobody noticed");
}

/// It loads a snapshot that is older than every lock, so that there is a grace.
#[test]
fn a_grace_after_the_restart_makes_up_for_lost_grants() {
    let server = builder().config(GRACE).start();
    server.client().ok("SET snapshot old");
    server.client().ok("SAVE");
    let promise = Promise {
        name: "old snapshot, restart-grace",
        terms: lossy_terms(&["LOADING", "DEADLOCK"]),
        may_break: &[Rule::EarlyEnd],
        faults: &[FaultKind::Kill],
    };
    let mut stage = Standalone::only_killed(server);
    try_out(&plan_of_grace(), &mut stage, Random::from_environment(), &promise);
}

/// A master and its replica. They count each other's silence by the wall clock, and are not to be parted by that.
fn pair(builder: impl Fn() -> Builder, clock: Option<&WallClock>) -> [Server; 2] {
    let builder = || builder().config("repl-timeout 86400");
    let master = builder().start();
    let replica = living_by(clock, builder().replica_of(&master)).start();
    [master, replica]
}

const FAILOVER_ERRORS: &[&str] = &["LOADING", "READONLY", "UNBLOCKED", "DEADLOCK"];

#[test]
fn a_replica_that_has_caught_up_keeps_every_promise_when_it_is_promoted() {
    let clock = wall_clock();
    let nodes = pair(builder, clock.as_ref());
    let promise = Promise {
        name: "planned failover",
        terms: terms(FenceScope::OneSequence, FAILOVER_ERRORS),
        may_break: &[],
        faults: &[FaultKind::Failover],
    };
    let mut stage = Replicated::new(nodes, Promotion::CaughtUp, clock);
    try_out(&plan(), &mut stage, Random::from_environment(), &promise);
}

/// The replica is promoted again and again, each time in that way.
fn promoted(
    promotion: Promotion,
    plan: &Plan,
    builder: impl Fn() -> Builder,
    clock: Option<WallClock>,
    name: &'static str,
    may_break: &'static [Rule],
) -> Losses {
    let promise = Promise {
        name,
        terms: Terms { loses_writes: !plan.confirms, ..lossy_terms(FAILOVER_ERRORS) },
        may_break,
        faults: &[FaultKind::Failover],
    };
    let nodes = pair(builder, clock.as_ref());
    let mut stage = Replicated::new(nodes, promotion, clock);
    try_out(plan, &mut stage, Random::from_environment(), &promise)
}

#[test]
fn a_replica_that_is_behind_loses_grants_and_no_fences() {
    let name = "replica behind";
    promoted(Promotion::Behind, &plan(), builder, None, name, LOST_GRANTS);
}

/// The fences that it has not received are an hour ahead of it.
#[test]
#[cfg(target_os = "linux")]
fn a_replica_that_is_behind_with_its_clock_too_loses_fences() {
    let name = "replica behind, and its clock";
    let clock = WallClock::new();
    clock.set(-HOUR);
    let may_break = &[Rule::Admission, Rule::EarlyEnd, Rule::Fence];
    let plan = plan();
    let losses = promoted(Promotion::Behind, &plan, builder, Some(clock), name, may_break);
    assert!(losses.fallen_fences > 0, "the highest fence was lost again and again, and nobody noticed");
}

#[test]
fn a_master_that_is_replaced_while_it_is_stopped_goes_on_granting() {
    let name = "master stopped";
    // Two at a time draw fences.
    let may_break = &[Rule::Admission, Rule::EarlyEnd, Rule::Fence];
    promoted(Promotion::Stopped, &plan(), builder, None, name, may_break);
}

fn with_confirmation() -> Plan {
    Plan { confirms: true, ..plan() }
}

#[test]
fn what_a_replica_that_is_behind_has_confirmed_is_not_lost() {
    let name = "replica behind, WAIT 1";
    promoted(Promotion::Behind, &with_confirmation(), builder, None, name, &[]);
}

#[test]
fn a_master_that_was_stopped_finds_nobody_to_confirm_what_it_goes_on_granting() {
    let name = "master stopped, WAIT 1";
    promoted(Promotion::Stopped, &with_confirmation(), builder, None, name, &[]);
}

#[test]
fn a_grace_after_the_promotion_keeps_lost_grants_from_becoming_second_holders() {
    let name = "replica behind, restart-grace";
    let builder = || builder().config(GRACE);
    promoted(Promotion::Behind, &plan_of_grace(), builder, None, name, &[Rule::EarlyEnd]);
}

const CLUSTER_ERRORS: &[&str] =
    &["MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "UNBLOCKED", "DEADLOCK"];

/// In a cluster two locks each are in a slot, so that they can be locked together.
fn clustered(builder: ClusterBuilder, name: &'static str, fault: &'static [FaultKind]) {
    let random = Random::from_environment();
    let cluster = builder.config(&format!("lock.claim-lease {CLAIM_LEASE_MS}")).start();
    let slots: Vec<u16> = (0..KEYS / 2).map(|at| cluster.fresh_slot(at % cluster.masters())).collect();
    let keys: Vec<String> = (0..KEYS).map(|at| key_in(slots[at / 2], &format!("k{at}"))).collect();
    let promise = Promise {
        name,
        terms: Terms { patience: PATIENCE_WITH_DISK, ..terms(FenceScope::PerNodeAndKey, CLUSTER_ERRORS) },
        may_break: &[],
        faults: fault,
    };
    let plan = Plan { keys: keys.clone(), ..plan() };
    try_out(&plan, &mut Clustered::new(cluster, keys), random, &promise);
}

#[test]
fn a_cluster_keeps_every_promise_while_its_slots_move_and_its_nodes_crash() {
    let builder = Cluster::builder(3).config("appendonly yes").config("appendfsync always");
    clustered(builder, "slots on the move", &[FaultKind::Move]);
}

#[test]
fn a_cluster_keeps_every_promise_while_replicas_take_over_that_have_caught_up() {
    clustered(Cluster::builder(2).replicas(1), "cluster failover", &[FaultKind::Move, FaultKind::Failover]);
}
