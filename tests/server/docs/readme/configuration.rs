//! Pieces of configuration on the pages: they are accepted, in force, and let users do what is said of them.

use std::collections::BTreeMap;

use super::{DOCUMENTS, file};
use crate::support::locks::field;
use crate::support::transcript::blocks;
use crate::support::{Server, Version};

#[test]
fn every_piece_of_configuration_is_accepted_and_in_force() {
    let texts = DOCUMENTS.map(|(document, _)| file(document));
    let mut pieces: Vec<Vec<String>> =
        texts.iter().flat_map(|text| blocks(text, "conf")).map(|block| block.lines).collect();
    assert!(pieces.len() >= 4, "{pieces:?}");
    pieces.push(file("redis.conf.example").lines().map(str::to_owned).collect());
    for piece in pieces {
        let (server, settings) = start_with(&piece);
        let mut client = server.client();
        for (name, value) in settings {
            assert_eq!(field(&client.run(&format!("CONFIG GET {name}")), &name).text(), value, "{piece:?}");
        }
    }
}

#[test]
fn the_users_may_do_what_is_said_of_them() {
    let blocks = blocks(&file("docs/operations.md"), "conf");
    let users = blocks.iter().find(|block| block.lines[0].starts_with("user ")).unwrap();
    let (server, _) = start_with(&users.lines);
    let mut client = server.client();
    client.ok("ACL SETUSER changer on nopass ~* +@all -@write");
    client.ok("ACL SETUSER careful on nopass ~* +@all -@dangerous");
    let (acquire, release) = ("LOCK.ACQUIRE order:1", "LOCK.RELEASE order:1 t");
    let (extend, check) = ("LOCK.EXTEND order:1 t", "LOCK.CHECK order:1 t");
    let (info, break_) = ("LOCK.INFO order:1", "LOCK.BREAK order:1");
    let subscriptions =
        [("SSUBSCRIBE order:1", true), ("SUNSUBSCRIBE order:1", true), ("SSUBSCRIBE other", false)];
    for (call, is_listeners) in subscriptions {
        for user in ["app", "cluster", "listener", "viewer", "operator"] {
            let reply = client.run(&format!("ACL DRYRUN {user} {call}"));
            assert_eq!(reply.text() == "OK", user == "listener" && is_listeners, "{user}: {call}: {reply:?}");
        }
    }
    let control = ["SCAN 0", "CLIENT LIST", "CLIENT UNBLOCK 1", "CLIENT KILL ID 1"];
    let mut may: BTreeMap<&str, Vec<&str>> = BTreeMap::from([
        ("app", vec![acquire, release, extend, check]),
        ("cluster", vec![acquire, release, extend, check]),
        ("listener", vec![]),
        ("viewer", vec![check, info]),
        ("operator", vec![info, break_, "LOCK.INFO other", "LOCK.BREAK other"]),
        ("changer", vec![check, info, "LOCK.INFO other"]),
        ("careful", vec![acquire, release, extend, check, info, "LOCK.INFO other"]),
    ]);
    if Version::of(&mut client).redis < vec![7, 2] {
        may.get_mut("changer").unwrap().extend([acquire, release, extend, break_, "LOCK.BREAK other"]);
        may.get_mut("careful").unwrap().extend([break_, "LOCK.BREAK other"]);
    }
    for user in ["app", "cluster", "listener", "viewer", "operator"] {
        for call in control {
            let reply = client.run(&format!("ACL DRYRUN {user} {call}"));
            assert_eq!(reply.text() == "OK", user == "operator", "{user}: {call}: {reply:?}");
        }
    }
    for (user, due) in may {
        for call in [acquire, release, extend, check, info, break_, "LOCK.INFO other", "LOCK.BREAK other"] {
            let reply = client.run(&format!("ACL DRYRUN {user} {call}"));
            assert_eq!(reply.text() == "OK", due.contains(&call), "{user}: {call}: {reply:?}");
        }
    }
    let fence = crate::support::errors::SYNTAX;
    crate::support::errors::fails(&mut client, "LOCK.FENCE 1", fence);
}

/// A server with these lines of configuration, and the settings of the module that they name. The module comes from where
/// it was built.
fn start_with(lines: &[String]) -> (Server, BTreeMap<String, String>) {
    let mut builder = Server::builder();
    let mut settings = BTreeMap::new();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] | ["#", ..] => {}
            ["loadmodule", path, arguments @ ..] => {
                assert!(path.ends_with("/libredis_lock.so"), "{path}");
                builder = builder.module_args(&arguments.join(" "));
                for pair in arguments.chunks(2) {
                    settings.entry(format!("lock.{}", pair[0])).or_insert(pair[1].to_owned());
                }
            }
            [name, value] if name.starts_with("lock.") => {
                settings.insert((*name).to_owned(), (*value).to_owned());
                builder = builder.config(line);
            }
            _ => builder = builder.config(line),
        }
    }
    (builder.start(), settings)
}
