//! Monitoring as contrib/monitoring describes it: a redis_exporter and a Prometheus that are set up by the words of its README
//! watch a real server. What an alert warns of is made to happen, and Prometheus says which alerts that makes active.
//!
//! Needs prometheus-redis-exporter, prometheus and promtool: `make test-monitoring` gets them. Where they are missing, each
//! test is skipped by name.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod alerts;
mod dashboard;
mod stage;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::process::Command;

use stage::{FOLDER, Stage, info_lock, watch};
use support::locks::acquire;
use support::{PATIENCE, Pair, Server, skip, wait_until};

#[test]
fn every_number_of_info_lock_is_a_series() {
    let server = Stage::server().start();
    let stage = watch!(&server);
    let mut client = server.client();
    acquire(&mut client, "k TOKEN t");
    client.run("LOCK.ACQUIRE k TOKEN other QUEUE 60000").int();
    let said = info_lock(&mut client);
    assert!(said.len() > 20, "{said:?}");
    assert!(said.iter().any(|(name, value)| name == "lock_holds" && *value == 1.0), "{said:?}");
    for (name, value) in said {
        wait_until(&format!("{name} is {value}"), PATIENCE, || {
            let found = stage.query(&format!("redis_script_values{{key=\"{name}\"}}"));
            found.len() == 1 && found[0].value == value
        });
    }
}

/// Whatever state the server is in, what it says of its locks is seen.
#[test]
fn a_replica_that_has_lost_its_master_and_may_serve_no_data_is_seen() {
    let Pair { replica, master } = Pair::start_with(Stage::server(), Stage::server());
    let stage = watch!(&replica);
    drop(master);
    let mut client = replica.client();
    client.ok("CONFIG SET replica-serve-stale-data no");
    wait_until("the replica has lost its master", PATIENCE, || {
        client.info("replication", "master_link_status") == "down"
    });
    assert!(client.run("LOCK.INFO k").error().starts_with("MASTERDOWN"));
    stage.wait_scraped();
    assert_eq!(stage.query("redis_script_values{key=\"lock_keys\"}").len(), 1);
    assert!(stage.active().is_empty());
}

/// Newer versions of redis_exporter can run it by EVAL_RO.
#[test]
fn the_script_only_reads() {
    let server = Server::start();
    let mut client = server.client();
    let script = fs::read_to_string(format!("{FOLDER}/redis-lock.lua")).unwrap();
    let said = client.call(&["EVAL_RO", &script, "0"]);
    assert_eq!(said.items().len(), 2 * info_lock(&mut client).len());
}

#[test]
fn the_rules_pass_their_unit_tests() {
    let server = Stage::server().start();
    if let Err(why) = stage::programs() {
        return skip!(&mut server.client(), "{why}");
    }
    for words in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]] {
        let output = Command::new("promtool").args(words).current_dir(FOLDER).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{words:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
}
