//! What is granted, and what is said of it: one token, one fence, and each lock by itself afterwards.

use super::{all, fences, holds, none, release_all};
use crate::support::locks::{acquire, exists, field, holder, null, remaining};
use crate::support::waiter::release;
use crate::support::{PATIENCE, Reply, Server, wait_until};

#[test]
fn one_token_and_one_fence_for_all_in_both_protocols() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        let Reply::Array(parts) = client.run("LOCK.MACQUIRE 3 k l m") else { panic!("a grant was due") };
        let [Reply::Bulk(token), Reply::Int(fence)] = &parts[..] else { panic!("{parts:?}") };
        let token = String::from_utf8(token.clone()).unwrap();
        assert!(token.len() == 32 && token.bytes().all(|it| it.is_ascii_hexdigit()), "{token}");
        assert_eq!(fences(&mut client, &["k", "l", "m"], &token), [*fence; 3]);
        assert_eq!(client.run("LOCK.MACQUIRE 2 m n"), null(&client));
        assert!(!exists(&mut client, "n"));
        release_all(&mut client, &format!("3 k l m {token}"));
    }
}

#[test]
fn all_or_none_whichever_of_the_keys_is_held() {
    let server = Server::start();
    let mut client = server.client();
    let keys = ["a", "b", "c", "d"];
    for held in keys {
        acquire(&mut client, &format!("{held} TOKEN holder"));
        none(&mut client, "4 a b c d TOKEN t");
        none(&mut client, "4 d c b a TOKEN t SHARED");
        assert_eq!(client.run("DBSIZE"), Reply::Int(1));
        release(&mut client, held, "holder");
        all(&mut client, "4 a b c d TOKEN t");
        assert_eq!(holds(&mut client, &keys, "t"), keys);
        release_all(&mut client, "4 a b c d t");
    }
}

#[test]
fn fences_rise_from_one_grant_to_the_next_whatever_the_keys() {
    let server = Server::start();
    let mut client = server.client();
    let mut last = 0;
    for round in 0..50 {
        let rest = ["2 k l TOKEN t", "1 k TOKEN t", "3 l k m TOKEN t"][round % 3];
        let fence = all(&mut client, rest).fence;
        assert!(fence > last, "{fence} after {last}");
        let single = acquire(&mut client, "other TOKEN t").fence;
        assert!(single > fence, "{single} after {fence}");
        last = single;
        client.run("FLUSHALL");
    }
}

#[test]
fn each_lock_stands_by_itself_afterwards() {
    let server = Server::start();
    let mut client = server.client();
    let grant = all(&mut client, "3 k l m TOKEN a PX 60000 OWNER me LIMIT 4 WEIGHT 2");
    for key in ["k", "l", "m"] {
        let hold = holder(&mut client, key);
        assert_eq!(field(&hold, "owner").text(), "me");
        assert_eq!(field(&hold, "fence"), Reply::Int(grant.fence));
        assert_eq!(field(&hold, "limit"), Reply::Int(4));
        assert_eq!(field(&hold, "weight"), Reply::Int(2));
        assert_eq!(field(&hold, "lease"), Reply::Int(60_000));
    }
    assert_eq!(client.run("LOCK.EXTEND k a PX 70000"), Reply::Int(1));
    assert!(remaining(&mut client, "k", "a") > Some(60_000));
    assert!(remaining(&mut client, "l", "a") <= Some(60_000));
    release(&mut client, "l", "a");
    assert_eq!(holds(&mut client, &["k", "l", "m"], "a"), ["k", "m"]);
    assert_eq!(client.run(&format!("LOCK.BREAK m FENCE {}", grant.fence)), Reply::Int(1));
    assert_eq!(holds(&mut client, &["k", "l", "m"], "a"), ["k"]);
    assert_eq!(client.run("LOCK.GUARD k a SET v 1"), Reply::Simple("OK".into()));
    assert!(client.run("LOCK.GUARD m a SET v 1").error().starts_with("NOTOWNER "));
    // A fence that went to several locks is still one.
    assert!(acquire(&mut client, "l TOKEN b").fence > grant.fence);
}

#[test]
fn releases_and_extensions_count_what_the_token_held() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a PX 60000");
    acquire(&mut client, "m TOKEN b PX 60000");
    assert_eq!(client.run("LOCK.MEXTEND 4 k l m n a PX 70000"), Reply::Int(2));
    assert!(remaining(&mut client, "k", "a") > Some(60_000));
    assert!(remaining(&mut client, "l", "a") > Some(60_000));
    assert!(remaining(&mut client, "m", "b") <= Some(60_000));
    assert_eq!(client.run("LOCK.MEXTEND 2 m n a"), Reply::Int(0));
    // Without a time each begins its own lease again.
    client.run("LOCK.EXTEND k a PX 80000");
    client.run("LOCK.MEXTEND 2 k l a");
    assert_eq!(field(&holder(&mut client, "k"), "lease"), Reply::Int(80_000));
    assert_eq!(field(&holder(&mut client, "l"), "lease"), Reply::Int(70_000));
    assert_eq!(client.run("LOCK.MEXTEND 2 k l a EX 5"), Reply::Int(2));
    assert_eq!(field(&holder(&mut client, "l"), "lease"), Reply::Int(5_000));
    assert_eq!(client.run("LOCK.MRELEASE 4 n m l k a"), Reply::Int(2));
    assert_eq!(client.run("LOCK.MRELEASE 4 n m l k a"), Reply::Int(0));
    assert_eq!(client.run("LOCK.MEXTEND 2 k l a"), Reply::Int(0), "an ended lease cannot be revived");
    assert_eq!(client.run("LOCK.MRELEASE 1 m b"), Reply::Int(1));
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
}

#[test]
fn a_release_ends_holds_whatever_their_levels() {
    let server = Server::start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a");
    all(&mut client, "2 k l TOKEN a LEVEL 3");
    release_all(&mut client, "2 k l a");
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
}

#[test]
fn leases_that_were_granted_together_end_together_but_for_those_that_were_extended() {
    let server = Server::start();
    let mut client = server.client();
    let replies = client.run_all(&["LOCK.MACQUIRE 3 k l m TOKEN a PX 300", "LOCK.EXTEND l a PX 600000"]);
    assert_eq!(replies[1], Reply::Int(1));
    wait_until("leases end", PATIENCE, || !exists(&mut client, "k") && !exists(&mut client, "m"));
    assert_eq!(holds(&mut client, &["k", "l", "m"], "a"), ["l"]);
}

#[test]
fn without_a_lease_it_is_the_default() {
    let server = Server::builder().config("lock.default-lease 12345").start();
    let mut client = server.client();
    all(&mut client, "2 k l TOKEN a");
    for key in ["k", "l"] {
        assert_eq!(field(&holder(&mut client, key), "lease"), Reply::Int(12_345));
    }
}

#[test]
fn a_lease_takes_a_time_to_live_off_each_key() {
    let server = Server::start();
    let mut client = server.client();
    for promise in ["LOCK.MACQUIRE 2 k l TOKEN a PX 60000", "LOCK.MEXTEND 2 k l a PX 60000"] {
        all(&mut client, "2 k l TOKEN a PX 60000");
        client.run_all(&["PEXPIRE k 5000", "PEXPIRE l 600000"]);
        assert!(!client.run(promise).is_error());
        for key in ["k", "l"] {
            assert_eq!(client.run(&format!("PTTL {key}")), Reply::Int(-1), "{promise}");
        }
    }
}

#[test]
fn the_keys_and_their_rights_are_seen_by_the_server() {
    let server = Server::start();
    let mut client = server.client();
    let key = |name: &str| Reply::Bulk(name.as_bytes().to_vec());
    for command in ["LOCK.MACQUIRE 3 k l m PX 5", "LOCK.MRELEASE 3 k l m a", "LOCK.MEXTEND 3 k l m a PX 5"] {
        let keys = client.run(&format!("COMMAND GETKEYS {command}"));
        assert_eq!(keys, Reply::Array(vec![key("k"), key("l"), key("m")]), "{command}");
    }
    // What cannot be is no key at all.
    for command in ["LOCK.MACQUIRE 0 k", "LOCK.MRELEASE 0 k a", "LOCK.MEXTEND x k a"] {
        let reply = client.run(&format!("COMMAND GETKEYS {command}"));
        assert!(reply.is_error(), "{command}: {reply:?}");
    }
}
