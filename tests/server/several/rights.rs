//! Rights to several keys: all of them are needed, when the command is sent and again when its turn comes.

use super::{all, assert_free, errs, fences, holds, release_all, waits, waits_on};
use crate::support::errors;
use crate::support::locks::{acquire, exists, field, holder};
use crate::support::waiter::release;
use crate::support::{Client, Reply, Server, Waiter};

const USER: &str = "ACL SETUSER waiter on >secret ~* +@all";

fn user(server: &Server) -> Client {
    let mut client = server.client();
    client.ok("AUTH waiter secret");
    client
}

fn server() -> (Server, Client) {
    let server = Server::start();
    let mut client = server.client();
    client.ok(USER);
    (server, client)
}

#[test]
fn every_key_has_to_be_allowed() {
    let (server, mut client) = server();
    client.ok("ACL SETUSER waiter resetkeys ~k ~l");
    let mut limited = user(&server);
    all(&mut limited, "2 k l TOKEN a");
    for rest in ["2 k m", "2 m k", "3 k l m TOKEN a", "1 m"] {
        errs(&mut limited, rest, "NOPERM ");
    }
    for command in ["LOCK.MRELEASE 2 k m a", "LOCK.MEXTEND 3 k l m a PX 5"] {
        let reply = limited.run(command);
        assert!(reply.error().starts_with("NOPERM "), "{command}: {reply:?}");
    }
    assert_eq!(holds(&mut client, &["k", "l"], "a"), ["k", "l"]);
    assert!(!exists(&mut client, "m"));
    assert_eq!(limited.run("LOCK.MEXTEND 2 k l a PX 60000"), Reply::Int(2));
    release_all(&mut limited, "2 k l a");
}

#[test]
fn reading_a_key_is_not_enough() {
    let (server, mut client) = server();
    for patterns in ["%R~k ~l", "~k %R~l", "%R~*", "%W~*"] {
        client.ok(&format!("ACL SETUSER waiter resetkeys {patterns}"));
        let mut limited = user(&server);
        errs(&mut limited, "2 k l TOKEN a", "NOPERM ");
        errs(&mut limited, "2 l k TOKEN a", "NOPERM ");
    }
    client.ok("ACL SETUSER waiter resetkeys %R~* %W~*");
    all(&mut user(&server), "2 k l TOKEN a");
}

#[test]
fn the_right_to_one_command_is_none_to_another() {
    let (server, mut client) = server();
    client.ok("ACL SETUSER waiter nocommands +lock.acquire +lock.release +ping +client|id");
    let mut limited = user(&server);
    for command in ["LOCK.MACQUIRE 1 k", "LOCK.MRELEASE 1 k a", "LOCK.MEXTEND 1 k a"] {
        assert!(limited.run(command).error().starts_with("NOPERM "), "{command}");
    }
    client.ok("ACL SETUSER waiter nocommands +lock.macquire +lock.mrelease +lock.mextend +ping +client|id");
    let mut limited = user(&server);
    all(&mut limited, "2 k l TOKEN a");
    assert_eq!(limited.run("LOCK.MEXTEND 2 k l a"), Reply::Int(2));
    release_all(&mut limited, "2 k l a");
    assert!(limited.run("LOCK.ACQUIRE k").error().starts_with("NOPERM "));
}

/// A right may say how many keys there are, or name them together.
#[test]
fn the_command_is_judged_as_it_was_sent_when_its_turn_comes() {
    let (server, mut client) = server();
    for rules in [
        "nocommands +lock.macquire|2 +lock.mrelease +ping +client|id",
        "nocommands resetkeys +ping +client|id (+lock.macquire +lock.mrelease ~k ~l)",
    ] {
        client.ok(&format!("ACL SETUSER waiter clearselectors ~* {rules}"));
        for held in ["k", "l"] {
            acquire(&mut client, &format!("{held} TOKEN other"));
            let mut waiter = waits_on(&server, user(&server), "2 k l TOKEN a BLOCK 0");
            release(&mut client, held, "other");
            assert_eq!(waiter.granted().token, b"a", "{rules}");
            release_all(&mut client, "2 k l a");
        }
    }
}

/// A number that is too large makes keys of options, to which nobody has rights. The command says what is wrong, as LMPOP does.
#[test]
fn more_keys_than_there_are_arguments_are_a_syntax_error_and_no_missing_right() {
    let (mut server, mut client) = server();
    client.ok("ACL SETUSER waiter resetkeys ~a");
    let mut limited = user(&server);
    for command in [
        "LOCK.MACQUIRE 4 a TOKEN t",
        "LOCK.MACQUIRE 256 a TOKEN t",
        "LOCK.MRELEASE 3 a t",
        "LOCK.MEXTEND 5 a t PX 100",
        "LMPOP 4 a LEFT",
    ] {
        assert_eq!(limited.run(command).error(), errors::SYNTAX, "{command}");
        // In a transaction and in a script it is the same.
        limited.ok("MULTI");
        assert_eq!(limited.run(command), Reply::Simple("QUEUED".into()), "{command}");
        assert_eq!(limited.run("EXEC").items()[0].error(), errors::SYNTAX, "{command}");
        let words: Vec<String> = command.split(' ').map(|word| format!("'{word}'")).collect();
        let script = format!("return redis.call({})", words.join(","));
        let reply = limited.call(&["EVAL", &script, "1", "a"]);
        assert!(reply.error().contains("syntax error"), "{command}: {reply:?}");
    }
    acquire(&mut client, "a TOKEN t");
    let reply = limited.run("LOCK.GUARD a t LOCK.MRELEASE 9 a t");
    assert_eq!(reply.error(), errors::SYNTAX);
    // What the server says of keys that it was not told.
    let reply = client.run("COMMAND GETKEYS LOCK.MACQUIRE 4 a TOKEN t");
    assert!(reply.is_error(), "{reply:?}");
    server.assert_alive();
}

/// Rights that are taken away for one of the keys while it waits.
#[test]
fn who_lost_the_right_to_one_key_is_refused_when_its_turn_comes_and_holds_none() {
    for lost in [
        "resetkeys ~k",
        "resetkeys ~l ~m",
        "resetkeys ~k %R~l ~m",
        "resetkeys ~k %W~l ~m",
        "-lock.macquire",
        "nocommands +lock.acquire +ping",
        "resetkeys",
        "-@all +lock.acquire +ping",
    ] {
        let (server, mut client) = server();
        all(&mut client, "2 k l TOKEN a");
        let mut waiter = waits_on(&server, user(&server), "3 k l m TOKEN b BLOCK 0");
        let mut at_k = Waiter::new(&server, "k TOKEN x BLOCK 0");
        let mut others = waits(&server, "2 l m TOKEN y BLOCK 0");
        client.ok(&format!("ACL SETUSER waiter {lost}"));
        waiter.assert_waiting(&server);
        release_all(&mut client, "2 k l a");
        let error = waiter.failed();
        assert!(error.starts_with("NOPERM "), "{lost}: {error}");
        at_k.granted();
        others.granted();
        assert!(holds(&mut client, &["k", "l", "m"], "b").is_empty(), "{lost}");
        release(&mut client, "k", "x");
        release_all(&mut client, "2 l m y");
        assert_free(&server, &["k", "l", "m"]);
    }
}

/// The right to LOCK.ACQUIRE is not asked for.
#[test]
fn macquire_is_judged_by_its_own_name() {
    let (server, mut client) = server();
    all(&mut client, "2 k l TOKEN a");
    let mut waiter = waits_on(&server, user(&server), "2 k l TOKEN b BLOCK 0");
    client.ok("ACL SETUSER waiter -lock.acquire");
    release_all(&mut client, "2 k l a");
    waiter.granted();
    let mut single = user(&server);
    client.ok("ACL SETUSER waiter +lock.acquire -lock.macquire");
    let id = single.id();
    single.send(&["LOCK.ACQUIRE", "k", "TOKEN", "c", "BLOCK", "0"]);
    let mut single = Waiter { client: single, id }.once_it_waits_again(&server, "k");
    release(&mut client, "k", "b");
    single.granted();
}

#[test]
fn patterns_for_reading_and_writing_together_are_enough() {
    let (server, mut client) = server();
    acquire(&mut client, "k:1 TOKEN a");
    let mut waiter = waits_on(&server, user(&server), "2 k:1 l:1 TOKEN b BLOCK 0");
    client.ok("ACL SETUSER waiter resetkeys %RW~k:* %R~l:* %W~l:*");
    release(&mut client, "k:1", "a");
    waiter.granted();
}

#[test]
fn rights_that_were_given_back_in_time_are_enough() {
    let (server, mut client) = server();
    acquire(&mut client, "k TOKEN a");
    let mut waiter = waits_on(&server, user(&server), "2 k l TOKEN b BLOCK 0");
    client.ok("ACL SETUSER waiter resetkeys ~k");
    client.ok("ACL SETUSER waiter ~l");
    release(&mut client, "k", "a");
    waiter.granted();
}

#[test]
fn a_user_that_is_deleted_takes_its_waits_along() {
    let (server, mut client) = server();
    acquire(&mut client, "k TOKEN a");
    let mut gone = waits_on(&server, user(&server), "2 k l TOKEN b BLOCK 0");
    let mut next = Waiter::new(&server, "l TOKEN c BLOCK 0");
    client.run("ACL DELUSER waiter");
    gone.closed();
    next.granted();
}

#[test]
fn an_upgrade_without_rights_keeps_all_holds() {
    let (server, mut client) = server();
    let grant = all(&mut client, "2 k l TOKEN a SHARED");
    acquire(&mut client, "l TOKEN b SHARED");
    let mut upgrade = waits_on(&server, user(&server), "2 k l TOKEN a LIMIT 1 BLOCK 0");
    client.ok("ACL SETUSER waiter resetkeys ~l");
    release(&mut client, "l", "b");
    assert!(upgrade.failed().starts_with("NOPERM "));
    assert_eq!(fences(&mut client, &["k", "l"], "a"), [grant.fence; 2]);
    assert_eq!(field(&holder(&mut client, "l"), "limit"), Reply::Int(0));
}

/// The operator reads it, and has to know which right is missing.
#[test]
fn the_refusal_names_the_command_that_was_sent() {
    let (server, mut client) = server();
    acquire(&mut client, "k TOKEN a");
    let mut waiter = waits_on(&server, user(&server), "2 k l TOKEN b BLOCK 0");
    client.ok("ACL SETUSER waiter -lock.macquire");
    release(&mut client, "k", "a");
    let error = waiter.failed();
    assert!(error.contains("'lock.macquire'"), "{error}");
}
