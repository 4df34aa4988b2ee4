//! A replica takes over: nobody who waited hangs, and what was held is held on.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::cluster::{Cluster, Routed, Shared, key_in, moved_to};
use crate::support::locks::{acquire, field, holder, null, ok_grant, standing};
use crate::support::payload::{far_fence, raise_fences_by};
use crate::support::waiter::release;
use crate::support::{Client, PATIENCE, Reply, Waiter, cmd, wait_until};

/// How long a master is silent until it is taken for lost.
const NODE_TIMEOUT_MS: u32 = 1_500;

/// How long those leases are that have to end at the new master: longer than it takes until it is one, also where a failover has
/// to be asked for again.
const LEASE: Duration = Duration::from_secs(10);

#[track_caller]
fn start() -> Cluster {
    let builder = Cluster::builder(3).replicas(1).node_timeout_ms(NODE_TIMEOUT_MS);
    builder.config("rdbcompression no").start()
}

/// Locks of one master's, all of them held by `a`, of all of which its replica knows.
struct Stock {
    master: usize,
    /// Held for long.
    long: String,
    /// Held by two readers, with labels.
    shared: String,
    /// Held for [`LEASE`] by `a`.
    short: String,
    /// Held for [`LEASE`] and as long as the connection is there.
    tied: String,
    /// Held for long and as long as the connection is there.
    kept: String,
    standing: [Reply; 2],
    fence: i64,
    taken: Instant,
    _session: Client,
}

impl Stock {
    #[track_caller]
    fn lay_in(cluster: &Cluster, master: usize) -> Self {
        let [long, shared, short, tied, kept] =
            ["long", "shared", "short", "tied", "kept"].map(|name| key_in(cluster.fresh_slot(master), name));
        let mut client = cluster.client(master);
        raise_fences_by(&mut client, &long);
        let mut session = cluster.client(master);
        let taken = Instant::now();
        let lease = LEASE.as_millis();
        acquire(&mut client, &format!("{shared} TOKEN a SHARED OWNER alice PX 60000"));
        acquire(&mut client, &format!("{shared} TOKEN b LIMIT 5 LEVEL 1 PX 60000"));
        acquire(&mut client, &format!("{short} TOKEN a PX {lease}"));
        acquire(&mut session, &format!("{tied} TOKEN a PX {lease} SESSION"));
        acquire(&mut session, &format!("{kept} TOKEN a PX 60000 SESSION"));
        let fence = acquire(&mut client, &format!("{long} TOKEN a PX 60000")).fence;
        assert!(fence > far_fence());
        let standing = [&long, &shared].map(|key| standing(&mut client, key));
        cluster.wait_caught_up(master);
        Self { master, long, shared, short, tied, kept, standing, fence, taken, _session: session }
    }

    /// Two that wait at the master for each lock, one with an end and one without.
    #[track_caller]
    fn waiters(&self, cluster: &Cluster) -> Vec<Waiter> {
        let mut waiters = Vec::new();
        for key in [&self.long, &self.shared, &self.short, &self.tied] {
            for block in ["0", "600000"] {
                waiters
                    .push(Waiter::new(cluster.node(self.master), &format!("{key} PX 60000 BLOCK {block}")));
            }
        }
        waiters
    }

    /// All of it is at the node that is the master now, and goes on there.
    #[track_caller]
    fn goes_on_at(&self, cluster: &Cluster, at: usize) {
        let mut client = cluster.client(at);
        let there = [&self.long, &self.shared].map(|key| standing(&mut client, key));
        assert_eq!(there, self.standing);
        let session = holder(&mut client, &self.kept);
        assert!(field(&session, "session").is_null(), "{session:?}");
        let mut next = Waiter::new(cluster.node(at), &format!("{} TOKEN n PX 60000 BLOCK 0", self.long));
        release(&mut client, &self.long, "a");
        let fence = next.granted().fence;
        assert!(fence > self.fence, "{fence} after {}", self.fence);
        // Their leases may be over by now.
        let mut after = [&self.short, &self.tied].map(|key| {
            let mut next = cluster.client(at);
            next.send(&cmd!["LOCK.ACQUIRE", key, "TOKEN", "n", "PX", 60_000, "BLOCK", 0]);
            next
        });
        for next in &mut after {
            assert!(ok_grant(next.read()).1 > fence);
            assert!(self.taken.elapsed() >= LEASE, "a lease ended early");
        }
    }
}

/// A client of the whole cluster that waits for a lock in a thread of its own, and how long it took to be granted.
fn waits_anywhere(mut client: Routed, key: String) -> thread::JoinHandle<(i64, Instant)> {
    thread::spawn(move || {
        let acquire = format!("LOCK.ACQUIRE {key} TOKEN anywhere PX 60000 BLOCK 0");
        let (_, fence) = ok_grant(client.run(&acquire));
        println!("{:?}", client.told);
        (fence, Instant::now())
    })
}

/// A failover of this shard with this option: the master is there, and learns. Others go on in other shards.
#[track_caller]
fn fails_over(master: usize, option: &str) {
    static SHARED: Shared = Shared::new();
    let cluster = SHARED.get(start);
    let stock = Stock::lay_in(&cluster, master);
    let mut waiters = stock.waiters(&cluster);
    let replica = cluster.replica(master);
    cluster.fail_over_to(replica, option);
    waiters.iter_mut().for_each(Waiter::failed_or_closed);
    stock.goes_on_at(&cluster, replica);
    cluster.wait_agreed();
    let slot = crate::support::cluster::slot_of(&stock.long);
    assert_eq!(cluster.owner(slot), replica);
    let reply = cluster.client(master).run(&format!("LOCK.ACQUIRE {}", stock.long));
    assert_eq!(reply.error(), moved_to(slot, cluster.node(replica)));
    cluster.wait_same(replica, master);
}

#[test]
fn a_planned_failover_leaves_nobody_hanging_and_holds_go_on() {
    fails_over(0, "");
}

#[test]
fn a_forced_failover_leaves_nobody_hanging_and_holds_go_on() {
    fails_over(1, "FORCE");
}

#[test]
fn a_takeover_leaves_nobody_hanging_and_holds_go_on() {
    fails_over(2, "TAKEOVER");
}

#[test]
fn when_a_master_dies_its_replica_goes_on_with_its_locks() {
    let mut cluster = start();
    let stock = Stock::lay_in(&cluster, 0);
    let mut waiters = stock.waiters(&cluster);
    let anywhere = waits_anywhere(cluster.routed(), stock.short.clone());
    let replica = cluster.replica(0);
    wait_until("it waits", PATIENCE, || {
        let info = cluster.client(0).run(&format!("LOCK.INFO {}", stock.short));
        field(&info, "waiting") == Reply::Int(3)
    });
    cluster.node_mut(0).kill9();
    waiters.iter_mut().for_each(Waiter::closed);
    cluster.wait_master(replica);
    cluster.wait_agreed_among(&[1, 2, replica]);
    let mut client = cluster.client(replica);
    let there = [&stock.long, &stock.shared].map(|key| standing(&mut client, key));
    assert_eq!(there, stock.standing);
    let (fence, when) = anywhere.join().unwrap();
    assert!(fence > stock.fence);
    assert!(when >= stock.taken + LEASE, "its lease ended early");
    release(&mut client, &stock.long, "a");
    assert!(acquire(&mut client, &format!("{} TOKEN b", stock.long)).fence > fence);
    cluster.node_mut(0).start_again();
    cluster.wait_agreed();
    cluster.wait_same(replica, 0);
    cluster.assert_alive();
}

/// A master that did not run for a while finds that it is none any more, with clients that waited all the time.
#[test]
fn who_waited_at_a_master_that_was_stopped_and_replaced_does_not_hang() {
    let mut cluster = start();
    let stock = Stock::lay_in(&cluster, 0);
    let mut waiters = stock.waiters(&cluster);
    let replica = cluster.replica(0);
    let stopped = cluster.freeze(0);
    cluster.wait_master(replica);
    cluster.wait_agreed_among(&[1, 2, replica]);
    stock.goes_on_at(&cluster, replica);
    drop(stopped);
    // Those whose lease was over while it was stopped it may have granted in its first moment.
    for waiter in &mut waiters[..4] {
        waiter.failed_or_closed();
    }
    for waiter in &mut waiters[4..] {
        assert!(waiter.client.has_something_within(PATIENCE), "it hangs");
    }
    cluster.wait_agreed();
    assert_eq!(cluster.owner(crate::support::cluster::slot_of(&stock.long)), replica);
    cluster.wait_same(replica, 0);
    cluster.assert_alive();
}

/// As CLUSTER SETSLOT makes it one, where `cluster-allow-replica-migration` has its default.
#[test]
fn who_waits_at_a_master_that_gives_its_last_slot_away_and_becomes_a_replica_does_not_hang() {
    let mut cluster = Cluster::builder(2).config("cluster-allow-replica-migration yes").start();
    let slot = cluster.fresh_slot(0);
    let key = key_in(slot, "k");
    let others: Vec<String> = (slot + 1..crate::support::cluster::SLOTS / 2)
        .map(|other| format!("CLUSTER SETSLOT {other} NODE {}", cluster.id(1)))
        .collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    for at in [1, 0] {
        let replies = cluster.client(at).run_all(&others);
        assert!(replies.iter().all(|reply| !reply.is_error()), "node {at}");
    }
    cluster.wait_agreed();
    let fence = acquire(&mut cluster.client(0), &format!("{key} TOKEN a PX 60000")).fence;
    let mut waiters = [(); 3].map(|()| Waiter::new(cluster.node(0), &format!("{key} BLOCK 0")));
    let last = cluster.open_slot(slot, 0, 1);
    last.move_key_and_leave(&key);
    waiters.iter_mut().for_each(Waiter::failed_or_closed);
    last.take();
    cluster.wait_agreed();
    assert_eq!(cluster.client(0).info("replication", "role"), "slave");
    let mut target = cluster.client(1);
    assert_eq!(acquire(&mut target, &format!("{key} TOKEN a PX 60000")).fence, fence);
    cluster.wait_same(1, 0);
    release(&mut target, &key, "a");
    cluster.assert_free(1, &key);
    cluster.assert_alive();
}

#[test]
fn a_replica_shows_its_masters_locks_to_who_asks_for_that_and_sends_all_others_there() {
    let cluster = start();
    let stock = Stock::lay_in(&cluster, 0);
    let mut reader = cluster.client(cluster.replica(0));
    let (key, slot) = (&stock.long, crate::support::cluster::slot_of(&stock.long));
    let moved = Reply::Error(moved_to(slot, cluster.node(0)));
    let reads = [format!("LOCK.INFO {key}"), format!("LOCK.CHECK {key} a")];
    let writes = [
        format!("LOCK.ACQUIRE {key} TOKEN a"),
        format!("LOCK.ACQUIRE {key} BLOCK 0"),
        format!("LOCK.RELEASE {key} a"),
        format!("LOCK.EXTEND {key} a"),
        format!("LOCK.BREAK {key}"),
    ];
    for command in reads.iter().chain(&writes) {
        assert_eq!(reader.run(command), moved, "{command}");
    }
    reader.ok("READONLY");
    assert_eq!(standing(&mut reader, key), stock.standing[0]);
    assert_eq!(reader.run(&reads[1]).items()[0], Reply::Int(stock.fence));
    assert_eq!(reader.run(&format!("LOCK.CHECK {key} b")), null(&reader));
    for command in &writes {
        assert_eq!(reader.run(command), moved, "{command}");
    }
}
