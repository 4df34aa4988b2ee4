//! What LOCK.GUARD does not run: what waits, what changes the connection, what scripts may not run, and LOCK.GUARD.

use std::collections::BTreeSet;

use crate::support::errors::fails;
use crate::support::locks::acquire;
use crate::support::{Client, PATIENCE, Reply, Server, wait_until};

const WAITS: &str = "ERR LOCK.GUARD runs no command that may wait: send one that does not, or a script";
const NOT_ALLOWED: &str = "ERR LOCK.GUARD runs no command that scripts may not run: send it by itself";
const CONNECTION: &str =
    "ERR LOCK.GUARD runs no command that changes the state of the connection: send it by itself";
const GUARD: &str = "ERR LOCK.GUARD does not run LOCK.GUARD: guard a script that checks the other lock";

/// Commands that may wait, whatever they are given.
const WAITING: [&str; 13] = [
    "BLPOP list 1",
    "BRPOP list 1",
    "BLMOVE list other LEFT LEFT 1",
    "BLMPOP 1 1 list LEFT",
    "BRPOPLPUSH list other 1",
    "BZPOPMIN zset 1",
    "BZPOPMAX zset 1",
    "BZMPOP 1 1 zset MIN",
    "XREAD STREAMS stream 0",
    "XREAD BLOCK 10 STREAMS stream $",
    "XREADGROUP GROUP g c STREAMS stream >",
    "LOCK.ACQUIRE other",
    "LOCK.ACQUIRE other BLOCK 10",
];

/// Commands that are about the connection or the server. Scripts may not run them either.
const FORBIDDEN: [&str; 49] = [
    "AUTH x",
    "HELLO",
    "HELLO 3",
    "RESET",
    "QUIT",
    "MULTI",
    "EXEC",
    "DISCARD",
    "WATCH k",
    "UNWATCH",
    "SUBSCRIBE c",
    "PSUBSCRIBE c",
    "SSUBSCRIBE c",
    "UNSUBSCRIBE",
    "PUNSUBSCRIBE",
    "SUNSUBSCRIBE",
    "MONITOR",
    "SYNC",
    "PSYNC ? -1",
    "REPLCONF ACK 0",
    "REPLICAOF NO ONE",
    "SLAVEOF NO ONE",
    "FAILOVER",
    "SHUTDOWN NOSAVE",
    "SAVE",
    "BGSAVE",
    "BGREWRITEAOF",
    "DEBUG SLEEP 0",
    "DEBUG JMAP",
    "DEBUG SEGFAULT",
    "CONFIG SET maxmemory 1",
    "CONFIG GET maxmemory",
    "CONFIG REWRITE",
    "CLIENT REPLY OFF",
    "CLIENT SETNAME me",
    "CLIENT GETNAME",
    "CLIENT NO-EVICT on",
    "CLIENT TRACKING on",
    "CLIENT ID",
    "CLIENT KILL ID 1",
    "CLIENT PAUSE 10",
    "CLIENT UNBLOCK 1",
    "SCRIPT LOAD x",
    "SCRIPT FLUSH",
    "FUNCTION LOAD x",
    "FUNCTION FLUSH",
    "ACL SETUSER x",
    "MODULE LIST",
    "ACL WHOAMI",
];

/// Commands that change the connection, though scripts may call them.
const STATEFUL: [&str; 4] = ["SELECT 1", "READONLY", "READWRITE", "ASKING"];

/// Commands that wait on some servers by their flags, and on others are only forbidden.
const EITHER: [&str; 1] = ["WAIT 0 10"];

fn holder(server: &Server) -> Client {
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 3600000");
    client
}

#[test]
fn each_is_refused_with_what_to_do_instead_whoever_holds_the_lock() {
    let mut server = Server::start();
    let mut client = holder(&server);
    client.run("RPUSH list x");
    let before = client.run("DEBUG DIGEST");
    let lists = [(&WAITING[..], WAITS), (&FORBIDDEN[..], NOT_ALLOWED), (&STATEFUL[..], CONNECTION)];
    for (commands, due) in lists {
        for command in commands {
            for token in ["a", "b"] {
                let reply = client.run(&format!("LOCK.GUARD k {token} {command}"));
                let is_due = reply == Reply::Error(due.into())
                    // Before Redis 7.2 these also are what scripts may not run.
                    || due == WAITS && reply == Reply::Error(NOT_ALLOWED.into());
                assert!(is_due, "{command}: {reply:?}");
            }
        }
    }
    for command in EITHER {
        let reply = client.run(&format!("LOCK.GUARD k a {command}"));
        assert!([WAITS, NOT_ALLOWED].contains(&reply.error()), "{command}: {reply:?}");
    }
    for command in
        ["LOCK.GUARD k a PING", "LOCK.GUARD k a LOCK.GUARD k a PING", "lock.guard x y PING", "LOCK.GUARD"]
    {
        fails(&mut client, &format!("LOCK.GUARD k a {command}"), GUARD);
    }
    assert_eq!(client.run("DEBUG DIGEST"), before);
    assert_eq!(client.run("CLIENT GETNAME"), Reply::NullBulk);
    server.assert_alive();
}

/// What nests itself must not use up the stack when the server asks for keys.
#[test]
fn very_many_guards_in_each_other_are_refused_as_one_is() {
    let mut server = Server::start();
    let mut client = holder(&server);
    let mut command = ["LOCK.GUARD", "k", "a"].repeat(200_000);
    command.push("PING");
    assert_eq!(client.call(&command), Reply::Error(GUARD.into()));
    let keys = client.call(&[vec!["COMMAND", "GETKEYS"], command].concat());
    assert_eq!(keys, Reply::Array(vec![Reply::Bulk(b"k".into())]));
    server.assert_alive();
}

/// Whatever there is on this server is run or refused, and the server goes on.
#[test]
fn no_command_of_the_server_brings_it_down() {
    let mut server = Server::builder().config("cluster-enabled yes").start();
    no_command_brings_down(&mut server);
    let mut server = Server::start();
    no_command_brings_down(&mut server);
}

fn no_command_brings_down(server: &mut Server) {
    let mut client = server.client();
    // A node of no cluster serves nothing until it has slots.
    client.run("CLUSTER ADDSLOTSRANGE 0 16383");
    wait_until("keys are served", PATIENCE, || !client.run("LOCK.ACQUIRE k TOKEN a PX 3600000").is_error());
    let names = every_command(&mut client);
    assert!(names.len() > 200, "{}", names.len());
    for name in names {
        let words: Vec<&str> = name.split('|').collect();
        for fill in [&[][..], &["k"], &["k", "k"], &["k", "1", "k"], &["1", "k", "1", "k"]] {
            let command = [&["LOCK.GUARD", "k", "a"], &words[..], fill].concat();
            assert!(client.try_call(&command).is_some(), "no answer to {}", command.join(" "));
            // What has run may have taken the lock away.
            client.run("FLUSHALL");
            client.run("LOCK.ACQUIRE k TOKEN a PX 3600000");
            client.run("LOCK.EXTEND k a PX 3600000");
        }
        assert_eq!(client.run("PING"), Reply::Simple("PONG".into()), "after {name}");
    }
    server.assert_alive();
}

/// The names of all commands and subcommands.
fn every_command(client: &mut Client) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for info in client.run("COMMAND").items() {
        let parts = info.items();
        names.insert(parts[0].text());
        names.extend(parts[9].items().iter().map(|subcommand| subcommand.items()[0].text()));
    }
    names
}

#[test]
fn where_the_server_cannot_be_asked_nothing_runs() {
    let server = Server::builder().config("rename-command COMMAND \"\"").start();
    let mut client = holder(&server);
    let reply = client.run("LOCK.GUARD k a SET x 1");
    assert!(reply.error().starts_with("ERR LOCK.GUARD needs the server's commands COMMAND"), "{reply:?}");
}

#[test]
fn a_renamed_command_is_known_by_what_it_is() {
    let server = Server::builder()
        .config("rename-command SELECT choose")
        .config("rename-command BLPOP wait-and-pop")
        .config("rename-command EVAL run")
        .config("rename-command SET put")
        .start();
    let mut client = holder(&server);
    fails(&mut client, "LOCK.GUARD k a choose 1", CONNECTION);
    assert!(client.run("LOCK.GUARD k a wait-and-pop list 1").is_error());
    assert!(client.run("LOCK.GUARD k a SET x 1").error().starts_with("ERR unknown command"));
    client.ok("LOCK.GUARD k a put x 1");
    assert_eq!(client.call(&["LOCK.GUARD", "k", "a", "run", "return 5", "0"]), Reply::Int(5));
}

#[test]
fn what_is_refused_is_not_run_in_transactions_and_scripts_either() {
    let server = Server::start();
    let mut client = holder(&server);
    let replies =
        client.run_all(&["MULTI", "LOCK.GUARD k a SELECT 1", "LOCK.GUARD k a BLPOP list 1", "EXEC"]);
    assert!(replies[3].items().iter().all(Reply::is_error), "{replies:?}");
    let script = "return redis.pcall('LOCK.GUARD', KEYS[1], 'a', 'CLIENT', 'ID').err";
    assert_eq!(client.call(&["EVAL", script, "1", "k"]).text(), NOT_ALLOWED);
}
