//! `INFO lock` says what has happened, to the last one.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::figures::{TOTALS, figures};
use crate::support::locks::{acquire, refused};
use crate::support::waiter::{release, wait_blocked};
use crate::support::{Client, Data, PATIENCE, Pair, Reply, Server, Waiter, caught_up, cmd, wait_until};

/// What is so now.
const GAUGES: [&str; 7] = [
    "keys",
    "holds",
    "waiters_blocked",
    "waiters_queued",
    "longest_queue",
    "last_fence",
    "restart_grace_left_ms",
];

/// Spans.
const SPANS: [&str; 6] =
    ["wait_ms_p50", "wait_ms_p99", "wait_ms_max", "hold_ms_p50", "hold_ms_p99", "hold_ms_max"];

fn figure(client: &mut Client, name: &str) -> i64 {
    figures(client, "lock")[name]
}

/// What the figures of a server are to be: nothing at first, and what is added.
struct Books {
    expected: BTreeMap<&'static str, i64>,
}

impl Books {
    fn new() -> Self {
        Self { expected: TOTALS.iter().map(|name| (*name, 0)).collect() }
    }

    /// So much has happened, and nothing else.
    #[track_caller]
    fn add(&mut self, client: &mut Client, happened: &[(&'static str, i64)]) {
        for (name, number) in happened {
            *self.expected.get_mut(name).expect("a total") += number;
            if ENDINGS.contains(name) {
                *self.expected.get_mut("holds_ended").unwrap() += number;
            }
        }
        let mut last = BTreeMap::new();
        let is_so = || {
            let all = figures(client, "lock");
            last = TOTALS.iter().map(|name| (*name, all[*name])).collect();
            last == self.expected
        };
        let is_so = poll(is_so);
        assert!(is_so, "{last:?}\nexpected: {:?}\nafter {happened:?}", self.expected);
    }
}

const ENDINGS: [&str; 9] =
    ["released", "lapsed", "unclaimed", "broken", "sessions_closed", "undone", "evicted", "removed", "moved"];

fn poll(mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
    true
}

#[test]
fn the_section_is_in_info_lock_everything_and_modules_and_all_of_it_are_numbers() {
    let server = Server::start();
    let mut client = server.client();
    let all: Vec<&str> = [&GAUGES[..], &TOTALS, &SPANS].concat();
    for section in ["lock", "everything", "modules"] {
        let mut names: Vec<String> = figures(&mut client, section).into_keys().collect();
        let mut expected: Vec<String> = all.iter().map(|name| (*name).to_owned()).collect();
        names.sort();
        expected.sort();
        assert_eq!(names, expected, "INFO {section}");
    }
    assert!(figures(&mut client, "server").is_empty());
    assert!(figures(&mut client, "lock").values().all(|number| *number == 0), "nothing has happened");
}

#[test]
fn of_a_string_that_counts_as_a_lock_requests_are_counted_and_no_hold() {
    let server = Server::builder().config("lock.adopt-strings yes").start();
    let mut client = server.client();
    let mut books = Books::new();
    client.ok("SET s a PX 60000");
    acquire(&mut client, "s TOKEN a");
    refused(&mut client, "s TOKEN b");
    client.run("LOCK.EXTEND s a");
    client.run("LOCK.EXTEND s b");
    client.run("LOCK.RELEASE s b");
    let requests = [("refusals", 1), ("extensions", 1), ("refused_extensions", 1), ("refused_releases", 1)];
    books.add(&mut client, &requests);
    assert_eq!(figure(&mut client, "holds"), 0);
    client.run("LOCK.RELEASE s a");
    books.add(&mut client, &[("releases", 1)]);
    client.ok("SET s a PX 60000");
    client.run("LOCK.BREAK s");
    books.add(&mut client, &[]);
}

#[test]
fn what_commands_come_to_is_counted() {
    let server = Server::start();
    let mut client = server.client();
    let mut books = Books::new();
    acquire(&mut client, "k TOKEN a");
    books.add(&mut client, &[("grants", 1)]);
    acquire(&mut client, "k TOKEN a");
    books.add(&mut client, &[]);
    refused(&mut client, "k TOKEN b");
    refused(&mut client, "k LEVEL 2 TOKEN b");
    books.add(&mut client, &[("refusals", 2)]);
    client.run("LOCK.EXTEND k a PX 5000");
    client.run("LOCK.EXTEND k b");
    client.run("LOCK.RELEASE k b");
    books.add(&mut client, &[("extensions", 1), ("refused_extensions", 1), ("refused_releases", 1)]);
    acquire(&mut client, "k TOKEN a LEVEL 2");
    client.run("LOCK.RELEASE k a LEVEL 2");
    books.add(&mut client, &[("releases", 1)]);
    client.run("LOCK.RELEASE k a");
    books.add(&mut client, &[("releases", 1), ("released", 1)]);
    for token in ["a", "b", "c"] {
        acquire(&mut client, &format!("s TOKEN {token} SHARED"));
    }
    books.add(&mut client, &[("grants", 3)]);
    client.run("LOCK.BREAK s");
    client.run("LOCK.BREAK s");
    books.add(&mut client, &[("broken", 3)]);
    // Of no command is anything counted that fails before it is judged.
    client.ok("SET string x");
    assert!(client.run("LOCK.ACQUIRE string").is_error());
    assert!(client.run("LOCK.ACQUIRE k PX x").is_error());
    books.add(&mut client, &[]);
}

#[test]
fn waits_are_counted_by_how_they_end() {
    let server = Server::start();
    let mut client = server.client();
    let mut books = Books::new();
    acquire(&mut client, "k TOKEN a PX 600000");
    let mut served = Waiter::new(&server, "k TOKEN b PX 600000 BLOCK 0");
    let mut late = Waiter::new(&server, "k TOKEN c BLOCK 20");
    late.refused();
    books.add(&mut client, &[("grants", 1), ("timeouts", 1)]);
    release(&mut client, "k", "a");
    served.granted();
    books.add(&mut client, &[("releases", 1), ("released", 1), ("grants", 1), ("grants_after_wait", 1)]);
    // Nobody who leaves by itself has waited too long.
    drop(Waiter::new(&server, "k TOKEN d BLOCK 0"));
    wait_blocked(&server, 0);
    books.add(&mut client, &[]);
    // A place is kept when BLOCK ends, and its time is over when nobody comes back.
    let mut kept = Waiter::new(&server, "k TOKEN e BLOCK 20 QUEUE 40");
    kept.reply();
    books.add(&mut client, &[("timeouts", 1)]);
    client.ok("CONFIG SET lock.max-waiters 0");
    assert!(client.run("LOCK.ACQUIRE k BLOCK 0").error().starts_with("QUEUEFULL"));
    client.ok("CONFIG SET lock.max-waiters 10");
    books.add(&mut client, &[("queue_full", 1)]);
    // Two readers who both wait to become the writer.
    for token in ["x", "y"] {
        acquire(&mut client, &format!("s TOKEN {token} SHARED PX 600000"));
    }
    let mut writer = Waiter::new(&server, "s TOKEN x LIMIT 1 PX 600000 BLOCK 0");
    assert!(client.run("LOCK.ACQUIRE s TOKEN y LIMIT 1 BLOCK 0").error().starts_with("DEADLOCK"));
    books.add(&mut client, &[("grants", 2), ("deadlocks", 1)]);
    release(&mut client, "s", "y");
    writer.granted();
    books.add(&mut client, &[("releases", 1), ("released", 1)]);
}

#[test]
fn what_ends_by_itself_is_counted_by_why() {
    let server = Server::builder().config("lock.claim-lease 30").start();
    let mut client = server.client();
    let mut books = Books::new();
    acquire(&mut client, "k PX 20");
    books.add(&mut client, &[("grants", 1), ("lapsed", 1)]);
    let mut session = server.client();
    acquire(&mut session, "k SESSION TOKEN a");
    acquire(&mut session, "l SESSION TOKEN a");
    drop(session);
    books.add(&mut client, &[("grants", 2), ("sessions_closed", 2)]);
    // A place that nobody comes back to.
    acquire(&mut client, "k TOKEN a PX 600000");
    client.run("LOCK.ACQUIRE k TOKEN b QUEUE 600000");
    release(&mut client, "k", "a");
    books.add(
        &mut client,
        &[("grants", 2), ("grants_after_wait", 1), ("releases", 1), ("released", 1), ("unclaimed", 1)],
    );
    // A waiter that is unblocked in the iteration in which it is granted: it is not told, and the grant is undone.
    acquire(&mut client, "k TOKEN a PX 600000");
    let waiter = Waiter::new(&server, "k TOKEN b PX 600000 BLOCK 0");
    let id = waiter.id;
    client.run_all(&["LOCK.RELEASE k a", &format!("CLIENT KILL ID {id}")]);
    books.add(
        &mut client,
        &[("grants", 2), ("grants_after_wait", 1), ("releases", 1), ("released", 1), ("undone", 1)],
    );
    assert_eq!(figure(&mut client, "holds"), 0);
}

#[test]
fn what_other_commands_take_away_is_removed_and_what_they_move_is_not() {
    let server = Server::start();
    let mut client = server.client();
    let mut books = Books::new();
    for token in ["a", "b"] {
        acquire(&mut client, &format!("k TOKEN {token} SHARED PX 600000"));
    }
    // In one go, so that the figures are right at any moment.
    let replies = client.run_all(&["DEL k", "INFO lock"]);
    assert!(replies[1].text().contains("lock_removed:2\r\n"), "{:?}", replies[1]);
    books.add(&mut client, &[("grants", 2), ("removed", 2)]);
    let taken: [&[&str]; 5] = [
        &["SET k x", "DEL k"],
        &["PEXPIRE k 1"],
        &["FLUSHDB"],
        &["FLUSHALL"],
        &["SET other x", "RENAME other k", "DEL k"],
    ];
    for commands in taken {
        acquire(&mut client, "k PX 600000");
        commands.iter().for_each(|command| drop(client.run(command)));
        books.add(&mut client, &[("grants", 1), ("removed", 1)]);
    }
    acquire(&mut client, "k TOKEN a PX 600000");
    acquire(&mut client, "l TOKEN a PX 600000");
    client.ok("RENAME k l");
    books.add(&mut client, &[("grants", 2), ("removed", 1)]);
    client.ok("RENAME l m");
    client.run("MOVE m 1");
    client.ok("SWAPDB 0 1");
    books.add(&mut client, &[]);
    assert_eq!((figure(&mut client, "keys"), figure(&mut client, "holds")), (1, 1));
    assert_eq!(client.run("LOCK.RELEASE m a"), Reply::Int(1));
    books.add(&mut client, &[("releases", 1), ("released", 1)]);
    assert_eq!((figure(&mut client, "keys"), figure(&mut client, "holds")), (0, 0));
}

#[test]
fn evictions_are_told_from_other_removals() {
    let server = Server::start();
    let mut client = server.client();
    let mut books = Books::new();
    for number in 0..20 {
        acquire(&mut client, &format!("k{number} PX 600000"));
    }
    client.ok("CONFIG SET maxmemory-policy allkeys-random");
    client.ok("CONFIG SET maxmemory 1");
    // Whatever may need memory has the server evict first.
    wait_until("every lock is evicted", PATIENCE, || {
        client.run("SET k x");
        client.run("DBSIZE") == Reply::Int(0)
    });
    client.ok("CONFIG SET maxmemory 0");
    books.add(&mut client, &[("grants", 20), ("evicted", 20)]);
}

#[test]
fn what_is_so_now_follows_holds_and_waiters() {
    let server = Server::start();
    let mut client = server.client();
    let now = |client: &mut Client| {
        let all = figures(client, "lock");
        ["keys", "holds", "waiters_blocked", "waiters_queued", "longest_queue"].map(|name| all[name])
    };
    let fence = acquire(&mut client, "k TOKEN a PX 600000").fence;
    assert_eq!(figure(&mut client, "last_fence"), fence);
    for number in 0..20 {
        acquire(&mut client, &format!("s TOKEN t{number} SHARED PX 600000"));
    }
    assert_eq!(now(&mut client), [2, 21, 0, 0, 0]);
    let waiters: Vec<Waiter> =
        (0..3).map(|number| Waiter::new(&server, &format!("k TOKEN w{number} BLOCK 0"))).collect();
    client.run("LOCK.ACQUIRE k TOKEN p QUEUE 600000");
    client.run("LOCK.ACQUIRE s TOKEN p QUEUE 600000");
    assert_eq!(now(&mut client), [2, 21, 3, 2, 4]);
    drop(waiters);
    wait_blocked(&server, 0);
    client.run("LOCK.BREAK s");
    assert_eq!(now(&mut client), [2, 2, 0, 1, 1], "the place at s has its lock");
    client.ok("FLUSHALL");
    wait_until("the place at k has its lock", PATIENCE, || now(&mut client) == [1, 1, 0, 0, 0]);
}

#[test]
fn spans_are_of_waits_that_ended_in_a_grant_and_of_holds_that_ended() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    let mut waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
    thread::sleep(Duration::from_millis(30));
    release(&mut client, "k", "a");
    waiter.granted();
    let all = figures(&mut client, "lock");
    let spans = SPANS.map(|name| all[name]);
    assert!(spans.iter().all(|span| (30..60_000).contains(span)), "{spans:?}");
    assert!(all["hold_ms_max"] >= all["wait_ms_max"], "{spans:?}");
    for number in 0..200 {
        acquire(&mut client, &format!("l TOKEN t{number}"));
        release(&mut client, "l", format!("t{number}"));
    }
    let all = figures(&mut client, "lock");
    assert!(all["hold_ms_p50"] < 30, "{all:?}");
    assert!(all["hold_ms_max"] >= 30, "{all:?}");
}

#[test]
fn what_was_decided_elsewhere_is_not_counted_again() {
    let Pair { mut master, replica } = Pair::start();
    let mut client = master.client();
    let mut books = Books::new();
    for token in ["a", "b", "c"] {
        acquire(&mut client, &format!("k TOKEN {token} SHARED PX 600000"));
    }
    release(&mut client, "k", "a");
    client.run("LOCK.EXTEND k b");
    acquire(&mut client, "l PX 20");
    acquire(&mut client, "m PX 600000");
    client.run("DEL m");
    let happened =
        [("grants", 5), ("releases", 1), ("released", 1), ("extensions", 1), ("lapsed", 1), ("removed", 1)];
    books.add(&mut client, &happened);
    caught_up(&master, &replica);
    let mut other = replica.client();
    assert_eq!((figure(&mut other, "keys"), figure(&mut other, "holds")), (1, 2));
    let mut books_of_replica = Books::new();
    books_of_replica.add(&mut other, &[]);
    master.kill9();
    other.ok("REPLICAOF NO ONE");
    release(&mut other, "k", "b");
    acquire(&mut other, "l PX 600000");
    books_of_replica.add(&mut other, &[("grants", 1), ("releases", 1), ("released", 1)]);
    drop(master);
}

#[test]
fn what_a_file_says_is_not_counted_again() {
    let mut server = Server::builder().aof().config("lock.restart-grace 60000").start();
    let mut client = server.client();
    for token in ["a", "b"] {
        acquire(&mut client, &format!("k TOKEN {token} SHARED PX 600000"));
    }
    release(&mut client, "k", "a");
    client.run("LOCK.EXTEND k b");
    let last = figure(&mut client, "last_fence");
    server.restart(Data::NoSave);
    let mut client = server.client();
    let mut books = Books::new();
    books.add(&mut client, &[]);
    let all = figures(&mut client, "lock");
    assert_eq!((all["keys"], all["holds"], all["last_fence"]), (1, 1, last));
    release(&mut client, "k", "b");
    books.add(&mut client, &[("releases", 1), ("released", 1)]);
    assert!(figure(&mut client, "restart_grace_left_ms") > 0);
}

/// Neither grants anything: the replica by itself, the master in its grace.
#[test]
fn only_a_master_shows_what_is_left_of_its_grace() {
    let pair = Pair::start();
    let mut replica = pair.replica.client();
    replica.ok("CONFIG SET lock.restart-grace 600000");
    assert_eq!(figure(&mut replica, "restart_grace_left_ms"), 0);
    replica.ok("REPLICAOF NO ONE");
    assert!(figure(&mut replica, "restart_grace_left_ms") > 0);
    replica.ok("REPLICAOF 127.0.0.1 1");
    assert_eq!(figure(&mut replica, "restart_grace_left_ms"), 0);
}

#[test]
fn a_script_can_read_them() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k");
    let text = client.call(&cmd!["EVAL", "return redis.call('INFO', 'lock')", 0]).text();
    assert!(text.contains("lock_grants:1\r\n"), "{text}");
}
