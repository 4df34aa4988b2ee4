//! LOCK.ACQUIRE: who is granted, what the options mean, what is refused.

use std::collections::HashSet;

use crate::support::errors::{self, fails};
use crate::support::locks::{acquire, field, holder, null, refused, remaining, standing};
use crate::support::{Reply, Server, cmd, ok_grant};

#[test]
fn a_free_key_is_granted_with_a_token_and_a_fence() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        let grant = acquire(&mut client, "k");
        assert_eq!(grant.token.len(), 32, "16 bytes in hex");
        assert!(
            grant.token.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')),
            "lower-case hex digits: {}",
            grant.token.escape_ascii()
        );
        assert!(grant.fence > 0);
        assert_eq!(client.call(&cmd!["LOCK.RELEASE", "k", grant.token]), Reply::Int(1));
    }
}

#[test]
fn generated_tokens_never_repeat() {
    let server = Server::start();
    let mut client = server.client();
    let commands: Vec<_> = (0..2000).map(|n| cmd!["LOCK.ACQUIRE", format!("k{n}")]).collect();
    let tokens: HashSet<Vec<u8>> =
        client.pipeline(&commands).into_iter().map(|reply| ok_grant(reply).0).collect();
    assert_eq!(tokens.len(), commands.len());
}

#[test]
fn a_held_lock_is_refused_with_the_null_of_the_protocol() {
    let server = Server::start();
    acquire(&mut server.client(), "k");
    assert_eq!(server.client().run("LOCK.ACQUIRE k"), Reply::NullArray, "RESP2");
    assert_eq!(server.client3().run("LOCK.ACQUIRE k"), Reply::Null, "RESP3");
}

#[test]
fn a_refusal_changes_nothing() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a PX 60000 OWNER first");
    let before = standing(&mut client, "k");
    refused(&mut client, "k TOKEN b PX 5 OWNER second LIMIT 9");
    assert_eq!(standing(&mut client, "k"), before);
    assert!(remaining(&mut client, "k", "a") > Some(5));
    assert_eq!(client.run("LOCK.CHECK k b"), null(&client));
}

#[test]
fn the_clients_own_token_is_given_back() {
    let server = Server::start();
    let mut client = server.client();
    assert_eq!(acquire(&mut client, "k TOKEN mine").token, b"mine");
    let longest = "x".repeat(255);
    assert_eq!(acquire(&mut client, &format!("l TOKEN {longest}")).token, longest.as_bytes());
    assert_eq!(acquire(&mut client, "m TOKEN y").token, b"y");
}

#[test]
fn a_token_has_1_to_255_bytes() {
    let server = Server::start();
    let mut client = server.client();
    for length in [0, 256, 70_000] {
        let token = "x".repeat(length);
        errors::call_fails(&mut client, &cmd!["LOCK.ACQUIRE", "k", "TOKEN", token], errors::TOKEN);
    }
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
}

#[test]
fn an_owner_has_at_most_255_bytes() {
    let server = Server::start();
    let mut client = server.client();
    for length in [0, 1, 255] {
        let owner = "o".repeat(length);
        let key = format!("k{length}");
        ok_grant(client.call(&cmd!["LOCK.ACQUIRE", key, "OWNER", owner]));
        assert_eq!(field(&holder(&mut client, &key), "owner"), Reply::Bulk(owner.into_bytes()));
    }
    let owner = "o".repeat(256);
    fails(&mut client, &format!("LOCK.ACQUIRE k OWNER {owner}"), errors::OWNER);
    assert_eq!(client.run("EXISTS k"), Reply::Int(0));
}

#[test]
fn options_come_in_any_order_and_any_case() {
    let server = Server::start();
    let mut client = server.client();
    let options = ["px 60000", "ToKeN a", "LIMIT 3", "owneR me", "blocK 5 session leVel 1"];
    for (index, order) in permutations(&options).into_iter().enumerate() {
        let key = format!("k{index}");
        let grant = acquire(&mut client, &format!("{key} {}", order.join(" ")));
        assert_eq!(grant.token, b"a", "{order:?}");
        let hold = holder(&mut client, &key);
        assert_eq!(field(&hold, "lease"), Reply::Int(60_000), "{order:?}");
        assert_eq!(field(&hold, "limit"), Reply::Int(3), "{order:?}");
        assert_eq!(field(&hold, "owner"), Reply::Bulk(b"me".to_vec()), "{order:?}");
    }
    let grant = ok_grant(client.run("lock.Acquire other shared ex 7"));
    assert!(grant.1 > 0);
    let hold = holder(&mut client, "other");
    assert_eq!(field(&hold, "limit"), Reply::Int(0));
    assert_eq!(field(&hold, "lease"), Reply::Int(7_000));
}

#[test]
fn a_value_that_reads_like_an_option_is_a_value() {
    let server = Server::start();
    let mut client = server.client();
    let grant = acquire(&mut client, "PX TOKEN SHARED OWNER TOKEN");
    assert_eq!(grant.token, b"SHARED");
    let hold = holder(&mut client, "PX");
    assert_eq!(field(&hold, "owner"), Reply::Bulk(b"TOKEN".to_vec()));
    assert_eq!(field(&hold, "limit"), Reply::Int(1));
}

#[test]
fn an_option_twice_half_unknown_or_excluded_is_a_syntax_error() {
    let server = Server::start();
    let mut client = server.client();
    for options in [
        "PX",
        "EX",
        "TOKEN",
        "LIMIT",
        "OWNER",
        "BLOCK",
        "PX 100 TOKEN",
        "PX 100 PX 100",
        "EX 1 EX 1",
        "EX 1 PX 100",
        "PX 100 EX 1",
        "TOKEN a TOKEN a",
        "TOKEN a TOKEN b",
        "OWNER a OWNER a",
        "LIMIT 2 LIMIT 2",
        "SHARED SHARED",
        "BLOCK 0 BLOCK 0",
        "BLOCK 0 PX 100 BLOCK 5",
        "SESSION SESSION",
        "SESSION 5",
        "REENTRANT",
        "LEVEL",
        "LEVEL 1 LEVEL 1",
        "SHARED LIMIT 2",
        "LIMIT 2 SHARED",
        "LIMIT 1 SHARED",
        "NX",
        "100",
        "PX 100 100",
        "SHAREDX",
        "SHARE",
        "FENCE 1",
        "PX 100 GET",
        "KEEPTTL",
    ] {
        fails(&mut client, &format!("LOCK.ACQUIRE k {options}"), errors::SYNTAX);
    }
    fails(&mut client, "LOCK.ACQUIRE", &errors::arity("lock.acquire"));
    assert_eq!(client.run("DBSIZE"), Reply::Int(0), "none was granted");
}

#[test]
fn a_block_of_less_than_nothing_or_of_more_than_a_hundred_years_is_refused() {
    let server = Server::start();
    let mut client = server.client();
    for (block, error) in [
        ("-1", errors::TIMEOUT_NEGATIVE),
        ("-9223372036854775808", errors::TIMEOUT_NEGATIVE),
        ("3153600000001", errors::TIMEOUT_RANGE),
        ("9223372036854775807", errors::TIMEOUT_RANGE),
        ("9223372036854775808", errors::NOT_AN_INTEGER),
    ] {
        fails(&mut client, &format!("LOCK.ACQUIRE k BLOCK {block}"), error);
    }
    assert_eq!(client.run("EXISTS k"), Reply::Int(0));
    for block in ["0", "1", "3153600000000"] {
        acquire(&mut client, &format!("k{block} BLOCK {block}"));
    }
}

#[test]
fn a_syntax_error_wins_over_a_bad_value() {
    let server = Server::start();
    let mut client = server.client();
    let too_long = "x".repeat(256);
    for options in [
        "PX abc WHAT".to_owned(),
        "PX 0 PX 5".to_owned(),
        "PX -1 EX 1".to_owned(),
        "LIMIT 0 SHARED".to_owned(),
        "SHARED LIMIT abc".to_owned(),
        "LIMIT 0 TOKEN".to_owned(),
        format!("TOKEN {too_long} OWNER"),
        format!("OWNER {too_long} EX"),
        "EX 99999999999999999999 LIMIT".to_owned(),
        "BLOCK -1 BLOCK 5".to_owned(),
        "BLOCK abc WHAT".to_owned(),
    ] {
        fails(&mut client, &format!("LOCK.ACQUIRE k {options}"), errors::SYNTAX);
    }
}

#[test]
fn ex_counts_seconds_and_px_milliseconds() {
    let server = Server::start();
    let mut client = server.client();
    for (options, lease) in
        [("PX 1500", 1_500), ("EX 2", 2_000), ("EX 86400", 86_400_000), ("PX 86400000", 86_400_000)]
    {
        acquire(&mut client, &format!("k TOKEN a {options}"));
        let hold = holder(&mut client, "k");
        assert_eq!(field(&hold, "lease"), Reply::Int(lease), "{options}");
        let left = remaining(&mut client, "k", "a").unwrap_or_default();
        assert!(left > 0 && left <= lease, "{options}: {left} ms left");
        client.run("LOCK.RELEASE k a");
    }
    ok_grant(client.run("LOCK.ACQUIRE shortest PX 1"));
}

#[test]
fn without_px_or_ex_the_lease_is_the_default_lease() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k");
    assert_eq!(field(&holder(&mut client, "k"), "lease"), Reply::Int(30_000));
}

#[test]
fn a_lease_of_zero_or_less_or_above_max_lease_is_an_invalid_expire_time() {
    let server = Server::start();
    let mut client = server.client();
    let invalid = errors::invalid_expire("lock.acquire");
    for options in [
        "PX 0",
        "PX -1",
        "PX -9223372036854775808",
        "PX 86400001",
        "PX 9223372036854775807",
        "EX 0",
        "EX -1",
        "EX -9223372036854775808",
        "EX 86401",
        "EX 9223372036854775",
        "EX 9223372036854776",
        "EX 18446744073709552",
        "EX 9223372036854775807",
    ] {
        fails(&mut client, &format!("LOCK.ACQUIRE k {options}"), &invalid);
    }
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
}

#[test]
fn a_number_is_a_canonical_decimal() {
    let server = Server::start();
    let mut client = server.client();
    for number in [
        "",
        "abc",
        "+5",
        " 5",
        "5 ",
        "05",
        "00",
        "-0",
        "-05",
        "5.0",
        "1e3",
        "0x10",
        "5\0",
        "5\n",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551617",
        "１",
        "--5",
        "-",
    ] {
        for option in ["PX", "EX", "LIMIT", "BLOCK"] {
            errors::call_fails(
                &mut client,
                &cmd!["LOCK.ACQUIRE", "k", option, number],
                errors::NOT_AN_INTEGER,
            );
        }
    }
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
}

#[test]
fn a_limit_lies_between_1_and_65535() {
    let server = Server::start();
    let mut client = server.client();
    for limit in ["1", "2", "65535"] {
        acquire(&mut client, &format!("k{limit} LIMIT {limit}"));
    }
    for limit in ["0", "-1", "65536", "65537", "4294967297", "9223372036854775807", "-9223372036854775808"] {
        fails(&mut client, &format!("LOCK.ACQUIRE k LIMIT {limit}"), errors::LIMIT);
    }
    assert_eq!(client.run("EXISTS k"), Reply::Int(0));
}

#[test]
fn a_key_of_another_type_is_the_wrong_type() {
    let server = Server::start();
    let mut client = server.client();
    client.run_all(&["SET s v", "RPUSH l v", "HSET h f v", "SADD m v", "XADD x * f v"]);
    for key in ["s", "l", "h", "m", "x"] {
        let before = client.run(&format!("DUMP {key}"));
        for options in ["", " TOKEN a PX 100", " SHARED"] {
            fails(&mut client, &format!("LOCK.ACQUIRE {key}{options}"), errors::WRONG_TYPE);
        }
        assert_eq!(client.run(&format!("DUMP {key}")), before);
        assert_eq!(client.run(&format!("PTTL {key}")), Reply::Int(-1));
    }
}

#[test]
fn set_nx_fails_on_a_lock() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a");
    assert_eq!(client.run("SET k v NX PX 100"), Reply::NullBulk);
    assert_eq!(client.run("SETNX k v"), Reply::Int(0));
    assert!(remaining(&mut client, "k", "a").is_some());
}

/// All orders of a few things.
fn permutations<'a>(things: &[&'a str]) -> Vec<Vec<&'a str>> {
    if things.is_empty() {
        return vec![Vec::new()];
    }
    let mut orders = Vec::new();
    for (index, first) in things.iter().enumerate() {
        let mut rest = things.to_vec();
        rest.remove(index);
        for mut order in permutations(&rest) {
            order.insert(0, first);
            orders.push(order);
        }
    }
    orders
}
