//! What the server itself knows of the commands: flags, keys, documentation, permissions, memory.

use std::collections::BTreeSet;

use crate::support::errors;
use crate::support::locks::{acquire, field, null};
use crate::support::{Client, Reply, Server, Version, cmd, skip};

/// Each command, whether it changes a lock, a call of it, and how few arguments it takes, its name included.
const COMMANDS: [(&str, bool, &str, i64); 10] = [
    (
        "lock.acquire",
        true,
        "LOCK.ACQUIRE k PX 100 TOKEN a OWNER o LIMIT 2 WEIGHT 1 BLOCK 5 SESSION LEVEL 1",
        -2,
    ),
    ("lock.release", true, "LOCK.RELEASE k a LEVEL 1", -3),
    ("lock.extend", true, "LOCK.EXTEND k a PX 100", -3),
    ("lock.check", false, "LOCK.CHECK k a", 3),
    (
        "lock.macquire",
        true,
        "LOCK.MACQUIRE 1 k PX 100 TOKEN a OWNER o LIMIT 2 WEIGHT 1 BLOCK 5 SESSION LEVEL 1",
        -3,
    ),
    ("lock.mrelease", true, "LOCK.MRELEASE 1 k a", -4),
    ("lock.mextend", true, "LOCK.MEXTEND 1 k a PX 100", -4),
    ("lock.guard", true, "LOCK.GUARD k a PING", -4),
    ("lock.info", false, "LOCK.INFO k", 2),
    ("lock.break", true, "LOCK.BREAK k FENCE 1", -2),
];

/// The categories a command can be in, and those that are in each.
const CATEGORIES: [(&str, &[&str]); 4] = [
    ("read", &["lock.check", "lock.info"]),
    (
        "write",
        &[
            "lock.acquire",
            "lock.release",
            "lock.extend",
            "lock.macquire",
            "lock.mrelease",
            "lock.mextend",
            "lock.guard",
            "lock.break",
        ],
    ),
    ("admin", &["lock.break"]),
    ("dangerous", &["lock.break"]),
];

/// The command that is about no key.
const WITHOUT_KEY: [&str; 1] = ["lock.top"];

/// Those that clients have no use for.
const INTERNAL: [&str; 2] = ["lock.fence", "lock.owned"];

#[test]
fn no_command_is_left_out_here() {
    let server = Server::start();
    let list = server.client().run("COMMAND LIST FILTERBY MODULE lock");
    let named = COMMANDS.iter().map(|(name, ..)| *name).chain(WITHOUT_KEY).chain(INTERNAL);
    assert_eq!(texts(&list), named.map(str::to_owned).collect());
    let in_category: BTreeSet<&str> =
        CATEGORIES.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    assert_eq!(in_category, COMMANDS.iter().map(|(name, ..)| *name).collect());
}

fn is_for_several(name: &str) -> bool {
    name.starts_with("lock.m")
}

#[test]
fn command_info_has_flags_arity_and_key_positions() {
    let server = Server::start();
    let mut client = server.client();
    for (name, writes, _, arity) in COMMANDS {
        let info = command_info(&mut client, name);
        assert_eq!(info[0].text(), name);
        assert_eq!(info[1], Reply::Int(arity), "{name}: arity");
        let flags = texts(&info[2]);
        assert_eq!(flags.contains("write"), writes, "{name}: {flags:?}");
        assert_eq!(flags.contains("readonly"), !writes, "{name}: {flags:?}");
        let denied = ["lock.acquire", "lock.macquire"].contains(&name);
        assert_eq!(flags.contains("denyoom"), denied, "{name}: {flags:?}");
        assert!(flags.contains("module"), "{name}: {flags:?}");
        // Proxies and clients know by it that the command may wait.
        assert_eq!(flags.contains("blocking"), denied, "{name}: {flags:?}");
        assert_eq!(
            flags.contains("fast"),
            !denied && !["lock.info", "lock.guard", "lock.break"].contains(&name),
            "{name}: {flags:?}"
        );
        assert!(!flags.contains("noscript"), "{name}: {flags:?}");
        assert!(!flags.contains("loading"), "{name}: {flags:?}");
        let keys: Vec<i64> = info[3..6].iter().map(Reply::int).collect();
        let first = if is_for_several(name) { 2 } else { 1 };
        assert_eq!(keys, [first, first, 1], "{name}: first key, last key, step");
    }
}

#[test]
fn the_list_of_what_is_waited_for_is_for_operators_and_about_no_key() {
    let server = Server::start();
    let mut client = server.client();
    let info = command_info(&mut client, "lock.top");
    assert_eq!(info[1], Reply::Int(-1), "arity");
    let flags = texts(&info[2]);
    assert!(flags.contains("readonly") && flags.contains("admin") && !flags.contains("fast"), "{flags:?}");
    assert!(info[3..6].iter().all(|position| *position == Reply::Int(0)), "no key");
    assert!(info[8].items().is_empty(), "no key spec");
    let docs = client.run("COMMAND DOCS lock.top");
    let mut named = BTreeSet::new();
    collect_tokens(&field(&field(&docs, "lock.top"), "arguments"), &mut named);
    assert_eq!(named, ["COUNT".to_owned()].into());
    let version = Version::of(&mut client);
    for (category, is_in) in [("read", true), ("admin", true), ("dangerous", true), ("write", false)] {
        client.ok(&format!("ACL SETUSER {category} reset on nopass +@{category}"));
        let due = is_in && version.redis >= vec![7, 2];
        let reply = client.run(&format!("ACL DRYRUN {category} LOCK.TOP"));
        assert_eq!(reply.text() == "OK", due, "+@{category} on {version}: {reply:?}");
    }
}

#[test]
fn key_specs_say_who_reads_and_who_writes() {
    let server = Server::start();
    let mut client = server.client();
    for (name, writes, call, _) in COMMANDS {
        let info = command_info(&mut client, name);
        let specs = info[8].items();
        // The second one says to clients which cannot count where the first of several keys is.
        assert_eq!(specs.len(), if is_for_several(name) { 2 } else { 1 }, "{name}");
        let flags = texts(&field(&specs[0], "flags"));
        let is_guard = name == "lock.guard";
        // A guard reads its lock, and the command tells the server of further keys.
        let due = if writes && !is_guard { "RW" } else { "RO" };
        assert!(flags.contains(due), "{name}: {flags:?}");
        assert_eq!(flags.contains("incomplete"), is_guard, "{name}: {flags:?}");
        assert_eq!(texts(&info[2]).contains("movablekeys"), is_guard || is_for_several(name), "{name}");
        assert!(!flags.contains("not_key"), "{name}: {flags:?}");

        let call: Vec<&str> = call.split(' ').collect();
        let keys = client.call(&[&["COMMAND", "GETKEYS"], call.as_slice()].concat());
        assert_eq!(keys, Reply::Array(vec![Reply::Bulk(b"k".to_vec())]), "{name}");
        let keys = client.call(&[&["COMMAND", "GETKEYSANDFLAGS"], call.as_slice()].concat());
        let [one] = keys.items() else { panic!("{name}: one key was due: {keys:?}") };
        assert_eq!(one.items()[0], Reply::Bulk(b"k".to_vec()), "{name}");
        assert!(texts(&one.items()[1]).contains(due), "{name}: {one:?}");
    }
}

#[test]
fn command_docs_explain_every_command_and_its_arguments() {
    let server = Server::start();
    let options: [(&str, &[&str]); 10] = [
        (
            "lock.acquire",
            &["PX", "EX", "TOKEN", "SHARED", "LIMIT", "WEIGHT", "BLOCK", "OWNER", "SESSION", "LEVEL"],
        ),
        ("lock.release", &[]),
        ("lock.extend", &["PX", "EX"]),
        ("lock.check", &[]),
        (
            "lock.macquire",
            &["PX", "EX", "TOKEN", "SHARED", "LIMIT", "WEIGHT", "BLOCK", "OWNER", "SESSION", "LEVEL"],
        ),
        ("lock.mrelease", &[]),
        ("lock.mextend", &["PX", "EX"]),
        ("lock.guard", &[]),
        ("lock.info", &[]),
        ("lock.break", &["FENCE"]),
    ];
    for mut client in [server.client(), server.client3()] {
        for (name, tokens) in options {
            let reply = client.run(&format!("COMMAND DOCS {name}"));
            let docs = field(&reply, name);
            assert!(field(&docs, "summary").text().len() > 10, "{name}: {docs:?}");
            assert!(!field(&docs, "since").text().is_empty(), "{name}");
            assert!(!field(&docs, "complexity").text().is_empty(), "{name}");
            let arguments = field(&docs, "arguments");
            let key = if is_for_several(name) { 1 } else { 0 };
            let first = &arguments.items()[key];
            assert_eq!(field(first, "type").text(), "key", "{name}: {first:?}");
            assert_eq!(field(first, "key_spec_index"), Reply::Int(0), "{name}");
            let mut named = BTreeSet::new();
            collect_tokens(&arguments, &mut named);
            for token in tokens {
                assert!(named.contains(*token), "{name}: no {token} in {named:?}");
            }
        }
    }
}

#[test]
fn a_reader_may_look_at_locks_and_change_none() {
    let server = Server::start();
    let mut admin = server.client();
    acquire(&mut admin, "k TOKEN a PX 60000");
    admin.ok("ACL SETUSER reader on nopass resetkeys %R~* -@all +lock.acquire +lock.release +lock.extend +lock.check +lock.macquire +lock.mrelease +lock.mextend +lock.guard +lock.info +lock.break");
    let mut reader = login(&server, "reader");
    assert_eq!(reader.run("LOCK.CHECK k a").items().len(), 3);
    assert!(!reader.run("LOCK.INFO k").is_error());
    for (name, writes, call, _) in COMMANDS {
        // With a guard it may look at the lock, but has no right to what that runs.
        assert_eq!(is_denied(&mut reader, call), writes, "{name}");
    }
    assert_eq!(admin.run("LOCK.CHECK k a").items().len(), 3);
}

#[test]
fn what_the_module_asks_the_server_changes_nothing_when_a_client_asks_it() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "held TOKEN a PX 60000");
    client.ok("SET string v");
    let before = client.run("DEBUG DIGEST");
    for key in ["held", "string", "absent"] {
        assert_eq!(client.run(&format!("LOCK.OWNED {key}")), Reply::Int(1));
    }
    assert_eq!(client.run("DEBUG DIGEST"), before);
    assert!(client.run("LOCK.OWNED").is_error());
    assert!(client.run("LOCK.OWNED a b").is_error());
}

#[test]
fn a_user_may_call_what_its_rules_name_on_the_keys_they_name() {
    let server = Server::start();
    let mut admin = server.client();
    admin.ok("ACL SETUSER app on nopass resetkeys ~app:* -@all +lock.acquire +lock.release");
    let mut app = login(&server, "app");
    acquire(&mut app, "app:k TOKEN a");
    assert!(is_denied(&mut app, "LOCK.ACQUIRE other TOKEN a"), "another key");
    assert!(is_denied(&mut app, "LOCK.CHECK app:k a"), "another command");
    assert!(is_denied(&mut app, "LOCK.BREAK app:k"), "another command");
    assert_eq!(app.run("LOCK.RELEASE app:k a"), Reply::Int(1));

    admin.ok("ACL SETUSER all on nopass resetkeys ~* -@all +@all -lock.break");
    let mut all = login(&server, "all");
    acquire(&mut all, "k TOKEN a");
    assert!(is_denied(&mut all, "LOCK.BREAK k"));
    assert_eq!(all.run("LOCK.RELEASE k a"), Reply::Int(1));
}

#[test]
fn where_the_server_lets_a_module_say_so_the_commands_are_in_categories() {
    let server = Server::start();
    let mut client = server.client();
    let version = Version::of(&mut client);
    let categories_exist = version.redis >= vec![7, 2];
    for (category, members) in CATEGORIES {
        client.ok(&format!("ACL SETUSER {category} reset on nopass ~* +@{category}"));
        for (name, _, call, _) in COMMANDS {
            let due = categories_exist && members.contains(&name);
            let reply = client.run(&format!("ACL DRYRUN {category} {call}"));
            assert_eq!(reply.text() == "OK", due, "{name} with +@{category} on {version}: {reply:?}");
        }
    }
}

#[test]
fn the_commands_of_a_category_are_listed() {
    let server = Server::start();
    let mut client = server.client();
    let version = Version::of(&mut client);
    let categories_exist = version.redis >= vec![7, 2];
    if version.is_valkey([8, 0]) {
        return skip!(
            &mut client,
            "ACL CAT leaves out module commands, which are in their categories all the same"
        );
    }
    for (category, members) in CATEGORIES {
        let listed = texts(&client.run(&format!("ACL CAT {category}")));
        for (name, ..) in COMMANDS {
            let due = categories_exist && members.contains(&name);
            assert_eq!(listed.contains(name), due, "{name} in @{category} on {version}");
        }
    }
}

#[test]
fn with_memory_full_only_acquiring_is_refused() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        for key in ["k", "l"] {
            acquire(&mut client, &format!("{key} TOKEN a PX 60000"));
        }
        client.ok("CONFIG SET maxmemory 1");
        for call in
            ["LOCK.ACQUIRE m", "LOCK.ACQUIRE k TOKEN b", "LOCK.ACQUIRE k TOKEN a", "LOCK.ACQUIRE k BLOCK 0"]
        {
            let reply = client.run(call);
            assert!(reply.error().starts_with("OOM "), "{call}: {reply:?}");
        }
        assert_eq!(client.run("LOCK.CHECK k a").items().len(), 3);
        assert!(!client.run("LOCK.INFO k").is_null());
        assert_eq!(client.run("LOCK.EXTEND k a PX 70000"), Reply::Int(1));
        assert_eq!(client.run("LOCK.RELEASE k a"), Reply::Int(1));
        assert_eq!(client.run("LOCK.BREAK l"), Reply::Int(1));
        assert_eq!(client.run("LOCK.INFO l"), null(&client));
        client.ok("CONFIG SET maxmemory 0");
    }
}

#[test]
fn too_few_and_too_many_arguments_are_refused_by_name() {
    let server = Server::start();
    let mut client = server.client();
    for (name, _, _, arity) in COMMANDS {
        let error = errors::arity(name);
        for count in 1..usize::try_from(arity.abs()).unwrap() {
            let command = vec![name; count];
            errors::call_fails(&mut client, &command, &error);
        }
        if arity > 0 {
            let command = vec![name; usize::try_from(arity).unwrap() + 1];
            errors::call_fails(&mut client, &command, &error);
        }
    }
}

#[test]
fn the_module_is_listed_by_name() {
    let server = Server::start();
    let modules = server.client().run("MODULE LIST");
    let names: Vec<String> = modules.items().iter().map(|module| field(module, "name").text()).collect();
    assert!(names.contains(&"lock".to_owned()), "{names:?}");
}

#[track_caller]
fn command_info(client: &mut Client, name: &str) -> Vec<Reply> {
    let reply = client.call(&cmd!["COMMAND", "INFO", name]);
    reply.items()[0].items().to_vec()
}

#[track_caller]
fn texts(list: &Reply) -> BTreeSet<String> {
    list.items().iter().map(Reply::text).collect()
}

/// The option words of documented arguments, nested ones included.
fn collect_tokens(arguments: &Reply, tokens: &mut BTreeSet<String>) {
    for argument in arguments.items() {
        for (name, value) in argument.pairs() {
            match name.text().as_str() {
                "token" => drop(tokens.insert(value.text())),
                "arguments" => collect_tokens(&value, tokens),
                _ => {}
            }
        }
    }
}

#[track_caller]
fn login(server: &Server, user: &str) -> Client {
    let mut client = server.client();
    client.ok(&format!("AUTH {user} any"));
    client
}

#[track_caller]
fn is_denied(client: &mut Client, call: &str) -> bool {
    matches!(client.run(call), Reply::Error(text) if text.starts_with("NOPERM"))
}
