//! A server that takes no writes from clients grants nothing of its own accord either: not while too few replicas keep up
//! (`min-replicas-to-write`), nor while its disk fails (`stop-writes-on-bgsave-error`). Waits still end in time.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::locks::{acquire, null};
use crate::support::waiter::{owners, time_passes};
use crate::support::{Client, PATIENCE, Pair, Server, Waiter, wait_until};

/// How long nothing must happen that would otherwise happen at once.
const A_WHILE: Duration = Duration::from_millis(300);

/// `deny` has the server take no more writes, with an error of this code; `allow` has it take them again.
fn nothing_is_granted(server: &Server, code: &str, deny: impl FnOnce(), allow: impl FnOnce(&mut Client)) {
    let mut client = server.client();
    let mut holder = server.client();
    acquire(&mut holder, "session TOKEN a SESSION PX 60000");
    // Longer than it takes until no more writes are taken.
    acquire(&mut holder, "lease TOKEN a PX 8000");
    let mut after_session = Waiter::new(server, "session TOKEN b OWNER b BLOCK 0");
    let mut after_lease = Waiter::new(server, "lease TOKEN b OWNER b BLOCK 0");
    let mut late = Waiter::new(server, "lease TOKEN c OWNER c BLOCK 3000");
    deny();
    let refusal = client.run("LOCK.ACQUIRE k TOKEN d");
    assert!(refusal.error().starts_with(code), "{refusal:?}");

    drop(holder);
    wait_until("the lease is over", PATIENCE, || client.run("LOCK.CHECK lease a") == null(&client));
    time_passes(Instant::now(), A_WHILE);
    after_session.assert_waiting(server);
    after_lease.assert_waiting(server);
    assert_eq!(late.client.read(), null(&late.client));

    allow(&mut client);
    after_session.granted();
    after_lease.granted();
    assert_eq!(owners(&mut client, "lease").0, ["b"]);
}

#[test]
fn while_too_few_replicas_keep_up_nothing_is_granted() {
    let pair = Pair::start_with(Server::builder().config("min-replicas-to-write 1"), Server::builder());
    let Pair { replica, mut master } = pair;
    wait_until("the replica counts", PATIENCE, || {
        master.client().info("replication", "min_slaves_good_slaves") == "1"
    });
    let mut replica = Some(replica);
    nothing_is_granted(
        &master,
        "NOREPLICAS",
        || {
            replica.take();
            wait_until("the replica is gone", PATIENCE, || {
                master.client().info("replication", "min_slaves_good_slaves") == "0"
            });
        },
        |client| client.ok("CONFIG SET min-replicas-to-write 0"),
    );
    master.assert_alive();
}

#[test]
fn while_the_disk_fails_nothing_is_granted() {
    let mut server = Server::builder().config("save 3600 1000000").start();
    // Where there is a folder of that name no snapshot can be put in place.
    let in_the_way = server.folder().join("dump.rdb");
    fs::create_dir(&in_the_way).unwrap();
    nothing_is_granted(
        &server,
        "MISCONF",
        || {
            let mut client = server.client();
            client.run("BGSAVE");
            wait_until("a snapshot has failed", PATIENCE, || {
                client.info("persistence", "rdb_last_bgsave_status") == "err"
            });
        },
        |client| client.ok("CONFIG SET stop-writes-on-bgsave-error no"),
    );
    fs::remove_dir(&in_the_way).unwrap();
    server.assert_alive();
}
