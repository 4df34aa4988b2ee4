//! The reference of commands, errors and settings, compared with what the server says of itself.

use std::collections::{BTreeMap, BTreeSet};

use super::{file, reference};
use crate::support::locks::{acquire, field};
use crate::support::transcript::blocks;
use crate::support::{Client, Reply, Server, Waiter};

#[test]
fn every_syntax_line_is_the_one_the_server_knows() {
    let server = Server::start();
    let mut client = server.client();
    let mut written: Vec<String> =
        blocks(&reference(), "text").into_iter().flat_map(|block| block.lines).collect();
    written.sort();
    let mut documented: Vec<String> =
        public_commands(&mut client).iter().map(|name| syntax(&mut client, name)).collect();
    documented.sort();
    assert_eq!(written, documented);
    for name in public_commands(&mut client) {
        let heading = format!("## {}", name.to_uppercase());
        assert!(reference().lines().any(|line| line == heading), "{heading}");
    }
}

#[test]
fn every_error_is_the_one_the_server_gives() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("SET plain v");
    let (long, fixed) = ("x".repeat(256), "LOCK.ACQUIRE k");
    let mut given: Vec<String> = [
        "LOCK.ACQUIRE".to_owned(),
        format!("{fixed} WAIT"),
        format!("{fixed} PX 1 PX 1"),
        format!("{fixed} TOKEN"),
        format!("{fixed} SHARED LIMIT 2"),
        format!("{fixed} PX soon"),
        format!("{fixed} PX 0"),
        format!("{fixed} PX 86400001"),
        "LOCK.MACQUIRE 0 k".to_owned(),
        format!("{fixed} LIMIT 0"),
        format!("{fixed} LIMIT 65536"),
        format!("{fixed} LEVEL 0"),
        format!("{fixed} TOKEN {long}"),
        format!("{fixed} OWNER {long}"),
        format!("{fixed} BLOCK -1"),
        format!("{fixed} BLOCK 3153600000001"),
        format!("{fixed} TOKEN t QUEUE -1"),
        format!("{fixed} TOKEN t QUEUE 0"),
        format!("{fixed} QUEUE 1"),
        format!("{fixed} WEIGHT 2"),
        "LOCK.ACQUIRE plain".to_owned(),
        "LOCK.GUARD k t PING".to_owned(),
        "LOCK.GUARD k t AUTH".to_owned(),
    ]
    .iter()
    .map(|command| client.run(command).error().to_owned())
    .collect();
    client.ok("CONFIG SET maxmemory 1");
    given.push(client.run(fixed).error().to_owned());
    client.ok("CONFIG SET maxmemory 0");
    let script = "return redis.call('LOCK.ACQUIRE', KEYS[1], 'SESSION')";
    given.push(client.call(&["EVAL", script, "1", "k"]).error().to_owned());
    given.push(client.call(&["LOCK.GUARD", "k", "t", "PING\0"]).error().to_owned());
    assert_eq!(client.run("EXISTS k"), Reply::Int(0), "what fails changes nothing");
    given.extend(errors_of_waiting(&server));

    let mut due: Vec<String> = table(&reference(), "reply").into_iter().map(|row| row[0].clone()).collect();
    for error in &given {
        let stands_for = |row: &String| match row.strip_suffix("...") {
            Some(start) => error.starts_with(start),
            None => error == row,
        };
        assert!(
            table(&reference(), "reply").iter().any(|row| stands_for(&row[0])),
            "not in the table: {error}"
        );
        due.retain(|row| !stands_for(row));
    }
    assert!(due.is_empty(), "never given: {due:?}");
}

/// Those a request with BLOCK can be given, however it asks.
fn errors_of_waiting(server: &Server) -> Vec<String> {
    let mut client = server.client();
    for reader in ["a", "b"] {
        acquire(&mut client, &format!("read SHARED TOKEN {reader}"));
    }
    let mut unblocked = Waiter::new(server, "read TOKEN a LIMIT 1 BLOCK 0");
    let mut given = vec![client.run("LOCK.ACQUIRE read TOKEN b LIMIT 1 BLOCK 0").error().to_owned()];
    client.ok("ACL SETUSER waiter on nopass ~* +@all");
    let mut waiter = server.client();
    waiter.ok("AUTH waiter any");
    acquire(&mut client, "other TOKEN a");
    let mut without_rights = Waiter::on(server, waiter, "other BLOCK 0");
    client.ok("ACL SETUSER waiter -lock.acquire");
    assert_eq!(client.run("LOCK.RELEASE other a"), Reply::Int(1));
    given.push(without_rights.failed());
    for setting in ["lock.max-waiters", "lock.max-waiters-per-key"] {
        let before = field(&client.run(&format!("CONFIG GET {setting}")), setting).text();
        client.ok(&format!("CONFIG SET {setting} 1"));
        given.push(client.run("LOCK.ACQUIRE read BLOCK 0").error().to_owned());
        assert!(given.last().unwrap().ends_with(setting), "{given:?}");
        client.ok(&format!("CONFIG SET {setting} {before}"));
    }
    assert_eq!(client.run(&format!("CLIENT UNBLOCK {} ERROR", unblocked.id)), Reply::Int(1));
    given.push(unblocked.failed());
    let mut demoted = Waiter::new(server, "read BLOCK 0");
    client.ok("REPLICAOF 127.0.0.1 1");
    // It may be told why, or just lose its connection.
    given.extend(demoted.client.try_read().unwrap().map(|reply| reply.error().to_owned()));
    given
}

#[test]
fn every_setting_is_there_with_its_default() {
    let server = Server::start();
    let all = server.client().run("CONFIG GET lock.*");
    let due: BTreeSet<_> = all.pairs().iter().map(|(name, value)| (name.text(), value.text())).collect();
    let rows = table(&reference(), "setting");
    let written: BTreeSet<_> = rows.iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(written, due);
    let example = file("redis.conf.example");
    let directives = example.lines().filter(|line| line.starts_with("lock."));
    let written: BTreeSet<_> = directives
        .filter_map(|line| line.split_once(' '))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert_eq!(written, due, "redis.conf.example");
}

/// The rows of the tables with this first heading, their cells without backticks.
fn table(text: &str, heading: &str) -> Vec<Vec<String>> {
    let start = format!("| {heading} |");
    let rows =
        text.lines().skip_while(|line| !line.starts_with(&start)).take_while(|line| line.starts_with('|'));
    let rows: Vec<Vec<String>> = rows
        .skip(2)
        .map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect())
        .collect();
    assert!(!rows.is_empty(), "no table begins with {start}");
    rows
}

/// The names of the module's commands, less those it calls internal.
fn public_commands(client: &mut Client) -> BTreeSet<String> {
    let names = client.run("COMMAND LIST FILTERBY MODULE lock");
    let names: Vec<String> = names.items().iter().map(Reply::text).collect();
    let is_public = |name: &String| !field(&docs(client, name), "summary").text().starts_with("Internal:");
    names.into_iter().filter(is_public).collect()
}

fn docs(client: &mut Client, name: &str) -> Reply {
    field(&client.run(&format!("COMMAND DOCS {name}")), name)
}

/// A command's syntax, written as the documentation of Redis writes it.
fn syntax(client: &mut Client, name: &str) -> String {
    let docs = docs(client, name);
    let arguments = field(&docs, "arguments");
    let arguments: Vec<String> = arguments.items().iter().map(syntax_of).collect();
    format!("{} {}", name.to_uppercase(), arguments.join(" "))
}

fn syntax_of(argument: &Reply) -> String {
    let parts: BTreeMap<String, Reply> =
        argument.pairs().into_iter().map(|(name, value)| (name.text(), value)).collect();
    let token = parts.get("token").map(Reply::text);
    let name = parts["name"].text();
    let text = match (parts["type"].text().as_str(), token) {
        ("oneof", None) => {
            let choices: Vec<String> = parts["arguments"].items().iter().map(syntax_of).collect();
            choices.join(" | ")
        }
        ("block", None) => {
            let parts: Vec<String> = parts["arguments"].items().iter().map(syntax_of).collect();
            parts.join(" ")
        }
        ("pure-token", Some(token)) => token,
        ("key" | "string" | "integer", None) => name.clone(),
        ("key" | "string" | "integer", Some(token)) => format!("{token} {name}"),
        (kind, _) => panic!("{name}: an argument of the type {kind}"),
    };
    let flags: Vec<String> =
        parts.get("flags").map(|flags| flags.items().iter().map(Reply::text).collect()).unwrap_or_default();
    match flags.as_slice() {
        [] => text,
        [flag] if flag == "multiple" => format!("{text} [{text} ...]"),
        [flag] if flag == "optional" => format!("[{text}]"),
        [one, two] if one == "optional" && two == "multiple" => format!("[{text} [{text} ...]]"),
        other => panic!("{name}: {other:?}"),
    }
}
