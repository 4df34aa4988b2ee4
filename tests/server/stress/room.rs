//! So much follows from one event that it takes the server several turns of its loop: all of it comes, in its order, and
//! nothing gets in between.

use crate::support::locks::{acquire, exists, null, remaining};
use crate::support::{Client, PATIENCE, Reply, Server, Waiter, ok_grant, wait_until};

/// More readers than are served, and more holds than are ended, in one iteration of the server's loop.
const MANY: usize = 1500;

fn crowded() -> (Server, Client) {
    let server = Server::builder().config("lock.max-waiters-per-key 10000").start();
    let client = server.client();
    (server, client)
}

/// Readers that wait for a key, in their order. Each hundred waits before the next comes.
fn readers(server: &Server, client: &mut Client, rest: &str) -> Vec<Client> {
    let mut readers: Vec<Client> = (0..MANY).map(|_| server.client()).collect();
    for (number, reader) in readers.iter_mut().enumerate() {
        let command = format!("LOCK.ACQUIRE k TOKEN r{number} SHARED {rest}");
        reader.send(&command.split(' ').collect::<Vec<_>>());
        if number % 100 == 99 {
            let waiting = (number + 1).to_string();
            wait_until("they wait", PATIENCE, || client.info("clients", "blocked_clients") == waiting);
        }
    }
    readers
}

/// A connection whose sessions hold `MANY` locks.
fn owner_of(server: &Server, command: impl Fn(usize) -> String) -> Client {
    let mut owner = server.client();
    let commands: Vec<String> = (0..MANY).map(command).collect();
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    owner.run_all(&commands).into_iter().for_each(|reply| drop(ok_grant(reply)));
    owner
}

#[test]
fn readers_without_number_are_let_in_by_one_release() {
    let (server, mut client) = crowded();
    acquire(&mut client, "k TOKEN w PX 600000");
    let readers = readers(&server, &mut client, "PX 600000 BLOCK 0");
    // Whoever comes while they are let in waits behind them.
    let replies = client.run_all(&["LOCK.RELEASE k w", "LOCK.ACQUIRE k TOKEN late SHARED", "PING"]);
    assert_eq!(replies, [Reply::Int(1), null(&client), Reply::Simple("PONG".into())]);
    let fences: Vec<i64> = readers.into_iter().map(|mut reader| ok_grant(reader.read()).1).collect();
    assert!(fences.is_sorted(), "in the order in which they waited");
    assert_eq!(client.info("clients", "blocked_clients"), "0");
    acquire(&mut client, "k TOKEN late SHARED");
}

#[test]
fn waits_without_number_end_in_one_instant() {
    let (server, mut client) = crowded();
    acquire(&mut client, "k TOKEN w PX 600000");
    let readers = readers(&server, &mut client, "BLOCK 1500");
    for mut reader in readers {
        assert_eq!(reader.read(), null(&client));
    }
    assert_eq!(client.info("clients", "blocked_clients"), "0");
}

#[test]
fn a_connection_closes_whose_sessions_hold_locks_without_number() {
    let (server, mut client) = crowded();
    let mut owner = owner_of(&server, |n| format!("LOCK.ACQUIRE k{n} TOKEN t{n} SESSION"));
    let last = MANY - 1;
    let mut waiters = [0, MANY / 2, last].map(|n| Waiter::new(&server, &format!("k{n} TOKEN w BLOCK 0")));
    let id = owner.id();
    // From the moment at which it has closed nobody has what it kept alive, whether or not that has ended yet.
    let commands = [
        format!("CLIENT KILL ID {id}"),
        format!("LOCK.CHECK k{last} t{last}"),
        format!("LOCK.EXTEND k{last} t{last}"),
        "LOCK.EXTEND k1 t1".to_owned(),
        format!("LOCK.RELEASE k{} t{}", last - 1, last - 1),
    ];
    let replies = client.run_all(&commands.each_ref().map(String::as_str));
    assert_eq!(replies, [Reply::Int(1), null(&client), Reply::Int(0), Reply::Int(0), Reply::Int(0)]);
    waiters.iter_mut().for_each(|waiter| drop(waiter.granted()));
    wait_until("the others are free", PATIENCE, || client.run("DBSIZE") == Reply::Int(3));
    assert!(!exists(&mut client, "k1"));
}

#[test]
fn a_connection_closes_whose_sessions_share_one_lock_without_number() {
    let (server, mut client) = crowded();
    let owner = owner_of(&server, |n| format!("LOCK.ACQUIRE k TOKEN t{n} SHARED SESSION"));
    acquire(&mut client, "k TOKEN other SHARED PX 600000");
    let mut waiter = Waiter::new(&server, "k TOKEN w BLOCK 0");
    drop(owner);
    wait_until("one holds it", PATIENCE, || {
        let info = client.run("LOCK.INFO k");
        crate::support::field(&info, "held") == Reply::Int(1)
    });
    waiter.assert_waiting(&server);
    assert_eq!(client.run("LOCK.RELEASE k other"), Reply::Int(1));
    waiter.granted();
}

/// The keys of a request for very many, and its words up to the last of them.
fn keys_of_many(count: usize) -> (Vec<String>, String) {
    let keys: Vec<String> = (0..count).map(|number| format!("k{number}")).collect();
    let words = format!("{count} {}", keys.join(" "));
    (keys, words)
}

/// Each of those who wait is granted many keys. They come one after the other, over as many turns as it takes, and the lease of
/// each begins at all its keys when it is granted.
#[test]
fn one_release_serves_very_many_who_wait_for_many_keys_each() {
    const WAITING: usize = 150;
    let server = Server::builder().config("lock.claim-lease 600000").start();
    let mut client = server.client();
    let (keys, words) = keys_of_many(64);
    acquire(&mut client, "k0 TOKEN w PX 600000");
    client.run("LOCK.ACQUIRE k0 TOKEN before PX 600000 QUEUE 600000");
    for number in 0..WAITING {
        let command = format!("LOCK.MACQUIRE {words} TOKEN t{number} SHARED PX 600000 QUEUE 600000");
        assert!(matches!(client.run(&command), Reply::Int(_)));
    }
    let replies = client.run_all(&["LOCK.RELEASE k0 before", "LOCK.RELEASE k0 w", "INFO lock"]);
    let grants = replies[2].text();
    let grants = grants.lines().find_map(|line| line.strip_prefix("lock_grants:")).unwrap();
    let grants: usize = grants.trim_end().parse().unwrap();
    assert!(grants < WAITING * keys.len() / 3, "one turn has granted {grants}");
    let last = format!("t{}", WAITING - 1);
    wait_until("all are served", PATIENCE, || remaining(&mut client, "k1", &last).is_some());
    for number in [0, WAITING / 2, WAITING - 1] {
        let look = |key: &str| format!("LOCK.CHECK {key} t{number}");
        let (first, behind) = (look(&keys[0]), look(&keys[63]));
        let looked = client.run_all(&["MULTI", &first, &behind, "EXEC"]);
        let [first, behind] = [0, 1].map(|place| looked[3].items()[place].items()[1].int());
        assert!((first - behind).abs() <= 50, "t{number} has {first} ms and {behind} ms");
    }
}

/// Who stands in many queues is looked at where it is held up, and not at each of its keys by a turn at each of them.
#[test]
fn who_waits_for_many_keys_makes_them_no_dearer_for_others() {
    let server = Server::start();
    let mut client = server.client();
    let (_, words) = keys_of_many(256);
    let extend = format!("LOCK.MEXTEND {words} nobody");
    // The least of some, since other programs get in between.
    let cost_us = |client: &mut Client| -> f64 {
        let cost_us = |_| {
            client.ok("CONFIG RESETSTAT");
            assert_eq!(client.run(&extend), Reply::Int(0));
            let stat = client.info("commandstats", "cmdstat_lock.mextend");
            let usec = stat.split(',').find_map(|part| part.strip_prefix("usec=")).unwrap();
            usec.parse::<f64>().unwrap()
        };
        (0..10).map(cost_us).fold(f64::INFINITY, f64::min)
    };
    acquire(&mut client, "k255 TOKEN w PX 600000");
    let alone = cost_us(&mut client);
    assert!(matches!(client.run(&format!("LOCK.MACQUIRE {words} TOKEN t QUEUE 600000")), Reply::Int(_)));
    let beside = cost_us(&mut client);
    assert!(beside < 20.0 * alone.max(50.0), "{beside} us beside one who waits, {alone} us alone");
}
