//! What is granted together is known afterwards, by whichever file and on every replica, and is the same there.

use super::{all, fences, holds, none, release_all, waits};
use crate::support::locks::{acquire, field, holder};
use crate::support::payload::raise_fences;
use crate::support::read_again::{
    Way, commands_only, debug_reload, power_cut, replay, rewrite_and_power_cut, snapshot, with_snapshot,
};
use crate::support::signal::{go_on, stop};
use crate::support::stream::Stream;
use crate::support::wording::Wording;
use crate::support::{Builder, Client, PATIENCE, Pair, Reply, Server, caught_up, wait_until};

const KEYS: [&str; 5] = ["k", "l", "m", "n", "o"];

/// Locks of several, in the states that commands leave them in. The highest fence there is comes with them.
#[track_caller]
fn stock(server: &Server) -> i64 {
    let mut client = server.client();
    all(&mut client, "3 k l m TOKEN a PX 600000 OWNER me LIMIT 5 WEIGHT 2");
    all(&mut client, "2 l m TOKEN b PX 600000 LIMIT 5");
    all(&mut client, "2 l m TOKEN b PX 600000 LEVEL 3");
    let mut waiter = waits(server, "3 k n o TOKEN c PX 600000 BLOCK 0");
    assert_eq!(client.run("LOCK.MRELEASE 1 k a"), Reply::Int(1));
    let grant = waiter.granted();
    assert_eq!(client.run("LOCK.MEXTEND 2 n o c PX 700000"), Reply::Int(2));
    all(&mut client, "2 x y TOKEN d PX 600000");
    release_all(&mut client, "2 x y d");
    let last = all(&mut client, "1 o TOKEN c PX 800000");
    assert_eq!(last.fence, grant.fence);
    all(&mut client, "1 x TOKEN last PX 600000").fence
}

/// Holders of each key with all that does not move with time.
#[track_caller]
fn view(client: &mut Client) -> Vec<Reply> {
    let keys = KEYS.iter().chain(&["x", "y"]);
    keys.map(|key| match crate::support::locks::standing(client, key) {
        Reply::Map(pairs) => {
            Reply::Map(pairs.into_iter().filter(|(name, _)| name.text() == "holders").collect())
        }
        other => other,
    })
    .collect()
}

#[track_caller]
fn survives(builder: Builder, way: Way) {
    let mut server = builder.start();
    let highest = stock(&server);
    let before = view(&mut server.client());
    let digest = server.client().run("DEBUG DIGEST");
    way(&mut server);
    let mut client = server.client();
    assert_eq!(view(&mut client), before);
    assert_eq!(client.run("DEBUG DIGEST"), digest);
    assert_eq!(holds(&mut client, &KEYS, "c"), ["k", "n", "o"]);
    none(&mut client, "2 y o TOKEN e");
    assert!(all(&mut client, "2 y z TOKEN e").fence > highest);
    release_all(&mut client, "3 k n o c");
    server.assert_alive();
}

#[test]
fn a_snapshot() {
    survives(Server::builder(), snapshot);
}

#[test]
fn debug_reload_of_everything() {
    survives(Server::builder(), debug_reload);
}

#[test]
fn an_append_only_file_of_commands() {
    survives(commands_only(), replay);
    survives(commands_only(), power_cut);
}

#[test]
fn an_append_only_file_with_a_snapshot_at_its_head() {
    survives(with_snapshot(), power_cut);
}

#[test]
fn a_rewrite_of_either() {
    survives(commands_only(), rewrite_and_power_cut);
    survives(with_snapshot(), rewrite_and_power_cut);
}

#[track_caller]
fn agrees(master: &Server, replica: &Server) {
    caught_up(master, replica);
    let digest = |server: &Server| server.client().run("DEBUG DIGEST");
    wait_until("master and replica agree", PATIENCE, || digest(master) == digest(replica));
    assert_eq!(view(&mut replica.client()), view(&mut master.client()));
}

#[test]
fn a_replica_and_its_replica_have_the_same() {
    let pair = Pair::start();
    let below = Server::builder().replica_of(&pair.replica).start();
    stock(&pair.master);
    agrees(&pair.master, &pair.replica);
    agrees(&pair.replica, &below);
    let mut client = pair.replica.client();
    assert!(!client.run("LOCK.CHECK k c").is_null());
}

#[test]
fn a_full_resync_brings_all() {
    for diskless in ["yes", "no"] {
        let master = Server::builder().config(&format!("repl-diskless-sync {diskless}")).start();
        stock(&master);
        let replica = Server::builder().replica_of(&master).start();
        agrees(&master, &replica);
        assert_eq!(master.client().info("stats", "sync_full"), "1");
    }
}

#[test]
fn a_partial_resync_brings_what_was_missed() {
    let pair = Pair::start_with(
        Server::builder().config("repl-backlog-size 4mb").config("repl-ping-replica-period 1"),
        Server::builder(),
    );
    let mut client = pair.master.client();
    all(&mut client, "2 k l TOKEN before PX 600000");
    caught_up(&pair.master, &pair.replica);
    let port = pair.master.port();
    // The link breaks, and what is done meanwhile is in the backlog.
    stop(&pair.replica);
    client.run("CLIENT KILL TYPE replica");
    release_all(&mut client, "2 k l before");
    stock(&pair.master);
    go_on(&pair.replica);
    agrees(&pair.master, &pair.replica);
    assert_eq!(client.info("stats", "sync_partial_ok"), "1", "port {port}");
    assert_eq!(client.info("stats", "sync_full"), "1");
}

#[test]
fn the_last_fence_survives_though_all_locks_are_gone() {
    for builder in [commands_only(), with_snapshot()] {
        let mut server = builder.config("rdbcompression no").start();
        let mut client = server.client();
        raise_fences(&mut client);
        let fence = all(&mut client, "3 k l m TOKEN a").fence;
        release_all(&mut client, "3 k l m a");
        power_cut(&mut server);
        let mut client = server.client();
        assert!(all(&mut client, "2 k l TOKEN b").fence > fence);
        rewrite_and_power_cut(&mut server);
        assert!(all(&mut server.client(), "2 m n TOKEN c").fence > fence + 1);
    }
}

/// One key at a time is what is told: a replica that loses the link in between has all of a transaction or nothing.
#[test]
fn what_is_granted_together_is_one_transaction_and_nothing_is_asked() {
    let server = Server::start();
    let mut client = server.client();
    let mut stream = Stream::of(&server);
    let mut wording = Wording::default();
    all(&mut client, "2 k l TOKEN a BLOCK 0 SESSION PX 60000");
    let said = stream.until_now(&mut client);
    let told: Vec<String> = said.iter().map(|said| wording.told(said)).collect();
    assert_eq!(told, ["MULTI", "LOCK.ACQUIRE k [a #1 60000]", "LOCK.ACQUIRE l [a #1 60000]", "EXEC"]);
    none(&mut client, "2 l m TOKEN b");
    let place = client.run("LOCK.MACQUIRE 2 l m TOKEN b QUEUE 600000");
    assert!(matches!(place, Reply::Int(_)));
    assert_eq!(client.run("LOCK.MRELEASE 2 l m b"), Reply::Int(0));
    assert_eq!(client.run("LOCK.MEXTEND 2 l m b"), Reply::Int(0));
    assert_eq!(stream.until_now(&mut client), [], "nothing was decided");
}

#[test]
fn dump_and_restore_carry_one_of_them() {
    let server = Server::start();
    let mut client = server.client();
    let grant = all(&mut client, "2 k l TOKEN a PX 600000 OWNER me");
    let payload = client.run("DUMP k").bytes();
    client.run("DEL k");
    let restored = client.call(&crate::support::cmd!["RESTORE", "k", 0, payload]);
    assert_eq!(restored, Reply::Simple("OK".into()));
    assert_eq!(fences(&mut client, &["k", "l"], "a"), [grant.fence; 2]);
    assert_eq!(field(&holder(&mut client, "k"), "owner").text(), "me");
    release_all(&mut client, "2 k l a");
}

/// Leases of several that end on the master end on the replica, and not before.
#[test]
fn leases_end_on_the_replica_when_the_master_says_so() {
    let pair = Pair::start();
    let mut client = pair.master.client();
    all(&mut client, "3 k l m TOKEN a PX 150");
    acquire(&mut client, "n TOKEN a PX 600000");
    wait_until("they end", PATIENCE, || client.run("DBSIZE") == Reply::Int(1));
    agrees(&pair.master, &pair.replica);
    assert_eq!(pair.replica.client().run("DBSIZE"), Reply::Int(1));
}
