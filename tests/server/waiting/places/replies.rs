//! What a request with QUEUE is replied: a grant, a ticket, null, or an error.

use std::collections::BTreeSet;

use super::{DEFAULT_LEASE_MS, Listener, call_next, claim, entries, held, leases, patient, place, ticket};
use crate::support::errors::{self, call_fails, fails, show};
use crate::support::locks::{acquire, exists, null, refused, standing};
use crate::support::waiter::{assert_left_in_peace, blocked_clients, release, waiting};
use crate::support::{Builder, Client, Data, PATIENCE, Reply, Server, cmd, ok_grant, wait_until};

/// A hundred years.
const LONGEST_MS: i64 = 3_153_600_000_000;

// --- grants, tickets and nulls

#[test]
fn where_the_lock_is_held_the_reply_is_an_integer_at_once() {
    let (server, _holder) = held();
    for (token, mut client) in [("b", server.client()), ("c", server.client3())] {
        let reply = client.run(&format!("LOCK.ACQUIRE k TOKEN {token} QUEUE 60000"));
        assert!(matches!(reply, Reply::Int(1..)), "{reply:?}");
        assert_eq!(blocked_clients(&mut client), 0);
    }
}

#[test]
fn a_free_lock_is_granted_as_without_queue() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k TOKEN a QUEUE 60000");
    assert_eq!(leases(&mut client, "k"), [DEFAULT_LEASE_MS], "the lease it asked for");
    assert_eq!(waiting(&mut client, "k"), 0);
    acquire(&mut client, "l TOKEN a PX 40000 BLOCK 10 QUEUE 60000");
    assert_eq!(leases(&mut client, "l"), [40_000]);
}

#[test]
fn who_holds_the_lock_is_told_so_again_whoever_waits() {
    let (_server, mut client) = held();
    let fence = acquire(&mut client, "k TOKEN a").fence;
    place(&mut client, "k TOKEN b QUEUE 60000");
    for options in ["QUEUE 60000", "QUEUE 60000 BLOCK 0", "QUEUE 60000 PX 60000 OWNER you"] {
        assert_eq!(acquire(&mut client, &format!("k TOKEN a {options}")).fence, fence, "{options}");
    }
    assert_eq!(waiting(&mut client, "k"), 1, "it does not wait besides");
}

#[test]
fn options_come_in_any_order_and_case() {
    let (_server, mut client) = held();
    for (n, options) in [
        "TOKEN b0 QUEUE 60000",
        "QUEUE 60000 TOKEN b1",
        "queue 60000 token b2",
        "QuEuE 60000 PX 1000 ToKeN b3",
        "OWNER QUEUE QUEUE 60000 TOKEN b4",
        "TOKEN QUEUE QUEUE 60000",
        "EX 5 SHARED QUEUE 60000 TOKEN b6 OWNER o",
        "LIMIT 3 BLOCK 1 QUEUE 60000 TOKEN b7",
        "QUEUE 60000 BLOCK 1 TOKEN b8 LIMIT 65535",
        "QUEUE 60000 TOKEN b9 LEVEL 1",
    ]
    .into_iter()
    .enumerate()
    {
        place(&mut client, &format!("k {options}"));
        assert_eq!(entries(&mut client, "k").len(), n + 1, "{options}");
    }
}

#[test]
fn the_time_lies_between_a_millisecond_and_a_hundred_years() {
    let (_server, mut client) = held();
    place(&mut client, "k TOKEN b QUEUE 1");
    place(&mut client, &format!("k TOKEN c QUEUE {LONGEST_MS}"));
    wait_until("the millisecond is over", PATIENCE, || entries(&mut client, "k").len() == 1);
    call_next(&mut client, "k", "a", "c");
}

#[test]
fn without_block_and_queue_the_repeat_of_a_waiting_token_is_null_and_changes_nothing() {
    let (server, mut client) = held();
    let first = place(&mut client, "k TOKEN b OWNER b SHARED QUEUE 60000");
    for mut repeating in [server.client(), server.client3()] {
        refused(&mut repeating, "k TOKEN b");
        refused(&mut repeating, "k TOKEN b LIMIT 1 OWNER other");
    }
    assert_eq!(super::tickets(&mut client, "k"), [Some(first)]);
    let entry = entries(&mut client, "k")[0].clone();
    assert_eq!(crate::support::field(&entry, "owner").text(), "b");
    assert_eq!(crate::support::field(&entry, "limit"), Reply::Int(0));
}

/// The outer hold is gone, and waiting would not bring it back.
#[test]
fn an_inner_level_without_its_outer_one_is_null_and_no_place() {
    let (server, mut client) = held();
    for mut asking in [server.client(), server.client3()] {
        for options in ["LEVEL 2 QUEUE 60000", "LEVEL 65535 QUEUE 60000 BLOCK 0"] {
            refused(&mut asking, &format!("k TOKEN b {options}"));
            refused(&mut asking, &format!("free TOKEN b {options}"));
        }
    }
    assert_eq!(waiting(&mut client, "k"), 0);
    assert!(!exists(&mut client, "free"));
}

#[test]
fn an_inner_level_of_a_holder_is_granted() {
    let (_server, mut client) = held();
    let grant = acquire(&mut client, "k TOKEN a LEVEL 2 QUEUE 60000");
    assert_eq!(acquire(&mut client, "k TOKEN a LEVEL 2 QUEUE 60000 BLOCK 0"), grant);
}

#[test]
fn the_end_of_block_is_told_by_a_ticket_in_both_protocols() {
    let (server, _holder) = held();
    for (token, mut client) in [("b", server.client()), ("c", server.client3())] {
        let first = place(&mut client, &format!("k TOKEN {token} BLOCK 20 QUEUE 60000"));
        assert_eq!(place(&mut client, &format!("k TOKEN {token} BLOCK 1 QUEUE 60000")), first);
    }
}

// --- tickets

#[test]
fn a_repeat_is_told_the_same_ticket_from_every_connection() {
    let (server, mut client) = held();
    let first = place(&mut client, "k TOKEN b QUEUE 60000");
    for mut repeating in [server.client(), server.client3(), client] {
        for options in ["QUEUE 60000", "QUEUE 1000000 SHARED", "BLOCK 1 QUEUE 60000 PX 1"] {
            assert_eq!(place(&mut repeating, &format!("k TOKEN b {options}")), first, "{options}");
        }
    }
}

#[test]
fn tickets_rise_over_keys_and_databases() {
    let server = patient();
    let mut last = 0;
    for database in [0, 5, 0] {
        let mut client = server.client();
        client.ok(&format!("SELECT {database}"));
        for key in ["k", "l", "m"] {
            ok_grant(client.run(&format!("LOCK.ACQUIRE {key} TOKEN a PX 600000")));
            for _ in 0..3 {
                // A token of its own: the database is visited twice.
                let next = place(&mut client, &format!("{key} TOKEN t{last} QUEUE 600000"));
                assert!(next > last, "{next} after {last}");
                last = next;
            }
        }
    }
}

#[test]
fn a_token_that_gave_its_place_up_gets_a_new_ticket() {
    let (_server, mut client) = held();
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        assert!(seen.insert(place(&mut client, "k TOKEN b QUEUE 60000")), "used twice: {seen:?}");
        assert_eq!(client.run("LOCK.RELEASE k b"), Reply::Int(0));
    }
    assert!(seen.iter().is_sorted());
}

#[test]
fn a_token_that_was_called_and_waits_again_gets_a_new_ticket() {
    let (_server, mut client) = held();
    let first = place(&mut client, "k TOKEN b QUEUE 60000");
    call_next(&mut client, "k", "a", "b");
    place(&mut client, "k TOKEN c QUEUE 60000");
    call_next(&mut client, "k", "b", "c");
    assert!(place(&mut client, "k TOKEN b QUEUE 60000") > first);
}

#[test]
fn the_same_token_on_two_keys_has_two_tickets() {
    let (_server, mut client) = held();
    acquire(&mut client, "l TOKEN a PX 600000");
    let k = place(&mut client, "k TOKEN b QUEUE 60000");
    let l = place(&mut client, "l TOKEN b QUEUE 60000");
    assert_ne!(k, l);
    assert_eq!(place(&mut client, "k TOKEN b QUEUE 60000"), k);
    assert_eq!(place(&mut client, "l TOKEN b QUEUE 60000"), l);
}

#[test]
fn tickets_are_not_used_again_after_a_restart() {
    /// How a server comes to begin anew.
    type Restart = fn(&mut Server);
    let kept: [(Builder, Restart); 4] = [
        (Server::builder(), |server| server.restart(Data::Save)),
        (Server::builder(), |server| server.restart(Data::NoSave)),
        (Server::builder().aof(), |server| {
            server.kill9();
            server.start_again();
        }),
        (Server::builder().aof().config("aof-use-rdb-preamble no"), |server| {
            server.rewrite_aof();
            server.restart(Data::NoSave);
        }),
    ];
    for (builder, restart) in kept {
        let mut server = builder.start();
        let mut last = 0;
        for _ in 0..3 {
            let mut client = server.client();
            client.run("LOCK.ACQUIRE k TOKEN a PX 600000");
            for token in ["b", "c", "d"] {
                let next = place(&mut client, &format!("k TOKEN {token} QUEUE 600000"));
                assert!(next > last, "{next} after {last}");
                last = next;
            }
            restart(&mut server);
        }
    }
}

// --- errors

#[test]
fn a_place_needs_a_token() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        for options in ["QUEUE 60000", "BLOCK 5 QUEUE 60000", "QUEUE 1 SHARED PX 5 OWNER o"] {
            for key in ["free", "k"] {
                client.run("LOCK.ACQUIRE k TOKEN a");
                let reply = client.run(&format!("LOCK.ACQUIRE {key} {options}"));
                assert!(reply.error().starts_with("ERR QUEUE needs TOKEN"), "{options}: {reply:?}");
                assert!(!exists(&mut client, "free"));
                assert_eq!(waiting(&mut client, "k"), 0);
            }
        }
    }
}

#[test]
fn a_session_and_a_place_exclude_each_other_and_nothing_comes_twice() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        for options in [
            "TOKEN b SESSION QUEUE 60000",
            "QUEUE 60000 SESSION TOKEN b",
            "QUEUE 60000 TOKEN b BLOCK 0 SESSION",
            "TOKEN b QUEUE 60000 QUEUE 60000",
            "TOKEN b QUEUE 60000 queue 1",
            "TOKEN b QUEUE",
            "TOKEN b BLOCK 5 QUEUE",
            "TOKEN b QUEUE 60000 5",
            "QUEUE 60000 TOKEN b TOKEN b",
            "TOKEN b QUEUES 60000",
            "TOKEN b QUEU 60000",
        ] {
            fails(&mut client, &format!("LOCK.ACQUIRE k {options}"), errors::SYNTAX);
        }
        assert!(!exists(&mut client, "k"));
    }
}

#[test]
fn no_other_command_knows_the_word() {
    let (_server, mut client) = held();
    let before = standing(&mut client, "k");
    for command in ["LOCK.EXTEND k a QUEUE 5", "LOCK.RELEASE k a QUEUE 5", "LOCK.BREAK k QUEUE 5"] {
        assert!(client.run(command).is_error(), "{command}");
    }
    assert_eq!(standing(&mut client, "k"), before);
}

#[test]
fn a_time_that_is_none_is_refused_as_that_of_block_is() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        let cases: [(&[u8], &str); 21] = [
            (b"0", errors::TIMEOUT_RANGE),
            (b"3153600000001", errors::TIMEOUT_RANGE),
            (b"9223372036854775807", errors::TIMEOUT_RANGE),
            (b"-1", errors::TIMEOUT_NEGATIVE),
            (b"-9223372036854775808", errors::TIMEOUT_NEGATIVE),
            (b"", errors::NOT_AN_INTEGER),
            (b"-0", errors::NOT_AN_INTEGER),
            (b"+1", errors::NOT_AN_INTEGER),
            (b" 1", errors::NOT_AN_INTEGER),
            (b"1 ", errors::NOT_AN_INTEGER),
            (b"01", errors::NOT_AN_INTEGER),
            (b"1.5", errors::NOT_AN_INTEGER),
            (b"1e3", errors::NOT_AN_INTEGER),
            (b"0x10", errors::NOT_AN_INTEGER),
            (b"inf", errors::NOT_AN_INTEGER),
            (b"5\0", errors::NOT_AN_INTEGER),
            (b"\0", errors::NOT_AN_INTEGER),
            (b"%s%n", errors::NOT_AN_INTEGER),
            (b"\xff\xfe", errors::NOT_AN_INTEGER),
            (b"9223372036854775808", errors::NOT_AN_INTEGER),
            (b"5\r\n:1", errors::NOT_AN_INTEGER),
        ];
        for (value, error) in cases {
            call_fails(&mut client, &cmd!["LOCK.ACQUIRE", "k", "TOKEN", "b", "QUEUE", value], error);
            let with_block = cmd!["LOCK.ACQUIRE", "k", "QUEUE", value, "TOKEN", "b", "BLOCK", 5];
            call_fails(&mut client, &with_block, error);
        }
        let long = vec![b'1'; 1 << 20];
        let command = cmd!["LOCK.ACQUIRE", "k", "TOKEN", "b", "QUEUE", long];
        call_fails(&mut client, &command, errors::NOT_AN_INTEGER);
        assert!(!exists(&mut client, "k"), "nothing was granted");
    }
}

#[test]
fn what_is_wrong_with_the_rest_of_a_request_is_said_as_ever_and_no_place_is_taken() {
    let (_server, mut client) = held();
    client.ok("SET string v");
    let invalid = errors::invalid_expire("lock.acquire");
    for (rest, error) in [
        ("k TOKEN b QUEUE 60000 PX 0", invalid.as_str()),
        ("k TOKEN b QUEUE 60000 EX 999999999", &invalid),
        ("k TOKEN b QUEUE 60000 LIMIT 0", errors::LIMIT),
        ("k TOKEN b QUEUE 60000 LIMIT 65536", errors::LIMIT),
        ("k TOKEN b QUEUE 60000 BLOCK -1", errors::TIMEOUT_NEGATIVE),
        ("k TOKEN b QUEUE 60000 SHARED LIMIT 2", errors::SYNTAX),
        ("string TOKEN b QUEUE 60000", errors::WRONG_TYPE),
        ("string TOKEN b QUEUE 60000 BLOCK 0", errors::WRONG_TYPE),
    ] {
        fails(&mut client, &format!("LOCK.ACQUIRE {rest}"), error);
    }
    let long = vec![b'x'; 256];
    for token in [&b""[..], &long] {
        call_fails(&mut client, &cmd!["LOCK.ACQUIRE", "k", "TOKEN", token, "QUEUE", 60_000], errors::TOKEN);
    }
    let labelled = cmd!["LOCK.ACQUIRE", "k", "TOKEN", "b", "OWNER", long, "QUEUE", 60_000];
    call_fails(&mut client, &labelled, errors::OWNER);
    assert_eq!(waiting(&mut client, "k"), 0);
}

// --- bytes

fn hostile_bytes() -> Vec<Vec<u8>> {
    let values: [&[u8]; 10] = [
        b"\0",
        b"a\0b",
        b"\r\n",
        b"a\r\n:1\r\n",
        b"%s%n%d",
        b"\xff\xfe\x80",
        b"\xed\xa0\x80",
        b"*",
        b"{}{a}",
        b" QUEUE 5 ",
    ];
    values.iter().map(|value| value.to_vec()).collect()
}

#[track_caller]
fn is_called_and_claimed(server: &Server, client: &mut Client, key: &[u8], token: &[u8]) {
    let shown = show(&[key, token]);
    ok_grant(client.call(&cmd!["LOCK.ACQUIRE", key, "TOKEN", "the holder"]));
    let mut listener = Listener::of(server, key);
    let number = ticket(&client.call(&cmd!["LOCK.ACQUIRE", key, "TOKEN", token, "QUEUE", 600_000]));
    listener.heard_nothing();
    assert_eq!(client.call(&cmd!["LOCK.RELEASE", key, "the holder"]), Reply::Int(1), "{shown}");
    listener.hears(number);
    let (granted, _) = ok_grant(client.call(&cmd!["LOCK.ACQUIRE", key, "TOKEN", token, "QUEUE", 600_000]));
    assert_eq!(granted, token, "{shown}");
    assert_eq!(client.call(&cmd!["LOCK.RELEASE", key, token]), Reply::Int(1), "{shown}");
    listener.heard_nothing();
}

#[test]
fn a_key_of_any_bytes_is_its_channel() {
    let server = patient();
    let mut client = server.client();
    for key in hostile_bytes() {
        is_called_and_claimed(&server, &mut client, &key, b"b");
    }
    is_called_and_claimed(&server, &mut client, b"", b"b");
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
}

#[test]
fn a_key_of_a_mebibyte_is_its_channel() {
    let server = patient();
    let mut client = server.client();
    let mut key = vec![b'x'; 1 << 20];
    is_called_and_claimed(&server, &mut client, &key, b"b");
    // One that differs in its last byte is another.
    let mut other = Listener::of(&server, &key);
    *key.last_mut().unwrap() = b'y';
    is_called_and_claimed(&server, &mut client, &key, b"b");
    other.heard_nothing();
}

#[test]
fn a_token_of_any_bytes_keeps_a_place() {
    let server = patient();
    let mut client = server.client();
    for token in hostile_bytes() {
        is_called_and_claimed(&server, &mut client, b"k", &token);
    }
    is_called_and_claimed(&server, &mut client, b"k", &[0xff; 255]);
    assert_left_in_peace(&server, "k");
}

#[test]
fn tokens_that_differ_in_a_byte_have_places_of_their_own() {
    let (_server, mut client) = held();
    let mut seen = BTreeSet::new();
    let tokens: [&[u8]; 5] = [b"b", b"b\0", b"B", b"b ", b"bb"];
    for token in tokens {
        let reply = client.call(&cmd!["LOCK.ACQUIRE", "k", "TOKEN", token, "QUEUE", 600_000]);
        assert!(seen.insert(ticket(&reply)));
    }
    assert_eq!(waiting(&mut client, "k"), 5);
    release(&mut client, "k", "a");
    for token in tokens {
        ok_grant(client.call(&cmd!["LOCK.ACQUIRE", "k", "TOKEN", token]));
        release(&mut client, "k", token);
    }
}

#[test]
fn a_request_cut_in_pieces_on_the_wire_is_one_request() {
    let (_server, mut client) = held();
    let wire =
        b"*6\r\n$12\r\nLOCK.ACQUIRE\r\n$1\r\nk\r\n$5\r\nTOKEN\r\n$1\r\nb\r\n$5\r\nQUEUE\r\n$5\r\n60000\r\n";
    wire.chunks(7).for_each(|piece| client.raw_write(piece));
    let first = ticket(&client.read());
    assert_eq!(place(&mut client, "k TOKEN b QUEUE 60000"), first);
}

#[test]
fn a_place_whose_turn_came_is_null_to_check_once_it_is_given_back() {
    let (_server, mut client) = held();
    place(&mut client, "k TOKEN b QUEUE 60000");
    call_next(&mut client, "k", "a", "b");
    claim(&mut client, "k TOKEN b");
    release(&mut client, "k", "b");
    assert_eq!(client.run("LOCK.CHECK k b"), null(&client));
}
