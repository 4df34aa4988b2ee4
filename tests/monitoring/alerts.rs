//! Each alert: what it warns of happens, and it becomes active. Before that no alert is, and with it no other one.

use std::fs;

use crate::stage::{Stage, watch};
use crate::support::locks::{acquire, exists, refused};
use crate::support::waiter::release;
use crate::support::{Client, PATIENCE, Pair, Reply, Server, Waiter, wait_until};

/// Has so many wait for the lock by places, from the `first` on.
fn queue_up(client: &mut Client, key: &str, first: usize, count: usize) {
    for number in first..first + count {
        client.run(&format!("LOCK.ACQUIRE {key} TOKEN waiter-{number} QUEUE 600000")).int();
    }
}

#[test]
fn metrics_missing_when_the_script_fails() {
    let server = Stage::server().start();
    let stage = watch!(&server);
    server.client().ok("ACL SETUSER exporter -eval");
    stage.wait_active(&["RedisLockMetricsMissing"]);
}

#[test]
fn metrics_missing_when_the_settings_cannot_be_read() {
    let server = Stage::server().start();
    let stage = watch!(&server);
    server.client().ok("ACL SETUSER exporter -config|get");
    stage.wait_active(&["RedisLockMetricsMissing"]);
}

#[test]
fn queue_growing_while_more_and_more_wait() {
    let server = Stage::server().start();
    let stage = watch!(&server);
    let mut client = server.client();
    acquire(&mut client, "k TOKEN holder");
    queue_up(&mut client, "k", 0, 21);
    // Somebody is granted a lock now and then, but not this one.
    wait_until("the alert is active", PATIENCE, || {
        let grant = acquire(&mut client, "other");
        release(&mut client, "other", &grant.token);
        stage.active().contains("RedisLockQueueGrowing")
    });
    stage.wait_active(&["RedisLockQueueGrowing"]);
}

#[test]
fn stuck_when_somebody_waits_and_nobody_is_granted_anything() {
    let server = Stage::server().start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN holder");
    let stage = watch!(&server);
    let mut waiter = Waiter::new(&server, "k BLOCK 0");
    stage.wait_active(&["RedisLockStuck"]);
    release(&mut client, "k", "holder");
    waiter.granted();
    stage.wait_active(&[]);
}

#[test]
fn leases_lapsing_when_a_holder_does_not_come_back() {
    let server = Stage::server().start();
    let stage = watch!(&server);
    let mut client = server.client();
    acquire(&mut client, "k PX 1");
    wait_until("the lease has ended", PATIENCE, || !exists(&mut client, "k"));
    stage.wait_active(&["RedisLockLeasesLapsing"]);
}

#[test]
fn holder_too_late_when_it_extends_what_it_has_lost() {
    let server = Stage::server().start();
    let stage = watch!(&server);
    let mut client = server.client();
    acquire(&mut client, "k TOKEN holder");
    assert_eq!(client.run("LOCK.BREAK k"), Reply::Int(1));
    assert_eq!(client.run("LOCK.EXTEND k holder"), Reply::Int(0));
    stage.wait_active(&["RedisLockHolderTooLate"]);
}

#[test]
fn can_be_evicted_under_a_policy_for_all_keys_and_evicted_when_it_is() {
    let server = Stage::server().config("maxmemory 1gb").start();
    let stage = watch!(&server);
    let mut client = server.client();
    acquire(&mut client, "k TOKEN holder");
    client.ok("CONFIG SET maxmemory-policy allkeys-random");
    stage.wait_active(&["RedisLockCanBeEvicted"]);
    client.ok("CONFIG SET maxmemory 1");
    wait_until("the lock is evicted", PATIENCE, || !exists(&mut client, "k"));
    client.ok("CONFIG SET maxmemory 1gb");
    stage.wait_active(&["RedisLockCanBeEvicted", "RedisLockEvicted"]);
}

#[test]
fn removed_when_a_lock_is_deleted() {
    let server = Stage::server().start();
    let stage = watch!(&server);
    let mut client = server.client();
    acquire(&mut client, "k TOKEN holder");
    assert_eq!(client.run("DEL k"), Reply::Int(1));
    stage.wait_active(&["RedisLockRemoved"]);
}

#[test]
fn removed_when_a_lock_is_moved_to_another_server() {
    let server = Stage::server().start();
    let stage = watch!(&server);
    let other = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN holder");
    client.ok(&format!("MIGRATE 127.0.0.1 {} k 0 5000", other.port()));
    assert!(exists(&mut other.client(), "k"));
    stage.wait_active(&["RedisLockRemoved"]);
}

#[test]
fn queue_nearly_full_and_full_when_the_server_has_no_more_room() {
    let server = Stage::server().config("lock.max-waiters 10").start();
    let stage = watch!(&server);
    fill_queue(&server, &stage);
}

#[test]
fn queue_nearly_full_and_full_when_a_lock_has_no_more_room() {
    let server = Stage::server().config("lock.max-waiters-per-key 10").start();
    let stage = watch!(&server);
    fill_queue(&server, &stage);
}

/// Of which there is room for ten.
fn fill_queue(server: &Server, stage: &Stage) {
    let mut client = server.client();
    acquire(&mut client, "k TOKEN holder");
    queue_up(&mut client, "k", 0, 9);
    stage.wait_active(&["RedisLockQueueNearlyFull"]);
    queue_up(&mut client, "k", 9, 1);
    let reply = client.run("LOCK.ACQUIRE k TOKEN one-more QUEUE 1000");
    assert!(reply.error().starts_with("QUEUEFULL"), "{reply:?}");
    stage.wait_active(&["RedisLockQueueNearlyFull", "RedisLockQueueFull"]);
}

#[test]
fn places_unclaimed_when_who_is_next_does_not_come() {
    let server = Stage::server().config("lock.claim-lease 1").start();
    let stage = watch!(&server);
    let mut client = server.client();
    acquire(&mut client, "k TOKEN holder");
    queue_up(&mut client, "k", 0, 1);
    release(&mut client, "k", "holder");
    wait_until("the lock is free again", PATIENCE, || !exists(&mut client, "k"));
    stage.wait_active(&["RedisLockPlacesUnclaimed"]);
}

#[test]
fn deadlock_when_two_readers_want_to_write() {
    let server = Stage::server().start();
    let stage = watch!(&server);
    let mut client = server.client();
    for token in ["one", "two"] {
        acquire(&mut client, &format!("k SHARED TOKEN {token}"));
    }
    let mut first = Waiter::new(&server, "k TOKEN one LIMIT 1 BLOCK 0");
    let reply = client.run("LOCK.ACQUIRE k TOKEN two LIMIT 1 BLOCK 0");
    assert!(reply.error().starts_with("DEADLOCK"), "{reply:?}");
    release(&mut client, "k", "two");
    first.granted();
    stage.wait_active(&["RedisLockDeadlock"]);
}

/// A replica has a grace as well, which is nobody's concern until it is promoted.
#[test]
fn restart_grace_after_a_promotion() {
    let with_grace = Stage::server().config("lock.restart-grace 600000");
    let pair = Pair::start_with(Stage::server(), with_grace);
    let stage = watch!(&pair.replica);
    let mut client = pair.replica.client();
    client.ok("REPLICAOF NO ONE");
    refused(&mut client, "k");
    stage.wait_active(&["RedisLockRestartGrace"]);
    client.ok("CONFIG SET lock.restart-grace 0");
    stage.wait_active(&[]);
}

#[test]
fn memory_full_when_no_lock_is_granted_for_want_of_it() {
    let server = Stage::server().start();
    let stage = watch!(&server);
    let mut client = server.client();
    client.ok("CONFIG SET maxmemory 1");
    assert!(client.run("LOCK.ACQUIRE k").error().starts_with("OOM"));
    stage.wait_active(&["RedisLockMemoryFull"]);
}

#[test]
fn disk_fails_when_a_snapshot_cannot_be_written() {
    let server = Stage::server().start();
    let stage = watch!(&server);
    let mut client = server.client();
    client.call(&["CONFIG", "SET", "save", "3600 1000000"]);
    // A file cannot take the name of a folder.
    fs::create_dir(server.folder().join("dump.rdb")).unwrap();
    assert!(!client.run("BGSAVE").is_error());
    wait_until("the snapshot has failed", PATIENCE, || {
        client.info("persistence", "rdb_last_bgsave_status") == "err"
    });
    assert!(client.run("LOCK.ACQUIRE k").error().starts_with("MISCONF"));
    stage.wait_active(&["RedisLockDiskFails"]);
}

#[test]
fn too_few_replicas_when_a_master_refuses_writes_without_them() {
    let server = Stage::server().start();
    let stage = watch!(&server);
    let mut client = server.client();
    client.ok("CONFIG SET min-replicas-to-write 1");
    assert!(client.run("LOCK.ACQUIRE k").error().starts_with("NOREPLICAS"));
    stage.wait_active(&["RedisLockTooFewReplicas"]);
}

/// Every alert that there is has a test here.
#[test]
fn every_alert_is_made_to_happen() {
    let rules = fs::read_to_string(format!("{}/alerts.yml", crate::stage::FOLDER)).unwrap();
    let names: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 10, "the alerts were not found: {names:?}");
    let page = fs::read_to_string(format!("{}/README.md", crate::stage::FOLDER)).unwrap();
    for name in names {
        assert!(include_str!("alerts.rs").contains(&format!("\"{name}\"")), "no test makes {name} happen");
        assert!(page.contains(&format!("| {name} |")), "the README does not say what {name} is");
    }
}
