//! The end of leases in numbers: soon after their time, many at once, and while the server may not be written to.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::support::locks::{acquire, exists, null, remaining};
use crate::support::stream::Stream;
use crate::support::{Client, Data, PATIENCE, Random, Reply, Server, cmd, ok_grant, wait_until};

/// How late the end of a lease may be before something is wrong with more than the machine.
const LATE: Duration = Duration::from_secs(5);

/// The server says when it ends a lease, so nobody has to look, and nothing but its timer wakes it.
#[test]
fn leases_end_in_time_on_an_idle_server() {
    const LOCKS: usize = 1_000;
    let mut random = Random::from_environment();
    let server = Server::builder().config("hz 1").config("dynamic-hz no").start();
    let mut client = server.client();
    let mut stream = Stream::of(&server);
    let leases: Vec<u64> = (0..LOCKS).map(|_| 500 + random.next() % 1_500).collect();
    let commands: Vec<_> =
        (0..LOCKS).map(|n| cmd!["LOCK.ACQUIRE", format!("k{n}"), "PX", leases[n]]).collect();
    let asked = Instant::now();
    let replies = client.pipeline(&commands);
    let answered = Instant::now();
    let fences = replies.into_iter().map(|reply| ok_grant(reply).1);
    let grants: HashMap<i64, Duration> = fences.zip(leases.into_iter().map(Duration::from_millis)).collect();

    let mut latenesses = Vec::new();
    while latenesses.len() < LOCKS {
        let command = stream.command();
        if command[0] == b"LOCK.BREAK" {
            let now = Instant::now();
            let fence: i64 = String::from_utf8_lossy(&command[3]).parse().unwrap();
            let lease = grants[&fence];
            assert!(now >= asked + lease, "{lease:?} ended early, after {:?}", now - asked);
            latenesses.push(now.saturating_duration_since(answered + lease));
        }
    }
    latenesses.sort();
    let (median, worst) = (latenesses[LOCKS / 2], latenesses[LOCKS - 1]);
    println!("leases ended late by {median:?} in the median, {worst:?} at worst");
    assert!(worst < LATE, "a lease ended {worst:?} late");
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
}

/// The server sleeps over the end of all of them, so that they are due at one and the same moment.
#[test]
fn very_many_leases_that_end_at_once_do_not_stall_the_server() {
    const LOCKS: usize = 50_000;
    const LOOKS: usize = 300;
    let mut server = Server::start();
    let mut client = server.client();
    for from in (0..LOCKS).step_by(5_000) {
        let commands: Vec<_> = (from..from + 5_000)
            .map(|n| cmd!["LOCK.ACQUIRE", format!("k{n}"), "TOKEN", "a", "PX", 600_000])
            .collect();
        client.pipeline(&commands);
    }
    // In a transaction, in which none is ended.
    client.ok("MULTI");
    for from in (0..LOCKS).step_by(5_000) {
        let commands: Vec<_> =
            (from..from + 5_000).map(|n| cmd!["LOCK.EXTEND", format!("k{n}"), "a", "PX", 1]).collect();
        client.pipeline(&commands);
    }
    client.run("DEBUG SLEEP 3");
    client.send(&["EXEC"]);

    // When it wakes all leases are over, and it ends them while it answers. These requests are there by then, so that it is not
    // up to the client when they are read; they are so long that the server takes several turns to read them.
    let long = "x".repeat(15_000);
    let looks: Vec<_> =
        (0..LOOKS).flat_map(|_| [cmd!["ECHO", long].to_vec(), cmd!["DBSIZE"].to_vec()]).collect();
    let replies = server.client().pipeline(&looks);
    assert_eq!(client.read().items().len(), LOCKS + 1);
    let mut sizes: Vec<i64> = replies.iter().skip(1).step_by(2).map(Reply::int).collect();
    sizes.dedup();
    println!("seen while {LOCKS} leases ended: {sizes:?}");
    // That clients have their turn in between shows in what they see: each time a few more have ended.
    let few = i64::try_from(LOCKS).unwrap() / 20;
    assert!(sizes.len() >= 3 && sizes.windows(2).all(|pair| pair[0] - pair[1] <= few), "seen: {sizes:?}");
    wait_until("all have ended", PATIENCE, || client.run("DBSIZE") == Reply::Int(0));
    server.assert_alive();
}

/// Has the server refuse writes for a while with a lease ending meanwhile, and looks at it from all sides.
#[track_caller]
fn leases_wait_for_the_end_of_a_pause(pause: &str) {
    let mut server = Server::builder().aof().start();
    let mut client = server.client();
    acquire(&mut client, "shared SHARED TOKEN b PX 60000");
    let paused = Instant::now();
    // In one write, so that no lease is over before.
    client.run_all(&["LOCK.ACQUIRE k TOKEN a PX 300", "LOCK.ACQUIRE shared SHARED TOKEN a PX 300", pause]);
    let mut contender = server.client();
    contender.send(&cmd!["LOCK.ACQUIRE", "k", "TOKEN", "b", "PX", 60000]);
    if pause.ends_with("WRITE") {
        // Whoever looks is told the truth meanwhile.
        wait_until("the leases are over", PATIENCE, || {
            remaining(&mut client, "k", "a").is_none() && remaining(&mut client, "shared", "a").is_none()
        });
        assert!(remaining(&mut client, "shared", "b").is_some());
        assert!(!contender.has_reply_within(Duration::from_millis(50)), "granted in the pause");
        client.ok("CLIENT UNPAUSE");
    }
    assert_eq!(ok_grant(contender.read()).0, b"b");
    if pause.ends_with("ALL") {
        assert!(
            paused.elapsed() >= Duration::from_millis(1_490),
            "granted in the pause, after {:?}",
            paused.elapsed()
        );
    }
    // Nobody sees it from the moment it is over; it has ended when the file has it.
    wait_until("the other lease ends too", PATIENCE, || client.info("lock", "lock_lapsed") == "2");
    server.assert_alive();
    server.restart(Data::NoSave);
    let mut client = server.client();
    assert_eq!(remaining(&mut client, "k", "a"), None);
    assert!(remaining(&mut client, "k", "b").is_some());
    assert!(remaining(&mut client, "shared", "b").is_some());
    assert_eq!(remaining(&mut client, "shared", "a"), None);
}

#[test]
fn leases_that_end_while_writes_are_paused_end_after_it() {
    leases_wait_for_the_end_of_a_pause("CLIENT PAUSE 600000 WRITE");
}

#[test]
fn leases_that_end_while_all_clients_are_paused_end_after_it() {
    leases_wait_for_the_end_of_a_pause("CLIENT PAUSE 1500 ALL");
}

/// Nobody comes for the lock: the server itself ends the lease once it may.
#[test]
fn leases_that_end_while_writes_are_paused_end_by_themselves_after_it() {
    let mut server = Server::builder().aof().start();
    let mut client = server.client();
    let mut stream = Stream::of(&server);
    let paused = Instant::now();
    let replies = client.run_all(&["LOCK.ACQUIRE k TOKEN a PX 100", "CLIENT PAUSE 800 WRITE"]);
    let (_, fence) = ok_grant(replies[0].clone());
    wait_until("the lease is over", PATIENCE, || client.run("LOCK.CHECK k a") == null(&client));
    let ended =
        std::iter::repeat_with(|| stream.command()).find(|command| command[0] == b"LOCK.BREAK").unwrap();
    assert_eq!(ended, cmd!["LOCK.BREAK", "k", "FENCE", fence]);
    assert!(
        paused.elapsed() >= Duration::from_millis(790),
        "written in the pause, after {:?}",
        paused.elapsed()
    );
    assert!(!exists(&mut client, "k"));
    server.assert_alive();
}

/// With a replica, and a lease that ends while the server waits for it to catch up before it shuts down.
#[test]
fn a_lease_that_ends_during_an_orderly_shutdown_does_not_bring_the_server_down() {
    let master = Server::builder().aof().config("shutdown-timeout 2");
    let mut pair = crate::support::Pair::start_with(master, Server::builder());
    let mut client = pair.master.client();
    let stopped = |name: &str| {
        let id = pair.replica.pid().to_string();
        std::process::Command::new("kill").args([name, &id]).status().is_ok_and(|status| status.success())
    };
    assert!(stopped("-STOP"));
    acquire(&mut client, "k TOKEN a PX 300");
    acquire(&mut client, "stays TOKEN a PX 60000");
    pair.master.stop(Data::NoSave);
    assert!(stopped("-CONT"));
    pair.master.start_again();
    let mut client = pair.master.client();
    assert!(remaining(&mut client, "stays", "a").is_some());
    wait_until("the other lease ends", PATIENCE, || !exists(&mut client, "k"));
    pair.master.assert_alive();
}

/// A key under which leases end all the time, and one that is never taken off the index too early.
#[test]
fn a_lock_taken_over_and_over_ends_with_its_last_lease() {
    let server = Server::start();
    let mut client = server.client();
    let commands: Vec<Vec<Vec<u8>>> = (0..2_000)
        .flat_map(|n| {
            let lease = if n % 2 == 0 { 1 } else { 60_000 };
            [
                cmd!["LOCK.ACQUIRE", "k", "TOKEN", "a", "PX", lease].to_vec(),
                cmd!["LOCK.RELEASE", "k", "a"].to_vec(),
            ]
        })
        .collect();
    client.pipeline(&commands);
    let began = Instant::now();
    acquire(&mut client, "k TOKEN a PX 500");
    wait_until("the last lease ends", PATIENCE, || !exists(&mut client, "k"));
    assert!(began.elapsed() >= Duration::from_millis(499), "too early, after {:?}", began.elapsed());
    assert_no_growth(&mut client, &commands);
}

/// Leases that were given back early leave nothing in the index.
#[track_caller]
fn assert_no_growth(client: &mut Client, commands: &[Vec<Vec<u8>>]) {
    let used = |client: &mut Client| client.info("memory", "used_memory").parse::<i64>().unwrap();
    let before = used(client);
    (0..10).for_each(|_| drop(client.pipeline(commands)));
    let grown = used(client) - before;
    assert!(grown < 256 * 1_024, "{grown} bytes are left behind");
}

/// In a transaction and in a script a server may tell of the key's arrival otherwise than outside of them.
#[test]
fn a_lock_moved_in_a_transaction_or_a_script_ends_in_its_time() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "transaction TOKEN a PX 100");
    acquire(&mut client, "script TOKEN a PX 100");
    client.run_all(&["MULTI", "MOVE transaction 2", "EXEC", "SELECT 0"]);
    client.call(&cmd!["EVAL", "return redis.call('MOVE', KEYS[1], 2)", 1, "script"]);
    client.ok("SELECT 2");
    wait_until("both have ended", PATIENCE, || client.run("DBSIZE") == Reply::Int(0));
}
