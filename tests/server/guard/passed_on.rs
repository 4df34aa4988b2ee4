//! What replicas and the append-only file hear of LOCK.GUARD: what the command inside has done, and nothing of the guard.

use crate::support::errors::show;
use crate::support::locks::acquire;
use crate::support::stream::{Stream, appended};
use crate::support::{Client, Data, Pair, Reply, Server, cmd};

/// The commands that replicas are told, each as one text.
#[track_caller]
fn told(stream: &mut Stream, client: &mut Client) -> Vec<String> {
    let said = stream.until_now(client);
    said.iter().map(|said| String::from_utf8_lossy(&said.command.join(&b' ')).into_owned()).collect()
}

#[test]
fn only_the_effect_is_told() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    client.run_all(&["SADD set a", "RPUSH list x y", "SET n 1"]);
    let mut stream = Stream::of(&server);
    for (command, due) in [
        ("SET x 1", &["SET x 1"][..]),
        ("INCR n", &["INCR n"]),
        ("SPOP set", &["SREM set a"]),
        ("RPOP list 2", &["RPOP list 2"]),
        ("DEL x", &["DEL x"]),
        ("DEL x", &[]),
        ("GET n", &[]),
        ("PING", &[]),
        ("LPUSH n x", &[]),
        ("LOCK.CHECK k a", &[]),
        ("LOCK.EXTEND k a PX 50000", &["LOCK.EXTEND k a PX 50000"]),
        ("LOCK.EXTEND k b PX 50000", &[]),
        ("LOCK.RELEASE k a", &["LOCK.RELEASE k a"]),
        ("SET x 1", &[]),
    ] {
        client.run(&format!("LOCK.GUARD k a {command}"));
        assert_eq!(told(&mut stream, &mut client), due, "{command}");
    }
}

#[test]
fn times_are_told_as_they_came_out() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    let mut stream = Stream::of(&server);
    client.ok("LOCK.GUARD k a SET x 1 PX 50000");
    let said = told(&mut stream, &mut client);
    let [set] = &said[..] else { panic!("one command was due: {said:?}") };
    assert!(set.starts_with("SET x 1 PXAT "), "{set}");
}

#[test]
fn a_script_inside_is_told_as_its_effects() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    let mut stream = Stream::of(&server);
    let script = "redis.call('SET', KEYS[1], 1) redis.call('INCR', KEYS[1]) redis.call('GET', KEYS[1])";
    client.call(&cmd!["LOCK.GUARD", "k", "a", "EVAL", script, 1, "x"]);
    assert_eq!(told(&mut stream, &mut client), ["MULTI", "SET x 1", "INCR x", "EXEC"]);
    let script =
        "redis.call('LOCK.GUARD', KEYS[1], 'a', 'SET', KEYS[2], 1) return redis.call('INCR', KEYS[2])";
    client.call(&cmd!["EVAL", script, 2, "k", "x"]);
    assert_eq!(told(&mut stream, &mut client), ["MULTI", "SET x 1", "INCR x", "EXEC"]);
}

#[test]
fn a_transaction_is_told_as_one() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    let mut stream = Stream::of(&server);
    client.run_all(&[
        "MULTI",
        "LOCK.GUARD k a SET x 1",
        "LOCK.GUARD k b SET x 2",
        "LOCK.GUARD k a GET x",
        "LOCK.GUARD k a LOCK.RELEASE k a",
        "EXEC",
    ]);
    assert_eq!(told(&mut stream, &mut client), ["MULTI", "SET x 1", "LOCK.RELEASE k a", "EXEC"]);
    client.run_all(&["MULTI", "LOCK.GUARD k a SET x 1", "EXEC"]);
    assert_eq!(told(&mut stream, &mut client), <[&str; 0]>::default());
}

#[test]
fn a_hand_over_by_a_guarded_release_is_told_behind_it() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000");
    let mut next = crate::support::Waiter::new(&server, "k TOKEN b PX 60000 BLOCK 0");
    let mut stream = Stream::of(&server);
    client.run("LOCK.GUARD k a LOCK.RELEASE k a");
    next.granted();
    let said = told(&mut stream, &mut client);
    assert!(!said.iter().any(|said| said.contains("GUARD")), "{said:?}");
    let at = |text: &str| said.iter().position(|said| said.starts_with(text));
    assert!(at("LOCK.RELEASE k a") < at("LOCK.ACQUIRE k"), "{said:?}");
}

#[test]
fn replica_file_and_master_agree() {
    let mut pair = Pair::start_with(Server::builder().aof(), Server::builder());
    let mut client = pair.master.client();
    acquire(&mut client, "k TOKEN a PX 3600000");
    acquire(&mut client, "l TOKEN a PX 3600000");
    let members: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    client.call(&[&["SADD", "set"], &members[..]].concat());
    let commands = [
        "SPOP set 7",
        "SPOP set",
        "SET x 1 PX 3600000",
        "APPEND x 2",
        "LOCK.EXTEND k a PX 3000000",
        "LOCK.RELEASE l a",
        "XADD stream * f v",
        "HINCRBYFLOAT hash f 0.1",
        "EVAL return(redis.call('SPOP',KEYS[1],3)) 1 set",
    ];
    for command in commands {
        let reply = client.run(&format!("LOCK.GUARD k a {command}"));
        assert!(!reply.is_error(), "{command}: {reply:?}");
    }
    pair.wait_caught_up();
    let due = client.run("DEBUG DIGEST");
    assert_eq!(pair.replica.client().run("DEBUG DIGEST"), due, "the replica");
    drop(client);
    for said in appended(&pair.master) {
        assert_ne!(said.command[0].to_ascii_uppercase(), b"LOCK.GUARD", "{}", show(&said.command));
    }
    pair.master.restart(Data::NoSave);
    let mut client = pair.master.client();
    for key in ["set", "x", "stream", "hash"] {
        let digest = format!("DEBUG DIGEST-VALUE {key}");
        assert_eq!(client.run(&digest), pair.replica.client().run(&digest), "{key}, from the file");
    }
    assert_eq!(client.run("LOCK.GUARD k a GET x"), Reply::Bulk(b"12".into()));
    assert_eq!(client.run("LOCK.GUARD k a EXISTS l"), Reply::Int(0));
}
