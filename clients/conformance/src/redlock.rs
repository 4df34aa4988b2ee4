//! Redlock: five servers that know nothing of each other, of which some are killed, stopped, or come back empty.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, Outcome, PATIENCE};
use crate::support::{Data, Server, locks, signal};
use crate::testee::Testee;

const SERVERS: usize = 5;

/// The timeout of the clients, in milliseconds. They wait as long for each server that stays silent.
const TIMEOUT_MS: u64 = 1_000;

pub(crate) type Run = fn(&Testee);

/// What is true, and how it is tried.
pub(crate) const ALL: [(&str, Run); 10] = [
    ("it is held at all servers, and by one client", held_by_one),
    ("who waits gets it later", waits),
    ("what too few servers have granted is given back before it is asked for again", given_back),
    ("with two servers killed it goes on", two_killed),
    ("with three servers killed it is lost in time, and not acquired", three_killed),
    ("with one server stopped it goes on, and nothing is left at that one", one_stopped),
    ("with one server stopped and two killed nobody gets it", no_majority),
    ("one server that restarts empty gives nobody a majority", one_empty),
    ("lock.restart-grace keeps servers that forgot from a second majority", grace),
    ("contenders take turns", contenders),
];

struct Five<'a> {
    testee: &'a Testee,
    servers: Vec<Server>,
}

impl<'a> Five<'a> {
    fn start(testee: &'a Testee, settings: &[&str]) -> Self {
        let start = || settings.iter().fold(Server::builder(), |builder, line| builder.config(line)).start();
        Self { testee, servers: (0..SERVERS).map(|_| start()).collect() }
    }

    /// A client of the servers as they are now.
    fn client(&self, name: &str) -> Client<'a> {
        let servers: Vec<Value> =
            self.servers.iter().map(|server| json!(["127.0.0.1", server.port()])).collect();
        let address = json!({"place": "redlock", "servers": servers, "timeout": TIMEOUT_MS});
        Client::connect(self.testee, name, address, json!({"protocol": 3}))
    }

    /// How many of these servers hold it.
    fn held(&self, which: impl Iterator<Item = usize>) -> usize {
        let is_held = |at: &usize| !self.servers[*at].client().run("LOCK.INFO it").is_null();
        which.filter(is_held).count()
    }
}

fn available(client: &Client<'_>, wait: u64) -> bool {
    match client.finish(&client.acquire("B", "b", "it", json!({"wait": wait})), PATIENCE) {
        Outcome::Held { .. } => true,
        Outcome::NotAvailable => false,
        other => panic!("{other:?}"),
    }
}

fn held_by_one(testee: &Testee) {
    let five = Five::start(testee, &[]);
    let (one, other) = (five.client("one"), five.client("other"));
    one.hold("A", "a", "it", json!({"lease": 30_000}));
    assert_eq!(five.held(0..SERVERS), SERVERS);
    // Less the drift.
    let state = one.state("a");
    assert!(state.held && state.remaining < 29_900.0, "{state:?}");
    assert!(!available(&other, 0) && !available(&other, 500));
    one.assert_released("A", "a");
    assert_eq!(five.held(0..SERVERS), 0);
    assert!(!one.state("a").held);
    close([one, other]);
}

fn close<const N: usize>(clients: [Client<'_>; N]) {
    clients.into_iter().for_each(Client::close);
}

fn waits(testee: &Testee) {
    let five = Five::start(testee, &[]);
    let (one, other) = (five.client("one"), five.client("other"));
    one.hold("A", "a", "it", json!({}));
    let waiting = other.acquire("B", "b", "it", json!({"wait": 30_000}));
    thread::sleep(Duration::from_millis(500));
    one.assert_released("A", "a");
    assert!(matches!(other.finish(&waiting, PATIENCE), Outcome::Held { .. }));
    other.assert_released("B", "b");
    close([one, other]);
}

fn given_back(testee: &Testee) {
    let five = Five::start(testee, &[]);
    let one = five.client("one");
    for server in &five.servers[..3] {
        locks::acquire(&mut server.client(), "it PX 60000 TOKEN other");
    }
    let waiting = one.acquire("A", "a", "it", json!({"wait": 4_000}));
    let (begin, mut looks) = (Instant::now(), [0; 2]);
    while begin.elapsed() < Duration::from_secs(3) {
        looks[usize::from(five.held(3..SERVERS) == 0)] += 1;
        thread::sleep(Duration::from_millis(5));
    }
    // It asks for a moment, and lets others ask for most of the time.
    assert!(looks[1] > looks[0], "held, and free: {looks:?}");
    assert_eq!(one.finish(&waiting, PATIENCE), Outcome::NotAvailable);
    assert_eq!(five.held(3..SERVERS), 0);
    close([one]);
}

fn two_killed(testee: &Testee) {
    let mut five = Five::start(testee, &[]);
    let (one, other) = (five.client("one"), five.client("other"));
    one.hold("A", "a", "it", json!({"lease": 5_000}));
    five.servers[..2].iter_mut().for_each(Server::kill9);
    thread::sleep(Duration::from_secs(8));
    assert!(one.state("a").held);
    assert!(!available(&other, 0));
    one.assert_released("A", "a");
    assert!(available(&other, 10_000));
    other.assert_released("B", "b");
    assert_eq!(five.held(2..SERVERS), 0);
    close([one, other]);
}

fn three_killed(testee: &Testee) {
    let mut five = Five::start(testee, &[]);
    let (one, other) = (five.client("one"), five.client("other"));
    one.hold("A", "a", "it", json!({"lease": 2_000}));
    five.servers[..3].iter_mut().for_each(Server::kill9);
    one.wait_lost("a", Duration::from_secs(4));
    let outcome = other.finish(&other.acquire("B", "b", "it", json!({"wait": 500})), PATIENCE);
    assert!(matches!(&outcome, Outcome::Error(kind, _) if kind == "CONNECTION"), "{outcome:?}");
    assert_eq!(one.release("A", "a")["is"], json!(false));
    close([one, other]);
}

fn one_stopped(testee: &Testee) {
    let five = Five::start(testee, &[]);
    let (one, other) = (five.client("one"), five.client("other"));
    signal::stop(&five.servers[0]);
    let lease = Duration::from_secs(4);
    one.hold("A", "a", "it", json!({"lease": 4_000, "wait": 20_000}));
    thread::sleep(lease + Duration::from_secs(1));
    assert!(one.state("a").held);
    assert!(!available(&other, 0));
    one.assert_released("A", "a");
    signal::go_on(&five.servers[0]);
    // It may do only now what it was asked before.
    let end = Instant::now() + lease + Duration::from_secs(2);
    while five.held(0..SERVERS) > 0 {
        assert!(Instant::now() < end, "held at {} servers", five.held(0..SERVERS));
        thread::sleep(Duration::from_millis(20));
    }
    close([one, other]);
}

fn no_majority(testee: &Testee) {
    let mut five = Five::start(testee, &[]);
    let one = five.client("one");
    signal::stop(&five.servers[0]);
    five.servers[1..3].iter_mut().for_each(Server::kill9);
    let outcome = one.finish(&one.acquire("A", "a", "it", json!({"wait": 200, "lease": 2_000})), PATIENCE);
    assert!(matches!(&outcome, Outcome::Error(kind, _) if kind == "CONNECTION"), "{outcome:?}");
    let end = Instant::now() + Duration::from_secs(10);
    while five.held(3..SERVERS) > 0 {
        assert!(Instant::now() < end, "held at {} servers", five.held(3..SERVERS));
        thread::sleep(Duration::from_millis(20));
    }
    signal::go_on(&five.servers[0]);
    close([one]);
}

fn one_empty(testee: &Testee) {
    let mut five = Five::start(testee, &[]);
    let one = five.client("one");
    one.hold("A", "a", "it", json!({}));
    five.servers[0].restart(Data::NoSave);
    let other = five.client("other");
    assert!(!available(&other, 1_000));
    one.assert_released("A", "a");
    close([one, other]);
}

/// They have a file of before the lock. Where there is none at all they do not know that they forgot anything, and a
/// second client gets the lock: that is what the documentation says.
fn grace(testee: &Testee) {
    for (settings, is_available) in [(&["lock.restart-grace 60000"][..], false), (&[][..], true)] {
        let mut five = Five::start(testee, settings);
        five.servers.iter().for_each(|server| server.client().ok("SAVE"));
        let one = five.client("one");
        one.hold("A", "a", "it", json!({"lease": 60_000}));
        for server in &mut five.servers[..3] {
            server.kill9();
            server.start_again();
        }
        let other = five.client("other");
        assert_eq!(available(&other, 2_000), is_available, "{settings:?}");
        assert!(one.state("a").held);
        close([one, other]);
    }
}

fn contenders(testee: &Testee) {
    let five = Five::start(testee, &[]);
    let inside = std::sync::atomic::AtomicUsize::new(0);
    thread::scope(|scope| {
        for number in 0..4 {
            let (five, inside) = (&five, &inside);
            scope.spawn(move || {
                let client = five.client(&format!("client {number}"));
                let (by, hold) = (format!("actor {number}"), format!("hold {number}"));
                for _ in 0..5 {
                    client.hold(&by, &hold, "it", json!({"lease": 20_000, "wait": 60_000}));
                    assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                    thread::sleep(Duration::from_millis(10));
                    inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    client.assert_released(&by, &hold);
                }
                client.close();
            });
        }
    });
    assert_eq!(five.held(0..SERVERS), 0);
}
