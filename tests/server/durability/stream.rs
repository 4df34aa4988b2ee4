//! What a server tells its replicas and its append-only file: what was decided, explicitly, in the order in which it was
//! decided, and never a question. The cases stand in `tests/pages/`, in the form that `support/page.rs` explains; they
//! come out alike on every server there is to test on, the bounds of transactions included.

use crate::support::locks::acquire;
use crate::support::stream::Stream;
use crate::support::wording::Wording;
use crate::support::{PATIENCE, Server, wait_until};

#[test]
fn every_command_is_told_as_what_it_came_to() {
    crate::support::page::comes_true(include_str!("pages/commands.txt"));
}

#[test]
fn every_hand_over_is_told_behind_what_freed_the_lock() {
    crate::support::page::comes_true(include_str!("pages/hand_over.txt"));
}

#[test]
fn several_locks_are_handed_over_behind_what_freed_them() {
    crate::support::page::comes_true(include_str!("pages/several.txt"));
}

#[test]
fn whoever_waits_sees_every_change_of_the_key_and_replicas_see_it_in_the_same_order() {
    crate::support::page::comes_true(include_str!("pages/touched.txt"));
}

/// The replica of these cases takes no string for a lock of itself.
#[test]
fn what_comes_of_a_string_that_counts_as_a_lock_is_told_to_those_that_take_none_for_one() {
    crate::support::page::comes_true(include_str!("pages/strings.txt"));
}

/// The server keeps a session's lease from running out, and replicas hear of it in time: without it they would show the
/// lock as free.
#[test]
fn each_extension_of_a_session_is_told_as_the_hold_it_came_to() {
    const LEASE_MS: u64 = 1000;
    let server = Server::start();
    let mut session = server.client();
    let mut stream = Stream::of(&server);
    acquire(&mut session, &format!("k TOKEN a OWNER me SHARED PX {LEASE_MS} SESSION"));
    let mut client = server.client();
    let mut wording = Wording::default();
    let mut extended = 0;
    wait_until("the lease is extended again and again", PATIENCE, || {
        for said in stream.until_now(&mut client) {
            assert_eq!(wording.told(&said), "LOCK.ACQUIRE k [a #1 1000 SHARED OWNER me]");
            extended += 1;
        }
        extended > 5
    });
    drop(session);
    wait_until("the end of the session ends the hold", PATIENCE, || {
        !crate::support::locks::exists(&mut client, "k")
    });
    let mut said = stream.until_now(&mut client);
    assert_eq!(said.pop().map(|said| wording.told(&said)).unwrap(), "LOCK.BREAK k FENCE #1");
}
