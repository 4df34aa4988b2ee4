//! A server that nobody listens to, neither replica nor append-only file, passes on nothing. Whoever comes to listen
//! later misses nothing all the same.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::locks::acquire;
use crate::support::{Data, PATIENCE, Reply, Server, caught_up, wait_until};

/// The server's tick, at which it finds itself alone, has passed a few times over.
const ALONE: Duration = Duration::from_millis(500);

fn digest(server: &Server) -> Reply {
    server.client().run("DEBUG DIGEST")
}

/// Has two clients take and give back locks, some of which stay, while `meanwhile` runs.
fn under_load(server: &Server, meanwhile: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for client in 0..2 {
            let (stop, server) = (&stop, &server);
            scope.spawn(move || {
                let mut connection = server.client();
                for round in 0..20_000 {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let key = format!("{client}:{}", round % 50);
                    acquire(&mut connection, &format!("{key} TOKEN t PX 600000"));
                    if round % 3 > 0 {
                        connection.run(&format!("LOCK.RELEASE {key} t"));
                    }
                }
            });
        }
        meanwhile();
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_first_replica_that_comes_under_load_has_every_lock() {
    for diskless in ["yes", "no"] {
        let master = Server::builder().config(&format!("repl-diskless-sync {diskless}")).start();
        thread::sleep(ALONE);
        let mut replica = None;
        under_load(&master, || {
            let started = Server::builder().replica_of(&master).start();
            caught_up(&master, &started);
            replica = Some(started);
        });
        let replica = replica.unwrap();
        caught_up(&master, &replica);
        assert_eq!(digest(&replica), digest(&master), "diskless: {diskless}");
    }
}

#[test]
fn an_append_only_file_that_is_begun_under_load_has_every_lock() {
    let mut server = Server::builder().config("aof-use-rdb-preamble no").start();
    thread::sleep(ALONE);
    under_load(&server, || {
        let mut client = server.client();
        client.run("CONFIG SET appendonly yes");
        client.run("CONFIG REWRITE");
        wait_until("the file is complete", PATIENCE, || {
            client.info("persistence", "aof_rewrite_in_progress") == "0"
                && client.info("persistence", "aof_rewrite_scheduled") == "0"
        });
    });
    let before = digest(&server);
    server.restart(Data::NoSave);
    assert_eq!(digest(&server), before);
}

/// The backlog begins when a replica asks, the fork for it comes later, and a snapshot by SAVE comes without one.
#[test]
fn a_replica_started_on_a_copy_of_a_snapshot_has_every_lock() {
    let master = Server::builder().config("repl-diskless-sync-delay 60").start();
    thread::sleep(ALONE);
    let mut passer_by = master.client();
    passer_by.run("REPLCONF capa eof");
    passer_by.send(&["PSYNC", "?", "-1"]);
    let mut client = master.client();
    wait_until("the backlog is there", PATIENCE, || client.info("replication", "repl_backlog_active") == "1");
    drop(passer_by);
    client.run("SAVE");
    for request in ["k", "k2 TOKEN a BLOCK 0", "k3 SHARED", "k4 TOKEN d PX 60000"] {
        acquire(&mut client, request);
    }
    let mut replica = Server::builder().replica_of(&master).start();
    replica.stop(Data::NoSave);
    fs::copy(master.folder().join("dump.rdb"), replica.folder().join("dump.rdb")).unwrap();
    replica.start_again();
    caught_up(&master, &replica);
    assert!(
        replica.log().contains("Successful partial resynchronization"),
        "it was to go on from the snapshot"
    );
    assert_eq!(digest(&replica), digest(&master));
}
