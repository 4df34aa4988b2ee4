//! Slots that move the whole time, and shards that fail over, under clients that wait: each gets its lock in the end, a
//! lock has one holder at a time in the whole cluster, and no hold is lost.
//!
//! `REDIS_LOCK_STRESS_SECONDS` is how long to go on; without it as long as [`SPAN`]. `make stress` goes on for ten minutes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::thread::{self, Builder, Scope};
use std::time::{Duration, Instant};

use crate::support::cluster::{Cluster, Routed, Told, atomic, key_in};
use crate::support::waiter::wait_blocked;
use crate::support::{Client, LONG_PATIENCE, Random, Reply, cmd, ok_grant, wait_until};

/// How long it goes on when nobody says how long.
const SPAN: Duration = Duration::from_secs(8);

/// It goes on until there were so many moves, however slow the machine is.
const ENOUGH: usize = 60;

/// But not for longer than this.
const TOO_LONG: Duration = Duration::from_secs(120);

/// Locks, each in a slot of its own.
const LOCKS: usize = 200;

/// Clients that want the same lock: one has it, and two wait.
const RIVALS: usize = 3;

/// Three masters, so that a slot can move between two while the third knows nothing of it, and a replica of each: a hold
/// has to be known to the replica of whichever shard it came to, since that may be the master next.
const SHARDS: usize = 3;

/// How long a holder works at most, in milliseconds. It gives the machine time for the moves.
const WORK_MS: usize = 200;

/// How long a slot stays where it has come. A client that was sent to a node by ASK is believed there while the slot
/// arrives; one that took so long that the slot arrives there for the second time would be believed wrongly, with any
/// command of Redis.
const REST: Duration = Duration::from_secs(2);

/// How often a shard fails over.
const FAILOVER_EVERY: Duration = Duration::from_secs(3);

#[test]
fn while_slots_move_and_shards_fail_over_every_client_gets_its_lock_and_no_other_has_it() {
    let seconds = std::env::var("REDIS_LOCK_STRESS_SECONDS").ok();
    let span = seconds.map_or(SPAN, |text| Duration::from_secs(text.parse().expect("a number of seconds")));
    let mut random = Random::from_environment();
    // Nobody is elected but who is asked for: with one that is elected without need, on a busy machine, writes are lost.
    let builder = Cluster::builder(SHARDS).replicas(1).config("cluster-replica-no-failover yes");
    let mut cluster = builder.node_timeout_ms(4_000).start();
    let stress = Stress::over(&cluster);
    let told = thread::scope(|scope| {
        let clients = stress.let_loose(scope, &mut random);
        let mut mover = Mover::new(&stress, Random::from_seed(random.next()));
        mover.run(span);
        println!("{} moves, {} of them at once, {} failovers", mover.moves, mover.at_once, mover.failovers);
        assert!(mover.moves >= ENOUGH, "{} moves", mover.moves);
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<Told>>()
    });
    stress.summary(&told);
    stress.nothing_is_left();
    cluster.assert_alive();
}

/// A lock, as its holders see it.
struct Lock {
    key: String,
    slot: u16,
    /// The fence of the one that is at work, or 0.
    holder: AtomicI64,
    /// The highest fence so far.
    last: Mutex<i64>,
    grants: AtomicUsize,
}

impl Lock {
    fn enter(&self, fence: i64) {
        let before = self.holder.swap(fence, Ordering::SeqCst);
        assert_eq!(before, 0, "{} has two holders, {before} and {fence}", self.key);
        let mut last = self.last.lock().unwrap();
        assert!(fence > *last, "{}: fence {fence} after {last}", self.key);
        *last = fence;
        self.grants.fetch_add(1, Ordering::SeqCst);
    }

    fn leave(&self, fence: i64) {
        let before = self.holder.swap(0, Ordering::SeqCst);
        assert_eq!(before, fence, "{} has two holders, {before} and {fence}", self.key);
    }
}

struct Stress<'a> {
    cluster: &'a Cluster,
    locks: Vec<Lock>,
    not_in_time: AtomicUsize,
    /// Nobody need go on: there was enough of it, or something went wrong.
    is_over: AtomicBool,
}

impl<'a> Stress<'a> {
    fn over(cluster: &'a Cluster) -> Self {
        let lock = |at: usize| {
            let slot = cluster.fresh_slot(at % SHARDS);
            let (holder, grants) = (AtomicI64::new(0), AtomicUsize::new(0));
            Lock { key: key_in(slot, "k"), slot, holder, last: Mutex::new(0), grants }
        };
        let locks = (0..LOCKS).map(lock).collect();
        Self { cluster, locks, not_in_time: AtomicUsize::new(0), is_over: AtomicBool::new(false) }
    }

    /// Starts all clients.
    fn let_loose<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        random: &mut Random,
    ) -> Vec<thread::ScopedJoinHandle<'scope, Told>> {
        let client = |at: usize| {
            let mut rival = Rival {
                stress: self,
                lock: &self.locks[at % LOCKS],
                name: format!("client-{at}"),
                client: self.cluster.routed().sparing(),
                random: Random::from_seed(random.next()),
            };
            let work = move || {
                let _raises = RaiseFlag(&self.is_over);
                rival.work();
                rival.client.told
            };
            Builder::new().stack_size(512 * 1024).spawn_scoped(scope, work).unwrap()
        };
        (0..LOCKS * RIVALS).map(client).collect()
    }

    fn summary(&self, told: &[Told]) {
        let sum = |count: fn(&Told) -> usize| told.iter().map(count).sum::<usize>();
        let grants: Vec<usize> = self.locks.iter().map(|lock| lock.grants.load(Ordering::SeqCst)).collect();
        let (moved, ask) = (sum(|told| told.moved), sum(|told| told.ask));
        println!(
            "{} grants, {} to {} of each lock, {} not in time; told MOVED {moved}, ASK {ask}, TRYAGAIN {}, \
             CLUSTERDOWN {}, other errors {}, connections lost {}",
            grants.iter().sum::<usize>(),
            grants.iter().min().unwrap(),
            grants.iter().max().unwrap(),
            self.not_in_time.load(Ordering::SeqCst),
            sum(|told| told.try_again),
            sum(|told| told.down),
            sum(|told| told.other),
            sum(|told| told.closed),
        );
        assert!(grants.iter().all(|&grants| grants >= RIVALS), "each had its turn: {grants:?}");
        assert!(moved > 0 && ask > 0, "they met the moves");
    }

    /// Nobody waits, nothing is held, and the nodes agree about that.
    fn nothing_is_left(&self) {
        self.cluster.wait_agreed();
        for at in 0..SHARDS {
            let replica = self.cluster.replica(at);
            for node in [at, replica] {
                wait_blocked(self.cluster.node(node), 0);
                let mut client = self.cluster.client(node);
                wait_until("no lock is left", LONG_PATIENCE, || client.run("DBSIZE") == Reply::Int(0));
            }
            let roles = [at, replica].map(|node| self.cluster.client(node).info("replication", "role"));
            let (master, replica) = match roles.each_ref().map(String::as_str) {
                ["master", "slave"] => (at, replica),
                ["slave", "master"] => (replica, at),
                _ => panic!("shard {at} has {roles:?}"),
            };
            self.cluster.wait_same(master, replica);
        }
    }
}

/// Raises the flag when it goes out of scope, in a panic too.
struct RaiseFlag<'a>(&'a AtomicBool);

impl Drop for RaiseFlag<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A client that wants one lock over and over.
struct Rival<'a> {
    stress: &'a Stress<'a>,
    lock: &'a Lock,
    name: String,
    client: Routed,
    random: Random,
}

impl Rival<'_> {
    fn work(&mut self) {
        for turn in 0.. {
            if self.stress.is_over.load(Ordering::SeqCst) {
                return;
            }
            self.round(&format!("{}-{turn}", self.name));
        }
    }

    /// Acquires, works, releases. Leases are so long that none ends: whoever is granted has it until it gives it back.
    fn round(&mut self, token: &str) {
        let key = &self.lock.key;
        let block = *self.random.pick(&[0, 0, 60_000, 500]);
        let session = *self.random.pick(&["", "", "SESSION"]);
        let acquire = format!("LOCK.ACQUIRE {key} TOKEN {token} PX 600000 BLOCK {block} {session}");
        let reply = self.client.run(acquire.trim_end());
        if reply.is_null() {
            assert_eq!(block, 500, "{key}: null though there was time");
            self.stress.not_in_time.fetch_add(1, Ordering::SeqCst);
            return;
        }
        let fence = ok_grant(reply).1;
        self.lock.enter(fence);
        thread::sleep(Duration::from_millis(self.random.below(WORK_MS).try_into().unwrap()));
        if self.random.below(4) == 0 {
            let check = self.client.run(&format!("LOCK.CHECK {key} {token}"));
            assert!(!check.is_null(), "{key}: the hold of {token} is lost");
            assert_eq!(check.items()[0], Reply::Int(fence), "{key}");
        }
        if self.random.below(4) == 0 {
            let extended = self.client.run(&format!("LOCK.EXTEND {key} {token} PX 600000"));
            assert_eq!(extended, Reply::Int(1), "{key}: the hold of {token} is lost");
        }
        self.lock.leave(fence);
        let before = self.client.told;
        let released = self.client.run(&format!("LOCK.RELEASE {key} {token}"));
        // Where the connection was lost the first may have been carried out.
        let was_repeated = self.client.told.closed > before.closed;
        assert!(
            released == Reply::Int(1) || was_repeated,
            "{key}: the hold of {token} was lost: {released:?}"
        );
    }
}

/// Moves slots, and has shards fail over.
struct Mover<'a> {
    stress: &'a Stress<'a>,
    random: Random,
    nodes: Vec<Client>,
    /// The master of each shard.
    masters: Vec<usize>,
    /// The shard each lock's slot is in, and since when.
    places: Vec<(usize, Instant)>,
    moves: usize,
    /// Those of them that the server made as a whole.
    at_once: usize,
    failovers: usize,
}

impl<'a> Mover<'a> {
    fn new(stress: &'a Stress<'a>, random: Random) -> Self {
        let nodes = stress.cluster.nodes().iter().map(crate::support::Server::client).collect();
        let places = (0..LOCKS).map(|at| (at % SHARDS, Instant::now())).collect();
        let masters = (0..SHARDS).collect();
        Self { stress, random, nodes, masters, places, moves: 0, at_once: 0, failovers: 0 }
    }

    fn run(&mut self, span: Duration) {
        let _raises = RaiseFlag(&self.stress.is_over);
        let began = Instant::now();
        let mut failed_over = began;
        let lasts =
            |moves: usize| began.elapsed() < span || (moves < ENOUGH && began.elapsed() < span + TOO_LONG);
        while lasts(self.moves) && !self.stress.is_over.load(Ordering::SeqCst) {
            if failed_over.elapsed() > FAILOVER_EVERY {
                self.fail_over();
                failed_over = Instant::now();
            }
            let at = self.random.below(LOCKS);
            if self.places[at].1.elapsed() > REST {
                self.move_lock(at);
            } else {
                self.pause(3);
            }
        }
    }

    fn move_lock(&mut self, at: usize) {
        let from = self.places[at].0;
        let to = (from + 1 + self.random.below(SHARDS - 1)) % SHARDS;
        let (source, target) = (self.masters[from], self.masters[to]);
        let slot = self.stress.locks[at].slot;
        if atomic::way().is_some() && self.random.below(4) == 0 {
            self.stress.cluster.start_atomic_move(slot, source, target).wait_done();
            self.at_once += 1;
        } else {
            self.move_by_steps(slot, source, target);
        }
        self.places[at] = (to, Instant::now());
        self.moves += 1;
    }

    fn move_by_steps(&mut self, slot: u16, source: usize, target: usize) {
        let migration = self.stress.cluster.open_slot(slot, source, target);
        self.pause(20);
        self.move_keys(slot, source, target);
        self.pause(20);
        migration.finish();
    }

    /// Once there is none left there will be none: the source makes no new one. A node that was stalled for as long as the
    /// node timeout is taken for lost, and until it is heard of again the cluster is down.
    fn move_keys(&mut self, slot: u16, source: usize, target: usize) {
        let port = self.stress.cluster.node(target).port();
        let began = Instant::now();
        loop {
            let keys = self.nodes[source].run(&format!("CLUSTER GETKEYSINSLOT {slot} 10"));
            let keys: Vec<Vec<u8>> = keys.items().iter().map(Reply::bytes).collect();
            if keys.is_empty() {
                return;
            }
            let head = cmd!["MIGRATE", "127.0.0.1", port, "", 0, 20_000, "KEYS"];
            let reply = self.nodes[source].call(&[&head, &keys[..]].concat());
            let is_down = reply.is_error() && reply.error().starts_with("CLUSTERDOWN");
            let has_time = began.elapsed() < LONG_PATIENCE;
            assert!(!reply.is_error() || is_down && has_time, "MIGRATE of slot {slot}: {reply:?}");
            if is_down {
                self.pause(20);
            }
        }
    }

    /// A replica that does not know yet which slots its master has given away would take them back: so all must agree.
    fn fail_over(&mut self) {
        self.stress.cluster.wait_agreed();
        // In turn: nobody votes for the same shard twice within two node timeouts.
        let shard = self.failovers % SHARDS;
        let (first, second) = (shard, self.stress.cluster.replica(shard));
        let replica = if self.masters[shard] == first { second } else { first };
        self.stress.cluster.fail_over_to(replica, "");
        self.masters[shard] = replica;
        self.stress.cluster.wait_agreed_among(&self.masters);
        self.failovers += 1;
    }

    fn pause(&mut self, at_most_ms: usize) {
        thread::sleep(Duration::from_millis(self.random.below(at_most_ms).try_into().unwrap()));
    }
}
