//! The words of the commands, and what they are refused for: nothing of a command that fails has happened.

use super::{all, errs, holds, none, release_all};
use crate::support::errors::{self, arity, call_fails, fails, invalid_expire};
use crate::support::locks::{acquire, exists, holder, remaining, standing};
use crate::support::{Client, Reply, Server, cmd, field, ok_grant};

#[test]
fn the_smallest_and_the_largest_number_of_keys() {
    let server = Server::start();
    let mut client = server.client();
    for count in [1, 2, 255, 256] {
        let keys: Vec<String> = (0..count).map(|n| format!("k{n}")).collect();
        let keys = keys.join(" ");
        let grant = all(&mut client, &format!("{count} {keys} TOKEN a"));
        assert_eq!(grant.token, b"a");
        assert_eq!(client.run(&format!("LOCK.MEXTEND {count} {keys} a PX 5000")), Reply::Int(count));
        assert_eq!(client.run("DBSIZE"), Reply::Int(count));
        assert_eq!(client.run(&format!("LOCK.MRELEASE {count} {keys} a")), Reply::Int(count));
        assert_eq!(client.run("DBSIZE"), Reply::Int(0));
    }
}

#[test]
fn a_number_of_keys_that_is_none_or_out_of_range() {
    let server = Server::start();
    let mut client = server.client();
    for number in ["0", "-1", "257", "65536", "9223372036854775807", "-9223372036854775808"] {
        for command in ["LOCK.MACQUIRE", "LOCK.MRELEASE", "LOCK.MEXTEND"] {
            fails(&mut client, &format!("{command} {number} k l"), errors::NUMKEYS);
        }
    }
    for number in ["x", "1.0", "1x", "9223372036854775808", "0x2", "+2", "02"] {
        for command in ["LOCK.MACQUIRE", "LOCK.MRELEASE", "LOCK.MEXTEND"] {
            fails(&mut client, &format!("{command} {number} k l"), errors::NOT_AN_INTEGER);
        }
    }
    let keys: Vec<String> = (0..257).map(|n| format!("k{n}")).collect();
    for command in ["LOCK.MACQUIRE", "LOCK.MRELEASE", "LOCK.MEXTEND"] {
        fails(&mut client, &format!("{command} 257 {} t", keys.join(" ")), errors::NUMKEYS);
    }
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
}

#[test]
fn more_keys_than_there_are_arguments() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    let before = standing(&mut client, "k");
    for command in [
        "LOCK.MACQUIRE 2 k",
        "LOCK.MACQUIRE 256 k l m",
        "LOCK.MRELEASE 2 k a",
        "LOCK.MRELEASE 3 k l a",
        "LOCK.MEXTEND 2 k a",
        "LOCK.MEXTEND 256 k a",
    ] {
        let reply = client.run(command);
        let known = [errors::SYNTAX.to_owned(), arity(command.split(' ').next().unwrap())];
        assert!(known.iter().any(|it| it == reply.error()), "{command}: {reply:?}");
    }
    for command in ["LOCK.MACQUIRE", "LOCK.MRELEASE", "LOCK.MEXTEND"] {
        fails(&mut client, command, &arity(command));
        fails(&mut client, &format!("{command} 1"), &arity(command));
    }
    for command in ["LOCK.MRELEASE", "LOCK.MEXTEND"] {
        fails(&mut client, &format!("{command} 1 k"), &arity(command));
    }
    assert_eq!(standing(&mut client, "k"), before);
    assert_eq!(client.run("DBSIZE"), Reply::Int(1));
}

#[test]
fn keys_come_first_and_options_in_any_order_and_in_any_case() {
    let server = Server::start();
    let mut client = server.client();
    for options in [
        "PX 5000 TOKEN a LIMIT 3 WEIGHT 2 OWNER me BLOCK 5 LEVEL 1",
        "owner me level 1 weight 2 block 5 limit 3 token a px 5000",
        "Weight 2 Session Limit 3 tOKEN a oWNER me eX 5 Delay 10",
    ] {
        all(&mut client, &format!("2 k l {options}"));
        for key in ["k", "l"] {
            let hold = holder(&mut client, key);
            assert_eq!(field(&hold, "lease"), Reply::Int(5_000), "{options}");
            assert_eq!(field(&hold, "limit"), Reply::Int(3), "{options}");
            assert_eq!(field(&hold, "weight"), Reply::Int(2), "{options}");
            assert_eq!(field(&hold, "owner").text(), "me", "{options}");
        }
        release_all(&mut client, "2 k l a");
    }
    // Words that are options elsewhere are keys where keys stand.
    all(&mut client, "3 PX TOKEN BLOCK TOKEN a");
    assert_eq!(holds(&mut client, &["PX", "TOKEN", "BLOCK"], "a").len(), 3);
    assert_eq!(client.run("LOCK.MEXTEND 3 PX TOKEN BLOCK a PX 50"), Reply::Int(3));
}

#[test]
fn options_that_are_none_come_twice_or_exclude_each_other() {
    let server = Server::start();
    let mut client = server.client();
    for options in [
        "x",
        "PX",
        "PX 5 PX 5",
        "PX 5 EX 5",
        "TOKEN",
        "TOKEN a TOKEN a",
        "SHARED SHARED",
        "SHARED LIMIT 2",
        "LIMIT",
        "LIMIT 2 LIMIT 2",
        "BLOCK 0 BLOCK 0",
        "QUEUE 5 QUEUE 5 TOKEN a",
        "QUEUE 5 TOKEN a SESSION",
        "DELAY 5",
        "SESSION SESSION",
        "LEVEL 1 LEVEL 1",
        "OWNER o OWNER o",
        "WEIGHT 1 WEIGHT 1",
        "m",
    ] {
        fails(&mut client, &format!("LOCK.MACQUIRE 2 k l {options}"), errors::SYNTAX);
    }
    all(&mut client, "2 k l TOKEN a");
    for rest in ["x", "PX", "PX 5 PX 5", "PX 5 EX 5", "LEVEL 1", "PX 5 x"] {
        fails(&mut client, &format!("LOCK.MEXTEND 2 k l a {rest}"), errors::SYNTAX);
    }
    for rest in ["x", "LEVEL", "PX 5"] {
        let reply = client.run(&format!("LOCK.MRELEASE 2 k l a {rest}"));
        let known = [errors::SYNTAX.to_owned(), arity("LOCK.MRELEASE")];
        assert!(known.iter().any(|it| it == reply.error()), "LOCK.MRELEASE 2 k l a {rest}: {reply:?}");
    }
    assert_eq!(holds(&mut client, &["k", "l"], "a"), ["k", "l"]);
    assert_eq!(client.run("DBSIZE"), Reply::Int(2));
}

#[test]
fn what_is_out_of_range() {
    let server = Server::start();
    let mut client = server.client();
    let expire = invalid_expire("LOCK.MACQUIRE");
    for (options, error) in [
        ("PX 0", expire.as_str()),
        ("PX -1", &expire),
        ("EX 0", &expire),
        ("PX 86400001", &expire),
        ("EX 9223372036854775807", &expire),
        ("SESSION DELAY 0", &expire),
        ("SESSION DELAY 86400001", &expire),
        ("PX x", errors::NOT_AN_INTEGER),
        ("LIMIT 0", errors::LIMIT),
        ("LIMIT 65536", errors::LIMIT),
        ("WEIGHT 0 LIMIT 2", errors::WEIGHT),
        ("WEIGHT 2", errors::WEIGHT),
        ("LIMIT 2 WEIGHT 3", errors::WEIGHT),
        ("LEVEL 0", "ERR LEVEL must be between 1 and 65535"),
        ("LEVEL 65536", "ERR LEVEL must be between 1 and 65535"),
        ("BLOCK -1", errors::TIMEOUT_NEGATIVE),
        ("BLOCK 9223372036854775807", errors::TIMEOUT_RANGE),
        ("QUEUE -1 TOKEN a", errors::TIMEOUT_NEGATIVE),
        ("QUEUE 0 TOKEN a", errors::TIMEOUT_RANGE),
    ] {
        fails(&mut client, &format!("LOCK.MACQUIRE 2 k l {options}"), error);
    }
    errs(&mut client, "2 k l QUEUE 5", "ERR QUEUE needs TOKEN");
    for token in [&b""[..], &[b'x'; 256]] {
        call_fails(&mut client, &cmd!["LOCK.MACQUIRE", 2, "k", "l", "TOKEN", token], errors::TOKEN);
        call_fails(&mut client, &cmd!["LOCK.MRELEASE", 2, "k", "l", token], errors::TOKEN);
        call_fails(&mut client, &cmd!["LOCK.MEXTEND", 2, "k", "l", token], errors::TOKEN);
    }
    call_fails(&mut client, &cmd!["LOCK.MACQUIRE", 2, "k", "l", "OWNER", [b'x'; 256]], errors::OWNER);
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
    all(&mut client, "2 k l TOKEN a PX 60000");
    for lease in ["PX 0", "PX -1", "EX 86401", "PX 86400001"] {
        fails(&mut client, &format!("LOCK.MEXTEND 2 k l a {lease}"), &invalid_expire("LOCK.MEXTEND"));
    }
    fails(&mut client, "LOCK.MEXTEND 2 k l a PX x", errors::NOT_AN_INTEGER);
    assert!(remaining(&mut client, "k", "a") > Some(50_000));
    assert!(remaining(&mut client, "l", "a") > Some(50_000));
}

/// A value of another type under any of the keys: nothing is granted, released, extended, and no wait begun or ended.
#[test]
fn a_value_of_another_type_under_one_of_the_keys() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "held TOKEN a PX 60000");
    acquire(&mut client, "other TOKEN b PX 60000");
    client.ok("SET s v");
    let keys = ["held", "free", "other"];
    let before: Vec<Reply> = keys.iter().map(|key| standing(&mut client, key)).collect();
    for order in ["3 held free s", "3 s held free", "3 held s free", "4 held free other s"] {
        for options in ["TOKEN a", "TOKEN a BLOCK 0", "TOKEN a QUEUE 5000", "", "TOKEN a PX 1 LIMIT 4"] {
            fails(&mut client, &format!("LOCK.MACQUIRE {order} {options}"), errors::WRONG_TYPE);
        }
        fails(&mut client, &format!("LOCK.MRELEASE {order} a"), errors::WRONG_TYPE);
        fails(&mut client, &format!("LOCK.MEXTEND {order} a PX 1"), errors::WRONG_TYPE);
    }
    let after: Vec<Reply> = keys.iter().map(|key| standing(&mut client, key)).collect();
    assert_eq!(after, before);
    assert!(remaining(&mut client, "held", "a") > Some(50_000));
    assert_eq!(client.run("GET s").text(), "v");
}

#[test]
fn a_key_that_is_named_twice_counts_once() {
    let server = Server::start();
    let mut client = server.client();
    let grant = all(&mut client, "5 k l k l k TOKEN a");
    for key in ["k", "l"] {
        assert_eq!(field(&holder(&mut client, key), "fence"), Reply::Int(grant.fence));
        assert_eq!(field(&holder(&mut client, key), "level"), Reply::Int(1));
    }
    none(&mut client, "2 l l TOKEN b");
    assert_eq!(client.run("LOCK.MEXTEND 4 k k l l a PX 5000"), Reply::Int(2));
    assert_eq!(client.run("LOCK.MRELEASE 3 k k l a"), Reply::Int(2));
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
    // The weight counts once too.
    all(&mut client, "3 k k k TOKEN a LIMIT 2");
    all(&mut client, "2 k k TOKEN b LIMIT 2");
    none(&mut client, "1 k TOKEN c LIMIT 2");
}

#[test]
fn keys_and_tokens_are_any_bytes() {
    let server = Server::start();
    let mut client = server.client();
    let keys: [&[u8]; 5] = [b"\0", b"\r\n", b"%s%n%s", b"\xff\xfe", b""];
    for token in keys.iter().filter(|token| !token.is_empty()) {
        let command = cmd!["LOCK.MACQUIRE", 5, keys[0], keys[1], keys[2], keys[3], keys[4], "TOKEN", token];
        let (told, fence) = ok_grant(client.call(&command));
        assert_eq!(&told, token);
        for key in keys {
            let reply = client.call(&cmd!["LOCK.CHECK", key, token]);
            assert_eq!(reply.items()[0], Reply::Int(fence));
        }
        let rest = cmd![5, keys[0], keys[1], keys[2], keys[3], keys[4], token];
        let command = |name: &str| [vec![name.as_bytes().to_vec()], rest.to_vec()].concat();
        assert_eq!(client.call(&command("LOCK.MEXTEND")), Reply::Int(5));
        assert_eq!(client.call(&command("LOCK.MRELEASE")), Reply::Int(5));
        assert_eq!(client.run("DBSIZE"), Reply::Int(0));
    }
}

#[test]
fn with_no_memory_left_only_what_is_granted_is_refused() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a");
    client.ok("CONFIG SET maxmemory 1");
    for command in ["LOCK.MACQUIRE 2 m n", "LOCK.MACQUIRE 2 k l TOKEN a"] {
        let reply = client.run(command);
        assert!(reply.error().starts_with("OOM "), "{command}: {reply:?}");
    }
    assert_eq!(client.run("LOCK.MEXTEND 2 k l a"), Reply::Int(2));
    release_all(&mut client, "2 k l a");
    client.ok("CONFIG SET maxmemory 0");
    assert!(!exists(&mut client, "m"));
}

#[test]
fn a_replica_refuses_all_three() {
    let pair = crate::support::Pair::start();
    let mut client: Client = pair.replica.client();
    for command in ["LOCK.MACQUIRE 2 k l", "LOCK.MRELEASE 2 k l a", "LOCK.MEXTEND 2 k l a"] {
        let reply = client.run(command);
        assert!(reply.error().starts_with("READONLY "), "{command}: {reply:?}");
    }
}
