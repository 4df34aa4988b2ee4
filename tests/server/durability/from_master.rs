//! What a master says, or an append-only file: it is applied whatever stands under the key, and not at all where a snapshot
//! with the lock it would make could not be loaded.

use std::fs;
use std::io::Write;

use lock_core::hold::{GrantState, Terms};
use lock_core::share::{Limit, Share};
use lock_core::{Fence, Hold, Moment, Token, codec};

use crate::support::locks::{acquire, exists, field, held, holder};
use crate::support::payload::Payload;
use crate::support::waiter::release;
use crate::support::{Client, Data, PATIENCE, Pair, Reply, Server, cmd, wait_until};

/// What must agree on both servers: the lock under the key.
#[track_caller]
fn copies_agree(pair: &Pair, key: &str) {
    pair.wait_caught_up();
    let digest = |server: &Server| server.client().call(&["DEBUG", "DIGEST-VALUE", key]);
    assert_eq!(digest(&pair.replica), digest(&pair.master), "{key}");
}

#[test]
fn a_grant_replaces_whatever_a_replica_has_under_the_key() {
    let pair = Pair::start();
    let mut client = pair.master.client();
    let mut replica = pair.replica.client();
    replica.ok("CONFIG SET replica-read-only no");
    for stray in
        ["SET k stray", "RPUSH k stray", "SET k stray PX 600000", "HSET k stray 1", "XADD k * stray 1"]
    {
        assert!(!replica.run(stray).is_error());
        acquire(&mut client, "k TOKEN a PX 60000");
        copies_agree(&pair, "k");
        assert_eq!(field(&holder(&mut replica, "k"), "fence"), field(&holder(&mut client, "k"), "fence"));
        assert_eq!(replica.run("PTTL k"), Reply::Int(-1), "{stray}");
        release(&mut client, "k", "a");
        pair.wait_caught_up();
        assert!(!exists(&mut replica, "k"), "{stray}");
    }
}

/// DEBUG RELOAD on a master drops keys whose time is over and tells no replica. A replica keeps such a string, and took the
/// grant that followed for one to a key of another type.
#[test]
fn a_string_that_the_master_dropped_unsaid_is_no_obstacle() {
    let pair = Pair::start();
    let mut client = pair.master.client();
    client.ok("DEBUG SET-ACTIVE-EXPIRE 0");
    client.ok("SET k stray PX 20");
    pair.wait_caught_up();
    wait_until("its time is over", PATIENCE, || client.run("PTTL k").int() <= 1);
    client.ok("DEBUG SLEEP 0.03");
    client.ok("DEBUG RELOAD");
    acquire(&mut client, "k TOKEN a PX 60000");
    copies_agree(&pair, "k");
    acquire(&mut client, "k TOKEN a PX 60000 LEVEL 2");
    copies_agree(&pair, "k");
    release(&mut client, "k", "a");
    pair.wait_caught_up();
    assert!(!exists(&mut pair.replica.client(), "k"));
}

/// A replica keeps a lock, too, that the master dropped without a word. The grant that makes the key anew says that there is no
/// other hold.
#[test]
fn a_lock_that_the_master_dropped_unsaid_is_replaced() {
    for options in ["LIMIT 1", "SHARED"] {
        let pair = Pair::start();
        let mut client = pair.master.client();
        client.ok("DEBUG SET-ACTIVE-EXPIRE 0");
        acquire(&mut client, &format!("k PX 900000 {options} TOKEN old"));
        assert_eq!(client.run("PEXPIRE k 1"), Reply::Int(1));
        pair.wait_caught_up();
        client.ok("DEBUG SLEEP 0.03");
        client.ok("DEBUG RELOAD");
        acquire(&mut client, &format!("k PX 600000 {options} TOKEN new"));
        copies_agree(&pair, "k");
        assert_eq!(held(&mut pair.replica.client(), "k"), 1, "{options}");
        acquire(&mut client, &format!("k PX 600000 {options} TOKEN new LEVEL 2"));
        copies_agree(&pair, "k");
    }
}

fn hold(token: &str, fence: u64, limit: u16) -> Hold {
    let token = Token::from_text(token.as_bytes()).unwrap();
    let terms = Terms {
        token: &token,
        share: Share::of(Limit::from_number(limit)),
        lease_ms: 600_000,
        owner: None,
        session: None,
    };
    let now = Moment::from_micros(0);
    let standing = GrantState {
        fence: Fence::new(fence).unwrap(),
        granted_at: now,
        deadline: now.plus_ms(600_000),
        level: 1,
    };
    Hold::restore(terms, standing)
}

/// LOCK.ACQUIRE as a master says it, in the form of the append-only file.
fn said(key: &str, holds: &[Hold]) -> Vec<u8> {
    let bytes = codec::encode(holds, Moment::from_micros(0));
    let mut command =
        format!("*3\r\n$12\r\nLOCK.ACQUIRE\r\n${}\r\n{key}\r\n${}\r\n", key.len(), bytes.len()).into_bytes();
    command.extend(bytes);
    command.extend(b"\r\n");
    command
}

/// A server that starts from an append-only file in which this stands.
fn start_from(commands: &[Vec<u8>]) -> Server {
    let mut server = Server::builder().aof().start();
    // Every file begins with the selection of a database.
    server.client().ok("SET first 1");
    server.stop(Data::NoSave);
    let folder = server.folder().join("appendonlydir");
    let last = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().ends_with(".incr.aof"))
        .unwrap();
    let mut file = fs::OpenOptions::new().append(true).open(last).unwrap();
    commands.iter().for_each(|command| file.write_all(command).unwrap());
    drop(file);
    server.start_again();
    server
}

#[test]
fn what_no_snapshot_could_hold_is_not_applied_and_said_in_the_log() {
    let good = hold("good", 10, 0);
    for (what, bad) in [
        ("one fence twice, one after the other", vec![vec![hold("b", 10, 0)]]),
        ("one fence twice in one command", vec![vec![hold("b", 11, 0), hold("c", 11, 0)]]),
        ("one token twice", vec![vec![hold("b", 11, 0), hold("b", 12, 0)]]),
        ("more holds than one tolerates", vec![vec![hold("b", 11, 1)]]),
        ("nothing at all", vec![vec![]]),
    ] {
        let mut commands = vec![said("k", std::slice::from_ref(&good))];
        commands.extend(bad.iter().map(|holds| said("k", holds)));
        commands.push(said("other", &[hold("d", 20, 1)]));
        if bad == [vec![]] {
            commands.remove(0);
        }
        let mut server = start_from(&commands);
        let mut client = server.client();
        assert_eq!(held(&mut client, "k"), i64::from(bad != [vec![]]), "{what}");
        assert_eq!(held(&mut client, "other"), 1, "{what}");
        assert!(server.log().contains("is not applied"), "{what}");
        // What is there can be saved and loaded.
        server.restart(Data::Save);
        let mut client = server.client();
        assert_eq!(held(&mut client, "other"), 1, "{what}");
    }
}

fn payload_ahead_by(client: &mut Client, micros: i64) -> Vec<u8> {
    let fence = acquire(client, "source TOKEN a PX 600000").fence;
    let payload = Payload::of(client, "source");
    let wall: i64 = {
        let time = client.run("TIME");
        let parts: Vec<i64> = time.items().iter().map(|part| part.text().parse().unwrap()).collect();
        parts[0] * 1_000_000 + parts[1]
    };
    let far = payload.with_number(fence.unsigned_abs(), (wall + micros).unsigned_abs());
    release(client, "source", "a");
    far.wire()
}

const HOUR: i64 = 3_600 * 1_000_000;

#[test]
fn a_client_is_believed_a_fence_of_up_to_a_day_ahead_and_no_more() {
    let server = Server::builder().config("rdbcompression no").start();
    let mut client = server.client();
    for (hours, is_believed) in [(23, true), (25, false), (24 * 365, false)] {
        let payload = payload_ahead_by(&mut client, hours * HOUR);
        let reply = client.call(&cmd!["RESTORE", "k", 0, payload, "REPLACE"]);
        assert_eq!(!reply.is_error(), is_believed, "{hours} h: {reply:?}");
        client.run("DEL k");
    }
    let fence = acquire(&mut client, "k").fence;
    let wall: i64 = client.run("TIME").items()[0].text().parse().unwrap();
    assert!(fence / 1_000_000 < wall + 24 * 3600, "the fences of the server stay near the clock");
}

#[test]
fn a_client_of_a_writable_replica_is_believed_no_more_and_its_master_is() {
    let pair = Pair::start_with(Server::builder().config("rdbcompression no"), Server::builder());
    let mut replica = pair.replica.client();
    replica.ok("CONFIG SET replica-read-only no");
    let far = payload_ahead_by(&mut pair.master.client(), 25 * HOUR);
    let near = payload_ahead_by(&mut pair.master.client(), HOUR);
    pair.wait_caught_up();
    assert!(replica.call(&cmd!["RESTORE", "mine", 0, &far]).is_error());
    assert!(!replica.call(&cmd!["RESTORE", "mine", 0, &near]).is_error());
    // Whatever its master believes, it does: here the master itself was brought far ahead by a file.
    let mut client = pair.master.client();
    assert!(!client.call(&cmd!["RESTORE", "k", 0, &near]).is_error());
    copies_agree(&pair, "k");
}
