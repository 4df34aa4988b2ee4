//! Arguments of ill will: every one is answered as the contract says, changes nothing it must not, and brings nothing
//! down. And bytes that only look hostile are keys, tokens and labels like any others.

use crate::support::errors::{self, arity, call_fails, invalid_expire, show};
use crate::support::locks::{acquire, field, holder, null, standing};
use crate::support::{Client, Data, PATIENCE, Random, Reply, Server, cmd, ok_grant, wait_until};

/// What an argument stands for, and with it what the contract says to bytes that come there.
#[derive(Clone, Copy, Debug)]
enum Place {
    Token,
    Owner,
    Milliseconds,
    Seconds,
    Limit,
    Weight,
    Numkeys,
    Block,
    Fence,
    Option,
}

/// Commands on the held lock `held`, `?` the place of the hostile bytes. None changes the lock when those are legal:
/// the lock is exclusive, and the tokens are not its holder's.
const TEMPLATES: [(&str, Place); 37] = [
    ("LOCK.ACQUIRE held TOKEN ?", Place::Token),
    ("LOCK.ACQUIRE held PX 5000 TOKEN ? SHARED", Place::Token),
    ("LOCK.ACQUIRE held OWNER ?", Place::Owner),
    ("LOCK.ACQUIRE held TOKEN other OWNER ? LIMIT 2", Place::Owner),
    ("LOCK.ACQUIRE held PX ?", Place::Milliseconds),
    ("LOCK.ACQUIRE held TOKEN holder PX ?", Place::Milliseconds),
    ("LOCK.ACQUIRE held EX ?", Place::Seconds),
    ("LOCK.ACQUIRE held TOKEN holder EX ?", Place::Seconds),
    ("LOCK.ACQUIRE held LIMIT ?", Place::Limit),
    ("LOCK.ACQUIRE held SHARED WEIGHT ?", Place::Weight),
    ("LOCK.ACQUIRE held WEIGHT ? LIMIT 65535", Place::Weight),
    ("LOCK.ACQUIRE held TOKEN holder SHARED BLOCK ?", Place::Block),
    ("LOCK.ACQUIRE held SESSION BLOCK 5 LIMIT ?", Place::Limit),
    ("LOCK.ACQUIRE held SESSION LEVEL 1 ?", Place::Option),
    ("LOCK.ACQUIRE held ?", Place::Option),
    ("LOCK.ACQUIRE held ? 5", Place::Option),
    ("LOCK.ACQUIRE held TOKEN holder ?", Place::Option),
    ("LOCK.RELEASE held ?", Place::Token),
    ("LOCK.EXTEND held ?", Place::Token),
    ("LOCK.EXTEND held ? PX 5000", Place::Token),
    ("LOCK.EXTEND held holder PX ?", Place::Milliseconds),
    ("LOCK.EXTEND held holder EX ?", Place::Seconds),
    ("LOCK.EXTEND held holder ? 5", Place::Option),
    ("LOCK.CHECK held ?", Place::Token),
    ("LOCK.MACQUIRE ? held other", Place::Numkeys),
    ("LOCK.MACQUIRE 2 held free TOKEN ?", Place::Token),
    ("LOCK.MACQUIRE 2 held free PX ?", Place::Milliseconds),
    ("LOCK.MACQUIRE 2 held free ?", Place::Option),
    ("LOCK.MRELEASE ? held other", Place::Numkeys),
    ("LOCK.MRELEASE 2 held free ?", Place::Token),
    ("LOCK.MEXTEND 2 held free ?", Place::Token),
    ("LOCK.MEXTEND 2 held free other PX ?", Place::Milliseconds),
    ("LOCK.MEXTEND 1 held other ?", Place::Option),
    ("LOCK.GUARD held ? DEL held", Place::Token),
    ("LOCK.GUARD held ? GET ?", Place::Token),
    ("LOCK.BREAK held FENCE ?", Place::Fence),
    ("LOCK.BREAK held ? 5", Place::Option),
];

const MIB: usize = 1 << 20;

fn hostile_values() -> Vec<Vec<u8>> {
    let values: [&[u8]; 34] = [
        b"",
        b"\0",
        b"a\0b",
        b"5\0",
        b"\r\n",
        b"a\r\nb",
        b"$-1\r\n",
        b"\r\n+OK\r\n",
        b"%s%s%n",
        b"%n%n%n%n%d%x%p",
        b"\xff\xfe\x80",
        b"\xc3\x28",
        b"\xed\xa0\x80",
        b"-1",
        b"0",
        b"-0",
        b"+1",
        b" 1",
        b"1 ",
        b"01",
        b"1.5",
        b"1e3",
        b"0x10",
        b"nan",
        b"inf",
        b"9223372036854775807",
        b"-9223372036854775808",
        b"9223372036854775808",
        b"-9223372036854775809",
        b"18446744073709551616",
        b"9223372036854776",
        b"99999999999999999999999999999999",
        b"KEYS[1]",
        b"*",
    ];
    let long = [255, 256, 65_536, MIB].map(|length| vec![b'x'; length]);
    values.iter().map(|value| value.to_vec()).chain(long).collect()
}

#[test]
fn every_argument_of_every_command_refuses_what_it_must_and_changes_nothing() {
    let mut server = Server::start();
    for mut client in [server.client(), server.client3()] {
        acquire(&mut client, "held TOKEN holder PX 3600000 OWNER me");
        let before = standing(&mut client, "held");
        let values = hostile_values();
        for (template, place) in TEMPLATES {
            for value in &values {
                let command = fill(template, value);
                let due = match verdict(place, value, template) {
                    Some(error) => Reply::Error(error),
                    // Nothing to wait for, or without end.
                    None if matches!(place, Place::Block) => continue,
                    None => neutral(&client, template),
                };
                assert_eq!(client.call(&command), due, "{place:?}: {}", show(&command));
            }
            assert_eq!(standing(&mut client, "held"), before, "{template}");
            assert_eq!(client.run("DBSIZE"), Reply::Int(1), "{template}");
        }
        client.run("LOCK.BREAK held");
    }
    server.assert_alive();
}

#[test]
fn a_missing_key_is_not_created_by_what_is_refused() {
    let mut server = Server::start();
    let mut client = server.client();
    for (template, place) in TEMPLATES {
        for value in hostile_values() {
            if verdict(place, &value, template).is_some() {
                client.call(&fill(&template.replace("held", "missing"), &value));
            }
        }
    }
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
    server.assert_alive();
}

#[test]
fn a_wrong_number_of_arguments_is_refused() {
    let mut server = Server::start();
    for mut client in [server.client(), server.client3()] {
        acquire(&mut client, "k TOKEN a");
        let before = standing(&mut client, "k");
        for command in [
            "LOCK.ACQUIRE",
            "LOCK.RELEASE",
            "LOCK.RELEASE k",
            "LOCK.EXTEND",
            "LOCK.EXTEND k",
            "LOCK.CHECK",
            "LOCK.CHECK k",
            "LOCK.CHECK k a a",
            "LOCK.INFO",
            "LOCK.INFO k a",
            "LOCK.BREAK",
        ] {
            let name = command.split(' ').next().unwrap();
            errors::fails(&mut client, command, &arity(name));
        }
        for name in ["LOCK.CHECK", "LOCK.INFO"] {
            let many = vec![name; 10_000];
            call_fails(&mut client, &many, &arity(name));
        }
        for command in ["LOCK.ACQUIRE k", "LOCK.EXTEND k a", "LOCK.BREAK k"] {
            for option in ["PX", "SHARED", "5", "x"] {
                let words = command.split(' ').chain(std::iter::repeat_n(option, 10_000));
                call_fails(&mut client, &words.collect::<Vec<_>>(), errors::SYNTAX);
            }
        }
        assert_eq!(standing(&mut client, "k"), before);
        client.run("LOCK.BREAK k");
    }
    server.assert_alive();
}

#[test]
fn options_repeated_contradictory_unknown_or_half_are_refused() {
    let mut server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let before = standing(&mut client, "k");
    let acquire_options = [
        "PX 5000", "EX 5", "TOKEN b", "SHARED", "LIMIT 2", "WEIGHT 1", "OWNER o", "BLOCK 5", "SESSION",
        "LEVEL 1",
    ];
    for option in acquire_options {
        let twice = format!("LOCK.ACQUIRE k {option} {option}");
        errors::fails(&mut client, &twice, errors::SYNTAX);
        let lower = format!("LOCK.ACQUIRE k {option} {}", option.to_lowercase());
        errors::fails(&mut client, &lower, errors::SYNTAX);
        let word = option.split(' ').next().unwrap();
        for wrong in [format!("{word}\0"), format!("{word} "), format!("x{word}"), word[1..].to_owned()] {
            call_fails(&mut client, &cmd!["LOCK.ACQUIRE", "k", wrong, "5"], errors::SYNTAX);
        }
        if option.contains(' ') {
            for others in ["", "TOKEN c ", "SHARED OWNER p "] {
                let half = format!("LOCK.ACQUIRE k {others}{word}");
                errors::fails(&mut client, &half, errors::SYNTAX);
            }
        }
    }
    for pair in [["PX 5000", "EX 5"], ["SHARED", "LIMIT 2"]] {
        for [one, other] in [pair, [pair[1], pair[0]]] {
            let command = format!("LOCK.ACQUIRE k TOKEN a {one} OWNER o {other}");
            errors::fails(&mut client, &command, errors::SYNTAX);
        }
    }
    for options in
        ["PX 5000 PX 5000", "EX 5 EX 5", "PX 5000 EX 5", "EX 5 PX 5000", "PX", "EX", "PXX 5", "P 5"]
    {
        let command = format!("LOCK.EXTEND k a {options}");
        errors::fails(&mut client, &command, errors::SYNTAX);
    }
    assert_eq!(standing(&mut client, "k"), before);
    server.assert_alive();
}

#[test]
fn hostile_but_legal_keys_tokens_and_owners_work_in_full() {
    let mut server = Server::start();
    let keys: Vec<Vec<u8>> = hostile_values();
    let labels: Vec<Vec<u8>> = keys.iter().filter(|value| value.len() <= 255).cloned().collect();
    let tokens: Vec<Vec<u8>> = labels.iter().filter(|value| !value.is_empty()).cloned().collect();
    let rounds = keys.len().max(labels.len());
    let hold = |n: usize| (&keys[n % keys.len()], &tokens[n % tokens.len()], &labels[n % labels.len()]);
    let mut fences = Vec::new();
    {
        let mut client = server.client();
        for n in 0..rounds {
            let (key, token, owner) = hold(n);
            let command = cmd!["LOCK.ACQUIRE", key, "TOKEN", token, "OWNER", owner, "PX", 3_600_000];
            let (given, fence) = ok_grant(client.call(&command));
            assert_eq!(&given, token, "{}", show(&command));
            fences.push(fence);
        }
        let held = i64::try_from(rounds).unwrap();
        assert_eq!(client.run("DBSIZE"), Reply::Int(held), "no key is another");
    }
    for restarted in [false, true] {
        if restarted {
            server.restart(Data::Save);
        }
        for (n, fence) in fences.iter().enumerate() {
            let (key, token, owner) = hold(n);
            let about = format!("restarted: {restarted}, {}", show(&[key, token, owner]));
            for mut client in [server.client(), server.client3()] {
                let shown = holder(&mut client, key);
                assert_eq!(field(&shown, "owner"), Reply::Bulk(owner.clone()), "{about}");
                let check = client.call(&cmd!["LOCK.CHECK", key, token]);
                assert_eq!(check.items()[0], Reply::Int(*fence), "{about}");
                let extended = client.call(&cmd!["LOCK.EXTEND", key, token, "PX", 3_600_000]);
                assert_eq!(extended, Reply::Int(1), "{about}");
                assert_eq!(client.call(&cmd!["LOCK.ACQUIRE", key]), null(&client), "{about}");
            }
        }
    }
    let mut client = server.client();
    for n in 0..rounds {
        let (key, token, owner) = hold(n);
        let about = show(&[key, token, owner]);
        assert_eq!(client.call(&cmd!["LOCK.RELEASE", key, token]), Reply::Int(1), "{about}");
        assert_eq!(client.call(&cmd!["LOCK.RELEASE", key, token]), Reply::Int(0), "{about}");
    }
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
    drop(client);
    server.assert_alive();
}

#[test]
fn tokens_that_differ_in_one_byte_anywhere_are_different() {
    let server = Server::start();
    let mut client = server.client();
    let token = [0_u8; 255];
    ok_grant(client.call(&cmd!["LOCK.ACQUIRE", "k", "TOKEN", token]));
    for at in [0, 1, 127, 128, 253, 254] {
        let mut other = token;
        other[at] = 1;
        assert_eq!(client.call(&cmd!["LOCK.RELEASE", "k", other]), Reply::Int(0));
        assert_eq!(client.call(&cmd!["LOCK.RELEASE", "k", token[..at.max(1)]]), Reply::Int(0));
    }
    assert_eq!(client.call(&cmd!["LOCK.RELEASE", "k", token]), Reply::Int(1));
}

/// The form of LOCK.ACQUIRE that the append-only file and replicas get carries a decision, and it is for them alone.
#[test]
fn a_client_cannot_use_the_form_of_the_replication_stream() {
    let mut server = Server::builder().aof().start();
    let mut client = server.client();
    acquire(&mut client, "held TOKEN a PX 3600000 OWNER me");
    acquire(&mut client, "shared SHARED TOKEN a PX 3600000");
    acquire(&mut client, "shared SHARED TOKEN b PX 3600000");
    let written = written_commands(&server);
    let explicit: Vec<&Vec<Vec<u8>>> = written
        .iter()
        .filter(|command| command[0].eq_ignore_ascii_case(b"LOCK.ACQUIRE") && command.len() == 3)
        .collect();
    assert!(explicit.len() >= 3, "a grant is written as LOCK.ACQUIRE key blob: {written:?}");
    let before = [standing(&mut client, "held"), standing(&mut client, "shared")];
    for command in explicit {
        let blob = &command[2];
        for key in [command[1].as_slice(), b"held", b"new"] {
            let forged = cmd!["LOCK.ACQUIRE", key, blob];
            call_fails(&mut client, &forged, errors::SYNTAX);
            call_fails(&mut server.client3(), &forged, errors::SYNTAX);
            let transaction = [cmd!["MULTI"].to_vec(), forged.to_vec(), cmd!["EXEC"].to_vec()];
            let replies = client.pipeline(&transaction);
            assert_eq!(replies[2].items()[0], Reply::Error(errors::SYNTAX.into()));
            let script = "return redis.pcall('LOCK.ACQUIRE', KEYS[1], ARGV[1]).err";
            let said = client.call(&cmd!["EVAL", script, 1, key, blob]);
            assert_eq!(said.text(), errors::SYNTAX);
        }
    }
    assert_eq!([standing(&mut client, "held"), standing(&mut client, "shared")], before);
    assert_eq!(client.run("DBSIZE"), Reply::Int(2));
    server.assert_alive();
}

#[test]
fn whatever_the_stream_carries_a_client_can_do_no_more_with_it_than_with_its_own_words() {
    let mut server = Server::builder().aof().start();
    let mut client = server.client();
    for command in [
        "LOCK.ACQUIRE ended TOKEN a PX 40",
        "LOCK.ACQUIRE k TOKEN a PX 3600000",
        "LOCK.ACQUIRE k TOKEN a PX 3600000 OWNER me",
        "LOCK.EXTEND k a PX 3500000",
        "LOCK.ACQUIRE broken TOKEN a",
        "LOCK.BREAK broken",
        "LOCK.ACQUIRE released TOKEN a",
        "LOCK.RELEASE released a",
    ] {
        assert!(!client.run(command).is_error(), "{command}");
    }
    wait_until("a lease has ended", PATIENCE, || client.run("EXISTS ended") == Reply::Int(0));
    let written = written_commands(&server);
    client.run("LOCK.BREAK k");
    acquire(&mut client, "k TOKEN b PX 3600000");
    let before = standing(&mut client, "k");
    for command in written {
        if command[0].to_ascii_uppercase().starts_with(b"LOCK.") {
            client.call(&command);
        }
    }
    assert_eq!(standing(&mut client, "k"), before, "without the token nothing moves the hold");
    server.assert_alive();
}

#[test]
fn random_arguments_never_bring_the_server_down() {
    const CALLS: usize = 4000;
    let mut random = Random::from_environment();
    let mut server = Server::start();
    let mut client = server.client();
    client.ok("SET string v");
    // Nobody else is there to end a wait.
    client.ok("CONFIG SET lock.max-waiters 0");
    let words: Vec<Vec<u8>> = [
        "PX", "EX", "TOKEN", "SHARED", "LIMIT", "WEIGHT", "OWNER", "FENCE", "BLOCK", "SESSION", "LEVEL", "1",
        "100", "0", "-1", "2", "k", "string", "a", "b",
    ]
    .iter()
    .map(|word| word.as_bytes().to_vec())
    .chain(hostile_values().into_iter().filter(|value| value.len() < MIB))
    .collect();
    let commands = [
        "LOCK.ACQUIRE",
        "LOCK.RELEASE",
        "LOCK.EXTEND",
        "LOCK.CHECK",
        "LOCK.GUARD",
        "LOCK.INFO",
        "LOCK.BREAK",
    ];
    for _ in 0..CALLS / 100 {
        let batch: Vec<Vec<Vec<u8>>> = (0..100)
            .map(|_| {
                let mut command = vec![random.pick(&commands).as_bytes().to_vec()];
                for _ in 0..random.below(8) {
                    let length = random.below(20);
                    let noise = random.below(8) == 0;
                    let argument = if noise { random.bytes(length) } else { random.pick(&words).clone() };
                    command.push(argument);
                }
                command
            })
            .collect();
        for (reply, command) in client.pipeline(&batch).iter().zip(&batch) {
            if let Reply::Error(text) = reply {
                let known = ["ERR ", "WRONGTYPE ", "QUEUEFULL ", "NOTOWNER "]
                    .iter()
                    .any(|prefix| text.starts_with(prefix));
                assert!(known, "{}: {text}", show(command));
            }
        }
    }
    server.assert_alive();
    assert_eq!(client.run("GET string").text(), "v");
}

/// The template's words with the value at the `?`.
fn fill(template: &str, value: &[u8]) -> Vec<Vec<u8>> {
    let words = template.split(' ');
    words.map(|word| if word == "?" { value.to_vec() } else { word.as_bytes().to_vec() }).collect()
}

/// The error the contract has for these bytes at that place; `None` when they are legal there.
fn verdict(place: Place, value: &[u8], template: &str) -> Option<String> {
    const MAX_LEASE_MS: i64 = 86_400_000;
    const MAX_BLOCK_MS: i64 = 3_153_600_000_000;
    let command = template.split(' ').next().unwrap();
    let lease = |unit_ms: i64| match canonical(value) {
        None => Some(errors::NOT_AN_INTEGER.to_owned()),
        Some(number) => match number.checked_mul(unit_ms) {
            Some(1..=MAX_LEASE_MS) => None,
            _ => Some(invalid_expire(command)),
        },
    };
    match place {
        Place::Token => (value.is_empty() || value.len() > 255).then(|| errors::TOKEN.to_owned()),
        Place::Owner => (value.len() > 255).then(|| errors::OWNER.to_owned()),
        Place::Milliseconds => lease(1),
        Place::Seconds => lease(1000),
        Place::Limit => match canonical(value) {
            None => Some(errors::NOT_AN_INTEGER.to_owned()),
            Some(1..=65_535) => None,
            Some(_) => Some(errors::LIMIT.to_owned()),
        },
        Place::Weight => match canonical(value) {
            None => Some(errors::NOT_AN_INTEGER.to_owned()),
            Some(1..=65_535) => None,
            Some(_) => Some(errors::WEIGHT.to_owned()),
        },
        Place::Block => match canonical(value) {
            None => Some(errors::NOT_AN_INTEGER.to_owned()),
            Some(0..=MAX_BLOCK_MS) => None,
            Some(..0) => Some(errors::TIMEOUT_NEGATIVE.to_owned()),
            Some(_) => Some(errors::TIMEOUT_RANGE.to_owned()),
        },
        Place::Fence => canonical(value).is_none().then(|| errors::NOT_AN_INTEGER.to_owned()),
        Place::Option => Some(errors::SYNTAX.to_owned()),
        // The templates have one key and one word behind it.
        Place::Numkeys => match canonical(value) {
            None => Some(errors::NOT_AN_INTEGER.to_owned()),
            Some(1) if command == "LOCK.MRELEASE" => None,
            Some(1..=256) => Some(errors::SYNTAX.to_owned()),
            Some(_) => Some(errors::NUMKEYS.to_owned()),
        },
    }
}

/// The number these bytes are the canonical decimal of.
fn canonical(value: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == value).then_some(number)
}

/// What a command on `held` answers to a stranger.
fn neutral(client: &Client, template: &str) -> Reply {
    match template.split(' ').next() {
        Some("LOCK.ACQUIRE" | "LOCK.MACQUIRE" | "LOCK.CHECK") => null(client),
        Some("LOCK.GUARD") => Reply::Error(errors::NOT_OWNER.to_owned()),
        _ => Reply::Int(0),
    }
}

/// The commands in the server's append-only file, which is written before each reply.
fn written_commands(server: &Server) -> Vec<Vec<Vec<u8>>> {
    let folder = server.folder().join("appendonlydir");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(".incr.aof"));
    assert_eq!(files.len(), 1, "one file of commands: {files:?}");
    let wire = std::fs::read(&files[0]).unwrap();
    let mut commands = Vec::new();
    let mut rest = wire.as_slice();
    while let Some((command, length)) = Reply::from_wire(rest) {
        commands.push(command.items().iter().map(Reply::bytes).collect());
        rest = &rest[length..];
    }
    assert!(rest.is_empty(), "the file ends with a whole command");
    commands
}
