//! Persistence: what a server has granted it still knows after a restart, by whichever file, and only that.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support::locks::{acquire, exists, fence_of, remaining};
use crate::support::payload::{far_fence, raise_fences};
use crate::support::read_again::{
    Way, commands_only, debug_reload, power_cut, replay, rewrite_and_power_cut, snapshot, with_snapshot,
};
use crate::support::stock::{Stock, select};
use crate::support::wording::Wording;
use crate::support::{Builder, Data, PATIENCE, Reply, Server, Waiter, cmd, wait_until};

/// Milliseconds of the leases that are to end after the data were read again.
const BRIEF: i64 = 1_500;

#[track_caller]
fn every_lock_survives(builder: Builder, way: Way) {
    let mut server = builder.start();
    let mut client = server.client();
    let stock = Stock::lay_in(&mut client);
    select(&mut client, 7);
    acquire(&mut client, "partly SHARED TOKEN stays PX 600000");
    acquire(&mut client, &format!("partly SHARED TOKEN goes PX {BRIEF}"));
    let began = Instant::now();
    let newest = fence_of(&mut client, &format!("brief TOKEN a PX {BRIEF}")).max(stock.highest_fence);
    let before = stock.view(&mut client);
    way(&mut server);

    let mut client = server.client();
    select(&mut client, 7);
    let left = remaining(&mut client, "brief", "a");
    assert!(left.is_some() || began.elapsed() > lease(BRIEF), "a lease ended early");
    assert!(left.is_none_or(|left| left <= BRIEF), "a lease is longer than it was granted");
    stock.view(&mut client).assert_is_later_than(&before);
    assert!(fence_of(&mut client, "next") > newest);

    select(&mut client, 7);
    wait_until("leases end after the data were read again", PATIENCE, || {
        !exists(&mut client, "brief") && remaining(&mut client, "partly", "goes").is_none()
    });
    assert!(began.elapsed() >= lease(BRIEF - 1), "a lease ended early");
    assert!(remaining(&mut client, "partly", "stays").is_some());
    server.assert_alive();
}

fn lease(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

#[test]
fn every_lock_survives_a_restart_from_a_snapshot() {
    every_lock_survives(Server::builder(), snapshot);
}

#[test]
fn every_lock_survives_a_snapshot_without_compression() {
    every_lock_survives(Server::builder().config("rdbcompression no"), snapshot);
}

#[test]
fn every_lock_survives_debug_reload() {
    every_lock_survives(Server::builder(), debug_reload);
}

#[test]
fn every_lock_survives_the_replay_of_the_append_only_file() {
    every_lock_survives(commands_only(), replay);
}

#[test]
fn every_lock_survives_a_power_cut_with_the_append_only_file() {
    every_lock_survives(with_snapshot(), power_cut);
}

#[test]
fn every_lock_survives_a_rewrite_of_the_append_only_file() {
    every_lock_survives(commands_only(), rewrite_and_power_cut);
}

#[test]
fn every_lock_survives_a_rewrite_of_the_append_only_file_to_a_snapshot() {
    every_lock_survives(with_snapshot(), rewrite_and_power_cut);
}

#[test]
fn a_rewrite_of_a_rewrite_says_the_same() {
    every_lock_survives(commands_only(), |server| {
        rewrite_and_power_cut(server);
        rewrite_and_power_cut(server);
    });
}

/// What is loaded must be known again well enough to be changed and saved again.
#[test]
fn a_lock_that_was_read_again_is_a_lock_like_any_other() {
    for (builder, way) in [(Server::builder(), snapshot as Way), (commands_only(), rewrite_and_power_cut)] {
        let mut server = builder.start();
        let mut client = server.client();
        let writer = fence_of(&mut client, "k TOKEN a PX 600000 OWNER me");
        way(&mut server);
        let mut client = server.client();
        assert_eq!(client.run("LOCK.ACQUIRE k TOKEN b"), Reply::NullArray);
        assert_eq!(fence_of(&mut client, "k TOKEN a SHARED PX 600000"), writer, "a retry");
        acquire(&mut client, "k TOKEN b SHARED PX 600000");
        way(&mut server);
        let mut client = server.client();
        assert_eq!(client.run("LOCK.EXTEND k a PX 700000"), Reply::Int(1));
        assert_eq!(client.run("LOCK.RELEASE k b"), Reply::Int(1));
        way(&mut server);
        let mut client = server.client();
        assert!(remaining(&mut client, "k", "a").is_some_and(|left| left > 600_000));
        assert_eq!(client.run("LOCK.CHECK k b"), Reply::NullArray);
        assert_eq!(client.run("LOCK.RELEASE k a"), Reply::Int(1));
        way(&mut server);
        assert_eq!(server.client().run("DBSIZE"), Reply::Int(0));
    }
}

/// The fence lies far ahead of the clock, so nothing but memory of it can make a larger one; and no lock carries it.
#[track_caller]
fn fences_rise_over(builder: Builder, way: Way) {
    let mut server = builder.config("rdbcompression no").start();
    raise_fences(&mut server.client());
    assert_eq!(server.client().run("DBSIZE"), Reply::Int(0), "nothing is held");
    way(&mut server);
    let first = fence_of(&mut server.client(), "k TOKEN a PX 60000");
    assert!(first > far_fence() + 1, "{first}");
    way(&mut server);
    let second = fence_of(&mut server.client(), "l TOKEN a PX 60000");
    assert!(second > first, "{second}");
    let mut client = server.client();
    assert_eq!(client.run("LOCK.BREAK k"), Reply::Int(1));
    assert_eq!(client.run("LOCK.BREAK l"), Reply::Int(1));
    way(&mut server);
    way(&mut server);
    let third = fence_of(&mut server.client(), "k TOKEN a PX 60000");
    assert!(third > second, "{third}");
}

#[test]
fn fences_rise_over_a_snapshot_with_nothing_held() {
    fences_rise_over(Server::builder(), snapshot);
}

#[test]
fn fences_rise_over_debug_reload_with_nothing_held() {
    fences_rise_over(Server::builder(), debug_reload);
}

#[test]
fn fences_rise_over_the_append_only_file_with_nothing_held() {
    fences_rise_over(commands_only(), power_cut);
}

#[test]
fn fences_rise_over_a_rewrite_of_the_append_only_file_with_nothing_held() {
    fences_rise_over(commands_only(), rewrite_and_power_cut);
}

#[test]
fn fences_rise_over_a_rewrite_to_a_snapshot_with_nothing_held() {
    fences_rise_over(with_snapshot(), rewrite_and_power_cut);
}

/// A server on which no fence was ever drawn has none to save.
#[test]
fn a_server_that_never_granted_a_lock_saves_and_rewrites_as_well() {
    for (builder, way) in [
        (Server::builder(), snapshot as Way),
        (commands_only(), rewrite_and_power_cut),
        (with_snapshot(), rewrite_and_power_cut),
    ] {
        let mut server = builder.start();
        server.client().ok("SET a b");
        way(&mut server);
        assert_eq!(server.client().run("GET a").text(), "b");
        acquire(&mut server.client(), "k");
        way(&mut server);
        assert!(exists(&mut server.client(), "k"));
    }
}

/// The append-only file can be switched on while locks are held: it is made of what there is then.
#[test]
fn an_append_only_file_begun_later_knows_the_locks_of_before() {
    for preamble in ["no", "yes"] {
        let directive = format!("aof-use-rdb-preamble {preamble}");
        let mut server = Server::builder().config("rdbcompression no").config(&directive).start();
        let mut client = server.client();
        raise_fences(&mut client);
        acquire(&mut client, "k TOKEN a PX 600000");
        let newest = fence_of(&mut client, "newest TOKEN a PX 600000");
        client.run("LOCK.RELEASE newest a");
        client.ok("CONFIG SET appendonly yes");
        wait_until("the file is made", PATIENCE, || {
            client.info("persistence", "aof_rewrite_in_progress") == "0"
                && client.info("persistence", "aof_rewrite_scheduled") == "0"
        });
        acquire(&mut client, "later TOKEN a PX 600000");
        let configuration = server.folder().join("server.conf");
        let directives = fs::read_to_string(&configuration).unwrap();
        fs::write(&configuration, directives.replace("appendonly no", "appendonly yes")).unwrap();
        server.restart(Data::NoSave);
        let mut client = server.client();
        assert!(remaining(&mut client, "k", "a").is_some());
        assert!(remaining(&mut client, "later", "a").is_some());
        client.run("LOCK.BREAK k");
        client.run("LOCK.BREAK later");
        assert!(fence_of(&mut client, "next") > newest);
    }
}

#[track_caller]
fn what_ended_stays_ended(builder: Builder, way: Way) {
    let mut server = builder.start();
    let mut client = server.client();
    let replies = client.run_all(&[
        "LOCK.ACQUIRE released TOKEN a PX 600000",
        "LOCK.RELEASE released a",
        "LOCK.ACQUIRE broken SHARED TOKEN a PX 600000",
        "LOCK.ACQUIRE broken SHARED TOKEN b PX 600000",
        "LOCK.BREAK broken",
        "LOCK.ACQUIRE deleted TOKEN a PX 600000",
        "DEL deleted",
        "LOCK.ACQUIRE unlinked TOKEN a PX 600000",
        "UNLINK unlinked",
        "SELECT 2",
        "LOCK.ACQUIRE flushed TOKEN a PX 600000",
        "FLUSHDB",
        "SELECT 0",
        "LOCK.ACQUIRE overwritten TOKEN a PX 600000",
        "SET overwritten value",
        "LOCK.ACQUIRE expired TOKEN a PX 30",
        "LOCK.ACQUIRE partly SHARED TOKEN gone PX 600000",
        "LOCK.ACQUIRE partly SHARED TOKEN lapsed PX 30",
        "LOCK.ACQUIRE partly SHARED TOKEN left PX 600000",
        "LOCK.RELEASE partly gone",
    ]);
    assert!(replies.iter().all(|reply| !reply.is_error() && !reply.is_null()), "{replies:?}");
    // Nobody sees them from the moment they are over; they have ended when the file has it.
    wait_until("the leases end", PATIENCE, || client.info("lock", "lock_lapsed") == "2");
    way(&mut server);
    let mut client = server.client();
    for key in ["released", "broken", "deleted", "unlinked", "expired"] {
        assert!(!exists(&mut client, key), "{key}");
    }
    assert_eq!(client.run("GET overwritten").text(), "value");
    assert!(remaining(&mut client, "partly", "left").is_some());
    assert_eq!(crate::support::locks::holders(&mut client, "partly").len(), 1);
    assert_eq!(client.run("DBSIZE"), Reply::Int(2));
    select(&mut client, 2);
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
}

#[test]
fn what_ended_stays_ended_after_a_snapshot() {
    what_ended_stays_ended(Server::builder(), snapshot);
}

#[test]
fn what_ended_stays_ended_after_debug_reload() {
    what_ended_stays_ended(Server::builder(), debug_reload);
}

#[test]
fn what_ended_stays_ended_after_the_replay_of_the_append_only_file() {
    what_ended_stays_ended(commands_only(), power_cut);
}

#[test]
fn what_ended_stays_ended_after_a_rewrite_of_the_append_only_file() {
    what_ended_stays_ended(commands_only(), rewrite_and_power_cut);
    what_ended_stays_ended(with_snapshot(), rewrite_and_power_cut);
}

/// The lease begins anew with the replay, and is ended by a later line of the file, not by the clock.
#[test]
fn a_lease_that_ended_before_the_power_cut_holds_no_lock_after_it() {
    let mut server = commands_only().start();
    let mut client = server.client();
    let first = acquire(&mut client, "k TOKEN a PX 30");
    wait_until("the lease ends", PATIENCE, || !exists(&mut client, "k"));
    let second = acquire(&mut client, "k TOKEN b PX 600000");
    power_cut(&mut server);
    let mut client = server.client();
    assert_eq!(client.run("LOCK.CHECK k a"), Reply::NullArray);
    assert_eq!(client.run(&format!("LOCK.BREAK k FENCE {}", first.fence)), Reply::Int(0));
    assert_eq!(client.run(&format!("LOCK.BREAK k FENCE {}", second.fence)), Reply::Int(1));
}

/// Leases are told as they are by then, and the highest fence besides, for its lock may be gone.
#[test]
fn a_rewritten_append_only_file_says_what_is_left_of_each_lease_and_the_highest_fence() {
    let server = commands_only().start();
    let mut client = server.client();
    let held = fence_of(&mut client, "k TOKEN a PX 600000");
    let newest = fence_of(&mut client, "gone TOKEN a PX 600000");
    client.run("LOCK.RELEASE gone a");
    wait_until("a part of the lease has passed", PATIENCE, || {
        remaining(&mut client, "k", "a").is_some_and(|left| left < 599_900)
    });
    server.rewrite_aof();
    let said = crate::support::stream::appended(&server);
    let mut wording = Wording::default();
    let words: Vec<String> = said.iter().map(|said| wording.told(said)).collect();
    assert_eq!(words, ["LOCK.ACQUIRE k [a #1 ~600000]", "LOCK.FENCE #2"]);
    assert_eq!(said[1].command, cmd!["LOCK.FENCE", newest]);
    let holds =
        lock_core::codec::decode(&said[0].command[2], lock_core::Moment::from_micros(0)).unwrap().holds;
    assert_eq!(holds[0].fence().get(), held.unsigned_abs());
    assert!(holds[0].deadline().as_micros() < 599_900_000, "{holds:?}");
}

/// The form in which grants are stored is for files and masters. A client that offers it is asked what it means.
#[test]
fn nobody_but_a_file_or_a_master_may_say_what_was_decided() {
    let server = commands_only().start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    let grant = crate::support::stream::appended(&server).remove(0).command;
    client.run("LOCK.BREAK k");
    let syntax = Reply::Error(crate::support::errors::SYNTAX.into());
    assert_eq!(client.call(&grant), syntax);
    assert_eq!(client.run("LOCK.FENCE 5"), syntax);
    client.ok("MULTI");
    client.call(&grant);
    assert_eq!(client.run("EXEC"), Reply::Array(vec![syntax.clone()]));
    let script = "return redis.pcall('LOCK.ACQUIRE', KEYS[1], ARGV[1])";
    assert_eq!(client.call(&cmd!["EVAL", script, 1, "k", grant[2]]), syntax);
    assert!(!exists(&mut client, "k"));
}

/// A snapshot made on one server is read by another, whose own fences are lower.
#[test]
fn a_snapshot_of_one_server_is_read_by_another() {
    let origin = Server::builder().config("rdbcompression no").start();
    let mut client = origin.client();
    raise_fences(&mut client);
    let stock = Stock::lay_in(&mut client);
    let before = stock.view(&mut client);
    client.ok("SAVE");
    let mut other = Server::start();
    acquire(&mut other.client(), "its-own");
    other.stop(Data::NoSave);
    fs::copy(origin.folder().join("dump.rdb"), other.folder().join("dump.rdb")).unwrap();
    other.start_again();
    let mut client = other.client();
    stock.view(&mut client).assert_is_later_than(&before);
    assert!(!exists(&mut client, "its-own"), "it has read the snapshot");
    assert!(fence_of(&mut client, "next") > stock.highest_fence);
    other.assert_alive();
}

/// A release and the grant that follows from it stand in the file as one: wherever a power cut ended it, somebody holds
/// the lock.
#[test]
fn a_hand_over_is_one_step_in_a_file_that_was_cut_short() {
    let mut server = commands_only().start();
    let mut client = server.client();
    let first = fence_of(&mut client, "k TOKEN a PX 600000");
    let whole = incremental(&server);
    let before = fs::read(&whole).unwrap().len();
    let mut waiter = Waiter::new(&server, "k TOKEN b PX 600000 BLOCK 0");
    assert_eq!(client.run("LOCK.RELEASE k a"), Reply::Int(1));
    let second = waiter.granted().fence;
    server.kill9();
    let file = fs::read(&whole).unwrap();
    assert!(file.len() > before, "{file:?}");
    // At the end of each line, and in the midst of it.
    let ends = (before..=file.len()).filter(|at| file[..*at].ends_with(b"\r\n"));
    let cuts: Vec<usize> = ends.flat_map(|end| [end - 3, end]).filter(|at| *at >= before).collect();
    for cut in cuts {
        fs::write(&whole, &file[..cut]).unwrap();
        server.start_again();
        let holders = crate::support::locks::holders(&mut server.client(), "k");
        assert_eq!(holders.len(), 1, "cut at {cut} of {}", file.len());
        let due = if cut < file.len() { first } else { second };
        assert_eq!(
            crate::support::field(&holders[0], "fence"),
            Reply::Int(due),
            "cut at {cut} of {}",
            file.len()
        );
        server.kill9();
    }
}

/// The part of a server's append-only file that it appends to.
fn incremental(server: &Server) -> PathBuf {
    let folder = fs::read_dir(server.folder().join("appendonlydir")).unwrap();
    let mut paths = folder.map(|entry| entry.unwrap().path());
    paths.find(|path| path.to_string_lossy().ends_with(".incr.aof")).unwrap()
}
