//! LOCK.GUARD replies what the command replies, in the protocol of the connection.

use crate::support::errors::NOT_OWNER;
use crate::support::locks::acquire;
use crate::support::{Client, Reply, Server, Version, cmd};

/// Commands with every kind of reply, and those that fail. None of them changes what another one replies.
const COMMANDS: [&str; 28] = [
    "PING",
    "ECHO x",
    "GET string",
    "GET absent",
    "STRLEN string",
    "EXISTS absent",
    "LRANGE list 0 -1",
    "LRANGE absent 0 -1",
    "LPOP absent 2",
    "HGETALL hash",
    "HGET hash absent",
    "HMGET hash a absent",
    "SMEMBERS set",
    "SMISMEMBER set a x",
    "ZSCORE zset a",
    "ZRANGE zset 0 -1 WITHSCORES",
    "ZRANDMEMBER zset 5 WITHSCORES",
    "XRANGE stream - +",
    "XINFO STREAM stream",
    "OBJECT ENCODING list",
    "COMMAND INFO get",
    "COMMAND GETKEYS LOCK.GUARD k a SET x 1",
    "LOCK.CHECK other a",
    "LOCK.INFO other",
    "GEOPOS zset absent",
    "MEMORY USAGE absent",
    "TYPE lock",
    "SETRANGE list 0 x",
];

/// Commands that fail.
const FAIL: [&str; 9] = [
    "NOSUCHCOMMAND x",
    "GET",
    "GET string string",
    "LPUSH string x",
    "INCR string",
    "SET string v NX XX",
    "OBJECT NOSUCH list",
    "LOCK.CHECK string a",
    "LOCK.EXTEND lock a PX 0",
];

fn filled(server: &Server) {
    let mut client = server.client();
    acquire(&mut client, "lock TOKEN a PX 60000");
    client.run_all(&[
        "SET string abc",
        "RPUSH list a b c",
        "HSET hash a 1",
        "SADD set a",
        "ZADD zset 1.5 a",
        "XADD stream 1-1 f v",
    ]);
}

#[track_caller]
fn replies_the_same(client: &mut Client, command: &str) -> Reply {
    let plain = client.run(command);
    let guarded = client.run(&format!("LOCK.GUARD lock a {command}"));
    assert_eq!(guarded, plain, "{command}");
    guarded
}

#[test]
fn every_kind_of_reply_arrives_as_it_is() {
    let server = Server::start();
    filled(&server);
    for mut client in [server.client(), server.client3()] {
        for command in COMMANDS {
            replies_the_same(&mut client, command);
        }
    }
}

#[test]
fn every_error_arrives_as_it_is() {
    let server = Server::start();
    filled(&server);
    for mut client in [server.client(), server.client3()] {
        for command in FAIL {
            let reply = replies_the_same(&mut client, command);
            assert!(reply.is_error(), "{command}: {reply:?}");
        }
        let reply = client.run("LOCK.GUARD lock b NOSUCHCOMMAND x");
        assert_eq!(reply, Reply::Error(NOT_OWNER.into()), "who does not hold the lock learns no more");
    }
}

#[test]
fn the_types_of_resp3_arrive() {
    let server = Server::start();
    filled(&server);
    let mut client = server.client3();
    let is = |reply: &Reply, kind: fn(&Reply) -> bool| assert!(kind(reply), "{reply:?}");
    is(&client.run("LOCK.GUARD lock a HGETALL hash"), |reply| matches!(reply, Reply::Map(_)));
    is(&client.run("LOCK.GUARD lock a SMEMBERS set"), |reply| matches!(reply, Reply::Set(_)));
    is(&client.run("LOCK.GUARD lock a ZSCORE zset a"), |reply| *reply == Reply::Double(1.5));
    is(&client.run("LOCK.GUARD lock a GET absent"), |reply| *reply == Reply::Null);
    is(&client.run("LOCK.GUARD lock a INFO server"), |reply| matches!(reply, Reply::Verbatim(..)));
    for (of_script, due) in [
        ("return 3.5", Reply::Int(3)),
        ("return {double=1.25}", Reply::Double(1.25)),
        ("return {map={a=1}}", Reply::Map(vec![(Reply::Bulk(b"a".into()), Reply::Int(1))])),
        ("redis.setresp(3) return true", Reply::Bool(true)),
        ("return {big_number='123'}", Reply::BigNumber("123".into())),
    ] {
        let reply = client.call(&cmd!["LOCK.GUARD", "lock", "a", "EVAL", of_script, 0]);
        assert_eq!(reply, due, "{of_script}");
    }
}

#[test]
fn hostile_bytes_are_arguments_like_any_others() {
    let mut server = Server::start();
    filled(&server);
    let mut client = server.client();
    for value in [&b""[..], b"\0", b"a\0b", b"\r\n+OK\r\n", b"%s%n%d", b"\xff\xfe", &[b'x'; 1 << 20]] {
        let reply = client.call(&cmd!["LOCK.GUARD", "lock", "a", "SET", value, value]);
        assert_eq!(reply, Reply::Simple("OK".into()));
        assert_eq!(
            client.call(&cmd!["LOCK.GUARD", "lock", "a", "GETDEL", value]),
            Reply::Bulk(value.to_vec())
        );
        // As the name of a command, and of a subcommand.
        for command in [cmd![value].to_vec(), cmd![value, value].to_vec(), cmd!["CONFIG", value].to_vec()] {
            let guarded = [cmd!["LOCK.GUARD", "lock", "a"].to_vec(), command].concat();
            assert!(client.call(&guarded).error().starts_with("ERR "), "{value:.10?}");
        }
    }
    for name in [&b"SET\0"[..], b"SET\0x", b"\0SET"] {
        let reply = client.call(&cmd!["LOCK.GUARD", "lock", "a", name, "x", "1"]);
        assert!(reply.error().starts_with("ERR unknown command"), "{reply:?}");
    }
    assert_eq!(client.run("EXISTS x"), Reply::Int(0));
    server.assert_alive();
}

#[test]
fn the_case_of_a_name_does_not_matter() {
    let server = Server::start();
    filled(&server);
    let mut client = server.client();
    client.ok("lock.guard lock a sEt x 1");
    assert!(client.run("LOCK.GUARD lock a lOcK.gUaRd lock a SET x 1").is_error());
    assert!(client.run("LOCK.GUARD lock a bLpOp list 0").is_error());
    assert!(client.run("LOCK.GUARD lock a cLiEnT iD").is_error());
}

#[test]
fn the_statistics_of_the_server_count_both_commands() {
    let server = Server::start();
    filled(&server);
    let mut client = server.client();
    let version = Version::of(&mut client);
    client.ok("CONFIG RESETSTAT");
    client.run("LOCK.GUARD lock a GET string");
    for command in ["get", "lock.guard"] {
        let calls = client.info("commandstats", &format!("cmdstat_{command}"));
        assert!(calls.starts_with("calls=1,"), "{command} on {version}: {calls}");
    }
}

/// Valkey from 8.1 on loses the reply of a few commands that fail, if a module has called them: then this is said.
#[test]
fn a_lost_reply_is_said_to_be_lost_and_nobody_gets_it_later() {
    let server = Server::start();
    filled(&server);
    for mut client in [server.client(), server.client3()] {
        for _ in 0..3 {
            let reply = client.run("LOCK.GUARD lock a GETDEL list");
            let text = reply.error();
            assert!(text.starts_with("WRONGTYPE ") || text.contains("has lost its reply"), "{text}");
            client.ok("SET taken x");
            assert_eq!(client.run("LOCK.GUARD lock a GETDEL taken").text(), "x");
            assert_eq!(client.run("LOCK.GUARD lock a PING"), Reply::Simple("PONG".into()));
            let script = "return redis.pcall('GETDEL', KEYS[1]).err";
            let said = client.call(&cmd!["LOCK.GUARD", "lock", "a", "EVAL", script, 1, "list"]);
            assert!(said.text().starts_with("WRONGTYPE "), "{said:?}");
        }
    }
}

#[test]
fn what_it_reads_is_tracked_but_on_redis_7_0() {
    let server = Server::start();
    let mut client = server.client3();
    acquire(&mut client, "k TOKEN t PX 600000");
    client.ok("SET read 1");
    client.ok("CLIENT TRACKING ON");
    assert_eq!(client.run("LOCK.GUARD k t GET read").text(), "1");
    let is_tracked = !Version::of(&mut client).is_before([7, 2]);
    assert_eq!(client.info("stats", "tracking_total_keys"), if is_tracked { "1" } else { "0" });
}
