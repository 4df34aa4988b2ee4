//! Whatever a master is asked, and whatever happens to its replicas and files meanwhile: once it is quiet, its replica, the
//! replica of that, and all that is read from snapshots and append-only files show the same locks.
//!
//! `REDIS_LOCK_CONVERGE_ROUNDS` is how many rounds to run; without it a few. `make converge` runs three hundred.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::load::{DATABASES, Load};
use crate::support::locks::fence_of;
use crate::support::payload::raise_fences;
use crate::support::seen::{At, Seen, digests, settle};
use crate::support::waiter::wait_blocked;
use crate::support::{Builder, Data, PATIENCE, Pair, Random, Reply, Server, caught_up, wait_until};

/// Rounds that are run unless the environment says how many.
const ROUNDS: usize = 2;

/// Steps of the load in a round, before, during and after the trouble.
const STEPS: [usize; 3] = [200, 200, 100];

/// Leases: most of them end under the load, some stay.
const LEASES_MS: [usize; 6] = [1, 5, 20, 50, 600_000, 900_000];

/// The lease from which on a hold outlives the test. Leases of sessions are a second at least.
const BRIEF_MS: i64 = 60_000;

fn rounds() -> usize {
    std::env::var("REDIS_LOCK_CONVERGE_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap())
}

#[test]
fn whatever_a_master_is_asked_all_copies_of_its_locks_agree() {
    let mut random = Random::from_environment();
    let mut chain = Chain::start();
    // Each trouble comes as often as any other, in an order that the seed decides.
    let mut troubles: Vec<Trouble> = Vec::new();
    let mut held = 0;
    for round in 0..rounds() {
        if troubles.is_empty() {
            troubles.extend(TROUBLES);
        }
        let trouble = troubles.swap_remove(random.below(troubles.len()));
        println!("round {round}: {trouble:?}");
        chain.vary(&mut random);
        held += chain.round(trouble, &mut random);
    }
    // A hold of each round is not of the load, which may leave none in a few rounds, but hardly in many.
    assert!(held > 0, "in the end there was never anything to agree on");
    assert!(rounds() < 20 || held > rounds(), "the load never left anything to agree on");
    chain.servers_mut().into_iter().for_each(Server::assert_alive);
}

/// The roles change under the load, to and fro: in the end both have the same, leases run on the one that is master now,
/// and nothing is left of those who were clients of the other.
#[test]
fn whoever_is_master_in_the_end_its_replica_has_the_same() {
    let mut random = Random::from_environment();
    let mut pair = Pair::start_with(Server::builder().aof(), Server::builder().aof());
    for _ in 0..rounds() {
        let mut load = Load::new(&pair.master, &mut random, &LEASES_MS);
        load.expect_demotion();
        pair.master.client().ok("CONFIG SET lock.adopt-strings yes");
        load.run(STEPS[0]);
        pair.master.client().ok("FAILOVER");
        load.run(STEPS[1]);
        wait_until("the roles have changed", PATIENCE, || {
            let role = |server: &Server| server.client().info("replication", "role");
            role(&pair.master) == "slave" && role(&pair.replica) == "master"
        });
        load.look();
        drop(load);
        std::mem::swap(&mut pair.master, &mut pair.replica);
        for server in [&pair.master, &pair.replica] {
            wait_blocked(server, 0);
        }
        settle(&pair.master, DATABASES, BRIEF_MS);
        pair.replica.client().ok("CONFIG SET lock.adopt-strings no");
        pair.wait_caught_up();
        agree(&pair.master, &pair.replica, "after a change of roles");
        // What it granted itself began a little earlier there than at its replica.
        let seen = Seen::on(&pair.replica, DATABASES);
        seen.assert_same_but_for_times(&Seen::on(&pair.master, DATABASES), "after a change of roles");
    }
    pair.master.assert_alive();
    pair.replica.assert_alive();
}

/// A master that reads its own data anew drops keys whose TTL is over and tells nobody. What it grants there next has to
/// stand on its replica too, over the string that is left there, and in the append-only file, where the same is left.
#[test]
fn a_grant_of_the_master_stands_over_a_stale_string() {
    let pair = Pair::start_with(Server::builder().aof(), Server::builder());
    let [mut client, mut reader] = [&pair.master, &pair.replica].map(Server::client);
    client.ok("DEBUG SET-ACTIVE-EXPIRE 0");
    client.ok("SET k v PX 1");
    pair.wait_caught_up();
    wait_until("its TTL is over", PATIENCE, || reader.run("EXISTS k") == Reply::Int(0));
    client.ok("DEBUG RELOAD");
    assert_eq!(client.run("DBSIZE"), Reply::Int(0), "the master has dropped it");
    assert_eq!(reader.run("DBSIZE"), Reply::Int(1), "the replica has not");
    fence_of(&mut client, "k PX 600000 TOKEN a");
    pair.wait_caught_up();
    let seen = Seen::on(&pair.master, 1);
    Seen::on(&pair.replica, 1).assert_same_but_for_times(&seen, "replica");
    client.ok("DEBUG LOADAOF");
    Seen::on(&pair.master, 1).assert_same_but_for_times(&seen, "append-only file");
}

/// What happens under the load.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// The links of all replicas are cut: they go on from the backlog.
    CutLinks,
    /// The replica is stopped, its link cut, and it goes on.
    StopReplica,
    /// The master forgets whom its replicas follow: they read everything anew.
    FullSync,
    /// The replica leaves for a moment, and is no replica meanwhile.
    LeaveAndComeBack,
    /// Both append-only files are rewritten.
    Rewrite,
    /// The append-only file is given up and begun anew.
    FileAnew,
    /// A snapshot is written.
    Snapshot,
}

const TROUBLES: [Trouble; 7] = [
    Trouble::CutLinks,
    Trouble::StopReplica,
    Trouble::FullSync,
    Trouble::LeaveAndComeBack,
    Trouble::Rewrite,
    Trouble::FileAnew,
    Trouble::Snapshot,
];

impl Trouble {
    /// Whether the master may write a snapshot in the background. If DEBUG RELOAD comes meanwhile, Redis miscounts what has
    /// changed since the last snapshot, and the next DEBUG RELOAD goes to replicas and into the append-only file.
    fn saves_in_background(self) -> bool {
        matches!(self, Self::FullSync | Self::LeaveAndComeBack | Self::Snapshot)
    }
}

/// A master, its replica, and a replica of that.
struct Chain {
    last: Server,
    replica: Server,
    master: Server,
}

impl Chain {
    #[track_caller]
    fn start() -> Self {
        let master = Server::builder().aof().config("rdbcompression no").start();
        // Ahead of the clock, so that only who has heard of the last fence goes on above it.
        raise_fences(&mut master.client());
        let replica = Server::builder().aof().replica_of(&master).start();
        let last = Server::builder().replica_of(&replica).start();
        let chain = Self { last, replica, master };
        chain.catch_up();
        chain
    }

    fn servers_mut(&mut self) -> [&mut Server; 3] {
        [&mut self.last, &mut self.replica, &mut self.master]
    }

    #[track_caller]
    fn catch_up(&self) {
        caught_up(&self.master, &self.replica);
        caught_up(&self.replica, &self.last);
    }

    /// Changes the ways in which replicas are read in and files are written.
    #[track_caller]
    fn vary(&self, random: &mut Random) {
        for server in [&self.master, &self.replica, &self.last] {
            let mut client = server.client();
            client.ok(&format!("CONFIG SET repl-diskless-sync {}", random.pick(&["yes", "no"])));
            let load = random.pick(&["disabled", "on-empty-db", "swapdb"]);
            client.ok(&format!("CONFIG SET repl-diskless-load {load}"));
            client.ok(&format!("CONFIG SET aof-use-rdb-preamble {}", random.pick(&["yes", "no"])));
        }
    }

    /// A load with a trouble in its midst, and then a comparison of all copies. Returns how many holds they agreed on.
    #[track_caller]
    fn round(&mut self, trouble: Trouble, random: &mut Random) -> usize {
        let syncs = self.syncs();
        let reloads = random.below(2) == 0 && !trouble.saves_in_background();
        // Its replicas take no string for a lock, and do what it has decided all the same.
        self.master.client().ok("CONFIG SET lock.adopt-strings yes");
        let mut load = Load::new(&self.master, random, &LEASES_MS);
        if reloads {
            load.reload();
        }
        load.run(STEPS[0]);
        self.begin(trouble);
        load.run(STEPS[1]);
        self.end(trouble);
        load.run(STEPS[2]);
        load.look();
        // Sessions are kept, and some still wait.
        settle(&self.master, DATABASES, BRIEF_MS);
        let compare = if reloads { Seen::assert_same_but_for_times } else { Seen::assert_copies };
        self.assert_replicas_agree(compare, "sessions open");
        let [full, partial] = self.syncs();
        match trouble {
            Trouble::CutLinks | Trouble::StopReplica => {
                assert!(full == syncs[0] && partial > syncs[1], "the replica was to go on from the backlog");
            }
            Trouble::FullSync => assert!(full > syncs[0], "the replica was to read everything anew"),
            _ => {}
        }
        drop(load);
        self.assert_nothing_is_left_of_clients();
        fence_of(&mut self.master.client(), "lasting PX 900000 SHARED OWNER copied");
        settle(&self.master, DATABASES, BRIEF_MS);
        self.assert_replicas_agree(compare, "sessions closed");
        self.assert_files_agree();
        let held = Seen::on(&self.master, DATABASES).holds();
        self.read_anew(random);
        self.master.client().ok("FLUSHALL");
        held
    }

    /// How often the master has sent a replica everything, and how often what it lacked.
    #[track_caller]
    fn syncs(&self) -> [u64; 2] {
        let mut client = self.master.client();
        ["sync_full", "sync_partial_ok"].map(|field| client.info("stats", field).parse().unwrap())
    }

    #[track_caller]
    fn begin(&self, trouble: Trouble) {
        let mut master = self.master.client();
        match trouble {
            Trouble::CutLinks => drop(master.run("CLIENT KILL TYPE replica")),
            Trouble::StopReplica => {
                crate::support::signal::stop(&self.replica);
                master.run("CLIENT KILL TYPE replica");
            }
            Trouble::FullSync => {
                master.ok("DEBUG CHANGE-REPL-ID");
                master.run("CLIENT KILL TYPE replica");
            }
            Trouble::LeaveAndComeBack => self.replica.client().ok("REPLICAOF NO ONE"),
            Trouble::Rewrite => {
                for server in [&self.master, &self.replica] {
                    let begun = server.client().run("BGREWRITEAOF");
                    assert!(!begun.is_error(), "{begun:?}");
                }
            }
            Trouble::FileAnew => master.ok("CONFIG SET appendonly no"),
            Trouble::Snapshot => {
                let begun = master.run("BGSAVE SCHEDULE");
                assert!(!begun.is_error(), "{begun:?}");
            }
        }
    }

    #[track_caller]
    fn end(&self, trouble: Trouble) {
        match trouble {
            Trouble::StopReplica => crate::support::signal::go_on(&self.replica),
            Trouble::LeaveAndComeBack => {
                self.replica.client().ok(&format!("REPLICAOF 127.0.0.1 {}", self.master.port()));
            }
            Trouble::FileAnew => self.master.client().ok("CONFIG SET appendonly yes"),
            Trouble::CutLinks | Trouble::FullSync | Trouble::Rewrite | Trouble::Snapshot => {}
        }
    }

    /// Where the master has read its data anew, its leases began anew with what was left of them, and run longer than those
    /// of its replicas.
    #[track_caller]
    fn assert_replicas_agree(&self, compare: fn(&Seen, &Seen, &str), what: &str) {
        self.catch_up();
        for (name, server) in [("replica", &self.replica), ("replica of the replica", &self.last)] {
            let name = format!("{what}: {name}");
            agree(&self.master, server, &name);
            let copy = Seen::on(server, DATABASES).without_brief(BRIEF_MS);
            compare(&copy, &Seen::on(&self.master, DATABASES).without_brief(BRIEF_MS), &name);
        }
    }

    /// The keys of a server are locks that are held, or other values.
    #[track_caller]
    fn assert_nothing_is_left_of_clients(&self) {
        let mut client = self.master.client();
        wait_until("all connections of the load are closed", PATIENCE, || {
            client.run("CLIENT LIST TYPE normal").text().lines().count() == 1
        });
        wait_blocked(&self.master, 0);
    }

    /// The highest fence of all, which no lock carries.
    #[track_caller]
    fn draw_fence(&self) -> i64 {
        let mut client = self.master.client();
        let fence = fence_of(&mut client, "drawn");
        assert_eq!(client.run("LOCK.BREAK drawn"), Reply::Int(1));
        fence
    }

    /// Servers of their own read what the master and its replica have written.
    #[track_caller]
    fn assert_files_agree(&self) {
        for server in [&self.master, &self.replica] {
            wait_for_files(server);
        }
        let fence = self.draw_fence();
        self.catch_up();
        self.master.client().ok("SAVE");
        let snapshot = [("dump.rdb", self.master.folder())];
        self.assert_read(Server::builder(), &snapshot, fence, "the master's snapshot");
        for (name, server) in [("the master's file", &self.master), ("the replica's file", &self.replica)] {
            let file = [("appendonlydir", server.folder())];
            self.assert_read(Server::builder().aof(), &file, fence, name);
        }
        self.master.rewrite_aof();
        let file = [("appendonlydir", self.master.folder())];
        self.assert_read(Server::builder().aof(), &file, fence, "the master's file, rewritten");
    }

    #[track_caller]
    fn assert_read<P: AsRef<Path>>(&self, builder: Builder, files: &[(&str, P)], fence: i64, what: &str) {
        let mut server = builder.start();
        server.stop(Data::NoSave);
        for (name, folder) in files {
            copy(&folder.as_ref().join(name), &server.folder().join(name));
        }
        server.start_again();
        assert_eq!(digest(&server), digest(&self.master), "{what}");
        Seen::on(&server, DATABASES).assert_copies(&Seen::on(&self.master, DATABASES), what);
        assert!(fence_of(&mut server.client(), "next") > fence, "{what}: a fence is granted again");
        server.assert_alive();
    }

    /// The master reads its own data, in one of the ways there are. Leases begin anew there with what was left of them,
    /// of which replicas are not told.
    #[track_caller]
    fn read_anew(&mut self, random: &mut Random) {
        let fence = self.draw_fence();
        let before = digest(&self.master);
        let seen = Seen::on(&self.master, DATABASES);
        match random.below(6) {
            0 | 1 => self.master.client().ok("DEBUG RELOAD"),
            2 | 3 => self.master.client().ok("DEBUG LOADAOF"),
            4 => {
                self.master.kill9();
                self.master.start_again();
            }
            _ => self.master.restart(Data::NoSave),
        }
        assert_eq!(digest(&self.master), before);
        assert!(self.draw_fence() > fence, "a fence is granted again");
        self.catch_up();
        for server in [&self.master, &self.replica, &self.last] {
            Seen::on(server, DATABASES).assert_same_but_for_times(&seen, "the master's data read anew");
        }
    }
}

#[track_caller]
fn agree(master: &Server, replica: &Server, what: &str) {
    wait_until(&format!("the digests agree, {what}"), PATIENCE, || digest(replica) == digest(master));
}

fn digest(server: &Server) -> BTreeMap<At, Reply> {
    digests(server, DATABASES)
}

/// Waits until a server's files are complete.
#[track_caller]
fn wait_for_files(server: &Server) {
    let mut client = server.client();
    wait_until("no file is being written", PATIENCE, || {
        ["rdb_bgsave_in_progress", "aof_rewrite_in_progress", "aof_rewrite_scheduled"]
            .iter()
            .all(|field| client.info("persistence", field) == "0")
    });
    assert_eq!(client.info("persistence", "aof_last_bgrewrite_status"), "ok");
    assert_eq!(client.info("persistence", "rdb_last_bgsave_status"), "ok");
}

/// Copies a file or a folder of files, in place of what is there.
fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        fs::copy(from, to).unwrap();
        return;
    }
    fs::remove_dir_all(to).unwrap();
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
