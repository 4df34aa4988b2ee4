//! LOCK.TOP: what is waited for on this server, the longest wait first.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::errors::{self, fails};
use crate::support::locks::{acquire, exists, field, field_names};
use crate::support::waiter::wait_blocked;
use crate::support::{Client, Reply, Server, Waiter, cmd};

fn keys(client: &mut Client, rest: &str) -> Vec<String> {
    let top = client.run(&format!("LOCK.TOP {rest}"));
    top.items().iter().map(|lock| field(lock, "key").text()).collect()
}

#[test]
fn who_waits_longest_comes_first_whatever_the_database() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        assert!(keys(&mut client, "").is_empty());
        let mut waiters = Vec::new();
        for (database, key) in [(0, "b"), (3, "a"), (0, "c")] {
            client.ok(&format!("SELECT {database}"));
            acquire(&mut client, &format!("{key} TOKEN h PX 600000 OWNER holder-of-{key}"));
            let mut waiting = server.client();
            waiting.ok(&format!("SELECT {database}"));
            waiters.push(Waiter::on(&server, waiting, &format!("{key} TOKEN w BLOCK 0")));
            thread::sleep(Duration::from_millis(2));
        }
        client.ok("SELECT 0");
        // Whoever comes later at a key does not move it.
        client.run("LOCK.ACQUIRE c TOKEN p QUEUE 600000");
        client.run("LOCK.ACQUIRE b TOKEN p QUEUE 600000");
        assert_eq!(keys(&mut client, ""), ["b", "a", "c"]);
        assert_eq!(keys(&mut client, "count 2"), ["b", "a"]);
        assert_eq!(keys(&mut client, "COUNT 1"), ["b"]);
        assert_eq!(keys(&mut client, "COUNT 9223372036854775807"), ["b", "a", "c"]);

        let top = client.run("LOCK.TOP");
        for (lock, (database, waiting, queued)) in top.items().iter().zip([(0, 2, 1), (3, 1, 0), (0, 2, 1)]) {
            let names =
                ["key", "database", "waiting", "queued", "longest", "held", "owner", "session", "address"];
            assert_eq!(field_names(lock), names);
            assert_eq!(field(lock, "database"), Reply::Int(database));
            assert_eq!(field(lock, "waiting"), Reply::Int(waiting));
            assert_eq!(field(lock, "queued"), Reply::Int(queued));
            let owner = format!("holder-of-{}", field(lock, "key").text());
            assert_eq!(field(lock, "owner").text(), owner);
            assert!(field(lock, "held").int() >= field(lock, "longest").int(), "{lock:?}");
            assert!(field(lock, "session").is_null() && field(lock, "address").is_null());
        }
        assert!(exists(&mut client, "b"), "the client is in its own database still");
        drop(waiters);
        wait_blocked(&server, 0);
        client.ok("FLUSHALL");
        for key in ["b", "c"] {
            client.run(&format!("LOCK.RELEASE {key} p"));
            client.run(&format!("LOCK.BREAK {key}"));
        }
    }
}

#[test]
fn the_oldest_hold_is_shown_with_the_connection_that_keeps_it() {
    let server = Server::start();
    let mut client = server.client();
    let mut session = server.client();
    acquire(&mut session, "k SHARED SESSION OWNER first");
    acquire(&mut client, "k SHARED OWNER second");
    let _waiter = Waiter::new(&server, "k BLOCK 0");
    let top = client.run("LOCK.TOP");
    let lock = &top.items()[0];
    assert_eq!(field(lock, "owner").text(), "first");
    assert_eq!(field(lock, "session"), Reply::Int(session.id()));
    assert!(field(lock, "address").text().starts_with("127.0.0.1:"));
}

#[test]
fn what_is_waited_for_in_the_grace_is_held_by_nobody() {
    let server = Server::builder().config("lock.restart-grace 600000").start();
    let mut client = server.client();
    client.ok("DEBUG RELOAD");
    let _waiter = Waiter::new(&server, "k BLOCK 0");
    let top = client.run("LOCK.TOP");
    let lock = &top.items()[0];
    assert!(
        ["held", "owner", "session", "address"].iter().all(|name| field(lock, name).is_null()),
        "{lock:?}"
    );
}

#[test]
fn a_script_stays_in_its_database_too() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("SELECT 3");
    acquire(&mut client, "k TOKEN a");
    client.run("LOCK.ACQUIRE k TOKEN b QUEUE 600000");
    client.ok("SELECT 1");
    let script = "local top = redis.call('LOCK.TOP'); redis.call('SET', 'here', #top); return top[1][2]";
    assert_eq!(client.call(&["EVAL", script, "0"]).text(), "k");
    assert!(exists(&mut client, "here"));
}

#[test]
fn bad_arguments_are_errors() {
    let server = Server::start();
    let mut client = server.client();
    for options in ["COUNT", "10", "COUNT 1 2", "COUNT 1 COUNT 1", "FENCE 1", "COUNT x COUNT 1"] {
        fails(&mut client, &format!("LOCK.TOP {options}"), errors::SYNTAX);
    }
    for number in ["0", "-1", "x", "1.0", "9223372036854775808"] {
        fails(&mut client, &format!("LOCK.TOP COUNT {number}"), errors::NOT_AN_INTEGER);
    }
}

/// With a million locks and ten thousand waiters each takes at most a millisecond on an idle machine. Here it is seen that
/// it takes nothing like a walk over the locks, which would be a hundred times as long.
#[test]
fn neither_this_nor_the_figures_walk_over_locks() {
    const LOCKS: usize = 100_000;
    const WAITED_FOR: usize = 10_000;
    let server = Server::builder().module_args("max-waiters 20000").start();
    let mut client = server.client();
    for batch in (0..LOCKS).collect::<Vec<_>>().chunks(1000) {
        let commands: Vec<_> =
            batch.iter().map(|n| cmd!["LOCK.ACQUIRE", format!("k{n}"), "PX", 600_000]).collect();
        client.pipeline(&commands);
    }
    for batch in (0..WAITED_FOR).collect::<Vec<_>>().chunks(1000) {
        let commands: Vec<Vec<String>> = batch
            .iter()
            .map(|n| {
                format!("LOCK.ACQUIRE k{n} TOKEN w QUEUE 600000").split(' ').map(str::to_owned).collect()
            })
            .collect();
        client.pipeline(&commands);
    }
    for command in ["LOCK.TOP", "INFO lock"] {
        let best = (0..20).map(|_| {
            let start = Instant::now();
            client.run(command);
            start.elapsed()
        });
        let best = best.min().unwrap();
        println!("{command}: {best:?}");
        assert!(best < Duration::from_millis(10), "{command}: {best:?}");
    }
    assert_eq!(keys(&mut client, "COUNT 3"), ["k0", "k1", "k2"]);
}
