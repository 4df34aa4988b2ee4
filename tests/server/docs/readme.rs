//! The README and the pages for users and operators, held to their word: their sessions are run, their settings loaded, the
//! reference compared with the server's own.
//!
//! Their `console` blocks are sessions, see [`transcript`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use crate::support::locks::{acquire, exists, field};
use crate::support::transcript::{
    Kind, Known, SLACK_MS, Stage, blocks, kind, steps, without_what_is_left_out, words,
};
use crate::support::waiter::{is_blocked, wait_blocked};
use crate::support::{Client, PATIENCE, Reply, Server, Version, Waiter, ok_grant, wait_until};

const DOCUMENTS: [(&str, usize); 6] = [
    ("README.md", 3),
    ("docs/guide.md", 30),
    ("docs/commands.md", 2),
    ("docs/operations.md", 6),
    ("docs/clients.md", 6),
    ("docs/set-nx.md", 6),
];

#[test]
fn every_session_comes_out_as_it_is_written() {
    for (document, fewest) in DOCUMENTS {
        let server = Server::start();
        let (mut known, mut stage) = (Known::default(), Stage::new(&server));
        let steps = steps(&file(document));
        assert!(steps.len() >= fewest, "the sessions were not found: {steps:?}");
        for step in steps {
            stage.play(document, &step, &mut known);
        }
        stage.close();
    }
}

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

#[test]
fn the_calls_from_a_client_library_do_what_is_shown() {
    let server = Server::start();
    let mut client = server.client();
    let lines: Vec<String> =
        blocks(&file("docs/guide.md"), "python").into_iter().flat_map(|block| block.lines).collect();
    let calls: Vec<Vec<&str>> = lines.iter().filter_map(|line| words_of_call(line)).collect();
    let [take, give_back] = calls.as_slice() else { panic!("two calls were due: {calls:?}") };
    ok_grant(client.call(take));
    assert_eq!(client.call(give_back), Reply::Int(1));

    let block = take.iter().position(|word| *word == "BLOCK").unwrap();
    let block_ms: u64 = take[block + 1].parse().unwrap();
    let timeout = lines.iter().find_map(|line| line.split_once("socket_timeout=")).unwrap().1;
    let timeout_s: u64 = timeout.split_once(')').unwrap().0.parse().unwrap();
    assert!(timeout_s * 1000 > block_ms, "{timeout_s} s, BLOCK {block_ms}");
}

/// What a line of Python has the client send, names standing for themselves.
fn words_of_call(line: &str) -> Option<Vec<&str>> {
    let (_, words) = line.trim_end_matches(')').split_once("execute_command(")?;
    Some(words.split(", ").map(|word| word.trim_matches('"')).collect())
}

// --- what an operator is told

#[test]
fn a_lock_takes_about_200_bytes_a_place_330_and_a_waiter_about_35_kilobytes() {
    const LOCKS: i64 = 20_000;
    const PLACES: i64 = 10_000;
    const WAITERS: i64 = 200;
    let server = Server::builder().module_args("max-waiters 20000 max-waiters-per-key 20000").start();
    let mut client = server.client();
    let mut used = || client.info("memory", "used_memory").parse::<i64>().unwrap();
    let empty = used();
    let mut holder = server.client();
    (0..LOCKS).for_each(|n| drop(acquire(&mut holder, &format!("lock:{n:07} PX 600000"))));
    let a_lock = (used() - empty) / LOCKS;
    assert!((100..=300).contains(&a_lock), "{a_lock} bytes");

    let before = used();
    for n in 0..PLACES {
        holder.run(&format!("LOCK.ACQUIRE lock:0000000 TOKEN {n:032x} QUEUE 600000")).int();
    }
    let a_place = (used() - before) / PLACES;
    assert!((250..=400).contains(&a_place), "{a_place} bytes");

    let mut waiters: Vec<Client> = (0..WAITERS).map(|_| server.client()).collect();
    waiters.iter_mut().for_each(|waiter| drop(waiter.run("PING")));
    let before = used();
    waiters.iter_mut().for_each(|waiter| waiter.send(&["LOCK.ACQUIRE", "lock:0000000", "BLOCK", "0"]));
    wait_blocked(&server, usize::try_from(WAITERS).unwrap());
    let a_waiter = (used() - before) / WAITERS;
    assert!((20_000..=50_000).contains(&a_waiter), "{a_waiter} bytes");
}

#[test]
fn an_idle_timeout_ends_the_holds_of_a_session_that_only_holds() {
    let server = Server::builder().config("timeout 1").start();
    let mut session = server.client();
    acquire(&mut session, "k PX 600000 SESSION");
    let mut client = server.client();
    wait_until("the idle connection is closed", PATIENCE, || !exists(&mut client, "k"));
}

#[test]
fn a_waiting_client_is_found_in_the_list_of_clients() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k");
    let mut named = server.client();
    named.ok("CLIENT SETNAME host-2:977");
    let waiter = Waiter::on(&server, named, "k OWNER host-2:977 BLOCK 0");
    assert!(is_blocked(&mut client, waiter.id), "b among its flags");
    let list = client.run("CLIENT LIST").text();
    let found: Vec<&str> = list.lines().filter(|line| line.contains(" cmd=lock.acquire ")).collect();
    assert_eq!(found.len(), 1, "{list}");
    assert!(found[0].contains(" name=host-2:977 "), "{list}");
}

#[test]
fn every_make_target_and_variable_is_there() {
    let makefile = file("Makefile");
    let scripts: String = fs::read_dir(root().join("scripts"))
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    let calls = make_calls(&readme());
    for used in ["run", "test", "test-matrix", "build", "check", "bench"] {
        assert!(calls.iter().any(|call| call[0] == used), "make {used} is not in {calls:?}");
    }
    for words in calls {
        for word in words {
            match word.split_once('=') {
                Some((variable, _)) => assert!(scripts.contains(&format!("${{{variable}:-")), "{word}"),
                None => {
                    let rule = format!("{word}: ");
                    assert!(makefile.lines().any(|line| line.starts_with(&rule)), "make {word}");
                }
            }
        }
    }
}

#[test]
fn what_to_install_is_what_the_setup_asks_for() {
    let setup = file("scripts/setup.sh");
    let code: Vec<String> =
        blocks(&file("docs/install.md"), "sh").into_iter().flat_map(|block| block.lines).collect();
    let mut seen = 0;
    for line in code.iter().map(|line| line.split('#').next().unwrap()) {
        for installer in ["apt-get install ", "dnf install ", "brew install "] {
            let packages = line.split_once(installer).map_or("", |(_, packages)| packages);
            for package in packages.split_whitespace() {
                assert!(setup.contains(package), "{package}");
                seen += 1;
            }
        }
    }
    assert!(seen >= 9, "the packages were not found");
    let rust = file("Cargo.toml");
    let rust = rust.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert!(readme().contains(&format!("Rust toolchain, {rust} or newer")), "{rust}");
}

// --- the comparer, which must notice what is wrong

const TOKENS: [&str; 2] = ["00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100"];
const FENCES: [&str; 2] = ["1700000000000001", "1700000000000002"];

/// Compares two outputs of a command, line by line, from nothing known.
fn is_alike(command: &str, written: &[&str], real: &[&str]) -> bool {
    Known::default().compare(command, written, real).is_ok()
}

#[test]
fn the_comparer_takes_what_differs_only_in_tokens_fences_and_time() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("PING", &["PONG"], &["PONG"]),
        ("LOCK.INFO k", &["1# \"holders\" =>"], &["1# \"holders\" => "]),
        (
            "LOCK.ACQUIRE k",
            &["1) \"00112233445566778899aabbccddeeff\""],
            &["1) \"ffeeddccbbaa99887766554433221100\""],
        ),
        ("LOCK.ACQUIRE k", &["2) (integer) 1700000000000001"], &["2) (integer) 1700000000000002"]),
        ("LOCK.CHECK k t", &["2) (integer) 50000"], &["2) (integer) 70000"]),
        ("LOCK.INFO k", &["5# \"remaining\" => (integer) 50"], &["5# \"remaining\" => (integer) 7"]),
        ("LOCK.INFO k", &["8# \"age\" => (integer) 50"], &["8# \"age\" => (integer) 7"]),
        ("LOCK.INFO k", &["3# \"waited\" => (integer) 50"], &["3# \"waited\" => (integer) 7"]),
        ("LOCK.INFO k", &["4# \"timeout\" => (integer) 50"], &["4# \"timeout\" => (integer) 7"]),
        ("LOCK.INFO k", &[" 9) \"remaining\"", "10) (integer) 5"], &[" 9) \"remaining\"", "10) (integer) 7"]),
        ("LOCK.INFO k", &["15) \"age\"", "16) (integer) 5"], &["15) \"age\"", "16) (integer) 7"]),
    ];
    for (command, written, real) in cases {
        assert!(is_alike(command, written, real), "{command}: {written:?} and {real:?}");
        assert!(is_alike(command, real, written), "{command}: {real:?} and {written:?}");
    }
}

#[test]
fn the_comparer_notices_every_other_difference() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("PING", &["PONG"], &["PONK"]),
        ("PING", &["PONG"], &["PON"]),
        ("PING", &["PONG"], &[]),
        ("PING", &[], &["PONG"]),
        ("PING", &["PONG"], &["PONG", "PONG"]),
        ("PING", &["PONG"], &[" PONG"]),
        ("LOCK.RELEASE k t", &["(integer) 1"], &["(integer) 0"]),
        ("LOCK.RELEASE k t", &["(integer) 1"], &["(integer) 10"]),
        ("LOCK.ACQUIRE k", &["(nil)"], &["(error) ERR syntax error"]),
        ("LOCK.ACQUIRE k", &["(error) ERR syntax error"], &["(error) ERR syntax  error"]),
        ("LOCK.ACQUIRE k", &["1) \"00112233445566778899aabbccddeeff\""], &["1) \"mine\""]),
        ("LOCK.ACQUIRE k", &["1) \"mine\""], &["1) \"00112233445566778899aabbccddeeff\""]),
        ("LOCK.ACQUIRE k", &["00112233445566778899aabbccddeeff"], &["00112233445566778899AABBCCDDEEFF"]),
        ("LOCK.ACQUIRE k", &["00112233445566778899aabbccddeeff"], &["00112233445566778899aabbccddeef"]),
        ("LOCK.ACQUIRE k", &["2) (integer) 1700000000000001"], &["2) (integer) 170000000000001"]),
        ("LOCK.ACQUIRE k", &["2) (integer) 1700000000000001"], &["2) \"1700000000000001\""]),
        ("LOCK.CHECK k t", &["2) (integer) 50000"], &["2) (integer) 70001"]),
        ("LOCK.CHECK k t", &["2) (integer) 50000"], &["2) (integer) 29999"]),
        ("LOCK.CHECK k t", &["2) (integer) 50000"], &["2) (nil)"]),
        ("LOCK.CHECK k t", &["2) (integer) 50000"], &["2) (integer) -1"]),
        ("LOCK.CHECK k t", &["1) (integer) 50000"], &["1) (integer) 50001"]),
        ("LOCK.ACQUIRE k", &["2) (integer) 50000"], &["2) (integer) 50001"]),
        ("LOCK.INFO k", &["4# \"lease\" => (integer) 90000"], &["4# \"lease\" => (integer) 90001"]),
        ("LOCK.INFO k", &["\"lease\"", "4) (integer) 90000"], &["\"lease\"", "4) (integer) 90001"]),
        ("LOCK.INFO k", &["5# \"age\" => (integer) 5"], &["6# \"age\" => (integer) 5"]),
        ("LOCK.INFO k", &["5# \"age\" => (integer) 5"], &["5# \"age\" => (integer) 20006"]),
        ("LOCK.INFO k", &["4# \"timeout\" => (integer) 5"], &["4# \"timeout\" => (integer) -1"]),
        ("LOCK.INFO k", &["4# \"timeout\" => (integer) 50000"], &["4# \"timeout\" => (integer) -1"]),
        ("LOCK.ACQUIRE k BLOCK 0", &["(waits)"], &["(nil)"]),
    ];
    for (command, written, real) in cases {
        assert!(!is_alike(command, written, real), "{command}: {written:?} taken for {real:?}");
        assert!(!is_alike(command, real, written), "{command}: {real:?} taken for {written:?}");
    }
}

#[test]
fn three_points_stand_for_what_is_left_out_and_for_no_more() {
    let is_alike = |written: &[&str], real: &[&str]| {
        let (written, real) = without_what_is_left_out(written, real);
        is_alike("INFO", &written, &real)
    };
    let real = ["# Memory", "used:5", "used_peak:7", "policy:noeviction", "end:1"];
    for written in [
        &["# Memory", "...", "policy:noeviction", "..."] as &[&str],
        &["...", "used:5", "used_peak:7", "...", "end:1"],
        &["# Memory", "used:...", "...", "end:1"],
        &["...", "policy:no...", "end:1"],
        &["..."],
    ] {
        assert!(is_alike(written, &real), "{written:?}");
    }
    for written in [
        &["# Memory", "...", "policy:allkeys", "..."] as &[&str],
        &["# Memory", "...", "policy:noeviction"],
        &["# Memory", "policy:noeviction", "..."],
        &["...", "missing:1", "..."],
        &["...", "end:1", "...", "used:5"],
        &["# Memory", "free:...", "..."],
        &["...", "end:1", "end:1"],
    ] {
        assert!(!is_alike(written, &real), "{written:?}");
    }
}

#[test]
fn the_comparer_remembers_who_stands_for_whom() {
    let [a, b] = TOKENS;
    let [one, two] = FENCES;
    // The same twice is the same twice, two are two, and fences keep their order.
    for (written, real, alike) in [
        ([a, a], [b, b], true),
        ([a, b], [b, a], true),
        ([a, a], [a, b], false),
        ([a, b], [a, a], false),
        ([one, one], [two, two], true),
        ([one, two], [one, two], true),
        ([one, one], [one, two], false),
        ([one, two], [one, one], false),
        ([one, two], [two, one], false),
    ] {
        assert_eq!(is_alike("ECHO", &written, &real), alike, "{written:?} and {real:?}");
    }
    let mut known = Known::default();
    known.compare("LOCK.ACQUIRE k", &[a, one], &[b, two]).unwrap();
    assert_eq!(known.to_real(&format!("LOCK.RELEASE k {a}")), Ok(format!("LOCK.RELEASE k {b}")));
    assert_eq!(known.to_real(&format!("LOCK.BREAK k FENCE {one}")), Ok(format!("LOCK.BREAK k FENCE {two}")));
    for stranger in [b, two] {
        assert!(known.to_real(&format!("LOCK.RELEASE k {stranger}")).is_err(), "{stranger} never appeared");
    }
}

/// Whatever word of an output in a document were another one, its test would fail.
#[test]
fn every_word_of_every_session_counts() {
    let documents = DOCUMENTS.iter().map(|(document, _)| document).chain(&super::sections::PAGES);
    for step in documents.flat_map(|document| steps(&file(document))) {
        let written: Vec<&str> = step.output.iter().map(String::as_str).collect();
        let (written, _) = without_what_is_left_out(&written, &written);
        let command = step.command.text();
        assert!(is_alike(command, &written, &written), "line {}", step.line);
        for (row, line) in written.iter().enumerate() {
            let words = words(line);
            for (column, word) in words.iter().enumerate() {
                let stands_for = kind(word) != Kind::Itself;
                let mut changed: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
                changed[column] = match word.parse::<i64>() {
                    Ok(number) if !stands_for => (number + SLACK_MS + 1).to_string(),
                    _ => format!("{word}0"),
                };
                let changed = changed.concat();
                let mut real = written.clone();
                real[row] = &changed;
                assert!(!is_alike(command, &written, &real), "line {}: {line} or {changed}", step.line);
            }
        }
    }
}

// --- reading the README

pub(super) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(super) fn file(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn readme() -> String {
    file("README.md")
}

fn reference() -> String {
    file("docs/commands.md")
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

/// The words after `make`, in shell blocks and between backticks.
pub(super) fn make_calls(text: &str) -> Vec<Vec<String>> {
    let mut code: Vec<String> = blocks(text, "sh").into_iter().flat_map(|block| block.lines).collect();
    code.extend(text.split('`').skip(1).step_by(2).map(str::to_owned));
    let calls = code.iter().filter_map(|line| line.strip_prefix("make "));
    calls
        .map(|words| words.split_whitespace().take_while(|word| *word != "#").map(str::to_owned).collect())
        .collect()
}

// --- asking the server

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
