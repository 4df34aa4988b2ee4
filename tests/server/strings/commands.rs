//! What each command says of a string, and does to it.

use super::{adopting, set, ttl, unlock};
use crate::support::errors::{WRONG_TYPE, fails};
use crate::support::locks::{acquire, exists, field, held, holder, refused, remaining};
use crate::support::waiter::{release, wait_blocked};
use crate::support::{Client, Reply, Server, Waiter, cmd, ok_grant};

const COMMANDS: [&str; 7] = [
    "LOCK.ACQUIRE k TOKEN a",
    "LOCK.ACQUIRE k TOKEN b BLOCK 0",
    "LOCK.RELEASE k a",
    "LOCK.EXTEND k a PX 5000",
    "LOCK.CHECK k a",
    "LOCK.INFO k",
    "LOCK.BREAK k",
];

#[test]
fn without_the_setting_a_string_is_a_value_of_another_type() {
    let server = Server::start();
    let mut client = server.client();
    assert_eq!(client.run("CONFIG GET lock.adopt-strings").items()[1].text(), "no");
    set(&mut client, "k", "a", 60_000);
    COMMANDS.iter().for_each(|command| fails(&mut client, command, WRONG_TYPE));
    assert!(ttl(&mut client, "k") > 50_000);
}

#[test]
fn the_setting_takes_effect_at_once_and_counts_for_strings_alone() {
    let server = Server::start();
    let mut client = server.client();
    set(&mut client, "k", "a", 60_000);
    client.ok("CONFIG SET lock.adopt-strings yes");
    assert!(remaining(&mut client, "k", "a").is_some());
    client.ok("CONFIG SET lock.adopt-strings no");
    fails(&mut client, "LOCK.CHECK k a", WRONG_TYPE);
    client.ok("CONFIG SET lock.adopt-strings yes");
    for other in ["RPUSH k a", "SADD k a", "HSET k a a", "ZADD k 1 a", "XADD k 1 a a"] {
        client.run("DEL k");
        client.run(other);
        COMMANDS.iter().for_each(|command| fails(&mut client, command, WRONG_TYPE));
    }
}

#[test]
fn it_may_stand_in_the_configuration_file_or_follow_the_modules_name() {
    for builder in [adopting(), Server::builder().module_args("adopt-strings yes")] {
        let server = builder.start();
        assert_eq!(server.client().run("CONFIG GET lock.adopt-strings").items()[1].text(), "yes");
    }
}

#[test]
fn whoever_looks_sees_one_exclusive_holder() {
    let server = adopting().start();
    for mut client in [server.client(), server.client3()] {
        set(&mut client, "k", "a", 60_000);
        let left = remaining(&mut client, "k", "a").unwrap();
        assert!((50_000..=60_000).contains(&left), "{left}");
        assert_eq!(remaining(&mut client, "k", "b"), None);
        let waiter = Waiter::new(&server, "k TOKEN b BLOCK 0");
        assert_eq!(client.run("LOCK.CHECK k a").items()[2], Reply::Int(1), "who waits");
        assert_eq!(held(&mut client, "k"), 1);
        let seen = holder(&mut client, "k");
        for (name, value) in [("fence", 0), ("limit", 1), ("lease", -1), ("level", 1), ("age", -1)] {
            assert_eq!(field(&seen, name), Reply::Int(value), "{name}");
        }
        for name in ["owner", "session", "address"] {
            assert!(field(&seen, name).is_null(), "{name}");
        }
        assert!(field(&seen, "remaining").int() <= left);
        assert_eq!(client.run("GET k").text(), "a", "it stays as it was");
        assert!(ttl(&mut client, "k") > 50_000, "and as long");
        drop(waiter);
        wait_blocked(&server, 0);
        client.run("DEL k");
    }
}

#[test]
fn one_without_a_time_to_live_is_held_without_end_until_its_token_names_a_lease() {
    let server = adopting().start();
    let mut client = server.client();
    client.ok("SET k a NX");
    assert_eq!(client.run("LOCK.CHECK k a").items()[1], Reply::Int(-1));
    assert_eq!(field(&holder(&mut client, "k"), "remaining"), Reply::Int(-1));
    refused(&mut client, "k TOKEN b");
    ok_grant(client.run("LOCK.ACQUIRE k TOKEN a PX 5000 LEVEL 2"));
    assert_eq!(ttl(&mut client, "k"), -1, "an inner level cuts nothing short");
    assert_eq!(client.run("LOCK.EXTEND k a PX 5000"), Reply::Int(1));
    assert!((1..=5_000).contains(&ttl(&mut client, "k")));
}

#[test]
fn its_token_is_granted_it_again_without_a_fence() {
    let server = adopting().start();
    let mut client = server.client();
    set(&mut client, "k", "a", 60_000);
    for options in ["", "SHARED", "LIMIT 7", "LEVEL 1", "LEVEL 3", "OWNER me", "BLOCK 0", "QUEUE 1000"] {
        let (token, fence) = ok_grant(client.run(&format!("LOCK.ACQUIRE k TOKEN a PX 70000 {options}")));
        assert_eq!((token, fence), (b"a".to_vec(), 0), "{options}");
        assert!(ttl(&mut client, "k") > 60_000, "{options}");
        refused(&mut client, "k TOKEN b SHARED");
    }
    assert_eq!(client.run("TYPE k"), Reply::Simple("string".into()));
    ok_grant(client.run("LOCK.ACQUIRE k TOKEN a PX 20000"));
    assert!(ttl(&mut client, "k") <= 20_000, "a lease may be made shorter");
    client.run("LOCK.ACQUIRE k TOKEN a PX 60000");
    let error = client.run("LOCK.ACQUIRE k TOKEN a SESSION");
    assert!(error.error().starts_with("ERR SESSION cannot keep"), "{error:?}");
    assert!(ttl(&mut client, "k") > 50_000, "nothing was changed");
    assert_eq!(unlock(&mut client, "k", "a"), Reply::Int(1), "its own script still works");
}

#[test]
fn its_token_extends_it_and_releases_it_and_nobody_else() {
    let server = adopting().start();
    let mut client = server.client();
    set(&mut client, "k", "a", 60_000);
    for nothing in
        ["LOCK.EXTEND k b PX 100", "LOCK.RELEASE k b", "LOCK.BREAK k FENCE 0", "LOCK.BREAK k FENCE 9"]
    {
        assert_eq!(client.run(nothing), Reply::Int(0), "{nothing}");
    }
    assert!(ttl(&mut client, "k") > 50_000);
    assert_eq!(client.run("LOCK.EXTEND k a"), Reply::Int(1));
    let lease = ttl(&mut client, "k");
    assert!((20_000..=30_000).contains(&lease), "the default lease: {lease}");
    assert_eq!(client.run("LOCK.EXTEND k a EX 50"), Reply::Int(1));
    assert!(ttl(&mut client, "k") > 40_000);
    assert_eq!(client.run("LOCK.RELEASE k a LEVEL 2"), Reply::Int(1));
    assert!(exists(&mut client, "k"), "an inner level ends nothing");
    release(&mut client, "k", "a");
    assert!(!exists(&mut client, "k"));
    assert_eq!(client.run("LOCK.RELEASE k a"), Reply::Int(0));
    set(&mut client, "k", "a", 60_000);
    assert_eq!(client.run("LOCK.BREAK k"), Reply::Int(1));
    assert!(!exists(&mut client, "k"));
    assert!(server.log().contains("ended fence 0"), "who broke it is in the log");
}

#[test]
fn a_lock_and_a_string_exclude_each_other_both_ways() {
    let server = adopting().start();
    let mut client = server.client();
    set(&mut client, "k", "a", 60_000);
    refused(&mut client, "k TOKEN b");
    assert_eq!(unlock(&mut client, "k", "a"), Reply::Int(1));
    acquire(&mut client, "k TOKEN b PX 60000");
    assert!(client.run("SET k a NX PX 60000").is_null());
    assert!(client.run("SETNX k a") == Reply::Int(0));
    assert!(unlock(&mut client, "k", "a").error().contains("WRONGTYPE"));
    release(&mut client, "k", "b");
    set(&mut client, "k", "a", 60_000);
}

#[test]
fn any_value_holds_and_what_is_no_token_nobody_can_present() {
    let server = adopting().start();
    let mut client = server.client();
    let values: [&[u8]; 8] = [
        b"12345",
        b"-1",
        b"3.0",
        b"\0\r\n%s\xff",
        b"0123456789abcdef0123456789abcdef",
        &[b'x'; 255],
        b" ",
        b"k",
    ];
    for value in values {
        assert!(!client.call(&cmd!["SET", "k", value, "NX", "PX", 60_000]).is_null());
        refused(&mut client, "k TOKEN other");
        assert!(remaining(&mut client, "k", value).is_some(), "{value:?}");
        assert_eq!(client.call(&cmd!["LOCK.EXTEND", "k", value, "PX", 70_000]), Reply::Int(1));
        assert_eq!(client.run("GET k").bytes(), value);
        let (token, _) = ok_grant(client.call(&cmd!["LOCK.ACQUIRE", "k", "TOKEN", value]));
        assert_eq!(token, value);
        assert_eq!(client.call(&cmd!["LOCK.RELEASE", "k", value]), Reply::Int(1));
    }
    let big = vec![b'x'; 1 << 20];
    for value in [&[][..], &[b'x'; 256], &big] {
        client.call(&cmd!["SET", "k", value, "NX", "PX", 60_000]);
        refused(&mut client, "k TOKEN other");
        assert_eq!(held(&mut client, "k"), 1);
        assert!(client.call(&cmd!["LOCK.CHECK", "k", value]).is_error(), "no token");
        assert_eq!(client.run("LOCK.BREAK k"), Reply::Int(1));
    }
}

#[test]
fn transactions_scripts_and_watch_see_it_too() {
    let server = adopting().start();
    let mut client = server.client();
    set(&mut client, "k", "a", 60_000);
    let script = "return {redis.call('LOCK.ACQUIRE', KEYS[1], 'TOKEN', 'b', 'BLOCK', 0), redis.call('LOCK.RELEASE', KEYS[1], 'a'), \
                  redis.call('LOCK.ACQUIRE', KEYS[1], 'TOKEN', 'b')}";
    let reply = client.call(&["EVAL", script, "1", "k"]);
    assert!(reply.items()[0].is_null() && reply.items()[1] == Reply::Int(1), "{reply:?}");
    assert!(reply.items()[2].items()[1].int() > 0, "a lock of the module, with a fence: {reply:?}");
    release(&mut client, "k", "b");
    set(&mut client, "k", "a", 60_000);
    let mut watching = server.client();
    for (change, aborts) in [("LOCK.CHECK k a", false), ("LOCK.EXTEND k a", true), ("LOCK.RELEASE k a", true)]
    {
        watching.ok("WATCH k");
        client.run(change);
        watching.ok("MULTI");
        watching.run("PING");
        assert_eq!(watching.run("EXEC").is_null(), aborts, "{change}");
    }
}

/// Looking at a string has no effect on the server that anybody would see.
#[test]
fn memory_and_time_to_live_are_as_before() {
    let server = adopting().start();
    let mut client = server.client();
    let set_all = |client: &mut Client| {
        (0..1_000)
            .for_each(|n| set(client, &format!("k{n}"), "4f5b7c18-3f3e-4a0e-8a9b-d1f0a2b3c4d5", 600_000));
    };
    set_all(&mut client);
    let before = client.info("memory", "used_memory").parse::<i64>().unwrap();
    for n in 0..1_000 {
        refused(&mut client, &format!("k{n} TOKEN b"));
        client.run(&format!("LOCK.INFO k{n}"));
    }
    let after = client.info("memory", "used_memory").parse::<i64>().unwrap();
    assert!(after - before < 1_000 * 100, "{} bytes a string", (after - before) / 1_000);
    assert_eq!(client.run("DBSIZE"), Reply::Int(1_000));
}
