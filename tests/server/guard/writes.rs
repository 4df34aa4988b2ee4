//! Where the server takes no writes, LOCK.GUARD runs none; and where its memory is full, nothing that needs more.

use std::time::Duration;

use crate::support::locks::{acquire, exists};
use crate::support::{PATIENCE, Pair, Reply, Server, cmd, wait_until};

#[test]
fn with_memory_full_the_command_inside_decides() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        acquire(&mut client, "k TOKEN a PX 60000");
        client.ok("SET x 1");
        client.ok("CONFIG SET maxmemory 1");
        let plain = client.run("SET y 1");
        assert!(plain.error().starts_with("OOM "), "{plain:?}");
        assert_eq!(client.run("LOCK.GUARD k a SET y 1"), plain);
        let script = "return redis.call('SET', KEYS[1], 1)";
        let reply = client.call(&cmd!["LOCK.GUARD", "k", "a", "EVAL", script, 1, "y"]);
        assert!(reply.error().contains("OOM "), "{reply:?}");
        assert_eq!(client.run("LOCK.GUARD k a GET x").text(), "1");
        assert_eq!(client.run("LOCK.GUARD k a DEL x"), Reply::Int(1));
        assert_eq!(client.run("LOCK.GUARD k a LOCK.RELEASE k a"), Reply::Int(1));
        assert!(!exists(&mut client, "y"));
        client.ok("CONFIG SET maxmemory 0");
    }
}

#[test]
fn a_replica_refuses_it_whatever_it_runs() {
    let pair = Pair::start();
    acquire(&mut pair.master.client(), "k TOKEN a PX 60000");
    pair.wait_caught_up();
    let mut client = pair.replica.client();
    for command in ["SET x 1", "GET x", "LOCK.CHECK k a", "EVAL return(1) 0"] {
        let reply = client.run(&format!("LOCK.GUARD k a {command}"));
        assert!(reply.error().starts_with("READONLY "), "{command}: {reply:?}");
    }
}

#[test]
fn a_promoted_replica_runs_commands_for_the_holder() {
    let pair = Pair::start();
    acquire(&mut pair.master.client(), "k TOKEN a PX 60000");
    pair.wait_caught_up();
    let mut client = pair.replica.client();
    client.ok("REPLICAOF NO ONE");
    client.ok("LOCK.GUARD k a SET x 1");
    assert!(client.run("LOCK.GUARD k b SET x 1").error().starts_with("NOTOWNER "));
}

#[test]
fn where_too_few_replicas_keep_up_nothing_runs() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    client.ok("CONFIG SET min-replicas-to-write 1");
    let reply = client.run("LOCK.GUARD k a SET x 1");
    assert!(reply.error().starts_with("NOREPLICAS "), "{reply:?}");
    assert!(!exists(&mut client, "x"));
}

#[test]
fn while_writes_are_paused_it_waits() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    let mut admin = server.client();
    admin.ok("CLIENT PAUSE 60000 WRITE");
    client.send(&["LOCK.GUARD", "k", "a", "SET", "x", "1"]);
    wait_until("it is held back", PATIENCE, || admin.info("clients", "blocked_clients") == "1");
    assert!(!client.has_reply_within(Duration::from_millis(50)));
    assert!(!exists(&mut admin, "x"));
    admin.ok("CLIENT UNPAUSE");
    assert_eq!(client.read(), Reply::Simple("OK".into()));
}

/// The lease may end while the command is held back: then it does not run.
#[test]
fn what_was_held_back_is_judged_when_it_runs() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 100");
    let mut admin = server.client();
    admin.ok("CLIENT PAUSE 60000 WRITE");
    client.send(&["LOCK.GUARD", "k", "a", "SET", "x", "1"]);
    wait_until("the lease is over", PATIENCE, || admin.run("LOCK.CHECK k a").is_null());
    admin.ok("CLIENT UNPAUSE");
    assert!(client.read().error().starts_with("NOTOWNER "));
    assert!(!exists(&mut admin, "x"));
}
