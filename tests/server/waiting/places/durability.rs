//! Places, replicas and files: places are neither replicated nor saved; what is called is a hold like any other, and replicas
//! and files are told of it and of its claim as of any grant.

use std::time::{Duration, Instant};

use super::{CLAIM_LEASE_MS, Listener, claim, held, is_called, patient, place, tickets};
use crate::support::locks::{acquire, exists, field, holder, holders, null, remaining};
use crate::support::read_again::{
    Way, commands_only, power_cut, rewrite_and_power_cut, snapshot, with_snapshot,
};
use crate::support::stream::{Said, Stream, appended};
use crate::support::waiter::{assert_left_in_peace, release, wait_blocked, waiting};
use crate::support::wording::Wording;
use crate::support::{Builder, Client, PATIENCE, Pair, Reply, Server, Waiter, caught_up, wait_until};

/// What was told, in words.
#[track_caller]
fn told(said: &[Said], wording: &mut Wording) -> Vec<String> {
    said.iter().map(|said| wording.told(said)).collect()
}

// --- the stream

#[test]
fn of_a_place_nothing_is_told() {
    let (server, mut client) = held();
    let mut stream = Stream::of(&server);
    place(&mut client, "k TOKEN b OWNER me PX 60000 QUEUE 600000");
    place(&mut client, "k TOKEN b QUEUE 600000");
    place(&mut client, "k TOKEN c SHARED BLOCK 1 QUEUE 600000");
    let waiter = Waiter::new(&server, "k TOKEN b BLOCK 0 QUEUE 600000");
    super::lose(&server, "k", waiter);
    place(&mut client, "k TOKEN d QUEUE 1");
    wait_until("its time is over", PATIENCE, || tickets(&mut client, "k").len() == 2);
    assert_eq!(client.run("LOCK.RELEASE k c"), Reply::Int(0));
    client.run_all(&["MULTI", "LOCK.ACQUIRE k TOKEN e QUEUE 600000", "LOCK.RELEASE k e", "EXEC"]);
    assert_eq!(stream.until_now(&mut client), []);
}

#[test]
fn a_call_is_told_behind_what_freed_the_lock_and_a_claim_as_the_hold_it_came_to() {
    let server = Server::start();
    let mut client = server.client();
    let mut stream = Stream::of(&server);
    let mut wording = Wording::default();
    acquire(&mut client, "k TOKEN a");
    place(&mut client, "k TOKEN b PX 60000 OWNER me QUEUE 600000");
    place(&mut client, "k TOKEN c PX 4000 SHARED QUEUE 600000");
    assert_eq!(told(&stream.until_now(&mut client), &mut wording), ["LOCK.ACQUIRE k [a #1 30000]"]);
    release(&mut client, "k", "a");
    let due = ["MULTI", "LOCK.RELEASE k a", "LOCK.ACQUIRE k [b #2 5000 OWNER me]", "EXEC"];
    assert_eq!(told(&stream.until_now(&mut client), &mut wording), due);
    claim(&mut client, "k TOKEN b PX 60000 OWNER me QUEUE 600000");
    let due = ["LOCK.ACQUIRE k [b #2 60000 OWNER me]"];
    assert_eq!(told(&stream.until_now(&mut client), &mut wording), due);
    release(&mut client, "k", "b");
    let due = ["MULTI", "LOCK.RELEASE k b", "LOCK.ACQUIRE k [c #3 4000 SHARED]", "EXEC"];
    assert_eq!(told(&stream.until_now(&mut client), &mut wording), due);
    assert_eq!(client.run("LOCK.EXTEND k c PX 70000"), Reply::Int(1));
    assert_eq!(told(&stream.until_now(&mut client), &mut wording), ["LOCK.EXTEND k c PX 70000"]);
}

#[test]
fn several_calls_are_told_in_one_step_in_their_order() {
    let server = Server::start();
    let mut client = server.client();
    let mut stream = Stream::of(&server);
    let mut wording = Wording::default();
    acquire(&mut client, "k TOKEN a");
    for token in ["b", "c", "d"] {
        place(&mut client, &format!("k TOKEN {token} SHARED QUEUE 600000"));
    }
    client.run_all(&["MULTI", "SET x 1", "LOCK.RELEASE k a", "EXEC"]);
    let due = [
        "LOCK.ACQUIRE k [a #1 30000]",
        "MULTI",
        "SET x 1",
        "LOCK.RELEASE k a",
        "LOCK.ACQUIRE k [b #2 5000 SHARED]",
        "LOCK.ACQUIRE k [c #3 5000 SHARED]",
        "LOCK.ACQUIRE k [d #4 5000 SHARED]",
        "EXEC",
    ];
    assert_eq!(told(&stream.until_now(&mut client), &mut wording), due);
}

#[test]
fn a_call_that_nobody_claims_is_told_as_a_break_with_the_next_call() {
    let server = Server::builder().config("lock.claim-lease 60").start();
    let mut client = server.client();
    let mut stream = Stream::of(&server);
    let mut listener = Listener::of(&server, "k");
    let mut wording = Wording::default();
    acquire(&mut client, "k TOKEN a");
    let places = ["b", "c"].map(|token| place(&mut client, &format!("k TOKEN {token} QUEUE 600000")));
    release(&mut client, "k", "a");
    places.iter().for_each(|number| listener.hears(*number));
    wait_until("the last lease is over", PATIENCE, || !exists(&mut client, "k"));
    let due = [
        "LOCK.ACQUIRE k [a #1 30000]",
        "MULTI",
        "LOCK.RELEASE k a",
        "LOCK.ACQUIRE k [b #2 60]",
        "EXEC",
        "MULTI",
        "LOCK.BREAK k FENCE #2",
        "LOCK.ACQUIRE k [c #3 60]",
        "EXEC",
        "LOCK.BREAK k FENCE #3",
    ];
    assert_eq!(told(&stream.until_now(&mut client), &mut wording), due);
}

#[test]
fn a_grant_that_could_not_be_told_is_told_with_the_lease_of_a_call_in_the_end() {
    let pair = Pair::start();
    let mut client = pair.master.client();
    let mut stream = Stream::of(&pair.master);
    acquire(&mut client, "k TOKEN a");
    let waiter = Waiter::new(&pair.master, "k TOKEN b PX 600000 BLOCK 0 QUEUE 600000");
    client.run_all(&["LOCK.RELEASE k a", &format!("CLIENT KILL ID {}", waiter.id)]);
    wait_blocked(&pair.master, 0);
    let fence = field(&holder(&mut client, "k"), "fence").int();
    let said = told(&stream.until_now(&mut client), &mut Wording::default());
    let last = said.iter().rfind(|said| said.starts_with("LOCK.ACQUIRE")).unwrap();
    assert_eq!(last, "LOCK.ACQUIRE k [b #2 5000]", "{said:?}");
    pair.wait_caught_up();
    let mut replica = pair.replica.client();
    assert_eq!(field(&holder(&mut replica, "k"), "fence"), Reply::Int(fence));
    assert!(remaining(&mut replica, "k", "b") <= Some(CLAIM_LEASE_MS));
}

#[test]
fn the_append_only_file_has_what_replicas_are_told() {
    let server = Server::builder()
        .aof()
        .config("aof-use-rdb-preamble no")
        .config("repl-diskless-sync no")
        .config("lock.claim-lease 600000")
        .start();
    let mut client = server.client();
    let mut stream = Stream::of(&server);
    acquire(&mut client, "k TOKEN a PX 600000");
    place(&mut client, "k TOKEN b QUEUE 600000");
    let waiter = Waiter::new(&server, "k TOKEN c PX 700000 BLOCK 0 QUEUE 600000");
    release(&mut client, "k", "a");
    claim(&mut client, "k TOKEN b PX 600000 QUEUE 600000");
    client.run_all(&["LOCK.RELEASE k b", &format!("CLIENT KILL ID {}", waiter.id)]);
    wait_blocked(&server, 0);
    claim(&mut client, "k TOKEN c");
    release(&mut client, "k", "c");
    let said = stream.until_now(&mut client);
    let mut kept = appended(&server);
    kept.retain(|said| !Stream::is_the_end(said));
    assert_eq!(kept, said);
}

// --- replicas

#[test]
fn a_replica_has_the_hold_that_was_called_and_no_places() {
    let pair = Pair::start();
    let mut client = pair.master.client();
    acquire(&mut client, "k TOKEN a");
    place(&mut client, "k TOKEN b PX 600000 OWNER b QUEUE 600000");
    place(&mut client, "k TOKEN c QUEUE 600000");
    release(&mut client, "k", "a");
    pair.wait_caught_up();
    let mut replica = pair.replica.client();
    assert_eq!(waiting(&mut replica, "k"), 0);
    let hold = holder(&mut replica, "k");
    assert_eq!(field(&hold, "owner").text(), "b");
    assert_eq!(field(&hold, "lease"), Reply::Int(CLAIM_LEASE_MS));
    assert!(field(&hold, "remaining").int() <= CLAIM_LEASE_MS);
    claim(&mut client, "k TOKEN b PX 600000");
    pair.wait_caught_up();
    assert!(remaining(&mut replica, "k", "b") > Some(300_000));
}

#[test]
fn a_replica_refuses_a_place_and_tells_nobody_of_a_call() {
    let pair = Pair::start();
    let mut client = pair.master.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    pair.wait_caught_up();
    let mut replica = pair.replica.client();
    let reply = replica.run("LOCK.ACQUIRE k TOKEN b QUEUE 600000");
    assert!(reply.error().starts_with("READONLY "), "{reply:?}");
    let mut here = Listener::of(&pair.master, "k");
    let mut there = Listener::of(&pair.replica, "k");
    let number = place(&mut client, "k TOKEN b QUEUE 600000");
    release(&mut client, "k", "a");
    here.hears(number);
    pair.wait_caught_up();
    assert!(is_called(&mut replica, "k", "b"));
    there.heard_nothing();
}

#[test]
fn a_promoted_replica_gives_new_tickets_larger_than_the_old_ones() {
    let Pair { replica, master } = Pair::start();
    let mut client = master.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    let mut last = 0;
    for n in 0..50 {
        last = place(&mut client, &format!("k TOKEN t{n} QUEUE 600000"));
    }
    caught_up(&master, &replica);
    let mut client = replica.client();
    client.ok("REPLICAOF NO ONE");
    assert_eq!(waiting(&mut client, "k"), 0, "no places");
    let new = place(&mut client, "k TOKEN t0 QUEUE 600000");
    assert!(new > last, "{new} after {last}");
    let mut listener = Listener::of(&replica, "k");
    release(&mut client, "k", "a");
    listener.hears(new);
    claim(&mut client, "k TOKEN t0");
}

#[test]
fn what_was_called_before_a_promotion_is_claimed_after_it() {
    let settings = || Server::builder().config("lock.claim-lease 600000");
    let Pair { replica, master } = Pair::start_with(settings(), settings());
    let mut client = master.client();
    acquire(&mut client, "k TOKEN a");
    place(&mut client, "k TOKEN b PX 700000 QUEUE 600000");
    release(&mut client, "k", "a");
    let fence = field(&holder(&mut client, "k"), "fence").int();
    caught_up(&master, &replica);
    let mut client = replica.client();
    client.ok("REPLICAOF NO ONE");
    master.client().ok(&format!("REPLICAOF 127.0.0.1 {}", replica.port()));
    assert_eq!(claim(&mut client, "k TOKEN b PX 700000 QUEUE 600000").fence, fence);
    caught_up(&replica, &master);
    assert!(remaining(&mut master.client(), "k", "b") > Some(600_000));
}

#[test]
fn what_was_called_and_is_not_claimed_ends_on_a_promoted_replica_too() {
    let settings = || Server::builder().config("lock.claim-lease 1500");
    let Pair { replica, master } = Pair::start_with(settings(), settings());
    let mut client = master.client();
    acquire(&mut client, "k TOKEN a");
    place(&mut client, "k TOKEN b PX 700000 QUEUE 600000");
    let called = Instant::now();
    release(&mut client, "k", "a");
    caught_up(&master, &replica);
    let mut client = replica.client();
    client.ok("REPLICAOF NO ONE");
    wait_until("the lease of the call is over", PATIENCE, || !exists(&mut client, "k"));
    assert!(called.elapsed() >= Duration::from_millis(1_500), "{:?}", called.elapsed());
}

#[test]
fn a_client_that_only_repeats_is_served_over_a_failover() {
    let settings = || Server::builder().config("lock.claim-lease 600000");
    let Pair { replica, master } = Pair::start_with(settings(), settings());
    let mut client = master.client();
    acquire(&mut client, "k TOKEN a PX 600000");
    let request = "k TOKEN b PX 700000 QUEUE 600000";
    let old = place(&mut client, request);
    caught_up(&master, &replica);
    client.ok("FAILOVER");
    let mut client = replica.client();
    wait_until("the replica is master", PATIENCE, || client.info("replication", "role") == "master");
    wait_until("the old master follows", PATIENCE, || master.client().info("replication", "role") == "slave");
    caught_up(&replica, &master);
    let new = place(&mut client, request);
    assert!(new > old, "{new} after {old}");
    release(&mut client, "k", "a");
    claim(&mut client, request);
    let reply = master.client().run(&format!("LOCK.ACQUIRE {request}"));
    assert!(reply.error().starts_with("READONLY "), "{reply:?}");
}

#[test]
fn replicas_and_files_have_the_same_locks_as_their_master_after_calls_and_claims() {
    let settings = || Server::builder().config("lock.claim-lease 600000");
    let pair = Pair::start_with(settings().aof().config("aof-use-rdb-preamble no"), settings());
    let mut client = pair.master.client();
    for n in 0..20 {
        acquire(&mut client, &format!("k{n} TOKEN a PX 600000"));
        place(&mut client, &format!("k{n} TOKEN b SHARED OWNER b QUEUE 600000"));
        place(&mut client, &format!("k{n} TOKEN c LIMIT 5 QUEUE 600000"));
        release(&mut client, &format!("k{n}"), "a");
        if n % 2 == 0 {
            claim(&mut client, &format!("k{n} TOKEN b PX 700000"));
        }
        if n % 3 == 0 {
            release(&mut client, &format!("k{n}"), "c");
        }
    }
    let digest = |server: &Server| server.client().run("DEBUG DIGEST").text();
    let before = digest(&pair.master);
    pair.wait_caught_up();
    wait_until("the replica agrees", PATIENCE, || digest(&pair.replica) == before);
    client.ok("DEBUG LOADAOF");
    assert_eq!(digest(&pair.master), before, "what is read from the file is the same");
    client.ok("DEBUG RELOAD");
    assert_eq!(digest(&pair.master), before, "and what is read from a snapshot");
}

// --- files

fn ways() -> [(Builder, Way); 4] {
    [
        (Server::builder(), snapshot),
        (commands_only(), power_cut),
        (commands_only(), rewrite_and_power_cut),
        (with_snapshot(), rewrite_and_power_cut),
    ]
}

#[test]
fn after_a_restart_what_was_called_is_there_to_be_claimed_and_the_places_are_gone() {
    for (builder, way) in ways() {
        let mut server = builder.config("lock.claim-lease 600000").start();
        let mut client = server.client();
        acquire(&mut client, "k TOKEN a PX 600000");
        let first = place(&mut client, "k TOKEN b OWNER b PX 700000 QUEUE 600000");
        let second = place(&mut client, "k TOKEN c QUEUE 600000");
        release(&mut client, "k", "a");
        let fence = field(&holder(&mut client, "k"), "fence").int();
        way(&mut server);
        let mut client = server.client();
        assert_eq!(waiting(&mut client, "k"), 0);
        let hold = holder(&mut client, "k");
        assert_eq!(field(&hold, "lease"), Reply::Int(600_000));
        assert_eq!(claim(&mut client, "k TOKEN b PX 700000 QUEUE 600000").fence, fence);
        let new = place(&mut client, "k TOKEN c QUEUE 600000");
        assert!(new > second && second > first);
        super::call_next(&mut client, "k", "b", "c");
        server.assert_alive();
    }
}

#[test]
fn after_a_restart_a_call_that_nobody_claims_ends() {
    for (builder, way) in ways() {
        let mut server = builder.config("lock.claim-lease 1000").start();
        let mut client = server.client();
        acquire(&mut client, "k TOKEN a PX 600000");
        place(&mut client, "k TOKEN b PX 700000 QUEUE 600000");
        let called = Instant::now();
        release(&mut client, "k", "a");
        way(&mut server);
        let mut client = server.client();
        wait_until("the lease of the call is over", PATIENCE, || !exists(&mut client, "k"));
        assert!(called.elapsed() >= Duration::from_millis(1_000), "{:?}", called.elapsed());
        assert_left_in_peace(&server, "k");
    }
}

#[test]
fn a_file_that_is_read_again_under_places_calls_nobody_and_keeps_their_turn() {
    for (builder, read_again) in [
        (Server::builder(), "DEBUG RELOAD"),
        (Server::builder().aof().config("aof-use-rdb-preamble no"), "DEBUG LOADAOF"),
    ] {
        let server = builder.config("lock.claim-lease 600000").start();
        let mut client = server.client();
        // The token was granted and released before: replayed, that is no end of its place.
        acquire(&mut client, "k TOKEN b");
        release(&mut client, "k", "b");
        acquire(&mut client, "k TOKEN a PX 600000");
        let number = place(&mut client, "k TOKEN b QUEUE 600000");
        let mut listener = Listener::of(&server, "k");
        client.ok(read_again);
        listener.heard_nothing();
        assert_eq!(tickets(&mut client, "k"), [Some(number)], "{read_again}");
        release(&mut client, "k", "a");
        listener.hears(number);
    }
}

#[test]
fn a_full_resync_takes_the_places_of_the_server_that_becomes_a_replica() {
    let (server, mut client) = held();
    let other = patient();
    acquire(&mut other.client(), "k TOKEN there PX 600000");
    place(&mut client, "k TOKEN b QUEUE 600000");
    client.ok(&format!("REPLICAOF 127.0.0.1 {}", other.port()));
    caught_up(&other, &server);
    let mut client: Client = server.client();
    assert_eq!(waiting(&mut client, "k"), 0);
    release(&mut other.client(), "k", "there");
    caught_up(&other, &server);
    assert!(holders(&mut client, "k").is_empty());
    client.ok("REPLICAOF NO ONE");
    assert_eq!(client.run("LOCK.CHECK k b"), null(&client));
    assert_left_in_peace(&server, "k");
}
