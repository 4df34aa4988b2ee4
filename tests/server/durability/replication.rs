//! Replication: replicas and their replicas agree with their master, decide nothing themselves, and know all once one
//! of them is promoted.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::locks::{acquire, exists, fence_of, held, ok_grant, remaining, standing};
use crate::support::payload::{far_fence, raise_fences};
use crate::support::signal::{go_on, stop};
use crate::support::stock::{DATABASES, Stock, agree, select};
use crate::support::stream::Stream;
use crate::support::{Builder, PATIENCE, Pair, Reply, Server, Waiter, errors, wait_until};

/// What a server writes into its own file for its own sake is nobody else's business.
#[test]
fn a_rewrite_of_the_append_only_file_is_not_told_to_replicas() {
    let server = Server::builder().aof().config("aof-use-rdb-preamble no").start();
    let mut client = server.client();
    let fence = fence_of(&mut client, "k TOKEN a PX 60000");
    let mut stream = Stream::of(&server);
    server.rewrite_aof();
    client.ok("CONFIG SET appendonly no");
    client.ok("CONFIG SET appendonly yes");
    wait_until("the file is made", PATIENCE, || {
        client.info("persistence", "aof_rewrite_in_progress") == "0"
            && client.info("persistence", "aof_rewrite_scheduled") == "0"
    });
    assert_eq!(client.run("LOCK.RELEASE k a"), Reply::Int(1));
    assert!(fence_of(&mut client, "k TOKEN b PX 60000") > fence);
    let said = stream.until_now(&mut client);
    let commands: Vec<&[u8]> = said.iter().map(|said| &said.command[0][..]).collect();
    assert_eq!(commands, [b"LOCK.RELEASE", b"LOCK.ACQUIRE"], "{said:?}");
}

/// Leases that end while the server does something else are still there when the next command asks for the lock.
#[test]
fn a_grant_after_very_many_leases_have_ended_leaves_master_and_replica_alike() {
    for running in [0, 1, 200] {
        let pair = Pair::start();
        let mut client = pair.master.client();
        let ended = (0..300).map(|number| format!("LOCK.ACQUIRE k TOKEN e{number} SHARED PX 300"));
        let runs = (0..running).map(|number| format!("LOCK.ACQUIRE k TOKEN r{number} SHARED PX 60000"));
        let commands: Vec<String> = ended.chain(runs).collect();
        let last = format!("LOCK.ACQUIRE k TOKEN new LIMIT {}", running + 1);
        let mut commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        commands.extend(["DEBUG SLEEP 0.4", last.as_str()]);
        let replies = client.run_all(&commands);
        ok_grant(replies.last().unwrap().clone());
        assert_eq!(held(&mut client, "k"), running + 1);
        pair.wait_caught_up();
        agree(&pair.master, &pair.replica);
        assert_eq!(held(&mut pair.replica.client(), "k"), running + 1);
    }
}

/// A replica that comes to a master which holds locks already.
#[track_caller]
fn a_full_sync_brings_every_lock(master: Builder, replica: Builder) {
    let master = master.config("rdbcompression no").start();
    let mut client = master.client();
    raise_fences(&mut client);
    let stock = Stock::lay_in(&mut client);
    select(&mut client, 1);
    acquire(&mut client, "brief TOKEN a PX 1500");
    acquire(&mut client, "later TOKEN a PX 3000");
    let began = Instant::now();
    let newest = fence_of(&mut client, "gone TOKEN a PX 60000");
    client.run("LOCK.RELEASE gone a");
    let before = stock.view(&mut client);

    // The replica has locks of its own, which the sync replaces.
    let replica = replica.start();
    let mut reader = replica.client();
    acquire(&mut reader, "its-own TOKEN a PX 200");
    acquire(&mut reader, "a TOKEN x PX 200");
    reader.ok(&format!("REPLICAOF 127.0.0.1 {}", master.port()));
    let pair = Pair { replica, master };
    pair.wait_caught_up();
    agree(&pair.master, &pair.replica);
    stock.view(&mut reader).assert_is_later_than(&before);
    select(&mut reader, 0);
    assert!(!exists(&mut reader, "its-own"));

    // The leases of before the sync touch nothing, and those that came with it end as the master says.
    select(&mut reader, 1);
    wait_until("the lease ends on both", PATIENCE, || !exists(&mut reader, "brief"));
    agree(&pair.master, &pair.replica);
    select(&mut reader, 0);
    assert!(exists(&mut reader, "a"), "the lock of the same name is the master's, and is still there");

    // Promoted, the replica ends the leases that came with the sync, and goes on above every fence, those that no
    // lock carries any more among them.
    reader.ok("REPLICAOF NO ONE");
    select(&mut reader, 1);
    wait_until("the lease ends on the promoted replica", PATIENCE, || !exists(&mut reader, "later"));
    assert!(began.elapsed() >= Duration::from_millis(2_900), "too early, after {:?}", began.elapsed());
    select(&mut reader, 0);
    assert!(fence_of(&mut reader, "next") > newest);
    assert_eq!(reader.run("LOCK.BREAK next"), Reply::Int(1));
    stock.view(&mut reader).assert_is_later_than(&before);
}

#[test]
fn a_full_sync_by_way_of_the_disk_brings_every_lock() {
    let disk = || Server::builder().config("repl-diskless-sync no");
    a_full_sync_brings_every_lock(disk(), Server::builder().config("repl-diskless-load disabled"));
}

#[test]
fn a_full_sync_without_a_disk_brings_every_lock() {
    let diskless = || Server::builder().config("repl-diskless-sync yes");
    a_full_sync_brings_every_lock(diskless(), Server::builder().config("repl-diskless-load swapdb"));
    a_full_sync_brings_every_lock(diskless(), Server::builder().config("repl-diskless-load on-empty-db"));
}

/// A pair whose stream flows already: a replica that has just been read in is told nothing for up to a second, in which
/// a short lease would end.
#[track_caller]
fn flowing_pair() -> Pair {
    let pair = Pair::start();
    for command in ["SET flows 1", "DEL flows"] {
        pair.master.client().run(command);
        pair.wait_caught_up();
    }
    pair
}

#[test]
fn after_a_lost_link_the_replica_catches_up() {
    let pair = flowing_pair();
    let mut client = pair.master.client();
    acquire(&mut client, "released TOKEN a PX 60000");
    acquire(&mut client, "expired TOKEN a PX 300");
    acquire(&mut client, "kept TOKEN a PX 60000");
    pair.wait_caught_up();
    stop(&pair.replica);
    client.run("CLIENT KILL TYPE replica");
    client.run("LOCK.RELEASE released a");
    let fence = fence_of(&mut client, "new TOKEN a PX 60000");
    wait_until("the lease ends on the master", PATIENCE, || !exists(&mut client, "expired"));
    go_on(&pair.replica);
    pair.wait_caught_up();
    agree(&pair.master, &pair.replica);
    assert_ne!(client.info("stats", "sync_partial_ok"), "0", "by the backlog, not by a full sync");
    let mut reader = pair.replica.client();
    assert!(!exists(&mut reader, "expired") && !exists(&mut reader, "released"));
    reader.ok("REPLICAOF NO ONE");
    assert!(fence_of(&mut reader, "next") > fence);
}

/// With its master silent, a replica lets no lock go: what it says of a token is by its own clock, but the key stays.
#[test]
fn a_replica_ends_no_lease() {
    let pair = flowing_pair();
    let mut client = pair.master.client();
    // Longer than it takes until the master is silent.
    acquire(&mut client, "k TOKEN a PX 4000");
    acquire(&mut client, "shared SHARED TOKEN a PX 4000");
    acquire(&mut client, "shared SHARED TOKEN b PX 60000");
    pair.wait_caught_up();
    stop(&pair.master);
    let mut reader = pair.replica.client();
    wait_until("the leases are over", PATIENCE, || {
        remaining(&mut reader, "k", "a").is_none() && remaining(&mut reader, "shared", "a").is_none()
    });
    // Many turns of every timer the replica has.
    let watched = Instant::now();
    while watched.elapsed() < Duration::from_millis(500) {
        assert!(exists(&mut reader, "k"), "the replica ended a lease");
        assert_eq!(remaining(&mut reader, "k", "a"), None);
        thread::sleep(Duration::from_millis(5));
    }
    assert!(remaining(&mut reader, "shared", "b").is_some());
    go_on(&pair.master);
    wait_until("the master ends the lease", PATIENCE, || !exists(&mut reader, "k"));
    agree(&pair.master, &pair.replica);
}

/// A hold that has ended by the replica's clock is given back or extended all the same when the master says so. The
/// clocks are brought apart by shortening the lease on a replica that can be written to.
#[test]
fn a_replica_obeys_for_a_lease_that_has_ended_on_its_own_clock() {
    let pair = Pair::start();
    let mut client = pair.master.client();
    let mut writer = pair.replica.client();
    writer.ok("CONFIG SET replica-read-only no");
    for key in ["released", "extended", "retried"] {
        acquire(&mut client, &format!("{key} TOKEN a PX 60000"));
    }
    pair.wait_caught_up();
    for key in ["released", "extended", "retried"] {
        assert_eq!(writer.run(&format!("LOCK.EXTEND {key} a PX 1")), Reply::Int(1));
        wait_until("the lease is over there", PATIENCE, || remaining(&mut writer, key, "a").is_none());
        assert!(exists(&mut writer, key));
    }
    assert_eq!(client.run("LOCK.RELEASE released a"), Reply::Int(1));
    assert_eq!(client.run("LOCK.EXTEND extended a PX 70000"), Reply::Int(1));
    acquire(&mut client, "retried TOKEN a PX 70000");
    pair.wait_caught_up();
    assert!(!exists(&mut writer, "released"));
    for key in ["extended", "retried"] {
        assert!(remaining(&mut writer, key, "a").is_some_and(|left| left > 60_000), "{key}");
    }
    agree(&pair.master, &pair.replica);
}

#[test]
fn a_promoted_replica_ends_the_leases_it_knew() {
    let mut pair = flowing_pair();
    let mut client = pair.master.client();
    for database in DATABASES {
        select(&mut client, database);
        acquire(&mut client, "over TOKEN a PX 300");
        acquire(&mut client, "later SHARED TOKEN a PX 1500");
        acquire(&mut client, "later SHARED TOKEN b PX 600000");
    }
    let began = Instant::now();
    pair.wait_caught_up();
    stop(&pair.master);
    let mut reader = pair.replica.client();
    wait_until("a lease is over", PATIENCE, || remaining(&mut reader, "over", "a").is_none());
    reader.ok("REPLICAOF NO ONE");
    for database in DATABASES {
        select(&mut reader, database);
        wait_until("what was over by then ends", PATIENCE, || !exists(&mut reader, "over"));
        wait_until("what was not over ends in its time", PATIENCE, || {
            crate::support::locks::holders(&mut reader, "later").len() == 1
        });
        assert!(
            began.elapsed() >= Duration::from_millis(1_400),
            "a lease ended early: {:?}",
            began.elapsed()
        );
        assert!(remaining(&mut reader, "later", "b").is_some());
    }
    pair.replica.assert_alive();
}

/// The fences are far ahead of the clock, so that the promoted server can know them from the stream alone.
#[test]
fn a_promoted_replica_goes_on_above_every_fence_of_its_master() {
    let with_far_fences = || Server::builder().config("rdbcompression no");
    let pair = Pair::start_with(with_far_fences(), Server::builder());
    let mut client = pair.master.client();
    raise_fences(&mut client);
    let newest = fence_of(&mut client, "k TOKEN a PX 60000");
    assert!(newest > far_fence());
    assert_eq!(client.run("LOCK.RELEASE k a"), Reply::Int(1));
    pair.wait_caught_up();
    let mut reader = pair.replica.client();
    reader.ok("REPLICAOF NO ONE");
    assert!(fence_of(&mut reader, "k") > newest);
}

#[test]
fn nobody_but_a_master_may_say_what_was_decided() {
    let pair = Pair::start();
    let mut stream = Stream::of(&pair.master);
    let mut client = pair.master.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    let commands = std::iter::repeat_with(|| stream.command());
    let mut grants = commands.filter(|command| command[0] == b"LOCK.ACQUIRE");
    let grant = grants.next().unwrap();
    assert_eq!(client.run("LOCK.BREAK k"), Reply::Int(1));
    pair.wait_caught_up();
    let mut writer = pair.replica.client();
    writer.ok("CONFIG SET replica-read-only no");
    let syntax = Reply::Error(errors::SYNTAX.into());
    for client in [&mut client, &mut writer] {
        assert_eq!(client.call(&grant), syntax);
        assert_eq!(client.run("LOCK.FENCE 5"), syntax);
        assert!(!exists(client, "k"));
    }
}

#[test]
fn a_replica_answers_who_looks_and_refuses_who_asks() {
    let pair = Pair::start();
    let mut client = pair.master.client();
    let grant = acquire(&mut client, "k TOKEN a PX 60000 OWNER me");
    pair.wait_caught_up();
    let mut reader = pair.replica.client();
    let check = reader.run("LOCK.CHECK k a");
    assert_eq!(check.items()[0], Reply::Int(grant.fence));
    assert_eq!(standing(&mut reader, "k"), standing(&mut client, "k"));
    for command in
        ["LOCK.ACQUIRE l", "LOCK.ACQUIRE k TOKEN a", "LOCK.RELEASE k a", "LOCK.EXTEND k a", "LOCK.BREAK k"]
    {
        assert!(reader.run(command).error().starts_with("READONLY"), "{command}");
    }
}

#[test]
fn a_replica_has_no_waiters_and_lets_nobody_wait() {
    let pair = Pair::start();
    let (mut client, mut reader) = (pair.master.client(), pair.replica.client());
    acquire(&mut client, "k TOKEN a PX 60000");
    let waiter = Waiter::new(&pair.master, "k TOKEN b BLOCK 0");
    pair.wait_caught_up();
    assert_eq!(crate::support::waiter::waiting(&mut reader, "k"), 0);
    let reply = reader.run("LOCK.ACQUIRE k BLOCK 0");
    assert!(reply.error().starts_with("READONLY "), "{reply:?}");
    waiter.assert_waiting(&pair.master);
}

/// WAIT and WAITAOF speak of what the client's own commands wrote. A grant that it waited for was written in the turn of
/// somebody else's command, and counts as its own all the same.
#[test]
fn who_was_handed_a_lock_can_wait_for_replicas_and_the_disk_to_have_it() {
    for cause in ["LOCK.RELEASE k a", "LOCK.EXTEND k a PX 1", "DEL k"] {
        let pair = Pair::start_with(Server::builder().aof(), Server::builder().aof());
        let mut client = pair.master.client();
        acquire(&mut client, "k TOKEN a PX 600000");
        let mut waiter = Waiter::new(&pair.master, "k TOKEN b PX 600000 BLOCK 0");
        pair.wait_caught_up();
        stop(&pair.replica);
        client.run(cause);
        waiter.granted();
        assert_eq!(waiter.client.run("WAIT 1 100"), Reply::Int(0), "{cause}: the replica is silent");
        if !client.run("COMMAND INFO WAITAOF").items()[0].is_null() {
            let written = waiter.client.run("WAITAOF 1 1 100");
            assert_eq!(written, Reply::Array(vec![Reply::Int(1), Reply::Int(0)]), "{cause}");
        }
        go_on(&pair.replica);
        assert_eq!(waiter.client.run("WAIT 1 20000"), Reply::Int(1), "{cause}");
        assert!(remaining(&mut pair.replica.client(), "k", "b").is_some(), "{cause}: the replica has it");
    }
}
