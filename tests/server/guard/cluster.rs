//! In a cluster LOCK.GUARD goes where its lock and the keys of its command belong, which has to be one slot.

use std::thread;

use crate::support::cluster::{Cluster, ask, asking, key_in, moved_to, shared};
use crate::support::locks::acquire;
use crate::support::{Client, Reply, Version, cmd};

#[track_caller]
fn keys(client: &mut Client, command: &str) -> Vec<String> {
    let reply = client.run(&format!("COMMAND GETKEYS LOCK.GUARD {command}"));
    reply.items().iter().map(Reply::text).collect()
}

#[test]
fn the_server_tells_the_keys_of_both() {
    let cluster = shared();
    let mut client = cluster.client(0);
    for (command, due) in [
        ("k a SET x 1", &["k", "x"][..]),
        ("k a GET x", &["k", "x"]),
        ("k a MSET x 1 y 2", &["k", "x", "y"]),
        ("k a ZUNIONSTORE x 2 y z", &["k", "y", "z", "x"]),
        ("k a EVAL return(1) 2 x y z", &["k", "x", "y"]),
        ("k a OBJECT ENCODING x", &["k", "x"]),
        ("k a XREAD COUNT 1 STREAMS x y 0 0", &["k", "x", "y"]),
        ("k a LOCK.RELEASE l a", &["k", "l"]),
        ("k a DEL k", &["k", "k"]),
        ("k a PING", &["k"]),
        ("k a SET", &["k"]),
        ("k a NOSUCHCOMMAND x", &["k"]),
        ("k a EVAL return(1) x", &["k"]),
        ("k a LOCK.GUARD l a SET x 1", &["k"]),
    ] {
        assert_eq!(keys(&mut client, command), due, "{command}");
    }
    let flags = client.run("COMMAND GETKEYSANDFLAGS LOCK.GUARD k a SET x 1");
    let flags_of =
        |at: usize| -> Vec<String> { flags.items()[at].items()[1].items().iter().map(Reply::text).collect() };
    assert_eq!(flags_of(0), ["RO", "access"]);
    assert!(flags_of(1).contains(&"OW".to_owned()) || flags_of(1).contains(&"RW".to_owned()), "{flags:?}");
}

#[test]
fn keys_in_two_slots_are_refused_before_anything_runs() {
    let cluster = shared();
    let (slot, other) = (cluster.fresh_slot(1), cluster.fresh_slot(1));
    let (key, elsewhere) = (key_in(slot, "k"), key_in(other, "x"));
    let mut client = cluster.client(1);
    acquire(&mut client, &format!("{key} TOKEN a PX 60000"));
    for command in [
        format!("SET {elsewhere} 1"),
        format!("EVAL return(1) 1 {elsewhere}"),
        format!("LOCK.CHECK {elsewhere} a"),
        format!("MSET {} 1 {elsewhere} 1", key_in(slot, "x")),
    ] {
        let reply = client.run(&format!("LOCK.GUARD {key} a {command}"));
        assert!(reply.error().starts_with("CROSSSLOT "), "{command}: {reply:?}");
    }
    assert_eq!(client.run(&format!("EXISTS {elsewhere}")), Reply::Int(0));
    client.run(&format!("LOCK.RELEASE {key} a"));
}

#[test]
fn it_goes_to_the_node_of_its_keys_and_runs_there() {
    let cluster = shared();
    let slot = cluster.fresh_slot(1);
    let (key, x) = (key_in(slot, "k"), key_in(slot, "x"));
    let mut client = cluster.client(1);
    acquire(&mut client, &format!("{key} TOKEN a PX 60000"));
    let moved = Reply::Error(moved_to(slot, cluster.node(1)));
    for wrong in [0, 2] {
        let mut wrong = cluster.client(wrong);
        for command in [format!("SET {x} 1"), "PING".to_owned(), format!("EVAL return(1) 1 {x}")] {
            assert_eq!(wrong.run(&format!("LOCK.GUARD {key} a {command}")), moved, "{command}");
        }
        let replies = wrong.run_all(&["MULTI", &format!("LOCK.GUARD {key} a SET {x} 1"), "EXEC"]);
        assert_eq!(replies[1], moved);
    }
    client.ok(&format!("LOCK.GUARD {key} a SET {x} 1"));
    assert_eq!(client.run(&format!("LOCK.GUARD {key} a GET {x}")).text(), "1");
    assert_eq!(client.run(&format!("LOCK.GUARD {key} a PING")), Reply::Simple("PONG".into()));
    client.run_all(&[&format!("DEL {x}"), &format!("LOCK.RELEASE {key} a")]);
    cluster.assert_free(1, &key);
}

#[test]
fn what_a_script_does_not_declare_does_not_run() {
    let cluster = shared();
    let slot = cluster.fresh_slot(0);
    let key = key_in(slot, "k");
    let elsewhere = key_in(cluster.fresh_slot(1), "x");
    let mut client = cluster.client(0);
    acquire(&mut client, &format!("{key} TOKEN a PX 60000"));
    let script = "return redis.call('SET', ARGV[1], 1)";
    let reply = client.call(&cmd!["LOCK.GUARD", key, "a", "EVAL", script, 1, key, elsewhere]);
    assert!(reply.is_error(), "{reply:?}");
    if !Version::of(&mut client).is_valkey_from([9, 0]) {
        // On Valkey 9 a script that asks for keys of two slots breaks every later one, whatever it calls.
        let script = "return redis.call('LOCK.GUARD', KEYS[1], 'a', 'SET', ARGV[1], 1)";
        let reply = client.call(&cmd!["EVAL", script, 1, key, elsewhere]);
        assert!(reply.is_error(), "{reply:?}");
    }
    assert_eq!(cluster.client(1).run(&format!("EXISTS {elsewhere}")), Reply::Int(0));
    client.run(&format!("LOCK.RELEASE {key} a"));
}

/// As MSET is: keys that exist are served where they are, keys on both nodes are to be asked for again.
#[test]
fn while_the_slot_moves_it_is_what_a_command_of_several_keys_is() {
    let cluster = shared();
    let slot = cluster.fresh_slot(0);
    let (key, x) = (key_in(slot, "k"), key_in(slot, "x"));
    let (mut source, mut target) = (cluster.client(0), cluster.client(1));
    acquire(&mut source, &format!("{key} TOKEN a PX 60000"));
    source.ok(&format!("SET {x} 1"));
    let leaving = cluster.open_slot(slot, 0, 1);
    let command = format!("LOCK.GUARD {key} a INCR {x}");
    assert_eq!(source.run(&command), Reply::Int(2), "both are here");
    for command in ["PING".to_owned(), "EVAL return(1) 0".to_owned(), format!("EVAL return(1) 1 {x}")] {
        let reply = source.run(&format!("LOCK.GUARD {key} a {command}"));
        assert!(!reply.is_error(), "{command}: {reply:?}");
    }
    for command in ["PING".to_owned(), "EVAL return(1) 0".to_owned(), format!("EVAL return(1) 1 {x}")] {
        let reply = source.run(&format!("LOCK.GUARD {key} a {command}"));
        assert!(!reply.is_error(), "{command}: {reply:?}");
    }
    leaving.move_key(&x);
    for reply in [source.run(&command), asking(&mut target, &command)] {
        assert!(reply.error().starts_with("TRYAGAIN "), "one of them: {reply:?}");
    }
    leaving.move_key(&key);
    assert_eq!(source.run(&command), Reply::Error(ask(slot, cluster.node(1))), "none is here");
    assert_eq!(asking(&mut target, &command), Reply::Int(3), "both are there");
    assert_eq!(
        target.run(&command),
        Reply::Error(moved_to(slot, cluster.node(0))),
        "ASKING is for one command"
    );
    leaving.finish();
    assert_eq!(target.run(&command), Reply::Int(4));
    target.run_all(&[&format!("DEL {x}"), &format!("LOCK.RELEASE {key} a")]);
    cluster.assert_free(1, &key);
}

/// After that Valkey 9 refuses what modules call, until they have called nothing for some seconds.
#[test]
fn a_script_that_asks_for_two_slots_leaves_guards_as_they_are_or_has_them_sent_again() {
    let cluster = Cluster::start(3);
    let slot = cluster.fresh_slot(0);
    let (key, x, other) = (key_in(slot, "k"), key_in(slot, "x"), key_in(cluster.fresh_slot(0), "y"));
    let mut client = cluster.client(0);
    acquire(&mut client, &format!("{key} TOKEN a PX 60000"));
    let script = "return redis.call('MSET', KEYS[1], 1, ARGV[1], 1)";
    client.call(&cmd!["EVAL", script, 1, x, other]);
    let reply = client.run(&format!("LOCK.GUARD {key} a GET {x}"));
    let refuses = Version::of(&mut client).is_valkey_from([9, 0]);
    assert!(!reply.is_error() || refuses && reply.error().starts_with("TRYAGAIN "), "{reply:?}");
}

/// Valkey 9 asks for the keys of a command in the thread that reads it.
#[test]
fn threads_that_read_may_ask_for_the_keys() {
    const CLIENTS: usize = 8;
    const BATCHES: usize = 50;
    let mut cluster = Cluster::builder(3).config("io-threads 4").start();
    let slot = cluster.fresh_slot(0);
    let (key, x, elsewhere) = (key_in(slot, "k"), key_in(slot, "x"), key_in(cluster.fresh_slot(0), "y"));
    acquire(&mut cluster.client(0), &format!("{key} TOKEN a PX 3600000"));
    let (right, wrong) =
        (format!("LOCK.GUARD {key} a INCR {x}"), format!("LOCK.GUARD {key} a GET {elsewhere}"));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = cluster.client(0);
                for _ in 0..BATCHES {
                    for pair in client.run_all(&[right.as_str(), wrong.as_str()].repeat(20)).chunks(2) {
                        assert!(pair[0].int() > 0);
                        assert!(pair[1].error().starts_with("CROSSSLOT "), "{pair:?}");
                    }
                }
            });
        }
    });
    let due = (CLIENTS * BATCHES * 20).to_string();
    assert_eq!(cluster.client(0).run(&format!("GET {x}")).text(), due);
    cluster.assert_alive();
}
